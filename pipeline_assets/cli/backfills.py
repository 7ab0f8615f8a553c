"""The commands backfills and cancel: what was begun, how far it is, and ending it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from pipeline_assets.cli.asking import FORMAT
from pipeline_assets.cli.carrying import book_of, print_json, summary
from pipeline_assets.cli.planning import Project, opened
from pipeline_assets.errors import SettingsError
from pipeline_assets.orchestration.backfill.book import Booked

LOOK_SECONDS = 0.2


@click.command()
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="How many to list.")
@FORMAT
def backfills(limit: int, form: str) -> None:
    """List backfills, the newest first, and how far each is."""
    from pipeline_assets.console import console, grid, stderr

    with opened() as project:
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
    from pipeline_assets.orchestration.backfill.standing import State, standing_of, state_of

    with opened() as project:
        book = book_of(project)
        booked = book.get(backfill_id)
        state = state_of(project.instance, book, booked, standing_of(project.instance, project.graph, booked))
        if state in (State.DONE, State.CANCELLED):
            msg = f"backfill {booked.backfill_id} is {state.value}: there is nothing to cancel"
            raise SettingsError(msg)
        book.cancel(booked.backfill_id)
        _cancel_there(project, booked)
        with console.status("waiting for the partition in hand"):
            while book.is_held(booked.backfill_id):
                time.sleep(LOOK_SECONDS)
    console.print(f"Backfill {booked.backfill_id} is cancelled; what it had committed stays.")


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


def _cancel_there(project: Project, booked: Booked) -> None:
    from pipeline_assets.orchestration.backfill.book import IN_DAGSTER
    from pipeline_assets.orchestration.backfill.through_dagster import RunningDagster
    from pipeline_assets.orchestration.history.tags import BACKFILL_TAG

    if booked.where != IN_DAGSTER:
        return
    there = RunningDagster(project.settings.dagster_url)
    for each in there.backfills():
        if each.tags.get(BACKFILL_TAG) == booked.backfill_id and not each.state.has_ended:
            there.cancel(each.id)
