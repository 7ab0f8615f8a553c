"""Reading upstream partitions: pinned, in the form that the reader asked for, each once per run where it fits."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pyarrow as pa

from pipeline_assets.errors import ContractBroken, PartitionMissing
from pipeline_assets.orchestration.partition.frames import FrameKind, to_pandas
from pipeline_assets.partition import Partition
from pipeline_assets.rules.windows import Window
from pipeline_assets.store import Pinned, Store
from pipeline_assets.store.parquet import read_batches, read_table, uncompressed_bytes, undamaged, undamaged_batches

KEPT_BYTES = 128 << 20
"""Decoded partitions that are kept for the next day of a range; a window of small days fits, a huge day streams."""
DAY_COLUMN = "dt"


@dataclass(frozen=True, slots=True)
class Inputs:
    """Which commits of one upstream table one day was made from, and which days of the window had none."""

    digests: Mapping[date, str]
    missing: Sequence[date]


@dataclass(frozen=True, slots=True)
class InputRows:
    """The rows that one day was given of one upstream table."""

    frame: Any
    inputs: Inputs


@dataclass(slots=True)
class Upstream:
    """An upstream table as a daily asset sees it: nothing is read before a day asks for it.

    A partition that was read once in a run stays pinned to that commit while later days may ask for it.
    """

    store: Store
    table: str
    _pinned: dict[date, Pinned] = field(default_factory=dict)
    _decoded: dict[date, pa.Table] = field(default_factory=dict)

    def read(self, day: date, window: Window, kind: FrameKind, history: tuple[date, date]) -> InputRows:
        """Read the window of the downstream `day`, ascending by day; several days have theirs as column `dt`.

        Args:
            history: first day, before which nothing is read; and the last day that is over: a later one is not missing.

        Raises:
            PartitionMissing: none of the days has been computed.
            PartitionDamaged: the file of one cannot be read.
            ContractBroken: the days differ in the type of a column.
        """
        first, last = history
        days = [each for each in window.upstream_of(day) if each >= first]
        self._forget_before(min(days))
        found = [each for each in days if self._pin(each) is not None]
        if not found:
            raise PartitionMissing(
                f"{Partition(self.table, day)} has not been computed and is needed for {day}. "
                f"Materialize {self.table} for {day} first, or together with this asset."
            )
        inputs = Inputs(
            {each: self._pinned[each].commit.digest for each in found},
            [each for each in days if each not in found and each <= last],
        )
        schema = common_schema(self.table, {each: self._schema(each) for each in found})
        if not window.is_single_day and DAY_COLUMN not in schema.names:
            schema = schema.append(pa.field(DAY_COLUMN, pa.date32()))
        if kind is FrameKind.READER:
            return InputRows(pa.RecordBatchReader.from_batches(schema, self._batches(found, schema)), inputs)
        table = pa.concat_tables([_as(self._table(each), each, schema) for each in found])
        return InputRows(to_pandas(table) if kind is FrameKind.DATAFRAME else table, inputs)

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

    def _schema(self, day: date) -> pa.Schema:
        if day in self._decoded:
            return self._decoded[day].schema
        with self._undamaged(day):
            return read_batches(self._pinned[day].file).schema

    def _undamaged(self, day: date) -> AbstractContextManager[None]:
        return undamaged(Partition(self.table, day))

    def _table(self, day: date) -> pa.Table:
        if day in self._decoded:
            return self._decoded[day]
        with self._undamaged(day):
            table = read_table(self._pinned[day].file)
        if sum(kept.nbytes for kept in self._decoded.values()) + table.nbytes <= KEPT_BYTES:
            self._decoded[day] = table
        return table

    def _batches(self, days: Sequence[date], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        for day in days:
            if day in self._decoded or uncompressed_bytes(self._pinned[day].file) <= KEPT_BYTES // 4:
                yield from _as(self._table(day), day, schema).to_batches()
            else:
                for batch in undamaged_batches(Partition(self.table, day), self._pinned[day].file):
                    yield from _as(pa.Table.from_batches([batch]), day, schema).to_batches()


def common_schema(table: str, schemas: Mapping[date, pa.Schema]) -> pa.Schema:
    """Join the columns of all days: a column that some day has not is null there.

    Raises:
        ContractBroken: a column has several types.
    """
    first, *others = schemas.values()
    if all(each.equals(first) for each in others):
        return first
    try:
        unified = pa.unify_schemas([first, *others], promote_options="default")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ContractBroken(
            f"{table}: the partitions {min(schemas)} to {max(schemas)} cannot be read as one table: {error}. "
            f"Materialize the older ones again with the present code."
        ) from error
    return pa.schema([pa.field(each.name, each.type) for each in unified])


def conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Give a table the columns of a common schema, null where it has none."""
    if table.schema.equals(schema):
        return table
    return pa.concat_tables([schema.empty_table(), table], promote_options="default").cast(schema)


def _as(table: pa.Table, day: date, schema: pa.Schema) -> pa.Table:
    if DAY_COLUMN in schema.names and DAY_COLUMN not in table.column_names:
        table = table.append_column(DAY_COLUMN, pa.repeat(pa.scalar(day, pa.date32()), table.num_rows))
    return conformed(table, schema)
