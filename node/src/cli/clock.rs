//! Whether this device's clock can be right, in words for its owner.
//!
//! There is no other clock to ask: no peer's is trusted (DESIGN section 2), and there may be no internet. What can be told
//! is a time that no clock can show while this version is in use, and one behind what the node has noted already.

use std::time::Duration;

use super::text::{date, duration};
use crate::platform::{Clock as _, SystemClock};

/// Unix time in milliseconds before which no clock can be right: 2026-01-01.
const EARLIEST: Duration = Duration::from_millis(1_767_225_600_000);

/// From this on a clock is more likely wrong than this version still in use: 2034-01-01.
const LATEST: Duration = Duration::from_millis(2_019_686_400_000);

/// How far the node's time may be ahead of the clock before it is told: clocks are set back a little all the time.
const TOLERATED: Duration = Duration::from_secs(120);

const SET_IT: &str = "Set the device's clock; with internet, switch network time on (timedatectl set-ntp true).";

/// What is wrong with a clock.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// Follows "the clock".
    pub(super) what: String,
    pub(super) remedy: String,
    /// Whether it can be told that it is wrong now.
    pub(super) surely: bool,
}

/// The device's clock.
pub(super) fn wall() -> Duration {
    // A new one has seen nothing yet, so it tells what the system does.
    Duration::from_millis(SystemClock::new().now_ms())
}

/// Judges the device's clock by itself and by the time that the node has reached.
pub(super) fn judge(wall: Duration, node: Duration) -> Option<Wrong> {
    let ahead = node.saturating_sub(wall);
    if wall < EARLIEST {
        let what = format!("says {}, which is years behind", date(wall));
        let remedy = if ahead > TOLERATED {
            format!("{SET_IT} Until then the node goes on from {}, which it had reached.", date(node))
        } else {
            format!("{SET_IT} Messages carry wrong dates until then.")
        };
        return Some(Wrong { what, remedy, surely: true });
    }
    if wall >= LATEST {
        return Some(Wrong {
            what: format!("says {}, which is probably years ahead", date(wall)),
            remedy: format!(
                "{SET_IT} The sooner the better: dates of messages that are sent meanwhile stay wrong, and this node's \
                 time never goes back. If it is right, this version of kith is very old: take a newer one."
            ),
            surely: true,
        });
    }
    if ahead > TOLERATED {
        // The node's time goes on at half speed until the clock has caught up with it.
        let met = date(node + ahead);
        return Some(Wrong {
            what: format!("says {}, and this node's time is {} ahead of it", date(wall), duration(ahead)),
            remedy: format!(
                "If the clock is right now, it was wrong before: nothing to do, dates of new messages stay ahead until {met}. \
                 If it is wrong: {}",
                lower(SET_IT)
            ),
            surely: false,
        });
    }
    None
}

fn lower(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn a_clock_that_can_be_right_is_not_told() {
        let now = EARLIEST + 300 * DAY;
        for node in [now, now + Duration::from_secs(100), now - DAY, Duration::ZERO] {
            assert_eq!(judge(now, node), None);
        }
    }

    #[test]
    fn a_clock_in_1970_or_ten_years_ahead_is_to_be_set() {
        let wrong = judge(DAY, DAY).unwrap();
        assert!(wrong.what.contains("1970-01-02") && wrong.remedy.starts_with("Set the device's clock"), "{wrong:?}");
        let wrong = judge(DAY, EARLIEST + 300 * DAY).unwrap();
        assert!(wrong.remedy.contains("goes on from 2026-10-28"), "{wrong:?}");
        let wrong = judge(EARLIEST + 3_950 * DAY, EARLIEST + 3_950 * DAY).unwrap();
        assert!(wrong.what.contains("2036-10-25") && wrong.what.contains("ahead"), "{wrong:?}");
    }

    #[test]
    fn a_clock_that_was_mended_needs_nothing_and_it_is_said_how_long_dates_stay_ahead() {
        let wrong = judge(EARLIEST, EARLIEST + 10 * DAY).unwrap();
        assert!(wrong.remedy.starts_with("If the clock is right now, it was wrong before: nothing to do"), "{wrong:?}");
        assert!(wrong.remedy.contains("until 2026-01-21") && !wrong.surely, "{wrong:?}");
        assert!(wrong.remedy.contains("If it is wrong: set the device's clock"), "{wrong:?}");
    }
}
