"""Backfills that a running Dagster carries out: cut into parts, launched and watched.

Dagster is asked in two ways. A command asks the webserver: only that knows whether its code has the tables and days of
the plan, and whether a daemon is there. The safety net is a job, beside which perhaps no webserver runs; its code is
the code that Dagster runs, so it writes the backfill into the instance, as the webserver would (`Backfills.hand_over`).
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

from pipeline_assets.errors import PipelineError, WatchLost
from pipeline_assets.orchestration.backfill.book import Backfill
from pipeline_assets.orchestration.backfill.progress import Watcher, run_tags
from pipeline_assets.orchestration.backfill.webserver import (
    DagsterBackfill,
    DagsterBackfillStatus,
    RunningDagster,
    Targets,
)
from pipeline_assets.orchestration.history.tags import PART_TAG, PRIORITY_TAG
from pipeline_assets.partition import ranges_of
from pipeline_assets.rules.backfill import Plan
from pipeline_assets.rules.graph import Graph
from pipeline_assets.rules.plan_file import PlanFile

LOOK_SECONDS = 1
PRIORITY = -10
"""Of the runs in Dagster's queue; all others have 0, and go first."""


def parts(graph: Graph, planned: Plan) -> list[Targets]:
    """What a plan computes, cut into what one backfill of Dagster's may hold. Nearly always it is one.

    Each is launched when the one before it has ended. Dagster 1.13 puts a table and one that it reads over several days
    into the same runs if both are to be made for the same days, and makes a run of every unbroken stretch of these. So
    of days with gaps, a run may read what another one, beside it, is about to make.
    """
    part_of: dict[str, int] = {}
    for lead in planned.order:
        days = planned.days(lead)
        if not days:
            continue
        has_gaps = len(ranges_of(days)) > 1
        part_of[lead] = max(
            (
                part_of[upstream] + (has_gaps and not window.is_single_day and planned.days(upstream) == days)
                for name, window in graph.reads(lead)
                if (upstream := graph.lead(name)) in part_of
            ),
            default=0,
        )
    return [
        {lead: planned.days(lead) for lead, part in part_of.items() if part == number}
        for number in sorted(set(part_of.values()))
    ]


def tags_of(backfill_id: str, file: PlanFile, part: int | None = None) -> dict[str, str]:
    """Tags of a backfill of Dagster's and of its runs.

    Args:
        backfill_id: ours.
        part: number among `parts`, from 1; None if the others are left to another plan.
    """
    tags = {**run_tags(backfill_id, file), PRIORITY_TAG: str(PRIORITY)}
    return tags if part is None else {**tags, PART_TAG: str(part)}


def carry_out(
    dagster: RunningDagster,
    graph: Graph,
    backfill: Backfill,
    *,
    title: str,
    watcher: Watcher,
    stop: Callable[[], bool],
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Launch part after part, and watch each to its end. Whoever stops watching stops nothing.

    Args:
        stop: true once no further part is to be launched.

    Returns:
        True if it was cancelled.

    Raises:
        WatchLost: nobody answers any more, after something was launched.
        DagsterRefused, NoAnswer, SettingsError: nothing could be launched.
    """
    planned, is_launched = backfill.file.plan, False
    try:
        for number, targets in enumerate(parts(graph, planned), start=1):
            if stop():
                return True
            dagster_id = dagster.launch(
                graph,
                targets,
                title=title,
                description=planned.ask.why or planned.ask.mode.value,
                tags=tags_of(backfill.backfill_id, backfill.file, number),
            )
            is_launched = True
            watcher.say(f"Dagster's backfill {dagster_id}: {dagster.url.rstrip('/')}/runs/b/{dagster_id}")
            told = _watched(dagster, dagster_id, targets, watcher, sleep)
            if told.error:
                watcher.say(f"Dagster says: {told.error}")
            if told.status is not DagsterBackfillStatus.SUCCEEDED:
                return told.status is DagsterBackfillStatus.CANCELED
    except PipelineError as error:
        if is_launched:
            raise WatchLost(str(error)) from error
        raise
    return False


def _watched(
    dagster: RunningDagster,
    dagster_id: str,
    targets: Mapping[str, Any],
    watcher: Watcher,
    sleep: Callable[[float], None],
) -> DagsterBackfill:
    """How it ended, once it has."""
    while True:
        told = dagster.status(dagster_id)
        watcher.done({lead: told.done[lead] for lead in targets if lead in told.done})
        if told.status.has_ended:
            return told
        sleep(LOOK_SECONDS)
