"""Whether a partition must be computed again: its record says what it was made from, the heads say what there is now.

Nothing here counts changes. A partition is judged by comparing, so a change that came twice, in the middle of a run, or
while nobody looked leads to the same answer as one that came once.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import Protocol

from pipeline_assets.partition import Partition, parts_of, ranges_of
from pipeline_assets.record import Record
from pipeline_assets.rules.graph import Graph
from pipeline_assets.rules.windows import Window

WANT_DIGITS = 16
EARLY_DAYS = 2
"""A day that is over in one time zone is over everywhere this much later."""


class RecordLookup(Protocol):
    """Gives records; `react` asks for many days at once."""

    def records(self, table: str, days: Collection[date]) -> Mapping[date, Record]:
        """The newest record of each day that has one."""

    def changed(self, table: str, day: date) -> Record | None:
        """The record that brought the rows which the day has: those after it are of the same."""


class StalenessStatus(StrEnum):
    """Says whether one partition must be made again."""

    CURRENT = "current"  # made from what is upstream now
    MISSING = "missing"  # never made, and its inputs are there
    STALE = "stale"  # made from other commits than are upstream now
    WAITING = "waiting"  # an input of the same day is not there
    HELD = "held"  # something upstream is running, about to run, or failed
    RUNNING = "running"
    FAILED = "failed"  # with these same inputs, and its verdict says not to try again by itself
    POSTPONED = "postponed"  # not looked at: enough others were


@dataclass(frozen=True, slots=True)
class Change:
    """An upstream partition that is not what the record says. `before` is None when it was not read."""

    partition: Partition
    before: str | None
    now: str | None


@dataclass(frozen=True, slots=True)
class Staleness:
    """Says whether one partition must be computed again, and why.

    Args:
        want: names the inputs that it should be made from.
        changes: upstream, against its record.
        because_of: what it waits for, or is held by.
        newest_input: event id.
    """

    status: StalenessStatus
    want: str = ""
    changes: Sequence[Change] = ()
    because_of: Sequence[Partition] = ()
    newest_input: int = 0


@dataclass(frozen=True, slots=True)
class LastAttempt:
    """How the last attempt to make a partition from the inputs `want` ended.

    Args:
        newest_input: event id, of the newest that there was when it was asked for.
    """

    want: str
    succeeded: bool
    newest_input: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """A run over a range: the leading tables of its steps, and what each of its partitions should be made from."""

    leads: tuple[str, ...]
    first: date
    last: date
    partitions: Mapping[Partition, Staleness]

    @property
    def newest_input(self) -> int:
        """Give an event id: two requests for the same days, of which the second is needed, differ in it."""
        return max(each.newest_input for each in self.partitions.values())


@dataclass(frozen=True, slots=True)
class Reaction:
    """What follows from judging the candidates."""

    requests: Sequence[Request]
    found: Mapping[Partition, Staleness]

    def partitions(self, *statuses: StalenessStatus) -> set[Partition]:
        """Pick the candidates that have one of the statuses."""
        return {partition for partition, staleness in self.found.items() if staleness.status in statuses}


def downstream_partitions(graph: Graph, changed: Iterable[Partition], last_days: Mapping[str, date]) -> set[Partition]:
    """Partitions of the steps that read what changed, within the history that is over.

    And those days not over yet that have an input of their own already, as that comes only once: where days begin
    earlier, they end earlier. Other days that are to come have that input still before them.
    """
    found, readers = set(), {}
    for table, changed_day in changed:
        if table not in readers:
            readers[table] = [each for each in graph.readers(table) if each[0] in last_days]
        for lead, window in readers[table]:
            first, last = graph.first_days[lead], last_days[lead]
            found |= {Partition(lead, day) for day in window.downstream_of(changed_day) if first <= day <= last}
            if first <= changed_day and timedelta() < changed_day - last <= timedelta(days=EARLY_DAYS):
                found.add(Partition(lead, changed_day))
    return found


def react(
    graph: Graph,
    candidates: Collection[Partition],
    lookup: RecordLookup,
    *,
    running: Collection[Partition],
    last_attempts: Mapping[Partition, LastAttempt],
    at_most: int | None = None,
) -> Reaction:
    """Judge the candidates, upstream first, and request those that must be made.

    A step waits for whatever it reads: what is running, what this very call requests, and what failed. So one change
    that reaches a partition over several ways makes it run once, after the last of them.

    Args:
        candidates: by the leading tables of their steps.
        running: by leading tables; being made right now, or asked for.
        last_attempts: one that failed is not repeated with the same inputs, and what it was to make holds its
            downstream back; one that succeeded is not repeated either.
        at_most: so many are looked up, besides those that have a last attempt; the rest is postponed.
    """
    left = len(candidates) if at_most is None else at_most
    unsettled = {*running, *(partition for partition, last in last_attempts.items() if not last.succeeded)}
    found: dict[Partition, Staleness] = {}
    for lead in graph.leads():
        days = sorted(day for table, day in candidates if table == lead)
        if not days:
            continue
        reads = graph.reads(lead)
        open_upstream = {name: {day for table, day in unsettled if table == graph.lead(name)} for name, _ in reads}
        held = {
            day: [
                Partition(name, each)
                for name, window in reads
                if open_upstream[name]  # mostly there is none, and there may be thousands of days
                for each in window.upstream_of(day)
                if each in open_upstream[name]
            ]
            for day in days
        }
        open_days = [day for day in days if not held[day] and Partition(lead, day) not in running]
        unanswered = [day for day in open_days if Partition(lead, day) not in last_attempts]
        postponed = set(unanswered[left:])
        left -= len(unanswered) - len(postponed)
        open_days = [day for day in open_days if day not in postponed]
        records = lookup.records(lead, open_days)
        upstream = _upstream(lookup, reads, open_days, records)
        for day in days:
            partition = Partition(lead, day)
            if partition in running:
                staleness = Staleness(StalenessStatus.RUNNING)
            elif held[day]:
                staleness = Staleness(StalenessStatus.HELD, because_of=held[day])
            elif day in postponed:
                staleness = Staleness(StalenessStatus.POSTPONED)
            else:
                staleness = _staleness_of(graph, partition, records.get(day), upstream, last_attempts.get(partition))
            found[partition] = staleness
            if staleness.status not in (StalenessStatus.CURRENT, StalenessStatus.WAITING):
                unsettled.add(partition)
            else:
                unsettled.discard(partition)
    return Reaction(_requests(graph, found), found)


def _upstream(
    lookup: RecordLookup, reads: Sequence[tuple[str, Window]], days: Sequence[date], records: Mapping[date, Record]
) -> dict[str, dict[date, Record]]:
    """Records of all that the days read."""
    asked: dict[str, set[date]] = {}
    for name, window in reads:
        asked.setdefault(name, set()).update(each for day in days for each in window.upstream_of(day))
    found = {name: dict(lookup.records(name, each)) for name, each in asked.items()}
    # A record that does not say what was read is compared with the time of the change, which a rewrite hides.
    hidden = {
        Partition(name, each)
        for name, window in reads
        for day in days
        if day in records and name not in records[day].inputs
        for each in window.upstream_of(day)
        if each in found[name] and found[name][each].recorded_at > records[day].began_at
    }
    for name, day in sorted(hidden):
        found[name][day] = lookup.changed(name, day) or found[name][day]
    return found


def _staleness_of(
    graph: Graph,
    partition: Partition,
    record: Record | None,
    upstream: Mapping[str, Mapping[date, Record]],
    last_attempt: LastAttempt | None,
) -> Staleness:
    """Compare a partition that is neither running nor held with the records of what it reads."""
    reads, first_day = graph.reads(partition.table), graph.first_days[partition.table]
    absent = [Partition(name, partition.day) for name, _ in reads if partition.day not in upstream[name]]
    if absent:
        return Staleness(StalenessStatus.WAITING, because_of=absent)
    inputs = sorted(
        {
            Partition(name, day): upstream[name][day]
            for name, window in reads
            for day in window.upstream_of(partition.day)
            if day in upstream[name]
        }.items()
    )
    changes = [change for each, current in inputs if (change := change_of(each, current, record, first_day))]
    listed = "".join(f"{each}={current.digest or current.event_id};" for each, current in inputs)
    want = hashlib.blake2b(listed.encode()).hexdigest()[:WANT_DIGITS]
    newest = max((current.event_id for _, current in inputs), default=0)
    if record is not None and not changes:
        status = StalenessStatus.CURRENT
    elif last_attempt is not None and last_attempt.want == want and not last_attempt.succeeded:
        status = StalenessStatus.FAILED
    elif last_attempt is not None and last_attempt.want == want and newest <= last_attempt.newest_input:
        # It succeeded, and yet the records differ: a commit upstream has no record. Again would be the same again,
        # unless an input changed there and back meanwhile.
        status = StalenessStatus.CURRENT
    else:
        status = StalenessStatus.MISSING if record is None else StalenessStatus.STALE
    return Staleness(status, want, changes, newest_input=newest)


def change_of(partition: Partition, current: Record, record: Record | None, first_day: date) -> Change | None:
    """How an input differs from what a record says of it; None if it does not.

    Args:
        partition: the input; `current` is its newest record.
        record: of the partition that reads it; None if that was never made.
        first_day: of the table that reads it.
    """
    if record is None:
        return Change(partition, None, current.digest)
    recorded = record.inputs.get(partition.table)
    if recorded is None or current.digest is None:  # all that is known is what came first
        return Change(partition, None, current.digest) if current.recorded_at > record.began_at else None
    before = recorded.get(partition.day)
    if before is None and partition.day < first_day:  # a daily asset reads nothing from before its own history
        return None
    return None if before == current.digest else Change(partition, before, current.digest)


def _requests(graph: Graph, found: Mapping[Partition, Staleness]) -> list[Request]:
    wanted: dict[str, list[date]] = {}
    for partition, staleness in found.items():
        if staleness.status in (StalenessStatus.MISSING, StalenessStatus.STALE):
            wanted.setdefault(partition.table, []).append(partition.day)
    leads: dict[tuple[date, date], list[str]] = {}
    for lead, days in wanted.items():
        for span in ranges_of(sorted(days)):
            for part in parts_of(*span, graph.days_per_run.get(lead)):
                leads.setdefault(part, []).append(lead)
    return [
        Request(
            tuple(names),
            first,
            last,
            {each: found[each] for each in found if each.table in names and first <= each.day <= last},
        )
        for (first, last), names in leads.items()
    ]
