-- UCI Online Retail: the invoice lines of a gift shop, one file a day, times in local UK time without a zone.
-- Identical lines are one event: an invoice line has no id of its own, so its id is a hash of the line.
SELECT
    md5(source_text) AS event_id,
    regexp_replace(CustomerID, '\.0$', '') AS user_id,  -- 17850.0, as pandas once wrote it
    CASE
        WHEN regexp_matches(InvoiceNo, '^[Cc]') THEN 'cancellation'
        WHEN regexp_matches(InvoiceNo, '^[A-Za-z]') THEN 'adjustment'
        ELSE 'sale'
    END AS event_type,
    -- With more decimals than an event's amount has: one that would have to be rounded is rejected.
    CAST(Quantity AS DECIMAL(38, 8)) * CAST(UnitPrice AS DECIMAL(38, 8)) AS amount,
    timezone('Europe/London', CAST(InvoiceDate AS TIMESTAMP)) AS event_time,
    CASE WHEN InvoiceNo IS NULL THEN 'InvoiceNo is missing' END AS reject_reason
FROM landing
