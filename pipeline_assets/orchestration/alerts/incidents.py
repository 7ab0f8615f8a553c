"""What went wrong in finished runs: failed steps, runs that died, checks that warn. Who is told is not decided here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from pipeline_assets.orchestration.asset.spec import ALERT_METADATA
from pipeline_assets.orchestration.history.failures import RecordedFailure, recorded_failures
from pipeline_assets.orchestration.history.graph import key_of
from pipeline_assets.orchestration.history.tags import LAUNCHED_BY_TAG, days_of_tags
from pipeline_assets.rules.alerts import Alert, Severity
from pipeline_assets.rules.troubles import Incident

ATTEMPT_GRACE_SECONDS = 900
"""For an announced attempt to be requested, queued and run, before its absence is told."""

_EVENT_TYPES = {
    dg.DagsterEventType.STEP_START,
    dg.DagsterEventType.STEP_SUCCESS,
    dg.DagsterEventType.STEP_FAILURE,
    dg.DagsterEventType.RUN_FAILURE,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION,
}


@dataclass(frozen=True, slots=True)
class OwnAssets:
    """Assets of our definitions, and runs of our code location: alerts are about these.

    Args:
        tables: every key, upstream first.
        of_step: the main key that a step makes.
        checks: whose warnings are told, as their metadata says.
        location_name: None if all runs are ours.
    """

    tables: Sequence[dg.AssetKey]
    of_step: Mapping[str, dg.AssetKey]
    owners: Mapping[dg.AssetKey, Sequence[str]]
    checks: Collection[dg.AssetCheckKey] = ()
    location_name: str | None = None

    @classmethod
    def of(cls, repository: dg.RepositoryDefinition, *, location_name: str | None = None) -> OwnAssets:
        """Take what the definitions say."""
        graph = repository.asset_graph
        order = [key for level in graph.toposorted_asset_keys_by_level for key in sorted(level)]
        of_step = {}
        for assets in dict.fromkeys(repository.assets_defs_by_key.values()):
            if assets.is_executable:
                name, keys = assets.node_def.name, sorted(assets.keys)
                of_step[name] = next((key for key in keys if "__".join(key.path) == name), keys[0])
        owners = {key: list(graph.get(key).owners) for key in order}
        checks = [key for key in graph.asset_check_keys if graph.get_check_spec(key).metadata.get(ALERT_METADATA)]
        return cls(order, of_step, owners, checks, location_name)

    def include(self, run: dg.DagsterRun) -> bool:
        """True for a run of one of the assets, whoever launched it; and for a run of no asset of the code location."""
        if run.asset_selection:
            return any(key in run.asset_selection for key in self.tables)
        origin = run.remote_job_origin
        return origin is None or self.location_name is None or origin.location_name == self.location_name


def incidents_of(instance: dg.DagsterInstance, record: dg.RunRecord, ours: OwnAssets) -> Iterator[Incident]:
    """What went wrong in one run that has ended."""
    run = record.dagster_run
    is_failure = run.status is dg.DagsterRunStatus.FAILURE
    checked = {key.asset_key for key in ours.checks}
    if not ours.include(run) or not (is_failure or checked.intersection(run.asset_selection or checked)):
        return
    entries = [each.event_log_entry for each in instance.get_records_for_run(run.run_id, of_type=_EVENT_TYPES).records]
    events = [(entry, event) for entry in entries if (event := entry.dagster_event) is not None]
    for entry, event in events:
        if event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            evaluation = event.asset_check_evaluation_data
            if evaluation.asset_check_key in ours.checks and not evaluation.passed:
                yield Incident(_warning(run, evaluation, ours), _moment(entry), ends_when_committed=False)
    if not is_failure:
        return
    failed_at = {event.step_key: _moment(entry) for entry, event in events if event.is_step_failure}
    failures = recorded_failures(instance, run.run_id)
    for failure in failures:
        yield _failed_step(run, failure, failed_at.get(failure.step_key, record.update_timestamp), ours)
    # Ctrl-C in `pipeline run` leaves a failed step without a verdict; elsewhere that is a worker that was killed.
    if not failures and not (failed_at and LAUNCHED_BY_TAG in run.tags):
        yield Incident(_died(run, [event for _, event in events], ours), record.update_timestamp)


def unreadable(record: dg.RunRecord, ours: OwnAssets) -> list[Incident]:
    """What is told of a run whose events cannot be read."""
    if record.dagster_run.status is not dg.DagsterRunStatus.FAILURE or not ours.include(record.dagster_run):
        return []
    return [Incident(_died(record.dagster_run, [], ours), record.update_timestamp)]


def _failed_step(run: dg.DagsterRun, failure: RecordedFailure, at: datetime, ours: OwnAssets) -> Incident:
    days = sorted({*failure.failed_days, *failure.days_not_attempted}) or days_of_tags(run.tags)
    alert = Alert(
        key=f"run|{run.run_id}|{failure.step_key}|{failure.verdict}",
        severity=failure.severity,
        title=f"{failure.table} failed",
        table=failure.table,
        days=days,
        verdict=failure.verdict,
        reason=failure.reason,
        owners=ours.owners.get(key_of(failure.table), ()),
        run_id=run.run_id,
    )
    grace = timedelta(seconds=ATTEMPT_GRACE_SECONDS)
    announced = failure.not_before if failure.may_retry else None
    return Incident(alert, at, overdue=None if announced is None else announced + grace)


def _died(run: dg.DagsterRun, events: Iterable[dg.DagsterEvent], ours: OwnAssets) -> Alert:
    """A run that failed while no step did: its worker died, never came up, or took too long."""
    reason, steps = "its worker ended without reporting anything", list[str]()
    for event in events:
        step = str(event.step_key)
        if event.event_type is dg.DagsterEventType.STEP_START:
            steps.append(step)
        elif event.event_type is dg.DagsterEventType.STEP_SUCCESS and step in steps:
            steps.remove(step)
        elif event.event_type is dg.DagsterEventType.RUN_FAILURE:
            reason = event.message or reason
    selected = [key for key in ours.tables if not run.asset_selection or key in run.asset_selection]
    key = ours.of_step.get(steps[0].partition(".")[0]) if steps else next(iter(selected), None)
    others = f" It was a run of {len(selected)} tables." if len(selected) > 1 else ""
    return Alert(
        key=f"run|{run.run_id}",
        severity=Severity.ALERT,
        title=f"a run of {key.to_user_string() if key else run.job_name} died",
        table=key.to_user_string() if key else run.job_name,
        days=days_of_tags(run.tags),
        verdict="run died",
        reason=f"{reason.strip()}{others}",
        owners=ours.owners[key] if key else (),
        run_id=run.run_id,
    )


def _warning(run: dg.DagsterRun, evaluation: dg.AssetCheckEvaluation, ours: OwnAssets) -> Alert:
    named = evaluation.metadata["days_failed"].value if "days_failed" in evaluation.metadata else None
    table = evaluation.asset_key.to_user_string()
    return Alert(
        key=f"check|{run.run_id}|{table}|{evaluation.check_name}",
        severity=Severity.ALERT,
        title=f"{table}: check {evaluation.check_name} warns",
        table=table,
        days=sorted(date.fromisoformat(day) for day in named) if isinstance(named, list) else days_of_tags(run.tags),
        verdict=f"check {evaluation.check_name}",
        reason=evaluation.description or f"the check {evaluation.check_name} did not pass",
        owners=ours.owners.get(evaluation.asset_key, ()),
        run_id=run.run_id,
    )


def _moment(entry: dg.EventLogEntry) -> datetime:
    return datetime.fromtimestamp(entry.timestamp, UTC)
