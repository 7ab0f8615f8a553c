"""The upstream sensor over real assets: what a change requests, and what it does not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from pipeline_assets import daily_asset
from pipeline_assets.errors import StateUnreadable
from pipeline_assets.orchestration.changes.upstream_sensor import LOOKED_UP_PER_TICK, REQUESTS_PER_TICK
from pipeline_assets.orchestration.history.tags import BECAUSE_TAG
from pipeline_assets.orchestration.partition.frames import Result
from pipeline_assets.rules.accounting import Accounting
from pipeline_assets.rules.windows import arrivals, same_day, trailing
from pipeline_assets_tests.orchestration.lake import DAYS, ROW, SHOP, Lake, day, key, numbers
from pipeline_assets_tests.orchestration.sensors import Sensed, report, told, with_upstream_sensor

LANDED: dict[date, int] = {}
"""What lies in the landing zone of these tests."""
LANDING = dg.AssetSpec("landing", partitions_def=DAYS)


@daily_asset(partitions_def=DAYS, contract={"raw": ROW, "rejected": ROW}, deps={"landing": same_day()})
def raw(day: date) -> Result:
    number = LANDED[day]
    return Result({"raw": numbers(number), "rejected": numbers()}, Accounting(1, 1, 0, 0), {"landing": f"f{number}"})


@daily_asset(partitions_def=DAYS, contract=ROW, ins={"raw": arrivals(lateness_days=1)})
def events(day: date, raw: pa.Table) -> pa.Table:
    """Tens of what landed: small changes make none."""
    return numbers(sum(raw["n"].to_pylist()) // 10)


@daily_asset(partitions_def=DAYS, contract=ROW, ins={"events": same_day()})
def sales(day: date, events: pa.Table) -> pa.Table:
    return events


@daily_asset(partitions_def=DAYS, contract=ROW, ins={"events": trailing(days=3)})
def features(day: date, events: pa.Table) -> pa.Table:
    return events.select(["n"]).slice(0, 1)


@dg.asset(partitions_def=DAYS)
def plain(events: pa.Table) -> pa.Table:
    return events


PIPELINE: list[Any] = [LANDING, raw, events, sales, features]


@pytest.fixture
def shop(lake: Lake) -> Iterator[Sensed]:
    LANDED.clear()
    yield with_upstream_sensor(lake, *PIPELINE)
    LANDED.clear()


def land(lake: Lake, **content: int) -> None:
    """Files of days land: d3=40 is 40 on day 3."""
    for name, number in content.items():
        LANDED[day(int(name[1:]))] = number
        report(lake, "landing", int(name[1:]), digest=f"f{number}")


def test_what_landed_is_followed_to_the_end_in_ranges_one_step_after_the_other(lake: Lake, shop: Sensed) -> None:
    for number in (70, 80, 10):  # several updates before a tick are one
        land(lake, d1=number, d2=20, d3=30)
    land(lake, d5=50)

    runs = shop.settle()

    assert runs == [f"{step} {days}" for step in ("raw+rejected", "events", "features+sales") for days in ("1-3", "5")]
    assert lake.days("features") == [1, 2, 3, 5]


def test_a_late_day_reaches_as_far_as_windows_do(lake: Lake, shop: Sensed) -> None:
    land(lake, **{f"d{number}": 10 for number in range(9)})
    assert shop.settle() == ["raw+rejected 0-8", "events 0-8", "features+sales 0-8"], "steps share a run"
    land(lake, d4=90)

    assert sorted(shop.settle()) == ["events 3-5", "features 3-7", "raw+rejected 4", "sales 3-5"]


def test_a_recomputation_that_changes_nothing_ends_there(lake: Lake, shop: Sensed) -> None:
    land(lake, d1=10, d2=20, d3=30)
    shop.settle()
    land(lake, d2=21)

    assert shop.settle() == ["raw+rejected 2", "events 1-3"], "tens stayed as they were"
    assert lake.run(PIPELINE[1:], 1, 2, select=["raw", "rejected", "events"]).success
    land(lake, d1=10)
    assert shop.settle() == [], "a rewrite"


def test_days_that_somebody_computed_by_hand_are_not_computed_again(lake: Lake, shop: Sensed) -> None:
    land(lake, d1=10, d2=20)
    assert lake.run(PIPELINE[1:], 1, 2).success

    assert shop.settle() == []


def test_a_request_says_why(lake: Lake, shop: Sensed) -> None:
    land(lake, d1=10, d2=20, d4=30)

    because = [request.tags[BECAUSE_TAG] for request in shop.tick().run_requests]

    assert because == [f"new or changed: landing {key(1)} to {key(2)}", f"new or changed: landing {key(4)}"]


def test_a_restored_commit_is_followed_downstream_and_stays(lake: Lake, shop: Sensed) -> None:
    land(lake, d1=10)
    shop.settle()
    digest = lake.put("events", 1, numbers(7))
    report(lake, "events", 1, digest=digest)

    assert shop.settle() == ["features+sales 1"]
    assert lake.rows("sales", 1) == [{"n": 7}]
    land(lake, d1=90)
    assert shop.settle() == ["raw+rejected 1", "events 1", "features+sales 1"], "until its own input changes"


def test_a_report_of_files_without_a_digest_starts_nothing(lake: Lake, shop: Sensed) -> None:
    report(lake, "landing", 1)
    assert shop.settle() == []
    land(lake, d1=10)
    shop.settle()
    report(lake, "landing", 1)

    assert shop.settle() == []


@pytest.mark.parametrize("partition", [None, "yesterday", "2024-02-30", "2019-01-01", "2999-01-01"])
def test_a_report_of_a_day_that_cannot_be_starts_nothing(lake: Lake, shop: Sensed, partition: str | None) -> None:
    lake.instance.report_runless_asset_event(
        dg.AssetMaterialization("landing", partition=partition, metadata={"digest": "x"})
    )

    assert shop.settle() == []


def test_a_plain_asset_is_requested_once_per_change_and_a_day_at_a_time(lake: Lake) -> None:
    shop = with_upstream_sensor(lake, *PIPELINE, plain)
    land(lake, d1=10, d2=20)
    runs = shop.settle()
    assert [run for run in runs if "plain" in run] == ["plain 1", "plain 2"]
    assert shop.settle() == []

    assert lake.run(PIPELINE[1:], 1, 2, select=["events"]).success
    assert shop.settle() == [], "a rewrite is no change"
    land(lake, d1=90)
    assert [run for run in shop.settle() if "plain" in run] == ["plain 1", "plain 2"]
    assert lake.run(PIPELINE[1:], 1, 2, select=["events"]).success
    assert shop.settle() == []


def test_a_plain_asset_follows_a_change_that_a_rewrite_came_after(lake: Lake) -> None:
    shop = with_upstream_sensor(lake, *PIPELINE, plain)
    land(lake, d1=10)
    shop.settle()
    LANDED[day(1)] = 90
    for _ in range(2):
        assert lake.run(PIPELINE[1:], 1, select=["raw", "rejected", "events"]).success

    assert shop.settle() == ["features+plain+sales 1"]


def test_what_others_make_is_never_requested(lake: Lake) -> None:
    shop = with_upstream_sensor(lake, *PIPELINE, dg.AssetSpec("dashboard", deps=["sales"], partitions_def=DAYS))
    land(lake, d1=10)

    assert not any("dashboard" in run for run in shop.settle())


def test_only_assets_of_the_selection_are_requested(lake: Lake) -> None:
    shop = with_upstream_sensor(lake, *PIPELINE, selection=dg.AssetSelection.assets("raw", "rejected", "events"))
    land(lake, d1=10)

    assert shop.settle() == ["raw+rejected 1", "events 1"]


def test_an_asset_that_is_gone_is_forgotten_and_one_that_is_back_is_followed(lake: Lake, shop: Sensed) -> None:
    land(lake, d1=10)
    shop.execute(shop.tick().run_requests[0])
    shop.execute(shop.tick().run_requests[0])
    assert [told(each) for each in shop.tick().run_requests] == ["features+sales 1"]  # asked for, never submitted
    smaller = with_upstream_sensor(lake, *PIPELINE[:-1])
    smaller.cursors = shop.cursors

    assert smaller.settle() == ["sales 1"]
    shop.cursors = smaller.cursors
    land(lake, d1=90)
    assert shop.settle() == ["raw+rejected 1", "events 1", "features+sales 1"]


def test_requests_beyond_the_limit_are_made_by_the_next_ticks(lake: Lake, shop: Sensed) -> None:
    count = REQUESTS_PER_TICK + 2
    land(lake, **{f"d{2 * number}": number for number in range(count)})  # no two in a row

    first = shop.tick().run_requests
    for each in first:
        shop.submit(each)
    second = shop.tick().run_requests

    assert (len(first), len(second)) == (REQUESTS_PER_TICK, 2)
    assert {told(each) for each in [*first, *second]} == {f"raw+rejected {2 * number}" for number in range(count)}


def test_partitions_beyond_the_limit_are_looked_at_by_the_next_ticks(lake: Lake) -> None:
    shop = with_upstream_sensor(lake, *SHOP)
    for number in range(LOOKED_UP_PER_TICK + 3):
        report(lake, "visits", number, digest="A")

    (first,) = shop.tick().run_requests
    shop.submit(first)
    (second,) = shop.tick().run_requests

    assert told(first) == f"totals 0-{LOOKED_UP_PER_TICK - 1}"
    assert told(second) == f"totals {LOOKED_UP_PER_TICK}-{LOOKED_UP_PER_TICK + 2}"


@pytest.mark.parametrize(
    "cursor",
    [
        "nonsense",
        "5",
        "null",
        "[]",
        '"x"',
        "{}",
        '{"read":{}}',
        '{"read":[],"waiting":{},"asked":{},"later":[],"refused":{}}',
        '{"read":{},"waiting":{"raw":["2024-02-27"]},"asked":{},"later":[],"refused":{}}',
    ],
)
def test_a_cursor_that_cannot_be_read_is_an_error_that_says_what_to_do(lake: Lake, shop: Sensed, cursor: str) -> None:
    shop.cursors["upstream_sensor"] = cursor

    with pytest.raises(StateUnreadable, match="Reset it in the UI"):
        shop.tick()


def test_a_sensor_that_starts_anew_requests_only_what_is_not_current(lake: Lake, shop: Sensed) -> None:
    land(lake, d1=10, d2=20)
    shop.settle()
    land(lake, d2=90)
    shop.cursors.clear()

    assert shop.settle() == ["raw+rejected 2", "events 1-2", "features+sales 1-2"]
