"""Which rows and values differ between two Parquet files of one table.

Rows are compared as bags: a row counts as often as it occurs, whatever the order. Null equals null, NaN equals NaN and
0.0 equals -0.0. With a key, a row that is in one file only and one with the same key in the other are one row that
changed. Memory is bounded: DuckDB works on a stream of each file and spills to disk.
"""

# ruff: noqa: S608 - SQL here is made of our own words and of numbers that stand for columns

from __future__ import annotations

import decimal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.types as pt

from pipeline_assets.store.parquet import read_batches

EXAMPLES = 3
"""Kept of each kind: of a column's values, of rows added, of rows removed."""
MEMORY_LIMIT = "512MB"
"""Of DuckDB; days of a few million rows spill, and take longer."""
SUM_DIGITS = 76
"""Sums of days have 38 digits at most; Python's decimals would round them to 28."""


class Total(NamedTuple):
    """The finite values of a numeric column: nulls, NaN and infinities are left out.

    Args:
        sum: None if it is too large for DuckDB (38 digits).
    """

    values: int
    sum: int | float | Decimal | None

    @property
    def mean(self) -> float | None:
        """None without values, or without a sum."""
        return None if self.sum is None or not self.values else float(self.sum) / self.values

    def plus(self, other: Total) -> Total:
        """Both together. The sum is None once it was too large."""
        values = self.values + other.values
        if self.sum is None or other.sum is None:
            return Total(values, None)
        if isinstance(self.sum, float) or isinstance(other.sum, float):
            return Total(values, float(self.sum) + float(other.sum))
        with decimal.localcontext(prec=SUM_DIGITS):
            return Total(values, self.sum + other.sum)


class ValueChange(NamedTuple):
    """One value that differs. None is null; all else is in DuckDB's words, moments in UTC."""

    row: str
    base: str | None
    other: str | None


class ColumnDiff(NamedTuple):
    """One column that both files have.

    Args:
        changed: rows, of those that changed, in which its value differs.
        base, other: totals over all rows, if it is numeric in both.
    """

    changed: int
    base: Total | None
    other: Total | None
    examples: tuple[ValueChange, ...] = ()


class TypeChange(NamedTuple):
    """A column that is not the same in both schemas. None: it is not there."""

    column: str
    base: str | None
    other: str | None


class RowDiff(NamedTuple):
    """What differs between two files, over the columns that both have in types that compare.

    Args:
        changed: None where there is no key to tell a row that changed from one removed and one added.
        added_rows, removed_rows: a few of them: by their key, or the whole row.
    """

    added: int
    removed: int
    changed: int | None
    columns: dict[str, ColumnDiff]
    types: tuple[TypeChange, ...] = ()
    added_rows: tuple[str, ...] = ()
    removed_rows: tuple[str, ...] = ()


class RowComparison:
    """Compares files, one pair after the other, in one DuckDB."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def compare(self, base: pa.NativeFile, other: pa.NativeFile, key: Sequence[str] = ()) -> RowDiff:
        """Compare two files; a key counts if both have all of its columns in types that compare.

        Raises:
            pyarrow.ArrowInvalid: one of them is not Parquet. duckdb.Error: a type that DuckDB does not know.
        """
        streams = [read_batches(file) for file in (base, other)]
        types = _type_changes(*(stream.schema for stream in streams))
        names = [
            name
            for name in streams[0].schema.names
            if name in streams[1].schema.names
            and _kind(streams[0].schema.field(name).type) == _kind(streams[1].schema.field(name).type)
        ]
        if not names:
            counts = [sum(batch.num_rows for batch in stream) for stream in streams]
            return RowDiff(added=counts[1], removed=counts[0], changed=None, columns={}, types=types)
        # By number: names may be any text, and DuckDB takes `a` and `A` for the same.
        fields = {name: f"c{number}" for number, name in enumerate(names)}
        for table, stream in zip(("base", "other"), streams, strict=True):
            self._load(table, _columns(stream, names))
        self._connection.execute(
            f"CREATE OR REPLACE TEMP TABLE differing AS SELECT {_listed(fields.values())}, sum(side)::BIGINT AS copies "
            "FROM (SELECT *, -1 AS side FROM base UNION ALL SELECT *, 1 AS side FROM other) "
            "GROUP BY ALL HAVING copies <> 0"
        )
        numeric = [name for name in names if _kind(streams[0].schema.field(name).type) == "number"]
        before, after = (self._totals(table, [fields[name] for name in numeric]) for table in ("base", "other"))
        columns = {name: ColumnDiff(0, before.get(each), after.get(each)) for name, each in fields.items()}
        if key and set(key) <= set(names):
            return self._matched(fields, key, columns, types)
        return self._unmatched(fields, columns, types)

    def _unmatched(
        self, fields: dict[str, str], columns: dict[str, ColumnDiff], types: tuple[TypeChange, ...]
    ) -> RowDiff:
        ((added, removed),) = self._rows(
            "SELECT coalesce(sum(copies) FILTER (copies > 0), 0), coalesce(-sum(copies) FILTER (copies < 0), 0) "
            "FROM differing"
        )
        shown = [
            self._examples(fields, f"differing WHERE {which} ORDER BY ALL") for which in ("copies > 0", "copies < 0")
        ]
        return RowDiff(int(added), int(removed), None, columns, types, *shown)

    def _matched(
        self, fields: dict[str, str], key: Sequence[str], columns: dict[str, ColumnDiff], types: tuple[TypeChange, ...]
    ) -> RowDiff:
        """Rows of one key are the same row; of several with one key, the first differing ones are, in their order."""
        keys = {name: fields[name] for name in key}
        order, rest = _listed(keys.values()), _listed(fields.values())
        for table, which in (("gone", "copies < 0"), ("came", "copies > 0")):
            self._connection.execute(
                f"CREATE OR REPLACE TEMP TABLE {table} AS "
                f"SELECT *, row_number() OVER (PARTITION BY {order} ORDER BY {rest}) AS nth "
                f"FROM (SELECT {rest}, unnest(range(abs(copies))) FROM differing WHERE {which})"
            )
        same_key = " AND ".join(f"g.{each} IS NOT DISTINCT FROM c.{each}" for each in (*keys.values(), "nth"))
        sides = ", ".join(f"g.{each} AS g{each}, c.{each} AS c{each}" for each in fields.values())
        self._connection.execute(
            f"CREATE OR REPLACE TEMP TABLE paired AS SELECT {sides}, g.nth IS NULL AS added, c.nth IS NULL AS removed "
            f"FROM gone g FULL JOIN came c ON {same_key}"
        )
        both = "NOT added AND NOT removed"
        values = {name: each for name, each in fields.items() if name not in keys}
        conditions = ["added", "removed", both, *(f"{both} AND {_differs(each)}" for each in values.values())]
        ((added, removed, changed, *by_column),) = self._rows(
            f"SELECT {_listed(f'count(*) FILTER ({each})' for each in conditions)} FROM paired"
        )
        for (name, each), count in zip(values.items(), by_column, strict=True):
            if count:
                columns[name] = columns[name]._replace(changed=count, examples=self._value_changes(keys, each, both))
        shown = []
        for side, which in (("c", "added"), ("g", "removed")):
            of_side = {name: f"{side}{each}" for name, each in keys.items()}
            shown.append(self._examples(of_side, f"paired WHERE {which} ORDER BY {_listed(of_side.values())}"))
        return RowDiff(added, removed, changed, columns, types, *shown)

    def _examples(self, fields: dict[str, str], source: str) -> tuple[str, ...]:
        rows = self._rows(f"SELECT {_texts(fields.values())} FROM {source} LIMIT {EXAMPLES}")
        return tuple(_in_words(fields, row) for row in rows)

    def _value_changes(self, keys: dict[str, str], column: str, both: str) -> tuple[ValueChange, ...]:
        key = [f"g{each}" for each in keys.values()]
        found = self._rows(
            f"SELECT {_texts([f'g{column}', f'c{column}', *key])} FROM paired WHERE {both} AND {_differs(column)} "
            f"ORDER BY {_listed(key)}, g{column}, c{column} LIMIT {EXAMPLES}"
        )
        return tuple(ValueChange(_in_words(keys, row[2:]), row[0], row[1]) for row in found)

    def _totals(self, table: str, columns: Sequence[str]) -> dict[str, Total]:
        if not columns:
            return {}
        counts = ", ".join(f"count({each}) FILTER (isfinite({each}))" for each in columns)
        sums = ", ".join(f"coalesce(sum({each}) FILTER (isfinite({each})), 0)" for each in columns)
        (values,) = self._rows(f"SELECT {counts} FROM {table}")
        try:
            (added,) = self._rows(f"SELECT {sums} FROM {table}")
        except duckdb.OutOfRangeException:
            added = (None,) * len(columns)
        return {each: Total(count, total) for each, count, total in zip(columns, values, added, strict=True)}

    def _load(self, table: str, stream: pa.RecordBatchReader) -> None:
        self._connection.register("stream", stream)
        try:
            self._connection.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT * FROM stream")
        finally:
            self._connection.unregister("stream")

    def _rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql).fetchall()


@contextmanager
def row_comparison() -> Iterator[RowComparison]:
    """A comparison with a DuckDB of its own, whose files on disk go when it ends."""
    with tempfile.TemporaryDirectory(prefix="pipeline-diff-") as spill:
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": MEMORY_LIMIT,
            "temp_directory": spill,
            "preserve_insertion_order": False,
        }
        with duckdb.connect(":memory:", config=config) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            yield RowComparison(connection)


def _type_changes(base: pa.Schema, other: pa.Schema) -> tuple[TypeChange, ...]:
    names = dict.fromkeys([*base.names, *other.names])
    described = [
        (name, *(_described(schema.field(name)) if name in schema.names else None for schema in (base, other)))
        for name in names
    ]
    return tuple(TypeChange(name, old, new) for name, old, new in described if old != new)


def _described(field: pa.Field) -> str:
    return f"{field.type}" if field.nullable else f"{field.type} not null"


def _kind(kind: pa.DataType) -> str:
    """Types of one kind are compared by value; of others, a change of the type is all that is told."""
    if pt.is_dictionary(kind):
        return _kind(kind.value_type)
    if pt.is_integer(kind) or pt.is_floating(kind) or (pt.is_decimal(kind) and not pt.is_decimal256(kind)):
        return "number"
    if pt.is_timestamp(kind):
        return "moment" if kind.tz else "local time"
    kinds = {
        "text": (pt.is_string, pt.is_large_string, pt.is_string_view),
        "bytes": (pt.is_binary, pt.is_large_binary, pt.is_binary_view, pt.is_fixed_size_binary),
        "time": (pt.is_time,),
        "date": (pt.is_date,),
    }
    return next((name for name, tests in kinds.items() if any(test(kind) for test in tests)), str(kind))


def _columns(stream: pa.RecordBatchReader, names: Sequence[str]) -> pa.RecordBatchReader:
    """The named columns, numbered, in types that DuckDB has."""
    kinds = [_for_duckdb(stream.schema.field(name).type) for name in names]
    schema = pa.schema([(f"c{number}", kind) for number, kind in enumerate(kinds)])
    return pa.RecordBatchReader.from_batches(
        schema,
        (
            pa.record_batch(
                [batch[name].cast(field.type) for name, field in zip(names, schema, strict=True)], schema=schema
            )
            for batch in stream
        ),
    )


def _for_duckdb(kind: pa.DataType) -> pa.DataType:
    if pt.is_float16(kind):
        return pa.float32()
    if pt.is_decimal256(kind):
        return pa.string()
    return pa.int64() if pt.is_duration(kind) else kind  # its intervals have no nanoseconds


def _in_words(fields: dict[str, str], row: Sequence[str | None]) -> str:
    return ", ".join(f"{name}={'null' if text is None else text}" for name, text in zip(fields, row, strict=True))


def _listed(columns: Any) -> str:
    return ", ".join(columns)


def _texts(columns: Any) -> str:
    return ", ".join(f"{each}::VARCHAR" for each in columns)


def _differs(column: str) -> str:
    return f"g{column} IS DISTINCT FROM c{column}"
