"""Arrow tables of every type that Parquet keeps, and the same rows in other layouts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from hypothesis import strategies as st

_MOMENT = datetime(2026, 3, 29, 1, 30, 0, 123456)  # noqa: DTZ001 - of columns with and without a zone


def _moments(unit: str, zone: str | None) -> list[datetime]:
    moment = _MOMENT.replace(microsecond=123000) if unit == "ms" else _MOMENT
    return [moment.replace(tzinfo=UTC if zone else None) + timedelta(days=n) for n in (0, 1, -9000)]


def _whole(_: pa.DataType) -> list[Any]:
    return [0, 1, 100]


def _decimals(kind: pa.DataType) -> list[Any]:
    return [Decimal(n).scaleb(-kind.scale) for n in (0, 1, -12345)]


KINDS: dict[pa.DataType, list[Any]] = {
    pa.bool_(): [True, False],
    **{kind: _whole(kind) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())},
    **{kind: _whole(kind) for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())},
    **{kind: [0.0, -0.0, 1.5, float("inf")] for kind in (pa.float16(), pa.float32(), pa.float64())},
    **{
        kind: _decimals(kind)
        for kind in (
            pa.decimal32(9, 2),
            pa.decimal64(18, 4),
            pa.decimal128(5, 2),
            pa.decimal128(18, 4),
            pa.decimal128(19, 4),
            pa.decimal128(38, 4),
            pa.decimal256(76, 4),
        )
    },
    pa.date32(): [date(2026, 6, 10), date(1969, 7, 20), date(9999, 12, 31)],
    pa.time32("ms"): [time(1, 2, 3, 4000), time.min],
    pa.time64("us"): [time(1, 2, 3, 4), time.max],
    pa.time64("ns"): [time(1, 2, 3, 4), time.max],
    **{
        pa.timestamp(unit, zone): _moments(unit, zone)
        for unit in ("ms", "us", "ns")
        for zone in (None, "UTC", "Europe/London")
    },
    **{pa.duration(unit): [timedelta(seconds=5), timedelta(days=-1)] for unit in ("s", "ms", "us", "ns")},
    **{kind: ["", "a", "bb", "täglich 🛒"] for kind in (pa.string(), pa.large_string(), pa.string_view())},
    **{kind: [b"", b"\0", b"\xff\xfe"] for kind in (pa.binary(), pa.large_binary(), pa.binary_view())},
    pa.binary(2): [b"ab", b"\0\0"],
    pa.dictionary(pa.int32(), pa.string()): ["a", "b"],
    pa.list_(pa.int64()): [[], [1, None, 3]],
    pa.list_(pa.string()): [[], ["a", None]],
    pa.struct([("a", pa.int64()), ("b", pa.string())]): [{"a": 1, "b": None}, {"a": None, "b": "x"}],
    pa.map_(pa.string(), pa.int64()): [[], [("a", 1), ("b", None)]],
}
"""Values of each type that Parquet keeps as it is."""

NEIGHBOURS: dict[pa.DataType, tuple[pa.DataType, list[Any]]] = {
    pa.date64(): (pa.date32(), [date(2026, 6, 10)]),
    pa.time32("s"): (pa.time32("ms"), [time(1, 2, 3)]),
    pa.timestamp("s"): (pa.timestamp("ms"), [_MOMENT.replace(microsecond=0)]),
    pa.timestamp("s", "UTC"): (pa.timestamp("ms", "UTC"), [_MOMENT.replace(microsecond=0, tzinfo=UTC)]),
    pa.dictionary(pa.int8(), pa.int64()): (pa.int64(), [1, 2, 1]),
}
"""Types that Parquet does not have: what they are kept as, and some values."""

# Layouts differ where values have buffers of their own; these cover fixed and variable widths.
_LAID_OUT = (
    pa.int64(),
    pa.float64(),
    pa.bool_(),
    pa.decimal128(18, 4),
    pa.decimal128(38, 4),
    pa.timestamp("us", "UTC"),
    pa.string(),
    pa.large_string(),
    pa.dictionary(pa.int32(), pa.string()),
    pa.list_(pa.string()),
)


def column_values(kind: pa.DataType) -> st.SearchStrategy[Any]:
    """One value of a type, or none."""
    return st.none() | st.sampled_from(KINDS[kind])


@st.composite
def tables(draw: st.DrawFn, *, max_rows: int = 20) -> pa.Table:
    """Tables of a few columns in one chunk."""
    kinds = draw(st.lists(st.sampled_from(_LAID_OUT), min_size=1, max_size=4))
    rows = draw(st.integers(0, max_rows))
    columns = [draw(st.lists(column_values(kind), min_size=rows, max_size=rows)) for kind in kinds]
    return pa.table(
        {f"c{n}": pa.array(values, kind) for n, (kind, values) in enumerate(zip(kinds, columns, strict=True))}
    )


def cuts(rows: int) -> st.SearchStrategy[list[int]]:
    """Where to cut rows into pieces, some of them empty: ascending, from 0 to the number of rows."""
    return st.lists(st.integers(0, rows), max_size=5).map(lambda inner: [0, *sorted(inner), rows])


def pieces(table: pa.Table, at: list[int]) -> list[pa.Table]:
    """The table cut into slices."""
    return [table.slice(first, last - first) for first, last in pairwise(at)]


@st.composite
def relaid(draw: st.DrawFn, table: pa.Table) -> pa.Table:
    """The same rows in another layout: chunks, offsets into longer buffers, bitmaps, what lies below nulls."""
    columns = []
    for column in table.columns:
        chunks = []
        at = draw(cuts(table.num_rows))
        for first, last in pairwise(at):
            layout = draw(st.sampled_from(_LAYOUTS))
            chunks.append(layout(column.slice(first, last - first).combine_chunks()))
        columns.append(pa.chunked_array(chunks, column.type))
    return pa.Table.from_arrays(columns, schema=table.schema)


def _as_it_is(array: pa.Array) -> pa.Array:
    return array


def _within_a_longer_one(array: pa.Array) -> pa.Array:
    filler = array.slice(0, 1)
    return pa.concat_arrays([filler, filler, array, filler]).slice(2 * len(filler), len(array))


def _with_a_bitmap_and_values_below_its_nulls(array: pa.Array) -> pa.Array:
    """A bitmap is there even without nulls, and the slots that it hides hold something."""
    if array.null_count == len(array) or pt.is_nested(array.type) or pt.is_dictionary(array.type):
        return array
    shown = array.fill_null(pc.drop_null(array)[0])
    bitmap = array.is_valid().buffers()[1]
    return pa.Array.from_buffers(array.type, len(array), [bitmap, *shown.buffers()[1:]])


def _with_another_dictionary(array: pa.Array) -> pa.Array:
    if not pt.is_dictionary(array.type) or len(array) == 0:
        return array
    words = pa.array(["unused", "b", "a"])
    return pa.DictionaryArray.from_arrays(pc.index_in(array.cast(pa.string()), words), words)


_LAYOUTS: tuple[Callable[[pa.Array], pa.Array], ...] = (
    _as_it_is,
    _within_a_longer_one,
    _with_a_bitmap_and_values_below_its_nulls,
    _with_another_dictionary,
)
