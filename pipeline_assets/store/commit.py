"""The words of the store: which partition, which commit of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import NewType

from pipeline_assets.errors import SettingsError
from pipeline_assets.partition import Partition

Version = NewType("Version", str)
"""What compare-and-swap compares: opaque.

Local: inode, mtime and size, stamped before the rename, so it never comes back. S3: the ETag, which equal bytes give
again. ctime is no part of it: a link moves that.
"""

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


def hive_path(partition: Partition) -> PurePosixPath:
    """Where a partition's folder is below the root of a store.

    Raises:
        SettingsError: a table of that name is none of a store's.
    """
    check_table(partition.table)
    return PurePosixPath(partition.table) / f"dt={partition.key.isoformat()}"


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
