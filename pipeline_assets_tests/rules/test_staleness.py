"""Whether a partition must be computed again, told from records alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import takewhile

import pytest

from pipeline_assets.rules.reach import Graph, Table
from pipeline_assets.rules.staleness import Answer, Change, Made, Reaction, Spot, State, affected, react
from pipeline_assets.rules.windows import Window, arrivals, same_day, trailing

FIRST = date(2026, 3, 1)
DAYS = [FIRST + timedelta(days=number) for number in range(10)]
MIDNIGHT = datetime(2026, 4, 1, tzinfo=UTC)


def graph(*tables: Table, together: Collection[str] = (), days_per_run: Mapping[str, int] | None = None) -> Graph:
    """The first table is a source; `together` are made by one step."""
    return Graph(
        {table.name: table for table in tables},
        {table.name: tuple(together) if table.name in together else (table.name,) for table in tables},
        frozenset({tables[0].name}),
        dict.fromkeys((table.name for table in tables), FIRST),
        days_per_run or {},
    )


SHOP = graph(
    Table("raw", {}),
    Table("events", {"raw": arrivals(lateness_days=2)}),
    Table("sales", {"events": same_day()}),
    Table("features", {"events": trailing(days=3)}),
)


@dataclass
class Notes:
    """Records, the newest last; a minute passes between them."""

    records: dict[Spot, list[Made]] = field(default_factory=dict)
    asked: list[tuple[str, int]] = field(default_factory=list)
    count: int = 0

    def note(self, table: str, day: int, digest: str | None = "A", **made_from: Mapping[int, str]) -> Made:
        self.count += 1
        at = MIDNIGHT + timedelta(minutes=self.count)
        inputs = {name: {DAYS[number]: each for number, each in days.items()} for name, days in made_from.items()}
        made = Made(self.count, digest, made_from=inputs, recorded_at=at, began_at=at)
        self.records.setdefault(Spot(table, DAYS[day]), []).append(made)
        return made

    def began_after(self, table: str, day: int, event: Made) -> None:
        """The newest record's run began between that event and the next one."""
        records = self.records[Spot(table, DAYS[day])]
        records[-1] = replace(records[-1], began_at=event.recorded_at + timedelta(seconds=1))

    def made(self, table: str, days: Collection[date]) -> dict[date, Made]:
        self.asked.append((table, len(days)))
        return {day: self.records[Spot(table, day)][-1] for day in days if Spot(table, day) in self.records}

    def changed(self, table: str, day: date) -> Made | None:
        newest_first = self.records.get(Spot(table, day), [])[::-1]
        return list(takewhile(lambda each: each.digest == newest_first[0].digest, newest_first))[-1]


def spots(table: str, *days: int) -> set[Spot]:
    return {Spot(table, DAYS[day]) for day in days}


def reaction(
    ledger: Notes,
    *candidates: Collection[Spot],
    of: Graph = SHOP,
    running: Collection[Spot] = (),
    answers: Mapping[Spot, Answer] | None = None,
) -> Reaction:
    return react(of, set().union(*candidates), ledger, running=running, answers=answers or {})


def requested(found: Reaction) -> list[tuple[str, int, int]]:
    return [("+".join(each.leads), (each.first - FIRST).days, (each.last - FIRST).days) for each in found.requests]


def state(found: Reaction, table: str, day: int) -> State:
    return found.judged[Spot(table, DAYS[day])].state


def test_a_partition_that_was_never_made_is_missing_when_its_inputs_are_there() -> None:
    ledger = Notes()
    ledger.note("raw", 1)

    found = reaction(ledger, spots("events", 1, 2))

    assert state(found, "events", 1) is State.MISSING
    assert state(found, "events", 2) is State.WAITING
    assert found.judged[Spot("events", DAYS[2])].because_of == [Spot("raw", DAYS[2])]
    assert requested(found) == [("events", 1, 1)]


@pytest.mark.parametrize(("now", "expected"), [("A", State.CURRENT), ("B", State.STALE)])
def test_a_partition_is_stale_when_an_input_has_another_digest_than_was_read(now: str, expected: State) -> None:
    ledger = Notes()
    ledger.note("events", 1, "A")
    ledger.note("sales", 1, events={1: "A"})
    ledger.note("events", 1, now)

    found = reaction(ledger, spots("sales", 1))

    assert state(found, "sales", 1) is expected
    changes = found.judged[Spot("sales", DAYS[1])].changes
    assert changes == ([] if now == "A" else [Change(Spot("events", DAYS[1]), "A", "B")])


def test_an_input_that_changed_there_and_back_is_no_change() -> None:
    ledger = Notes()
    for digest in "AB":
        ledger.note("events", 1, digest)
    ledger.note("sales", 1, events={1: "A"})
    ledger.note("events", 1, "A")

    assert requested(reaction(ledger, spots("sales", 1))) == []


def test_an_input_that_changed_while_it_was_read_is_a_change() -> None:
    ledger = Notes()
    ledger.note("events", 1, "A")
    ledger.note("events", 1, "B")
    ledger.note("sales", 1, events={1: "A"})  # recorded after B, made from A

    assert requested(reaction(ledger, spots("sales", 1))) == [("sales", 1, 1)]


def test_a_day_of_the_window_that_was_not_there_is_a_change_once_it_is() -> None:
    ledger = Notes()
    ledger.note("events", 3)
    ledger.note("features", 3, events={3: "A"})
    ledger.note("events", 1)

    found = reaction(ledger, spots("features", 3))

    assert found.judged[Spot("features", DAYS[3])].changes == [Change(Spot("events", DAYS[1]), None, "A")]


def test_days_before_the_history_of_a_table_that_it_did_not_read_are_no_change() -> None:
    ledger, older = Notes(), replace(SHOP, first_days={**SHOP.first_days, "features": DAYS[3]})
    for day in (1, 2, 3):
        ledger.note("events", day)
    ledger.note("features", 3, events={3: "A"})

    assert requested(reaction(ledger, spots("features", 3), of=older)) == []
    ledger.note("events", 3, "B")
    assert requested(reaction(ledger, spots("features", 3), of=older)) == [("features", 3, 3)]


def test_one_change_over_two_ways_is_followed_after_the_last_of_them() -> None:
    ledger, diamond = (
        Notes(),
        graph(
            Table("raw", {}),
            Table("left", {"raw": same_day()}),
            Table("right", {"left": same_day()}),
            Table("both", {"raw": same_day(), "left": same_day(), "right": same_day()}),
        ),
    )
    ledger.note("raw", 1, "B")
    for name, reads in (("left", ["raw"]), ("right", ["left"]), ("both", ["raw", "left", "right"])):
        ledger.note(name, 1, "A", **{each: {1: "A"} for each in reads})
    candidates = [spots(name, 1) for name in ("left", "right", "both")]

    assert requested(reaction(ledger, *candidates, of=diamond)) == [("left", 1, 1)]
    ledger.note("left", 1, "B", raw={1: "B"})
    assert requested(reaction(ledger, *candidates, of=diamond)) == [("right", 1, 1)]
    ledger.note("right", 1, "A", left={1: "B"})  # came out as before
    assert requested(reaction(ledger, *candidates, of=diamond)) == [("both", 1, 1)]


@pytest.mark.parametrize("upstream_day", [1, 2, 3])
def test_whatever_a_window_reaches_holds_back_while_it_is_made(upstream_day: int) -> None:
    ledger = Notes()
    for day in (1, 2, 3):
        ledger.note("events", day)

    found = reaction(ledger, spots("features", 3), running=spots("events", upstream_day))

    assert state(found, "features", 3) is State.HELD
    assert found.judged[Spot("features", DAYS[3])].because_of == [Spot("events", DAYS[upstream_day])]
    assert requested(found) == []


def test_what_no_window_reaches_holds_nothing_back() -> None:
    ledger = Notes()
    ledger.note("events", 3)

    assert requested(reaction(ledger, spots("features", 3), running=spots("events", 0, 4))) == [("features", 3, 3)]


def test_what_is_held_holds_back_what_is_made_from_it() -> None:
    ledger = Notes()
    for day in (1, 2):
        ledger.note("raw", day)
        ledger.note("events", day)

    found = reaction(ledger, spots("events", 1), spots("sales", 1), running=spots("events", 0) | spots("raw", 1))

    assert state(found, "events", 1) is State.HELD
    assert state(found, "sales", 1) is State.HELD


def test_what_waits_for_a_day_that_never_came_holds_nothing_back() -> None:
    ledger = Notes()
    ledger.note("events", 3)

    found = reaction(ledger, spots("events", 2), spots("features", 3))

    assert state(found, "events", 2) is State.WAITING
    assert requested(found) == [("features", 3, 3)]


def test_a_failure_is_not_repeated_with_the_same_inputs_and_holds_its_downstream() -> None:
    ledger = Notes()
    ledger.note("raw", 1)
    ledger.note("events", 1)
    ledger.note("raw", 1, "B")
    want = reaction(ledger, spots("events", 1)).judged[Spot("events", DAYS[1])].want
    answers = {Spot("events", DAYS[1]): Answer(want, succeeded=False)}

    found = reaction(ledger, spots("events", 1), spots("sales", 1), answers=answers)

    assert state(found, "events", 1) is State.FAILED
    assert state(found, "sales", 1) is State.HELD
    ledger.note("raw", 0, "new")
    assert requested(reaction(ledger, spots("events", 1), spots("sales", 1), answers=answers)) == [("events", 1, 1)]
    assert state(reaction(ledger, spots("sales", 1), answers=answers), "sales", 1) is State.HELD, "nobody asked again"


def test_a_failure_that_somebody_mended_lets_its_downstream_go() -> None:
    ledger = Notes()
    ledger.note("raw", 1)
    want = reaction(ledger, spots("events", 1)).judged[Spot("events", DAYS[1])].want
    ledger.note("events", 1, raw={1: "A"})
    answers = {Spot("events", DAYS[1]): Answer(want, succeeded=False)}

    found = reaction(ledger, spots("events", 1), spots("sales", 1), answers=answers)

    assert requested(found) == [("sales", 1, 1)]


def test_a_success_without_a_fitting_record_is_not_repeated_until_an_input_changes() -> None:
    ledger = Notes()
    newest = ledger.note("raw", 1)
    want = reaction(ledger, spots("events", 1)).judged[Spot("events", DAYS[1])].want
    answers = {Spot("events", DAYS[1]): Answer(want, succeeded=True, newest_input=newest.event_id)}

    assert requested(reaction(ledger, spots("events", 1), answers=answers)) == []
    ledger.note("raw", 1, "B")
    assert requested(reaction(ledger, spots("events", 1), answers=answers)) == [("events", 1, 1)]
    ledger.note("raw", 1, "A")
    assert requested(reaction(ledger, spots("events", 1), answers=answers)) == [("events", 1, 1)], "it may have read B"


def test_a_record_that_does_not_say_what_was_read_is_held_against_the_time_of_the_change() -> None:
    ledger = Notes()
    ledger.note("events", 1)
    ledger.note("sales", 1)
    assert requested(reaction(ledger, spots("sales", 1))) == []

    ledger.note("events", 1, "B")
    assert requested(reaction(ledger, spots("sales", 1))) == [("sales", 1, 1)]

    ledger.note("sales", 1, "other")
    assert requested(reaction(ledger, spots("sales", 1))) == []


def test_a_rewrite_does_not_hide_a_change_from_a_record_that_does_not_say_what_was_read() -> None:
    ledger = Notes()
    ledger.note("events", 1, "A")
    ledger.note("sales", 1)
    ledger.note("events", 1, "A")
    assert requested(reaction(ledger, spots("sales", 1))) == []

    ledger.note("events", 1, "B")
    ledger.note("events", 1, "B")
    assert requested(reaction(ledger, spots("sales", 1))) == [("sales", 1, 1)]


def test_a_change_while_a_run_of_such_a_partition_was_under_way_is_a_change() -> None:
    ledger = Notes()
    before = ledger.note("events", 1, "A")
    ledger.note("events", 1, "B")
    ledger.note("sales", 1)
    ledger.began_after("sales", 1, before)

    assert requested(reaction(ledger, spots("sales", 1))) == [("sales", 1, 1)]


def test_an_input_without_a_digest_is_held_against_the_time_of_its_record() -> None:
    ledger = Notes()
    ledger.note("events", 1, "A")
    ledger.note("sales", 1, events={1: "A"})
    ledger.note("events", 1, None)
    assert requested(reaction(ledger, spots("sales", 1))) == [("sales", 1, 1)]

    ledger.note("sales", 1, events={1: "A"})
    assert requested(reaction(ledger, spots("sales", 1))) == []


def test_a_failure_with_an_input_without_a_digest_is_repeated_when_that_is_recorded_again() -> None:
    ledger = Notes()
    ledger.note("raw", 1, None)
    want = reaction(ledger, spots("events", 1)).judged[Spot("events", DAYS[1])].want
    answers = {Spot("events", DAYS[1]): Answer(want, succeeded=False)}
    assert requested(reaction(ledger, spots("events", 1), answers=answers)) == []

    ledger.note("raw", 1, None)
    assert requested(reaction(ledger, spots("events", 1), answers=answers)) == [("events", 1, 1)]


def test_many_days_are_one_request_and_steps_with_the_same_days_share_it() -> None:
    ledger = Notes()
    for day in (0, 1, 2, 5):
        ledger.note("events", day)

    found = reaction(ledger, spots("sales", 0, 1, 2, 5), spots("features", 0, 1, 2))

    assert requested(found) == [("sales+features", 0, 2), ("sales", 5, 5)]
    assert sum(len(each.judgements) for each in found.requests) == 7


def test_a_table_that_takes_so_many_days_per_run_is_requested_in_parts() -> None:
    ledger = Notes()
    for day in range(5):
        ledger.note("events", day)

    found = reaction(ledger, spots("sales", 0, 1, 2, 3, 4), of=replace(SHOP, days_per_run={"sales": 2}))

    assert requested(found) == [("sales", 0, 1), ("sales", 2, 3), ("sales", 4, 4)]
    assert [len(each.judgements) for each in found.requests] == [2, 2, 1]


def test_a_request_is_told_from_an_earlier_one_for_the_same_days_by_its_newest_input() -> None:
    ledger = Notes()
    keys = set()
    for digest in "ABA":
        newest = ledger.note("events", 1, digest)
        (request,) = reaction(ledger, spots("sales", 1)).requests
        assert request.newest_input == newest.event_id
        ledger.note("sales", 1, events={1: digest})
        keys.add((request.judgements[Spot("sales", DAYS[1])].want, request.newest_input))

    assert len(keys) == 3
    assert len({want for want, _ in keys}) == 2


def test_tables_of_one_step_are_judged_and_requested_as_one() -> None:
    pair = graph(
        Table("raw", {}),
        Table("kept", {"raw": same_day()}),
        Table("rejected", {"raw": trailing(days=2)}),
        Table("late", {"rejected": same_day()}),
        together=("kept", "rejected"),
    )
    ledger = Notes()
    for day in (0, 1):
        ledger.note("raw", day)
    changed = affected(pair, spots("raw", 0), dict.fromkeys(pair.tables, DAYS[-1]))

    assert changed == spots("kept", 0, 1)
    found = reaction(ledger, changed, of=pair)
    assert requested(found) == [("kept", 0, 1)]
    ledger.note("kept", 1, raw={0: "A", 1: "A"})
    ledger.note("raw", 0, "B")  # only one of the two tables reads that day
    found = reaction(ledger, spots("kept", 1), spots("late", 1), of=pair)
    assert requested(found) == [("kept", 1, 1)]
    assert state(found, "late", 1) is State.HELD


def test_a_step_whose_tables_lie_far_apart_comes_after_all_that_it_reads() -> None:
    """By its first table alone it would be judged before the step that its second table reads."""
    far = graph(
        Table("raw", {}),
        Table("a_first", {"raw": same_day()}),
        Table("middle", {"raw": same_day()}),
        Table("z_second", {"middle": same_day()}),
        together=("a_first", "z_second"),
    )
    ledger = Notes()
    for name in ("raw", "middle"):
        ledger.note(name, 1)
    ledger.note("a_first", 1, raw={1: "A"}, middle={1: "A"})
    ledger.note("raw", 1, "B")

    found = reaction(ledger, spots("a_first", 1), spots("middle", 1), of=far)

    assert requested(found) == [("middle", 1, 1)]
    assert state(found, "a_first", 1) is State.HELD


def test_affected_partitions_lie_in_the_history_that_is_over() -> None:
    last = dict.fromkeys(SHOP.tables, DAYS[4])

    assert affected(SHOP, spots("raw", 0), last) == spots("events", 0, 1)
    assert affected(SHOP, spots("raw", 4), last) == spots("events", 2, 3, 4)
    assert affected(SHOP, spots("events", 3), last) == spots("sales", 3) | spots("features", 3, 4)
    assert affected(SHOP, spots("features", 3), last) == set()
    assert affected(SHOP, {Spot("gone", DAYS[3])}, last) == set()


def test_a_day_that_is_not_over_yet_is_affected_if_its_own_input_is_there() -> None:
    last = dict.fromkeys(SHOP.tables, DAYS[4])

    assert affected(SHOP, spots("events", 5), last) == spots("sales", 5) | spots("features", 5)
    assert affected(SHOP, spots("events", 7), last) == set(), "no time zone is so far ahead"


def test_a_ledger_is_asked_once_per_table_for_all_days() -> None:
    ledger, zero = Notes(), Window(0, 0)
    for day in range(10):
        ledger.note("events", day)

    reaction(ledger, spots("sales", *range(10)), of=graph(Table("events", {}), Table("sales", {"events": zero})))

    assert ledger.asked == [("sales", 10), ("events", 10)]
