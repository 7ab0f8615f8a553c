"""Parquet bytes are a function of rows and schema (the store's part of P1), and every reader gets the rows back."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.partition import Partition
from pipeline_assets.rules.contract import Column, Contract
from pipeline_assets.store import parquet
from pipeline_assets.store.local import LocalStore
from pipeline_assets.store.local.store import StagedFile
from pipeline_assets.store.parquet import (
    PartitionWriter,
    read_batches,
    read_table,
    row_count,
    rows_digest,
    uncompressed_bytes,
)
from pipeline_assets_tests.support.commits import DAY, SALES, commit_rows, overwrite, publish_table, seen_of
from pipeline_assets_tests.support.properties import examples
from pipeline_assets_tests.support.tables import KINDS, NEIGHBOURS, cuts, pieces, relaid, tables

FEW_ROWS = 4
"""Rows of a row group in these tests, so that a handful of rows has several."""


def bytes_of(batches: Iterable[pa.Table], schema: pa.Schema, **options: Any) -> bytes:
    """The file that the batches end in."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "staged.parquet"
        writer = PartitionWriter(StagedFile(SALES, path), schema, **options)
        for batch in batches:
            writer.write(batch)
        writer.close()
        return path.read_bytes()


def table_in(data: bytes) -> pa.Table:
    return read_table(pa.BufferReader(data))


# --- Bytes


@examples(150)
@given(data=st.data(), table=tables())
def test_the_same_rows_end_in_the_same_bytes_however_they_arrive(data: st.DataObject, table: pa.Table) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "ROW_GROUP_ROWS", FEW_ROWS)
        expected = bytes_of([table], table.schema)
        other = data.draw(relaid(table))
        assert other.to_pylist() == table.to_pylist()
        batches = pieces(other, data.draw(cuts(table.num_rows)))

        assert bytes_of(batches, table.schema) == expected
    assert table_in(expected).to_pylist() == table.to_pylist()
    assert table_in(expected).schema == table.schema


def test_row_groups_of_full_size_are_cut_at_fixed_counts() -> None:
    rows, chosen = parquet.ROW_GROUP_ROWS + 1000, np.random.default_rng(seed=0)
    words = pa.array([f"word {n}" for n in range(300)])
    table = pa.table({"number": chosen.integers(2**62, size=rows), "word": words.take(chosen.integers(300, size=rows))})
    whole = bytes_of([table], table.schema)

    assert bytes_of(pieces(table, [0, 1, 300_000, rows - 1, rows]), table.schema) == whole
    metadata = pq.read_metadata(pa.BufferReader(whole))
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [rows - 1000, 1000]


def test_which_strings_get_a_dictionary_follows_from_the_first_rows_and_not_from_the_first_batch() -> None:
    table = pa.table({"word": ["same"] * 3000 + [f"other {n}" for n in range(10_000)]})

    assert bytes_of(pieces(table, [0, 1000, 13_000]), table.schema) == bytes_of([table], table.schema)


def test_dictionary_and_plain_strings_end_in_the_same_bytes_once_they_conform() -> None:
    contract = Contract((Column("word", pa.string()),))
    plain = pa.table({"word": ["b", "a", "b"]})
    encoded = pa.table({"word": plain["word"].dictionary_encode()})
    large = plain.cast(pa.schema([("word", pa.large_string())]))

    files = {bytes_of([contract.conform(table)], contract.schema) for table in (plain, encoded, large)}

    assert len(files) == 1


def test_what_pandas_says_about_a_frame_is_not_kept() -> None:
    frame = pd.DataFrame({"n": [1, 2, 3]}, index=pd.Index([7, 8, 9], name="n2"))
    with_metadata = pa.Table.from_pandas(frame, preserve_index=False)
    assert with_metadata.schema.metadata
    without = with_metadata.replace_schema_metadata(None)

    assert bytes_of([with_metadata], with_metadata.schema) == bytes_of([without], without.schema)
    assert bytes_of([with_metadata], without.schema) == bytes_of([without], without.schema)


def test_what_is_said_about_a_field_is_not_kept() -> None:
    remarked = pa.schema([pa.field("n", pa.int64(), metadata={"made": "yesterday"})])
    table = pa.table({"n": [1]})

    assert bytes_of([table.cast(remarked)], remarked) == bytes_of([table], table.schema)


# --- Footer


def test_the_footer_names_table_partition_contract_version_and_digest_and_nothing_else() -> None:
    table = pa.table({"n": [1]}).replace_schema_metadata({"run": "4711"})
    footer = {b"table": b"sales", b"partition": b"2026-06-10", b"contract_version": b"3"}
    data = bytes_of([table], table.schema, contract_version="3")

    keys = pq.read_metadata(pa.BufferReader(data)).metadata
    digest = (rows_digest(pa.BufferReader(data)) or "").encode()
    # Arrow's own copy of the schema is beside them.
    assert {key: value for key, value in keys.items() if key != b"ARROW:schema"} == {**footer, b"digest": digest}
    assert table_in(data).schema.metadata is None


def test_without_a_contract_no_version_is_in_the_footer() -> None:
    data = bytes_of([commit_rows(1)], commit_rows(1).schema)

    assert b"contract_version" not in pq.read_metadata(pa.BufferReader(data)).metadata


# --- Rows


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_rows_of_every_type_come_back_equal(kind: pa.DataType) -> None:
    table = pa.table({"value": pa.array([*KINDS[kind], None] * 3, kind), "row": range(3 * len(KINDS[kind]) + 3)})
    data = bytes_of([table], table.schema)

    assert table_in(data).equals(table)
    assert read_batches(pa.BufferReader(data)).read_all().equals(table)


@pytest.mark.parametrize("kind", NEIGHBOURS, ids=str)
def test_a_type_that_parquet_does_not_have_keeps_its_values_in_its_neighbour(kind: pa.DataType) -> None:
    neighbour, values = NEIGHBOURS[kind]
    table = pa.table({"value": pa.array([*values, None], kind)})
    kept = table_in(bytes_of([table], table.schema))

    assert kept.schema.field("value").type == neighbour
    assert kept.to_pylist() == table.to_pylist()


def test_no_rows_are_a_file_with_a_schema() -> None:
    schema = pa.schema([pa.field("n", pa.int64(), nullable=False), pa.field("word", pa.string())])
    data = bytes_of([], schema)

    assert bytes_of([schema.empty_table(), schema.empty_table()], schema) == data
    assert table_in(data).schema.equals(schema)
    assert row_count(pa.BufferReader(data)) == 0
    assert read_batches(pa.BufferReader(data)).read_all().equals(schema.empty_table())


def test_a_stream_of_batches_holds_the_rows_of_all_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", FEW_ROWS)
    monkeypatch.setattr(parquet, "READ_BATCH_ROWS", FEW_ROWS - 1)
    table = pa.table({"n": range(10)})
    data = bytes_of([table], table.schema)

    batches = list(read_batches(pa.BufferReader(data)))

    assert pa.Table.from_batches(batches).equals(table)
    assert max(batch.num_rows for batch in batches) < FEW_ROWS
    assert row_count(pa.BufferReader(data)) == 10
    assert uncompressed_bytes(pa.BufferReader(data)) > 0


def test_the_writer_counts_the_rows_that_are_in_the_file(tmp_path: Path) -> None:
    writer = PartitionWriter(StagedFile(SALES, tmp_path / "staged.parquet"), pa.schema([("n", pa.int64())]))
    for rows in (3, 0, 4):
        writer.write(pa.table({"n": pa.array(range(rows), pa.int64())}))
    writer.close()

    assert writer.rows == row_count(pa.OSFile(str(tmp_path / "staged.parquet"))) == 7


# --- Other readers

EVERYDAY = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        ("users", pa.int64()),
        ("score", pa.float64()),
        ("amount", pa.decimal128(18, 4)),
        ("total", pa.decimal128(38, 4)),
        ("event_time", pa.timestamp("us", "UTC")),
        ("sales_date", pa.date32()),
        ("is_guest", pa.bool_()),
    ]
)


def everyday_rows(day: date) -> pa.Table:
    values = {
        "event_id": [f"{day}-{n}" for n in range(5)],
        "users": [1, 2, None, 4, 5],
        "score": [0.1, -1.5, None, 1e300, 0.0],
        "amount": [Decimal("19.9900"), Decimal("-0.0001"), None, Decimal(0), Decimal(10**13)],
        "total": [Decimal(10**30), Decimal("-0.0001"), None, Decimal(0), Decimal(1)],
        "event_time": [datetime.combine(day, time(n, 30, 0, 123456), UTC) for n in range(4)] + [None],
        "sales_date": [day] * 4 + [None],
        "is_guest": [True, False, None, True, True],
    }
    return pa.table(values, schema=EVERYDAY)


DAYS = [DAY + timedelta(days=n) for n in range(3)]


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """Three days of a table, with history, and a file that a dead writer left."""
    store = LocalStore(tmp_path / "lake")
    for day in DAYS:
        partition = Partition("sales", day)
        overwrite(store, partition, b"what was there before")
        publish_table(store, partition, everyday_rows(day), seen=seen_of(store, partition))
    (store.root / "_staging" / "sales" / "2026-06-10.left.parquet").write_bytes(b"half")
    assert len(list(store.root.glob("_history/sales/*/*.parquet"))) == len(DAYS)
    return store.root


def test_duckdb_reads_the_lake_with_its_days(lake: Path) -> None:
    found = duckdb.connect().sql(
        f"SELECT * FROM read_parquet('{lake}/sales/*/*.parquet', hive_partitioning = true) ORDER BY event_id"
    )
    rows = pa.table(found)

    assert rows.drop_columns("dt").cast(EVERYDAY).equals(pa.concat_tables(map(everyday_rows, DAYS)))
    assert rows["dt"].to_pylist() == [day for day in DAYS for _ in range(5)]


def test_pandas_reads_the_lake_with_its_days(lake: Path) -> None:
    frame = pd.read_parquet(lake / "sales", dtype_backend="pyarrow").sort_values("event_id")
    rows = pa.Table.from_pandas(frame, preserve_index=False)

    assert rows.drop_columns("dt").cast(EVERYDAY).equals(pa.concat_tables(map(everyday_rows, DAYS)))
    assert [str(day) for day in rows["dt"].to_pylist()] == [str(day) for day in DAYS for _ in range(5)]
