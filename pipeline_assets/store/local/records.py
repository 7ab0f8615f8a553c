"""Records beside the data: `{root}/_records/{table}/dt=YYYY-MM-DD.json`, one small file a partition.

A publish is two renames: of the records, where that of the commit to come stands beside the head's, then of the data.
Who is killed between the two leaves a head that `current` speaks of, who is killed after them one that `next` does: the
version says which. So nothing has to be written after the data, as publishes of a partition wait for each other here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from pipeline_assets.codec import codec
from pipeline_assets.partition import Partition
from pipeline_assets.record import Record
from pipeline_assets.store.files import fsync, replace_file
from pipeline_assets.store.protocol import Version, check_table

FOLDER = "_records"


@dataclass(frozen=True, slots=True)
class PartitionRecords:
    """What is known of how one partition's commits were made.

    Args:
        current: of the head when this was written.
        next: of the commit that was then to take its place.
        kept: of replaced commits, by the hash of their file.
    """

    current: Record | None = None
    next: Record | None = None
    kept: Mapping[str, Record] = field(default_factory=dict)
    format: Literal[2] = 2

    def of_head(self, version: Version) -> Record | None:
        """The record of the head that has this version; None if none names it."""
        return next((each for each in (self.next, self.current) if each and each.version == version), None)

    def of_file(self, file: str) -> Record | None:
        """The record of a commit whose file has this hash; None if none names it."""
        return next((each for each in self if each.file == file), None)

    def kept_of(self, files: Collection[str]) -> dict[str, Record]:
        """What is known of commits whose files have these hashes."""
        return {file: record for file in files if (record := self.of_file(file)) is not None}

    def __iter__(self) -> Iterator[Record]:
        """All of them, the newest first."""
        yield from (each for each in (self.next, self.current) if each is not None)
        yield from self.kept.values()


@dataclass(frozen=True, slots=True)
class RecordsOfFormat1:
    """As they were written before there were digests of rows: a digest was the hash of the file.

    Args:
        version: of the head that `current` speaks of.
        kept: by digest.
    """

    version: Version
    current: Record
    kept: Mapping[str, Record]
    format: Literal[1]

    def adopted(self) -> PartitionRecords:
        """The same in today's form."""
        kept = {digest: _adopted(each, digest) for digest, each in self.kept.items()}
        current = replace(_adopted(self.current, self.current.digest), version=self.version)
        return PartitionRecords(current, kept=kept)


def _adopted(record: Record, file: str | None) -> Record:
    """With the oldest moments that are known in the place of those that were not recorded."""
    return replace(record, file=file, changed_at=record.recorded_at, first_at=record.recorded_at)


def path_of(root: Path, partition: Partition) -> Path:
    """Where the records of a partition are."""
    check_table(partition.table)
    return root / FOLDER / partition.table / f"dt={partition.key.isoformat()}.json"


def read_records(path: Path) -> PartitionRecords:
    """The records of a partition; empty if there are none, or none that can be read."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return PartitionRecords()
    with suppress(ValidationError):
        return codec(PartitionRecords).validate_json(content)
    with suppress(ValidationError):
        return codec(RecordsOfFormat1).validate_json(content).adopted()
    return PartitionRecords()


def write_records(path: Path, records: PartitionRecords) -> None:
    """Put the records in the place of those before them, for good: the data may name them from now on."""
    replace_file(path, codec(PartitionRecords).dump_json(records), durable=True)
    fsync(path.parent)
