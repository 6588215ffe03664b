//! What waits for a destination: putting it in, making transactions of it, taking out what was delivered.

use std::collections::{BTreeMap, VecDeque};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use kith_mutants::mutant;
use kith_store::{
    Counter, Json, Read, StoreError, Touched, Tx,
    tables::{
        federation::{DESTINATIONS, DestinationRow, OUTGOING_EDUS, OUTGOING_UPDATES, OutgoingEdu, OutgoingUpdate},
        rooms::{EVENTS, EventRow, MEMBERS, OUTGOING, OWN_STREAM, ROOM_SERVERS},
    },
};
use ruma::{
    ServerName,
    api::federation::transactions::edu::{Edu, ReceiptData, ReceiptMap},
};
use serde_json::{Value, json, value::RawValue};
use sha2::{Digest as _, Sha256};

/// Events in a transaction, by the specification.
pub const MOST_PDUS: usize = 50;
/// EDUs in a transaction, by the specification.
pub const MOST_EDUS: usize = 100;
/// A destination that was away and lacks more events than this is sent the latest event of each room, and fetches the rest.
const CATCH_UP_ABOVE: usize = 50;
/// A transaction is not filled beyond this many bytes, so that with one more event it is well below what every node takes.
const MOST_BYTES: usize = 2 << 20;
/// To-device messages that wait for one destination; then the oldest go.
const MOST_WAITING: usize = 10_000;
/// How long a to-device message waits, in milliseconds: 30 days.
const LONGEST_WAIT: u64 = 30 * 24 * 3_600_000;

/// Queues an EDU that must not be lost, in the change that makes it so: to-device messages in order; device list and
/// cross-signing updates, of which only the latest of a user is kept; read receipts, of which the latest of a user in a room and
/// thread is. Typing and presence are droppable and go
/// through [`super::super::Federation::send_ephemeral`]. `now` is the clock's, in unix milliseconds.
///
/// # Errors
/// The store's.
pub fn enqueue_edu(tx: &mut Tx, destination: &ServerName, edu: &Edu, now: u64) -> Result<(), StoreError> {
    let value = serde_json::to_value(edu).unwrap_or_default();
    let kind = value.get("edu_type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let content = value.get("content").cloned().unwrap_or_default();
    let row = tx.allocate(Counter::Row);
    match edu {
        Edu::DeviceListUpdate(_) | Edu::SigningKeyUpdate(_) => {
            let user = content.get("user_id").and_then(Value::as_str).unwrap_or_default().to_owned();
            let key = (destination.to_string(), kind, user);
            let waiting = OUTGOING_UPDATES.get(tx, &key)?.map(|row| row.0);
            let since = waiting.as_ref().map_or(now, |waiting| waiting.since);
            // A device list update that was overtaken is missed by the receiver, which then sees from `prev_id` that it has to ask
            // for the whole list. Cross-signing keys that the newer update does not carry are still new.
            let content = match (edu, waiting.map(|waiting| waiting.content)) {
                (Edu::SigningKeyUpdate(_), Some(Value::Object(mut merged))) => {
                    merged.extend(content.as_object().cloned().unwrap_or_default());
                    Value::Object(merged)
                }
                _ => content,
            };
            OUTGOING_UPDATES.put(tx, &key, &Json(OutgoingUpdate { row, content, since }))?;
        }
        Edu::Receipt(receipts) => {
            let of_room = |(room, map): (&_, &ReceiptMap)| -> Vec<String> {
                let name = |(user, data): (&_, &ReceiptData)| {
                    format!("{room} {user} {}", data.data.thread.as_str().unwrap_or_default())
                };
                map.read.iter().map(name).collect()
            };
            // One EDU tells of one user's receipt.
            let name = receipts.receipts.iter().flat_map(of_room).next().unwrap_or_default();
            let since = now;
            let key = (destination.to_string(), kind, name);
            OUTGOING_UPDATES.put(tx, &key, &Json(OutgoingUpdate { row, content, since }))?;
        }
        _ => {
            let name = destination.to_string();
            OUTGOING_EDUS.put(tx, &(name.clone(), row), &Json(OutgoingEdu { kind, content, since: now }))?;
            // Counting costs, so it is done now and then: by chance, as the numbers of one table's rows may be all odd.
            if kith_store::now_and_then(row) {
                expire(tx, &name, now)?;
            }
        }
    }
    tx.touch(Touched::Destination(destination.to_string()));
    Ok(())
}

/// Drops to-device messages that are too many or too old, and counts them; and receipts that are too old.
pub(super) fn expire(tx: &mut Tx, destination: &String, now: u64) -> Result<u64, StoreError> {
    let rows: Vec<((String, u64), u64)> = OUTGOING_EDUS
        .prefix(tx, destination)?
        .map(|row| row.map(|(key, Json(edu))| (key, edu.since)))
        .collect::<Result<_, _>>()?;
    let too_many = rows.len().saturating_sub(MOST_WAITING);
    let longest = if mutant!("drops-queued-messages") { 0 } else { LONGEST_WAIT };
    let mut dropped = 0;
    for (index, (key, since)) in rows.into_iter().enumerate() {
        if index < too_many || now.saturating_sub(since) > longest {
            OUTGOING_EDUS.delete(tx, &key)?;
            dropped += 1;
        }
    }
    let receipts: Vec<_> = OUTGOING_UPDATES
        .prefix(tx, &(destination.clone(), "m.receipt".to_owned()))?
        .map(|row| row.map(|(key, Json(update))| (key, update.since)))
        .collect::<Result<_, _>>()?;
    for (key, since) in receipts {
        if now.saturating_sub(since) > LONGEST_WAIT {
            OUTGOING_UPDATES.delete(tx, &key)?;
        }
    }
    if dropped > 0 {
        let mut row = DESTINATIONS.get(tx, destination)?.unwrap_or_default().0;
        row.dropped += dropped;
        DESTINATIONS.put(tx, destination, &Json(row))?;
        tracing::warn!(destination, dropped, "to-device messages were dropped: the server is away for too long");
    }
    Ok(dropped)
}

/// What is sent at once, and what to take out of the queues when it has arrived.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) id: String,
    pub(super) pdus: Vec<Box<RawValue>>,
    pub(super) edus: Vec<Box<RawValue>>,
    /// Room to the position up to which it is sent with this transaction.
    pub(super) rooms: BTreeMap<u64, u64>,
    /// Rows of [`OUTGOING_EDUS`].
    rows: Vec<u64>,
    /// Type, user and row of [`OUTGOING_UPDATES`].
    updates: Vec<(String, String, u64)>,
    /// Whether it carries only what may be lost.
    pub(super) droppable: bool,
    /// Whether the destination still counts as away: events were left out that it has to fetch, or rooms come later.
    pub(super) still_away: bool,
    /// Whether more may wait than it carries.
    pub(super) more: bool,
}

impl Transaction {
    /// Whether there is nothing to take out but positions.
    pub(super) fn is_positions_only(&self) -> bool {
        self.rows.is_empty() && self.updates.is_empty()
    }
}

/// How a transaction is to be made.
#[derive(Debug, Clone, Default)]
pub(super) struct How {
    /// Rooms and positions that it has acknowledged, if they are newer than the store.
    pub(super) acknowledged: BTreeMap<u64, u64>,
    /// The destination was not reached lately, and may have missed much.
    pub(super) away: bool,
    /// It refused what came together: one event or one EDU at a time, so that only what is wrong is given up.
    pub(super) single: bool,
}

/// Makes the next transaction, if something waits. `ephemeral` is drained as far as there is room.
pub(super) fn compose(
    read: &dyn Read,
    destination: &str,
    ephemeral: &mut VecDeque<Value>,
    How { away, single, acknowledged }: How,
    nonce: impl FnOnce() -> u64,
) -> Result<Option<Transaction>, StoreError> {
    let mut bytes = 0;
    let most_pdus = if single { 1 } else { MOST_PDUS };
    let (numbers, rooms, still_away) = next_events(read, destination, &acknowledged, away && !single, most_pdus)?;
    // Below the bound all that waits has been taken.
    let mut more = still_away || single || numbers.len() >= most_pdus;
    let mut pdus = Vec::new();
    for number in numbers {
        if let Some(row) = EVENTS.get(read, &number)? {
            bytes += row.json.len();
            if let Ok(pdu) = RawValue::from_string(row.json) {
                pdus.push(pdu);
            }
        }
    }
    let mut edus = Vec::new();
    let mut rows = Vec::new();
    for row in OUTGOING_EDUS.prefix(read, &destination.to_owned())? {
        // Some places are left for updates and for what is ephemeral.
        if edus.len() >= MOST_EDUS - 20 || bytes > MOST_BYTES || (single && (!rooms.is_empty() || !edus.is_empty())) {
            more = true;
            break;
        }
        let ((_, number), Json(edu)) = row?;
        bytes += push(&mut edus, &json!({ "edu_type": edu.kind, "content": edu.content }));
        rows.push(number);
    }
    let mut updates = Vec::new();
    for row in OUTGOING_UPDATES.prefix(read, &destination.to_owned())? {
        if edus.len() >= MOST_EDUS - 5 || bytes > MOST_BYTES || (single && (!rooms.is_empty() || !edus.is_empty())) {
            more = true;
            break;
        }
        let ((_, kind, user), Json(update)) = row?;
        bytes += push(&mut edus, &json!({ "edu_type": kind, "content": update.content }));
        updates.push((kind, user, update.row));
    }
    let durable = edus.len();
    while edus.len() < MOST_EDUS
        && !single
        && bytes <= MOST_BYTES
        && let Some(edu) = ephemeral.pop_front()
    {
        bytes += push(&mut edus, &edu);
    }
    if pdus.is_empty() && edus.is_empty() && rooms.is_empty() {
        return Ok(None);
    }
    let droppable = pdus.is_empty() && rooms.is_empty() && durable == 0;
    // The same events and messages make the same ID, so that a transaction tried again after a crash is known to the
    // receiver. What is ephemeral may come twice with the same content and mean it twice.
    let mut hash = Sha256::new();
    for part in pdus.iter().chain(&edus) {
        hash.update((part.get().len() as u64).to_be_bytes());
        hash.update(part.get());
    }
    if edus.len() > durable {
        hash.update(nonce().to_be_bytes());
    }
    let id = URL_SAFE_NO_PAD.encode(&hash.finalize()[..18]);
    Ok(Some(Transaction { id, pdus, edus, rooms, rows, updates, droppable, still_away, more }))
}

fn push(edus: &mut Vec<Box<RawValue>>, edu: &Value) -> usize {
    match serde_json::value::to_raw_value(edu) {
        Ok(raw) => {
            let length = raw.get().len();
            edus.push(raw);
            length
        }
        Err(_) => 0,
    }
}

/// Numbers of the next events in the order of the stream, the position up to which each room is sent then, and whether the
/// destination has to fetch events in between.
#[allow(clippy::type_complexity)]
fn next_events(
    read: &dyn Read,
    destination: &str,
    acknowledged: &BTreeMap<u64, u64>,
    away: bool,
    most: usize,
) -> Result<(Vec<u64>, BTreeMap<u64, u64>, bool), StoreError> {
    let mut waiting = Vec::new();
    // Rooms that it was in when the events were made and is not in any more: there it can ask for nothing, so it is sent all
    // that it is entitled to, up to the event by which it left.
    let mut left = BTreeMap::new();
    for row in OUTGOING.prefix(read, &destination.to_owned())? {
        let ((_, room), (sent, latest)) = row?;
        let sent = sent.max(acknowledged.get(&room).copied().unwrap_or_default());
        if sent < latest {
            waiting.push((room, sent, latest));
            if !ROOM_SERVERS.contains(read, &(room, destination.to_owned()))? {
                left.insert(room, users_of(read, room, destination)?);
            }
        }
    }
    if away && !left.is_empty() {
        waiting.retain(|(room, ..)| left.contains_key(room));
    }
    // Position, number and room of the next events of each room.
    let mut events: Vec<(u64, u64, u64)> = Vec::new();
    // Up to where a room was looked through.
    let mut looked: BTreeMap<u64, u64> = BTreeMap::new();
    for &(room, sent, latest) in &waiting {
        let mut found = 0;
        looked.insert(room, latest);
        for row in OWN_STREAM.prefix_range(
            read,
            &room,
            (std::ops::Bound::Excluded(&(room, sent)), std::ops::Bound::Included(&(room, latest))),
        )? {
            let ((_, position), number) = row?;
            let entitled = match left.get(&room) {
                Some(users) => match EVENTS.get(read, &number)? {
                    Some(event) => concerns(read, &event, users)?,
                    None => false,
                },
                None => true,
            };
            if entitled {
                events.push((position, number, room));
                found += 1;
                if found > CATCH_UP_ABOVE {
                    looked.insert(room, position);
                    break;
                }
            }
        }
        if away && left.is_empty() && events.len() > CATCH_UP_ABOVE {
            return latest_events(read, &waiting);
        }
        // Nothing may be passed over: what lies before the others' next events is sent first.
        if events.len() > 4 * most {
            events.sort_unstable();
            events.truncate(most + 1);
        }
    }
    events.sort_unstable();
    let more = events.len() > most;
    events.truncate(most);
    let mut rooms: BTreeMap<u64, u64> = BTreeMap::new();
    for &(position, _, room) in &events {
        rooms.insert(room, position);
    }
    if !more {
        // All that waits is in.
        rooms.extend(looked);
    }
    // The rooms that it is in come after those that it left, and then it may have to catch up.
    Ok((events.into_iter().map(|(_, number, _)| number).collect(), rooms, away && !left.is_empty()))
}

/// The users of a server with any part in a room.
fn users_of(read: &dyn Read, room: u64, server: &str) -> Result<Vec<String>, StoreError> {
    let mut users = Vec::new();
    for row in MEMBERS.prefix(read, &room)? {
        let ((_, _, user), _) = row?;
        if user.split_once(':').is_some_and(|(_, of)| of == server) {
            users.push(user);
        }
    }
    Ok(users)
}

/// Whether an event was made while one of these users was in the room, or is about the membership of one.
fn concerns(read: &dyn Read, event: &EventRow, users: &[String]) -> Result<bool, StoreError> {
    let about = |user: &String| event.json.contains("m.room.member") && event.json.contains(user.as_str());
    if users.iter().any(about) {
        return Ok(true);
    }
    for user in users {
        let member = crate::rooms::read::state_event_at(read, event.state_before, "m.room.member", user)?;
        let membership = member.as_ref().and_then(|member| member.content().get("membership")?.as_str());
        if membership == Some("join") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The latest event of each room that waits, of as many rooms as a transaction takes.
#[allow(clippy::type_complexity)]
fn latest_events(
    read: &dyn Read,
    waiting: &[(u64, u64, u64)],
) -> Result<(Vec<u64>, BTreeMap<u64, u64>, bool), StoreError> {
    let mut waiting = waiting.to_vec();
    // The rooms that were written in most recently come first.
    waiting.sort_unstable_by_key(|&(_, _, latest)| std::cmp::Reverse(latest));
    let mut events = Vec::new();
    let mut rooms = BTreeMap::new();
    for (room, _, latest) in waiting.into_iter().take(MOST_PDUS) {
        if let Some(number) = OWN_STREAM.get(read, &(room, latest))? {
            events.push(number);
        }
        rooms.insert(room, latest);
    }
    Ok((events, rooms, true))
}

/// Takes out of the queues what a transaction has delivered (or what is given up: `refused`).
pub(super) fn complete(
    tx: &mut Tx,
    destination: &str,
    transaction: &Transaction,
    refused: bool,
) -> Result<(), StoreError> {
    move_on(tx, destination, &transaction.rooms)?;
    let name = destination.to_owned();
    for row in &transaction.rows {
        OUTGOING_EDUS.delete(tx, &(name.clone(), *row))?;
    }
    for (kind, user, row) in &transaction.updates {
        let key = (name.clone(), kind.clone(), user.clone());
        if OUTGOING_UPDATES.get(tx, &key)?.is_some_and(|waiting| waiting.0.row == *row) {
            OUTGOING_UPDATES.delete(tx, &key)?;
        }
    }
    reached(tx, destination, refused)
}

/// A destination has everything up to these positions.
pub(super) fn move_on(tx: &mut Tx, destination: &str, rooms: &BTreeMap<u64, u64>) -> Result<(), StoreError> {
    for (room, position) in rooms {
        let key = (destination.to_owned(), *room);
        if let Some((sent, latest)) = OUTGOING.get(tx, &key)?
            && *position > sent
            && !mutant!("forgets-queue-position")
        {
            OUTGOING.put(tx, &key, &((*position).min(latest), latest))?;
        }
    }
    Ok(())
}

/// A destination answers. What was sent may have been `refused` for good.
pub(super) fn reached(tx: &mut Tx, destination: &str, refused: bool) -> Result<(), StoreError> {
    let name = destination.to_owned();
    if let Some(Json(mut row)) = DESTINATIONS.get(tx, &name)? {
        row.refused += u64::from(refused);
        row.failing_since = 0;
        row.last_error.clear();
        if row == DestinationRow::default() {
            DESTINATIONS.delete(tx, &name)?;
        } else {
            DESTINATIONS.put(tx, &name, &Json(row))?;
        }
    } else if refused {
        DESTINATIONS.put(tx, &name, &Json(DestinationRow { refused: 1, ..Default::default() }))?;
    }
    Ok(())
}

/// All destinations with something to send.
pub(super) fn destinations(read: &dyn Read) -> Result<Vec<String>, StoreError> {
    let mut names = std::collections::BTreeSet::new();
    for row in OUTGOING.range(read, ..)? {
        let ((name, _), (sent, latest)) = row?;
        if sent < latest {
            names.insert(name);
        }
    }
    for row in OUTGOING_EDUS.range(read, ..)? {
        names.insert(row?.0.0);
    }
    for row in OUTGOING_UPDATES.range(read, ..)? {
        names.insert(row?.0.0);
    }
    Ok(names.into_iter().collect())
}

/// How much waits: rooms with unsent events, and EDUs.
pub(super) fn lengths(
    read: &dyn Read,
    destination: &str,
    acknowledged: &BTreeMap<u64, u64>,
) -> Result<(usize, usize), StoreError> {
    let name = destination.to_owned();
    let mut rooms = 0;
    for row in OUTGOING.prefix(read, &name)? {
        let ((_, room), (sent, latest)) = row?;
        rooms += usize::from(sent.max(acknowledged.get(&room).copied().unwrap_or_default()) < latest);
    }
    let edus = OUTGOING_EDUS.prefix(read, &name)?.count() + OUTGOING_UPDATES.prefix(read, &name)?.count();
    Ok((rooms, edus))
}

#[cfg(test)]
mod tests;
