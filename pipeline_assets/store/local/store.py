"""A store on a local file system: `{root}/{table}/dt=YYYY-MM-DD/data.parquet`, one file a partition.

A commit is one rename. Everything else here serves that step: the file is complete and fsynced before it, so is its
record (see `records`), the commit it replaces is linked into `{root}/_history` before it, and the partition's folder is
locked and compared around it. Files are staged under `{root}/_staging`, each flocked by its writer for as long as the
writer lives.
"""

import errno
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import xxhash

from pipeline_assets.errors import PartitionConflict, PartitionDamaged, PartitionMissing, StoreBusy
from pipeline_assets.partition import Partition
from pipeline_assets.record import FILE_KIND, Record, kind_of
from pipeline_assets.store.files import (
    day_of,
    digest_of,
    explained,
    fsync,
    locked,
    make_folder,
    may_open_more_files,
    names_in,
    replace_file,
    stat_of,
    try_lock,
)
from pipeline_assets.store.local.records import FOLDER, PartitionRecords, path_of, read_records, write_records
from pipeline_assets.store.parquet import rows_digest
from pipeline_assets.store.protocol import (
    FILE_NAME,
    PAGES,
    Commit,
    Flaw,
    FlawKind,
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


@dataclass(frozen=True, slots=True)
class LockedHead:
    """The head of a partition that is locked.

    Args:
        file: hash of its bytes, which were read.
        record: None if none is of these bytes.
    """

    path: Path
    stat: os.stat_result
    file: str
    record: Record | None

    def holds_rows_of(self, record: Record) -> bool:
        """Whether a publish of the record would change no row."""
        if self.file == record.file:
            return True
        if self.record is not None and kind_of(self.record.digest) == kind_of(record.digest):
            return self.record.digest == record.digest
        return rows_digest(pa.OSFile(str(self.path), "rb")) == record.digest


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
        self._durable: set[Path] = set()
        """Folders whose entries, up to the root, are on the disk."""

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
        """Every day that has a commit, ascending, with its version: two stats each."""
        check_table(table)
        found, records = {}, path_of(self.root, Partition(table, date.min)).parent
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
                try:
                    record = _version(os.stat(f"{records}/dt={day}.json"))  # noqa: PTH116 - as above
                except FileNotFoundError:
                    record = None
                found[day] = Head(_version(current), current.st_size, _utc(current.st_mtime_ns), record)
        return found

    def look(self, partitions: Iterable[Partition]) -> dict[Partition, Seen]:
        """Note what there is: two stats each."""
        found = {}
        for partition in partitions:
            with explained(partition):
                found[partition] = self._look(partition)
        return found

    def head(self, partition: Partition, *, read: bool = False) -> Commit | None:
        """The current commit with its record, or None before the first one. Reads the file if no record names it."""
        pinned = self._open(partition, read=read)
        if pinned is None:
            return None
        pinned.close()
        return pinned.commit

    def open(self, partition: Partition) -> Pinned | None:
        """Pin the current commit for reading; None before the first one."""
        return self._open(partition)

    def _open(self, partition: Partition, *, read: bool = False) -> Pinned | None:
        path = self._path(partition)
        with explained(partition):
            while True:
                try:
                    seen, known = self._look(partition), read_records(path_of(self.root, partition))
                    file, stat = pa.OSFile(str(path), "rb"), path.stat()
                except FileNotFoundError:
                    return None
                except OSError as error:  # a window of years pins thousands of files
                    if error.errno == errno.EMFILE and may_open_more_files():
                        continue
                    raise
                if self._look(partition) == seen and _version(stat) == seen.version:
                    break
                file.close()  # replaced in between: what was read may be of another commit than the file
            record, content = known.of_head(_version(stat)), ""
            if record is None or read:  # it was moved or copied here, or nobody knows how it was made
                content = hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()
                record = known.of_file(content)
                file.seek(0)
        return Pinned(_commit(partition, path, stat, record, seen.record, content), file)

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
        """Make the staged file the head. One that already holds the same rows is left untouched, mtime included."""
        assert isinstance(staged, StagedFile)  # noqa: S101 - nobody publishes with one store what another staged
        partition = staged.partition
        with explained(partition):
            file = digest_of(staged.path)
            record = replace(record, write_id=uuid.uuid4().hex, file=file, digest=record.digest or FILE_KIND + file)
            with self._locked(partition):
                if self._look(partition) != seen:
                    raise _conflict(partition, seen, self.head(partition))
                known = read_records(path_of(self.root, partition))
                head = self._head(partition, known)
                if head is not None and head.holds_rows_of(record):
                    commit = self._renew(partition, head, record, known)
                else:
                    commit = self._replace(staged, head, record, known)
                # Last: a publish that does not come this far has cost no commit that was kept.
                for path, _ in self._kept_files(partition)[self.history_limit :]:
                    path.unlink(missing_ok=True)
        return Published(commit, unchanged=commit.record is not None and commit.record.unchanged)

    def history(self, partition: Partition) -> list[Commit]:
        """Commits that were replaced and are still kept, the newest first."""
        with explained(partition):
            kept = self._kept_files(partition)
            known = read_records(path_of(self.root, partition)) if kept else PartitionRecords()
        return [_commit(partition, path, stat, known.of_file(path.stem), None, path.stem) for path, stat in kept]

    def restore(self, partition: Partition, digest: str) -> Published:
        """Publish a copy of a kept commit."""
        seen = self.look([partition])[partition]
        kept = self.history(partition)
        commit = next((each for each in kept if each.is_of(digest)), None)
        if commit is None:
            listed = ", ".join(each.digest for each in kept) or "none"
            raise PartitionMissing(f"{partition}: no commit {digest} is kept. Kept: {listed}.")
        with self.stage(partition) as staged:
            # A copy, not a link: the restored head must be a new version, or a run that began
            # before the bad commit could take it for the head that it saw.
            with explained(partition):
                shutil.copyfile(commit.uri, staged.path)
                if digest_of(staged.path) != Path(commit.uri).stem:
                    raise PartitionDamaged(
                        f"{partition}: the kept commit {digest} was damaged: {commit.uri} has other bytes than it had. "
                        "Nothing was changed."
                    )
            record = (commit.record or Record()).restored(_utc(self._now_ns()))
            return self.publish(staged, record, seen=seen)

    def sweep(self, table: str) -> list[str]:
        """Delete the staged files of the table that nobody has locked, and name them."""
        check_table(table)
        with explained(f"staged files of {table}"):
            return [str(path) for path in self._abandoned(table, delete=True)]

    def flaws(self, table: str, *, read: bool, mend: bool) -> Iterator[Flaw]:
        """What of a table does not fit together, by day; then what writers that are dead left behind."""
        check_table(table)
        with explained(f"table {table}"):
            recorded = {day_of(name.removesuffix(".json")) for name in names_in(self.root / FOLDER / table)}
            kept = {day_of(name) for name in names_in(self.root / "_history" / table)}
            for day in sorted(each for each in {*self.heads(table), *recorded, *kept} if each is not None):
                yield from self._flaws_of(Partition(table, day), read=read, mend=mend)
            for path in self._abandoned(table, delete=mend):
                day = date.fromisoformat(path.name.partition(".")[0])
                told = f"{path} was staged by a process that is dead"
                yield Flaw(FlawKind.LEFTOVER, Partition(table, day), told, is_mended=mend)

    def _flaws_of(self, partition: Partition, *, read: bool, mend: bool) -> Iterator[Flaw]:
        records = path_of(self.root, partition)
        known, head = read_records(records), self.head(partition, read=read)
        if head is None and list(known):
            yield Flaw(FlawKind.GONE, partition, f"it was published, and {self._path(partition)} is not there")
        elif head is None and records.exists():
            yield Flaw(FlawKind.RECORD, partition, f"{records} holds no record that can be read")
        elif head is not None and head.record is None:
            is_changed = known.of_head(head.version) is not None
            if is_changed or rows_digest(pa.OSFile(head.uri, "rb")) is None:
                what = "has other bytes than its record names" if is_changed else "is no Parquet file"
                yield Flaw(FlawKind.DAMAGED, partition, f"{head.uri} {what}")
            else:
                yield Flaw(FlawKind.UNRECORDED, partition, f"{head.uri} is a file that no record speaks of")
        elif head is not None and known.of_head(head.version) is None:
            told = "its file was moved or copied: the record names another version of the same bytes"
            yield Flaw(FlawKind.MOVED, partition, told, is_mended=mend and self.adopt(partition))
        for path, _ in self._kept_files(partition) if read else ():
            if digest_of(path) != path.stem:
                yield Flaw(FlawKind.KEPT, partition, f"{path} has other bytes than its name says")

    def adopt(self, partition: Partition, record: Record | None = None) -> bool:
        """Let the record, or the one that the store has, name the version that the head has now."""
        with explained(partition), self._locked(partition):
            known = read_records(path_of(self.root, partition))
            head = self._head(partition, known)
            if head is None:
                return False
            made = head.record
            if made is None and record is not None and record.is_of(head.file):
                made = replace(record, write_id=uuid.uuid4().hex, file=head.file, version=_version(head.stat))
                made = replace(made, event_id=0, record_version=None, size_bytes=head.stat.st_size)
            if made is None:
                return False
            self._write_records(partition, PartitionRecords(made, kept=self._kept_of(partition, known)))
        return True

    def write_page(self, name: str, day: date, page: str) -> str:
        """Put a page in the place of the one before it, whole; on an error that one stays."""
        target = self.root / PAGES / page_path(name, day)
        with explained(f"the page {name} of {day}"):
            target.parent.mkdir(parents=True, exist_ok=True)
            replace_file(target, page.encode(), durable=True)
        return str(target)

    def _abandoned(self, table: str, *, delete: bool) -> Iterator[Path]:
        """Staged files of the table whose writers are dead."""
        folder = self.root / "_staging" / table
        for path in (folder / name for name in names_in(folder) if name.endswith(".parquet")):
            try:
                with locked(path) as is_abandoned:
                    if is_abandoned:  # else its writer is alive
                        if delete:
                            path.unlink()
                        yield path
            except FileNotFoundError:
                continue  # just published

    def _path(self, partition: Partition) -> Path:
        return self.root / hive_path(partition) / FILE_NAME

    def _history_folder(self, partition: Partition) -> Path:
        return self.root / "_history" / hive_path(partition)

    def _look(self, partition: Partition) -> Seen:
        head, records = stat_of(self._path(partition)), stat_of(path_of(self.root, partition))
        return Seen(None if head is None else _version(head), None if records is None else _version(records))

    @contextmanager
    def _locked(self, partition: Partition) -> Iterator[None]:
        folder = self.root / hive_path(partition)
        if not folder.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, wait_seconds=self._lock_wait_seconds) as is_held:
            if not is_held:
                raise StoreBusy(
                    f"{partition}: locked by another process for more than {self._lock_wait_seconds:g} s "
                    f"(see `fuser {folder}`). Nothing was changed; run it again."
                )
            yield

    def _head(self, partition: Partition, known: PartitionRecords) -> LockedHead | None:
        """The head, read whole: what a record says of it does not show whether its bytes were damaged since."""
        path = self._path(partition)
        stat = stat_of(path)
        if stat is None:
            return None
        file = digest_of(path)
        record = known.of_file(file)
        return LockedHead(path, stat, file, record and replace(record, version=_version(stat)))

    def _renew(self, partition: Partition, head: LockedHead, record: Record, known: PartitionRecords) -> Commit:
        """Put another record in the place of the head's, which stays."""
        record, _ = self._dated(record, head)
        record = replace(
            record, unchanged=True, version=_version(head.stat), file=head.file, size_bytes=head.stat.st_size
        )
        if head.record is not None:
            record = replace(record, changed_at=head.record.changed_at)
        recorded = self._write_records(partition, PartitionRecords(record, kept=self._kept_of(partition, known)))
        fsync(head.path.parent)  # who published these bytes may have been killed before this
        return _commit(partition, head.path, head.stat, record, recorded)

    def _replace(self, staged: StagedFile, head: LockedHead | None, record: Record, known: PartitionRecords) -> Commit:
        """Make the staged file the head: first the record that will be its, then the archive, then the data."""
        partition, target = staged.partition, self._path(staged.partition)
        record, now_ns = self._dated(record, head)
        # Stamps of a partition only grow, whatever the clock does: no version comes back, even when the file system
        # gives an inode out again, and history has an order.
        published_ns = max(now_ns, head.stat.st_mtime_ns + 1 if head else 0)
        os.utime(staged.path, ns=(published_ns, published_ns))
        fsync(staged.path)
        stat = staged.path.stat()
        record = replace(record, version=_version(stat), size_bytes=stat.st_size)
        current = None if head is None else head.record
        recorded = self._write_records(partition, PartitionRecords(current, record, self._kept_of(partition, known)))
        if head is None:
            self._make_durable(target.parent.parent)
            fsync(target.parent.parent)
        else:
            self._archive(partition, head)
        staged.path.replace(target)
        fsync(target.parent)
        return _commit(partition, target, stat, record, recorded)

    def _dated(self, record: Record, head: LockedHead | None) -> tuple[Record, int]:
        """The record with what it follows and its times; and the clock's, in nanoseconds since 1970."""
        now_ns = self._now_ns()
        now = _utc(now_ns)
        before = Record(first_at=now) if head is None or head.record is None else head.record
        dated = replace(record, unchanged=False, recorded_at=now, changed_at=now, record_version=None)
        return replace(dated, first_at=before.first_at, follows=before.write_id), now_ns

    def _kept_of(self, partition: Partition, known: PartitionRecords) -> dict[str, Record]:
        return known.kept_of([path.stem for path, _ in self._kept_files(partition)])

    def _archive(self, partition: Partition, head: LockedHead) -> None:
        if self.history_limit == 0:
            return
        folder = self._history_folder(partition)
        make_folder(folder)
        kept = folder / f"{head.file}.parquet"
        try:
            kept.hardlink_to(head.path)
        except FileExistsError:  # the same bytes were replaced before, or a writer was killed right here
            os.utime(kept, ns=(head.stat.st_mtime_ns, head.stat.st_mtime_ns))
        fsync(folder)

    def _write_records(self, partition: Partition, records: PartitionRecords) -> Version:
        path = path_of(self.root, partition)
        self._make_durable(path.parent)
        write_records(path, records)
        return _version(path.stat())

    def _make_durable(self, folder: Path) -> None:
        """Make a folder that outlives a power cut: once in this process, as who made it before may have been killed."""
        is_there = folder.is_dir()
        if is_there and folder in self._durable:
            return
        if not is_there:
            folder.mkdir(parents=True, exist_ok=True)
        for each in (folder, *folder.parents):
            fsync(each)
            if each == self.root:
                break
        fsync(self.root.parent)
        self._durable.add(folder)

    def _kept_files(self, partition: Partition) -> list[tuple[Path, os.stat_result]]:
        """Files of the commits that were replaced, the newest first."""
        folder = self._history_folder(partition)
        paths = [folder / name for name in names_in(folder) if name.endswith(".parquet")]
        # A publish may drop the oldest while they are listed.
        kept = [(path, stat) for path in paths if (stat := stat_of(path)) is not None]
        return sorted(kept, key=lambda each: (each[1].st_mtime_ns, each[0]), reverse=True)


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


def _commit(  # noqa: PLR0917 - all that is known of it
    partition: Partition,
    path: Path,
    stat: os.stat_result,
    record: Record | None,
    recorded: Version | None,
    content: str = "",
) -> Commit:
    """A commit as it is told: by its record, or by the hash of its bytes if it has none."""
    version, digest = _version(stat), FILE_KIND + content
    if record is not None:
        record, digest = replace(record, version=version, record_version=recorded), record.digest or digest
    return Commit(partition, version, digest, stat.st_size, _utc(stat.st_mtime_ns), str(path), record)


def _raised(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # a folder that cannot be read is none without tables
        raise error


def _conflict(partition: Partition, seen: Seen, head: Commit | None) -> PartitionConflict:
    saw = "no commit" if seen.version is None else f"version {seen.version}"
    now = "there is none"
    if head is not None:
        now = f"the head is {head.digest}, version {head.version}"
        if (made := head.record) is not None:
            now += f", recorded at {made.recorded_at:%Y-%m-%d %H:%M:%S} UTC by run {made.run_id or '(none)'}"
    return PartitionConflict(
        f"{partition}: another run published this partition after this run first looked at it (it saw {saw}, now "
        f"{now}). Nothing was replaced; run the step again from its inputs."
    )
