"""The commands backfills and cancel: what was begun, how far it is, and ending it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from pipeline_assets.cli.execution import book_of, print_json, summary
from pipeline_assets.cli.options import FORMAT
from pipeline_assets.cli.project import Project, open_project
from pipeline_assets.errors import SettingsError
from pipeline_assets.orchestration.backfill.book import Backfill

LOOK_SECONDS = 0.2


@click.command()
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="How many to list.")
@FORMAT
def backfills(limit: int, form: str) -> None:
    """List backfills, the newest first, and how far each is."""
    from pipeline_assets.console import console, grid, stderr

    with open_project() as project:
        book = book_of(project)
        listed = [summary(project, book, each) for each in book.readable(limit, unreadable=stderr.print)]
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
    from pipeline_assets.console import console
    from pipeline_assets.orchestration.backfill.progress import BackfillStatus, progress_of, status_of

    with open_project() as project:
        book = book_of(project)
        backfill = book.get(backfill_id)
        status = status_of(project.instance, book, backfill, progress_of(project.instance, project.graph, backfill))
        if status in (BackfillStatus.DONE, BackfillStatus.CANCELLED):
            msg = f"backfill {backfill.backfill_id} is {status.value}: there is nothing to cancel"
            raise SettingsError(msg)
        book.cancel(backfill.backfill_id)
        _cancel_there(project, backfill)
        with console.status("waiting for the partition in hand"):
            while book.is_held(backfill.backfill_id):
                time.sleep(LOOK_SECONDS)
    console.print(f"Backfill {backfill.backfill_id} is cancelled; what it had committed stays.")


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


def _cancel_there(project: Project, backfill: Backfill) -> None:
    from pipeline_assets.orchestration.backfill.book import IN_DAGSTER
    from pipeline_assets.orchestration.backfill.webserver import RunningDagster
    from pipeline_assets.orchestration.history.tags import BACKFILL_TAG

    if backfill.where != IN_DAGSTER:
        return
    there = RunningDagster(project.settings.dagster_url)
    for each in there.backfills():
        if each.tags.get(BACKFILL_TAG) == backfill.backfill_id and not each.status.has_ended:
            there.cancel(each.id)
