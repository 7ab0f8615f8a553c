"""The command plan: what a backfill would do, and why; and plans as files and on a screen."""

import json
from datetime import date, datetime
from pathlib import Path
from typing import Any

import click

from pipeline_assets.cli.ask import ask_of, plan_options
from pipeline_assets.cli.options import DAY, FORMAT, GivenPath
from pipeline_assets.cli.project import Project, checked_range, key_named, open_project
from pipeline_assets.console import console, grid, stderr
from pipeline_assets.errors import UsageError
from pipeline_assets.partition import Partition
from pipeline_assets.report import plan_words
from pipeline_assets.rules.backfill import Plan, chunks
from pipeline_assets.rules.plan_file import PlanFile, entry_as_json, of_text, to_text

DAYS_PER_RUN = 30


@click.command()
@plan_options
@click.option("--out", type=GivenPath(dir_okay=False, path_type=Path), help="Write the plan to a file.")
@click.option("--explain", type=(str, DAY), metavar="TABLE DAY", help="Say why one partition is in the plan, or not.")
@click.option("--days-per-run", default=DAYS_PER_RUN, show_default=True, type=click.IntRange(1), help="At most.")
@FORMAT
def plan(out: Path | None, explain: tuple[str, datetime] | None, days_per_run: int, form: str, **asked: Any) -> None:
    """Say what a backfill would do, and why; do nothing.

    Exit status: 0, whether there is something to do or not; 2 a wrong option.
    """
    with open_project() as project:
        partition = explain and _partition_named(project, explain[0], explain[1].date())
        file = project.backfills.plan(ask_of(project, asked))
        graph = project.backfills.graph
    text = to_text(file.plan, planned_at=file.planned_at)
    if out is not None:
        _write_plan(out, text)
        stderr.print(f"Written to {out}: `pipeline backfill {out}` carries it out.", markup=False)
    if partition is not None:
        _show_explained(file.plan, partition, graph.lead(partition.table), form)
    elif form == "json":
        click.echo(text, nl=False)
    else:
        show_plan(file.plan, runs=len(chunks(graph, file.plan, days_per_run=days_per_run)), on_stderr=False)


def show_plan(planned: Plan, *, runs: int | None, on_stderr: bool) -> None:
    """Print what happens to which days of each table, how far each is, and the sums.

    Args:
        runs: that it takes; None if Dagster's daemon decides.
    """
    out = stderr if on_stderr else console
    out.print(f"{plan_words.headline(planned)}.", markup=False)
    if rows := plan_words.rows(planned):
        out.print(grid(plan_words.COLUMNS, rows, unbroken=3), markup=False)
    if progress := plan_words.progress_rows(planned):
        out.print(grid(plan_words.PROGRESS_COLUMNS, progress), markup=False)
    for sentence in plan_words.sums(planned, runs=runs):
        out.print(sentence, markup=False)


def read_plan(path: Path) -> PlanFile:
    """Read a plan that `pipeline plan --out` wrote.

    Raises:
        UsageError: it cannot be read, or is not one.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise UsageError(f"there is no file {path}; `pipeline plan --out {path}` writes one") from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} is not UTF-8 text ({error}); a plan is written by `pipeline plan --out FILE`"
        ) from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    return of_text(text, name=str(path))


def _write_plan(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--out {path}: {error.strerror}; the plan was not written") from error


def _partition_named(project: Project, table: str, day: date) -> Partition:
    key_named(project.defs, table)
    graph = project.backfills.graph
    if table not in graph.tables or table in graph.sources:
        daily = ", ".join(each for each in graph.tables if each not in graph.sources)
        raise UsageError(f"{table} is not computed by days, so no plan holds it; daily tables: {daily}")
    checked_range(project.settings, day, day, given=f"--explain {table} {day}")
    return Partition(table, day)


def _show_explained(planned: Plan, partition: Partition, lead: str, form: str) -> None:
    table, day = partition
    sentences = plan_words.explained(planned, Partition(lead, day))
    if lead != table:
        sentences.insert(0, f"{table} is computed together with {lead}.")
    if form == "json":
        entry = planned.entries.get(lead, {}).get(day)
        told = {"table": table, "day": str(day), **entry_as_json(entry), "explained": sentences}
        click.echo(json.dumps(told, indent=1))
    else:
        console.print("\n".join(sentences), markup=False)
