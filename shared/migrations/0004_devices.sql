-- Devices that users have signed in from.

CREATE TABLE known_devices (
    user_id       uuid NOT NULL REFERENCES users,
    fingerprint   bytea NOT NULL CHECK (octet_length(fingerprint) = 32),
    first_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_seen_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (user_id, fingerprint)
);
COMMENT ON TABLE known_devices IS 'What each user has signed in from; the 200 of the latest use. Changed under the lock of the user''s row.';
COMMENT ON COLUMN known_devices.user_id IS 'Who.';
COMMENT ON COLUMN known_devices.fingerprint IS 'SHA-256 of browser, system and kind of device, or of the user agent where these are not known.';
COMMENT ON COLUMN known_devices.first_seen_at IS 'When they first signed in from it.';
COMMENT ON COLUMN known_devices.last_seen_at IS 'When they last signed in from it.';
