"""Why a partition was, or was not, computed again: the sensor's own answer, with what it was made from."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import dagster as dg

from pipeline_assets.errors import UsageError
from pipeline_assets.orchestration.backfill.current_work import partitions_under_way
from pipeline_assets.orchestration.changes.upstream_sensor import NAME, UpstreamCursor
from pipeline_assets.orchestration.history.event_log import EventLog
from pipeline_assets.orchestration.history.failures import failed_runs
from pipeline_assets.orchestration.history.graph import daily_graph, last_days
from pipeline_assets.orchestration.history.records import Records
from pipeline_assets.orchestration.history.runs import FAILED, IN_FLIGHT, partitions_of_run
from pipeline_assets.orchestration.history.tags import BECAUSE_TAG, DAGSTER_BACKFILL_TAG, LAUNCHED_BY_TAG
from pipeline_assets.partition import Partition
from pipeline_assets.record import Record
from pipeline_assets.rules.graph import Graph
from pipeline_assets.rules.staleness import TO_MAKE, LastAttempt, Staleness, StalenessStatus, react
from pipeline_assets.store import Store

LISTED_PARTITIONS = 5


@dataclass(frozen=True, slots=True)
class Input:
    """One upstream partition of a record: the digest that was read, and the newest one. None: there was, is none."""

    partition: Partition
    read: str | None
    now: str | None
    rewritten: bool
    """Recorded anew since, with the same digest."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one partition is as it is.

    Args:
        record: None when it was never computed.
        launched: how the run of the record came to be; None without record.
        reasons: sentences, the answer first.
        inputs: of the record, and of what there is now, ascending.
    """

    partition: Partition
    status: StalenessStatus
    record: Record | None
    launched: str | None
    reasons: Sequence[str]
    inputs: Sequence[Input]


def explain(instance: dg.DagsterInstance, defs: dg.Definitions, store: Store, table: str, day: date) -> Explanation:
    """Judge one partition as the upstream sensor would.

    Raises:
        UsageError: no such daily table, or the day is not in its history.
    """
    assets = defs.resolve_asset_graph()
    graph = daily_graph(assets)
    _check(graph, assets, table, day)
    lookup, lead = Records(EventLog(instance, graph), store), Partition(graph.lead(table), day)
    cursor, is_running = _cursor_of(instance)
    running = partitions_under_way(instance, graph, assets)
    running |= cursor.requested_partitions
    last_attempts = {partition: LastAttempt(want, succeeded=False) for partition, want in cursor.failed.items()}
    if table in graph.sources:
        staleness = Staleness(StalenessStatus.CURRENT)
    else:
        staleness = react(graph, {lead}, lookup, running=running, last_attempts=last_attempts).found[lead]
    record = lookup.records(table, [day]).get(day)
    record = None if Partition(table, day) in lookup.unrecorded else record
    run = instance.get_run_by_id(record.run_id) if record and record.run_id else None
    if table in graph.sources:
        reasons = ["It is reported by the landing sensor, or from outside, and never computed."]
    elif not graph.reads(lead.table):
        reasons = ["It is made from nothing upstream: its automation condition, or somebody, asks for it."]
    else:
        reasons = [_reason(instance, graph, lead, staleness, cursor)]
    if staleness.status in TO_MAKE and not is_running:
        reasons.append(f"{NAME} is not running, so nothing requests it: start it in the UI, or run the day yourself.")
    return Explanation(
        Partition(table, day),
        staleness.status,
        record,
        _launched(run) if record else None,
        reasons,
        _inputs(graph, lookup, lead, record),
    )


def _check(graph: Graph, assets: Any, table: str, day: date) -> None:
    if table not in graph.tables:
        raise UsageError(f"there is no daily table {table}; tables: {', '.join(graph.tables)}")
    first, last = graph.first_days[table], last_days(assets)[table]
    if not first <= day <= last:
        raise UsageError(f"{table} {day}: its history is {first} to {last}")


def _cursor_of(instance: dg.DagsterInstance) -> tuple[UpstreamCursor, bool]:
    """What the sensor remembers, and whether it is on."""
    for status in instance.all_instigator_state():
        if status.instigator_name == NAME:
            cursor = getattr(status.instigator_data, "cursor", None)
            return UpstreamCursor.of_cursor(cursor), status.is_running
    return UpstreamCursor.of_cursor(None), False


def _launched(run: dg.DagsterRun | None) -> str:
    if run is None:
        return "reported from outside of a run"
    if because := run.tags.get(BECAUSE_TAG):
        return f"requested by {NAME}: {because}"
    if backfill := run.tags.get(DAGSTER_BACKFILL_TAG):
        return f"backfill {backfill}"
    if run.tags.get(LAUNCHED_BY_TAG) == "cli":
        return "pipeline run"
    return "launched by hand"


def _reason(
    instance: dg.DagsterInstance, graph: Graph, lead: Partition, staleness: Staleness, cursor: UpstreamCursor
) -> str:
    match staleness.status:
        case StalenessStatus.CURRENT:
            reason = "It is made from what is upstream now, so nothing asks for it."
        case StalenessStatus.MISSING:
            reason = "It was never computed, and its inputs are there."
        case StalenessStatus.STALE:
            reason = f"Upstream changed since it was made: {_listed([each.partition for each in staleness.changes])}."
        case StalenessStatus.UNRECORDED:
            reason = "No record speaks of its file: somebody else wrote it, or changed it. It is to be made again."
        case StalenessStatus.TORN:
            reason = (
                f"Its tables, {', '.join(graph.steps[lead.table])}, are of different steps: one was killed while it "
                "published. They are to be made again."
            )
        case StalenessStatus.WAITING:
            reason = f"It waits for inputs of the same day, which are not there: {_listed(staleness.because_of)}."
        case StalenessStatus.HELD:
            reason = f"It is held back until upstream is done with {_listed(staleness.because_of)}; ask why of these."
        case StalenessStatus.RUNNING:
            reason = _running(instance, graph, lead, cursor)
        case StalenessStatus.FAILED:
            reason = _failed(instance, graph, lead, cursor)
    return reason


def _running(instance: dg.DagsterInstance, graph: Graph, lead: Partition, cursor: UpstreamCursor) -> str:
    for record in instance.get_run_records(dg.RunsFilter(statuses=list(IN_FLIGHT))):
        if lead in partitions_of_run(instance, graph, record.dagster_run):
            return f"Run {record.dagster_run.run_id} is {record.dagster_run.status.value.lower()} and makes it."
    if lead in cursor.requested_partitions:
        return f"{NAME} has requested it; Dagster has not made a run of that yet."
    return "A backfill that is under way will make it."


def _failed(instance: dg.DagsterInstance, graph: Graph, lead: Partition, cursor: UpstreamCursor) -> str:
    again = next((each for each in cursor.later if lead in each.wants), None)
    sequel = (
        f"It is tried again after {again.not_before:%Y-%m-%d %H:%M:%S} UTC, {again.attempts} attempts having been made."
        if again
        else "With the same inputs it is not tried again by itself; it is when an input changes, or when you run it."
    )
    for run, _, failures in failed_runs(instance, graph, lambda partition, _: partition == lead, statuses=FAILED):
        found = next(iter(failures[lead]), None)
        what = f"{found.verdict}: {found.reason}" if found else run.status.value.lower()
        return f"Run {run.run_id} did not make it: {what.rstrip('.')}. {sequel}"
    return f"Its last run failed. {sequel}"


def _inputs(graph: Graph, lookup: Records, lead: Partition, record: Record | None) -> list[Input]:
    found = []
    for name, window in graph.reads(lead.table):
        days = window.upstream_of(lead.day)
        recorded = record.inputs.get(name, {}) if record else {}
        newest = lookup.records(name, days)
        for day in days:
            made = newest.get(day)
            if day in recorded or (made is not None and day >= graph.first_days[lead.table]):
                rewritten = bool(made and record and made.recorded_at > record.recorded_at and made.unchanged)
                read, now = recorded.get(day), made.digest if made else None
                if made is not None and read is not None and made.is_of(read):
                    now = read  # as it was named when it was read
                found.append(Input(Partition(name, day), read, now, rewritten))
    return found


def _listed(partitions: Sequence[Partition]) -> str:
    shown = ", ".join(map(str, partitions[:LISTED_PARTITIONS]))
    return shown + (f" and {len(partitions) - LISTED_PARTITIONS} more" if len(partitions) > LISTED_PARTITIONS else "")
