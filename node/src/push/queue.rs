//! Which pushers have something to do, and when.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{federation::outgoing::backoff, platform::Rng};

/// Gateways asked at the same time.
pub(super) const MOST_RUNNING: usize = 16;

/// User ID, app ID and pushkey.
pub(super) type Key = (String, String, String);

/// How work on a pusher ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All is told.
    Done,
    /// There is something to look at at once.
    Again,
    /// There is something to look at later.
    Later(Duration),
    /// The gateway did not take it.
    Failed,
    /// There is no such pusher any more.
    Gone,
}

/// Bound: one entry for each row of the table of pushers, and for those that were deleted since they last had something to do.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pushers: BTreeMap<Key, Pusher>,
    /// Those that wait for a task.
    due: BTreeSet<Key>,
    /// Those that are left alone until then.
    later: BTreeSet<(Duration, Key)>,
    running: BTreeSet<Key>,
}

#[derive(Debug, Default)]
struct Pusher {
    failures: u32,
    /// Until when it is left alone.
    until: Option<Duration>,
    /// When it is to be looked at whatever happens.
    check: Option<Duration>,
    /// Something happened while it was worked on.
    again: bool,
    /// The stream position up to which there was nothing to tell.
    looked: u64,
    /// When its badge was counted last without anything else to tell.
    counted: Option<Duration>,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks after a pusher, from anew if it is known.
    pub(super) fn watch(&self, key: Key) {
        let mut state = self.state();
        let State { pushers, due, later, running } = &mut *state;
        let pusher = pushers.entry(key.clone()).or_default();
        for at in [pusher.until.take(), pusher.check.take()].into_iter().flatten() {
            later.remove(&(at, key.clone()));
        }
        (pusher.failures, pusher.looked) = (0, 0);
        match running.contains(&key) {
            true => pusher.again = true,
            false => drop(due.insert(key)),
        }
    }

    /// Something happened to a user. Says whether a pusher is to be looked at.
    pub(super) fn touch(&self, user: &str) -> bool {
        let mut state = self.state();
        let State { pushers, due, running, .. } = &mut *state;
        let mut rings = false;
        let from = (user.to_owned(), String::new(), String::new());
        for (key, pusher) in pushers.range_mut(from..).take_while(|(key, _)| key.0 == user) {
            if running.contains(key) {
                pusher.again = true;
            } else if pusher.until.is_none() {
                rings |= due.insert(key.clone());
            }
        }
        rings
    }

    /// A pusher whose time has come, if one more may run.
    pub(super) fn take(&self, now: Duration) -> Option<Key> {
        let mut state = self.state();
        let State { pushers, due, later, running } = &mut *state;
        while later.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = later.pop_first() else { break };
            let Some(pusher) = pushers.get_mut(&key) else { continue };
            (pusher.until, pusher.check) = (None, None);
            match running.contains(&key) {
                true => pusher.again = true,
                false => drop(due.insert(key)),
            }
        }
        if state.running.len() >= MOST_RUNNING {
            return None;
        }
        let key = state.due.pop_first()?;
        if let Some(pusher) = state.pushers.get_mut(&key) {
            pusher.again = false;
        }
        state.running.insert(key.clone());
        Some(key)
    }

    /// When the next pusher is to be looked at that is left alone now.
    pub(super) fn next_retry(&self) -> Option<Duration> {
        self.state().later.first().map(|(at, _)| *at)
    }

    /// Work on a pusher ended.
    pub(super) fn done(&self, key: Key, outcome: Outcome, now: Duration, rng: &Rng) {
        let mut state = self.state();
        let State { pushers, due, later, running } = &mut *state;
        running.remove(&key);
        let Some(pusher) = pushers.get_mut(&key) else { return };
        let wait = match outcome {
            Outcome::Gone if !pusher.again => {
                pushers.remove(&key);
                return;
            }
            Outcome::Failed => {
                pusher.failures = pusher.failures.saturating_add(1);
                Some(backoff::delay(pusher.failures, None, rng))
            }
            Outcome::Later(wait) if !pusher.again => Some(wait),
            Outcome::Done if !pusher.again => None,
            _ => Some(Duration::ZERO),
        };
        if outcome != Outcome::Failed {
            pusher.failures = 0;
        }
        match wait {
            None => {}
            Some(Duration::ZERO) => drop(due.insert(key)),
            Some(wait) if outcome == Outcome::Failed => {
                if let Some(check) = pusher.check.take() {
                    later.remove(&(check, key.clone()));
                }
                pusher.until = Some(now + wait);
                later.insert((now + wait, key));
            }
            // One such look is enough.
            Some(_) if pusher.check.is_some() => {}
            Some(wait) => {
                pusher.check = Some(now + wait);
                later.insert((now + wait, key));
            }
        }
    }

    /// The position up to which there was nothing to tell.
    pub(super) fn looked(&self, key: &Key) -> u64 {
        self.state().pushers.get(key).map_or(0, |pusher| pusher.looked)
    }

    /// Up to this position there is nothing to tell.
    pub(super) fn note_looked(&self, key: &Key, position: u64) {
        if let Some(pusher) = self.state().pushers.get_mut(key) {
            pusher.looked = position;
        }
    }

    /// Whether a badge may be counted now, which is then noted: it is some work.
    pub(super) fn may_count(&self, key: &Key, now: Duration, every: Duration) -> bool {
        let mut state = self.state();
        let Some(pusher) = state.pushers.get_mut(key) else { return false };
        let may = pusher.counted.is_none_or(|counted| now.saturating_sub(counted) >= every);
        if may {
            pusher.counted = Some(now);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(user: &str) -> Key {
        (user.to_owned(), "app".to_owned(), "key".to_owned())
    }

    const START: Duration = Duration::from_secs(100);

    #[test]
    fn a_pusher_runs_once_at_a_time_and_again_for_what_came_meanwhile() {
        let (queue, rng) = (Queue::default(), Rng::from_seed(1));
        queue.watch(key("@a:x"));
        assert!(!queue.touch("@b:x") && !queue.touch("@a"));
        assert_eq!(queue.take(START), Some(key("@a:x")));
        assert!(!queue.touch("@a:x"));
        assert_eq!(queue.take(START), None);
        queue.done(key("@a:x"), Outcome::Done, START, &rng);
        assert_eq!(queue.take(START), Some(key("@a:x")));
        queue.done(key("@a:x"), Outcome::Done, START, &rng);
        assert_eq!(queue.take(START), None);
        assert!(queue.touch("@a:x"));
    }

    #[test]
    fn a_gateway_that_fails_is_left_alone_for_longer_each_time_whatever_happens() {
        let (queue, rng) = (Queue::default(), Rng::from_seed(1));
        queue.watch(key("@a:x"));
        let mut now = START;
        let mut waits = Vec::new();
        for _ in 0..4 {
            queue.take(now).unwrap();
            queue.done(key("@a:x"), Outcome::Failed, now, &rng);
            assert!(!queue.touch("@a:x"));
            assert_eq!(queue.take(now), None);
            let next = queue.next_retry().unwrap();
            waits.push(next - now);
            now = next;
        }
        assert!(waits.windows(2).all(|pair| pair[1] > pair[0]), "{waits:?}");
        // Setting the pusher anew is a new beginning.
        queue.take(now).unwrap();
        queue.done(key("@a:x"), Outcome::Failed, now, &rng);
        queue.watch(key("@a:x"));
        assert_eq!((queue.take(now), queue.next_retry()), (Some(key("@a:x")), None));
    }

    #[test]
    fn a_look_that_is_put_off_is_put_off_once() {
        let (queue, rng) = (Queue::default(), Rng::from_seed(1));
        let wait = Duration::from_secs(2);
        queue.watch(key("@a:x"));
        for step in 0..10 {
            let now = START + Duration::from_millis(step);
            queue.touch("@a:x");
            let taken = queue.take(now).unwrap();
            queue.done(taken, Outcome::Later(wait), now, &rng);
        }
        assert_eq!(queue.state().later.len(), 1);
        assert_eq!(queue.next_retry(), Some(START + wait));
        assert!(queue.take(START + wait).is_some());
        assert_eq!(queue.next_retry(), None);
    }

    #[test]
    fn no_more_than_the_bound_run_and_deleted_ones_are_forgotten() {
        let (queue, rng) = (Queue::default(), Rng::from_seed(1));
        for number in 0..MOST_RUNNING + 3 {
            queue.watch(key(&format!("@{number}:x")));
        }
        let running: Vec<Key> = std::iter::from_fn(|| queue.take(START)).collect();
        assert_eq!(running.len(), MOST_RUNNING);
        for key in running {
            queue.done(key, Outcome::Gone, START, &rng);
        }
        assert_eq!(std::iter::from_fn(|| queue.take(START)).count(), 3);
        assert_eq!(queue.state().pushers.len(), 3);
    }
}
