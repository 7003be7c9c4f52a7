-- The audit record as one hash chain for each tenant, and its signed heads. ARCHITECTURE.md, "The record", says what is
-- hashed; the crate `chain` does the same to verify it.

-- Chaining what there is takes as long as it takes.
SET LOCAL statement_timeout = 0;

DO $$ BEGIN
    IF current_setting('server_encoding') <> 'UTF8' THEN
        RAISE EXCEPTION 'the database has to be in UTF8, in which the record is hashed';
    END IF;
END $$;

-- Tenants first, as whoever appends.
ALTER TABLE tenants ADD COLUMN audit_hash bytea CHECK (octet_length(audit_hash) = 32);
COMMENT ON COLUMN tenants.audit_hash IS 'The hash of the last entry of its audit record; null while there is none.';
ALTER TABLE audit ADD COLUMN hash bytea CHECK (octet_length(hash) = 32);
COMMENT ON COLUMN audit.hash IS 'SHA-256 of the hash before it and of this entry.';

-- Each text has its length before it, so that no two entries read alike; what is null has none. A call of concat, and
-- stable as that is: so it is put into the queries that use it, and costs little.
CREATE FUNCTION audit_encoding(seq bigint, at_micros bigint, actor text, action text, target text, ip text, detail text,
                               trace_id text) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT convert_to(concat(
        seq, ',', at_micros, ',',
        octet_length(actor), ':', actor, ',', octet_length(action), ':', action, ',',
        octet_length(target), ':', target, ',', octet_length(ip), ':', ip, ',',
        octet_length(detail), ':', detail, ',', octet_length(trace_id), ':', trace_id, ','), 'UTF8')
$$;
COMMENT ON FUNCTION audit_encoding IS 'What of an entry is hashed.';

CREATE FUNCTION audit_beginning(tenant uuid) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT sha256(convert_to('breakglass audit v1 ' || tenant::text, 'UTF8'))
$$;
COMMENT ON FUNCTION audit_beginning IS 'The hash that the first entry of a tenant follows.';

CREATE FUNCTION audit_link(hash bytea, before bytea, encoding bytea) RETURNS bytea LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    RETURN sha256(coalesce(hash, before) || encoding);
END $$;
COMMENT ON FUNCTION audit_link IS 'The hash of an entry; before: the hash that the first of several follows.';

CREATE AGGREGATE audit_chain(before bytea, encoding bytea) (SFUNC = audit_link, STYPE = bytea);
COMMENT ON AGGREGATE audit_chain (bytea, bytea) IS 'The hash of the last of these entries.';

UPDATE audit SET hash = chained.hash
FROM (SELECT tenant_id, seq,
             audit_chain(audit_beginning(tenant_id),
                         audit_encoding(seq, (extract(epoch FROM at) * 1000000)::bigint, actor, action, target, ip,
                                        detail::text, trace_id))
                 OVER (PARTITION BY tenant_id ORDER BY seq) AS hash
      FROM audit) chained
WHERE chained.tenant_id = audit.tenant_id AND chained.seq = audit.seq;
UPDATE tenants SET audit_hash = audit.hash FROM audit WHERE audit.tenant_id = tenants.id AND audit.seq = tenants.audit_seq;
ALTER TABLE audit ALTER COLUMN hash SET NOT NULL;

CREATE OR REPLACE FUNCTION append_audit(tenants uuid[], actors text[], actions text[], targets text[], ips text[],
                                        details jsonb[], trace_ids text[]) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM FROM tenants WHERE id = ANY(append_audit.tenants) ORDER BY id FOR NO KEY UPDATE;
    WITH written AS (
        INSERT INTO audit (tenant_id, seq, at, actor, action, target, ip, detail, trace_id, hash)
        SELECT tenant_id, seq, at, actor, action, target, ip, detail, trace_id,
               audit_chain(before, audit_encoding(seq, (extract(epoch FROM at) * 1000000)::bigint, actor, action,
                                                  target, ip, detail_text, trace_id))
                   OVER (PARTITION BY tenant_id ORDER BY place)
        FROM (
            -- The time is taken under the lock, so that it goes the way of the numbers.
            SELECT tenant_id, place, actor, action, target, ip, detail, detail::text AS detail_text, trace_id,
                   t.audit_seq + row_number() OVER (PARTITION BY tenant_id ORDER BY place) AS seq,
                   coalesce(t.audit_hash, audit_beginning(t.id)) AS before, clock_timestamp() AS at
            FROM unnest(tenants, actors, actions, targets, ips, details, trace_ids)
                WITH ORDINALITY AS given (tenant_id, actor, action, target, ip, detail, trace_id, place)
            JOIN tenants t ON t.id = given.tenant_id
        ) entry
        RETURNING tenant_id, seq, hash
    )
    UPDATE tenants t SET audit_seq = last.seq, audit_hash = last.hash
    FROM (SELECT DISTINCT ON (tenant_id) tenant_id, seq, hash FROM written ORDER BY tenant_id, seq DESC) last
    WHERE t.id = last.tenant_id;
END $$;

CREATE TABLE audit_heads (
    tenant_id  uuid PRIMARY KEY REFERENCES tenants,
    seq        bigint NOT NULL,
    hash       bytea NOT NULL CHECK (octet_length(hash) = 32),
    signature  bytea NOT NULL CHECK (octet_length(signature) = 64),
    public_key bytea NOT NULL CHECK (octet_length(public_key) = 32),
    signed_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE audit_heads IS 'The last signed head of each tenant''s record. Changed under the lock of the tenant''s row. All heads are entries of the record.';
COMMENT ON COLUMN audit_heads.tenant_id IS 'Whose record.';
COMMENT ON COLUMN audit_heads.seq IS 'The last entry that it covers; the head itself is the entry after that.';
COMMENT ON COLUMN audit_heads.hash IS 'The hash of that entry.';
COMMENT ON COLUMN audit_heads.signature IS 'Ed25519, over tenant, seq and hash.';
COMMENT ON COLUMN audit_heads.public_key IS 'By which key it is verified.';
COMMENT ON COLUMN audit_heads.signed_at IS 'When.';
