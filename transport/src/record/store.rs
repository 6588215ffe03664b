//! Where the records of other nodes outlast this run.

use std::fmt;

use bytes::Bytes;

use crate::ServerKey;

/// A record as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedRecord {
    /// The signed form. It is verified again when it is read.
    pub record: Bytes,
    /// Whether it came from a node on this very device, whose loopback addresses count.
    pub within_device: bool,
    /// Whether it is a contact's: of too many, others go first.
    pub contact: bool,
}

/// Keeps the records of contacts and of peers that we talk with, so that after a restart their addresses are known where nothing
/// discovers them. How many it keeps is its own affair; it must have a bound.
///
/// Both functions are called from asynchronous code and must not wait for anything long.
pub trait RecordStore: fmt::Debug + Send + Sync + 'static {
    /// All that is kept. What it cannot read it leaves out.
    fn load(&self) -> Vec<SavedRecord>;

    /// Keeps the record of this node in place of an older one. A record that is lost costs no more than finding the node anew.
    fn save(&self, node: ServerKey, record: SavedRecord);
}
