"""Rows of landing files as text: CSV, JSON lines and Parquet, each row with its file, line and own text.

Every value is text and an empty one is null, whatever the format: what a value means is the SELECT's to say. Column
names are the same in capitals and in small letters, as in SQL. A record that cannot be taken apart is malformed: it is
counted and handed on with its text, and the next line is tried.
"""

import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import BinaryIO

import pyarrow as pa

from pipeline_assets.assets.source.csv_rows import read_csv, read_header
from pipeline_assets.assets.source.json_rows import read_json
from pipeline_assets.assets.source.parquet_rows import parquet_columns, read_parquet
from pipeline_assets.assets.source.records import FILE, LINE, TEXT, RowBatch
from pipeline_assets.errors import LandingError
from pipeline_assets.store.landing import LandingFile, is_parquet, open_decompressed

_CSV, _JSON = (".csv",), (".jsonl", ".ndjson", ".json")
_COMPRESSED = (".gz", ".zst", ".zstd")
_UNREADABLE = (OSError, EOFError, zlib.error, pa.ArrowException)
_UTF8_MARK, _UTF16_MARKS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")


def columns_of(file: LandingFile) -> list[str] | None:
    """Column names of a CSV or Parquet file, none if it has no content; None for JSON lines: each has its own.

    Raises:
        LandingError: the file as a whole cannot be read, or names a column twice.
    """
    if file.size_bytes == 0:
        return []
    with _readable(file):
        if is_parquet(file):
            return parquet_columns(file)
        if _format(file) == "json":
            return None
        with open_decompressed(file) as raw:
            return read_header(_lines(raw, file), file)


def read_rows(file: LandingFile, wanted: Collection[str]) -> Iterator[RowBatch]:
    """All records of a file, in order, with those of the wanted columns that it has.

    Raises:
        LandingError: the file as a whole cannot be read: not a known format, damaged, cut off, not UTF-8.
    """
    if file.size_bytes == 0:
        return
    names = {name.lower() for name in wanted} - {FILE, LINE, TEXT}
    with _readable(file):
        if is_parquet(file):
            yield from read_parquet(file, names)
            return
        read = read_csv if _format(file) == "csv" else read_json
        with open_decompressed(file) as raw:
            yield from read(_lines(raw, file), file, names)


@contextmanager
def _readable(file: LandingFile) -> Iterator[None]:
    """Names the file in whatever its decoder says of it."""
    try:
        yield
    except _UNREADABLE as error:
        raise LandingError(
            f"{file.name}: cannot be read to its end ({type(error).__name__}: {error}). If it is damaged or was cut "
            "off, deliver it again, or move it out of the landing zone; nothing of the day was published."
        ) from error


def _format(file: LandingFile) -> str:
    name = file.name.lower()
    for suffix in _COMPRESSED:
        name = name.removesuffix(suffix)
    if name.endswith(_CSV):
        return "csv"
    if name.endswith(_JSON):
        return "json"
    raise LandingError(
        f"{file.name}: neither Parquet by its content nor CSV or JSON lines by its name (.csv, .jsonl, .ndjson, .json, "
        "with .gz or .zst). Rename it, or move it out of the landing zone."
    )


def _lines(raw: BinaryIO, file: LandingFile) -> Iterator[bytes]:
    """Physical lines with their ends, without a byte order mark."""
    lines = iter(raw)
    first = next(lines, b"")
    if first.startswith(_UTF16_MARKS):
        raise LandingError(f"{file.name}: is UTF-16, and text is read as UTF-8. Deliver it as UTF-8.")
    first = first.removeprefix(_UTF8_MARK)
    return chain([first], lines) if first else lines
