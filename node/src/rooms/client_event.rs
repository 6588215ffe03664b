//! Events as clients see them (client-server specification, "Room event format", "Stripped state").
//!
//! A client gets neither the graph (`auth_events`, `prev_events`, `depth`) nor hashes and signatures, but what this
//! server knows beside the event: its age, the transaction ID for the device that sent it, what a state event replaced,
//! by what it was redacted, the reader's membership at the time (MSC4115), and what relates to it.

use kith_store::{
    Read, StoreError,
    tables::rooms::{EVENT_TRANSACTIONS, EventStatus, REDACTED_BY},
};
use ruma::serde::Raw;
use serde_json::{
    Map, Value, json,
    value::{RawValue, to_raw_value},
};

use super::{
    read::{self, StoredEvent},
    relations,
    visibility::Eyes,
};
use crate::delayed;

/// Who reads, and when.
#[derive(Debug, Clone)]
pub struct Viewer {
    /// The user.
    pub user_id: String,
    /// The user's device, which is told the transaction IDs of what it sent itself.
    pub device_id: Option<String>,
    /// The present time, unix milliseconds.
    pub now: u64,
}

/// Which form of an event is wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Form<'a> {
    /// The room's ID, where the events stand alone; none in sync, where they stand under their room.
    pub room_id: Option<&'a str>,
    /// Whether what relates to the event goes along (`m.relations`): in timelines, not in state.
    pub relations: bool,
}

/// Turns events of one room into what one reader is given, over one snapshot. It does not ask whether the reader may
/// see the event (that is [`Eyes::sees`]), but looks at that for what it adds.
pub struct Showing<'a> {
    read: &'a dyn Read,
    eyes: &'a Eyes<'a>,
    viewer: &'a Viewer,
    form: Form<'a>,
    /// Whether the events are given as servers give them to each other.
    pdus: bool,
}

impl<'a> Showing<'a> {
    /// For events of the room that `eyes` look at.
    pub fn new(read: &'a dyn Read, eyes: &'a Eyes<'a>, viewer: &'a Viewer, form: Form<'a>) -> Self {
        Self { read, eyes, viewer, form, pdus: false }
    }

    /// Gives the events as they went between servers (`event_format` of a filter), if `pdus`: with their place in the graph,
    /// hashes and signatures, and with nothing that this server adds.
    pub fn as_pdus(self, pdus: bool) -> Self {
        Self { pdus, ..self }
    }

    /// The event for the client, as the types of `ruma` want it.
    pub fn raw<T>(&self, event: &StoredEvent) -> Result<Raw<T>, StoreError> {
        if self.pdus {
            return Ok(pdu(event));
        }
        if event.kind() == "m.room.redaction" {
            return Ok(raw(&Value::Object(self.event(event)?)));
        }
        Ok(self.written(event, &self.whole_unsigned(event)?))
    }

    /// A state event for the client that gets it as part of a state, not as news: without what is only of interest when
    /// it happens (what it replaced, the reader's membership then).
    pub fn raw_state<T>(&self, event: &StoredEvent) -> Result<Raw<T>, StoreError> {
        if self.pdus {
            return Ok(pdu(event));
        }
        let mut unsigned = Map::new();
        self.age(event, &mut unsigned);
        self.redaction(event, &mut unsigned)?;
        Ok(self.written(event, &unsigned))
    }

    /// The event as text; its content goes from the store to the client unread.
    fn written<T>(&self, event: &StoredEvent, unsigned: &Map<String, Value>) -> Raw<T> {
        #[derive(serde::Serialize)]
        struct Written<'a> {
            #[serde(rename = "type")]
            kind: &'a str,
            sender: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            state_key: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            room_id: Option<&'a str>,
            event_id: &'a str,
            origin_server_ts: u64,
            content: &'a RawValue,
            unsigned: &'a Map<String, Value>,
        }
        // It was found as a value of its own when the event was read.
        let content = serde_json::from_str(event.content_text()).unwrap_or(RawValue::NULL);
        let written = Written {
            kind: event.kind(),
            sender: event.sender(),
            state_key: event.state_key(),
            room_id: self.form.room_id,
            event_id: &event.row.event_id,
            origin_server_ts: event.timestamp(),
            content,
            unsigned,
        };
        Raw::from_json(to_raw_value(&written).unwrap_or_default())
    }

    /// The events for the client, as the types of `ruma` want them.
    pub fn raws<T>(&self, events: &[StoredEvent]) -> Result<Vec<Raw<T>>, StoreError> {
        events.iter().map(|event| self.raw(event)).collect()
    }

    /// The event for the client.
    pub fn event(&self, event: &StoredEvent) -> Result<Map<String, Value>, StoreError> {
        let mut shown = self.bare(event)?;
        shown.insert("unsigned".to_owned(), Value::Object(self.whole_unsigned(event)?));
        Ok(shown)
    }

    fn whole_unsigned(&self, event: &StoredEvent) -> Result<Map<String, Value>, StoreError> {
        let mut unsigned = self.unsigned(event)?;
        if self.form.relations
            && event.state_key().is_none()
            && let Some(bundle) = relations::bundle(self.read, self.eyes, self, event)?
        {
            unsigned.insert("m.relations".to_owned(), bundle);
        }
        Ok(unsigned)
    }

    /// The event without anything that relates to it: what goes into bundles.
    pub(super) fn without_relations(&self, event: &StoredEvent) -> Result<Map<String, Value>, StoreError> {
        let mut shown = self.bare(event)?;
        shown.insert("unsigned".to_owned(), Value::Object(self.unsigned(event)?));
        Ok(shown)
    }

    fn bare(&self, event: &StoredEvent) -> Result<Map<String, Value>, StoreError> {
        let mut shown = Map::new();
        for field in ["type", "sender", "state_key", "origin_server_ts", "redacts"] {
            if let Some(value) = event.pdu().get(field) {
                shown.insert(field.to_owned(), value.clone());
            }
        }
        let mut content = event.content().clone();
        if event.kind() == "m.room.redaction" {
            // Its place moved in room version 11; clients find it in both.
            match (shown.get("redacts").cloned(), content.get("redacts").cloned()) {
                (Some(target), None) => {
                    content.insert("redacts".to_owned(), target);
                }
                (None, Some(target)) => {
                    shown.insert("redacts".to_owned(), target);
                }
                _ => {}
            }
        } else {
            shown.remove("redacts");
        }
        shown.insert("content".to_owned(), Value::Object(content));
        shown.insert("event_id".to_owned(), json!(event.row.event_id));
        if let Some(room_id) = self.form.room_id {
            shown.insert("room_id".to_owned(), json!(room_id));
        }
        Ok(shown)
    }

    fn unsigned(&self, event: &StoredEvent) -> Result<Map<String, Value>, StoreError> {
        let mut unsigned = Map::new();
        self.age(event, &mut unsigned);
        if event.sender() == self.viewer.user_id
            && let Some((sender_device, transaction)) = EVENT_TRANSACTIONS.get(self.read, &event.number)?
        {
            match delayed::id_of(&transaction) {
                Some(id) => drop(unsigned.insert("org.matrix.msc4140.delay_id".to_owned(), json!(id))),
                // State is set without transactions.
                None if event.state_key().is_none() && self.viewer.device_id.as_ref() == Some(&sender_device) => {
                    unsigned.insert("transaction_id".to_owned(), json!(transaction));
                }
                None => {}
            }
        }
        if let Some(membership) = self.eyes.membership_at(event)? {
            unsigned.insert("membership".to_owned(), json!(membership));
        }
        if let Some(key) = event.state_key()
            && event.row.status == EventStatus::Accepted
            && let Some(before) = read::state_event_at(self.read, event.row.state_before, event.kind(), key)?
        {
            unsigned.insert("replaces_state".to_owned(), json!(before.row.event_id));
            unsigned.insert("prev_sender".to_owned(), json!(before.sender()));
            if self.eyes.joined() || self.eyes.sees(&before)? {
                unsigned.insert("prev_content".to_owned(), Value::Object(before.content().clone()));
            }
        }
        self.redaction(event, &mut unsigned)?;
        Ok(unsigned)
    }

    fn age(&self, event: &StoredEvent, unsigned: &mut Map<String, Value>) {
        let age = i64::try_from(self.viewer.now)
            .unwrap_or(i64::MAX)
            .saturating_sub(i64::try_from(event.timestamp()).unwrap_or(i64::MAX));
        unsigned.insert("age".to_owned(), json!(age));
    }

    fn redaction(&self, event: &StoredEvent, unsigned: &mut Map<String, Value>) -> Result<(), StoreError> {
        if let Some(redaction) = REDACTED_BY.get(self.read, &event.number)?
            && let Some(because) = read::event_by_id(self.read, &redaction)?
        {
            let mut shown = self.bare(&because)?;
            shown.insert("unsigned".to_owned(), json!({}));
            unsigned.insert("redacted_because".to_owned(), Value::Object(shown));
        }
        Ok(())
    }
}

/// A state event as it is told to those who are not in the room (invites, knocks, `next_batch` of spaces).
pub fn stripped(event: &StoredEvent) -> Value {
    json!({
        "type": event.kind(),
        "state_key": event.state_key().unwrap_or_default(),
        "sender": event.sender(),
        "content": event.content(),
    })
}

/// The events that tell someone who is not in the room which room it is (specification, "Stripped state").
pub const TELLING_STATE: [&str; 8] = [
    "m.room.create",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.join_rules",
    "m.room.canonical_alias",
    "m.room.encryption",
    "m.room.tombstone",
];

/// The present state of a room as invited and knocking users are told it.
pub fn stripped_state(read: &dyn Read, room: u64) -> Result<Vec<Value>, StoreError> {
    let mut state = Vec::new();
    for kind in TELLING_STATE {
        state.extend(read::state_event(read, room, kind, "")?.as_ref().map(stripped));
    }
    Ok(state)
}

/// An event as it is stored. It was found to be JSON when it was read.
fn pdu<T>(event: &StoredEvent) -> Raw<T> {
    Raw::from_json(RawValue::from_string(event.row.json.clone()).unwrap_or_default())
}

/// A value as `ruma` carries events that it does not look into.
pub fn raw<T>(value: &Value) -> Raw<T> {
    // A tree of JSON values always has a text.
    Raw::from_json(to_raw_value(value).unwrap_or_default())
}
