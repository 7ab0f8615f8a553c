"""A year of demo data computed by a backfill in process: how long, against `pipeline run` over the same days.

365 days until yesterday of six tables, `pipeline demo` data, on the two cores that the target is for. A backfill is
runs of some days of a step each, several at once; a `pipeline run` is one run after the other. Both compute the same,
into lakes of their own. A backfill is then begun again on an empty lake, killed at half, and resumed, five times over:
the time is from the start of the command until a partition is published that was not there, and the median counts. What
was published and not noted before the kill is computed once more first.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from statistics import median

from benchmarks.measure import (
    PIPELINE,
    CannotRunError,
    Figure,
    Target,
    clean_environment,
    empty_project,
    number,
    run_child,
    table,
)

DAYS, PARALLEL = 365, 2
ASSETS, STEPS = 6, 5
KILLS = 5
FULL = [PIPELINE, "backfill", "--mode", "full", "--yes", "--parallel", str(PARALLEL)]
TARGETS = (
    Target("seconds for 365 demo days x 6 assets", 120, "s"),
    Target("the same / pipeline run", 1.0, "x"),
    Target("seconds from --resume after a kill at half to the first new partition", 5, "s"),
)


def run() -> list[Figure]:
    """Measure on the disk of TMPDIR."""
    with empty_project() as folder:
        run_child([PIPELINE, "demo", "--days", str(DAYS)], folder)
        ran = run_child([PIPELINE, "run"], folder)
        _forget(folder)
        filled = run_child(FULL, folder)
        resumed = []
        for _ in range(KILLS):
            _forget(folder)
            resumed.append(_resumed(folder))
    partitions = DAYS * STEPS
    rows = [
        [name, f"{child.seconds:.1f} s", f"{child.cpu_seconds:.1f} s", number(partitions / child.seconds, "/s")]
        for name, child in (("pipeline run", ran), (f"pipeline backfill --parallel {PARALLEL}", filled))
    ]
    print(table(["", "seconds", "of processor", "partitions of a step"], rows))
    print(f"resumed after {', '.join(f'{seconds:.2f} s' for seconds in sorted(resumed))}\n")
    values = (filled.seconds, filled.seconds / ran.seconds, median(resumed))
    return [target.figure(value) for target, value in zip(TARGETS, values, strict=True)]


def _forget(folder: Path) -> None:
    """Lake and Dagster's memory, not the landing zone."""
    shutil.rmtree(folder / ".data" / "lake")
    shutil.rmtree(folder / ".data" / "dagster")


def _resumed(folder: Path) -> float:
    with _started(FULL, folder) as begun:
        while len(_published(folder)) < DAYS * ASSETS / 2:
            if begun.poll() is not None:
                raise CannotRunError(f"the backfill ended with {begun.returncode} before it was killed")
            time.sleep(0.1)
        os.killpg(begun.pid, signal.SIGKILL)
    there = _published(folder)
    started = time.perf_counter()
    with _started([PIPELINE, "backfill", "--resume"], folder) as going_on:
        while not _published(folder) - there:
            if going_on.poll() is not None:
                raise CannotRunError(f"the resumed backfill ended with {going_on.returncode} and published nothing")
            time.sleep(0.05)
        seconds = time.perf_counter() - started
        os.killpg(going_on.pid, signal.SIGKILL)
    return seconds


def _started(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "said").open("ab") as said:
        return subprocess.Popen(
            command, cwd=folder, env=clean_environment(), stdout=said, stderr=said, start_new_session=True
        )


def _published(folder: Path) -> set[str]:
    return {str(path) for path in (folder / ".data" / "lake").glob("[!_]*/dt=*/data.parquet")}
