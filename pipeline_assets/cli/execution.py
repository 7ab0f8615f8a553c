"""Carrying out a backfill that is in the book: here or through a running Dagster, watched, and told how it ended."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import click

from pipeline_assets.cli.context import EXIT_FAILED, EXIT_INTERRUPTED, build, instance_folder
from pipeline_assets.cli.project import Project, end_outdated, folded
from pipeline_assets.console import BackfillView
from pipeline_assets.errors import PipelineError
from pipeline_assets.orchestration.backfill.book import Backfill, Book
from pipeline_assets.orchestration.backfill.webserver import DagsterBackfill, RunningDagster

LOOK_SECONDS = 1


def book_of(project: Project) -> Book:
    """The backfills of the instance."""
    from pipeline_assets.orchestration.backfill.book import Book

    return Book(project.instance)


def end_carrying_out(project: Project, book: Book, backfill: Backfill, form: str) -> None:
    """Do what is left of it, tell how it ended, and end with that status.

    Raises:
        SettingsError: another process carries it out.
    """
    from pipeline_assets.orchestration.backfill.book import IN_DAGSTER

    began = time.monotonic()
    with book.hold(backfill.backfill_id):
        _check_code(project, backfill)
        carry = _through_dagster if backfill.where == IN_DAGSTER else _in_process
        stopped = carry(project, book, backfill, form)
    told = {**summary(project, book, backfill), "took_seconds": round(time.monotonic() - began, 1)}
    if form == "json":
        print_json(told)
    else:
        _tell(told, stopped=stopped)
    if stopped:
        sys.exit(EXIT_INTERRUPTED)
    if told["failed"] or told["left"]:
        sys.exit(EXIT_FAILED)


def summary(project: Project, book: Book, backfill: Backfill) -> dict[str, Any]:
    """How far a backfill is, as the JSON of the commands has it.

        backfill_id, begun_at (ISO 8601), where (process, dagster), retries (backfill that it takes up, or null)
        state           running, done, failed, stopped, cancelled
        mode, tables, days (stretches: first, last), reason (what was said, or ""), plan (its digest)
        planned, done, failed, left     partitions; left are neither done nor failed
        failures        table, day, what it failed of

    `pipeline backfill` and `retry` add took_seconds.
    """
    from pipeline_assets.orchestration.backfill.progress import progress_of, status_of

    progress = progress_of(project.instance, project.graph, backfill)
    planned = backfill.file.plan
    return {
        "backfill_id": backfill.backfill_id,
        "begun_at": backfill.begun_at.isoformat(timespec="seconds"),
        "where": backfill.where,
        "retries": backfill.retries,
        "state": status_of(project.instance, book, backfill, progress).value,
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
    """On stdout, alone."""
    click.echo(json.dumps(values, indent=1))


def list_failures(failures: list[dict[str, str]]) -> None:
    """A line each, up to a number of them."""
    from pipeline_assets.console import stderr

    for line in folded([f"{each['table']} {each['day']}: {each['what']}" for each in failures]):
        stderr.print(line, markup=False)


def _tell(told: Mapping[str, Any], *, stopped: bool) -> None:
    from pipeline_assets.console import console
    from pipeline_assets.report.words import count, duration

    backfill_id, cancelled = told["backfill_id"], told["state"] == "cancelled"
    ended = ", cancelled" if cancelled else ", stopped" if stopped else ""
    console.print(
        f"Backfill {backfill_id}: {told['done']:,} of {count(told['planned'], 'partition')} done, "
        f"{duration(told['took_seconds'])}{ended}.",
        markup=False,
    )
    list_failures(told["failures"])
    if told["failed"]:
        held = f"; {told['left']:,} that read what failed were not begun" if told["left"] and not stopped else ""
        console.print(f"{told['failed']:,} failed{held}. `pipeline retry {backfill_id}` takes up what failed.")
    elif told["left"] and not stopped:
        console.print(f"{told['left']:,} are left, and no run says why. Look at the runs in Dagster, and plan anew.")
    if stopped and not cancelled:
        console.print(f"`pipeline backfill --resume --id {backfill_id}` goes on.")


def _check_code(project: Project, backfill: Backfill) -> None:
    """A backfill is carried out by the code that it was planned for, to its end."""
    present = project.code_versions()
    moved = [
        f"{lead} was {version}, is {present.get(lead, 'no table any more')}"
        for lead, version in backfill.file.plan.code_versions.items()
        if present.get(lead) != version
    ]
    if moved:
        end_outdated(
            f"The code changed since backfill {backfill.backfill_id} was planned:",
            moved,
            "Half of it would be made by one version and half by the other; plan anew.",
        )


def _in_process(project: Project, book: Book, backfill: Backfill, form: str) -> bool:
    """Carry it out here; true if it was stopped before its end."""
    from pipeline_assets.console import BackfillView
    from pipeline_assets.orchestration.backfill.in_process import OtherProcess, ThisProcess, carry_out
    from pipeline_assets.orchestration.backfill.progress import progress_of

    progress = progress_of(project.instance, project.graph, backfill)
    planned = {lead: len(backfill.file.plan.days(lead)) for lead in backfill.file.plan.order}
    done = {lead: sum(partition.table == lead for partition in progress.done) for lead in planned}
    with ExitStack() as stack:
        view = stack.enter_context(BackfillView(planned, done, on_stderr=form == "json"))
        stopped = stack.enter_context(_stopping_on_interrupt())

        def heard(event: Any) -> None:
            if event.table in planned:  # of tables that are computed together the leading one counts
                view.day_done(event)

        workers: list[Any] = [
            OtherProcess(build, instance_folder(), heard, stack) for _ in range(backfill.parallel - 1)
        ]
        workers.append(ThisProcess(project.defs, project.instance, heard))
        dispatch = carry_out(
            project.graph,
            project.instance,
            backfill,
            progress,
            workers=workers,
            stop=lambda: stopped() or book.is_cancelled(backfill.backfill_id),
        )
    return not dispatch.is_over


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


def _through_dagster(project: Project, book: Book, backfill: Backfill, form: str) -> bool:
    """Have Dagster do it, and watch; true if it was cancelled. Whoever stops watching stops nothing."""
    from pipeline_assets.console import BackfillView
    from pipeline_assets.orchestration.backfill.webserver import DagsterBackfillStatus, RunningDagster, parts

    there, planned = RunningDagster(project.settings.dagster_url), backfill.file.plan
    counts = {lead: len(planned.days(lead)) for lead in planned.order}
    launched = False
    try:
        with BackfillView(counts, dict.fromkeys(counts, 0), on_stderr=form == "json") as view:
            for number, targets in enumerate(parts(project.graph, planned), start=1):
                if book.is_cancelled(backfill.backfill_id):
                    return True
                dagster_id = _launch(project, there, backfill, targets, number)
                launched = True
                view.say(f"Dagster's backfill {dagster_id}: {there.url.rstrip('/')}/runs/b/{dagster_id}")
                told = _watched(there, dagster_id, targets, view)
                if told.error:
                    view.say(f"Dagster says: {told.error}")
                if told.status is not DagsterBackfillStatus.SUCCEEDED:
                    return told.status is DagsterBackfillStatus.CANCELED
    except KeyboardInterrupt:
        _say_it_goes_on(backfill.backfill_id)
        raise SystemExit(EXIT_INTERRUPTED) from None
    except PipelineError:
        if launched:
            _say_it_goes_on(backfill.backfill_id)
        raise
    return False


def _launch(
    project: Project, there: RunningDagster, backfill: Backfill, targets: Mapping[str, Any], number: int
) -> str:
    """One part; if it was launched before, it is not again."""
    from pipeline_assets.orchestration.history.tags import PLAN_TAG
    from pipeline_assets.report.plan_words import headline

    planned = backfill.file.plan
    return there.launch(
        project.graph,
        targets,
        backfill_id=backfill.backfill_id,
        title=headline(planned),
        reason=planned.ask.why or planned.ask.mode.value,
        tags={PLAN_TAG: backfill.file.digest},
        force=planned.ask.force,
        part=number,
    )


def _watched(there: RunningDagster, dagster_id: str, targets: Mapping[str, Any], view: BackfillView) -> DagsterBackfill:
    """How it ended, once it has."""
    while True:
        told = there.status(dagster_id)
        view.done({lead: told.tables[lead].done for lead in targets if lead in told.tables})
        if told.status.has_ended:
            return told
        time.sleep(LOOK_SECONDS)


def _say_it_goes_on(backfill_id: str) -> None:
    from pipeline_assets.console import stderr

    stderr.print(
        f"Not watching any more; Dagster goes on with what it has. `pipeline backfill --resume --id {backfill_id}` "
        f"watches again, `pipeline cancel {backfill_id}` stops it."
    )
