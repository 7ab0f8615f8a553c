"""The reference pipeline over days of the demo shop, for the tests of its promises."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import dagster as dg

from pipeline_assets import ParquetIOManager
from pipeline_assets.assets.pipeline import reference_pipeline
from pipeline_assets.assets.source.select import load_source
from pipeline_assets.demo import write_days
from pipeline_assets.orchestration.process import execute, failures_of, plan_range, selected_keys
from pipeline_assets.store.landing import LandingZone
from pipeline_assets.store.local import LocalStore

PROJECT = Path(__file__).resolve().parents[2]
FIRST = date(2024, 3, 14)
DAYS = [FIRST + timedelta(days=number) for number in range(8)]
"""A redelivery on day 6; nothing lands on day 3."""
FEW_DAYS = DAYS[1:5]
LATENESS_DAYS = 3


def land(landing: Path, *, seed: int, days: Sequence[date] = DAYS) -> Path:
    """Fill a landing zone with the shop's files."""
    write_days(landing, days, seed=seed)
    return landing


def definitions(landing: Path, lake: Path, *, first: date = FIRST, timezone: str = "UTC") -> dg.Definitions:
    """The reference pipeline between the two folders."""
    return dg.Definitions(
        reference_pipeline(
            days=dg.DailyPartitionsDefinition(first.isoformat(), timezone=timezone),
            landing=LandingZone(landing),
            source=load_source(PROJECT / "sources" / "demo.sql"),
            lateness_days=LATENESS_DAYS,
        ),
        resources={"io_manager": ParquetIOManager(root=str(lake))},
        executor=dg.in_process_executor,
    )


def run(landing: Path, lake: Path, days: Sequence[date] = DAYS, *, select: str | None = None) -> None:
    """Compute days as `pipeline run` does."""
    run_days(definitions(landing, lake), lake, days, select=select)


def run_days(defs: dg.Definitions, lake: Path, days: Sequence[date], *, select: str | None = None) -> None:
    """Compute days of definitions on an instance that is forgotten."""
    keys = selected_keys(defs, select)
    with dg.DagsterInstance.ephemeral() as instance:
        for planned in plan_range(defs, keys, days, LocalStore(lake)):
            result = execute(defs, planned, instance)
            assert result.success, "\n".join(failures_of(result))
