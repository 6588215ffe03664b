//! A room's head: the engine's [`kith_room::Room`] with the numbers its states and events have in the store, and how a
//! verdict of the engine becomes a [`Change`].

use std::sync::Arc;

use kith_mutants::mutant;
use kith_room::{
    Event, Placement, Source as _, StateKey, StateMap, Status, Verdict, ids::IdMap, join::CheckedEvent,
    power::PowerLevels, state,
};
use kith_store::{
    Snapshot, Store,
    tables::rooms::{EVENTS, EXTREMITIES, EventStatus, RoomRow},
};
use ruma::{EventId, OwnedEventId, RoomId, RoomVersionId, room_version_rules::RoomVersionRules};

use super::{
    change::{Change, Judged, NewHead, NewState, Place, Redacts},
    members::{Member, StateChange},
    partial,
    source::{Known, Past, Recent},
};
use crate::http::MatrixError;

/// The head of a room in memory, as it will be once all submitted changes are committed.
#[derive(Debug, Clone)]
pub(super) struct Position {
    pub(super) engine: kith_room::Room,
    /// Number of the current state.
    pub(super) state: u64,
    /// Count of changes of the head.
    pub(super) changes: u64,
}

#[derive(Debug)]
pub(super) struct Head {
    pub(super) at: Position,
    pub(super) recent: Recent,
}

/// How an event came, where the engine does not care.
#[derive(Debug, Clone, Default)]
pub(super) struct Manner {
    /// This node sends it to the others.
    pub(super) ours: bool,
    /// Device and transaction ID.
    pub(super) transaction: Option<(String, String)>,
}

impl Head {
    /// A room without events.
    pub(super) fn empty(version: &RoomVersionId, room_id: &RoomId) -> Result<Self, MatrixError> {
        let engine = kith_room::Room::new(version, room_id).map_err(MatrixError::internal)?;
        Ok(Self { at: Position { engine, state: 0, changes: 0 }, recent: Recent::default() })
    }

    /// A stored room.
    pub(super) fn load(
        number: u64,
        row: &RoomRow,
        version: &RoomVersionId,
        room_id: &RoomId,
        rules: &RoomVersionRules,
        read: &Snapshot,
    ) -> Result<Self, MatrixError> {
        let mut recent = Recent::default();
        let mut ids = Vec::new();
        let past = Past::new(number, rules, &recent, read);
        let current = past.state(row.state).map_err(MatrixError::internal)?;
        for extremity in EXTREMITIES.prefix(read, &number)? {
            let ((_, event), ()) = extremity?;
            if let Some(event) = EVENTS.get(read, &event)? {
                ids.push(OwnedEventId::try_from(event.event_id).map_err(MatrixError::internal)?);
            }
        }
        let mut engine = kith_room::Room::load(version, room_id, ids.iter().cloned(), current.clone(), &past)
            .map_err(MatrixError::internal)?;
        if partial::is_partial(read, number)? {
            engine.set_partial();
        }
        let mut known = Vec::new();
        for id in &ids {
            if let Some(mut event) = past.known(id).map_err(MatrixError::internal)? {
                event.after = past.numbered_state_after(id).map_err(MatrixError::internal)?;
                known.push(event);
            }
        }
        let loaded = past.loaded.into_inner();
        recent.absorb(loaded);
        for event in known {
            recent.insert(event);
        }
        Ok(Self { at: Position { engine, state: row.state, changes: row.changes }, recent })
    }
}

/// A change that is being made up.
pub(super) struct Draft<'a> {
    pub(super) room: u64,
    pub(super) rules: &'a RoomVersionRules,
    pub(super) store: &'a Store,
    pub(super) read: &'a Snapshot,
    built_on: u64,
    first_state: StateMap,
    events: Vec<Judged>,
    touched_head: bool,
    completes: bool,
    /// IDs of the events in it, to be held until it is committed, or forgotten if it is not.
    pub(super) ids: Vec<OwnedEventId>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(
        room: u64,
        rules: &'a RoomVersionRules,
        head: &Head,
        store: &'a Store,
        read: &'a Snapshot,
    ) -> Self {
        Self {
            room,
            rules,
            store,
            read,
            built_on: head.at.changes,
            first_state: head.at.engine.current().clone(),
            events: Vec::new(),
            touched_head: false,
            completes: false,
            ids: Vec::new(),
        }
    }

    /// The events it takes in were judged anew, because the room's members have come.
    pub(super) fn completes(&mut self) {
        self.completes = true;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Takes outliers in: events of an auth chain or of a state that are not stored, each after its auth events, as
    /// [`kith_room::join::check_outliers`] gives them.
    pub(super) fn outliers(&mut self, head: &mut Head, outliers: Vec<CheckedEvent>) -> Result<(), MatrixError> {
        let past = Past::new(self.room, self.rules, &head.recent, self.read);
        // Thousands of members cite the same few events.
        let mut numbers: IdMap<Option<u64>> = IdMap::new();
        let mut taken = Vec::with_capacity(outliers.len());
        self.events.reserve(outliers.len());
        self.ids.reserve(outliers.len());
        for CheckedEvent { event, status, .. } in outliers {
            let id = event.event_id().to_owned();
            if numbers.contains_key(&id) || past.recent.get(&id).is_some() {
                continue;
            }
            let mut auth = Vec::new();
            for cited in event.all_auth_events() {
                auth.extend(match numbers.get(&cited) {
                    Some(number) => *number,
                    None => {
                        let number = past.number(&cited).map_err(MatrixError::internal)?;
                        numbers.insert(cited.into_owned(), number);
                        number
                    }
                });
            }
            let number = self.store.next_event_number();
            let status = if status == Status::Rejected { EventStatus::Rejected } else { EventStatus::Outlier };
            self.events.push(Judged {
                number,
                event_id: id.to_string(),
                sender: event.sender().to_string(),
                json: event.text().to_owned(),
                status,
                place: Place::Hidden,
                ours: false,
                depth: event.depth(),
                state_before: 0,
                state_after: 0,
                new_states: Vec::new(),
                auth,
                stripped: event.redacted(),
                gaps: Vec::new(),
                redacts: None,
                transaction: None,
                passed: None,
            });
            numbers.insert(id, Some(number));
            taken.push(Known { event, number, status, after: None });
        }
        for known in taken {
            self.ids.push(known.event.event_id().to_owned());
            head.recent.insert_held(known);
        }
        Ok(())
    }

    /// Takes a verdict in, and lets the head go on from it.
    pub(super) fn take(&mut self, head: &mut Head, verdict: &Verdict, manner: Manner) -> Result<(), MatrixError> {
        let event = verdict.event.clone();
        let id = event.event_id();
        let past = Past::new(self.room, self.rules, &head.recent, self.read);
        // An outlier keeps its number.
        let number = match past.known(id).map_err(MatrixError::internal)? {
            Some(known) => known.number,
            None => self.store.next_event_number(),
        };
        let auth = self.auth_numbers(&past, &event)?;
        let mut new_states = Vec::new();
        let mut known_states = vec![(head.at.state, head.at.engine.current().clone())];
        let mut gaps = Vec::new();
        for prev in event.prev_events() {
            match past.numbered_state_after(prev).map_err(MatrixError::internal)? {
                Some(state) => known_states.push(state),
                None if mutant!("declares-no-gap") => {}
                None => gaps.push(prev.to_string()),
            }
        }
        let number_of = |wanted: &EventId| -> Result<u64, MatrixError> {
            if wanted == id {
                return Ok(number);
            }
            past.known(wanted)
                .map_err(MatrixError::internal)?
                .map(|known| known.number)
                .ok_or_else(|| MatrixError::internal("a state names an event that is not stored"))
        };
        let mut numbered = |map: &StateMap| self.number_state(map, &mut known_states, &mut new_states, &number_of);
        let before = numbered(&verdict.state_before)?;
        let after = numbered(&verdict.state_after)?;
        let state = if verdict.is_live() { numbered(&verdict.current)? } else { head.at.state };
        let redacts = match (&verdict.status(), event.redacts()) {
            (Status::Accepted, Some(target)) => Some(redaction(&past, &verdict.state_before, target, &event)?),
            _ => None,
        };
        let (status, place) = match (verdict.status(), verdict.placement) {
            (Status::Accepted, Placement::Live | Placement::Late) => (EventStatus::Accepted, Place::Live),
            (Status::Accepted, Placement::Historical) => (EventStatus::Accepted, Place::History),
            (Status::SoftFailed, _) if mutant!("shows-soft-failed") => (EventStatus::SoftFailed, Place::Live),
            (Status::SoftFailed, _) => (EventStatus::SoftFailed, Place::Hidden),
            (Status::Rejected, _) if mutant!("forgets-rejection") => (EventStatus::Accepted, Place::Hidden),
            (Status::Rejected, _) => (EventStatus::Rejected, Place::Hidden),
            (Status::Outlier, _) => (EventStatus::Outlier, Place::Hidden),
        };
        let loaded = past.loaded.into_inner();
        self.events.push(Judged {
            number,
            event_id: id.to_string(),
            sender: event.sender().to_string(),
            json: event.text().to_owned(),
            status,
            place,
            ours: manner.ours,
            depth: event.depth(),
            state_before: before,
            state_after: after,
            new_states,
            auth,
            stripped: event.redacted(),
            passed: Some((verdict.placement, !gaps.is_empty())),
            // What lies under a soft-failed event may be good: it is history that can be scrolled back to.
            gaps: if matches!(status, EventStatus::Accepted | EventStatus::SoftFailed) { gaps } else { Vec::new() },
            redacts,
            transaction: manner.transaction,
        });
        self.ids.push(id.to_owned());
        head.at.engine.apply(verdict).map_err(MatrixError::internal)?;
        head.at.state = state;
        self.touched_head |= verdict.is_live();
        head.recent.absorb(loaded);
        head.recent.insert_held(Known {
            event: event.clone(),
            number,
            status,
            after: Some((after, verdict.state_after.clone())),
        });
        Ok(())
    }

    /// The finished change; the head counts it.
    pub(super) fn finish(self, head: &mut Head, version: &RoomVersionId) -> Result<Change, MatrixError> {
        let past = Past::new(self.room, self.rules, &head.recent, self.read);
        let known = |id: &EventId| -> Result<Known, MatrixError> {
            past.known(id)
                .map_err(MatrixError::internal)?
                .ok_or_else(|| MatrixError::internal("a head names an event that is not stored"))
        };
        let new_head = if self.touched_head {
            let mut state_changes = Vec::new();
            for (key, event) in state::changes(&self.first_state, head.at.engine.current()) {
                let known = event.map(|id| known(&id)).transpose()?;
                state_changes.push(StateChange {
                    key: names(&key),
                    event: known.as_ref().map(|known| known.number),
                    member: known.and_then(|known| Member::of(&known.event)),
                });
            }
            let extremities =
                head.at.engine.extremities().map(|id| Ok(known(id)?.number)).collect::<Result<_, MatrixError>>()?;
            Some(NewHead { extremities, state: head.at.state, state_changes, depth: head.at.engine.depth() })
        } else {
            None
        };
        head.at.changes += 1;
        let change = Change {
            room: self.room,
            version: version.clone(),
            built_on: self.built_on,
            events: self.events,
            head: new_head,
            completes: self.completes,
        };
        head.recent.hold(self.ids, head.at.changes);
        Ok(change)
    }

    fn auth_numbers(&self, past: &Past<'_>, event: &Event) -> Result<Vec<u64>, MatrixError> {
        let mut numbers = Vec::new();
        for id in event.all_auth_events() {
            if let Some(known) = past.known(&id).map_err(MatrixError::internal)? {
                numbers.push(known.number);
            }
        }
        Ok(numbers)
    }

    /// The number of a state: that of an equal one among `known`, else a new one, stored by its difference to the
    /// nearest of them.
    fn number_state(
        &self,
        map: &StateMap,
        known: &mut Vec<(u64, StateMap)>,
        new: &mut Vec<NewState>,
        number_of: &dyn Fn(&EventId) -> Result<u64, MatrixError>,
    ) -> Result<u64, MatrixError> {
        if map.is_empty() {
            return Ok(0);
        }
        if let Some((number, _)) = known.iter().find(|(_, state)| state.ptr_eq(map)) {
            return Ok(*number);
        }
        let mut nearest: Option<(u64, Differences)> = None;
        for (number, candidate) in known.iter() {
            let changes = state::changes(candidate, map);
            if changes.is_empty() {
                return Ok(*number);
            }
            if nearest.as_ref().is_none_or(|(_, least)| changes.len() < least.len()) {
                nearest = Some((*number, changes));
            }
        }
        let (parent, changes) = nearest.unwrap_or_else(|| (0, state::changes(&StateMap::new(), map)));
        let changes = changes
            .into_iter()
            .map(|(key, event)| Ok((names(&key), event.map_or(Ok(0), |id| number_of(&id))?)))
            .collect::<Result<_, MatrixError>>()?;
        let number = self.store.next_state_id();
        new.push(NewState { number, parent, changes });
        known.push((number, map.clone()));
        Ok(number)
    }
}

/// What differs between two states.
type Differences = Vec<(StateKey, Option<OwnedEventId>)>;

fn names(key: &StateKey) -> (String, String) {
    (key.kind().to_owned(), key.key().to_owned())
}

/// Whether the sender of a redaction has the power to redact what others sent; its own it always may.
fn redaction(past: &Past<'_>, before: &StateMap, target: &EventId, redaction: &Event) -> Result<Redacts, MatrixError> {
    let of_state = |kind: &str| -> Result<Option<Arc<Event>>, MatrixError> {
        match state::get(before, kind, "") {
            Some(id) => Ok(past.known(id).map_err(MatrixError::internal)?.map(|known| known.event)),
            None => Ok(None),
        }
    };
    let powerful = match of_state("m.room.create")? {
        Some(create) => {
            let levels = of_state("m.room.power_levels")?;
            PowerLevels::new(&create, levels.as_ref(), &past.rules.authorization).is_ok_and(|levels| {
                match mutant!("needs-more-power") {
                    true => levels.user(redaction.sender()) > levels.redact(),
                    false => levels.user(redaction.sender()) >= levels.redact(),
                }
            })
        }
        None => false,
    };
    Ok(Redacts { target: target.to_string(), powerful })
}
