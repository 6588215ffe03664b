//! Sees with each commit whether a room's forward extremities are such.
//!
//! In the end it would be too late: the next event follows whatever counts as one, and nothing is left to be seen.

use std::collections::BTreeSet;

use kith_store::tables::rooms::{EVENT_IDS, EVENTS, EXTREMITIES, EventRow, EventStatus};
use kith_store::{Read, StoreError};
use serde_json::Value;

use super::World;
use crate::invariants::Invariant;

/// Nodes beyond which it would take too long.
const MOST_NODES: u32 = 50;

/// The IDs of what an event follows.
pub(crate) fn prev_events(row: &EventRow) -> Vec<String> {
    let json: Value = serde_json::from_str(&row.json).unwrap_or_default();
    let cited = json["prev_events"].as_array().cloned().unwrap_or_default();
    // Versions 1 and 2 cite with a hash beside.
    cited.iter().filter_map(|id| id.as_str().or_else(|| id.get(0)?.as_str()).map(str::to_owned)).collect()
}

/// Whether an event is neither shown nor an extremity, and what it follows is followed through it.
pub(crate) fn is_hidden(row: &EventRow) -> bool {
    matches!(row.status, EventStatus::SoftFailed | EventStatus::Rejected)
}

impl World {
    /// Looks at a room after a commit that showed these events, by their numbers.
    pub(super) fn look_at_ends(
        &self,
        node: u32,
        room: u64,
        shown: &[(u64, EventRow)],
        read: &dyn Read,
    ) -> Result<(), StoreError> {
        if self.count() > MOST_NODES || shown.is_empty() {
            return Ok(());
        }
        for end in EXTREMITIES.prefix(read, &room)? {
            let found = EVENTS.get(read, &end?.0.1)?;
            if let Some(row) = found.filter(|row| row.status != EventStatus::Accepted) {
                let what = format!("{} is a forward extremity and {:?}", row.event_id, row.status);
                self.breach(Invariant::Extremities, Some(node), what);
            }
        }
        for (number, row) in shown {
            // One that comes late, under a bridged gap, leaves the extremities as they are.
            if !EXTREMITIES.contains(read, &(room, *number))? {
                continue;
            }
            let mut seen = BTreeSet::new();
            let mut open: Vec<(String, u64)> = prev_events(row).into_iter().map(|id| (id, *number)).collect();
            while let Some((id, after)) = open.pop() {
                // What came later than what follows it found the extremities as they were.
                let Some(before) = EVENT_IDS.get(read, &id)?.filter(|before| *before < after && seen.insert(*before))
                else {
                    continue;
                };
                if EXTREMITIES.contains(read, &(room, before))? {
                    let what = format!("{id} is a forward extremity, and {} follows it", row.event_id);
                    self.breach(Invariant::Extremities, Some(node), what);
                }
                if let Some(row) = EVENTS.get(read, &before)?.filter(is_hidden) {
                    open.extend(prev_events(&row).into_iter().map(|id| (id, before)));
                }
            }
        }
        Ok(())
    }
}
