"""What every format of landing file is read into: batches of text, and records that are none."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline_assets.errors import LandingError
from pipeline_assets.store.landing import LandingFile

FILE, LINE, TEXT = "source_file", "source_line", "source_text"
"""Columns that every row has. A landing file's own columns of these names are not read."""
BATCH_ROWS = 1 << 16


@dataclass(frozen=True, slots=True)
class MalformedRecord:
    """A record that is no row. `line` is the number of its first line, from 1."""

    line: int
    reason: str
    text: str


@dataclass(slots=True)
class RowBatch:
    """Some rows of one file: columns of text, and source_file, source_line (null for Parquet) and source_text."""

    rows: pa.Table
    malformed: list[MalformedRecord] = field(default_factory=list)


def batches(
    records: Iterable[tuple[int, str, Any] | MalformedRecord],
    columns: Callable[[list[Any]], dict[str, pa.Array]],
    file: LandingFile,
) -> Iterator[RowBatch]:
    """Batches of records in their order, each record a malformed one or (line, text, content).

    Args:
        columns: makes columns of the contents of a batch.
    """
    lines: list[int] = []
    texts: list[str] = []
    contents: list[Any] = []
    malformed: list[MalformedRecord] = []
    for record in records:
        if isinstance(record, MalformedRecord):
            malformed.append(record)
        else:
            line, text, content = record
            lines.append(line)
            texts.append(text)
            contents.append(content)
        if len(lines) + len(malformed) == BATCH_ROWS:
            yield RowBatch(table_of(file, columns(contents), pa.array(lines, pa.int64()), texts), malformed)
            lines, texts, contents, malformed = [], [], [], []
    if lines or malformed:
        yield RowBatch(table_of(file, columns(contents), pa.array(lines, pa.int64()), texts), malformed)


def table_of(file: LandingFile, columns: dict[str, pa.Array], lines: pa.Array, texts: list[str]) -> pa.Table:
    """The rows of a batch; an empty value is null."""
    known = {name: pc.if_else(pc.equal(values, ""), None, values) for name, values in columns.items()}
    files = pa.repeat(pa.scalar(file.name), len(texts))
    return pa.table({**known, FILE: files, LINE: lines, TEXT: pa.array(texts, pa.string())})


def distinct(names: Sequence[str], file: LandingFile) -> list[str]:
    """The column names of a file.

    Raises:
        LandingError: two are the same in SQL, where capitals make no difference.
    """
    folded = [name.lower() for name in names]
    repeated = sorted({name for name in names if folded.count(name.lower()) > 1})
    if repeated:
        raise LandingError(
            f"{file.name}: names a column more than once ({', '.join(repeated)}); capitals make no difference in SQL"
        )
    return list(names)


def decoded(line: bytes) -> tuple[str, str | None]:
    """Text, and what is wrong with it."""
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        return line.decode(errors="backslashreplace"), f"not UTF-8: byte 0x{line[error.start]:02x}"
    return text, "holds a NUL byte" if "\0" in text else None
