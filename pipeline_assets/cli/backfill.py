"""The commands backfill and retry: show what is to be done, ask, and do it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from pipeline_assets.cli.context import EXIT_INTERRUPTED, GivenPath
from pipeline_assets.cli.execution import book_of, end_carrying_out, list_failures, print_json, summary
from pipeline_assets.cli.options import FORMAT, given_options, plan_options
from pipeline_assets.cli.plan import DAYS_PER_RUN
from pipeline_assets.cli.project import Project, check_current, open_project, read_plan, show_plan
from pipeline_assets.errors import SettingsError
from pipeline_assets.orchestration.backfill.book import Backfill, Book
from pipeline_assets.rules.plan_file import PlanFile

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
    from pipeline_assets.orchestration.backfill.book import IN_DAGSTER, IN_PROCESS
    from pipeline_assets.rules.plan_file import PlanFile, digest_of

    sized = {"--days-per-run": days_per_run, "--parallel": parallel}
    _check_combination(plan_file, given_options(asked), resume=resume, backfill_id=backfill_id, there=there)
    if there:
        _check_not_sized(sized)
    with open_project() as project:
        project.store.check_writable()
        book = book_of(project)
        if resume:
            begun = _to_resume(project, book, backfill_id)
            if begun.where == IN_DAGSTER:
                _check_not_sized(sized)
            begun = replace(begun, days_per_run=days_per_run or begun.days_per_run, parallel=parallel or begun.parallel)
            end_carrying_out(project, book, begun, form)
            return
        now = datetime.now(UTC)
        if plan_file is None:
            planned = project.asked(asked)
            file = PlanFile(planned, now, digest_of(planned))
        else:
            file = read_plan(plan_file)
            check_current(project, file, plan_file)
        begun = _drafted(file, now, IN_DAGSTER if there else IN_PROCESS, days_per_run, parallel)
        _begin(project, book, begun, form, yes=yes)


@click.command()
@click.argument("backfill_id")
@click.option("--yes", is_flag=True, help="Do not ask.")
@FORMAT
def retry(backfill_id: str, *, yes: bool, form: str) -> None:
    """Begin a backfill of what failed in another one, and of what was held back by that.

    It may be other code by now: what the first one made before is not made again (`--mode stale` finds it).

    Exit status: as `pipeline backfill`.
    """
    from pipeline_assets.orchestration.backfill.progress import BackfillStatus, progress_of, status_of
    from pipeline_assets.rules.backfill import only
    from pipeline_assets.rules.dispatch import held_by
    from pipeline_assets.rules.plan_file import PlanFile, digest_of

    with open_project() as project:
        project.store.check_writable()
        book = book_of(project)
        before = book.get(backfill_id)
        progress = progress_of(project.instance, project.graph, before)
        status = status_of(project.instance, book, before, progress)
        if status is BackfillStatus.RUNNING:
            msg = f"backfill {before.backfill_id} is running; retry what failed of it when it has ended"
            raise SettingsError(msg)
        if not progress.failed:
            msg = f"nothing of backfill {before.backfill_id} failed: it is {status.value}"
            raise SettingsError(msg)
        taken = {*progress.failed, *held_by(project.graph, progress.failed, progress.left)}
        planned = only(before.file.plan, taken)
        present = project.code_versions()
        planned = replace(planned, code_versions={lead: present[lead] for lead in planned.order if lead in present})
        now = datetime.now(UTC)
        file = PlanFile(planned, now, digest_of(planned))
        begun = replace(
            _drafted(file, now, before.where, before.days_per_run, before.parallel), retries=before.backfill_id
        )
        if form == "text":
            list_failures(summary(project, book, before)["failures"])
        _begin(project, book, begun, form, yes=yes)


def _begin(project: Project, book: Book, begun: Backfill, form: str, *, yes: bool) -> None:
    from pipeline_assets.orchestration.backfill.book import IN_DAGSTER
    from pipeline_assets.orchestration.backfill.webserver import RunningDagster

    planned = begun.file.plan
    show_plan(planned, runs=_runs(project, begun), on_stderr=form == "json")
    if not planned.partitions():
        if form == "json":
            print_json({**summary(project, book, begun), "backfill_id": None, "took_seconds": 0.0})
        return
    if begun.where == IN_DAGSTER:
        RunningDagster(project.settings.dagster_url).backfills(limit=1)  # before it is written down as begun
    _confirm(yes=yes)
    book.add(begun)
    end_carrying_out(project, book, begun, form)


def _drafted(file: PlanFile, now: datetime, where: str, days_per_run: int | None, parallel: int | None) -> Backfill:
    from pipeline_assets.orchestration.backfill.book import Backfill, new_id

    return Backfill(new_id(now), now, where, days_per_run or DAYS_PER_RUN, parallel or PARALLEL, file)


def _runs(project: Project, begun: Backfill) -> int | None:
    from pipeline_assets.orchestration.backfill.book import IN_DAGSTER
    from pipeline_assets.rules.backfill import chunks

    if begun.where == IN_DAGSTER:
        return None
    return len(chunks(project.graph, begun.file.plan, days_per_run=begun.days_per_run))


def _to_resume(project: Project, book: Book, backfill_id: str | None) -> Backfill:
    """The one of that id, or the newest that has something left.

    Raises:
        SettingsError: there is none, or it was cancelled.
    """
    from pipeline_assets.orchestration.backfill.progress import BackfillStatus, progress_of, status_of

    if backfill_id is not None:
        begun = book.get(backfill_id)
        if book.is_cancelled(begun.backfill_id):
            msg = f"backfill {begun.backfill_id} was cancelled, for good; plan anew for what it had left"
            raise SettingsError(msg)
        return begun
    taken_up = set[str | None]()  # by a later `pipeline retry`
    for each in book.readable():
        status = status_of(project.instance, book, each, progress_of(project.instance, project.graph, each))
        is_open = status not in (BackfillStatus.DONE, BackfillStatus.CANCELLED)
        if is_open and not taken_up.intersection((each.backfill_id, each.retries)):
            return each
        if each.retries is not None:
            taken_up.add(each.retries)
    msg = "there is no backfill to go on with; `pipeline backfills` lists what there was"
    raise SettingsError(msg)


def _confirm(*, yes: bool) -> None:
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        msg = "nobody is there to be asked; say --yes to carry it out"
        raise SettingsError(msg)
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
        msg = f"{', '.join(options)} beside a plan file: what is wanted stands in the file. Plan again with the options"
        raise SettingsError(msg)
    if resume and (plan_file is not None or options or there):
        msg = (
            "--resume goes on with a backfill as it was begun: no plan file, no --dagster, and nothing that says what "
            "is wanted beside it"
        )
        raise SettingsError(msg)
    if backfill_id is not None and not resume:
        msg = "--id says which backfill --resume goes on with; it does nothing without"
        raise SettingsError(msg)


def _check_not_sized(sized: Mapping[str, int | None]) -> None:
    if given := [name for name, value in sized.items() if value is not None]:
        msg = (
            f"{' and '.join(given)}: of a backfill that Dagster does, the assets' backfill policies and the limits in "
            "dagster.yaml decide that"
        )
        raise SettingsError(msg)
