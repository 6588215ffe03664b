//! Which rooms something happened in, by stream position: so that a sync looks at the rooms that changed, not at all
//! rooms its user is in.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use kith_store::{Committed, Touched};

/// How many rooms are remembered with their latest change.
const REMEMBERED: usize = 10_000;

/// The latest change of each room, as far back as `complete_since`.
#[derive(Debug)]
pub struct Activity {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    complete_since: u64,
    noted: u64,
    latest: BTreeMap<u64, u64>,
    rooms: BTreeSet<(u64, u64)>,
}

impl Activity {
    /// Knows nothing of changes up to `position`, and will know all after it.
    pub fn new(position: u64) -> Self {
        let state =
            State { complete_since: position, noted: position, latest: BTreeMap::new(), rooms: BTreeSet::new() };
        Self { state: Mutex::new(state) }
    }

    /// Notes what a commit touched.
    pub fn note(&self, committed: &Committed) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.noted = state.noted.max(committed.position);
        for touched in &committed.touched {
            let Touched::Room(room) = touched else { continue };
            if let Some(before) = state.latest.insert(*room, committed.position) {
                state.rooms.remove(&(before, *room));
            }
            state.rooms.insert((committed.position, *room));
        }
        while state.rooms.len() > REMEMBERED {
            let Some((position, room)) = state.rooms.pop_first() else { break };
            state.latest.remove(&room);
            state.complete_since = position;
        }
    }

    /// The position up to which every commit was noted: how far a sync may tell. (The store publishes its own position
    /// a moment before.)
    pub fn position(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).noted
    }

    /// Rooms in which something happened after `since`; none if that is further back than is remembered.
    pub fn since(&self, since: u64) -> Option<Vec<u64>> {
        Some(self.changes_since(since)?.into_iter().map(|(_, room)| room).collect())
    }

    /// As [`Activity::since`], each room with the position of its latest change before it.
    pub fn changes_since(&self, since: u64) -> Option<Vec<(u64, u64)>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (since >= state.complete_since).then(|| state.rooms.range((since.saturating_add(1), 0)..).copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(position: u64, rooms: &[u64]) -> Committed {
        Committed { position, touched: rooms.iter().map(|room| Touched::Room(*room)).collect() }
    }

    #[test]
    fn only_rooms_that_changed_since_are_named_and_what_is_not_known_is_said() {
        let activity = Activity::new(10);
        activity.note(&commit(11, &[1, 2]));
        activity.note(&commit(12, &[2]));
        assert_eq!(activity.since(10), Some(vec![1, 2]));
        assert_eq!(activity.since(11), Some(vec![2]));
        assert_eq!(activity.since(12), Some(vec![]));
        assert_eq!(activity.since(9), None);
    }

    #[test]
    fn memory_is_bounded_and_the_bound_is_told() {
        let activity = Activity::new(0);
        for room in 0..REMEMBERED as u64 + 5 {
            activity.note(&commit(room + 1, &[room]));
        }
        assert_eq!(activity.since(4), None);
        assert_eq!(activity.since(5).map(|rooms| rooms.len()), Some(REMEMBERED));
    }
}
