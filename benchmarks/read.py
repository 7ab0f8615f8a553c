"""Read the 1,000,000 x 10 partition back as a pa.Table, against `read_table` of the file pyarrow writes by default.

Ours is `ParquetIOManager.load_input`, and beside it `Upstream.read`, which is what a daily_asset gets its rows from.
Both pin the commit (hold the file open and hash it) before they decode it. Files are in the page cache on both sides.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.bare_dagster import write_plain
from benchmarks.event_tables import DAY, event_rows
from benchmarks.measure import Figure, Target, compared, interleaved
from benchmarks.write import ROWS, commit_table
from pipeline_assets import ParquetIOManager
from pipeline_assets.orchestration.partition.frames import FrameKind
from pipeline_assets.orchestration.partition.upstream import Upstream
from pipeline_assets.rules.windows import same_day

ROUNDS = 15
TARGETS = (Target("time, load_input / read_table", 1.1, "x"), Target("time, Upstream.read / read_table", 1.1, "x"))


def run() -> list[Figure]:
    """Measure on the disk of TMPDIR."""
    with TemporaryDirectory(prefix="pipeline-bench-") as name:
        plain, manager = Path(name) / "plain.parquet", ParquetIOManager(root=str(Path(name) / "lake"))
        rows = event_rows(ROWS, seed=1)
        write_plain(plain, rows)
        commit_table(manager.store(), rows)
        del rows
        context = dg.build_input_context(
            asset_key=dg.AssetKey("wide_events"),
            partition_key=DAY.isoformat(),
            asset_partition_key_range=dg.PartitionKeyRange(DAY.isoformat(), DAY.isoformat()),
            asset_partitions_def=dg.DailyPartitionsDefinition(DAY.isoformat()),
            dagster_type=dg.PythonObjectDagsterType(pa.Table),
        )

        def read() -> pa.Table:
            return pq.read_table(plain)

        def load() -> pa.Table:
            return manager.load_input(context)

        def upstream() -> pa.Table:
            table = Upstream(manager.store(), "wide_events")
            frame = table.read(DAY, same_day(), FrameKind.TABLE, (DAY, DAY)).frame
            table.close()
            return frame

        if not load().equals(upstream()) or load().num_rows != ROWS:
            raise AssertionError("the benchmark did not read what it wrote")
        bare, loaded, streamed = interleaved(ROUNDS, read, load, upstream)
    print(compared(0.001, "ms", read_table=bare, load_input=loaded, upstream_read=streamed))
    return [TARGETS[0].figure(loaded.best / bare.best), TARGETS[1].figure(streamed.best / bare.best)]
