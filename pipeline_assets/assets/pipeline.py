"""The wiring: tables that settings are part of, and beside them those of the other files of this folder.

A file that defines a `daily_asset` without days is all that a new table takes; what it leaves out is stated here.
"""

import dagster as dg

from pipeline_assets import arrivals, assets, daily_asset, same_day
from pipeline_assets.assets.events import EVENTS, events
from pipeline_assets.assets.raw_events import (
    LANDING,
    RAW_EVENTS,
    REJECTED_EVENTS,
    raw_events,
    rejected_share,
    uploads_are_complete,
)
from pipeline_assets.assets.source.select import Source
from pipeline_assets.orchestration.asset.decorator import Defaults
from pipeline_assets.orchestration.asset.package import Asset, Defined, with_tables_of
from pipeline_assets.rules.code_version import code_version
from pipeline_assets.store.landing import Landing


def reference_pipeline(
    *,
    days: dg.DailyPartitionsDefinition,
    landing: Landing,
    source: Source,
    lateness_days: int,
    backfill_policy: dg.BackfillPolicy | None = None,
) -> list[Asset]:
    """Assets of the pipeline; `landing` is what the landing sensor reports.

    Args:
        days: first day and time zone.
        lateness_days: how many days after its own an event is still taken in.
        backfill_policy: days per run of a backfill; all in one run unless given.

    Raises:
        DefinitionError: a file of this folder does not make a table; the message begins with its name.
    """
    timezone = days.timezone
    defaults = Defaults(
        backfill_policy=backfill_policy, group_name="reference_pipeline", owners=["team:data"], kinds={"parquet"}
    )
    with_settings: list[Defined] = [
        dg.AssetSpec(
            LANDING,
            description=(
                "Files of the landing zone by the day they arrived. The landing sensor reports a day when its files "
                "change; a report from elsewhere, without a digest, makes the sensor look at that day."
            ),
            partitions_def=days,
            group_name="reference_pipeline",
            owners=["team:data"],
        ),
        daily_asset(
            raw_events,
            contract={"raw_events": RAW_EVENTS, "rejected_events": REJECTED_EVENTS},
            deps={LANDING: same_day()},
            params={"landing": landing, "source": source, "timezone": timezone, "lateness_days": lateness_days},
            # Where the files lie is no part of what is made of them.
            code_version=code_version(
                raw_events, RAW_EVENTS, REJECTED_EVENTS, source.expressions, source.where, timezone, lateness_days
            ),
            drops_rows=True,
            dead_letter="rejected_events",
            checks=[rejected_share, uploads_are_complete],
            kinds={"duckdb", "parquet"},
        ),
        daily_asset(
            events,
            contract=EVENTS,
            ins={"raw_events": arrivals(lateness_days=lateness_days)},
            params={"timezone": timezone},
            drops_rows=True,
            kinds={"duckdb", "parquet"},
        ),
    ]
    return with_tables_of(assets, with_settings, partitions_def=days, **defaults)
