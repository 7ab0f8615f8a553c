"""How far a change reaches: which days of which tables are made from days that are computed anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline_assets.rules.calendar import days_between

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date

    from pipeline_assets.rules.windows import Window


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the graph and the window it reads of each of its upstream tables."""

    name: str
    reads: Mapping[str, Window]


def days_to_compute(
    tables: Sequence[Table], asked: Sequence[date], existing: Mapping[str, Iterable[date]]
) -> dict[str, list[date]]:
    """Days per table: those asked for, and those that exist already and read a day that is computed anew.

    So chunks of a range end in the same lake in whatever order they are run: late arrivals reach back into days that
    were computed before them, windows reach forward into days that were.

    Args:
        tables: upstream first.
        existing: days of each table that have been computed.
    """
    days: dict[str, list[date]] = {}
    for table in tables:
        wanted = set(asked)
        candidates = set(existing.get(table.name, ())) - wanted
        for upstream, window in table.reads.items():
            for day in days.get(upstream, ()):
                wanted |= candidates.intersection(window.downstream_of(day))
        days[table.name] = sorted(wanted)
    return days


def ranges_of(days: Sequence[date]) -> list[tuple[date, date]]:
    """Ascending days as (first, last) of each unbroken stretch."""
    ranges: list[tuple[date, date]] = []
    for day in days:
        if ranges and len(days_between(ranges[-1][1], day)) == 2:  # noqa: PLR2004 - the last day and this one
            ranges[-1] = (ranges[-1][0], day)
        else:
            ranges.append((day, day))
    return ranges
