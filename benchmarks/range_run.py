"""A range of small days in one run: milliseconds per partition and asset, against bare Dagster with a plain write.

Two assets of ten columns and 100 rows a day, the second reads the first; SQLite instance on disk, as `make run` has it;
every partition exists and changes. Ours does per day and asset: pinned read, audit, write, fsyncs, archive,
publish, and a record of ten metadata entries. Bare Dagster does `read_table` and `write_table`, without fsync or
metadata. Both write two events per partition (planned, materialized), and that is most of the time. On a quiet machine
bare is 8 ms and the target 20 ms; where bare is slower than 8 ms so is the machine, hence the ratio. Linear means that
the days that the long range has more cost no more each than those of the short one.
"""

# No `from __future__ import annotations` here: Dagster looks at the annotation of `context` itself, not at its text.
import warnings
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import pyarrow as pa

from benchmarks.bare_dagster import PlainIOManager
from benchmarks.event_tables import DAY, WIDE_EVENTS, event_rows
from benchmarks.measure import CannotRunError, Figure, Target, empty_project, interleaved, number, table
from pipeline_assets import ParquetIOManager, daily_asset
from pipeline_assets.orchestration.process import PlannedRun, execute, failures_of, open_instance
from pipeline_assets.partition import days_between
from pipeline_assets.rules.windows import same_day

ROWS, ASSETS, ROUNDS = 100, 2, 3
SHORT, LONG = 60, 240
FIRST = DAY - timedelta(days=LONG)
TARGETS = (
    Target("ms per partition and asset", 20, "ms"),
    Target("the same / bare Dagster", 20 / 8, "x"),
    Target("linear: per partition, days 61 to 240 / days 1 to 60", 1.1, "x"),
)


@dataclass
class Days:
    """Rows of every day, other ones after each `turn`."""

    sets: list[dict[date, pa.Table]]
    turns: int = 0

    def turn(self) -> None:
        """From now on give the other rows."""
        self.turns += 1

    def of(self, day: date) -> pa.Table:
        """Rows of a day."""
        return self.sets[self.turns % len(self.sets)][day]


def run() -> list[Figure]:
    """Measure on the disk of TMPDIR."""
    days = days_between(FIRST, DAY)
    rows = Days([{day: event_rows(ROWS, seed=seed, day=day) for day in days} for seed in (1, 2)])
    with empty_project() as folder, chdir(folder), open_instance(folder) as instance:
        both = _bare(rows, folder / "plain"), _ours(rows, folder / "lake")
        short, long = (
            interleaved(ROUNDS, *(_ranged(defs, length, rows, instance) for defs in both)) for length in (SHORT, LONG)
        )
    shown, figures = [], []
    for name, at_short, at_long in zip(("bare Dagster", "ours"), short, long, strict=True):
        first = 1000 * at_short.best / SHORT / ASSETS
        average = 1000 * at_long.best / LONG / ASSETS
        added = 1000 * (at_long.best - at_short.best) / (LONG - SHORT) / ASSETS
        median = 1000 * at_long.median / LONG / ASSETS
        shown.append([name, *(number(each, "ms") for each in (first, average, median, added))])
        figures.append((average, added / first))
    print(table(["", f"{SHORT} days, best", f"{LONG} days, best", f"{LONG} days, median", "each day added"], shown))
    (bare, _), (ours, growth) = figures
    return [target.figure(value) for target, value in zip(TARGETS, (ours, ours / bare, growth), strict=True)]


def _ranged(defs: dg.Definitions, length: int, rows: Days, instance: dg.DagsterInstance) -> Callable[[], None]:
    keys = defs.resolve_asset_graph().toposorted_asset_keys
    planned = PlannedRun(tuple(keys), DAY - timedelta(days=length - 1), DAY)

    def go() -> None:
        rows.turn()
        result = execute(defs, planned, instance)
        if not result.success:
            raise CannotRunError("\n".join(failures_of(result)))

    return go


def _ours(rows: Days, lake: Path) -> dg.Definitions:
    partitions = dg.DailyPartitionsDefinition(FIRST.isoformat())

    @daily_asset(partitions_def=partitions, contract=WIDE_EVENTS)
    def first_events(day: date) -> pa.Table:
        return rows.of(day)

    @daily_asset(partitions_def=partitions, contract=WIDE_EVENTS, ins={"first_events": same_day()})
    def second_events(day: date, first_events: pa.Table) -> pa.Table:  # noqa: ARG001 - every asset has its day
        return first_events

    manager = ParquetIOManager(root=str(lake))
    return dg.Definitions(
        assets=[first_events, second_events], resources={"io_manager": manager}, executor=dg.in_process_executor
    )


def _bare(rows: Days, folder: Path) -> dg.Definitions:
    partitions = dg.DailyPartitionsDefinition(FIRST.isoformat())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)

        @dg.asset(partitions_def=partitions, backfill_policy=dg.BackfillPolicy.single_run())
        def first_plain(context: dg.AssetExecutionContext) -> dict[str, pa.Table]:
            return {key: rows.of(date.fromisoformat(key)) for key in context.partition_keys}

        @dg.asset(partitions_def=partitions, backfill_policy=dg.BackfillPolicy.single_run())
        def second_plain(first_plain: dict[str, pa.Table]) -> dict[str, pa.Table]:
            return first_plain

    manager = PlainIOManager(folder, fsync=False)
    return dg.Definitions(
        assets=[first_plain, second_plain], resources={"io_manager": manager}, executor=dg.in_process_executor
    )
