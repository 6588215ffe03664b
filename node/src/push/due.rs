//! What a user's gateways are to be told: the events after a position that the push rules notify of.

use std::collections::BTreeMap;

use kith_room::receive::event_id_of;
use kith_store::{
    Read,
    tables::rooms::{STREAM, UserRoomRow, membership},
};
use ruma::{
    OwnedRoomId, RoomVersionId, UserId,
    push::{Action, PushConditionRoomCtx},
};
use serde_json::{Map, Value};

use crate::{
    Node,
    accounts::invites::Permissions,
    ephemeral::receipts,
    http::Answer,
    rooms::{
        read::{self, StoredEvent},
        visibility::Eyes,
    },
    sync::notifications::{self, Reader},
};

/// The most that one look gives; of more only the latest.
pub(super) const MOST_DUE: usize = 50;
/// Events that one look goes through, the latest: of one room, and in all.
const MOST_OF_A_ROOM: usize = 200;
const MOST_LOOKED_AT: usize = 1_000;

/// An event to tell of.
#[derive(Debug)]
pub(super) struct Due {
    /// The stream position up to which all is told with it.
    pub(super) position: u64,
    pub(super) room: u64,
    pub(super) room_id: OwnedRoomId,
    pub(super) event_id: String,
    pub(super) kind: String,
    pub(super) sender: String,
    pub(super) state_key: Option<String>,
    pub(super) content: Map<String, Value>,
    pub(super) actions: Vec<Action>,
}

/// What is due to a user, in the order of the stream, of what came after position `from` and up to `upto`.
pub(super) fn collect(node: &Node, read: &dyn Read, user: &UserId, from: u64, upto: u64) -> Answer<Vec<Due>> {
    let reader = Reader::new(&node.unread, read, user)?;
    let invites = Permissions::of(read, user)?;
    let mut rows = Vec::new();
    let mut dues = Vec::new();
    for (room, part) in changed_rooms(node, read, user, from)? {
        match part.membership {
            membership::JOIN => {
                let begin = from.max(part.joined_at).saturating_add(1);
                if begin > upto {
                    continue;
                }
                for row in STREAM.range(read, (room, begin)..=(room, upto))?.rev().take(MOST_OF_A_ROOM) {
                    let ((_, position), number) = row?;
                    rows.push((position, number, room));
                }
            }
            membership::INVITE if part.position > from && part.position <= upto && invites.shows(&part.sender) => {
                dues.extend(invite(read, &reader, user, room, &part)?);
            }
            _ => {}
        }
    }
    rows.sort_unstable();
    let mut rooms: BTreeMap<u64, InRoom<'_>> = BTreeMap::new();
    for (position, number, room) in rows.split_off(rows.len().saturating_sub(MOST_LOOKED_AT)) {
        let Some(event) = read::event(read, number)?.filter(|event| event.sender() != user.as_str()) else { continue };
        let seen = match rooms.entry(room) {
            std::collections::btree_map::Entry::Occupied(seen) => seen.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let Some(seen) = InRoom::new(read, user, room)? else { continue };
                entry.insert(seen)
            }
        };
        if notifications::mark(&seen.marks, notifications::thread_of(read, &event)?.as_deref()) >= position {
            continue;
        }
        let actions = reader.actions(&event, &seen.context)?;
        if actions.iter().any(Action::should_notify) && seen.eyes.sees(&event)? {
            dues.push(due(position, room, seen.room_id.clone(), &event, actions));
        }
    }
    dues.sort_by_key(|due| due.position);
    Ok(dues.split_off(dues.len().saturating_sub(MOST_DUE)))
}

fn due(position: u64, room: u64, room_id: OwnedRoomId, event: &StoredEvent, actions: Vec<Action>) -> Due {
    Due {
        position,
        room,
        room_id,
        event_id: event.row.event_id.clone(),
        kind: event.kind().to_owned(),
        sender: event.sender().to_owned(),
        state_key: event.state_key().map(str::to_owned),
        content: event.content().clone(),
        actions,
    }
}

/// What is asked of each event of a room.
struct InRoom<'a> {
    room_id: OwnedRoomId,
    context: PushConditionRoomCtx,
    marks: BTreeMap<String, u64>,
    eyes: Eyes<'a>,
}

impl<'a> InRoom<'a> {
    fn new(read: &'a dyn Read, user: &UserId, room: u64) -> Answer<Option<Self>> {
        let Some(room_id) = room_id(read, room)? else { return Ok(None) };
        Ok(Some(Self {
            context: notifications::room_context(read, user, room, &room_id)?,
            marks: receipts::read_up_to(read, room, user)?,
            eyes: Eyes::new(read, room, user.as_str())?,
            room_id,
        }))
    }
}

fn room_id(read: &dyn Read, room: u64) -> Answer<Option<OwnedRoomId>> {
    Ok(read::room(read, room)?.and_then(|row| OwnedRoomId::try_from(row.room_id).ok()))
}

fn changed_rooms(node: &Node, read: &dyn Read, user: &UserId, from: u64) -> Answer<Vec<(u64, UserRoomRow)>> {
    let Some(changed) = node.activity.since(from) else { return Ok(read::rooms_of(read, user.as_str())?) };
    let mut rooms = Vec::new();
    for room in changed {
        if let Some(part) = read::user_room(read, user.as_str(), room)?.filter(|part| !part.forgotten) {
            rooms.push((room, part));
        }
    }
    Ok(rooms)
}

/// An invite, whether or not this node is in the room.
fn invite(read: &dyn Read, reader: &Reader<'_>, user: &UserId, room: u64, part: &UserRoomRow) -> Answer<Option<Due>> {
    let Some(room_id) = room_id(read, room)? else { return Ok(None) };
    if reader.ignores(&part.sender)? {
        return Ok(None);
    }
    let context = notifications::room_context(read, user, room, &room_id)?;
    let due = match (read::event(read, part.event)?, &part.pdu) {
        (Some(event), _) => {
            let actions = reader.actions(&event, &context)?;
            due(part.position, room, room_id, &event, actions)
        }
        (None, Some(pdu)) => {
            let text = pdu.to_string();
            let version = read::room(read, room)?.and_then(|row| RoomVersionId::try_from(row.version).ok());
            let Some(event_id) = version.and_then(|version| event_id_of(&text, &version).ok()) else { return Ok(None) };
            Due {
                position: part.position,
                room,
                room_id,
                event_id: event_id.to_string(),
                kind: "m.room.member".to_owned(),
                sender: part.sender.clone(),
                state_key: Some(user.to_string()),
                content: pdu.get("content").and_then(Value::as_object).cloned().unwrap_or_default(),
                actions: reader.actions_by_text(&text, &context)?,
            }
        }
        (None, None) => return Ok(None),
    };
    Ok(Some(due).filter(|due| due.actions.iter().any(Action::should_notify)))
}

/// How many messages a user has not read, in all rooms that the user is in.
pub(super) fn badge(node: &Node, read: &dyn Read, user: &UserId) -> Answer<u64> {
    let upto = node.activity.position();
    let reader = Reader::new(&node.unread, read, user)?;
    let mut unread = 0;
    for (room, part) in read::rooms_of(read, user.as_str())? {
        if part.membership == membership::JOIN
            && let Some(room_id) = room_id(read, room)?
        {
            let counts = notifications::count(&node.unread, read, &reader, room, &room_id, upto)?;
            unread += counts.values().map(|count| count.notify).sum::<u64>();
        }
    }
    Ok(unread)
}
