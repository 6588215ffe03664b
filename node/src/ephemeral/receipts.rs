//! Read receipts (client-server specification, "Receipts"; EDU `m.receipt`).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kith_store::{
    Json, Read, StoreError, Touched,
    tables::{
        receipts::{RECEIPT_CHANGES, RECEIPTS, ReceiptKey, ReceiptRow, changes, put},
        rooms::{EVENT_IDS, EVENTS},
    },
};
use ruma::{
    OwnedEventId, OwnedServerName, RoomId, ServerName, UserId,
    api::federation::transactions::edu::{Edu, ReceiptContent, ReceiptData, ReceiptMap},
    events::receipt::{Receipt, ReceiptThread},
};
use serde_json::{Map, Value, json};

use super::other_servers;
use crate::{
    Node,
    federation::{outgoing::enqueue_edu, rules},
    http::{Answer, MatrixError},
    rooms::{read, timestamp},
};

/// A receipt that everybody sees.
pub const READ: &str = "m.read";
/// A receipt for the reader's own devices only.
pub const READ_PRIVATE: &str = "m.read.private";
/// How many receipts of one EDU are taken.
const MOST_IN_AN_EDU: usize = 1_000;
/// How many threads of a room a user's receipts are kept of, and the longest name of one. No more are taken then.
const MOST_THREADS: usize = 500;
const LONGEST_THREAD: usize = 255;
/// How many of the latest receipts are looked through for those at some events.
const MOST_LOOKED_AT: usize = 500;

/// A local user has read up to an event.
///
/// # Errors
/// `M_FORBIDDEN` for who is not in the room; `M_INVALID_PARAM` for an impossible thread.
pub async fn set(
    node: &Arc<Node>,
    user: &UserId,
    room_id: &RoomId,
    kind: &'static str,
    event: OwnedEventId,
    thread: ReceiptThread,
) -> Answer<()> {
    let room = node.rooms.require(room_id)?.number();
    let thread_name = thread.as_str().unwrap_or_default().to_owned();
    let now = node.clock.now_ms();
    let (wake, servers) = node.store.read(|read| {
        if !read::is_joined(read, user.as_str(), room)? {
            return Err(MatrixError::forbidden("only who is in a room has receipts there"));
        }
        let known = read::event_by_id(read, event.as_str())?.is_some_and(|event| event.row.room == room);
        if !known {
            return Err(MatrixError::not_found("there is no such event in this room"));
        }
        match kind {
            READ => Ok((read::local_members(read, room)?, other_servers(read, node.server_name(), room)?)),
            _ => Ok((vec![user.to_string()], Vec::new())),
        }
    })?;
    let key = (user.to_string(), kind.to_owned(), thread_name);
    let mut receipt = Receipt::new(timestamp(now));
    receipt.thread = thread;
    let read = BTreeMap::from([(user.to_owned(), ReceiptData::new(receipt, vec![event.clone()]))]);
    let content = ReceiptContent::new(BTreeMap::from([(room_id.to_owned(), ReceiptMap::new(read))]));
    let told = Told { edu: Edu::Receipt(content), servers, now };
    store(node, room, vec![(key, event, now)], wake, Some(told)).await?;
    Ok(())
}

/// Another server tells how far its users have read.
pub async fn receive(node: &Arc<Node>, origin: &ServerName, content: ReceiptContent) -> Answer<()> {
    let mut taken = 0;
    for (room_id, receipts) in content.receipts {
        let Some(room) = node.rooms.get(&room_id)? else { continue };
        // Server ACLs hold for what is ephemeral, too (MSC4163).
        if node.store.read(|read| rules::check_acl(read, room.number(), origin)).is_err() {
            continue;
        }
        let mut rows = Vec::new();
        for (user, data) in receipts.read {
            taken += 1;
            if taken > MOST_IN_AN_EDU {
                return Err(MatrixError::too_large("too many receipts in one EDU"));
            }
            let joined = node.store.read(|read| read::is_joined(read, user.as_str(), room.number()))?;
            let Some(event) = data.event_ids.into_iter().next_back() else { continue };
            let thread = data.data.thread.as_str().unwrap_or_default().to_owned();
            // Threads that are not known here could be made up without end.
            let is_thread = matches!(thread.as_str(), "" | "main")
                || node.store.read(|read| is_known(read, room.number(), &thread))?;
            if user.server_name() == origin && joined && is_thread {
                let ts = data.data.ts.map_or(0, |ts| ts.0.into());
                rows.push(((user.to_string(), READ.to_owned(), thread), event, ts));
            }
        }
        if !rows.is_empty() {
            let wake = node.store.read(|read| read::local_members(read, room.number()))?;
            store(node, room.number(), rows, wake, None).await?;
        }
    }
    Ok(())
}

type NewReceipt = ((String, String, String), OwnedEventId, u64);

/// The other servers that a receipt of ours is told. They get it when they are there, in place of an older one.
struct Told {
    edu: Edu,
    servers: Vec<OwnedServerName>,
    now: u64,
}

/// Stores receipts that go forward, and queues them for other servers; says whether any did.
async fn store(
    node: &Arc<Node>,
    room: u64,
    receipts: Vec<NewReceipt>,
    wake: Vec<String>,
    told: Option<Told>,
) -> Answer<bool> {
    let forward = node
        .store
        .write(move |tx| {
            let mut forward = false;
            for (key, event, ts) in receipts {
                let row_key = (room, key.0.clone(), key.1.clone(), key.2.clone());
                let taken = match RECEIPTS.get(tx, &row_key)? {
                    Some(Json(old)) => is_later(tx, event.as_str(), &old.event)?,
                    None => {
                        key.2.len() <= LONGEST_THREAD
                            && RECEIPTS.prefix(tx, &(room, key.0.clone()))?.count() < MOST_THREADS
                    }
                };
                if !taken {
                    continue;
                }
                put(tx, room, key, event.to_string(), ts)?;
                forward = true;
            }
            if forward {
                if let Some(told) = told {
                    for server in &told.servers {
                        enqueue_edu(tx, server, &told.edu, told.now)?;
                    }
                }
                tx.touch(Touched::Room(room));
                for user in wake {
                    tx.touch(Touched::User(user));
                }
            }
            Ok::<_, StoreError>(forward)
        })
        .await?;
    Ok(forward)
}

fn is_known(read: &dyn Read, room: u64, event: &str) -> Result<bool, StoreError> {
    let Some(number) = EVENT_IDS.get(read, &event.to_owned())? else { return Ok(false) };
    Ok(EVENTS.get(read, &number)?.is_some_and(|event| event.room == room))
}

/// Whether an event comes after another in the order clients see. Unknown ones are believed to.
fn is_later(read: &dyn Read, event: &str, than: &str) -> Result<bool, StoreError> {
    let place = |id: &str| -> Result<Option<(u64, u64)>, StoreError> {
        let Some(number) = EVENT_IDS.get(read, &id.to_owned())? else { return Ok(None) };
        Ok(EVENTS.get(read, &number)?.map(|row| (row.position, row.depth)))
    };
    Ok(match (place(event)?, place(than)?) {
        (Some(event), Some(than)) => event > than,
        _ => event != than,
    })
}

/// What is shown of receipts to one reader.
pub(crate) struct Shown {
    /// Contents of `m.receipt` events: one, but for users who have several receipts of one kind at one event.
    pub(crate) events: Vec<Value>,
    /// Whether receipts of the reader are among them.
    pub(crate) own: bool,
}

/// The receipts that one reader may see and that changed after `since` and up to `upto`.
pub(crate) fn contents(read: &dyn Read, room: u64, reader: &str, since: u64, upto: u64) -> Answer<Shown> {
    Ok(show(reader, changes(read, room, since, upto)?))
}

/// Of the latest receipts up to `upto` those at some events, and all of the reader's own: for a client that is given these events
/// and nothing before them.
pub(crate) fn contents_at(
    read: &dyn Read,
    room: u64,
    reader: &str,
    events: &BTreeSet<String>,
    upto: u64,
) -> Answer<Shown> {
    let mut rows = Vec::new();
    for row in RECEIPTS.prefix(read, &(room, reader.to_owned()))? {
        let ((_, user, kind, thread), Json(row)) = row?;
        if row.position <= upto {
            rows.push(((user, kind, thread), row));
        }
    }
    for row in RECEIPT_CHANGES.range(read, (room, 0)..=(room, upto))?.rev().take(MOST_LOOKED_AT) {
        let (_, Json(key)) = row?;
        if key.0 != reader
            && let Some(Json(row)) = RECEIPTS.get(read, &(room, key.0.clone(), key.1.clone(), key.2.clone()))?
            && events.contains(&row.event)
        {
            rows.push((key, row));
        }
    }
    Ok(show(reader, rows))
}

/// Puts receipts into the contents of events.
fn show(reader: &str, receipts: Vec<(ReceiptKey, ReceiptRow)>) -> Shown {
    let mut contents: Vec<Map<String, Value>> = Vec::new();
    let mut own = false;
    for ((user, kind, thread), row) in receipts {
        own |= user == reader;
        if kind == READ_PRIVATE && user != reader {
            continue;
        }
        let mut receipt = json!({"ts": row.ts});
        if !thread.is_empty() {
            receipt["thread_id"] = json!(thread);
        }
        let is_free =
            |content: &Map<String, Value>| content.get(&row.event).is_none_or(|of| of[&kind][&user].is_null());
        let free = match contents.iter().position(is_free) {
            Some(free) => free,
            None => {
                contents.push(Map::new());
                contents.len() - 1
            }
        };
        if let Some(content) = contents.get_mut(free) {
            content.entry(row.event).or_insert_with(|| json!({}))[kind][user] = receipt;
        }
    }
    Shown { events: contents.into_iter().map(Value::Object).collect(), own }
}

/// How far a user has read: stream positions of the events of its receipts, by thread (empty: all threads).
pub(crate) fn read_up_to(read: &dyn Read, room: u64, user: &UserId) -> Answer<BTreeMap<String, u64>> {
    let mut positions: BTreeMap<String, u64> = BTreeMap::new();
    for row in RECEIPTS.prefix(read, &(room, user.to_string()))? {
        let ((_, _, _, thread), Json(receipt)) = row?;
        let Some(number) = EVENT_IDS.get(read, &receipt.event)? else { continue };
        let Some(event) = EVENTS.get(read, &number)? else { continue };
        let position = positions.entry(thread).or_default();
        *position = (*position).max(event.position);
    }
    Ok(positions)
}
