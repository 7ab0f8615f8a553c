-- The demo shop (`pipeline demo`): web events as JSON lines, shop events as CSV, app events as Parquet.
SELECT
    event_id,
    user_id,
    event_type,
    amount,
    CAST(event_time AS TIMESTAMP WITH TIME ZONE) AS event_time,
    CASE
        WHEN event_type NOT IN ('page_view', 'add_to_cart', 'purchase', 'refund') THEN 'unknown type ' || event_type
        WHEN event_type IN ('purchase', 'refund') AND amount IS NULL THEN event_type || ' without an amount'
    END AS reject_reason
FROM landing
