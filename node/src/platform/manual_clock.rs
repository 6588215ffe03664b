//! A clock that moves only when told to: for tests and the simulator.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::future::BoxFuture;

use super::clock::Clock;

/// A clock that stands still between calls of [`advance`](Self::advance). Clones share the time.
#[derive(Clone)]
pub struct ManualClock {
    state: Arc<Mutex<State>>,
}

struct State {
    /// Unix time in milliseconds at monotonic zero; moves when the wall clock is set.
    wall_ms: u64,
    /// What `now_ms` must not fall below.
    floor_ms: u64,
    monotonic: Duration,
    /// Waiting sleepers by deadline, then by order of arrival.
    sleepers: BTreeMap<(Duration, u64), Waker>,
    next: u64,
}

impl ManualClock {
    /// A clock that stands at `unix_ms`, its monotonic time at zero.
    #[must_use]
    pub fn new(unix_ms: u64) -> Self {
        let state =
            State { wall_ms: unix_ms, floor_ms: 0, monotonic: Duration::ZERO, sleepers: BTreeMap::new(), next: 0 };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves time forward and wakes, in the order of their deadlines, the sleepers whose time has come.
    pub fn advance(&self, duration: Duration) {
        let target = self.state().monotonic.saturating_add(duration);
        while let Some(waker) = self.take_due(target) {
            waker.wake();
        }
    }

    /// Moves time to `target` or to the next deadline before it; gives the sleeper that is due.
    fn take_due(&self, target: Duration) -> Option<Waker> {
        let mut state = self.state();
        let due = state.sleepers.first_key_value().map(|(key, _)| *key).filter(|(at, _)| *at <= target);
        state.monotonic = state.monotonic.max(due.map_or(target, |(at, _)| at));
        due.and_then(|key| state.sleepers.remove(&key))
    }

    /// Moves time to the earliest deadline and wakes the sleepers that wait for exactly it.
    /// Gives how far time moved, or nothing when nobody sleeps.
    pub fn advance_to_next(&self) -> Option<Duration> {
        let (next, now) = {
            let state = self.state();
            (state.sleepers.first_key_value().map(|((at, _), _)| *at)?, state.monotonic)
        };
        let step = next.saturating_sub(now);
        self.advance(step);
        Some(step)
    }

    /// The monotonic time at which the next sleeper wakes.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.state().sleepers.first_key_value().map(|((at, _), _)| *at)
    }

    /// Sets the wall clock, also backwards; `now_ms` still keeps its floor.
    pub fn set_wall(&self, unix_ms: u64) {
        let mut state = self.state();
        let passed = millis(state.monotonic);
        state.wall_ms = unix_ms.saturating_sub(passed);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        let mut state = self.state();
        let now = state.wall_ms.saturating_add(millis(state.monotonic)).max(state.floor_ms);
        state.floor_ms = now;
        now
    }

    fn monotonic(&self) -> Duration {
        self.state().monotonic
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let deadline = self.state().monotonic.saturating_add(duration);
        Box::pin(Sleep { clock: self.clone(), deadline, key: None })
    }

    fn floor(&self, unix_ms: u64) {
        let mut state = self.state();
        state.floor_ms = state.floor_ms.max(unix_ms);
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("ManualClock")
            .field("monotonic", &state.monotonic)
            .field("sleepers", &state.sleepers.len())
            .finish_non_exhaustive()
    }
}

struct Sleep {
    clock: ManualClock,
    deadline: Duration,
    key: Option<(Duration, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock.clone();
        let mut state = clock.state();
        if state.monotonic >= self.deadline {
            if let Some(key) = self.key.take() {
                state.sleepers.remove(&key);
            }
            return Poll::Ready(());
        }
        let key = self.key.unwrap_or_else(|| {
            let number = state.next;
            state.next += 1;
            (self.deadline, number)
        });
        self.key = Some(key);
        state.sleepers.insert(key, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.clock.state().sleepers.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::super::clock::{Elapsed, timeout};
    use super::super::{Executor, Spawner};
    use super::*;

    #[test]
    fn sleepers_wake_in_the_order_of_their_deadlines() {
        let clock = ManualClock::new(1_000);
        let executor = Executor::new();
        let spawner = executor.spawner();
        let woken = Arc::new(Mutex::new(Vec::new()));
        for seconds in [3, 1, 2] {
            let (clock, woken) = (clock.clone(), Arc::clone(&woken));
            spawner.spawn(
                "sleeper",
                async move {
                    clock.sleep(Duration::from_secs(seconds)).await;
                    woken.lock().unwrap().push(seconds);
                }
                .boxed(),
            );
        }
        executor.run_until_idle();
        clock.advance(Duration::from_secs(2));
        executor.run_until_idle();
        assert_eq!(*woken.lock().unwrap(), [1, 2]);
        assert_eq!(clock.now_ms(), 3_000);
        assert_eq!(clock.advance_to_next(), Some(Duration::from_secs(1)));
        executor.run_until_idle();
        assert_eq!(*woken.lock().unwrap(), [1, 2, 3]);
    }

    #[test]
    fn a_dropped_sleep_leaves_nothing_behind() {
        let clock = ManualClock::new(0);
        let mut sleep = clock.sleep(Duration::from_secs(1));
        assert!(sleep.as_mut().now_or_never().is_none());
        assert!(clock.next_deadline().is_some());
        drop(sleep);
        assert!(clock.next_deadline().is_none());
    }

    #[test]
    fn a_timeout_ends_the_wait_when_its_time_is_up() {
        let clock = ManualClock::new(0);
        let mut wait = Box::pin(timeout(&clock, Duration::from_secs(5), std::future::pending::<()>()));
        assert!(wait.as_mut().now_or_never().is_none());
        clock.advance(Duration::from_secs(5));
        assert_eq!(wait.as_mut().now_or_never(), Some(Err(Elapsed)));
        assert_eq!(timeout(&clock, Duration::ZERO, async { 7 }).now_or_never(), Some(Ok(7)));
    }

    #[test]
    fn a_wall_clock_set_back_does_not_take_time_back() {
        let clock = ManualClock::new(50_000);
        assert_eq!(clock.now_ms(), 50_000);
        clock.set_wall(10_000);
        assert_eq!(clock.now_ms(), 50_000);
        clock.floor(60_000);
        assert_eq!(clock.now_ms(), 60_000);
    }
}
