//! One event (PDU), parsed once and shared.
//!
//! Format: <https://spec.matrix.org/v1.19/rooms/v12/#event-format-1> and its siblings. An [`Event`] never changes; whether
//! it was accepted is known by the store, so what asks for that takes a [`KnownEvent`].

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, OnceLock},
};

use ruma::{
    CanonicalJsonObject, EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UInt,
    UserId,
    events::{TimelineEventType, room::member::MembershipState},
    room_version_rules::RoomVersionRules,
};
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

use crate::{
    document::Document,
    power,
    receive::ReceiveError,
    state::{StateKey, shared_kind},
};

/// A number the store gives to each event it keeps: an event's auth events have lower numbers than itself.
pub type EventNumber = u64;

/// The greatest depth that canonical JSON can carry.
pub const MAX_DEPTH: u64 = (1 << 53) - 1;

/// An event of a room, immutable, shared as `Arc<Event>`.
#[derive(Debug)]
pub struct Event {
    event_id: OwnedEventId,
    room_id: OwnedRoomId,
    /// Whether the room version names rooms after their create event (12), which is then implied in `auth_events`.
    create_names_room: bool,
    /// Whether this is such a create event, whose own JSON lacks `room_id`.
    room_id_from_create: bool,
    sender: OwnedUserId,
    event_type: TimelineEventType,
    kind: Arc<str>,
    state: Option<StateKey>,
    content: Box<RawValue>,
    /// What authorization reads instead of `content`, where power levels are strings or floats.
    levels: Option<Box<RawValue>>,
    origin_server_ts: MilliSecondsSinceUnixEpoch,
    depth: u64,
    prev_events: Vec<OwnedEventId>,
    auth_events: Vec<OwnedEventId>,
    redacts: Option<OwnedEventId>,
    redacted: bool,
    text: Box<str>,
    json: OnceLock<CanonicalJsonObject>,
}

impl Event {
    /// Reads an event back that this node stored itself: `text` as [`Event::text`] gave it. Hashes, signatures and limits
    /// are not looked at again.
    ///
    /// # Errors
    ///
    /// The text is not an event of a room with these rules (a damaged store, or the wrong rules).
    pub fn from_stored(
        text: impl Into<Box<str>>,
        event_id: OwnedEventId,
        rules: &RoomVersionRules,
    ) -> Result<Self, EventError> {
        let text = text.into();
        let fields: Fields<'_> = serde_json::from_str(&text).map_err(|error| EventError(error.to_string()))?;
        let create_names_room = rules.authorization.room_create_event_id_as_room_id;
        let (room_id, room_id_from_create) = match fields.room_id {
            Some(room_id) => (room_id, false),
            None if create_names_room && fields.kind == "m.room.create" => (room_id_of(&event_id)?, true),
            None => return Err(EventError("missing `room_id`".to_owned())),
        };
        let redacts = match rules.redaction.content_field_redacts {
            true if fields.kind == "m.room.redaction" => {
                serde_json::from_str::<Redacts<'_>>(fields.content.get()).ok().and_then(|content| content.redacts)
            }
            true => None,
            false => fields.redacts,
        };
        let redacts = redacts.and_then(|raw| serde_json::from_str(raw.get()).ok());
        let kind = shared_kind(&fields.kind);
        let levels = match &*kind {
            "m.room.power_levels" if !rules.authorization.integer_power_levels => power::plain_levels(&fields.content),
            _ => None,
        };
        Ok(Self {
            event_type: TimelineEventType::from(&*kind),
            state: fields.state_key.map(|key| StateKey::new(&kind, key)),
            kind,
            event_id,
            room_id,
            create_names_room,
            room_id_from_create,
            sender: fields.sender,
            content: fields.content,
            levels,
            origin_server_ts: MilliSecondsSinceUnixEpoch(UInt::try_from(fields.origin_server_ts).unwrap_or(UInt::MAX)),
            depth: fields.depth,
            prev_events: fields.prev_events.into_iter().map(|cited| cited.0).collect(),
            auth_events: fields.auth_events.into_iter().map(|cited| cited.0).collect(),
            redacts,
            redacted: false,
            text,
            json: OnceLock::new(),
        })
    }

    /// The same for an event that was just read or built and passed the format check.
    pub(crate) fn from_checked(
        text: String,
        event_id: OwnedEventId,
        rules: &RoomVersionRules,
        redacted: bool,
    ) -> Result<Self, EventError> {
        Ok(Self::from_stored(text, event_id, rules)?.with_redacted(redacted))
    }

    /// The event's ID.
    pub fn event_id(&self) -> &EventId {
        &self.event_id
    }

    /// The room it belongs to; in room version 12 the create event's room is derived from its ID.
    pub fn room_id(&self) -> &RoomId {
        &self.room_id
    }

    /// Who sent it.
    pub fn sender(&self) -> &UserId {
        &self.sender
    }

    /// Its `type`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Its `type` as ruma has it.
    pub fn event_type(&self) -> &TimelineEventType {
        &self.event_type
    }

    /// Its `state_key`, if it is a state event.
    pub fn state_key(&self) -> Option<&str> {
        self.state.as_ref().map(StateKey::key)
    }

    /// Its place in the state, if it is a state event.
    pub fn state_map_key(&self) -> Option<&StateKey> {
        self.state.as_ref()
    }

    /// Whether it is the state event of this type and state key.
    pub fn is_state(&self, kind: &str, key: &str) -> bool {
        &*self.kind == kind && self.state_key() == Some(key)
    }

    /// Its `content`, as JSON text.
    pub fn content(&self) -> &RawValue {
        &self.content
    }

    /// Its `content`, read.
    pub fn content_object(&self) -> &CanonicalJsonObject {
        static EMPTY: CanonicalJsonObject = CanonicalJsonObject::new();
        self.json().get("content").and_then(|content| content.as_object()).unwrap_or(&EMPTY)
    }

    /// A string in the content.
    pub fn content_str(&self, name: &str) -> Option<&str> {
        self.content_object().get(name)?.as_str()
    }

    /// Reads the content as `T`.
    ///
    /// # Errors
    ///
    /// The content does not have that form.
    pub fn content_as<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.content.get())
    }

    /// When its server says it was made. Not to be trusted.
    pub fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.origin_server_ts
    }

    /// How deep in the graph its server says it is, between 0 and [`MAX_DEPTH`]. Not to be trusted.
    pub fn depth(&self) -> u64 {
        self.depth.min(MAX_DEPTH)
    }

    /// The same as the event has it, which is up to 2^63 − 1 in room versions 1 to 5.
    pub(crate) fn claimed_depth(&self) -> u64 {
        self.depth
    }

    /// The events it follows, as it lists them.
    pub fn prev_events(&self) -> &[OwnedEventId] {
        &self.prev_events
    }

    /// The events it says give it the right to be, without the create event that version 12 implies.
    pub fn auth_events(&self) -> &[OwnedEventId] {
        &self.auth_events
    }

    /// The auth events and, where the room is named after its create event, that event.
    pub fn all_auth_events(&self) -> impl Iterator<Item = Cow<'_, EventId>> {
        self.auth_events.iter().map(|id| Cow::Borrowed(&**id)).chain(self.implied_create().map(Cow::Owned))
    }

    /// In room version 12, the create event that every other event implies.
    pub fn implied_create(&self) -> Option<OwnedEventId> {
        (self.create_names_room && &*self.kind != "m.room.create")
            .then(|| EventId::parse(format!("${}", self.room_id.strip_sigil())).ok())
            .flatten()
    }

    /// The event it redacts, if it is a redaction.
    pub fn redacts(&self) -> Option<&EventId> {
        self.redacts.as_deref().filter(|_| &*self.kind == "m.room.redaction")
    }

    /// Whether its content hash did not match on receipt, so that only its redacted form was kept. [`Event::from_stored`] does not
    /// know it: see [`Event::with_redacted`].
    pub fn redacted(&self) -> bool {
        self.redacted
    }

    /// The event, with what was noted of [`Event::redacted`] when it was stored.
    #[must_use]
    pub fn with_redacted(self, redacted: bool) -> Self {
        Self { redacted, ..self }
    }

    /// The event as canonical JSON text, as it goes over federation and into the store. It has no `unsigned`.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The event as it goes over federation. It has no `unsigned`. Numbers that canonical JSON does not know, as they occur in
    /// versions 1 to 5, are in [`Event::text`] only; here an integer stands for them.
    pub fn json(&self) -> &CanonicalJsonObject {
        self.json.get_or_init(|| {
            // The text was read once already, so it is an object.
            self.document().map(Document::into_object).unwrap_or_default()
        })
    }

    pub(crate) fn document(&self) -> Result<Document, EventError> {
        Document::read_lenient(&self.text).map_err(|error| EventError(error.to_string()))
    }

    /// The hash under which events of versions 1 and 2 cite this one, and which names it in later ones: unpadded Base64 of
    /// <https://spec.matrix.org/v1.19/server-server-api/#calculating-the-reference-hash-for-an-event>.
    ///
    /// # Errors
    ///
    /// Never for an event that this crate made or checked.
    pub fn reference_hash(&self, rules: &RoomVersionRules) -> Result<String, ReceiveError> {
        self.document()?.reference_hash(rules)
    }

    /// The content as authorization reads it: power levels as integers, however they are written.
    fn content_for_auth(&self) -> &RawValue {
        self.levels.as_deref().unwrap_or(&self.content)
    }

    /// For `m.room.member` state events, the membership that they set.
    pub fn membership(&self) -> Option<MembershipState> {
        #[derive(Deserialize)]
        struct Content<'a> {
            #[serde(borrow)]
            membership: Cow<'a, str>,
        }
        if &*self.kind != "m.room.member" || self.state.is_none() {
            return None;
        }
        self.content_as::<Content<'_>>().ok().map(|content| MembershipState::from(&*content.membership))
    }

    /// The user whose membership this `m.room.member` event sets.
    pub fn member(&self) -> Option<&UserId> {
        if &*self.kind != "m.room.member" {
            return None;
        }
        <&UserId>::try_from(self.state_key()?).ok()
    }
}

/// The room ID that room version 12 derives from the ID of a create event.
pub(crate) fn room_id_of(create: &EventId) -> Result<OwnedRoomId, EventError> {
    let hash = create.as_str().trim_start_matches('$');
    RoomId::new_v2(hash).map_err(|error| EventError(format!("no room ID from the create event: {error}")))
}

/// A text that should be an event is none; the message says why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an event of this room version: {0}")]
pub struct EventError(pub(crate) String);

#[derive(Deserialize)]
struct Fields<'a> {
    room_id: Option<OwnedRoomId>,
    sender: OwnedUserId,
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    state_key: Option<Cow<'a, str>>,
    content: Box<RawValue>,
    origin_server_ts: u64,
    depth: u64,
    prev_events: Vec<Cited>,
    auth_events: Vec<Cited>,
    #[serde(borrow, default)]
    redacts: Option<&'a RawValue>,
}

/// An event that another one cites: its ID, in versions 1 and 2 in a pair with its hash.
struct Cited(OwnedEventId);

impl<'de> Deserialize<'de> for Cited {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(CitedVisitor)
    }
}

struct CitedVisitor;

impl<'de> de::Visitor<'de> for CitedVisitor {
    type Value = Cited;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event ID, or a pair of event ID and hash")
    }

    fn visit_str<E: de::Error>(self, id: &str) -> Result<Cited, E> {
        OwnedEventId::try_from(id).map(Cited).map_err(E::custom)
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut pair: A) -> Result<Cited, A::Error> {
        let id = pair.next_element::<OwnedEventId>()?.ok_or_else(|| de::Error::invalid_length(0, &self))?;
        while pair.next_element::<de::IgnoredAny>()?.is_some() {}
        Ok(Cited(id))
    }
}

#[derive(Deserialize)]
struct Redacts<'a> {
    #[serde(borrow, default)]
    redacts: Option<&'a RawValue>,
}

/// An event together with what became of it.
#[derive(Debug, Clone)]
pub struct KnownEvent {
    /// The event.
    pub event: Arc<Event>,
    /// Whether it was rejected.
    pub rejected: bool,
}

/// For ruma's helpers that read contents. It says of no event that it is rejected: where that matters, use
/// [`KnownEvent`].
impl ruma::state_res::Event for Event {
    type Id = OwnedEventId;

    fn event_id(&self) -> &OwnedEventId {
        &self.event_id
    }

    fn room_id(&self) -> Option<&RoomId> {
        (!self.room_id_from_create).then_some(&self.room_id)
    }

    fn sender(&self) -> &UserId {
        &self.sender
    }

    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.origin_server_ts
    }

    fn event_type(&self) -> &TimelineEventType {
        &self.event_type
    }

    fn content(&self) -> &RawValue {
        self.content_for_auth()
    }

    fn state_key(&self) -> Option<&str> {
        self.state_key()
    }

    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.prev_events.iter())
    }

    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.auth_events.iter())
    }

    fn redacts(&self) -> Option<&OwnedEventId> {
        self.redacts.as_ref()
    }

    fn rejected(&self) -> bool {
        false
    }
}

impl ruma::state_res::Event for KnownEvent {
    type Id = OwnedEventId;

    fn event_id(&self) -> &OwnedEventId {
        &self.event.event_id
    }

    fn room_id(&self) -> Option<&RoomId> {
        ruma::state_res::Event::room_id(&*self.event)
    }

    fn sender(&self) -> &UserId {
        &self.event.sender
    }

    fn origin_server_ts(&self) -> MilliSecondsSinceUnixEpoch {
        self.event.origin_server_ts
    }

    fn event_type(&self) -> &TimelineEventType {
        &self.event.event_type
    }

    fn content(&self) -> &RawValue {
        self.event.content_for_auth()
    }

    fn state_key(&self) -> Option<&str> {
        self.event.state_key()
    }

    fn prev_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.event.prev_events.iter())
    }

    fn auth_events(&self) -> Box<dyn DoubleEndedIterator<Item = &OwnedEventId> + '_> {
        Box::new(self.event.auth_events.iter())
    }

    fn redacts(&self) -> Option<&OwnedEventId> {
        self.event.redacts.as_ref()
    }

    fn rejected(&self) -> bool {
        self.rejected
    }
}
