"""Which attempt of a step is under way, counted over every run that it counts with, and which verdict a failure gets.

Belongs here: reading Dagster's contexts, runs and tags. Does not: what is raised (`retry`).
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from pipeline_assets.orchestration.history.tags import (
    ATTEMPTS_TAG,
    CONTINUES_TAG,
    KIND_TAG,
    MAX_RETRIES_TAG,
    RETRY_NUMBER_TAG,
    VERDICT_TAG,
)
from pipeline_assets.rules.retry import VERDICTS, Verdict, kind_of, verdict_for
from pipeline_assets.rules.symptoms import asked_to_wait_seconds

LONGEST_STEP_WAIT_SECONDS = 60.0
"""A step that waits holds its run's place in the queue; another run may have it meanwhile."""


@dataclass(frozen=True, slots=True)
class RetryRules:
    """Which verdicts failures get, and what chance and clock are.

    Args:
        jitter: 0 to 1, a new one per retry.
        now: aware.
    """

    verdicts: Sequence[Verdict] = VERDICTS
    jitter: Callable[[], float] = random.random
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    longest_step_wait_seconds: float = LONGEST_STEP_WAIT_SECONDS


@dataclass(frozen=True, slots=True)
class Failure:
    """An error that a step met, with its verdict.

    Args:
        told: class and message.
        error: None if it is an earlier attempt's.
    """

    verdict: Verdict
    kind: str
    told: str
    asked_seconds: float | None = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One attempt of a step, as the retry layers see it.

    Args:
        tables: that the step makes, the main one first.
        attempt: this one's number, over all runs that count together, from 1.
        earlier_runs: whose attempts this run goes on with, as their worker died; the newest first. Dagster's run
            retries say so of the run before, the tag `pipeline/continues` of any runs.
        may_wait: false if the executor's retries are switched off.
    """

    retrying: RetryRules
    run_id: str
    key: str
    tables: tuple[str, ...]
    retry_number: int
    attempt: int
    earlier_runs: tuple[str, ...]
    may_wait: bool
    instance: dg.DagsterInstance
    log: dg.DagsterLogManager

    def classify(self, error: Exception) -> Failure:
        """Give an error its verdict."""
        verdict = verdict_for(error, self.retrying.verdicts)
        return Failure(
            verdict,
            kind_of(error, verdict),
            f"{type(error).__name__}: {error}",
            asked_to_wait_seconds(error, self.retrying.now()),
            error,
        )

    def may_retry(self, failed: Failure) -> bool:
        """True if another attempt is allowed, here or in another run."""
        return self.attempt <= failed.verdict.max_retries

    def delays_seconds(self) -> list[float]:
        """List the waits that this run has been through."""
        waits = self.instance.all_logs(self.run_id, of_type={dg.DagsterEventType.STEP_UP_FOR_RETRY})
        return [
            round(float(each.get_dagster_event().step_retry_data.seconds_to_wait or 0.0), 3)
            for each in waits
            if each.step_key == self.key
        ]


def step_of(context: dg.AssetExecutionContext | dg.OutputContext | dg.InputContext, retrying: RetryRules) -> Step:
    """Find out which attempt of a step is under way."""
    # Both without underscore, though no part of the documented API: no other way leads from an IO manager's context to
    # the number of the attempt.
    step: Any = (
        context.get_step_execution_context() if isinstance(context, dg.AssetExecutionContext) else context.step_context
    )
    run, instance = step.dagster_run, step.instance
    first, earlier_runs = _earlier_runs(instance, run)
    attempts = 0
    for run_id in earlier_runs:
        retries = instance.all_logs(run_id, of_type={dg.DagsterEventType.STEP_UP_FOR_RETRY})
        attempts += sum(each.step_key == step.step.key for each in retries)
    told = first.tags.get(ATTEMPTS_TAG, "")
    if told.isdecimal() and first.parent_run_id is None:  # whoever re-executes a run begins anew
        attempts += int(told)
    assets: dg.AssetsDefinition | None = step.assets_def
    return Step(
        retrying=retrying,
        run_id=run.run_id,
        key=step.step.key,
        tables=tuple(key.to_user_string() for key in assets.keys_by_output_name.values()) if assets else (),
        retry_number=step.previous_attempt_count,
        attempt=attempts + step.previous_attempt_count + 1,
        earlier_runs=earlier_runs,
        may_wait=not step.retry_mode.disabled,
        instance=instance,
        log=step.log,
    )


def _earlier_runs(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[dg.DagsterRun, tuple[str, ...]]:
    """The run that Dagster's run retries began with, and all runs that this one goes on with, the newest first."""
    first, found = run, dict[str, dg.RunRecord]()
    ahead = [run]
    while ahead:
        each = ahead.pop()
        is_retry = bool(each.tags.get(RETRY_NUMBER_TAG))
        parents = [each.parent_run_id] if is_retry and each.parent_run_id else []
        # A run that is re-executed inherits the tag, and begins anew.
        told = each.tags.get(CONTINUES_TAG, "") if is_retry or each.parent_run_id is None else ""
        continued = [run_id for part in told.split(",") if (run_id := part.strip())]
        wanted = [run_id for run_id in (*parents, *continued) if run_id not in found and run_id != run.run_id]
        for record in instance.get_run_records(dg.RunsFilter(run_ids=wanted)) if wanted else ():
            found[record.dagster_run.run_id] = record
            ahead.append(record.dagster_run)
    while first.tags.get(RETRY_NUMBER_TAG) and first.parent_run_id in found:
        first = found[first.parent_run_id].dagster_run
    newest_first = sorted(found, key=lambda run_id: found[run_id].create_timestamp, reverse=True)
    return first, tuple(newest_first)


def begin(step: Step, context: dg.AssetExecutionContext) -> None:
    """Take back what a re-executed run inherited: a failed run's tags would speak of this one, and bind its retries."""
    tags = context.run.tags
    if not (context.run.parent_run_id and tags.get(VERDICT_TAG)):
        return
    if not step.instance.all_logs(step.run_id, of_type={dg.DagsterEventType.STEP_FAILURE}):  # else they may be its own
        retries = {MAX_RETRIES_TAG: str(step.instance.run_retries_max_retries)} if MAX_RETRIES_TAG in tags else {}
        step.instance.add_run_tags(step.run_id, {VERDICT_TAG: "", KIND_TAG: "", **retries})
