"""A store on a local file system: `{root}/{table}/dt=YYYY-MM-DD/data.parquet`, one file a partition.

A commit is one rename. Everything else here serves that step: the file is complete and fsynced before it, the
commit it replaces is linked into `{root}/_history` before it, and the partition's folder is locked and compared
around it. Files are staged under `{root}/_staging`, each flocked by its writer for as long as the writer lives.
"""

import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import xxhash

from pipeline_assets.errors import PartitionConflict, PartitionMissing, StoreBusy
from pipeline_assets.partition import Partition
from pipeline_assets.record import Record
from pipeline_assets.store.files import (
    day_of,
    digest_of,
    explained,
    fsync,
    locked,
    make_folder,
    names_in,
    replace_file,
    stat_of,
    try_lock,
)
from pipeline_assets.store.local.records import PartitionRecords, read_records, write_records
from pipeline_assets.store.protocol import (
    FILE_NAME,
    PAGES,
    Commit,
    Head,
    Pinned,
    Published,
    Seen,
    Staged,
    Version,
    check_table,
    hive_path,
    page_path,
)

LOCK_WAIT_SECONDS = 30.0
"""A publish holds the lock for milliseconds; who waits this long waits for a process that was stopped."""


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A file being written aside: a `Staged`."""

    partition: Partition
    path: Path

    def sink(self) -> pa.NativeFile:
        """Give the file to write into."""
        with self.explained():
            return pa.OSFile(str(self.path), "wb")

    def source(self) -> pa.NativeFile:
        """Open what was written."""
        with self.explained():
            return pa.OSFile(str(self.path), "rb")

    def explained(self) -> AbstractContextManager[None]:
        """Turn what the file system says into StorageFull and StorageRefused."""
        return explained(self.partition)


class LocalStore:
    """Partitions below a folder: a `Store` for any number of processes of one machine.

    Args:
        root: folder, made when it is missing.
        history: how many replaced commits are kept per partition; 0 keeps none.
        lock_wait_seconds: how long a publish waits for another one of the same partition.
        now_ns: the clock, in nanoseconds since 1970.
    """

    def __init__(
        self,
        root: Path,
        *,
        history: int = 5,
        lock_wait_seconds: float = LOCK_WAIT_SECONDS,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.root = Path(root)
        self.history_limit = history
        self._lock_wait_seconds = lock_wait_seconds
        self._now_ns = now_ns

    @property
    def uri(self) -> str:
        """The folder, with links followed."""
        return os.path.realpath(self.root)

    def check_writable(self) -> None:
        """Make the root and write one file there."""
        with explained(f"the store {self.root}"):
            probe = self.root / "_staging" / f"probe-{uuid.uuid4().hex}"
            make_folder(probe.parent)
            probe.touch()
            probe.unlink()

    def tables(self) -> list[str]:
        """Folders that hold a dt= folder. The store's own begin with an underscore."""
        found = []
        with explained(f"the store {self.root}"):
            for folder, names, _ in os.walk(self.root, onerror=_raised):
                days = [name for name in names if name.startswith("dt=")]
                names[:] = sorted(name for name in names if name[0] not in "._" and name not in days)
                if days and folder != str(self.root):
                    found.append(os.path.relpath(folder, self.root))
        return sorted(found)

    def heads(self, table: str) -> dict[date, Head]:
        """Every day that has a commit, ascending, with its version: a stat each."""
        check_table(table)
        found = {}
        with explained(f"table {table}"):
            try:
                with os.scandir(self.root / table) as entries:
                    folders = sorted((day, entry.path) for entry in entries if (day := day_of(entry.name)) is not None)
            except FileNotFoundError:
                return {}
            for day, folder in folders:
                try:
                    current = os.stat(f"{folder}/{FILE_NAME}")  # noqa: PTH116 - a Path for each costs as much again
                except (FileNotFoundError, NotADirectoryError):
                    continue
                found[day] = Head(_version(current), current.st_size, _utc(current.st_mtime_ns))
        return found

    def look(self, partitions: Iterable[Partition]) -> dict[Partition, Seen]:
        """Note what there is: a stat each."""
        found = {}
        for partition in partitions:
            with explained(partition):
                current = stat_of(self._path(partition))
            found[partition] = Seen(None if current is None else _version(current))
        return found

    def head(self, partition: Partition) -> Commit | None:
        """The current commit, or None before the first one. Reads the file, as `open` does."""
        pinned = self.open(partition)
        if pinned is None:
            return None
        pinned.close()
        with explained(partition):
            known = read_records(self.root, partition)
        if known is None or known.version != pinned.commit.version:
            return pinned.commit
        return replace(pinned.commit, record=known.current)

    def open(self, partition: Partition) -> Pinned | None:
        """Pin the current commit for reading; None before the first one. Reads the file once, for its digest."""
        path = self._path(partition)
        with explained(partition):
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
            digest = hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()
            file.seek(0)
        return Pinned(_commit(partition, path, after, digest), file)

    @contextmanager
    def stage(self, partition: Partition) -> Iterator[StagedFile]:
        """Give a new file, locked, to write the partition's next commit into."""
        check_table(partition.table)
        folder = self.root / "_staging" / partition.table
        with explained(partition):
            make_folder(folder)
            path, lock = _create_locked(folder, partition.key)
        try:
            yield StagedFile(partition, path)
        finally:
            with suppress(OSError):  # it was published; or it stays, and a sweep takes it
                path.unlink()
            lock.close()

    def publish(self, staged: Staged, record: Record, *, seen: Seen) -> Published:
        """Make the staged file the head. One that already holds the same bytes is left untouched, mtime included."""
        assert isinstance(staged, StagedFile)  # noqa: S101 - nobody publishes with one store what another staged
        partition, target = staged.partition, self._path(staged.partition)
        with explained(partition):
            digest = digest_of(staged.path)
            with self._locked(partition):
                now_ns = self._now_ns()
                unchanged = not self._replace(target, staged, digest, seen, now_ns=now_ns)
                # Unchanged or not: who published these bytes, or made these folders, may have been killed before this.
                self._fsync_up_from(target.parent)
                commit = _commit(partition, target, target.stat(), digest)
                record = replace(record, unchanged=unchanged, recorded_at=_utc(now_ns))
                replaced = self._kept_files(partition)
                kept = {path.stem for path, _ in replaced[: self.history_limit]}
                commit = replace(commit, record=self._keep_record(commit, record, kept))
                # Last: a publish that does not come this far has cost no commit that was kept.
                for path, _ in replaced[self.history_limit :]:
                    path.unlink(missing_ok=True)
        return Published(commit, unchanged)

    def history(self, partition: Partition) -> list[Commit]:
        """Commits that were replaced and are still kept, the newest first."""
        with explained(partition):
            kept = self._kept_files(partition)
            known = read_records(self.root, partition) if kept else None
        records = known.kept if known else {}
        return [
            replace(_commit(partition, path, stat, path.stem), record=records.get(path.stem)) for path, stat in kept
        ]

    def restore(self, partition: Partition, digest: str) -> Published:
        """Publish a copy of a kept commit."""
        seen = self.look([partition])[partition]
        known = {commit.digest: commit for commit in self.history(partition)}
        if digest not in known:
            raise PartitionMissing(f"{partition}: no commit {digest} is kept. Kept: {', '.join(known) or 'none'}.")
        with self.stage(partition) as staged:
            # A copy, not a link: the restored head must be a new version, or a run that began
            # before the bad commit could take it for the head that it saw.
            with explained(partition):
                shutil.copyfile(known[digest].uri, staged.path)
            return self.publish(staged, known[digest].record or Record(), seen=seen)

    def sweep(self, table: str) -> list[str]:
        """Delete the staged files of the table that nobody has locked, and name them."""
        check_table(table)
        swept = []
        with explained(f"staged files of {table}"):
            folder = self.root / "_staging" / table
            for path in (folder / name for name in names_in(folder) if name.endswith(".parquet")):
                try:
                    with locked(path) as is_abandoned:
                        if is_abandoned:  # else its writer is alive
                            path.unlink()
                            swept.append(str(path))
                except FileNotFoundError:
                    continue  # just published
        return swept

    def write_page(self, name: str, day: date, page: str) -> str:
        """Put a page in the place of the one before it, whole; on an error that one stays."""
        target = self.root / PAGES / page_path(name, day)
        with explained(f"the page {name} of {day}"):
            target.parent.mkdir(parents=True, exist_ok=True)
            replace_file(target, page.encode(), durable=True)
        return str(target)

    def _path(self, partition: Partition) -> Path:
        return self.root / hive_path(partition) / FILE_NAME

    def _history_folder(self, partition: Partition) -> Path:
        return self.root / "_history" / hive_path(partition)

    @contextmanager
    def _locked(self, partition: Partition) -> Iterator[None]:
        folder = self.root / hive_path(partition)
        make_folder(folder)
        with locked(folder, wait_seconds=self._lock_wait_seconds) as is_held:
            if not is_held:
                raise StoreBusy(
                    f"{partition}: locked by another process for more than {self._lock_wait_seconds:g} s "
                    f"(see `fuser {folder}`). Nothing was changed; run it again."
                )
            yield

    def _replace(self, target: Path, staged: StagedFile, digest: str, seen: Seen, *, now_ns: int) -> bool:
        """Make the staged file the head, unless it is already; say which. The partition is locked."""
        current = stat_of(target)
        replaced = None if current is None else digest_of(target)
        if replaced == digest:
            return False
        if (None if current is None else _version(current)) != seen.version:
            raise _conflict(staged.partition, target, seen, replaced)
        # Stamps of a partition only grow, whatever the clock does: no version comes back, even when the file system
        # gives an inode out again, and history has an order.
        published_ns = max(now_ns, current.st_mtime_ns + 1 if current else 0)
        os.utime(staged.path, ns=(published_ns, published_ns))
        fsync(staged.path)
        if current is not None and replaced is not None:
            self._archive(staged.partition, replaced, current)
        staged.path.replace(target)
        return True

    def _archive(self, partition: Partition, digest: str, current: os.stat_result) -> None:
        if self.history_limit == 0:
            return
        folder = self._history_folder(partition)
        make_folder(folder)
        kept = folder / f"{digest}.parquet"
        try:
            kept.hardlink_to(self._path(partition))
        except FileExistsError:  # the same bytes were replaced before, or a writer was killed right here
            os.utime(kept, ns=(current.st_mtime_ns, current.st_mtime_ns))
        fsync(folder)

    def _keep_record(self, commit: Commit, record: Record, kept: Collection[str]) -> Record:
        """Write the record of the head, with what the store knows better; and those of the digests that are kept."""
        record = replace(record, digest=commit.digest, size_bytes=commit.size_bytes)
        known = read_records(self.root, commit.partition)
        records = PartitionRecords(commit.version, record)
        if known is not None:
            records = known.followed_by(commit.version, record, kept=kept)
        write_records(self.root, commit.partition, records)
        return record

    def _kept_files(self, partition: Partition) -> list[tuple[Path, os.stat_result]]:
        """Files of the commits that were replaced, the newest first."""
        folder = self._history_folder(partition)
        paths = [folder / name for name in names_in(folder) if name.endswith(".parquet")]
        # A publish may drop the oldest while they are listed.
        kept = [(path, stat) for path in paths if (stat := stat_of(path)) is not None]
        return sorted(kept, key=lambda each: (each[1].st_mtime_ns, each[0]), reverse=True)

    def _fsync_up_from(self, folder: Path) -> None:
        fsync(folder)
        if folder != self.root:
            self._fsync_up_from(folder.parent)


def _create_locked(folder: Path, day: date) -> tuple[Path, BinaryIO]:
    while True:
        # Another name each time: a sweep that still has the last one open would delete its successor.
        path = folder / f"{day.isoformat()}.{uuid.uuid4().hex}.parquet"
        file = path.open("xb")
        if try_lock(file.fileno()) and stat_of(path) is not None:
            return path, file
        file.close()  # a sweep took it in the instant between its making and its locking


def _version(stat: os.stat_result) -> Version:
    return Version(f"{stat.st_ino}-{stat.st_mtime_ns}-{stat.st_size}")


def _utc(nanoseconds: int) -> datetime:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC)


def _commit(partition: Partition, path: Path, stat: os.stat_result, digest: str) -> Commit:
    return Commit(partition, _version(stat), digest, stat.st_size, _utc(stat.st_mtime_ns), str(path))


def _raised(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # a folder that cannot be read is none without tables
        raise error


def _conflict(partition: Partition, target: Path, seen: Seen, found: str | None) -> PartitionConflict:
    saw = "no commit" if seen.version is None else f"version {seen.version}"
    now = "there is none" if found is None else f"the head is {found} ({target})"
    return PartitionConflict(
        f"{partition}: another run published this partition after this run first looked at it "
        f"(it saw {saw}, now {now}). Nothing was replaced; run the step again from its inputs."
    )
