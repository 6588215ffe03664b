//! Redaction: which fields survive, and whether a redaction event has the right to redact.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#redactions>,
//! <https://spec.matrix.org/v1.19/rooms/v11/#redactions>, and for the right to redact
//! <https://spec.matrix.org/v1.19/rooms/v3/#handling-redactions>.

use ruma::{
    CanonicalJsonObject,
    canonical_json::{RedactedBecause, redact_in_place},
    room_version_rules::RoomVersionRules,
};

use crate::{
    document::Document,
    event::{Event, EventError},
    power::PowerLevels,
};

/// The event as it remains once it is redacted; ID and signatures stay valid.
///
/// # Errors
///
/// Never for an event that this crate made or checked.
pub fn redact(event: &Event, rules: &RoomVersionRules) -> Result<Event, EventError> {
    Event::from_checked(redact_text(event.text(), rules)?, event.event_id().to_owned(), rules, event.redacted())
}

/// The same for the text of an event, as [`Event::text`] gave it.
///
/// # Errors
///
/// The text is not that of an event.
pub fn redact_text(text: &str, rules: &RoomVersionRules) -> Result<String, EventError> {
    let mut document = Document::read_lenient(text).map_err(|error| EventError(error.to_string()))?;
    document.redact(rules).map_err(|error| EventError(error.to_string()))?;
    Ok(document.to_text())
}

/// The redacted event as clients see it: with the redaction event (in client format) in `unsigned.redacted_because`.
///
/// # Errors
///
/// Never for an event that this crate made or checked.
pub fn prune_for_client(
    event: CanonicalJsonObject,
    rules: &RoomVersionRules,
    because: CanonicalJsonObject,
) -> Result<CanonicalJsonObject, EventError> {
    let mut event = event;
    let mut unsigned = match event.remove("unsigned") {
        Some(ruma::CanonicalJsonValue::Object(unsigned)) => unsigned,
        _ => CanonicalJsonObject::new(),
    };
    redact_in_place(&mut event, &rules.redaction, Some(RedactedBecause::from_json(because)))
        .map_err(|error| EventError(error.to_string()))?;
    // What `unsigned` may still tell is when and by whose request, not what was said.
    unsigned.retain(|name, _| matches!(name.as_str(), "age" | "membership" | "transaction_id"));
    if let Some(ruma::CanonicalJsonValue::Object(because)) = event.remove("unsigned") {
        unsigned.extend(because);
    }
    event.insert("unsigned".to_owned(), unsigned.into());
    Ok(event)
}

/// Whether an accepted redaction takes effect on `target`: both in one room, and the sender either has the `redact` power
/// level in `levels` (those of the state before the redaction) or is of the server that sent the target. In versions 1 and 2
/// that is the server which the event IDs name (rule 11 of <https://spec.matrix.org/v1.19/rooms/v1/#authorisation-rules>).
pub fn may_redact(redaction: &Event, target: &Event, levels: &PowerLevels) -> bool {
    let same_server = match redaction.event_id().server_name() {
        Some(server) => target.event_id().server_name() == Some(server),
        None => redaction.sender().server_name() == target.sender().server_name(),
    };
    redaction.redacts() == Some(target.event_id())
        && redaction.room_id() == target.room_id()
        && target.kind() != "m.room.create"
        && (same_server || levels.user(redaction.sender()) >= levels.redact())
}
