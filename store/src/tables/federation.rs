//! Federation: what waits for other servers beside events, and answers kept for requests that may be repeated.
//!
//! Events that wait for a server have no rows of their own: `crate::tables::rooms::OUTGOING` keeps one position per
//! server and room.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as JsonValue;

use crate::{Json, Table};

/// `(destination, row number)` to an EDU that must not be lost (to-device messages), in the order in which they are sent.
/// Bound: 10,000 rows per destination and 30 days; what is dropped is counted in [`DestinationRow`]. Rows go when the
/// destination has acknowledged them. Read by the destination's sender.
pub const OUTGOING_EDUS: Table<(String, u64), Json<OutgoingEdu>> = Table::new("outgoing_edus");

/// `(destination, EDU type, subject)` to the latest of what replaces the one before it: device list and cross-signing updates, whose
/// subject is the user, and read receipts, whose subject is room, user and thread. Bound: two rows per destination and user of ours, and one
/// per receipt that is kept here. Read by the destination's sender.
pub const OUTGOING_UPDATES: Table<(String, String, String), Json<OutgoingUpdate>> = Table::new("outgoing_updates");

/// Server name to what is remembered about sending to it. A row appears with the first failure and goes when the server
/// is reached again and nothing was dropped; bounded by the servers that ever shared a room with us.
pub const DESTINATIONS: Table<String, Json<DestinationRow>> = Table::new("destinations");

/// `(origin, request)` to the answer a request was given; the request is `req:` and what makes it the same request. Bound: 64 per origin and 20,000 in all (the oldest go), and 24 hours.
pub const ANSWERS: Table<(String, String), Json<AnswerRow>> = Table::new("federation_answers");

/// `(origin, row number)` to the request of a row of [`ANSWERS`], oldest first.
pub const ANSWERS_OF: Table<(String, u64), String> = Table::new("federation_answers_of");

/// Row number to origin and request of each row of [`ANSWERS`], oldest first.
pub const ANSWERS_BY_AGE: Table<u64, Json<(String, String)>> = Table::new("federation_answers_by_age");

/// `(origin, row number)` to the ID of a to-device message that was taken from there, oldest first. Bound: 2,000 per origin.
pub const MESSAGES_OF: Table<(String, u64), String> = Table::new("federation_messages_of");

/// `(origin, message ID)` of to-device messages that were taken, to their row number in [`MESSAGES_OF`].
pub const MESSAGES_SEEN: Table<(String, String), u64> = Table::new("federation_messages_seen");

/// Server name to the keys of a server with a DNS name. Bound: 10,000 servers (those fetched longest ago go), 32 keys and a document of
/// 16 KiB for each. Read when its events and requests are verified, and by those that ask us for its keys.
pub const SERVER_KEYS: Table<String, Json<ServerKeysRow>> = Table::new("server_keys");

/// `(when its keys were fetched, server name)` of each row of [`SERVER_KEYS`], oldest first.
pub const SERVER_KEYS_BY_AGE: Table<(u64, String), ()> = Table::new("server_keys_by_age");

/// An EDU that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutgoingEdu {
    /// `edu_type`.
    pub kind: String,
    /// Its content.
    pub content: JsonValue,
    /// When it was queued, unix milliseconds.
    pub since: u64,
}

/// A device list or cross-signing update that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutgoingUpdate {
    /// Grows with each replacement, so that a sender deletes what it sent and nothing newer.
    pub row: u64,
    /// The EDU's content.
    pub content: JsonValue,
    /// When the first update that this row stands for was queued, unix milliseconds.
    pub since: u64,
}

/// What is remembered about a destination.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationRow {
    /// Since when it cannot be reached, unix milliseconds; 0 when the last attempt succeeded.
    #[serde(default)]
    pub failing_since: u64,
    /// The latest failure, for a person.
    #[serde(default)]
    pub last_error: String,
    /// To-device messages dropped because too many waited, or for too long.
    #[serde(default)]
    pub dropped: u64,
    /// Transactions given up because the server refuses them.
    #[serde(default)]
    pub refused: u64,
}

/// An answer that was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerRow {
    /// Its number in [`ANSWERS_OF`] and [`ANSWERS_BY_AGE`].
    pub row: u64,
    /// When, unix milliseconds.
    pub at: u64,
    /// The body.
    pub body: JsonValue,
}

/// The keys of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerKeysRow {
    /// Key ID (`ed25519:...`) to key.
    pub keys: BTreeMap<String, ServerKeyRow>,
    /// Until when the keys that have not expired may be used, unix milliseconds, as the server says.
    pub valid_until: u64,
    /// When they were fetched, unix milliseconds.
    pub fetched: u64,
    /// The document as the server signed it, in canonical JSON; empty if it is too long to be kept.
    pub document: String,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerKeyRow {
    /// The 32 bytes.
    pub key: [u8; 32],
    /// When the server stopped to sign with it, unix milliseconds; none while it does.
    pub expired: Option<u64>,
}
