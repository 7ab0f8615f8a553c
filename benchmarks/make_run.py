"""`make run` once .venv is there: `pipeline demo --days 60`, then `pipeline run`, each a process, from nothing.

Held against its target. Sixty days until yesterday, which is what a newcomer sees.
"""

from __future__ import annotations

from benchmarks.measure import PIPELINE, Figure, Target, empty_project, phase_table, run_child

TARGETS = (Target("seconds", 60, "s"),)


def run() -> list[Figure]:
    """Measure on the disk of TMPDIR."""
    with empty_project() as folder:
        demo = run_child([PIPELINE, "demo", "--days", "60"], folder)
        ran = run_child([PIPELINE, "run"], folder)
    print(f"pipeline demo: {demo}\npipeline run: {ran}\n\n{phase_table(ran.phases)}")
    return [TARGETS[0].figure(demo.seconds + ran.seconds)]
