//! Sees what each node commits: what is shown when, and whether it may be.

use std::sync::{Arc, Weak};

use kith::rooms::read;
use kith::{Handle, Node};
use kith_store::tables::rooms::{EVENT_IDS, EVENTS, EventRow, EventStatus, GAPS_BY_EVENT, ROOMS, STREAM};
use kith_store::{Committed, Json, Read, StoreError, Touched};

use super::World;
use crate::invariants::Invariant;
use crate::memory::outside;

/// The fields of an event that are looked at.
#[derive(serde::Deserialize)]
struct Cites {
    #[serde(default)]
    prev_events: Vec<serde_json::Value>,
}

/// The IDs of the events that an event follows.
fn prev_events(event: &EventRow) -> Vec<String> {
    let cites: Option<Cites> = serde_json::from_str(&event.json).ok();
    let cited = cites.into_iter().flat_map(|cites| cites.prev_events);
    // Versions 1 and 2 cite with a hash beside.
    cited.filter_map(|cited| Some(cited.as_str().or_else(|| cited.get(0)?.as_str())?.to_owned())).collect()
}

impl World {
    /// Watches a node that was just started: looks through what was committed meanwhile, and at each commit from now on.
    pub(super) fn watch(&self, number: u32, handle: &Handle) {
        let node = handle.node();
        let position = node.store.position();
        let before = self.machine(number).map_or(0, |machine| machine.seen);
        if position < before {
            let what = format!("position {before} was published before the crash, and {position} is found after it");
            self.breach(Invariant::CommitOrder, Some(number), what);
        }
        let all = node.store.read(|read| {
            ROOMS.range(read, ..)?.map(|row| row.map(|(room, _)| room)).collect::<Result<Vec<u64>, StoreError>>()
        });
        for room in all.unwrap_or_default() {
            self.look(number, node, room, before.min(position));
        }
        self.saw(number, position);
        let (world, weak) = (self.clone(), Arc::downgrade(node));
        let seen = move |committed: &Committed| outside(|| world.committed(number, &weak, committed));
        node.store.on_commit(Box::new(seen));
    }

    fn saw(&self, number: u32, position: u64) {
        if let Some(mut machine) = self.machine(number) {
            machine.seen = machine.seen.max(position);
            machine.failures = machine.disk.failures();
            if machine.armed {
                machine.published = Some(machine.disk.copy());
            }
        }
    }

    fn committed(&self, number: u32, node: &Weak<Node>, committed: &Committed) {
        let Some(node) = node.upgrade() else { return };
        let before = self.machine(number).map_or(0, |machine| machine.seen);
        self.record().count("commits");
        for touched in &committed.touched {
            if let Touched::Room(room) = touched
                && committed.position > before
            {
                self.look(number, &node, *room, before);
            }
        }
        self.saw(number, committed.position);
        if !kith_mutants::BUILT && self.scenario().checks.skips_auth == Some(number) {
            skip_auth(&node);
        }
    }

    /// Looks at what a room shows since a stream position.
    fn look(&self, number: u32, node: &Arc<Node>, room: u64, since: u64) {
        let looked = node.store.read(|snapshot| {
            let Some(Json(row)) = ROOMS.get(snapshot, &room)? else { return Ok(()) };
            let Some(place) = self.room_number(&row.room_id) else { return Ok(()) };
            let mut all = Vec::new();
            for shown in STREAM.range(snapshot, (room, since + 1)..=(room, u64::MAX))? {
                let ((_, position), event) = shown?;
                if let Some(row) = EVENTS.get(snapshot, &event)? {
                    self.shown(number, place, position, &row, snapshot)?;
                    all.push((event, row));
                }
            }
            self.look_at_ends(number, room, &all, snapshot)?;
            Ok::<_, StoreError>(())
        });
        if let Err(error) = looked {
            self.record().note(&format!("{number} cannot be looked at: {error}"));
        }
    }

    fn shown(
        &self,
        number: u32,
        room: u32,
        position: u64,
        event: &EventRow,
        read: &dyn Read,
    ) -> Result<(), StoreError> {
        self.record().delivered(&event.event_id, room, number);
        let prev_events = prev_events(event);
        self.note_resolution(number, room, event, &prev_events, read)?;
        if event.status != EventStatus::Accepted {
            let what = format!("{} is shown at {position} and is {:?}", event.event_id, event.status);
            self.breach(Invariant::Timeline, Some(number), what);
        }
        for id in prev_events {
            if !EVENT_IDS.contains(read, &id)?
                && GAPS_BY_EVENT.prefix(read, &(event.room, id.clone()))?.next().is_none()
            {
                let what = format!("{} is shown before {id}, and no gap is declared", event.event_id);
                self.breach(Invariant::Parents, Some(number), what);
            }
        }
        Ok(())
    }

    /// Looks at events of a timeline that a client was given: only accepted ones may be among them.
    pub fn check_shown<'a>(&self, number: u32, events: impl Iterator<Item = &'a serde_json::Value>) {
        let Some(node) = self.node(number) else { return };
        let checked = node.store.read(|read| {
            for id in events.filter_map(|event| event["event_id"].as_str()) {
                let event = match EVENT_IDS.get(read, &id.to_owned())? {
                    Some(event) => EVENTS.get(read, &event)?,
                    None => None,
                };
                if event.as_ref().is_none_or(|event| event.status != EventStatus::Accepted) {
                    let what = format!("a client is shown {id}, which is {:?}", event.map(|event| event.status));
                    self.breach(Invariant::Timeline, Some(number), what);
                }
            }
            Ok::<_, StoreError>(())
        });
        if let Err(error) = checked {
            self.record().note(&format!("{number} cannot be looked at: {error}"));
        }
    }

    /// Notes that an invariant does not hold.
    pub fn breach(&self, invariant: Invariant, node: Option<u32>, what: String) {
        self.record().breach(invariant.name(), node, what);
    }

    /// The number that a room has in a node's tables.
    pub fn number_in(&self, node: &Node, room: u32) -> Option<u64> {
        let id = self.room_id(room)?;
        node.store.read(|snapshot| read::room_number(snapshot, &id)).ok().flatten()
    }
}

/// What a node would do that checks no authorization: all that it rejected counts as accepted.
fn skip_auth(node: &Arc<Node>) {
    // Nobody waits for it.
    drop(node.store.submit(|tx| {
        let rejected: Vec<(u64, EventRow)> = EVENTS
            .range(tx, ..)?
            .filter(|row| row.as_ref().map_or(true, |(_, event)| event.status == EventStatus::Rejected))
            .collect::<Result<_, _>>()?;
        for (number, event) in rejected {
            EVENTS.put(tx, &number, &EventRow { status: EventStatus::Accepted, ..event })?;
        }
        Ok::<_, StoreError>(())
    }));
}
