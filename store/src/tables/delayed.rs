//! Delayed events (MSC4140): what users have this node send at a later time.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Json, Table};

/// `(user, delay ID)` to the event. Bound: 100 scheduled ones per user, and of those that are finished the latest 100, for 7 days.
pub const DELAYED_EVENTS: Table<(String, String), Json<DelayedEvent>> = Table::new("delayed_events");

/// Delay ID to its user. One row for each of [`DELAYED_EVENTS`].
pub const DELAYED_EVENT_OWNERS: Table<String, String> = Table::new("delayed_event_owners");

/// `(unix milliseconds, user, delay ID)` of each event that is scheduled: when it is looked at next. Read by the task that sends.
pub const DELAYED_EVENTS_DUE: Table<(u64, String, String), ()> = Table::new("delayed_events_due");

/// An event that is, or was, to be sent later.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DelayedEvent {
    /// The room's ID.
    pub room_id: String,
    /// The event's type.
    pub kind: String,
    /// Makes it a state event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_key: Option<String>,
    /// The content as it came.
    pub content: Map<String, Value>,
    /// How long it waits, in milliseconds.
    pub delay: u64,
    /// Since when, unix milliseconds: when it was scheduled or restarted last.
    pub since: u64,
    /// The time of its row in [`DELAYED_EVENTS_DUE`].
    pub due: u64,
    /// The device that scheduled it.
    pub device: String,
    /// The transaction ID it came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<String>,
    /// What became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Finished>,
}

/// What became of a delayed event. Without event and error it was cancelled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// When, unix milliseconds.
    pub at: u64,
    /// The event that was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// Why it could not be sent: an error as clients get it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Value>,
}
