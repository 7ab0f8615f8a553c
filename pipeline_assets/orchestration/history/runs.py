"""Runs as Dagster has them: which partitions they make, have made, and were requested for."""

from collections.abc import Collection
from contextlib import suppress
from datetime import date

import dagster as dg

from pipeline_assets.orchestration.history.tags import RUN_KEY_TAG, WILL_RETRY, days_of_tags
from pipeline_assets.partition import Partition
from pipeline_assets.rules.graph import Graph

FAILED = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
"""Of runs that ended and did not do all that they were to do."""
IN_FLIGHT = tuple(each for each in dg.DagsterRunStatus if each not in {*FAILED, dg.DagsterRunStatus.SUCCESS})


def partitions_of_run(instance: dg.DagsterInstance, graph: Graph, run: dg.DagsterRun) -> set[Partition]:
    """Partitions that a run makes, by the leading tables of their steps."""
    days = days_of_tags(run.tags)
    if not days:
        return set()
    keys = run.asset_selection
    if keys is None:  # all assets of its job, which may have none
        keys = instance.get_asset_keys_for_run(run.run_id)
    tables = {key.to_user_string() for key in keys} & graph.steps.keys() - graph.sources
    return {Partition(graph.lead(table), day) for table in tables for day in days}


def running_partitions(instance: dg.DagsterInstance, graph: Graph) -> set[Partition]:
    """Partitions of all runs that have not ended, whoever launched them."""
    records = instance.get_run_records(dg.RunsFilter(statuses=list(IN_FLIGHT)))
    return {partition for record in records for partition in partitions_of_run(instance, graph, record.dagster_run)}


def recorded_partitions(instance: dg.DagsterInstance, graph: Graph, run_id: str) -> set[Partition]:
    """Partitions that a run has recorded, by the leading tables of their steps."""
    partitions = set()
    for entry in instance.all_logs(run_id, of_type={dg.DagsterEventType.ASSET_MATERIALIZATION}):
        event = entry.get_dagster_event()
        if event.asset_key is not None and (table := event.asset_key.to_user_string()) in graph.tables:
            with suppress(ValueError):
                partitions.add(Partition(graph.lead(table), date.fromisoformat(event.partition or "")))
    return partitions


def newest_runs(instance: dg.DagsterInstance, run_keys: Collection[str]) -> dict[str, dg.RunRecord]:
    """The newest run of each run key, retries by Dagster included."""
    records = instance.get_run_records(dg.RunsFilter(tags={RUN_KEY_TAG: list(run_keys)}), ascending=True)
    return {record.dagster_run.tags[RUN_KEY_TAG]: record for record in records}


def is_retried_by_dagster(run: dg.DagsterRun) -> bool:
    """True when the run failed and Dagster will start it again by itself."""
    return run.status is dg.DagsterRunStatus.FAILURE and run.tags.get(WILL_RETRY) == "true"
