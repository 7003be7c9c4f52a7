-- Edges that may allow while cut off, receipts that are asked for again, and the end of old rows.

ALTER TABLE edges
    ADD COLUMN allow_cached    integer NOT NULL DEFAULT 0 CHECK (allow_cached >= 0),
    ADD COLUMN cached_sessions bigint NOT NULL DEFAULT 0,
    ADD COLUMN joined_revision bigint NOT NULL DEFAULT 0,
    ADD COLUMN fenced_revision bigint,
    ADD COLUMN joined_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    ADD COLUMN ended_at        timestamptz;
COMMENT ON COLUMN edges.allow_cached IS 'How many milliseconds it may go on allowing after its lease, while it is cut off.';
COMMENT ON COLUMN edges.cached_sessions IS 'How many sessions it had in memory when it last renewed.';
COMMENT ON COLUMN edges.joined_revision IS 'The head when it joined: it enforces everything up to it.';
COMMENT ON COLUMN edges.fenced_revision IS 'The head when it was fenced.';
COMMENT ON COLUMN edges.joined_at IS 'When it joined. For people.';
COMMENT ON COLUMN edges.ended_at IS 'When it was fenced or left. Says when the row may be deleted, nothing else.';

CREATE INDEX edges_ended ON edges (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX revocations_by_time ON revocations (committed_at);

-- Up to where a synchronous standby has everything on its disk. Null where none is configured; 0/0 where
-- too few are connected, or where this role may not see it (it needs pg_read_all_stats).
-- With FIRST or ANY k (…), the k-th that is furthest counts.
CREATE FUNCTION standby_flushed_lsn() RETURNS pg_lsn LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN current_setting('synchronous_standby_names') = '' THEN NULL ELSE coalesce((
        SELECT flush_lsn FROM pg_stat_replication
        WHERE sync_state IN ('sync', 'quorum') AND flush_lsn IS NOT NULL
        ORDER BY flush_lsn DESC LIMIT 1 OFFSET greatest(coalesce(
            (regexp_match(current_setting('synchronous_standby_names'), '^\s*(?:first|any)?\s*(\d+)\s*\(', 'i'))[1]::int, 1), 1) - 1
    ), '0/0') END
$$;
