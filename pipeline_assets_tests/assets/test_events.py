"""`events`: one row per event of a day, the same whatever else arrives, in whatever order and files."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets import Result
from pipeline_assets.assets.events import EVENTS, events
from pipeline_assets.assets.raw_events import EVENT_COLUMNS
from pipeline_assets.rules.contract import Audit
from pipeline_assets_tests.assets.landed import DAY, HEADER, arrive, land
from pipeline_assets_tests.support.properties import examples

NEXT = DAY + timedelta(days=1)
NOON = datetime(2026, 6, 10, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)
EVENT = pa.schema([(column.name, column.type) for column in EVENT_COLUMNS])
RAW = EVENT.append(pa.field("source_file", pa.string())).append(pa.field("dt", pa.date32()))


class Raw(NamedTuple):
    """An arrival."""

    event_id: str
    user_id: str | None = "u1"
    event_type: str = "sale"
    amount: Decimal | None = Decimal("1.5000")
    event_time: datetime = NOON
    source_file: str = "dt=2026-06-10/a.csv"
    dt: date = DAY


def made(arrivals: Iterable[Raw], day: date = DAY, timezone: str = "UTC") -> tuple[list[Any], Result]:
    """Events of a day, which keep their contract, and the result."""
    table = pa.Table.from_pylist([row._asdict() for row in arrivals], RAW)
    result = events(day, table.to_reader(3), timezone=timezone)
    rows = EVENTS.conform(pa.Table.from_batches(result.rows, EVENT))
    audit = Audit(EVENTS, day, timezone)
    audit.watch(rows)
    audit.close()
    assert callable(result.accounting)
    assert result.accounting().unaccounted == 0
    assert result.accounting().kept == rows.num_rows
    return rows.to_pylist(), result


def ids(arrivals: Iterable[Raw], day: date = DAY, timezone: str = "UTC") -> list[str]:
    return [row["event_id"] for row in made(arrivals, day, timezone)[0]]


def local(text: str, timezone: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(timezone), fold=fold).astimezone(UTC)


# --- One row per event


def test_an_event_that_arrives_several_times_is_one_and_the_others_are_duplicates() -> None:
    rows, result = made(
        [Raw("b"), Raw("a"), Raw("b"), Raw("b", dt=NEXT), Raw("c", event_time=NOON + timedelta(days=1))]
    )
    assert [row["event_id"] for row in rows] == ["a", "b"]
    assert callable(result.accounting)
    assert str(result.accounting()) == "4 read = 2 kept + 2 duplicates + 0 rejected"


def test_a_day_without_arrivals_has_no_events() -> None:
    rows, result = made([])
    assert rows == []
    assert callable(result.accounting)
    assert result.accounting().read == 0


def test_the_latest_arrival_wins() -> None:
    arrivals = [
        Raw("e", amount=Decimal(2), dt=NEXT),
        Raw("e", amount=Decimal(9), dt=DAY),
        Raw("e", amount=Decimal(8), dt=DAY - timedelta(days=1)),
    ]
    for order in (arrivals, arrivals[::-1]):
        assert [row["amount"] for row in made(order)[0]] == [Decimal(2)]


def test_a_redelivery_changes_nothing_about_an_event() -> None:
    first = [Raw(str(n), amount=Decimal(n)) for n in range(20)]
    again = [row._replace(dt=NEXT, source_file="dt=2026-06-11/again.csv") for row in first]
    assert made(first)[0] == made([*first, *first])[0] == made([*first, *again])[0] == made([*again, *first])[0]


VARIANTS = st.builds(
    Raw,
    event_id=st.sampled_from("ab"),
    user_id=st.sampled_from([None, "u1", "u2"]),
    event_type=st.sampled_from(["refund", "sale"]),
    amount=st.sampled_from([None, Decimal(1), Decimal(2)]),
    event_time=st.sampled_from([NOON, NOON + TICK]),
    dt=st.sampled_from([DAY, NEXT]),
)


@examples(60)
@given(arrivals=st.lists(VARIANTS, max_size=8), seed=st.integers(0, 99))
def test_which_arrival_wins_is_a_matter_of_day_and_content_not_of_files_or_order(
    arrivals: list[Raw], seed: int
) -> None:
    shuffled = random.Random(seed).sample(arrivals, len(arrivals))
    renamed = [row._replace(source_file=f"dt={row.dt}/{seed}-{n}.csv") for n, row in enumerate(shuffled)]
    rows = made(arrivals)[0]
    assert rows == made(renamed)[0]
    for row in rows:
        of_event = [each for each in arrivals if each.event_id == row["event_id"]]
        latest = [each for each in of_event if each.dt == max(each.dt for each in of_event)]
        assert tuple(row.values()) in {each[:5] for each in latest}


# --- Days


@pytest.mark.parametrize("timezone", ["UTC", "Europe/London", "America/New_York", "Pacific/Auckland", "Asia/Kolkata"])
def test_the_first_and_the_last_microsecond_of_a_local_day_are_in_it_and_their_neighbours_are_not(
    timezone: str,
) -> None:
    first, end = local("2026-06-10T00:00:00", timezone), local("2026-06-11T00:00:00", timezone)
    times = {"before": first - TICK, "first": first, "last": end - TICK, "after": end}
    arrivals = [Raw(name, event_time=time) for name, time in times.items()]
    assert ids(arrivals, DAY, timezone) == ["first", "last"]
    assert ids(arrivals, NEXT, timezone) == ["after"]
    assert ids(arrivals, DAY - timedelta(days=1), timezone) == ["before"]


@pytest.mark.parametrize(
    ("timezone", "day", "hours"),
    [
        ("Europe/London", date(2026, 3, 29), 23),
        ("Europe/London", date(2026, 10, 25), 25),
        ("America/New_York", date(2026, 3, 8), 23),
        ("America/New_York", date(2026, 11, 1), 25),
        ("America/Santiago", date(2026, 9, 6), 23),  # midnight itself is skipped
        ("Australia/Lord_Howe", date(2026, 4, 5), 24.5),
        ("Pacific/Apia", date(2011, 12, 29), 24),  # and the 30th did not happen
    ],
)
def test_days_that_are_not_24_hours_long_neither_lose_nor_double_an_event(
    timezone: str, day: date, hours: float
) -> None:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(days=2)
    instants = [start + timedelta(minutes=30 * n) for n in range(2 * 24 * 5)]
    arrivals = [Raw(instant.isoformat(), event_time=instant, dt=day) for instant in instants]
    by_day = {each: ids(arrivals, each, timezone) for each in (day + timedelta(days=offset) for offset in range(-4, 6))}
    assert sorted(event for found in by_day.values() for event in found) == sorted(row.event_id for row in arrivals)
    assert len(by_day[day]) == hours * 2
    for each, found in by_day.items():
        assert {datetime.fromisoformat(event).astimezone(ZoneInfo(timezone)).date() for event in found} <= {each}


def test_both_of_the_hours_that_a_clock_shows_twice_are_of_the_day() -> None:
    twice = [local("2026-10-25T01:30:00", "Europe/London", fold) for fold in (0, 1)]
    assert twice[0] != twice[1]
    arrivals = [Raw(str(n), event_time=time) for n, time in enumerate(twice)]
    assert ids(arrivals, date(2026, 10, 25), "Europe/London") == ["0", "1"]


# --- From files


def lines_of(rows: Sequence[tuple[str, str, str]]) -> str:
    return HEADER + "".join(f"{event_id},u1,sale,{amount},{time}\n" for event_id, amount, time in rows)


def from_files(root: Path, day: date, timezone: str, lateness_days: int = 3) -> list[Any]:
    """Events of a day from the raw events of all arrival days that may hold some."""
    tables = []
    for offset in range(-1, lateness_days + 1):
        arrival = day + timedelta(days=offset)
        kept = arrive(root, arrival, timezone=timezone, lateness_days=lateness_days).kept
        tables.append(kept.append_column("dt", pa.repeat(pa.scalar(arrival), kept.num_rows)))
    result = events(day, pa.concat_tables(tables).to_reader(), timezone=timezone)
    return list(pa.Table.from_batches(result.rows, EVENT).to_pylist())


@pytest.mark.parametrize("timezone", ["America/Los_Angeles", "Pacific/Auckland"])
def test_arrivals_in_the_folders_of_another_zone_are_found(tmp_path: Path, timezone: str) -> None:
    """The uploader names folders by UTC; an event is early or late by a day then, and still in its own."""
    instants = [NOON + timedelta(hours=n) for n in range(-24, 25)]
    for instant in instants:
        day = instant.date()
        name = f"{instant:%H}.csv"
        land(tmp_path, name, lines_of([(instant.isoformat(), "1", instant.isoformat())]), day)
    expected = {
        each: sorted(i.isoformat() for i in instants if i.astimezone(ZoneInfo(timezone)).date() == each)
        for each in (DAY + timedelta(days=offset) for offset in range(-2, 3))
    }
    assert sum(map(len, expected.values())) == len(instants)
    for each, ids_of_day in expected.items():
        assert [row["event_id"] for row in from_files(tmp_path, each, timezone)] == ids_of_day


def test_an_event_counts_for_its_day_up_to_the_last_day_that_it_may_be_late(tmp_path: Path) -> None:
    time = "2026-06-10T23:59:59.999999Z"
    for late in range(5):
        land(tmp_path, "a.csv", lines_of([(str(late), "1", time)]), DAY + timedelta(days=late))
    assert [row["event_id"] for row in from_files(tmp_path, DAY, "UTC")] == ["0", "1", "2", "3"]
    assert arrive(tmp_path, DAY + timedelta(days=4)).rejects("rule") == [("too_late",)]


def test_a_corrected_redelivery_replaces_what_came_first(tmp_path: Path) -> None:
    land(tmp_path, "z.csv", lines_of([("e", "1", "2026-06-10T12:00:00Z"), ("f", "1", "2026-06-10T12:00:00Z")]))
    land(tmp_path, "a.csv", lines_of([("e", "2", "2026-06-10T12:00:00Z")]), NEXT)
    amounts = {row["event_id"]: row["amount"] for row in from_files(tmp_path, DAY, "UTC")}
    assert amounts == {"e": Decimal(2), "f": Decimal(1)}
