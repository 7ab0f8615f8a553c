"""A contract's key, through Dagster's metadata and back."""

from __future__ import annotations

from datetime import date

import dagster as dg
import pyarrow as pa
import pytest

from pipeline_assets import daily_asset
from pipeline_assets.orchestration.partition.table_keys import keys_of
from pipeline_assets.rules.contract import Column, Contract

KEYED = Contract((Column("b", pa.int64()), Column("a", pa.int64()), Column("n", pa.int64())), key=("a", "b"))
KEYLESS = Contract((Column("n", pa.int64()),))


@pytest.mark.filterwarnings("ignore:Parameter `backfill_policy`:dagster.BetaWarning")
def test_the_key_of_every_daily_table_that_has_one_is_known() -> None:
    @daily_asset(
        contract={"kept": KEYED, "dropped": KEYLESS},
        partitions_def=dg.DailyPartitionsDefinition("2026-03-01"),
        key_prefix=["shop"],
    )
    def kept(day: date) -> dict[str, pa.Table]:
        return {"kept": KEYED.schema.empty_table(), "dropped": KEYLESS.schema.empty_table()}

    @dg.asset
    def plain() -> None: ...

    assert keys_of(dg.Definitions(assets=[kept, plain])) == {"shop/kept": ("b", "a")}
