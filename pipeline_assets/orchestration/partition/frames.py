"""Frames at the edge: what a pure function takes and returns, and Arrow in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from inspect import signature
from typing import TYPE_CHECKING, Any, get_type_hints

import pyarrow as pa

from pipeline_assets.errors import ContractBroken
from pipeline_assets.rules.accounting import Accounting

if TYPE_CHECKING:  # who only loads the definitions is spared a quarter of a second
    import pandas as pd


class FrameKind(Enum):
    """How a function wants its rows, said by its annotation."""

    TABLE = "Table"
    DATAFRAME = "DataFrame"
    READER = "RecordBatchReader"


@dataclass(frozen=True, slots=True)
class Result:
    """Rows together with their accounting, for functions that drop rows.

    Args:
        rows: a frame; a mapping of table name to frame for an asset of several tables; or an iterator of such
            mappings for days larger than memory.
        accounting: counts, or, when they are known only after the rows were read, a function that gives them.
        made_from: digest of what was read of each of the asset's `deps` for this day.
    """

    rows: Any
    accounting: Accounting | Callable[[], Accounting]
    made_from: Mapping[str, str] = field(default_factory=dict)


def frame_kinds(function: Callable[..., object]) -> dict[str, FrameKind | None]:
    """The frame kind of every parameter of the function, None where it is annotated with something else.

    Parameters without an annotation take a pyarrow.Table.
    """
    annotations = getattr(function, "__annotations__", {})
    with suppress(NameError):  # imported for type checkers only: the annotation's text names the class as well
        annotations = get_type_hints(function)
    return {
        name: frame_kind(annotations[name]) if name in annotations else FrameKind.TABLE
        for name in signature(function).parameters
    }


def frame_kind(annotation: Any) -> FrameKind | None:
    """The frame kind that an annotation, or its text, names."""
    if isinstance(annotation, str):
        name = annotation.rpartition(".")[2]
    elif getattr(annotation, "__module__", "").partition(".")[0] in {"pandas", "pyarrow"}:
        name = annotation.__name__
    else:
        return None
    return FrameKind(name) if name in {kind.value for kind in FrameKind} else None


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """An Arrow-backed DataFrame: decimals, nulls and nanoseconds survive, and strings are not copied."""
    import pandas as pd

    frame: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def tables_of(frame: object) -> Iterator[pa.Table]:
    """The rows of a frame as Arrow tables, one after the other.

    Raises:
        ContractBroken: the object is no frame, or holds values that Arrow has no type for.
    """
    if isinstance(frame, pa.Table):
        yield frame
    elif isinstance(frame, pa.RecordBatch):
        yield pa.Table.from_batches([frame])
    elif isinstance(frame, pa.RecordBatchReader):
        for batch in frame:
            yield pa.Table.from_batches([batch])
    elif _is_dataframe(frame):
        try:
            yield pa.Table.from_pandas(frame, preserve_index=False)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise ContractBroken(f"the DataFrame cannot be turned into Arrow: {error}") from error
    else:
        raise ContractBroken(
            f"a {type(frame).__name__} was returned; return a pandas.DataFrame, pyarrow.Table, "
            "pyarrow.RecordBatch or pyarrow.RecordBatchReader"
        )


def is_stream(frame: object) -> bool:
    """True for frames that must not be collected in memory."""
    return isinstance(frame, pa.RecordBatchReader)


def streams_of(rows: object, tables: Iterable[str]) -> Iterator[tuple[str, object]]:
    """(table name, frame) pairs of whatever a function of several tables may return.

    Raises:
        ContractBroken: a mapping names a table that the asset does not have, or is no mapping; or it is all there is
            and lacks a table.
    """
    names = list(tables)
    for mapping in rows if isinstance(rows, Iterator) else [rows]:
        found = list(mapping) if isinstance(mapping, Mapping) else [f"a {type(mapping).__name__}"]
        partial = mapping is rows and set(found) != set(names)
        if not isinstance(mapping, Mapping) or set(found) - set(names) or partial:
            raise ContractBroken(
                f"{', '.join(map(str, found)) or 'an empty mapping'} was returned; an asset of the tables "
                f"{', '.join(names)} returns a mapping with a frame for each of them, or an iterator of mappings"
            )
        yield from mapping.items()


def _is_dataframe(frame: object) -> bool:
    return type(frame).__name__ == "DataFrame" and type(frame).__module__.startswith("pandas")
