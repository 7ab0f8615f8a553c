"""The reference pipeline through Dagster: what a run leaves in the lake, whatever landed."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow.parquet as pq
import pytest

from pipeline_assets import ParquetIOManager
from pipeline_assets.assets.pipeline import reference_pipeline
from pipeline_assets.assets.source.select import Source, load_source
from pipeline_assets.demo import good_events, write_days
from pipeline_assets.store.landing import LandingZone
from pipeline_assets_tests.assets.landed import DAY, HEADER, SOURCE, SOURCES, land

NEXT = DAY + timedelta(days=1)


@dataclass
class Pipeline:
    """The assets over a landing zone and a lake of their own."""

    root: Path
    instance: dg.DagsterInstance
    source: Source = SOURCE
    timezone: str = "UTC"
    first: date = DAY

    @property
    def landing(self) -> Path:
        return self.root / "landing"

    def run(self, first: date, last: date | None = None) -> dg.ExecuteInProcessResult:
        return dg.materialize(
            reference_pipeline(
                days=dg.DailyPartitionsDefinition(self.first.isoformat(), timezone=self.timezone),
                landing=LandingZone(self.landing),
                source=self.source,
                lateness_days=3,
            ),
            instance=self.instance,
            resources={"io_manager": ParquetIOManager(root=str(self.root / "lake"))},
            tags={
                "dagster/asset_partition_range_start": first.isoformat(),
                "dagster/asset_partition_range_end": (last or first).isoformat(),
            },
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            raise_on_error=False,
        )

    def path(self, table: str, day: date) -> Path:
        return self.root / "lake" / table / f"dt={day}" / "data.parquet"

    def rows(self, table: str, day: date = DAY) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = pq.ParquetFile(self.path(table, day)).read().to_pylist()
        return rows


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Pipeline(tmp_path, instance)


def failure(result: dg.ExecuteInProcessResult) -> str:
    (event,) = [event for event in result.all_events if event.is_step_failure]
    failed = event.step_failure_data.user_failure_data
    assert failed is not None
    return failed.description or ""


def check(result: dg.ExecuteInProcessResult, name: str) -> dg.AssetCheckEvaluation:
    (evaluation,) = [each for each in result.get_asset_check_evaluations() if each.check_name == name]
    return evaluation


MESSY = (
    "\ufeffamount,time,kind,id,who,extra\r\n"
    "1.50,2026-06-10T00:00:00Z,sale,e1,u1,\r\n"
    "1.50,2026-06-10T00:00:00Z,sale,e1,u1,\r\n"
    '"2.50",2026-06-10 23:59:59.999999,"sale, ""large""",e2,,"two\r\nlines"\r\n'
    "twelve,2026-06-10T00:00:00Z,sale,e3,u1,\r\n"
    "3.00,2026-06-10T00:00:00Z,sale,e4\r\n"
    "4.00,2026-05-01T00:00:00Z,sale,e5,u1,\r\n"
    ',2026-06-10T12:00:00+05:30,sale,e6,"u1,\r\n'
    ",2026-06-10T12:00:00+05:30,view,e7,u🧀,\r\n"
)


def test_a_messy_day_ends_in_tables_that_keep_their_contracts_and_in_rejects_with_reasons(pipeline: Pipeline) -> None:
    land(pipeline.landing, "messy.csv", MESSY)
    land(pipeline.landing, "empty.csv.gz", gzip.compress(b""))
    result = pipeline.run(DAY)
    assert result.success
    assert [row["event_id"] for row in pipeline.rows("raw_events")] == ["e1", "e1", "e2", "e7"]
    assert [(row["source_line"], row["rule"]) for row in pipeline.rows("rejected_events")] == [
        (6, "cast"),
        (7, "malformed"),
        (8, "too_late"),
        (9, "malformed"),
    ]
    assert [(row["event_id"], row["user_id"]) for row in pipeline.rows("events")] == [
        ("e1", "u1"),
        ("e2", None),
        ("e7", "u🧀"),
    ]
    assert [(row["event_type"], row["events"], row["amount"]) for row in pipeline.rows("daily_sales")] == [
        ("sale", 1, Decimal("1.5000")),
        ('sale, "large"', 1, Decimal("2.5000")),
        ("view", 1, Decimal(0)),
    ]
    assert [row["user_id"] for row in pipeline.rows("user_features")] == ["u1", "u🧀"]
    assert [row["segment"] for row in pipeline.rows("user_segments")] == ["new_users", "new_users"]
    share = check(result, "rejected_share")
    assert (share.passed, share.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert {e.check_name for e in result.get_asset_check_evaluations() if not e.passed} <= {
        share.check_name,
        "inputs_complete",
    }


def test_a_redelivery_leaves_events_and_all_that_is_made_of_them_untouched(pipeline: Pipeline) -> None:
    lines = "".join(f"e{n},u{n % 3},sale,{n}.25,2026-06-10T{n:02}:00:00Z\n" for n in range(24))
    land(pipeline.landing, "a.csv", HEADER + lines)
    assert pipeline.run(DAY, NEXT).success
    paths = [pipeline.path(table, DAY) for table in ("events", "daily_sales", "user_features", "user_segments")]
    before = [(path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) for path in paths]
    raw = pipeline.path("raw_events", DAY).read_bytes()
    land(pipeline.landing, "again.csv.gz", gzip.compress((HEADER + lines).encode()))
    land(pipeline.landing, "a-day-later.csv", HEADER + "".join(reversed(lines.splitlines(keepends=True))), NEXT)
    assert pipeline.run(DAY, NEXT).success
    assert [(path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) for path in paths] == before
    assert pipeline.path("raw_events", DAY).read_bytes() != raw


def test_a_day_with_a_damaged_file_fails_by_name_and_its_neighbours_are_published(pipeline: Pipeline) -> None:
    for day in (DAY, NEXT, NEXT + timedelta(days=1)):
        land(pipeline.landing, "a.csv.gz", gzip.compress(f"{HEADER}{day},u1,sale,1,{day}T12:00:00Z\n".encode()), day)
    damaged = pipeline.landing / f"dt={NEXT}" / "a.csv.gz"
    damaged.write_bytes(damaged.read_bytes()[:-2])
    result = pipeline.run(DAY, NEXT + timedelta(days=1))
    assert not result.success
    assert "raw_events: 1 of 3 days failed; 2 were committed and recorded" in failure(result)
    assert f"dt={NEXT}/a.csv.gz: cannot be read to its end" in failure(result)
    assert pipeline.rows("raw_events", DAY)[0]["event_id"] == str(DAY)
    assert pipeline.rows("raw_events", NEXT + timedelta(days=1)) != []
    assert not pipeline.path("raw_events", NEXT).exists()
    assert not pipeline.path("rejected_events", NEXT).exists()


@pytest.mark.slow(11)
def test_a_file_that_is_being_written_publishes_nothing_of_its_day_and_may_be_tried_again(pipeline: Pipeline) -> None:
    path = land(pipeline.landing, "a.csv", f"{HEADER}e1,u1,sale,1,{DAY}T12:00:00Z\n")
    with path.open("a") as file:
        result = pipeline.run(DAY)
        assert f"dt={DAY}/a.csv: still being written" in failure(result)
        assert not pipeline.path("raw_events", DAY).exists()
        file.write(f"e2,u1,sale,1,{DAY}T12:00:00Z\n")
    assert pipeline.run(DAY).success
    assert [row["event_id"] for row in pipeline.rows("events")] == ["e1", "e2"]


@pytest.mark.parametrize("day", [date(2026, 3, 29), date(2026, 10, 25)])
def test_a_range_over_a_change_of_the_clock_neither_loses_nor_doubles_an_event(pipeline: Pipeline, day: date) -> None:
    pipeline.timezone, pipeline.first = "Europe/London", day - timedelta(days=1)
    days = [day + timedelta(days=offset) for offset in (-1, 0, 1)]
    hours = [f"{each}T{hour:02}:30:00Z" for each in days for hour in range(24)]
    for each in days:
        lines = [f"{hour},u1,sale,1,{hour}\n" for hour in hours if hour.startswith(str(each))]
        land(pipeline.landing, "a.csv", HEADER + "".join(lines), each)
    assert pipeline.run(days[0], days[-1]).success
    counts = [len(pipeline.rows("events", each)) for each in days]
    assert counts[1] == (23 if day.month == 3 else 25)
    found = [row["event_id"] for each in days for row in pipeline.rows("events", each)]
    # In summer the last hour of UTC is of the next local day, which is not in the range.
    assert sorted(found) == (hours[:-1] if day.month == 3 else hours)


def test_the_demo_shop_ends_in_the_events_that_it_says_are_good(pipeline: Pipeline) -> None:
    pipeline.source, pipeline.first = load_source(SOURCES / "demo.sql"), date(2026, 5, 1)
    days = [pipeline.first + timedelta(days=n) for n in range(6)]
    write_days(pipeline.landing, days, seed=6)
    assert pipeline.run(days[0], days[-1]).success
    for day in days[:3]:
        good = good_events(day, seed=6)
        in_time = [row for row in good.to_pylist() if row["days_late"] <= 3 and row["arrival_day"] <= days[-1]]
        columns = ("event_id", "user_id", "event_type", "amount", "event_time")
        assert pipeline.rows("events", day) == sorted(
            ({name: row[name] for name in columns} for row in in_time), key=lambda row: str(row["event_id"])
        )
