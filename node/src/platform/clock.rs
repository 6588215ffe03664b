//! Time: the [`Clock`] that every part of a node asks, and the real one.

use std::fmt;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, Either, select};

/// A node's time. Two times are told apart: `now_ms` for what is shown, signed and stored, `monotonic` for
/// measuring and waiting.
pub trait Clock: Send + Sync + 'static {
    /// Unix time in milliseconds. Never less than an earlier answer, nor than the value last persisted (the floor).
    fn now_ms(&self) -> u64;

    /// Time since an arbitrary start; unaffected by changes of the wall clock.
    fn monotonic(&self) -> Duration;

    /// Completes once `duration` has passed on the monotonic clock. Dropping the future cancels the wait.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;

    /// Sets the least value of `now_ms`, from what was persisted before. Lower values than the present one do nothing.
    fn floor(&self, unix_ms: u64);
}

/// A wait ended before the awaited thing did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("took longer than allowed")]
pub struct Elapsed;

/// Awaits `future` for at most `duration` of the clock's time.
///
/// # Errors
/// [`Elapsed`] when the time is up first; the future is dropped then. A future that is ready at once always wins.
pub async fn timeout<F: Future>(clock: &dyn Clock, duration: Duration, future: F) -> Result<F::Output, Elapsed> {
    let future = std::pin::pin!(future);
    match select(future, clock.sleep(duration)).await {
        Either::Left((output, _)) => Ok(output),
        Either::Right(((), _)) => Err(Elapsed),
    }
}

/// The operating system's clocks, made monotonic.
///
/// When the wall clock is behind (it was set back, or the machine woke up in 1970 while the node has already signed
/// events in a later year), `now_ms` goes on from where it was at half speed until the wall clock has caught up: it
/// neither stands still nor runs backwards.
pub struct SystemClock {
    start: std::time::Instant,
    told: Mutex<Told>,
}

/// What a clock told last, in nanoseconds of Unix time, and when (monotonic) it did: what makes a wall clock steady.
#[derive(Debug, Clone, Copy, Default)]
pub struct Told {
    unix_ns: u128,
    at: Duration,
}

impl SystemClock {
    /// A clock without a floor yet.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is the one place where the system's clocks are read")]
    pub fn new() -> Self {
        Self { start: std::time::Instant::now(), told: Mutex::default() }
    }

    /// How far the answers of [`Clock::now_ms`] are ahead of the operating system's wall clock.
    #[must_use]
    pub fn ahead_of_wall(&self) -> Duration {
        Duration::from_millis(self.now_ms()).saturating_sub(wall())
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SystemClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SystemClock").finish_non_exhaustive()
    }
}

#[allow(clippy::disallowed_methods, reason = "this is the one place where the system's clocks are read")]
fn wall() -> Duration {
    // A clock before 1970 counts as 1970.
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}

impl Told {
    /// The answer to give now, in Unix milliseconds, when the wall clock says `wall`.
    pub fn advance(&mut self, wall: Duration, monotonic: Duration) -> u64 {
        let passed = monotonic.saturating_sub(self.at).as_nanos();
        self.at = self.at.max(monotonic);
        self.unix_ns = if wall.as_nanos() >= self.unix_ns {
            wall.as_nanos()
        } else {
            // At half speed, but never past a wall clock that ticks normally from behind.
            self.unix_ns + passed / 2
        };
        u64::try_from(self.unix_ns / 1_000_000).unwrap_or(u64::MAX)
    }

    /// Nothing below `unix_ms` is told from now on.
    pub fn floor(&mut self, unix_ms: u64, monotonic: Duration) {
        let floor = u128::from(unix_ms) * 1_000_000;
        if floor > self.unix_ns {
            self.unix_ns = floor;
            self.at = monotonic;
        }
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.advance(wall(), self.monotonic())
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    #[allow(clippy::disallowed_methods, reason = "this is the one place where the system's timers are used")]
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn floor(&self, unix_ms: u64) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).floor(unix_ms, self.monotonic());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR_2025_MS: u64 = 1_735_689_600_000;

    #[test]
    fn a_wall_clock_in_1970_never_takes_time_behind_the_floor_and_time_still_passes() {
        let mut told = Told { unix_ns: u128::from(YEAR_2025_MS) * 1_000_000, at: Duration::ZERO };
        let first = told.advance(Duration::from_secs(5), Duration::from_secs(10));
        assert_eq!(first, YEAR_2025_MS + 5_000);
        assert_eq!(told.advance(Duration::from_secs(7), Duration::from_secs(12)), first + 1_000);
    }

    #[test]
    fn a_wall_clock_set_back_a_little_is_caught_up_with() {
        let wall = Duration::from_millis(YEAR_2025_MS);
        let mut told = Told { unix_ns: 0, at: Duration::ZERO };
        assert_eq!(told.advance(wall, Duration::ZERO), YEAR_2025_MS);
        // Set back by 10 s: after 20 s of half speed both agree, and from then on the wall clock leads.
        told.advance(wall, Duration::from_secs(10));
        let after = told.advance(wall + Duration::from_secs(20), Duration::from_secs(30));
        assert_eq!(after, YEAR_2025_MS + 20_000);
    }

    #[test]
    fn a_floor_in_the_future_is_kept_by_the_real_clock() {
        let clock = SystemClock::new();
        let future = clock.now_ms() + 86_400_000;
        clock.floor(future);
        assert!(clock.now_ms() >= future);
        clock.floor(0);
        assert!(clock.now_ms() >= future);
        assert!(clock.ahead_of_wall() > Duration::from_secs(86_000));
    }
}
