"""A check of your own, on a table of refunds: people are told when refunds are many.

Copy this file to `pipeline_assets/assets/`. A check without `alert=True` warns in the Dagster UI alone; one with
`blocking=True` keeps a day that fails it from being published.
"""

from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from pipeline_assets import Column, Contract, Finding, check, daily_asset, same_day

REFUNDS = Contract(
    (
        Column("event_id", pa.string()),
        Column("user_id", pa.string(), nullable=True),
        Column("amount", pa.decimal128(18, 4), nullable=True),
    ),
    key=("event_id",),
)
REFUNDED_SHARE_EXPECTED = 0.1


@check(blocking=False, alert=True)
def refunds_are_few(day: date, refunds: pa.Table, events: pa.Table) -> Finding:
    """There is no more than one refund for ten purchases."""
    bought = events.filter(pc.field("event_type") == "purchase").num_rows
    message = f"{day}: {refunds.num_rows} refunds, {bought} purchases"
    return Finding(refunds.num_rows <= REFUNDED_SHARE_EXPECTED * bought, message, {"refunds": refunds.num_rows})


@daily_asset(contract=REFUNDS, ins={"events": same_day()}, checks=[refunds_are_few])
def refunds(day: date, events: pa.Table) -> pa.Table:
    """Refunds of a day."""
    return events.filter(pc.field("event_type") == "refund").select(REFUNDS.schema.names)
