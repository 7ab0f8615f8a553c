"""A due on an asset: its metadata, its zone, and the freshness policy that the UI shows."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
from dagster._core.definitions.freshness import CronFreshnessPolicy
from hypothesis import given
from hypothesis import strategies as st

from pipeline_assets import daily_asset
from pipeline_assets.orchestration.asset.due import DUE_METADATA, due_metadata, due_of, freshness_policy
from pipeline_assets.rules.due import WEEKDAYS, by
from pipeline_assets_tests.orchestration.lake import DAYS, ROW, numbers

LONDON = dg.DailyPartitionsDefinition("2026-10-01", timezone="Europe/London")
OTHERS = dg.DailyPartitionsDefinition("2026-10-01")


def sales(day: date) -> pa.Table:
    """Rows of a day."""
    return numbers(day.day)


def policy_of(**options: Any) -> CronFreshnessPolicy:
    policy = freshness_policy(by(timezone="Europe/London", **options))
    assert isinstance(policy, CronFreshnessPolicy)
    return policy


def test_an_asset_carries_its_due_in_the_zone_of_its_partitions() -> None:
    (spec,) = daily_asset(sales, partitions_def=LONDON, contract=ROW, due=by("06:00", warn="05:30")).specs

    assert due_of(spec.metadata) == by("06:00", warn="05:30", timezone="Europe/London")
    assert spec.freshness_policy == dg.FreshnessPolicy.cron("0 6 * * *", timedelta(hours=6), "Europe/London")
    assert "dagster/column_schema" in spec.metadata


def test_a_zone_that_the_due_states_is_kept() -> None:
    asset = daily_asset(sales, partitions_def=LONDON, contract=ROW, due=by("06:00", timezone="Asia/Kathmandu"))

    assert due_of(next(iter(asset.specs)).metadata) == by("06:00", timezone="Asia/Kathmandu")


def test_an_asset_without_a_due_carries_nothing() -> None:
    (spec,) = daily_asset(sales, partitions_def=DAYS, contract=ROW).specs

    assert due_of(spec.metadata) is None
    assert DUE_METADATA not in spec.metadata
    assert spec.freshness_policy is None


def test_all_tables_of_a_function_are_due() -> None:
    def both(day: date) -> dict[str, pa.Table]:
        return {"both": numbers(1), "rest": numbers(2)}

    made = daily_asset(both, partitions_def=LONDON, contract={"both": ROW, "rest": ROW}, due=by("06:00"))

    assert {spec.key.to_user_string(): due_of(spec.metadata) for spec in made.specs} == dict.fromkeys(
        ("both", "rest"), by("06:00", timezone="Europe/London")
    )
    assert all(spec.freshness_policy is not None for spec in made.specs)


def test_what_is_no_due_is_refused_where_the_asset_is_defined() -> None:
    with pytest.raises(dg.DagsterInvalidDefinitionError, match=r"daily_asset sales: its due is '06:00'; .* by\('06:00"):
        daily_asset(sales, partitions_def=LONDON, contract=ROW, due="06:00")  # type: ignore[call-overload]


def test_a_due_without_a_zone_is_no_metadata() -> None:
    with pytest.raises(ValueError, match="no time zone is stated"):
        due_metadata(by("06:00"))


@pytest.mark.parametrize(
    ("options", "cron", "window"),
    [
        ({"at": "06:00"}, "0 6 * * *", timedelta(hours=6)),
        ({"at": "00:00"}, "0 0 * * *", timedelta(minutes=1)),
        ({"at": "23:59", "days_after": 2}, "59 23 * * *", timedelta(days=1)),
        ({"at": "06:00", "weekdays": ["sat", "sun"]}, "0 6 * * 0,1", timedelta(hours=6)),
        ({"at": "06:00", "weekdays": ["fri"], "days_after": 3}, "0 6 * * 1", timedelta(days=1)),
        ({"at": "06:00", "weekdays": ["mon"], "days_after": 8}, "0 6 * * 2", timedelta(days=1)),
    ],
    ids=["six", "midnight", "two days", "weekend", "friday on monday", "a week later"],
)
def test_the_policy_has_its_deadlines_when_the_due_has(options: dict[str, Any], cron: str, window: timedelta) -> None:
    policy = policy_of(**options)

    assert (policy.deadline_cron, policy.lower_bound_delta) == (cron, window)
    assert policy.timezone == "Europe/London"


@given(
    clock=st.times(),
    days_after=st.integers(1, 366),
    weekdays=st.none() | st.sets(st.sampled_from(WEEKDAYS), min_size=1),
)
def test_dagster_takes_the_policy_of_every_due(clock: Any, days_after: int, weekdays: set[str] | None) -> None:
    assert policy_of(at=f"{clock:%H:%M}", days_after=days_after, weekdays=weekdays)
