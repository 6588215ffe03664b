//! What a service is told in one transaction: the events of a stretch of the stream that concern it, and what passes.

use std::collections::BTreeMap;

use kith_room::receive::event_id_of;
use kith_store::{
    Read, StoreError,
    tables::{
        directory::aliases_of,
        e2ee::TO_DEVICE,
        rooms::{MEMBERS, ROOMS, STREAM, UserRoomRow, membership},
    },
};
use ruma::{OwnedUserId, RoomVersionId, UserId, api::client::filter::Filter};
use serde_json::{Map, Value, json};

use super::{Service, devices::Devices};
use crate::{
    Node,
    ephemeral::{presence, receipts, typing},
    http::Answer,
    rooms::{
        DUMMY_EVENT,
        client_event::{Form, Showing, Viewer},
        read::{self, StoredEvent},
        visibility::Eyes,
    },
    sync::present,
};

/// Events of one transaction, and about how many bytes of them.
const MOST_EVENTS: usize = 100;
const MOST_BYTES: usize = 4 << 20;
/// Rows that are looked at for one transaction.
const MOST_ROWS: usize = 2_000;
/// Messages to devices of one transaction.
const MOST_MAIL: usize = 100;

/// A transaction.
#[derive(Debug, Default)]
pub(super) struct Built {
    /// The stream position that it reaches to.
    pub(super) upto: u64,
    events: Vec<Value>,
    ephemeral: Vec<Value>,
    to_device: Vec<Value>,
    /// For a service that encrypts without syncing.
    pub(super) devices: Devices,
    /// The last message of each device that goes along.
    pub(super) mail: BTreeMap<(String, String), u64>,
    /// Whose mail was given in full.
    pub(super) served: Vec<String>,
}

impl Built {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.ephemeral.is_empty() && self.to_device.is_empty() && self.devices.is_still()
    }

    pub(super) fn body(&self) -> Value {
        let mut body = Map::new();
        body.insert("events".to_owned(), json!(self.events));
        if !self.ephemeral.is_empty() {
            body.insert("ephemeral".to_owned(), json!(self.ephemeral));
        }
        if !self.to_device.is_empty() {
            body.insert("de.sorunome.msc2409.to_device".to_owned(), json!(self.to_device));
        }
        self.devices.write(&mut body);
        Value::Object(body)
    }
}

/// Something at a position of the stream.
enum Item {
    Event(u64),
    /// An invite into a room that this node is not in.
    Invite(UserRoomRow),
}

/// What concerns the service after position `from` and up to `upto`, or less if that is much.
pub(super) fn events(node: &Node, read: &dyn Read, service: &Service, from: u64, upto: u64) -> Answer<Built> {
    let rooms = match node.activity.since(from) {
        Some(rooms) => rooms,
        None => ROOMS.range(read, ..)?.map(|row| row.map(|(room, _)| room)).collect::<Result<_, StoreError>>()?,
    };
    let mut wanted = BTreeMap::new();
    let mut items = BTreeMap::new();
    for room in rooms {
        let Some(row) = read::room(read, room)? else { continue };
        for row in STREAM.range(read, (room, from.saturating_add(1))..=(room, upto))?.take(MOST_ROWS) {
            let ((_, position), number) = row?;
            items.insert(position, (room, Item::Event(number)));
            if items.len() > MOST_ROWS && items.pop_last().is_some_and(|(last, _)| last == position) {
                break;
            }
        }
        if !row.joined {
            for part in invited(read, service, room)? {
                if part.pdu.is_some() && part.position > from && part.position <= upto {
                    items.insert(part.position, (room, Item::Invite(part)));
                }
            }
        }
        wanted.insert(room, row.room_id);
    }
    let mut built = Built { upto, ..Built::default() };
    let mut cut = (items.len() >= MOST_ROWS).then(|| items.last_key_value().map(|(position, _)| *position)).flatten();
    let viewer = Viewer { user_id: service.sender.to_string(), device_id: None, now: node.clock.now_ms() };
    let mut known: BTreeMap<u64, bool> = BTreeMap::new();
    let mut bytes = 0;
    for (position, (room, item)) in items {
        let Some(room_id) = wanted.get(&room) else { continue };
        let shown = match item {
            Item::Event(number) => {
                let Some(event) = read::event(read, number)?.filter(|event| event.kind() != DUMMY_EVENT) else {
                    continue;
                };
                let is_wanted = match known.get(&room) {
                    Some(is_wanted) => *is_wanted,
                    None => *known.entry(room).or_insert(concerns(service, read, room, room_id)?),
                };
                if !is_wanted && !is_about_user(service, &event) {
                    continue;
                }
                let eyes = Eyes::new(read, room, service.sender.as_str())?;
                let form = Form { room_id: Some(room_id), relations: false };
                Some(Value::Object(Showing::new(read, &eyes, &viewer, form).event(&event)?))
            }
            Item::Invite(part) => invite(read, room, room_id, &part)?,
        };
        if let Some(shown) = shown {
            bytes += shown.to_string().len();
            built.events.push(shown);
            if built.events.len() >= MOST_EVENTS || bytes >= MOST_BYTES {
                cut = Some(position);
                break;
            }
        }
    }
    built.upto = cut.unwrap_or(upto);
    if service.receive_ephemeral {
        for (room, room_id) in &wanted {
            let receipts = receipts::contents(read, *room, "", from, built.upto)?;
            if receipts.events.is_empty() || !concerns(service, read, *room, room_id)? {
                continue;
            }
            let event = |content| json!({ "type": "m.receipt", "room_id": room_id, "content": content });
            built.ephemeral.extend(receipts.events.into_iter().map(event));
        }
    }
    Ok(built)
}

/// Adds who types and who is there since `serial`: known to this run of the node only.
pub(super) fn add_passing(
    node: &Node,
    read: &dyn Read,
    service: &Service,
    serial: u64,
    built: &mut Built,
) -> Answer<()> {
    for (room, users) in typing::changed_since(node, serial) {
        let Some(row) = read::room(read, room)? else { continue };
        if concerns(service, read, room, &row.room_id)? {
            let content = json!({ "user_ids": users });
            built.ephemeral.push(json!({ "type": "m.typing", "room_id": row.room_id, "content": content }));
        }
    }
    let seen = presence::changed_since(node, read, &service.sender, serial)?;
    for event in present::events(seen, node.clock.monotonic(), &Filter::default()) {
        built.ephemeral.push(serde_json::from_str(event.json().get()).unwrap_or_default());
    }
    Ok(())
}

/// Adds what was sent to the devices of these users, up to the position that the transaction reaches to.
pub(super) fn add_mail(read: &dyn Read, users: &[String], built: &mut Built) -> Result<(), StoreError> {
    for user in users {
        let mut is_whole = true;
        for row in TO_DEVICE.prefix(read, user)? {
            if built.to_device.len() >= MOST_MAIL {
                return Ok(());
            }
            let ((_, device, position), message) = row?;
            if position > built.upto {
                // It came just now, and goes with the next.
                is_whole = false;
                continue;
            }
            let Ok(Value::Object(mut event)) = serde_json::from_str(&message.event) else { continue };
            event.insert("to_user_id".to_owned(), json!(user));
            event.insert("to_device_id".to_owned(), json!(device));
            built.to_device.push(Value::Object(event));
            built.mail.insert((user.clone(), device), position);
        }
        if is_whole {
            built.served.push(user.clone());
        }
    }
    Ok(())
}

/// Whether a service is told of all that happens in a room.
fn concerns(service: &Service, read: &dyn Read, room: u64, room_id: &str) -> Result<bool, StoreError> {
    if service.has_room(room_id) || aliases_of(read, room_id)?.iter().any(|alias| service.has_alias(alias)) {
        return Ok(true);
    }
    let members = read::local_members(read, room)?;
    Ok(members.iter().any(|user| <&UserId>::try_from(user.as_str()).is_ok_and(|user| service.has_user(user))))
}

/// Whether an event changes the membership of a user of the service's.
fn is_about_user(service: &Service, event: &StoredEvent) -> bool {
    event.kind() == "m.room.member"
        && event.state_key().and_then(|key| <&UserId>::try_from(key).ok()).is_some_and(|user| service.has_user(user))
}

/// The parts in a room of those users of the service's that are invited to it.
fn invited(read: &dyn Read, service: &Service, room: u64) -> Result<Vec<UserRoomRow>, StoreError> {
    let mut invited = Vec::new();
    for row in MEMBERS.prefix(read, &(room, membership::INVITE))? {
        let ((_, _, user), _) = row?;
        if OwnedUserId::try_from(user.as_str()).is_ok_and(|user| service.has_user(&user))
            && let Some(part) = read::user_room(read, &user, room)?
        {
            invited.push(part);
        }
    }
    Ok(invited)
}

/// An invite into a room that this node is not in, as clients see events.
fn invite(read: &dyn Read, room: u64, room_id: &str, part: &UserRoomRow) -> Answer<Option<Value>> {
    let (Some(pdu), Some(row)) = (&part.pdu, read::room(read, room)?) else { return Ok(None) };
    let Ok(version) = RoomVersionId::try_from(row.version) else { return Ok(None) };
    let Ok(event_id) = event_id_of(&pdu.to_string(), &version) else { return Ok(None) };
    let mut event = json!({ "event_id": event_id, "room_id": room_id });
    for field in ["type", "sender", "state_key", "origin_server_ts", "content"] {
        event[field] = pdu.get(field).cloned().unwrap_or_default();
    }
    event["unsigned"] = json!({ "invite_room_state": part.stripped });
    Ok(Some(event))
}
