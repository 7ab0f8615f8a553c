"""Partitions, days, and days in words: the ground floor, one word for a day of a table everywhere."""

from collections.abc import Collection, Sequence
from datetime import date, timedelta
from typing import NamedTuple


class Partition(NamedTuple):
    """One day of one table.

    Args:
        table: names joined by "/".
        key: which of the table's partitions; a day, as all tables here are partitioned by days.
    """

    table: str
    key: date

    @property
    def day(self) -> date:
        """The key of a table that is partitioned by days."""
        return self.key

    def __str__(self) -> str:
        return f"{self.table} {self.key}"


def days_between(first: date, last: date) -> list[date]:
    """Every day from first to last, both included; empty when last is before first."""
    return [first + timedelta(days=offset) for offset in range((last - first).days + 1)]


def ranges_of(days: Sequence[date]) -> list[tuple[date, date]]:
    """Ascending days as (first, last) of each unbroken stretch."""
    ranges: list[tuple[date, date]] = []
    for day in days:
        if ranges and (day - ranges[-1][1]).days <= 1:
            ranges[-1] = (ranges[-1][0], day)
        else:
            ranges.append((day, day))
    return ranges


def parts_of(first: date, last: date, days: int | None) -> list[tuple[date, date]]:
    """A stretch in parts of so many days, the last one shorter; whole if `days` is None."""
    if days is None:
        return [(first, last)]
    starts = [first + timedelta(days=offset) for offset in range(0, (last - first).days + 1, days)]
    return [(start, min(start + timedelta(days=days - 1), last)) for start in starts]


def span_in_words(first: date, last: date) -> str:
    """As in "2026-06-10" and "2026-06-10 to 2026-06-14"."""
    return str(first) if first == last else f"{first} to {last}"


def days_in_words(days: Collection[date], *, at_most: int | None = None) -> str:
    """Name the unbroken stretches of days that come in any order; see `spans_in_words`."""
    return spans_in_words(ranges_of(sorted(days)), at_most=at_most)


def spans_in_words(spans: Sequence[tuple[date, date]], *, at_most: int | None = None) -> str:
    """Name stretches of days; of more than `at_most` the first are named, the others counted."""
    named = [span_in_words(*span) for span in spans[:at_most]]
    more = [f"and {len(spans) - len(named)} more stretches"] if len(spans) > len(named) else []
    return ", ".join([*named, *more])
