"""A lake and a Dagster home in which years of days of a pipeline have been computed, as they look then.

One day is computed for real, step by step as the sensors request it. Its rows in the event log and among the runs are
then copied for every other day, with that day's dates, digests, inputs and run ids: through the public API an event
takes 9 ms, and there are some fifty a day. What is copied is whatever Dagster wrote, so the sizes are real ones. Heads
of the lake are links to that of the last day, each with a record of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from benchmarks.measure import CannotRunError
from pipeline_assets.codec import codec
from pipeline_assets.orchestration.changes.landing_sensor import report
from pipeline_assets.orchestration.history.event_log import COMMIT_NAMES
from pipeline_assets.orchestration.history.graph import daily_graph, key_of
from pipeline_assets.orchestration.history.materializations import COMMIT
from pipeline_assets.orchestration.process import PlannedRun, execute, failures_of, open_instance
from pipeline_assets.partition import Partition
from pipeline_assets.record import Record
from pipeline_assets.rules.graph import Graph
from pipeline_assets.store.landing import LandingZone
from pipeline_assets.store.local import LocalStore
from pipeline_assets.store.local.records import PartitionRecords, path_of, read_records
from pipeline_assets.store.protocol import FILE_NAME, hive_path

HEADER = "event_id,user_id,event_type,amount,event_time"
RUN_HOUR = time(1, tzinfo=UTC)
"""When the day after begins to be computed: before anything is due."""
SHIFTED_COLUMNS = ("timestamp", "event_timestamp", "create_timestamp", "update_timestamp")
Row = dict[str, Any]


def land(landing: Path, days: Sequence[date]) -> None:
    """A file of three events for every day."""
    for day in days:
        folder = landing / f"dt={day}"
        folder.mkdir(parents=True)
        lines = (f"{day}-{number},u{number},purchase,{number}.50,{day}T12:00:0{number}Z" for number in range(3))
        (folder / "shop.csv").write_text("\n".join((HEADER, *lines, "")))


def make_history(folder: Path, defs: dg.Definitions, landing: Path, days: Sequence[date]) -> None:
    """Compute the last of the days in the home that `folder` describes, and make it the history of all of them.

    Args:
        landing: holds every day. The lake is `folder / "lake"`.
    """
    graph = daily_graph(defs.resolve_asset_graph())
    zone = LandingZone(landing)
    landed = {day: zone.fingerprint(day, zone.files(day)) for day in days}
    with open_instance(folder) as instance:
        for table in graph.sources:
            instance.report_runless_asset_event(report(table, days[-1], landed[days[-1]]))
        for lead in dict.fromkeys(map(graph.lead, graph.tables)):
            if lead not in graph.sources:
                result = execute(
                    defs, PlannedRun(tuple(key_of(each) for each in graph.steps[lead]), days[-1], days[-1]), instance
                )
                if not result.success:
                    raise CannotRunError("\n".join(failures_of(result)))
    copies = Copies(graph, days, landed)
    copies.fill_lake(folder / "lake")
    copies.fill(_storage(folder) / "runs" / "index.db", "event_logs", "asset_event_tags", "asset_check_executions")
    copies.fill(_storage(folder) / "runs.db", "runs", "run_tags")


@contextmanager
def forgotten(folder: Path) -> Iterator[None]:
    """Afterwards the event log has never heard of what was reported meanwhile."""
    with closing(sqlite3.connect(_storage(folder) / "runs" / "index.db")) as connection:
        (newest,) = connection.execute("SELECT max(id) FROM event_logs").fetchone()
        yield
        connection.execute("DELETE FROM event_logs WHERE id > ?", (newest,))
        connection.commit()


@contextmanager
def rewritten(root: Path, table: str, days: Sequence[date]) -> Iterator[None]:
    """Meanwhile these days of a lake have other digests."""
    paths = [path_of(root, Partition(table, day)) for day in days]
    before = [each.read_bytes() for each in paths]
    for path in paths:
        made = read_records(path).next
        if made is None:
            raise CannotRunError(f"{path} holds no record")
        other = replace(made, digest=f"{made.digest} changed", write_id=f"{made.write_id} changed")
        path.write_bytes(codec(PartitionRecords).dump_json(PartitionRecords(next=other)))
    yield
    for path, content in zip(paths, before, strict=True):
        path.write_bytes(content)


def _storage(folder: Path) -> Path:
    return folder / ".data" / "dagster" / "history"


@dataclass
class Copies:
    """Rows of the last day, for each day.

    Args:
        landed: fingerprints of the files.
    """

    graph: Graph
    days: Sequence[date]
    landed: Mapping[date, str]
    _runs: dict[tuple[str, date], str] = field(default_factory=dict)
    _events: dict[tuple[int, date], int] = field(default_factory=dict)
    _commits: dict[tuple[str, date], dict[str, str]] = field(default_factory=dict)
    """What the event log's copies name the commits by."""
    _began: float = 0.0

    def fill_lake(self, root: Path) -> None:
        """Give every day a head and a record."""
        for table in self.graph.tables:
            if table in self.graph.sources:
                continue
            last = Partition(table, self.days[-1])
            head, made = root / hive_path(last) / FILE_NAME, read_records(path_of(root, last)).next
            if made is None:
                raise CannotRunError(f"{last} has no record")
            for day in self.days:
                partition = Partition(table, day)
                link = root / hive_path(partition) / FILE_NAME
                if day != last.key:
                    link.parent.mkdir()
                    os.link(head, link)
                record = self._record(made, table, day)
                records = path_of(root, partition)
                records.write_bytes(codec(PartitionRecords).dump_json(PartitionRecords(next=record)))
                seen = LocalStore(root).look([partition])[partition]
                named = replace(record, record_version=seen.record)
                self._commits[table, day] = {name: getattr(named, name) for name in COMMIT_NAMES}

    def _record(self, made: Record, table: str, day: date) -> Record:
        moved = timedelta(days=(day - self.days[-1]).days)
        return replace(
            made,
            digest=self._digest(table, day),
            inputs={
                name: {date.fromisoformat(each): digest for each, digest in read.items()}
                for name, read in self._inputs(table, day).items()
            },
            recorded_at=made.recorded_at + moved,
            # The landing files of all days were written now.
            began_at=made.began_at,
            changed_at=made.changed_at + moved,
            first_at=made.first_at + moved,
            write_id=self._digest(f"write {table}", day),
            step=self._digest(f"step {self.graph.lead(table)}", day),
        )

    def fill(self, database: Path, *tables: str) -> None:
        """Replace the rows of some tables by those of all days, in one transaction."""
        with closing(sqlite3.connect(database, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            connection.execute("BEGIN")
            for table in tables:
                rows = _rows(connection, table)
                if table == "event_logs":
                    self._began = min(json.loads(row["event"])["timestamp"] for row in rows)
                connection.execute(f"DELETE FROM {table}")
                marks = ", ".join(f":{name}" for name in rows[0])
                copies = self._event_copies(rows) if table == "event_logs" else self._copies(rows)
                connection.executemany(f"INSERT INTO {table} VALUES ({marks})", copies)
            connection.execute("COMMIT")

    def _copies(self, rows: Sequence[Row]) -> Iterator[Row]:
        number = 0
        for day in self.days:
            for row in rows:
                number += 1
                copy = self._moved(row, day)
                for name in ("event_id", "evaluation_event_storage_id", "materialization_event_storage_id"):
                    if copy.get(name) is not None:
                        copy[name] = self._events[copy[name], day]
                yield {**copy, "id": number}

    def _event_copies(self, rows: Sequence[Row]) -> Iterator[Row]:
        number = 0
        for day in self.days:
            for row in rows:
                number += 1
                self._events[row["id"], day] = number
                copy = self._moved(row, day)
                if row["dagster_event_type"] == "ASSET_MATERIALIZATION":
                    copy["event"] = self._materialization(copy["event"], json.loads(row["asset_key"])[-1], day)
                yield {**copy, "id": number}

    def _moved(self, row: Row, day: date) -> Row:
        """The row with another day in the place of the last, and run and times to go with it."""
        copy = dict(row)
        seconds = datetime.combine(day + timedelta(days=1), RUN_HOUR).timestamp() - self._began
        for name, value in row.items():
            if name in SHIFTED_COLUMNS and value:
                copy[name] = str(datetime.fromisoformat(value) + timedelta(seconds=seconds))
            elif name in ("start_time", "end_time") and value:
                copy[name] = value + seconds
            elif isinstance(value, str):
                copy[name] = value.replace(str(self.days[-1]), str(day))
        if run_id := row.get("run_id"):
            other = self._run_id(run_id, day)
            copy = {
                name: value.replace(run_id, other) if isinstance(value, str) else value for name, value in copy.items()
            }
        if "event" in row:
            before = json.loads(row["event"])["timestamp"]
            copy["event"] = copy["event"].replace(f'"timestamp": {before}', f'"timestamp": {before + seconds}')
        return copy

    def _run_id(self, run_id: str, day: date) -> str:
        return self._runs.setdefault((run_id, day), str(uuid.uuid5(uuid.NAMESPACE_OID, f"{run_id}{day}")))

    def _materialization(self, event: str, table: str, day: date) -> str:
        entry = json.loads(event)
        metadata = entry["dagster_event"]["event_specific_data"]["materialization"]["metadata_entries"]
        for each in metadata:
            if each["label"] == "digest":
                each["entry_data"]["text"] = self._digest(table, day)
            if each["label"] == "inputs":
                each["entry_data"]["data"] = self._inputs(table, day)
            if each["label"] == COMMIT:
                each["entry_data"]["data"] = self._commits[table, day]
        metadata[:] = [each for each in metadata if each["label"] != "inputs_missing"]
        return json.dumps(entry)

    def _inputs(self, table: str, day: date) -> dict[str, dict[str, str]]:
        within = range(self.days[0].toordinal(), self.days[-1].toordinal() + 1)
        return {
            name: {
                str(each): self._digest(name, each) for each in window.upstream_of(day) if each.toordinal() in within
            }
            for name, window in self.graph.reads(self.graph.lead(table))
        }

    def _digest(self, table: str, day: date) -> str:
        if table in self.graph.sources:
            return self.landed[day]
        return hashlib.blake2b(f"{table}{day}".encode(), digest_size=16).hexdigest()


def _rows(connection: sqlite3.Connection, table: str) -> list[Row]:
    found = connection.execute(f"SELECT * FROM {table} ORDER BY id")
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found]
