//! What lies between the room as it is here and the events that wait: asked of one server after the other, kept in memory
//! until it joins both, then handed to the room in order.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kith_mutants::mutant;
use kith_room::{Event, graph::sort_by_prev_events};
use kith_store::{
    StoreError,
    tables::rooms::{EVENT_IDS, EXTREMITIES},
};
use kith_transport::Class;
use ruma::{OwnedEventId, ServerName, UInt, api::federation::event::get_missing_events::v1 as get_missing_events};

use super::{BATCH, TIME_LIMIT, drop_parked};
use crate::{
    Node,
    federation::pdus,
    http::Answer,
    rooms::{Room, read},
};

/// Events fetched in one go, and their bytes; a longer gap is bridged.
const MOST_FETCHED: usize = 2_000;
const MOST_BYTES: usize = 8 << 20;
/// Requests to one server for one gap.
const MOST_STEPS: usize = 40;
/// Events asked for in one request.
const STEP: u32 = 100;
/// Event IDs named in one request.
const MOST_NAMED: usize = 20;

/// Events that wait, by their ID.
pub(super) type Waiting = BTreeMap<OwnedEventId, Arc<Event>>;

/// What was found of what is missing in one room.
pub(super) struct Gap<'a> {
    node: &'a Arc<Node>,
    room: &'a Room,
    /// The depth of the room's beginning here. What lies there is history and not missing: fetched so, it would be shown as new.
    begin: u64,
    found: Waiting,
    /// Bytes of what was found.
    bytes: usize,
}

impl<'a> Gap<'a> {
    pub(super) fn new(node: &'a Arc<Node>, room: &'a Room) -> Answer<Self> {
        let row = node.store.read(|read| read::room(read, room.number()))?;
        let begin = row.map_or(0, |row| row.begin);
        Ok(Self { node, room, begin, found: BTreeMap::new(), bytes: 0 })
    }

    /// Whether too much is missing to be fetched.
    pub(super) fn is_full(&self) -> bool {
        self.found.len() >= MOST_FETCHED || self.bytes >= MOST_BYTES
    }

    /// Whether a server has told of this event.
    pub(super) fn has(&self, event: &Event) -> bool {
        self.found.contains_key(event.event_id())
    }

    /// Drops events of the state with which we came to the room, when a server sends them again: their place is in the history,
    /// not at the end.
    pub(super) async fn drop_old(&self, waiting: &mut Waiting) -> Answer<()> {
        let old = self.node.store.read(|read| {
            let mut old = Vec::new();
            for (id, event) in &*waiting {
                if event.depth() <= self.begin && EVENT_IDS.contains(read, &id.to_string())? {
                    old.push(id.clone());
                }
            }
            Ok::<_, StoreError>(old)
        })?;
        for id in &old {
            waiting.remove(id);
        }
        if old.is_empty() {
            return Ok(());
        }
        drop_parked(self.node, self.room, old.iter().map(ToString::to_string).collect()).await
    }

    /// Asks a server for what lies before the events that wait, step by step, until it joins what is here, or the server
    /// knows no more.
    pub(super) async fn ask(&mut self, server: &ServerName, waiting: &Waiting) -> Answer<()> {
        let earliest = extremities(self.node, self.room)?;
        // Events of which the server tells nothing: made up, perhaps. The others must not wait behind them.
        let mut fruitless: BTreeSet<OwnedEventId> = BTreeSet::new();
        for step in 0..=MOST_STEPS {
            let open = self.open(waiting)?;
            let ids = open.iter().map(|event| event.event_id()).filter(|id| !fruitless.contains(*id));
            let latest: Vec<OwnedEventId> = ids.take(MOST_NAMED).map(ToOwned::to_owned).collect();
            if latest.is_empty() {
                break;
            }
            if step == MOST_STEPS || self.is_full() {
                self.node.federation.stats.gaps_given_up.add();
                break;
            }
            if !self.step(server, &earliest, &latest, waiting).await? {
                fruitless.extend(latest);
            }
        }
        Ok(())
    }

    /// Asks once for what lies before `latest`. Whether something came of it.
    pub(super) async fn step(
        &mut self,
        server: &ServerName,
        earliest: &[OwnedEventId],
        latest: &[OwnedEventId],
        waiting: &Waiting,
    ) -> Answer<bool> {
        let (node, room) = (self.node, self.room);
        let mut request = get_missing_events::Request::new(room.id().to_owned(), earliest.to_vec(), latest.to_vec());
        request.limit = UInt::from(STEP);
        request.min_depth = UInt::new_saturating(self.begin.saturating_add(1));
        let answer = match node.federation.client().request(server, request, Class::Bulk, TIME_LIMIT).await {
            Ok(answer) => answer,
            // It will not tell what lies between; perhaps it tells the state.
            Err(error) if error.is_refusal() => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let events = pdus::check_many(node, room.id(), room.version(), answer.events).await?;
        let before = self.found.len();
        for event in events {
            let id = event.event_id().to_owned();
            if mutant!("fetches-nothing-missing") {
                continue;
            }
            if event.depth() > self.begin && !waiting.contains_key(&id) && !room.unknown([&id])?.is_empty() {
                self.found.insert(id, event);
            }
        }
        self.found = leading_to(waiting, std::mem::take(&mut self.found));
        self.bytes = self.found.values().map(|event| event.text().len()).sum();
        node.federation.stats.pdus_fetched.add_many(self.found.len().saturating_sub(before) as u64);
        Ok(self.found.len() > before)
    }

    /// The events that wait or were found, and have no place here yet, some of whose prev events are neither here nor among
    /// them; those that come first in the room first.
    pub(super) fn open(&self, waiting: &Waiting) -> Answer<Vec<Arc<Event>>> {
        let mut open = Vec::new();
        for event in waiting.values().chain(self.found.values()) {
            let id = event.event_id().to_owned();
            let prev =
                event.prev_events().iter().filter(|id| !waiting.contains_key(*id) && !self.found.contains_key(*id));
            if !self.room.unknown(prev)?.is_empty() && !self.room.unknown([&id])?.is_empty() {
                open.push(event.clone());
            }
        }
        open.sort_by_key(|event| (event.depth(), event.event_id().to_owned()));
        Ok(open)
    }

    /// Hands what was found and what waits to the room, in order.
    pub(super) async fn hand_in(&mut self, server: &ServerName, waiting: &Waiting) -> Answer<()> {
        self.bytes = 0;
        let found = std::mem::take(&mut self.found).into_values();
        let events: Vec<Arc<Event>> = found.chain(waiting.values().cloned()).collect();
        for batch in sort_by_prev_events(events).chunks(BATCH) {
            self.room.receive(server.as_str(), batch.to_vec()).await?;
        }
        Ok(())
    }
}

/// Of what was found, the events on a way back from what waits that passes nothing known. A server that does not know our
/// extremities tells of what lies before them, too: up to the room's beginning, which is here as outliers and is not missing.
fn leading_to(waiting: &Waiting, mut found: Waiting) -> Waiting {
    let mut wanted = BTreeMap::new();
    let mut open: Vec<OwnedEventId> = waiting.values().flat_map(|event| event.prev_events().to_vec()).collect();
    while let Some(id) = open.pop() {
        if let Some(event) = found.remove(&id) {
            open.extend_from_slice(event.prev_events());
            wanted.insert(id, event);
        }
    }
    wanted
}

/// What a server is told that is here.
fn extremities(node: &Arc<Node>, room: &Room) -> Answer<Vec<OwnedEventId>> {
    node.store.read(|read| {
        let mut ids = Vec::new();
        for row in EXTREMITIES.prefix(read, &room.number())?.take(MOST_NAMED) {
            let ((_, number), ()) = row?;
            let event = read::event(read, number)?;
            ids.extend(event.and_then(|event| OwnedEventId::try_from(event.row.event_id).ok()));
        }
        Ok(ids)
    })
}
