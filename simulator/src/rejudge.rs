//! Whether an event is rejected must not depend on when it came. The events that a node has of a room are judged once more, by a
//! fresh copy of the room, in orders drawn by lot; what is rejected must be the same.
//!
//! Comparing nodes shows differences that happened to occur between them ([`crate::invariants`]); this shows those that could have.
//! Soft failure is left out: that does depend on the order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kith_room::{Event, EventNumber, Outcome, Room, Source, SourceError, StateMap, Status};
use kith_store::StoreError;
use kith_store::tables::rooms::{EVENTS, EventStatus, GAPS};
use ruma::{EventId, OwnedEventId, RoomId, RoomVersionId};

use crate::engine::Stream;
use crate::invariants::Invariant;
use crate::world::World;

/// Orders that are tried.
const ORDERS: u64 = 2;
/// Rooms with more events are not judged again: all their states would be in memory at once.
const MOST_EVENTS: usize = 3_000;

/// An event with what became of it on a node.
pub type Judged = (Arc<Event>, EventStatus);

/// Judges a room of a scenario again, by what the first honest node has that knows it from its beginning.
pub fn check(world: &World, room: u32) {
    let id = world.room_id(room).unwrap_or_default();
    let sound = |number: &u32| world.is_honest(*number) && !world.is_misled(&id, *number);
    let honest = world.numbers().filter(sound);
    let Some((node, events)) = honest.filter_map(|node| Some((node, events(world, node, room)?))).next() else {
        return;
    };
    let Some(version) = world.scenario().rooms.get(room as usize).map(|room| room.room_version.clone()) else { return };
    let (Ok(version), Ok(id)) = (RoomVersionId::try_from(version.as_str()), RoomId::parse(id)) else { return };
    for turn in 0..ORDERS {
        let random = Stream::new(world.seed(), "rejudge", u64::from(room), turn);
        for what in differing(&version, &id, &events, &random) {
            world.breach(Invariant::Rejection, Some(node), what);
        }
        world.record().count("rejudged");
    }
}

/// All events of a room on a node; none if it has gaps there, or too many events.
pub fn events(world: &World, number: u32, room: u32) -> Option<Vec<Judged>> {
    let node = world.node(number)?;
    let (place, rules) = (world.number_in(&node, room)?, world.rules_of(room)?);
    let read = node.store.read(|read| {
        let mut found = Vec::new();
        if GAPS.prefix(read, &place)?.next().is_some() {
            return Ok(found);
        }
        for row in EVENTS.range(read, ..)? {
            let (_, row) = row?;
            if row.room == place
                && let Ok(id) = OwnedEventId::try_from(row.event_id)
                && let Ok(event) = Event::from_stored(row.json, id, &rules)
            {
                found.push((Arc::new(event), row.status));
            }
        }
        Ok::<_, StoreError>(found)
    });
    read.ok().filter(|found| (1..=MOST_EVENTS).contains(&found.len()))
}

/// Judges events in an order drawn by lot, and tells those of which something else becomes.
pub fn differing(version: &RoomVersionId, id: &RoomId, events: &[Judged], random: &Stream) -> Vec<String> {
    let Ok(mut room) = Room::new(version, id) else { return Vec::new() };
    let mut past = Past::new(events);
    let mut waiting: BTreeMap<&EventId, &Judged> = BTreeMap::new();
    let mut follows: BTreeMap<&EventId, Vec<&EventId>> = BTreeMap::new();
    let mut ready: Vec<&Judged> = Vec::new();
    for judged in events.iter().filter(|(_, status)| *status != EventStatus::Outlier) {
        let event = &judged.0;
        for prev in event.prev_events() {
            follows.entry(prev).or_default().push(event.event_id());
        }
        match event.prev_events() {
            [] => ready.push(judged),
            _ => drop(waiting.insert(event.event_id(), judged)),
        }
    }
    let mut wrong = Vec::new();
    while !ready.is_empty() {
        let (event, before) = ready.swap_remove(random.index(ready.len()));
        // What rests on something that is missing here is not judged, and neither is what follows it.
        let Ok(Outcome::Verdict(verdict)) = room.handle_pdu(event.clone(), &past) else { continue };
        let rejected = verdict.status() == Status::Rejected;
        if rejected != (*before == EventStatus::Rejected) {
            let reason = verdict.decision.reason().unwrap_or("none");
            wrong.push(format!(
                "{} is {before:?}, and in another order {:?}: {reason}",
                event.event_id(),
                verdict.status()
            ));
        }
        past.judged.insert(event.event_id().to_owned(), (verdict.status(), verdict.state_after.clone()));
        if room.apply(&verdict).is_err() {
            break;
        }
        for next in follows.get(event.event_id()).into_iter().flatten() {
            let all_there = |judged: &&Judged| judged.0.prev_events().iter().all(|prev| past.judged.contains_key(prev));
            if let Some(judged) = waiting.get(next).copied().filter(|judged| all_there(judged)) {
                waiting.remove(next);
                ready.push(judged);
            }
        }
    }
    wrong
}

/// What was judged by now; and of the rest, what others cite.
struct Past {
    events: BTreeMap<OwnedEventId, (Arc<Event>, EventNumber)>,
    /// Never given a place on the node: auth events of others.
    outliers: BTreeSet<OwnedEventId>,
    judged: BTreeMap<OwnedEventId, (Status, StateMap)>,
}

impl Past {
    fn new(events: &[Judged]) -> Self {
        let of = |((event, _), number): (&Judged, u64)| (event.event_id().to_owned(), (event.clone(), number));
        let outliers = events.iter().filter(|(_, status)| *status == EventStatus::Outlier);
        Self {
            events: events.iter().zip(0..).map(of).collect(),
            outliers: outliers.map(|(event, _)| event.event_id().to_owned()).collect(),
            judged: BTreeMap::new(),
        }
    }
}

impl Source for Past {
    fn event(&self, id: &EventId) -> Result<Option<Arc<Event>>, SourceError> {
        let there = self.judged.contains_key(id) || self.outliers.contains(id);
        Ok(self.events.get(id).filter(|_| there).map(|(event, _)| event.clone()))
    }

    fn status(&self, id: &EventId) -> Result<Option<Status>, SourceError> {
        let outlier = || self.outliers.contains(id).then_some(Status::Outlier);
        Ok(self.judged.get(id).map(|(status, _)| *status).or_else(outlier))
    }

    fn number(&self, id: &EventId) -> Result<Option<EventNumber>, SourceError> {
        Ok(self.events.get(id).map(|(_, number)| *number))
    }

    fn state_after(&self, id: &EventId) -> Result<Option<StateMap>, SourceError> {
        Ok(self.judged.get(id).map(|(_, state)| state.clone()))
    }
}
