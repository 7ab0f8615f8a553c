"""Where the marks of a plot are: inside it, on the right side of the deadline, and the misses on top."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.partition import days_between
from pipeline_assets.report.plots import (
    BOTTOM,
    HEIGHT,
    LEFT,
    OFF_SCALE_Y,
    RIGHT,
    STRIP_WIDTH,
    TICKS,
    WIDTH,
    Plot,
    delivery_plot,
    duration_plot,
    strip,
    told,
)
from pipeline_assets.rules.sla import Delivery, DeliveryStatus, SlaReport
from pipeline_assets_tests.report import reports
from pipeline_assets_tests.report.reports import FIRST, LAST, miss, on_time, report_of, table_of
from pipeline_assets_tests.support.properties import examples

HOUR_MINUTES = 60.0


def deliveries(late_minutes: list[float | None]) -> list[Delivery]:
    """One day after the other: minutes late, early ones negative; None did not come."""
    days = days_between(LAST - timedelta(days=len(late_minutes) - 1), LAST)
    return [
        miss("t", day, DeliveryStatus.BROKEN, late_minutes=90)
        if late is None
        else miss("t", day, late_minutes=late)
        if late > 0
        else on_time("t", day, early_minutes=-late)
        for day, late in zip(days, late_minutes, strict=True)
    ]


def report_for(found: list[Delivery]) -> SlaReport:
    return report_of(table_of("t", found), first=found[0].day, last=found[-1].day)


def delivered(late_minutes: list[float | None]) -> Plot:
    report = report_for(deliveries(late_minutes))
    return delivery_plot(report, report.tables[0])


offsets = st.lists(
    st.one_of(st.none(), st.floats(-40 * 24 * HOUR_MINUTES, 400 * 24 * HOUR_MINUTES, allow_nan=False)),
    min_size=1,
    max_size=40,
)


@examples(60)
@given(offsets)
def test_every_mark_is_on_its_side_of_the_deadline_and_inside_the_plot(late_minutes: list[float | None]) -> None:
    plot = delivered(late_minutes)
    marks = sorted(plot.marks, key=lambda mark: mark.x)

    assert len(marks) == len(late_minutes)
    for mark, late in zip(marks, late_minutes, strict=True):
        assert LEFT < mark.x < WIDTH - RIGHT
        assert 0 < mark.y <= HEIGHT - BOTTOM
        if late is None:
            assert mark.y == OFF_SCALE_Y
        elif late > 0:
            assert mark.y <= plot.zero_y
        else:
            assert mark.y >= plot.zero_y
    assert all(0 < line.y <= HEIGHT - BOTTOM for line in plot.grid)
    assert 1 <= len(plot.grid) <= 9
    assert sum(line.label == "deadline" for line in plot.grid) == 1
    assert 1 <= len(plot.ticks) <= TICKS


def test_later_is_higher() -> None:
    y = [mark.y for mark in sorted(delivered([-60, -30, 0, 30, 60]).marks, key=lambda mark: mark.x)]

    assert y == sorted(y, reverse=True)
    assert len(set(y)) == 5


def test_one_old_day_does_not_flatten_the_others() -> None:
    """A partition that was computed anew after months is hundreds of days late."""
    plot = delivered([-60, 30, 45, 300 * 24 * HOUR_MINUTES])
    lateness = [mark for mark in plot.marks if mark.status is DeliveryStatus.LATE]

    assert plot.off_scale_seconds == 6 * 3600
    assert plot.has_band
    assert [mark.y == OFF_SCALE_Y for mark in lateness] == [False, False, True]
    assert plot.zero_y - lateness[0].y > 20


def test_a_plot_without_absent_days_has_no_band_for_them() -> None:
    assert not delivered([-60, 30]).has_band
    assert delivered([-60, None]).has_band
    assert delivered([-60, None]).off_scale_seconds is None


def test_misses_are_drawn_last_and_stay_large_in_a_long_report() -> None:
    report = reports.long_history(366)
    for plot in (delivery_plot(report, report.tables[0]), strip(report, report.tables[0])):
        missed = [mark.status is DeliveryStatus.LATE for mark in plot.marks]
        assert missed == sorted(missed)
        assert min(mark.size for mark in plot.marks if mark.status is DeliveryStatus.LATE) >= 4
        assert max(mark.x for mark in plot.marks) < WIDTH


def test_a_day_has_its_place_whether_the_days_around_it_were_due_or_not() -> None:
    weekly = report_of(table_of("t", [on_time("t", FIRST), on_time("t", LAST)]))
    plot = strip(weekly, weekly.tables[0])

    assert [mark.x for mark in plot.marks] == [STRIP_WIDTH / 60, STRIP_WIDTH - STRIP_WIDTH / 60]


def test_bars_begin_at_zero_and_the_trend_is_the_least_squares_line() -> None:
    days = days_between(FIRST, FIRST + timedelta(days=9))
    report = report_for([on_time("t", day, seconds=20 + 8 * number) for number, day in enumerate(days)])
    plot = duration_plot(report, report.tables[0])

    assert plot is not None
    assert [line.label for line in plot.grid] == ["0 s", "30 s", "60 s", "90 s", "120 s"][: len(plot.grid)]
    floor = HEIGHT - BOTTOM
    assert plot.zero_y == floor
    assert all(mark.y + mark.height == pytest.approx(floor, abs=0.02) for mark in plot.marks)
    assert plot.marks[9].height / plot.marks[0].height == pytest.approx(92 / 20, rel=0.01)
    assert plot.trend == pytest.approx((plot.marks[0].x, plot.marks[0].y, plot.marks[9].x, plot.marks[9].y), abs=0.02)


def test_no_duration_makes_no_plot_and_one_makes_no_trend() -> None:
    none = report_for([on_time("t", LAST, seconds=None)])
    one = report_for([on_time("t", LAST, seconds=0)])
    plot = duration_plot(one, one.tables[0])

    assert duration_plot(none, none.tables[0]) is None
    assert plot is not None
    assert plot.trend is None


@pytest.mark.parametrize(
    ("late_minutes", "labels"),
    [
        ([-70.0, 45.0], ["1 h late", "0.5 h late", "deadline", "0.5 h early", "1 h early", "1.5 h early"]),
        ([-3.0], ["deadline", "1 min early", "2 min early", "3 min early"]),
        ([0.0], ["deadline", "1 min early"]),
        ([None], ["deadline", "1 min early"]),
        ([-90 * 24 * 60.0], ["deadline", "32 d early", "64 d early", "96 d early"]),
    ],
    ids=["hours", "minutes", "to-the-second", "nothing-came", "months"],
)
def test_an_axis_is_labelled_in_one_unit(late_minutes: list[float | None], labels: list[str]) -> None:
    assert [line.label for line in reversed(delivered(late_minutes).grid)] == labels


def test_a_day_is_told_with_times_of_the_deadlines_zone() -> None:
    assert told(miss("t", FIRST, late_minutes=40), "Europe/London") == (
        "22 October 2026: late, delivered 23 Oct 2026, 06:40 BST, deadline 23 Oct 2026, 06:00 BST, 40 min late: failed"
    )
    assert told(on_time("t", LAST), "UTC") == (
        "20 November 2026: on time, delivered 21 Nov 2026, 05:30 UTC, deadline 21 Nov 2026, 06:00 UTC"
    )
