"""What a store promises, whatever it is made of, and the words that it is asked and answers in.

`testing.store` holds the promises as a suite, to run on one's own store.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from pathlib import PurePosixPath
from typing import NamedTuple, NewType, Protocol

import pyarrow as pa

from pipeline_assets.errors import DefinitionError
from pipeline_assets.partition import Partition
from pipeline_assets.record import FILE_KIND, Record

Version = NewType("Version", str)
"""What compare-and-swap compares: opaque. Local: inode, mtime and size, stamped before the rename, so that it never
comes back. S3: the ETag, which equal bytes give again. ctime is no part of it: a link moves that.
"""
FILE_NAME = "data.parquet"
PAGES = "_reports"

# A leading underscore is the store's own (_history, _staging); "dt=" is a partition.
_TABLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-]*(/[A-Za-z0-9][A-Za-z0-9_\-]*)*")


class Head(NamedTuple):
    """What a listing tells of the current commit of a partition, without reading it."""

    version: Version
    size_bytes: int
    published_at: datetime
    """When it became the head, in UTC."""
    record: Version | None
    """As a look sees it."""

    def is_told_by(self, record: Record) -> bool:
        """Whether a copy of a record speaks of this commit, and is as new as the one beside it."""
        return (self.version, self.record) == (record.version, record.record_version)


class Seen(NamedTuple):
    """What a step saw of a partition when it began: it replaces that, and nothing that came since."""

    version: Version | None
    """Of the head; None before the first commit."""
    record: Version | None
    """Of what is known of how it was made: another one after every publish, of the same rows too. None if nothing."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One published version of one partition."""

    partition: Partition
    version: Version
    digest: str
    """Of its rows, as its record has it; "file1:" and the xxh3_128 of the file's bytes if it has no record."""
    size_bytes: int
    published_at: datetime
    """When it became the head, in UTC."""
    uri: str
    record: Record | None = field(default=None, compare=False)
    """How it was made; None if no record speaks of this commit."""

    def is_of(self, digest: str) -> bool:
        """Whether a digest of its rows, or of its file, is this commit's."""
        known = self.record or Record(digest=self.digest, file=self.digest.removeprefix(FILE_KIND))
        return known.is_of(digest)


@dataclass(frozen=True, slots=True)
class Published:
    """What came of a publish: the head afterwards, and whether it already held exactly these bytes."""

    commit: Commit
    unchanged: bool


class FlawKind(StrEnum):
    """What may be wrong with a partition."""

    DAMAGED = "damaged"  # its bytes are not those of its record, or no Parquet
    UNRECORDED = "unrecorded"  # no record speaks of its head
    GONE = "gone"  # it was published, and is not there
    TORN = "torn"  # tables of one step are of different steps
    RECORD = "record"  # its record cannot be read, or is in the event log alone
    MOVED = "moved"  # its record names another version of the same bytes; each look reads the file
    KEPT = "kept"  # a kept commit has other bytes than it had
    LEFTOVER = "leftover"  # a staged file whose writer is dead
    LOG = "log"  # the event log's copy of its record is an old one, or missing


class Flaw(NamedTuple):
    """Something that does not fit together."""

    kind: FlawKind
    partition: Partition
    told: str
    """What was found, and where."""
    is_mended: bool = False


@dataclass(slots=True)
class Pinned:
    """One commit, held open: it stays readable whatever is published meanwhile."""

    commit: Commit
    file: pa.NativeFile

    def close(self) -> None:
        """Let go of the commit."""
        self.file.close()


class Staged(Protocol):
    """A commit being written aside. It is its writer's until it is published or dropped."""

    @property
    def partition(self) -> Partition:
        """Whose next commit it is to be."""

    def sink(self) -> pa.NativeFile:
        """Give the file to write into, once; it is closed before the commit is read back or published."""

    def source(self) -> pa.NativeFile:
        """Open what was written, for a check."""

    def explained(self) -> AbstractContextManager[None]:
        """Turn what the medium says while the sink is written into StorageFull and StorageRefused."""


class Store(Protocol):
    """Partitions of tables, each one file, replaced whole or not at all. Safe for any number of writers at once.

    Every method raises StorageRefused if the medium cannot be read or written, and DefinitionError for a table whose
    name is none (`check_table`).
    """

    @property
    def uri(self) -> str:
        """Where the store is; two stores of the same uri are one."""

    def check_writable(self) -> None:
        """Write something aside, so that a store that cannot be written is told before any work."""

    def tables(self) -> list[str]:
        """Names of the tables that have a folder, ascending."""

    def heads(self, table: str) -> Mapping[date, Head]:
        """Every day that has a commit, ascending: from listings, with no file read."""

    def head(self, partition: Partition, *, read: bool = False) -> Commit | None:
        """The current commit with its digest and record; None before the first one.

        The file is read if no record names its version: its bytes may be those of a commit that was moved or copied.

        Args:
            read: the file in any case, so that bytes which were changed in place are those of no record.
        """

    def look(self, partitions: Iterable[Partition]) -> Mapping[Partition, Seen]:
        """Note what there is, before a step reads its first input. Cheap: a range of years is looked at."""

    def open(self, partition: Partition) -> Pinned | None:
        """Pin the current commit for reading; None before the first one. The caller closes it."""

    def stage(self, partition: Partition) -> AbstractContextManager[Staged]:
        """Give a place to write the partition's next commit into. On leaving, what was not published is dropped."""

    def publish(self, staged: Staged, record: Record, *, seen: Seen) -> Published:
        """Make the staged file the head if nobody published since that was seen: compare, archive, replace, prune.

        A head that already holds the same rows is left untouched; the record is replaced all the same.

        Args:
            record: how it was made. Its digest is of the rows, None for what is no table: then of the bytes. What the
                store knows better (write id, version, size, times, whether it changed) is filled in.

        Raises:
            PartitionConflict: somebody published since, or the head is another one. Nothing was changed.
            StoreBusy: another process is publishing the same partition for too long.
        """

    def history(self, partition: Partition) -> Sequence[Commit]:
        """Commits that were replaced and are still kept, the newest first."""

    def restore(self, partition: Partition, digest: str) -> Published:
        """Publish a kept commit again, its record as `Record.restored` gives it. What it replaces is archived.

        Raises:
            PartitionMissing: no kept commit has this digest.
            PartitionDamaged: its bytes are not those that were archived.
            PartitionConflict: somebody published meanwhile.
        """

    def sweep(self, table: str) -> list[str]:
        """Delete staged files of the table whose writers are dead, and name them. One in use is never touched."""

    def flaws(self, table: str, *, read: bool, mend: bool) -> Iterator[Flaw]:
        """What of a table's heads, records, history and staged files does not fit together, by day.

        Args:
            read: all files, to compare their bytes with the records.
            mend: what can be without computing anything, and without losing a commit.
        """

    def adopt(self, partition: Partition, record: Record) -> bool:
        """Keep the record of a head that has none, if it is of these bytes; says whether it is."""

    def write_page(self, name: str, day: date, page: str) -> str:
        """Put a page for people in the place of the one before it, if there is one; gives its uri.

        A page is no partition: nothing is computed from it, so there is no history and nobody to conflict with.
        """


def check_table(table: str) -> None:
    """Make sure that a table's name stays below the root of a store and apart from the store's own folders.

    Raises:
        DefinitionError: it does not.
    """
    if not _TABLE.fullmatch(table):
        raise DefinitionError(
            f"table {table!r}: a table is named by letters, digits, '_', '-' and '/', not beginning with '_'"
        )


def hive_path(partition: Partition) -> PurePosixPath:
    """Where a partition's folder is below the root of a store.

    Raises:
        DefinitionError: a table of that name is none of a store's.
    """
    check_table(partition.table)
    return PurePosixPath(partition.table) / f"dt={partition.key.isoformat()}"


def page_path(name: str, day: date) -> PurePosixPath:
    """Where the page of a day is below the folder of pages."""
    return hive_path(Partition(name, day)) / f"{name}.html"
