//! Notes where a node had to resolve several states into one: before an event whose prev events left different ones; and which
//! branches of the algorithm that took ([`kith_room::explain`]), once for each event: it is the same on all nodes.
//!
//! It is read from what the node has committed, after the fact, so that the node runs as it would. Events that are not shown
//! (soft-failed or rejected ones) and what becomes of several forward extremities at once are not among it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kith_room::explain::explain;
use kith_room::{Event, EventNumber, Source, SourceError, StateKey, StateMap, Status};
use kith_store::tables::rooms::{EVENT_IDS, EVENTS, EventRow, EventStatus, STATES};
use kith_store::{Read, StoreError};
use ruma::room_version_rules::RoomVersionRules;
use ruma::{EventId, OwnedEventId};

use super::World;
use crate::record::Resolution;

/// `(state key number, event number)` of a whole state.
type Whole = BTreeMap<u64, u64>;

impl World {
    /// Looks at an event that a node just showed, and at the events it follows.
    pub(super) fn note_resolution(
        &self,
        node: u32,
        room: u32,
        event: &EventRow,
        prev_events: &[String],
        read: &dyn Read,
    ) -> Result<(), StoreError> {
        if prev_events.len() < 2 {
            return Ok(());
        }
        let mut numbers = BTreeSet::new();
        for id in prev_events {
            if let Some(number) = EVENT_IDS.get(read, id)?
                && let Some(before) = EVENTS.get(read, &number)?
            {
                numbers.insert(before.state_after);
            }
        }
        let states: BTreeSet<Whole> = match numbers.len() {
            0 | 1 => BTreeSet::new(),
            _ => numbers.iter().map(|number| whole(read, *number)).collect::<Result<_, _>>()?,
        };
        if self.record().is_new_resolution(&event.event_id) {
            self.note_branches(room, &numbers, event, read)?;
        }
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

impl World {
    /// Counts the branches that the states after an event's prev events lead through.
    fn note_branches(
        &self,
        room: u32,
        numbers: &BTreeSet<u64>,
        event: &EventRow,
        read: &dyn Read,
    ) -> Result<(), StoreError> {
        let Some(rules) = self.rules_of(room) else { return Ok(()) };
        let past = Past { read, room: event.room, rules: &rules };
        let mut forks = numbers.iter().map(|number| past.state(*number)).collect::<Result<Vec<StateMap>, _>>()?;
        // Several prev events with one state are several states that are the same.
        if let [only] = &*forks {
            forks.push(only.clone());
        }
        match explain(&rules, &forks, &past) {
            Ok(branches) => {
                for branch in branches {
                    self.record().count(&format!("branch_{}", branch.name()));
                }
            }
            Err(error) => self.record().note(&format!("{} cannot be explained: {error}", event.event_id)),
        }
        Ok(())
    }

    /// The rules of a room's version.
    pub fn rules_of(&self, room: u32) -> Option<RoomVersionRules> {
        let version = &self.scenario().rooms.get(room as usize)?.room_version;
        kith_room::format::rules(&ruma::RoomVersionId::try_from(version.as_str()).ok()?)
    }
}

/// What the engine may ask of a room's past, out of what a node has committed.
pub(crate) struct Past<'a> {
    pub(crate) read: &'a dyn Read,
    /// The room's number in this node's tables.
    pub(crate) room: u64,
    pub(crate) rules: &'a RoomVersionRules,
}

impl Past<'_> {
    fn row(&self, id: &EventId) -> Result<Option<(u64, EventRow)>, StoreError> {
        let Some(number) = EVENT_IDS.get(self.read, &id.to_string())? else { return Ok(None) };
        Ok(EVENTS.get(self.read, &number)?.filter(|row| row.room == self.room).map(|row| (number, row)))
    }

    /// A stored state.
    pub(crate) fn state(&self, number: u64) -> Result<StateMap, StoreError> {
        let mut state = StateMap::new();
        for ((kind, key), event) in kith::rooms::states::whole(self.read, number)? {
            if let Some(row) = EVENTS.get(self.read, &event)?
                && let Ok(id) = OwnedEventId::try_from(row.event_id)
            {
                state.insert(StateKey::new(kind, key), id);
            }
        }
        Ok(state)
    }
}

impl Source for Past<'_> {
    fn event(&self, id: &EventId) -> Result<Option<Arc<Event>>, SourceError> {
        let Some((_, row)) = self.row(id).map_err(SourceError::new)? else { return Ok(None) };
        let event = Event::from_stored(row.json, id.to_owned(), self.rules).map_err(SourceError::new)?;
        Ok(Some(Arc::new(event)))
    }

    fn status(&self, id: &EventId) -> Result<Option<Status>, SourceError> {
        Ok(self.row(id).map_err(SourceError::new)?.map(|(_, row)| match row.status {
            EventStatus::Accepted => Status::Accepted,
            EventStatus::SoftFailed => Status::SoftFailed,
            EventStatus::Rejected => Status::Rejected,
            EventStatus::Outlier => Status::Outlier,
        }))
    }

    fn number(&self, id: &EventId) -> Result<Option<EventNumber>, SourceError> {
        Ok(self.row(id).map_err(SourceError::new)?.map(|(number, _)| number))
    }

    fn state_after(&self, id: &EventId) -> Result<Option<StateMap>, SourceError> {
        let Some((_, row)) = self.row(id).map_err(SourceError::new)? else { return Ok(None) };
        match row.status {
            EventStatus::Outlier => Ok(None),
            EventStatus::Rejected if row.state_after == 0 => Ok(None),
            _ => self.state(row.state_after).map(Some).map_err(SourceError::new),
        }
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
