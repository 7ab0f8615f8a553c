"""What earlier attempts of a step left behind, so that a further one computes only the days that may pass now.

Attempts of a step may be processes of their own, so it is kept where Dagster keeps the rest: committed days as their
materializations, the days that were given up and what checks found in one observation per attempt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import dagster as dg

from pipeline_assets.orchestration.retry.step import Failed, Step
from pipeline_assets.rules.checks import Finding
from pipeline_assets.rules.retry import verdict_named

_LEFT_KEY = "pipeline/left_by_attempt"
Noted = tuple[str, str, date, Finding]
"""Table, check, day, and what was found."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """Days that are settled.

    Args:
        committed: by day, the metadata of the record of each table.
        given_up: by day.
        found: findings of all days so far.
    """

    committed: Mapping[date, Mapping[dg.AssetKey, Mapping[str, Any]]] = field(default_factory=dict)
    given_up: Mapping[date, Failed] = field(default_factory=dict)
    found: tuple[Noted, ...] = ()


def leave(context: dg.AssetExecutionContext, step: Step, earlier: Earlier) -> None:
    """Write down what is settled, for the attempt after this one. Committed days are in their records."""
    found = [
        {
            "table": table,
            "check": check,
            "day": day.isoformat(),
            "passed": finding.passed,
            "message": finding.message,
            "numbers": dict(finding.numbers),
        }
        for table, check, day, finding in earlier.found
    ]
    given_up = {
        day.isoformat(): {"verdict": failed.verdict.name, "kind": failed.kind, "told": failed.told}
        for day, failed in earlier.given_up.items()
    }
    context.log_event(
        dg.AssetObservation(
            dg.AssetKey.from_user_string(step.tables[0]),
            description=f"attempt {step.attempt}: the next one leaves out the days that are settled",
            metadata={_LEFT_KEY: dg.MetadataValue.json({"given_up": given_up, "found": found})},
        )
    )


def recall(step: Step) -> Earlier:
    """What earlier attempts of the step left, in this run and in those whose worker died; nothing on the first."""
    if step.attempt == 1 or not (step.retry_number or step.earlier_runs):
        return Earlier()
    committed: dict[date, dict[dg.AssetKey, Mapping[str, Any]]] = {}
    left: Any = {"given_up": {}, "found": []}
    for entry in _events_of(step):
        event = entry.get_dagster_event()
        if event.is_step_materialization:
            made = event.step_materialization_data.materialization
            if made.partition is not None:
                committed.setdefault(date.fromisoformat(made.partition), {})[made.asset_key] = made.metadata
        elif _LEFT_KEY in (metadata := event.asset_observation_data.asset_observation.metadata):
            left = metadata[_LEFT_KEY].value
    return Earlier(
        committed,
        {
            date.fromisoformat(day): Failed(
                verdict_named(each["verdict"], step.retrying.verdicts), each["kind"], each["told"]
            )
            for day, each in left["given_up"].items()
        },
        tuple(
            (
                each["table"],
                each["check"],
                date.fromisoformat(each["day"]),
                Finding(each["passed"], each["message"], each["numbers"]),
            )
            for each in left["found"]
        ),
    )


def _events_of(step: Step) -> Iterator[dg.EventLogEntry]:
    """The step's own, the oldest first."""
    kinds = {dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_OBSERVATION}
    for run_id in (*reversed(step.earlier_runs), step.run_id):
        for entry in step.instance.all_logs(run_id, of_type=kinds):
            if entry.step_key == step.key:
                yield entry
