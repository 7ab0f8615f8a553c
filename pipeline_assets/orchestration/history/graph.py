"""Dagster's asset graph as the daily tables and windows that the rules speak of."""

from datetime import date
from typing import Any

import dagster as dg

from pipeline_assets.rules.graph import Graph, Table
from pipeline_assets.rules.windows import Window


def daily_graph(assets: Any) -> Graph:
    """The daily-partitioned part of an asset graph, tables named by their keys joined by "/".

    Assets with other partitions, or with none, are left out: `AutomationCondition.eager()` does for them.

    Args:
        assets: what `Definitions.resolve_asset_graph()` gives, or `repository_def.asset_graph`.
    """
    order = [key for level in assets.toposorted_asset_keys_by_level for key in sorted(level)]
    partitions = {key: found for key in order if has_days(found := assets.get(key).partitions_def)}
    tables, steps = [], {}
    for key in partitions:
        node = assets.get(key)
        reads = {
            parent.to_user_string(): window_of(assets.get_partition_mapping(key, parent))
            for parent in sorted(node.parent_keys)
            if parent in partitions and node.is_materializable  # what others make is not ours to make again
        }
        tables.append(Table(key.to_user_string(), reads))
        together = node.execution_set_asset_keys if node.is_materializable else {key}
        steps[key.to_user_string()] = tuple(each.to_user_string() for each in partitions if each in together)
    return Graph(
        {table.name: table for table in tables},
        steps,
        frozenset(key.to_user_string() for key in partitions if not assets.get(key).is_materializable),
        {key.to_user_string(): found.start.date() for key, found in partitions.items()},
        {
            key.to_user_string(): days
            for key in partitions
            if (days := _days_per_run(assets.get(key).backfill_policy)) is not None
        },
    )


def last_days(assets: Any) -> dict[str, date]:
    """The last day that is over of every daily table of an asset graph."""
    found = {}
    for key in assets.get_all_asset_keys():
        partitions = assets.get(key).partitions_def
        if has_days(partitions):
            last = partitions.get_last_partition_key()
            found[key.to_user_string()] = date.fromisoformat(last) if last else date.min
    return found


def key_of(table: str) -> dg.AssetKey:
    """The asset key of a table's name."""
    return dg.AssetKey(table.split("/"))


def window_of(mapping: dg.PartitionMapping) -> Window:
    """The window of a partition mapping between daily assets."""
    if isinstance(mapping, dg.TimeWindowPartitionMapping):  # a plain asset's may leave the day itself out
        return Window(min(mapping.start_offset, 0), max(mapping.end_offset, 0))
    return Window(0, 0)


def has_days(partitions: dg.PartitionsDefinition | None) -> bool:
    """True for partitions that are days, whatever hour they begin at."""
    return isinstance(partitions, dg.DailyPartitionsDefinition) or is_daily(partitions)


def _days_per_run(policy: dg.BackfillPolicy | None) -> int | None:
    """As Dagster's backfills have it: an asset without a policy is made for one day at a time."""
    return 1 if policy is None else policy.max_partitions_per_run


def is_daily(partitions_def: dg.PartitionsDefinition | None) -> bool:
    """True for days from midnight to midnight, named YYYY-MM-DD."""
    return (
        isinstance(partitions_def, dg.TimeWindowPartitionsDefinition)
        and partitions_def.cron_schedule == "0 0 * * *"
        and partitions_def.fmt == "%Y-%m-%d"
    )


def described(partitions_def: dg.PartitionsDefinition | None) -> str:
    """Describe partitions that are not daily."""
    if isinstance(partitions_def, dg.TimeWindowPartitionsDefinition):
        return f"cron {partitions_def.cron_schedule}, named {partitions_def.fmt}"
    return "none" if partitions_def is None else f"a {type(partitions_def).__name__}"
