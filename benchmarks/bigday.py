"""One day of 10,000,000 events through the whole pipeline, in a process that is killed above 1.5 GB.

The day lands as ten zstd-compressed CSV files (330 MB, 880 MB unpacked): 500,000 users, ids in no order, one event in a
hundred delivered twice, one in a thousand of an unknown type. `pipeline run` makes raw_events to user_segments of it.
What counts is the resident memory of that process: looked at every 20 ms, and at the end its peak as the system
accounts it. Address space is not limited: Arrow's allocator reserves far more than it uses, and under an RLIMIT_DATA of
1.5 GB fails at 0.4 GB resident. Spilled rows go to the disk of TMPDIR; about 3 GB are needed there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from benchmarks.event_tables import DAY, EVENT_TYPES, hex_ids, money, numbered, times_of
from benchmarks.measure import PIPELINE, CannotRunError, Figure, Target, empty_project, phase_table, run_child

FILES, ROWS_PER_FILE, TWICE_PER_FILE, USERS = 10, 1_000_000, 10_000, 500_000
LIMIT_BYTES = 1_500_000_000
TARGETS = (Target("peak memory", LIMIT_BYTES / 1e6, "MB"),)


def run() -> list[Figure]:
    """Measure on the disk of TMPDIR."""
    with empty_project() as folder:
        landed = land(folder / ".data" / "landing" / f"dt={DAY}")
        day = DAY.isoformat()
        ran = run_child([PIPELINE, "run", "--from", day, "--to", day], folder, limit_bytes=LIMIT_BYTES)
        print(f"{landed:,} events: {ran}\n\n{phase_table(ran.phases)}")
        if ran.killed:
            print("\nkilled: it had passed the limit")
        elif (kept := _rows_of(folder, "events") + _rows_of(folder, "rejected_events")) != landed:
            raise CannotRunError(f"{landed:,} events landed, {kept:,} are in events and rejected_events")
    return [TARGETS[0].figure(ran.peak_bytes / 1e6)]


def land(folder: Path) -> int:
    """Write the day's files, a file's rows in memory at a time; return how many distinct events they hold."""
    folder.mkdir(parents=True)
    options = pyarrow.csv.WriteOptions(quoting_style="none")
    again: pa.Table | None = None
    for index in range(FILES):
        rng = np.random.default_rng([20260610, index])
        kinds = rng.choice(len(EVENT_TYPES) + 1, ROWS_PER_FILE, p=(0.78, 0.13, 0.079, 0.01, 0.001))
        rows = pa.table(
            {
                "event_id": hex_ids(rng, ROWS_PER_FILE),
                "user_id": numbered("u", rng.integers(USERS, size=ROWS_PER_FILE)),
                "event_type": pa.array((*EVENT_TYPES, "teleport")).take(pa.array(kinds)),
                "amount": money(rng, ROWS_PER_FILE),
                "event_time": times_of(rng, ROWS_PER_FILE, DAY),
            }
        )
        with pa.CompressedOutputStream(str(folder / f"events-{index:02}.csv.zst"), "zstd") as file:
            pyarrow.csv.write_csv(rows if again is None else pa.concat_tables([rows, again]), file, options)
        good = rows.filter(pc.not_equal(rows["event_type"], "teleport"))
        again = good.slice(0, TWICE_PER_FILE)
    return FILES * ROWS_PER_FILE


def _rows_of(folder: Path, table: str) -> int:
    path = folder / ".data" / "lake" / table / f"dt={DAY}" / "data.parquet"
    return int(pq.read_metadata(path).num_rows)
