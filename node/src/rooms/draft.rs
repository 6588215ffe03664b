//! What is put into a room, and what became of it.

use kith_room::Builder;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, canonical_json::to_canonical_value};
use serde_json::{Map, Value};

use crate::http::{Answer, MatrixError};

/// What a user of this node wants to add to a room.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Who.
    pub sender: OwnedUserId,
    /// The event's type.
    pub kind: String,
    /// Makes it a state event.
    pub state_key: Option<String>,
    /// Its content.
    pub content: Map<String, Value>,
    /// The event it redacts.
    pub redacts: Option<OwnedEventId>,
    /// `origin_server_ts` in unix milliseconds, if it is not now.
    pub timestamp: Option<u64>,
    /// The device and transaction ID of the request, so that its repetition adds nothing.
    pub transaction: Option<(String, String)>,
}

impl Draft {
    /// A message event.
    pub fn message(sender: OwnedUserId, kind: impl Into<String>, content: Map<String, Value>) -> Self {
        Self { sender, kind: kind.into(), state_key: None, content, redacts: None, timestamp: None, transaction: None }
    }

    /// A state event.
    pub fn state(
        sender: OwnedUserId,
        kind: impl Into<String>,
        state_key: impl Into<String>,
        content: Map<String, Value>,
    ) -> Self {
        Self { state_key: Some(state_key.into()), ..Self::message(sender, kind, content) }
    }

    pub(super) fn builder(self, room: Option<OwnedRoomId>) -> Answer<Builder> {
        let content = match to_canonical_value(Value::Object(self.content)) {
            Ok(ruma::CanonicalJsonValue::Object(content)) => content,
            Ok(_) => return Err(MatrixError::bad_json("the content is not an object")),
            Err(error) => return Err(MatrixError::bad_json(format!("the content is not canonical JSON: {error}"))),
        };
        let mut builder = Builder::new(&self.sender, self.kind, content);
        builder.room_id = room;
        builder.state_key = self.state_key;
        builder.redacts = self.redacts;
        Ok(builder)
    }
}

/// What became of a received event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// Committed: accepted and shown.
    Accepted,
    /// Committed, but not shown; the reason.
    Hidden(String),
    /// Known before.
    Known,
    /// Waits on disk for these.
    Parked {
        /// Missing prev events.
        prev: Vec<OwnedEventId>,
        /// Missing auth events.
        auth: Vec<OwnedEventId>,
    },
    /// Not stored; the reason.
    Refused(String),
}
