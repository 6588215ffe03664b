//! Rooms: events, their order, the state they leave, who is in them, and what other servers still have to be sent.
//!
//! - Rooms and events have numbers, given once. An event's number only says in which order it was stored; because an
//!   event is stored after its auth events, numbers order the auth graph.
//! - [`TIMELINE`] is the room's history by depth, for scrolling; [`STREAM`] is the order in which events came to be
//!   shown, for sync. Outliers, rejected and soft-failed events are in neither.
//! - Past states are skip deltas ([`STATES`]): node `h` of a chain holds the changes since node `h & (h - 1)`, so any
//!   state is at most `log2 h` rows away from the chain's root.

use crate::{Corrupt, Json, Table, Value};

/// Room ID to room number.
pub const ROOM_IDS: Table<String, u64> = Table::new("room_ids");
/// Room number to what is known of the room as a whole.
pub const ROOMS: Table<u64, Json<RoomRow>> = Table::new("rooms");
/// Event ID to event number: the only table with random keys.
pub const EVENT_IDS: Table<String, u64> = Table::new("event_ids");
/// The events themselves, by number.
pub const EVENTS: Table<u64, EventRow> = Table::new("events");
/// `(room, event number)` of each forward extremity.
pub const EXTREMITIES: Table<(u64, u64), ()> = Table::new("extremities");
/// `(room, depth, event number)` of each event of the visible history.
pub const TIMELINE: Table<(u64, u64, u64), ()> = Table::new("timeline");
/// `(room, stream position)` to event number.
pub const STREAM: Table<(u64, u64), u64> = Table::new("stream");
/// `(room, stream position)` to event number of each event of [`STREAM`] that this server made: what other servers are sent.
/// Between two of these there may be very many of others.
pub const OWN_STREAM: Table<(u64, u64), u64> = Table::new("own_stream");
/// `(room, depth, event ID)` of prev events that are not here: where history can be backfilled from. The value is the number of the event that cites it.
pub const GAPS: Table<(u64, u64, String), u64> = Table::new("gaps");
/// `(room, event ID, depth)` of each of [`GAPS`], to find the gaps that an event closes.
pub const GAPS_BY_EVENT: Table<(u64, String, u64), ()> = Table::new("gaps_by_event");
/// `(room, type, state key)` to the event number of the current state.
pub const CURRENT_STATE: Table<(u64, String, String), u64> = Table::new("current_state");
/// State number to its node of a delta chain.
pub const STATES: Table<u64, StateRow> = Table::new("states");
/// `(type, state key)` to the short number it has in state rows.
pub const STATE_KEYS: Table<(String, String), u64> = Table::new("state_keys");
/// The inverse of [`STATE_KEYS`].
pub const STATE_KEY_NAMES: Table<u64, (String, String)> = Table::new("state_key_names");
/// `(room, stream position)` to the number of the room's current state from that position on: the state at any sync token.
pub const STATE_STREAM: Table<(u64, u64), u64> = Table::new("state_stream");
/// `(room, membership, user)` to the number of the member event; memberships as in [`membership`].
pub const MEMBERS: Table<(u64, u8, String), u64> = Table::new("members");
/// `(room, user)` for each joined user of this node: a room may have many members, but few of them are here.
pub const LOCAL_MEMBERS: Table<(u64, String), ()> = Table::new("local_members");
/// `(user, room)` to that user's part in the room: for users of this node, and for remote ones that share a room with them.
pub const USER_ROOMS: Table<(String, u64), Json<UserRoomRow>> = Table::new("user_rooms");
/// `(room, server)` to the number of its joined users.
pub const ROOM_SERVERS: Table<(u64, String), u64> = Table::new("room_servers");
/// Room number of a room that was joined without its members, to what is known of them instead. Until they have come, each of
/// the servers counts for one joined user in [`ROOM_SERVERS`].
pub const PARTIAL: Table<u64, Json<PartialRow>> = Table::new("partial");
/// `(room, count)` to `(event number, how it was placed)` of what was judged by a partial state, in the order in which it came: all
/// of it is judged anew when the members have come, and then the rows go.
pub const PARTIAL_EVENTS: Table<(u64, u64), (u64, u64)> = Table::new("partial_events");
/// `(server, room)` to `(position up to which it was sent our events, position of the latest event it should get)`.
pub const OUTGOING: Table<(String, u64), (u64, u64)> = Table::new("outgoing");
/// `(room, event ID)` of received events that wait for their missing prev or auth events, with the origin and the PDU.
pub const PARKED: Table<(u64, String), Json<ParkedRow>> = Table::new("parked");
/// `(room, origin, event ID)` of each of [`PARKED`] to since when it waits, so that counting an origin's share reads no PDU.
pub const PARKED_OF: Table<(u64, String, String), u64> = Table::new("parked_of");
/// `(room, target event ID, relation type, event number)` of events that relate to another: edits, reactions, threads, references.
pub const RELATIONS: Table<(u64, String, String, u64), String> = Table::new("relations");
/// Event number of a redacted event to the event that redacted it.
pub const REDACTED_BY: Table<u64, String> = Table::new("redacted_by");
/// Event number of an event that came with another content than the one its sender hashed, so that only what all redactions leave
/// could be kept. It is mended when a copy comes whose content is right.
pub const STRIPPED: Table<u64, ()> = Table::new("stripped");
/// Event number of a message whose room wanted it kept for some time only, which is over: only what all redactions leave is kept, and no
/// client is shown it. Bound: one row per event.
pub const EXPIRED: Table<u64, ()> = Table::new("expired");
/// `(room, target event ID, redaction's event ID)` of redactions that wait for their target to arrive: one for each such event.
pub const WAITING_REDACTIONS: Table<(u64, String, String), Json<WaitingRedaction>> = Table::new("waiting_redactions");
/// `(user, device, transaction ID, what the request was about)` to the event a client's send made, so that a repeated request
/// sends nothing twice. The same ID may be used for another room, event type or redacted event.
/// Kept for the latest 100,000 events.
pub const TRANSACTIONS: Table<(String, String, String, String), String> = Table::new("client_transactions");
/// Event number to the `(device, transaction ID)` it was sent with, for `unsigned.transaction_id`.
/// Kept for the latest 100,000 events.
pub const EVENT_TRANSACTIONS: Table<u64, (String, String)> = Table::new("event_transactions");

/// Memberships as they stand in keys.
pub mod membership {
    /// Joined.
    pub const JOIN: u8 = 1;
    /// Invited.
    pub const INVITE: u8 = 2;
    /// Knocking.
    pub const KNOCK: u8 = 3;
    /// Left, kicked or an invite declined.
    pub const LEAVE: u8 = 4;
    /// Banned.
    pub const BAN: u8 = 5;

    /// The number of a membership's name, if it is one of the specification's.
    pub fn number(name: &str) -> Option<u8> {
        Some(match name {
            "join" => JOIN,
            "invite" => INVITE,
            "knock" => KNOCK,
            "leave" => LEAVE,
            "ban" => BAN,
            _ => return None,
        })
    }

    /// The specification's name of a membership number.
    pub fn name(number: u8) -> &'static str {
        match number {
            JOIN => "join",
            INVITE => "invite",
            KNOCK => "knock",
            BAN => "ban",
            _ => "leave",
        }
    }
}

/// What is known of a room as a whole.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RoomRow {
    /// The room ID.
    pub room_id: String,
    /// The room version.
    pub version: String,
    /// Whether this node takes part: false for rooms known by an invite or knock only, and for rooms all our users left.
    pub joined: bool,
    /// The state number of the current state; 0 when there is none.
    pub state: u64,
    /// The greatest depth of an event.
    pub depth: u64,
    /// Counts the changes of the head; a change made against another count is refused.
    pub changes: u64,
    /// The depth just below which this node came to the room, the last time. What lies at it and below is history and not missing.
    #[serde(default)]
    pub begin: u64,
    /// The stream position at which the members of a room that was joined without them were here; 0 if they came with it.
    #[serde(default)]
    pub completed: u64,
}

/// A user's part in a room.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct UserRoomRow {
    /// As in [`membership`].
    pub membership: u8,
    /// Number of the member event; 0 for an invite or knock into a room that this node is not in.
    pub event: u64,
    /// Stream position of the latest change of membership.
    pub position: u64,
    /// Stream position of the join that began the present stay, or of the last one; 0 when never joined.
    pub joined_at: u64,
    /// Who sent the member event.
    pub sender: String,
    /// Stripped state of an invite or knock, as JSON objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stripped: Vec<serde_json::Value>,
    /// The invite's or knock's own event (PDU), kept when the room is not known here otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pdu: Option<serde_json::Value>,
    /// Whether the user forgot the room.
    #[serde(default)]
    pub forgotten: bool,
}

/// A room that was joined without its members.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PartialRow {
    /// The number of the join event.
    pub join: u64,
    /// The server that let this node in.
    pub through: String,
    /// The servers that were in the room before the join.
    pub servers: Vec<String>,
    /// The room was left before its members came, and nobody waits for them any more.
    #[serde(default)]
    pub left: bool,
}

/// A redaction whose target is not here yet.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct WaitingRedaction {
    /// The redaction event.
    pub redaction: String,
    /// Who sent it.
    pub author: String,
    /// Whether its author may redact what others sent.
    pub powerful: bool,
}

/// An event that waits for others.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ParkedRow {
    /// The server that sent it.
    pub origin: String,
    /// The PDU; without its content if that was not the one its sender hashed.
    pub pdu: String,
    /// Whether its content is left out for that.
    #[serde(default)]
    pub stripped: bool,
    /// When it was parked, unix milliseconds.
    pub since: u64,
    /// How often its missing events were asked for.
    pub tries: u32,
}

/// What became of an event on receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum EventStatus {
    /// Passed every check; in the timeline unless it is an outlier.
    Accepted = 0,
    /// Passed against its own past, not against the current state: kept, cited by others, never shown.
    SoftFailed = 1,
    /// Failed authorization: kept, so that what cites it is judged alike everywhere.
    Rejected = 2,
    /// Accepted, but known only as state or auth event of others: its own past is unknown.
    Outlier = 3,
}

/// An event as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// The room's number.
    pub room: u64,
    /// What became of it.
    pub status: EventStatus,
    /// Whether this node sends it to the other servers of the room: events of our users, and joins, knocks and leaves that we let in.
    pub ours: bool,
    /// Its depth, clamped to 2^53.
    pub depth: u64,
    /// Its stream position; 0 when it has none (backfilled, outlier, rejected, soft-failed).
    pub position: u64,
    /// State number before it; 0 when unknown (outliers).
    pub state_before: u64,
    /// State number after it; equal to `state_before` unless it is an accepted state event.
    pub state_after: u64,
    /// Numbers of its auth events.
    pub auth: Vec<u64>,
    /// Its ID.
    pub event_id: String,
    /// The PDU as it goes over federation, canonical JSON.
    pub json: String,
}

impl Value for EventRow {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.event_id.len() + self.json.len() + 8 * self.auth.len());
        out.push(1);
        out.push(self.status as u8 | u8::from(self.ours) << 7);
        for number in [self.room, self.depth, self.position, self.state_before, self.state_after] {
            put_varint(&mut out, number);
        }
        put_varint(&mut out, self.auth.len() as u64);
        for number in &self.auth {
            put_varint(&mut out, *number);
        }
        put_varint(&mut out, self.event_id.len() as u64);
        out.extend_from_slice(self.event_id.as_bytes());
        out.extend_from_slice(self.json.as_bytes());
        out
    }

    fn decode(mut input: &[u8]) -> Result<Self, Corrupt> {
        let [1, status, rest @ ..] = input else { return Err(Corrupt::new("event row: unknown form")) };
        let ours = status & 0x80 != 0;
        let status = match status & 0x7f {
            0 => EventStatus::Accepted,
            1 => EventStatus::SoftFailed,
            2 => EventStatus::Rejected,
            3 => EventStatus::Outlier,
            _ => return Err(Corrupt::new("event row: unknown status")),
        };
        input = rest;
        let mut next = || take_varint(&mut input);
        let (room, depth, position, state_before, state_after) = (next()?, next()?, next()?, next()?, next()?);
        let count = next()?;
        let auth = (0..count).map(|_| next()).collect::<Result<_, _>>()?;
        let length = usize::try_from(next()?).map_err(|_| Corrupt::new("event row: length"))?;
        let (id, json) = input.split_at_checked(length).ok_or(Corrupt::new("event row: cut off"))?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| Corrupt::new("event row: not UTF-8"));
        Ok(Self {
            room,
            status,
            ours,
            depth,
            position,
            state_before,
            state_after,
            auth,
            event_id: text(id)?,
            json: text(json)?,
        })
    }
}

/// One node of a chain of states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateRow {
    /// The node that this one is a delta to; 0 for a root, whose changes are the whole state.
    pub base: u64,
    /// The node this one was made from; its state differs by one step. 0 for a root.
    pub parent: u64,
    /// How many steps it is away from the root.
    pub height: u64,
    /// `(state key number, event number)` in rising order of the key; event number 0: the key is not in the state.
    pub changes: Vec<(u64, u64)>,
}

impl Value for StateRow {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + 8 * self.changes.len());
        out.push(1);
        for number in [self.base, self.parent, self.height, self.changes.len() as u64] {
            put_varint(&mut out, number);
        }
        let mut last = 0;
        for (key, event) in &self.changes {
            put_varint(&mut out, key.wrapping_sub(last));
            put_varint(&mut out, *event);
            last = *key;
        }
        out
    }

    fn decode(mut input: &[u8]) -> Result<Self, Corrupt> {
        let [1, rest @ ..] = input else { return Err(Corrupt::new("state row: unknown form")) };
        input = rest;
        let mut next = || take_varint(&mut input);
        let (base, parent, height, count) = (next()?, next()?, next()?, next()?);
        let mut changes = Vec::new();
        let mut key = 0u64;
        for _ in 0..count {
            key = key.wrapping_add(next()?);
            changes.push((key, next()?));
        }
        Ok(Self { base, parent, height, changes })
    }
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_varint(input: &mut &[u8]) -> Result<u64, Corrupt> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = input.split_first().ok_or(Corrupt::new("number: cut off"))?;
        *input = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Corrupt::new("number: too long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_row_reads_back_as_written_and_a_cut_one_is_refused() {
        let row = EventRow {
            room: 3,
            status: EventStatus::SoftFailed,
            ours: true,
            depth: 1 << 53,
            position: 0,
            state_before: 300,
            state_after: 301,
            auth: vec![1, 2, 70_000],
            event_id: "$abc".to_owned(),
            json: "{\"a\":1}".to_owned(),
        };
        let bytes = row.encode();
        assert_eq!(EventRow::decode(&bytes).unwrap(), row);
        for length in 0..bytes.len() - row.json.len() {
            assert!(EventRow::decode(&bytes[..length]).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn a_state_row_reads_back_as_written() {
        let row = StateRow { base: 4, parent: 5, height: 6, changes: vec![(1, 10), (200, 0), (u64::MAX, 3)] };
        assert_eq!(StateRow::decode(&row.encode()).unwrap(), row);
    }
}
