-- Timers are claimed before they are due, and held in memory until then: by kind, the next first.

DROP INDEX timers_due;
CREATE INDEX timers_due ON timers (kind, due_at);
COMMENT ON COLUMN timers.claimed_until IS 'A worker has it in hand; another may take it after this.';

-- The one who looks ahead looks again when something is due before its next look. Told only then: telling takes a lock
-- that every commit which tells something waits for.
CREATE FUNCTION tell_of_timer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('timers', NEW.kind);
    RETURN NULL;
END $$;
COMMENT ON FUNCTION tell_of_timer IS 'Tells whoever listens on the channel timers that one of this kind is due soon.';
CREATE TRIGGER timers_due_soon AFTER INSERT OR UPDATE OF due_at ON timers
    FOR EACH ROW WHEN (NEW.due_at < clock_timestamp() + interval '10 seconds')
    EXECUTE FUNCTION tell_of_timer();

-- A user's latest uses are found among their latest requests. Each index of a grant costs at each of its ends.
DROP INDEX emergency_grants_by_activation;
