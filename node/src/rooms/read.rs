//! Questions about rooms, answered from a snapshot: no locks, no actor. Everything here reads committed data.

use std::{borrow::Cow, ops::Range, sync::OnceLock};

use kith_room::json;
use kith_store::{
    Corrupt, Read, StoreError,
    tables::rooms::{
        CURRENT_STATE, EVENT_IDS, EVENTS, EventRow, EventStatus, LOCAL_MEMBERS, MEMBERS, ROOM_IDS, ROOM_SERVERS, ROOMS,
        RoomRow, USER_ROOMS, UserRoomRow, membership,
    },
};
use serde_json::{Map, Value, value::RawValue};

use super::states;

/// An event with its row, its PDU parsed as far as is asked for: most of what reads events wants to know who sent what
/// kind, and few look into the content.
#[derive(Debug, Clone)]
pub struct StoredEvent {
    /// Its number.
    pub number: u64,
    /// Its row.
    pub row: EventRow,
    kind: String,
    sender: String,
    state_key: Option<String>,
    timestamp: u64,
    /// Where the content stands in the PDU.
    place: Range<usize>,
    content: OnceLock<Map<String, Value>>,
    pdu: OnceLock<Map<String, Value>>,
}

/// The fields of a PDU that are always wanted.
#[derive(serde::Deserialize)]
struct Fields<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    sender: Cow<'a, str>,
    #[serde(borrow, default)]
    state_key: Option<Cow<'a, str>>,
    origin_server_ts: u64,
    #[serde(borrow)]
    content: &'a RawValue,
}

impl StoredEvent {
    fn new(number: u64, row: EventRow) -> Result<Self, StoreError> {
        let damaged = |cause| StoreError::Corrupt { table: "events", cause: Corrupt::new(cause) };
        // All that is stored has passed the checks of its format.
        let fields: Fields<'_> =
            serde_json::from_str(&row.json).map_err(|_| damaged("a stored event is not the JSON of one"))?;
        let content = fields.content.get();
        let start = (content.as_ptr() as usize).wrapping_sub(row.json.as_ptr() as usize);
        let place = start..start.wrapping_add(content.len());
        if row.json.get(place.clone()) != Some(content) {
            return Err(damaged("the content of a stored event cannot be found"));
        }
        let (kind, sender) = (fields.kind.into_owned(), fields.sender.into_owned());
        let (state_key, timestamp) = (fields.state_key.map(Cow::into_owned), fields.origin_server_ts);
        let (content, pdu) = (OnceLock::new(), OnceLock::new());
        Ok(Self { number, row, kind, sender, state_key, timestamp, place, content, pdu })
    }

    /// The whole PDU.
    pub fn pdu(&self) -> &Map<String, Value> {
        self.pdu.get_or_init(|| json::plain_object(&self.row.json).unwrap_or_default())
    }

    /// The event's type.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Its sender.
    pub fn sender(&self) -> &str {
        &self.sender
    }

    /// Its state key; none for message events.
    pub fn state_key(&self) -> Option<&str> {
        self.state_key.as_deref()
    }

    /// Its content.
    pub fn content(&self) -> &Map<String, Value> {
        self.content.get_or_init(|| json::plain_object(self.content_text()).unwrap_or_default())
    }

    /// Its content as JSON text.
    pub fn content_text(&self) -> &str {
        self.row.json.get(self.place.clone()).unwrap_or("{}")
    }

    /// `origin_server_ts`, unix milliseconds.
    pub fn timestamp(&self) -> u64 {
        self.timestamp
    }

    /// Whether clients may be shown it at all (history visibility apart).
    pub fn visible(&self) -> bool {
        matches!(self.row.status, EventStatus::Accepted | EventStatus::Outlier)
    }
}

/// The number of a room that is known here.
pub fn room_number(read: &dyn Read, room_id: &str) -> Result<Option<u64>, StoreError> {
    ROOM_IDS.get(read, &room_id.to_owned())
}

/// What is known of a room as a whole.
pub fn room(read: &dyn Read, room: u64) -> Result<Option<RoomRow>, StoreError> {
    Ok(ROOMS.get(read, &room)?.map(|row| row.0))
}

/// An event by number.
pub fn event(read: &dyn Read, number: u64) -> Result<Option<StoredEvent>, StoreError> {
    EVENTS.get(read, &number)?.map(|row| StoredEvent::new(number, row)).transpose()
}

/// An event by ID.
pub fn event_by_id(read: &dyn Read, event_id: &str) -> Result<Option<StoredEvent>, StoreError> {
    match EVENT_IDS.get(read, &event_id.to_owned())? {
        Some(number) => event(read, number),
        None => Ok(None),
    }
}

/// The event of the current state for `(kind, key)`.
pub fn state_event(read: &dyn Read, room: u64, kind: &str, key: &str) -> Result<Option<StoredEvent>, StoreError> {
    match CURRENT_STATE.get(read, &(room, kind.to_owned(), key.to_owned()))? {
        Some(number) => event(read, number),
        None => Ok(None),
    }
}

/// All events of the current state.
pub fn current_state(read: &dyn Read, room: u64) -> Result<Vec<StoredEvent>, StoreError> {
    CURRENT_STATE
        .prefix(read, &room)?
        .filter_map(|row| match row {
            Ok((_, number)) => event(read, number).transpose(),
            Err(error) => Some(Err(error)),
        })
        .collect()
}

/// The event that state number `state` has for `(kind, key)`.
pub fn state_event_at(read: &dyn Read, state: u64, kind: &str, key: &str) -> Result<Option<StoredEvent>, StoreError> {
    match states::lookup(read, state, kind, key)? {
        Some(number) => event(read, number),
        None => Ok(None),
    }
}

/// All events of state number `state`.
pub fn state_at(read: &dyn Read, state: u64) -> Result<Vec<StoredEvent>, StoreError> {
    states::whole(read, state)?.into_values().filter_map(|number| event(read, number).transpose()).collect()
}

/// A user's part in a room, forgotten or not.
pub fn user_room(read: &dyn Read, user: &str, room: u64) -> Result<Option<UserRoomRow>, StoreError> {
    Ok(USER_ROOMS.get(read, &(user.to_owned(), room))?.map(|row| row.0))
}

/// Whether the user is joined now.
pub fn is_joined(read: &dyn Read, user: &str, room: u64) -> Result<bool, StoreError> {
    MEMBERS.contains(read, &(room, membership::JOIN, user.to_owned()))
}

/// Rooms in which the user has a part, with it; forgotten ones are left out.
pub fn rooms_of(read: &dyn Read, user: &str) -> Result<Vec<(u64, UserRoomRow)>, StoreError> {
    let mut rooms = Vec::new();
    for row in USER_ROOMS.prefix(read, &user.to_owned())? {
        let ((_, room), part) = row?;
        if !part.0.forgotten {
            rooms.push((room, part.0));
        }
    }
    Ok(rooms)
}

/// Users with a membership (numbers of [`membership`]), in order of their IDs.
pub fn users_with(read: &dyn Read, room: u64, membership: u8) -> Result<Vec<String>, StoreError> {
    MEMBERS.prefix(read, &(room, membership))?.map(|row| row.map(|((_, _, user), _)| user)).collect()
}

/// Joined users of this node, in order of their IDs.
pub fn local_members(read: &dyn Read, room: u64) -> Result<Vec<String>, StoreError> {
    LOCAL_MEMBERS.prefix(read, &room)?.map(|row| row.map(|((_, user), ())| user)).collect()
}

/// How many users are joined.
pub fn joined_count(read: &dyn Read, room: u64) -> Result<u64, StoreError> {
    ROOM_SERVERS.prefix(read, &room)?.map(|row| row.map(|(_, count)| count)).sum()
}

/// Servers with a joined user, our own among them.
pub fn servers(read: &dyn Read, room: u64) -> Result<Vec<String>, StoreError> {
    ROOM_SERVERS.prefix(read, &room)?.map(|row| row.map(|((_, server), _)| server)).collect()
}

/// Whether the room has a name or an alias that is shown in its place.
pub fn has_name(read: &dyn Read, room: u64) -> Result<bool, StoreError> {
    for (kind, field) in [("m.room.name", "name"), ("m.room.canonical_alias", "alias")] {
        let event = state_event(read, room, kind, "")?;
        let text = event.as_ref().and_then(|event| event.content().get(field)).and_then(Value::as_str);
        if text.is_some_and(|text| !text.is_empty()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The members, `except` one, after whom a room without a name is called (client-server specification, "Calculating the display
/// name for a room"): at most five, those who are in it or invited, else those who were.
pub fn heroes(read: &dyn Read, room: u64, except: &str) -> Result<Vec<String>, StoreError> {
    const MOST: usize = 5;
    let mut heroes = Vec::new();
    for part in [membership::JOIN, membership::INVITE, membership::LEAVE, membership::BAN] {
        if part == membership::LEAVE && !heroes.is_empty() {
            break;
        }
        for row in MEMBERS.prefix(read, &(room, part))?.take(MOST + 1) {
            let ((_, _, user), _) = row?;
            if user != except && heroes.len() < MOST {
                heroes.push(user);
            }
        }
    }
    Ok(heroes)
}

/// Whether two users are joined to a common room.
pub fn share_a_room(read: &dyn Read, one: &str, other: &str) -> Result<bool, StoreError> {
    for (room, part) in rooms_of(read, one)? {
        if part.membership == membership::JOIN && is_joined(read, other, room)? {
            return Ok(true);
        }
    }
    Ok(false)
}
