"""Records beside the data: `{root}/_records/{table}/dt=YYYY-MM-DD.json`, one small file a partition.

It holds the record of the head and those of the commits that `_history` keeps. Each names the commit that it speaks of;
one of another commit than the head is no record of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from pipeline_assets.codec import codec
from pipeline_assets.partition import Partition
from pipeline_assets.record import Record
from pipeline_assets.store.files import make_folder, replace_file
from pipeline_assets.store.protocol import Version, check_table

FOLDER = "_records"
FORMAT = 1
"""Another one when a file of before can no longer be read as it was meant."""


@dataclass(frozen=True, slots=True)
class PartitionRecords:
    """What is known of how one partition's commits were made.

    Args:
        version: of the head that `current` speaks of.
        kept: by digest.
    """

    version: Version
    current: Record
    kept: Mapping[str, Record] = field(default_factory=dict)
    format: int = FORMAT

    def followed_by(self, version: Version, record: Record, *, kept: Collection[str]) -> PartitionRecords:
        """What is known once another commit is the head, or the same one was recorded again.

        Args:
            kept: digests of the commits that are still there.
        """
        known = dict(self.kept)
        if self.current.digest is not None:
            known[self.current.digest] = self.current
        return PartitionRecords(version, record, {digest: each for digest, each in known.items() if digest in kept})


def read_records(root: Path, partition: Partition) -> PartitionRecords | None:
    """The records of a partition; None if there are none, or none that this version can read."""
    try:
        found = codec(PartitionRecords).validate_json(_path(root, partition).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return found if found.format == FORMAT else None


def write_records(root: Path, partition: Partition, records: PartitionRecords) -> None:
    """Put the records in the place of those before them. Nothing is judged by them yet, so they are not fsynced."""
    path = _path(root, partition)
    make_folder(path.parent)
    replace_file(path, codec(PartitionRecords).dump_json(records))


def _path(root: Path, partition: Partition) -> Path:
    check_table(partition.table)
    return root / FOLDER / partition.table / f"dt={partition.key.isoformat()}.json"
