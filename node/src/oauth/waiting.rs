//! Devices that wait until their user has typed their code somewhere else (RFC 8628). Kept in memory, within bounds.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use kith_store::tables::accounts::TokenHash;
use ruma::UserId;

use super::codes::Grant;
use crate::accounts::tokens::hash;
use crate::platform::Rng;

/// How long a device may wait, in milliseconds.
pub(super) const WAITING_MS: u64 = 15 * 60 * 1000;
/// The seconds between two questions of a device, as it is told.
pub(super) const INTERVAL: u64 = 5;
/// The milliseconds between two questions that are not too often yet: networks shift them.
const LEAST_MS: u64 = 4_000;
/// Devices that wait at once; beyond it the one that ends first goes.
const MAX_WAITING: usize = 500;
/// What user codes are made of (RFC 8628, section 6.1): no vowels, so that there are no words; 20 letters.
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
/// Letters of a user code: 34 bits.
const LENGTH: usize = 8;

/// A device that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) client: String,
    pub(super) device: String,
    pub(super) scope: String,
}

/// What has become of a device's wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// Nobody has typed the code yet.
    Pending,
    /// Its user said no.
    Denied,
    /// Its user said yes. It is told once.
    Granted(Grant),
    /// It asks too often.
    TooOften,
    /// It has waited too long, or never waited.
    Gone,
}

#[derive(Debug)]
struct Entry {
    user_code: String,
    device: Device,
    state: State,
    /// Monotonic milliseconds.
    expires: u64,
    /// When it may ask again.
    next: u64,
}

/// All devices that wait, by the hash of their device code.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<BTreeMap<TokenHash, Entry>>);

/// A new user code.
pub(super) fn user_code(rng: &Rng) -> String {
    let letters = (0..LENGTH).filter_map(|_| rng.pick(LETTERS));
    letters.map(|letter| char::from(*letter)).collect()
}

/// A user code as it was typed: capitals or not, with whatever between.
pub(super) fn typed(text: &str) -> String {
    let letters = text.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_uppercase());
    letters.take(LENGTH + 1).collect()
}

/// A user code as it is shown.
pub(super) fn shown(code: &str) -> String {
    match code.split_at_checked(LENGTH / 2) {
        Some((first, second)) => format!("{first}-{second}"),
        None => code.to_owned(),
    }
}

impl Waiting {
    /// Lets a device wait. False when another waits with this user code.
    pub(super) fn insert(&self, device_code: &str, user_code: String, device: Device, now: u64) -> bool {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, entry| entry.expires > now);
        if waiting.values().any(|entry| entry.user_code == user_code) {
            return false;
        }
        if waiting.len() >= MAX_WAITING
            && let Some(first) = waiting.iter().min_by_key(|(_, entry)| entry.expires).map(|(hash, _)| *hash)
        {
            waiting.remove(&first);
        }
        let expires = now.saturating_add(WAITING_MS);
        let entry = Entry { user_code, device, state: State::Pending, expires, next: now };
        waiting.insert(hash(device_code), entry);
        true
    }

    /// The device that waits with this user code, while nobody has answered.
    pub(super) fn find(&self, user_code: &str, now: u64) -> Option<Device> {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.values().find(|entry| entry.is_open(user_code, now)).map(|entry| entry.device.clone())
    }

    /// Answers the device with this user code, once. False when none waits.
    pub(super) fn answer(&self, user_code: &str, state: State, now: u64) -> bool {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match waiting.values_mut().find(|entry| entry.is_open(user_code, now)) {
            Some(entry) => {
                entry.state = state;
                true
            }
            None => false,
        }
    }

    /// Takes back what a user granted to devices that have not asked since.
    pub(super) fn forget(&self, user: &UserId) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, entry| !matches!(&entry.state, State::Granted(grant) if grant.user == user));
    }

    /// What has become of it, asked by its client. What was granted or denied is forgotten.
    pub(super) fn ask(&self, device_code: &str, client: &str, now: u64) -> State {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let hash = hash(device_code);
        let Some(entry) = waiting.get_mut(&hash).filter(|entry| entry.expires > now && entry.device.client == client)
        else {
            return State::Gone;
        };
        let next = std::mem::replace(&mut entry.next, now.saturating_add(LEAST_MS));
        if now < next {
            return State::TooOften;
        }
        let state = entry.state.clone();
        if state != State::Pending {
            waiting.remove(&hash);
        }
        state
    }
}

impl Entry {
    fn is_open(&self, user_code: &str, now: u64) -> bool {
        self.expires > now && self.state == State::Pending && self.user_code == user_code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> Device {
        Device { client: "c".into(), device: "D".into(), scope: "s".into() }
    }

    #[test]
    fn a_device_is_told_once_and_not_too_often() {
        let waiting = Waiting::default();
        assert!(waiting.insert("code", "BCDFGHJK".into(), device(), 0));
        assert!(!waiting.insert("other", "BCDFGHJK".into(), device(), 0));
        assert_eq!(waiting.ask("code", "d", 0), State::Gone);
        assert_eq!(waiting.ask("code", "c", 0), State::Pending);
        assert_eq!(waiting.ask("code", "c", 3_999), State::TooOften);
        assert_eq!(waiting.ask("code", "c", 7_998), State::TooOften);
        assert_eq!(waiting.ask("code", "c", 12_998), State::Pending);
        assert_eq!(waiting.ask("code", "c", 30_000), State::Pending);
        assert_eq!(waiting.find("BCDFGHJK", 30_000), Some(device()));
        assert!(waiting.answer("BCDFGHJK", State::Denied, 30_000));
        assert!(!waiting.answer("BCDFGHJK", State::Denied, 30_000), "it is answered once");
        assert_eq!(waiting.ask("code", "c", 60_000), State::Denied);
        assert_eq!(waiting.ask("code", "c", 90_000), State::Gone);
    }

    #[test]
    fn waiting_ends_and_is_bounded() {
        let waiting = Waiting::default();
        assert!(waiting.insert("code", "BCDFGHJK".into(), device(), 0));
        assert_eq!(waiting.find("BCDFGHJK", WAITING_MS), None);
        assert_eq!(waiting.ask("code", "c", WAITING_MS), State::Gone);
        for number in 0..600_u64 {
            assert!(waiting.insert(&number.to_string(), number.to_string(), device(), number));
        }
        assert_eq!(waiting.0.lock().unwrap().len(), MAX_WAITING);
    }

    #[test]
    fn a_user_code_is_read_as_people_type_it() {
        let code = user_code(&Rng::from_seed(1));
        assert_eq!(code.len(), LENGTH);
        assert_eq!(typed(&format!(" {} ", shown(&code).to_lowercase())), code);
        assert_eq!(typed("\u{e4}-b"), "B");
        assert_eq!(shown("\u{e4}\u{e4}\u{e4}"), "\u{e4}\u{e4}-\u{e4}");
    }
}
