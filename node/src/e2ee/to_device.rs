//! Messages from device to device: each device has an inbox, which sync empties in order (client-server specification,
//! "Send-to-Device messaging").
//!
//! A message stays until its device syncs from a token behind it, so it is delivered at least once, and exactly once to a
//! client that goes on from the token it was given.

use kith_store::{
    Counter, Read, StoreError, Touched, Tx,
    tables::{
        accounts::DEVICES,
        e2ee::{SENT_TO_DEVICE, TO_DEVICE, TO_DEVICE_OF, ToDeviceMessage},
        rooms::{ROOM_SERVERS, USER_ROOMS, membership},
    },
};
use serde_json::{Value, json};

use super::{delete_prefix, server_of};

/// Messages that sync gives at once.
pub const MOST_AT_ONCE: usize = 100;
/// Messages that wait for one device; then the oldest go.
pub const MOST_WAITING: usize = 10_000;
/// Of these, messages of one other server; and of all those together that share no room with the user, as anybody can be many of
/// them. What is more is not taken, so that nobody pushes out what others sent.
const SHARE: u64 = 5_000;
const STRANGERS_SHARE: u64 = 200;
/// What they are counted under.
const STRANGERS: &str = "";
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
    let origin = match server_of(&message.sender) {
        origin if origin == server_of(user) || shares_a_room(tx, user, origin)? => origin,
        _ => STRANGERS,
    };
    let share = match origin {
        STRANGERS => STRANGERS_SHARE,
        origin if origin == server_of(user) => u64::MAX,
        _ => SHARE,
    };
    for device in devices {
        let counted = (user.to_owned(), device.clone(), origin.to_owned());
        let waiting = TO_DEVICE_OF.get(tx, &counted)?.unwrap_or_default();
        if waiting >= share {
            tracing::info!(user, device, origin, "a message to a device is not taken: too many of that server wait");
            continue;
        }
        TO_DEVICE_OF.put(tx, &counted, &(waiting + 1))?;
        let position = tx.next_position();
        let row = ToDeviceMessage { since: now, origin: origin.to_owned(), event: event.clone() };
        TO_DEVICE.put(tx, &(user.to_owned(), device.clone(), position), &row)?;
        // Counting costs, so it is done now and then.
        if kith_store::now_and_then(position) {
            expire(tx, user, &device, now)?;
        }
    }
    tx.touch(Touched::User(user.to_owned()));
    Ok(())
}

/// Whether a user of ours is in a room with somebody of that server.
fn shares_a_room(read: &dyn Read, user: &str, origin: &str) -> Result<bool, StoreError> {
    for row in USER_ROOMS.prefix(read, &user.to_owned())? {
        let ((_, room), row) = row?;
        if row.0.membership == membership::JOIN && ROOM_SERVERS.contains(read, &(room, origin.to_owned()))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Takes messages out of an inbox.
fn take_out(tx: &mut Tx, rows: Vec<((String, String, u64), String)>) -> Result<(), StoreError> {
    for (key, origin) in rows {
        TO_DEVICE.delete(tx, &key)?;
        let counted = (key.0, key.1, origin);
        match TO_DEVICE_OF.get(tx, &counted)? {
            Some(count @ 2..) => TO_DEVICE_OF.put(tx, &counted, &(count - 1))?,
            _ => {
                TO_DEVICE_OF.delete(tx, &counted)?;
            }
        }
    }
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

/// The position of the latest message that waits for a device.
///
/// # Errors
/// As all reads.
pub fn last_position(read: &dyn Read, user: &str, device: &str) -> Result<Option<u64>, StoreError> {
    let last = TO_DEVICE.prefix_rev(read, &(user.to_owned(), device.to_owned()))?.next().transpose()?;
    Ok(last.map(|((_, _, position), _)| position))
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
    let rows = TO_DEVICE
        .prefix_until(tx, &(user.to_owned(), device.to_owned()), &until)?
        .map(|row| row.map(|(key, message)| (key, message.origin)))
        .collect::<Result<_, _>>()?;
    take_out(tx, rows)
}

/// Drops messages that are too many or too old; says how many.
pub(super) fn expire(tx: &mut Tx, user: &str, device: &str, now: u64) -> Result<usize, StoreError> {
    let rows: Vec<_> = TO_DEVICE
        .prefix(tx, &(user.to_owned(), device.to_owned()))?
        .map(|row| row.map(|(key, message)| (key, message.origin, message.since)))
        .collect::<Result<_, _>>()?;
    let too_many = rows.len().saturating_sub(MOST_WAITING);
    let old = |index: usize, since: u64| index < too_many || now.saturating_sub(since) > LONGEST_WAIT;
    let rows: Vec<_> = rows
        .into_iter()
        .enumerate()
        .filter(|(index, (.., since))| old(*index, *since))
        .map(|(_, (key, origin, _))| (key, origin))
        .collect();
    let dropped = rows.len();
    take_out(tx, rows)?;
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
    if kith_store::now_and_then(tx.allocate(Counter::Row)) {
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
    delete_prefix(tx, &TO_DEVICE_OF, &prefix)?;
    delete_prefix(tx, &SENT_TO_DEVICE, &prefix)?;
    Ok(())
}
