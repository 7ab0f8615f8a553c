"""All of online_retail, raw to segments, in one range run: `pipeline run` in a process of its own, on an empty lake.

374 calendar days, 305 of which have files, 541,909 invoice lines. Held against nothing but its targets. Peak memory is
what the system accounts to the process. The data set is not part of the project: it is looked for in
../shared/data/online_retail.tar.xz, and the benchmark is skipped where it is not.
"""

from __future__ import annotations

import tarfile

from benchmarks.measure import PIPELINE, ROOT, Figure, SkippedError, Target, empty_project, phase_table, run_child

ARCHIVE = ROOT.parent / "shared" / "data" / "online_retail.tar.xz"
FIRST, LAST = "2010-12-01", "2011-12-09"
TARGETS = (Target("seconds", 90, "s"), Target("peak memory", 800, "MB"))


def run() -> list[Figure]:
    """Measure on the disk of TMPDIR."""
    if not ARCHIVE.exists():
        raise SkippedError(f"{ARCHIVE} is not there")
    with empty_project() as folder:
        with tarfile.open(ARCHIVE) as archive:
            archive.extractall(folder, filter="data")
        ran = run_child(
            [PIPELINE, "run", "--from", FIRST, "--to", LAST],
            folder,
            PIPELINE_LANDING=str(folder / "online_retail" / "landing"),
            PIPELINE_SOURCE=str(folder / "sources" / "online_retail.sql"),
            PIPELINE_TIMEZONE="Europe/London",
        )
    print(f"{ran}\n\n{phase_table(ran.phases)}")
    return [TARGETS[0].figure(ran.seconds), TARGETS[1].figure(ran.peak_bytes / 1e6)]
