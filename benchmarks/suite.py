"""Which benchmarks there are, and running them one after the other, each in a process of its own.

Exit status: 0 all ran, whatever their figures; 1 one could not run.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import platform
import shlex
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor

from benchmarks.measure import CannotRunError, Figure, SkippedError, Target, table

NAMES = (
    "write",
    "read",
    "overwrite",
    "range_run",
    "ticks",
    "planning",
    "ui_backfill",
    "backfill_year",
    "retail",
    "bigday",
    "import_time",
    "make_run",
    "contract_vs_pandera",
)


def targets(name: str) -> tuple[Target, ...]:
    """What the benchmark should reach."""
    found: tuple[Target, ...] = importlib.import_module(f"benchmarks.{name}").TARGETS
    return found


def measured(name: str) -> list[Figure]:
    """Run one benchmark in this process."""
    module = importlib.import_module(f"benchmarks.{name}")
    print(f"\n== {name} ==\n{(module.__doc__ or '').strip()}\n", flush=True)
    figures: list[Figure] = module.run()
    print("\n" + table(["figure", "measured", "target", ""], [figure.row() for figure in figures]), flush=True)
    return figures


def main() -> int:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure; never assert.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}; all unless given")
    parser.add_argument("--list", action="store_true", help="list the benchmarks and their targets")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(NAMES))
    if unknown:
        parser.error(f"no benchmark is named {', '.join(unknown)}; there are {', '.join(NAMES)}")
    if options.list:
        rows = [[name, target.what, target] for name in NAMES for target in targets(name)]
        print(table(["benchmark", "figure", "target"], rows))
        return 0
    rows, failed, started = [], [], time.perf_counter()
    for name in options.names or NAMES:
        # A fresh process each: what one leaves in memory pools and caches is not measured by the next.
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
            try:
                rows += [[name, *figure.row()] for figure in fresh.submit(measured, name).result()]
            except SkippedError as reason:
                print(f"skipped: {reason}")
                rows += [[name, target.what, "skipped", target, ""] for target in targets(name)]
            except Exception as error:  # noqa: BLE001 - whatever stops one benchmark does not stop the others
                print(error if isinstance(error, CannotRunError) else traceback.format_exc(), file=sys.stderr)
                failed.append(name)
                rows += [[name, target.what, "failed", target, ""] for target in targets(name)]
    machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    load = "/".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"\n$ make bench{' ARGS=' + shlex.quote(' '.join(options.names)) if options.names else ''}")
    print(f"# {machine}, {(time.perf_counter() - started) / 60:.1f} minutes, load over 1/5/15 minutes {load}")
    print(table(["benchmark", "figure", "measured", "target", ""], rows))
    return 1 if failed else 0
