"""What cannot work is refused where it is defined, in words that say what to do."""

from __future__ import annotations

from datetime import date
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pytest

from pipeline_assets import daily_asset
from pipeline_assets.rules.checks import Finding, check
from pipeline_assets.rules.windows import same_day
from pipeline_assets_tests.orchestration.lake import DAYS, ROW, numbers


def one(day: date) -> pa.Table:
    return numbers(1)


def refused(function: Any = one, **options: Any) -> str:
    with pytest.raises(dg.DagsterInvalidDefinitionError) as raised:
        daily_asset(function, **{"partitions_def": DAYS, "contract": ROW, **options})
    return str(raised.value)


@pytest.mark.parametrize(
    ("partitions_def", "described"),
    [
        (dg.HourlyPartitionsDefinition("2024-01-01-00:00"), "cron 0 * * * *, named %Y-%m-%d-%H:%M"),
        (dg.WeeklyPartitionsDefinition("2024-01-01"), "cron 0 0 * * 0, named %Y-%m-%d"),
        (dg.MonthlyPartitionsDefinition("2024-01-01"), "cron 0 0 1 * *, named %Y-%m-%d"),
        (dg.DailyPartitionsDefinition("2024-01-01", hour_offset=6), "cron 0 6 * * *, named %Y-%m-%d"),
        (dg.DailyPartitionsDefinition("20240101", fmt="%Y%m%d"), "cron 0 0 * * *, named %Y%m%d"),
        (dg.StaticPartitionsDefinition(["a", "b"]), "a StaticPartitionsDefinition"),
        (dg.DynamicPartitionsDefinition(name="users"), "a DynamicPartitionsDefinition"),
        (
            dg.MultiPartitionsDefinition({"day": DAYS, "shop": dg.StaticPartitionsDefinition(["a"])}),
            "a MultiPartitionsDefinition",
        ),
    ],
)
def test_partitions_that_are_no_days(partitions_def: dg.PartitionsDefinition, described: str) -> None:
    assert refused(partitions_def=partitions_def) == (
        f"daily_asset one: its partitions ({described}) are not days from midnight to midnight named YYYY-MM-DD; "
        "use a dg.DailyPartitionsDefinition without offsets."
    )


def test_days_of_any_zone_with_an_end_or_left_out_days_are_days() -> None:
    for partitions_def in (
        dg.DailyPartitionsDefinition("2024-01-01", timezone="Europe/London", end_offset=1),
        dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-02-01"),
        dg.TimeWindowPartitionsDefinition(cron_schedule="0 0 * * *", start="2024-01-01", fmt="%Y-%m-%d"),
    ):
        assert daily_asset(one, partitions_def=partitions_def, contract=ROW).partitions_def == partitions_def


def test_inputs_and_params_that_the_function_does_not_take() -> None:
    assert "the day, its ins and its params (visits): got an unexpected keyword argument 'visits'" in refused(
        ins={"visits": same_day()}
    )
    assert "got an unexpected keyword argument 'limit'" in refused(params={"limit": 1})


def test_parameters_that_nobody_gives() -> None:
    def two(day: date, visits: pa.Table) -> pa.Table:
        return visits

    assert refused(two) == (
        "daily_asset two: its function takes the day, its ins and its params (none): missing a required argument: "
        "'visits'."
    )


class Frame:
    """Of another library."""


@pytest.mark.parametrize("annotation", [Frame, "polars.LazyFrame", pd.Series, pa.Table | None, dict[str, pa.Table]])
def test_an_input_annotated_with_what_it_will_not_be(annotation: Any) -> None:
    def two(day: date, visits: object) -> pa.Table:
        return visits

    two.__annotations__["visits"] = annotation
    told = refused(two, ins={"visits": same_day()})
    assert f"its input visits is annotated {annotation}; an input is a pandas.DataFrame, pyarrow.Table or" in told


def test_a_dead_letter_that_is_no_table() -> None:
    assert "its dead_letter typo is none of its tables: one, rest" in refused(
        contract={"one": ROW, "rest": ROW}, dead_letter="typo"
    )


def test_a_check_that_asks_for_what_there_is_not() -> None:
    @check(blocking=True)
    def nosy(day: date, one: pa.Table, others: pa.Table) -> Finding:
        """Looks at a table that is no input."""
        return Finding(passed=True, message="")

    assert refused(checks=[nosy]) == "daily_asset one: its check nosy asks for others; there are day, one."


def test_a_param_whose_text_changes_from_process_to_process_unless_the_version_is_stated() -> None:
    def two(day: date, client: object) -> pa.Table:
        return numbers(1)

    assert "its param client is <object object at 0x" in refused(two, params={"client": object()})
    assert "give it a repr, or state code_version" in refused(two, params={"client": object()})
    made = daily_asset(two, partitions_def=DAYS, contract=ROW, params={"client": object()}, code_version="1")
    assert next(iter(made.specs)).code_version == "1"
