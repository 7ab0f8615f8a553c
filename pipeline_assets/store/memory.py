"""A store in the memory of this process: what tests and examples run on, with the promises of any other."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from itertools import count

import pyarrow as pa
import xxhash

from pipeline_assets.errors import PartitionConflict, PartitionMissing
from pipeline_assets.partition import Partition
from pipeline_assets.record import Record
from pipeline_assets.store.protocol import (
    FILE_NAME,
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

SCHEME = "memory://"


@dataclass(slots=True)
class StagedBuffer:
    """Bytes being written aside: a `Staged`."""

    partition: Partition
    _sink: pa.BufferOutputStream | None = None

    def sink(self) -> pa.NativeFile:
        """Give the buffer to write into."""
        self._sink = pa.BufferOutputStream()
        return self._sink

    def source(self) -> pa.NativeFile:
        """Open what was written."""
        return pa.BufferReader(self.content())

    def content(self) -> pa.Buffer:
        """All that was written; nothing if nothing was."""
        return pa.py_buffer(b"") if self._sink is None else self._sink.getvalue()

    def explained(self) -> AbstractContextManager[None]:
        """Change nothing: memory refuses nothing that could be explained."""
        return nullcontext()


@dataclass(slots=True)
class _Shelf:
    """Commits of one partition, with their bytes; the head is last, and above it what is kept, the oldest first."""

    commits: list[tuple[Commit, pa.Buffer]] = field(default_factory=list)

    @property
    def head(self) -> tuple[Commit, pa.Buffer] | None:
        return self.commits[-1] if self.commits else None


@dataclass(slots=True)
class Shelves:
    """What the stores of one name share."""

    partitions: dict[Partition, _Shelf] = field(default_factory=dict)
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
        now: the clock.
    """

    def __init__(
        self, name: str = "", *, history: int = 5, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self.uri = f"{SCHEME}{name}"
        self.history_limit = history
        self._shelves = _named.setdefault(name, Shelves()) if name else Shelves()
        self._now = now

    def check_writable(self) -> None:
        """Do nothing: memory can be written."""

    def tables(self) -> list[str]:
        """Names of the tables that have a partition, ascending."""
        return sorted({partition.table for partition, shelf in self._shelves.partitions.items() if shelf.commits})

    def heads(self, table: str) -> dict[date, Head]:
        """Every day that has a commit, ascending."""
        check_table(table)
        with self._shelves.lock:
            found = {
                partition.key: Head(head[0].version, head[0].size_bytes, head[0].published_at)
                for partition, shelf in self._shelves.partitions.items()
                if partition.table == table and (head := shelf.head) is not None
            }
        return dict(sorted(found.items()))

    def look(self, partitions: Iterable[Partition]) -> dict[Partition, Seen]:
        """Note what there is."""
        found = {}
        for partition in partitions:
            head = self.head(partition)
            found[partition] = Seen(None if head is None else head.version)
        return found

    def head(self, partition: Partition) -> Commit | None:
        """The current commit with its record; None before the first one."""
        head = self._shelf(partition).head
        return None if head is None else head[0]

    def open(self, partition: Partition) -> Pinned | None:
        """Pin the current commit for reading; None before the first one."""
        head = self._shelf(partition).head
        return None if head is None else Pinned(head[0], pa.BufferReader(head[1]))

    @contextmanager
    def stage(self, partition: Partition) -> Iterator[StagedBuffer]:
        """Give a buffer to write the partition's next commit into."""
        check_table(partition.table)
        yield StagedBuffer(partition)

    def publish(self, staged: Staged, record: Record, *, seen: Seen) -> Published:
        """Make the staged bytes the head if that is still the one seen.

        Raises:
            PartitionConflict: the head is neither the one seen nor the same bytes. Nothing was changed.
        """
        assert isinstance(staged, StagedBuffer)  # noqa: S101 - nobody publishes with one store what another staged
        content, partition = staged.content(), staged.partition
        digest = xxhash.xxh3_128_hexdigest(content)
        record = replace(record, digest=digest, size_bytes=content.size, recorded_at=self._now())
        with self._shelves.lock:
            shelf = self._shelf(partition)
            before = None if shelf.head is None else shelf.head[0]
            if before is not None and before.digest == digest:
                commit = replace(before, record=replace(record, unchanged=True))
                shelf.commits[-1] = (commit, shelf.commits[-1][1])
                self._prune(shelf)
                return Published(commit, unchanged=True)
            if (None if before is None else before.version) != seen.version:
                raise PartitionConflict(
                    f"{partition}: another run published this partition after this run first looked at it. Nothing "
                    "was replaced; run the step again from its inputs."
                )
            uri = f"{self.uri}/{hive_path(partition)}/{FILE_NAME}"
            version = Version(str(next(self._shelves.versions)))
            record = replace(record, unchanged=False)
            commit = Commit(partition, version, digest, content.size, self._published_at(before), uri, record)
            shelf.commits = [each for each in shelf.commits if each[0].digest != digest]
            shelf.commits.append((commit, content))
            self._prune(shelf)
        return Published(commit, unchanged=False)

    def history(self, partition: Partition) -> list[Commit]:
        """Commits that were replaced and are still kept, the newest first."""
        return [commit for commit, _ in reversed(self._shelf(partition).commits[:-1])]

    def restore(self, partition: Partition, digest: str) -> Published:
        """Publish a kept commit again.

        Raises:
            PartitionMissing: no kept commit has this digest.
        """
        seen = self.look([partition])[partition]
        kept = {commit.digest: (commit, content) for commit, content in self._shelf(partition).commits[:-1]}
        if digest not in kept:
            raise PartitionMissing(
                f"{partition}: no commit {digest} is kept. Kept: {', '.join(reversed(kept)) or 'none'}."
            )
        commit, content = kept[digest]
        with self.stage(partition) as staged:
            staged.sink().write(content)
            return self.publish(staged, commit.record or Record(), seen=seen)

    def sweep(self, table: str) -> list[str]:
        """Delete nothing: what is staged ends with its writer."""
        check_table(table)
        return []

    def write_page(self, name: str, day: date, page: str) -> str:
        """Put a page in the place of the one before it."""
        uri = f"{self.uri}/{page_path(name, day)}"
        self._shelves.pages[uri] = page
        return uri

    def _shelf(self, partition: Partition) -> _Shelf:
        check_table(partition.table)
        with self._shelves.lock:
            return self._shelves.partitions.setdefault(partition, _Shelf())

    def _published_at(self, before: Commit | None) -> datetime:
        """Of a partition they only grow, whatever the clock does."""
        return self._now() if before is None else max(self._now(), before.published_at)

    def _prune(self, shelf: _Shelf) -> None:
        del shelf.commits[: -self.history_limit - 1]
