//! Messages from device to device: each device has an inbox, which sync empties in order (client-server specification,
//! "Send-to-Device messaging").
//!
//! A message stays until its device syncs from a token behind it, so it is delivered at least once, and exactly once to a
//! client that goes on from the token it was given.

use kith_store::{
    Counter, Read, StoreError, Touched, Tx,
    tables::{
        accounts::DEVICES,
        e2ee::{SENT_TO_DEVICE, TO_DEVICE, ToDeviceMessage},
    },
};
use serde_json::{Value, json};

use super::delete_prefix;

/// Messages that sync gives at once.
pub const MOST_AT_ONCE: usize = 100;
/// Messages that wait for one device; then the oldest go.
pub const MOST_WAITING: usize = 10_000;
/// How long a message waits, in milliseconds: 30 days.
pub const LONGEST_WAIT: u64 = 30 * 24 * 3_600_000;
/// The longest content of a message, in bytes of JSON.
pub const MAX_CONTENT: usize = 64 << 10;
/// The device ID that stands for all devices of a user.
pub const ALL_DEVICES: &str = "*";

/// Transactions remembered per device, and for how long in milliseconds.
const TRANSACTIONS: usize = 1_000;
const TRANSACTION_MS: u64 = 24 * 3_600_000;

/// A message on its way.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who sent it.
    pub sender: String,
    /// The event type.
    pub kind: String,
    /// The content.
    pub content: Value,
}

/// Puts a message into the inbox of a device of ours, or of all devices of a user ([`ALL_DEVICES`]). Devices that are not there
/// are passed over. `now` is in unix milliseconds.
///
/// # Errors
/// As all writes.
pub fn deliver(tx: &mut Tx, user: &str, device: &str, message: &Message, now: u64) -> Result<(), StoreError> {
    let devices: Vec<String> = if device == ALL_DEVICES {
        DEVICES.prefix(tx, &user.to_owned())?.map(|row| row.map(|((_, device), _)| device)).collect::<Result<_, _>>()?
    } else if DEVICES.contains(tx, &(user.to_owned(), device.to_owned()))? {
        vec![device.to_owned()]
    } else {
        return Ok(());
    };
    if devices.is_empty() {
        return Ok(());
    }
    let event = json!({ "sender": message.sender, "type": message.kind, "content": message.content }).to_string();
    for device in devices {
        let position = tx.next_position();
        let row = ToDeviceMessage { since: now, event: event.clone() };
        TO_DEVICE.put(tx, &(user.to_owned(), device.clone(), position), &row)?;
        // Counting costs, so it is done now and then.
        if position.is_multiple_of(64) {
            expire(tx, user, &device, now)?;
        }
    }
    tx.touch(Touched::User(user.to_owned()));
    Ok(())
}

/// The messages that came after position `since`, up to `upto`, oldest first, at most `limit`; and the position from which to go
/// on: `upto`, or that of the last message given when there are more.
///
/// # Errors
/// As all reads.
pub fn to_device_since(
    read: &dyn Read,
    user: &str,
    device: &str,
    since: u64,
    upto: u64,
    limit: usize,
) -> Result<(Vec<String>, u64), StoreError> {
    let prefix = (user.to_owned(), device.to_owned());
    let from = (prefix.0.clone(), prefix.1.clone(), since.saturating_add(1));
    let mut events = Vec::new();
    let mut last = since;
    for row in TO_DEVICE.prefix_from(read, &prefix, &from)? {
        let ((_, _, position), message) = row?;
        if position > upto {
            break;
        }
        if events.len() >= limit {
            return Ok((events, last));
        }
        last = position;
        events.push(message.event);
    }
    Ok((events, upto.max(since)))
}

/// Whether a device has messages up to this position.
///
/// # Errors
/// As all reads.
pub fn any_up_to(read: &dyn Read, user: &str, device: &str, upto: u64) -> Result<bool, StoreError> {
    let until = (user.to_owned(), device.to_owned(), upto);
    let first = TO_DEVICE.prefix_until(read, &(user.to_owned(), device.to_owned()), &until)?.next();
    Ok(first.transpose()?.is_some())
}

/// Deletes a device's messages up to this position: it has them.
///
/// # Errors
/// As all writes.
pub fn delete_up_to(tx: &mut Tx, user: &str, device: &str, upto: u64) -> Result<(), StoreError> {
    let until = (user.to_owned(), device.to_owned(), upto);
    let keys: Vec<_> = TO_DEVICE
        .prefix_until(tx, &(user.to_owned(), device.to_owned()), &until)?
        .map(|row| row.map(|(key, _)| key))
        .collect::<Result<_, _>>()?;
    for key in keys {
        TO_DEVICE.delete(tx, &key)?;
    }
    Ok(())
}

/// Drops messages that are too many or too old; says how many.
pub(super) fn expire(tx: &mut Tx, user: &str, device: &str, now: u64) -> Result<usize, StoreError> {
    let rows: Vec<_> = TO_DEVICE
        .prefix(tx, &(user.to_owned(), device.to_owned()))?
        .map(|row| row.map(|(key, message)| (key, message.since)))
        .collect::<Result<_, _>>()?;
    let too_many = rows.len().saturating_sub(MOST_WAITING);
    let mut dropped = 0;
    for (index, (key, since)) in rows.into_iter().enumerate() {
        if index < too_many || now.saturating_sub(since) > LONGEST_WAIT {
            TO_DEVICE.delete(tx, &key)?;
            dropped += 1;
        }
    }
    if dropped > 0 {
        tracing::warn!(user, device, dropped, "messages to a device were dropped: it has not synced for too long");
    }
    Ok(dropped)
}

/// Notes a transaction of a device; false when it was noted before.
///
/// # Errors
/// As all writes.
pub fn first_time(tx: &mut Tx, user: &str, device: &str, transaction: &str, now: u64) -> Result<bool, StoreError> {
    let key = (user.to_owned(), device.to_owned(), transaction.to_owned());
    if SENT_TO_DEVICE.contains(tx, &key)? {
        return Ok(false);
    }
    SENT_TO_DEVICE.put(tx, &key, &now)?;
    // Looking through them costs, so it is done now and then.
    if tx.allocate(Counter::Row).is_multiple_of(64) {
        let mut rows: Vec<(u64, String)> = SENT_TO_DEVICE
            .prefix(tx, &(key.0.clone(), key.1.clone()))?
            .map(|row| row.map(|((_, _, transaction), at)| (at, transaction)))
            .collect::<Result<_, _>>()?;
        rows.sort_unstable();
        let too_many = rows.len().saturating_sub(TRANSACTIONS);
        for (index, (at, transaction)) in rows.into_iter().enumerate() {
            if index < too_many || now.saturating_sub(at) > TRANSACTION_MS {
                SENT_TO_DEVICE.delete(tx, &(key.0.clone(), key.1.clone(), transaction))?;
            }
        }
    }
    Ok(true)
}

/// Forgets what waits for a device, and what it sent.
///
/// # Errors
/// As all writes.
pub fn forget(tx: &mut Tx, user: &str, device: &str) -> Result<(), StoreError> {
    let prefix = (user.to_owned(), device.to_owned());
    delete_prefix(tx, &TO_DEVICE, &prefix)?;
    delete_prefix(tx, &SENT_TO_DEVICE, &prefix)?;
    Ok(())
}
