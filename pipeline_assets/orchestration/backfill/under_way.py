"""What somebody is making: runs, backfills of Dagster, and backfills of commands."""

from __future__ import annotations

from datetime import date
from typing import Any

import dagster as dg

from pipeline_assets.orchestration.history.runs import running_spots
from pipeline_assets.rules.reach import Graph
from pipeline_assets.rules.staleness import Spot

NEWEST_BACKFILLS = 20
"""Backfills end after hours, so an open one is among the newest."""


def spots_being_made(instance: dg.DagsterInstance, graph: Graph, assets: Any) -> set[Spot]:
    """Partitions that somebody makes or will still make: runs, backfills of Dagster's, backfills of commands.

    Args:
        assets: Dagster's asset graph.
    """
    from pipeline_assets.orchestration.backfill.book import spots_under_way  # a sensor's, not every run's

    return running_spots(instance, graph) | _backfilled_spots(instance, graph, assets) | spots_under_way(instance)


def _backfilled_spots(instance: dg.DagsterInstance, graph: Graph, assets: Any) -> set[Spot]:
    """Of Dagster's: it asks for its own downstream, in its own order."""
    spots = set()
    for backfill in instance.get_backfills(limit=NEWEST_BACKFILLS):
        if backfill.status.value != "REQUESTED" or not backfill.is_asset_backfill:
            continue
        to_come = backfill.get_asset_backfill_data(assets).get_targeted_partitions_without_materialization_status()
        for key, partition in to_come.iterate_asset_partitions():
            if (table := key.to_user_string()) in graph.tables and partition:
                spots.add(Spot(graph.lead(table), date.fromisoformat(partition)))
    return spots
