"""A worker that kills itself in the middle of a range, for tests of what is left: `python -m ... FOLDER TAGS [PARENT]`.

Every call of the author's function leaves a line in `calls`. A file `kill` names the day in which the worker kills
itself, once.
"""

# No `from __future__ import annotations` here: Dagster looks at the annotation of `context` itself, not at its text.
import json
import os
import signal
import sys
import time
from datetime import date
from pathlib import Path

import dagster as dg
import pyarrow as pa

from pipeline_assets import Result, daily_asset
from pipeline_assets.orchestration.process import open_instance
from pipeline_assets.rules.accounting import Accounting
from pipeline_assets.rules.checks import Finding, check
from pipeline_assets_tests.orchestration.lake import DAYS, QUIET, ROW, Impatient, numbers

FOLDER, PAUSE = "KILLED_FOLDER", "KILLED_PAUSE_SECONDS"


@check(blocking=False)
def is_even(day: date, kept: pa.Table) -> Finding:
    """Fails on every other day."""
    (number,) = kept["n"].to_pylist()
    return Finding(number % 2 == 0, f"{day}: {number}", {"number": number})


@daily_asset(
    partitions_def=DAYS,
    contract={"kept": ROW, "rejected": ROW},
    drops_rows=True,
    dead_letter="rejected",
    checks=[is_even],
)
def kept(day: date) -> Result:
    """One row of three."""
    folder = Path(os.environ[FOLDER])
    with (folder / "calls").open("a") as file:
        file.write(f"{day}\n")
    kill = folder / "kill"
    if kill.exists() and kill.read_text() == str(day):
        kill.unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(float(os.environ[PAUSE]))  # a day takes so long at least
    rows = {"kept": numbers(day.day), "rejected": numbers(day.day, day.month)}
    return Result(iter([rows]), Accounting(read=3, kept=1, rejected=2))


def job() -> dg.JobDefinition:
    """Its steps run in the process of the run."""
    defs = dg.Definitions(
        [kept],
        resources={"io_manager": Impatient(root=str(Path(os.environ[FOLDER]) / "lake"))},
        jobs=[dg.define_asset_job("range", [kept], executor_def=dg.in_process_executor)],
    )
    return defs.resolve_job_def("range")


def main(folder: Path, tags: dict[str, str], parent: str | None) -> None:
    """One run, of this module by its name: loaded as a file it would be another one, with another code version."""
    from pipeline_assets_tests.orchestration import killed  # noqa: PLW0406 - as itself, not as __main__

    with open_instance(folder / "home") as instance:
        dg.execute_job(
            dg.reconstructable(killed.job),
            instance,
            run_config=QUIET,
            tags=tags,
            reexecution_options=dg.ReexecutionOptions(parent) if parent else None,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)
