"""Two files of one table: against a count by hand, and for every type that Parquet keeps."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.store.row_diff import RowComparison, RowDiff, Total, TypeChange, ValueChange, row_comparison
from pipeline_assets_tests.support.tables import KINDS


@pytest.fixture(scope="module")
def rows() -> Iterator[RowComparison]:
    with row_comparison() as comparison:
        yield comparison


def file_of(table: pa.Table) -> pa.NativeFile:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=3)
    return pa.BufferReader(sink.getvalue())


def compared(rows: RowComparison, base: pa.Table, other: pa.Table, *key: str) -> RowDiff:
    return rows.compare(file_of(base), file_of(other), key)


def counts(found: RowDiff) -> tuple[int, int, int | None]:
    return found.added, found.removed, found.changed


SCHEMA = pa.schema([("k", pa.int64()), ("x", pa.float64()), ("s", pa.string()), ("d", pa.decimal128(18, 4))])
VALUES = st.tuples(
    st.sampled_from([None, 1, 2, 3]),
    st.sampled_from([None, 0.0, -0.0, 1.5, math.nan, math.inf]),
    st.sampled_from([None, "", "a"]),
    st.sampled_from([None, Decimal(0), Decimal("1.0001")]),
)
LISTS = st.lists(VALUES, max_size=8)
UNIQUE = st.lists(VALUES, max_size=8, unique_by=lambda row: row[0])


def table_of(drawn: list[tuple[Any, ...]]) -> pa.Table:
    return pa.table([list(column) for column in zip(*drawn, strict=True)] or [[]] * len(SCHEMA), schema=SCHEMA)


def plain(value: Any) -> Any:
    """A value that equals another one by `==` if, and only if, the comparison takes them for equal."""
    return "NaN" if isinstance(value, float) and math.isnan(value) else value


def bag(drawn: list[tuple[Any, ...]]) -> Counter[tuple[Any, ...]]:
    return Counter(tuple(plain(value) for value in row) for row in drawn)


@given(LISTS, LISTS)
def test_rows_without_a_key_are_compared_as_bags(
    rows: RowComparison, base: list[tuple[Any, ...]], other: list[tuple[Any, ...]]
) -> None:
    found = compared(rows, table_of(base), table_of(other))
    assert counts(found) == ((bag(other) - bag(base)).total(), (bag(base) - bag(other)).total(), None)


@given(LISTS, LISTS)
def test_with_a_key_what_is_left_of_it_on_both_sides_changed(
    rows: RowComparison, base: list[tuple[Any, ...]], other: list[tuple[Any, ...]]
) -> None:
    gone: Counter[Any] = Counter(row[0] for row in (bag(base) - bag(other)).elements())
    came: Counter[Any] = Counter(row[0] for row in (bag(other) - bag(base)).elements())
    found = compared(rows, table_of(base), table_of(other), "k")
    assert counts(found) == ((came - gone).total(), (gone - came).total(), (gone & came).total())


@given(UNIQUE, UNIQUE)
def test_changed_values_are_counted_by_column(
    rows: RowComparison, base: list[tuple[Any, ...]], other: list[tuple[Any, ...]]
) -> None:
    old, new = ({row[0]: [plain(value) for value in row] for row in drawn} for drawn in (base, other))
    expected = {
        name: sum(old[key][index] != new[key][index] for key in old.keys() & new.keys())
        for index, name in enumerate(SCHEMA.names)
    }
    found = compared(rows, table_of(base), table_of(other), "k")
    assert {name: column.changed for name, column in found.columns.items()} == expected


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_type_equals_itself_and_differs_from_another_value(rows: RowComparison, kind: pa.DataType) -> None:
    values = [KINDS[kind][0], KINDS[kind][-2 if pa.types.is_floating(kind) else -1], None]
    numbers = [1, 2, 3]
    base = pa.table({"n": numbers, "c": pa.array(values, kind)})
    shuffled = pa.concat_tables([base.slice(2), base.slice(0, 2)])
    assert counts(compared(rows, base, shuffled)) == (0, 0, None)
    assert counts(compared(rows, base, shuffled, "n")) == (0, 0, 0)

    other = pa.table({"n": numbers, "c": pa.array([values[1], values[1], None], kind)})
    found = compared(rows, base, other, "n")
    assert (counts(found), found.columns["c"].changed) == ((0, 0, 1), 1)
    assert counts(compared(rows, base, other)) == (1, 1, None)


@pytest.mark.parametrize(
    ("kind", "last_digit"),
    [(pa.decimal256(76, 4), Decimal("0.0001")), (pa.duration("ns"), 1), (pa.timestamp("ns", "UTC"), 1)],
    ids=str,
)
def test_large_values_differ_in_their_last_digit(rows: RowComparison, kind: pa.DataType, last_digit: Any) -> None:
    base, other = (pa.table({"n": [1], "c": pa.array([10**18 + each], kind)}) for each in (0, last_digit))
    assert counts(compared(rows, base, other, "n")) == (0, 0, 1)


def test_a_changed_value_is_shown_with_its_key_old_and_new(rows: RowComparison) -> None:
    moment = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    base = pa.table({"a": ["x", "y"], "b": [1, None], "at": pa.array([moment, moment], pa.timestamp("us", "UTC"))})
    other = base.set_column(2, "at", pa.array([moment, None], pa.timestamp("us", "UTC")))
    found = compared(rows, base, other, "a", "b")
    assert found.columns["at"].examples == (ValueChange("a=y, b=null", "2026-03-29 01:30:00+00", None),)


def test_rows_that_come_and_go_are_shown_by_their_key_or_whole(rows: RowComparison) -> None:
    base = pa.table({"a": [1, 2], "b": ["x", None]})
    other = pa.table({"a": [1, 3], "b": ["x", "z"]})
    keyed, whole = compared(rows, base, other, "a"), compared(rows, base, other)
    assert (keyed.added_rows, keyed.removed_rows) == (("a=3",), ("a=2",))
    assert (whole.added_rows, whole.removed_rows) == (("a=3, b=z",), ("a=2, b=null",))


def test_only_a_few_examples_are_kept(rows: RowComparison) -> None:
    base = pa.table({"a": range(20), "b": [0] * 20})
    other = pa.table({"a": range(10, 30), "b": [1] * 20})
    found = compared(rows, base, other, "a")
    assert counts(found) == (10, 10, 10)
    assert [each.row for each in found.columns["b"].examples] == ["a=10", "a=11", "a=12"]
    assert (found.added_rows, found.removed_rows) == (("a=20", "a=21", "a=22"), ("a=0", "a=1", "a=2"))


def test_totals_are_of_all_rows_and_of_finite_values(rows: RowComparison) -> None:
    base = pa.table({"n": [1, 2, None], "x": [0.5, math.nan, math.inf], "s": ["a", "b", "c"]})
    other = pa.table({"n": [1, 2, 4], "x": [0.5, 1.0, None], "s": ["a", "b", "c"]})
    found = compared(rows, base, other).columns
    assert (found["n"].base, found["n"].other) == (Total(2, 3), Total(3, 7))
    assert (found["x"].base, found["x"].other) == (Total(1, 0.5), Total(2, 1.5))
    assert (found["s"].base, found["s"].other) == (None, None)


def test_decimals_are_added_exactly_and_a_sum_that_is_too_large_is_none(rows: RowComparison) -> None:
    large = Decimal("9" * 34 + ".0001")
    kind = pa.decimal128(38, 4)
    base = pa.table({"d": pa.array([large, Decimal("0.0001")], kind)})
    other = pa.table({"d": pa.array([large, large], kind)})
    column = compared(rows, base, other).columns["d"]
    assert column.base == Total(2, Decimal("9" * 34 + ".0002"))
    assert column.other == Total(2, None)


def test_no_rows_differ_from_some_by_these(rows: RowComparison) -> None:
    some = table_of([(1, 1.0, "a", None)])
    none = some.slice(0, 0)
    assert counts(compared(rows, none, some, "k")) == (1, 0, 0)
    assert counts(compared(rows, some, none, "k")) == (0, 1, 0)
    assert counts(compared(rows, none, none, "k")) == (0, 0, 0)


def test_columns_that_came_went_or_have_another_type_are_named(rows: RowComparison) -> None:
    base = pa.table({"k": [1], "gone": ["a"], "n": [1], "t": ["1"]})
    other = pa.table({"k": [1], "n": [1.0], "t": [1], "came": [None]})
    found = compared(rows, base, other, "k")
    assert found.types == (
        TypeChange("gone", "string", None),
        TypeChange("n", "int64", "double"),
        TypeChange("t", "string", "int64"),
        TypeChange("came", None, "null"),
    )
    assert counts(found) == (0, 0, 0)
    assert found.columns.keys() == {"k", "n"}


def test_a_column_that_may_not_be_null_any_more_has_another_type(rows: RowComparison) -> None:
    base, strict = (pa.schema([pa.field("n", pa.int64(), nullable=nullable)]) for nullable in (True, False))
    found = compared(rows, pa.table({"n": [1]}, schema=base), pa.table({"n": [1]}, schema=strict))
    assert found.types == (TypeChange("n", "int64", "int64 not null"),)


def test_numbers_are_compared_across_their_types(rows: RowComparison) -> None:
    base = pa.table({"k": [1, 2], "n": pa.array([1, 2], pa.int32())})
    other = pa.table({"k": [1, 2], "n": pa.array([Decimal("1.00"), Decimal("2.50")], pa.decimal128(9, 2))})
    found = compared(rows, base, other, "k")
    assert (counts(found), found.columns["n"].changed) == ((0, 0, 1), 1)


def test_text_is_compared_across_its_types(rows: RowComparison) -> None:
    base = pa.table({"k": [1, 2], "t": pa.array(["a", "b"]).dictionary_encode()})
    other = pa.table({"k": [1, 2], "t": pa.array(["a", "c"], pa.large_string())})
    found = compared(rows, base, other, "k")
    assert (counts(found), found.columns["t"].changed) == ((0, 0, 1), 1)


def test_a_moment_and_a_local_time_are_not_compared(rows: RowComparison) -> None:
    base = pa.table({"k": [1], "at": pa.array([0], pa.timestamp("us"))})
    other = pa.table({"k": [1], "at": pa.array([1], pa.timestamp("us", "UTC"))})
    found = compared(rows, base, other, "k")
    assert counts(found) == (0, 0, 0)
    assert set(found.columns) == {"k"}
    assert len(found.types) == 1


def test_a_key_that_one_file_lacks_is_none(rows: RowComparison) -> None:
    assert counts(compared(rows, pa.table({"a": [1], "b": [1]}), pa.table({"b": [2]}), "a")) == (1, 1, None)


def test_files_without_a_common_column_have_no_common_row(rows: RowComparison) -> None:
    assert counts(compared(rows, pa.table({"a": [1, 2]}), pa.table({"b": [1]}))) == (1, 2, None)


def test_columns_are_told_apart_by_case_and_may_have_any_name(rows: RowComparison) -> None:
    base = pa.table({"a": [1], "A": [1], 'a "quoted", name': [1], "side": [1], "copies": [1]})
    other = base.set_column(1, "A", pa.array([2]))
    found = compared(rows, base, other, 'a "quoted", name')
    assert {name: column.changed for name, column in found.columns.items() if column.changed} == {"A": 1}
