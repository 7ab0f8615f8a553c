"""The table `sla_report` and its page, made from the event log of a real instance."""

# No `from __future__ import annotations` here: Dagster looks at the annotation of `context` itself.

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from pipeline_assets import ParquetIOManager
from pipeline_assets.assets.sla_report import SLA_REPORT, rows_of, sla_report_asset
from pipeline_assets.orchestration.asset.due import due_metadata
from pipeline_assets.orchestration.history.tags import RANGE_END, RANGE_START
from pipeline_assets.partition import Partition
from pipeline_assets.rules.due import by
from pipeline_assets.store.local import LocalStore
from pipeline_assets.store.parquet import read_table
from pipeline_assets.store.protocol import PAGES, page_path
from pipeline_assets_tests.report import reports

START = date(2026, 1, 1)


def page_file(root: Path, day: date) -> Path:
    return root / PAGES / page_path("sla", day)


DAYS = dg.DailyPartitionsDefinition(START.isoformat())
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
LATER = datetime.now(UTC) + timedelta(days=400)
"""When every day that was computed just now was in time, and every other one was not: due a year after."""
DUE = by("06:00", timezone="UTC", days_after=366, since=START)


@dg.asset(partitions_def=DAYS, metadata=due_metadata(DUE), owners=["team:data"])
def visits(context: dg.AssetExecutionContext) -> dict[str, pa.Table]:
    return {key: pa.table({"n": [1]}) for key in context.partition_keys}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def asset_for(lake: Path, **options: Any) -> dg.AssetsDefinition:
    watched = dg.Definitions(assets=[visits])
    options = {
        "days": DAYS,
        "store": LocalStore(lake),
        "dagster_url": "http://ui:3000",
        "now": lambda: LATER,
        **options,
    }
    return sla_report_asset(watched, **options)


def run(
    asset: dg.AssetsDefinition, lake: Path, instance: dg.DagsterInstance, first: date, last: date
) -> dict[str, dict[str, Any]]:
    """Metadata of a range run by partition key."""
    done = dg.materialize(
        [asset],
        instance=instance,
        resources={"io_manager": ParquetIOManager(root=str(lake))},
        run_config=QUIET,
        tags={RANGE_START: first.isoformat(), RANGE_END: last.isoformat()},
    )
    return {
        str(event.partition): {
            name: value.value for name, value in event.step_materialization_data.materialization.metadata.items()
        }
        for event in done.get_asset_materialization_events()
    }


def rows(lake: Path, day: date) -> list[dict[str, Any]]:
    pinned = LocalStore(lake).open(Partition("sla_report", day))
    assert pinned is not None
    with pinned.file as file:
        found: list[dict[str, Any]] = read_table(file).to_pylist()
    return found


def test_a_day_reports_the_thirty_days_that_end_with_it(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    last = START + timedelta(days=39)
    run(visits, tmp_path, instance, START, last - timedelta(days=1))  # all but the last day

    metadata = run(asset_for(tmp_path), tmp_path, instance, last, last)[last.isoformat()]

    (row,) = rows(tmp_path, last)
    assert (row["table_name"], row["first_day"], row["report_date"]) == ("visits", date(2026, 1, 11), last)
    assert (row["due_days"], row["missed_days"]) == (30, 1)
    assert row["on_time_share"] == pytest.approx(29 / 30)
    assert (row["objective"], row["budget_days"], row["budget_left_days"]) == (0.95, 1.5, 0.5)
    assert row["lateness_p50_seconds"] == pytest.approx((LATER - DUE.deadline(last)).total_seconds())
    assert metadata["headline"] == "visits kept its promise from 11 January to 9 February 2026"
    assert metadata["dagster/row_count"] == 1


def test_the_page_of_a_day_is_linked_from_its_metadata(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    run(visits, tmp_path, instance, START, START)
    metadata = run(asset_for(tmp_path), tmp_path, instance, START, START)[START.isoformat()]

    page = Path(metadata["page"])
    assert page == page_file(tmp_path, START)
    assert "visits kept its promise on 1 January 2026." in page.read_text(encoding="utf-8")
    assert metadata["summary"].startswith("**visits kept its promise")


def test_a_range_leaves_what_runs_of_single_days_leave(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    days = [START + timedelta(days=number) for number in range(3)]
    run(visits, tmp_path, instance, days[0], days[1])
    together = run(asset_for(tmp_path), tmp_path, instance, days[0], days[-1])
    pages = [page_file(tmp_path, day).read_bytes() for day in days]
    tables = [rows(tmp_path, day) for day in days]

    for day in days:
        alone = run(asset_for(tmp_path), tmp_path, instance, day, day)[day.isoformat()]
        assert alone["unchanged"] is True
        assert alone["headline"] == together[day.isoformat()]["headline"]
    assert together.keys() == {day.isoformat() for day in days}
    assert [page_file(tmp_path, day).read_bytes() for day in days] == pages
    assert [rows(tmp_path, day) for day in days] == tables
    assert [table[0]["missed_days"] for table in tables] == [0, 0, 1]


def test_a_day_that_is_made_again_tells_what_is_known_by_then(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    """It is read from the event log, so it is no function of the day."""
    early = asset_for(tmp_path, now=lambda: DUE.deadline(START) - timedelta(hours=1))
    run(early, tmp_path, instance, START, START)
    assert rows(tmp_path, START)[0]["due_days"] == 0

    run(asset_for(tmp_path), tmp_path, instance, START, START)
    assert (rows(tmp_path, START)[0]["due_days"], rows(tmp_path, START)[0]["missed_days"]) == (1, 1)


def test_without_a_due_table_there_is_an_empty_partition_and_a_page(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    asset = sla_report_asset(dg.Definitions(), days=DAYS, store=LocalStore(tmp_path), dagster_url="http://ui:3000")
    metadata = run(asset, tmp_path, instance, START, START)[START.isoformat()]

    assert rows(tmp_path, START) == []
    assert metadata["headline"] == "No table has a deadline"
    assert page_file(tmp_path, START).exists()


def test_rows_keep_the_contract_and_are_ordered_by_table() -> None:
    table = rows_of(reports.month())

    assert table.schema.names == SLA_REPORT.schema.names
    assert table["table_name"].to_pylist() == ["daily_sales", "events", "user_features", "user_segments"]
    assert rows_of(reports.nothing_due_yet())["on_time_share"].to_pylist() == [None]
    assert rows_of(reports.report_of()).num_rows == 0


def test_dagster_requests_the_newest_day_and_no_other_once_a_day(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    """As the automation sensor does at every tick, an hour apart, for three days; it slept through the second."""
    zone = "America/New_York"
    asset = asset_for(tmp_path, days=dg.DailyPartitionsDefinition("2026-01-01", timezone=zone))
    requested: list[tuple[str, list[str]]] = []
    cursor = None
    begin = datetime(2026, 3, 7, 0, 5, tzinfo=UTC)
    for hour in range(4 * 24):
        at = begin + timedelta(hours=hour)
        if 30 <= hour < 50:
            continue
        result = dg.evaluate_automation_conditions(
            defs=[asset],
            instance=instance,
            asset_selection=dg.AssetSelection.assets(asset),
            cursor=cursor,
            evaluation_time=at,
        )
        cursor = result.cursor
        if result.total_requested:
            partitions = [str(key) for key in result.get_requested_partitions(asset.key)]
            requested.append((f"{at:%d %H:%M}", sorted(partitions)))

    # 08:15 in New York is 13:15 UTC, and 12:15 once clocks went forward on the 8th.
    assert requested == [
        ("07 14:05", ["2026-03-06"]),
        ("09 02:05", ["2026-03-07"]),
        ("09 13:05", ["2026-03-08"]),
        ("10 13:05", ["2026-03-09"]),
    ]


def test_nothing_is_upstream_of_the_report(tmp_path: Path) -> None:
    asset = asset_for(tmp_path)

    assert list(asset.asset_deps[asset.key]) == []
