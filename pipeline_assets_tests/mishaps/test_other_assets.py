"""Assets and jobs beside the daily tables: what they are must not stop those, and what is read of them is followed."""

# No `from __future__ import annotations` here: Dagster looks at the annotation of `context` itself, not at its text.
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any, ClassVar

import dagster as dg
import pyarrow as pa
import pytest

from pipeline_assets import Result, daily_asset
from pipeline_assets.errors import PipelineError
from pipeline_assets.rules.accounting import Accounting
from pipeline_assets.rules.windows import same_day
from pipeline_assets_tests.mishaps.world import AMOUNT, DAYS, World, chain, needed
from pipeline_assets_tests.orchestration.lake import failure

pytestmark = pytest.mark.slow(5)

ISSUE_10 = pytest.mark.xfail(strict=True, raises=AssertionError, reason="issue 10: the lake knows itself")
LAST = "2024-03-08"
"""Exclusive, as of `DAYS`."""


class Nowhere(dg.IOManager):
    """Keeps nothing."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Nothing."""

    def load_input(self, context: dg.InputContext) -> None:
        """Nothing."""


RESOURCES = {"nowhere": Nowhere()}
OTHER_DAYS = dg.DailyPartitionsDefinition("27/02/2024", end_date="08/03/2024", fmt="%d/%m/%Y")
PARTITIONS = {
    "days from four o'clock": dg.DailyPartitionsDefinition("2024-02-27", end_date=LAST, hour_offset=4),
    "days up to today": dg.DailyPartitionsDefinition("2024-02-27", end_offset=1),
    "days named 20240227": dg.DailyPartitionsDefinition("20240227", end_date="20240308", fmt="%Y%m%d"),
    "weeks": dg.WeeklyPartitionsDefinition("2024-02-27"),
    "months": dg.MonthlyPartitionsDefinition("2024-02-27"),
    "hours": dg.HourlyPartitionsDefinition("2024-02-27-00:00", end_date="2024-03-08-00:00"),
    "names": dg.StaticPartitionsDefinition(["a", "b"]),
    "none": None,
}


@pytest.mark.parametrize(
    "partitions",
    [
        *(pytest.param(each, id=name) for name, each in PARTITIONS.items()),
        pytest.param(OTHER_DAYS, id="days named 27/02/2024", marks=ISSUE_10),
    ],
)
def test_daily_tables_are_followed_beside_an_asset_with_other_partitions(
    tmp_path: Path, instance: dg.DagsterInstance, partitions: dg.PartitionsDefinition[Any] | None
) -> None:
    @dg.asset(partitions_def=partitions, io_manager_key="nowhere")
    def other() -> None: ...

    amounts: dict[int, int] = {}
    world = World.of(instance, tmp_path / "lake", *chain(amounts)[:2], other, resources=RESOURCES)
    world.compute("sales", "sums", first=0, last=9)
    world.settle()
    amounts[3] = 5
    world.compute("sales", first=3)

    world.settle()

    assert [world.value("sums", number) for number in (3, 4, 5)] == [7, 7, 7], world.failures
    assert set(world.plan()) <= {"other"}


COMPACT = dg.DailyPartitionsDefinition("20240227", end_date="20240308", fmt="%Y%m%d")
FROM_FOUR = dg.DailyPartitionsDefinition("2024-02-27", end_date=LAST, hour_offset=4)
NEXT_DAY = dg.TimeWindowPartitionMapping(start_offset=1, end_offset=1)


@pytest.mark.parametrize(
    ("partitions", "mapping", "reading"),
    [
        pytest.param(DAYS, None, {5}, id="of the same day"),
        pytest.param(DAYS, NEXT_DAY, {4}, id="of the next day"),
        pytest.param(DAYS, dg.LastPartitionMapping(), set(), id="of the last day"),
        pytest.param(DAYS, dg.AllPartitionMapping(), set(range(10)), id="of all days", marks=ISSUE_10),
        pytest.param(FROM_FOUR, None, {4, 5}, id="of days from midnight, from four o'clock", marks=ISSUE_10),
        pytest.param(COMPACT, None, {5}, id="of the same day, named 20240303", marks=ISSUE_10),
    ],
)
def test_a_change_is_followed_to_all_days_of_a_plain_asset_that_read_it(
    tmp_path: Path,
    instance: dg.DagsterInstance,
    partitions: dg.DailyPartitionsDefinition,
    mapping: dg.PartitionMapping | None,
    reading: set[int],
) -> None:
    made: list[str] = []

    @dg.asset(
        partitions_def=partitions,
        io_manager_key="nowhere",
        backfill_policy=dg.BackfillPolicy.single_run(),
        code_version="1",
        deps=[dg.AssetDep("sales", partition_mapping=mapping)],
    )
    def plain(context: dg.AssetExecutionContext) -> None:
        made.extend(context.partition_keys)

    amounts: dict[int, int] = {}
    world = World.of(instance, tmp_path / "lake", chain(amounts)[0], plain, resources=RESOURCES)
    world.compute("sales", first=0, last=9)
    world.settle()
    made.clear()
    amounts[5] = 5
    world.compute("sales", first=5)

    world.settle()

    days = {world.number(datetime.strptime(each, partitions.fmt).date()) for each in made}  # noqa: DTZ007 - a name
    assert days >= reading, world.failures
    assert not world.failures


class Kept(dg.IOManager):
    """Keeps what has no partitions, as long as the process lives."""

    kept: ClassVar[dict[str, pa.Table]] = {}

    def handle_output(self, context: dg.OutputContext, obj: pa.Table) -> None:
        """Keep it."""
        self.kept[context.asset_key.to_user_string()] = obj

    def load_input(self, context: dg.InputContext) -> pa.Table:
        """As it was kept."""
        return self.kept[context.asset_key.to_user_string()]


def given_its_rows() -> dg.AssetsDefinition:
    """A table that takes the dimension as an input."""

    def priced(day: date, sales: pa.Table, products: pa.Table) -> pa.Table:
        return products

    return daily_asset(
        priced,
        partitions_def=DAYS,
        contract=AMOUNT,
        ins={"sales": same_day(), "products": same_day()},
        code_version="1",
    )


def reading_it_by_itself() -> dg.AssetsDefinition:
    """A table that reads the dimension by itself, and says which version."""

    def priced(day: date, sales: pa.Table) -> Result:
        products = Kept.kept["products"]
        version = str(products["n"].to_pylist())
        return Result(products, Accounting(1, 1, 0, 0), made_from={"products": version})

    return daily_asset(
        priced,
        partitions_def=DAYS,
        contract=AMOUNT,
        ins={"sales": same_day()},
        deps={"products": same_day()},
        drops_rows=True,
        code_version="1",
    )


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="a later issue: dimensions")
@pytest.mark.parametrize("define", [given_its_rows, reading_it_by_itself])
def test_a_table_without_partitions_is_followed_or_refused_by_name_where_it_is_defined(
    tmp_path: Path, instance: dg.DagsterInstance, define: Callable[[], dg.AssetsDefinition]
) -> None:
    prices = [1]

    @dg.asset(io_manager_key="kept")
    def products() -> pa.Table:
        return pa.table({"n": list(prices)})

    refusal = ""
    try:
        world = World.of(instance, tmp_path / "lake", chain({})[0], products, define(), resources={"kept": Kept()})
    except (PipelineError, dg.DagsterInvalidDefinitionError) as error:
        refusal = str(error)
    if refusal:
        assert "products" in refusal
        return
    world.materialize("products")
    world.compute("sales", first=0, last=2)
    first = world.run("priced", first=0, last=2)
    needed(first.success or "products" in failure(first), "another error than of the dimension")
    assert first.success, failure(first)
    world.settle()
    needed(world.value("priced", 2) == 1, "the dimension was not read")
    prices[0] = 2
    world.materialize("products")

    world.settle()

    assert [world.value("priced", number) for number in (0, 1, 2)] == [2, 2, 2], world.failures


@dg.op
def mail() -> None:
    """Makes no table."""


@dg.job(partitions_def=DAYS)
def mail_report() -> None:
    """A job of ops whose partitions are days."""
    mail()


def test_a_job_of_ops_that_runs_for_a_day_holds_no_table(tmp_path: Path, instance: dg.DagsterInstance) -> None:
    amounts: dict[int, int] = {}
    world = World.of(instance, tmp_path / "lake")
    world.deploy(*chain(amounts)[:2], jobs=[mail_report])
    world.compute("sales", "sums", first=0, last=9)
    world.settle()
    amounts[3] = 5
    world.compute("sales", first=3)
    world.start("mail_report", 3)

    world.settle()

    assert [world.value("sums", number) for number in (3, 4, 5)] == [7, 7, 7], world.failures
