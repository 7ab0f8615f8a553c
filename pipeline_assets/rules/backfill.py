"""What a backfill will do and why, before it does it: plain data, computed from what was asked and what there is.

Nothing is looked up here, and nothing is decided later: `plan` says of every partition what happens to it. What it says
can be printed, kept in a file, and compared with what it would say now.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from enum import StrEnum
from typing import NamedTuple

from pipeline_assets.partition import Partition, days_between, parts_of, ranges_of, span_in_words
from pipeline_assets.record import Record
from pipeline_assets.rules.graph import Graph
from pipeline_assets.rules.staleness import change_of, is_torn


class Mode(StrEnum):
    """Says what a plan looks for."""

    FULL = "full"  # all history
    INCREMENTAL = "incremental"  # from the watermark on, gaps before it, and days whose inputs changed
    SELECTIVE = "selective"  # the given days of the given tables
    STALE = "stale"  # made by other code, or from other inputs, than there are now
    MISSING = "missing"  # never made
    FAILED = "failed"  # the last attempt failed
    MADE = "made"  # made by a code version, or in a time, that was wrong


class Action(StrEnum):
    """What happens to a partition."""

    COMPUTE = "compute"
    SKIP = "skip"  # its inputs and code did not change
    WAIT = "wait"  # it should be computed, and what it is made from is not there


class Reason(StrEnum):
    """Why a partition is in the plan. Of several that hold and that the mode heeds, the first one here is told."""

    FAILED = "FAILED"  # its last attempt failed
    MISSING = "MISSING"  # it has no head
    UNRECORDED = "UNRECORDED"  # no record speaks of its head: somebody else wrote or changed it
    TORN = "TORN"  # its tables are of different steps, one of which was killed between them
    CODE_CHANGED = "CODE_CHANGED"  # its record tells of another code version
    INPUT_CHANGED = "INPUT_CHANGED"  # an input that it was made from is another now
    LATE_DATA = "LATE_DATA"  # an input came that was not there when it was made
    MADE = "MADE"  # it was made by the code version, or in the time, that was asked for
    REQUESTED = "REQUESTED"  # it was asked for by name, or by force
    DOWNSTREAM_OF = "DOWNSTREAM_OF"  # it reads a partition of this plan


@dataclass(frozen=True, slots=True)
class Made:
    """What made a partition: a code version, a time, or both.

    Args:
        since, until: moments, aware, both ends included.
    """

    code_version: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def is_told_by(self, record: Record) -> bool:
        """Whether a record tells of that."""
        if self.code_version is not None and record.code_version != self.code_version:
            return False
        return (self.since is None or self.since <= record.recorded_at) and (
            self.until is None or record.recorded_at <= self.until
        )


@dataclass(frozen=True, slots=True)
class Ask:
    """What somebody wants to have computed.

    Args:
        tables: among which is looked; of those computed together the leading one. What is downstream comes by itself.
        days: stretches, both ends included, ascending, apart from each other.
        force: partitions are computed though nothing changed.
        made: what the mode MADE looks for.
    """

    mode: Mode
    tables: tuple[str, ...]
    days: tuple[tuple[date, date], ...]
    why: str = ""
    force: bool = False
    made: Made | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is, by table and day; `failed` and `held` by leading tables. A plan made from equal facts is equal.

    Args:
        heads: a token that is another one when the head is; no entry where nothing is published. Not of sources.
        records: of the heads; of sources what is there now; of unrecorded partitions what they are.
        failed: the last attempt failed, and nobody has made it since.
        unrecorded: partitions whose head no record speaks of.
        last_days: that are over.
        held: partitions that somebody else is making, or that must not be tried again now; what reads them waits.
    """

    heads: Mapping[str, Mapping[date, str]]
    records: Mapping[str, Mapping[date, Record]]
    failed: Collection[Partition]
    unrecorded: Collection[Partition]
    code_versions: Mapping[str, str]
    last_days: Mapping[str, date]
    held: Collection[Partition] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """What happens to one partition.

    Args:
        reason: None if it is skipped.
        because: of WAIT, whatever the reason, the first that is waited for: an input of its own day that is not there,
            or the partition that is held, which may be this one. Of DOWNSTREAM_OF, the partition of the plan that
            causes it, by its leading table; of changes, the first input that changed.
    """

    action: Action
    reason: Reason | None
    because: Partition | None = None


class Spread(NamedTuple):
    """A sum over partitions: by the mean of history, and by its tenth and ninetieth percentile."""

    expected: int | float  # numbers of a record, which a plan file has to give back as they were
    low: int | float
    high: int | float

    def times(self, factor: float) -> Spread:
        """The sum over that many times as many partitions."""
        return Spread(*(each * factor for each in self))


@dataclass(frozen=True, slots=True)
class Estimate:
    """What computing so many partitions will take; None where no record tells."""

    partitions: int
    rows: Spread | None
    size_bytes: Spread | None
    seconds: Spread | None

    def of(self, partitions: int) -> Estimate:
        """Scale the estimate to another number of partitions."""
        share = partitions / self.partitions
        sums = (self.rows, self.size_bytes, self.seconds)
        return Estimate(partitions, *(each and each.times(share) for each in sums))


@dataclass(frozen=True, slots=True)
class TableProgress:
    """How far a table is, read off its heads. `watermark` is the newest day that has one; gaps lie before it."""

    watermark: date | None
    gaps: tuple[tuple[date, date], ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a backfill will do.

    Args:
        order: leading tables, upstream first.
        entries: by leading table and day, ascending; partitions that are not in it are left alone.
        heads: tokens of what will be written, and of what that reads, as they were when the plan was made.
        code_versions, estimates: of the tables in it.
        progressed: of the tables that were asked for.
    """

    ask: Ask
    order: Sequence[str]
    entries: Mapping[str, Mapping[date, Entry]]
    heads: Mapping[str, Mapping[date, str | None]]
    code_versions: Mapping[str, str]
    progressed: Mapping[str, TableProgress] = field(default_factory=dict)
    estimates: Mapping[str, Estimate] = field(default_factory=dict)

    def days(self, lead: str, action: Action = Action.COMPUTE) -> list[date]:
        """Days of a table that the action happens to, ascending."""
        return [day for day, entry in self.entries.get(lead, {}).items() if entry.action is action]

    def partitions(self, action: Action = Action.COMPUTE) -> list[Partition]:
        """Partitions that the action happens to, upstream first."""
        return [Partition(lead, day) for lead in self.order for day in self.days(lead, action)]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of days of one step: one run."""

    lead: str
    first: date
    last: date


HEEDED = {
    Mode.FULL: frozenset({Reason.FAILED, Reason.MISSING, Reason.CODE_CHANGED, Reason.INPUT_CHANGED, Reason.LATE_DATA}),
    Mode.INCREMENTAL: frozenset({Reason.FAILED, Reason.MISSING, Reason.INPUT_CHANGED, Reason.LATE_DATA}),
    Mode.STALE: frozenset({Reason.CODE_CHANGED, Reason.INPUT_CHANGED, Reason.LATE_DATA}),
    Mode.MISSING: frozenset({Reason.MISSING}),
    Mode.FAILED: frozenset({Reason.FAILED}),
    Mode.MADE: frozenset({Reason.MADE}),
}
"""What each mode looks for, besides UNRECORDED and TORN, which all do; what is downstream of that comes by itself.

Days named are looked at as in FULL.
"""
LEFT_ALONE = "left alone"
SAMPLE_DAYS = 100
"""Newest records that estimates are drawn from."""


def plan(graph: Graph, ask: Ask, facts: Facts) -> Plan:
    """Decide what happens to every partition.

    A partition that is asked for is computed if a reason that the mode heeds holds. What reads a partition that is
    computed is computed too, over the whole extent of its window within the history, provided that it exists or can be
    made: that all inputs of its own day are there, or are made by this plan. What is to be computed waits if an input
    of its own day is not there, if it is held, or if it reads what is held or what waits for that.

    Args:
        ask: names tables of the graph, and days of its history.
    """
    return _Planner(graph, ask, facts).plan()


class _Planner:
    def __init__(self, graph: Graph, ask: Ask, facts: Facts) -> None:
        self.graph, self.ask, self.facts = graph, ask, facts
        self.reads = {lead: graph.reads(lead) for lead in graph.leads()}
        self.entries: dict[str, dict[date, Entry]] = {}
        self.computed: dict[str, set[date]] = {}
        self.held = defaultdict[str, dict[date, Partition]](dict)
        """By leading table: days that wait for a held partition, with that."""
        for partition in facts.held:
            self.held[partition.table][partition.day] = partition
        self.failed = set(facts.failed)
        self.unrecorded = {Partition(graph.lead(table), day) for table, day in facts.unrecorded}
        self.published = {
            lead: set.intersection(*(set(facts.heads.get(each, {})) for each in graph.steps[lead]))
            for lead in self.reads
        }

    def plan(self) -> Plan:
        order = [lead for lead in self.reads if lead not in self.graph.sources]
        progressed = {lead: self._progressed(lead) for lead in order if lead in self.ask.tables}
        for lead in order:
            self._plan_step(lead, progressed[lead].watermark if lead in progressed else None)
        order = [lead for lead in order if self.entries[lead]]
        return Plan(
            self.ask,
            tuple(order),
            {lead: self.entries[lead] for lead in order},
            self._heads(),
            {lead: self.facts.code_versions[lead] for lead in order if lead in self.facts.code_versions},
            progressed,
            {lead: self._estimate(lead) for lead in order if self.computed[lead]},
        )

    def _plan_step(self, lead: str, watermark: date | None) -> None:
        found: dict[date, Entry] = {}
        if lead in self.ask.tables:
            asked = {day: self._asked(Partition(lead, day), watermark) for day in self._asked_days(lead)}
            found = {day: entry for day, entry in asked.items() if entry is not None}
        for day, cause in self._downstream(lead).items():
            if day not in found or found[day].action is Action.SKIP:
                found[day] = Entry(Action.COMPUTE, Reason.DOWNSTREAM_OF, cause)
        settled = {day: self._settled(Partition(lead, day), found[day]) for day in sorted(found)}
        self.entries[lead] = {day: entry for day, entry in settled.items() if entry is not None}
        self.computed[lead] = {day for day, entry in self.entries[lead].items() if entry.action is Action.COMPUTE}
        for partition in self.unrecorded:  # what reads it waits until it is made again
            if partition.table == lead and partition.day not in self.computed[lead]:
                self.held[lead].setdefault(partition.day, partition)

    def _settled(self, partition: Partition, entry: Entry) -> Entry | None:
        """The entry, or what it waits for; None if nobody asked for the partition, and it cannot be made."""
        if entry.action is not Action.COMPUTE:
            return entry
        held = self.held[partition.table]
        if waits_for := held.get(partition.day) or self._held(partition):
            held[partition.day] = waits_for
            return Entry(Action.WAIT, entry.reason, waits_for)
        if absent := self._absent(partition):
            is_published = partition.day in self.published[partition.table]
            nobody_asked = entry.reason is Reason.DOWNSTREAM_OF and not is_published
            return None if nobody_asked else Entry(Action.WAIT, entry.reason, absent)
        return entry

    def _asked_days(self, lead: str) -> list[date]:
        first, last = self.graph.first_days[lead], self.facts.last_days[lead]
        if not self.ask.days:
            return days_between(first, last)
        return [day for begin, end in self.ask.days for day in days_between(max(begin, first), min(end, last))]

    def _asked(self, partition: Partition, watermark: date | None) -> Entry | None:
        """Decide about a partition that is asked for; None if the mode does not look for it."""
        mode = self.ask.mode
        by_name = mode in (Mode.FULL, Mode.SELECTIVE) or (
            mode is Mode.INCREMENTAL and watermark is not None and partition.day >= watermark
        )
        own = self._own_reason(partition, HEEDED[Mode.FULL if by_name else mode])
        if own is not None:
            return Entry(Action.COMPUTE, *own)
        if not by_name:
            return None
        is_recorded = all(self._record(table, partition.day) for table in self.graph.steps[partition.table])
        if self.ask.force or not is_recorded:
            return Entry(Action.COMPUTE, Reason.REQUESTED)
        return Entry(Action.SKIP, None)

    def _own_reason(self, partition: Partition, heeded: Collection[Reason]) -> tuple[Reason, Partition | None] | None:
        lead, day = partition
        if Reason.FAILED in heeded and partition in self.failed:
            return Reason.FAILED, None
        if day not in self.published[lead]:
            return (Reason.MISSING, None) if Reason.MISSING in heeded else None
        if partition in self.unrecorded or self._is_torn(partition):  # every mode heeds them
            return Reason.UNRECORDED if partition in self.unrecorded else Reason.TORN, None
        record = self._record(lead, day)
        if record is None:
            return None
        if Reason.MADE in heeded and self.ask.made is not None and self.ask.made.is_told_by(record):
            return Reason.MADE, None
        return self._changed_reason(partition, record, heeded)

    def _changed_reason(
        self, partition: Partition, record: Record, heeded: Collection[Reason]
    ) -> tuple[Reason, Partition | None] | None:
        if Reason.CODE_CHANGED in heeded and record.code_version is not None:
            present = self.facts.code_versions.get(partition.table, record.code_version)
            if present != record.code_version:
                return Reason.CODE_CHANGED, None
        return self._changed(partition, record) if Reason.INPUT_CHANGED in heeded else None

    def _is_torn(self, partition: Partition) -> bool:
        tables = self.graph.steps[partition.table]
        return len(tables) > 1 and is_torn(
            record for table in tables if (record := self._record(table, partition.day)) is not None
        )

    def _record(self, table: str, day: date) -> Record | None:
        return self.facts.records.get(table, {}).get(day)

    def _changed(self, partition: Partition, record: Record) -> tuple[Reason, Partition] | None:
        late = None
        first_day = self.graph.first_days[partition.table]
        for name, window in self.reads[partition.table]:
            now, recorded, there = self.facts.records.get(name, {}), record.inputs.get(name), self._there(name)
            for each in window.upstream_of(partition.day):
                current = now.get(each)
                if (
                    current is None
                    or each not in there
                    or (recorded is not None and current.digest is not None and recorded.get(each) == current.digest)
                ):
                    continue
                upstream = Partition(name, each)
                if change_of(upstream, current, record, first_day) is None:
                    continue
                if recorded is None or each in recorded:
                    return Reason.INPUT_CHANGED, upstream
                late = late or upstream
        return None if late is None else (Reason.LATE_DATA, late)

    def _downstream(self, lead: str) -> dict[date, Partition]:
        """Days that read what is computed, each with the first that it reads."""
        first, last = self.graph.first_days[lead], self.facts.last_days[lead]
        found: dict[date, Partition] = {}
        for name, window in self.reads[lead]:
            for upstream in sorted(self.computed.get(self.graph.lead(name), ())):
                for day in window.downstream_of(upstream):
                    is_new = first <= day <= last and day not in found
                    if is_new and self._is_read(Partition(lead, day), name, upstream):
                        found[day] = Partition(self.graph.lead(name), upstream)
        return found

    def _held(self, partition: Partition) -> Partition | None:
        for name, window in self.reads[partition.table]:
            if held := self.held[self.graph.lead(name)]:
                for each in window.upstream_of(partition.day):
                    if each in held and self._is_read(partition, name, each):
                        return held[each]
        return None

    def _is_read(self, partition: Partition, name: str, upstream: date) -> bool:
        """Whether a day of a window is really read: a daily asset reads nothing from before its own history.

        Another asset may: then the record of what it made does not say what it read, or says so.
        """
        lead, day = partition
        if upstream >= self.graph.first_days[lead]:
            return True
        record = self._record(lead, day)
        recorded = None if record is None else record.inputs.get(name)
        return day in self.published[lead] and (recorded is None or upstream in recorded)

    def _absent(self, partition: Partition) -> Partition | None:
        """An input of the same day that is not there, and that this plan does not make."""
        for name, _ in self.reads[partition.table]:
            made = self.computed.get(self.graph.lead(name), ())
            if partition.day not in self._there(name) and partition.day not in made:
                return Partition(name, partition.day)
        return None

    def _there(self, table: str) -> Mapping[date, object]:
        """Days that can be read; a record may tell of others, whose head is gone."""
        return (self.facts.records if table in self.graph.sources else self.facts.heads).get(table, {})

    def _progressed(self, lead: str) -> TableProgress:
        first, last = self.graph.first_days[lead], self.facts.last_days[lead]
        published = {day for day in self.published[lead] if first <= day <= last}
        if not published:
            return TableProgress(None, ())
        watermark = max(published)
        missing = [day for day in days_between(first, watermark) if day not in published]
        return TableProgress(watermark, tuple(ranges_of(missing)))

    def _heads(self) -> dict[str, dict[date, str | None]]:
        found: dict[str, dict[date, str | None]] = {}
        for lead, days in self.computed.items():
            for table in self.graph.steps[lead]:
                found.setdefault(table, {}).update((day, self._token(table, day)) for day in days)
            for name, window in self.reads[lead]:
                first, last = self.graph.first_days[name], self.facts.last_days[name]
                read = {
                    each
                    for partition in [Partition(lead, day) for day in days]
                    for each in window.upstream_of(partition.day)
                    if first <= each <= last and self._is_read(partition, name, each)
                }
                found.setdefault(name, {}).update((day, self._token(name, day)) for day in read)
        return {table: dict(sorted(tokens.items())) for table, tokens in sorted(found.items()) if tokens}

    def _token(self, table: str, day: date) -> str | None:
        if table not in self.graph.sources:
            return self.facts.heads.get(table, {}).get(day)
        current = self._record(table, day)
        return None if current is None else current.digest or str(current.event_id)

    def _estimate(self, lead: str) -> Estimate:
        count = len(self.computed[lead])
        samples = [
            [self.facts.records[table][day] for day in sorted(self.facts.records.get(table, {}))[-SAMPLE_DAYS:]]
            for table in self.graph.steps[lead]
        ]
        return Estimate(
            count,
            _sum([_spread(count, [each.rows for each in sample]) for sample in samples]),
            _sum([_spread(count, [each.size_bytes for each in sample]) for sample in samples]),
            _spread(count, [each.seconds for each in samples[0]]),  # the tables of a step are made in the same seconds
        )


def total(estimates: Iterable[Estimate]) -> Estimate:
    """Add up the estimates of several tables."""
    listed = list(estimates)
    return Estimate(
        sum(each.partitions for each in listed),
        _sum([each.rows for each in listed]),
        _sum([each.size_bytes for each in listed]),
        _sum([each.seconds for each in listed]),
    )


def _spread(count: int, history: Sequence[float | None]) -> Spread | None:
    known = sorted(each for each in history if each is not None)
    if not known:
        return None
    tenth, ninetieth = (known[round(share * (len(known) - 1))] for share in (0.1, 0.9))
    mean = sum(known) / len(known)
    return Spread(mean, min(tenth, mean), max(ninetieth, mean)).times(count)


def _sum(spreads: Sequence[Spread | None]) -> Spread | None:
    known = [each for each in spreads if each is not None]
    return Spread(*map(sum, zip(*known, strict=True))) if known else None


def chunks(graph: Graph, planned: Plan, *, days_per_run: int) -> list[Chunk]:
    """The runs of a plan in a valid order: no chunk reads what a later one makes. A table's own limit may be lower."""
    return [
        Chunk(lead, first, last)
        for lead in planned.order
        for span in ranges_of(planned.days(lead))
        for first, last in parts_of(*span, min(days_per_run, graph.days_per_run.get(lead, days_per_run)))
    ]


def only(planned: Plan, partitions: Collection[Partition]) -> Plan:
    """The plan with some of what it computes, and nothing else."""
    entries = {
        lead: {day: planned.entries[lead][day] for day in planned.days(lead) if Partition(lead, day) in partitions}
        for lead in planned.order
    }
    order = tuple(lead for lead in planned.order if entries[lead])
    return replace(
        planned,
        order=order,
        entries={lead: entries[lead] for lead in order},
        estimates={lead: planned.estimates[lead].of(len(entries[lead])) for lead in order if lead in planned.estimates},
    )


def stretches_of(spans: Iterable[tuple[date, date]]) -> list[tuple[date, date]]:
    """Spans in any order, overlapping or not, as ascending stretches apart from each other."""
    return ranges_of(sorted({day for span in spans for day in days_between(*span)}))


def chain(planned: Plan, partition: Partition) -> list[tuple[Partition, Entry]]:
    """The entry of a partition, and of the one that causes it, or that it waits for, and so on; empty if left alone."""
    found: dict[Partition, Entry] = {}
    next_partition: Partition | None = partition
    while next_partition is not None and next_partition not in found:  # a partition that is held waits for itself
        entry = planned.entries.get(next_partition.table, {}).get(next_partition.day)
        if entry is None:
            break
        found[next_partition] = entry
        follows = entry.action is Action.WAIT or entry.reason is Reason.DOWNSTREAM_OF
        next_partition = entry.because if follows else None
    return list(found.items())


def differences(before: Plan, now: Plan) -> list[str]:
    """What moved between two plans of the same request, in words; empty if nothing that matters did."""
    found = [
        f"the code of {lead} is {now.code_versions[lead]} now, it was {version}"
        for lead, version in before.code_versions.items()
        if now.code_versions.get(lead, version) != version
    ]
    for table in sorted({*before.heads, *now.heads}):
        old, new = before.heads.get(table, {}), now.heads.get(table, {})
        moved = sorted(day for day in old.keys() & new.keys() if old[day] != new[day])
        found += [f"the head of {table} {span_in_words(*span)} is another one now" for span in ranges_of(moved)]
    for lead in dict.fromkeys((*before.order, *now.order)):
        changed: dict[tuple[str, str], list[date]] = {}
        was, will = before.entries.get(lead, {}), now.entries.get(lead, {})
        for day in sorted(was.keys() | will.keys()):
            old_entry, new_entry = _told(was.get(day)), _told(will.get(day))
            if old_entry != new_entry and {old_entry, new_entry} != {LEFT_ALONE, Action.SKIP.value}:
                changed.setdefault((old_entry, new_entry), []).append(day)
        found += [
            f"{lead} {span_in_words(*span)}: {old_told} in the plan, {new_told} now"
            for (old_told, new_told), days in changed.items()
            for span in ranges_of(days)
        ]
    return found


def _told(entry: Entry | None) -> str:
    if entry is None:
        return LEFT_ALONE
    return entry.action.value if entry.reason is None else f"{entry.action.value} ({entry.reason.value})"
