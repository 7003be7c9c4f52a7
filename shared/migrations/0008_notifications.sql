-- Notifications: which events were handed to the stream, where they go, and what has come of it.

ALTER TABLE outbox ADD COLUMN published_at timestamptz;
COMMENT ON COLUMN outbox.published_at IS 'When it was handed to the stream of events; null: not yet.';
-- What happened before there were notifications is no news.
UPDATE outbox SET published_at = clock_timestamp();
CREATE INDEX outbox_unpublished ON outbox (id) WHERE published_at IS NULL;

CREATE TABLE notification_endpoints (
    id                uuid PRIMARY KEY,
    tenant_id         uuid NOT NULL REFERENCES tenants,
    kind              text NOT NULL CHECK (kind IN ('webhook', 'slack', 'mail')),
    description       text NOT NULL,
    url               text,
    addresses         text[] NOT NULL DEFAULT '{}',
    events            text[] NOT NULL DEFAULT '{}',
    enabled           boolean NOT NULL DEFAULT true,
    disabled_because  text,
    secret            bytea,
    secret_key_id     text,
    previous          bytea,
    previous_key_id   text,
    previous_until    timestamptz,
    created_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    failing_since     timestamptz,
    last_error        text,
    last_delivered_at timestamptz
);
CREATE INDEX notification_endpoints_by_tenant ON notification_endpoints (tenant_id, id);
COMMENT ON TABLE notification_endpoints IS 'Where a tenant has its events sent.';
COMMENT ON COLUMN notification_endpoints.id IS 'UUIDv7.';
COMMENT ON COLUMN notification_endpoints.tenant_id IS 'Whose.';
COMMENT ON COLUMN notification_endpoints.kind IS 'What kind of thing listens there.';
COMMENT ON COLUMN notification_endpoints.description IS 'What the tenant says of it.';
COMMENT ON COLUMN notification_endpoints.url IS 'Of a webhook: where to. Of Slack: what may be shown of it, for the rest is a secret.';
COMMENT ON COLUMN notification_endpoints.addresses IS 'Of mail: to whom.';
COMMENT ON COLUMN notification_endpoints.events IS 'Kinds of events, or `grant.*` for all that begin so; none: all but audit.*.';
COMMENT ON COLUMN notification_endpoints.enabled IS 'Whether anything is sent.';
COMMENT ON COLUMN notification_endpoints.disabled_because IS 'Why not, where nobody of the tenant has said so.';
COMMENT ON COLUMN notification_endpoints.secret IS 'Of a webhook: with what it is signed; of Slack: its URL. Sealed with XChaCha20-Poly1305.';
COMMENT ON COLUMN notification_endpoints.secret_key_id IS 'With which key.';
COMMENT ON COLUMN notification_endpoints.previous IS 'The secret before, which signs as well for a while. Sealed.';
COMMENT ON COLUMN notification_endpoints.previous_key_id IS 'With which key.';
COMMENT ON COLUMN notification_endpoints.previous_until IS 'Until when it signs.';
COMMENT ON COLUMN notification_endpoints.created_at IS 'When it was made.';
COMMENT ON COLUMN notification_endpoints.failing_since IS 'The first failure since the last success.';
COMMENT ON COLUMN notification_endpoints.last_error IS 'The last failure since then, in a few words of ours.';
COMMENT ON COLUMN notification_endpoints.last_delivered_at IS 'The last success.';

CREATE TABLE notification_deliveries (
    id              uuid PRIMARY KEY,
    tenant_id       uuid NOT NULL REFERENCES tenants,
    endpoint_id     uuid REFERENCES notification_endpoints ON DELETE CASCADE,
    user_id         uuid REFERENCES users,
    lane            uuid NOT NULL,
    event_id        uuid NOT NULL,
    kind            text NOT NULL,
    occurred_at     timestamptz NOT NULL,
    body            jsonb NOT NULL,
    traceparent     text,
    state           text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'set-aside')),
    attempts        integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    give_up_at      timestamptz NOT NULL DEFAULT clock_timestamp() + interval '24 hours',
    last_attempt_at timestamptz,
    last_status     integer,
    last_error      text,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at        timestamptz,
    CHECK ((endpoint_id IS NULL) <> (user_id IS NULL)),
    UNIQUE (endpoint_id, event_id),
    UNIQUE (user_id, event_id)
);
CREATE INDEX notification_deliveries_due ON notification_deliveries (next_attempt_at) INCLUDE (lane, tenant_id)
    WHERE state = 'pending';
CREATE INDEX notification_deliveries_waiting ON notification_deliveries (lane) WHERE state = 'pending';
CREATE INDEX notification_deliveries_by_endpoint ON notification_deliveries (endpoint_id, id);
CREATE INDEX notification_deliveries_set_aside ON notification_deliveries (endpoint_id) WHERE state = 'set-aside';
CREATE INDEX notification_deliveries_by_time ON notification_deliveries (created_at);
COMMENT ON TABLE notification_deliveries IS 'One event on its way to one endpoint or person.';
COMMENT ON COLUMN notification_deliveries.id IS 'UUIDv7.';
COMMENT ON COLUMN notification_deliveries.tenant_id IS 'In which tenant.';
COMMENT ON COLUMN notification_deliveries.endpoint_id IS 'To which endpoint,';
COMMENT ON COLUMN notification_deliveries.user_id IS 'or to which person, by mail.';
COMMENT ON COLUMN notification_deliveries.lane IS 'What one slow receiver holds up: the endpoint; of mail to people the tenant.';
COMMENT ON COLUMN notification_deliveries.event_id IS 'The outbox id of the event: the same for every attempt.';
COMMENT ON COLUMN notification_deliveries.kind IS 'The kind of the event.';
COMMENT ON COLUMN notification_deliveries.occurred_at IS 'When it happened.';
COMMENT ON COLUMN notification_deliveries.body IS 'What is told, the same in every attempt. Never codes, tokens, hashes or passwords.';
COMMENT ON COLUMN notification_deliveries.traceparent IS 'Trace context of the change.';
COMMENT ON COLUMN notification_deliveries.state IS 'pending: will be tried; set-aside: will not.';
COMMENT ON COLUMN notification_deliveries.attempts IS 'How often it was tried, the attempt under way included.';
COMMENT ON COLUMN notification_deliveries.next_attempt_at IS 'When it is tried next; of one under way: when it counts as lost.';
COMMENT ON COLUMN notification_deliveries.give_up_at IS 'After this it is set aside.';
COMMENT ON COLUMN notification_deliveries.last_attempt_at IS 'When it was tried last.';
COMMENT ON COLUMN notification_deliveries.last_status IS 'The HTTP status of the last answer.';
COMMENT ON COLUMN notification_deliveries.last_error IS 'Why the last attempt failed, in a few words of ours; nothing that the receiver said.';
COMMENT ON COLUMN notification_deliveries.created_at IS 'When it was fanned out.';
COMMENT ON COLUMN notification_deliveries.ended_at IS 'When it was delivered or set aside.';
