"""Parquet: any column as text; the text of a row is its columns as JSON."""

import json
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from pipeline_assets.assets.source.records import BATCH_ROWS, RowBatch, distinct, table_of
from pipeline_assets.store.landing import LandingFile


def parquet_columns(file: LandingFile) -> list[str]:
    """Read the names of its columns."""
    with file.open() as opened:
        return distinct(pq.read_schema(opened).names, file)


def read_parquet(file: LandingFile, wanted: set[str]) -> Iterator[RowBatch]:
    """The rows; they have no line."""
    # see store/parquet.py
    with file.open() as opened, pq.ParquetFile(opened, pre_buffer=False, buffer_size=1 << 20) as parquet:
        for batch in parquet.iter_batches(BATCH_ROWS):
            batch.validate(full=True)
            names = batch.schema.names
            columns = {name: _as_text(values) for name, values in zip(names, batch.columns, strict=True)}
            rows = zip(*(values.to_pylist() for values in columns.values()), strict=True)
            texts = [json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) for row in rows]
            chosen = {name: values for name, values in columns.items() if name.lower() in wanted}
            yield RowBatch(table_of(file, chosen, pa.nulls(len(texts), pa.int64()), texts))


def _as_text(values: pa.Array) -> pa.Array:
    kind = values.type
    if pt.is_nested(kind):
        return _texts(
            json.dumps(v, ensure_ascii=False, default=str) if v is not None else v for v in values.to_pylist()
        )
    if isinstance(values, pa.ExtensionArray):
        return _texts(str(v) if v is not None else v for v in values.to_pylist())
    if pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_fixed_size_binary(kind):
        # Older writers mark text as bytes; what is no text stays readable.
        return _texts(v.decode(errors="backslashreplace") if v is not None else v for v in values.to_pylist())
    return values.cast(pa.string())


def _texts(values: Iterator[str | None]) -> pa.Array:
    return pa.array(list(values), pa.string())
