"""What somebody is making: runs, backfills of Dagster, and backfills of commands."""

from datetime import date
from typing import Any

import dagster as dg

from pipeline_assets.orchestration.backfill.of_dagster import is_going_on, open_backfills
from pipeline_assets.orchestration.history.runs import running_partitions
from pipeline_assets.partition import Partition
from pipeline_assets.rules.graph import Graph


def partitions_under_way(instance: dg.DagsterInstance, graph: Graph, assets: Any) -> set[Partition]:
    """Partitions that somebody makes or will still make: runs, backfills of Dagster's, backfills of commands.

    Args:
        assets: Dagster's asset graph.
    """
    from pipeline_assets.orchestration.backfill.book import carried_out_partitions  # a sensor's, not every run's

    return (
        running_partitions(instance, graph)
        | _backfilled_partitions(instance, graph, assets)
        | carried_out_partitions(instance)
    )


def _backfilled_partitions(instance: dg.DagsterInstance, graph: Graph, assets: Any) -> set[Partition]:
    """Of Dagster's: it asks for its own downstream, in its own order."""
    partitions = set()
    for backfill in open_backfills(instance):
        if not is_going_on(backfill) or not backfill.is_asset_backfill:
            continue
        to_come = backfill.get_asset_backfill_data(assets).get_targeted_partitions_without_materialization_status()
        for key, partition in to_come.iterate_asset_partitions():
            if (table := key.to_user_string()) in graph.tables and partition:
                partitions.add(Partition(graph.lead(table), date.fromisoformat(partition)))
    return partitions
