"""The command fsck: whether lake and event log fit together."""

import sys
from collections.abc import Sequence

import click

from pipeline_assets.cli.main import EXIT_FAILED
from pipeline_assets.cli.project import load_project, opened_instance
from pipeline_assets.console import console, grid
from pipeline_assets.orchestration.backfill.fsck import flaws_of
from pipeline_assets.partition import days_in_words
from pipeline_assets.store import Flaw, FlawKind

MENDABLE = frozenset({FlawKind.LOG, FlawKind.MOVED, FlawKind.LEFTOVER, FlawKind.RECORD})
AT_MOST = 4
"""Stretches of days, in a cell."""


@click.command()
@click.option("--repair", is_flag=True, help="Mend what can be without computing anything.")
@click.option("--quick", is_flag=True, help="Compare versions only; read no file that a record names.")
def fsck(*, repair: bool, quick: bool) -> None:
    """Hold heads, records, history, staged files and Dagster's event log against each other.

    What has to be computed again is in the next plan, and is named here. Exit status: 0 if nothing is wrong, or all was
    mended; 1 if something is.
    """
    _, store, defs = load_project()
    with opened_instance() as instance:
        flaws = list(flaws_of(instance, defs.resolve_asset_graph(), store, read=not quick, mend=repair))
    partitions = sum(len(store.heads(table)) for table in store.tables())
    left = [each for each in flaws if not each.is_mended]
    if flaws:
        console.print(grid(["what", "table", "days", "which", "the first of them"], _rows(flaws)), markup=False)
    mended = f"{len(flaws) - len(left):,} mended, " if repair else ""
    advice = "" if repair else _advice(left)
    console.print(f"{partitions:,} partitions, {mended}{len(left):,} flaw{'' if len(left) == 1 else 's'}{advice}")
    sys.exit(EXIT_FAILED if left else 0)


def _rows(flaws: Sequence[Flaw]) -> list[list[object]]:
    groups: dict[tuple[str, str], list[Flaw]] = {}
    for each in flaws:
        what = f"{each.kind.value}, mended" if each.is_mended else each.kind.value
        groups.setdefault((what, each.partition.table), []).append(each)
    return [
        [what, table, len(found), days_in_words({each.partition.day for each in found}, at_most=AT_MOST), found[0].told]
        for (what, table), found in sorted(groups.items())
    ]


def _advice(left: Sequence[Flaw]) -> str:
    kinds = {each.kind for each in left}
    mendable = kinds & MENDABLE
    return f". `pipeline fsck --repair` mends {', '.join(sorted(mendable))}" if mendable else ""
