"""Plans of a year and of ten years of eight tables, from the store, the event log and the landing zone on.

The reference pipeline and two tables more, a head, a record and its copy in the event log of every partition as runs
write them, on SQLite, and landing files that nobody touched since. All that `pipeline plan` looks up and decides is in
a figure, once the definitions are loaded: an instance opened anew, facts, plan. Beside it what the event log's file
takes by itself: plain sqlite3 reading the same rows, and nothing done with them.
"""

from __future__ import annotations

import resource
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import dagster as dg

from benchmarks.history import land, make_history
from benchmarks.measure import ROOT, CannotRunError, Figure, Target, compared, interleaved, number
from benchmarks.ticks import LONG, SHORT, Home
from pipeline_assets.assets.raw_events import LANDING
from pipeline_assets.orchestration.backfill.facts import facts_of
from pipeline_assets.orchestration.history.graph import daily_graph
from pipeline_assets.orchestration.process import open_instance
from pipeline_assets.rules.backfill import Action, Ask, Mode, Plan, plan
from pipeline_assets.rules.graph import Graph
from pipeline_assets.store.landing import LandingZone
from pipeline_assets.store.local import LocalStore

TABLES, ROUNDS = 8, 5
NEWEST = """
    SELECT event FROM event_logs JOIN (
        SELECT max(id) AS newest FROM event_logs
        WHERE asset_key = ? AND dagster_event_type = 'ASSET_MATERIALIZATION' AND partition IS NOT NULL
        GROUP BY partition
    ) ON id = newest
"""
TARGETS = (
    Target(f"{TABLES} assets x {SHORT} days, all to be computed", 1, "s"),
    Target(f"{TABLES} assets x {LONG} days, all to be computed", 2, "s"),
    Target(f"{TABLES} assets x {LONG} days, nothing to be done", 2, "s"),
    Target(f"nothing to be done, {LONG} days / sqlite3 reading its rows", 10, "x"),
    Target(f"nothing to be done, {LONG} days, without an event log / with it", 3, "x"),
)


def run() -> list[Figure]:
    """Measure on the disk of TMPDIR."""
    with TemporaryDirectory(prefix="pipeline-bench-") as name:
        short, long = (_built(Path(name) / str(length), length) for length in (SHORT, LONG))
        (all_short,) = interleaved(ROUNDS, lambda: short.planned(force=True))
        all_long, nothing, rows = interleaved(
            ROUNDS, lambda: long.planned(force=True), lambda: long.planned(force=False), long.read_rows
        )
        forgetful = long.without_event_log()
        (bare,) = interleaved(ROUNDS, lambda: forgetful.planned(force=False))
    times = {"sqlite3": rows, f"{SHORT}_days": all_short, f"{LONG}_days": all_long, "nothing_to_be_done": nothing}
    print(compared(1, "s", **times, without_event_log=bare))
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"peak memory of the process {number(peak_bytes / 1e6, 'MB')}")
    values = (all_short.best, all_long.best, nothing.best, nothing.best / rows.best, bare.best / nothing.best)
    return [target.figure(value) for target, value in zip(TARGETS, values, strict=True)]


@dataclass(frozen=True, slots=True)
class Built:
    """A home with a history in which everything is current, and its definitions."""

    folder: Path
    home: Path
    defs: dg.Definitions
    graph: Graph

    def without_event_log(self) -> Built:
        """The same lake in a home in which nothing has happened."""
        home = self.folder / "new_home"
        home.mkdir()
        _write_settings(home)
        return replace(self, home=home)

    def planned(self, *, force: bool) -> Plan:
        """The plan of the whole history.

        Raises:
            CannotRunError: it is not what the history was made for.
        """
        leads = tuple(lead for lead in self.graph.leads() if lead not in self.graph.sources)
        zone, store = LandingZone(self.folder / "landing"), LocalStore(self.folder / "lake")
        with open_instance(self.home) as instance:
            facts = facts_of(instance, self.defs.resolve_asset_graph(), store, {LANDING: zone})
        planned = plan(self.graph, Ask(Mode.FULL, leads, (), force=force), facts)
        days = len(facts.records[LANDING])
        wanted = days * len(leads) if force else 0
        if len(planned.partitions(Action.COMPUTE)) != wanted or sum(map(len, facts.heads.values())) != days * TABLES:
            raise CannotRunError(
                f"of {days} days of {len(leads)} steps {len(planned.partitions(Action.COMPUTE))} are to be computed"
            )
        return planned

    def read_rows(self) -> int:
        """The bytes of all newest events."""
        with closing(sqlite3.connect(_database(self.folder, "index.db"))) as connection:
            return sum(
                len(event)
                for table in self.graph.tables
                for (event,) in connection.execute(NEWEST, (dg.AssetKey(table.split("/")).to_string(),))
            )


def _built(folder: Path, length: int) -> Built:
    last = datetime.now(UTC).date() - timedelta(days=1)
    days = [last - timedelta(days=ago) for ago in range(length - 1, -1, -1)]
    folder.mkdir()
    _write_settings(folder)
    land(folder / "landing", days)
    began = time.perf_counter()
    defs = _eight_tables(folder, days[0])
    graph = daily_graph(defs.resolve_asset_graph())
    make_history(folder, defs, folder / "landing", days)
    with closing(sqlite3.connect(_database(folder, "runs.db"))) as connection:
        # The runs were dated back; they would have read the files before these were there.
        connection.execute("UPDATE runs SET start_time = ?", (time.time(),))
        connection.commit()
    print(f"{length} days: written in {time.perf_counter() - began:.0f} s", flush=True)
    return Built(folder, folder, defs, graph)


def _write_settings(home: Path) -> None:
    (home / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text().replace(" .data/", f" {home}/.data/"))


def _eight_tables(folder: Path, first: date) -> dg.Definitions:
    """The reference pipeline without its report, and two tables more."""
    every = Home(folder, first).definitions()
    daily = daily_graph(every.resolve_asset_graph())
    assets = [
        each
        for each in every.assets or ()
        if not (isinstance(each, dg.AssetsDefinition) and dg.AssetKey("sla_report") in each.keys)
    ]
    defs = dg.Definitions(assets, resources=every.resources, executor=dg.in_process_executor)
    found = daily_graph(defs.resolve_asset_graph())
    if len(found.tables) - len(found.sources) != TABLES:
        raise CannotRunError(f"there are {len(found.tables) - len(found.sources)} tables, of {len(daily.tables)}")
    return defs


def _database(folder: Path, name: str) -> Path:
    (found,) = (folder / ".data").rglob(name)
    return found
