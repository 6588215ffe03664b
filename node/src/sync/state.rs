//! The state of a room in a sync: what changed and is not in the timeline.

use std::collections::{BTreeMap, BTreeSet};

use kith_store::{Read, StoreError, tables::rooms::STATE_STREAM};

use super::timeline::Timeline;
use crate::rooms::{
    read::{self, StoredEvent},
    states,
};

/// The number of the state that was current at a stream position; 0 if the room was not here then.
///
/// # Errors
/// The store's.
pub(crate) fn number_at(read: &dyn Read, room: u64, position: u64) -> Result<u64, StoreError> {
    let row = STATE_STREAM.prefix_until(read, &room, &(room, position))?.next_back().transpose()?;
    Ok(row.map_or(0, |(_, state)| state))
}

/// The events of the state at `now` that a client needs which knows the state `known` and is given the timeline.
///
/// With `after` these are all that differ, for the end of the timeline; else those for its start: what the timeline
/// itself changes is left out, but for what it had been changed to in between.
pub(super) fn needed(
    read: &dyn Read,
    known: u64,
    now: u64,
    timeline: &Timeline,
    after: bool,
) -> Result<Vec<StoredEvent>, StoreError> {
    let Timeline { events: timeline, whole, .. } = timeline;
    if let Some(first) = timeline.first()
        && !after
        && *whole
        && leads_to(timeline, now)
    {
        // The usual case: the timeline itself tells all that changed since it begins.
        let changes = states::difference(read, known, first.row.state_before)?;
        let needed: BTreeSet<u64> = changes.into_values().flatten().collect();
        return needed.into_iter().filter_map(|number| read::event(read, number).transpose()).collect();
    }
    let changes = states::difference(read, known, now)?;
    let shown: BTreeSet<u64> = timeline.iter().map(|event| event.number).collect();
    let mut needed = BTreeMap::new();
    for ((kind, key), event) in changes {
        let Some(event) = event else { continue };
        if after || !shown.contains(&event) {
            needed.insert(event, ());
            continue;
        }
        let Some(first) = timeline.first() else { continue };
        let before = states::lookup(read, first.row.state_before, &kind, &key)?;
        if let Some(before) = before
            && states::lookup(read, known, &kind, &key)? != Some(before)
        {
            needed.insert(before, ());
        }
    }
    needed.into_keys().filter_map(|number| read::event(read, number).transpose()).collect()
}

/// Whether each event follows on the state that the one before left, and the last one leaves the state `now`.
fn leads_to(timeline: &[StoredEvent], now: u64) -> bool {
    let follows = |pair: &[StoredEvent]| match pair {
        [one, next] => next.row.state_before == one.row.state_after,
        _ => true,
    };
    timeline.windows(2).all(follows) && timeline.last().is_some_and(|last| last.row.state_after == now)
}
