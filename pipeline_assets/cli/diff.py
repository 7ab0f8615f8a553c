"""The command diff: what differs between two lakes."""

import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click

from pipeline_assets.cli.main import EXIT_FAILED
from pipeline_assets.cli.options import DAY, GivenPath, format_option
from pipeline_assets.console import console, grid
from pipeline_assets.errors import UsageError
from pipeline_assets.partition import Partition
from pipeline_assets.report import lake_diff as words
from pipeline_assets.report.lake_diff import lake_diff_markdown
from pipeline_assets.report.lake_diff_json import lake_diff_json
from pipeline_assets.rules.tolerance import Tolerance
from pipeline_assets.settings import load_settings
from pipeline_assets.store.comparison import Lake, TableDiff, compare_lakes, open_lake


@click.command()
@click.argument("base", type=GivenPath(path_type=Path))
@click.argument("other", type=GivenPath(path_type=Path), required=False)
@click.option("--select", help="Tables, by name: 'events,daily_sales'.  [default: all]")
@click.option("--from", "first", type=DAY, help="First day.  [default: the first of both lakes]")
@click.option("--to", "last", type=DAY, help="Last day.  [default: the last of both lakes]")
@click.option("--max-changed-rows", type=click.IntRange(0), help="Rows of a table that may differ.")
@click.option("--max-changed-share", type=click.FloatRange(0, 1), help="Share of a table's rows that may differ, to 1.")
@format_option("table", "markdown", "json", readers="For people, summaries, programs.")
def diff(  # noqa: PLR0917 - click hands options over by name
    base: Path,
    other: Path | None,
    select: str | None,
    first: datetime | None,
    last: datetime | None,
    max_changed_rows: int | None,
    max_changed_share: float | None,
    form: str,
) -> None:
    """Print what differs between the lakes BASE and OTHER (PIPELINE_STORE unless given), rows and values.

    Rows are matched by the key of their table's contract; without one they are compared whole. Added, removed and
    changed rows differ, as do all rows of a day that one lake does not have or whose columns are not the same.

    Exit status: 0; 1 if more differs than --max-changed-rows or --max-changed-share allow; 2 if a lake, a table or an
    option is wrong.
    """
    if first and last and first > last:
        raise UsageError(f"--from {first.date()} is after --to {last.date()}")
    other = other or load_settings().store
    lakes = [open_lake(each) for each in (base, other)]
    tolerance = Tolerance(max_changed_rows, max_changed_share)
    tables = compare_lakes(
        *lakes,
        tables=[name.strip() for name in select.split(",")] if select is not None else None,
        first=first.date() if first else None,
        last=last.date() if last else None,
        keys=_keys(*lakes),
    )
    if form == "table":
        show_diff(base, other, tables, tolerance)
    elif form == "json":
        click.echo(lake_diff_json(str(base), str(other), tables, tolerance).encode())
    else:
        click.echo(lake_diff_markdown(str(base), str(other), tables, tolerance).encode())
    if any(tolerance.is_exceeded(each.differing, each.differing_share) for each in tables):
        sys.exit(EXIT_FAILED)


def _keys(*lakes: Lake) -> dict[str, tuple[str, ...]]:
    """By which rows are matched, by table: as the newest records have it; as the contracts do, where none tells."""
    found = dict[str, tuple[str, ...]]()
    for lake in lakes:
        for table, days in lake.days.items():
            newest = lake.store.head(Partition(table, days[-1]))
            if newest is not None and newest.record is not None and newest.record.key is not None:
                found[table] = newest.record.key
    if any(lake.days.keys() - found.keys() for lake in lakes):
        # Of lakes of before. They take seconds to import.
        from pipeline_assets.cli.project import load_project
        from pipeline_assets.orchestration.partition.table_keys import keys_of

        found = {**keys_of(load_project()[2]), **found}
    return {table: key for table, key in found.items() if key}


def show_diff(base: Path, other: Path, tables: Sequence[TableDiff], tolerance: Tolerance) -> None:
    """Print the comparison as tables."""
    console.print(f"{words.headline(tables)}\nbase:  {base}\nother: {other}", markup=False)
    found = words.overview(tables)
    console.print(grid(found.names, found.rows), markup=False)
    for each in tables:
        sentences, values = words.explanation(each), words.values(each)
        if sentences:
            console.print(f"{each.table}: {' '.join(sentences)}", markup=False)
        if values.rows:
            console.print(grid(values.names, values.rows), markup=False)
    for sentence in words.conclusion(tables, tolerance):
        console.print(sentence, markup=False)
