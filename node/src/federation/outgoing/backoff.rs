//! How long a destination that fails is left alone.

use std::time::Duration;

use crate::platform::Rng;

/// After the first failure.
const FIRST: Duration = Duration::from_secs(1);
/// At most.
pub(crate) const LONGEST: Duration = Duration::from_secs(600);

/// The wait after the `failures`th failure in a row: doubling from one second to ten minutes, a quarter more or less by
/// chance so that a crowd does not come back at once; longer if the server `asks` for it, up to the longest.
pub(crate) fn delay(failures: u32, asks: Option<Duration>, rng: &Rng) -> Duration {
    let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST);
    let spread = u64::try_from(doubled.as_millis() / 2).unwrap_or(u64::MAX);
    let jittered = doubled * 3 / 4 + Duration::from_millis(rng.below(spread + 1));
    jittered.max(asks.unwrap_or_default().min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_ten_minutes_and_vary_by_a_quarter() {
        let rng = Rng::from_seed(1);
        for (failures, middle) in
            [(1, 1_000u64), (2, 2_000), (5, 16_000), (10, 512_000), (11, 600_000), (4_000, 600_000)]
        {
            for _ in 0..50 {
                let ms = u64::try_from(delay(failures, None, &rng).as_millis()).unwrap();
                assert!(ms >= middle * 3 / 4 && ms <= middle * 5 / 4, "{failures}: {ms}");
            }
        }
        let one = delay(6, None, &rng);
        assert!((0..20).any(|_| delay(6, None, &rng) != one), "no jitter");
    }

    #[test]
    fn a_server_may_ask_for_more_but_not_for_ever() {
        let rng = Rng::from_seed(1);
        assert!(delay(1, Some(Duration::from_secs(60)), &rng) >= Duration::from_secs(60));
        assert!(delay(1, Some(Duration::MAX), &rng) <= LONGEST);
    }
}
