"""Two lakes, table by table and day by day: which days are in one only, which are equal, what differs in the others."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

import duckdb
import pyarrow as pa

from pipeline_assets.errors import UsageError
from pipeline_assets.partition import Partition
from pipeline_assets.store import open_store
from pipeline_assets.store.parquet import row_count
from pipeline_assets.store.protocol import Pinned, Store
from pipeline_assets.store.row_diff import (
    EXAMPLES,
    RowComparison,
    RowDiff,
    Total,
    TypeChange,
    ValueChange,
    row_comparison,
)


class DayStatus(StrEnum):
    """How a day of one lake stands to the same day of another."""

    EQUAL = "equal"  # the same bytes, which are not decoded
    SAME_ROWS = "same_rows"  # other bytes, the same columns and rows
    DIFFERENT = "different"
    ONLY_BASE = "only_base"
    ONLY_OTHER = "only_other"


@dataclass(slots=True)
class ColumnTally:
    """What differs in one column, over days. `base` and `other` are None unless it is numeric."""

    changed: int = 0
    base: Total | None = None
    other: Total | None = None
    examples: list[tuple[date, ValueChange]] = field(default_factory=list)


@dataclass(slots=True)
class TableDiff:
    """What differs in one table, over days.

    Args:
        key: by which rows were matched; without one there are no changed rows, only removed and added ones.
        rows_base, rows_other: of all days that were compared, equal ones too.
        added, removed: rows; all of a day that one lake does not have.
        differing: rows added, removed or changed; of a day whose columns are not the same, all of them.
        columns: that both lakes have, of days that differ.
        types: columns that are not the same, and on which days.
    """

    table: str
    key: tuple[str, ...] = ()
    days: dict[DayStatus, list[date]] = field(default_factory=lambda: {state: [] for state in DayStatus})
    rows_base: int = 0
    rows_other: int = 0
    added: int = 0
    removed: int = 0
    changed: int = 0
    differing: int = 0
    columns: dict[str, ColumnTally] = field(default_factory=dict)
    types: dict[TypeChange, list[date]] = field(default_factory=dict)
    added_rows: list[tuple[date, str]] = field(default_factory=list)
    removed_rows: list[tuple[date, str]] = field(default_factory=list)

    @property
    def is_equal(self) -> bool:
        """True if no day differs in rows, columns, or in being there."""
        return not any(self.days[state] for state in (DayStatus.DIFFERENT, DayStatus.ONLY_BASE, DayStatus.ONLY_OTHER))

    @property
    def differing_share(self) -> float:
        """From 0 to 1, of the rows of whichever lake has more."""
        return min(1.0, self.differing / max(self.rows_base, self.rows_other, 1))

    def add_day_of_one(self, day: date, state: DayStatus, rows: int) -> None:
        """Count a day that only one lake has."""
        self.days[state].append(day)
        self.differing += rows
        if state is DayStatus.ONLY_BASE:
            self.rows_base += rows
            self.removed += rows
        else:
            self.rows_other += rows
            self.added += rows

    def add_day(self, day: date, rows_base: int, rows_other: int, found: RowDiff | None) -> None:
        """Count a day that both have; `found` is None if it has the same bytes in both."""
        self.rows_base += rows_base
        self.rows_other += rows_other
        if found is None:
            self.days[DayStatus.EQUAL].append(day)
            return
        differing = found.added + found.removed + (found.changed or 0)
        self.days[DayStatus.DIFFERENT if differing or found.types else DayStatus.SAME_ROWS].append(day)
        self.added += found.added
        self.removed += found.removed
        self.changed += found.changed or 0
        self.differing += max(rows_base, rows_other) if found.types else differing
        for change in found.types:
            self.types.setdefault(change, []).append(day)
        self.added_rows += [(day, row) for row in found.added_rows[: EXAMPLES - len(self.added_rows)]]
        self.removed_rows += [(day, row) for row in found.removed_rows[: EXAMPLES - len(self.removed_rows)]]
        for name, column in found.columns.items():
            tally = self.columns.setdefault(name, ColumnTally())
            tally.changed += column.changed
            tally.examples += [(day, each) for each in column.examples[: EXAMPLES - len(tally.examples)]]
            if column.base is not None and column.other is not None:
                tally.base = (tally.base or Total(0, 0)).plus(column.base)
                tally.other = (tally.other or Total(0, 0)).plus(column.other)


class Lake(NamedTuple):
    """A lake to compare, and the days of its tables.

    Args:
        days: ascending, by table.
    """

    store: Store
    days: Mapping[str, Sequence[date]]


def open_lake(uri: str | Path) -> Lake:
    """Look what a lake holds.

    Args:
        uri: as for `open_store`.

    Raises:
        UsageError: it is not a folder, or holds no day of any table.
    """
    if "://" not in str(uri) and not Path(uri).is_dir():
        raise UsageError(f"{uri} is not a folder; name the folder of a lake, as in PIPELINE_STORE")
    store = open_store(uri)
    days = {table: list(found) for table in store.tables() if (found := store.heads(table))}
    if not days:
        raise UsageError(f"{uri} is no lake: there is no TABLE/dt=YYYY-MM-DD/data.parquet below it")
    return Lake(store, days)


def compare_lakes(
    base: Lake,
    other: Lake,
    *,
    tables: Sequence[str] | None = None,
    first: date | None = None,
    last: date | None = None,
    keys: Mapping[str, Sequence[str]] | None = None,
) -> list[TableDiff]:
    """Compare tables over days from first to last; all of them unless given. One day is decoded at a time.

    Args:
        keys: columns that tell a row, by table.

    Raises:
        UsageError: both are one folder; neither has a table that is named, or a day of the range; a file cannot be
            read as Parquet.
    """
    if base.store.uri == other.store.uri:
        raise UsageError(f"{base.store.uri} would be compared with itself; name another lake")
    known = sorted(base.days.keys() | other.days.keys())
    unknown = [table for table in tables or () if table not in known]
    if unknown:
        raise UsageError(f"neither lake has a table {unknown[0]}; tables: {', '.join(known)}")
    asked = {
        table: [
            day
            for day in sorted({*base.days.get(table, ()), *other.days.get(table, ())})
            if (first is None or first <= day) and (last is None or day <= last)
        ]
        for table in (tables or known)
    }
    if not any(asked.values()):
        span = f"from {first or 'the first'} to {last or 'the last'}"
        raise UsageError(f"neither {base.store.uri} nor {other.store.uri} has a day {span} of {', '.join(asked)}")
    with row_comparison() as rows:
        return [
            _compare_table(base.store, other.store, rows, TableDiff(table, tuple((keys or {}).get(table, ()))), days)
            for table, days in asked.items()
        ]


def _compare_table(base: Store, other: Store, rows: RowComparison, diff: TableDiff, days: Sequence[date]) -> TableDiff:
    for day in days:
        partition = Partition(diff.table, day)
        with ExitStack() as stack:
            old, new = (_pinned(stack, store, partition) for store in (base, other))
            try:
                if old is not None and new is not None:
                    same = old.commit.digest == new.commit.digest
                    counts = row_count(old.file), row_count(new.file)
                    diff.add_day(day, *counts, None if same else rows.compare(old.file, new.file, diff.key))
                elif old is not None:
                    diff.add_day_of_one(day, DayStatus.ONLY_BASE, row_count(old.file))
                elif new is not None:
                    diff.add_day_of_one(day, DayStatus.ONLY_OTHER, row_count(new.file))
            except (pa.ArrowException, duckdb.Error) as error:
                raise UsageError(f"{partition}: it cannot be compared: {str(error).strip()}") from error
    return diff


def _pinned(stack: ExitStack, store: Store, partition: Partition) -> Pinned | None:
    pinned = store.open(partition)
    if pinned is not None:
        stack.callback(pinned.close)
    return pinned
