"""A table of your own, with pandas: what happened and what was spent in each hour.

Copy this file to `pipeline_assets/assets/`; `pipeline run` computes the table with all others.
"""

from datetime import date

import pandas as pd
import pyarrow as pa

from pipeline_assets import Column, Contract, by, daily_asset, same_day

SPEND_BY_HOUR = Contract(
    (
        Column("hour", pa.timestamp("us", "UTC"), description="Its beginning."),
        Column("events", pa.int64(), minimum=1),
        Column("amount", pa.decimal128(38, 4), description="Sum; events without an amount add nothing."),
    ),
    key=("hour",),
    day_column="hour",
)


@daily_asset(contract=SPEND_BY_HOUR, ins={"events": same_day()}, due=by("06:30"), owners=["team:sales"])
def spend_by_hour(day: date, events: pd.DataFrame) -> pd.DataFrame:
    """Events and amount of every hour that has an event."""
    hours = events.assign(hour=events["event_time"].dt.floor("h"))
    return hours.groupby("hour", as_index=False).agg(events=("event_id", "count"), amount=("amount", "sum"))
