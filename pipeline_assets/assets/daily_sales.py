"""`daily_sales`: events, users and amount per event type."""

from datetime import date
from decimal import Decimal

import pyarrow as pa

from pipeline_assets import Column, Contract, Finding, by, check, daily_asset, same_day
from pipeline_assets.assets.database import cursor, single_row

DAILY_SALES = Contract(
    (
        Column("sales_date", pa.date32()),
        Column("event_type", pa.string()),
        Column("events", pa.int64(), minimum=1),
        Column("users", pa.int64(), minimum=0, description="Distinct users; guests are not counted."),
        Column("amount", pa.decimal128(38, 4), description="Sum; events without an amount add nothing."),
    ),
    key=("event_type",),
    day_column="sales_date",
)


@check(blocking=True)
def sales_add_up_to_events(day: date, daily_sales: pa.Table, events: pa.RecordBatchReader) -> Finding:
    """Events and amount over all types are those of the events, and no type has more users than events."""
    with cursor() as connection:
        connection.register("events", events)
        rows, amount = single_row(connection, "SELECT count(*), coalesce(sum(amount), 0) FROM events")
    sold = sum(daily_sales["events"].to_pylist())
    total = sum(daily_sales["amount"].to_pylist(), Decimal(0))
    crowded = any(row["users"] > row["events"] for row in daily_sales.to_pylist())
    message = f"{day}: {sold} events of {rows}, amount {total} of {amount}"
    return Finding(sold == rows and total == amount and not crowded, message, {"events": sold, "amount": str(total)})


@daily_asset(
    due=by("06:00"),
    contract=DAILY_SALES,
    ins={"events": same_day()},
    checks=[sales_add_up_to_events],
    kinds={"duckdb", "parquet"},
)
def daily_sales(day: date, events: pa.RecordBatchReader) -> pa.Table:
    """Events, distinct users and amount of a day per event type; guests count in sales."""
    with cursor() as connection:
        connection.register("events", events)
        return connection.sql(
            """
            SELECT CAST($day AS DATE) AS sales_date, event_type, count(*) AS events,
                count(DISTINCT user_id) AS users, coalesce(sum(amount), 0) AS amount
            FROM events GROUP BY event_type ORDER BY event_type
            """,
            params={"day": day},
        ).to_arrow_table()
