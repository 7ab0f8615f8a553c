"""Days that need no computing: made by the present code from what is upstream now, and still the head.

Nothing is believed that cannot be looked up. The digests of the store are compared with those of the records, each
partition read once per run, when the first day asks for it: what is decided is what a run would have read that pinned
its inputs at that moment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import dagster as dg

from pipeline_assets.orchestration.asset.spec import DailySpec
from pipeline_assets.orchestration.history.materializations import newest_records
from pipeline_assets.orchestration.partition.materialization import Renewal, value_of
from pipeline_assets.orchestration.partition.upstream import Inputs, Upstream
from pipeline_assets.partition import Partition
from pipeline_assets.store import Store


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
    _digests: dict[tuple[str, date], str | None] = field(default_factory=dict)
    """Of upstream heads by parameter and day."""

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
        records = self._records.get(day, {})
        if records.keys() != self.spec.contracts.keys():
            return None
        if self.spec.drops_rows and records[self.spec.main].accounting is None:
            return None
        inputs = {name: self._inputs(name, day) for name in self.spec.windows}
        read = {name: {str(each): digest for each, digest in now.digests.items()} for name, now in inputs.items()}
        for table, record in records.items():
            head = self.store.head(self.spec.partition(table, day))
            if head is None or value_of(record.before, "digest") != head.digest:
                return None
            if (value_of(record.before, "inputs") or {}) != read:
                return None
        return records, inputs

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
