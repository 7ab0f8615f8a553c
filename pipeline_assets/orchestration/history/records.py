"""How partitions were made: the records of the lake's heads, and of tables that are kept elsewhere the event log's.

The event log is a copy. It is asked where many records are wanted at once, as it answers in few pages, and believed of
a head whose versions it names. Where it differs, lacks something, or is another one than it was, the lake is read.
"""

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date
from typing import NamedTuple

from pipeline_assets.errors import DefinitionError
from pipeline_assets.orchestration.history.event_log import EventLog
from pipeline_assets.partition import Partition
from pipeline_assets.record import Record
from pipeline_assets.store import Commit, Head, Store


class TableRecords(NamedTuple):
    """What there is of a whole table, by day.

    Args:
        copies: the newest records of the event log, which may be of other commits than the heads.
    """

    heads: Mapping[date, Head]
    records: dict[date, Record]
    copies: Mapping[date, Record]


@dataclass(slots=True)
class Records:
    """Records of the partitions of a graph: a `RecordLookup`.

    Attributes:
        unrecorded: heads that were come across and that no record speaks of: somebody else wrote them, or changed them.
            What is given as their record tells what they are, and not how they were made.
    """

    event_log: EventLog
    store: Store
    unrecorded: set[Partition] = field(default_factory=set)
    _elsewhere: dict[str, bool] = field(default_factory=dict)

    def records(self, table: str, days: Collection[date]) -> dict[date, Record]:
        """The record of each day that has a head; of a source what was reported of it."""
        if table in self.event_log.graph.sources:
            return self.event_log.records(table, days)
        try:
            heads = {day: self.store.head(Partition(table, day)) for day in days}
        except DefinitionError:  # an asset of a name that the store does not take is kept elsewhere
            return self.event_log.records(table, days)
        told = {day: head.record for day, head in heads.items() if head is not None and head.record is not None}
        logged = self.event_log.records(table, heads.keys() - told.keys())
        return told | self._untold(table, {day: heads[day] for day in heads.keys() - told.keys()}, logged)

    def of_table(self, table: str) -> "TableRecords":
        """All heads of a table of the lake, and their records; of one that is kept elsewhere, records alone."""
        heads, logged = self.heads(table), self.event_log.all_records(table, beginnings=False)
        told, untold = dict[date, Record](), dict[date, Commit | None]()
        for day in heads.keys() | logged.keys():
            copy = logged.get(day)
            if copy is not None and day in heads and heads[day].is_told_by(copy):
                told[day] = copy
                continue
            head = self.store.head(Partition(table, day)) if day in heads else None
            if head is None or head.record is None:
                untold[day] = head
            else:
                told[day] = head.record
        return TableRecords(heads, told | self._untold(table, untold, logged), logged)

    def changed(self, table: str, day: date) -> Record | None:
        """The record that brought the rows which the day has: those after it are of the same."""
        record = None if table in self.event_log.graph.sources else self.records(table, [day]).get(day)
        if record is None or not record.write_id:
            return self.event_log.changed(table, day)
        return replace(record, recorded_at=record.changed_at)

    def read(self, table: str, days: Iterable[date]) -> dict[date, Record]:
        """Read the files of heads, so that bytes which were changed in place are found: records of those."""
        heads = {day: self.store.head(Partition(table, day), read=True) for day in days}
        untold = {day: head for day, head in heads.items() if head is not None and head.record is None}
        return self._untold(table, untold, self.event_log.records(table, untold.keys()))

    def _untold(
        self, table: str, heads: Mapping[date, Commit | None], logged: Mapping[date, Record]
    ) -> dict[date, Record]:
        """Records of days of which the lake has none."""
        found = {}
        for day, head in heads.items():
            copy = logged.get(day)
            if copy is not None and (self._is_elsewhere(copy, table) if head is None else copy.is_of(head.digest)):
                found[day] = copy  # made before the lake had records: the bytes are still those that the log names
            elif head is not None:
                self.unrecorded.add(Partition(table, day))
                at = head.published_at
                found[day] = Record(
                    digest=head.digest, recorded_at=at, began_at=at, size_bytes=head.size_bytes, version=head.version
                )
        return found

    def heads(self, table: str) -> Mapping[date, Head]:
        """Heads of a table; none of one that is kept elsewhere."""
        with suppress(DefinitionError):
            return self.store.heads(table)
        return {}

    def _is_elsewhere(self, copy: Record, table: str) -> bool:
        """Whether another IO manager keeps the table: its records tell no size, and the lake has none of its heads."""
        if copy.size_bytes is not None or copy.version is not None:
            return False
        if table not in self._elsewhere:
            self._elsewhere[table] = not self.heads(table)
        return self._elsewhere[table]
