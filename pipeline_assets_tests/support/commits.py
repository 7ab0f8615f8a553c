"""Small commits: bytes for tests of the store alone, Parquet where readers look into them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from pathlib import Path

import pyarrow as pa

from pipeline_assets.partition import Partition
from pipeline_assets.record import Record
from pipeline_assets.store import Published, Seen, Store, Version
from pipeline_assets.store.local import LocalStore
from pipeline_assets.store.parquet import PartitionWriter
from pipeline_assets.store.protocol import FILE_NAME, hive_path

DAY = date(2026, 6, 10)
SALES = Partition("sales", DAY)
COMMIT_ROWS = 500


def seen_of(store: Store, partition: Partition) -> Seen:
    """What the store sees of the partition now."""
    return store.look([partition])[partition]


def version_of(store: Store, partition: Partition) -> Version | None:
    """The version of the head; None before the first commit."""
    return seen_of(store, partition).version


def days_of(store: Store, table: str) -> list[date]:
    """Days of the table that have a commit, ascending."""
    return list(store.heads(table))


def path_of(store: Store, partition: Partition) -> Path:
    """Where the file of the partition lies, or will lie, on this machine's disk."""
    assert isinstance(store, LocalStore)
    return store.root / hive_path(partition) / FILE_NAME


def publish_bytes(store: Store, partition: Partition, data: bytes, *, seen: Seen) -> Published:
    """Stage the bytes and publish them over what was seen."""
    with store.stage(partition) as staged:
        with staged.sink() as sink:
            sink.write(data)
        return store.publish(staged, Record(), seen=seen)


def overwrite(store: Store, partition: Partition, data: bytes) -> Published:
    """Publish the bytes over whatever is there."""
    return publish_bytes(store, partition, data, seen=seen_of(store, partition))


def publish_table(store: Store, partition: Partition, rows: pa.Table, *, seen: Seen) -> Published:
    """Write the rows as Parquet and publish them over what was seen."""
    with store.stage(partition) as staged:
        writer = PartitionWriter(staged, rows.schema)
        writer.write(rows)
        writer.close()
        return store.publish(staged, Record(digest=writer.digest), seen=seen)


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
    """Every file below a folder, as paths relative to it; but for records, of which each partition has one."""
    found = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    return {each for each in found if not each.startswith("_records/")}


def staged_files(roots: Iterable[Path]) -> list[Path]:
    """What lies in the staging folders of stores."""
    return [path for root in roots for path in (root / "_staging").rglob("*") if path.is_file()]
