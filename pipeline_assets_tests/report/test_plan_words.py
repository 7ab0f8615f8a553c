"""A plan in words: folded, told in the right number, every fate explained."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from pipeline_assets.partition import Partition
from pipeline_assets.report.plan_words import COLUMNS, explained, folded, headline, progress_rows, rows, sums
from pipeline_assets.rules.backfill import Action, Ask, Entry, Estimate, Mode, Plan, Reason, Spread, TableProgress

FIRST = date(2026, 2, 14)
COMPUTE, SKIP, WAIT = Entry(Action.COMPUTE, Reason.MISSING), Entry(Action.SKIP, None), Action.WAIT


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


def plan(
    entries: dict[str, dict[date, Entry]],
    *,
    mode: Mode = Mode.FULL,
    force: bool = False,
    why: str = "",
    **more: dict[str, TableProgress] | dict[str, Estimate],
) -> Plan:
    ask = Ask(mode, ("events",), ((day(0), day(400)),), why, force)
    return Plan(ask, tuple(entries), entries, {}, {}, **more)  # type: ignore[arg-type]


def test_three_years_are_one_line_and_scattered_days_are_counted() -> None:
    assert folded([day(number) for number in range(1096)]) == f"{FIRST} to {day(1095)}"
    assert folded([day(2 * number) for number in range(200)]) == (
        f"{FIRST}, {day(2)}, {day(4)}, {day(6)}, and 196 more stretches"
    )
    assert folded([day(0), day(1), day(5)]) == f"{FIRST} to {day(1)}, {day(5)}"


def test_a_table_is_named_once_and_each_fate_of_its_days_is_a_line_below_it() -> None:
    waits = Entry(WAIT, Reason.MISSING, Partition("landing", day(3)))
    reads = Entry(Action.COMPUTE, Reason.DOWNSTREAM_OF, Partition("events", day(0)))
    found = rows(
        plan({"events": {day(3): waits, day(0): COMPUTE, day(1): COMPUTE, day(2): SKIP}, "sales": {day(0): reads}})
    )
    assert all(len(row) == len(COLUMNS) for row in found)
    assert found == [
        ["events", None, None, None, None],
        ["  compute", "MISSING", 2, f"{FIRST} to {day(1)}", ""],
        ["  skip", None, 1, str(day(2)), ""],
        ["  wait", "MISSING", 1, str(day(3)), f"waits for landing {day(3)}"],
        ["sales", None, None, None, None],
        ["  compute", "DOWNSTREAM_OF", 1, str(FIRST), f"reads events {FIRST}"],
    ]


@pytest.mark.parametrize(
    ("number", "runs", "said"),
    [
        (1, 1, "To compute: 1 partition of 1 day, in 1 run, tables in this order."),
        (1000, 34, "To compute: 1,000 partitions of 1,000 days, in 34 runs, tables in this order."),
        (2, None, "To compute: 2 partitions of 2 days, tables in this order."),
        (0, 0, "Nothing is to be computed."),
    ],
)
def test_what_is_to_be_computed_is_counted(number: int, runs: int | None, said: str) -> None:
    assert sums(plan({"events": {day(each): COMPUTE for each in range(number)}}), runs=runs)[0] == said


def test_estimates_are_told_with_their_spread_and_what_is_not_known_is_named() -> None:
    known = Estimate(1, Spread(1200, 1000, 1500), Spread(5e6, 5e6, 5e6), Spread(90, 60, 120))
    unknown = Estimate(1, None, None, None)
    entries = {"events": {day(0): COMPUTE}, "sales": {day(0): COMPUTE}}
    assert sums(plan(entries, estimates={"events": known, "sales": unknown}), runs=2)[1] == (
        "As the days before: about 1,200 (1,000 to 1,500) rows, 5.0 MB, 1 min 30 s (1 min to 2 min) of work; "
        "nothing is known yet of sales."
    )
    assert sums(plan(entries, estimates={"events": unknown, "sales": unknown}), runs=2)[1].startswith(
        "How long that takes is not known"
    )


def test_what_is_skipped_and_what_waits_is_said() -> None:
    entries = {"events": {day(0): SKIP, day(1): Entry(WAIT, Reason.MISSING, Partition("landing", day(1)))}}
    skipped, waiting = sums(plan(entries), runs=0)[1:]
    assert skipped == "Skipped: 1 partition, as inputs and code did not change; --force computes them all the same."
    assert waiting.startswith("Waiting: 1 partition, for what is not there")
    assert not any("--force" in said for said in sums(plan(entries, force=True), runs=0))
    assert any("--mode stale" in said for said in sums(plan(entries, mode=Mode.INCREMENTAL), runs=0))
    assert not any("--mode stale" in said for said in sums(plan(entries), runs=0))


def test_the_headline_says_what_was_asked_for_and_why() -> None:
    assert headline(plan({}, force=True, why="bug 12")) == (
        f"full backfill of events, {FIRST} to {day(400)}, by force, because: bug 12"
    )


def test_the_watermark_is_told_with_the_number_of_days_that_are_missing_before_it() -> None:
    gaps = ((day(1), day(2)), (day(5), day(5)))
    told = {"events": TableProgress(day(9), gaps), "sales": TableProgress(day(9), ()), "new": TableProgress(None, ())}
    assert progress_rows(plan({}, progressed=told)) == [
        ["events", day(9), f"3 days: {day(1)} to {day(2)}, {day(5)}"],
        ["sales", day(9), "none"],
        ["new", "nothing yet", "none"],
    ]


REASONS = {
    Reason.FAILED: "its last attempt failed",
    Reason.MISSING: "it was never made, or is gone",
    Reason.UNRECORDED: "somebody else wrote or changed its file",
    Reason.TORN: "its tables are of different steps",
    Reason.CODE_CHANGED: "it was made by another version of the code",
    Reason.INPUT_CHANGED: f"it was made from another version of raw {FIRST}",
    Reason.LATE_DATA: f"raw {FIRST} came after it was made",
    Reason.MADE: "wrong code made it",
    Reason.REQUESTED: "it was asked for",
    Reason.DOWNSTREAM_OF: f"it reads raw {FIRST}",
}


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_explained(reason: Reason) -> None:
    told = plan({"events": {FIRST: Entry(Action.COMPUTE, reason, Partition("raw", FIRST))}})
    assert explained(told, Partition("events", FIRST)) == [
        f"events {FIRST} is computed, {reason.value}: {REASONS[reason]}."
    ]
    assert rows(told)[1][1] == reason.value


def test_what_waits_is_explained_to_what_is_not_there() -> None:
    chain = plan(
        {
            "raw": {FIRST: Entry(WAIT, Reason.MISSING, Partition("landing", FIRST))},
            "events": {FIRST: Entry(WAIT, Reason.MISSING, Partition("raw", FIRST))},
        }
    )
    assert explained(chain, Partition("events", FIRST)) == [
        f"events {FIRST} should be computed, MISSING, and waits for raw {FIRST}.",
        f"raw {FIRST} should be computed, MISSING, and waits for landing {FIRST}.",
        f"landing {FIRST} is not there, and nothing in this plan makes it.",
    ]


def test_a_partition_that_is_held_waits_for_whoever_makes_it_and_so_does_what_reads_it() -> None:
    held = Partition("events", FIRST)
    told = plan(
        {
            "events": {FIRST: Entry(WAIT, Reason.MISSING, held)},
            "sales": {FIRST: Entry(WAIT, Reason.DOWNSTREAM_OF, held)},
        }
    )
    last = f"events {FIRST} waits: somebody else is making it, or it must not be tried again now."
    assert explained(told, held) == [last]
    assert explained(told, Partition("sales", FIRST)) == [
        f"sales {FIRST} should be computed, DOWNSTREAM_OF, and waits for events {FIRST}.",
        last,
    ]


def test_a_skipped_partition_is_explained() -> None:
    assert explained(plan({"events": {FIRST: SKIP}}), Partition("events", FIRST)) == [
        f"events {FIRST} is skipped: its inputs and code did not change."
    ]


@pytest.mark.parametrize(
    ("partition", "mode", "said"),
    [
        (Partition("sales", FIRST), Mode.FULL, "sales was not asked for"),
        (Partition("events", FIRST - timedelta(days=1)), Mode.FULL, "its day was not asked for"),
        (Partition("events", FIRST), Mode.MISSING, "--mode missing finds nothing to do for it (it is there)"),
    ],
)
def test_what_is_left_alone_is_told_why(partition: Partition, mode: Mode, said: str) -> None:
    assert explained(plan({}, mode=mode), partition) == [
        f"{partition} is left alone: {said}, and it reads nothing that is computed."
    ]
