"""CSV: comma-separated, with a header, quoted as RFC 4180 says; and where the next record begins after a broken one."""

import csv
from collections import deque
from collections.abc import Iterator
from typing import Self

import pyarrow as pa

from pipeline_assets.assets.source.records import MalformedRecord, RowBatch, batches, decoded, distinct
from pipeline_assets.errors import LandingError
from pipeline_assets.store.landing import LandingFile


def read_header(lines: Iterator[bytes], file: LandingFile) -> list[str]:
    """Column names; none when the file has no content.

    Raises:
        LandingError: it cannot be read.
    """
    return _header(_Lines(lines), file)


def read_csv(lines: Iterator[bytes], file: LandingFile, wanted: set[str]) -> Iterator[RowBatch]:
    """The records below the header."""
    text = _Lines(lines)
    names = _header(text, file)
    chosen = {name: index for index, name in enumerate(names) if name.lower() in wanted}

    def columns(rows: list[list[str]]) -> dict[str, pa.Array]:
        return {name: pa.array([row[index] for row in rows], pa.string()) for name, index in chosen.items()}

    yield from batches(_records(text, len(names)), columns, file)


class _Lines:
    """Physical lines as text for csv.reader, with those of the current record at hand, and a way to put lines back."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self._pushed: deque[bytes] = deque()
        self.record: list[bytes] = []
        self.line = 1
        """Number of the first line of the current record."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        line = self._pushed.popleft() if self._pushed else next(self._lines)
        self.record.append(line)
        # A byte that is not UTF-8 is a fault of its record, which `text` will tell, and no reason to stop inside it.
        return line.decode(errors="surrogateescape")

    def text(self) -> tuple[str, str | None]:
        """The current record as it stands in the file, without its last line end, and what is wrong with it."""
        joined = self.record[0] if len(self.record) == 1 else b"".join(self.record)
        return decoded(joined.rstrip(b"\r\n"))

    def next_record(self) -> None:
        """Go on to the next record."""
        self.line += len(self.record)
        self.record.clear()

    def give_up(self, error: csv.Error) -> MalformedRecord:
        """The current record is none: give up its first line, and read the others again, each as a new record."""
        first, *others = self.record
        given_up = MalformedRecord(self.line, _reason(error), decoded(first.rstrip(b"\r\n"))[0])
        self._pushed.extendleft(reversed(others))
        self.line += 1
        self.record.clear()
        return given_up


def _reason(error: csv.Error) -> str:
    text = str(error)
    return f"not CSV: {'a carriage return inside a line' if text.startswith('new-line character') else text}"


def _header(lines: _Lines, file: LandingFile) -> list[str]:
    fault: str | None
    try:
        names = next((row for row in csv.reader(lines, strict=True) if row), [])
        _, fault = lines.text() if names else ("", None)
    except csv.Error as error:
        fault = _reason(error)
    if fault:
        raise LandingError(
            f"{file.name}: its header cannot be read: {fault}. CSV is comma-separated UTF-8 with a header."
        )
    lines.next_record()
    return distinct([name.strip() or f"column_{index}" for index, name in enumerate(names, start=1)], file)


def _records(lines: _Lines, width: int) -> Iterator[tuple[int, str, list[str]] | MalformedRecord]:
    reader = csv.reader(lines, strict=True)
    while True:
        try:
            for row in reader:
                if row:  # an empty line is no record
                    text, fault = lines.text()
                    if fault is None and len(row) != width:
                        fault = f"{len(row)} fields where the header has {width}"
                    yield (lines.line, text, row) if fault is None else MalformedRecord(lines.line, fault, text)
                lines.next_record()
        except csv.Error as error:
            yield lines.give_up(error)
        else:
            return
