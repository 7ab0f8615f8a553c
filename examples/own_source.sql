-- A source of your own: order lines of a shop that exports them as CSV, with a header
--     order_no,line,customer,kind,total,currency,ordered_at
-- Put the files under .data/landing/dt=YYYY-MM-DD/, by the day they arrive, and set
--     PIPELINE_SOURCE=examples/own_source.sql
-- Every column arrives as text; a row that a CAST fails on is rejected with the reason. docs/sources.md has the rules.
SELECT
    order_no || '-' || line AS event_id,
    nullif(customer, 'guest') AS user_id,
    CASE kind WHEN 'S' THEN 'purchase' WHEN 'R' THEN 'refund' ELSE kind END AS event_type,
    CAST(total AS DECIMAL(18, 4)) AS amount,
    CAST(ordered_at AS TIMESTAMP WITH TIME ZONE) AS event_time,
    CASE WHEN currency <> 'EUR' THEN 'currency ' || currency END AS reject_reason
FROM landing
