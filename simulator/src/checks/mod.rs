//! What must hold of each node by itself, whatever the others think: all nodes run the same code, and agree also where it is wrong.
//!
//! So here the rooms are judged a second time, in the end, from what the nodes have stored, by code that shares none with them.
//!
//! | module | what it looks at |
//! | --- | --- |
//! | `oracle` | the slow and simple judge and resolver of the room engine's own tests |
//! | `judgement` | what was rejected, the state before each event, the current state, what was shown against it |
//! | `authentic` | signatures, contents, and what redactions left |
//! | `graph` | forward extremities, gaps, tables that follow from others |
//! | `pushed` | what a node owes its neighbours |

mod authentic;
mod graph;
mod judgement;
#[path = "../../../node/room/tests/oracle/mod.rs"]
mod oracle;
mod pushed;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use kith::Node;
use kith::rooms::states;
use kith_store::tables::rooms::{CURRENT_STATE, EVENTS, EventRow};
use kith_store::{Snapshot, StoreError};

use crate::invariants::{self, Invariant};
use crate::world::World;
use oracle::{Id, State};

/// Nodes beyond which it would take longer than the run itself.
const MOST_NODES: u32 = 50;
/// Events of a room beyond which it would.
const MOST_EVENTS: usize = 5_000;

/// A room on a node, read once.
struct View {
    number: u32,
    /// The room's number in its tables.
    place: u64,
    snapshot: Snapshot,
    /// Its events by their numbers.
    rows: BTreeMap<u64, EventRow>,
    /// Their numbers by their IDs.
    numbers: BTreeMap<String, u64>,
    /// IDs as the oracle has them.
    ids: BTreeMap<u64, Id>,
    /// States that were read.
    states: RefCell<BTreeMap<u64, Rc<State>>>,
}

impl View {
    fn read(number: u32, node: &Node, place: u64) -> Result<Self, StoreError> {
        let snapshot = node.store.snapshot()?;
        let mut rows = BTreeMap::new();
        for row in EVENTS.range(&snapshot, ..)? {
            let (event, row) = row?;
            if row.room == place {
                rows.insert(event, row);
            }
        }
        let numbers = rows.iter().map(|(number, row)| (row.event_id.clone(), *number)).collect();
        let ids = rows.iter().map(|(number, row)| (*number, Id::from(row.event_id.as_str()))).collect();
        Ok(Self { number, place, snapshot, rows, numbers, ids, states: RefCell::default() })
    }

    fn row(&self, id: &str) -> Option<&EventRow> {
        self.rows.get(self.numbers.get(id)?)
    }

    /// A stored state. What it names is in the room, or nothing is.
    fn state(&self, number: u64) -> Result<Rc<State>, StoreError> {
        if let Some(state) = self.states.borrow().get(&number) {
            return Ok(state.clone());
        }
        let state = Rc::new(self.named(states::whole(&self.snapshot, number)?));
        self.states.borrow_mut().insert(number, state.clone());
        Ok(state)
    }

    /// The current state as it stands in its table.
    fn current(&self) -> Result<State, StoreError> {
        let rows = CURRENT_STATE.prefix(&self.snapshot, &self.place)?;
        let rows: Result<Vec<_>, StoreError> =
            rows.map(|row| row.map(|((_, kind, key), event)| ((kind, key), event))).collect();
        Ok(self.named(rows?))
    }

    fn named(&self, state: impl IntoIterator<Item = ((String, String), u64)>) -> State {
        let name = |event: u64| self.ids.get(&event).cloned().unwrap_or_else(|| Id::from(format!("event {event}")));
        state.into_iter().map(|((kind, key), event)| ((Rc::from(kind), Rc::from(key)), name(event))).collect()
    }

    fn breach(&self, world: &World, invariant: Invariant, what: String) {
        world.breach(invariant, Some(self.number), what);
    }
}

/// Checks all of it.
pub fn check(world: &World) {
    if world.count() > MOST_NODES {
        return;
    }
    for room in 0..world.scenario().rooms.len() as u32 {
        let mut views = Vec::new();
        for (number, node, place) in invariants::inside(world, room) {
            match View::read(number, &node, place) {
                Ok(view) => views.push(view),
                Err(error) => world.breach(Invariant::Restart, Some(number), error.to_string()),
            }
        }
        if views.iter().any(|view| view.rows.len() > MOST_EVENTS) {
            continue;
        }
        let version = world.scenario().rooms.get(room as usize).map(|room| room.room_version.clone());
        let book = version.as_ref().and_then(|version| judgement::book(version, &views));
        let id = world.room_id(room).unwrap_or_default();
        for view in &views {
            let found = graph::check(world, view).and_then(|()| match &book {
                // Whoever was told a state that could have been judges by that one.
                Some(book) if !world.is_misled(&id, view.number) => judgement::check(world, book, view),
                _ => Ok(()),
            });
            if let Err(error) = found {
                view.breach(world, Invariant::Restart, error.to_string());
            }
        }
        if let (Some(version), Some(book)) = (version, &book) {
            authentic::check(world, &version, book, &views);
        }
        pushed::check(world, room, &views);
    }
    crate::errands::check(world);
}
