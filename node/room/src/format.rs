//! Room versions, and the first check on receipt: is this an event at all?
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu>, step 1, with the size limits of
//! <https://spec.matrix.org/v1.19/client-server-api/#size-limits>.

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, Int, RoomId, RoomVersionId, UserId,
    room_version_rules::{EventIdFormatVersion, EventsReferenceFormatVersion, RoomVersionRules},
};

use crate::document::Document;

/// Bytes that a complete event may have as canonical JSON, signatures included.
pub const MAX_EVENT_BYTES: usize = 65_536;
/// Bytes that `sender`, `room_id`, `type`, `state_key` and IDs of events may have.
pub const MAX_FIELD_BYTES: usize = 255;
/// How many events one event may follow.
pub const MAX_PREV_EVENTS: usize = 20;
/// How many auth events one event may cite.
pub const MAX_AUTH_EVENTS: usize = 10;

/// The rules of a room version, or `None` for a version that this engine does not know.
pub fn rules(version: &RoomVersionId) -> Option<RoomVersionRules> {
    version.rules()
}

/// Checks form and limits of an event without its `unsigned`; `size` is the length of its text.
///
/// # Errors
///
/// What is wrong, for the log and for the sender. Such an event is dropped.
pub fn check_format(document: &Document, size: usize, rules: &RoomVersionRules) -> Result<(), String> {
    let event = document.object();
    if size > MAX_EVENT_BYTES {
        return Err(format!("the event has {size} bytes, more than {MAX_EVENT_BYTES}"));
    }
    let kind = string(event, "type")?.ok_or_else(|| missing("type"))?;
    let sender = string(event, "sender")?.ok_or_else(|| missing("sender"))?;
    <&UserId>::try_from(sender).map_err(|error| format!("invalid `sender`: {error}"))?;
    string(event, "state_key")?;
    let event_id = string(event, "event_id")?;
    let pairs = rules.events_reference_format == EventsReferenceFormatVersion::V1;
    if rules.event_format.require_event_id && !event_id.is_some_and(|id| is_event_id(id, rules)) {
        return Err("`event_id` is no event ID with a server name".to_owned());
    }

    let room_id = string(event, "room_id")?;
    if room_id.is_none() && (kind != "m.room.create" || rules.event_format.require_room_create_room_id) {
        return Err(missing("room_id"));
    }
    if let Some(room_id) = room_id {
        <&RoomId>::try_from(room_id).map_err(|error| format!("invalid `room_id`: {error}"))?;
    }

    let prev_events = references(event, "prev_events", MAX_PREV_EVENTS, rules)?;
    let auth_events = references(event, "auth_events", MAX_AUTH_EVENTS, rules)?;
    // From version 3 on an ID is a hash of this, so nobody can make such an event.
    if pairs && prev_events.iter().chain(&auth_events).any(|cited| Some(*cited) == event_id) {
        return Err("the event is its own predecessor".to_owned());
    }
    if let Some(room_id) = room_id
        && !rules.event_format.allow_room_create_in_auth_events
        && auth_events.iter().any(|id| id.get(1..) == room_id.get(1..))
    {
        return Err("`auth_events` must not contain the create event".to_owned());
    }

    for name in ["depth", "origin_server_ts"] {
        // Before version 6 these go up to 2^63 - 1, and may not be floats either.
        let fits = |odd: &str| odd.parse::<i64>().is_ok();
        match event.get(name) {
            Some(CanonicalJsonValue::Integer(value)) if *value >= Int::from(0) => {
                if !document.odd_number(name).is_none_or(fits) {
                    return Err(format!("`{name}` is not an integer, or too great"));
                }
            }
            Some(_) => return Err(format!("`{name}` is not an integer of at least 0")),
            None => return Err(missing(name)),
        }
    }
    for name in ["content", "hashes", "signatures"] {
        match event.get(name) {
            Some(CanonicalJsonValue::Object(_)) => {}
            Some(_) => return Err(format!("`{name}` is not an object")),
            None => return Err(missing(name)),
        }
    }
    Ok(())
}

fn missing(name: &str) -> String {
    format!("missing `{name}`")
}

fn string<'a>(event: &'a CanonicalJsonObject, name: &str) -> Result<Option<&'a str>, String> {
    match event.get(name) {
        None => Ok(None),
        Some(CanonicalJsonValue::String(value)) if value.len() <= MAX_FIELD_BYTES => Ok(Some(value)),
        Some(CanonicalJsonValue::String(_)) => Err(format!("`{name}` is longer than {MAX_FIELD_BYTES} bytes")),
        Some(_) => Err(format!("`{name}` is not a string")),
    }
}

/// Whether this is an event ID of such a room: in versions 1 and 2 they name a server.
fn is_event_id(id: &str, rules: &RoomVersionRules) -> bool {
    id.len() <= MAX_FIELD_BYTES
        && <&EventId>::try_from(id)
            .is_ok_and(|id| rules.event_id_format != EventIdFormatVersion::V1 || id.server_name().is_some())
}

fn references<'a>(
    event: &'a CanonicalJsonObject,
    name: &str,
    most: usize,
    rules: &RoomVersionRules,
) -> Result<Vec<&'a str>, String> {
    let list = match event.get(name) {
        Some(CanonicalJsonValue::Array(list)) => list,
        Some(_) => return Err(format!("`{name}` is not an array")),
        None => return Err(missing(name)),
    };
    if list.len() > most {
        return Err(format!("`{name}` has more than {most} entries"));
    }
    let pairs = rules.events_reference_format == EventsReferenceFormatVersion::V1;
    let id_of = |entry: &'a CanonicalJsonValue| match entry {
        CanonicalJsonValue::String(id) if !pairs => Some(id.as_str()),
        // The hash is not looked at: nothing rests on it.
        CanonicalJsonValue::Array(pair) if pairs => match pair.as_slice() {
            [CanonicalJsonValue::String(id), CanonicalJsonValue::Object(_)] => Some(id.as_str()),
            _ => None,
        },
        _ => None,
    };
    list.iter()
        .map(|entry| {
            id_of(entry)
                .filter(|id| is_event_id(id, rules))
                .ok_or_else(|| format!("`{name}` contains something that does not cite an event"))
        })
        .collect()
}
