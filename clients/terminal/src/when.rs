//! Days and times of day, in this device's time zone.

use chrono::{DateTime, Local};

fn local(at_ms: u64) -> Option<DateTime<Local>> {
    Some(DateTime::from_timestamp_millis(i64::try_from(at_ms).ok()?)?.with_timezone(&Local))
}

/// The time of day.
pub fn time(at_ms: u64) -> String {
    local(at_ms).map_or_else(|| "--:--".to_owned(), |at| at.format("%H:%M").to_string())
}

/// The day.
pub fn day(at_ms: u64) -> String {
    local(at_ms).map_or_else(|| "an unknown day".to_owned(), |at| at.format("%a %e %b %Y").to_string())
}

/// Day and time.
pub fn full(at_ms: u64) -> String {
    local(at_ms).map_or_else(|| "at an unknown time".to_owned(), |at| at.format("%Y-%m-%d %H:%M").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_no_calendar_has_are_shown_as_unknown() {
        for wild in [u64::MAX, i64::MAX as u64, 1 << 60] {
            assert!(full(wild).contains("unknown") && day(wild).contains("unknown") && time(wild) == "--:--");
        }
        assert!(full(0).starts_with("1970-01-01") || full(0).starts_with("1969-12-31"));
    }
}
