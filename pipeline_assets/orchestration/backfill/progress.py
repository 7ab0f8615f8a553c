"""What came of a backfill: its runs carry its tags, and are read back by them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import dagster as dg

from pipeline_assets.orchestration.backfill.book import IN_DAGSTER, Backfill, Book
from pipeline_assets.orchestration.backfill.of_dagster import open_backfills
from pipeline_assets.orchestration.finished_days import FinishedDay
from pipeline_assets.orchestration.history.failures import recorded_failures, told_by_run
from pipeline_assets.orchestration.history.runs import IN_FLIGHT, partitions_of_run, recorded_partitions
from pipeline_assets.orchestration.history.tags import BACKFILL_TAG, PLAN_TAG, REASON_TAG, SKIP_UNCHANGED_TAG
from pipeline_assets.partition import Partition
from pipeline_assets.rules.graph import Graph
from pipeline_assets.rules.plan_file import PlanFile


class BackfillStatus(StrEnum):
    """Says what became of a backfill."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"  # it went through, and partitions failed
    STOPPED = "stopped"  # partitions are left: `--resume` goes on, or `retry` where Dagster's own backfill has ended
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a backfill is; partitions by the leading tables of their steps.

    Args:
        failed: with what they failed of; nobody has made them since, as far as this backfill goes.
        left: neither done nor failed.
        running: runs that have not ended, or never will, as their process is gone.
    """

    done: set[Partition] = field(default_factory=set)
    failed: dict[Partition, str] = field(default_factory=dict)
    left: set[Partition] = field(default_factory=set)
    running: Sequence[dg.DagsterRun] = ()
    runs: Sequence[dg.DagsterRun] = ()


class Watcher(Protocol):
    """Sees how a backfill goes on, while it is carried out."""

    def day_done(self, event: FinishedDay) -> None:
        """Take one partition that was finished in process."""

    def done(self, counts: Mapping[str, int]) -> None:
        """Take how many partitions of some tables Dagster has done by now."""

    def say(self, sentence: str) -> None:
        """Take what there is to be told besides."""


def run_tags(backfill_id: str, file: PlanFile) -> dict[str, str]:
    """Tags that every run of a backfill carries, whoever executes it."""
    ask = file.plan.ask
    return {
        BACKFILL_TAG: backfill_id,
        REASON_TAG: ask.why or ask.mode.value,
        PLAN_TAG: file.digest,
        **({} if ask.force else {SKIP_UNCHANGED_TAG: "true"}),
    }


def progress_of(instance: dg.DagsterInstance, graph: Graph, backfill: Backfill) -> Progress:
    """Read from runs and records how far a backfill is."""
    records = instance.get_run_records(dg.RunsFilter(tags={BACKFILL_TAG: backfill.backfill_id}), ascending=True)
    runs = [record.dagster_run for record in records]
    done, failed = set[Partition](), dict[Partition, str]()
    for run in runs:
        asked = partitions_of_run(instance, graph, run)
        made = asked if run.status is dg.DagsterRunStatus.SUCCESS else recorded_partitions(instance, graph, run.run_id)
        done |= made
        for partition in made:
            failed.pop(partition, None)
        if run.status is dg.DagsterRunStatus.FAILURE:
            failures = recorded_failures(instance, run.run_id)
            of_run = None if failures else told_by_run(instance, run.run_id)
            for partition in asked - made:
                told = next((each.reason for each in failures if each.is_about(*partition)), of_run)
                if told is not None:  # else its worker died, which says nothing of the partition
                    failed[partition] = told
    planned = set(backfill.file.plan.partitions())
    return Progress(
        done & planned,
        {partition: told for partition, told in sorted(failed.items()) if partition in planned},
        planned - done - failed.keys(),
        [run for run in runs if run.status in IN_FLIGHT],
        runs,
    )


def status_of(instance: dg.DagsterInstance, book: Book, backfill: Backfill, progress: Progress) -> BackfillStatus:
    """Sum the progress of a backfill up."""
    if not progress.left and not progress.failed:
        return BackfillStatus.DONE
    if book.is_held(backfill.backfill_id) or (
        backfill.where == IN_DAGSTER and _is_open(instance, backfill.backfill_id)
    ):
        return BackfillStatus.RUNNING
    if book.is_cancelled(backfill.backfill_id):
        return BackfillStatus.CANCELLED
    return BackfillStatus.FAILED if progress.failed else BackfillStatus.STOPPED


def _is_open(instance: dg.DagsterInstance, backfill_id: str) -> bool:
    """Dagster still has something to do for it."""
    return any(each.tags.get(BACKFILL_TAG) == backfill_id for each in open_backfills(instance))
