"""What Dagster knows of partitions: the newest record of each, as the rules read it; and what is being made.

Bounded by what is asked for: no query reads a history, but the one that is there to do so.
"""

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import lru_cache
from itertools import takewhile
from typing import Any

import dagster as dg

from pipeline_assets.orchestration.history.graph import key_of
from pipeline_assets.orchestration.history.materializations import (
    BYTES,
    COMMIT,
    ROWS,
    LoggedMaterialization,
    newest,
    of_record,
    with_ids,
)
from pipeline_assets.record import Record
from pipeline_assets.rules.graph import Graph

COMMIT_NAMES = ("write_id", "step", "version", "record_version", "file")
"""Fields of a record that name its commit: in the metadata `commit`."""
REPORTS_PER_PARTITION = 50
"""How many reports without a digest may lie above the newest one that has it."""


_day_of = lru_cache(maxsize=1 << 14)(date.fromisoformat)
"""A plan of ten years reads the same days a hundred times."""


@dataclass(slots=True)
class EventLog:
    """Reads the records that an instance has.

    Args:
        graph: names of upstream tables are resolved in it.
    """

    instance: dg.DagsterInstance
    graph: Graph
    _parsed: dict[tuple[str, int], Record] = field(default_factory=dict)
    _started: dict[str, dict[str | None, datetime]] = field(default_factory=dict)
    _inputs: dict[str, dict[str, str]] = field(default_factory=dict)

    def records(self, table: str, days: Collection[date]) -> dict[date, Record]:
        """The newest record of each day that has one; of a source the newest that has a digest."""
        if not days:
            return {}
        key = key_of(table)
        newest = self.instance.get_latest_storage_id_by_partition(
            key, dg.DagsterEventType.ASSET_MATERIALIZATION, {day.isoformat() for day in days}
        )
        fresh = [each for each in newest.values() if (table, each) not in self._parsed]
        for stored in with_ids(self.instance, key, fresh):
            self._parsed[table, stored.storage_id] = self._record_of(table, stored)
        found = {
            date.fromisoformat(day): self._parsed[table, storage_id]
            for day, storage_id in newest.items()
            if (table, storage_id) in self._parsed  # else it was wiped a moment ago
        }
        return self._with_digests(table, found)

    def all_records(self, table: str, *, beginnings: bool = True) -> dict[date, Record]:
        """Give the newest record of every day that has one, in as little time as the storage allows.

        Args:
            beginnings: of steps are looked up where a record does not tell all inputs, a run at a time. Without, such a
                step is said to have begun when it was recorded.
        """
        found = {}
        for stored in newest(self.instance, key_of(table)):
            with suppress(ValueError):  # a report of a partition that cannot exist
                found[date.fromisoformat(stored.partition or "")] = self._record_of(
                    table, stored, beginnings=beginnings
                )
        return self._with_digests(table, found)

    def _with_digests(self, table: str, found: dict[date, Record]) -> dict[date, Record]:
        """Of a source, the newest with a digest in the place of reports that have none."""
        if table in self.graph.sources:
            for day in [day for day, record in found.items() if record.digest is None]:
                found.pop(day)
                older = (each for each in self._newest(table, day) if each.digest is not None)
                if (with_digest := next(older, None)) is not None:
                    found[day] = with_digest
        return found

    def changed(self, table: str, day: date) -> Record | None:
        """The record that brought the rows which the day has: those after it are of the same."""
        records = self._newest(table, day)
        if table in self.graph.sources:
            records = [each for each in records if each.digest is not None]
        same = list(takewhile(lambda each: each.digest is not None and records[0].is_of(each.digest), records))
        # A run may have replaced a commit that no record tells of, by the rows of the record before.
        brought = [each for each in same if each.run_id and not each.unchanged]
        return next(iter(brought or same[-1:]), None)

    def _newest(self, table: str, day: date) -> list[Record]:
        """Records of one partition, the newest first."""
        filtered = dg.AssetRecordsFilter(key_of(table), asset_partitions=[day.isoformat()])
        records = self.instance.fetch_materializations(filtered, limit=REPORTS_PER_PARTITION).records
        return [self._record_of(table, of_record(each)) for each in records]

    def _record_of(self, table: str, stored: LoggedMaterialization, *, beginnings: bool = True) -> Record:
        values = stored.metadata
        digest, inputs = values.get("digest"), values.get("inputs")
        if table not in self._inputs:
            reads = self.graph.reads(self.graph.lead(table))
            self._inputs[table] = {name.rpartition("/")[2]: name for name, _ in reads}
        upstream = self._inputs[table]
        read = {
            upstream[name]: days
            for name, each in (inputs if isinstance(inputs, dict) else {}).items()
            if name in upstream and (days := _digests(each)) is not None
        }
        recorded_at = datetime.fromtimestamp(stored.timestamp, UTC)
        # What is read is told by what was recorded; where it was not, by when the reading began.
        is_told = read.keys() >= set(upstream.values())
        began_at = recorded_at if is_told or not beginnings else self._began_at(stored) or recorded_at
        code_version = values.get("code_version", stored.code_version)
        return Record(
            stored.storage_id,
            _text(digest),
            values.get("unchanged") is True,
            read,
            recorded_at,
            began_at,
            _text(code_version),
            _whole(values.get(ROWS)),
            _whole(values.get(BYTES)),
            seconds if isinstance(seconds := values.get("seconds"), float) else None,
            stored.run_id,
            **_names_of_commit(values.get(COMMIT)),
        )

    def _began_at(self, stored: LoggedMaterialization) -> datetime | None:
        """When the step that made the record was first started; None if no run did."""
        if not stored.run_id:
            return None
        if stored.run_id not in self._started:
            self._started[stored.run_id] = step_starts(self.instance, stored.run_id)
        return self._started[stored.run_id].get(stored.step_key)


def step_starts(instance: dg.DagsterInstance, run_id: str) -> dict[str | None, datetime]:
    """Say when each step of a run was first started."""
    starts = instance.all_logs(run_id, of_type={dg.DagsterEventType.STEP_START})
    return {each.step_key: datetime.fromtimestamp(each.timestamp, UTC) for each in reversed(starts)}


def _digests(days: object) -> dict[date, str] | None:
    """Of the days of one input; None if the metadata is not ours."""
    try:
        return {_day_of(day): str(digest) for day, digest in days.items()}  # type: ignore[attr-defined]
    except (AttributeError, TypeError, ValueError):
        return None


def _names_of_commit(value: object) -> dict[str, Any]:
    """What names the commit that the record is of; nothing if the metadata is not ours."""
    names = value if isinstance(value, dict) else {}
    return {name: str(names[name]) for name in COMMIT_NAMES if names.get(name)}


def _text(value: object) -> str | None:
    return str(value) if value else None


def _whole(value: object) -> int | None:
    """None if the metadata is not ours."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None
