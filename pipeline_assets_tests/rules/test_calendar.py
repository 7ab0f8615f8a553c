"""Days of a zone are spans of UTC that leave no instant out and hold none twice."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.errors import SettingsError
from pipeline_assets.partition import days_between
from pipeline_assets.rules.calendar import day_bounds, zone

ZONES = [
    "UTC",
    "Europe/London",
    "America/Sao_Paulo",  # until 2019 the clock went forward at midnight, which then did not exist
    "Pacific/Apia",  # 2011-12-30 did not exist
    "Asia/Kathmandu",  # five hours and three quarters ahead
    "America/St_Johns",  # until 2011 the clock went back at a minute past midnight
    "Australia/Lord_Howe",  # by half an hour
    "Africa/Cairo",
]
TURNING_DAYS = [
    date(2006, 10, 29),
    date(2011, 12, 30),
    date(2018, 2, 18),
    date(2018, 11, 4),
    date(2026, 3, 29),
    date(2026, 4, 5),
    date(2026, 10, 25),
]
"""Of one of the zones at least."""
DAYS = st.dates(date(1970, 1, 2), date(2037, 12, 30)) | st.builds(
    lambda day, n: day + timedelta(days=n), st.sampled_from(TURNING_DAYS), st.integers(-2, 2)
)
INSTANTS = st.builds(
    lambda day, seconds: datetime.combine(day, time.min, UTC) + timedelta(seconds=seconds),
    DAYS,
    st.integers(0, 24 * 60 * 60) | st.builds(lambda hour: hour * 1800 - 1, st.integers(1, 48)),
)
HOUR = timedelta(hours=1)


@given(day=DAYS, name=st.sampled_from(ZONES))
def test_a_day_ends_where_the_next_one_begins(day: date, name: str) -> None:
    start, end = day_bounds(day, name)

    assert end == day_bounds(day + timedelta(days=1), name)[0]
    assert start <= end
    assert (start.tzinfo, end.tzinfo) == (UTC, UTC)


@given(day=DAYS, name=st.sampled_from(ZONES))
def test_a_day_begins_with_its_first_instant(day: date, name: str) -> None:
    start, end = day_bounds(day, name)
    local = zone(name)

    assert (start - timedelta(microseconds=1)).astimezone(local).date() < day
    assert start == end or start.astimezone(local).date() == day


@given(instant=INSTANTS, name=st.sampled_from(ZONES))
def test_an_instant_is_in_the_day_that_its_local_clock_shows(instant: datetime, name: str) -> None:
    shown = instant.astimezone(zone(name)).date()
    holding = [day for n in (-1, 0, 1) if _holds(day := shown + timedelta(days=n), name, instant)]

    # Where the clock goes back across midnight, what it shows for the second time stays with the day that has begun.
    again = name == "America/St_Johns" and holding == [shown + timedelta(days=1)]
    assert holding == [shown] or again


def _holds(day: date, name: str, instant: datetime) -> bool:
    start, end = day_bounds(day, name)
    return start <= instant < end


@pytest.mark.parametrize(
    ("name", "day", "hours"),
    [
        ("UTC", date(2026, 3, 29), 24),
        ("Europe/London", date(2026, 3, 28), 24),
        ("Europe/London", date(2026, 3, 29), 23),
        ("Europe/London", date(2026, 10, 25), 25),
        ("America/Sao_Paulo", date(2018, 11, 4), 23),
        ("America/Sao_Paulo", date(2018, 2, 17), 25),
        ("America/Sao_Paulo", date(2026, 11, 1), 24),
        ("Asia/Kathmandu", date(2026, 6, 10), 24),
        ("Australia/Lord_Howe", date(2026, 4, 5), 24.5),
        ("Pacific/Apia", date(2011, 12, 29), 24),
        ("Pacific/Apia", date(2011, 12, 30), 0),
        ("Pacific/Apia", date(2011, 12, 31), 24),
    ],
)
def test_a_day_has_as_many_hours_as_its_zone_gives_it(name: str, day: date, hours: float) -> None:
    start, end = day_bounds(day, name)

    assert (end - start) / HOUR == hours


def test_bounds_are_local_midnights_as_utc() -> None:
    assert day_bounds(date(2026, 6, 10), "Europe/London") == (
        datetime(2026, 6, 9, 23, tzinfo=UTC),
        datetime(2026, 6, 10, 23, tzinfo=UTC),
    )
    assert day_bounds(date(2026, 6, 10), "Asia/Kathmandu")[0] == datetime(2026, 6, 9, 18, 15, tzinfo=UTC)
    # There is no midnight; the day begins at one.
    assert day_bounds(date(2018, 11, 4), "America/Sao_Paulo")[0] == datetime(2018, 11, 4, 3, tzinfo=UTC)


@pytest.mark.parametrize("name", ["Europe/Londn", "", "UTC+1:00", "../etc/passwd", "/etc/localtime", "\0", "Europe"])
def test_an_unknown_zone_is_named_with_what_to_write_instead(name: str) -> None:
    with pytest.raises(SettingsError, match="use an IANA name such as 'Europe/London'") as unknown:
        day_bounds(date(2026, 6, 10), name)
    assert repr(name) in str(unknown.value)


@given(first=DAYS, count=st.integers(0, 400))
def test_days_between_are_consecutive_and_hold_both_ends(first: date, count: int) -> None:
    days = days_between(first, first + timedelta(days=count))

    assert days == [first + timedelta(days=n) for n in range(count + 1)]


def test_there_are_no_days_between_a_day_and_an_earlier_one() -> None:
    assert days_between(date(2026, 6, 10), date(2026, 6, 9)) == []
    assert days_between(date(2026, 6, 10), date(2025, 6, 9)) == []
