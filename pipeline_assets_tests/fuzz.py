"""`make fuzz`: the properties with random examples, round after round, until the time is up.

Each round is a session of pytest with a seed of its own. What falls is shown by pytest as always; after it stands the
command that repeats that round.
"""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree as ET

from pipeline_assets_tests.support.properties import TIMES_VARIABLE

ROOT = Path(__file__).resolve().parents[1]
OUT_OF_TIME = 2
"""pytest's exit status where --session-timeout ended a session, whatever its tests came to."""


def main() -> int:
    """Exit status 0 if no property fell, 1 if one did, pytest's own if it could not run."""
    parser = argparse.ArgumentParser(prog="make fuzz ARGS=...", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="begin no test after so many (default: 10)")
    parser.add_argument("--times", type=int, default=1, help="as many examples as usual in a round (default: 1)")
    parser.add_argument("--seed", type=int, help="of the first round; one round is all then")
    parser.add_argument("-k", dest="chosen", default="", help="as pytest's -k")
    asked = parser.parse_args()

    deadline, rounds, tried = time.monotonic() + 60 * asked.minutes, 0, 0
    while rounds == 0 or (asked.seed is None and time.monotonic() < deadline):
        seed = secrets.randbelow(2**32) if asked.seed is None else asked.seed
        status, properties = _round(seed, asked.times, asked.chosen, seconds=max(1.0, deadline - time.monotonic()))
        rounds, tried = rounds + 1, tried + properties
        if status:
            again = f"--seed {seed} --times {asked.times}" + (f" -k '{asked.chosen}'" if asked.chosen else "")
            sys.stdout.write(f'\nRound {rounds} failed. To repeat it: make fuzz ARGS="{again} --minutes 60"\n')
            return status
    sys.stdout.write(f"\nRounds: {rounds}, properties tried in them: {tried}, failed: 0, last seed: {seed}.\n")
    return 0


def _round(seed: int, times: int, chosen: str, *, seconds: float) -> tuple[int, int]:
    """Exit status, 0 also where the time was up; and how many properties were tried."""
    sys.stdout.write(f"\nSeed {seed}, {times} x the usual examples, {seconds / 60:.1f} minutes left\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-n", "auto", "-m", "hypothesis", "-k", chosen]
        command += ["--hypothesis-profile", "fuzz", "--hypothesis-seed", str(seed), "--junit-xml", str(report)]
        # A property with many examples may take hours.
        command += ["--timeout", "0", "-o", "faulthandler_timeout=0", "--session-timeout", f"{seconds:.0f}"]
        environment = {**os.environ, TIMES_VARIABLE: str(times)}
        status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        if status not in (0, OUT_OF_TIME) or not report.exists():
            return status, 0
        suite = ET.parse(report).getroot()[0]  # noqa: S314 - pytest wrote it a moment ago
    fell = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
    return min(fell, 1), int(suite.get("tests", 0))


if __name__ == "__main__":
    sys.exit(main())
