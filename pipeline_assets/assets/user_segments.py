"""`user_segments`: every user with features in exactly one segment."""

from datetime import date

import pyarrow as pa

from pipeline_assets import Column, Contract, Finding, by, check, daily_asset, same_day
from pipeline_assets.assets.database import cursor

SEGMENTS = ("high_value", "mid_value", "new_users", "churned", "dormant")
USER_SEGMENTS = Contract(
    (
        Column("user_id", pa.string()),
        Column("segment_date", pa.date32()),
        Column("segment", pa.string(), one_of=SEGMENTS),
    ),
    key=("user_id",),
    day_column="segment_date",
)
CHURNED_DAYS = 21
DORMANT_DAYS = 7
NEW_DAYS = 7
HIGH_VALUE_SPEND = 500
"""Spend in 28 days, in the unit of `amount`: a shop's figure, to be replaced by one's own."""


@check(blocking=True)
def every_user_has_a_segment(day: date, user_segments: pa.Table, user_features: pa.Table) -> Finding:
    """The users are those of the features, neither more nor fewer; how many are in each segment is noted."""
    same = user_segments["user_id"].combine_chunks().equals(user_features["user_id"].combine_chunks())
    counts = {
        count["values"]: count["counts"]
        for count in user_segments["segment"].combine_chunks().value_counts().to_pylist()
    }
    message = f"{day}: {user_segments.num_rows} users with a segment, {user_features.num_rows} with features"
    return Finding(same, message, counts)


@daily_asset(
    due=by("07:30"),
    contract=USER_SEGMENTS,
    ins={"user_features": same_day()},
    checks=[every_user_has_a_segment],
    kinds={"duckdb", "parquet"},
)
def user_segments(day: date, user_features: pa.Table) -> pa.Table:
    """The segment of each user, the first that fits.

    churned: no event for 21 days; dormant: none for 7; new_users: the first event of the window is less than 7 days
    old; high_value: 500 or more spent in 28 days; mid_value: everyone else.
    """
    with cursor() as connection:
        connection.register("user_features", user_features)
        return connection.sql(
            """
            SELECT user_id, CAST($day AS DATE) AS segment_date,
                CASE
                    WHEN recency_days >= $churned THEN 'churned'
                    WHEN recency_days >= $dormant THEN 'dormant'
                    WHEN tenure_days < $new THEN 'new_users'
                    WHEN spend_28d >= $high THEN 'high_value'
                    ELSE 'mid_value'
                END AS segment
            FROM user_features ORDER BY user_id
            """,
            params={
                "day": day,
                "churned": CHURNED_DAYS,
                "dormant": DORMANT_DAYS,
                "new": NEW_DAYS,
                "high": HIGH_VALUE_SPEND,
            },
        ).to_arrow_table()
