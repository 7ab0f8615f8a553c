"""Small commits: bytes for tests of the store alone, Parquet where readers look into them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from pathlib import Path

import pyarrow as pa

from pipeline_assets.partition import Partition
from pipeline_assets.store import LocalStore, Published, Version
from pipeline_assets.store.parquet import PartitionWriter

DAY = date(2026, 6, 10)
SALES = Partition("sales", DAY)
COMMIT_ROWS = 500


def publish_bytes(store: LocalStore, partition: Partition, data: bytes, *, expected: Version | None) -> Published:
    """Stage the bytes and publish them over `expected`."""
    with store.stage(partition) as staged:
        staged.path.write_bytes(data)
        return store.publish(staged, expected=expected)


def overwrite(store: LocalStore, partition: Partition, data: bytes) -> Published:
    """Publish the bytes over whatever is there."""
    return publish_bytes(store, partition, data, expected=store.version(partition))


def publish_table(store: LocalStore, partition: Partition, rows: pa.Table, *, expected: Version | None) -> Published:
    """Write the rows as Parquet and publish them over `expected`."""
    with store.stage(partition) as staged:
        writer = PartitionWriter(staged, rows.schema)
        writer.write(rows)
        writer.close()
        return store.publish(staged, expected=expected)


def commit_rows(number: int) -> pa.Table:
    """Rows that tell which commit they are of, each of them."""
    return pa.table({"row": pa.array(range(COMMIT_ROWS), pa.int64()), "commit": pa.array([number] * COMMIT_ROWS)})


def commit_number(rows: pa.Table) -> int:
    """The commit that the rows are of; they are all there, and of one commit."""
    assert rows["row"].to_pylist() == list(range(COMMIT_ROWS))
    (number,) = set(rows["commit"].to_pylist())
    assert isinstance(number, int)
    return number


def files_below(root: Path) -> set[str]:
    """Every file below a folder, as paths relative to it."""
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def staged_files(roots: Iterable[Path]) -> list[Path]:
    """What lies in the staging folders of stores."""
    return [path for root in roots for path in (root / "_staging").rglob("*") if path.is_file()]
