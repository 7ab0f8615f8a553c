"""How far a change reaches, held against brute force over small random graphs; and the order of chunks (P2)."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.partition import ranges_of
from pipeline_assets.rules.graph import Graph, Table, days_to_compute
from pipeline_assets.rules.windows import Window, arrivals, same_day, trailing

FIRST = date(2026, 2, 26)
RANGE = [FIRST + timedelta(days=n) for n in range(9)]
WINDOWS = st.builds(Window, st.integers(-4, 0), st.integers(0, 2))

Lake = dict[tuple[str, date], int]


@st.composite
def graphs(draw: st.DrawFn) -> list[Table]:
    """Tables, upstream first; each reads some of those before it."""
    tables: list[Table] = []
    for n in range(draw(st.integers(1, 5))):
        upstream = draw(st.lists(st.sampled_from(tables), unique_by=by_name)) if tables else []
        tables.append(Table(f"t{n}", {table.name: draw(WINDOWS) for table in upstream}))
    return tables


def by_name(table: Table) -> str:
    return table.name


def run(tables: list[Table], asked: list[date], lake: Lake, landed: dict[date, int]) -> None:
    """Compute what `days_to_compute` says; a partition is a pure function of what it finds of its windows."""
    existing = {table.name: [day for name, day in lake if name == table.name] for table in tables}
    days = days_to_compute(tables, asked, existing)
    for table in tables:
        for day in days[table.name]:
            found = [
                (upstream, each, lake[upstream, each])
                for upstream, window in table.reads.items()
                for each in window.upstream_of(day)
                if (upstream, each) in lake
            ]
            lake[table.name, day] = hash((table.name, day, landed.get(day, 0), tuple(found)))


@st.composite
def chunks(draw: st.DrawFn) -> list[list[date]]:
    """The range cut up, in any order, some days more than once."""
    of_day = draw(st.lists(st.integers(0, 4), min_size=len(RANGE), max_size=len(RANGE)))
    cut = [[day for day, chunk in zip(RANGE, of_day, strict=True) if chunk == n] for n in range(5)]
    again = draw(st.lists(st.lists(st.sampled_from(RANGE), unique=True), max_size=2))
    return draw(st.permutations([*cut, *map(sorted, again)]))


@given(tables=graphs(), parts=chunks())
def test_chunks_in_any_order_end_in_the_lake_of_one_run(tables: list[Table], parts: list[list[date]]) -> None:
    at_once: Lake = {}
    run(tables, RANGE, at_once, {})
    in_parts: Lake = {}
    for part in parts:
        run(tables, part, in_parts, {})

    assert in_parts == at_once


@given(tables=graphs(), late=st.sets(st.sampled_from(RANGE)))
def test_after_late_arrivals_their_days_alone_bring_the_whole_lake_up_to_date(
    tables: list[Table], late: set[date]
) -> None:
    landed = dict.fromkeys(late, 1)
    lake: Lake = {}
    run(tables, RANGE, lake, {})
    run(tables, sorted(late), lake, landed)
    anew: Lake = {}
    run(tables, RANGE, anew, landed)

    assert lake == anew


@given(data=st.data(), tables=graphs(), asked=st.sets(st.sampled_from(RANGE)))
def test_days_are_those_of_the_fixpoint_that_brute_force_finds(
    data: st.DataObject, tables: list[Table], asked: set[date]
) -> None:
    existing = {table.name: data.draw(st.sets(st.sampled_from(RANGE)), label=table.name) for table in tables}
    wanted = {table.name: set(asked) for table in tables}
    before = None
    while before != wanted:
        before = {name: set(days) for name, days in wanted.items()}
        for table in tables:
            for day in existing[table.name]:
                if any(wanted[name] & set(window.upstream_of(day)) for name, window in table.reads.items()):
                    wanted[table.name].add(day)

    found = days_to_compute(tables, sorted(asked), existing)

    assert found == {name: sorted(days) for name, days in wanted.items()}


def test_a_late_day_reaches_back_by_the_lateness_and_forward_by_the_window() -> None:
    tables = [
        Table("raw", {}),
        Table("events", {"raw": arrivals(lateness_days=2)}),
        Table("features", {"events": trailing(days=3)}),
        Table("segments", {"features": same_day()}),
    ]
    existing = {table.name: RANGE for table in tables}
    arrived = RANGE[4]

    days = days_to_compute(tables, [arrived], existing)

    assert days["raw"] == [arrived]
    assert days["events"] == RANGE[2:6]
    assert days["features"] == days["segments"] == RANGE[2:8]


def test_what_was_never_computed_is_computed_only_when_asked_for() -> None:
    tables = [Table("events", {}), Table("features", {"events": trailing(days=28)})]

    assert days_to_compute(tables, RANGE[:2], {}) == {"events": RANGE[:2], "features": RANGE[:2]}
    assert days_to_compute(tables, [], {"events": RANGE, "features": RANGE}) == {"events": [], "features": []}


@given(st.sets(st.dates(date(2026, 1, 1), date(2026, 3, 1))))
def test_ranges_hold_the_days_and_no_other_and_are_as_few_as_can_be(days: set[date]) -> None:
    ranges = ranges_of(sorted(days))
    held = [first + timedelta(days=n) for first, last in ranges for n in range((last - first).days + 1)]

    assert held == sorted(days)
    assert all((later[0] - earlier[1]).days > 1 for earlier, later in pairwise(ranges))
    assert all(first <= last for first, last in ranges)


PAIR = Graph(
    {
        "landing": Table("landing", {}),
        "kept": Table("kept", {"landing": same_day(), "elsewhere": same_day()}),
        "rejected": Table("rejected", {"landing": trailing(days=2), "kept": same_day()}),
        "events": Table("events", {"kept": arrivals(lateness_days=3)}),
    },
    {"landing": ("landing",), "kept": ("kept", "rejected"), "rejected": ("kept", "rejected"), "events": ("events",)},
    frozenset({"landing"}),
    dict.fromkeys(("landing", "kept", "rejected", "events"), FIRST),
)


def test_a_step_is_known_by_the_first_of_its_tables() -> None:
    assert [PAIR.lead(table) for table in PAIR.tables] == ["landing", "kept", "kept", "events"]
    assert PAIR.leads() == ["landing", "kept", "events"]


def test_a_step_reads_what_any_of_its_tables_reads_but_not_itself() -> None:
    assert PAIR.reads("kept") == [("landing", trailing(days=2)), ("landing", same_day())]
    assert PAIR.readers("landing") == [("kept", trailing(days=2)), ("kept", same_day())]
    assert PAIR.readers("kept") == [("events", arrivals(lateness_days=3))]
    assert PAIR.readers("rejected") == PAIR.readers("elsewhere") == []


@given(tables=graphs(), data=st.data())
def test_a_step_comes_after_every_step_that_it_reads(tables: list[Table], data: st.DataObject) -> None:
    names = [table.name for table in tables]
    graph = Graph(
        {name: tables[names.index(name)] for name in data.draw(st.permutations(names))},
        {name: (name,) for name in names},
        frozenset(),
        dict.fromkeys(names, FIRST),
    )
    leads = graph.leads()

    assert sorted(leads) == sorted(names)
    assert all(leads.index(read) < leads.index(lead) for lead in leads for read, _ in graph.reads(lead))
