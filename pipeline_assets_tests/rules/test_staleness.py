"""Whether a partition must be computed again, told from records alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import takewhile

import pytest

from pipeline_assets.partition import Partition
from pipeline_assets.record import Record
from pipeline_assets.rules.graph import Graph, Table
from pipeline_assets.rules.staleness import Change, LastAttempt, Reaction, StalenessStatus, downstream_partitions, react
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

    kept: dict[Partition, list[Record]] = field(default_factory=dict)
    asked: list[tuple[str, int]] = field(default_factory=list)
    count: int = 0
    unrecorded: set[Partition] = field(default_factory=set)

    def note(self, table: str, day: int, digest: str | None = "A", **read: Mapping[int, str]) -> Record:
        self.count += 1
        at = MIDNIGHT + timedelta(minutes=self.count)
        inputs = {name: {DAYS[number]: each for number, each in days.items()} for name, days in read.items()}
        made = Record(self.count, digest, inputs=inputs, recorded_at=at, began_at=at)
        self.kept.setdefault(Partition(table, DAYS[day]), []).append(made)
        return made

    def began_after(self, table: str, day: int, event: Record) -> None:
        """The newest record's run began between that event and the next one."""
        records = self.kept[Partition(table, DAYS[day])]
        records[-1] = replace(records[-1], began_at=event.recorded_at + timedelta(seconds=1))

    def records(self, table: str, days: Collection[date]) -> dict[date, Record]:
        self.asked.append((table, len(days)))
        return {day: self.kept[Partition(table, day)][-1] for day in days if Partition(table, day) in self.kept}

    def changed(self, table: str, day: date) -> Record | None:
        newest_first = self.kept.get(Partition(table, day), [])[::-1]
        return list(takewhile(lambda each: each.digest == newest_first[0].digest, newest_first))[-1]


def partitions(table: str, *days: int) -> set[Partition]:
    return {Partition(table, DAYS[day]) for day in days}


def reaction(
    lookup: Notes,
    *candidates: Collection[Partition],
    of: Graph = SHOP,
    running: Collection[Partition] = (),
    last_attempts: Mapping[Partition, LastAttempt] | None = None,
) -> Reaction:
    return react(of, set().union(*candidates), lookup, running=running, last_attempts=last_attempts or {})


def requested(found: Reaction) -> list[tuple[str, int, int]]:
    return [("+".join(each.leads), (each.first - FIRST).days, (each.last - FIRST).days) for each in found.requests]


def status(found: Reaction, table: str, day: int) -> StalenessStatus:
    return found.found[Partition(table, DAYS[day])].status


def test_a_partition_that_was_never_made_is_missing_when_its_inputs_are_there() -> None:
    lookup = Notes()
    lookup.note("raw", 1)

    found = reaction(lookup, partitions("events", 1, 2))

    assert status(found, "events", 1) is StalenessStatus.MISSING
    assert status(found, "events", 2) is StalenessStatus.WAITING
    assert found.found[Partition("events", DAYS[2])].because_of == [Partition("raw", DAYS[2])]
    assert requested(found) == [("events", 1, 1)]


@pytest.mark.parametrize(("now", "expected"), [("A", StalenessStatus.CURRENT), ("B", StalenessStatus.STALE)])
def test_a_partition_is_stale_when_an_input_has_another_digest_than_was_read(
    now: str, expected: StalenessStatus
) -> None:
    lookup = Notes()
    lookup.note("events", 1, "A")
    lookup.note("sales", 1, events={1: "A"})
    lookup.note("events", 1, now)

    found = reaction(lookup, partitions("sales", 1))

    assert status(found, "sales", 1) is expected
    changes = found.found[Partition("sales", DAYS[1])].changes
    assert changes == ([] if now == "A" else [Change(Partition("events", DAYS[1]), "A", "B")])


def test_an_input_that_changed_there_and_back_is_no_change() -> None:
    lookup = Notes()
    for digest in "AB":
        lookup.note("events", 1, digest)
    lookup.note("sales", 1, events={1: "A"})
    lookup.note("events", 1, "A")

    assert requested(reaction(lookup, partitions("sales", 1))) == []


def test_an_input_that_changed_while_it_was_read_is_a_change() -> None:
    lookup = Notes()
    lookup.note("events", 1, "A")
    lookup.note("events", 1, "B")
    lookup.note("sales", 1, events={1: "A"})  # recorded after B, made from A

    assert requested(reaction(lookup, partitions("sales", 1))) == [("sales", 1, 1)]


def test_a_day_of_the_window_that_was_not_there_is_a_change_once_it_is() -> None:
    lookup = Notes()
    lookup.note("events", 3)
    lookup.note("features", 3, events={3: "A"})
    lookup.note("events", 1)

    found = reaction(lookup, partitions("features", 3))

    assert found.found[Partition("features", DAYS[3])].changes == [Change(Partition("events", DAYS[1]), None, "A")]


def test_days_before_the_history_of_a_table_that_it_did_not_read_are_no_change() -> None:
    lookup, older = Notes(), replace(SHOP, first_days={**SHOP.first_days, "features": DAYS[3]})
    for day in (1, 2, 3):
        lookup.note("events", day)
    lookup.note("features", 3, events={3: "A"})

    assert requested(reaction(lookup, partitions("features", 3), of=older)) == []
    lookup.note("events", 3, "B")
    assert requested(reaction(lookup, partitions("features", 3), of=older)) == [("features", 3, 3)]


def test_one_change_over_two_ways_is_followed_after_the_last_of_them() -> None:
    lookup, diamond = (
        Notes(),
        graph(
            Table("raw", {}),
            Table("left", {"raw": same_day()}),
            Table("right", {"left": same_day()}),
            Table("both", {"raw": same_day(), "left": same_day(), "right": same_day()}),
        ),
    )
    lookup.note("raw", 1, "B")
    for name, reads in (("left", ["raw"]), ("right", ["left"]), ("both", ["raw", "left", "right"])):
        lookup.note(name, 1, "A", **{each: {1: "A"} for each in reads})
    candidates = [partitions(name, 1) for name in ("left", "right", "both")]

    assert requested(reaction(lookup, *candidates, of=diamond)) == [("left", 1, 1)]
    lookup.note("left", 1, "B", raw={1: "B"})
    assert requested(reaction(lookup, *candidates, of=diamond)) == [("right", 1, 1)]
    lookup.note("right", 1, "A", left={1: "B"})  # came out as before
    assert requested(reaction(lookup, *candidates, of=diamond)) == [("both", 1, 1)]


@pytest.mark.parametrize("upstream_day", [1, 2, 3])
def test_whatever_a_window_reaches_holds_back_while_it_is_made(upstream_day: int) -> None:
    lookup = Notes()
    for day in (1, 2, 3):
        lookup.note("events", day)

    found = reaction(lookup, partitions("features", 3), running=partitions("events", upstream_day))

    assert status(found, "features", 3) is StalenessStatus.HELD
    assert found.found[Partition("features", DAYS[3])].because_of == [Partition("events", DAYS[upstream_day])]
    assert requested(found) == []


def test_what_no_window_reaches_holds_nothing_back() -> None:
    lookup = Notes()
    lookup.note("events", 3)

    assert requested(reaction(lookup, partitions("features", 3), running=partitions("events", 0, 4))) == [
        ("features", 3, 3)
    ]


def test_what_is_held_holds_back_what_is_made_from_it() -> None:
    lookup = Notes()
    for day in (1, 2):
        lookup.note("raw", day)
        lookup.note("events", day)

    found = reaction(
        lookup, partitions("events", 1), partitions("sales", 1), running=partitions("events", 0) | partitions("raw", 1)
    )

    assert status(found, "events", 1) is StalenessStatus.HELD
    assert status(found, "sales", 1) is StalenessStatus.HELD


def test_what_waits_for_a_day_that_never_came_holds_nothing_back() -> None:
    lookup = Notes()
    lookup.note("events", 3)

    found = reaction(lookup, partitions("events", 2), partitions("features", 3))

    assert status(found, "events", 2) is StalenessStatus.WAITING
    assert requested(found) == [("features", 3, 3)]


def test_a_failure_is_not_repeated_with_the_same_inputs_and_holds_its_downstream() -> None:
    lookup = Notes()
    lookup.note("raw", 1)
    lookup.note("events", 1)
    lookup.note("raw", 1, "B")
    want = reaction(lookup, partitions("events", 1)).found[Partition("events", DAYS[1])].want
    last_attempts = {Partition("events", DAYS[1]): LastAttempt(want, succeeded=False)}

    found = reaction(lookup, partitions("events", 1), partitions("sales", 1), last_attempts=last_attempts)

    assert status(found, "events", 1) is StalenessStatus.FAILED
    assert status(found, "sales", 1) is StalenessStatus.HELD
    lookup.note("raw", 0, "new")
    assert requested(
        reaction(lookup, partitions("events", 1), partitions("sales", 1), last_attempts=last_attempts)
    ) == [("events", 1, 1)]
    assert (
        status(reaction(lookup, partitions("sales", 1), last_attempts=last_attempts), "sales", 1)
        is StalenessStatus.HELD
    ), "nobody asked again"


def test_a_failure_that_somebody_mended_lets_its_downstream_go() -> None:
    lookup = Notes()
    lookup.note("raw", 1)
    want = reaction(lookup, partitions("events", 1)).found[Partition("events", DAYS[1])].want
    lookup.note("events", 1, raw={1: "A"})
    last_attempts = {Partition("events", DAYS[1]): LastAttempt(want, succeeded=False)}

    found = reaction(lookup, partitions("events", 1), partitions("sales", 1), last_attempts=last_attempts)

    assert requested(found) == [("sales", 1, 1)]


def test_a_success_without_a_fitting_record_is_not_repeated_until_an_input_changes() -> None:
    lookup = Notes()
    lookup.note("raw", 1)
    found = reaction(lookup, partitions("events", 1)).found[Partition("events", DAYS[1])]
    last_attempts = {Partition("events", DAYS[1]): LastAttempt(found.want, succeeded=True, commits=found.commits)}

    assert requested(reaction(lookup, partitions("events", 1), last_attempts=last_attempts)) == []
    lookup.note("raw", 1, "B")
    assert requested(reaction(lookup, partitions("events", 1), last_attempts=last_attempts)) == [("events", 1, 1)]
    lookup.note("raw", 1, "A")
    assert requested(reaction(lookup, partitions("events", 1), last_attempts=last_attempts)) == [("events", 1, 1)], (
        "it may have read B"
    )


def test_a_record_that_does_not_say_what_was_read_is_held_against_the_time_of_the_change() -> None:
    lookup = Notes()
    lookup.note("events", 1)
    lookup.note("sales", 1)
    assert requested(reaction(lookup, partitions("sales", 1))) == []

    lookup.note("events", 1, "B")
    assert requested(reaction(lookup, partitions("sales", 1))) == [("sales", 1, 1)]

    lookup.note("sales", 1, "other")
    assert requested(reaction(lookup, partitions("sales", 1))) == []


def test_a_rewrite_does_not_hide_a_change_from_a_record_that_does_not_say_what_was_read() -> None:
    lookup = Notes()
    lookup.note("events", 1, "A")
    lookup.note("sales", 1)
    lookup.note("events", 1, "A")
    assert requested(reaction(lookup, partitions("sales", 1))) == []

    lookup.note("events", 1, "B")
    lookup.note("events", 1, "B")
    assert requested(reaction(lookup, partitions("sales", 1))) == [("sales", 1, 1)]


def test_a_change_while_a_run_of_such_a_partition_was_under_way_is_a_change() -> None:
    lookup = Notes()
    before = lookup.note("events", 1, "A")
    lookup.note("events", 1, "B")
    lookup.note("sales", 1)
    lookup.began_after("sales", 1, before)

    assert requested(reaction(lookup, partitions("sales", 1))) == [("sales", 1, 1)]


def test_an_input_without_a_digest_is_held_against_the_time_of_its_record() -> None:
    lookup = Notes()
    lookup.note("events", 1, "A")
    lookup.note("sales", 1, events={1: "A"})
    lookup.note("events", 1, None)
    assert requested(reaction(lookup, partitions("sales", 1))) == [("sales", 1, 1)]

    lookup.note("sales", 1, events={1: "A"})
    assert requested(reaction(lookup, partitions("sales", 1))) == []


def test_a_failure_with_an_input_without_a_digest_is_repeated_when_that_is_recorded_again() -> None:
    lookup = Notes()
    lookup.note("raw", 1, None)
    want = reaction(lookup, partitions("events", 1)).found[Partition("events", DAYS[1])].want
    last_attempts = {Partition("events", DAYS[1]): LastAttempt(want, succeeded=False)}
    assert requested(reaction(lookup, partitions("events", 1), last_attempts=last_attempts)) == []

    lookup.note("raw", 1, None)
    assert requested(reaction(lookup, partitions("events", 1), last_attempts=last_attempts)) == [("events", 1, 1)]


def test_many_days_are_one_request_and_steps_with_the_same_days_share_it() -> None:
    lookup = Notes()
    for day in (0, 1, 2, 5):
        lookup.note("events", day)

    found = reaction(lookup, partitions("sales", 0, 1, 2, 5), partitions("features", 0, 1, 2))

    assert requested(found) == [("sales+features", 0, 2), ("sales", 5, 5)]
    assert sum(len(each.partitions) for each in found.requests) == 7


def test_a_table_that_takes_so_many_days_per_run_is_requested_in_parts() -> None:
    lookup = Notes()
    for day in range(5):
        lookup.note("events", day)

    found = reaction(lookup, partitions("sales", 0, 1, 2, 3, 4), of=replace(SHOP, days_per_run={"sales": 2}))

    assert requested(found) == [("sales", 0, 1), ("sales", 2, 3), ("sales", 4, 4)]
    assert [len(each.partitions) for each in found.requests] == [2, 2, 1]


def test_a_request_is_told_from_an_earlier_one_for_the_same_days_by_the_commits_of_its_inputs() -> None:
    lookup = Notes()
    keys = set()
    for digest in "ABA":
        lookup.note("events", 1, digest)
        (request,) = reaction(lookup, partitions("sales", 1)).requests
        lookup.note("sales", 1, events={1: digest})
        keys.add((request.partitions[Partition("sales", DAYS[1])].want, request.cause))

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
    lookup = Notes()
    for day in (0, 1):
        lookup.note("raw", day)
    changed = downstream_partitions(pair, partitions("raw", 0), dict.fromkeys(pair.tables, DAYS[-1]))

    assert changed == partitions("kept", 0, 1)
    found = reaction(lookup, changed, of=pair)
    assert requested(found) == [("kept", 0, 1)]
    lookup.note("kept", 1, raw={0: "A", 1: "A"})
    lookup.note("raw", 0, "B")  # only one of the two tables reads that day
    found = reaction(lookup, partitions("kept", 1), partitions("late", 1), of=pair)
    assert requested(found) == [("kept", 1, 1)]
    assert status(found, "late", 1) is StalenessStatus.HELD


def test_a_step_whose_tables_lie_far_apart_comes_after_all_that_it_reads() -> None:
    """By its first table alone it would be judged before the step that its second table reads."""
    far = graph(
        Table("raw", {}),
        Table("a_first", {"raw": same_day()}),
        Table("middle", {"raw": same_day()}),
        Table("z_second", {"middle": same_day()}),
        together=("a_first", "z_second"),
    )
    lookup = Notes()
    for name in ("raw", "middle"):
        lookup.note(name, 1)
    lookup.note("a_first", 1, raw={1: "A"}, middle={1: "A"})
    lookup.note("raw", 1, "B")

    found = reaction(lookup, partitions("a_first", 1), partitions("middle", 1), of=far)

    assert requested(found) == [("middle", 1, 1)]
    assert status(found, "a_first", 1) is StalenessStatus.HELD


def test_affected_partitions_lie_in_the_history_that_is_over() -> None:
    last = dict.fromkeys(SHOP.tables, DAYS[4])

    assert downstream_partitions(SHOP, partitions("raw", 0), last) == partitions("events", 0, 1)
    assert downstream_partitions(SHOP, partitions("raw", 4), last) == partitions("events", 2, 3, 4)
    assert downstream_partitions(SHOP, partitions("events", 3), last) == partitions("sales", 3) | partitions(
        "features", 3, 4
    )
    assert downstream_partitions(SHOP, partitions("features", 3), last) == set()
    assert downstream_partitions(SHOP, {Partition("gone", DAYS[3])}, last) == set()


def test_a_day_that_is_not_over_yet_is_affected_if_its_own_input_is_there() -> None:
    last = dict.fromkeys(SHOP.tables, DAYS[4])

    assert downstream_partitions(SHOP, partitions("events", 5), last) == partitions("sales", 5) | partitions(
        "features", 5
    )
    assert downstream_partitions(SHOP, partitions("events", 7), last) == set(), "no time zone is so far ahead"


def test_a_ledger_is_asked_once_per_table_for_all_days() -> None:
    lookup, zero = Notes(), Window(0, 0)
    for day in range(10):
        lookup.note("events", day)

    reaction(lookup, partitions("sales", *range(10)), of=graph(Table("events", {}), Table("sales", {"events": zero})))

    assert lookup.asked == [("sales", 10), ("events", 10)]
