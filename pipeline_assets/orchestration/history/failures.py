"""What the retry rules said of a failed run, read back from its event log: for sensors and alerts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal, NamedTuple

import dagster as dg

from pipeline_assets.codec import codec
from pipeline_assets.orchestration.history.runs import partitions_of_run
from pipeline_assets.partition import Partition
from pipeline_assets.rules.alerts import Severity
from pipeline_assets.rules.graph import Graph
from pipeline_assets.rules.retry import NOT_NAMED

FAILURES_KEY = "judgements"
"""Metadata of a step's failure; its name is that of the failures in event logs that there are already."""
FAILED_RUNS = 500
"""Newest ones: what failed longer ago and was never made is missing, or was given up."""
INTERRUPTS = ("KeyboardInterrupt", "DagsterExecutionInterruptedError")
"""Not what a step failed of: its worker was told to stop."""


@dataclass(frozen=True, slots=True)
class RecordedFailure:
    """One verdict on days of one failed step. A step whose days failed of several things has several.

    Args:
        tables: that the step makes, the main one first.
        failed_days: empty if the step failed as a whole: then all that the run was for.
        days_not_attempted: the step stopped before them, as they would have met the same.
        may_retry: may be requested again, with the days not attempted.
        not_before: when, if it may.
        attempts: made so far, in this run and those before that it counted with.
        format: of the metadata; one without it is of format 1.
    """

    run_id: str
    step_key: str
    tables: tuple[str, ...]
    verdict: str
    kind: str
    severity: Severity
    reason: str
    failed_days: tuple[date, ...] = ()
    days_not_attempted: tuple[date, ...] = ()
    may_retry: bool = False
    not_before: datetime | None = None
    attempts: int = 1
    max_attempts: int = 1
    format: Literal[1] = 1

    @property
    def table(self) -> str:
        """The main table; the step's key if it makes none."""
        return self.tables[0] if self.tables else self.step_key

    def is_about(self, table: str, day: date) -> bool:
        """True if it says why the partition was not made."""
        if table not in self.tables:
            return False
        return not self.failed_days or day in self.failed_days or day in self.days_not_attempted


def failure_metadata(failures: Sequence[RecordedFailure]) -> dict[str, dg.JsonMetadataValue]:
    """Give the metadata of a step's failure that `recorded_failures` reads back."""
    values = codec(list[RecordedFailure]).dump_python(
        list(failures), mode="json", exclude={"__all__": {"run_id", "step_key"}}
    )
    return {FAILURES_KEY: dg.MetadataValue.json(values)}


def recorded_failures(instance: dg.DagsterInstance, run_id: str) -> tuple[RecordedFailure, ...]:
    """What the steps of a run failed of; none if no step failed, as when the worker died or was told to stop.

    A step that the rules never saw (a plain asset's own code) failed for good.
    """
    found: list[RecordedFailure] = []
    for entry in instance.all_logs(run_id, of_type={dg.DagsterEventType.STEP_FAILURE}):
        data = entry.get_dagster_event().step_failure_data
        key = entry.step_key or ""
        told = data.user_failure_data
        values: Any = told.metadata[FAILURES_KEY].value if told and FAILURES_KEY in told.metadata else None
        if values is not None:
            found += codec(list[RecordedFailure]).validate_python(
                [{**each, "run_id": run_id, "step_key": key} for each in values]
            )
        elif data.error is None or data.error.cls_name not in INTERRUPTS:
            described = told.description if told else None
            reason = described or (message_of(data.error) if data.error else "failed")
            found.append(
                RecordedFailure(
                    run_id,
                    key,
                    _tables_of(instance, run_id, key),
                    NOT_NAMED.name,
                    NOT_NAMED.kind,
                    NOT_NAMED.severity,
                    reason,
                )
            )
    return tuple(found)


class FailedRun(NamedTuple):
    """A run that did not make all that it was for.

    Args:
        failures: of the partitions that were looked for; none of one that the run says nothing of.
    """

    run: dg.DagsterRun
    began_at: datetime
    failures: Mapping[Partition, Sequence[RecordedFailure]]


def failed_runs(
    instance: dg.DagsterInstance,
    graph: Graph,
    is_looked_for: Callable[[Partition, datetime], bool],
    *,
    statuses: Sequence[dg.DagsterRunStatus] = (dg.DagsterRunStatus.FAILURE,),
) -> Iterator[FailedRun]:
    """Walk the failed runs that were to make a partition that is looked for, the newest first.

    Args:
        is_looked_for: takes a partition, by its leading table, and when a run of it began.
    """
    for record in instance.get_run_records(dg.RunsFilter(statuses=list(statuses)), limit=FAILED_RUNS):
        run = record.dagster_run
        began_at = datetime.fromtimestamp(record.start_time or record.create_timestamp.timestamp(), UTC)
        found = {each for each in partitions_of_run(instance, graph, run) if is_looked_for(each, began_at)}
        if found:  # else the log of the run is spared
            failures = recorded_failures(instance, run.run_id)
            told = {partition: [each for each in failures if each.is_about(*partition)] for partition in found}
            yield FailedRun(run, began_at, told)


def told_by_run(instance: dg.DagsterInstance, run_id: str) -> str | None:
    """What a run failed of as a whole, before any step could: a resource that cannot be set up, for example.

    None if it says nothing, as when its worker died or was told to stop.
    """
    for entry in instance.all_logs(run_id, of_type={dg.DagsterEventType.RUN_FAILURE}):
        data: Any = entry.get_dagster_event().job_failure_data  # none where Dagster reports a worker that died
        if data is not None and data.error is not None and data.error.cls_name not in INTERRUPTS:
            return message_of(data.error)
    return None


def message_of(error: Any) -> str:
    """The words of what was raised, out of Dagster's own around them.

    Args:
        error: of a failure's event data (a SerializableErrorInfo).
    """
    while error.cause is not None:
        error = error.cause
    return str(error.message).strip()


def _tables_of(instance: dg.DagsterInstance, run_id: str, step_key: str) -> tuple[str, ...]:
    planned = instance.all_logs(run_id, of_type={dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED})
    keys = [each.get_dagster_event().asset_key for each in planned if each.step_key == step_key]
    return tuple(dict.fromkeys(key.to_user_string() for key in keys if key is not None))
