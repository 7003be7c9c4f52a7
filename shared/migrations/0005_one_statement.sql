-- The end of sessions as one statement, for a revocation is as fast as its round trips are few; and what it shares
-- with other changes. In PL/pgSQL for its plans are kept: those of functions in SQL are made anew with each call.
--
-- Every statement of a volatile function has a snapshot of its own: what comes after a lock sees what the lock keeps.

CREATE TYPE caller AS (
    token_hash bytea,
    session_id uuid,
    user_id    uuid,
    tenant_id  uuid,
    role       text,
    enrollment_only boolean,
    grants     json,
    now        timestamptz
);
COMMENT ON TYPE caller IS 'Somebody who is signed in.';
COMMENT ON COLUMN caller.token_hash IS 'By which token.';
COMMENT ON COLUMN caller.session_id IS 'By which session.';
COMMENT ON COLUMN caller.user_id IS 'Who.';
COMMENT ON COLUMN caller.tenant_id IS 'In which tenant.';
COMMENT ON COLUMN caller.role IS 'The assigned role, without any grant.';
COMMENT ON COLUMN caller.enrollment_only IS 'Whether the session can do nothing but set up a second factor.';
COMMENT ON COLUMN caller.grants IS 'Live grants: id, role, expires_at_micros; null: none.';
COMMENT ON COLUMN caller.now IS 'This clock.';

CREATE FUNCTION lock_users(tokens bytea[], targets uuid[]) RETURNS TABLE (id uuid, tenant_id uuid)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH asked AS (
        SELECT s.user_id, s.tenant_id, asked.target
        FROM unnest(tokens, targets) AS asked (token, target)
        JOIN sessions s ON s.token_hash = asked.token AND s.ended_at IS NULL)
    SELECT u.id, u.tenant_id FROM users u
    WHERE u.id IN (SELECT user_id FROM asked
                   UNION SELECT t.id FROM asked JOIN users t ON t.id = asked.target AND t.tenant_id = asked.tenant_id)
    ORDER BY u.id FOR NO KEY UPDATE;
END $$;
COMMENT ON FUNCTION lock_users IS 'Locks those who call by these tokens, and whom each of them means where that is a colleague.';

CREATE FUNCTION find_callers(tokens bytea[], idle_slack integer, touch_every integer) RETURNS SETOF caller
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH found AS (
        SELECT s.token_hash, s.id, s.user_id, s.tenant_id, u.role,
               coalesce(m.enrollment_only_from <= clock_timestamp(), false) AS enrollment_only,
               (SELECT json_agg(json_build_object(
                           'id', g.id, 'role', g.role,
                           'expires_at_micros', (extract(epoch FROM g.expires_at) * 1000000)::bigint))
                FROM emergency_grants g
                WHERE g.user_id = s.user_id AND g.state = 'active'
                  AND g.expires_at > clock_timestamp()) AS grants
        FROM sessions s JOIN users u ON u.id = s.user_id JOIN mfa_standing m ON m.user_id = s.user_id
        WHERE s.token_hash = ANY(tokens) AND s.ended_at IS NULL AND u.disabled_at IS NULL
          AND s.expires_at > clock_timestamp()
          AND s.last_active_at + make_interval(secs => s.idle_seconds + idle_slack) > clock_timestamp()
    ), touched AS (
        UPDATE sessions s SET last_active_at = clock_timestamp() FROM found
        WHERE s.id = found.id AND s.last_active_at + make_interval(secs => touch_every) <= clock_timestamp())
    SELECT token_hash, id, user_id, tenant_id, role, enrollment_only, grants, clock_timestamp() FROM found;
END $$;
COMMENT ON FUNCTION find_callers IS 'Whose sessions live, of these tokens. Notes that they were used.';

CREATE FUNCTION append_audit(tenants uuid[], actors text[], actions text[], targets text[], ips text[],
                             details jsonb[], trace_ids text[]) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    WITH entry AS (
        SELECT * FROM unnest(tenants, actors, actions, targets, ips, details, trace_ids)
            WITH ORDINALITY AS entry (tenant_id, actor, action, target, ip, detail, trace_id, place)
    ), locked AS (
        SELECT id FROM tenants WHERE id = ANY(append_audit.tenants) ORDER BY id FOR NO KEY UPDATE
    ), number AS (
        UPDATE tenants t SET audit_seq = t.audit_seq + more.entries
        FROM locked, (SELECT tenant_id, count(*) AS entries FROM entry GROUP BY tenant_id) more
        WHERE t.id = locked.id AND t.id = more.tenant_id
        RETURNING t.id, t.audit_seq - more.entries AS before
    )
    INSERT INTO audit (tenant_id, seq, actor, action, target, ip, detail, trace_id)
    SELECT tenant_id, before + row_number() OVER (PARTITION BY tenant_id ORDER BY place),
           actor, action, target, ip, detail, trace_id
    FROM entry JOIN number ON number.id = entry.tenant_id;
END $$;
COMMENT ON FUNCTION append_audit IS 'Appends entries to the audit records of their tenants, in this order.';

CREATE FUNCTION number_revocations(tenants uuid[], users uuid[], sessions text[], causes text[], traceparents text[],
                                   OUT revision bigint, OUT timeline bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    WITH head AS (
        UPDATE revocation_head SET revision = revision + cardinality(tenants) RETURNING revision
    ), written AS (
        INSERT INTO revocations (revision, tenant_id, user_id, sessions, cause, traceparent)
        SELECT revision - cardinality(tenants) + place, tenant_id, user_id, sessions::uuid[], cause, traceparent
        FROM head, unnest(tenants, users, number_revocations.sessions, causes, traceparents) WITH ORDINALITY
            AS change (tenant_id, user_id, sessions, cause, traceparent, place)
    )
    SELECT head.revision, current_timeline() INTO number_revocations.revision, number_revocations.timeline FROM head;
END $$;
COMMENT ON FUNCTION number_revocations IS 'Numbers changes in this order, and says the last number. Nothing but the commit comes after it. The sessions of each are an array''s text, for there are no arrays of arrays of different lengths.';

CREATE TYPE ending AS (
    place       bigint,
    outcome     text,
    tenant_id   uuid,
    by_user     uuid,
    owner       uuid,
    target      text,
    sessions    uuid[]
);
COMMENT ON TYPE ending IS 'What becomes of a request to end sessions.';
COMMENT ON COLUMN ending.place IS 'Which one of its batch, counted from 1.';
COMMENT ON COLUMN ending.outcome IS 'ended, later, or the code of a refusal.';
COMMENT ON COLUMN ending.tenant_id IS 'In which tenant.';
COMMENT ON COLUMN ending.by_user IS 'Who asks.';
COMMENT ON COLUMN ending.owner IS 'Whose sessions.';
COMMENT ON COLUMN ending.target IS 'What the record says was ended, or was not to be.';
COMMENT ON COLUMN ending.sessions IS 'Those that were alive.';

CREATE FUNCTION end_sessions(
    tokens bytea[], users uuid[], sessions uuid[], signs_out boolean[], ips text[], trace_ids text[],
    traceparents text[], requests text[], actions text[], causes text[],
    permitted text[], conferring text[], idle_slack integer, touch_every integer)
RETURNS TABLE (place bigint, outcome text, ended integer, tenant_id uuid, user_id uuid, revision bigint, timeline bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    callers caller[];
    endings ending[];
    head    record;
BEGIN
    PERFORM FROM lock_users(tokens, users);
    callers := ARRAY(SELECT found FROM find_callers(tokens, idle_slack, touch_every) found);

    WITH asked AS (
        SELECT asked.place, c.tenant_id, c.user_id AS by_user, asked.user_id AS meant, coalesce(asked.user_id, c.user_id) AS owner,
               CASE WHEN signs_out THEN c.session_id ELSE asked.session_id END AS session_id,
               -- All of one's own are all others.
               CASE WHEN asked.user_id IS NULL AND NOT signs_out THEN c.session_id END AS keep,
               CASE WHEN c.user_id IS NULL THEN 'unauthenticated'
                    -- Anybody may sign out.
                    WHEN c.enrollment_only AND NOT signs_out THEN 'enrollment-required'
                    WHEN asked.user_id IS NULL THEN NULL
                    WHEN c.role <> ALL(permitted) AND NOT EXISTS (
                        SELECT FROM json_array_elements(c.grants) g WHERE g->>'role' = ANY(conferring)) THEN 'forbidden'
                    WHEN NOT EXISTS (
                        SELECT FROM users u WHERE u.id = asked.user_id AND u.tenant_id = c.tenant_id) THEN 'not-found'
               END AS refusal
        FROM unnest(tokens, end_sessions.users, end_sessions.sessions, signs_out) WITH ORDINALITY
            AS asked (token, user_id, session_id, signs_out, place)
        LEFT JOIN unnest(callers) c ON c.token_hash = asked.token
    ), first AS (
        -- Of those who are refused: null, which is like nothing.
        SELECT CASE WHEN refusal IS NULL THEN owner END AS owner, min(place) AS place FROM asked GROUP BY 1
    ), judged AS (
        -- As if they had come one after the other.
        SELECT asked.*, coalesce(refusal, CASE
                   WHEN of_caller.place < asked.place OR of_owner.place < asked.place THEN 'later' END) AS outcome
        FROM asked LEFT JOIN first of_caller ON of_caller.owner = asked.by_user
            LEFT JOIN first of_owner ON of_owner.owner = asked.owner
    ), ended AS (
        UPDATE sessions s SET ended_at = clock_timestamp(), ended_by = judged.by_user
        FROM judged
        WHERE judged.outcome IS NULL AND s.user_id = judged.owner AND s.ended_at IS NULL
          AND s.id = coalesce(judged.session_id, s.id)
          AND (judged.session_id IS NOT NULL OR s.id IS DISTINCT FROM judged.keep)
        RETURNING judged.place, s.id, s.expires_at > clock_timestamp()
            AND s.last_active_at + make_interval(secs => s.idle_seconds + idle_slack) > clock_timestamp() AS alive
    ), alive AS (
        SELECT place, array_agg(id) AS sessions FROM ended WHERE alive GROUP BY place
    )
    SELECT array_agg(ROW(
               place,
               -- All of none is done; one that is gone is not found.
               coalesce(outcome, CASE WHEN session_id IS NULL OR alive.sessions IS NOT NULL THEN 'ended' ELSE 'not-found' END),
               tenant_id, by_user, owner,
               CASE WHEN outcome IS NOT NULL THEN 'user:' || meant
                    WHEN session_id IS NULL THEN 'user:' || owner ELSE 'session:' || session_id END,
               coalesce(alive.sessions, '{}'))::ending ORDER BY place)
    INTO endings FROM judged LEFT JOIN alive USING (place);

    PERFORM append_audit(
        array_agg(e.tenant_id), array_agg(e.by_user::text),
        array_agg(CASE e.outcome WHEN 'ended' THEN actions[e.place] ELSE 'access.refused' END),
        array_agg(e.target), array_agg(ips[e.place]),
        array_agg(CASE e.outcome
            WHEN 'ended' THEN jsonb_build_object('user', e.owner, 'sessions', e.sessions)
            ELSE jsonb_build_object('code', e.outcome, 'request', requests[e.place]) END),
        array_agg(trace_ids[e.place]))
    FROM unnest(endings) e WHERE e.outcome IN ('ended', 'forbidden', 'enrollment-required') HAVING count(*) > 0;

    SELECT numbered.revision, numbered.timeline INTO head
    FROM (SELECT array_agg(e.tenant_id) AS tenants, array_agg(e.owner) AS users, array_agg(e.sessions::text) AS sessions,
                 array_agg(causes[e.place]) AS causes, array_agg(traceparents[e.place]) AS traceparents
          FROM unnest(endings) e WHERE e.outcome = 'ended' HAVING count(*) > 0) e,
        number_revocations(e.tenants, e.users, e.sessions, e.causes, e.traceparents) numbered;

    RETURN QUERY SELECT e.place, e.outcome, cardinality(e.sessions), e.tenant_id, e.owner,
        CASE e.outcome WHEN 'ended' THEN
            head.revision + 1 - count(*) FILTER (WHERE e.outcome = 'ended') OVER (ORDER BY e.place DESC) END,
        head.timeline
    FROM unnest(endings) e ORDER BY e.place;
END $$;
COMMENT ON FUNCTION end_sessions IS 'Ends sessions, each request as if they had come one after the other: those of a user, one of them, or the one that asks. Ending others'' needs one of the assigned roles that permit it, or a grant of one of those that confer it.';

-- One that is called stable is not inlined, for what it calls is volatile; and then it is planned anew with each call.
ALTER FUNCTION current_timeline() VOLATILE;

-- Rows that are written under the lock of the very row that these would look up once more.
ALTER TABLE sessions DROP CONSTRAINT sessions_ended_by_fkey;
ALTER TABLE audit DROP CONSTRAINT audit_tenant_id_fkey;
