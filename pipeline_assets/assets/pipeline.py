"""The wiring: which table is made from which days of which, with whose contract and checks."""

from __future__ import annotations

from functools import partial

import dagster as dg

from pipeline_assets.assets.daily_sales import DAILY_SALES, daily_sales, sales_add_up_to_events
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
from pipeline_assets.assets.user_features import (
    USER_FEATURES,
    WINDOW_DAYS,
    todays_events_are_counted,
    user_features,
    windows_are_nested,
)
from pipeline_assets.assets.user_segments import USER_SEGMENTS, every_user_has_a_segment, user_segments
from pipeline_assets.orchestration import daily_asset
from pipeline_assets.rules.code_version import code_version
from pipeline_assets.rules.due import by
from pipeline_assets.rules.windows import arrivals, same_day, trailing
from pipeline_assets.store.landing import Landing


def reference_pipeline(
    *,
    days: dg.DailyPartitionsDefinition,
    landing: Landing,
    source: Source,
    lateness_days: int,
    backfill_policy: dg.BackfillPolicy | None = None,
) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """Assets of the reference pipeline, upstream first; `landing` is what the landing sensor reports.

    Args:
        days: first day and time zone.
        lateness_days: how many days after its own an event is still taken in.
        backfill_policy: days per run of a backfill; all in one run unless given.
    """
    timezone = days.timezone
    daily = partial(
        daily_asset,
        partitions_def=days,
        backfill_policy=backfill_policy,
        group_name="reference_pipeline",
        owners=["team:data"],
        kinds={"duckdb", "parquet"},
    )
    return [
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
        daily(
            raw_events,
            contract={"raw_events": RAW_EVENTS, "rejected_events": REJECTED_EVENTS},
            deps={LANDING: same_day()},
            params={
                "landing": landing,
                "source": source,
                "timezone": timezone,
                "lateness_days": lateness_days,
            },
            # Where the files lie is no part of what is made of them.
            code_version=code_version(
                raw_events,
                RAW_EVENTS,
                REJECTED_EVENTS,
                source.expressions,
                source.where,
                timezone,
                lateness_days,
            ),
            drops_rows=True,
            dead_letter="rejected_events",
            checks=[rejected_share, uploads_are_complete],
        ),
        daily(
            events,
            contract=EVENTS,
            ins={"raw_events": arrivals(lateness_days=lateness_days)},
            params={"timezone": timezone},
            drops_rows=True,
        ),
        daily(
            daily_sales,
            due=by("06:00"),
            contract=DAILY_SALES,
            ins={"events": same_day()},
            checks=[sales_add_up_to_events],
        ),
        daily(
            user_features,
            due=by("07:00"),
            contract=USER_FEATURES,
            ins={"events": trailing(days=WINDOW_DAYS)},
            checks=[windows_are_nested, todays_events_are_counted],
        ),
        daily(
            user_segments,
            due=by("07:30"),
            contract=USER_SEGMENTS,
            ins={"user_features": same_day()},
            checks=[every_user_has_a_segment],
        ),
    ]
