//! Notes where a node had to resolve several states into one: before an event whose prev events left different ones.
//!
//! It is read from what the node has committed, after the fact, so that the node runs as it would. Events that are not shown
//! (soft-failed or rejected ones) and what becomes of several forward extremities at once are not among it.

use std::collections::{BTreeMap, BTreeSet};

use kith_store::tables::rooms::{EVENT_IDS, EVENTS, EventRow, STATES};
use kith_store::{Read, StoreError};

use super::World;
use crate::record::Resolution;

#[derive(serde::Deserialize)]
struct Follows {
    #[serde(default)]
    prev_events: Vec<serde_json::Value>,
}

/// `(state key number, event number)` of a whole state.
type Whole = BTreeMap<u64, u64>;

impl World {
    /// Looks at an event that a node just showed.
    pub(super) fn note_resolution(
        &self,
        node: u32,
        room: u32,
        event: &EventRow,
        read: &dyn Read,
    ) -> Result<(), StoreError> {
        let Ok(Follows { prev_events }) = serde_json::from_str(&event.json) else { return Ok(()) };
        if prev_events.len() < 2 {
            return Ok(());
        }
        let mut numbers = BTreeSet::new();
        for id in &prev_events {
            // Versions 1 and 2 cite with a hash beside.
            let Some(id) = id.as_str().or_else(|| id.get(0)?.as_str()) else { continue };
            if let Some(number) = EVENT_IDS.get(read, &id.to_owned())?
                && let Some(before) = EVENTS.get(read, &number)?
            {
                numbers.insert(before.state_after);
            }
        }
        if numbers.len() < 2 {
            return Ok(());
        }
        let states: BTreeSet<Whole> =
            numbers.into_iter().map(|number| whole(read, number)).collect::<Result<_, _>>()?;
        if states.len() < 2 {
            return Ok(());
        }
        let follows = prev_events.len();
        let row = Resolution {
            at: self.timeline().now(),
            node,
            room,
            follows,
            states: states.len(),
            conflicts: conflicts(&states),
        };
        self.record().resolved(&event.event_id, row);
        Ok(())
    }
}

/// A state out of its chain of changes: the newest change of a key counts.
fn whole(read: &dyn Read, mut number: u64) -> Result<Whole, StoreError> {
    let mut whole = Whole::new();
    while number != 0 {
        let Some(row) = STATES.get(read, &number)? else { break };
        for (key, event) in row.changes {
            whole.entry(key).or_insert(event);
        }
        number = row.base;
    }
    whole.retain(|_, event| *event != 0);
    Ok(whole)
}

/// How many keys are not the same in all of the states.
fn conflicts(states: &BTreeSet<Whole>) -> usize {
    let keys: BTreeSet<&u64> = states.iter().flat_map(BTreeMap::keys).collect();
    let differs = |key: &&u64| states.iter().map(|state| state.get(key)).collect::<BTreeSet<_>>().len() > 1;
    keys.into_iter().filter(differs).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_conflict_where_states_differ_or_lack_them() {
        let states = [Whole::from([(1, 10), (2, 20), (3, 30)]), Whole::from([(1, 10), (2, 21)])];
        assert_eq!(conflicts(&BTreeSet::from(states)), 2);
    }
}
