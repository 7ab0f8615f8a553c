"""The check `on_time`, as a run evaluates it."""

from __future__ import annotations

from datetime import datetime, timedelta

import dagster as dg
from dagster._core.test_utils import freeze_time

from pipeline_assets.orchestration.sla.on_time_check import ON_TIME_CHECK, on_time_check
from pipeline_assets.orchestration.sla.sensor import sla_alerts
from pipeline_assets_tests.orchestration.lake import QUIET
from pipeline_assets_tests.orchestration.past import Past, at
from pipeline_assets_tests.orchestration.promised import LAST, NOW, WATCHED, day, known, reported, run, usual

EVENTS, SALES = dg.AssetKey("events"), dg.AssetKey("sales")


def evaluated(past: Past, *keys: dg.AssetKey, now: datetime = NOW) -> dict[str, dg.AssetCheckEvaluation]:
    """What a run of the checks alone says, by table."""
    checked = dg.Definitions.merge(WATCHED, dg.Definitions(asset_checks=on_time_check(WATCHED, clock=lambda: now)))
    chosen = {dg.AssetCheckKey(key, ON_TIME_CHECK) for key in keys}
    job = checked.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection=set(), asset_check_selection=chosen
    )
    with freeze_time(now):
        result = job.execute_in_process(instance=past.instance, run_config=QUIET)
    return {each.asset_key.to_user_string(): each for each in result.get_asset_check_evaluations()}


def test_every_asset_with_a_due_has_the_check_and_no_other() -> None:
    (check,) = on_time_check(WATCHED)

    assert {key.asset_key for key in check.check_keys} == {EVENTS, SALES}
    assert {spec.description for spec in check.check_specs} == {
        "Every day is there by 05:00 Europe/London, 1 day after.",
        "Every day is there by 06:00 Europe/London, 1 day after.",
    }
    assert on_time_check(dg.Definitions([dg.AssetSpec("plain")])) == []


def test_a_person_can_evaluate_the_check_of_one_table(past: Past) -> None:
    known(past, 27)
    usual(past, 28)
    usual(past, 29)

    assert list(evaluated(past, SALES)) == ["sales"]
    assert evaluated(past, SALES)["sales"].passed


def test_it_says_what_is_wrong_as_the_sensor_does(past: Past) -> None:
    known(past, 26)
    usual(past, 27)
    usual(past, 28)
    run(past, "sales", 29, "05:00", "05:01", "06:20")

    found = evaluated(past, EVENTS, SALES)

    assert {table: (each.passed, each.severity) for table, each in found.items()} == {
        "events": (False, dg.AssetCheckSeverity.ERROR),
        "sales": (False, dg.AssetCheckSeverity.WARN),
    }
    told = sla_alerts(past.instance, WATCHED, sent=frozenset(), now=NOW)
    assert {(each.title, each.run_id) for each in told} == {
        (f"events {LAST} missed its deadline", None),
        (f"sales {LAST} came late", "00000005-0000-4000-8000-000000000000"),
    }


def test_late_ones_are_warned_of_for_a_week_and_missing_ones_for_a_month(past: Past) -> None:
    known(past, 0)
    for number in (1, 2, *range(4, 30)):
        usual(past, number)
    run(past, "sales", 3, "10:00", "10:00", "10:05")
    week = at(day(3), "10:05") + timedelta(days=7)

    assert "sales 2026-10-23" in (evaluated(past, SALES, now=week - timedelta(seconds=1))["sales"].description or "")
    assert evaluated(past, SALES, now=week)["sales"].passed
    assert not evaluated(past, EVENTS, now=NOW)["events"].passed
    assert evaluated(past, EVENTS, now=at(day(33), "12:00"))["events"].description


def test_an_evaluation_remembers_since_when_a_table_is_known(past: Past) -> None:
    evaluated(past, SALES, now=at(day(27), "12:00"))
    evaluated(past, SALES, now=at(day(28), "12:00"))

    assert [each.day for each in reported(past)["sales"].misses] == [day(28), day(29)]
    assert reported(past)["events"].misses == []
