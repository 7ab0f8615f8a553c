"""The command why: the sensor's own answer, with what a partition was made from."""

from datetime import datetime

import click

from pipeline_assets.cli.options import DAY
from pipeline_assets.cli.project import load_project, opened_instance
from pipeline_assets.console import console, grid
from pipeline_assets.orchestration.changes.explanation import explain


@click.command()
@click.argument("table")
@click.argument("day", type=DAY)
def why(table: str, day: datetime) -> None:
    """Say why a partition was, or was not, computed again, and what it was made from."""
    _, store, defs = load_project()
    with opened_instance() as instance:
        found = explain(instance, defs, store, table, day.date())
    console.print(f"{found.partition} is {found.status.value}. {' '.join(found.reasons)}", markup=False)
    if found.record is None:
        console.print("It has no record.")
    else:
        facts: list[list[object]] = [
            ["recorded (UTC)", f"{found.record.recorded_at:%Y-%m-%d %H:%M:%S}"],
            ["digest", found.record.digest],
            ["bytes", "as before: nothing downstream was asked for" if found.record.unchanged else "new"],
            ["why", found.launched],
            ["run", found.record.run_id or None],
        ]
        console.print(grid(["newest record", ""], facts))
    rows: list[list[object]] = [
        [str(each.partition), each.read or "not read", _since(each.read, each.now, rewritten=each.rewritten)]
        for each in found.inputs
    ]
    if rows:
        console.print(grid(["made from", "digest", "since then"], rows))


def _since(read: str | None, now: str | None, *, rewritten: bool) -> str:
    if now is None:
        return "no record"
    if now != read:
        return f"now {now}"
    return "computed again, same digest" if rewritten else "unchanged"
