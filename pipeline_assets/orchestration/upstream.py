"""Reading upstream partitions: pinned, in the form that the reader asked for, each once per run where it fits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline_assets.errors import PartitionMissing
from pipeline_assets.orchestration.frames import FrameKind, to_pandas
from pipeline_assets.store import Partition
from pipeline_assets.store.parquet import read_batches, read_table, uncompressed_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date

    from pipeline_assets.store import Commit, LocalStore, Pinned

KEPT_BYTES = 128 << 20
"""Decoded partitions that are kept for the next day of a range; a window of small days fits, a huge day streams."""
DAY_COLUMN = "dt"


@dataclass(frozen=True, slots=True)
class Read:
    """What one day was given of one upstream table."""

    frame: Any
    commits: dict[date, Commit]
    missing: list[date]


@dataclass(slots=True)
class Upstream:
    """An upstream table as a daily asset sees it: nothing is read before a day asks for it.

    A partition that was read once in a run stays pinned to that commit while later days may ask for it.
    """

    store: LocalStore
    table: str
    _pinned: dict[date, Pinned] = field(default_factory=dict)
    _decoded: dict[date, pa.Table] = field(default_factory=dict)

    def read(self, day: date, days: Sequence[date], kind: FrameKind) -> Read:
        """Rows of `days`, ascending by day, for the downstream `day`; of several days with their day as column `dt`.

        Raises:
            PartitionMissing: `day` itself has not been computed.
        """
        self._forget_before(min(days))
        found = [each for each in days if self._pin(each) is not None]
        if day not in found:
            msg = (
                f"{Partition(self.table, day)} has not been computed and is needed for {day}. "
                f"Materialize {self.table} for {day} first, or together with this asset."
            )
            raise PartitionMissing(msg)
        commits = {each: self._pinned[each].commit for each in found}
        missing = [each for each in days if each not in commits]
        with_day = len(days) > 1
        if kind is FrameKind.READER:
            return Read(self._stream(found, with_day=with_day), commits, missing)
        tables = [_with_day(self._table(each), each) if with_day else self._table(each) for each in found]
        table = pa.concat_tables(tables)
        return Read(to_pandas(table) if kind is FrameKind.DATAFRAME else table, commits, missing)

    def close(self) -> None:
        """Let go of every pinned commit."""
        for pinned in self._pinned.values():
            pinned.close()
        self._pinned.clear()
        self._decoded.clear()

    def _forget_before(self, first: date) -> None:
        for day in [day for day in self._pinned if day < first]:
            self._pinned.pop(day).close()
            self._decoded.pop(day, None)

    def _pin(self, day: date) -> Pinned | None:
        if day not in self._pinned:
            pinned = self.store.open(Partition(self.table, day))
            if pinned is None:
                return None
            self._pinned[day] = pinned
        return self._pinned[day]

    def _table(self, day: date) -> pa.Table:
        if day in self._decoded:
            return self._decoded[day]
        table = read_table(self._pinned[day].file)
        if sum(kept.nbytes for kept in self._decoded.values()) + table.nbytes <= KEPT_BYTES:
            self._decoded[day] = table
        return table

    def _stream(self, days: Sequence[date], *, with_day: bool) -> pa.RecordBatchReader:
        def tables() -> Iterator[tuple[date, pa.Table]]:
            for day in days:
                if day in self._decoded or uncompressed_bytes(self._pinned[day].file) <= KEPT_BYTES // 4:
                    yield day, self._table(day)
                else:
                    for batch in read_batches(self._pinned[day].file):
                        yield day, pa.Table.from_batches([batch])

        schema = read_batches(self._pinned[days[0]].file).schema
        schema = schema.append(pa.field(DAY_COLUMN, pa.date32())) if with_day else schema
        return pa.RecordBatchReader.from_batches(
            schema,
            (
                batch
                for day, table in tables()
                for batch in (_with_day(table, day) if with_day else table).cast(schema).to_batches()
            ),
        )


def _with_day(table: pa.Table, day: date) -> pa.Table:
    if DAY_COLUMN in table.column_names:
        return table
    return table.append_column(DAY_COLUMN, pa.repeat(pa.scalar(day, pa.date32()), table.num_rows))
