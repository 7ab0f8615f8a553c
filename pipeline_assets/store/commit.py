"""The words of the store: which partition, which commit of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import PurePosixPath
from typing import NewType

from pipeline_assets.errors import SettingsError

Version = NewType("Version", str)
"""What compare-and-swap compares: opaque, never the same again. Local: inode, mtime and size. S3: the ETag."""

# A leading underscore is the store's own (_history, _staging); "dt=" is a partition.
_TABLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-]*(/[A-Za-z0-9][A-Za-z0-9_\-]*)*")


def check_table(table: str) -> None:
    """Make sure that a table's name stays below the root of a store and apart from the store's own folders.

    Raises:
        SettingsError: it does not.
    """
    if not _TABLE.fullmatch(table):
        msg = f"table {table!r}: a table is named by letters, digits, '_', '-' and '/', not beginning with '_'"
        raise SettingsError(msg)


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One day of one table. `table` is a path of names joined by "/"."""

    table: str
    day: date

    def __post_init__(self) -> None:
        check_table(self.table)

    @property
    def folder(self) -> PurePosixPath:
        """Hive path of the partition below the root of a store."""
        return PurePosixPath(self.table) / f"dt={self.day.isoformat()}"

    def __str__(self) -> str:
        return str(self.folder)


@dataclass(frozen=True, slots=True)
class Commit:
    """One published version of one partition."""

    partition: Partition
    digest: str
    """xxh3_128 of the file's bytes, 32 hex digits."""
    size_bytes: int
    published_at: datetime
    """UTC."""
    uri: str


@dataclass(frozen=True, slots=True)
class Published:
    """What came of a publish: the head afterwards, and whether it already held exactly these bytes."""

    commit: Commit
    unchanged: bool
