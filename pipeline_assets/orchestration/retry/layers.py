"""Carries a verdict through Dagster's three retry layers: the step, the run, and whoever requests runs.

A short wait is the step's own (`RetryRequested`). A long one ends the step with a failure that says from when it may be
requested again. Run retries are for workers that died: what a step failed of is marked as final to them. All layers
count attempts together.

Belongs here: turning failures into what is raised. Does not: which verdict an error gets (`rules.retry`), which attempt
it was (`step`), which days of a range failed (`outcome`), reading it back (`history.failures`).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import Any

import dagster as dg

from pipeline_assets.errors import PipelineError
from pipeline_assets.orchestration.history.failures import RecordedFailure, failure_metadata
from pipeline_assets.orchestration.history.tags import KIND_TAG, MAX_RETRIES_TAG, RETRY_STEP_FAILURES_TAG, VERDICT_TAG
from pipeline_assets.orchestration.retry.step import Failure, RetryRules, Step, step_of
from pipeline_assets.rules.retry import delay_seconds


@dataclass(frozen=True, slots=True)
class StepFailure:
    """All that a step failed of, day by day.

    Args:
        subject: table and days, for the log.
        told: in sentences.
        failed: days in the order of the attempts; None stands for the step as a whole.
        days_not_attempted: after the last failed one, as they would have met the same.
        piecewise: a retry computes only the days that may pass. Otherwise it is one of all, and all must allow it.
    """

    subject: str
    told: str
    failed: Sequence[tuple[date | None, Failure]]
    metadata: Mapping[str, Any]
    days_not_attempted: Sequence[date] = ()
    piecewise: bool = False


def raised_for(step: Step, failures: StepFailure) -> dg.RetryRequested | dg.Failure:
    """Give what to raise: a request to run the step again after a short wait, or a failure that Dagster does not retry.

    Either is logged or tagged; either has a `Failure` with the verdicts as cause or is it.
    """
    classified = [each for _, each in failures.failed]
    hopeful = [each for each in classified if step.may_retry(each)]
    wait: float | None = None
    if hopeful:
        jitter = step.retrying.jitter()
        wait = max(delay_seconds(each.verdict, step.attempt, jitter, each.asked_seconds) for each in hopeful)
    not_before = None if wait is None else step.retrying.now() + timedelta(seconds=wait)
    groups = _groups(step, failures, not_before)
    shown = groups[0]
    limit = max(step.attempt, *(each.verdict.max_retries + 1 for each in hopeful or classified))
    again = (
        wait is not None
        and step.may_wait
        and wait <= step.retrying.longest_step_wait_seconds
        and (failures.piecewise or len(hopeful) == len(classified))
    )
    first = next((each.error for each in classified if each.error is not None), None)
    failure = dg.Failure(
        failures.told if again else failures.told + _outlook(step, hopeful, not_before, limit),
        metadata={
            **failures.metadata,
            "verdict": shown.verdict,
            "kind": shown.kind,
            "attempts": step.attempt,
            "max_attempts": limit,
            "delays_seconds": step.delays_seconds() if step.retry_number else [],
            **({} if not_before is None else {"not_before": dg.MetadataValue.timestamp(not_before)}),
            **failure_metadata(groups),
        },
        allow_retries=False,
    )
    failure.__cause__ = first
    if again and wait is not None:
        verdicts = "; ".join(dict.fromkeys(f"{each.verdict.name}: {each.told}" for each in hopeful[:3]))
        step.log.warning(
            f"{failures.subject}: attempt {step.attempt + 1} of {limit} in {wait:.1f} s: verdict {verdicts}"
        )
        retry = dg.RetryRequested(max_retries=step.retry_number + 1, seconds_to_wait=wait)
        retry.__cause__ = failure
        return retry
    step.log.error(
        f"{failures.subject}: attempt {step.attempt} of {limit} was the last here: "
        f"verdict {shown.verdict}: {shown.reason}"
    )
    step.instance.add_run_tags(
        step.run_id,
        {
            VERDICT_TAG: shown.verdict,
            KIND_TAG: shown.kind,
            # The second is enough while the worker lives to say that its step failed; the first, if it dies at once.
            MAX_RETRIES_TAG: "0",
            RETRY_STEP_FAILURES_TAG: "false",
        },
    )
    return failure


@contextmanager
def classified(
    context: dg.AssetExecutionContext | dg.OutputContext | dg.InputContext,
    retrying: RetryRules,
    *,
    days: Sequence[date] = (),
) -> Iterator[None]:
    """Judge whatever fails inside, as one. Also for the body of a plain asset.

    Args:
        days: that fail with it; those of the run if it is not known here.

    Raises:
        dagster.RetryRequested, dagster.Failure: instead of the error.
    """
    try:
        yield
    except (dg.Failure, dg.RetryRequested, dg.DagsterError):
        raise  # classified, or told by an author or by Dagster
    except Exception as error:  # noqa: BLE001 - every one is classified, and raised
        step = step_of(context, retrying)
        failed = step.classify(error)
        told = str(error) if isinstance(error, PipelineError) else failed.told
        failures = StepFailure(
            " and ".join(step.tables) or step.key,
            told,
            [(day, failed) for day in days] or [(None, failed)],
            {"failed_days": [day.isoformat() for day in days], "committed_days": []},
        )
        raised = raised_for(step, failures)
        raise raised from raised.__cause__


def _groups(step: Step, failures: StepFailure, not_before: datetime | None) -> list[RecordedFailure]:
    """One failure per verdict and kind: final ones first, and of them pages."""

    def same(item: tuple[date | None, Failure]) -> tuple[bool, bool, str, str]:
        failed = item[1]
        final = not step.may_retry(failed)
        return not final, failed.verdict.severity != "page", failed.verdict.name, failed.kind

    groups = []
    ended_by = failures.failed[-1][0]
    for _, members in groupby(sorted(failures.failed, key=same), key=same):
        items = list(members)
        failed = items[0][1]
        may_retry = step.may_retry(failed)
        groups.append(
            RecordedFailure(
                run_id=step.run_id,
                step_key=step.key,
                tables=step.tables,
                verdict=failed.verdict.name,
                kind=failed.kind,
                severity=failed.verdict.severity,
                reason=failed.told,
                failed_days=tuple(day for day, _ in items if day is not None),
                days_not_attempted=tuple(failures.days_not_attempted if ended_by in dict(items) else ()),
                may_retry=may_retry,
                not_before=not_before if may_retry else None,
                attempts=step.attempt,
                max_attempts=failed.verdict.max_retries + 1,
            )
        )
    return groups


def _outlook(step: Step, hopeful: Sequence[Failure], not_before: datetime | None, limit: int) -> str:
    if not_before is not None:
        days = "It" if len(hopeful) == 1 else "They"
        return (
            f"\n{days} may be tried again from {not_before.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC on: "
            f"attempt {step.attempt + 1} of {limit}."
        )
    return f"\nGiven up after {step.attempt} attempts." if step.attempt > 1 else ""
