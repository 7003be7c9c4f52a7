//! Randomness, from the operating system alone.

use uuid::Uuid;

use crate::clock::Timestamp;

/// `N` random bytes.
///
/// # Panics
/// If the operating system has no randomness to give; nothing can be done safely then.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the source that everyone else uses")]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    bytes
}

/// A UUID version 7 (RFC 9562 §5.7): 48 bits of milliseconds, the rest random.
#[must_use]
pub fn uuid_v7(now: Timestamp) -> Uuid {
    uuid::Builder::from_unix_timestamp_millis(now.unix_millis(), &bytes::<10>()).into_uuid()
}
