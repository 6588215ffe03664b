//! One-time and fallback keys: stored, counted, and handed out exactly once (client-server specification, "One-time and
//! fallback keys").

use std::collections::{BTreeMap, BTreeSet};

use kith_store::{
    Counter, Json, Read, StoreError, Tx,
    tables::{
        accounts::DEVICES,
        e2ee::{CLAIMED_KEYS, FALLBACK_KEYS, FallbackKey, ONE_TIME_KEY_COUNTS, ONE_TIME_KEYS},
    },
};
use serde_json::Value;

use super::{Object, delete_prefix};
use crate::http::{Answer, MatrixError};

/// One-time keys that a device may have waiting, of all algorithms together.
pub const MAX_ONE_TIME_KEYS: usize = 1_000;
/// Algorithms for which a device may have a fallback key.
pub const MAX_FALLBACK_KEYS: usize = 20;
/// The longest key, in bytes of JSON.
const MAX_BYTES: usize = 8 << 10;
/// The longest key ID, in bytes.
const MAX_ID: usize = 255;

/// Keys handed out that are remembered, of each device and algorithm: more than a client uploads at once, for it is the latest
/// upload that it may repeat.
const REMEMBERED: usize = 200;

/// The algorithm that clients always want to be told a number of.
pub const SIGNED_CURVE25519: &str = "signed_curve25519";

/// A key with its algorithm and ID.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedKey {
    /// Such as `signed_curve25519`.
    pub algorithm: String,
    /// The ID, without the algorithm.
    pub id: String,
    /// The key: an object, or text for algorithms without signatures.
    pub key: Value,
}

impl NamedKey {
    /// Checks a key of an upload, whose name is `<algorithm>:<key ID>`.
    ///
    /// # Errors
    /// `M_INVALID_PARAM`
    pub fn check(name: &str, key: Value) -> Answer<Self> {
        let (algorithm, id) = name
            .split_once(':')
            .filter(|(algorithm, id)| !algorithm.is_empty() && !id.is_empty() && name.len() <= MAX_ID)
            .ok_or_else(|| MatrixError::invalid_param("a one-time key is named <algorithm>:<key ID>"))?;
        let is_key = match &key {
            Value::String(_) => true,
            Value::Object(object) => object.get("key").is_some_and(Value::is_string),
            _ => false,
        };
        if !is_key || key.to_string().len() > MAX_BYTES {
            return Err(MatrixError::invalid_param(format!("the one-time key {name} is no key")));
        }
        Ok(Self { algorithm: algorithm.to_owned(), id: id.to_owned(), key })
    }

    /// `<algorithm>:<key ID>`
    pub fn name(&self) -> String {
        format!("{}:{}", self.algorithm, self.id)
    }
}

/// Stores one-time keys of a device of ours. A key that waits already may come again, and so may one that was handed out
/// lately (the answer to its upload was lost): it is passed over.
///
/// # Errors
/// `M_INVALID_PARAM` when the ID of another key that waits is used again, `M_TOO_LARGE` for very many, `M_NOT_FOUND` when the
/// device was signed out meanwhile.
pub fn add(tx: &mut Tx, user: &str, device: &str, keys: &[NamedKey]) -> Answer<()> {
    if keys.is_empty() {
        return Ok(());
    }
    exists(tx, user, device)?;
    let prefix = (user.to_owned(), device.to_owned());
    let mut waiting: BTreeMap<(String, String), Value> = BTreeMap::new();
    for row in ONE_TIME_KEYS.prefix(tx, &prefix)? {
        let ((_, _, algorithm, _), (id, key)) = row?;
        waiting.insert((algorithm, id), serde_json::from_str(&key).unwrap_or_default());
    }
    let mut claimed: BTreeSet<(String, String, String)> = BTreeSet::new();
    for row in CLAIMED_KEYS.prefix(tx, &prefix)? {
        let ((_, _, algorithm, _), (id, key)) = row?;
        claimed.insert((algorithm, id, key));
    }
    for new in keys {
        let name = (new.algorithm.clone(), new.id.clone());
        if claimed.contains(&(new.algorithm.clone(), new.id.clone(), public(&new.key).to_owned())) {
            continue;
        }
        if let Some(known) = waiting.get(&name) {
            if !same(known, &new.key) {
                return Err(MatrixError::invalid_param(format!(
                    "another one-time key with the ID {} waits already",
                    new.name()
                )));
            }
            continue;
        }
        let row = tx.allocate(Counter::Row);
        let key = (prefix.0.clone(), prefix.1.clone(), new.algorithm.clone(), row);
        ONE_TIME_KEYS.put(tx, &key, &(new.id.clone(), new.key.to_string()))?;
        count(tx, user, device, &new.algorithm, 1)?;
        waiting.insert(name, new.key.clone());
    }
    if waiting.len() > MAX_ONE_TIME_KEYS {
        return Err(MatrixError::too_large(format!("a device has at most {MAX_ONE_TIME_KEYS} one-time keys waiting")));
    }
    Ok(())
}

/// Stores fallback keys of a device of ours, each in place of the one of its algorithm.
///
/// # Errors
/// `M_TOO_LARGE` for very many, `M_NOT_FOUND` when the device was signed out meanwhile.
pub fn set_fallback(tx: &mut Tx, user: &str, device: &str, keys: Vec<NamedKey>) -> Answer<()> {
    if keys.is_empty() {
        return Ok(());
    }
    exists(tx, user, device)?;
    let prefix = (user.to_owned(), device.to_owned());
    for new in keys {
        let key = (prefix.0.clone(), prefix.1.clone(), new.algorithm);
        // A key that comes again (the answer to the first request was lost) stays used.
        let used = FALLBACK_KEYS
            .get(tx, &key)?
            .is_some_and(|old| old.0.id == new.id && same(&old.0.key, &new.key) && old.0.used);
        FALLBACK_KEYS.put(tx, &key, &Json(FallbackKey { id: new.id, key: new.key, used }))?;
    }
    if FALLBACK_KEYS.prefix(tx, &prefix)?.count() > MAX_FALLBACK_KEYS {
        return Err(MatrixError::too_large(format!("a device has at most {MAX_FALLBACK_KEYS} fallback keys")));
    }
    Ok(())
}

fn exists(tx: &Tx, user: &str, device: &str) -> Answer<()> {
    if DEVICES.contains(tx, &(user.to_owned(), device.to_owned()))? {
        Ok(())
    } else {
        Err(MatrixError::not_found("this device has been signed out"))
    }
}

/// The same key, whatever its signatures: those are not the same each time they are made.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => super::signed::same_but_for_signatures(one, other),
        _ => one == other,
    }
}

/// What two keys with the same ID differ by.
fn public(key: &Value) -> &str {
    key.get("key").unwrap_or(key).as_str().unwrap_or_default()
}

/// Remembers a key that is handed out, and forgets the oldest of those if there are many.
fn remember(tx: &mut Tx, row: (String, String, String, u64), id: String, key: &Value) -> Result<(), StoreError> {
    let prefix = (row.0.clone(), row.1.clone(), row.2.clone());
    CLAIMED_KEYS.put(tx, &row, &(id, public(key).to_owned()))?;
    let known: Vec<_> =
        CLAIMED_KEYS.prefix(tx, &prefix)?.map(|row| row.map(|(key, _)| key)).collect::<Result<_, _>>()?;
    for old in known.iter().take(known.len().saturating_sub(REMEMBERED)) {
        CLAIMED_KEYS.delete(tx, old)?;
    }
    Ok(())
}

/// Takes a one-time key of a device: the one that waits longest, else the fallback key, which stays.
///
/// # Errors
/// As all writes.
pub fn claim(tx: &mut Tx, user: &str, device: &str, algorithm: &str) -> Result<Option<NamedKey>, StoreError> {
    let prefix = (user.to_owned(), device.to_owned(), algorithm.to_owned());
    let next = ONE_TIME_KEYS.prefix(tx, &prefix)?.next().transpose()?;
    if let Some((row, (id, key))) = next {
        ONE_TIME_KEYS.delete(tx, &row)?;
        count(tx, user, device, algorithm, -1)?;
        let key = serde_json::from_str(&key).unwrap_or_default();
        remember(tx, row, id.clone(), &key)?;
        return Ok(Some(NamedKey { algorithm: prefix.2, id, key }));
    }
    let Some(Json(mut fallback)) = FALLBACK_KEYS.get(tx, &prefix)? else { return Ok(None) };
    if !fallback.used {
        fallback.used = true;
        FALLBACK_KEYS.put(tx, &prefix, &Json(fallback.clone()))?;
    }
    Ok(Some(NamedKey { algorithm: prefix.2, id: fallback.id, key: fallback.key }))
}

/// How many one-time keys of each algorithm wait; [`SIGNED_CURVE25519`] is always named.
///
/// # Errors
/// As all reads.
pub fn counts(read: &dyn Read, user: &str, device: &str) -> Result<BTreeMap<String, u64>, StoreError> {
    let mut counts = BTreeMap::from([(SIGNED_CURVE25519.to_owned(), 0)]);
    for row in ONE_TIME_KEY_COUNTS.prefix(read, &(user.to_owned(), device.to_owned()))? {
        let ((_, _, algorithm), count) = row?;
        counts.insert(algorithm, count);
    }
    Ok(counts)
}

/// The algorithms whose fallback key was not handed out yet.
///
/// # Errors
/// As all reads.
pub fn unused_fallbacks(read: &dyn Read, user: &str, device: &str) -> Result<Vec<String>, StoreError> {
    let mut unused = Vec::new();
    for row in FALLBACK_KEYS.prefix(read, &(user.to_owned(), device.to_owned()))? {
        let ((_, _, algorithm), Json(key)) = row?;
        if !key.used {
            unused.push(algorithm);
        }
    }
    Ok(unused)
}

fn count(tx: &mut Tx, user: &str, device: &str, algorithm: &str, change: i64) -> Result<(), StoreError> {
    let key = (user.to_owned(), device.to_owned(), algorithm.to_owned());
    let count = ONE_TIME_KEY_COUNTS.get(tx, &key)?.unwrap_or_default().saturating_add_signed(change);
    ONE_TIME_KEY_COUNTS.put(tx, &key, &count)
}

/// Forgets all one-time and fallback keys of a device.
///
/// # Errors
/// As all writes.
pub fn forget(tx: &mut Tx, user: &str, device: &str) -> Result<(), StoreError> {
    let prefix = (user.to_owned(), device.to_owned());
    delete_prefix(tx, &ONE_TIME_KEYS, &prefix)?;
    delete_prefix(tx, &ONE_TIME_KEY_COUNTS, &prefix)?;
    delete_prefix(tx, &CLAIMED_KEYS, &prefix)?;
    delete_prefix(tx, &FALLBACK_KEYS, &prefix)?;
    Ok(())
}

/// Keys as `keys/claim` gives them: user to device to key.
pub type Claimed = BTreeMap<String, BTreeMap<String, Object>>;

/// Takes the one-time keys asked for (user to device to algorithm) of devices of ours, in one change.
///
/// # Errors
/// As all writes.
pub fn claim_all(tx: &mut Tx, wanted: &BTreeMap<String, BTreeMap<String, String>>) -> Result<Claimed, StoreError> {
    let mut claimed = Claimed::new();
    for (user, devices) in wanted {
        for (device, algorithm) in devices {
            if let Some(key) = claim(tx, user, device, algorithm)? {
                let devices = claimed.entry(user.clone()).or_default();
                devices.entry(device.clone()).or_default().insert(key.name(), key.key);
            }
        }
    }
    Ok(claimed)
}
