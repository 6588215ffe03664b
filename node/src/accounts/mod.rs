//! Accounts of this node: users, devices, tokens, registration, profiles and what clients keep for their user.
//!
//! Everything durable stands in `kith_store::tables::{accounts, account_data}`; only what may be lost by a restart
//! (interactive sessions, rate limits, OpenID tokens, when a device was last written as seen) is kept in memory, in
//! [`Accounts`], within bounds. Secrets are compared in constant time or by the hash under which they are stored, and
//! are never logged.

pub mod account_data;
pub mod devices;
pub mod invites;
pub mod limits;
pub mod localpart;
pub mod login_tokens;
pub mod openid;
pub(crate) mod passes;
pub mod password;
pub mod profile;
pub mod push_rules;
pub mod registration;
mod room_updates;
pub(crate) mod sign_in;
pub mod standing;
pub mod tokens;
pub mod uia;
pub mod users;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

pub use room_updates::resume;
pub use tokens::authenticate;

use ruma::OwnedUserId;

use limits::Buckets;

/// The part of the accounts that is kept in memory.
#[derive(Debug)]
pub struct Accounts {
    /// Interactive authentications under way.
    pub(crate) uia: uia::Sessions,
    /// How often each caller tried something lately.
    pub(crate) limits: Buckets,
    /// Tokens that prove to others who a user is.
    pub(crate) openid: passes::Passes,
    /// Tokens with which a user's next client signs in.
    pub(crate) login_tokens: passes::Passes,
    /// Keeps few passwords being hashed at once: each takes 19 MiB.
    pub(crate) hashing: tokio::sync::Semaphore,
    /// `(user, device)` to when its row was last written as seen (monotonic milliseconds).
    seen: Mutex<BTreeMap<(String, String), u64>>,
    /// Users whose rooms are being told of a change.
    updating_rooms: Mutex<BTreeSet<OwnedUserId>>,
    /// Nonces of the shared-secret registration, with their expiry (monotonic milliseconds).
    pub(crate) nonces: Mutex<BTreeMap<String, u64>>,
}

/// Passwords hashed at the same time.
const HASHING: usize = 2;
/// Devices whose last writing is remembered; forgetting one costs a write.
const SEEN: usize = 4096;
/// How far the stored last-seen time of a device may be behind.
const SEEN_EVERY_MS: u64 = 10 * 60 * 1000;

impl Default for Accounts {
    fn default() -> Self {
        Self {
            uia: uia::Sessions::default(),
            limits: Buckets::default(),
            openid: passes::Passes::new(openid::TOKEN_MS),
            login_tokens: passes::Passes::new(login_tokens::TOKEN_MS),
            hashing: tokio::sync::Semaphore::new(HASHING),
            seen: Mutex::default(),
            updating_rooms: Mutex::default(),
            nonces: Mutex::default(),
        }
    }
}

impl Accounts {
    /// Whether the device's row should be written as seen now; if so it counts as written.
    fn seen_is_due(&self, user: &str, device: &str, now_ms: u64) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (user.to_owned(), device.to_owned());
        if seen.get(&key).is_some_and(|last| now_ms.saturating_sub(*last) < SEEN_EVERY_MS) {
            return false;
        }
        if seen.len() >= SEEN {
            seen.retain(|_, last| now_ms.saturating_sub(*last) < SEEN_EVERY_MS);
        }
        if seen.len() >= SEEN {
            seen.pop_first();
        }
        seen.insert(key, now_ms);
        true
    }
}

#[cfg(test)]
mod tests;

/// The node's monotonic time in milliseconds.
pub(crate) fn monotonic_ms(node: &crate::Node) -> u64 {
    u64::try_from(node.clock.monotonic().as_millis()).unwrap_or(u64::MAX)
}
