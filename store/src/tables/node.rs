//! Facts about the node itself.

use crate::{Json, Table};

/// Name of a fact to its number. A fixed set of names, the constants of this module.
pub const FACTS: Table<String, u64> = Table::new("facts");

/// The latest time the node knows of, unix milliseconds: its clock never runs behind it.
pub const CLOCK_FLOOR: &str = "clock_floor";

/// The epoch, from 1 on: higher each time that a backup of the node was restored, or that it began anew without its tables.
/// Stands in the high bits of what other servers compare.
pub const EPOCH: &str = "epoch";

/// How often the node was started.
pub const RUNS: &str = "runs";

/// `(server key)` to the newest record of a peer that was saved. Bound: 1024, by whoever writes it.
pub const PEER_RECORDS: Table<String, Json<PeerRecordRow>> = Table::new("peer_records");

/// A node record of another node.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PeerRecordRow {
    /// The signed record, canonical JSON.
    pub record: String,
    /// Whether it came from a node on this very device.
    pub within_device: bool,
    /// Whether the node was a contact.
    pub contact: bool,
    /// When it was saved, unix milliseconds.
    pub saved: u64,
}
