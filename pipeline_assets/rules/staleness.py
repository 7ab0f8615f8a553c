"""Whether a partition must be computed again: its record says what it was made from, the heads say what there is now.

Nothing here counts changes. A partition is judged by comparing, so a change that came twice, in the middle of a run, or
while nobody looked leads to the same verdict as one that came once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, Protocol

from pipeline_assets.rules.reach import Graph, parts_of, ranges_of
from pipeline_assets.rules.windows import Window

WANT_DIGITS = 16
EARLY_DAYS = 2
"""A day that is over in one time zone is over everywhere this much later."""
NEVER = datetime.min.replace(tzinfo=UTC)


class Spot(NamedTuple):
    """One day of one table, by name."""

    table: str
    day: date

    def __str__(self) -> str:
        return f"{self.table} {self.day}"


@dataclass(frozen=True, slots=True)
class Made:
    """The newest record of a partition.

    Args:
        event_id: grows with time.
        digest: of the commit; None when whoever made it did not say.
        unchanged: the commit before it had the same digest.
        made_from: digests by upstream table and day; a table that is not in it was not recorded.
        recorded_at: after the commit.
        began_at: before any input was read.
        code_version: that it was made by; None when it was not recorded, as are the others.
        seconds: that it took.
        run_id: empty if no run made it.
    """

    event_id: int
    digest: str | None
    unchanged: bool = False
    made_from: Mapping[str, Mapping[date, str]] = field(default_factory=dict)
    recorded_at: datetime = NEVER
    began_at: datetime = NEVER
    code_version: str | None = None
    rows: int | None = None
    size_bytes: int | None = None
    seconds: float | None = None
    run_id: str = ""


class Ledger(Protocol):
    """Gives records; `react` asks for many days at once."""

    def made(self, table: str, days: Collection[date]) -> Mapping[date, Made]:
        """The newest record of each day that has one."""
        ...

    def changed(self, table: str, day: date) -> Made | None:
        """The record that brought the digest which the day has: those after it are of the same."""
        ...


class State(StrEnum):
    """Of one partition."""

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

    spot: Spot
    before: str | None
    now: str | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on one partition.

    Args:
        want: names the inputs that it should be made from.
        changes: upstream, against its record.
        because_of: what it waits for, or is held by.
        newest_input: event id.
    """

    state: State
    want: str = ""
    changes: Sequence[Change] = ()
    because_of: Sequence[Spot] = ()
    newest_input: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
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
    judgements: Mapping[Spot, Judgement]

    @property
    def newest_input(self) -> int:
        """Event id: two requests for the same days, of which the second is needed, differ in it."""
        return max(each.newest_input for each in self.judgements.values())


@dataclass(frozen=True, slots=True)
class Reaction:
    """What to do about the candidates."""

    requests: Sequence[Request]
    judged: Mapping[Spot, Judgement]

    def spots(self, *states: State) -> set[Spot]:
        """Candidates that were judged so."""
        return {spot for spot, judgement in self.judged.items() if judgement.state in states}


def affected(graph: Graph, changed: Iterable[Spot], last_days: Mapping[str, date]) -> set[Spot]:
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
            found |= {Spot(lead, day) for day in window.downstream_of(changed_day) if first <= day <= last}
            if first <= changed_day and timedelta() < changed_day - last <= timedelta(days=EARLY_DAYS):
                found.add(Spot(lead, changed_day))
    return found


def react(
    graph: Graph,
    candidates: Collection[Spot],
    ledger: Ledger,
    *,
    running: Collection[Spot],
    answers: Mapping[Spot, Answer],
    at_most: int | None = None,
) -> Reaction:
    """Judge the candidates, upstream first, and request those that must be made.

    A step waits for whatever it reads: what is running, what this very call requests, and what failed. So one change
    that reaches a partition over several ways makes it run once, after the last of them.

    Args:
        candidates: by the leading tables of their steps.
        running: by leading tables; being made right now, or asked for.
        answers: to earlier requests. One that failed is not repeated with the same inputs, and what it was to make
            holds its downstream back; one that succeeded is not repeated either.
        at_most: so many are looked up in the ledger, besides those that have an answer; the rest is postponed.
    """
    left = len(candidates) if at_most is None else at_most
    unsettled = {*running, *(spot for spot, answer in answers.items() if not answer.succeeded)}
    judged: dict[Spot, Judgement] = {}
    for lead in graph.leads():
        days = sorted(day for table, day in candidates if table == lead)
        if not days:
            continue
        reads = graph.reads(lead)
        open_upstream = {name: {day for table, day in unsettled if table == graph.lead(name)} for name, _ in reads}
        held = {
            day: [
                Spot(name, each)
                for name, window in reads
                if open_upstream[name]  # mostly there is none, and there may be thousands of days
                for each in window.upstream_of(day)
                if each in open_upstream[name]
            ]
            for day in days
        }
        open_days = [day for day in days if not held[day] and Spot(lead, day) not in running]
        unanswered = [day for day in open_days if Spot(lead, day) not in answers]
        postponed = set(unanswered[left:])
        left -= len(unanswered) - len(postponed)
        open_days = [day for day in open_days if day not in postponed]
        records = ledger.made(lead, open_days)
        upstream = _upstream(ledger, reads, open_days, records)
        for day in days:
            spot = Spot(lead, day)
            if spot in running:
                judgement = Judgement(State.RUNNING)
            elif held[day]:
                judgement = Judgement(State.HELD, because_of=held[day])
            elif day in postponed:
                judgement = Judgement(State.POSTPONED)
            else:
                judgement = judge(graph, spot, records.get(day), upstream, answers.get(spot))
            judged[spot] = judgement
            if judgement.state not in (State.CURRENT, State.WAITING):
                unsettled.add(spot)
            elif spot not in running:
                unsettled.discard(spot)
    return Reaction(_requests(graph, judged), judged)


def _upstream(
    ledger: Ledger, reads: Sequence[tuple[str, Window]], days: Sequence[date], records: Mapping[date, Made]
) -> dict[str, dict[date, Made]]:
    """Records of all that the days read."""
    asked: dict[str, set[date]] = {}
    for name, window in reads:
        asked.setdefault(name, set()).update(each for day in days for each in window.upstream_of(day))
    found = {name: dict(ledger.made(name, each)) for name, each in asked.items()}
    # A record that does not say what was read is held against the time of the change, which a rewrite hides.
    hidden = {
        Spot(name, each)
        for name, window in reads
        for day in days
        if day in records and name not in records[day].made_from
        for each in window.upstream_of(day)
        if each in found[name] and found[name][each].recorded_at > records[day].began_at
    }
    for name, day in sorted(hidden):
        found[name][day] = ledger.changed(name, day) or found[name][day]
    return found


def judge(
    graph: Graph,
    spot: Spot,
    record: Made | None,
    upstream: Mapping[str, Mapping[date, Made]],
    answer: Answer | None = None,
) -> Judgement:
    """The verdict on a partition that is neither running nor held.

    Args:
        spot: by the leading table of its step.
        record: the partition's own.
        upstream: records of at least the days that it reads.
        answer: how its last attempt ended, if that is known.
    """
    reads = graph.reads(spot.table)
    absent = [Spot(name, spot.day) for name, _ in reads if spot.day not in upstream[name]]
    if absent:
        return Judgement(State.WAITING, because_of=absent)
    inputs = sorted(
        {
            Spot(name, day): upstream[name][day]
            for name, window in reads
            for day in window.upstream_of(spot.day)
            if day in upstream[name]
        }.items()
    )
    first_day = graph.first_days[spot.table]
    changes = [change for each, made in inputs if (change := change_of(each, made, record, first_day)) is not None]
    listed = "".join(f"{each}={made.digest or made.event_id};" for each, made in inputs)
    want = hashlib.blake2b(listed.encode()).hexdigest()[:WANT_DIGITS]
    newest = max((made.event_id for _, made in inputs), default=0)
    if record is not None and not changes:
        state = State.CURRENT
    elif answer is not None and answer.want == want and not answer.succeeded:
        state = State.FAILED
    elif answer is not None and answer.want == want and newest <= answer.newest_input:
        # It succeeded, and yet the records differ: a commit upstream has no record. Again would be the same again,
        # unless an input changed there and back meanwhile.
        state = State.CURRENT
    else:
        state = State.MISSING if record is None else State.STALE
    return Judgement(state, want, changes, newest_input=newest)


def change_of(spot: Spot, made: Made, record: Made | None, first_day: date) -> Change | None:
    """How an input differs from what a record says of it; None if it does not.

    Args:
        spot: the input; `made` is its newest record.
        record: of the partition that reads it; None if that was never made.
        first_day: of the table that reads it.
    """
    if record is None:
        return Change(spot, None, made.digest)
    recorded = record.made_from.get(spot.table)
    if recorded is None or made.digest is None:  # all that is known is what came first
        return Change(spot, None, made.digest) if made.recorded_at > record.began_at else None
    before = recorded.get(spot.day)
    if before is None and spot.day < first_day:  # a daily asset reads nothing from before its own history
        return None
    return None if before == made.digest else Change(spot, before, made.digest)


def _requests(graph: Graph, judged: Mapping[Spot, Judgement]) -> list[Request]:
    wanted: dict[str, list[date]] = {}
    for spot, judgement in judged.items():
        if judgement.state in (State.MISSING, State.STALE):
            wanted.setdefault(spot.table, []).append(spot.day)
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
            {spot: each for spot, each in judged.items() if spot.table in names and first <= spot.day <= last},
        )
        for (first, last), names in leads.items()
    ]
