"""Digests of rows: equal for equal rows, however they are held, and for no others."""

from __future__ import annotations

import io
from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.store.parquet import rows_digest
from pipeline_assets.store.row_digest import RowDigest

WHOLE = pa.table(
    {
        "integer": pa.array([1, None, 3, 4]),
        "text": pa.array(["a", None, "", "éé"]),
        "large": pa.array(["a", None, "", "éé"], pa.large_string()),
        "bytes": pa.array([b"a", None, b"", b"\0"]),
        "view": pa.array(["a", None, "", "longer than twelve bytes"], pa.string_view()),
        "money": pa.array([Decimal("1.5"), None, None, Decimal(-2)], pa.decimal128(18, 4)),
        "flag": pa.array([True, None, False, True]),
        "moment": pa.array([datetime(2020, 1, 1, tzinfo=UTC), None, None, None], pa.timestamp("us", "UTC")),
        "day": pa.array([date(2020, 1, 1), None, None, date(1969, 7, 20)]),
        "list": pa.array([[1, None], None, [], [3]]),
        "words": pa.array([["a", "bc"], None, [], [None]]),
        "pair": pa.array([[1, 2], None, [3, 4], [5, 6]], pa.list_(pa.int32(), 2)),
        "struct": pa.array([{"x": 1, "y": "a"}, None, {"x": None, "y": None}, {"x": 2, "y": "b"}]),
        "map": pa.array([[("a", 1)], None, [], [("b", None)]], pa.map_(pa.string(), pa.int64())),
        "nothing": pa.nulls(4),
        "float": pa.array([1.5, None, float("nan"), -0.0]),
        "word": pa.array(["a", "b", None, "a"]).dictionary_encode(),
        "code": pa.array([b"abc", None, b"xyz", b"123"], pa.binary(3)),
    }
)


def digest_of(tables: Iterable[pa.Table], schema: pa.Schema = WHOLE.schema) -> str:
    digest = RowDigest(schema)
    for table in tables:
        digest.add(table)
    return digest.text()


@given(st.lists(st.integers(0, 4)))
def test_batches_do_not_show(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), 4]
    parts = [WHOLE.slice(first, last - first) for first, last in pairwise(edges)]

    assert digest_of(parts) == digest_of([WHOLE])
    assert digest_of([pa.concat_tables([WHOLE.slice(1), *parts]).slice(3)]) == digest_of([WHOLE])


@pytest.mark.parametrize("column", WHOLE.column_names)
def test_another_value_is_another_digest(column: str) -> None:
    values, at = WHOLE[column].to_pylist(), WHOLE.column_names.index(column)
    found = set()
    for row in range(4):
        for other in range(4):
            changed = pa.array([*values[:row], values[other], *values[row + 1 :]], WHOLE.schema.field(column).type)
            table = WHOLE.set_column(at, WHOLE.schema.field(column), changed)
            assert (digest_of([table]) == digest_of([WHOLE])) == (repr(values[row]) == repr(values[other]))
            found.add(digest_of([table]))
    assert len(found) > 1 or column == "nothing"


def test_what_lies_behind_a_null_does_not_show() -> None:
    valid = pa.py_buffer(b"\x05")  # the first and the third
    numbers, others = (
        pa.Array.from_buffers(pa.int64(), 3, [valid, pa.array(each).buffers()[1]]) for each in ([1, 7, 3], [1, 8, 3])
    )
    texts, short = (
        pa.Array.from_buffers(pa.string(), 3, [valid, *pa.array(each).buffers()[1:]])
        for each in (["a", "hidden", "c"], ["a", "", "c"])
    )

    assert numbers.equals(others)
    assert texts.equals(short)
    schema = pa.schema([("number", pa.int64()), ("text", pa.string())])
    digests = {digest_of([pa.table([*each], schema)], schema) for each in ((numbers, texts), (others, short))}
    assert len(digests) == 1


def test_a_file_has_the_digest_of_the_rows_that_were_written() -> None:
    for groups in (1, 2, 4):
        file = io.BytesIO()
        pq.write_table(WHOLE, file, row_group_size=groups)

        assert rows_digest(pa.BufferReader(file.getvalue())) == digest_of([WHOLE])
    assert rows_digest(pa.BufferReader(b"no Parquet")) is None
    assert rows_digest(pa.BufferReader(file.getvalue()[: len(file.getvalue()) // 2])) is None


def test_names_types_and_nullability_of_columns_are_part_of_it() -> None:
    numbers = pa.array([1, 2])
    fields = [
        pa.field("n", pa.int64()),
        pa.field("m", pa.int64()),
        pa.field("n", pa.int64(), nullable=False),
        pa.field("n", pa.uint64()),
        pa.field("n", pa.timestamp("us")),
        pa.field("n", pa.timestamp("us", "UTC")),
    ]
    schemas = [pa.schema([each]) for each in fields]
    digests = {digest_of([pa.table([numbers.cast(each.field(0).type)], each)], each) for each in schemas}

    assert len(digests) == len(fields)
    assert RowDigest(schemas[0], contract_version="2").text() != RowDigest(schemas[0]).text()


def test_it_is_the_same_in_every_release() -> None:
    """Lakes hold such digests: another way to make them needs another name than rows1."""
    assert digest_of([WHOLE]) == "rows1:6426161cd09a30eb7738d77226875574"
