//! Rooms that were joined without their members (`omit_members`), until these have come.
//!
//! The engine's part is in [`kith_room::partial`]. Here is what the store keeps meanwhile: which rooms these are, which servers
//! are in them ([`PARTIAL`]), and which events were judged by a partial state ([`PARTIAL_EVENTS`]).

use std::sync::Arc;

use kith_room::{
    Event, Placement,
    partial::{Passed, complete},
};
use kith_store::{
    Json, Read, Snapshot, StoreError, Touched, Tx,
    tables::rooms::{EVENTS, OUTGOING, PARTIAL, PARTIAL_EVENTS, PartialRow, ROOM_SERVERS, ROOMS},
};
use ruma::{OwnedEventId, OwnedServerName};

use super::{
    change::Judged,
    commit::Beside,
    head::{self, Head, Manner},
    room::Room,
    source::Past,
};
use crate::{
    contacts::ROOM_SERVERS_CHANGED,
    http::{Answer, MatrixError},
};

/// What a server that left the members out says in their place.
#[derive(Debug, Clone)]
pub struct PartialJoin {
    /// That server.
    pub through: OwnedServerName,
    /// The servers that were in the room before the join.
    pub servers: Vec<OwnedServerName>,
}

impl PartialJoin {
    pub(super) fn row(self, join: u64) -> PartialRow {
        let servers = self.servers.iter().map(ToString::to_string).collect();
        PartialRow { join, through: self.through.to_string(), servers, left: false }
    }
}

/// A join whose room lacks its members.
#[derive(Debug)]
pub struct Uncompleted {
    /// The join event.
    pub join: Arc<Event>,
    /// The server that let this node in.
    pub through: OwnedServerName,
}

/// What a room lacks, if its members are not here yet.
///
/// # Errors
/// The store's.
pub fn row(read: &dyn Read, room: u64) -> Result<Option<PartialRow>, StoreError> {
    Ok(PARTIAL.get(read, &room)?.map(|row| row.0).filter(|row| !row.left))
}

/// Whether a room lacks its members.
///
/// # Errors
/// The store's.
pub fn is_partial(read: &dyn Read, room: u64) -> Result<bool, StoreError> {
    Ok(row(read, room)?.is_some())
}

/// Notes that a room is joined without its members; in the change of the join, before it.
pub(super) fn begin(tx: &mut Tx, room: u64, row: PartialRow) -> Result<(), StoreError> {
    for server in &row.servers {
        let key = (room, server.clone());
        let count = ROOM_SERVERS.get(tx, &key)?.unwrap_or_default();
        if count == 0 {
            // As in any join: what was to be sent to it during an earlier stay is not sent any more.
            OUTGOING.delete(tx, &(server.clone(), room))?;
            tx.touch(Touched::Other(ROOM_SERVERS_CHANGED));
        }
        ROOM_SERVERS.put(tx, &key, &count.saturating_add(1))?;
    }
    PARTIAL.put(tx, &room, &Json(row))
}

/// Notes an event that was judged by a partial state.
pub(super) fn note(tx: &mut Tx, room: u64, event: &Judged) -> Result<(), StoreError> {
    let Some((placement, given)) = event.passed else { return Ok(()) };
    let next = PARTIAL_EVENTS.prefix_rev(tx, &room)?.next().transpose()?.map_or(0, |((_, last), _)| last + 1);
    PARTIAL_EVENTS.put(tx, &(room, next), &(event.number, code(placement, given)))
}

/// This node leaves a room that lacks its members. The servers in it still have to hear of that.
pub(super) fn leave(tx: &mut Tx, room: u64) -> Result<(), StoreError> {
    let Some(row) = row(tx, room)? else { return Ok(()) };
    forget_events(tx, room)?;
    PARTIAL.put(tx, &room, &Json(PartialRow { left: true, ..row }))
}

fn forget_events(tx: &mut Tx, room: u64) -> Result<(), StoreError> {
    let noted: Vec<(u64, u64)> =
        PARTIAL_EVENTS.prefix(tx, &room)?.map(|row| row.map(|(key, _)| key)).collect::<Result<_, _>>()?;
    for key in noted {
        PARTIAL_EVENTS.delete(tx, &key)?;
    }
    Ok(())
}

/// The members are here, or the room is joined anew.
pub(super) fn end(tx: &mut Tx, room: u64) -> Result<(), StoreError> {
    let Some(Json(row)) = PARTIAL.get(tx, &room)? else { return Ok(()) };
    PARTIAL.delete(tx, &room)?;
    forget_events(tx, room)?;
    for server in row.servers {
        let key = (room, server);
        match ROOM_SERVERS.get(tx, &key)?.unwrap_or_default() {
            0 | 1 => {
                ROOM_SERVERS.delete(tx, &key)?;
                tx.touch(Touched::Other(ROOM_SERVERS_CHANGED));
            }
            count => ROOM_SERVERS.put(tx, &key, &(count - 1))?,
        }
    }
    Ok(())
}

/// How an event was placed, as it stands in [`PARTIAL_EVENTS`].
fn code(placement: Placement, given: bool) -> u64 {
    let placement = match placement {
        Placement::Live => 0,
        Placement::Late => 1,
        Placement::Historical => 2,
    };
    placement | u64::from(given) << 2
}

fn placement(code: u64) -> Placement {
    match code & 3 {
        0 => Placement::Live,
        1 => Placement::Late,
        _ => Placement::Historical,
    }
}

impl Room {
    /// The join without its members, if the room lacks them.
    ///
    /// # Errors
    /// The store's.
    pub fn uncompleted(&self) -> Answer<Option<Uncompleted>> {
        let snapshot = self.parts.store.snapshot()?;
        let Some(row) = row(&snapshot, self.number())? else { return Ok(None) };
        let join = self.stored(&snapshot, row.join)?;
        let through = OwnedServerName::try_from(row.through).map_err(MatrixError::internal)?;
        Ok(Some(Uncompleted { join, through }))
    }

    /// Completes a room that was joined without its members: `state` and `auth_chain` are the events of the whole state before
    /// the join and of what these rest on. All have passed [`kith_room::receive::receive`]. What has come since the join is judged
    /// anew. False, and nothing is done, if the room lacks nothing.
    ///
    /// # Errors
    /// 502 if the state does not allow the join: another server may do better. The store's.
    pub async fn complete(&self, auth_chain: Vec<Arc<Event>>, state: Vec<Arc<Event>>) -> Answer<bool> {
        let mut guard = self.shared.head.lock().await;
        self.settle().await?;
        let snapshot = self.parts.store.snapshot()?;
        let (Some(row), Some(room)) = (row(&snapshot, self.number())?, ROOMS.get(&snapshot, &self.number())?) else {
            return Ok(false);
        };
        let mut head = Head::load(self.number(), &room.0, self.version(), self.id(), self.rules(), &snapshot)?;
        let join = self.stored(&snapshot, row.join)?;
        let passed = self.passed(&head, &snapshot)?;
        let completion = {
            let past = Past::new(self.number(), self.rules(), &head.recent, &snapshot);
            let auth_chain = past.without_elsewhere(auth_chain).map_err(MatrixError::internal)?;
            let state = past.without_elsewhere(state).map_err(MatrixError::internal)?;
            complete(self.version(), auth_chain, state, join, passed, &past).map_err(|error| {
                MatrixError::unreachable(format!("the server's answer does not complete the room: {error}"))
            })?
        };
        // Until all is submitted the head is nobody's: when something fails it is loaded anew.
        *guard = None;
        // The members' events are stored while the state that they make is written down.
        let mut change = head::Draft::new(self.number(), self.rules(), &head, &self.parts.store, &snapshot);
        change.outliers(&mut head, completion.checked.events)?;
        let members = match change.is_empty() {
            true => None,
            false => Some(self.submit_first(&mut head, change, Beside::default())?),
        };
        let mut change = head::Draft::new(self.number(), self.rules(), &head, &self.parts.store, &snapshot);
        // The stored state is partial: the new ones are not made from it.
        head.at.engine = completion.room;
        head.at.state = 0;
        for verdict in &completion.verdicts {
            change.take(&mut head, verdict, Manner::default())?;
        }
        change.completes();
        *guard = Some(head);
        let submitted = self.submit(guard, change, Beside::default())?;
        drop(snapshot);
        if let Some(members) = members {
            self.committed(members).await?;
        }
        self.committed(submitted).await?;
        Ok(true)
    }

    /// What came since the join, in that order.
    fn passed(&self, head: &Head, snapshot: &Snapshot) -> Answer<Vec<Passed>> {
        let past = Past::new(self.number(), self.rules(), &head.recent, snapshot);
        let mut passed = Vec::new();
        for noted in PARTIAL_EVENTS.prefix(snapshot, &self.number())? {
            let (_, (number, code)) = noted?;
            let given = match EVENTS.get(snapshot, &number)? {
                Some(row) if code & 4 != 0 => Some(past.state(row.state_before).map_err(MatrixError::internal)?),
                _ => None,
            };
            passed.push(Passed { event: self.stored(snapshot, number)?, placement: placement(code), given });
        }
        Ok(passed)
    }

    fn stored(&self, snapshot: &Snapshot, number: u64) -> Answer<Arc<Event>> {
        let row = EVENTS.get(snapshot, &number)?;
        let row = row.ok_or_else(|| MatrixError::internal("an event that a partial room names is not stored"))?;
        let id = OwnedEventId::try_from(row.event_id).map_err(MatrixError::internal)?;
        Event::from_stored(row.json, id, self.rules()).map(Arc::new).map_err(MatrixError::internal)
    }
}
