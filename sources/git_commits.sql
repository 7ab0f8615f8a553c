-- Who committed what to git/git. A commit arrives with commit_ts (the folder); it happened at author_ts.
SELECT
    commit_hash AS event_id,
    author_key AS user_id,
    event_type,
    CAST(COALESCE(insertions, '0') AS DECIMAL(38, 8)) + CAST(COALESCE(deletions, '0') AS DECIMAL(38, 8)) AS amount,
    CAST(author_ts AS TIMESTAMP WITH TIME ZONE) AS event_time
FROM landing
