"""What may begin, held against what the graph says of every partition; carried out in any order, with any failures."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.partition import Partition
from pipeline_assets.rules.backfill import Action, Ask, Chunk, Entry, Mode, Plan, Reason, chunks
from pipeline_assets.rules.dispatch import Dispatch, held_by
from pipeline_assets.rules.graph import Graph, Table
from pipeline_assets.rules.windows import Window

FIRST = date(2026, 2, 26)
DAYS = [FIRST + timedelta(days=number) for number in range(9)]
WINDOWS = st.builds(Window, st.integers(-3, 0), st.integers(0, 2))


@dataclass(frozen=True, slots=True)
class Case:
    graph: Graph
    planned: Plan
    days_per_run: int
    done: frozenset[Partition]
    bad: frozenset[Partition]
    """Each fails if it is tried."""

    def reads(self, partition: Partition) -> set[Partition]:
        """Partitions of the plan that it reads."""
        return {
            Partition(self.graph.lead(name), partition.day + timedelta(days=offset))
            for name, window in self.graph.reads(partition.table)
            for offset in range(window.first_offset, window.last_offset + 1)
        } & set(self.planned.partitions())

    def above(self, partition: Partition) -> set[Partition]:
        """All of the plan that it reads, over any number of links; what is done already passes nothing on."""
        found, front = set[Partition](), {partition}
        while front:
            front = {each for one in front for each in self.reads(one)} - found
            found |= front
            front -= self.done
        return found

    def chunks(self) -> list[Chunk]:
        """In the plan's order."""
        return chunks(self.graph, self.planned, days_per_run=self.days_per_run)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Graphs of up to five steps, one of which makes two tables, and plans of some of their days."""
    names = [f"t{number}" for number in range(draw(st.integers(1, 5)))]
    tables = {
        name: Table(name, {other: draw(WINDOWS) for other in names[:number] if draw(st.booleans())})
        for number, name in enumerate(names)
    }
    tables["twin"] = Table("twin", tables["t0"].reads)
    if "t4" in tables:
        tables["t4"] = Table("t4", {**tables["t4"].reads, "twin": draw(WINDOWS)})
    order = {name: tables[name] for name in ("t0", "twin", *names[1:])}
    steps = {name: ("t0", "twin") if name in ("t0", "twin") else (name,) for name in order}
    graph = Graph(order, steps, frozenset(), dict.fromkeys(order, FIRST))
    entries = {
        lead: {
            day: Entry(action, None if action is Action.SKIP else Reason.MISSING)
            for day in sorted(draw(st.sets(st.sampled_from(DAYS))))
            for action in [draw(st.sampled_from([Action.COMPUTE, Action.COMPUTE, Action.SKIP, Action.WAIT]))]
        }
        for lead in graph.leads()
    }
    planned = Plan(Ask(Mode.FULL, tuple(graph.leads()), ()), tuple(graph.leads()), entries, {}, {})
    some = (
        st.frozensets(st.sampled_from(planned.partitions()))
        if planned.partitions()
        else st.just(frozenset[Partition]())
    )
    done = draw(some)
    return Case(graph, planned, draw(st.integers(1, 4)), done, draw(some) - done)


@given(cases(), st.data())
def test_nothing_begins_before_all_that_it_reads_is_settled_and_all_ends_done_failed_or_held(
    case: Case, data: st.DataObject
) -> None:
    dispatch = Dispatch(case.graph, case.planned, case.chunks(), done=set(case.done))
    begun, running = set(case.done), list[tuple[str, list[date]]]()
    while True:
        while data.draw(st.booleans()) or not running:
            given_out = dispatch.next()
            if given_out is None:
                break
            lead, days = given_out
            partitions = {Partition(lead, day) for day in days}
            assert days == sorted(set(days))
            assert not partitions & begun  # once
            for partition in partitions:
                assert case.reads(partition) <= dispatch.done  # neither open, nor failed, nor held
            begun |= partitions
            running.append(given_out)
        if not running:
            break
        lead, days = running.pop(data.draw(st.integers(0, len(running) - 1)))
        made = [day for day in days if Partition(lead, day) not in case.bad]
        dispatch.ended(lead, days, made)
    assert dispatch.is_over
    failed = {partition for partition in case.bad if not case.above(partition) & (begun_bad(case))}
    held = {partition for partition in set(case.planned.partitions()) - case.done if case.above(partition) & failed}
    assert dispatch.failed == failed
    assert set(dispatch.held) == held
    assert dispatch.done == set(case.planned.partitions()) - failed - held
    assert all(cause in failed & case.above(partition) for partition, cause in dispatch.held.items())


def begun_bad(case: Case) -> set[Partition]:
    """Of the bad ones those that are tried: nothing bad is above them."""
    tried = set[Partition]()
    for partition in (each for each in case.planned.partitions() if each in case.bad):
        if not case.above(partition) & tried:
            tried.add(partition)
    return tried


@given(cases())
def test_what_failed_holds_what_reads_it_and_what_reads_that(case: Case) -> None:
    left: Collection[Partition] = set(case.planned.partitions()) - case.done - case.bad
    expected = {partition for partition in left if any(bad in direct(case, partition, left) for bad in case.bad)}
    assert held_by(case.graph, case.bad, left) == expected


def direct(case: Case, partition: Partition, through: Collection[Partition]) -> set[Partition]:
    """What it reads, and what those of `through` that it reads do, and so on."""
    found, front = set[Partition](), {partition}
    while front:
        front = {each for one in front for each in case.reads(one)} - found
        found |= front
        front &= set(through)
    return found


def chain_of_two() -> tuple[Graph, Plan]:
    tables = {"events": Table("events", {}), "features": Table("features", {"events": Window(-1, 0)})}
    graph = Graph(tables, {name: (name,) for name in tables}, frozenset(), dict.fromkeys(tables, FIRST))
    entries = {name: {day: Entry(Action.COMPUTE, Reason.MISSING) for day in DAYS[:4]} for name in tables}
    return graph, Plan(Ask(Mode.FULL, tuple(tables), ()), tuple(tables), entries, {}, {})


def test_a_chunk_begins_as_soon_as_its_own_inputs_are_there_though_others_of_the_table_are_not() -> None:
    graph, planned = chain_of_two()
    dispatch = Dispatch(graph, planned, chunks(graph, planned, days_per_run=2))
    first, second = dispatch.next(), dispatch.next()
    assert (first, second) == (("events", DAYS[:2]), ("events", DAYS[2:4]))
    assert dispatch.next() is None
    assert not dispatch.is_over
    dispatch.ended("events", DAYS[:2], DAYS[:2])
    assert dispatch.next() == ("features", DAYS[:2])
    assert dispatch.next() is None


def test_a_failed_day_holds_its_readers_with_itself_as_the_cause_and_no_other_day() -> None:
    graph, planned = chain_of_two()
    dispatch = Dispatch(graph, planned, chunks(graph, planned, days_per_run=4))
    assert dispatch.next() == ("events", DAYS[:4])
    dispatch.ended("events", DAYS[:4], [DAYS[0], DAYS[2], DAYS[3]])
    assert dispatch.next() == ("features", [DAYS[0], DAYS[3]])
    assert dispatch.failed == {Partition("events", DAYS[1])}
    assert dispatch.held == dict.fromkeys(
        [Partition("features", DAYS[1]), Partition("features", DAYS[2])], Partition("events", DAYS[1])
    )


def test_what_is_held_holds_what_reads_it_with_the_same_cause() -> None:
    reads = {"raw": {}, "events": {"raw": Window(0, 0)}, "sales": {"events": Window(0, 0)}}
    tables = {name: Table(name, each) for name, each in reads.items()}
    graph = Graph(tables, {name: (name,) for name in tables}, frozenset(), dict.fromkeys(tables, FIRST))
    entries = {name: {FIRST: Entry(Action.COMPUTE, Reason.MISSING)} for name in tables}
    planned = Plan(Ask(Mode.FULL, tuple(tables), ()), tuple(tables), entries, {}, {})
    dispatch = Dispatch(graph, planned, chunks(graph, planned, days_per_run=1))
    dispatch.next()
    dispatch.ended("raw", [FIRST], [])
    assert dispatch.next() is None
    assert dispatch.is_over
    assert dispatch.held == dict.fromkeys(
        [Partition("events", FIRST), Partition("sales", FIRST)], Partition("raw", FIRST)
    )
    left = set(dispatch.held)
    assert held_by(graph, {Partition("raw", FIRST)}, left) == left


def test_a_partition_that_is_done_already_shields_its_readers_from_what_failed_above_it() -> None:
    reads = {"raw": {}, "events": {"raw": Window(0, 0)}, "sales": {"events": Window(0, 0)}}
    tables = {name: Table(name, each) for name, each in reads.items()}
    graph = Graph(tables, {name: (name,) for name in tables}, frozenset(), dict.fromkeys(tables, FIRST))
    entries = {name: {FIRST: Entry(Action.COMPUTE, Reason.MISSING)} for name in tables}
    planned = Plan(Ask(Mode.FULL, tuple(tables), ()), tuple(tables), entries, {}, {})
    done = {Partition("events", FIRST)}
    dispatch = Dispatch(graph, planned, chunks(graph, planned, days_per_run=1), done=done)

    assert dispatch.next() == ("raw", [FIRST])
    dispatch.ended("raw", [FIRST], [])

    assert dispatch.next() == ("sales", [FIRST])
    assert not dispatch.held
    assert held_by(graph, dispatch.failed, {Partition("sales", FIRST)}) == set()


def test_days_of_the_last_chunk_that_were_interrupted_are_left() -> None:
    graph = Graph({"t0": Table("t0", {})}, {"t0": ("t0",)}, frozenset(), {"t0": FIRST})
    entries = {"t0": {day: Entry(Action.COMPUTE, Reason.MISSING) for day in DAYS[:3]}}
    planned = Plan(Ask(Mode.FULL, ("t0",), ()), ("t0",), entries, {}, {})
    dispatch = Dispatch(graph, planned, chunks(graph, planned, days_per_run=30))
    assert dispatch.next() == ("t0", DAYS[:3])

    dispatch.ended("t0", DAYS[:1], DAYS[:1])

    assert dispatch.next() is None
    assert not dispatch.is_over
