//! What the engine may ask about a room's past, answered from the store and from what is still on its way there.

use std::{cell::RefCell, collections::VecDeque, sync::Arc};

use kith_room::{Event, EventNumber, Source, SourceError, StateKey, StateMap, Status, ids::IdMap};
use kith_store::{
    Snapshot, StoreError,
    tables::rooms::{EVENT_IDS, EVENTS, EventRow, EventStatus, GAPS_BY_EVENT, ROOMS, STRIPPED},
};
use ruma::{EventId, OwnedEventId, room_version_rules::RoomVersionRules};

use super::states;

/// How many events a room's head remembers besides those that are not committed yet.
const REMEMBERED: usize = 512;

/// An event as the head knows it.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) event: Arc<Event>,
    pub(super) number: EventNumber,
    pub(super) status: EventStatus,
    /// State number and state after it; none if unknown or not loaded.
    pub(super) after: Option<(u64, StateMap)>,
}

/// Events and states lately used by one room. What is not committed yet is in here and nowhere else.
#[derive(Debug, Default)]
pub(super) struct Recent {
    events: IdMap<Known>,
    order: VecDeque<OwnedEventId>,
    /// Events that must not be forgotten before this many commits are done: the not yet committed ones.
    uncommitted: IdMap<u64>,
}

impl Recent {
    pub(super) fn get(&self, id: &EventId) -> Option<&Known> {
        self.events.get(id)
    }

    pub(super) fn insert(&mut self, known: Known) {
        let id = known.event.event_id().to_owned();
        if self.events.insert(id.clone(), known).is_none() {
            self.order.push_back(id);
        }
        let mut spared = Vec::new();
        while self.events.len() > REMEMBERED + self.uncommitted.len() {
            let Some(id) = self.order.pop_front() else { break };
            if self.uncommitted.contains_key(&id) {
                spared.push(id);
            } else {
                self.events.remove(&id);
            }
        }
        for id in spared.into_iter().rev() {
            self.order.push_front(id);
        }
    }

    /// Remembers what an operation read.
    pub(super) fn absorb(&mut self, loaded: IdMap<Known>) {
        for (id, known) in loaded.into_entries() {
            if !self.events.contains_key(&id) {
                self.insert(known);
            }
        }
    }

    /// Remembers an event that is not stored yet, until [`Recent::hold`] says with which change it will be, or
    /// [`Recent::forget`] that it will not.
    pub(super) fn insert_held(&mut self, known: Known) {
        self.uncommitted.insert(known.event.event_id().to_owned(), u64::MAX);
        self.insert(known);
    }

    /// These events are part of change `change`, which is not committed yet.
    pub(super) fn hold(&mut self, ids: Vec<OwnedEventId>, change: u64) {
        self.uncommitted.extend(ids.into_iter().map(|id| (id, change)));
    }

    /// Whether an event is on its way to the disk.
    pub(super) fn is_uncommitted(&self, id: &EventId) -> bool {
        self.uncommitted.contains_key(id)
    }

    /// Whether an event lacks its content, because the copy that came had another.
    pub(super) fn is_stripped(&self, id: &EventId, read: &Snapshot) -> Result<bool, StoreError> {
        if self.is_uncommitted(id) {
            return Ok(self.events.get(id).is_some_and(|known| known.event.redacted()));
        }
        let Some(number) = EVENT_IDS.get(read, &id.to_string())? else { return Ok(false) };
        STRIPPED.contains(read, &number)
    }

    /// A copy with the content that an event lacks will be stored.
    pub(super) fn mend(&mut self, copy: &Arc<Event>) {
        match self.events.get_mut(copy.event_id()) {
            // On its way to the disk it is known from here alone.
            Some(known) if self.uncommitted.contains_key(copy.event_id()) => known.event = copy.clone(),
            _ => drop(self.events.remove(copy.event_id())),
        }
    }

    /// These events were not stored after all.
    pub(super) fn forget(&mut self, ids: &[OwnedEventId]) {
        for id in ids {
            self.uncommitted.remove(id);
            self.events.remove(id);
        }
    }

    /// Changes up to `change` are committed.
    pub(super) fn release(&mut self, change: u64) {
        self.uncommitted.retain(|_, held| *held > change);
    }
}

/// The engine's view of one room.
pub(super) struct Past<'a> {
    pub(super) room: u64,
    pub(super) rules: &'a RoomVersionRules,
    pub(super) recent: &'a Recent,
    pub(super) read: &'a Snapshot,
    /// What was read for this operation, to be remembered afterwards.
    pub(super) loaded: RefCell<IdMap<Known>>,
}

impl<'a> Past<'a> {
    pub(super) fn new(room: u64, rules: &'a RoomVersionRules, recent: &'a Recent, read: &'a Snapshot) -> Self {
        Self { room, rules, recent, read, loaded: RefCell::default() }
    }
}

impl Past<'_> {
    /// The row of a committed event of this room.
    pub(super) fn row(&self, id: &EventId) -> Result<Option<(EventNumber, EventRow)>, SourceError> {
        let Some(number) = EVENT_IDS.get(self.read, &id.to_string()).map_err(SourceError::new)? else {
            return Ok(None);
        };
        let row = EVENTS.get(self.read, &number).map_err(SourceError::new)?;
        Ok(row.filter(|row| row.room == self.room).map(|row| (number, row)))
    }

    /// Whether another room has an event with this ID. In room versions 1 and 2 servers name their events as they like.
    pub(super) fn is_elsewhere(&self, id: &EventId) -> Result<bool, SourceError> {
        if id.server_name().is_none() {
            return Ok(false);
        }
        let number = EVENT_IDS.get(self.read, &id.to_string()).map_err(SourceError::new)?;
        let row = number.map(|number| EVENTS.get(self.read, &number)).transpose().map_err(SourceError::new)?.flatten();
        Ok(row.is_some_and(|row| row.room != self.room))
    }

    /// These without the ones whose ID an event of another room has: they cannot be stored.
    pub(super) fn without_elsewhere(&self, mut events: Vec<Arc<Event>>) -> Result<Vec<Arc<Event>>, SourceError> {
        let mut error = None;
        events.retain(|event| match self.is_elsewhere(event.event_id()) {
            Ok(elsewhere) => !elsewhere,
            Err(cause) => {
                error.get_or_insert(cause);
                false
            }
        });
        error.map_or(Ok(events), Err)
    }

    /// Whether the event has a place in the graph here.
    pub(super) fn has_place(&self, id: &EventId) -> Result<bool, SourceError> {
        let Some(known) = self.known(id)? else { return Ok(false) };
        Ok(match known.status {
            EventStatus::Accepted | EventStatus::SoftFailed => true,
            EventStatus::Outlier => false,
            // As an outlier it was rejected without a place.
            EventStatus::Rejected => {
                known.after.is_some() || self.row(id)?.is_some_and(|(_, row)| row.state_after != 0)
            }
        })
    }

    fn parse(&self, row: EventRow) -> Result<Arc<Event>, SourceError> {
        let id = OwnedEventId::try_from(row.event_id).map_err(SourceError::new)?;
        Ok(Arc::new(Event::from_stored(row.json, id, self.rules).map_err(SourceError::new)?))
    }

    /// An event that is stored or on its way.
    pub(super) fn known(&self, id: &EventId) -> Result<Option<Known>, SourceError> {
        if let Some(known) = self.recent.get(id) {
            return Ok(Some(known.clone()));
        }
        if let Some(known) = self.loaded.borrow().get(id) {
            return Ok(Some(known.clone()));
        }
        let Some((number, row)) = self.row(id)? else { return Ok(None) };
        let status = row.status;
        let known = Known { event: self.parse(row)?, number, status, after: None };
        self.loaded.borrow_mut().insert(id.to_owned(), known.clone());
        Ok(Some(known))
    }

    /// A stored state with event IDs in place of numbers.
    pub(super) fn state(&self, number: u64) -> Result<StateMap, SourceError> {
        let mut state = StateMap::new();
        for ((kind, key), event) in states::whole(self.read, number).map_err(SourceError::new)? {
            let row = EVENTS.get(self.read, &event).map_err(SourceError::new)?;
            let row = row.ok_or_else(|| SourceError::new("a state names an event that is not stored"))?;
            state.insert(StateKey::new(kind, key), OwnedEventId::try_from(row.event_id).map_err(SourceError::new)?);
        }
        Ok(state)
    }

    /// The state after an event with the number it is stored under.
    pub(super) fn numbered_state_after(&self, id: &EventId) -> Result<Option<(u64, StateMap)>, SourceError> {
        if let Some(known) = self.recent.get(id)
            && known.after.is_some()
        {
            return Ok(known.after.clone());
        }
        match self.row(id)? {
            // An event that was rejected as an outlier has no place, and so no state.
            Some((_, row)) if row.status == EventStatus::Rejected && row.state_after == 0 => Ok(None),
            Some((_, row)) if row.status != EventStatus::Outlier => {
                Ok(Some((row.state_after, self.state(row.state_after)?)))
            }
            _ => Ok(None),
        }
    }
}

impl Source for Past<'_> {
    fn event(&self, id: &EventId) -> Result<Option<Arc<Event>>, SourceError> {
        Ok(self.known(id)?.map(|known| known.event))
    }

    fn status(&self, id: &EventId) -> Result<Option<Status>, SourceError> {
        Ok(self.known(id)?.map(|known| match known.status {
            EventStatus::Accepted => Status::Accepted,
            EventStatus::SoftFailed => Status::SoftFailed,
            EventStatus::Rejected => Status::Rejected,
            EventStatus::Outlier => Status::Outlier,
        }))
    }

    fn number(&self, id: &EventId) -> Result<Option<EventNumber>, SourceError> {
        if let Some(known) = self.recent.get(id) {
            return Ok(Some(known.number));
        }
        // Resolution may ask for every event of a state: the event itself is not read for it.
        EVENT_IDS.get(self.read, &id.to_string()).map_err(SourceError::new)
    }

    fn state_after(&self, id: &EventId) -> Result<Option<StateMap>, SourceError> {
        Ok(self.numbered_state_after(id)?.map(|(_, state)| state))
    }

    fn is_followed(&self, id: &EventId) -> Result<bool, SourceError> {
        let prefix = (self.room, id.to_string());
        let first = GAPS_BY_EVENT.prefix(self.read, &prefix).map_err(SourceError::new)?.next();
        Ok(first.transpose().map_err(SourceError::new)?.is_some())
    }

    fn is_late(&self, event: &Event) -> Result<bool, SourceError> {
        // A state event's part in the room's state has come with the bridge. Shown at the end, clients would take it for the
        // latest word.
        if event.state_key().is_some() {
            return Ok(false);
        }
        let row = ROOMS.get(self.read, &self.room).map_err(SourceError::new)?;
        Ok(row.is_some_and(|row| event.depth() > row.0.begin))
    }
}
