"""SLAs of a month in a real instance: the report, and who is told of what by the sensor."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import dagster as dg
import numpy as np
import pytest
from dagster._core.test_utils import freeze_time

from pipeline_assets.orchestration.asset.due import due_metadata
from pipeline_assets.orchestration.sla.sensor import sla_alerts, sla_sensor
from pipeline_assets.rules.alerts import Alert, Severity
from pipeline_assets.rules.due import by
from pipeline_assets.rules.sla import Cause, DeliveryStatus
from pipeline_assets_tests.orchestration.past import TIMEZONE, Past, at
from pipeline_assets_tests.orchestration.promised import (
    DAYS,
    LAST,
    NOW,
    WATCHED,
    day,
    known,
    misses,
    reported,
    run,
    usual,
    usual_events,
)


def test_a_month_with_misses_of_each_cause_is_reported_down_to_the_number(past: Past) -> None:
    known(past)
    for number in set(range(30)) - {3, 7, 11, 15, 20, 27, 29}:
        usual(past, number)
    for number in (7, 11, 15, 20, 27):
        usual_events(past, number)
    # Events run long, and sales wait for them.
    past.report("landing", day(3), at(day(3), "00:30"))
    run(past, "events", 3, "00:31", "00:32", "06:30")
    run(past, "sales", 3, "06:31", "06:32", "06:40")
    # The queue is full.
    run(past, "sales", 7, "00:43", "07:00", "07:05")
    # It fails, and somebody repairs it.
    run(past, "sales", 11, "00:43", "00:44", failed="00:50")
    run(past, "sales", 11, "08:55", "08:56", "09:00")
    # Nobody asks for it.
    run(past, "sales", 15, "08:00", "08:00", "08:05")
    # It runs long.
    run(past, "sales", 20, "00:43", "00:44", "06:10")
    # It fails for good.
    run(past, "sales", 27, "00:43", "00:44", failed="00:45")
    newest = run(past, "sales", 27, "07:00", "07:01", failed="07:02")
    # On day 29 nothing lands.

    found = reported(past)

    assert misses(found["events"]) == {
        3: (DeliveryStatus.LATE, Cause.RUNNING_LONG, 5400),
        29: (DeliveryStatus.MISSING, Cause.UPSTREAM_LATE, 7 * 3600),
    }
    assert misses(found["sales"]) == {
        3: (DeliveryStatus.LATE, Cause.UPSTREAM_LATE, 2400),
        7: (DeliveryStatus.LATE, Cause.QUEUED, 3900),
        11: (DeliveryStatus.LATE, Cause.FAILED, 10_800),
        15: (DeliveryStatus.LATE, Cause.NEVER_REQUESTED, 7500),
        20: (DeliveryStatus.LATE, Cause.RUNNING_LONG, 600),
        27: (DeliveryStatus.BROKEN, Cause.FAILED, 54 * 3600),
        29: (DeliveryStatus.MISSING, Cause.UPSTREAM_LATE, 6 * 3600),
    }
    sales = found["sales"]
    assert [each.day for each in sales.deliveries] == [day(number) for number in range(30)]
    assert sales.on_time_share == pytest.approx(23 / 30)
    assert (sales.budget_days, sales.budget_left_days) == (1.5, -5.5)
    # Of 600, 2400, 3900, 7500, 10800, 21600 and 194400 seconds.
    assert sales.lateness_p50_seconds == 7500
    assert sales.lateness_p95_seconds == pytest.approx(21_600 + 0.7 * (194_400 - 21_600))
    durations = {n: 300 for n in range(30) if n not in (27, 29)} | {3: 480, 11: 240, 20: 19_560}
    assert sales.duration_mean_seconds == pytest.approx(sum(durations.values()) / 28)
    assert sales.duration_p95_seconds == pytest.approx(300 + 0.65 * 180)
    line = np.polynomial.Polynomial.fit(list(durations), list(durations.values()), 1).convert()
    assert sales.duration_trend_seconds_per_day == pytest.approx(line.coef[1])
    assert (sales.due, sales.timezone, sales.objective) == ("by 06:00 Europe/London, 1 day after", TIMEZONE, 0.95)
    assert sales.next_deadline == at(LAST, "06:00", days_after=2)
    assert (sales.owners, found["events"].owners) == ((), ("team:shop",))
    broken, missing = sales.deliveries[27], sales.deliveries[29]
    assert (broken.run_id, broken.delivered) == (newest, None)
    assert broken.detail.endswith(" failed at 00:45.")
    assert missing.detail == "Waited for events, which is not there."
    assert found["events"].deliveries[29].detail == "Waited for landing, which is not there."


def text(evaluation: dg.AssetCheckEvaluation) -> str:
    """What the check says."""
    return evaluation.description or ""


class Watch:
    """The sensor, tick after tick, and what the daemon and the sensor `alerts` make of it."""

    def __init__(self, past: Past) -> None:
        self.instance, self.now = past.instance, NOW
        self.cursor: str | None = None
        self.sensor = sla_sensor(WATCHED, clock=lambda: self.now)
        self.told: set[str] = set()

    def tick(self, now: datetime) -> dict[str, dg.AssetCheckEvaluation]:
        """What it reports, by table."""
        self.now = now
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor)
        result = self.sensor(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        said = {}
        for event in result.asset_events:
            assert isinstance(event, dg.AssetCheckEvaluation)
            with freeze_time(now):
                self.instance.report_runless_asset_event(event)
            said[event.asset_key.to_user_string()] = event
        return said

    def alerts(self, now: datetime | None = None) -> list[Alert]:
        """Those that were not told before."""
        found = sla_alerts(self.instance, WATCHED, sent=frozenset(self.told), now=now or self.now)
        fresh = [each for each in found if each.key not in self.told]
        self.told |= {each.key for each in found}
        return fresh


def test_the_sensor_says_each_change_once(past: Past) -> None:
    known(past, 24)
    for number in range(25, 29):
        usual(past, number)
    watch = Watch(past)

    first = watch.tick(at(LAST, "00:10"))
    assert {table: each.passed for table, each in first.items()} == {"events": True, "sales": True}
    assert text(first["sales"]) == "5 of the 5 days that were due in 30 days were on time."
    assert watch.tick(at(LAST, "00:11")) == {}
    assert watch.tick(at(LAST, "04:59")) == {}

    assert watch.tick(at(LAST, "05:00")) == {}, "the minute of the deadline is in time"
    missing = watch.tick(at(LAST, "05:01"))
    assert list(missing) == ["events"]
    assert (missing["events"].passed, missing["events"].severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert text(missing["events"]) == (
        "events 2026-11-18, due 2026-11-19 05:00 Europe/London, is not there: upstream late. "
        "Waited for landing, which is not there."
    )
    assert watch.tick(at(LAST, "05:02")) == {}
    warned = watch.tick(at(LAST, "05:30"))
    assert list(warned) == ["sales"]
    assert (warned["sales"].passed, warned["sales"].severity) == (False, dg.AssetCheckSeverity.WARN)
    assert text(warned["sales"]) == "sales 2026-11-18, due 2026-11-19 06:00 Europe/London, is not there yet."
    assert list(watch.tick(at(LAST, "06:01"))) == ["sales"]

    run(past, "sales", 29, "06:10", "06:11", failed="06:12")
    broken = watch.tick(at(LAST, "06:13"))
    assert text(broken["sales"]).startswith(
        "sales 2026-11-18, due 2026-11-19 06:00 Europe/London, is not there, its newest run failed: upstream late."
    )
    run(past, "sales", 29, "06:20", "06:21", "06:30")
    late = watch.tick(at(LAST, "06:31"))
    assert (late["sales"].passed, late["sales"].severity) == (False, dg.AssetCheckSeverity.WARN)
    assert text(late["sales"]).startswith(
        "sales 2026-11-18, due 2026-11-19 06:00 Europe/London, came 30 min late: upstream late."
    )
    usual(past, 30)
    assert watch.tick(at(day(30), "12:00")) == {}, "a week long it says what was late"
    for number in range(31, 37):
        usual(past, number)
    over = watch.tick(at(day(36), "12:00"))
    assert list(over) == ["sales"], "events of that day are missing still"
    assert over["sales"].passed
    assert text(over["sales"]) == "12 of the 13 days that were due in 30 days were on time."
    assert len(watch.cursor or "") < 4000


def test_a_recomputation_and_an_old_day_are_no_news(past: Past) -> None:
    known(past, 24)
    for number in range(25, 30):
        usual(past, number)
    watch = Watch(past)
    watch.tick(NOW)
    run(past, "sales", 29, "13:00", "13:01", "13:02")
    past.run(["sales"], date(2026, 10, 2), day(5), asked=NOW, started=NOW, made={"sales": NOW}, seconds=1)

    assert watch.tick(NOW + timedelta(hours=2)) == {}
    assert watch.alerts() == []


def test_a_sensor_that_slept_over_the_deadline_judges_by_what_happened(past: Past) -> None:
    known(past, 24)
    for number in range(25, 28):
        usual(past, number)
    watch = Watch(past)
    watch.tick(at(day(27), "12:00"))
    usual(past, 28)
    usual_events(past, 29)
    run(past, "sales", 29, "00:43", "00:44", "07:30")

    said = watch.tick(NOW)

    assert list(said) == ["sales"]
    assert "came 90 min late: running long. Run 00000010 was running since 00:44" in text(said["sales"])
    (alert,) = watch.alerts()
    assert (alert.key, alert.severity) == (f"sla/sales/{LAST}/recovered", Severity.ALERT)
    assert alert.title == f"sales {LAST} came late"
    assert "came 90 min late" in alert.reason
    assert watch.alerts() == []


def test_a_miss_is_told_once_and_its_recovery_once(past: Past) -> None:
    known(past, 24)
    for number in range(25, 29):
        usual(past, number)
    usual_events(past, 29)
    watch = Watch(past)
    watch.tick(at(LAST, "05:59"))
    assert watch.alerts() == [], "a warning shows in the check"

    watch.tick(at(LAST, "06:01"))
    (missed,) = watch.alerts()
    assert (missed.key, missed.severity) == (f"sla/sales/{LAST}/missed", Severity.ALERT)
    assert (missed.title, missed.verdict, missed.days) == (f"sales {LAST} missed its deadline", "missing", [LAST])
    assert missed.reason.endswith("never requested. No run had been asked for it; its inputs were there at 00:42.")
    run(past, "sales", 29, "06:10", "06:11", failed="06:12")
    watch.tick(at(LAST, "06:13"))
    assert watch.alerts() == [], "it is broken now, and still the same miss"

    made = run(past, "sales", 29, "07:00", "07:01", "07:05")
    watch.tick(at(LAST, "07:06"))
    (recovered,) = watch.alerts()
    assert (recovered.key, recovered.severity) == (f"sla/sales/{LAST}/recovered", Severity.INFO)
    assert (recovered.title, recovered.run_id) == (f"sales {LAST} is there", made)
    assert watch.alerts() == []
    assert watch.alerts(NOW + timedelta(days=20)) == []


def test_a_miss_that_is_made_good_after_weeks_is_still_told_to_those_who_heard_of_it(past: Past) -> None:
    known(past)
    for number in range(1, 10):
        usual(past, number)
    watch = Watch(past)
    watch.tick(at(day(0), "06:01"))
    assert {each.key for each in watch.alerts()} == {f"sla/{table}/{day(0)}/missed" for table in ("events", "sales")}
    when = at(day(9), "09:00")
    past.run(["events", "sales"], day(0), asked=when, made={"events": when, "sales": when})
    watch.tick(when + timedelta(minutes=1))

    assert {each.title for each in watch.alerts()} == {f"{table} {day(0)} is there" for table in ("events", "sales")}


def test_who_turns_alerts_on_hears_of_the_last_week_not_of_the_last_month(past: Past) -> None:
    known(past, 1)
    for number in set(range(3, 30)) - {5, 27}:
        usual(past, number)
    usual_events(past, 2)
    run(past, "sales", 2, "10:00", "10:00", "10:05")
    watch = Watch(past)
    watch.tick(NOW)

    assert {each.key for each in watch.alerts()} == {f"sla/{table}/{day(27)}/missed" for table in ("events", "sales")}


OF_BEFORE = (
    '{"sales": {"promise": "c0ffee", "since": "2026-01-01T00:00:00+00:00", "on_time": [], "late": [], "said": ""}}'
)
"""A cursor of a version that wrote no format into it."""


@pytest.mark.parametrize(
    "lost", [None, OF_BEFORE, '{"tables": {}, "format": 2}', "{"], ids=["reset", "old", "new", "cut"]
)
def test_a_table_that_nobody_has_ever_made_is_missed_from_the_first_tick_on(past: Past, lost: str | None) -> None:
    watch = Watch(past)
    said = watch.tick(at(day(27), "12:00"))
    assert {each.description for each in said.values()} == {
        "Nothing has been due yet; it is by 05:00 Europe/London, 1 day after.",
        "Nothing has been due yet; it is by 06:00 Europe/London, 1 day after.",
    }

    assert list(watch.tick(at(day(28), "12:00"))) == ["events", "sales"]
    watch.cursor = lost
    watch.tick(at(LAST, "12:00"))
    found = reported(past)["sales"]
    assert [each.day for each in found.misses] == [day(28), day(29)], "the check remembers since when it is known"


def test_tables_that_come_late_to_the_definitions_are_known_by_their_first_commit(past: Past) -> None:
    usual(past, 28)
    watch = Watch(past)
    watch.tick(NOW)

    assert [each.day for each in reported(past)["events"].deliveries] == [day(28), day(29)]
    assert [alert.days for alert in watch.alerts()] == [[day(29)], [day(29)]]


def test_a_changed_promise_is_judged_anew(past: Past) -> None:
    known(past, 21)
    for number in range(22, 30):
        usual(past, number)
    watch = Watch(past)
    watch.tick(NOW)
    spec = dg.AssetSpec("sales", partitions_def=DAYS, metadata=due_metadata(by("00:45", timezone=TIMEZONE)))
    watch.sensor = sla_sensor(dg.Definitions([spec]), clock=lambda: watch.now)

    said = watch.tick(NOW)

    first, *_, more = text(said["sales"]).splitlines()
    assert "sales 2026-11-18, due 2026-11-19 00:45 Europe/London, came 4 min late" in first
    assert more == "And 2 days more, from 2026-11-12 on."
