"""What came of a backfill, read off the runs that carry its tag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import dagster as dg

from pipeline_assets.orchestration.backfill.book import IN_DAGSTER, Book, Booked
from pipeline_assets.orchestration.backfill.under_way import NEWEST_BACKFILLS
from pipeline_assets.orchestration.history.failures import judgements_of, told_by_run
from pipeline_assets.orchestration.history.runs import IN_FLIGHT, recorded_spots, spots_of_run
from pipeline_assets.orchestration.history.tags import BACKFILL_TAG
from pipeline_assets.rules.reach import Graph
from pipeline_assets.rules.staleness import Spot


class State(StrEnum):
    """Of a backfill."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"  # it went through, and partitions failed
    STOPPED = "stopped"  # partitions are left: `--resume` goes on
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a backfill is; partitions by the leading tables of their steps.

    Args:
        failed: with what they failed of; nobody has made them since, as far as this backfill goes.
        left: neither done nor failed.
        running: runs that have not ended, or never will, as their process is gone.
    """

    done: set[Spot] = field(default_factory=set)
    failed: dict[Spot, str] = field(default_factory=dict)
    left: set[Spot] = field(default_factory=set)
    running: Sequence[dg.DagsterRun] = ()
    runs: Sequence[dg.DagsterRun] = ()


def standing_of(instance: dg.DagsterInstance, graph: Graph, booked: Booked) -> Standing:
    """Read it."""
    records = instance.get_run_records(dg.RunsFilter(tags={BACKFILL_TAG: booked.backfill_id}), ascending=True)
    runs = [record.dagster_run for record in records]
    done, failed = set[Spot](), dict[Spot, str]()
    for run in runs:
        asked = spots_of_run(graph, run)
        made = asked if run.status is dg.DagsterRunStatus.SUCCESS else recorded_spots(instance, graph, run.run_id)
        done |= made
        for spot in made:
            failed.pop(spot, None)
        if run.status is dg.DagsterRunStatus.FAILURE:
            judged = judgements_of(instance, run.run_id)
            of_run = None if judged else told_by_run(instance, run.run_id)
            for spot in asked - made:
                told = next((each.reason for each in judged if each.concerns(*spot)), of_run)
                if told is not None:  # else its worker died, which says nothing of the partition
                    failed[spot] = told
    planned = set(booked.file.plan.spots())
    return Standing(
        done & planned,
        {spot: told for spot, told in sorted(failed.items()) if spot in planned},
        planned - done - failed.keys(),
        [run for run in runs if run.status in IN_FLIGHT],
        runs,
    )


def state_of(instance: dg.DagsterInstance, book: Book, booked: Booked, standing: Standing) -> State:
    """In one word."""
    if not standing.left and not standing.failed:
        return State.DONE
    if book.is_held(booked.backfill_id) or (booked.where == IN_DAGSTER and _is_open(instance, booked.backfill_id)):
        return State.RUNNING
    if book.is_cancelled(booked.backfill_id):
        return State.CANCELLED
    return State.FAILED if standing.failed else State.STOPPED


def _is_open(instance: dg.DagsterInstance, backfill_id: str) -> bool:
    """Dagster still has something to do for it."""
    return any(
        each.tags.get(BACKFILL_TAG) == backfill_id and each.status.value in ("REQUESTED", "CANCELING", "FAILING")
        for each in instance.get_backfills(limit=NEWEST_BACKFILLS)
    )
