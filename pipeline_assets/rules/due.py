"""When a partition must be there: `by("06:00")`, as instants of the clock that the promise was made on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from pipeline_assets.partition import days_between
from pipeline_assets.rules.calendar import zone

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Due:
    """A promise: the partition of a day is there by a time of the clock, some days after.

    Clocks jump. A time means the first instant at which the clock of the zone, its date included, shows that time or
    a later one: a time that is left out is the moment of the jump, one that comes twice is the first of the two.

    Args: as of `by`, which makes it, but for these two.
        timezone: IANA name; None until it is known, see `in_zone`.
        weekdays: 0 being Monday.
    """

    at: time
    timezone: str | None
    days_after: int
    warn: time | None
    weekdays: frozenset[int]
    holidays: frozenset[date]
    since: date | None
    objective: float

    def __post_init__(self) -> None:
        if not 1 <= self.days_after <= 366:  # noqa: PLR2004 - a year
            raise ValueError(f"days_after={self.days_after}: a day is over on the day after it, so write 1 to 366")
        if self.warn is not None and self.warn >= self.at:
            raise ValueError(
                f"warn={_clock(self.warn)!r} is not before {_clock(self.at)!r}; a warning comes earlier on that date"
            )
        if not self.weekdays:
            raise ValueError(
                f"weekdays is empty, so nothing is ever due; name some of {', '.join(WEEKDAYS)}, or leave it out"
            )
        if not 0 < self.objective <= 1:
            raise ValueError(
                f"objective={self.objective} is a share of the due days: above 0 and at most 1, such as 0.95"
            )
        if self.timezone is not None:
            zone(self.timezone)

    def in_zone(self, timezone: str) -> Due:
        """The same promise; a zone that was stated stays."""
        return self if self.timezone is not None else replace(self, timezone=timezone)

    def deadline(self, day: date) -> datetime:
        """The last instant, in UTC, at which the partition of the day is on time."""
        return self._instant(day, self.at)

    def warn_at(self, day: date) -> datetime | None:
        """When to warn, in UTC; never after the deadline."""
        return None if self.warn is None else self._instant(day, self.warn)

    def is_due(self, day: date) -> bool:
        """True for a day that the promise is about."""
        return day.weekday() in self.weekdays and day not in self.holidays and (self.since is None or day >= self.since)

    def days_due(self, first: date, last: date) -> list[date]:
        """List the days from `first` to `last`, both included, that are due."""
        return [day for day in days_between(first, last) if self.is_due(day)]

    def last_due_day(self, now: datetime) -> date | None:
        """The newest day whose deadline has passed; None when `since` is still to come."""
        days = (self._today(now) - timedelta(days=n) for n in range(self.days_after - 1, self._reach_days()))
        return next((day for day in days if self.is_due(day) and self.deadline(day) < now), None)

    def next_deadline(self, now: datetime) -> datetime:
        """The first deadline that has not passed, in UTC."""
        start = max(self._today(now) - timedelta(days=self.days_after + 1), self.since or date.min)
        days = (start + timedelta(days=n) for n in range(self._reach_days()))
        return next(self.deadline(day) for day in days if self.is_due(day) and self.deadline(day) >= now)

    @property
    def words(self) -> str:
        """Say the promise as in "by 06:00 Europe/London, 1 day after"."""
        text = f"by {_clock(self.at)} {self.timezone or 'of the partitions'}"
        text += f", {self.days_after} day{'s' if self.days_after > 1 else ''} after"
        if len(self.weekdays) < len(WEEKDAYS):
            text += f", for {' '.join(WEEKDAYS[number] for number in sorted(self.weekdays))}"
        return text

    def as_json(self) -> dict[str, Any]:
        """Give values that JSON has; `due_from_json` reads them."""
        return {
            "at": _clock(self.at),
            "timezone": self.timezone,
            "days_after": self.days_after,
            "warn": self.warn and _clock(self.warn),
            "weekdays": [WEEKDAYS[number] for number in sorted(self.weekdays)],
            "holidays": [day.isoformat() for day in sorted(self.holidays)],
            "since": self.since and self.since.isoformat(),
            "objective": self.objective,
        }

    def _instant(self, day: date, at: time) -> datetime:
        if self.timezone is None:
            raise ValueError(f"{self.words}: no time zone is stated; take it from the partitions with in_zone()")
        return first_instant(day + timedelta(days=self.days_after), at, self.timezone)

    def _today(self, now: datetime) -> date:
        return now.astimezone(zone(self.timezone or "UTC")).date()

    def _reach_days(self) -> int:
        """Enough days that one of them is due, however the holidays lie."""
        return self.days_after + len(WEEKDAYS) * (len(self.holidays) + 2)


def by(
    at: str,
    *,
    timezone: str | None = None,
    days_after: int = 1,
    warn: str | None = None,
    weekdays: Iterable[str] | None = None,
    holidays: Iterable[date] = (),
    since: date | None = None,
    objective: float = 0.95,
) -> Due:
    """The promise that a day's partition is there by a time of the clock, "HH:MM".

    Args:
        timezone: of the clock; that of the partitions unless stated.
        days_after: 1 is the calendar day after the partition's, which is the first on which the day is over.
        warn: an earlier time on the date of the deadline.
        weekdays: days that are due, such as ("mon", "tue"); of the partition, not of the deadline. All unless stated.
        holidays: days that are not due.
        since: the first day that is due. From it on every day is judged, also those before the asset was there.
        objective: share of the due days that is promised to be on time.

    Raises:
        ValueError: a value cannot be meant; the message says which.
        SettingsError: there is no such time zone.
    """
    return Due(
        at=_time("at", at),
        timezone=timezone,
        days_after=days_after,
        warn=None if warn is None else _time("warn", warn),
        weekdays=frozenset(_weekdays(WEEKDAYS if weekdays is None else weekdays)),
        holidays=frozenset(holidays),
        since=since,
        objective=objective,
    )


def due_from_json(values: Mapping[str, Any]) -> Due:
    """Read the promise that `Due.as_json` wrote."""
    holidays, since = map(date.fromisoformat, values["holidays"]), values["since"]
    return by(**{**values, "holidays": holidays, "since": since and date.fromisoformat(since)})


def first_instant(day: date, at: time, timezone: str) -> datetime:
    """The first instant, in UTC, at which the clock of a zone shows this date and time or later ones."""
    local = zone(timezone)
    wall = datetime.combine(day, at.replace(fold=0))  # which of two instants is meant is said here, not by who asks
    # Of a time that comes twice, fold=0 is the first. Of one that is left out, it lies after the jump, fold=1 before.
    found = wall.replace(tzinfo=local).astimezone(UTC)
    if found.astimezone(local).replace(tzinfo=None, fold=0) == wall:
        return found
    before = wall.replace(tzinfo=local, fold=1).astimezone(UTC)
    while found - before > _SECOND:  # clocks jump at whole seconds
        middle = before + (found - before) // _SECOND // 2 * _SECOND
        if middle.astimezone(local).replace(tzinfo=None) >= wall:
            found = middle
        else:
            before = middle
    return found


def _time(name: str, text: str) -> time:
    if not isinstance(text, str) or not _TIME.fullmatch(text):
        raise ValueError(f"{name}={text!r} is no time of the clock; write HH:MM from 00:00 to 23:59, such as '06:00'")
    return time.fromisoformat(text)


def _weekdays(names: Iterable[str]) -> Iterator[int]:
    for name in [names] if isinstance(names, str) else names:
        if name not in WEEKDAYS:
            raise ValueError(f"weekday {name!r} is none of {', '.join(WEEKDAYS)}")
        yield WEEKDAYS.index(name)


def _clock(at: time) -> str:
    return at.strftime("%H:%M")
