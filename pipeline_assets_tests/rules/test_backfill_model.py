"""Plans held against brute force: every pair of table and day is judged by definition until nothing changes any more.

Nothing of the planner is used here but its data classes, and of a window its two offsets.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from hashlib import blake2b
from random import Random
from typing import NamedTuple, TypeVar

from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline_assets.partition import Partition
from pipeline_assets.record import Record
from pipeline_assets.rules.backfill import (
    Action,
    Ask,
    Entry,
    Facts,
    Made,
    Mode,
    Plan,
    Reason,
    chunks,
    differences,
    plan,
)
from pipeline_assets.rules.graph import Graph, Table
from pipeline_assets.rules.windows import Window, arrivals, same_day, trailing
from pipeline_assets_tests.support.properties import examples

FIRST = date(2026, 2, 26)
DAYS = [FIRST + timedelta(days=number) for number in range(8)]
Key = TypeVar("Key")
Value = TypeVar("Value")
MIDNIGHT = datetime(2026, 4, 1, tzinfo=UTC)
WINDOWS = st.one_of(
    st.just(same_day()),
    st.builds(lambda days: trailing(days=days), st.integers(2, 4)),
    st.builds(lambda days: arrivals(lateness_days=days), st.integers(0, 2)),
    st.builds(Window, st.integers(-3, 0), st.integers(0, 2)),
)
BROKEN = [Reason.UNRECORDED, Reason.TORN]
ORDER = [
    Reason.FAILED,
    Reason.MISSING,
    *BROKEN,
    Reason.MADE,
    Reason.CODE_CHANGED,
    Reason.INPUT_CHANGED,
    Reason.LATE_DATA,
]
CHANGED = {Reason.CODE_CHANGED, Reason.INPUT_CHANGED, Reason.LATE_DATA}
LOOKED_FOR: dict[Mode, set[Reason]] = {
    Mode.FULL: {Reason.FAILED, Reason.MISSING, *CHANGED},
    Mode.SELECTIVE: {Reason.FAILED, Reason.MISSING, *CHANGED},
    Mode.INCREMENTAL: {Reason.FAILED, Reason.MISSING, Reason.INPUT_CHANGED, Reason.LATE_DATA},
    Mode.STALE: CHANGED,
    Mode.MISSING: {Reason.MISSING},
    Mode.FAILED: {Reason.FAILED},
    Mode.MADE: {Reason.MADE},
}


class Verdict(NamedTuple):
    """What may be said of one partition; any of `because` is a legitimate cause."""

    action: Action
    reason: Reason | None
    because: frozenset[Partition | None] = frozenset({None})
    held_by: frozenset[Partition] = frozenset()


@dataclass(frozen=True)
class Model:
    """The verdicts by definition."""

    graph: Graph
    ask: Ask
    facts: Facts

    def verdicts(self) -> dict[Partition, Verdict]:
        everything = [
            Partition(lead, day)
            for lead in {steps[0] for steps in self.graph.steps.values()} - self.graph.sources
            for day in span(self.graph.first_days[lead], self.facts.last_days[lead])
        ]
        known: dict[Partition, Verdict] = {}
        while True:
            anew = {
                partition: verdict
                for partition in everything
                if (verdict := self.verdict(partition, known)) is not None
            }
            if anew == known:
                return known
            known = anew

    def verdict(self, partition: Partition, known: Mapping[Partition, Verdict]) -> Verdict | None:
        found = self.own(partition)
        read = {each for each in windows_of(self.graph, partition) if self.reads(partition, each)}
        causes = {self.step(each) for each in read if is_computed(known, self.step(each))}
        if causes and (found is None or found.action is Action.SKIP):
            found = Verdict(Action.COMPUTE, Reason.DOWNSTREAM_OF, frozenset(causes))
        if found is None or found.action is Action.SKIP:
            return found
        if partition in self.facts.held:
            return Verdict(Action.WAIT, found.reason, frozenset({partition}), frozenset({partition}))
        held_by = {holder for each in read for holder in self.holders(self.step(each), known)}
        if held_by:
            return Verdict(Action.WAIT, found.reason, frozenset(held_by), frozenset(held_by))
        absent = {
            each
            for each in windows_of(self.graph, partition)
            if each.day == partition.day and not self.is_there(each) and not is_computed(known, self.step(each))
        }
        if absent and found.reason is Reason.DOWNSTREAM_OF and not self.is_published(partition):
            return None
        return Verdict(Action.WAIT, found.reason, frozenset(absent)) if absent else found

    def own(self, partition: Partition) -> Verdict | None:
        """What holds of a partition whatever happens to the others."""
        ask, facts = self.ask, self.facts
        if partition.table not in ask.tables or (
            ask.days and not any(first <= partition.day <= end for first, end in ask.days)
        ):
            return None
        watermark = max(self.published(partition.table), default=None)
        is_named = ask.mode in (Mode.FULL, Mode.SELECTIVE) or (
            ask.mode is Mode.INCREMENTAL and watermark is not None and partition.day >= watermark
        )
        reasons = self.reasons(partition)
        for reason in ORDER:
            if reason in reasons and reason in {*BROKEN, *LOOKED_FOR[Mode.FULL if is_named else ask.mode]}:
                return Verdict(Action.COMPUTE, reason, reasons[reason])
        if not is_named:
            return None
        is_known = all(partition.day in facts.records.get(table, {}) for table in self.graph.steps[partition.table])
        return Verdict(Action.SKIP, None) if is_known and not ask.force else Verdict(Action.COMPUTE, Reason.REQUESTED)

    def reasons(self, partition: Partition) -> dict[Reason, frozenset[Partition | None]]:
        """All that hold, with the inputs to blame."""
        found: dict[Reason, set[Partition | None]] = {}
        if partition in self.facts.failed:
            found[Reason.FAILED] = {None}
        if not self.is_published(partition):
            found[Reason.MISSING] = {None}
        step = [Partition(table, partition.day) for table in self.graph.steps[partition.table]]
        if self.is_published(partition) and self.is_unrecorded(partition):
            found[Reason.UNRECORDED] = {None}
        records = [self.facts.records.get(each.table, {}).get(each.day) for each in step]
        if self.is_published(partition) and len({each.step for each in records if each and each.step}) > 1:
            found[Reason.TORN] = {None}
        record = self.facts.records.get(partition.table, {}).get(partition.day)
        made = self.ask.made
        if self.is_published(partition) and record is not None:
            by = made and made.code_version in (None, record.code_version)
            if made and by and (made.since or MIDNIGHT) <= record.recorded_at <= (made.until or record.recorded_at):
                found[Reason.MADE] = {None}
            present = self.facts.code_versions.get(partition.table)
            if None not in (present, record.code_version) and present != record.code_version:
                found[Reason.CODE_CHANGED] = {None}
            for each in windows_of(self.graph, partition):
                reason = self.change(partition, record, each)
                if reason is not None:
                    found.setdefault(reason, set()).add(each)
        return {reason: frozenset(because) for reason, because in found.items()}

    def is_unrecorded(self, partition: Partition) -> bool:
        tables = self.graph.steps[partition.table]
        return any(Partition(table, partition.day) in self.facts.unrecorded for table in tables)

    def change(self, partition: Partition, record: Record, upstream: Partition) -> Reason | None:
        now = self.facts.records.get(upstream.table, {}).get(upstream.day)
        if now is None or not self.is_there(upstream):
            return None
        is_recorded = upstream.table in record.inputs
        was_read = is_recorded and upstream.day in record.inputs[upstream.table]
        if is_recorded and now.digest is not None:
            if was_read:
                moved = record.inputs[upstream.table][upstream.day] != now.digest
            else:
                moved = upstream.day >= self.graph.first_days[partition.table]
        else:
            moved = now.recorded_at > record.began_at
        if not moved:
            return None
        return Reason.LATE_DATA if is_recorded and not was_read else Reason.INPUT_CHANGED

    def reads(self, partition: Partition, upstream: Partition) -> bool:
        """Nothing is read from before a table's own history, unless its record leaves that open or tells of it."""
        if upstream.day >= self.graph.first_days[partition.table]:
            return True
        if not self.is_published(partition):
            return False
        record = self.facts.records.get(partition.table, {}).get(partition.day)
        if record is None or upstream.table not in record.inputs:
            return True
        return upstream.day in record.inputs[upstream.table]

    def step(self, partition: Partition) -> Partition:
        return Partition(self.graph.steps[partition.table][0], partition.day)

    def holders(self, partition: Partition, known: Mapping[Partition, Verdict]) -> frozenset[Partition]:
        if partition in self.facts.held:
            return frozenset({partition})
        if partition in known and (known[partition].held_by or is_computed(known, partition)):
            return known[partition].held_by
        return frozenset({partition}) if self.is_unrecorded(partition) else frozenset()

    def is_there(self, partition: Partition) -> bool:
        there = self.facts.records if partition.table in self.graph.sources else self.facts.heads
        return partition.day in there.get(partition.table, {})

    def is_published(self, partition: Partition) -> bool:
        return all(partition.day in self.facts.heads.get(table, {}) for table in self.graph.steps[partition.table])

    def published(self, lead: str) -> list[date]:
        history = span(self.graph.first_days[lead], self.facts.last_days[lead])
        return [day for day in history if self.is_published(Partition(lead, day))]


def windows_of(graph: Graph, partition: Partition) -> set[Partition]:
    """All partitions of other steps in the windows of a step."""
    step = graph.steps[partition.table]
    return {
        Partition(name, partition.day + timedelta(days=offset))
        for table in step
        for name, window in graph.tables[table].reads.items()
        if name in graph.tables and name not in step
        for offset in range(window.first_offset, window.last_offset + 1)
    }


def is_computed(known: Mapping[Partition, Verdict], partition: Partition) -> bool:
    return partition in known and known[partition].action is Action.COMPUTE


def span(first: date, last: date) -> list[date]:
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def entries_of(planned: Plan) -> dict[Partition, Entry]:
    return {Partition(lead, day): entry for lead, days in planned.entries.items() for day, entry in days.items()}


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Two to six tables in steps of one or more, the first of them sources, each table with a history of its own."""
    count, sources = draw(st.integers(2, 6)), draw(st.integers(1, 2))
    tables: dict[str, Table] = {}
    steps: list[list[str]] = []
    for number in range(count):
        name = f"t{number}"
        if number < sources:
            tables[name] = Table(name, {})
            steps.append([name])
            continue
        joins = number > sources and draw(st.integers(0, 3)) == 0
        candidates = sorted({each for step in (steps[:-1] if joins else steps) for each in step})
        fewest = 0 if joins or draw(st.integers(0, 9)) == 0 else 1
        read = draw(st.lists(st.sampled_from(candidates), unique=True, min_size=fewest, max_size=3))
        tables[name] = Table(name, {each: draw(WINDOWS) for each in read})
        if joins:
            steps[-1].append(name)
        else:
            steps.append([name])
    if draw(st.booleans()):  # a step whose tables lie far apart: what reads nothing may stand anywhere
        tables = dict(sorted(tables.items(), key=lambda each: bool(each[1].reads)))
    together = {name: tuple(each for each in tables if each in step) for step in steps for name in step}
    offsets = {step[0]: draw(st.sampled_from([0, 0, 0, 1, 3])) for step in steps}
    return Graph(
        tables,
        together,
        frozenset(f"t{number}" for number in range(min(sources, count))),
        {name: DAYS[offsets[step[0]]] for step in steps for name in step},
        {together[step[0]][0]: draw(st.integers(1, 3)) for step in steps if draw(st.integers(0, 3)) == 0},
    )


@dataclass
class Bytes:
    """A supply of small decisions, of which zero is always the plain case: one draw, and it shrinks."""

    supply: bytes
    mess: int
    position: int = 0

    def one(self, of: int) -> int:
        """A number below `of`; mostly 0, the less mess the more so."""
        byte = self.supply[self.position % len(self.supply)]
        self.position += 1
        return 0 if byte < 256 - self.mess else byte % of


@st.composite
def facts_of(draw: st.DrawFn, graph: Graph) -> Facts:
    """From a lake where all is current to one where nothing fits anything."""
    supply = Bytes(draw(st.binary(min_size=96, max_size=96)), draw(st.sampled_from([24, 64, 128, 256])))
    last_days: dict[str, date] = {}
    for name in graph.tables:
        lead = graph.steps[name][0]
        last_days[name] = last_days[lead] if lead in last_days else DAYS[draw(st.sampled_from([7, 7, 6, 5]))]
    heads: dict[str, dict[date, str]] = {}
    made: dict[str, dict[date, Record]] = {}
    partitions: dict[str, set[Partition]] = {"failed": set(), "unrecorded": set(), "held": set()}
    for name, table in graph.tables.items():
        of_lead = name == graph.steps[name][0]
        for day in span(graph.first_days[name] - timedelta(days=supply.one(2)), last_days[name]):
            there = supply.one(5)  # 0: head and record, then: no record, no head, neither, no digest
            if there in (0, 1, 4) and name not in graph.sources:
                heads.setdefault(name, {})[day] = f"head{supply.one(3)}"
            if there in (0, 2, 4):
                made.setdefault(name, {})[day] = record_of(graph, table, day, made, supply, known=there != 4)
            kind = supply.one(8)
            if name not in graph.sources:
                for number, what in enumerate(partitions, start=1):
                    if kind == number and (of_lead or what == "unrecorded"):
                        partitions[what].add(Partition(name, day))
    versions = {name: "code" for name in graph.tables if name not in graph.sources and supply.one(4) != 1}
    return Facts(heads, made, partitions["failed"], partitions["unrecorded"], versions, last_days, partitions["held"])


def record_of(
    graph: Graph, table: Table, day: date, made: Mapping[str, Mapping[date, Record]], supply: Bytes, *, known: bool
) -> Record:
    inputs: dict[str, dict[date, str]] = {}
    step = graph.steps[table.name]
    for upstream, window in [each for name in step for each in graph.tables[name].reads.items()]:
        if upstream in step or supply.one(6) == 1:
            continue
        for offset in range(window.first_offset, window.last_offset + 1):
            read = day + timedelta(days=offset)
            there = made.get(upstream, {}).get(read)
            choice = supply.one(4)
            if choice == 1 or (read < graph.first_days[table.name] and choice == 0):
                continue
            if choice == 2 or there is not None:
                digest = there.digest if there is not None else None
                inputs.setdefault(upstream, {})[read] = "other" if choice == 2 or digest is None else digest
        inputs.setdefault(upstream, {})
    if supply.one(8) == 1:
        inputs = {}
    began = MIDNIGHT + timedelta(minutes=10 * len(made) + supply.one(100))
    return Record(
        len(made),
        f"digest{supply.one(3)}" if known else None,
        inputs=inputs,
        recorded_at=began + timedelta(minutes=supply.one(30)),
        began_at=began,
        code_version=[None, "code", "other"][(1 + supply.one(3)) % 3],
        rows=supply.one(5),
        step="other" if supply.one(8) == 1 else "one",
    )


@st.composite
def asks_of(draw: st.DrawFn, graph: Graph) -> Ask:
    leads = sorted({step[0] for step in graph.steps.values()} - graph.sources)
    tables = tuple(each for each in leads if draw(st.integers(0, 2)) != 1) or tuple(leads[-1:])
    edges = sorted(draw(st.sets(st.integers(-1, 9), max_size=4)))
    days: list[tuple[date, date]] = []
    for first, last in zip(edges[::2], edges[1::2], strict=False):
        if not days or FIRST + timedelta(days=first - 1) > days[-1][1]:
            days.append((FIRST + timedelta(days=first), FIRST + timedelta(days=last)))
    mode = draw(st.sampled_from(list(Mode)))
    moments = st.none() | st.integers(0, 200).map(lambda minutes: MIDNIGHT + timedelta(minutes=minutes))
    made = Made(draw(st.sampled_from([None, "code", "other"])), draw(moments), draw(moments))
    return Ask(mode, tables, tuple(days), "why", draw(st.integers(0, 3)) == 3, made if mode is Mode.MADE else None)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Graph, Ask, Facts]:
    graph = draw(graphs())
    return graph, draw(asks_of(graph)), draw(facts_of(graph))


@examples(500)
@given(world=worlds())
def test_every_partition_gets_the_verdict_that_brute_force_finds_and_no_other_is_in_the_plan(
    world: tuple[Graph, Ask, Facts],
) -> None:
    graph, ask, facts = world
    expected = Model(graph, ask, facts).verdicts()

    found = entries_of(plan(graph, ask, facts))

    assert {partition: (entry.action, entry.reason) for partition, entry in found.items()} == {
        partition: (verdict.action, verdict.reason) for partition, verdict in expected.items()
    }
    assert {
        partition: entry.because
        for partition, entry in found.items()
        if entry.because not in expected[partition].because
    } == {}


@examples(200)
@given(world=worlds())
def test_what_a_plan_tells_of_tables_is_what_its_partitions_and_the_heads_say(world: tuple[Graph, Ask, Facts]) -> None:
    graph, ask, facts = world
    model = Model(graph, ask, facts)
    verdicts = model.verdicts()
    computed = {partition for partition, verdict in verdicts.items() if verdict.action is Action.COMPUTE}
    looked_at = {
        Partition(table, partition.day) for partition in computed for table in graph.steps[partition.table]
    } | {
        each
        for partition in computed
        for each in windows_of(graph, partition)
        if model.reads(partition, each) and graph.first_days[each.table] <= each.day <= facts.last_days[each.table]
    }

    planned = plan(graph, ask, facts)

    assert set(planned.order) == set(planned.entries) == {partition.table for partition in verdicts}
    assert {Partition(table, day) for table, days in planned.heads.items() for day in days} == looked_at
    for table, tokens in planned.heads.items():
        for day, token in tokens.items():
            if table in graph.sources:
                there = facts.records.get(table, {}).get(day)
                assert token == (there and (there.digest or str(there.event_id)))
            else:
                assert token == facts.heads.get(table, {}).get(day)
    assert planned.code_versions == {
        name: facts.code_versions[name] for name in planned.order if name in facts.code_versions
    }
    assert planned.progressed.keys() == set(ask.tables)
    for lead, progressed in planned.progressed.items():
        published = model.published(lead)
        assert progressed.watermark == max(published, default=None)
        gaps = [day for first, last in progressed.gaps for day in span(first, last)]
        assert sorted(gaps + published) == (span(graph.first_days[lead], max(published)) if published else [])
    assert {lead: each.partitions for lead, each in planned.estimates.items()} == {
        lead: len(planned.days(lead)) for lead in planned.order if planned.days(lead)
    }


@examples(200)
@given(world=worlds(), days_per_run=st.integers(1, 5))
def test_chunks_are_the_computed_partitions_once_each_and_none_reads_what_a_later_one_makes(
    world: tuple[Graph, Ask, Facts], days_per_run: int
) -> None:
    graph, ask, facts = world
    planned = plan(graph, ask, facts)
    model = Model(graph, ask, facts)

    found = chunks(graph, planned, days_per_run=days_per_run)

    made = [Partition(each.lead, day) for each in found for day in span(each.first, each.last)]
    assert sorted(made) == sorted(
        partition for partition, entry in entries_of(planned).items() if entry.action is Action.COMPUTE
    )
    assert made == planned.partitions()
    for each in found:
        assert len(span(each.first, each.last)) <= min(days_per_run, graph.days_per_run.get(each.lead, days_per_run))
    to_be_made = set(made)
    for each in found:
        together = {Partition(each.lead, day) for day in span(each.first, each.last)}
        read = {model.step(upstream) for partition in together for upstream in windows_of(graph, partition)}
        assert not read & to_be_made, f"{each} is made too early"
        to_be_made -= together


@examples(60)
@given(world=worlds(), seed=st.integers(0, 1000))
def test_a_plan_does_not_depend_on_the_order_in_which_facts_are_listed(
    world: tuple[Graph, Ask, Facts], seed: int
) -> None:
    graph, ask, facts = world
    random = Random(seed)
    planned = plan(graph, ask, facts)

    again = plan(
        replace(
            graph, first_days=shuffled(graph.first_days, random), days_per_run=shuffled(graph.days_per_run, random)
        ),
        ask,
        Facts(
            shuffled({table: shuffled(days, random) for table, days in facts.heads.items()}, random),
            shuffled({table: shuffled(days, random) for table, days in facts.records.items()}, random),
            mixed(facts.failed, random),
            mixed(facts.unrecorded, random),
            shuffled(facts.code_versions, random),
            shuffled(facts.last_days, random),
            mixed(facts.held, random),
        ),
    )

    assert again == planned
    assert differences(planned, again) == []
    assert [*again.entries] == [*planned.entries] == [*planned.order]
    for days in again.entries.values():
        assert [*days] == sorted(days)


def shuffled(mapping: Mapping[Key, Value], random: Random) -> dict[Key, Value]:
    return dict(mixed(mapping.items(), random))


def mixed(listed: Collection[Key], random: Random) -> list[Key]:
    return random.sample(sorted(listed, key=repr), len(listed))


@dataclass
class Lake:
    """Partitions whose content is a pure function of code and inputs; those of sources are given.

    Args:
        contents: what the heads hold, of sources too.
        versions: code versions, by leading tables; `behaviour` is what that code does.
        plain: leading tables that read all of their windows and record nothing of it, as plain assets do.
        now: counts the commits.
    """

    graph: Graph
    last_days: Mapping[str, date]
    versions: dict[str, str]
    behaviour: dict[str, str]
    plain: frozenset[str]
    contents: dict[Partition, str] = field(default_factory=dict)
    heads: dict[Partition, str] = field(default_factory=dict)
    made: dict[Partition, Record] = field(default_factory=dict)
    failed: set[Partition] = field(default_factory=set)
    unrecorded: set[Partition] = field(default_factory=set)
    now: int = 0

    def land(self, partition: Partition, content: str) -> None:
        self.now += 1
        self.contents[partition] = content
        self.made[partition] = Record(self.now, content, recorded_at=self.time())

    def time(self) -> datetime:
        return MIDNIGHT + timedelta(minutes=self.now)

    def read(self, lead: str, day: date) -> dict[Partition, str]:
        window = windows_of(self.graph, Partition(lead, day))
        first = date.min if lead in self.plain else self.graph.first_days[lead]
        return {each: self.contents[each] for each in sorted(window) if each in self.contents and each.day >= first}

    def can_make(self, lead: str, day: date) -> bool:
        return all(each in self.contents for each in windows_of(self.graph, Partition(lead, day)) if each.day == day)

    def make(self, lead: str, day: date) -> None:
        assert self.can_make(lead, day), f"{lead} {day} is made before its inputs"
        read = self.read(lead, day)
        inputs: dict[str, dict[date, str]] = {name: {} for name, _ in windows_of(self.graph, Partition(lead, day))}
        for each, content in read.items():
            inputs[each.table][each.day] = content
        self.now += 1
        began = self.time()
        for table in self.graph.steps[lead]:
            partition = Partition(table, day)
            content = hashed(table, day, self.behaviour[lead], tuple(read.items()))
            if self.contents.get(partition) != content:
                self.contents[partition], self.heads[partition] = content, f"{self.now}"
            self.made[partition] = Record(
                self.now,
                content,
                inputs={} if lead in self.plain else inputs,
                recorded_at=began + timedelta(seconds=30),
                began_at=began,
                code_version=self.versions[lead],
                step=f"{self.now}",
            )
            self.unrecorded.discard(partition)
        self.failed.discard(Partition(lead, day))

    def fill(self, *, but: str = "") -> None:
        """Make all that can be made, a table after all that it reads."""
        left = {steps[0] for steps in self.graph.steps.values()} - self.graph.sources
        while left:
            for lead in sorted(left):
                read = {self.graph.steps[name][0] for name, _ in windows_of(self.graph, Partition(lead, FIRST))}
                if left.isdisjoint(read):
                    for day in self.history(lead):
                        if lead != but and self.can_make(lead, day):
                            self.make(lead, day)
                    left.remove(lead)

    def history(self, lead: str) -> list[date]:
        return span(self.graph.first_days[lead], self.last_days[lead])

    def facts(self) -> Facts:
        heads: dict[str, dict[date, str]] = {}
        made: dict[str, dict[date, Record]] = {}
        for partition, token in self.heads.items():
            heads.setdefault(partition.table, {})[partition.day] = token
        for partition, record in self.made.items():
            digest = self.contents[partition] if partition in self.unrecorded else record.digest
            made.setdefault(partition.table, {})[partition.day] = replace(record, digest=digest)
        return Facts(heads, made, self.failed, self.unrecorded, self.versions, self.last_days)

    def carry_out(self, planned: Plan, days_per_run: int) -> None:
        for chunk in chunks(self.graph, planned, days_per_run=days_per_run):
            for day in span(chunk.first, chunk.last):
                self.make(chunk.lead, day)

    def copy(self) -> Lake:
        return replace(
            self,
            versions=dict(self.versions),
            behaviour=dict(self.behaviour),
            contents=dict(self.contents),
            heads=dict(self.heads),
            made=dict(self.made),
            failed=set(self.failed),
            unrecorded=set(self.unrecorded),
        )


def hashed(*parts: object) -> str:
    return blake2b(repr(parts).encode(), digest_size=6).hexdigest()


@st.composite
def lakes(draw: st.DrawFn) -> tuple[Lake, Bytes]:
    """All is made that can be made; and a supply of troubles."""
    graph = draw(graphs())
    supply = Bytes(draw(st.binary(min_size=96, max_size=96)), draw(st.sampled_from([24, 64, 128, 256])))
    leads = sorted({step[0] for step in graph.steps.values()} - graph.sources)
    last_days: dict[str, date] = {}
    for name in graph.tables:
        lead = graph.steps[name][0]
        last_days[name] = last_days[lead] if lead in last_days else DAYS[7 - supply.one(3)]
    plain = frozenset(lead for lead in leads if supply.one(4) == 1)
    lake = Lake(graph, last_days, dict.fromkeys(leads, "code"), dict.fromkeys(leads, "good"), plain)
    for name in sorted(graph.sources):
        for day in lake.history(name):
            if supply.one(4) != 1:
                lake.land(Partition(name, day), f"landed {name} {day}")
    lake.fill()
    return lake, supply


def disturb(lake: Lake, supply: Bytes) -> None:
    """Files change and come late, code changes, heads and records get lost, bugs and strangers write."""
    for lead in sorted(lake.versions):
        if supply.one(4) == 1:
            lake.versions[lead], lake.behaviour[lead] = "new code", "better"
        for day in lake.history(lead):
            if all(Partition(table, day) in lake.contents for table in lake.graph.steps[lead]):
                disturb_partition(lake, Partition(lead, day), supply)
    for name in sorted(lake.graph.sources):
        for day in lake.history(name):
            if supply.one(6) == 1:
                lake.land(Partition(name, day), f"landed {name} {day} {supply.one(2)}")


def disturb_partition(lake: Lake, partition: Partition, supply: Bytes) -> None:
    step = [Partition(table, partition.day) for table in lake.graph.steps[partition.table]]
    table = step[supply.one(len(step))]
    match supply.one(8):
        case 1:
            del lake.contents[table], lake.heads[table]
        case 2:
            del lake.made[table]
            overwrite(lake, table)
        case 3:
            lake.unrecorded.add(table)
            overwrite(lake, table)
        case 4:
            lake.failed.add(partition)
        case 5:
            lake.made[partition] = replace(lake.made[partition], code_version="bug")
            overwrite(lake, table)
            lake.made[table] = replace(lake.made[table], digest=lake.contents[table])


def overwrite(lake: Lake, partition: Partition) -> None:
    lake.now += 1
    lake.contents[partition], lake.heads[partition] = f"wrong {lake.now}", f"{lake.now}"


@examples(200)
@given(data=st.data(), made=lakes(), days_per_run=st.integers(1, 4))
def test_when_a_plan_was_carried_out_nothing_is_left_to_compute(
    data: st.DataObject, made: tuple[Lake, Bytes], days_per_run: int
) -> None:
    lake, supply = made
    asks = asks_of(lake.graph).filter(lambda each: each.mode is not Mode.MADE)  # what is made now was made then, too
    ask = data.draw(asks.map(lambda each: replace(each, force=False)))
    disturb(lake, supply)

    lake.carry_out(plan(lake.graph, ask, lake.facts()), days_per_run)

    assert plan(lake.graph, ask, lake.facts()).partitions() == []


@examples(200)
@given(made=lakes(), days_per_run=st.integers(1, 4))
def test_a_full_backfill_ends_in_the_lake_that_was_never_disturbed(made: tuple[Lake, Bytes], days_per_run: int) -> None:
    lake, supply = made
    disturb(lake, supply)
    undisturbed = Lake(lake.graph, lake.last_days, lake.versions, lake.behaviour, lake.plain)
    for partition in [partition for partition in lake.contents if partition.table in lake.graph.sources]:
        undisturbed.land(partition, lake.contents[partition])
    undisturbed.fill()

    lake.carry_out(plan(lake.graph, Ask(Mode.FULL, tuple(lake.versions), ()), lake.facts()), days_per_run)

    assert lake.contents == undisturbed.contents


@examples(200)
@given(data=st.data(), made=lakes(), bug=st.sampled_from(["buggy code", "code"]))
def test_a_selective_plan_mends_what_a_bug_reached_and_touches_nothing_else(
    data: st.DataObject, made: tuple[Lake, Bytes], bug: str
) -> None:
    lake, _ = made
    clean = lake.copy()
    bad = sorted(partition for partition in lake.heads if partition.table in lake.versions)
    assume(bad)
    lead = data.draw(st.sampled_from(sorted({partition.table for partition in bad})))
    bad_days = sorted(data.draw(st.sets(st.sampled_from([day for table, day in bad if table == lead]), min_size=1)))
    lake.behaviour[lead], lake.versions[lead] = "bad", bug
    for day in bad_days:
        lake.make(lead, day)
    lake.fill(but=lead)
    lake.behaviour[lead], lake.versions[lead] = "good", "code"
    wrong, before = (
        {partition for partition in lake.contents if lake.contents[partition] != clean.contents[partition]},
        dict(lake.heads),
    )

    ask = Ask(Mode.SELECTIVE, (lead,), tuple((day, day) for day in bad_days), "a bug", force=bug == "code")
    planned = plan(lake.graph, ask, lake.facts())
    lake.carry_out(planned, days_per_run=3)

    assert lake.contents == clean.contents
    assert {partition for partition in lake.heads if lake.heads[partition] != before[partition]} == wrong
    computed = set(planned.partitions())
    for partition in computed - {Partition(lead, day) for day in bad_days}:
        read = {Partition(lake.graph.steps[name][0], day) for name, day in lake.read(*partition)}
        assert read & computed, f"{partition} reads nothing of the plan"
