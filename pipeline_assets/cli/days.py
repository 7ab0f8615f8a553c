"""Commands that change the landing zone or the lake by days: demo, run, restore."""

import sys
from datetime import datetime, timedelta
from pathlib import Path

import click
import dagster as dg

from pipeline_assets.cli.main import EXIT_FAILED
from pipeline_assets.cli.options import DAY
from pipeline_assets.cli.project import key_named, load_project, opened_instance, range_of
from pipeline_assets.console import RunView, console, stderr
from pipeline_assets.demo import write_days
from pipeline_assets.errors import UsageError
from pipeline_assets.orchestration.finished_days import listening
from pipeline_assets.orchestration.partition.materialization import named
from pipeline_assets.orchestration.process import (
    execute,
    failures_of,
    plan_range,
    selected_keys,
    warnings_of,
    was_interrupted,
)
from pipeline_assets.partition import Partition, days_between
from pipeline_assets.settings import load_settings


@click.command()
@click.option("--days", default=60, show_default=True, type=click.IntRange(1, 3650), help="Arrival days to make.")
@click.option("--until", type=DAY, help="Last arrival day.  [default: yesterday]")
@click.option("--seed", default=20260101, show_default=True, type=click.IntRange(0), help="Another seed, another shop.")
def demo(days: int, until: datetime | None, seed: int) -> None:
    """Fill the landing zone with the events of a made-up shop."""
    settings = load_settings()
    if not isinstance(settings.landing, Path):
        raise UsageError("PIPELINE_LANDING is a URL; demo data is written to a folder. Unset it, or name a folder")
    last = until.date() if until else settings.today() - timedelta(days=1)
    asked = days_between(last - timedelta(days=days - 1), last)
    with console.status("demo shop") as status:
        summary = write_days(
            settings.landing,
            asked,
            seed=seed,
            progress=lambda day, files: status.update(f"demo shop: {day}, {files} files"),
        )
    console.print(
        f"demo shop: {summary.days} arrival days until {last}, {summary.files} files, {summary.bytes / 1e6:.1f} MB, "
        f"{summary.events:,} events in {settings.landing}"
    )


@click.command()
@click.option("--from", "first", type=DAY, help="First day.  [default: PIPELINE_START]")
@click.option("--to", "last", type=DAY, help="Last day.  [default: newest landing day; yesterday, if that is a URL]")
@click.option("--select", help="Assets, in Dagster's syntax: events, 'events+', 'daily_sales,user_segments'.")
def run(first: datetime | None, last: datetime | None, select: str | None) -> None:
    """Compute a range of days in this process, without daemon or webserver.

    Days outside the range that exist already and are made from days of the range, late arrivals and trailing windows
    included, are computed again.
    """
    settings, store, defs = load_project()
    store.check_writable()
    begin, end = range_of(settings, first, last)
    keys = selected_keys(defs, select)
    runs = plan_range(defs, keys, days_between(begin, end), store)
    planned = {
        key.to_user_string(): sum(len(days_between(r.first, r.last)) for r in runs if key in r.keys) for key in keys
    }
    asked = len(days_between(begin, end))
    console.print(f"{begin} to {end}, {asked} days of {len(keys)} tables, {settings.store}")
    failures: list[str] = []
    with opened_instance() as instance, RunView(planned) as view, listening(view.day_done):
        warnings: list[str] = []
        for each in runs:
            result = execute(defs, each, instance)
            if was_interrupted(result):
                raise KeyboardInterrupt
            warnings += warnings_of(result)
            failures += failures_of(result)
            if failures:
                break  # what is downstream would be made from days that are not there
    console.print(view.summary())
    for warning in warnings:
        console.print(f"warning: {warning}", markup=False)
    more = {table: days - asked for table, days in planned.items() if days > asked}
    if more:
        listed = ", ".join(f"{table} {days}" for table, days in more.items())
        console.print(f"Days outside the range that read days of it were computed again: {listed}.")
    if failures:
        stderr.print("\n".join(failures), markup=False, soft_wrap=True)
        sys.exit(EXIT_FAILED)
    console.print("Next: `make dev` shows it at http://localhost:3000; `.venv/bin/pipeline show daily_sales`;")
    console.print("      `.venv/bin/pipeline rejects` lists the rows that were not taken, with the reason.")


@click.command()
@click.argument("table")
@click.argument("day", type=DAY)
@click.argument("digest")
def restore(table: str, day: datetime, digest: str) -> None:
    """Publish a replaced commit of a partition again."""
    _, store, defs = load_project()
    key = key_named(defs, table)
    published = store.restore(Partition(table, day.date()), digest)
    with opened_instance() as instance:
        instance.report_runless_asset_event(
            dg.AssetMaterialization(
                key,
                partition=day.date().isoformat(),
                description="restored from history by `pipeline restore`",
                metadata={**named(published.commit), "unchanged": published.unchanged, "restored": True},
            )
        )
    console.print(f"{published.commit.partition} is {published.commit.digest} again")
