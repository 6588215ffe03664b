//! A node's clock: virtual time, as wrongly as the scenario wants it.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use kith::platform::{Clock, Told};

use super::timeline::{Nanos, Timeline};

/// Unix time at the beginning of a simulation, in milliseconds: 2025-01-01.
pub const EPOCH_MS: u64 = 1_735_689_600_000;

/// The clock of one run of a node. Its wall clock may be set while it runs; its own time does not notice.
pub struct NodeClock {
    timeline: Timeline,
    started: Nanos,
    /// How many millionths faster than the virtual time it runs.
    drift_ppm: i64,
    /// How far the wall clock is off, in milliseconds.
    offset_ms: Arc<AtomicI64>,
    told: Mutex<Told>,
}

impl NodeClock {
    /// A clock that begins now. `offset_ms` belongs to the machine, and outlives the node.
    pub fn new(timeline: Timeline, drift_ppm: i64, offset_ms: Arc<AtomicI64>) -> Self {
        let started = timeline.now();
        // Nobody's clock stands still.
        Self { timeline, started, drift_ppm: drift_ppm.clamp(-500_000, 1_000_000), offset_ms, told: Mutex::default() }
    }

    /// A span of virtual time as this clock measures it.
    fn measured(&self, span: Nanos) -> Nanos {
        let span = i128::from(span);
        u64::try_from(span + span * i128::from(self.drift_ppm) / 1_000_000).unwrap_or(0)
    }

    /// The virtual time that passes while this clock measures `span`.
    fn virtual_of(&self, span: Nanos) -> Nanos {
        let rate = u128::try_from(1_000_000 + self.drift_ppm).unwrap_or(1_000_000).max(1);
        // Rounded up, so that a wait is over when the clock says so.
        u64::try_from((u128::from(span) * 1_000_000).div_ceil(rate)).unwrap_or(u64::MAX)
    }

    fn wall(&self) -> Duration {
        let passed = i128::from(self.measured(self.timeline.now()));
        let offset = i128::from(self.offset_ms.load(Ordering::Relaxed)) * 1_000_000;
        let ns = i128::from(EPOCH_MS) * 1_000_000 + passed + offset;
        Duration::from_nanos(u64::try_from(ns).unwrap_or(0))
    }
}

impl Clock for NodeClock {
    fn now_ms(&self) -> u64 {
        let (wall, monotonic) = (self.wall(), self.monotonic());
        self.told.lock().unwrap_or_else(PoisonError::into_inner).advance(wall, monotonic)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.measured(self.timeline.now() - self.started))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let span = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Box::pin(self.timeline.sleep(self.virtual_of(span)))
    }

    fn floor(&self, unix_ms: u64) {
        let monotonic = self.monotonic();
        self.told.lock().unwrap_or_else(PoisonError::into_inner).floor(unix_ms, monotonic);
    }
}

impl fmt::Debug for NodeClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeClock").field("drift_ppm", &self.drift_ppm).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Engine, seconds};
    use super::*;

    #[test]
    fn a_fast_clock_measures_more_time_and_its_waits_end_when_it_says_so() {
        let engine = Engine::new();
        let clock = NodeClock::new(engine.timeline().clone(), 100_000, Arc::default());
        let sleep = clock.sleep(Duration::from_secs(11));
        engine.timeline().at(seconds(10.0), || ());
        engine.run_until(seconds(10.0), || false);
        assert_eq!(clock.monotonic(), Duration::from_secs(11));
        assert!(futures::FutureExt::now_or_never(sleep).is_some());
    }

    #[test]
    fn a_clock_set_back_tells_no_time_twice() {
        let engine = Engine::new();
        let offset = Arc::new(AtomicI64::new(5_000));
        let clock = NodeClock::new(engine.timeline().clone(), 0, offset.clone());
        assert_eq!(clock.now_ms(), EPOCH_MS + 5_000);
        offset.store(-3_600_000, Ordering::Relaxed);
        engine.run_until(seconds(2.0), || false);
        engine.timeline().move_to(seconds(2.0));
        assert_eq!(clock.now_ms(), EPOCH_MS + 6_000, "at half speed until it is caught up with");
        offset.store(86_400_000, Ordering::Relaxed);
        assert_eq!(clock.now_ms(), EPOCH_MS + 86_402_000);
    }
}
