"""A store in the memory of this process: what tests and examples run on, with the promises of any other."""

import threading
import uuid
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from itertools import count

import pyarrow as pa
import xxhash

from pipeline_assets.errors import PartitionConflict, PartitionMissing
from pipeline_assets.partition import Partition
from pipeline_assets.record import FILE_KIND, Record
from pipeline_assets.store.protocol import (
    FILE_NAME,
    Commit,
    Flaw,
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


@dataclass(frozen=True, slots=True)
class StagedBuffer:
    """Bytes being written aside: a `Staged`."""

    partition: Partition
    _buffer: pa.BufferOutputStream = field(default_factory=pa.BufferOutputStream)

    def sink(self) -> pa.NativeFile:
        """Give the buffer to write into."""
        return self._buffer

    def source(self) -> pa.NativeFile:
        """Open what was written."""
        return pa.BufferReader(self.content())

    def content(self) -> pa.Buffer:
        """All that was written; nothing if nothing was."""
        return self._buffer.getvalue()

    def explained(self) -> AbstractContextManager[None]:
        """Change nothing: memory refuses nothing that could be explained."""
        return nullcontext()


@dataclass(slots=True)
class Shelves:
    """What the stores of one name share."""

    commits: dict[Partition, list[tuple[Commit, pa.Buffer]]] = field(default_factory=dict)
    """With their bytes; the head is last, and before it what is kept, the oldest first."""
    pages: dict[str, str] = field(default_factory=dict)
    versions: Iterator[int] = field(default_factory=count)
    lock: threading.RLock = field(default_factory=threading.RLock)


_named: dict[str, Shelves] = {}
"""What lies in the stores of this process, by their names."""


class MemoryStore:
    """Partitions in memory: a `Store` for the threads of one process.

    Args:
        name: stores of the same name are one; a store without a name is nobody else's.
        history: how many replaced commits are kept per partition; 0 keeps none.
    """

    def __init__(self, name: str = "", *, history: int = 5) -> None:
        self.uri = f"memory://{name}"
        self._history_limit = history
        self._shelves = _named.setdefault(name, Shelves()) if name else Shelves()

    def check_writable(self) -> None:
        """Do nothing: memory can be written."""

    def tables(self) -> list[str]:
        """Names of the tables that have a partition, ascending."""
        return sorted({partition.table for partition, commits in self._shelves.commits.items() if commits})

    def heads(self, table: str) -> dict[date, Head]:
        """Every day that has a commit, ascending."""
        check_table(table)
        with self._shelves.lock:
            found = {
                partition.key: Head(head.version, head.size_bytes, head.published_at, self._look(partition).record)
                for partition in self._shelves.commits
                if partition.table == table and (head := self.head(partition)) is not None
            }
        return dict(sorted(found.items()))

    def look(self, partitions: Iterable[Partition]) -> dict[Partition, Seen]:
        """Note what there is."""
        return {each: self._look(each) for each in partitions}

    def head(self, partition: Partition, *, read: bool = False) -> Commit | None:  # noqa: ARG002 - it is in memory
        """The current commit with its record; None before the first one."""
        commits = self._commits(partition)
        return commits[-1][0] if commits else None

    def open(self, partition: Partition) -> Pinned | None:
        """Pin the current commit for reading; None before the first one."""
        commits = self._commits(partition)
        if not commits:
            return None
        commit, content = commits[-1]
        return Pinned(commit, pa.BufferReader(content))

    @contextmanager
    def stage(self, partition: Partition) -> Iterator[StagedBuffer]:
        """Give a buffer to write the partition's next commit into."""
        check_table(partition.table)
        yield StagedBuffer(partition)

    def publish(self, staged: Staged, record: Record, *, seen: Seen) -> Published:
        """Make the staged bytes the head if that is still the one seen."""
        assert isinstance(staged, StagedBuffer)  # noqa: S101 - nobody publishes with one store what another staged
        content, partition, now = staged.content(), staged.partition, datetime.now(UTC)
        file = xxhash.xxh3_128_hexdigest(content)
        record = replace(
            record,
            write_id=uuid.uuid4().hex,
            digest=record.digest or FILE_KIND + file,
            file=file,
            size_bytes=content.size,
            unchanged=False,
            recorded_at=now,
            changed_at=now,
            first_at=now,
        )
        record = replace(record, record_version=record.write_id)
        with self._shelves.lock:
            if self._look(partition) != seen:
                raise PartitionConflict(
                    f"{partition}: another run published this partition after this run first looked at it. Nothing "
                    "was replaced; run the step again from its inputs."
                )
            commits, before = self._commits(partition), self.head(partition)
            if before is not None and before.record is not None:
                record = replace(record, follows=before.record.write_id, first_at=before.record.first_at)
            unchanged = before is not None and (before.digest == record.digest or before.is_of(FILE_KIND + file))
            if before is not None and unchanged:
                content, made = commits[-1][1], before.record
                record = replace(record, unchanged=True, version=before.version, size_bytes=before.size_bytes)
                record = replace(record, file=made.file if made else None, changed_at=made.changed_at if made else now)
                commit = replace(before, digest=record.digest or "", record=record)
            else:
                version = Version(str(next(self._shelves.versions)))
                # Of a partition they only grow, whatever the clock does.
                published_at = now if before is None else max(now, before.published_at)
                uri = f"{self.uri}/{hive_path(partition)}/{FILE_NAME}"
                record = replace(record, version=version)
                commit = Commit(partition, version, record.digest or "", content.size, published_at, uri, record)
            others = [each for each in commits if each[0].digest != commit.digest and each[0].version != commit.version]
            commits[:] = [*others, (commit, content)][-self._history_limit - 1 :]
        return Published(commit, unchanged)

    def history(self, partition: Partition) -> list[Commit]:
        """Commits that were replaced and are still kept, the newest first."""
        return [commit for commit, _ in reversed(self._commits(partition)[:-1])]

    def restore(self, partition: Partition, digest: str) -> Published:
        """Publish a kept commit again."""
        seen = self.look([partition])[partition]
        kept = self._commits(partition)[-2::-1]
        commit, content = next((each for each in kept if each[0].is_of(digest)), (None, None))
        if commit is None:
            listed = ", ".join(each.digest for each, _ in kept) or "none"
            raise PartitionMissing(f"{partition}: no commit {digest} is kept. Kept: {listed}.")
        with self.stage(partition) as staged:
            staged.sink().write(content)
            record = (commit.record or Record()).restored(datetime.now(UTC))
            return self.publish(staged, record, seen=seen)

    def sweep(self, table: str) -> list[str]:
        """Delete nothing: what is staged ends with its writer."""
        check_table(table)
        return []

    def flaws(self, table: str, *, read: bool, mend: bool) -> Iterator[Flaw]:  # noqa: ARG002 - nothing ever is
        """Nothing: who writes to memory does so through the store."""
        check_table(table)
        yield from ()

    def adopt(self, partition: Partition, record: Record) -> bool:  # noqa: ARG002 - no head is without one
        """Keep nothing: every head has a record."""
        return False

    def write_page(self, name: str, day: date, page: str) -> str:
        """Put a page in the place of the one before it."""
        uri = f"{self.uri}/{page_path(name, day)}"
        self._shelves.pages[uri] = page
        return uri

    def _look(self, partition: Partition) -> Seen:
        head = self.head(partition)
        if head is None:
            return Seen(None, None)
        return Seen(head.version, Version(head.record.write_id) if head.record else None)

    def _commits(self, partition: Partition) -> list[tuple[Commit, pa.Buffer]]:
        check_table(partition.table)
        with self._shelves.lock:
            return self._shelves.commits.setdefault(partition, [])
