"""Dagster's asset graph, read as tables and windows."""

from __future__ import annotations

from datetime import date
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from pipeline_assets import daily_asset
from pipeline_assets.orchestration.history.graph import daily_graph, key_of, window_of
from pipeline_assets.rules.graph import Graph
from pipeline_assets.rules.windows import Window, arrivals, same_day, trailing
from pipeline_assets_tests.orchestration.lake import DAYS, ROW, SHOP, numbers

WEEKS = dg.WeeklyPartitionsDefinition("2024-02-25")


def graph_of(*assets: Any) -> Graph:
    return daily_graph(dg.Definitions(list(assets)).resolve_asset_graph())


@dg.asset(partitions_def=DAYS)
def plain() -> None: ...


def test_tables_come_upstream_first_with_the_windows_that_were_stated() -> None:
    graph = graph_of(*reversed(SHOP))

    assert list(graph.tables) == ["visits", "totals"]
    assert graph.tables["totals"].reads == {"visits": trailing(days=3)}
    assert graph.first_days == dict.fromkeys(graph.tables, date(2024, 2, 27))
    assert graph.sources == frozenset()


def test_tables_that_one_function_makes_are_one_step() -> None:
    @daily_asset(partitions_def=DAYS, contract={"kept": ROW, "bad": ROW}, deps={"landing": same_day()})
    def both(day: date) -> dict[str, pa.Table]:
        return {"kept": numbers(day.day), "bad": numbers()}

    @daily_asset(partitions_def=DAYS, contract=ROW, ins={"bad": arrivals(lateness_days=2)})
    def events(day: date, bad: pa.Table) -> pa.Table:
        return bad

    graph = graph_of(both, events, dg.AssetSpec("landing", partitions_def=DAYS))

    assert graph.sources == {"landing"}
    assert graph.steps["kept"] == graph.steps["bad"] == ("bad", "kept")
    assert graph.reads("bad") == [("landing", same_day())]
    assert graph.readers("bad") == [("events", arrivals(lateness_days=2))]


def test_names_are_keys_joined_by_slashes() -> None:
    @daily_asset(partitions_def=DAYS, contract=ROW, key_prefix=["shop", "eu"])
    def orders(day: date) -> pa.Table:
        return numbers(day.day)

    assert list(graph_of(orders).tables) == ["shop/eu/orders"]
    assert key_of("shop/eu/orders") == dg.AssetKey(["shop", "eu", "orders"])


def test_what_has_other_partitions_or_none_is_left_out() -> None:
    @dg.asset(partitions_def=WEEKS, deps=[plain])
    def weekly() -> None: ...

    @dg.asset(deps=[weekly])
    def report() -> None: ...

    @dg.asset(partitions_def=DAYS, deps=[weekly, plain])
    def after() -> None: ...

    graph = graph_of(plain, weekly, report, after)

    assert list(graph.tables) == ["plain", "after"]
    assert graph.tables["after"].reads == {"plain": same_day()}


def test_days_are_days_however_they_are_spelled() -> None:
    @daily_asset(
        partitions_def=dg.TimeWindowPartitionsDefinition("2024-02-27", fmt="%Y-%m-%d", cron_schedule="0 0 * * *"),
        contract=ROW,
    )
    def spelled_out(day: date) -> pa.Table:
        return numbers(day.day)

    @dg.asset(partitions_def=dg.DailyPartitionsDefinition("2024-02-27", hour_offset=6), deps=[spelled_out])
    def from_six() -> None: ...

    assert list(graph_of(spelled_out, from_six).tables) == ["spelled_out", "from_six"]


def test_what_is_made_elsewhere_reads_nothing_here_and_is_never_asked_for() -> None:
    dashboard = dg.AssetSpec("dashboard", partitions_def=DAYS, deps=[plain])

    graph = graph_of(plain, dashboard)

    assert graph.sources == {"dashboard"}
    assert graph.readers("plain") == []


def test_an_asset_that_reads_its_own_past_does_not_wait_for_itself() -> None:
    @dg.asset(
        partitions_def=DAYS, deps=[plain, dg.AssetDep("total", partition_mapping=dg.TimeWindowPartitionMapping(-1, -1))]
    )
    def total() -> None: ...

    assert graph_of(plain, total).reads("total") == [("plain", same_day())]


def test_a_run_takes_as_many_days_as_the_backfill_policy_says_and_without_one_a_single_day() -> None:
    @daily_asset(partitions_def=DAYS, contract=ROW, backfill_policy=dg.BackfillPolicy.multi_run(7))
    def by_the_week(day: date) -> pa.Table:
        return numbers(day.day)

    @dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
    def at_once() -> None: ...

    assert graph_of(plain, by_the_week, at_once, *SHOP).days_per_run == {"plain": 1, "by_the_week": 7}


@pytest.mark.parametrize(
    ("mapping", "window"),
    [
        (dg.TimeWindowPartitionMapping(), Window(0, 0)),
        (dg.TimeWindowPartitionMapping(start_offset=-6), Window(-6, 0)),
        (dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=2), Window(-1, 2)),
        (dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1), Window(-1, 0)),
        (dg.TimeWindowPartitionMapping(start_offset=1, end_offset=1), Window(0, 1)),
        (dg.IdentityPartitionMapping(), Window(0, 0)),
    ],
    ids=["default", "trailing", "around", "yesterday", "tomorrow", "identity"],
)
def test_a_mapping_is_the_smallest_window_around_the_day_that_holds_it(
    mapping: dg.PartitionMapping, window: Window
) -> None:
    assert window_of(mapping) == window
