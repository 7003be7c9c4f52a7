-- Timers are claimed before they are due, and held in memory until then.

-- Indexes take as long as they take.
SET LOCAL statement_timeout = 0;

-- What took the place of a grant; few have been extended.
CREATE INDEX emergency_grants_extended ON emergency_grants (extended_from) WHERE extended_from IS NOT NULL;

DROP INDEX timers_due;
CREATE INDEX timers_due ON timers (kind, due_at);
COMMENT ON COLUMN timers.claimed_until IS 'A worker has it in hand; another may take it after this.';

-- Who looks ahead looks again when something may be due before the next look, which is within a minute, and a transaction
-- may take its time. Told only then: telling takes a lock that every commit which tells something waits for.
CREATE FUNCTION tell_of_timer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('timers', NEW.kind);
    RETURN NULL;
END $$;
COMMENT ON FUNCTION tell_of_timer IS 'Tells whoever listens on the channel timers that one of this kind is due soon.';
CREATE TRIGGER timers_due_soon AFTER INSERT OR UPDATE OF due_at ON timers
    FOR EACH ROW WHEN (NEW.due_at < clock_timestamp() + interval '2 minutes')
    EXECUTE FUNCTION tell_of_timer();
