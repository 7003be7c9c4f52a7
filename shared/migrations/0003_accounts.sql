-- Accounts: second factors and their policy, one-time tokens for passwords, counted failures,
-- and events for others.
--
-- The first lock of a change to who is in scope of the policy (role, policy, new user) is the
-- tenant's row of `mfa_policies`; after it come the users, as before. Rows of a user's factor,
-- codes, challenges and tokens are changed only under the lock of the user's row.

ALTER TABLE users
    ADD COLUMN mfa_required_since timestamptz,
    ADD COLUMN mfa_due_at         timestamptz;
COMMENT ON COLUMN users.mfa_required_since IS 'When the policy first required a second factor of them. Never cleared.';
COMMENT ON COLUMN users.mfa_due_at IS 'Until when they may do without while the policy requires one. Never moves later.';

CREATE TABLE mfa_policies (
    tenant_id         uuid PRIMARY KEY REFERENCES tenants,
    require_2fa       boolean NOT NULL DEFAULT false,
    required_roles    text[] NOT NULL DEFAULT '{}',
    grace_period_days integer NOT NULL DEFAULT 7 CHECK (grace_period_days BETWEEN 0 AND 90)
);
COMMENT ON TABLE mfa_policies IS 'Of whom a tenant requires a second factor.';
COMMENT ON COLUMN mfa_policies.tenant_id IS 'Whose policy.';
COMMENT ON COLUMN mfa_policies.require_2fa IS 'Whether one is required of anybody.';
COMMENT ON COLUMN mfa_policies.required_roles IS 'Assigned roles of which it is required; empty: of all.';
COMMENT ON COLUMN mfa_policies.grace_period_days IS 'How long one may do without after it became required.';
INSERT INTO mfa_policies (tenant_id) SELECT id FROM tenants;

-- Whether the policy requires a factor of somebody with this assigned role.
CREATE FUNCTION mfa_requires(policy mfa_policies, role text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT policy.require_2fa AND (policy.required_roles = '{}' OR role = ANY (policy.required_roles))
$$;

CREATE TABLE totp_factors (
    user_id    uuid PRIMARY KEY REFERENCES users,
    secret     bytea NOT NULL,
    key_id     text NOT NULL,
    last_step  bigint NOT NULL,
    enabled_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX totp_factors_by_key ON totp_factors (key_id);
COMMENT ON TABLE totp_factors IS 'Authenticator apps in use (RFC 6238).';
COMMENT ON COLUMN totp_factors.user_id IS 'Whose.';
COMMENT ON COLUMN totp_factors.secret IS 'The shared secret, sealed with XChaCha20-Poly1305.';
COMMENT ON COLUMN totp_factors.key_id IS 'With which key.';
COMMENT ON COLUMN totp_factors.last_step IS 'The last time step of which a code was accepted; none up to it counts again.';
COMMENT ON COLUMN totp_factors.enabled_at IS 'Since when.';

CREATE TABLE totp_enrollments (
    user_id    uuid PRIMARY KEY REFERENCES users,
    session_id uuid NOT NULL,
    secret     bytea NOT NULL,
    key_id     text NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX totp_enrollments_by_key ON totp_enrollments (key_id);
COMMENT ON TABLE totp_enrollments IS 'Authenticator apps that are not confirmed yet.';
COMMENT ON COLUMN totp_enrollments.user_id IS 'Whose.';
COMMENT ON COLUMN totp_enrollments.session_id IS 'The session that began it, which alone may confirm it.';
COMMENT ON COLUMN totp_enrollments.secret IS 'The shared secret, sealed.';
COMMENT ON COLUMN totp_enrollments.key_id IS 'With which key.';
COMMENT ON COLUMN totp_enrollments.expires_at IS 'Until when it can be confirmed.';

-- How everybody stands: whether the policy requires a factor of them, whether they have one, and from
-- when on they can do nothing but set one up. A deadline that is missing is one that has passed.
CREATE VIEW mfa_standing AS
    SELECT u.id AS user_id, mfa_requires(p, u.role) AS required, f.user_id IS NOT NULL AS enabled,
           CASE WHEN mfa_requires(p, u.role) THEN coalesce(u.mfa_due_at, u.created_at) END AS due_at,
           CASE WHEN mfa_requires(p, u.role) AND f.user_id IS NULL
                THEN coalesce(u.mfa_due_at, u.created_at) END AS enrollment_only_from
    FROM users u JOIN mfa_policies p ON p.tenant_id = u.tenant_id
    LEFT JOIN totp_factors f ON f.user_id = u.id;

CREATE TABLE backup_codes (
    user_id   uuid NOT NULL REFERENCES users,
    code_hash bytea NOT NULL CHECK (octet_length(code_hash) = 32),
    used_at   timestamptz,
    PRIMARY KEY (user_id, code_hash)
);
COMMENT ON TABLE backup_codes IS 'Codes for when the authenticator is lost, each for one use.';
COMMENT ON COLUMN backup_codes.user_id IS 'Whose.';
COMMENT ON COLUMN backup_codes.code_hash IS 'SHA-256 over user and code; a code has 80 random bits.';
COMMENT ON COLUMN backup_codes.used_at IS 'When it was used up.';

CREATE TABLE sign_in_challenges (
    token_hash bytea PRIMARY KEY CHECK (octet_length(token_hash) = 32),
    user_id    uuid NOT NULL REFERENCES users,
    tries      integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX sign_in_challenges_by_user ON sign_in_challenges (user_id, created_at);
CREATE INDEX sign_in_challenges_by_end ON sign_in_challenges (expires_at);
COMMENT ON TABLE sign_in_challenges IS 'Sign-ins whose password was right and whose code is awaited.';
COMMENT ON COLUMN sign_in_challenges.token_hash IS 'SHA-256 of the challenge.';
COMMENT ON COLUMN sign_in_challenges.user_id IS 'Who signs in.';
COMMENT ON COLUMN sign_in_challenges.tries IS 'How many codes were tried.';
COMMENT ON COLUMN sign_in_challenges.created_at IS 'When the password was right.';
COMMENT ON COLUMN sign_in_challenges.expires_at IS 'Until when a code may come.';

CREATE TABLE sign_in_failures (
    account  bytea PRIMARY KEY CHECK (octet_length(account) = 32),
    failures integer NOT NULL CHECK (failures >= 0),
    last_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    before   timestamptz
);
CREATE INDEX sign_in_failures_by_time ON sign_in_failures (last_at);
COMMENT ON TABLE sign_in_failures IS 'Attempts to prove who one is that have not succeeded, for accounts that exist and others alike.';
COMMENT ON COLUMN sign_in_failures.account IS 'SHA-256 over tenant and normalised address, as they were typed.';
COMMENT ON COLUMN sign_in_failures.failures IS 'Attempts since the last completed sign-in, those under way included.';
COMMENT ON COLUMN sign_in_failures.last_at IS 'The last attempt.';
COMMENT ON COLUMN sign_in_failures.before IS 'The attempt before it, to go back to where the last one was no failure.';

-- After so many failures an account waits: nothing before the first `free`, then a time that doubles.
CREATE FUNCTION sign_in_delay(failures integer, free integer, first float8, longest float8)
RETURNS interval LANGUAGE sql IMMUTABLE AS $$
    SELECT make_interval(secs => CASE WHEN failures < free THEN 0
        ELSE least(longest, first * 2 ^ least(failures - free, 30)) END)
$$;

CREATE TABLE password_tokens (
    token_hash bytea PRIMARY KEY CHECK (octet_length(token_hash) = 32),
    user_id    uuid NOT NULL REFERENCES users,
    expires_at timestamptz NOT NULL
);
CREATE INDEX password_tokens_by_user ON password_tokens (user_id);
CREATE INDEX password_tokens_by_end ON password_tokens (expires_at);
COMMENT ON TABLE password_tokens IS 'One-time tokens with which a user sets a password.';
COMMENT ON COLUMN password_tokens.token_hash IS 'SHA-256 of the token.';
COMMENT ON COLUMN password_tokens.user_id IS 'Whose password.';
COMMENT ON COLUMN password_tokens.expires_at IS 'Until when.';

CREATE TABLE outbox (
    id          uuid PRIMARY KEY,
    tenant_id   uuid NOT NULL,
    kind        text NOT NULL,
    payload     jsonb NOT NULL,
    traceparent text,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX outbox_by_time ON outbox (created_at);
COMMENT ON TABLE outbox IS 'What happened that people are told of, written in the transaction of the change.';
COMMENT ON COLUMN outbox.id IS 'UUIDv7.';
COMMENT ON COLUMN outbox.tenant_id IS 'In which tenant.';
COMMENT ON COLUMN outbox.kind IS 'What: concept and past tense.';
COMMENT ON COLUMN outbox.payload IS 'Particulars, by kind. Never codes, tokens, hashes or passwords.';
COMMENT ON COLUMN outbox.traceparent IS 'Trace context of the change.';
COMMENT ON COLUMN outbox.created_at IS 'When.';

ALTER TABLE timers
    DROP CONSTRAINT timers_kind_check,
    ADD CONSTRAINT timers_kind_check CHECK (kind IN ('grant-expiry', 'mfa-deadline'));
