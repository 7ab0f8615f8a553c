"""A world for the upstream sensor: a graph of tables, sources that change, runs that somebody may launch, end and kill.

The event log, the runs and the sensor are real. What is made up is what runs compute, and the daemon that submits them.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import uuid4

import dagster as dg
from dagster._core.events import StepMaterializationData
from dagster._core.execution.plan.objects import StepFailureData, UserFailureData

from pipeline_assets.orchestration.changes.upstream_sensor import UpstreamCursor, UpstreamTick
from pipeline_assets.orchestration.history.event_log import EventLog
from pipeline_assets.orchestration.history.failures import RecordedFailure, failure_metadata
from pipeline_assets.orchestration.history.graph import key_of
from pipeline_assets.orchestration.history.records import Records
from pipeline_assets.orchestration.history.runs import IN_FLIGHT
from pipeline_assets.orchestration.history.tags import ATTEMPTS_TAG, PARTITION, RANGE_END, RANGE_START, RUN_KEY_TAG
from pipeline_assets.partition import Partition, days_between
from pipeline_assets.rules.alerts import Severity
from pipeline_assets.rules.graph import Graph
from pipeline_assets.store.memory import MemoryStore

FIRST = date(2024, 2, 27)
START = datetime(2024, 4, 1, tzinfo=UTC)
MAX_ATTEMPTS = 3
Digests = dict[Partition, str]
"""By upstream partition: what one partition was, or is to be, made from."""


@dataclass(slots=True, repr=False, eq=False)
class Attempt:
    """One run: its partitions, what it has read of each, and what it has committed and not recorded yet."""

    run_id: str
    leads: tuple[str, ...]
    days: Sequence[date]
    tags: Mapping[str, str]
    read: dict[Partition, Digests] = field(default_factory=dict)
    committed: dict[Partition, Digests] = field(default_factory=dict)
    changed: set[Partition] = field(default_factory=set)
    """Committed in the place of other rows, recorded or not, as the store says."""

    def __repr__(self) -> str:
        return f"<{'+'.join(self.leads)} {self.days[0]} to {self.days[-1]}>"

    @property
    def partitions(self) -> list[Partition]:
        return [Partition(lead, day) for lead in self.leads for day in self.days]

    @property
    def attempts(self) -> int:
        return int(self.tags.get(ATTEMPTS_TAG, "0")) + 1


@dataclass
class World:
    """Everything there is.

    Args:
        silent: tables whose records do not say what they were made from.
        variety: how many contents a computed partition can have; the fewer, the more often it stays as it is.
    """

    instance: dg.DagsterInstance
    graph: Graph
    last_days: Mapping[str, date]
    silent: frozenset[str] = frozenset()
    variety: int = 3
    now: datetime = START
    cursor: str | None = None
    heads: dict[Partition, str] = field(default_factory=dict)
    recorded: dict[Partition, str] = field(default_factory=dict)
    made_from: dict[Partition, Digests] = field(default_factory=dict)
    running: dict[str, Attempt] = field(default_factory=dict)
    submitted: list[Attempt] = field(default_factory=list)
    to_retry: list[Attempt] = field(default_factory=list)
    changes: Counter[Partition] = field(default_factory=Counter)
    records: Counter[Partition] = field(default_factory=Counter)

    # What is there.

    def inputs(self, partition: Partition, of: Mapping[Partition, str]) -> Digests:
        """What a partition is made from, as far as it is there."""
        first = self.graph.first_days[partition.table]
        is_silent = partition.table in self.silent
        return {each: digest for each, digest in self.window(partition, of).items() if each.day >= first or is_silent}

    def window(self, partition: Partition, of: Mapping[Partition, str]) -> Digests:
        """The same, with days from before its own history, which some assets read and others do not."""
        windows = self.graph.reads(partition.table)
        reads = [Partition(name, day) for name, window in windows for day in window.upstream_of(partition.day)]
        return {each: of[each] for each in reads if each in of}

    def ancestors(self, partition: Partition) -> set[Partition]:
        """Partitions, by the leading tables of their steps, that it is made from, over any number of steps."""
        upstream = {Partition(self.graph.lead(name), day) for name, day in self.window(partition, self.heads)}
        return upstream.union(*map(self.ancestors, upstream))

    def computable(self) -> Iterator[Partition]:
        """Partitions whose inputs of the same day are recorded."""
        for lead in self.graph.leads():
            if lead in self.graph.sources:
                continue
            for day in days_between(self.graph.first_days[lead], self.last_days[lead]):
                if all(Partition(name, day) in self.recorded for name, _ in self.graph.reads(lead)):
                    yield Partition(lead, day)

    def is_current(self, partition: Partition) -> bool:
        """Made from what is recorded upstream now."""
        return self.made_from.get(partition) == self.inputs(partition, self.recorded)

    # What may happen.

    def deliver(self, table: str, day: date, digest: str | None) -> None:
        """A source reports a day."""
        metadata = {"digest": digest} if digest else {}
        self.instance.report_runless_asset_event(
            dg.AssetMaterialization(key_of(table), partition=str(day), metadata=metadata)
        )
        if digest:
            self.heads[Partition(table, day)] = digest
            self._recorded(Partition(table, day))
        else:
            self.records[Partition(table, day)] += 1

    def _recorded(self, partition: Partition) -> None:
        """The head is recorded."""
        self.records[partition] += 1
        if self.recorded.get(partition) != self.heads[partition]:
            self.recorded[partition] = self.heads[partition]
            self.changes[partition] += 1

    def launch(self, leads: Sequence[str], days: Sequence[date], tags: Mapping[str, str] | None = None) -> Attempt:
        """A run is started, by whomever."""
        span = {RANGE_START: str(days[0]), RANGE_END: str(days[-1])}
        attempt = Attempt(str(uuid4()), tuple(leads), days, {**span, **(tags or {})})
        keys = frozenset(key_of(table) for lead in leads for table in self.graph.steps[lead])
        self.instance.add_run(
            dg.DagsterRun(
                job_name="__ASSET_JOB",
                run_id=attempt.run_id,
                tags=attempt.tags,
                asset_selection=keys,
                status=dg.DagsterRunStatus.STARTED,
            )
        )
        for lead in leads:
            self._event(attempt, lead, "STEP_START", None)
        self.running[attempt.run_id] = attempt
        return attempt

    def _event(self, attempt: Attempt, lead: str, kind: str, data: Any) -> None:
        event = dg.DagsterEvent(kind, "__ASSET_JOB", step_key=lead, event_specific_data=data)
        self.instance.report_dagster_event(event, attempt.run_id)

    def read(self, attempt: Attempt, partition: Partition) -> None:
        """A run reads the inputs of one of its partitions: what lies in the lake, recorded or not."""
        attempt.read[partition] = self.inputs(partition, self.heads)

    def commit(self, attempt: Attempt, partitions: Collection[Partition]) -> None:
        """A run publishes some of its partitions, those that it has an input for."""
        for partition in partitions:
            if partition not in attempt.read:
                self.read(attempt, partition)
            inputs = attempt.read[partition]
            if all(Partition(name, partition.day) in inputs for name, _ in self.graph.reads(partition.table)):
                attempt.committed[partition] = inputs
                listed = "".join(f"{table[-2:]}{day}{inputs[Partition(table, day)]}" for table, day in sorted(inputs))
                for table in self.graph.steps[partition.table]:
                    content = int(hashlib.blake2b(f"{listed}{table[-2:]}{partition.day}".encode()).hexdigest(), 16)
                    one, digest = Partition(table, partition.day), str(content % self.variety)
                    if self.heads.get(one) != digest:
                        self.heads[one] = digest
                        attempt.changed.add(one)

    def _record(self, attempt: Attempt) -> None:
        for partition, inputs in attempt.committed.items():
            self.made_from[partition] = inputs
            told: dict[str, dict[str, str]] = {
                name.rpartition("/")[2]: {} for name, _ in self.graph.reads(partition.table)
            }
            for each, digest in inputs.items():
                told[each.table.rpartition("/")[2]][str(each.day)] = digest
            for table in self.graph.steps[partition.table]:
                one = Partition(table, partition.day)
                self._recorded(one)
                metadata: dict[str, Any] = {
                    "digest": self.heads[one],
                    "unchanged": dg.MetadataValue.bool(one not in attempt.changed),
                    **({} if partition.table in self.silent else {"inputs": dg.MetadataValue.json(told)}),
                }
                made = dg.AssetMaterialization(key_of(one.table), partition=str(one.day), metadata=metadata)
                self._event(attempt, partition.table, "ASSET_MATERIALIZATION", StepMaterializationData(made))

    def succeed(self, attempt: Attempt) -> None:
        """A run commits what is left, records all and ends."""
        self.commit(attempt, [partition for partition in attempt.partitions if partition not in attempt.committed])
        self._record(attempt)
        del self.running[attempt.run_id]
        self.instance.report_dagster_event(
            dg.DagsterEvent(event_type_value="PIPELINE_SUCCESS", job_name="__ASSET_JOB"), attempt.run_id
        )

    def fail(self, attempt: Attempt, *, transient: bool, wait_seconds: float = 60) -> dict[Partition, datetime | None]:
        """A run fails at what it has not committed, and records the rest; when each may be tried again."""
        self._record(attempt)
        outlook: dict[Partition, datetime | None] = {}
        for lead in attempt.leads:
            failed = [
                partition
                for partition in attempt.partitions
                if partition.table == lead and partition not in attempt.committed
            ]
            if not failed:
                continue
            may_retry = transient and attempt.attempts < MAX_ATTEMPTS
            not_before = self.now + timedelta(seconds=wait_seconds) if may_retry else None
            outlook |= dict.fromkeys(failed, not_before)
            told = RecordedFailure(
                attempt.run_id,
                lead,
                self.graph.steps[lead],
                "network" if transient else "bug",
                "network" if transient else "bug",
                Severity.ALERT,
                "it failed",
                tuple(partition.day for partition in failed),
                (),
                may_retry,
                not_before,
                attempt.attempts,
                MAX_ATTEMPTS if transient else 1,
            )
            data = UserFailureData("x", "it failed", failure_metadata([told]))  # type: ignore[no-untyped-call]
            self._event(attempt, lead, "STEP_FAILURE", StepFailureData(None, data))  # type: ignore[no-untyped-call]
        self._ended(attempt)
        return outlook

    def die(self, attempt: Attempt, *, is_retried: bool = False) -> None:
        """The worker of a run is gone: what it committed has no record. Dagster may start the run again."""
        if is_retried:
            self.instance.add_run_tags(attempt.run_id, {"dagster/will_retry": "true"})
            self.to_retry.append(attempt)
        self._ended(attempt)

    def retry_runs(self) -> None:
        """Dagster's run retries do their work."""
        for attempt in self.to_retry:
            again = self.launch(attempt.leads, attempt.days, attempt.tags)
            if attempt in self.submitted:
                self.submitted.append(again)
        self.to_retry.clear()

    def cancel(self, attempt: Attempt) -> None:
        """A run is stopped by somebody; what it committed is recorded."""
        self._record(attempt)
        self.instance.report_run_canceled(self._run(attempt))
        del self.running[attempt.run_id]

    def _ended(self, attempt: Attempt) -> None:
        self.instance.report_run_failed(self._run(attempt))
        del self.running[attempt.run_id]

    def _run(self, attempt: Attempt) -> dg.DagsterRun:
        run = self.instance.get_run_by_id(attempt.run_id)
        assert run is not None
        return run

    # The daemon.

    def evaluate(self, cursor: str | None) -> dg.SensorResult:
        """One evaluation of the sensor, as the code server does it; nothing comes of it yet."""
        lookup = Records(EventLog(self.instance, self.graph), MemoryStore())
        log = logging.getLogger("world")
        return UpstreamTick(lookup, None, UpstreamCursor.of_cursor(cursor), self.last_days, self.now, log).run()

    def tick(self, *, stores_cursor: bool = True, submits: int | None = None) -> list[Attempt]:
        """Evaluate, store the cursor, submit the runs that were requested. A daemon that is killed does less."""
        result = self.evaluate(self.cursor)
        if stores_cursor:
            self.cursor = result.cursor
        return [run for request in (result.run_requests or [])[:submits] if (run := self.submit(request)) is not None]

    def submit(self, request: dg.RunRequest) -> Attempt | None:
        """A run for a request, unless there is one of its key already."""
        assert request.run_key is not None
        if self.instance.get_runs(dg.RunsFilter(tags={RUN_KEY_TAG: request.run_key}), limit=1):
            return None
        first = date.fromisoformat(request.tags.get(RANGE_START) or request.tags[PARTITION])
        last = date.fromisoformat(request.tags.get(RANGE_END) or request.tags[PARTITION])
        leads = dict.fromkeys(self.graph.lead(key.to_user_string()) for key in request.asset_selection or ())
        attempt = self.launch(list(leads), days_between(first, last), {**request.tags, RUN_KEY_TAG: request.run_key})
        self.submitted.append(attempt)
        return attempt

    def in_flight(self, without: Collection[str] = ()) -> set[Partition]:
        """Partitions that are being made, or will be by Dagster's retries."""
        running = [attempt for run_id, attempt in self.running.items() if run_id not in without]
        return {partition for attempt in [*running, *self.to_retry] for partition in attempt.partitions}

    def close(self) -> None:
        """End what still runs: the instance is shared."""
        for attempt in list(self.running.values()):
            self.die(attempt)
        assert not self.instance.get_run_records(dg.RunsFilter(statuses=list(IN_FLIGHT)))
