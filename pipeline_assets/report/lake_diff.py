"""How two lakes differ, in words and tables: the same ones in the terminal and in Markdown."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from pipeline_assets.partition import days_in_words
from pipeline_assets.report.words import NONE, count, share
from pipeline_assets.rules.tolerance import Tolerance
from pipeline_assets.store.comparison import ColumnTally, DayStatus, TableDiff

STRETCHES = 4
"""Of days that are listed; the others are counted."""
CELL_CHARACTERS = 80
OTHER_DAYS = {
    DayStatus.ONLY_BASE: "Only base has",
    DayStatus.ONLY_OTHER: "Only other has",
    DayStatus.SAME_ROWS: "The same rows in other bytes:",
}
SUM_DIGITS, MEAN_DIGITS = 12, 6
"""Of floats. What differs behind twelve digits is the order in which they were added up."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Rows of text under the names of their columns."""

    names: Sequence[str]
    rows: Sequence[Sequence[str | int]]


def headline(tables: Sequence[TableDiff]) -> str:
    """Sum up the comparison in one sentence."""
    differing = sum(not each.is_equal for each in tables)
    days = [day for each in tables for found in each.days.values() for day in found]
    span = f"{min(days)} to {max(days)}"
    if not differing:
        return f"{count(len(tables), 'table')} compared, {span}: no difference."
    return f"{differing} of {count(len(tables), 'table')} {'differs' if differing == 1 else 'differ'}, {span}."


def conclusion(tables: Sequence[TableDiff], tolerance: Tolerance) -> list[str]:
    """What is beyond the tolerance, a sentence a table; or that nothing is. Nothing if nothing can be."""
    if tolerance.is_open:
        return []
    may = [count(tolerance.max_rows, "row")] if tolerance.max_rows is not None else []
    may += [f"{share(tolerance.max_share)} of the rows"] if tolerance.max_share is not None else []
    allowed = f"{' and '.join(may)} of a table may differ"
    beyond = [
        f"{each.table} is beyond the threshold: {_differing(each)}; {allowed}."
        for each in tables
        if tolerance.is_exceeded(each.differing, each.differing_share)
    ]
    return beyond or [f"Within the threshold: {allowed}."]


def overview(tables: Sequence[TableDiff]) -> Listing:
    """List the tables, a row each."""
    names = ["table", "days equal", "differ", "only in base", "only in other", "rows of base", "rows of other"]
    return Listing(
        [*names, "added", "removed", "changed"],
        [
            [
                each.table,
                len(each.days[DayStatus.EQUAL]) + len(each.days[DayStatus.SAME_ROWS]),
                *(len(each.days[state]) for state in (DayStatus.DIFFERENT, DayStatus.ONLY_BASE, DayStatus.ONLY_OTHER)),
                each.rows_base,
                each.rows_other,
                each.added,
                each.removed,
                each.changed if each.key else NONE,
            ]
            for each in tables
        ],
    )


def explanation(table: TableDiff) -> list[str]:
    """Say what differs in a table, in sentences."""
    said = []
    if different := table.days[DayStatus.DIFFERENT]:
        how = f"Rows are matched by {', '.join(table.key)}." if table.key else "Without a key rows are compared whole."
        said += [f"Differs on {_days(different)}: {_differing(table)}.", how]
    said += [f"{what} {_days(table.days[state])}." for state, what in OTHER_DAYS.items() if table.days[state]]
    for change, on in sorted(table.types.items(), key=lambda item: item[0].column):
        old, new = change.base or "not there", change.other or "not there"
        said.append(f"Column {change.column}: {old} → {new}, on {_days(on)}.")
    for what, rows in (("Added", table.added_rows), ("Removed", table.removed_rows)):
        if rows:
            said.append(f"{what}, for example: {'; '.join(f'{day}, {_cut(row)}' for day, row in rows)}.")
    return said


def values(table: TableDiff) -> Listing:
    """A row for each column in which values differ; sums and means are of all rows of days that differ."""
    return Listing(
        ["column", "values changed", "sum on those days", "mean on those days", "for example"],
        [
            [
                name,
                column.changed if table.key else NONE,
                _change(*(total.sum if total else None for total in (column.base, column.other)), digits=SUM_DIGITS),
                _change(*(total.mean if total else None for total in (column.base, column.other)), digits=MEAN_DIGITS),
                "; ".join(
                    f"{day}, {_cut(each.row)}: {_value(each.base)} → {_value(each.other)}"
                    for day, each in column.examples
                ),
            ]
            for name, column in table.columns.items()
            if column.changed or _sum_moved(table, name, column)
        ],
    )


def lake_diff_markdown(base: str, other: str, tables: Sequence[TableDiff], tolerance: Tolerance) -> str:
    """The comparison as Markdown, as GitHub shows it in a job's summary."""
    lines = [f"### {_plain(headline(tables))}", "", f"Base: {_plain(base)}  ", f"Other: {_plain(other)}", ""]
    for sentence in conclusion(tables, tolerance):
        lines += [f"**{_plain(sentence)}**", ""]
    lines += _grid(overview(tables))
    for each in tables:
        sentences, changed = explanation(each), values(each)
        if sentences:
            lines += ["", f"#### {_plain(each.table)}", "", *(f"- {_plain(sentence)}" for sentence in sentences)]
        if changed.rows:
            lines += ["", *_grid(changed)]
    return "\n".join(lines) + "\n"


def _differing(table: TableDiff) -> str:
    rows = count(table.differing, "row")
    return f"{rows} ({share(table.differing_share)}) {'differs' if table.differing == 1 else 'differ'}"


def _days(days: Sequence[date]) -> str:
    return f"{count(len(days), 'day')} ({days_in_words(days, at_most=STRETCHES)})"


def _sum_moved(table: TableDiff, name: str, column: ColumnTally) -> bool:
    old, new = (_number(total.sum if total else None, SUM_DIGITS) for total in (column.base, column.other))
    return name not in table.key and bool(table.added or table.removed) and old != new


def _change(base: float | Decimal | None, other: float | Decimal | None, *, digits: int) -> str:
    old, new = _number(base, digits), _number(other, digits)
    if base is None or other is None or old == new:
        return old if old == new else f"{old} → {new}"
    if isinstance(base, float) or isinstance(other, float):
        return f"{old} → {new} ({_rounded(float(other) - float(base), digits):+,})"
    return f"{old} → {new} ({other - base:+,})"


def _number(number: float | Decimal | None, digits: int) -> str:
    if number is None:
        return NONE
    return f"{_rounded(number, digits) if isinstance(number, float) else number:,}"


def _rounded(number: float, digits: int) -> float:
    return float(f"{number:.{digits}g}")


def _value(text: str | None) -> str:
    return "null" if text is None else _cut(text) or "''"


def _cut(text: str) -> str:
    return text if len(text) <= CELL_CHARACTERS else f"{text[: CELL_CHARACTERS - 1]}…"


def _grid(table: Listing) -> list[str]:
    rows = [[_plain(cell) if isinstance(cell, str) else f"{cell:,}" for cell in row] for row in table.rows]
    return [f"| {' | '.join(row)} |" for row in (table.names, ["---"] * len(table.names), *rows)]


def _plain(text: str) -> str:
    """Text that Markdown shows as it is. An underscore within a word means nothing to it."""
    text = re.sub(r"[\r\n]+", " ", text)
    return re.sub(r"[\\`*\[\]<>|~#]|(?<![^\W_])_|_(?![^\W_])", r"\\\g<0>", text)
