//! [`Timeline`]: virtual time in nanoseconds, and what will happen when.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Virtual time since the beginning, in nanoseconds.
pub type Nanos = u64;

/// Milliseconds as [`Nanos`]; what is negative or no number counts as zero.
pub fn millis(ms: f64) -> Nanos {
    // Saturates, and takes NaN as zero.
    (ms * 1e6) as Nanos
}

/// Seconds as [`Nanos`].
pub fn seconds(s: f64) -> Nanos {
    millis(s * 1e3)
}

/// The time, and entries ordered by (time, sequence). Clones are the same.
#[derive(Clone, Default)]
pub struct Timeline(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    now: Nanos,
    sequence: u64,
    entries: BTreeMap<(Nanos, u64), Due>,
    happened: u64,
}

/// What happens when its time has come.
pub enum Due {
    /// A task is woken.
    Wake(Waker),
    /// A function is called.
    Call(Box<dyn FnOnce() + Send>),
}

impl Due {
    /// Makes it happen.
    pub fn happen(self) {
        match self {
            Self::Wake(waker) => waker.wake(),
            Self::Call(call) => call(),
        }
    }
}

impl Timeline {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time.
    pub fn now(&self) -> Nanos {
        self.state().now
    }

    /// How many entries have happened.
    pub fn happened(&self) -> u64 {
        self.state().happened
    }

    /// Has `call` called at `at`, or as soon as possible if that is past.
    pub fn at(&self, at: Nanos, call: impl FnOnce() + Send + 'static) {
        self.state().enter(at, Due::Call(Box::new(call)));
    }

    /// Has `call` called after `wait`.
    pub fn after(&self, wait: Nanos, call: impl FnOnce() + Send + 'static) {
        let mut state = self.state();
        let at = state.now.saturating_add(wait);
        state.enter(at, Due::Call(Box::new(call)));
    }

    /// Completes at `at`. Dropping it leaves nothing behind.
    pub fn sleep_until(&self, at: Nanos) -> Sleep {
        Sleep { timeline: self.clone(), at, key: None }
    }

    /// Completes after `wait`, from now on.
    pub fn sleep(&self, wait: Nanos) -> Sleep {
        self.sleep_until(self.now().saturating_add(wait))
    }

    /// Moves to the next entry and takes it out, if it is not after `limit`.
    pub(super) fn take_due(&self, limit: Nanos) -> Option<Due> {
        let mut state = self.state();
        let (&(at, _), _) = state.entries.first_key_value().filter(|((at, _), _)| *at <= limit)?;
        state.now = state.now.max(at);
        state.happened += 1;
        state.entries.pop_first().map(|(_, due)| due)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state().entries.is_empty()
    }

    pub(super) fn move_to(&self, at: Nanos) {
        let mut state = self.state();
        state.now = state.now.max(at);
    }
}

impl State {
    fn enter(&mut self, at: Nanos, due: Due) -> (Nanos, u64) {
        let key = (at.max(self.now), self.sequence);
        self.sequence += 1;
        self.entries.insert(key, due);
        key
    }
}

impl fmt::Debug for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Timeline").field("now", &state.now).field("entries", &state.entries.len()).finish()
    }
}

/// See [`Timeline::sleep_until`].
#[derive(Debug)]
pub struct Sleep {
    timeline: Timeline,
    at: Nanos,
    key: Option<(Nanos, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let timeline = self.timeline.clone();
        let mut state = timeline.state();
        if state.now >= self.at {
            if let Some(key) = self.key.take() {
                state.entries.remove(&key);
            }
            return Poll::Ready(());
        }
        match self.key.and_then(|key| state.entries.get_mut(&key)) {
            Some(due) => {
                if !matches!(due, Due::Wake(waker) if waker.will_wake(context.waker())) {
                    *due = Due::Wake(context.waker().clone());
                }
            }
            None => self.key = Some(state.enter(self.at, Due::Wake(context.waker().clone()))),
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            let entry = self.timeline.state().entries.remove(&key);
            // Outside the lock: whatever goes with the waker may have timers of its own.
            drop(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn a_dropped_sleep_leaves_no_entry_behind() {
        let timeline = Timeline::default();
        let mut sleep = timeline.sleep(seconds(1.0));
        assert!((&mut sleep).now_or_never().is_none());
        assert!(!timeline.is_empty());
        drop(sleep);
        assert!(timeline.is_empty());
    }

    #[test]
    fn what_is_entered_for_the_past_happens_now() {
        let timeline = Timeline::default();
        timeline.move_to(seconds(5.0));
        timeline.at(seconds(1.0), || ());
        assert!(timeline.take_due(seconds(5.0)).is_some());
        assert_eq!(timeline.now(), seconds(5.0));
    }
}
