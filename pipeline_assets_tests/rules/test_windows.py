"""Windows: the days that a day reads, and the days that read it."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.rules.windows import Window, arrivals, same_day, trailing

DAY = date(2026, 3, 1)
DAYS = st.dates(date(2000, 1, 1), date(2050, 1, 1))
WINDOWS = st.builds(Window, st.integers(-40, 0), st.integers(0, 10))


@given(window=WINDOWS, day=DAYS, distance=st.integers(-60, 60))
def test_a_day_reads_another_one_exactly_when_that_one_is_read_by_it(window: Window, day: date, distance: int) -> None:
    other = day + timedelta(days=distance)

    assert (other in window.upstream_of(day)) == (day in window.downstream_of(other))


@given(window=WINDOWS, day=DAYS)
def test_a_window_is_ascending_unbroken_and_holds_its_own_day(window: Window, day: date) -> None:
    for days in (window.upstream_of(day), window.downstream_of(day)):
        assert days == [days[0] + timedelta(days=n) for n in range(len(days))]
        assert day in days
    assert window.is_single_day == (window.upstream_of(day) == [day])


def test_the_same_day_reads_itself_alone() -> None:
    assert same_day().upstream_of(DAY) == same_day().downstream_of(DAY) == [DAY]
    assert same_day().is_single_day


def test_a_trailing_window_ends_with_its_day() -> None:
    assert trailing(days=3).upstream_of(DAY) == [date(2026, 2, 27), date(2026, 2, 28), DAY]
    assert trailing(days=3).downstream_of(DAY) == [DAY, date(2026, 3, 2), date(2026, 3, 3)]
    assert trailing(days=1) == same_day()


def test_arrivals_reach_from_the_day_before_to_the_last_late_day() -> None:
    assert arrivals(lateness_days=2).upstream_of(DAY) == [DAY + timedelta(days=n) for n in (-1, 0, 1, 2)]
    assert arrivals(lateness_days=0).downstream_of(DAY) == [DAY, date(2026, 3, 2)]


@pytest.mark.parametrize(("first", "last"), [(1, 2), (-2, -1), (1, 0)])
def test_a_window_without_its_own_day_is_refused(first: int, last: int) -> None:
    with pytest.raises(ValueError, match="a window holds its own day"):
        Window(first, last)
    with pytest.raises(ValueError, match="a window holds its own day"):
        trailing(days=0)
