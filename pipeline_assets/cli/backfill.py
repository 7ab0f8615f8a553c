"""The commands backfill, retry, backfills and cancel: show what is to be done, ask, do it, and how far it is."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from pipeline_assets.cli.ask import ask_of, given_options, plan_options
from pipeline_assets.cli.execution import end_carrying_out, list_failures, print_json, summary_as_json
from pipeline_assets.cli.main import EXIT_INTERRUPTED
from pipeline_assets.cli.options import FORMAT, GivenPath
from pipeline_assets.cli.plan import DAYS_PER_RUN, read_plan, show_plan
from pipeline_assets.cli.project import Project, open_project
from pipeline_assets.console import console, grid, stderr
from pipeline_assets.errors import UsageError
from pipeline_assets.orchestration.backfill.book import IN_DAGSTER, IN_PROCESS, Backfill

PARALLEL = 1


@click.command()
@click.argument("plan_file", required=False, type=GivenPath(dir_okay=False, path_type=Path))
@plan_options
@click.option("--resume", is_flag=True, help="Go on with the newest backfill that was stopped or killed.")
@click.option("--id", "backfill_id", help="With --resume: which one.")
@click.option("--dagster", "there", is_flag=True, help="Have the running Dagster (PIPELINE_DAGSTER_URL) do it.")
@click.option("--days-per-run", type=click.IntRange(1), help=f"At most.  [default: {DAYS_PER_RUN}]")
@click.option("--parallel", type=click.IntRange(1, 64), help=f"Runs at once.  [default: {PARALLEL}]")
@click.option("--yes", is_flag=True, help="Do not ask.")
@FORMAT
def backfill(
    plan_file: Path | None,
    *,
    resume: bool,
    backfill_id: str | None,
    there: bool,
    days_per_run: int | None,
    parallel: int | None,
    yes: bool,
    form: str,
    **asked: Any,
) -> None:
    """Show what is to be done, ask, and do it: by a plan file, or by the options of `pipeline plan`.

    A plan file is carried out only if a plan made now would say the same. Ctrl-C finishes the partition in hand and
    stops.

    Exit status: 0 all done; 1 partitions failed; 2 a wrong option; 3 the plan is outdated; 130 stopped.
    """
    sized = {"--days-per-run": days_per_run, "--parallel": parallel}
    _check_combination(plan_file, given_options(asked), resume=resume, backfill_id=backfill_id, there=there)
    if there:
        _check_not_sized(sized)
    with open_project() as project:
        project.store.check_writable()
        backfills = project.backfills
        if resume:
            begun = backfills.resumable(backfill_id)
            if begun.where == IN_DAGSTER:
                _check_not_sized(sized)
            begun = replace(begun, days_per_run=days_per_run or begun.days_per_run, parallel=parallel or begun.parallel)
            end_carrying_out(project, begun, form)
            return
        if plan_file is None:
            file = backfills.plan(ask_of(project, asked))
        else:
            file = read_plan(plan_file)
            backfills.check_current(file, name=str(plan_file))
        begun = backfills.draft(
            file,
            where=IN_DAGSTER if there else IN_PROCESS,
            days_per_run=days_per_run or DAYS_PER_RUN,
            parallel=parallel or PARALLEL,
        )
        _begin(project, begun, form, yes=yes)


@click.command()
@click.argument("backfill_id")
@click.option("--yes", is_flag=True, help="Do not ask.")
@FORMAT
def retry(backfill_id: str, *, yes: bool, form: str) -> None:
    """Begin a backfill of what failed in another one, and of what was held back by that.

    Of one that Dagster gave up, because processes were killed again and again, it takes all that is left.

    It may be other code by now: what the first one made before is not made again (`--mode stale` finds it).

    Exit status: as `pipeline backfill`.
    """
    with open_project() as project:
        project.store.check_writable()
        before = project.backfills.book.get(backfill_id)
        begun = project.backfills.draft_retry(before)
        if form == "text":
            list_failures(summary_as_json(project.backfills.summary(before))["failures"])
        _begin(project, begun, form, yes=yes)


@click.command()
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="How many to list.")
@FORMAT
def backfills(limit: int, form: str) -> None:
    """List backfills, the newest first, and how far each is."""
    with open_project() as project:
        begun = project.backfills.book.readable(limit, unreadable=stderr.print)
        listed = [summary_as_json(project.backfills.summary(each)) for each in begun]
    if form == "json":
        print_json(listed)
        return
    if not listed:
        console.print("No backfill was begun with `pipeline backfill` yet.")
        return
    names = ("id", "state", "done", "failed", "left", "what", "reason")
    console.print(grid(names, [_row(each) for each in listed], unbroken=3), markup=False)


@click.command()
@click.argument("backfill_id")
def cancel(backfill_id: str) -> None:
    """Cancel a backfill, for good: nothing of it starts afterwards. What was committed stays."""
    with open_project() as project, console.status("waiting for the partition in hand"):
        backfill = project.backfills.cancel(backfill_id)
    console.print(f"Backfill {backfill.backfill_id} is cancelled; what it had committed stays.")


def _begin(project: Project, begun: Backfill, form: str, *, yes: bool) -> None:
    backfills = project.backfills
    show_plan(begun.file.plan, runs=backfills.runs(begun), on_stderr=form == "json")
    if not begun.file.plan.partitions():
        if form == "json":
            print_json({**summary_as_json(backfills.summary(begun)), "backfill_id": None, "took_seconds": 0.0})
        return
    backfills.check_dagster(begun)  # before it is written down as begun
    _confirm(yes=yes)
    backfills.begin(begun)
    end_carrying_out(project, begun, form)


def _row(told: Mapping[str, Any]) -> list[object]:
    where = " by Dagster" if told["where"] == "dagster" else ""
    what = f"retry of {told['retries']}" if told["retries"] else f"{told['mode']}{where}"
    return [
        told["backfill_id"],
        told["state"],
        f"{told['done']:,} of {told['planned']:,}",
        told["failed"],
        told["left"],
        what,
        told["reason"],
    ]


def _confirm(*, yes: bool) -> None:
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask at; say --yes to carry it out")
    try:
        agreed = click.confirm("Carry it out?", err=True)
    except click.Abort:  # Ctrl-C
        agreed = False
    if not agreed:
        click.echo("Nothing was begun.", err=True)
        sys.exit(EXIT_INTERRUPTED)


def _check_combination(
    plan_file: Path | None, options: list[str], *, resume: bool, backfill_id: str | None, there: bool
) -> None:
    if plan_file is not None and options:
        raise UsageError(
            f"{', '.join(options)} beside a plan file: what is wanted stands in the file. Plan again with the options"
        )
    if resume and (plan_file is not None or options or there):
        raise UsageError(
            "--resume goes on with a backfill as it was begun: no plan file, no --dagster, and nothing that says what "
            "is wanted beside it"
        )
    if backfill_id is not None and not resume:
        raise UsageError("--id says which backfill --resume goes on with; it does nothing without")


def _check_not_sized(sized: Mapping[str, int | None]) -> None:
    if given := [name for name, value in sized.items() if value is not None]:
        raise UsageError(
            f"{' and '.join(given)}: of a backfill that Dagster does, the assets' backfill policies and the limits in "
            "dagster.yaml decide that"
        )
