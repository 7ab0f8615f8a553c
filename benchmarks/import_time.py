"""Importing `pipeline_assets.definitions`, beyond what `import dagster` takes in the same process.

Every run of every asset is a new process and pays for it. Each round is a fresh interpreter that imports the one, then
the other, and builds the definitions from the default settings with an empty landing zone. Files are in the page cache,
byte code is compiled.
"""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.measure import ROOT, Figure, Target, Times, clean_environment, compared, empty_project

ROUNDS = 9
TARGETS = (Target("import of definitions beyond dagster", 0.5, "s"),)
CODE = """
import json, sys, time
begun = time.perf_counter()
import dagster
between = time.perf_counter()
import pipeline_assets.definitions
print(json.dumps([between - begun, time.perf_counter() - between]))
"""


def run() -> list[Figure]:
    """Measure; the first round, which may compile byte code, is not counted."""
    with empty_project() as folder:
        rounds = [_round(str(folder)) for _ in range(ROUNDS + 1)][1:]
    dagster, ours = (Times([each[index] for each in rounds]) for index in (0, 1))
    print(compared(0.001, "ms", import_dagster=dagster, import_definitions=ours))
    return [TARGETS[0].figure(ours.best)]


def _round(folder: str) -> list[float]:
    environment = {**clean_environment(), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    seconds: list[float] = json.loads(done.stdout)
    return seconds
