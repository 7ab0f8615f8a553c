"""Follows every change of a partition downstream: the one mechanism behind every edge of the graph.

Changes only name candidates; `rules.staleness` judges each by its record. So nothing depends on a change being seen
once, in order, or while it happened: what is read again is judged again, with the same result.
"""

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, NamedTuple

import dagster as dg
from pydantic import BeforeValidator, Field, PlainSerializer

from pipeline_assets.codec import codec, unreadable
from pipeline_assets.errors import StateUnreadable
from pipeline_assets.orchestration.backfill.current_work import partitions_under_way
from pipeline_assets.orchestration.history.event_log import EventLog
from pipeline_assets.orchestration.history.failures import recorded_failures
from pipeline_assets.orchestration.history.graph import daily_graph, key_of, last_days
from pipeline_assets.orchestration.history.records import Records
from pipeline_assets.orchestration.history.runs import (
    IN_FLIGHT,
    is_retried_by_dagster,
    newest_runs,
    recorded_partitions,
)
from pipeline_assets.orchestration.history.tags import ATTEMPTS_TAG, BECAUSE_TAG, PARTITION, RANGE_END, RANGE_START
from pipeline_assets.partition import Partition, days_between, ranges_of, span_in_words
from pipeline_assets.rules.graph import Graph
from pipeline_assets.rules.staleness import (
    WANT_DIGITS,
    LastAttempt,
    Reaction,
    Request,
    Staleness,
    StalenessStatus,
    downstream_partitions,
    react,
)
from pipeline_assets.store import Store

NAME = "upstream_sensor"
REQUESTS_PER_TICK = 25
LOOKED_UP_PER_TICK = 500
"""Partitions, each with what it reads: their records take half a second."""
DESCRIBED_CHANGES = 3


def _wants_as_json(wants: Mapping[Partition, str]) -> dict[str, dict[str, str]]:
    tables: dict[str, dict[str, str]] = {}
    for partition, want in sorted(wants.items()):
        tables.setdefault(partition.table, {})[str(partition.day)] = want
    return tables


def _wants_of_json(tables: Mapping[str, Mapping[str, str]]) -> dict[Partition, str]:
    return {
        Partition(table, date.fromisoformat(day)): want for table, days in tables.items() for day, want in days.items()
    }


def _place_of_json(place: Any) -> Any:
    return (place,) if isinstance(place, int) else place  # cursors of before have the id alone


def _commits_of_json(tables: Mapping[str, Mapping[str, str]] | int) -> dict[Partition, str]:
    return {} if isinstance(tables, int) else _wants_of_json(tables)  # cursors of before have an event id there


def _spans_as_json(partitions: Collection[Partition]) -> dict[str, list[str]]:
    tables: dict[str, list[date]] = {}
    for table, day in sorted(partitions):
        tables.setdefault(table, []).append(day)
    return {table: [f"{first}/{last}" for first, last in ranges_of(days)] for table, days in tables.items()}


def _spans_of_json(tables: Mapping[str, Collection[str]]) -> set[Partition]:
    return {
        Partition(table, day)
        for table, spans in tables.items()
        for span in spans
        for day in days_between(*map(date.fromisoformat, span.split("/")))
    }


Wants = Annotated[dict[Partition, str], BeforeValidator(_wants_of_json), PlainSerializer(_wants_as_json)]
"""Partitions with the names of the inputs that they were, or are to be, made from."""
Commits = Annotated[dict[Partition, str], BeforeValidator(_commits_of_json), PlainSerializer(_wants_as_json)]
"""The same, by the commits that those inputs were."""


class Place(NamedTuple):
    """A materialization up to which a table was read. Ids are given out again after deletions, moments are not.

    Args:
        timestamp: seconds since 1970; None in cursors of before.
    """

    storage_id: int
    timestamp: float | None = None

    def is_of(self, record: dg.EventLogRecord) -> bool:
        """Whether it is that materialization."""
        return self.storage_id == record.storage_id and self.timestamp in (None, record.timestamp)


class RequestedRun(NamedTuple):
    """A run that was requested: what for, how many attempts were made before it, and the commits of its inputs."""

    wants: Wants
    attempts: int = 0
    commits: Commits = {}  # noqa: RUF012 - of a tuple


class PostponedRetry(NamedTuple):
    """Partitions whose verdict says: again, at this time."""

    wants: Wants
    not_before: datetime
    attempts: int


@dataclass(slots=True)
class UpstreamCursor:
    """What the sensor keeps from tick to tick.

    Args:
        read: up to where materializations were read, by table.
        waiting: candidates that could not be judged yet.
        requested: by run key; "asked" in the texts that there are already.
        later: failed, to be tried again.
        refused: failed, not to be tried again with the same inputs.
        format: of the text; a text without one is of format 1.
    """

    read: dict[str, Annotated[Place, BeforeValidator(_place_of_json)]]
    waiting: Annotated[set[Partition], BeforeValidator(_spans_of_json), PlainSerializer(_spans_as_json)]
    requested: Annotated[dict[str, RequestedRun], Field(alias="asked")]
    later: list[PostponedRetry]
    refused: Wants
    format: Literal[1] = 1

    @property
    def failed(self) -> Wants:
        """What failed, whether it is tried again or not."""
        return {**self.refused, **{partition: want for each in self.later for partition, want in each.wants.items()}}

    @property
    def requested_partitions(self) -> set[Partition]:
        """What the requested runs are to make."""
        return {partition for each in self.requested.values() for partition in each.wants}

    def follow(self, graph: Graph) -> None:
        """Adapt to the graph of now: tables may be gone, and steps known by other tables."""

        def of_graph(wants: Wants) -> Wants:
            kept = {partition: want for partition, want in wants.items() if partition.table in graph.tables}
            return {Partition(graph.lead(table), day): want for (table, day), want in kept.items()}

        self.waiting = set(of_graph(dict.fromkeys(self.waiting, "")))
        self.refused = of_graph(self.refused)
        self.requested = {
            key: each._replace(wants=of_graph(each.wants), commits=of_graph(each.commits))
            for key, each in self.requested.items()
        }
        self.later = [each._replace(wants=of_graph(each.wants)) for each in self.later]

    def forget(self, partitions: Collection[Partition]) -> set[Partition]:
        """Drop failures of partitions that are settled, or made meanwhile; gives those that had failed."""
        failed = self.failed.keys() & set(partitions)

        def left(wants: Wants) -> Wants:
            return {partition: want for partition, want in wants.items() if partition not in failed}

        self.refused = left(self.refused)
        self.later = [each._replace(wants=wants) for each in self.later if (wants := left(each.wants))]
        return failed

    def to_cursor(self) -> str:
        """Give the text that Dagster keeps."""
        return codec(UpstreamCursor).dump_json(self, by_alias=True).decode()

    @staticmethod
    def of_cursor(cursor: str | None) -> "UpstreamCursor":
        """Read the text that Dagster kept; without one, nothing has been seen yet.

        Raises:
            StateUnreadable: the text is not ours.
        """
        if not cursor:
            return UpstreamCursor({}, set(), {}, [], {})
        try:
            return codec(UpstreamCursor).validate_json(cursor)
        except (ValueError, TypeError, AttributeError) as error:
            raise StateUnreadable(
                f"{NAME}: its cursor cannot be read ({unreadable(error)}). Reset it in the UI: every record is read "
                "again then, and what is current stays as it is."
            ) from error


def upstream_sensor(
    *,
    selection: dg.AssetSelection,
    store: Store,
    default_status: dg.DefaultSensorStatus,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dg.SensorDefinition:
    """Make the sensor that requests what is made from what changed.

    Args:
        selection: assets that it may request.
        store: which they are in.
    """

    def tick(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        assert context.repository_def is not None  # noqa: S101 - Dagster gives it to every sensor of a location
        assets = context.repository_def.asset_graph
        may_request = {key.to_user_string() for key in selection.resolve(assets)}
        lookup = Records(EventLog(context.instance, daily_graph(assets)), store)
        sources = lookup.event_log.graph.sources
        last = {table: day for table, day in last_days(assets).items() if table in may_request - sources}
        return UpstreamTick(lookup, assets, UpstreamCursor.of_cursor(context.cursor), last, now(), context.log).run()

    return dg.SensorDefinition(
        name=NAME,
        evaluation_fn=tick,
        asset_selection=selection,
        minimum_interval_seconds=5,
        default_status=default_status,
        description="Requests the partitions that are made from what changed, as runs over ranges, and no others.",
    )


@dataclass(slots=True)
class UpstreamTick:
    """One evaluation of the sensor.

    Args:
        assets: Dagster's asset graph.
        last_days: of the tables that may be requested.

    What is running is asked before records are read: a run that ends in between has its records read, one that does not
    holds back what is downstream of it.
    """

    lookup: Records
    assets: Any
    cursor: UpstreamCursor
    last_days: Mapping[str, date]
    now: datetime
    log: logging.Logger
    _last_attempts: dict[Partition, LastAttempt] = field(default_factory=dict)

    @property
    def event_log(self) -> EventLog:
        """Where changes and runs are read."""
        return self.lookup.event_log

    def run(self) -> dg.SensorResult:
        """Read what changed, judge what is downstream of it, request what must be made."""
        cursor, graph = self.cursor, self.event_log.graph
        cursor.follow(graph)
        changed = self._read_changes()
        mended = cursor.forget({Partition(graph.lead(table), day) for table, day in changed})
        ended = self._read_ended_runs(changed)
        retried = {
            partition: each.attempts for each in cursor.later if each.not_before <= self.now for partition in each.wants
        }
        candidates = cursor.waiting | ended | retried.keys() | mended
        candidates |= downstream_partitions(graph, changed, self.last_days)
        candidates = {partition for partition in candidates if partition.table in self.last_days}
        too_early = {partition for partition in candidates if partition.day > self.last_days[partition.table]}
        candidates -= too_early
        if not candidates:
            cursor.waiting = too_early
            return dg.SensorResult(cursor=cursor.to_cursor(), skip_reason="nothing changed upstream")
        running = partitions_under_way(self.event_log.instance, graph, self.assets)
        running |= cursor.requested_partitions
        for partition, want in cursor.failed.items():
            if partition not in retried:
                self._last_attempts[partition] = LastAttempt(want, succeeded=False)
        reaction = react(
            graph,
            candidates,
            self.lookup,
            running=running,
            last_attempts=self._last_attempts,
            at_most=LOOKED_UP_PER_TICK,
        )
        requests = [self._request(each, retried) for each in reaction.requests[:REQUESTS_PER_TICK]]
        postponed = {partition for each in reaction.requests[REQUESTS_PER_TICK:] for partition in each.partitions}
        self._remember(reaction, postponed | too_early | set(reaction.unrecorded))
        return dg.SensorResult(
            run_requests=requests, cursor=cursor.to_cursor(), skip_reason=None if requests else _reason(reaction.found)
        )

    def _read_changes(self) -> set[Partition]:
        """Partitions that were recorded since the last tick."""
        changed, read, instance = set(), self.cursor.read, self.event_log.instance
        for table in self.event_log.graph.tables:
            key, place = key_of(table), read.get(table)
            # What was read last is asked for together with what comes after it.
            filtered = dg.AssetRecordsFilter(key, after_storage_id=place.storage_id - 1 if place else None)
            found = instance.fetch_materializations(filtered, limit=2, ascending=True).records
            if place is not None and not (found and place.is_of(found[0])):
                self.log.warning(f"{table}: its event log is not what it was, so all of its days are looked at")
                del read[table]
                changed |= {Partition(table, day) for day in self.lookup.heads(table)}
                place, found = None, instance.fetch_materializations(key, limit=1, ascending=True).records
            # The next question goes through every record of the table, so it is asked only if there is an answer.
            if len(found) < (2 if place else 1):
                continue
            newest = instance.get_latest_storage_id_by_partition(
                key, dg.DagsterEventType.ASSET_MATERIALIZATION, after_cursor=place and place.storage_id
            )
            last = max(newest.values(), default=found[-1].storage_id)  # it may be of no partition
            filtered = dg.AssetRecordsFilter(key, storage_ids=[last])
            for record in instance.fetch_materializations(filtered, limit=1).records:
                read[table] = Place(last, record.timestamp)
            for day in newest:
                with suppress(ValueError):  # a report of a partition that cannot exist
                    changed.add(Partition(table, date.fromisoformat(day)))
        return changed

    def _read_ended_runs(self, changed: Collection[Partition]) -> set[Partition]:
        """Partitions of requested runs that have ended, with the answers that they gave."""
        cursor, ended = self.cursor, set[Partition]()
        if not cursor.requested:
            return ended
        runs = newest_runs(self.event_log.instance, cursor.requested.keys())
        for key, requested in list(cursor.requested.items()):
            record = runs.get(key)
            run = record.dagster_run if record else None
            if run is not None and (run.status in IN_FLIGHT or is_retried_by_dagster(run)):
                continue
            ended |= requested.wants.keys()
            del cursor.requested[key]
            if record is None or run is None:
                self.log.warning(f"{key}: no such run; what it was to make is looked at again")
            elif run.status is dg.DagsterRunStatus.CANCELED:
                again = {each: want for each, want in requested.wants.items() if each not in changed}
                for partition, want in again.items():
                    self._try_later(partition, want, self.now, requested.attempts + 1)
            elif run.status is dg.DagsterRunStatus.SUCCESS:
                commits = requested.commits
                self._last_attempts |= {
                    partition: LastAttempt(want, succeeded=True, commits=commits.get(partition, ""))
                    for partition, want in requested.wants.items()
                }
            else:
                self._read_failure(record, requested, changed)
        return ended

    def _read_failure(self, run: dg.RunRecord, requested: RequestedRun, changed: Collection[Partition]) -> None:
        """Try again, as their verdicts allow, what neither the run nor another one after it has recorded."""
        instance, run_id = self.event_log.instance, run.dagster_run.run_id
        found = recorded_failures(instance, run_id)
        recorded = recorded_partitions(instance, self.event_log.graph, run_id)
        for table, day in requested.wants.keys() & set(changed):
            newest = self.lookup.records(table, [day]).get(day)
            if newest and newest.recorded_at.timestamp() > (run.end_time or math.inf):
                recorded.add(Partition(table, day))
        for partition, want in requested.wants.items():
            if partition in recorded:
                continue
            told = [each for each in found if each.is_about(partition.table, partition.day)]
            if told and all(each.may_retry for each in told):
                not_before = max(each.not_before or self.now for each in told)
                self._try_later(partition, want, not_before, max(each.attempts for each in told))
            else:
                self.cursor.refused[partition] = want

    def _try_later(self, partition: Partition, want: str, not_before: datetime, attempts: int) -> None:
        for each in self.cursor.later:
            if (each.not_before, each.attempts) == (not_before, attempts):
                each.wants[partition] = want
                return
        self.cursor.later.append(PostponedRetry({partition: want}, not_before, attempts))

    def _request(self, request: Request, retried: Mapping[Partition, int]) -> dg.RunRequest:
        wants = {partition: staleness.want for partition, staleness in request.partitions.items()}
        attempts = max((retried.get(partition, 0) for partition in wants), default=0)
        listed = "".join(f"{partition}={want};" for partition, want in sorted(wants.items()))
        inputs = hashlib.blake2b(listed.encode()).hexdigest()[:WANT_DIGITS]
        span = f"{request.first}..{request.last}"
        key = f"{'+'.join(request.leads)}|{span}|{inputs}|{request.cause}|{attempts}"
        commits = {partition: staleness.commits for partition, staleness in request.partitions.items()}
        self.cursor.requested[key] = RequestedRun(wants, attempts, commits)
        because = _because(request.partitions.values())
        self.log.info(f"requested {' and '.join(request.leads)} {span}: {because}")
        days = {PARTITION: str(request.first)} if request.first == request.last else {}
        return dg.RunRequest(
            run_key=key,
            asset_selection=[key_of(table) for lead in request.leads for table in self.event_log.graph.steps[lead]],
            tags={
                **(days or {RANGE_START: str(request.first), RANGE_END: str(request.last)}),
                BECAUSE_TAG: because,
                **({ATTEMPTS_TAG: str(attempts)} if attempts else {}),
            },
        )

    def _remember(self, reaction: Reaction, postponed: set[Partition]) -> None:
        cursor = self.cursor
        # A failed one that is held keeps its verdict: what it waits for may end without any change.
        waiting = (
            reaction.partitions(StalenessStatus.HELD, StalenessStatus.RUNNING, StalenessStatus.POSTPONED) | postponed
        )
        cursor.waiting = waiting
        cursor.forget(reaction.found.keys() - reaction.partitions(StalenessStatus.FAILED) - waiting)


def _because(partitions: Iterable[Staleness]) -> str:
    changed: dict[str, set[date]] = {}
    for staleness in partitions:
        for change in staleness.changes:
            changed.setdefault(change.partition.table, set()).add(change.partition.day)
    listed = [f"{table} {span_in_words(*span)}" for table, days in changed.items() for span in ranges_of(sorted(days))]
    more = f" and {len(listed) - DESCRIBED_CHANGES} more" if len(listed) > DESCRIBED_CHANGES else ""
    return f"new or changed: {', '.join(listed[:DESCRIBED_CHANGES])}{more}" if listed else "never computed"


def _reason(found: Mapping[Partition, Staleness]) -> str:
    counts = Counter(staleness.status.value for staleness in found.values())
    return "looked at " + ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
