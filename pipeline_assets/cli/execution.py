"""Carrying out a backfill that is in the book, for somebody who watches: bars, Ctrl-C, and how it ended."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import click

from pipeline_assets.cli.main import EXIT_FAILED, EXIT_INTERRUPTED
from pipeline_assets.cli.project import Project, build, instance_folder
from pipeline_assets.console import BackfillView, console, stderr
from pipeline_assets.errors import WatchLost
from pipeline_assets.orchestration.backfill.book import IN_DAGSTER, Backfill
from pipeline_assets.orchestration.backfill.service import Summary, folded
from pipeline_assets.report.plan_words import headline
from pipeline_assets.report.words import count, duration


def end_carrying_out(project: Project, backfill: Backfill, form: str) -> None:
    """Do what is left of it, tell how it ended, and end with that status.

    Raises:
        BackfillHeld, DagsterRefused, NoAnswer, PlanOutdated, WatchLost, WorkerDied: as `Backfills.carry_out`.
    """
    began = time.monotonic()
    stopped = _is_stopped(project, backfill, form)
    told = {**summary_as_json(project.backfills.summary(backfill)), "took_seconds": round(time.monotonic() - began, 1)}
    if form == "json":
        print_json(told)
    else:
        _tell(told, stopped=stopped)
    if stopped:
        sys.exit(EXIT_INTERRUPTED)
    if told["failed"] or told["left"]:
        sys.exit(EXIT_FAILED)


def summary_as_json(summary: Summary) -> dict[str, Any]:
    """Put how far a backfill is as the JSON of the commands has it.

        backfill_id, begun_at (ISO 8601), where (process, dagster), retries (backfill that it takes up, or null)
        state           running, done, failed, stopped, cancelled
        mode, tables, days (stretches: first, last), reason (what was said, or ""), plan (its digest)
        planned, done, failed, left     partitions; left are neither done nor failed
        failures        table, day, what it failed of

    `pipeline backfill` and `retry` add took_seconds.
    """
    backfill, progress = summary.backfill, summary.progress
    planned = backfill.file.plan
    return {
        "backfill_id": backfill.backfill_id,
        "begun_at": backfill.begun_at.isoformat(timespec="seconds"),
        "where": backfill.where,
        "retries": backfill.retries,
        "state": summary.status.value,
        "mode": planned.ask.mode.value,
        "tables": list(planned.order),
        "days": [[str(first), str(last)] for first, last in planned.ask.days],
        "reason": planned.ask.why,
        "plan": backfill.file.digest,
        "planned": len(planned.partitions()),
        "done": len(progress.done),
        "failed": len(progress.failed),
        "left": len(progress.left),
        "failures": [
            {"table": partition.table, "day": str(partition.day), "what": what}
            for partition, what in progress.failed.items()
        ],
    }


def print_json(values: object) -> None:
    """Print it on stdout, alone."""
    click.echo(json.dumps(values, indent=1))


def list_failures(failures: list[dict[str, str]]) -> None:
    """Print a line each, up to a number of them."""
    for line in folded([f"{each['table']} {each['day']}: {each['what']}" for each in failures]):
        stderr.print(line, markup=False)


def _is_stopped(project: Project, backfill: Backfill, form: str) -> bool:
    """Carry it out; true if it was stopped before its end."""
    carry_out = partial(
        project.backfills.carry_out,
        backfill,
        title=headline(backfill.file.plan),
        watch=partial(BackfillView, on_stderr=form == "json"),
        build=build,
        home=instance_folder(),
    )
    if backfill.where != IN_DAGSTER:
        with _stopping_on_interrupt() as stop:
            return carry_out(stop=stop)
    try:
        return carry_out()
    except KeyboardInterrupt:
        _say_it_goes_on(backfill.backfill_id)
        raise SystemExit(EXIT_INTERRUPTED) from None
    except WatchLost:
        _say_it_goes_on(backfill.backfill_id)
        raise


def _tell(told: Mapping[str, Any], *, stopped: bool) -> None:
    backfill_id, cancelled = told["backfill_id"], told["state"] == "cancelled"
    ended = ", cancelled" if cancelled else ", stopped" if stopped else ""
    console.print(
        f"Backfill {backfill_id}: {told['done']:,} of {count(told['planned'], 'partition')} done, "
        f"{duration(told['took_seconds'])}{ended}.",
        markup=False,
    )
    list_failures(told["failures"])
    if told["failed"]:
        unmade = "were not made" if told["where"] == IN_DAGSTER else "that read what failed were not begun"
        held = f"; {told['left']:,} {unmade}" if told["left"] and not stopped else ""
        console.print(f"{told['failed']:,} failed{held}. `pipeline retry {backfill_id}` takes up what failed.")
    elif told["left"] and not stopped:
        console.print(
            f"{told['left']:,} are left, and none failed: the processes of their runs were killed too often, or "
            f"Dagster could not go on. `pipeline retry {backfill_id}` takes up what is left."
        )
    if stopped and not cancelled:
        console.print(f"`pipeline backfill --resume --id {backfill_id}` goes on.")


@contextmanager
def _stopping_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Ctrl-C once: stop after the partition in hand. Twice: at once; what is half done is aside, and never seen."""
    received: list[int] = []
    terminal = os.dup(2)  # the one of now: while a step runs, Dagster sends what is printed to its log

    def interrupted(number: int, _: object) -> None:
        received.append(number)
        if len(received) > 1:
            os._exit(EXIT_INTERRUPTED)
        os.write(terminal, b"Stopping after the partition in hand; once more stops at once.\n")

    before = {each: signal.signal(each, interrupted) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        os.close(terminal)


def _say_it_goes_on(backfill_id: str) -> None:
    stderr.print(
        f"Not watching any more; Dagster goes on with what it has. `pipeline backfill --resume --id {backfill_id}` "
        f"watches again, `pipeline cancel {backfill_id}` stops it."
    )
