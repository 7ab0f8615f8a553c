"""The command plan: what a backfill would do, and why."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import click

from pipeline_assets.cli.context import DAY, GivenPath, checked_range, key_named
from pipeline_assets.cli.options import FORMAT, plan_options
from pipeline_assets.cli.project import Project, open_project, show_plan, write_plan
from pipeline_assets.errors import SettingsError

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
    from pipeline_assets.console import console, stderr
    from pipeline_assets.partition import Partition
    from pipeline_assets.report.plan_words import explained
    from pipeline_assets.rules.backfill import chunks
    from pipeline_assets.rules.plan_file import entry_as_json, to_text

    with open_project() as project:
        if explain is not None:
            _check_partition(project, explain[0], explain[1].date())
        planned = project.asked(asked)
        text = to_text(planned, planned_at=datetime.now(UTC))
        if out is not None:
            write_plan(out, text)
            stderr.print(f"Written to {out}: `pipeline backfill {out}` carries it out.", markup=False)
        if explain is None:
            if form == "json":
                click.echo(text, nl=False)
            else:
                runs = len(chunks(project.graph, planned, days_per_run=days_per_run))
                show_plan(planned, runs=runs, on_stderr=False)
            return
        table, day = explain[0], explain[1].date()
        lead = project.graph.lead(table)
        sentences = explained(planned, Partition(lead, day))
        if lead != table:
            sentences.insert(0, f"{table} is computed together with {lead}.")
        if form == "json":
            entry = planned.entries.get(lead, {}).get(day)
            told = {"table": table, "day": str(day), **entry_as_json(entry), "explained": sentences}
            click.echo(json.dumps(told, indent=1))
        else:
            console.print("\n".join(sentences), markup=False)


def _check_partition(project: Project, table: str, day: date) -> None:
    key_named(project.defs, table)
    if table not in project.graph.tables or table in project.graph.sources:
        daily = ", ".join(each for each in project.graph.tables if each not in project.graph.sources)
        msg = f"{table} is not computed by days, so no plan holds it; daily tables: {daily}"
        raise SettingsError(msg)
    checked_range(project.settings, day, day, given=f"--explain {table} {day}")
