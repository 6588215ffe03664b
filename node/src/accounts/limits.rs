//! Rate limits: a bucket of tokens per action and caller, refilled by the node's clock. A full bucket is forgotten, so
//! memory holds only those who called lately, within a bound.
//!
//! A caller that is not signed in is an address and the web page that calls from there, if one does: a hostile page in the
//! owner's browser calls from the owner's own address, and would otherwise lock the owner's clients out by using up their
//! tries. Pages cannot hide that they are pages; other callers can claim to be any number of pages, so tries at one
//! account are also counted together, in three buckets: of clients that are no pages, of our own page, of all others.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ruma::UserId;

use crate::Node;
use crate::config::Rate;
use crate::http::{Anonymous, Answer, MatrixError};

/// Buckets kept at most. Beyond that full ones go, then callers share a bucket of strangers.
const MAX_BUCKETS: usize = 10_000;

/// What is limited. Its names only keep the buckets apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Tries to log in, to refresh with unknown tokens, or to pass an interactive authentication.
    Login,
    /// Tries to learn whether a name or a registration token is good. Any page can make them without saying that it is one.
    Question,
    /// Accounts made.
    Registration,
    /// Events sent.
    Message,
    /// Rooms made or joined.
    Join,
    /// Invites sent.
    Invite,
    /// Searches for words, and previews of web pages.
    Search,
}

/// All buckets of a node.
#[derive(Debug, Default)]
pub struct Buckets {
    buckets: Mutex<BTreeMap<(Action, String), Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// What may still be taken.
    left: f64,
    /// When that was so.
    at: Duration,
    rate: Rate,
}

impl Bucket {
    fn refilled(self, now: Duration) -> f64 {
        let full = f64::from(self.rate.count);
        let passed = now.saturating_sub(self.at).as_secs_f64();
        (self.left + passed * full / self.rate.per.as_secs_f64()).min(full)
    }
}

impl Buckets {
    /// Takes one from the caller's bucket.
    ///
    /// # Errors
    /// When it is empty: how many milliseconds until it is not.
    pub fn take(&self, action: Action, caller: &str, rate: Rate, now: Duration) -> Result<(), u64> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = (action, caller.to_owned());
        if !buckets.contains_key(&key) && buckets.len() >= MAX_BUCKETS {
            buckets.retain(|_, bucket| bucket.refilled(now) < f64::from(bucket.rate.count));
            if buckets.len() >= MAX_BUCKETS {
                key.1.clear();
            }
        }
        let bucket = buckets.entry(key).or_insert(Bucket { left: f64::from(rate.count), at: now, rate });
        bucket.rate = rate;
        bucket.left = bucket.refilled(now);
        bucket.at = now;
        if bucket.left >= 1.0 {
            bucket.left -= 1.0;
            return Ok(());
        }
        let wait = (1.0 - bucket.left) * bucket.rate.per.as_secs_f64() / f64::from(bucket.rate.count);
        // At least a millisecond, so that nobody is told to come back at once.
        Err(((wait * 1000.0).ceil() as u64).max(1))
    }
}

/// Takes one of what the configuration allows `caller` (an address or a user ID).
///
/// # Errors
/// `M_LIMIT_EXCEEDED` with the time to wait.
pub fn check(node: &Node, action: Action, caller: &str) -> Answer<()> {
    let limits = &node.config.limits;
    if !limits.rate_limits || node.appservices.is_unlimited(caller) {
        return Ok(());
    }
    let rate = match action {
        Action::Login | Action::Question => limits.rate_login,
        Action::Registration => limits.rate_registration,
        Action::Message => limits.rate_message,
        Action::Join => limits.rate_join,
        Action::Invite => limits.rate_invite,
        Action::Search => limits.rate_search,
    };
    node.accounts.limits.take(action, caller, rate, node.clock.monotonic()).map_err(MatrixError::limit_exceeded)
}

/// As [`check`], for tries at the account `user` of one who is not signed in.
///
/// # Errors
/// `M_LIMIT_EXCEEDED` with the time to wait.
pub fn check_account(node: &Node, action: Action, user: &UserId, from: &Anonymous) -> Answer<()> {
    let own = node.config.public_base_url();
    let kind = match from.page.as_deref() {
        None => "client",
        Some(page) if page == own.trim_end_matches('/') => "own page",
        Some(_) => "page",
    };
    check(node, action, &format!("{user} {kind}"))
}

/// As [`check`], for where a caller calls from: its IPv4 address, or its IPv6 network of 64 bits, and the page that calls.
///
/// # Errors
/// `M_LIMIT_EXCEEDED` with the time to wait.
pub fn check_address(node: &Node, action: Action, from: &Anonymous) -> Answer<()> {
    let mut caller = match from.remote.map(|address| address.ip().to_canonical()) {
        Some(IpAddr::V4(address)) => address.to_string(),
        Some(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
        // In process: the owner's own program.
        None => return Ok(()),
    };
    if let Some(page) = &from.page {
        caller.push(' ');
        caller.push_str(page);
    }
    check(node, action, &caller)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_empties_the_bucket_and_time_refills_it() {
        let buckets = Buckets::default();
        let rate = Rate::per_minute(3);
        let at = Duration::from_secs;
        for _ in 0..3 {
            buckets.take(Action::Login, "a", rate, at(100)).unwrap();
        }
        let wait = buckets.take(Action::Login, "a", rate, at(100)).unwrap_err();
        assert_eq!(wait, 20_000);
        buckets.take(Action::Login, "b", rate, at(100)).unwrap();
        buckets.take(Action::Registration, "a", rate, at(100)).unwrap();
        assert!(buckets.take(Action::Login, "a", rate, at(119)).is_err());
        buckets.take(Action::Login, "a", rate, at(120)).unwrap();
        assert!(buckets.take(Action::Login, "a", rate, at(120)).is_err());
    }

    #[test]
    fn many_callers_do_not_grow_the_memory_and_strangers_are_still_limited() {
        let buckets = Buckets::default();
        let rate = Rate::per_minute(1);
        for caller in 0..MAX_BUCKETS {
            buckets.take(Action::Login, &caller.to_string(), rate, Duration::ZERO).unwrap();
        }
        buckets.take(Action::Login, "new", rate, Duration::ZERO).unwrap();
        assert!(buckets.take(Action::Login, "another", rate, Duration::ZERO).is_err());
        assert!(buckets.buckets.lock().unwrap().len() <= MAX_BUCKETS + 1);
        buckets.take(Action::Login, "later", rate, Duration::from_secs(3600)).unwrap();
        assert_eq!(buckets.buckets.lock().unwrap().len(), 1);
    }
}
