//! Making events: content hash, signature, event ID.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#signing-events>

use std::collections::BTreeMap;

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, Int, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId,
    RoomVersionId, ServerName, UserId,
    canonical_json::to_canonical_value,
    room_version_rules::{EventsReferenceFormatVersion, RoomVersionRules},
    signatures::{Ed25519KeyPair, add_content_hash_to_event},
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::{
    document::Document,
    event::{Event, EventError, MAX_DEPTH},
    format::{self, check_format},
    json,
    receive::ReceiveError,
};

/// What a client or this node wants to say; the room adds the rest.
#[derive(Debug, Clone)]
pub struct Builder {
    /// The room. `None` only for the create event of a version 12 room, whose ID follows from it.
    pub room_id: Option<OwnedRoomId>,
    /// Who says it.
    pub sender: OwnedUserId,
    /// The event's `type`.
    pub kind: String,
    /// Makes it a state event.
    pub state_key: Option<String>,
    /// The event's `content`.
    pub content: CanonicalJsonObject,
    /// The event that it redacts.
    pub redacts: Option<OwnedEventId>,
    /// In versions 1 and 2, the hashes of the events it cites. [`crate::engine::Room`] fills them in.
    pub reference_hashes: BTreeMap<OwnedEventId, String>,
}

impl Builder {
    /// A message event with this content.
    pub fn new(sender: &UserId, kind: impl Into<String>, content: CanonicalJsonObject) -> Self {
        Self {
            room_id: None,
            sender: sender.to_owned(),
            kind: kind.into(),
            state_key: None,
            content,
            redacts: None,
            reference_hashes: BTreeMap::new(),
        }
    }

    /// A message event with anything as content that becomes a JSON object.
    ///
    /// # Errors
    ///
    /// The content is no object of canonical JSON.
    pub fn with_content(sender: &UserId, kind: impl Into<String>, content: impl Serialize) -> Result<Self, BuildError> {
        match to_canonical_value(content) {
            Ok(CanonicalJsonValue::Object(content)) => Ok(Self::new(sender, kind, content)),
            Ok(_) => Err(BuildError::Content("expected an object".to_owned())),
            Err(error) => Err(BuildError::Content(error.to_string())),
        }
    }

    /// Makes it a state event.
    #[must_use]
    pub fn state_key(mut self, state_key: impl Into<String>) -> Self {
        self.state_key = Some(state_key.into());
        self
    }

    /// Says in which room.
    #[must_use]
    pub fn room_id(mut self, room_id: impl Into<OwnedRoomId>) -> Self {
        self.room_id = Some(room_id.into());
        self
    }

    /// Makes it redact an event.
    #[must_use]
    pub fn redacts(mut self, event_id: impl Into<OwnedEventId>) -> Self {
        self.redacts = Some(event_id.into());
        self
    }

    /// The event without hashes and signatures, as `make_join` and its siblings hand it out.
    pub(crate) fn unsigned_object(
        self,
        rules: &RoomVersionRules,
        prev_events: &[OwnedEventId],
        auth_events: &[OwnedEventId],
        depth: u64,
        origin_server_ts: MilliSecondsSinceUnixEpoch,
    ) -> CanonicalJsonObject {
        let cite = |id: &OwnedEventId| {
            let text = CanonicalJsonValue::String(id.to_string());
            if rules.events_reference_format != EventsReferenceFormatVersion::V1 {
                return text;
            }
            let hash = self.reference_hashes.get(id).map(|hash| ("sha256".to_owned(), hash.as_str().into()));
            CanonicalJsonValue::Array(vec![text, hash.into_iter().collect::<CanonicalJsonObject>().into()])
        };
        let cite_all = |ids: &[OwnedEventId]| CanonicalJsonValue::Array(ids.iter().map(cite).collect());
        let (prev_events, auth_events) = (cite_all(prev_events), cite_all(auth_events));
        let mut content = self.content;
        let mut object = CanonicalJsonObject::new();
        if let Some(redacts) = self.redacts {
            let place = if rules.redaction.content_field_redacts { &mut content } else { &mut object };
            place.insert("redacts".to_owned(), redacts.to_string().into());
        }
        if let Some(room_id) = self.room_id {
            let derived = rules.authorization.room_create_event_id_as_room_id && self.kind == "m.room.create";
            if !derived {
                object.insert("room_id".to_owned(), room_id.to_string().into());
            }
        }
        if let Some(state_key) = self.state_key {
            object.insert("state_key".to_owned(), state_key.into());
        }
        let depth = Int::try_from(depth.min(MAX_DEPTH)).unwrap_or(Int::MAX);
        object.insert("type".to_owned(), self.kind.into());
        object.insert("sender".to_owned(), self.sender.to_string().into());
        object.insert("content".to_owned(), content.into());
        object.insert("prev_events".to_owned(), prev_events);
        object.insert("auth_events".to_owned(), auth_events);
        object.insert("depth".to_owned(), CanonicalJsonValue::Integer(depth));
        object.insert("origin_server_ts".to_owned(), CanonicalJsonValue::Integer(origin_server_ts.0.into()));
        object
    }
}

/// A server and the key it signs with.
#[derive(Debug, Clone, Copy)]
pub struct Signer<'a> {
    /// The server's name.
    pub server_name: &'a ServerName,
    /// Its key; its version is the part of the key ID after `ed25519:`.
    pub key: &'a Ed25519KeyPair,
}

/// Builds, hashes and signs an event at a known place in the graph.
///
/// `depth` beyond what canonical JSON can carry is cut. [`crate::engine::Room::create_local`] chooses the place itself.
///
/// # Errors
///
/// The version is unknown, or the event would break the format's limits.
pub fn build(
    builder: Builder,
    version: &RoomVersionId,
    prev_events: &[OwnedEventId],
    auth_events: &[OwnedEventId],
    depth: u64,
    origin_server_ts: MilliSecondsSinceUnixEpoch,
    signer: Signer<'_>,
) -> Result<Event, BuildError> {
    let rules = format::rules(version).ok_or_else(|| BuildError::UnknownVersion(version.clone()))?;
    build_with_rules(builder, &rules, prev_events, auth_events, depth, origin_server_ts, signer)
}

pub(crate) fn build_with_rules(
    builder: Builder,
    rules: &RoomVersionRules,
    prev_events: &[OwnedEventId],
    auth_events: &[OwnedEventId],
    depth: u64,
    origin_server_ts: MilliSecondsSinceUnixEpoch,
    signer: Signer<'_>,
) -> Result<Event, BuildError> {
    finish(builder.unsigned_object(rules, prev_events, auth_events, depth, origin_server_ts), rules, signer)
}

/// Completes the event that another server proposed in answer to `make_join`, `make_leave` or `make_knock`: sets the
/// time, hashes and signs it. The caller checks beforehand that the proposal is what it asked for.
///
/// # Errors
///
/// As [`build`].
pub fn complete_template(
    mut template: CanonicalJsonObject,
    version: &RoomVersionId,
    origin_server_ts: MilliSecondsSinceUnixEpoch,
    signer: Signer<'_>,
) -> Result<Event, BuildError> {
    let rules = format::rules(version).ok_or_else(|| BuildError::UnknownVersion(version.clone()))?;
    for name in ["unsigned", "signatures", "hashes", "event_id"] {
        template.remove(name);
    }
    template.insert("origin_server_ts".to_owned(), CanonicalJsonValue::Integer(origin_server_ts.0.into()));
    finish(template, &rules, signer)
}

/// Adds a signature to an event that another server made: the invited server's to an invite, the authorising server's
/// to a restricted join. The event ID stays.
///
/// # Errors
///
/// The signature would make the event too long.
pub fn countersign(event: &Event, rules: &RoomVersionRules, signer: Signer<'_>) -> Result<Event, BuildError> {
    let mut document = event.document()?;
    document.sign(rules, signer)?;
    let text = document.to_text();
    check_format(&document, text.len(), rules).map_err(BuildError::Format)?;
    Ok(Event::from_checked(text, event.event_id().to_owned(), rules, event.redacted())?)
}

fn finish(mut object: CanonicalJsonObject, rules: &RoomVersionRules, signer: Signer<'_>) -> Result<Event, BuildError> {
    if !json::fits_nesting(&object) {
        return Err(BuildError::Content(format!("nested deeper than {} levels", json::MAX_NESTING)));
    }
    name(&mut object, rules, signer.server_name);
    add_content_hash_to_event(&mut object).map_err(|error| BuildError::Format(error.to_string()))?;
    let mut document = Document::from(object);
    document.sign(rules, signer)?;
    let text = document.to_text();
    check_format(&document, text.len(), rules).map_err(BuildError::Format)?;
    let event_id = document.event_id(rules)?;
    Ok(Event::from_checked(text, event_id, rules, false)?)
}

/// An event as it would be, for checking it before anyone signs it.
pub(crate) fn unsigned_event(mut object: CanonicalJsonObject, rules: &RoomVersionRules) -> Result<Event, BuildError> {
    let sender =
        object.get("sender").and_then(CanonicalJsonValue::as_str).and_then(|user| <&UserId>::try_from(user).ok());
    if let Some(server) = sender.map(|user| user.server_name().to_owned()) {
        name(&mut object, rules, &server);
    }
    let document = Document::from(object);
    let event_id = document.event_id(rules)?;
    Ok(Event::from_checked(document.to_text(), event_id, rules, false)?)
}

/// In versions 1 and 2 an event has any name that its server gives it
/// (<https://spec.matrix.org/v1.19/rooms/v1/#event-ids>). A hash of the event is one that needs no randomness.
fn name(object: &mut CanonicalJsonObject, rules: &RoomVersionRules, server: &ServerName) {
    if rules.event_format.require_event_id {
        object.remove("event_id");
        let hash = data_encoding::BASE64URL_NOPAD.encode(&Sha256::digest(json::to_text(object)));
        object.insert("event_id".to_owned(), format!("${hash}:{server}").into());
    }
}

/// Why an event cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The room's version is not one that this engine knows.
    #[error("room version {0} is not supported")]
    UnknownVersion(RoomVersionId),
    /// The content is no object of canonical JSON.
    #[error("invalid content: {0}")]
    Content(String),
    /// Too long, or not of the form that the room version wants.
    #[error("invalid event: {0}")]
    Format(String),
}

impl From<EventError> for BuildError {
    fn from(error: EventError) -> Self {
        Self::Format(error.0)
    }
}

impl From<ReceiveError> for BuildError {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::Format(why) => Self::Format(why),
            other => Self::Format(other.to_string()),
        }
    }
}
