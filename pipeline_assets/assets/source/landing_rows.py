"""Rows of landing files as text: CSV, JSON lines and Parquet, each row with its file, line and own text.

Every value is text and an empty one is null, whatever the format: what a value means is the SELECT's to say. A record
that cannot be taken apart is malformed: it is counted and handed on with its text, and the next line is tried.
"""

from __future__ import annotations

import csv
import json
import zlib
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline_assets.errors import LandingError
from pipeline_assets.store.landing import is_parquet, open_decompressed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline_assets.store.landing import LandingFile

FILE, LINE, TEXT = "source_file", "source_line", "source_text"
BATCH_ROWS = 1 << 16
_CSV, _JSON = (".csv",), (".jsonl", ".ndjson", ".json")
_COMPRESSED = (".gz", ".zst", ".zstd")
_UNREADABLE = (OSError, EOFError, zlib.error, pa.ArrowException)


@dataclass(frozen=True, slots=True)
class Malformed:
    """A record that is no row. `line` is the number of its first line, from 1."""

    line: int
    reason: str
    text: str


@dataclass(slots=True)
class RowBatch:
    """Some rows of one file: columns of text, and source_file, source_line (null for Parquet) and source_text."""

    rows: pa.Table
    malformed: list[Malformed] = field(default_factory=list)


def columns_of(file: LandingFile) -> list[str] | None:
    """Column names of a CSV or Parquet file; None for JSON lines, where each line has its own, and empty files."""
    if file.size_bytes == 0 or (not is_parquet(file) and _format(file) == "json"):
        return None
    with _readable(file):
        if is_parquet(file):
            return [str(name) for name in pq.read_schema(file.path).names]
        with open_decompressed(file) as raw:
            return _header(_Lines(raw), file)


def read_rows(file: LandingFile) -> Iterator[RowBatch]:
    """All records of a file, in order.

    Raises:
        LandingError: the file as a whole cannot be read: not a known format, damaged, cut off, not UTF-8.
    """
    if file.size_bytes == 0:
        return
    with _readable(file):
        if is_parquet(file):
            yield from _parquet(file)
            return
        kind = _format(file)
        with open_decompressed(file) as raw:
            yield from (_csv(raw, file) if kind == "csv" else _json(raw, file))


class _readable:  # noqa: N801 - reads as a with-statement
    """Names the file in whatever its decoder says of it."""

    def __init__(self, file: LandingFile) -> None:
        self.file = file

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, _UNREADABLE):
            msg = (
                f"{self.file.name}: cannot be read to its end ({type(error).__name__}: {error}). It is damaged or was "
                "cut off. Deliver it again, or move it out of the landing zone; nothing of the day was published."
            )
            raise LandingError(msg) from error


def _format(file: LandingFile) -> str:
    name = file.path.name.lower()
    for suffix in _COMPRESSED:
        name = name.removesuffix(suffix)
    if name.endswith(_CSV):
        return "csv"
    if name.endswith(_JSON):
        return "json"
    msg = (
        f"{file.name}: neither Parquet by its content nor CSV or JSON lines by its name (.csv, .jsonl, .ndjson, .json, "
        "with .gz or .zst). Rename it, or move it out of the landing zone."
    )
    raise LandingError(msg)


class _Lines:
    """Physical lines as text for csv.reader, with those of the current record at hand, and a way to put lines back."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = iter(raw)
        first = next(self._raw, b"").removeprefix(b"\xef\xbb\xbf")
        self._pushed = deque([first] if first else [])
        self.record: list[bytes] = []
        self.line = 1
        """Number of the first line of the current record."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = self._pushed.popleft() if self._pushed else next(self._raw)
        self.record.append(line)
        return line.decode()

    def text(self) -> str:
        """The current record as it stands in the file, without its last line end."""
        joined = self.record[0] if len(self.record) == 1 else b"".join(self.record)
        return joined.rstrip(b"\r\n").decode()

    def next_record(self) -> None:
        """Go on to the next record."""
        self.line += len(self.record)
        self.record.clear()

    def give_up(self, error: Exception) -> Malformed:
        """The current record is none: give up its first line, and read the others again, each as a new record."""
        first, *others = self.record
        given_up = Malformed(self.line, _reason(error), first.rstrip(b"\r\n").decode(errors="backslashreplace"))
        self._pushed.extendleft(reversed(others))
        self.line += 1
        self.record.clear()
        return given_up


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8: byte 0x{error.object[error.start]:02x}"
    return f"not CSV: {error}"


@dataclass(slots=True)
class _Collected:
    """Rows of one batch in the making."""

    lines: list[int | None] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    malformed: list[Malformed] = field(default_factory=list)

    def batch(self, file: LandingFile, columns: dict[str, pa.Array]) -> RowBatch:
        known = {name: pc.if_else(pc.equal(values, ""), None, values) for name, values in columns.items()}
        return RowBatch(
            pa.table(
                {
                    **known,
                    FILE: pa.repeat(pa.scalar(file.name), len(self.texts)),
                    LINE: pa.array(self.lines, pa.int64()),
                    TEXT: pa.array(self.texts, pa.string()),
                }
            ),
            self.malformed,
        )


def _header(lines: _Lines, file: LandingFile) -> list[str]:
    try:
        names = next(csv.reader(lines, strict=True), [])
    except (csv.Error, UnicodeDecodeError) as error:
        msg = f"{file.name}: its header cannot be read: {_reason(error)}. CSV is comma-separated UTF-8 with a header."
        raise LandingError(msg) from error
    lines.next_record()
    names = [name.strip() or f"column_{index}" for index, name in enumerate(names, start=1)]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        msg = f"{file.name}: its header names {', '.join(repeated)} more than once"
        raise LandingError(msg)
    return names


def _csv(raw: BinaryIO, file: LandingFile) -> Iterator[RowBatch]:
    lines = _Lines(raw)
    names = _header(lines, file)
    reader = csv.reader(lines, strict=True)
    rows: list[list[str]] = []
    collected = _Collected()
    while True:
        try:
            for row in reader:
                if len(row) == len(names):
                    rows.append(row)
                    collected.lines.append(lines.line)
                    collected.texts.append(lines.text())
                elif row:  # an empty line is no record
                    reason = f"{len(row)} fields where the header has {len(names)}"
                    collected.malformed.append(Malformed(lines.line, reason, lines.text()))
                lines.next_record()
                if len(rows) == BATCH_ROWS:
                    yield collected.batch(file, _columns(names, rows))
                    rows, collected = [], _Collected()
            break
        except (csv.Error, UnicodeDecodeError) as error:
            collected.malformed.append(lines.give_up(error))
    yield collected.batch(file, _columns(names, rows))


def _columns(names: list[str], rows: list[list[str]]) -> dict[str, pa.Array]:
    values = zip(*rows, strict=True) if rows else ([] for _ in names)
    return {name: pa.array(column, pa.string()) for name, column in zip(names, values, strict=True)}


def _json(raw: BinaryIO, file: LandingFile) -> Iterator[RowBatch]:
    objects: list[dict[str, Any]] = []
    collected = _Collected()
    for number, line in enumerate(raw, start=1):
        text = line.removeprefix(b"\xef\xbb\xbf").rstrip(b"\r\n") if number == 1 else line.rstrip(b"\r\n")
        if not text.strip():
            continue
        try:
            value = json.loads(text.decode(), parse_float=str, parse_int=str)
        except ValueError as error:  # of JSON and of UTF-8 alike
            collected.malformed.append(Malformed(number, f"not JSON: {error}", text.decode(errors="backslashreplace")))
            continue
        if not isinstance(value, dict):
            collected.malformed.append(Malformed(number, "not a JSON object", text.decode()))
            continue
        objects.append(value)
        collected.lines.append(number)
        collected.texts.append(text.decode())
        if len(objects) == BATCH_ROWS:
            yield collected.batch(file, _members(objects))
            objects, collected = [], _Collected()
    yield collected.batch(file, _members(objects))


def _members(objects: list[dict[str, Any]]) -> dict[str, pa.Array]:
    names = dict.fromkeys(name for value in objects for name in value)
    return {name: pa.array([_text(value.get(name)) for value in objects], pa.string()) for name in names}


def _text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _parquet(file: LandingFile) -> Iterator[RowBatch]:
    with pq.ParquetFile(file.path) as parquet:
        for batch in parquet.iter_batches(BATCH_ROWS):
            texts = [json.dumps(row, ensure_ascii=False, default=str) for row in batch.to_pylist()]
            columns = {name: _as_text(values) for name, values in zip(batch.schema.names, batch.columns, strict=True)}
            yield _Collected([None] * batch.num_rows, texts).batch(file, columns)


def _as_text(values: pa.Array) -> pa.Array:
    if pa.types.is_timestamp(values.type) and values.type.tz is None:
        return values.cast(pa.string())
    if pa.types.is_nested(values.type) or pa.types.is_binary(values.type):
        return pa.array([None if v is None else json.dumps(v, default=str) for v in values.to_pylist()], pa.string())
    return values.cast(pa.string())
