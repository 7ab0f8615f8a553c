"""What Dagster knows of partitions: the newest record of each, as the rules read it; and what is being made.

Bounded by what is asked for: no query reads a history.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import takewhile
from typing import Any

import dagster as dg

from pipeline_assets.orchestration.graph import key_of
from pipeline_assets.rules.calendar import days_between
from pipeline_assets.rules.reach import Graph
from pipeline_assets.rules.staleness import Made, Spot

PARTITION, RANGE_START, RANGE_END = (
    "dagster/partition",
    "dagster/asset_partition_range_start",
    "dagster/asset_partition_range_end",
)
IN_FLIGHT = (
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
REPORTS_PER_PARTITION = 50
"""How many reports without a digest may lie above the newest one that has it."""
NEWEST_BACKFILLS = 20
"""Backfills end after hours, so an open one is among the newest."""


@dataclass(slots=True)
class EventLog:
    """The ledger of an instance.

    Args:
        graph: names of upstream tables are resolved in it.
    """

    instance: dg.DagsterInstance
    graph: Graph
    _parsed: dict[tuple[str, int], Made] = field(default_factory=dict)
    _started: dict[str, dict[str | None, float]] = field(default_factory=dict)

    def made(self, table: str, days: Collection[date]) -> dict[date, Made]:
        """The newest record of each day that has one; of a source the newest that has a digest."""
        if not days:
            return {}
        key = key_of(table)
        newest = self.instance.get_latest_storage_id_by_partition(
            key, dg.DagsterEventType.ASSET_MATERIALIZATION, {day.isoformat() for day in days}
        )
        self._parse(table, [each for each in newest.values() if (table, each) not in self._parsed])
        found = {
            date.fromisoformat(day): self._parsed[table, storage_id]
            for day, storage_id in newest.items()
            if (table, storage_id) in self._parsed  # else it was wiped a moment ago
        }
        if table in self.graph.sources:
            for day in [day for day, made in found.items() if made.digest is None]:
                found.pop(day)
                older = (each for each in self._newest(table, day) if each.digest is not None)
                if (with_digest := next(older, None)) is not None:
                    found[day] = with_digest
        return found

    def changed(self, table: str, day: date) -> Made | None:
        """The record that brought the digest which the day has: those after it are of the same."""
        records = self._newest(table, day)
        if table in self.graph.sources:
            records = [each for each in records if each.digest is not None]
        same = list(takewhile(lambda each: each.digest is not None and each.digest == records[0].digest, records))
        return same[-1] if same else None

    def _parse(self, table: str, storage_ids: list[int]) -> None:
        for start in range(0, len(storage_ids), 500):  # SQLite takes some thousand values in one statement
            wanted = storage_ids[start : start + 500]
            filtered = dg.AssetRecordsFilter(key_of(table), storage_ids=wanted)
            for record in self.instance.fetch_materializations(filtered, limit=len(wanted)).records:
                self._parsed[table, record.storage_id] = self._made(table, record)

    def _newest(self, table: str, day: date) -> list[Made]:
        """Records of one partition, the newest first."""
        filtered = dg.AssetRecordsFilter(key_of(table), asset_partitions=[day.isoformat()])
        records = self.instance.fetch_materializations(filtered, limit=REPORTS_PER_PARTITION).records
        return [self._made(table, each) for each in records]

    def _made(self, table: str, record: dg.EventLogRecord) -> Made:
        materialization = record.asset_materialization
        values = materialization.metadata if materialization else {}
        digest, inputs, unchanged = (_value(values, name) for name in ("digest", "inputs", "unchanged"))
        upstream = {name.rpartition("/")[2]: name for name, _ in self.graph.reads(self.graph.lead(table))}
        made_from = {
            upstream[name]: days
            for name, each in (inputs if isinstance(inputs, dict) else {}).items()
            if name in upstream and (days := _digests(each)) is not None
        }
        recorded_at = datetime.fromtimestamp(record.timestamp, UTC)
        # What is read is told by what was recorded; where it was not, by when the reading began.
        began_at = recorded_at if made_from.keys() >= set(upstream.values()) else self._began_at(record) or recorded_at
        return Made(
            record.storage_id, str(digest) if digest else None, unchanged is True, made_from, recorded_at, began_at
        )

    def _began_at(self, record: dg.EventLogRecord) -> datetime | None:
        """When the step that made the record was first started; None if no run did."""
        if not record.run_id:
            return None
        if record.run_id not in self._started:
            starts = self.instance.all_logs(record.run_id, of_type={dg.DagsterEventType.STEP_START})
            self._started[record.run_id] = {each.step_key: each.timestamp for each in reversed(starts)}
        began = self._started[record.run_id].get(record.event_log_entry.step_key)
        return None if began is None else datetime.fromtimestamp(began, UTC)


def spots_of_run(graph: Graph, run: dg.DagsterRun) -> set[Spot]:
    """Partitions that a run makes, by the leading tables of their steps."""
    tables = set(graph.steps)
    if run.asset_selection is not None:
        tables &= {key.to_user_string() for key in run.asset_selection}
    first = run.tags.get(RANGE_START) or run.tags.get(PARTITION)
    last = run.tags.get(RANGE_END) or run.tags.get(PARTITION)
    try:
        days = days_between(date.fromisoformat(first), date.fromisoformat(last)) if first and last else []
    except ValueError:
        return set()  # partitions of something that is not daily
    return {Spot(graph.lead(table), day) for table in tables - graph.sources for day in days}


def running_spots(instance: dg.DagsterInstance, graph: Graph) -> set[Spot]:
    """Partitions of all runs that have not ended, whoever launched them."""
    records = instance.get_run_records(dg.RunsFilter(statuses=list(IN_FLIGHT)))
    return {spot for record in records for spot in spots_of_run(graph, record.dagster_run)}


def recorded_spots(instance: dg.DagsterInstance, graph: Graph, run_id: str) -> set[Spot]:
    """Partitions that a run has recorded, by the leading tables of their steps."""
    spots = set()
    for entry in instance.all_logs(run_id, of_type={dg.DagsterEventType.ASSET_MATERIALIZATION}):
        event = entry.get_dagster_event()
        if event.asset_key is not None and (table := event.asset_key.to_user_string()) in graph.tables:
            with suppress(ValueError):
                spots.add(Spot(graph.lead(table), date.fromisoformat(event.partition or "")))
    return spots


def backfilled_spots(instance: dg.DagsterInstance, graph: Graph, assets: Any) -> set[Spot]:
    """Partitions that a backfill of Dagster's will still make: it asks for its own downstream, in its own order.

    Args:
        assets: Dagster's asset graph.
    """
    spots = set()
    for backfill in instance.get_backfills(limit=NEWEST_BACKFILLS):
        if backfill.status.value != "REQUESTED" or not backfill.is_asset_backfill:
            continue
        to_come = backfill.get_asset_backfill_data(assets).get_targeted_partitions_without_materialization_status()
        for key, partition in to_come.iterate_asset_partitions():
            if (table := key.to_user_string()) in graph.tables and partition:
                spots.add(Spot(graph.lead(table), date.fromisoformat(partition)))
    return spots


def _digests(days: object) -> dict[date, str] | None:
    """Of the days of one input; None if the metadata is not ours."""
    try:
        return {date.fromisoformat(day): str(digest) for day, digest in days.items()}  # type: ignore[attr-defined]
    except (AttributeError, TypeError, ValueError):
        return None


def _value(metadata: Mapping[str, Any], name: str) -> object:
    return metadata[name].value if name in metadata else None
