"""What Dagster's own conditions do with our graph: the facts behind our sensor, and where they serve beside it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from datetime import date
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from pipeline_assets import daily_asset
from pipeline_assets.rules.windows import trailing
from pipeline_assets_tests.orchestration.lake import DAYS, QUIET, ROW, Lake, key, numbers
from pipeline_assets_tests.orchestration.sensors import with_upstream_sensor


@daily_asset(partitions_def=DAYS, contract=ROW)
def visits(day: date) -> pa.Table:
    return numbers(day.day)


@daily_asset(partitions_def=DAYS, contract=ROW, ins={"visits": trailing(days=3)})
def totals(day: date, visits: pa.Table) -> pa.Table:
    return visits.select(["n"])


# By itself eager() waits until no day of the whole history is missing.
@dg.asset(
    deps=[totals],
    automation_condition=dg.AutomationCondition.eager().without(~dg.AutomationCondition.any_deps_missing()),
)
def overview() -> None:
    """Without partitions: made of whatever there is."""


def eager(asset: dg.AssetsDefinition) -> dg.AssetsDefinition:
    return asset.map_asset_specs(
        lambda spec: spec.replace_attributes(automation_condition=dg.AutomationCondition.eager())
    )


@pytest.fixture(autouse=True)
def _beta() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        warnings.simplefilter("ignore", dg.PreviewWarning)
        yield


def requested(lake: Lake, defs: dg.Definitions, cursor: Any = None) -> tuple[set[str], Any]:
    result = dg.evaluate_automation_conditions(defs, instance=lake.instance, cursor=cursor)
    asked = {
        f"{asset_key.to_user_string()} {partition}".removesuffix(" None")
        for asset_key in (dg.AssetKey("totals"), dg.AssetKey("overview"))
        if asset_key in defs.resolve_asset_graph().get_all_asset_keys()
        for partition in result.get_requested_partitions(asset_key)
    }
    return asked, result.cursor


def test_eager_passes_over_every_day_but_the_latest_where_our_sensor_follows_it(lake: Lake) -> None:
    defs = dg.Definitions([visits, eager(totals)], resources={"io_manager": lake.manager})
    _, cursor = requested(lake, defs)
    lake.run(visits, 0, 4)
    theirs, _ = requested(lake, defs, cursor)
    assert theirs == set(), "2024 is not the latest day"

    (request,) = with_upstream_sensor(lake, visits, totals).tick().run_requests
    assert request.tags["dagster/asset_partition_range_start"] == key(0)
    assert request.tags["dagster/asset_partition_range_end"] == key(4)


def test_eager_beside_our_sensor_serves_an_asset_without_partitions(lake: Lake) -> None:
    sensed = with_upstream_sensor(lake, visits, totals, overview)
    _, cursor = requested(lake, sensed.defs)
    lake.run(visits, 0)
    sensed.settle()
    asked, cursor = requested(lake, sensed.defs, cursor)
    assert asked == {"overview"}
    result = sensed.defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=lake.instance, asset_selection=[dg.AssetKey("overview")], run_config=QUIET
    )
    assert result.success
    asked, cursor = requested(lake, sensed.defs, cursor)
    assert asked == set()
    assert sensed.tick().run_requests == []

    lake.run([visits, totals], 0)  # the same bytes again
    assert sensed.settle() == []
    assert requested(lake, sensed.defs, cursor)[0] == {"overview"}, "it knows no early cutoff"
