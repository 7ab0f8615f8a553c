"""Days that need no computing: made by the present code from what is upstream now, and still the head.

Nothing is believed that cannot be looked up. The digests of the store are compared with those of the records, each
partition read once per run, when the first day asks for it: what is decided is what a run would have read that pinned
its inputs at that moment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

import dagster as dg

from pipeline_assets.orchestration.asset.spec import DailySpec
from pipeline_assets.orchestration.history.materializations import COMMIT, newest_records
from pipeline_assets.orchestration.partition.materialization import Renewal, named, value_of
from pipeline_assets.orchestration.partition.upstream import Inputs, Upstream
from pipeline_assets.partition import Partition
from pipeline_assets.store import Commit, Store

Heads = Mapping[date, Commit]


@dataclass(slots=True)
class UnchangedDays:
    """Which days of one step need no computing.

    Args:
        upstreams: by parameter.
        history: first day, before which nothing is read; and the last day that is over.
    """

    spec: DailySpec
    store: Store
    upstreams: Mapping[str, Upstream]
    history: tuple[date, date]
    _records: dict[date, dict[str, Renewal]] = field(default_factory=dict)
    _heads: dict[tuple[str, date], Commit | None] = field(default_factory=dict)
    """Upstream, by parameter and day."""

    def look_up(self, instance: dg.DagsterInstance, days: Sequence[date]) -> None:
        """Find the newest records of the days, as far as they are of the present code."""
        if self.spec.deps:  # what the function reads by itself nobody else can look at
            return
        version = self.spec.code_version
        for table, key in self.spec.asset_keys.items():
            for day, record in newest_records(instance, key, days):
                metadata = record.asset_materialization.metadata if record.asset_materialization else {}
                if value_of(metadata, "code_version") == version:
                    why = f"code version {version} and all inputs are those of the record of run {record.run_id}"
                    self._records.setdefault(day, {})[table] = Renewal(metadata, why)

    def find(self, day: date) -> tuple[dict[str, Renewal], dict[str, Inputs]] | None:
        """Give the records to write again, by table, and the inputs they name; None if the day must be computed."""
        records = dict(self._records.get(day, {}))
        if records.keys() != self.spec.contracts.keys():
            return None
        if self.spec.drops_rows and records[self.spec.main].accounting is None:
            return None
        heads = {name: self._upstream_heads(name, day) for name in self.spec.windows}
        for table, record in records.items():
            head = self.store.head(self.spec.partition(table, day))
            if head is None or not head.is_of(value_of(record.before, "digest") or ""):
                return None
            if not _were_read(heads, value_of(record.before, "inputs") or {}):
                return None
            if COMMIT not in record.before:  # made before the log named commits
                records[table] = replace(record, before={**record.before, **named(head)})
        return records, {name: self._inputs(name, day, each) for name, each in heads.items()}

    def _upstream_heads(self, name: str, day: date) -> Heads:
        upstream, (first, _) = self.upstreams[name], self.history
        days = [each for each in self.spec.windows[name].upstream_of(day) if each >= first]
        for each in days:
            if (name, each) not in self._heads:
                self._heads[name, each] = upstream.store.head(Partition(upstream.table, each))
        return {each: head for each in days if (head := self._heads[name, each]) is not None}

    def _inputs(self, name: str, day: date, heads: Heads) -> Inputs:
        first, last = self.history
        days = [each for each in self.spec.windows[name].upstream_of(day) if first <= each <= last]
        return Inputs({each: head.digest for each, head in heads.items()}, [each for each in days if each not in heads])


def _were_read(heads: Mapping[str, Heads], recorded: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether a record names these upstream heads and no others."""
    return recorded.keys() == heads.keys() and all(
        recorded[name].keys() == set(map(str, found))
        and all(head.is_of(recorded[name][str(day)]) for day, head in found.items())
        for name, found in heads.items()
    )
