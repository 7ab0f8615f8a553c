"""Overwrite one day of a table that has 3,650 days, against one that has 10.

Days are small (100 rows), so that nothing hides a cost that grows with the table. Measured twice: the commit alone
(stage, audit, digest, archive, fsync, rename), and `dg.materialize` of a daily_asset for that day. Each write holds
other rows than the one before.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import date, timedelta
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import dagster as dg
import pyarrow as pa

from benchmarks.bare_dagster import materialize
from benchmarks.event_tables import DAY, WIDE_EVENTS, event_rows
from benchmarks.measure import Figure, Target, compared, interleaved
from benchmarks.write import commit_table
from pipeline_assets import ParquetIOManager, daily_asset
from pipeline_assets.partition import Partition
from pipeline_assets.store.local import LocalStore
from pipeline_assets_tests.support.commits import path_of

ROWS, FEW, MANY = 100, 10, 3650
ROUNDS = 60
TARGETS = (
    Target("time, the commit, 3,650 days / 10", 1.1, "x"),
    Target("time, dg.materialize, 3,650 days / 10", 1.1, "x"),
)


def run() -> list[Figure]:
    """Measure on the disk of TMPDIR."""
    with TemporaryDirectory(prefix="pipeline-bench-") as name:
        few, many = (_table_of(days, Path(name) / str(days)) for days in (FEW, MANY))
        turns = cycle([event_rows(ROWS, seed=seed) for seed in (1, 2)])
        commits = interleaved(ROUNDS, lambda: commit_table(few, next(turns)), lambda: commit_table(many, next(turns)))
        print(compared(0.001, "ms", commit_of_10=commits[0], commit_of_3650=commits[1]))
        runs = interleaved(ROUNDS // 4, _materialized(few, FEW), _materialized(many, MANY))
        print("\n" + compared(0.001, "ms", materialize_of_10=runs[0], materialize_of_3650=runs[1]))
    ratios = [times[1].best / times[0].best for times in (commits, runs)]
    return [target.figure(ratio) for target, ratio in zip(TARGETS, ratios, strict=True)]


def _table_of(days: int, root: Path) -> LocalStore:
    """A store in which the table has so many days, the last of them DAY."""
    store = LocalStore(root)
    commit_table(store, event_rows(ROWS, seed=0))
    partition = Partition("wide_events", DAY)
    for ago in range(1, days):
        copy = Path(path_of(store, partition._replace(key=DAY - timedelta(days=ago))))
        copy.parent.mkdir()
        shutil.copyfile(path_of(store, partition), copy)
    return store


def _materialized(store: LocalStore, days: int) -> Callable[[], object]:
    turns = cycle([event_rows(ROWS, seed=seed) for seed in (1, 2)])

    @daily_asset(
        partitions_def=dg.DailyPartitionsDefinition((DAY - timedelta(days=days - 1)).isoformat()), contract=WIDE_EVENTS
    )
    def wide_events(day: date) -> pa.Table:  # noqa: ARG001 - the rows are made already
        return next(turns)

    manager = ParquetIOManager(root=str(store.root))
    return lambda: materialize([wide_events], manager, DAY.isoformat())
