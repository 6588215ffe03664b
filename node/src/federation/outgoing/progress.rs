//! How far our events have got at other servers: what is on the disk, and what was acknowledged a moment ago and is not there yet.

use std::collections::BTreeMap;

use kith_store::{
    Json, Read, StoreError,
    tables::{federation::DESTINATIONS, rooms::OUTGOING},
};
use ruma::ServerName;

use super::Outgoing;

/// What the servers of a room have acknowledged. To be taken before the store is read: a position leaves the memory only when it is on
/// the disk, so one of the two has it, and no server seems to lose what it had.
#[derive(Debug)]
pub(crate) struct Progress<'a> {
    outgoing: &'a Outgoing,
    room: u64,
    acknowledged: BTreeMap<String, u64>,
}

impl Outgoing {
    /// The progress of a room's events, as of now.
    pub(crate) fn progress(&self, room: u64) -> Progress<'_> {
        Progress { outgoing: self, room, acknowledged: self.acknowledged.in_room(room) }
    }
}

impl Progress<'_> {
    /// The stream position up to which a server has acknowledged our events of the room; none if it was to get none so far.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn position(&self, read: &dyn Read, server: &str) -> Result<Option<u64>, StoreError> {
        let row = OUTGOING.get(read, &(server.to_owned(), self.room))?;
        let acknowledged = self.acknowledged.get(server).copied().unwrap_or_default();
        Ok(row.map(|(sent, _)| sent.max(acknowledged)))
    }

    /// Since when a server cannot be reached, unix milliseconds; none if it can, or was not tried.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn away_since(&self, read: &dyn Read, server: &str) -> Result<Option<u64>, StoreError> {
        let live = <&ServerName>::try_from(server).ok().and_then(|name| {
            let state = self.outgoing.lock();
            state.get(name).map(|destination| destination.failing_since)
        });
        let since = match live {
            Some(since) => since,
            None => DESTINATIONS.get(read, &server.to_owned())?.map_or(0, |Json(row)| row.failing_since),
        };
        Ok((since != 0).then_some(since))
    }
}
