"""Columns that change from one day to the next."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipeline_assets import daily_asset
from pipeline_assets.assets.source.select import parse_source
from pipeline_assets.errors import LandingError
from pipeline_assets.rules.contract import Column, Contract
from pipeline_assets.rules.windows import trailing
from pipeline_assets_tests.assets.landed import arrive, land
from pipeline_assets_tests.mishaps.world import AMOUNT, DAYS, World, needed
from pipeline_assets_tests.orchestration.lake import failure


def shop_of(column: str) -> list[Any]:
    """Sales of 10 a day in a column of that name, and their sum over seven days."""

    def sales(day: date) -> pa.Table:
        return pa.table({column: [10]})

    def weeks(day: date, sales: pa.Table) -> pa.Table:
        return pa.table({"n": [pc.sum(sales[column]).as_py()]})

    contract = Contract((Column(column, pa.int64()),))
    return [
        daily_asset(sales, partitions_def=DAYS, contract=contract, code_version=column),
        daily_asset(weeks, partitions_def=DAYS, contract=AMOUNT, ins={"sales": trailing(days=7)}, code_version=column),
    ]


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 10: the lake knows itself")
def test_a_window_over_days_before_a_column_was_renamed_counts_them_all_or_fails_by_name(
    tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    world = World.of(instance, tmp_path / "lake", *shop_of("amount"))
    world.compute("sales", "weeks", first=0, last=7)
    needed(world.value("weeks", 7) == 70)
    world.deploy(*shop_of("gross"))

    result = world.run("sales", "weeks", first=8)

    if result.success:
        assert world.value("weeks", 8) == 70
    else:
        assert "gross" in failure(result)


NEW_YORK = ZoneInfo("America/New_York")
OLD = '"tripduration","starttime","stoptime","start station id","bikeid","usertype","birth year"'
NEW = "ride_id,rideable_type,started_at,ended_at,start_station_id,member_casual"
TRIPS = {
    "2020-03-08": f"""{OLD}
389,"2020-03-08 00:14:07.0000","2020-03-08 00:20:36.0880",3202,40001,"Subscriber",1990
711,"2020-03-08 01:55:10.5120","2020-03-08 03:07:01.0010",3203,40002,"Customer",1969
400,"2020-03-08 23:59:59.9990","2020-03-09 00:06:39.9990",3202,40001,"Subscriber",1990
""",
    "2020-11-01": f"""{OLD}
660,"2020-11-01 00:58:00.0000","2020-11-01 01:09:00.0000",3275,40003,"Subscriber",1984
360,"2020-11-01 01:30:00.0000","2020-11-01 01:36:00.0000",3275,40004,"Customer",1975
""",
    "2021-02-01": f"""{NEW}
A1B2C3D4E5F60718,docked_bike,2/1/2021 7:11,2/1/2021 7:18,X105,member
A1B2C3D4E5F60719,docked_bike,2/1/2021 23:55,2/2/2021 0:06,X034,casual
""",
}
"""A public bike share's feed, its values made up. All columns are renamed between the second day and the third."""
BOTH = """
SELECT
    coalesce(ride_id, md5(source_text)) AS event_id,
    bikeid AS user_id,
    coalesce(usertype, member_casual) AS event_type,
    coalesce(
        CAST(tripduration AS DECIMAL(18, 4)),
        CAST(date_diff('second', strptime(started_at, '%m/%d/%Y %H:%M'), strptime(ended_at, '%m/%d/%Y %H:%M'))
            AS DECIMAL(18, 4))
    ) AS amount,
    coalesce(CAST(starttime AS TIMESTAMP), strptime(started_at, '%m/%d/%Y %H:%M')) AS event_time
FROM landing
"""
"""One SELECT for both."""
OLD_ONLY = """
SELECT md5(source_text) AS event_id, bikeid AS user_id, usertype AS event_type,
    CAST(tripduration AS DECIMAL(18, 4)) AS amount, CAST(starttime AS TIMESTAMP) AS event_time
FROM landing
"""


def trips_by_day(landing: Path, select: str, days: Iterable[str]) -> dict[str, tuple[int, int]]:
    """How many events there are of each local day, and the sum of their amounts."""
    found: dict[str, tuple[int, int]] = {}
    for day in days:
        land(landing, "trips.csv", TRIPS[day], date.fromisoformat(day))
        outcome = arrive(
            landing, date.fromisoformat(day), source=parse_source(select, name="trips.sql"), timezone=str(NEW_YORK)
        )
        for row in outcome.kept.to_pylist():
            number, seconds = found.get(local := str(row["event_time"].astimezone(NEW_YORK).date()), (0, 0))
            found[local] = (number + 1, seconds + int(row["amount"]))
    return found


def test_a_select_reads_the_days_whose_columns_it_names(tmp_path: Path) -> None:
    assert trips_by_day(tmp_path, OLD_ONLY, ["2020-03-08", "2020-11-01"]) == {
        "2020-03-08": (3, 1500),
        "2020-11-01": (2, 1020),
    }


@pytest.mark.xfail(strict=True, raises=LandingError, reason="issue 10: the lake knows itself")
def test_one_select_reads_the_days_before_and_after_all_columns_were_renamed(tmp_path: Path) -> None:
    assert trips_by_day(tmp_path, BOTH, TRIPS) == {
        "2020-03-08": (3, 1500),
        "2020-11-01": (2, 1020),
        "2021-02-01": (2, 1080),
    }
