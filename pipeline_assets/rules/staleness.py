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

    @property
    def unrecorded(self) -> Collection[Partition]:
        """Of what was looked up, heads that no record speaks of."""

    def records(self, table: str, days: Collection[date]) -> Mapping[date, Record]:
        """The record of each day that has a head."""

    def changed(self, table: str, day: date) -> Record | None:
        """The record that brought the rows which the day has: those after it are of the same."""


class StalenessStatus(StrEnum):
    """Says whether one partition must be made again."""

    CURRENT = "current"  # made from what is upstream now
    MISSING = "missing"  # never made, and its inputs are there
    STALE = "stale"  # made from other commits than are upstream now
    UNRECORDED = "unrecorded"  # no record speaks of its file: somebody else wrote or changed it
    TORN = "torn"  # its tables are of different steps: one was killed between them
    WAITING = "waiting"  # an input of the same day is not there
    HELD = "held"  # something upstream is running, about to run, failed, or unrecorded
    RUNNING = "running"
    FAILED = "failed"  # with these same inputs, and its verdict says not to try again by itself
    POSTPONED = "postponed"  # not looked at: enough others were


TO_MAKE = frozenset({StalenessStatus.MISSING, StalenessStatus.STALE, StalenessStatus.UNRECORDED, StalenessStatus.TORN})


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
        want: names the inputs that it should be made from, by their digests.
        changes: upstream, against its record.
        because_of: what it waits for, or is held by.
        commits: names the commits that these inputs are now: others, if one changed there and back.
        there: names what it is now.
    """

    status: StalenessStatus
    want: str = ""
    changes: Sequence[Change] = ()
    because_of: Sequence[Partition] = ()
    commits: str = ""
    there: str = ""


@dataclass(frozen=True, slots=True)
class LastAttempt:
    """How the last attempt to make a partition from the inputs `want` ended.

    Args:
        commits: that these inputs were when it was asked for.
    """

    want: str
    succeeded: bool
    commits: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """A run over a range: the leading tables of its steps, and what each of its partitions should be made from."""

    leads: tuple[str, ...]
    first: date
    last: date
    partitions: Mapping[Partition, Staleness]

    @property
    def cause(self) -> str:
        """Name what is there and all inputs: of two requests for the same days another name, if the second is needed.

        It is if an input changed there and back, or if somebody interfered with the partition again.
        """
        return name_of(f"{each}={found.commits} {found.there};" for each, found in sorted(self.partitions.items()))


@dataclass(frozen=True, slots=True)
class Reaction:
    """What follows from judging the candidates.

    Args:
        unrecorded: what candidates read and are held by, by leading tables: to be candidates themselves.
    """

    requests: Sequence[Request]
    found: Mapping[Partition, Staleness]
    unrecorded: Collection[Partition] = ()

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
        facts = _look_up(lookup, graph, lead, open_days)
        for day in days:
            partition = Partition(lead, day)
            if partition in running:
                staleness = Staleness(StalenessStatus.RUNNING)
            elif held[day]:
                staleness = Staleness(StalenessStatus.HELD, because_of=held[day])
            elif day in postponed:
                staleness = Staleness(StalenessStatus.POSTPONED)
            else:
                staleness = _staleness_of(graph, partition, facts, last_attempts.get(partition))
            found[partition] = staleness
            if staleness.status not in (StalenessStatus.CURRENT, StalenessStatus.WAITING):
                unsettled.add(partition)
            else:
                unsettled.discard(partition)
    return Reaction(_requests(graph, found), found, _held_by(graph, found, set(lookup.unrecorded)))


def is_torn(records: Iterable[Record]) -> bool:
    """Whether records of the tables of one day and step name several steps: one was killed while it published."""
    return len({each.step for each in records if each.step}) > 1


@dataclass(frozen=True, slots=True)
class _Facts:
    """What was looked up of one step, by table and day.

    Args:
        records: of the tables that the step makes.
        upstream: records of what it reads.
    """

    records: Mapping[str, Mapping[date, Record]]
    upstream: Mapping[str, Mapping[date, Record]]
    unrecorded: Collection[Partition]


def _look_up(lookup: RecordLookup, graph: Graph, lead: str, days: Sequence[date]) -> _Facts:
    records = {table: lookup.records(table, days) for table in graph.steps[lead]}
    upstream = _upstream(lookup, graph.reads(lead), days, records[lead])
    return _Facts(records, upstream, set(lookup.unrecorded))


def _held_by(graph: Graph, found: Mapping[Partition, Staleness], unrecorded: Collection[Partition]) -> set[Partition]:
    """Unrecorded partitions that candidates are held by, by leading tables."""
    held = (each for each in found.values() if unrecorded and each.status is StalenessStatus.HELD)
    return {
        Partition(graph.lead(table), day)
        for each in held
        for table, day in each.because_of
        if Partition(table, day) in unrecorded
    }


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


def _staleness_of(graph: Graph, partition: Partition, facts: _Facts, last_attempt: LastAttempt | None) -> Staleness:
    """Compare a partition that is neither running nor held with the records of what it reads."""
    reads, first_day = graph.reads(partition.table), graph.first_days[partition.table]
    upstream, day = facts.upstream, partition.day
    absent = [Partition(name, day) for name, _ in reads if day not in upstream[name]]
    if absent:
        return Staleness(StalenessStatus.WAITING, because_of=absent)
    made = {table: each[day] for table, each in facts.records.items() if day in each}
    record = made[partition.table] if made.keys() == facts.records.keys() else None
    flaw = None
    if any(Partition(table, day) in facts.unrecorded for table in made):
        flaw = StalenessStatus.UNRECORDED
    elif is_torn(made.values()):
        flaw = StalenessStatus.TORN
    inputs = sorted(
        {
            Partition(name, day): upstream[name][day]
            for name, window in reads
            for day in window.upstream_of(partition.day)
            if day in upstream[name]
        }.items()
    )
    if unread := [each for each, _ in inputs if each in facts.unrecorded]:
        return Staleness(StalenessStatus.HELD, because_of=unread)
    changes = [change for each, current in inputs if (change := change_of(each, current, record, first_day))]
    want = name_of(f"{each}={current.digest or current.event_id};" for each, current in inputs)
    commits = name_of(f"{each}={_commit_of(current)};" for each, current in inputs)
    if record is not None and not changes and flaw is None:
        status = StalenessStatus.CURRENT
    elif last_attempt is not None and last_attempt.want == want and not last_attempt.succeeded:
        status = StalenessStatus.FAILED
    elif last_attempt is not None and last_attempt.want == want and last_attempt.commits == commits:
        # It succeeded, and yet the records differ: a commit upstream has no record. Again would be the same again,
        # unless an input changed there and back meanwhile.
        status = StalenessStatus.CURRENT
    else:
        status = flaw or (StalenessStatus.MISSING if record is None else StalenessStatus.STALE)
    there = name_of(f"{table}={_commit_of(each)};" for table, each in sorted(made.items()))
    return Staleness(status, want, changes, commits=commits, there=there)


def _commit_of(record: Record) -> str:
    return record.write_id or record.version or str(record.event_id)


def name_of(listed: Iterable[str]) -> str:
    """A short name that other texts do not have."""
    return hashlib.blake2b("".join(listed).encode()).hexdigest()[:WANT_DIGITS]


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
    same = before is not None and current.is_of(before)
    return None if same else Change(partition, before, current.digest)


def _requests(graph: Graph, found: Mapping[Partition, Staleness]) -> list[Request]:
    wanted: dict[str, list[date]] = {}
    for partition, staleness in found.items():
        if staleness.status in TO_MAKE:
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
