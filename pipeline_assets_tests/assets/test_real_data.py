"""The two real data sets, every day of them, against a computation with csv and decimal alone."""

from __future__ import annotations

import csv
import io
import tarfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest

from pipeline_assets.definitions import build_definitions
from pipeline_assets.orchestration.process import execute, failures_of, plan_range, selected_keys
from pipeline_assets.partition import days_between
from pipeline_assets.settings import Settings
from pipeline_assets.store.local import LocalStore
from pipeline_assets_tests.assets.landed import SOURCES

pytestmark = pytest.mark.needs_shared_data

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
TABLES = ("raw_events", "rejected_events", "events", "daily_sales", "user_features", "user_segments")


@dataclass
class Totals:
    """Of a day."""

    users: set[str] = field(default_factory=set)
    events: Counter[str] = field(default_factory=Counter)
    amounts: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))

    def add(self, user: str, event_type: str, amount: Decimal) -> None:
        self.users |= {user} - {""}
        self.events[event_type] += 1
        self.amounts[event_type] += amount


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Unpacks the days of a data set whose folders begin with the given text; gives the landing zone."""

    def unpack(name: str, days: str) -> Path:
        archive = DATA / f"{name}.tar.xz"
        if not archive.exists():
            pytest.skip(f"{archive} is not there: put the folder `shared` with the data sets beside the checkout")
        folder = tmp_path_factory.mktemp(name)
        with tarfile.open(archive) as packed:
            chosen = [each for each in packed if f"/landing/dt={days}" in each.name]
            packed.extractall(folder, chosen, filter="data")
        (landing,) = folder.glob("**/landing")
        return landing

    return unpack


def run(settings: Settings, first: date, last: date, instance: dg.DagsterInstance) -> None:
    """As `pipeline run --from --to` does: the range, and the days before it that its arrivals reach into."""
    defs = build_definitions(settings, today=last + timedelta(days=1))
    keys = selected_keys(defs, None)
    for planned in plan_range(defs, keys, days_between(first, last), LocalStore(settings.store)):
        result = execute(defs, planned, instance)
        assert result.success, failures_of(result)


def rows(settings: Settings, table: str, day: date) -> list[dict[str, object]]:
    found: list[dict[str, object]] = (
        pq.ParquetFile(settings.store / table / f"dt={day}" / "data.parquet").read().to_pylist()
    )
    return found


def totals(settings: Settings, days: list[date]) -> dict[date, Totals]:
    """What `events` and `daily_sales` hold, which agree with each other."""
    found = {}
    for day in days:
        of_day = Totals()
        users_of_type: dict[object, set[object]] = defaultdict(set)
        for row in rows(settings, "events", day):
            of_day.add(str(row["user_id"] or ""), str(row["event_type"]), Decimal(str(row["amount"])))
            users_of_type[row["event_type"]] |= {row["user_id"]} - {None}
        assert rows(settings, "daily_sales", day) == [
            {
                "sales_date": day,
                "event_type": kind,
                "events": of_day.events[kind],
                "users": len(users_of_type[kind]),
                "amount": of_day.amounts[kind],
            }
            for kind in sorted(of_day.events)
        ]
        found[day] = of_day
    return found


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


# --- online_retail


def retail_totals(landing: Path) -> dict[date, Totals]:
    """Identical lines of a file are one event; C is a cancellation, another letter an adjustment."""
    found: dict[date, Totals] = defaultdict(Totals)
    for path in landing.glob("dt=*/*.csv"):
        header, *lines = path.read_text(encoding="utf-8").split("\n")
        names = header.split(",")
        for line in set(lines) - {""}:
            (values,) = csv.reader(io.StringIO(line))
            row = dict(zip(names, values, strict=True))
            letter = row["InvoiceNo"][0]
            kind = {"C": "cancellation"}.get(letter, "adjustment" if letter.isalpha() else "sale")
            day = datetime.fromisoformat(row["InvoiceDate"]).date()
            amount = Decimal(row["Quantity"]) * Decimal(row["UnitPrice"])
            found[day].add(row["CustomerID"].removesuffix(".0"), kind, amount)
    return found


@pytest.mark.slow(100)
def test_every_day_of_online_retail_in_one_range_run_is_what_csv_and_decimal_say(
    unpacked: Callable[[str, str], Path], tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    days = days_between(date(2010, 12, 1), date(2011, 12, 9))
    landing = unpacked("online_retail", "20")
    settings = Settings(
        landing=landing,
        store=tmp_path / "lake",
        source=SOURCES / "online_retail.sql",
        start=days[0],
        timezone="Europe/London",
    )
    run(settings, days[0], days[-1], instance)
    (made,) = instance.get_run_records()  # one run, not one per day

    expected = retail_totals(landing)
    found = totals(settings, days)
    assert {day: of_day for day, of_day in found.items() if of_day.events} == expected
    assert sum(of_day.events.total() for of_day in found.values()) == 536_641
    assert {kind for of_day in found.values() for kind in of_day.events} == {"sale", "cancellation", "adjustment"}

    without_files = [day for day in days if not (landing / f"dt={day}").exists()]
    assert len(without_files) == len(days) - 305 == 69
    for table in TABLES:
        published = {path.parent.name for path in (settings.store / table).glob("dt=*/data.parquet")}
        assert published == {f"dt={day}" for day in days}, table
    for day in without_files:
        for table in TABLES[:4]:
            assert rows(settings, table, day) == []
    assert [row for day in days for row in rows(settings, "rejected_events", day)] == []
    assert made.dagster_run.is_success


# --- git_commits

LATENESS_DAYS = 30
FIRST, LATE, LAST = date(2013, 5, 1), date(2013, 5, 25), date(2013, 6, 30)


def commit_totals(landing: Path, last_arrival: date) -> dict[date, Totals]:
    """Commits by the UTC day on which they were written, of those that arrived until a day and were not too late."""
    found: dict[date, Totals] = defaultdict(Totals)
    for arrival in days_between(FIRST, last_arrival):
        for path in (landing / f"dt={arrival}").glob("*.csv"):
            with path.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    day = datetime.fromisoformat(row["author_ts"]).astimezone(UTC).date()
                    if -1 <= (arrival - day).days <= LATENESS_DAYS:
                        changed = Decimal(row["insertions"] or 0) + Decimal(row["deletions"] or 0)
                        found[day].add(row["author_key"], row["event_type"], changed)
    return found


@pytest.mark.slow(60)
def test_the_25th_of_may_has_no_commits_on_the_day_itself_and_89_after_its_late_data_arrived(
    unpacked: Callable[[str, str], Path], tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    landing = unpacked("git_commits", "2013-0")
    settings = Settings(
        landing=landing,
        store=tmp_path / "lake",
        source=SOURCES / "git_commits.sql",
        start=FIRST,
        lateness_days=LATENESS_DAYS,
    )
    run(settings, FIRST, LATE, instance)
    assert rows(settings, "events", LATE) == []
    early = days_between(FIRST, LATE)
    expected = commit_totals(landing, LATE)
    assert totals(settings, early) == {day: expected.get(day, Totals()) for day in early}

    run(settings, LATE + timedelta(days=1), LAST, instance)
    assert len(rows(settings, "events", LATE)) == 89
    assert sum(int(str(row["events"])) for row in rows(settings, "daily_sales", LATE)) == 89
    all_days = days_between(FIRST, LAST)
    expected = commit_totals(landing, LAST)
    assert totals(settings, all_days) == {day: expected.get(day, Totals()) for day in all_days}
