"""What counts is when partitions first came, and what their runs did before the deadline."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.freshness_evaluator import CronFreshnessPolicyEvaluator  # what the daemon asks
from dagster._core.events import AssetMaterializationPlannedData
from dagster._core.loader import LoadingContextForTest
from dagster._core.test_utils import freeze_time

from pipeline_assets import ParquetIOManager, daily_asset
from pipeline_assets.orchestration.asset.due import due_metadata
from pipeline_assets.orchestration.sla.deliveries import DeliveryFacts
from pipeline_assets.orchestration.sla.sensor import sla_report, sla_sensor
from pipeline_assets.rules.due import by
from pipeline_assets.rules.sla import Cause, DeliveryStatus
from pipeline_assets_tests.orchestration.lake import ROW, Lake, numbers, visits
from pipeline_assets_tests.orchestration.lake import day as day_of_lake
from pipeline_assets_tests.orchestration.past import TIMEZONE, Past, at
from pipeline_assets_tests.orchestration.promised import (
    DAYS,
    FIRST,
    LAST,
    NOW,
    WATCHED,
    day,
    known,
    misses,
    nothing,
    nothing_of_a_day,
    reported,
    run,
    usual,
    usual_events,
)


def plan_all(past: Past, run_id: str) -> None:
    """What Dagster notes when it makes a run of a job: the tables it is to make."""
    data = AssetMaterializationPlannedData(dg.AssetKey("sales"))
    past.event(run_id, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, NOW, data)


def test_a_first_commit_outlives_the_runs_that_dagster_deletes(lake: Lake) -> None:
    lake.run(visits, 1)
    key, days = dg.AssetKey("visits"), [day_of_lake(1)]
    first = DeliveryFacts(lake.instance, NOW).commits(key, days)[days[0]]
    lake.put("visits", 1, numbers(1))
    for each in lake.instance.get_runs():
        lake.instance.delete_run(each.run_id)

    assert DeliveryFacts(lake.instance, NOW).commits(key, days) == {}
    found = DeliveryFacts(lake.instance, NOW, lake.store).commits(key, days)[days[0]]
    assert first.at - timedelta(minutes=1) < found.at <= first.at


def test_computing_an_old_day_again_makes_no_day_fresh(past: Past) -> None:
    known(past)
    usual(past, 27)
    usual(past, 28)
    run(past, "sales", 20, "08:00", "08:00", "08:05")
    today = at(LAST, "07:00")
    past.run(["sales"], day(0), day(20), asked=today, started=today, made={"sales": today}, seconds=1)

    found = reported(past, first=day(27))["sales"]

    assert misses(found) == {29: (DeliveryStatus.MISSING, Cause.UPSTREAM_LATE, 6 * 3600)}
    node = WATCHED.resolve_asset_graph().get(dg.AssetKey("sales"))
    with freeze_time(NOW):
        freshness = CronFreshnessPolicyEvaluator().evaluate_freshness(LoadingContextForTest(past.instance), node)
        assert asyncio.run(freshness).value == "PASS", "if this fails Dagster has learned partitions: the UI is right"


def test_a_partition_that_is_computed_again_after_its_deadline_stays_on_time(past: Past) -> None:
    known(past)
    usual(past, 29)
    run(past, "sales", 29, "08:00", "08:00", "08:05")
    run(past, "sales", 29, "09:00", "09:00", failed="09:05")

    (delivery,) = reported(past, first=day(29))["sales"].deliveries

    assert (delivery.status, delivery.delivered, delivery.duration_seconds) == (
        DeliveryStatus.ON_TIME,
        at(day(29), "00:49"),
        300,
    )


def test_days_that_were_computed_a_hundred_times_hide_no_first_commit(past: Past) -> None:
    known(past)
    for number in (28, 29):
        past.report("events", day(number), at(day(number), "01:00"))
        for _ in range(30):
            past.report("events", day(28), at(day(29), "02:00"))

    deliveries = reported(past, first=day(28))["events"].deliveries

    assert [each.status for each in deliveries] == [DeliveryStatus.ON_TIME, DeliveryStatus.ON_TIME]


def test_an_empty_partition_that_a_run_made_in_time_is_on_time(past: Past, tmp_path: Path) -> None:
    known(past)
    resources = {"io_manager": ParquetIOManager(root=str(tmp_path))}
    for clock in ("04:00", "07:00"):
        with freeze_time(at(LAST, clock)):
            assert dg.materialize([nothing], partition_key=str(LAST), instance=past.instance, resources=resources)
    watched = dg.Definitions([nothing])

    (report,) = sla_report(past.instance, watched, LAST, LAST, now=NOW).tables

    (delivery,) = report.deliveries
    assert (delivery.status, delivery.delivered) == (DeliveryStatus.ON_TIME, at(LAST, "04:00"))
    assert delivery.duration_seconds is not None
    assert delivery.run_id


def test_a_holiday_without_data_is_not_missed(past: Past) -> None:
    known(past)
    watched = dg.Definitions(
        [daily_asset(nothing_of_a_day, partitions_def=DAYS, contract=ROW, due=by("06:00", holidays=[day(28)]))]
    )
    past.report("nothing_of_a_day", day(27), at(day(27), "01:00"))
    past.report("nothing_of_a_day", day(29), at(day(29), "01:00"))

    (report,) = sla_report(past.instance, watched, day(27), day(29), now=NOW).tables

    assert [each.day for each in report.deliveries] == [day(27), day(29)]
    assert not report.misses


def test_a_new_table_is_not_late_for_the_days_before_it(past: Past) -> None:
    past.run(["events"], FIRST, day(26), asked=at(day(26), "11:00"), made={"events": at(day(26), "12:00")})

    found = reported(past)["events"]

    assert [each.day for each in found.deliveries] == [day(27), day(28), day(29)]
    assert reported(past)["sales"].deliveries == []
    assert reported(past)["sales"].on_time_share is None


def test_a_promise_with_a_first_day_is_kept_from_that_day_on(past: Past) -> None:
    watched = dg.Definitions(
        [daily_asset(nothing_of_a_day, partitions_def=DAYS, contract=ROW, due=by("06:00", since=day(28)))]
    )

    (report,) = sla_report(past.instance, watched, FIRST, LAST, now=NOW).tables

    assert [(each.day, each.status) for each in report.deliveries] == [
        (day(28), DeliveryStatus.MISSING),
        (day(29), DeliveryStatus.MISSING),
    ]


def test_days_before_and_after_the_history_are_not_due(past: Past) -> None:
    days = dg.DailyPartitionsDefinition("2026-11-14", end_date="2026-11-17", timezone=TIMEZONE)
    watched = dg.Definitions([daily_asset(nothing_of_a_day, partitions_def=days, contract=ROW, due=by("06:00"))])
    past.report("nothing_of_a_day", date(2026, 11, 14), at(FIRST, "01:00"))

    (report,) = sla_report(past.instance, watched, FIRST, LAST, now=NOW).tables

    assert [each.day.day for each in report.deliveries] == [14, 15, 16]


@pytest.mark.parametrize(
    ("tables", "cause"),
    [(["sales", "events"], Cause.FAILED), (["events"], Cause.NEVER_REQUESTED), (None, Cause.FAILED)],
)
def test_a_range_run_was_asked_for_every_day_in_it_and_for_its_own_tables(
    past: Past, tables: list[str] | None, cause: Cause
) -> None:
    known(past)
    usual_events(past, 29)
    asked = at(day(29), "01:00")
    run_id = past.run(tables, FIRST, day(29), asked=asked, started=asked, ended=asked + timedelta(hours=1), failed=True)
    past.run(["sales"], FIRST, day(28), asked=asked)
    past.run(["sales"], day(30), asked=asked)
    if tables is None:
        plan_all(past, run_id)

    (miss,) = reported(past, first=day(29))["sales"].misses

    assert (miss.cause, miss.run_id) == (cause, run_id if cause is Cause.FAILED else None)


def test_a_range_run_was_not_asked_for_the_missed_day_after_it(past: Past) -> None:
    known(past, 27)
    usual_events(past, 28)
    usual_events(past, 29)
    asked = at(day(28), "01:00")
    past.run(["sales"], FIRST, day(28), asked=asked, started=asked, ended=at(day(29), "02:00"), failed=True)

    found = reported(past, first=day(28))["sales"].misses

    assert [each.cause for each in found] == [Cause.RUNNING_LONG, Cause.NEVER_REQUESTED]


def test_a_run_that_was_canceled_has_failed(past: Past) -> None:
    known(past)
    usual_events(past, 29)
    asked = at(day(29), "01:00")
    past.run(["sales"], day(29), asked=asked, started=asked, ended=asked + timedelta(hours=1), canceled=True)

    (miss,) = reported(past, first=day(29))["sales"].misses

    assert (miss.status, miss.cause) == (DeliveryStatus.BROKEN, Cause.FAILED)


def test_a_run_without_partitions_in_its_tags_is_known_by_what_it_made(past: Past) -> None:
    known(past)
    usual_events(past, 29)
    run_id = past.run(["sales"], day(1), asked=at(day(29), "01:00"), started=at(day(29), "06:10"))
    past.commit(run_id, "sales", day(29), at(day(29), "06:20"))

    (miss,) = reported(past, first=day(29))["sales"].misses

    assert (miss.cause, miss.run_id) == (Cause.QUEUED, run_id)


def test_a_run_that_usually_takes_long_must_start_early(past: Past) -> None:
    known(past)
    for number in range(25, 29):
        usual_events(past, number)
        run(past, "sales", number, "00:43", "00:44", "03:44")
    usual_events(past, 29)
    run(past, "sales", 29, "00:43", "03:30", "06:30")

    (miss,) = reported(past, first=day(29))["sales"].misses

    assert miss.cause is Cause.QUEUED, "from 03:30 on it took as long as always"


@pytest.mark.parametrize("partitions", [None, dg.HourlyPartitionsDefinition("2026-10-01-00:00")], ids=["none", "hours"])
def test_a_due_on_an_asset_without_days_is_refused(partitions: dg.PartitionsDefinition | None) -> None:
    spec = dg.AssetSpec("sales", partitions_def=partitions, metadata=due_metadata(by("06:00", timezone="UTC")))

    with pytest.raises(dg.DagsterInvalidDefinitionError, match="sales has a due, by 06:00 UTC, 1 day after, but no"):
        sla_sensor(dg.Definitions([spec]))
