//! Device lists of users of other servers that wait to be fetched: which, when, and how many at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use ruma::{OwnedUserId, ServerName, UserId};
use tokio::sync::Notify;

/// Lists that wait to be fetched; more are fetched when they are asked for.
pub(super) const MOST_WAITING: usize = 10_000;
/// Lists fetched at a time, in all and from one server.
const AT_ONCE: usize = 64;
const AT_ONCE_PER_SERVER: usize = 4;
/// How long a failure is left alone, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(15);
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);

/// Lists that wait to be fetched.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    users: Mutex<BTreeMap<OwnedUserId, Due>>,
    /// Rings when there is more to fetch.
    pub(super) more: Notify,
}

#[derive(Debug, Clone, Copy)]
struct Due {
    /// On the monotonic clock.
    at: Duration,
    failures: u32,
}

impl Waiting {
    /// Has a list fetched soon; one that failed before keeps its time.
    pub(super) fn add(&self, user: &UserId) {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if users.len() < MOST_WAITING && !users.contains_key(user) {
            users.insert(user.to_owned(), Due { at: Duration::ZERO, failures: 0 });
            drop(users);
            self.more.notify_one();
        }
    }

    /// As [`Waiting::add`], now that the user's server is known to be there.
    pub(super) fn hurry(&self, user: &UserId, now: Duration) {
        if let Some(due) = self.users.lock().unwrap_or_else(PoisonError::into_inner).get_mut(user) {
            // Not before those that wait already: whoever sends updates without end must not push itself forward.
            due.at = due.at.min(now);
        }
        self.add(user);
        self.more.notify_one();
    }

    /// Servers are there that may not have been before: what failed for their users is tried again now.
    pub(super) fn reached(&self, is_there: impl Fn(&ServerName) -> bool, now: Duration) {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let mut waits = false;
        for (_, due) in users.iter_mut().filter(|(user, due)| due.at > now && is_there(user.server_name())) {
            due.at = now;
            waits = true;
        }
        drop(users);
        if waits {
            self.more.notify_one();
        }
    }

    /// The lists to fetch now beside those of `running`, those that wait longest first, and when the next one is due.
    pub(super) fn take(&self, now: Duration, running: &BTreeSet<OwnedUserId>) -> (Vec<OwnedUserId>, Option<Duration>) {
        let users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let mut waiting: Vec<(Duration, &OwnedUserId)> =
            users.iter().filter(|(user, _)| !running.contains(*user)).map(|(user, due)| (due.at, user)).collect();
        waiting.sort_unstable();
        let mut per_server: BTreeMap<&ServerName, usize> = BTreeMap::new();
        for user in running {
            *per_server.entry(user.server_name()).or_default() += 1;
        }
        let mut due = Vec::new();
        for (at, user) in waiting {
            if at > now {
                return (due, Some(at));
            }
            let of_server = per_server.entry(user.server_name()).or_default();
            if due.len() + running.len() < AT_ONCE && *of_server < AT_ONCE_PER_SERVER {
                *of_server += 1;
                due.push(user.clone());
            }
        }
        (due, None)
    }

    pub(super) fn done(&self, user: &UserId) {
        self.users.lock().unwrap_or_else(PoisonError::into_inner).remove(user);
    }

    pub(super) fn failed(&self, user: &UserId, now: Duration) {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(due) = users.get_mut(user) {
            // The first time it is tried again at once: an answer was lost, or the list changed meanwhile.
            due.at = match due.failures {
                0 => now,
                failures => now + FIRST_PAUSE.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST_PAUSE),
            };
            due.failures += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    #[test]
    fn what_failed_is_tried_again_when_its_server_is_there() {
        let (waiting, nobody) = (Waiting::default(), BTreeSet::new());
        let (bob, carol) = (user_id!("@bob:b.org"), user_id!("@carol:c.org"));
        let at = Duration::from_secs;
        for user in [bob, carol] {
            waiting.add(user);
            waiting.failed(user, at(1));
            waiting.failed(user, at(1));
        }
        assert_eq!(waiting.take(at(2), &nobody), (Vec::new(), Some(at(1) + FIRST_PAUSE)));
        waiting.reached(|server| server == "b.org", at(3));
        assert_eq!(waiting.take(at(3), &nobody), (vec![bob.to_owned()], Some(at(1) + FIRST_PAUSE)));
        // Where it was tried before its time it is not put off by that.
        waiting.reached(|_| true, at(1_000));
        assert_eq!(waiting.take(at(1) + FIRST_PAUSE, &nobody).0.len(), 2);
    }
}
