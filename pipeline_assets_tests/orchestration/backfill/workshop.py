"""Definitions of a code server whose assets do nothing, and keep a journal of when they did: `Workshop` reads it.

`events` feeds `sales` of the same day and `features` of three days, which feed `segments` of the same day.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa

from pipeline_assets import ParquetIOManager, daily_asset
from pipeline_assets.orchestration.history.graph import daily_graph
from pipeline_assets.rules.contract import Column, Contract
from pipeline_assets.rules.graph import Graph
from pipeline_assets.rules.windows import same_day, trailing

MODULE = "pipeline_assets_tests.orchestration.backfill.workshop"
FIRST = date(2024, 2, 27)
ROOT, DAYS_PER_RUN = "WORKSHOP_ROOT", "WORKSHOP_DAYS_PER_RUN"
LONGEST_HOLD_SECONDS = 200
NUMBER = Contract((Column("n", pa.int64()),))
WINDOW_DAYS = 3


def day(number: int) -> date:
    """The day of that number, the history's first being 0."""
    return FIRST + timedelta(days=number)


@dataclass(frozen=True, slots=True)
class Workshop:
    """What happens in it, and what is made to happen."""

    root: Path

    def settings(self, *, days_per_run: int | None = None) -> dict[str, str]:
        """Of the code server."""
        return {ROOT: str(self.root), DAYS_PER_RUN: str(days_per_run or "")}

    def break_(self, table: str, number: int) -> Path:
        """The partition fails as long as this file is there."""
        return self._file("broken", table, number)

    def hold(self, table: str, number: int) -> Path:
        """The partition waits as long as this file is there."""
        return self._file("held", table, number)

    def ask(self, table: str, number: int) -> None:
        """A sensor requests a run of the partition."""
        self._file("asked", table, number)

    def journal(self) -> list[tuple[str, str, int]]:
        """What began, was done or failed: word, table, number of the day; in this order."""
        path = self.root / "journal"
        lines = path.read_text().splitlines() if path.exists() else []
        return [
            (word, table, (date.fromisoformat(day) - FIRST).days)
            for word, table, day in (each.split() for each in lines)
        ]

    def _file(self, kind: str, table: str, number: int) -> Path:
        path = self.root / kind / f"{table}.{day(number)}"
        path.parent.mkdir(exist_ok=True)
        path.touch()
        return path


def work(root: Path, table: str, day: date) -> pa.Table:
    """Make one partition."""
    name = f"{table}.{day}"

    def note(word: str) -> None:
        with (root / "journal").open("a") as journal:  # one short write, whole among those of other processes
            journal.write(f"{word} {table} {day}\n")

    note("began")
    until = time.monotonic() + LONGEST_HOLD_SECONDS
    while (root / "held" / name).exists() and time.monotonic() < until:
        time.sleep(0.05)
    if (root / "broken" / name).exists():
        note("failed")
        raise ValueError("broken on purpose")
    note("done")
    return pa.table({"n": [day.toordinal()]})


def definitions(root: Path, *, days_per_run: int | None = None) -> dg.Definitions:
    """The assets, and a sensor that requests what `Workshop.ask` says."""
    policy = dg.BackfillPolicy.multi_run(days_per_run) if days_per_run else dg.BackfillPolicy.single_run()

    def asset(function: Callable[..., Any], **ins: Any) -> dg.AssetsDefinition:
        return daily_asset(
            function,
            partitions_def=dg.DailyPartitionsDefinition(FIRST.isoformat()),
            contract=NUMBER,
            ins=ins,
            backfill_policy=policy,
            code_version="1",
        )

    def events(day: date) -> pa.Table:
        return work(root, "events", day)

    def sales(day: date, events: pa.Table) -> pa.Table:
        return work(root, "sales", day)

    def features(day: date, events: pa.Table) -> pa.Table:
        return work(root, "features", day)

    def segments(day: date, features: pa.Table) -> pa.Table:
        return work(root, "segments", day)

    @dg.sensor(
        name="daily",
        asset_selection=dg.AssetSelection.all(),
        minimum_interval_seconds=1,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def daily() -> Any:
        for path in sorted((root / "asked").glob("*")):
            table, day = path.name.split(".")
            yield dg.RunRequest(run_key=path.name, asset_selection=[dg.AssetKey(table)], partition_key=day)

    return dg.Definitions(
        [
            asset(events),
            asset(sales, events=same_day()),
            asset(features, events=trailing(days=WINDOW_DAYS)),
            asset(segments, features=same_day()),
        ],
        sensors=[daily],
        resources={"io_manager": ParquetIOManager(root=str(root / "lake"))},
        executor=dg.in_process_executor,
    )


def graph() -> Graph:
    """Of the assets."""
    return daily_graph(definitions(Path("unused")).resolve_asset_graph())


if ROOT in os.environ:
    if (Path(os.environ[ROOT]) / "unloadable").exists():
        raise ValueError("a mistake in the code")
    defs = definitions(Path(os.environ[ROOT]), days_per_run=int(os.environ[DAYS_PER_RUN] or 0) or None)
