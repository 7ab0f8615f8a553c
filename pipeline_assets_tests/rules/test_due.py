"""A promise by the clock is one instant, whatever the clock of the zone does that night."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline_assets.errors import SettingsError
from pipeline_assets.rules.calendar import day_bounds, zone
from pipeline_assets.rules.due import WEEKDAYS, Due, by, due_from_json, first_instant

ZONES = [
    "UTC",
    "Europe/London",
    "America/New_York",
    "America/Sao_Paulo",  # until 2019 the clock went forward at midnight
    "Pacific/Apia",  # 2011-12-30 did not exist
    "Africa/Monrovia",  # until 1972 behind by 44 minutes and 30 seconds
    "Asia/Kathmandu",
    "America/St_Johns",  # until 2011 the clock went back at a minute past midnight
    "Australia/Lord_Howe",  # by half an hour
    "Africa/Cairo",
    "Antarctica/Troll",  # by two hours
]
TURNING_DAYS = [
    date(1972, 1, 7),
    date(2006, 10, 29),
    date(2011, 12, 30),
    date(2018, 2, 18),
    date(2018, 11, 4),
    date(2026, 3, 8),
    date(2026, 3, 29),
    date(2026, 4, 5),
    date(2026, 10, 4),
    date(2026, 10, 25),
    date(2026, 11, 1),
]
DAYS = st.dates(date(1970, 6, 1), date(2037, 6, 1)) | st.builds(
    lambda day, n: day + timedelta(days=n), st.sampled_from(TURNING_DAYS), st.integers(-3, 2)
)
TIMES = st.times().map(lambda at: at.replace(second=0, microsecond=0))
SECOND = timedelta(seconds=1)
HOLIDAYS = st.frozensets(st.dates(date(2026, 1, 1), date(2026, 3, 1)), max_size=20)


@st.composite
def dues(draw: st.DrawFn) -> Due:
    """Any promise that can be meant."""
    at = draw(TIMES)
    earlier = st.times(max_value=at).map(lambda warn: warn.replace(second=0, microsecond=0)).filter(lambda w: w < at)
    warn = draw(st.none() | earlier) if at > time.min else None
    return by(
        f"{at:%H:%M}",
        timezone=draw(st.sampled_from(ZONES)),
        days_after=draw(st.integers(1, 40)),
        warn=None if warn is None else f"{warn:%H:%M}",
        weekdays=draw(st.none() | st.sets(st.sampled_from(WEEKDAYS), min_size=1)),
        holidays=draw(HOLIDAYS),
        since=draw(st.none() | st.dates(date(2025, 12, 1), date(2026, 2, 1))),
        objective=draw(st.floats(0.01, 1)),
    )


def shown(instant: datetime, name: str) -> datetime:
    """What the clock of the zone shows."""
    return instant.astimezone(zone(name)).replace(tzinfo=None)


@given(day=DAYS, at=TIMES, name=st.sampled_from(ZONES))
@example(day=date(2011, 12, 30), at=time(6, 40, fold=1), name="Pacific/Apia")
def test_an_instant_is_the_first_at_which_the_clock_shows_the_time_or_a_later_one(
    day: date, at: time, name: str
) -> None:
    wall = datetime.combine(day, at)
    found = first_instant(day, at, name)

    assert found.tzinfo is UTC
    assert shown(found, name) >= wall
    assert shown(found - SECOND, name) < wall
    # No clock jumps by more than a day, and no two jumps of one are that close.
    for minutes in range(30, 26 * 60, 30):
        assert shown(found - timedelta(minutes=minutes), name) < wall


@given(due=dues(), first=DAYS, count=st.integers(1, 8))
def test_deadlines_follow_each_other_and_warnings_come_before(due: Due, first: date, count: int) -> None:
    days = [first + timedelta(days=n) for n in range(count)]
    deadlines = [due.deadline(day) for day in days]

    assert deadlines == sorted(deadlines)
    for day, deadline in zip(days, deadlines, strict=True):
        warn_at = due.warn_at(day)
        assert warn_at is None or warn_at <= deadline
        assert deadline >= day_bounds(day, str(due.timezone))[1], "before the day was over"


@pytest.mark.parametrize(
    ("name", "date_", "at", "expected"),
    [
        ("UTC", date(2026, 11, 20), "06:00", "2026-11-20T06:00Z"),
        ("Europe/London", date(2026, 7, 1), "06:00", "2026-07-01T05:00Z"),
        ("Europe/London", date(2026, 12, 1), "06:00", "2026-12-01T06:00Z"),
        # The clock goes from 00:59:59 to 02:00: 01:30 is left out, and meant is the jump.
        ("Europe/London", date(2026, 3, 29), "01:00", "2026-03-29T01:00Z"),
        ("Europe/London", date(2026, 3, 29), "01:30", "2026-03-29T01:00Z"),
        ("Europe/London", date(2026, 3, 29), "02:00", "2026-03-29T01:00Z"),
        ("Europe/London", date(2026, 3, 29), "02:30", "2026-03-29T01:30Z"),
        # From 01:59:59 back to 01:00: 01:30 comes twice, and meant is the first.
        ("Europe/London", date(2026, 10, 25), "01:30", "2026-10-25T00:30Z"),
        ("Europe/London", date(2026, 10, 25), "02:00", "2026-10-25T02:00Z"),
        ("Australia/Lord_Howe", date(2026, 10, 4), "02:15", "2026-10-03T15:30Z"),
        ("Australia/Lord_Howe", date(2026, 4, 5), "01:45", "2026-04-04T14:45Z"),
        # The 30th was skipped: what was due on it is due when the 31st begins.
        ("Pacific/Apia", date(2011, 12, 30), "06:00", "2011-12-30T10:00Z"),
        ("Pacific/Apia", date(2011, 12, 31), "00:00", "2011-12-30T10:00Z"),
        ("Pacific/Apia", date(2011, 12, 31), "06:00", "2011-12-30T16:00Z"),
        ("Africa/Monrovia", date(1971, 5, 1), "06:00", "1971-05-01T06:44:30Z"),
        ("America/Sao_Paulo", date(2018, 11, 4), "00:30", "2018-11-04T03:00Z"),
    ],
)
def test_a_time_of_the_clock_is_this_instant(name: str, date_: date, at: str, expected: str) -> None:
    due = by(at, timezone=name, days_after=1)

    assert due.deadline(date_ - timedelta(days=1)) == datetime.fromisoformat(expected)


def test_days_after_are_days_of_the_calendar_not_of_24_hours() -> None:
    due = by("06:00", timezone="Europe/London", days_after=3)

    assert due.deadline(date(2026, 3, 27)) == datetime(2026, 3, 30, 5, tzinfo=UTC)
    assert due.deadline(date(2026, 3, 26)) == datetime(2026, 3, 29, 5, tzinfo=UTC)
    assert due.deadline(date(2026, 3, 25)) == datetime(2026, 3, 28, 6, tzinfo=UTC)


def test_weekdays_and_holidays_are_those_of_the_partition_not_of_the_deadline() -> None:
    friday, saturday, monday = date(2026, 11, 20), date(2026, 11, 21), date(2026, 11, 23)
    due = by("06:00", timezone="UTC", weekdays=["mon", "tue", "wed", "thu", "fri"], holidays=[date(2026, 11, 24)])

    assert [due.is_due(day) for day in (friday, saturday, monday, date(2026, 11, 24))] == [True, False, True, False]
    assert due.deadline(friday) == datetime(2026, 11, 21, 6, tzinfo=UTC), "on a Saturday"
    assert due.days_due(date(2026, 11, 19), date(2026, 11, 25)) == [
        date(2026, 11, 19),
        friday,
        monday,
        date(2026, 11, 25),
    ]


def test_nothing_is_due_before_its_first_day() -> None:
    due = by("06:00", timezone="UTC", since=date(2026, 11, 20))

    assert not due.is_due(date(2026, 11, 19))
    assert due.is_due(date(2026, 11, 20))
    assert due.last_due_day(datetime(2026, 11, 21, 5, tzinfo=UTC)) is None
    assert due.last_due_day(datetime(2026, 11, 21, 7, tzinfo=UTC)) == date(2026, 11, 20)
    assert due.next_deadline(datetime(2026, 1, 1, tzinfo=UTC)) == datetime(2026, 11, 21, 6, tzinfo=UTC)


@given(due=dues(), now=st.datetimes(datetime(2026, 1, 1), datetime(2026, 4, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_the_last_due_day_and_the_next_deadline_are_those_of_a_search_through_all_days(due: Due, now: datetime) -> None:
    days = due.days_due(now.date() - timedelta(days=120), now.date() + timedelta(days=60))
    passed = [day for day in days if due.deadline(day) < now]

    assert due.last_due_day(now) == max(passed, default=None)
    assert due.next_deadline(now) == min(due.deadline(day) for day in days if due.deadline(day) >= now)


def test_a_deadline_has_passed_once_its_instant_is_over() -> None:
    due = by("06:00", timezone="UTC")
    deadline = datetime(2026, 11, 21, 6, tzinfo=UTC)

    assert due.last_due_day(deadline) == date(2026, 11, 19)
    assert due.next_deadline(deadline) == deadline
    assert due.last_due_day(deadline + timedelta(microseconds=1)) == date(2026, 11, 20)


@given(due=dues())
def test_a_due_survives_json(due: Due) -> None:
    assert due_from_json(json.loads(json.dumps(due.as_json()))) == due


def test_a_due_without_a_zone_takes_that_of_the_partitions() -> None:
    floating, fixed = by("06:00"), by("06:00", timezone="Asia/Kathmandu")

    assert floating.in_zone("Europe/London") == by("06:00", timezone="Europe/London")
    assert fixed.in_zone("Europe/London") == fixed
    assert due_from_json(floating.as_json()) == floating
    with pytest.raises(ValueError, match="no time zone is stated"):
        floating.deadline(date(2026, 11, 20))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "by 06:00 of the partitions, 1 day after"),
        ({"timezone": "Europe/London", "days_after": 2}, "by 06:00 Europe/London, 2 days after"),
        ({"timezone": "UTC", "weekdays": ["fri", "mon"]}, "by 06:00 UTC, 1 day after, for mon fri"),
    ],
    ids=["bare", "zone", "weekdays"],
)
def test_a_due_says_itself_in_words(options: dict[str, Any], words: str) -> None:
    assert by("06:00", **options).words == words


@pytest.mark.parametrize(
    ("at", "options", "words"),
    [
        ("6:00", {}, "at='6:00' is no time of the clock; write HH:MM"),
        ("24:00", {}, "at='24:00' is no time"),
        ("06:00:00", {}, "is no time"),
        ("06:00", {"warn": "5.30"}, "warn='5.30' is no time"),
        ("06:00", {"warn": "06:00"}, "warn='06:00' is not before '06:00'"),
        ("00:30", {"warn": "23:30"}, "a warning comes earlier on that date"),
        ("06:00", {"days_after": 0}, "days_after=0: a day is over on the day after it"),
        ("06:00", {"days_after": 367}, "write 1 to 366"),
        ("06:00", {"weekdays": []}, "nothing is ever due"),
        ("06:00", {"weekdays": ["Monday"]}, "weekday 'Monday' is none of mon, tue"),
        ("06:00", {"objective": 0.0}, "objective=0.0 is a share"),
        ("06:00", {"objective": 95}, "such as 0.95"),
    ],
    ids=lambda value: None if isinstance(value, dict) else str(value)[:20],
)
def test_what_cannot_be_meant_is_refused_with_what_to_write(at: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        by(at, **options)


def test_a_zone_that_does_not_exist_is_refused() -> None:
    with pytest.raises(SettingsError, match="'Europe/Londn' does not exist"):
        by("06:00", timezone="Europe/Londn")
