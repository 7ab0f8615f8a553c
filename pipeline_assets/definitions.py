"""Builds Definitions from Settings; nothing else is defined here.

`dagster dev` and the other Dagster commands take `defs` from this module; the CLI and tests call `build_definitions`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from pipeline_assets.assets.pipeline import reference_pipeline
from pipeline_assets.assets.source.select import load_source
from pipeline_assets.orchestration import ParquetIOManager
from pipeline_assets.settings import Settings, load_settings
from pipeline_assets.store.landing import LandingZone

if TYPE_CHECKING:
    from datetime import date


def build_definitions(settings: Settings, *, today: date | None = None) -> dg.Definitions:
    """The reference pipeline with the given settings.

    Args:
        today: the day that is not over yet; the clock's unless given.

    Raises:
        SettingsError, SourceError, LandingError: what is wrong with the settings, in one message.
    """
    first_day = settings.first_day(today=today or settings.today())
    per_run = settings.days_per_run
    return dg.Definitions(
        assets=reference_pipeline(
            days=dg.DailyPartitionsDefinition(first_day.isoformat(), timezone=settings.timezone),
            landing=LandingZone(settings.landing),
            source=load_source(settings.source),
            lateness_days=settings.lateness_days,
            backfill_policy=dg.BackfillPolicy.multi_run(per_run) if per_run else dg.BackfillPolicy.single_run(),
        ),
        resources={"io_manager": ParquetIOManager(root=str(settings.store), history=settings.history)},
        # A process per step costs seconds and buys nothing for days of this size; runs are what is parallel.
        executor=dg.in_process_executor,
    )


defs = build_definitions(load_settings())
