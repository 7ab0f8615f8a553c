"""What a table promises: columns, types, nulls, allowed values, key, order, and which column tells the day.

Checked with Arrow kernels, batch by batch, so that a day larger than memory can be audited while it is written.
(pandera, measured in `benchmarks/contract_vs_pandera.py`, wants the whole frame at once.)
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from pipeline_assets.errors import ContractBroken, PartitionMismatch
from pipeline_assets.rules.calendar import day_bounds

DECIMAL_TO_FLOAT_ERROR = 2.0**-50
"""Arrow's way from a decimal to a float is off by units in the last place: 19.9900 becomes 19.990000000000002."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a contract.

    Args:
        one_of: the only values allowed, when given.
        minimum: the least value allowed, when given.
        description: shown in the Dagster UI.
    """

    name: str
    type: pa.DataType
    nullable: bool = False
    one_of: tuple[str, ...] = ()
    minimum: int | None = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class Contract:
    """Schema and rules of a table.

    Args:
        key: columns that identify a row, not nullable; rows are unique and ascending by them. Without a key rows keep
            the order in which they were returned.
        day_column: date or timestamp column, not nullable, that must lie within the partition's day. A timestamp
            without a zone is read in the partition's.
        version: stands in the file's footer; raise it when the meaning changes and the columns do not.
    """

    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    day_column: str | None = None
    version: int = 1

    def __post_init__(self) -> None:
        named = {column.name: column for column in self.columns}
        marked = [*self.key, *filter(None, [self.day_column])]
        unknown = [name for name in marked if name not in named]
        if unknown or len(named) != len(self.columns):
            raise ValueError(
                "a contract's key and day_column are among its columns, each named once: "
                f"{[column.name for column in self.columns]}, {unknown=}"
            )
        nullable = [name for name in marked if named[name].nullable]
        if nullable:
            raise ValueError(
                f"a null identifies no row and belongs to no day: {', '.join(nullable)} cannot be nullable"
            )
        day_type = named[self.day_column].type if self.day_column else pa.date32()
        if not (pt.is_date(day_type) or pt.is_timestamp(day_type)):
            raise ValueError(f"day_column {self.day_column} is {day_type}; a date or a timestamp can tell the day")

    @property
    def schema(self) -> pa.Schema:
        """Arrow schema of the table."""
        return pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in self.columns])

    def conform(self, rows: pa.Table) -> pa.Table:
        """The same rows with the contract's columns in the contract's order and types, ascending by the key.

        Raises:
            ContractBroken: a column is missing, not foreseen, or holds a value that the contract's type cannot hold
                as it is.
        """
        expected, found = [c.name for c in self.columns], rows.column_names
        missing = [name for name in expected if name not in found]
        extra = [name for name in found if name not in expected]
        if missing or extra or len(found) != len(expected):
            raise ContractBroken(
                f"columns are {found}; missing: {missing or 'none'}, not in the contract: {extra or 'none'}"
            )
        # Nulls are the audit's business: a schema that forbids them would fail here, naming neither column nor row.
        table = pa.table({column.name: _cast(rows[column.name], column) for column in self.columns})
        if self.key and not is_strictly_ascending(table, self.key):
            table = table.sort_by([(name, "ascending") for name in self.key])
        return table


@dataclass(slots=True)
class Audit:
    """Checks the rows of one partition, a day of `timezone`, against its contract as they pass by, and counts them."""

    contract: Contract
    day: date
    timezone: str
    rows: int = 0
    _broken: dict[str, int] = field(default_factory=dict)
    _strangers: int = 0
    _stranger: Any = None
    _last: pa.Table | None = None

    def watch(self, batch: pa.Table) -> pa.Table:
        """Look at the next rows, given in the contract's schema; return them as they are."""
        self.rows += batch.num_rows
        for column in self.contract.columns:
            self._check_values(batch[column.name], column)
        if self.contract.day_column:
            self._check_day(batch[self.contract.day_column])
        if self.contract.key and batch.num_rows:
            self._check_order(batch)
        return batch

    def close(self) -> None:
        """Check what only all rows together show.

        Raises:
            PartitionMismatch: rows belong to another day. ContractBroken: anything else the contract forbids.
        """
        if self._strangers:
            raise PartitionMismatch(
                f"{self._strangers} of {self.rows} rows belong to another day than {self.day} "
                f"({self.timezone}): {self.contract.day_column} is {self._stranger}, for one"
            )
        if self.is_broken:
            raise ContractBroken(
                "; ".join(f"{what} ({count} of {self.rows} rows)" for what, count in self._broken.items() if count)
            )

    @property
    def is_broken(self) -> bool:
        """True once a row was seen that must not be published."""
        return bool(self._strangers or any(self._broken.values()))

    def _note(self, what: str, count: int) -> None:
        # Zeros too: so the rules stand in one order, whichever batch breaks them first.
        self._broken[what] = self._broken.get(what, 0) + count

    def _check_values(self, values: pa.ChunkedArray, column: Column) -> None:
        if not column.nullable:
            self._note(f"{column.name} is null", values.null_count)
        if column.one_of:
            known = pc.is_in(values, pa.array([*column.one_of, None], column.type))
            self._note(f"{column.name} is none of {', '.join(column.one_of)}", _count_false(known))
        if column.minimum is not None:
            enough = pc.greater_equal(values, pa.scalar(column.minimum, column.type))
            self._note(f"{column.name} is below {column.minimum}", _count_false(enough))

    def _check_day(self, values: pa.ChunkedArray) -> None:
        if pt.is_date(values.type):
            inside = pc.equal(values, pa.scalar(self.day, values.type))
        else:
            bounds = day_bounds(self.day, self.timezone)
            if values.type.tz is None:
                bounds = datetime.combine(self.day, time.min), datetime.combine(self.day + timedelta(days=1), time.min)
            start, end = (pa.scalar(bound).cast(values.type) for bound in bounds)
            inside = pc.and_(pc.greater_equal(values, start), pc.less(values, end))
        strangers = _count_false(inside)
        if strangers and self._stranger is None:
            self._stranger = values.filter(pc.invert(inside))[0].as_py()
        self._strangers += strangers

    def _check_order(self, batch: pa.Table) -> None:
        keys = batch.select(list(self.contract.key))
        joined = keys if self._last is None else pa.concat_tables([self._last, keys])
        if not is_strictly_ascending(joined, self.contract.key):
            what = f"rows are not unique and ascending by {', '.join(self.contract.key)}"
            self._note(what, _out_of_order(joined, self.contract.key))
        self._last = keys.slice(keys.num_rows - 1)


def is_strictly_ascending(table: pa.Table, key: Iterable[str]) -> bool:
    """True when every row's key is greater than the key of the row before it: sorted, and unique."""
    return table.num_rows < 2 or _out_of_order(table, key) == 0  # noqa: PLR2004 - one row is in order


def _out_of_order(table: pa.Table, key: Iterable[str]) -> int:
    ascending = None
    for name in reversed(list(key)):
        values = table[name].combine_chunks()
        before, after = values[:-1], values[1:]
        less = pc.less(before, after)
        ascending = less if ascending is None else pc.or_(less, pc.and_(pc.equal(before, after), ascending))
    return _count_false(ascending)


def _count_false(flags: pa.Array | pa.ChunkedArray) -> int:
    """Nulls count as true: a null is reported once, as a null."""
    return int(len(flags) - flags.null_count - (pc.sum(flags).as_py() or 0))


def _cast(values: pa.ChunkedArray, column: Column) -> pa.ChunkedArray:
    try:
        cast = values.cast(column.type)
        altered = _altered(values, cast) if _may_alter(values.type, column.type) else 0
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise ContractBroken(f"{column.name} is {values.type}, the contract says {column.type}: {error}") from error
    if altered:
        raise ContractBroken(
            f"{column.name} is {values.type}, the contract says {column.type}, which would alter {altered} of "
            f"{len(values)} values; round or cast them in the asset if that is meant"
        )
    return cast


def _may_alter(source: pa.DataType, target: pa.DataType) -> bool:
    """True for the casts in which Arrow alters values without a word; the others it refuses by itself."""
    if pt.is_timestamp(source):
        return bool(pt.is_date(target) or pt.is_time(target))
    if pt.is_floating(source):
        return bool(pt.is_floating(target) or pt.is_decimal(target) or pt.is_boolean(target))
    return bool((pt.is_decimal(source) and pt.is_floating(target)) or (pt.is_integer(source) and pt.is_boolean(target)))


def _altered(values: pa.ChunkedArray, cast: pa.ChunkedArray) -> int:
    """How many values do not come back from what they were cast to."""
    back = cast.cast(values.type)
    if not pt.is_floating(values.type):
        return _count_false(pc.equal(back, values))
    before, after = values.cast(pa.float64()), back.cast(pa.float64())
    off_by = pc.abs(pc.subtract(after, before))
    same = pc.less_equal(off_by, pc.multiply(pc.abs(before), DECIMAL_TO_FLOAT_ERROR))
    return _count_false(pc.or_(same, pc.or_(pc.equal(after, before), pc.is_nan(before))))
