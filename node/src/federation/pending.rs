//! Invites and knocks in rooms that this node is not in: what is known of them is the event itself and some stripped state.

use std::sync::Arc;

use kith_room::{Event, json::plain_object};
use kith_store::{
    Json, Read, StoreError, Touched, Tx,
    tables::rooms::{MEMBERS, ROOM_IDS, ROOMS, RoomRow, USER_ROOMS, UserRoomRow, membership},
};
use ruma::{RoomVersionId, ServerName, UserId};
use serde_json::{Value, json, value::RawValue};

use crate::{
    Node,
    federation::pdus,
    http::{Answer, MatrixError},
    rooms::{Room, read},
};

/// What an invite or knock tells of a room, by the specification's recommendation.
const STRIPPED: [(&str, &str); 7] = [
    ("m.room.create", ""),
    ("m.room.join_rules", ""),
    ("m.room.canonical_alias", ""),
    ("m.room.avatar", ""),
    ("m.room.name", ""),
    ("m.room.encryption", ""),
    ("m.room.topic", ""),
];

/// State events kept of an invite or knock at most.
pub const MOST_STRIPPED: usize = 50;
/// How many bytes of state events are kept of an invite at most.
pub const MOST_STRIPPED_BYTES: usize = 256 << 10;

/// The state events that an invite or knock carries, as PDUs; with the member event of `inviter`.
///
/// # Errors
/// The store's.
pub fn stripped_pdus(snapshot: &dyn Read, room: u64, inviter: Option<&UserId>) -> Answer<Vec<Box<RawValue>>> {
    let mut found = Vec::new();
    for (kind, key) in STRIPPED {
        found.extend(read::state_event(snapshot, room, kind, key)?);
    }
    if let Some(inviter) = inviter {
        found.extend(read::state_event(snapshot, room, "m.room.member", inviter.as_str())?);
    }
    found.into_iter().map(|event| pdus::raw(&event.row.json)).collect()
}

/// A state event as clients get it in an invite: type, state key, sender, content. None for what is no state event.
pub fn strip(event: &Value) -> Option<Value> {
    Some(json!({
        "type": event.get("type")?.as_str()?,
        "state_key": event.get("state_key")?.as_str()?,
        "sender": event.get("sender")?.as_str()?,
        "content": event.get("content")?.as_object()?,
    }))
}

/// A member event that comes from outside of the room.
#[derive(Clone)]
pub struct Outside {
    /// The room. The handle must live until the change is committed, so that the room keeps its number.
    pub room: Room,
    /// The member event; its sender, user and membership count.
    pub event: Arc<Event>,
    /// Stripped state as clients get it.
    pub stripped: Vec<Value>,
}

/// Notes an invite, a knock, or the end of either, in a room that this node is not in. Nothing happens if the node is in it by
/// now: then the event comes through the room.
///
/// # Errors
/// The store's.
pub async fn note(node: &Arc<Node>, outside: Outside) -> Answer<()> {
    let Some((user, now)) = part(&outside.event) else { return Ok(()) };
    let room = outside.room.clone();
    node.store
        .write(move |tx| {
            let number = outside.room.number();
            if ROOMS.get(tx, &number)?.is_some_and(|row| row.0.joined) {
                return Ok(());
            }
            know_room(tx, &outside.room)?;
            write(tx, number, &user, now, &outside)
        })
        .await
        .map_err(|error: StoreError| error)?;
    drop(room);
    Ok(())
}

fn part(event: &Event) -> Option<(String, u8)> {
    let user = event.member()?.to_string();
    let now = membership::number(event.content_str("membership")?)?;
    Some((user, now))
}

fn know_room(tx: &mut Tx, room: &Room) -> Result<(), StoreError> {
    let known = ROOMS.get(tx, &room.number())?.map(|row| row.0);
    // Nothing of the room is here but what invites say: the latest counts.
    if known.is_none_or(|row| row.changes == 0 && row.version != room.version().as_str()) {
        let row = RoomRow {
            room_id: room.id().to_string(),
            version: room.version().to_string(),
            joined: false,
            state: 0,
            depth: 0,
            changes: 0,
            begin: 0,
            completed: 0,
        };
        ROOM_IDS.put(tx, &row.room_id.clone(), &room.number())?;
        ROOMS.put(tx, &room.number(), &Json(row))?;
    }
    Ok(())
}

fn write(tx: &mut Tx, room: u64, user: &str, now: u8, outside: &Outside) -> Result<(), StoreError> {
    let key = (user.to_owned(), room);
    let old = USER_ROOMS.get(tx, &key)?.map(|row| row.0);
    let pdu: Value = Value::Object(plain_object(outside.event.text()).unwrap_or_default());
    if old.as_ref().is_some_and(|old| old.pdu.as_ref() == Some(&pdu) && old.membership == now) {
        return Ok(());
    }
    if let Some(old) = &old {
        MEMBERS.delete(tx, &(room, old.membership, user.to_owned()))?;
    }
    MEMBERS.put(tx, &(room, now, user.to_owned()), &0)?;
    let row = UserRoomRow {
        membership: now,
        event: 0,
        position: tx.next_position(),
        joined_at: old.as_ref().map_or(0, |old| old.joined_at),
        sender: outside.event.sender().to_string(),
        stripped: outside.stripped.clone(),
        pdu: Some(pdu),
        forgotten: false,
    };
    USER_ROOMS.put(tx, &key, &Json(row))?;
    // The room too: a sync looks at the rooms in which something happened.
    tx.touch(Touched::Room(room));
    tx.touch(Touched::User(user.to_owned()));
    Ok(())
}

/// Invites into rooms unknown here that one user may hold: in all, and by users of one server.
const MOST_INVITES: usize = 1_000;
const MOST_INVITES_OF_A_SERVER: usize = 50;

/// Refuses an invite by a user of `server` to `user`, who holds too many already.
///
/// # Errors
/// 429 `M_LIMIT_EXCEEDED`, or the store's.
pub fn check_room_for_invite(snapshot: &dyn Read, user: &UserId, server: &ServerName) -> Answer<()> {
    let (mut all, mut of_server) = (0, 0);
    for row in USER_ROOMS.prefix(snapshot, &user.to_string())? {
        let (_, Json(part)) = row?;
        if part.membership == membership::INVITE && part.event == 0 {
            all += 1;
            of_server += usize::from(part.sender.split_once(':').is_some_and(|(_, of)| of == server.as_str()));
        }
    }
    if all >= MOST_INVITES || of_server >= MOST_INVITES_OF_A_SERVER {
        return Err(MatrixError::limit_exceeded(3_600_000));
    }
    Ok(())
}

/// What is known of a user's invite or knock in a room that this node is not in.
///
/// # Errors
/// The store's.
pub fn pending(snapshot: &dyn Read, user: &UserId, room_id: &str) -> Result<Option<Pending>, StoreError> {
    let Some(number) = read::room_number(snapshot, room_id)? else { return Ok(None) };
    let Some(row) = read::room(snapshot, number)? else { return Ok(None) };
    let Some(part) = read::user_room(snapshot, user.as_str(), number)? else { return Ok(None) };
    Ok(Some(Pending { joined: row.joined, version: RoomVersionId::try_from(row.version).ok(), part }))
}

/// See [`pending`].
#[derive(Debug, Clone)]
pub struct Pending {
    /// Whether this node is in the room.
    pub joined: bool,
    /// The room's version.
    pub version: Option<RoomVersionId>,
    /// The user's part.
    pub part: UserRoomRow,
}
