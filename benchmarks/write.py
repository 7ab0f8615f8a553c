"""Write 1,000,000 x 10 rows over an existing partition, against pyarrow's `write_table` with its defaults and an fsync.

Ours is the whole commit: conform, audit (types, nulls, values, day, unique and ascending key), write, digest, compare,
archive of the commit that is replaced, fsync of file and folder. It is measured twice, with the same target: as the
IO manager's own path without Dagster, which is the stricter, and as `dg.materialize` of a daily_asset against
`dg.materialize` of a plain asset whose IO manager does the peer's write. Each write holds other rows than the one
before; both sides write to the same disk, and the rows are in memory already.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

import dagster as dg
import pyarrow as pa

from benchmarks.bare_dagster import PlainIOManager, materialize, write_plain
from benchmarks.event_tables import DAY, WIDE_EVENTS, event_rows
from benchmarks.measure import Figure, Target, compared, interleaved
from pipeline_assets import ParquetIOManager, daily_asset
from pipeline_assets.orchestration.partition.staging import StagedRows
from pipeline_assets.partition import Partition
from pipeline_assets.record import Record
from pipeline_assets.store import Store
from pipeline_assets.store.local import LocalStore
from pipeline_assets_tests.support.commits import path_of

ROWS, ROUNDS = 1_000_000, 7
TARGETS = (
    Target("time, IO manager's path / write_table + fsync", 1.1, "x"),
    Target("time, both in dg.materialize", 1.1, "x"),
    Target("size", 0.7, "x"),
)


def run() -> list[Figure]:
    """Measure on the disk of TMPDIR."""
    tables = [event_rows(ROWS, seed=seed) for seed in (1, 2)]
    with TemporaryDirectory(prefix="pipeline-bench-") as name:
        plain, store = Path(name) / "plain.parquet", LocalStore(Path(name) / "lake")
        turns = cycle(tables)

        def commit() -> None:
            commit_table(store, next(turns))

        def write() -> None:
            write_plain(plain, next(turns))

        bare, ours = interleaved(ROUNDS, write, commit)
        print(compared(0.001, "ms", write_table_and_fsync=bare, our_commit=ours))
        bare_run, our_run = interleaved(ROUNDS, *_materialized(Path(name) / "dagster", tables))
        print("\n" + compared(0.001, "ms", bare_asset_materialized=bare_run, daily_asset_materialized=our_run))
        sizes = plain.stat().st_size, path_of(store, Partition("wide_events", DAY)).stat().st_size
        print(f"\nbytes: {sizes[0]:,} and {sizes[1]:,}")
    ratios = ours.best / bare.best, our_run.best / bare_run.best, sizes[1] / sizes[0]
    return [target.figure(ratio) for target, ratio in zip(TARGETS, ratios, strict=True)]


def commit_table(store: Store, table: pa.Table) -> None:
    """What a daily_asset and the IO manager do with a frame."""
    partition = Partition("wide_events", DAY)
    seen = store.look([partition])[partition]
    with store.stage(partition) as staged:
        rows = StagedRows(staged, WIDE_EVENTS, "UTC")
        rows.write(table)
        rows.close()
        if store.publish(staged, Record(), seen=seen).unchanged:
            raise AssertionError("the benchmark wrote the same rows twice")


def _materialized(folder: Path, tables: list[pa.Table]) -> tuple[Callable[[], object], Callable[[], object]]:
    days = dg.DailyPartitionsDefinition(DAY.isoformat())
    turns = cycle(tables)

    @dg.asset(partitions_def=days)
    def plain_events() -> pa.Table:
        return next(turns)

    @daily_asset(partitions_def=days, contract=WIDE_EVENTS)
    def wide_events(day: date) -> pa.Table:  # noqa: ARG001 - the rows are made already
        return next(turns)

    plain, ours = PlainIOManager(folder, fsync=True), ParquetIOManager(root=str(folder / "lake"))
    key = DAY.isoformat()
    return lambda: materialize([plain_events], plain, key), lambda: materialize([wide_events], ours, key)
