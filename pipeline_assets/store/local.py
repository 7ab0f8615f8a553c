"""A store on a local file system: `{root}/{table}/dt=YYYY-MM-DD/data.parquet`, one file a partition.

A commit is one rename. Everything else here serves that step: the file is complete and fsynced before it, the
commit it replaces is linked into `{root}/_history` before it, and the partition's folder is locked and compared
around it. Files are staged under `{root}/_staging`, each flocked by its writer for as long as the writer lives.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import xxhash

from pipeline_assets.errors import PartitionConflict, PartitionMissing, StorageFull, StorageRefused, StoreBusy
from pipeline_assets.partition import Partition
from pipeline_assets.store.commit import Commit, Published, Version, check_table, hive_path
from pipeline_assets.store.files import names_in

FILE_NAME = "data.parquet"
HASH_CHUNK_BYTES = 1 << 20
LOCK_WAIT_SECONDS = 30.0
"""A publish holds the lock for milliseconds; who waits this long waits for a process that was stopped."""
LOCK_POLL_SECONDS = 0.01

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {
    errno.EACCES,
    errno.EPERM,
    errno.ENOENT,  # also what /proc says when a folder is made there
    errno.EEXIST,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EIO,
    errno.ELOOP,
}


@dataclass(slots=True)
class Staged:
    """A file being written aside: open `path` and write. It is its writer's until it is published or dropped."""

    partition: Partition
    path: Path


@dataclass(slots=True)
class Pinned:
    """One commit, held open: it stays readable whatever is published meanwhile."""

    commit: Commit
    file: pa.NativeFile

    def close(self) -> None:
        """Let go of the commit."""
        self.file.close()


class HeadStat(NamedTuple):
    """What is known of a head without opening it. `published_ns` is in nanoseconds since 1970."""

    version: Version
    size_bytes: int
    published_ns: int


class LocalStore:
    """Partitions below a folder. Safe for any number of processes of one machine at once.

    Args:
        root: folder, made when it is missing.
        history: how many replaced commits are kept per partition; 0 keeps none.
        lock_wait_seconds: how long a publish waits for another one of the same partition.
        new_id: names staged files; must not repeat.
        now_ns: the clock, in nanoseconds since 1970.
    """

    def __init__(
        self,
        root: Path,
        *,
        history: int = 5,
        lock_wait_seconds: float = LOCK_WAIT_SECONDS,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.root = Path(root)
        self.history_limit = history
        self._lock_wait_seconds = lock_wait_seconds
        self._new_id = new_id
        self._now_ns = now_ns

    def uri(self, partition: Partition) -> str:
        """Where the partition's file is, or will be."""
        return str(self._path(partition))

    def check_writable(self) -> None:
        """Make the root and write one file there.

        Raises:
            StorageRefused: the root cannot be made or written.
        """
        with explained(f"the store {self.root}"):
            probe = self.root / "_staging" / f"probe-{self._new_id()}"
            _make_folder(probe.parent)
            probe.touch()
            probe.unlink()

    def days(self, table: str) -> list[date]:
        """Days of the table that have a commit, ascending."""
        return list(self.heads(table))

    def heads(self, table: str) -> dict[date, HeadStat]:
        """Every day that has a commit, ascending, with its version: a stat each."""
        check_table(table)
        found = {}
        with explained(f"table {table}"):
            try:
                with os.scandir(self.root / table) as entries:
                    folders = sorted((day, entry.path) for entry in entries if (day := _day_of(entry.name)) is not None)
            except FileNotFoundError:
                return {}
            for day, folder in folders:
                try:
                    current = os.stat(f"{folder}/{FILE_NAME}")  # noqa: PTH116 - a Path for each costs as much again
                except (FileNotFoundError, NotADirectoryError):
                    continue
                found[day] = HeadStat(_version(current), current.st_size, current.st_mtime_ns)
        return found

    def version(self, partition: Partition) -> Version | None:
        """What to hand to `publish` as `expected`: cheap, a stat. None before the first commit."""
        with explained(str(partition)):
            current = _stat(self._path(partition))
        return None if current is None else _version(current)

    def head(self, partition: Partition) -> Commit | None:
        """The current commit, or None before the first one. Reads the file once, for its digest."""
        pinned = self.open(partition)
        if pinned is None:
            return None
        pinned.close()
        return pinned.commit

    def open(self, partition: Partition) -> Pinned | None:
        """Pin the current commit for reading; None before the first one. The caller closes it."""
        path = self._path(partition)
        with explained(str(partition)):
            while True:
                try:
                    before = path.stat()
                    file = pa.OSFile(str(path), "rb")
                    after = path.stat()
                except FileNotFoundError:
                    return None
                if _version(before) == _version(after):
                    break
                file.close()  # replaced in between: the stat may be of another commit than the file
            digest = xxhash.xxh3_128()
            while chunk := file.read_buffer(HASH_CHUNK_BYTES):
                digest.update(chunk)
            size_bytes = file.tell()
            file.seek(0)
        commit = Commit(partition, digest.hexdigest(), size_bytes, _utc(after.st_mtime_ns), str(path))
        return Pinned(commit, file)

    @contextmanager
    def stage(self, partition: Partition) -> Iterator[Staged]:
        """Give a new file to write the partition's next commit into. On leaving, what was not published is dropped.

        Raises:
            StorageFull, StorageRefused: the file system's answer. Wrap what writes to the path in `explained`.
        """
        check_table(partition.table)
        folder = self.root / "_staging" / partition.table
        with explained(str(partition)):
            _make_folder(folder)
            path, lock = self._create_locked(folder, partition.day)
        try:
            yield Staged(partition, path)
        finally:
            with suppress(OSError):  # it was published; or it stays, and a sweep takes it
                path.unlink()
            lock.close()

    def publish(self, staged: Staged, *, expected: Version | None) -> Published:
        """Make the staged file the head if that is still `expected`: compare, archive, replace, prune, in this order.

        A head that already holds the same bytes is left untouched, mtime included.

        Raises:
            PartitionConflict: the head is neither `expected` nor the same bytes. Nothing was changed.
            StoreBusy: another process holds the partition's lock.
        """
        partition, target = staged.partition, self._path(staged.partition)
        with explained(str(partition)):
            digest, size_bytes = _digest_of(staged.path), staged.path.stat().st_size
            with self._locked(partition):
                unchanged = not self._replace(target, staged, digest, expected)
                # Unchanged or not: who published these bytes, or made these folders, may have been killed before this.
                self._fsync_up_from(target.parent)
                published_ns = target.stat().st_mtime_ns
                # Last: a publish that does not come this far has cost no commit that was kept.
                self._prune(partition)
        return Published(Commit(partition, digest, size_bytes, _utc(published_ns), str(target)), unchanged)

    def history(self, partition: Partition) -> list[Commit]:
        """Commits that were replaced and are still kept, the newest first."""
        with explained(str(partition)):
            folder = self._history_folder(partition)
            paths = [folder / name for name in names_in(folder) if name.endswith(".parquet")]
            # A publish may drop the oldest while they are listed.
            kept = [(stat.st_mtime_ns, path, stat.st_size) for path in paths if (stat := _stat(path)) is not None]
        return [
            Commit(partition, path.stem, size_bytes, _utc(published_ns), str(path))
            for published_ns, path, size_bytes in sorted(kept, reverse=True)
        ]

    def restore(self, partition: Partition, digest: str) -> Published:
        """Publish a kept commit again. The head it replaces is archived like any other.

        Raises:
            PartitionMissing: no kept commit has this digest.
            PartitionConflict: somebody published meanwhile.
        """
        expected = self.version(partition)
        known = {commit.digest: Path(commit.uri) for commit in self.history(partition)}
        if digest not in known:
            msg = f"{partition}: no commit {digest} is kept. Kept: {', '.join(known) or 'none'}."
            raise PartitionMissing(msg)
        with self.stage(partition) as staged:
            # A copy, not a link: the restored head must be a new version, or a run that began
            # before the bad commit could take it for the head that it saw.
            with explained(str(partition)):
                shutil.copyfile(known[digest], staged.path)
            return self.publish(staged, expected=expected)

    def sweep(self, table: str) -> list[Path]:
        """Delete staged files of the table whose writers are dead; return them. A file in use is never touched."""
        check_table(table)
        swept = []
        with explained(f"staged files of {table}"):
            folder = self.root / "_staging" / table
            for path in (folder / name for name in names_in(folder) if name.endswith(".parquet")):
                try:
                    with path.open("rb") as file:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        path.unlink()
                except (BlockingIOError, FileNotFoundError):
                    continue  # alive, or just published
                swept.append(path)
        return swept

    def _path(self, partition: Partition) -> Path:
        return self.root / hive_path(partition) / FILE_NAME

    def _history_folder(self, partition: Partition) -> Path:
        return self.root / "_history" / hive_path(partition)

    def _create_locked(self, folder: Path, day: date) -> tuple[Path, BinaryIO]:
        while True:
            # Another name each time: a sweep that still has the last one open would delete its successor.
            path = folder / f"{day.isoformat()}.{self._new_id()}.parquet"
            file = path.open("xb")
            fcntl.flock(file, fcntl.LOCK_EX)
            if _stat(path) is not None:
                return path, file
            file.close()  # swept in the instant between its making and its locking

    @contextmanager
    def _locked(self, partition: Partition) -> Iterator[None]:
        folder = self.root / hive_path(partition)
        _make_folder(folder)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            deadline = time.monotonic() + self._lock_wait_seconds
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() > deadline:
                        msg = (
                            f"{partition}: locked by another process for more than {self._lock_wait_seconds:g} s "
                            f"(see `fuser {folder}`). Nothing was changed; run it again."
                        )
                        raise StoreBusy(msg) from error
                    time.sleep(LOCK_POLL_SECONDS)
            yield
        finally:
            os.close(descriptor)  # and with it the lock

    def _replace(self, target: Path, staged: Staged, digest: str, expected: Version | None) -> bool:
        """Make the staged file the head, unless it is already; say which. The partition is locked."""
        current = _stat(target)
        replaced = None if current is None else _digest_of(target)
        if replaced == digest:
            return False
        if (None if current is None else _version(current)) != expected:
            raise _conflict(staged.partition, target, expected, replaced)
        # Stamps of a partition only grow, whatever the clock does: no version comes back, even when the file system
        # gives an inode out again, and history has an order.
        published_ns = max(self._now_ns(), current.st_mtime_ns + 1 if current else 0)
        os.utime(staged.path, ns=(published_ns, published_ns))
        _fsync(staged.path)
        if current is not None and replaced is not None:
            self._archive(staged.partition, replaced, current)
        staged.path.replace(target)
        return True

    def _archive(self, partition: Partition, digest: str, current: os.stat_result) -> None:
        if self.history_limit == 0:
            return
        folder = self._history_folder(partition)
        _make_folder(folder)
        kept = folder / f"{digest}.parquet"
        try:
            kept.hardlink_to(self._path(partition))
        except FileExistsError:  # the same bytes were replaced before, or a writer was killed right here
            os.utime(kept, ns=(current.st_mtime_ns, current.st_mtime_ns))
        _fsync(folder)

    def _prune(self, partition: Partition) -> None:
        for commit in self.history(partition)[self.history_limit :]:
            Path(commit.uri).unlink(missing_ok=True)

    def _fsync_up_from(self, folder: Path) -> None:
        _fsync(folder)
        if folder != self.root:
            self._fsync_up_from(folder.parent)


def _version(stat: os.stat_result) -> Version:
    return Version(f"{stat.st_ino}-{stat.st_mtime_ns}-{stat.st_size}")


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _utc(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC)


def _day_of(name: str) -> date | None:
    prefix, _, text = name.partition("=")
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if prefix == "dt" and day.isoformat() == text else None


def _digest_of(path: Path) -> str:
    digest = xxhash.xxh3_128()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _make_folder(folder: Path) -> None:
    """Make a folder and its parents durable: an entry exists for certain once its parent was fsynced."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _fsync(folder.parent)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _conflict(partition: Partition, target: Path, expected: Version | None, found: str | None) -> PartitionConflict:
    saw = "no commit" if expected is None else f"version {expected}"
    now = "there is none" if found is None else f"the head is {found} ({target})"
    msg = (
        f"{partition}: another run published this partition after this run first looked at it "
        f"(it saw {saw}, now {now}). Nothing was replaced; run the step again from its inputs."
    )
    return PartitionConflict(msg)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn what the operating system says about the store into the project's errors.

    Raises:
        StorageFull: no space, no quota, a limit on file sizes.
        StorageRefused: permissions, a read-only or broken file system, no folder where one should be.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            msg = f"{what}: {error}. Nothing is half published. Free some space, then run it again."
            raise StorageFull(msg) from error
        if error.errno in _REFUSED:
            msg = f"{what}: {error}. Check that PIPELINE_STORE is a folder that this user may write to."
            raise StorageRefused(msg) from error
        raise
