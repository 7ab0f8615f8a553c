"""Two runs that make the same days of the same table at once: `python -m ... FOLDER ROLE ORDER`.

Before it returns the rows of a day for the first time, each waits until the other one is there too. Which of the two
publishes first the order says, a role; or it is drawn for each day with the order as seed, and sometimes they go on
together. Each writes rows of its own, many times the same.
"""

# No `from __future__ import annotations` here: Dagster looks at the annotation of `context` itself, not at its text.
import os
import random
import sys
import time
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import pyarrow as pa

from pipeline_assets import daily_asset
from pipeline_assets.orchestration.backfill.book import IN_PROCESS, Backfill, Book, new_id
from pipeline_assets.orchestration.backfill.facts import facts_of
from pipeline_assets.orchestration.backfill.progress import progress_of
from pipeline_assets.orchestration.backfill.workers import ThisProcess, carry_out
from pipeline_assets.orchestration.history.graph import daily_graph
from pipeline_assets.orchestration.process import PlannedRun, execute, open_instance
from pipeline_assets.partition import Partition
from pipeline_assets.rules.backfill import Ask, Mode, plan
from pipeline_assets.rules.plan_file import PlanFile, digest_of
from pipeline_assets.store.local import LocalStore
from pipeline_assets_tests.orchestration.lake import DAYS, ROW, Impatient, day, numbers
from pipeline_assets_tests.support.commits import version_of

BACKFILL, DAILY = "backfill", "daily"
NUMBERS = {BACKFILL: 1, DAILY: 2}
ROWS = 5000
LAST = 9
PATIENCE_SECONDS = 200


def definitions(folder: Path, role: str, order: str) -> dg.Definitions:
    """The table, made by one of the two."""
    store, met = LocalStore(folder / "lake"), set[date]()

    def meet(day: date) -> None:
        partition = Partition("contested", day)
        before = version_of(store, partition)
        (folder / "met" / f"{day}.{role}").touch()
        other = next(each for each in NUMBERS if each != role)
        wait_until((folder / "met" / f"{day}.{other}").exists)
        drawn = random.Random(f"{order} {day}").choice([BACKFILL, DAILY, "both"])
        if (order if order in NUMBERS else drawn) == other:
            wait_until(lambda: version_of(store, partition) != before)

    @daily_asset(partitions_def=DAYS, contract=ROW)
    def contested(day: date) -> pa.Table:
        with (folder / "calls").open("a") as calls:
            calls.write(f"{role} {day}\n")
        if day not in met:
            met.add(day)
            meet(day)
        return numbers(*[NUMBERS[role]] * ROWS)

    return dg.Definitions(
        [contested], resources={"io_manager": Impatient(root=str(folder / "lake"))}, executor=dg.in_process_executor
    )


def wait_until(done: object) -> None:
    """Look often, as this decides who is first."""
    assert callable(done)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not done():
        if time.monotonic() > deadline:
            os._exit(3)
        time.sleep(0.001)


def backfill(folder: Path, defs: dg.Definitions, instance: dg.DagsterInstance) -> bool:
    """All days, by a plan."""
    assets = defs.resolve_asset_graph()
    graph = daily_graph(assets)
    ask = Ask(Mode.SELECTIVE, ("contested",), ((day(0), day(LAST)),), why="at once", force=True)
    planned = plan(graph, ask, facts_of(instance, assets, LocalStore(folder / "lake"), {}))
    now = datetime.now(UTC)
    backfill = Backfill(new_id(now), now, IN_PROCESS, 30, 1, PlanFile(planned, now, digest_of(planned)))
    Book(instance).add(backfill)
    workers = [ThisProcess(defs, instance, lambda _: None)]
    dispatch = carry_out(
        graph, instance, backfill, progress_of(instance, graph, backfill), workers=workers, stop=lambda: False
    )
    return dispatch.is_over and not dispatch.failed and len(dispatch.done) == LAST + 1


def daily(defs: dg.Definitions, instance: dg.DagsterInstance) -> bool:
    """One run a day."""
    return all(
        execute(defs, PlannedRun((dg.AssetKey("contested"),), day(number), day(number)), instance).success
        for number in range(LAST + 1)
    )


def main(folder: Path, role: str, order: str) -> int:
    """0 if all days were made in the end."""
    defs = definitions(folder, role, order)
    with open_instance(folder / "home") as instance:
        return 0 if (backfill(folder, defs, instance) if role == BACKFILL else daily(defs, instance)) else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
