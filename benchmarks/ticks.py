"""Ticks of every sensor on a home with ten years of history, against one with a year of it.

Eight assets (the tables of the reference pipeline and two more), their landing zone and the SLA report, 3,650 days, a
record of every partition as runs write it, on SQLite. A tick is measured as the code server makes it: an instance
opened anew, the sensor evaluated, the instance closed; what opening alone takes is measured beside it. Cold is the
first tick of a process that has loaded the definitions. A tick with changes has 100 new materializations of `events`
to follow, in one stretch or every 30th day, which reaches 28 times as many days of what reads a window of 28.
"""

from __future__ import annotations

import logging
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import dagster as dg
import pyarrow as pa

from benchmarks.history import forgotten, land, make_history, rewritten
from benchmarks.measure import ROOT, CannotRunError, Figure, Target, number, table
from pipeline_assets import daily_asset
from pipeline_assets.definitions import build_definitions
from pipeline_assets.orchestration.changes.upstream_sensor import NAME
from pipeline_assets.orchestration.process import open_instance
from pipeline_assets.rules.contract import Column, Contract
from pipeline_assets.rules.windows import trailing
from pipeline_assets.settings import Settings

SHORT, LONG, CHANGED, APART = 365, 3650, 100, 30
PROCESSES, ROUNDS, CHANGED_ROUNDS, QUIET_TICKS, SETTLING_TICKS = 3, 10, 3, 3, 200
OPENED = "an instance opened"
TARGETS = (
    Target("idle, the slowest sensor", 100, "ms"),
    Target("idle, the slowest sensor, cold", 100, "ms"),
    Target("idle, 3,650 days / 365, the sensor that grows most", 1.1, "x"),
    Target("100 changed days in one stretch, cold", 1000, "ms"),
    Target("100 changed days, every 30th, cold", 1000, "ms"),
)


@dataclass(frozen=True, slots=True)
class Home:
    """Where a history lies; goes to other processes, unlike definitions."""

    folder: Path
    first: date

    def definitions(self) -> dg.Definitions:
        """The reference pipeline and two assets more, with all sensors."""
        days = dg.DailyPartitionsDefinition(str(self.first))
        counted = Contract((Column("rows", pa.int64()),))

        @daily_asset(partitions_def=days, contract=counted, ins={"daily_sales": trailing(days=7)})
        def weekly_sales(day: date, daily_sales: pa.Table) -> pa.Table:  # noqa: ARG001 - any rows do
            return pa.table({"rows": [daily_sales.num_rows]})

        @daily_asset(partitions_def=days, contract=counted, ins={"user_segments": trailing(days=28)})
        def segment_moves(day: date, user_segments: pa.Table) -> pa.Table:  # noqa: ARG001 - as above
            return pa.table({"rows": [user_segments.num_rows]})

        settings = Settings(landing=self.folder / "landing", store=self.folder / "lake", start=self.first)
        return dg.Definitions.merge(build_definitions(settings), dg.Definitions([weekly_sales, segment_moves]))


def run() -> list[Figure]:
    """Measure on the disk of TMPDIR."""
    with TemporaryDirectory(prefix="pipeline-bench-") as name:
        short, long = (_built(Path(name) / str(length), length) for length in (SHORT, LONG))
        idle: dict[str, tuple[Ticks, Ticks]] = {}
        for each in [*long.cursors, OPENED]:
            idle[each] = (Ticks(), Ticks())
            for _ in range(PROCESSES):
                for home, ticks in zip((short, long), idle[each], strict=True):
                    ticks.add(home, each, ROUNDS)
        changed = {
            "in one stretch": long.changed(long.days[LONG // 2 :][:CHANGED]),
            f"every {APART}th": long.changed(long.days[APART::APART][:CHANGED]),
        }
    columns = ["idle", f"{SHORT} days, best", f"{LONG} days, best", "median", "worst", "cold, best"]
    rows = [[each, _ms(min(at_short.warm)), *_described(at_long)] for each, (at_short, at_long) in idle.items()]
    print(table(columns, rows))
    columns = [f"{CHANGED} changed days", "best", "median", "worst", "cold, best", "runs requested"]
    rows = [[what, *_described(ticks), str(ticks.requests)] for what, ticks in changed.items()]
    print("\n" + table(columns, rows))
    sensors = [idle[each] for each in long.cursors]
    values = (
        1000 * max(min(ticks.warm) for _, ticks in sensors),
        1000 * max(min(ticks.cold) for _, ticks in sensors),
        max(min(at_long.warm) / min(at_short.warm) for at_short, at_long in sensors),
        *(1000 * min(ticks.cold) for ticks in changed.values()),
    )
    return [target.figure(value) for target, value in zip(TARGETS, values, strict=True)]


@dataclass
class Ticks:
    """Seconds of the first ticks of processes, and of later ones; the runs that each of them requests."""

    cold: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)
    requests: int = 0

    def add(self, built: Built, name: str, rounds: int) -> None:
        """Ticks of another process, all from the same cursor."""
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
            cursor = built.cursors.get(name)
            (first, *later), self.requests = fresh.submit(_ticks, built.home, name, cursor, rounds).result()
        self.cold.append(first)
        self.warm += later


@dataclass
class Built:
    """A home with a history, and by sensor the cursor with which it has nothing to do."""

    home: Home
    days: Sequence[date]
    cursors: dict[str, str | None]

    def changed(self, days: Sequence[date]) -> Ticks:
        """Ticks of the upstream sensor after `events` changed; then forget that."""
        ticks = Ticks()
        with forgotten(self.home.folder), rewritten(self.home.folder / "lake", "events", days):
            with open_instance(self.home.folder) as instance:
                for day in days:
                    instance.report_runless_asset_event(dg.AssetMaterialization("events", partition=str(day)))
            for _ in range(PROCESSES):
                ticks.add(self, NAME, CHANGED_ROUNDS)
        return ticks


def _built(folder: Path, length: int) -> Built:
    last = datetime.now(UTC).date() - timedelta(days=1)
    days = [last - timedelta(days=ago) for ago in range(length - 1, -1, -1)]
    folder.mkdir()
    (folder / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text().replace(" .data/", f" {folder}/.data/"))
    land(folder / "landing", days)
    home, started = Home(folder, days[0]), time.perf_counter()
    make_history(folder, home.definitions(), folder / "landing", days)
    bytes_ = sum(each.stat().st_size for each in (folder / ".data").rglob("*.db"))
    print(f"{length} days: {number(bytes_ / 1e6, 'MB')}, written in {time.perf_counter() - started:.0f} s", flush=True)
    repository = home.definitions().get_repository_def()
    cursors = {
        each.name: _settled(folder, repository, each.name)
        for each in repository.sensor_defs
        if not isinstance(each, dg.AutomationConditionSensorDefinition)  # Dagster's own
    }
    return Built(home, days, cursors)


def tick(folder: Path, repository: dg.RepositoryDefinition, name: str, cursor: str | None) -> tuple[float, Any]:
    """Evaluate a sensor as the code server does; the seconds that took, and what it gave."""
    with open_instance(folder) as opened:
        ref = opened.get_ref()
    sensor = repository.get_sensor_def(name)
    logging.disable(logging.INFO)  # what it says of each request
    started = time.perf_counter()
    with dg.build_sensor_context(
        instance_ref=ref, cursor=cursor, repository_def=repository, sensor_name=name
    ) as context:
        data = sensor.evaluate_tick(context)
    return time.perf_counter() - started, data


def _ticks(home: Home, name: str, cursor: str | None, rounds: int) -> tuple[list[float], int]:
    """Seconds of ticks in this process, and the runs that each of them requests."""
    repository = home.definitions().get_repository_def()
    if name == OPENED:
        return [_opened(home.folder) for _ in range(rounds)], 0
    ticks = [tick(home.folder, repository, name, cursor) for _ in range(rounds)]
    return [seconds for seconds, _ in ticks], len(ticks[0][1].run_requests or ())


def _opened(folder: Path) -> float:
    """Seconds of what every tick does before it asks anything."""
    started = time.perf_counter()
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        instance.get_run_records(limit=1)
    return time.perf_counter() - started


def _settled(folder: Path, repository: dg.RepositoryDefinition, name: str) -> str | None:
    """The cursor after some ticks that find nothing new; what they report is stored.

    Raises:
        CannotRunError: it requests runs, though everything is current.
    """
    cursor: str | None = None
    seconds: list[float] = []
    quiet = 0
    while quiet < QUIET_TICKS and len(seconds) < SETTLING_TICKS:
        elapsed, data = tick(folder, repository, name, cursor)
        seconds.append(elapsed)
        if data.run_requests:
            raise CannotRunError(f"{name} requests runs of what is current: {data.run_requests[0]}")
        with open_instance(folder) as instance:
            for event in data.asset_events:
                instance.report_runless_asset_event(event)
        quiet = 0 if data.asset_events or data.cursor != cursor else quiet + 1
        cursor = data.cursor
    print(f"{name}: came to rest after {len(seconds)} ticks, the slowest {_ms(max(seconds))}", flush=True)
    return cursor


def _described(ticks: Ticks) -> list[str]:
    return [_ms(value) for value in (min(ticks.warm), median(ticks.warm), max(ticks.warm), min(ticks.cold))]


def _ms(seconds: float) -> str:
    return number(1000 * seconds, "ms")
