"""A plan in a file: read back as it was, refused when anything in it was touched."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets.errors import UsageError
from pipeline_assets.partition import Partition
from pipeline_assets.rules.backfill import Action, Ask, Entry, Estimate, Made, Mode, Plan, Reason, Spread, TableProgress
from pipeline_assets.rules.plan_file import FORMAT, digest_of, of_text, to_text

PLANNED_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAYS = st.dates(date(2020, 1, 1), date(2030, 1, 1))
TABLES = ["raw", "events", "größe/tabelle"]
PARTITIONS = st.builds(Partition, st.sampled_from(TABLES), DAYS)
NUMBERS = st.integers(0, 10**12) | st.floats(0, 1e9)
SPREADS = st.none() | st.builds(Spread, NUMBERS, NUMBERS, NUMBERS)
ENTRIES = st.builds(Entry, st.sampled_from(Action), st.none() | st.sampled_from(Reason), st.none() | PARTITIONS)
STRETCHES = st.lists(st.tuples(DAYS, DAYS), max_size=3).map(tuple)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Of anything that the types allow, sense or not."""
    order = tuple(draw(st.lists(st.sampled_from(TABLES), min_size=1, unique=True)))
    entries: dict[str, dict[date, Entry]] = {}
    for lead in order:
        first, fates = draw(DAYS), draw(st.lists(st.tuples(st.integers(1, 2), ENTRIES, st.integers(1, 4)), max_size=4))
        entries[lead] = {}
        for gap, entry, length in fates:
            for _ in range(length):
                entries[lead][first] = entry
                first += timedelta(days=1)
            first += timedelta(days=gap - 1)
    moments = st.none() | st.datetimes(timezones=st.just(UTC))
    made = draw(st.none() | st.builds(Made, st.none() | st.text(), moments, moments))
    ask = Ask(draw(st.sampled_from(Mode)), order, draw(STRETCHES), draw(st.text()), draw(st.booleans()), made)
    some = st.sampled_from(order)
    return Plan(
        ask,
        order,
        entries,
        draw(st.dictionaries(st.sampled_from(TABLES), st.dictionaries(DAYS, st.none() | st.text(), max_size=3))),
        draw(st.dictionaries(some, st.text(), max_size=2)),
        draw(st.dictionaries(st.sampled_from(TABLES), st.builds(TableProgress, st.none() | DAYS, STRETCHES))),
        draw(st.dictionaries(some, st.builds(Estimate, st.integers(1, 9), SPREADS, SPREADS, SPREADS))),
    )


@given(plans())
def test_a_plan_is_read_back_as_it_was_written(plan: Plan) -> None:
    read = of_text(to_text(plan, planned_at=PLANNED_AT), name="plan.json")
    assert (read.plan, read.planned_at) == (plan, PLANNED_AT)
    assert [list(days) for days in read.plan.entries.values()] == [list(days) for days in plan.entries.values()]
    assert read.digest == digest_of(plan) == digest_of(read.plan)


def example() -> Plan:
    entries = {
        "events": {date(2026, 2, day): Entry(Action.COMPUTE, Reason.MISSING) for day in range(1, 29)}
        | {date(2026, 3, 1): Entry(Action.WAIT, Reason.MISSING, Partition("raw", date(2026, 3, 1)))}
    }
    ask = Ask(Mode.SELECTIVE, ("events",), ((date(2026, 2, 1), date(2026, 3, 1)),), "bug 12")
    return Plan(ask, ("events",), entries, {"events": {date(2026, 2, 1): None}}, {"events": "abc"})


def test_the_format_is_as_documented() -> None:
    said = json.loads(to_text(example(), planned_at=PLANNED_AT))
    assert list(said) == ["pipeline_plan", "digest", "planned_at", "ask", "counts", "tables", "progressed", "heads"]
    assert said["counts"] == {"compute": 28, "skip": 0, "wait": 1}
    assert said["tables"]["events"]["partitions"] == [
        ["2026-02-01", "2026-02-28", "compute", "MISSING", None],
        ["2026-03-01", "2026-03-01", "wait", "MISSING", ["raw", "2026-03-01"]],
    ]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every leaf of a JSON value."""
    if isinstance(value, dict):
        return [each for key, inner in value.items() for each in places(inner, (*path, key))]
    if isinstance(value, list):
        return [each for key, inner in enumerate(value) for each in places(inner, (*path, key))]
    return [path]


def test_whatever_is_edited_by_hand_is_noticed() -> None:
    text = to_text(example(), planned_at=PLANNED_AT)
    for path in places(json.loads(text)):
        if path in {("planned_at",), ("pipeline_plan",)}:
            continue
        said = json.loads(text)
        inner = said
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = "edited"
        with pytest.raises(UsageError, match="was edited after it was written"):
            of_text(json.dumps(said), name="plan.json")


def test_laying_it_out_anew_is_no_edit() -> None:
    said = json.loads(to_text(example(), planned_at=PLANNED_AT))
    assert of_text(json.dumps(dict(reversed(said.items()))), name="plan.json").plan == example()


def test_the_digest_is_of_what_the_plan_says_and_not_of_when() -> None:
    later = to_text(example(), planned_at=PLANNED_AT + timedelta(days=1))
    assert of_text(later, name="plan.json").digest == digest_of(example())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not JSON"),
        ('{"pipeline_plan": 1', r"is not JSON \(Expecting"),
        ("null", "is JSON but not a plan"),
        ('{"tables": {}}', "is JSON but not a plan;"),
        (f'{{"pipeline_plan": {FORMAT + 1}}}', f"of format {FORMAT + 1}, this version reads format {FORMAT}"),
        ('{"pipeline_plan": 1}', "was edited after it was written"),
    ],
)
def test_what_is_no_plan_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=rf"^plan\.json .*{said}"):
        of_text(text, name="plan.json")


@pytest.mark.parametrize("change", [{"planned_at": "yesterday"}, {"planned_at": None}])
def test_a_whole_plan_that_says_what_this_version_does_not_know_is_refused(change: dict[str, object]) -> None:
    said = json.loads(to_text(example(), planned_at=PLANNED_AT)) | change
    with pytest.raises(UsageError, match=r"plan\.json cannot be read as a plan"):
        of_text(json.dumps(said), name="plan.json")
