//! What is said over the local socket, and shown with `--json`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a node is and does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The server name.
    pub server_name: String,
    /// The libp2p peer id.
    pub peer_id: String,
    /// The version of kith.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// How long the node has been running, in seconds.
    pub uptime_s: u64,
    /// The node's time, Unix milliseconds.
    pub now_ms: u64,
    /// The data folder.
    pub data_dir: PathBuf,
    /// The address for clients.
    pub public_base_url: String,
    /// Where clients are listened for.
    pub client_listeners: Vec<String>,
    /// Where HTTPS federation is listened for.
    pub federation_listeners: Vec<String>,
    /// The link that makes the first account, while there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setup_link: Option<String>,
    /// Accounts that are not deactivated.
    pub accounts: u64,
    /// Rooms known here.
    pub rooms: u64,
    /// The multiaddrs at which peers reach this node.
    pub addresses: Vec<String>,
    /// Peers connected now.
    pub peers_connected: u64,
    /// Peers seen on the local network.
    pub peers_nearby: u64,
    /// Destinations with something to be sent, or in trouble.
    pub queues: Vec<Queue>,
    /// The store.
    pub store: StoreStatus,
    /// What came from other servers.
    pub federation: FederationStatus,
}

/// What waits for one server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Queue {
    /// The server name.
    pub destination: String,
    /// Rooms with events that it has not been sent.
    pub rooms: u64,
    /// Device messages and updates that wait for it.
    pub messages: u64,
    /// Since when it cannot be reached, Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub away_since_ms: Option<u64>,
    /// When it is tried again, in milliseconds from now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_in_ms: Option<u64>,
    /// The latest failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Device messages dropped because it was away for too long.
    pub dropped: u64,
}

/// The store's figures.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// Size of the database file in bytes.
    pub file_bytes: u64,
    /// Free bytes on its disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
    /// Commits since the start.
    pub commits: u64,
    /// Changes that wait to be written now.
    pub waiting: u64,
    /// How often the database was reopened after an error.
    pub reopened: u64,
}

/// Counters of what came from other servers, since the start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FederationStatus {
    /// By what was counted.
    pub counters: BTreeMap<String, u64>,
    /// Events that were refused, by the reason.
    pub refused: BTreeMap<String, u64>,
    /// Events stored as breaking a room's rules.
    pub rejected: u64,
    /// Events stored and not shown, because the room does not allow them any more.
    pub soft_failed: u64,
}

/// A peer on the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Its server name, if it is made of the peer's key; else, and without its record yet, its key.
    pub server_name: String,
    /// The DNS name that it says it has. Nothing proves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unverified_name: Option<String>,
    /// Its peer id.
    pub peer_id: String,
    /// Whether requests reach it now.
    pub connected: bool,
    /// Whether the connection goes without a relay.
    pub direct: bool,
    /// Whether it was seen on the local network and has not gone since.
    pub nearby: bool,
    /// The last measured round trip, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
    /// How long ago it was last heard of, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen_s: Option<f64>,
    /// Its known multiaddrs.
    pub addresses: Vec<String>,
    /// Why the last attempt to connect failed, if one did since it was last connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserInfo {
    /// The user id.
    pub user_id: String,
    /// Whether it may administer the node.
    pub admin: bool,
    /// Whether it has ended.
    pub deactivated: bool,
    /// When it was made, Unix milliseconds.
    pub created_ms: u64,
}

/// An account to be made.
#[derive(Clone, Serialize, Deserialize)]
pub struct NewUser {
    /// The local part, or the whole user id.
    pub name: String,
    /// The password.
    pub password: String,
    /// Whether it may administer the node.
    pub admin: bool,
}

/// A password to be set.
#[derive(Clone, Serialize, Deserialize)]
pub struct NewPassword {
    /// The local part, or the whole user id.
    pub name: String,
    /// The password.
    pub password: String,
    /// Whether the account's devices stay signed in.
    pub keep_devices: bool,
}

/// An account to be ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deactivation {
    /// The local part, or the whole user id.
    pub name: String,
    /// Whether others are asked to forget its messages.
    pub erase: bool,
}

// Passwords never show.
impl fmt::Debug for NewUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewUser").field("name", &self.name).field("admin", &self.admin).finish_non_exhaustive()
    }
}

impl fmt::Debug for NewPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewPassword").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Why the node did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{error}")]
pub struct AdminError {
    /// A Matrix error code.
    pub errcode: String,
    /// A sentence for a person.
    pub error: String,
}

impl AdminError {
    /// An error with any code.
    pub fn new(errcode: impl Into<String>, error: impl Into<String>) -> Self {
        Self { errcode: errcode.into(), error: error.into() }
    }
}
