"""`user_features`: per user, what the last 1, 7 and 28 days say."""

from datetime import date

import pyarrow as pa

from pipeline_assets import Column, Contract, Finding, by, check, daily_asset, trailing
from pipeline_assets.assets.database import cursor, single_row

WINDOW_DAYS = 28
SPEND = pa.decimal128(38, 4)
USER_FEATURES = Contract(
    (
        Column("user_id", pa.string()),
        Column("feature_date", pa.date32()),
        Column("events_1d", pa.int64(), minimum=0),
        Column("events_7d", pa.int64(), minimum=0),
        Column("events_28d", pa.int64(), minimum=1),
        Column("spend_1d", SPEND),
        Column("spend_7d", SPEND),
        Column("spend_28d", SPEND),
        Column("recency_days", pa.int32(), minimum=0, description="Days since the user's last event."),
        Column("tenure_days", pa.int32(), minimum=0, description="Days since the first event of the window."),
        Column("active_days_28d", pa.int32(), minimum=1, description="Days with an event."),
    ),
    key=("user_id",),
    day_column="feature_date",
)


@check(blocking=True)
def windows_are_nested(day: date, user_features: pa.Table) -> Finding:
    """1 day is within 7 and 7 within 28; recency, tenure and active days agree with each other and the counts."""
    with cursor() as connection:
        connection.register("user_features", user_features)
        (odd,) = single_row(
            connection,
            """
            SELECT count(*) FROM user_features WHERE NOT (
                events_1d <= events_7d AND events_7d <= events_28d
                AND recency_days <= tenure_days AND tenure_days < 28
                AND active_days_28d <= tenure_days - recency_days + 1 AND active_days_28d <= events_28d
                AND (events_1d > 0) = (recency_days = 0) AND (events_7d > 0) = (recency_days < 7)
                AND (events_1d > 0 OR spend_1d = 0) AND (events_7d > 0 OR spend_7d = 0))
            """,
        )
    return Finding(odd == 0, f"{day}: {odd} of {user_features.num_rows} users contradict themselves", {"odd": odd})


@check(blocking=True)
def todays_events_are_counted(day: date, user_features: pa.Table, events: pa.RecordBatchReader) -> Finding:
    """Events and spend of the day, over all users, are those of the day's events that have a user."""
    with cursor() as connection:
        connection.register("events", events)
        connection.register("user_features", user_features)
        expected = single_row(
            connection,
            "SELECT count(*), coalesce(sum(amount), 0) FROM events WHERE user_id IS NOT NULL AND dt = CAST(? AS DATE)",
            [day],
        )
        found = single_row(
            connection, "SELECT coalesce(sum(events_1d), 0), coalesce(sum(spend_1d), 0) FROM user_features"
        )
    return Finding(
        found == expected,
        f"{day}: (events, spend) is {found}, in the events {expected}",
        {"users": user_features.num_rows},
    )


@daily_asset(
    due=by("07:00"),
    contract=USER_FEATURES,
    ins={"events": trailing(days=WINDOW_DAYS)},
    checks=[windows_are_nested, todays_events_are_counted],
    kinds={"duckdb", "parquet"},
)
def user_features(day: date, events: pa.RecordBatchReader) -> pa.Table:
    """Features of every user with an event in the trailing 28 days; guests have none.

    Args:
        events: of the trailing 28 days, `dt` being the event's day.
    """
    with cursor() as connection:
        connection.register("events", events)
        return connection.sql(
            """
            WITH aged AS (
                SELECT user_id, coalesce(amount, 0) AS amount, CAST($day AS DATE) - dt AS age
                FROM events WHERE user_id IS NOT NULL
            )
            SELECT
                user_id,
                CAST($day AS DATE) AS feature_date,
                count(*) FILTER (age < 1) AS events_1d,
                count(*) FILTER (age < 7) AS events_7d,
                count(*) AS events_28d,
                coalesce(sum(amount) FILTER (age < 1), 0) AS spend_1d,
                coalesce(sum(amount) FILTER (age < 7), 0) AS spend_7d,
                sum(amount) AS spend_28d,
                CAST(min(age) AS INTEGER) AS recency_days,
                CAST(max(age) AS INTEGER) AS tenure_days,
                CAST(count(DISTINCT age) AS INTEGER) AS active_days_28d
            FROM aged GROUP BY user_id ORDER BY user_id
            """,
            params={"day": day},
        ).to_arrow_table()
