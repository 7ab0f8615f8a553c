"""The numbers of a report are those that numpy gives."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.rules.due import by
from pipeline_assets.rules.sla import Delivery, DeliveryStatus, TableReport, table_report

FIRST = date(2026, 10, 20)
DUE = by("06:00", timezone="Europe/London", days_after=2, objective=0.95)
NOW = datetime(2026, 12, 24, 12, tzinfo=UTC)
MISSES = [DeliveryStatus.LATE, DeliveryStatus.MISSING, DeliveryStatus.BROKEN]
SECONDS = st.floats(0, 1e6)


def delivery(number: int, status: DeliveryStatus, late: float | None = None, took: float | None = None) -> Delivery:
    day = FIRST + timedelta(days=number)
    return Delivery("sales", day, DUE.deadline(day), status, late_seconds=late, duration_seconds=took)


def report(*deliveries: Delivery, now: datetime = NOW) -> TableReport:
    return table_report("sales", DUE, deliveries, now=now, owners=["team:data"])


def test_a_report_of_thirty_days_down_to_the_number() -> None:
    days = [delivery(n, DeliveryStatus.ON_TIME, took=10.0 + n) for n in range(27)]
    days += [delivery(27, DeliveryStatus.LATE, 600.0, 100.0), delivery(28, DeliveryStatus.BROKEN, 3600.0)]
    days += [delivery(29, DeliveryStatus.MISSING, 1200.0)]
    made = report(*days)

    assert made.on_time_share == 0.9
    assert made.budget_days == 1.5
    assert made.budget_left_days == -1.5
    assert made.lateness_p50_seconds == 1200
    assert made.lateness_p95_seconds == 3360
    assert made.duration_mean_seconds == pytest.approx((sum(range(10, 37)) + 100) / 28)
    assert [each.day for each in made.misses] == [FIRST + timedelta(days=n) for n in (27, 28, 29)]
    assert (made.due, made.timezone, made.objective) == ("by 06:00 Europe/London, 2 days after", "Europe/London", 0.95)
    assert made.next_deadline == datetime(2026, 12, 25, 6, tzinfo=UTC)
    assert made.owners == ["team:data"]


def test_nothing_can_be_computed_of_nothing() -> None:
    made = report()

    assert made.deliveries == []
    assert [made.on_time_share, made.lateness_p50_seconds, made.lateness_p95_seconds] == [None] * 3
    assert [made.duration_mean_seconds, made.duration_p95_seconds, made.duration_trend_seconds_per_day] == [None] * 3
    assert (made.budget_days, made.budget_left_days) == (0, 0)


def test_a_day_whose_deadline_is_to_come_does_not_count_not_even_for_good() -> None:
    there, to_come = delivery(0, DeliveryStatus.ON_TIME), delivery(1, DeliveryStatus.ON_TIME)

    assert report(there, to_come, now=to_come.deadline).deliveries == [there]


def test_a_single_duration_has_no_trend() -> None:
    assert report(delivery(0, DeliveryStatus.ON_TIME, took=5.0)).duration_trend_seconds_per_day is None


def test_a_trend_is_in_seconds_per_day_also_where_days_are_left_out() -> None:
    made = report(*(delivery(n, DeliveryStatus.ON_TIME, took=5.0 + 2.5 * n) for n in (0, 1, 5, 9)))

    assert made.duration_trend_seconds_per_day == pytest.approx(2.5)


@given(
    days=st.lists(
        st.tuples(st.sampled_from([DeliveryStatus.ON_TIME, *MISSES]), st.floats(1, 1e5), st.none() | SECONDS),
        max_size=40,
    )
)
def test_the_numbers_hold_together(days: list[tuple[DeliveryStatus, float, float | None]]) -> None:
    made = report(
        *(delivery(n, each, late if each in MISSES else None, took) for n, (each, late, took) in enumerate(days))
    )
    missed = [late for status, late, _ in days if status in MISSES]
    took = [(n, seconds) for n, (_, _, seconds) in enumerate(days) if seconds is not None]

    assert len(made.misses) == len(missed)
    assert made.budget_days == pytest.approx(0.05 * len(days))
    assert made.budget_left_days == pytest.approx(made.budget_days - len(missed))
    if days:
        assert made.on_time_share == pytest.approx(1 - len(missed) / len(days))
    if missed:
        assert made.lateness_p50_seconds == pytest.approx(float(np.percentile(missed, 50)))
        assert made.lateness_p95_seconds == pytest.approx(float(np.percentile(missed, 95)))
    if len(took) > 1:
        slope = np.polynomial.Polynomial.fit([n for n, _ in took], [s for _, s in took], 1).convert().coef
        expected = float(slope[1]) if len(slope) > 1 else 0.0
        assert made.duration_trend_seconds_per_day == pytest.approx(expected, abs=1e-6, rel=1e-6)
        assert made.duration_p95_seconds == pytest.approx(float(np.percentile([s for _, s in took], 95)))
