-- What was done under a grant, as edges saw it; and where a grant is found in the record.

CREATE TABLE grant_actions (
    grant_id   uuid NOT NULL,
    minute     timestamptz NOT NULL,
    recorder   uuid NOT NULL,
    session_id uuid NOT NULL,
    method     text NOT NULL,
    host       text NOT NULL,
    path       text NOT NULL,
    allowed    boolean NOT NULL,
    count      bigint NOT NULL CHECK (count > 0),
    PRIMARY KEY (grant_id, minute, recorder, session_id, method, host, path, allowed)
);
COMMENT ON TABLE grant_actions IS 'What reverse proxies asked edges about under a grant, counted by the minute.';
COMMENT ON COLUMN grant_actions.grant_id IS 'Under which grant.';
COMMENT ON COLUMN grant_actions.minute IS 'In which minute.';
COMMENT ON COLUMN grant_actions.recorder IS 'Which run of which edge counted it; it tells the whole count again and again.';
COMMENT ON COLUMN grant_actions.session_id IS 'In which session.';
COMMENT ON COLUMN grant_actions.method IS 'Of the request; empty where too many different ones came in that minute to be told apart.';
COMMENT ON COLUMN grant_actions.host IS 'Of the request.';
COMMENT ON COLUMN grant_actions.path IS 'Of the request, without its query.';
COMMENT ON COLUMN grant_actions.allowed IS 'What the edge decided.';
COMMENT ON COLUMN grant_actions.count IS 'How often.';

CREATE INDEX audit_of_grants ON audit (tenant_id, target, seq) WHERE target LIKE 'grant:%';
