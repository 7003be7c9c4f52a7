//! When a delivery that failed is tried again.

use std::time::Duration;

/// After the first failure, the second, and so on; the last one goes on.
const DELAYS: [u64; 7] = [5, 30, 120, 600, 1_800, 3_600, 7_200];
/// What a receiver asks for is heard up to here.
const LONGEST: Duration = Duration::from_hours(2);

/// How long to wait after so many attempts, at least one. `chance` is any number; it moves the time by up
/// to a fifth either way, so that what failed together does not come again together.
pub(crate) fn delay(attempts: u32, retry_after: Option<Duration>, chance: u8) -> Duration {
    let at = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
    let delay = Duration::from_secs(DELAYS[at.min(DELAYS.len() - 1)]);
    let spread = delay.mul_f64(0.8 + 0.4 * f64::from(chance) / 255.0);
    spread.max(retry_after.unwrap_or_default().min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_a_day_of_some_seventeen_attempts() {
        let mut all = Duration::ZERO;
        let mut attempts = 0;
        while all < Duration::from_hours(24) {
            attempts += 1;
            all += delay(attempts, None, 128);
        }
        assert!((16..=18).contains(&attempts), "{attempts}");
        assert!(delay(1, None, 0) >= Duration::from_secs(4));
        assert!(delay(1, None, 255) <= Duration::from_secs(6));
        assert!(delay(u32::MAX, None, 255) <= Duration::from_mins(144));
    }

    #[test]
    fn a_receiver_is_heard_within_bounds() {
        let asked = |seconds| delay(1, Some(Duration::from_secs(seconds)), 128).as_secs();
        assert_eq!(asked(60), 60);
        assert_eq!(asked(0), 5, "not sooner than without it");
        assert_eq!(asked(u64::MAX), 7_200);
    }
}
