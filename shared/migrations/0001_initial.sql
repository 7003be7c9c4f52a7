-- Tenants, users, sessions, emergency grants, revocations, edges, timers and the audit record.
--
-- Rows of `sessions` (but for `last_active_at`) and `emergency_grants` are changed only under the
-- lock of their user's row, so whoever holds that lock sees them as they are. Locks are taken in
-- one order: users (by id), their sessions and grants, policies, tenants, revocation_head.

CREATE TABLE tenants (
    id         uuid PRIMARY KEY,
    slug       text NOT NULL UNIQUE CHECK (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    name       text NOT NULL,
    audit_seq  bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE tenants IS 'An organisation; nothing is shared between two of them.';
COMMENT ON COLUMN tenants.id IS 'UUIDv7.';
COMMENT ON COLUMN tenants.slug IS 'What people type to sign in.';
COMMENT ON COLUMN tenants.name IS 'For people.';
COMMENT ON COLUMN tenants.audit_seq IS 'The last number given in this tenant''s audit record.';
COMMENT ON COLUMN tenants.created_at IS 'When it was created.';

CREATE TABLE users (
    id            uuid PRIMARY KEY,
    tenant_id     uuid NOT NULL REFERENCES tenants,
    email         text NOT NULL,
    name          text NOT NULL,
    role          text NOT NULL CHECK (role IN ('member', 'manager', 'admin')),
    password_hash text,
    disabled_at   timestamptz,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (tenant_id, email)
);
COMMENT ON TABLE users IS 'A person in a tenant.';
COMMENT ON COLUMN users.id IS 'UUIDv7.';
COMMENT ON COLUMN users.tenant_id IS 'Their organisation.';
COMMENT ON COLUMN users.email IS 'Their address, trimmed and in lower case.';
COMMENT ON COLUMN users.name IS 'For people.';
COMMENT ON COLUMN users.role IS 'The assigned role, without any grant.';
COMMENT ON COLUMN users.password_hash IS 'argon2id in PHC format; null until a password is set.';
COMMENT ON COLUMN users.disabled_at IS 'Since when they can do nothing.';
COMMENT ON COLUMN users.created_at IS 'When they were created.';

CREATE TABLE sessions (
    id             uuid PRIMARY KEY,
    tenant_id      uuid NOT NULL REFERENCES tenants,
    user_id        uuid NOT NULL REFERENCES users,
    token_hash     bytea NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
    methods        text[] NOT NULL,
    user_agent     text,
    ip             text,
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_active_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    idle_seconds   integer NOT NULL CHECK (idle_seconds > 0),
    expires_at     timestamptz NOT NULL,
    ended_at       timestamptz,
    ended_by       uuid REFERENCES users
);
CREATE INDEX sessions_live ON sessions (user_id) WHERE ended_at IS NULL;
COMMENT ON TABLE sessions IS 'One place where a user is signed in.';
COMMENT ON COLUMN sessions.id IS 'UUIDv7.';
COMMENT ON COLUMN sessions.tenant_id IS 'The tenant of its user.';
COMMENT ON COLUMN sessions.user_id IS 'Whose it is.';
COMMENT ON COLUMN sessions.token_hash IS 'SHA-256 of the token; the token itself is never stored.';
COMMENT ON COLUMN sessions.methods IS 'How the user signed in: password, totp, backup-code.';
COMMENT ON COLUMN sessions.user_agent IS 'As the client sent it, cut to 512 bytes.';
COMMENT ON COLUMN sessions.ip IS 'The address that it was opened from.';
COMMENT ON COLUMN sessions.created_at IS 'When it was opened.';
COMMENT ON COLUMN sessions.last_active_at IS 'Last known use; written at most once a minute.';
COMMENT ON COLUMN sessions.idle_seconds IS 'How long it may be unused.';
COMMENT ON COLUMN sessions.expires_at IS 'When it ends whatever happens.';
COMMENT ON COLUMN sessions.ended_at IS 'When it was revoked or signed out of.';
COMMENT ON COLUMN sessions.ended_by IS 'Who ended it.';

CREATE TABLE emergency_policies (
    tenant_id                uuid PRIMARY KEY REFERENCES tenants,
    role                     text NOT NULL DEFAULT 'admin' CHECK (role IN ('member', 'manager', 'admin')),
    requesters               text[] NOT NULL DEFAULT '{member,manager,admin}',
    default_duration_seconds integer NOT NULL DEFAULT 3600 CHECK (default_duration_seconds >= 5),
    max_duration_seconds     integer NOT NULL DEFAULT 14400 CHECK (max_duration_seconds >= default_duration_seconds),
    min_reason_length        integer NOT NULL DEFAULT 15 CHECK (min_reason_length BETWEEN 1 AND 2000),
    max_active_per_user      integer NOT NULL DEFAULT 3 CHECK (max_active_per_user >= 1)
);
COMMENT ON TABLE emergency_policies IS 'How a tenant grants emergency access.';
COMMENT ON COLUMN emergency_policies.tenant_id IS 'Whose policy.';
COMMENT ON COLUMN emergency_policies.role IS 'To which role a grant raises.';
COMMENT ON COLUMN emergency_policies.requesters IS 'Assigned roles that may ask.';
COMMENT ON COLUMN emergency_policies.default_duration_seconds IS 'Length of a grant where none is asked for.';
COMMENT ON COLUMN emergency_policies.max_duration_seconds IS 'Greatest length of a grant.';
COMMENT ON COLUMN emergency_policies.min_reason_length IS 'Fewest meaningful characters of a reason.';
COMMENT ON COLUMN emergency_policies.max_active_per_user IS 'Most grants that a user may hold at once.';

CREATE TABLE emergency_grants (
    id               uuid PRIMARY KEY,
    tenant_id        uuid NOT NULL REFERENCES tenants,
    user_id          uuid NOT NULL REFERENCES users,
    session_id       uuid NOT NULL REFERENCES sessions,
    state            text NOT NULL CHECK (state IN ('pending', 'active', 'denied', 'cancelled', 'revoked', 'expired')),
    role             text NOT NULL CHECK (role IN ('member', 'manager', 'admin')),
    reason           text NOT NULL,
    ticket           text,
    duration_seconds integer NOT NULL CHECK (duration_seconds >= 5),
    request_digest   bytea NOT NULL,
    requested_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    activated_at     timestamptz,
    expires_at       timestamptz,
    ended_at         timestamptz,
    ended_by         uuid REFERENCES users,
    end_reason       text,
    CHECK (state <> 'active' OR (activated_at IS NOT NULL AND expires_at IS NOT NULL AND ended_at IS NULL))
);
CREATE INDEX emergency_grants_active ON emergency_grants (user_id) WHERE state = 'active';
CREATE INDEX emergency_grants_by_tenant ON emergency_grants (tenant_id, id DESC);
CREATE INDEX emergency_grants_active_by_tenant ON emergency_grants (tenant_id, id DESC) WHERE state = 'active';
CREATE INDEX emergency_grants_by_user ON emergency_grants (user_id, id DESC);
COMMENT ON TABLE emergency_grants IS 'One request for emergency access and what became of it.';
COMMENT ON COLUMN emergency_grants.id IS 'UUIDv7.';
COMMENT ON COLUMN emergency_grants.tenant_id IS 'The tenant of its user.';
COMMENT ON COLUMN emergency_grants.user_id IS 'Who asked, and whose role it raises.';
COMMENT ON COLUMN emergency_grants.session_id IS 'The session that asked.';
COMMENT ON COLUMN emergency_grants.state IS 'Where it stands; denied, cancelled, revoked and expired are final.';
COMMENT ON COLUMN emergency_grants.role IS 'To which role it raises.';
COMMENT ON COLUMN emergency_grants.reason IS 'Why, verbatim.';
COMMENT ON COLUMN emergency_grants.ticket IS 'The incident''s ticket.';
COMMENT ON COLUMN emergency_grants.duration_seconds IS 'Its length, counted from activation.';
COMMENT ON COLUMN emergency_grants.request_digest IS 'SHA-256 over what is asked for.';
COMMENT ON COLUMN emergency_grants.requested_at IS 'When it was asked for.';
COMMENT ON COLUMN emergency_grants.activated_at IS 'When it began.';
COMMENT ON COLUMN emergency_grants.expires_at IS 'When it ends by itself.';
COMMENT ON COLUMN emergency_grants.ended_at IS 'When it ended.';
COMMENT ON COLUMN emergency_grants.ended_by IS 'Who ended it; null if time did.';
COMMENT ON COLUMN emergency_grants.end_reason IS 'Why it was ended.';

CREATE TABLE revocation_head (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    revision bigint NOT NULL
);
INSERT INTO revocation_head (revision) VALUES (0);
COMMENT ON TABLE revocation_head IS 'The last revision. Raised by the last statement of a change, so commit order is revision order, without gaps.';
COMMENT ON COLUMN revocation_head.only_row IS 'Keeps the table at one row.';
COMMENT ON COLUMN revocation_head.revision IS 'The number.';

CREATE TABLE revocations (
    revision     bigint PRIMARY KEY,
    tenant_id    uuid NOT NULL,
    user_id      uuid,
    sessions     uuid[] NOT NULL,
    cause        text NOT NULL,
    traceparent  text,
    committed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE revocations IS 'What makes cached rights stale, numbered.';
COMMENT ON COLUMN revocations.revision IS 'Its number.';
COMMENT ON COLUMN revocations.tenant_id IS 'In which tenant.';
COMMENT ON COLUMN revocations.user_id IS 'Whose rights; null: the whole tenant''s.';
COMMENT ON COLUMN revocations.sessions IS 'The sessions that ended with it.';
COMMENT ON COLUMN revocations.cause IS 'Why.';
COMMENT ON COLUMN revocations.traceparent IS 'Trace context of the change.';
COMMENT ON COLUMN revocations.committed_at IS 'When, nearly.';

CREATE TABLE edges (
    edge_id     text NOT NULL CHECK (edge_id ~ '^[a-z0-9-]{1,63}$'),
    incarnation uuid NOT NULL,
    region      text NOT NULL,
    applied     bigint NOT NULL,
    must_apply  bigint NOT NULL,
    lease_seq   bigint NOT NULL DEFAULT 1,
    lease_ttl   integer NOT NULL CHECK (lease_ttl > 0),
    fenced      boolean NOT NULL DEFAULT false,
    has_left    boolean NOT NULL DEFAULT false,
    PRIMARY KEY (edge_id, incarnation)
);
CREATE UNIQUE INDEX edges_by_incarnation ON edges (incarnation);
CREATE INDEX edges_live ON edges (incarnation) WHERE NOT fenced AND NOT has_left;
COMMENT ON TABLE edges IS 'Every life of every edge. No time of day decides about a lease.';
COMMENT ON COLUMN edges.edge_id IS 'Which edge.';
COMMENT ON COLUMN edges.incarnation IS 'Which of its lives; issued by the worker that answered the join.';
COMMENT ON COLUMN edges.region IS 'Where it stands, for people.';
COMMENT ON COLUMN edges.applied IS 'It has applied every revision up to this one.';
COMMENT ON COLUMN edges.must_apply IS 'It must have applied this before its lease is extended.';
COMMENT ON COLUMN edges.lease_seq IS 'Counts the extensions, so that a fence loses against a renewal.';
COMMENT ON COLUMN edges.lease_ttl IS 'Length of its lease in milliseconds; never shorter than what it was told.';
COMMENT ON COLUMN edges.fenced IS 'Its lease ran out. Final.';
COMMENT ON COLUMN edges.has_left IS 'It said that it decides no more. Final.';

CREATE TABLE timers (
    kind          text NOT NULL CHECK (kind IN ('grant-expiry')),
    subject_id    uuid NOT NULL,
    due_at        timestamptz NOT NULL,
    claimed_until timestamptz,
    traceparent   text,
    PRIMARY KEY (kind, subject_id)
);
CREATE INDEX timers_due ON timers (due_at);
COMMENT ON TABLE timers IS 'What time alone will cause. A timer goes in the transaction that does what it was for.';
COMMENT ON COLUMN timers.kind IS 'What is to happen.';
COMMENT ON COLUMN timers.subject_id IS 'To what.';
COMMENT ON COLUMN timers.due_at IS 'When.';
COMMENT ON COLUMN timers.claimed_until IS 'A worker is at it; another may try after this.';
COMMENT ON COLUMN timers.traceparent IS 'Trace context of what set it.';

CREATE TABLE audit (
    tenant_id uuid NOT NULL REFERENCES tenants,
    seq       bigint NOT NULL,
    at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor     text NOT NULL,
    action    text NOT NULL,
    target    text,
    ip        text,
    detail    jsonb NOT NULL DEFAULT '{}',
    trace_id  text,
    PRIMARY KEY (tenant_id, seq)
);
COMMENT ON TABLE audit IS 'Every change and every refused attempt of substance.';
COMMENT ON COLUMN audit.tenant_id IS 'In which tenant.';
COMMENT ON COLUMN audit.seq IS 'Its place in the tenant''s record, without gaps.';
COMMENT ON COLUMN audit.at IS 'When.';
COMMENT ON COLUMN audit.actor IS 'Who: a user id, or the name of a service.';
COMMENT ON COLUMN audit.action IS 'What: concept and past tense.';
COMMENT ON COLUMN audit.target IS 'To what: concept and id.';
COMMENT ON COLUMN audit.ip IS 'From where.';
COMMENT ON COLUMN audit.detail IS 'Particulars, by action.';
COMMENT ON COLUMN audit.trace_id IS 'The trace of the request.';

-- The timeline in the name of the current WAL file; the control file shows the old one until a checkpoint.
CREATE FUNCTION current_timeline() RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::bigint
$$;
