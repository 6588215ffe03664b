//! Wakes those who wait for something new: long-polling syncs, by user. It is told after a commit, or by parts that keep
//! things in memory only (typing, presence).

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{Notify, watch};

/// One user's bell. It lives as long as somebody waits at it.
#[derive(Debug, Default)]
struct Bell {
    rung: AtomicU64,
    notify: Notify,
}

/// The bells of all users that somebody waits for.
#[derive(Debug, Default)]
pub struct Notifier {
    bells: Mutex<BTreeMap<String, std::sync::Weak<Bell>>>,
}

/// A place at one user's bell.
#[derive(Debug)]
pub struct Subscription {
    bell: Arc<Bell>,
    seen: u64,
}

impl Notifier {
    /// Takes a place at `user`'s bell. Subscribe first, then look at the store: what is committed in between rings.
    pub fn subscribe(&self, user: &str) -> Subscription {
        let mut bells = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
        let bell = match bells.get(user).and_then(std::sync::Weak::upgrade) {
            Some(bell) => bell,
            None => {
                bells.retain(|_, bell| bell.strong_count() > 0);
                let bell = Arc::new(Bell::default());
                bells.insert(user.to_owned(), Arc::downgrade(&bell));
                bell
            }
        };
        Subscription { seen: bell.rung.load(Ordering::Acquire), bell }
    }

    /// Rings for these users.
    pub fn wake<'a>(&self, users: impl IntoIterator<Item = &'a str>) {
        let bells = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
        for user in users {
            if let Some(bell) = bells.get(user).and_then(std::sync::Weak::upgrade) {
                bell.rung.fetch_add(1, Ordering::AcqRel);
                bell.notify.notify_waiters();
            }
        }
    }
}

impl Subscription {
    /// Returns as soon as the bell has rung since the last call (or since [`Notifier::subscribe`]).
    pub async fn changed(&mut self) {
        loop {
            let notified = self.bell.notify.notified();
            let mut notified = std::pin::pin!(notified);
            notified.as_mut().enable();
            let rung = self.bell.rung.load(Ordering::Acquire);
            if rung != self.seen {
                self.seen = rung;
                return;
            }
            notified.await;
        }
    }

    /// As [`Subscription::changed`], and at once when the node stops (`stopping` turns true).
    pub async fn changed_or(&mut self, mut stopping: watch::Receiver<bool>) {
        tokio::select! {
            biased;
            () = self.changed() => {}
            () = async { drop(stopping.wait_for(|stop| *stop).await) } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn a_bell_rung_before_the_wait_is_not_missed_and_rings_once() {
        let notifier = Notifier::default();
        let mut place = notifier.subscribe("@a:x");
        assert!(place.changed().now_or_never().is_none());
        notifier.wake(["@a:x", "@b:x"]);
        assert!(place.changed().now_or_never().is_some());
        assert!(place.changed().now_or_never().is_none());
    }

    #[test]
    fn another_users_bell_wakes_nobody_here() {
        let notifier = Notifier::default();
        let mut place = notifier.subscribe("@a:x");
        notifier.wake(["@b:x"]);
        assert!(place.changed().now_or_never().is_none());
    }
}
