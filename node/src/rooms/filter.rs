//! Whether an event passes a client's filter (client-server specification, "Filtering").

use ruma::api::client::filter::{RoomEventFilter, UrlFilter};

use super::read::StoredEvent;

/// Whether `event`, of the room with this ID, passes. The filter's `limit` is not looked at.
pub fn passes(filter: &RoomEventFilter, room_id: &str, event: &StoredEvent) -> bool {
    let kind = event.kind();
    let sender = event.sender();
    if filter.not_types.iter().any(|pattern| matches(pattern, kind))
        || filter.types.as_ref().is_some_and(|types| !types.iter().any(|pattern| matches(pattern, kind)))
        || filter.not_senders.iter().any(|user| user == sender)
        || filter.senders.as_ref().is_some_and(|senders| !senders.iter().any(|user| user == sender))
        || filter.not_rooms.iter().any(|room| room == room_id)
        || filter.rooms.as_ref().is_some_and(|rooms| !rooms.iter().any(|room| room == room_id))
    {
        return false;
    }
    match filter.url_filter {
        None => true,
        Some(wanted) => {
            event.content().get("url").is_some_and(serde_json::Value::is_string) == (wanted == UrlFilter::EventsWithUrl)
        }
    }
}

/// Whether a filter wants events of a type, whoever sends them.
pub fn wants_type(filter: &RoomEventFilter, kind: &str) -> bool {
    !filter.not_types.iter().any(|pattern| matches(pattern, kind))
        && filter.types.as_ref().is_none_or(|types| types.iter().any(|pattern| matches(pattern, kind)))
}

/// Whether a type fits a pattern in which `*` stands for any characters.
pub(crate) fn matches(pattern: &str, kind: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == kind };
    let Some(mut left) = kind.strip_prefix(start) else { return false };
    let (middle, end) = rest.rsplit_once('*').map_or(("", rest), |(middle, end)| (middle, end));
    for part in middle.split('*') {
        match left.find(part) {
            Some(at) => left = left.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    left.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_in_a_filters_type_stands_for_any_characters() {
        for (pattern, kind, fits) in [
            ("m.room.message", "m.room.message", true),
            ("m.room.message", "m.room.messages", false),
            ("m.room.*", "m.room.message", true),
            ("m.room.*", "m.roommate", false),
            ("*", "", true),
            ("*.message", "m.room.message", true),
            ("m.*.message", "m.room.message", true),
            ("m.*.message", "m.message", false),
            ("*a*b*", "xxaxxb", true),
            ("*b*a*", "xxaxxb", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches(pattern, kind), fits, "{pattern} and {kind}");
        }
    }
}
