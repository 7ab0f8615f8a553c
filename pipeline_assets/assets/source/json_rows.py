"""JSON lines: an object per line, numbers as they are written, what is nested as JSON."""

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from pipeline_assets.assets.source.records import MalformedRecord, RowBatch, batches, decoded
from pipeline_assets.errors import LandingError
from pipeline_assets.store.landing import LandingFile

_SHAPES = 1000
"""Sets of members that are remembered; a file may have as many as it has lines."""


def read_json(lines: Iterator[bytes], file: LandingFile, wanted: set[str]) -> Iterator[RowBatch]:
    """The objects; a wanted member that one has not is null.

    Raises:
        LandingError: the file holds an array.
    """
    names = sorted(wanted)

    def columns(rows: list[list[str | None]]) -> dict[str, pa.Array]:
        return {name: pa.array([row[index] for row in rows], pa.string()) for index, name in enumerate(names)}

    yield from batches(_records(lines, file, names), columns, file)


def _records(
    lines: Iterator[bytes], file: LandingFile, names: list[str]
) -> Iterator[tuple[int, str, list[str | None]] | MalformedRecord]:
    members = _Members(names)
    seen = False
    for number, line in enumerate(lines, start=1):
        text, fault = decoded(line.rstrip(b"\r\n"))
        stripped = text.strip(" \t\r\n")  # what JSON calls white space, no more
        if not stripped:
            continue
        if not seen and stripped.startswith("["):
            raise LandingError(
                f"{file.name}: holds a JSON array; JSON lines are one object per line (jq -c '.[]' makes them)"
            )
        seen = True
        if fault is None:
            try:
                yield number, text, members.of(stripped)
                continue
            except (ValueError, RecursionError) as error:
                fault = f"not a JSON object: {error}"
        yield MalformedRecord(number, fault, text)


class _Members:
    """Takes the members of certain names, in small letters, out of lines of JSON."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._keys: dict[tuple[str, ...], list[str | None]] = {}
        """By the members that an object has: those to take, None for one that it has not."""

    def of(self, line: str) -> list[str | None]:
        """Values as text.

        Raises:
            ValueError: the line is not JSON, or no object, or holds what is no text.
            RecursionError: it is nested too deeply.
        """
        value = _DECODER.decode(line)
        if not isinstance(value, dict):
            raise ValueError("the line holds another kind of value")  # noqa: TRY004 - the content of the line is wrong
        shape = tuple(value)
        keys = self._keys.get(shape) or self._keys_of(shape)
        texts = [None if key is None else _text(value[key]) for key in keys]
        if "\\u" in line:
            for text in filter(None, texts):
                text.encode()  # half of a surrogate pair is no text
                if "\0" in text:
                    raise ValueError("a NUL character")
        return texts

    def _keys_of(self, shape: tuple[str, ...]) -> list[str | None]:
        folded = {name.lower(): name for name in shape}
        if len(folded) != len(shape):
            raise ValueError("a member is named twice, but for capitals, which make no difference in SQL")
        keys = [folded.get(name) for name in self._names]
        if len(self._keys) < _SHAPES:
            self._keys[shape] = keys
        return keys


class _Number(str):
    """A number as it is written in the file: 12.10 stays 12.10."""

    __slots__ = ()


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("a member is named twice")
    return found


_DECODER = json.JSONDecoder(parse_float=_Number, parse_int=_Number, parse_constant=_Number, object_pairs_hook=_object)


def _text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else _json(value)


def _json(value: object) -> str:
    """As json.dumps, with numbers as they were written."""
    if isinstance(value, _Number):
        return value
    if isinstance(value, dict):
        members = (f"{json.dumps(name, ensure_ascii=False)}: {_json(member)}" for name, member in value.items())
        return f"{{{', '.join(members)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_json, value))}]"
    return json.dumps(value, ensure_ascii=False)
