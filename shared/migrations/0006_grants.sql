-- Emergency access in full: the whole policy, approvals, extensions, reviews, warnings.
--
-- Locks as before: the users concerned by id, then the policy, then the tenant's record, then the revocation head.

ALTER TABLE emergency_policies
    ADD COLUMN applies_to                  text NOT NULL DEFAULT 'user' CHECK (applies_to IN ('user', 'session')),
    ADD COLUMN approvals_needed            integer NOT NULL DEFAULT 0 CHECK (approvals_needed BETWEEN 0 AND 20),
    ADD COLUMN approvers                   text[] NOT NULL DEFAULT '{manager,admin}',
    ADD COLUMN require_fresh_mfa           boolean NOT NULL DEFAULT true,
    ADD COLUMN ticket_pattern              text,
    ADD COLUMN cooldown_seconds            integer NOT NULL DEFAULT 0 CHECK (cooldown_seconds >= 0),
    ADD COLUMN pending_timeout_seconds     integer NOT NULL DEFAULT 3600 CHECK (pending_timeout_seconds >= 5),
    ADD COLUMN review_within_hours         integer NOT NULL DEFAULT 24 CHECK (review_within_hours >= 0),
    ADD COLUMN extensions_allowed          integer NOT NULL DEFAULT 3 CHECK (extensions_allowed >= 0),
    ADD COLUMN bypass_allowed              boolean NOT NULL DEFAULT false,
    ADD COLUMN bypass_max_duration_seconds integer NOT NULL DEFAULT 1800 CHECK (bypass_max_duration_seconds >= 5);
COMMENT ON COLUMN emergency_policies.applies_to IS 'Where a grant holds: in all sessions of its user, or in the one that asked.';
COMMENT ON COLUMN emergency_policies.approvals_needed IS 'How many others have to approve.';
COMMENT ON COLUMN emergency_policies.approvers IS 'Assigned roles that may approve, of those that have the permission.';
COMMENT ON COLUMN emergency_policies.require_fresh_mfa IS 'Whether who has a second factor shows a code with each request.';
COMMENT ON COLUMN emergency_policies.ticket_pattern IS 'A regular expression that the whole ticket matches; null: no ticket is needed.';
COMMENT ON COLUMN emergency_policies.cooldown_seconds IS 'How long after the end of a grant its user may not ask again.';
COMMENT ON COLUMN emergency_policies.pending_timeout_seconds IS 'How long a request waits for approvals.';
COMMENT ON COLUMN emergency_policies.review_within_hours IS 'Until when after its end the use of a grant is reviewed.';
COMMENT ON COLUMN emergency_policies.extensions_allowed IS 'How often a grant may be extended.';
COMMENT ON COLUMN emergency_policies.bypass_allowed IS 'Whether one may go without the approvals.';
COMMENT ON COLUMN emergency_policies.bypass_max_duration_seconds IS 'Greatest length of a grant that went without them.';
INSERT INTO emergency_policies (tenant_id) SELECT id FROM tenants ON CONFLICT DO NOTHING;

ALTER TABLE emergency_grants
    ADD COLUMN applies_to            text NOT NULL DEFAULT 'user' CHECK (applies_to IN ('user', 'session')),
    ADD COLUMN approvals_needed      integer NOT NULL DEFAULT 0 CHECK (approvals_needed >= 0),
    ADD COLUMN bypassed              boolean NOT NULL DEFAULT false,
    ADD COLUMN factor                text CHECK (factor IN ('totp', 'backup-code')),
    ADD COLUMN policy                jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN pending_until         timestamptz,
    ADD COLUMN extended_from         uuid REFERENCES emergency_grants,
    ADD COLUMN extensions            integer NOT NULL DEFAULT 0,
    ADD COLUMN first_activated_at    timestamptz,
    ADD COLUMN review_within_seconds integer NOT NULL DEFAULT 86400 CHECK (review_within_seconds >= 0),
    ADD COLUMN review_due_at         timestamptz,
    ADD COLUMN review_outcome        text CHECK (review_outcome IN ('justified', 'misuse')),
    ADD COLUMN reviewed_by           uuid REFERENCES users,
    ADD COLUMN review_note           text,
    ADD COLUMN reviewed_at           timestamptz,
    ADD CHECK (state <> 'pending' OR (pending_until IS NOT NULL AND activated_at IS NULL AND ended_at IS NULL)),
    ADD CHECK (state NOT IN ('denied', 'cancelled') OR activated_at IS NULL),
    ADD CHECK ((state IN ('pending', 'active')) = (ended_at IS NULL)),
    ADD CHECK (approvals_needed > 0 OR state <> 'pending'),
    ADD CHECK (reviewed_by IS DISTINCT FROM user_id);
-- Those that have ended already are not reviewed; those that live will be.
UPDATE emergency_grants SET first_activated_at = activated_at;
ALTER TABLE emergency_grants ADD CHECK ((activated_at IS NULL) = (first_activated_at IS NULL));
CREATE INDEX emergency_grants_pending ON emergency_grants (user_id) WHERE state = 'pending';
CREATE INDEX emergency_grants_pending_by_tenant ON emergency_grants (tenant_id, id DESC) WHERE state = 'pending';
CREATE INDEX emergency_grants_unreviewed ON emergency_grants (user_id) WHERE review_due_at IS NOT NULL AND review_outcome IS NULL;
CREATE INDEX emergency_grants_by_activation ON emergency_grants (user_id, activated_at DESC) WHERE activated_at IS NOT NULL;
-- A grant is extended once at most at a time.
CREATE UNIQUE INDEX emergency_grants_extension ON emergency_grants (extended_from) WHERE state IN ('pending', 'active');
COMMENT ON COLUMN emergency_grants.applies_to IS 'Where it holds: in all sessions of its user, or in the one that asked.';
COMMENT ON COLUMN emergency_grants.approvals_needed IS 'How many approvals it took, or takes at least.';
COMMENT ON COLUMN emergency_grants.bypassed IS 'Whether it went without the approvals that the policy wants.';
COMMENT ON COLUMN emergency_grants.factor IS 'By which second factor the request was confirmed; null: by none.';
COMMENT ON COLUMN emergency_grants.policy IS 'The policy under which it was asked for, and later activated.';
COMMENT ON COLUMN emergency_grants.pending_until IS 'Until when it waits for approvals; null: it never did.';
COMMENT ON COLUMN emergency_grants.extended_from IS 'The grant that it replaces.';
COMMENT ON COLUMN emergency_grants.extensions IS 'How many grants it replaces, one after the other.';
COMMENT ON COLUMN emergency_grants.first_activated_at IS 'When the first of those began; its own beginning if it replaces none.';
COMMENT ON COLUMN emergency_grants.review_within_seconds IS 'How long after its end its use is to be reviewed.';
COMMENT ON COLUMN emergency_grants.review_due_at IS 'By when its use is to be reviewed; null: not before it has ended, or with what replaced it.';
COMMENT ON COLUMN emergency_grants.review_outcome IS 'What the review found.';
COMMENT ON COLUMN emergency_grants.reviewed_by IS 'Who reviewed it.';
COMMENT ON COLUMN emergency_grants.review_note IS 'What they said.';
COMMENT ON COLUMN emergency_grants.reviewed_at IS 'When.';

CREATE TABLE emergency_decisions (
    grant_id   uuid NOT NULL REFERENCES emergency_grants,
    user_id    uuid NOT NULL REFERENCES users,
    decision   text NOT NULL CHECK (decision IN ('approve', 'deny')),
    comment    text,
    decided_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (grant_id, user_id)
);
COMMENT ON TABLE emergency_decisions IS 'What others decided about a request. Changed only under the lock of its user''s row.';
COMMENT ON COLUMN emergency_decisions.grant_id IS 'Which request.';
COMMENT ON COLUMN emergency_decisions.user_id IS 'Who decided.';
COMMENT ON COLUMN emergency_decisions.decision IS 'What: approve, deny.';
COMMENT ON COLUMN emergency_decisions.comment IS 'What they said.';
COMMENT ON COLUMN emergency_decisions.decided_at IS 'When.';

ALTER TABLE timers
    DROP CONSTRAINT timers_kind_check,
    ADD CONSTRAINT timers_kind_check CHECK (kind IN ('grant-expiry', 'grant-warning', 'review-overdue', 'mfa-deadline'));

CREATE FUNCTION end_grants(grants uuid[], leaving text, entering text, by_user uuid, why text, reviewed boolean)
RETURNS TABLE (id uuid, tenant_id uuid, user_id uuid, ended_at timestamptz)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    now timestamptz := clock_timestamp();
BEGIN
    RETURN QUERY
    WITH ended AS (
        UPDATE emergency_grants g
        SET state = end_grants.entering, ended_by = end_grants.by_user, end_reason = end_grants.why,
            ended_at = least(now, CASE g.state WHEN 'pending' THEN g.pending_until ELSE g.expires_at END),
            review_due_at = CASE WHEN g.state = 'active' AND end_grants.reviewed
                THEN least(now, g.expires_at) + make_interval(secs => g.review_within_seconds) END
        WHERE g.id = ANY(end_grants.grants) AND g.state = end_grants.leaving
          -- What is over by the clock only expires, and what is not does not.
          AND (CASE g.state WHEN 'pending' THEN g.pending_until ELSE g.expires_at END <= now) = (end_grants.entering = 'expired')
        RETURNING g.id, g.tenant_id, g.user_id, g.ended_at, g.review_due_at
    ), unset AS (
        DELETE FROM timers t USING ended WHERE t.kind IN ('grant-expiry', 'grant-warning') AND t.subject_id = ended.id
    ), set AS (
        INSERT INTO timers (kind, subject_id, due_at)
        SELECT 'review-overdue', ended.id, review_due_at FROM ended WHERE review_due_at IS NOT NULL
    )
    SELECT ended.id, ended.tenant_id, ended.user_id, ended.ended_at FROM ended;
END $$;
COMMENT ON FUNCTION end_grants IS 'Moves grants from one state to a final one, where they are in that and the clock allows it; their timers go, and that of the review comes. Says which. Under the locks of their users'' rows.';

-- As before, but for grants that hold in one session.
CREATE OR REPLACE FUNCTION find_callers(tokens bytea[], idle_slack integer, touch_every integer) RETURNS SETOF caller
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
                  AND g.expires_at > clock_timestamp()
                  AND (g.applies_to = 'user' OR g.session_id = s.id)) AS grants
        FROM sessions s JOIN users u ON u.id = s.user_id JOIN mfa_standing m ON m.user_id = s.user_id
        WHERE s.token_hash = ANY(tokens) AND s.ended_at IS NULL AND u.disabled_at IS NULL
          AND s.expires_at > clock_timestamp()
          AND s.last_active_at + make_interval(secs => s.idle_seconds + idle_slack) > clock_timestamp()
    ), touched AS (
        UPDATE sessions s SET last_active_at = clock_timestamp() FROM found
        WHERE s.id = found.id AND s.last_active_at + make_interval(secs => touch_every) <= clock_timestamp())
    SELECT token_hash, id, user_id, tenant_id, role, enrollment_only, grants, clock_timestamp() FROM found;
END $$;
