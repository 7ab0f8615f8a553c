"""Days that need no computing: made by the present code from what is upstream now, and still the head.

Nothing is believed that cannot be looked up. The digests of the store are compared with those of the records, each
partition read once per run, when the first day asks for it: what is decided is what a run would have read that pinned
its inputs at that moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import dagster as dg

from pipeline_assets.orchestration.asset.spec import DailySpec
from pipeline_assets.orchestration.history.event_log import EventLog
from pipeline_assets.orchestration.partition.materialization import Renewal
from pipeline_assets.orchestration.partition.upstream import Inputs, Upstream
from pipeline_assets.partition import Partition
from pipeline_assets.record import Record
from pipeline_assets.rules.graph import Graph, Table
from pipeline_assets.store import Store

RECORDS_PER_QUERY = 500
"""SQLite takes some thousand values in one statement."""


@dataclass(slots=True)
class Unchanged:
    """What is known of the days of one step before any of them is computed.

    Args:
        upstreams: by parameter.
        history: first day, before which nothing is read; and the last day that is over.
    """

    spec: DailySpec
    store: Store
    upstreams: Mapping[str, Upstream]
    history: tuple[date, date]
    _records: dict[date, dict[str, dg.EventLogRecord]] = field(default_factory=dict)
    _digests: dict[tuple[str, date], str | None] = field(default_factory=dict)
    """Of upstream heads by parameter and day."""

    def look_up(self, instance: dg.DagsterInstance, days: Sequence[date]) -> None:
        """Find the newest records of the days, as far as they are of the present code."""
        if self.spec.deps:  # what the function reads by itself nobody else can look at
            return
        event_log = EventLog(instance, self._graph())
        for table, key in self.spec.asset_keys.items():
            made = event_log.records(key.to_user_string(), days)
            current = {day: each for day, each in made.items() if each.code_version == self.spec.code_version}
            for day, record in _records(instance, key, current):
                self._records.setdefault(day, {})[table] = record

    def record(self, day: date) -> tuple[dict[str, Renewal], dict[str, Inputs]] | None:
        """The records to write again, by table, and the inputs that they tell of; None if the day must be computed."""
        records = self._records.get(day, {})
        if records.keys() != self.spec.asset_keys.keys():
            return None
        now = {name: self._inputs(name, day) for name in self.spec.windows}
        read = {name: {str(each): digest for each, digest in inputs.digests.items()} for name, inputs in now.items()}
        found = {}
        for table, record in records.items():
            metadata = record.asset_materialization.metadata if record.asset_materialization else {}
            values = {name: value.value for name, value in metadata.items()}
            head = self.store.head(self.spec.partition(table, day))
            if head is None or values.get("digest") != head.digest or values.get("inputs", {}) != read:
                return None
            why = f"code version {self.spec.code_version} and all inputs are those of the record of run {record.run_id}"
            found[table] = Renewal(metadata, why)
        if self.spec.drops_rows and found[self.spec.main].accounting is None:
            return None
        return found, now

    def _graph(self) -> Graph:
        """This step and what it reads."""
        reads = {self.upstreams[name].table: window for name, window in self.spec.windows.items()}
        own = tuple(key.to_user_string() for key in self.spec.asset_keys.values())
        tables = {**{name: Table(name, {}) for name in reads}, **{name: Table(name, reads) for name in own}}
        steps = {name: own if name in own else (name,) for name in tables}
        return Graph(tables, steps, frozenset(), {})

    def _inputs(self, name: str, day: date) -> Inputs:
        first, last = self.history
        days = [each for each in self.spec.windows[name].upstream_of(day) if each >= first]
        digests = {each: self._digest(name, each) for each in days}
        return Inputs(
            {each: digest for each, digest in digests.items() if digest is not None},
            [each for each, digest in digests.items() if digest is None and each <= last],
        )

    def _digest(self, name: str, day: date) -> str | None:
        if (name, day) not in self._digests:
            upstream = self.upstreams[name]
            head = upstream.store.head(Partition(upstream.table, day))
            self._digests[name, day] = None if head is None else head.digest
        return self._digests[name, day]


def _records(
    instance: dg.DagsterInstance, key: dg.AssetKey, made: Mapping[date, Record]
) -> Iterator[tuple[date, dg.EventLogRecord]]:
    days = {each.event_id: day for day, each in made.items()}
    ids = list(days)
    for start in range(0, len(ids), RECORDS_PER_QUERY):
        wanted = dg.AssetRecordsFilter(key, storage_ids=ids[start : start + RECORDS_PER_QUERY])
        for record in instance.fetch_materializations(wanted, limit=RECORDS_PER_QUERY).records:
            yield days[record.storage_id], record
