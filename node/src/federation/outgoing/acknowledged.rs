//! Positions that destinations have acknowledged and that are not on the disk yet.
//!
//! A message goes to each server of its room, and each acknowledges by itself. A commit for each of them would be a hundred syncs
//! of the disk for one message in a room of a hundred servers. So positions are written together, a moment later. What a crash
//! loses of them is sent once more, and known there by its ID.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use futures::FutureExt as _;
use kith_store::StoreError;

use super::queue;
use crate::Node;

/// How long a position may wait for others before it is written.
const GATHERED: Duration = Duration::from_secs(1);

/// Room to position, by destination.
type Positions = BTreeMap<String, BTreeMap<u64, u64>>;

/// See the module. Bound: the rooms that were sent to within a second, or while the disk fails.
#[derive(Debug, Default)]
pub(super) struct Acknowledged(Mutex<Positions>);

impl Acknowledged {
    fn lock(&self) -> MutexGuard<'_, Positions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Up to where each room has arrived at a destination, as far as that is newer than the store.
    pub(super) fn of(&self, destination: &str) -> BTreeMap<u64, u64> {
        self.lock().get(destination).cloned().unwrap_or_default()
    }

    /// Up to where a room has arrived at each destination, as far as that is newer than the store.
    pub(super) fn in_room(&self, room: u64) -> BTreeMap<String, u64> {
        let all = self.lock();
        all.iter().filter_map(|(name, rooms)| Some((name.clone(), *rooms.get(&room)?))).collect()
    }

    /// Notes positions; true if they are the first to be written.
    fn note(&self, destination: &str, rooms: &BTreeMap<u64, u64>) -> bool {
        let mut all = self.lock();
        let first = all.is_empty();
        let known = all.entry(destination.to_owned()).or_default();
        for (room, position) in rooms {
            let known = known.entry(*room).or_default();
            *known = (*known).max(*position);
        }
        first
    }

    /// Takes out what is on the disk by now.
    fn written(&self, positions: &Positions) {
        let mut all = self.lock();
        for (destination, rooms) in positions {
            if let Some(known) = all.get_mut(destination) {
                known.retain(|room, position| rooms.get(room).is_none_or(|written| written < position));
                if known.is_empty() {
                    all.remove(destination);
                }
            }
        }
    }
}

/// Notes what a destination has acknowledged; it is written soon.
pub(super) fn note(node: &Arc<Node>, destination: &str, rooms: &BTreeMap<u64, u64>) {
    if node.federation.outgoing.acknowledged.note(destination, rooms) {
        node.spawner.spawn("federation positions", write_soon(Arc::downgrade(node)).boxed());
    }
}

async fn write_soon(node: Weak<Node>) {
    loop {
        let Some(strong) = node.upgrade() else { return };
        let wait = strong.clock.sleep(GATHERED);
        drop(strong);
        wait.await;
        let Some(strong) = node.upgrade() else { return };
        if let Err(error) = write(&strong).await {
            tracing::debug!(%error, "what other servers have acknowledged could not be written");
        }
        if strong.federation.outgoing.acknowledged.lock().is_empty() {
            return;
        }
    }
}

/// Writes what was noted.
///
/// # Errors
/// The store's; the positions are kept for the next time.
pub(in crate::federation) async fn write(node: &Arc<Node>) -> Result<(), StoreError> {
    let positions = node.federation.outgoing.acknowledged.lock().clone();
    if positions.is_empty() {
        return Ok(());
    }
    let written = positions.clone();
    node.store
        .write(move |tx| {
            for (destination, rooms) in &written {
                queue::move_on(tx, destination, rooms)?;
                queue::reached(tx, destination, false)?;
            }
            Ok::<_, StoreError>(())
        })
        .await?;
    node.federation.outgoing.acknowledged.written(&positions);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_never_go_back_and_stay_until_they_are_written() {
        let acknowledged = Acknowledged::default();
        assert!(acknowledged.note("a", &[(1, 5), (2, 7)].into()));
        assert!(!acknowledged.note("a", &[(1, 3)].into()));
        assert!(!acknowledged.note("b", &[(1, 4)].into()));
        assert_eq!(acknowledged.of("a"), [(1, 5), (2, 7)].into());
        let written = acknowledged.lock().clone();
        // Meanwhile more arrives: what is written is not the last word.
        acknowledged.note("a", &[(2, 9)].into());
        acknowledged.written(&written);
        assert_eq!(acknowledged.of("a"), [(2, 9)].into());
        assert_eq!(acknowledged.in_room(2), [("a".to_owned(), 9)].into());
        assert!(acknowledged.of("b").is_empty() && acknowledged.in_room(1).is_empty());
    }
}
