//! Room versions, and the first check on receipt: is this an event at all?
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu>, step 1, with the size limits of
//! <https://spec.matrix.org/v1.19/client-server-api/#size-limits>.

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, Int, RoomId, RoomVersionId, UserId,
    room_version_rules::{EventsReferenceFormatVersion, RoomVersionRules},
};

/// Bytes that a complete event may have as canonical JSON, signatures included.
pub const MAX_EVENT_BYTES: usize = 65_536;
/// Bytes that `sender`, `room_id`, `type`, `state_key` and IDs of events may have.
pub const MAX_FIELD_BYTES: usize = 255;
/// How many events one event may follow.
pub const MAX_PREV_EVENTS: usize = 20;
/// How many auth events one event may cite.
pub const MAX_AUTH_EVENTS: usize = 10;

/// The rules of a room version, or `None` for a version that this engine does not know or does not support (1 and 2).
pub fn rules(version: &RoomVersionId) -> Option<RoomVersionRules> {
    version
        .rules()
        .filter(|rules| rules.events_reference_format != EventsReferenceFormatVersion::V1)
        .filter(|rules| rules.state_res.v2_rules().is_some())
}

/// Checks form and limits of an event without its `unsigned`; `size` is the length of its canonical text.
///
/// # Errors
///
/// What is wrong, for the log and for the sender. Such an event is dropped.
pub fn check_format(event: &CanonicalJsonObject, size: usize, rules: &RoomVersionRules) -> Result<(), String> {
    if size > MAX_EVENT_BYTES {
        return Err(format!("the event has {size} bytes, more than {MAX_EVENT_BYTES}"));
    }
    let kind = string(event, "type")?.ok_or_else(|| missing("type"))?;
    let sender = string(event, "sender")?.ok_or_else(|| missing("sender"))?;
    <&UserId>::try_from(sender).map_err(|error| format!("invalid `sender`: {error}"))?;
    string(event, "state_key")?;
    string(event, "event_id")?;

    let room_id = string(event, "room_id")?;
    if room_id.is_none() && (kind != "m.room.create" || rules.event_format.require_room_create_room_id) {
        return Err(missing("room_id"));
    }
    if let Some(room_id) = room_id {
        <&RoomId>::try_from(room_id).map_err(|error| format!("invalid `room_id`: {error}"))?;
    }

    references(event, "prev_events", MAX_PREV_EVENTS)?;
    let auth_events = references(event, "auth_events", MAX_AUTH_EVENTS)?;
    if let Some(room_id) = room_id
        && !rules.event_format.allow_room_create_in_auth_events
        && auth_events.iter().any(|id| id.get(1..) == room_id.get(1..))
    {
        return Err("`auth_events` must not contain the create event".to_owned());
    }

    for (name, least) in [("depth", 0), ("origin_server_ts", 0)] {
        match event.get(name) {
            Some(CanonicalJsonValue::Integer(value)) if *value >= Int::from(least) => {}
            Some(_) => return Err(format!("`{name}` is not an integer of at least {least}")),
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

fn references<'a>(event: &'a CanonicalJsonObject, name: &str, most: usize) -> Result<Vec<&'a str>, String> {
    let list = match event.get(name) {
        Some(CanonicalJsonValue::Array(list)) => list,
        Some(_) => return Err(format!("`{name}` is not an array")),
        None => return Err(missing(name)),
    };
    if list.len() > most {
        return Err(format!("`{name}` has more than {most} entries"));
    }
    list.iter()
        .map(|entry| match entry {
            CanonicalJsonValue::String(id)
                if id.len() <= MAX_FIELD_BYTES && <&EventId>::try_from(id.as_str()).is_ok() =>
            {
                Ok(id.as_str())
            }
            _ => Err(format!("`{name}` contains something that is no event ID")),
        })
        .collect()
}
