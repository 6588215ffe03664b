//! A change of a room as it goes to the store: judged events and the head they leave, in one atomic step.

use std::collections::BTreeSet;

use kith_mutants::mutant;
use kith_room::{Placement, json};
use kith_store::{
    Corrupt, Json, StoreError, Touched, Tx,
    tables::rooms::{
        CURRENT_STATE, EVENT_IDS, EVENTS, EXTREMITIES, EventRow, EventStatus, GAPS, GAPS_BY_EVENT, OWN_STREAM,
        REDACTED_BY, RELATIONS, ROOM_SERVERS, ROOMS, STATE_STREAM, STREAM, STRIPPED, TIMELINE,
    },
};
use serde_json::Value;

use super::{
    addressees,
    members::{Memberships, StateChange},
    parking, partial, read, redaction, search, states, transactions,
};
use crate::e2ee;

/// Where an event goes beside the table of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// At the live end: it is given a stream position and shown by sync.
    Live,
    /// Into the history only: found by scrolling.
    History,
    /// Nowhere: an outlier, a rejected or a soft-failed event.
    Hidden,
}

/// A state that is stored with a change.
#[derive(Debug, Clone)]
pub(super) struct NewState {
    pub(super) number: u64,
    pub(super) parent: u64,
    pub(super) changes: Vec<((String, String), u64)>,
}

/// What a redaction is aimed at.
#[derive(Debug, Clone)]
pub(super) struct Redacts {
    /// The event.
    pub(super) target: String,
    /// Whether the sender may redact what others sent. Users of the target's own server always may.
    pub(super) powerful: bool,
}

/// An event the engine has judged, ready to be stored.
#[derive(Debug, Clone)]
pub(super) struct Judged {
    pub(super) number: u64,
    pub(super) event_id: String,
    pub(super) sender: String,
    pub(super) json: String,
    pub(super) status: EventStatus,
    pub(super) place: Place,
    pub(super) ours: bool,
    pub(super) depth: u64,
    pub(super) state_before: u64,
    pub(super) state_after: u64,
    pub(super) new_states: Vec<NewState>,
    pub(super) auth: Vec<u64>,
    /// Its content was not the one its sender hashed, and is left out.
    pub(super) stripped: bool,
    /// Prev events that are not here: gaps in the history.
    pub(super) gaps: Vec<String>,
    /// The event it redacts.
    pub(super) redacts: Option<Redacts>,
    /// The device and transaction ID of the client's request that made it.
    pub(super) transaction: Option<(String, String)>,
    /// How it was placed, and whether the state before it was given by another server; none for outliers.
    pub(super) passed: Option<(Placement, bool)>,
}

/// The head a change leaves.
#[derive(Debug, Clone)]
pub(super) struct NewHead {
    pub(super) extremities: Vec<u64>,
    pub(super) state: u64,
    pub(super) state_changes: Vec<StateChange>,
    pub(super) depth: u64,
}

/// A change of one room.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) room: u64,
    pub(super) version: ruma::RoomVersionId,
    /// The count of changes of the head that this one is built on.
    pub(super) built_on: u64,
    pub(super) events: Vec<Judged>,
    pub(super) head: Option<NewHead>,
    /// The events that have a place were judged anew, because the room's members have come.
    pub(super) completes: bool,
}

/// Who we are, for telling our users and destinations from others'.
#[derive(Debug, Clone)]
pub(super) struct Us {
    pub(super) server: String,
}

impl Us {
    pub(super) fn hosts(&self, user: &str) -> bool {
        server_of(user) == self.server
    }
}

/// The server part of a user ID, or of an event ID of room versions 1 and 2.
pub(super) fn server_of(user: &str) -> &str {
    user.split_once(':').map_or("", |(_, server)| server)
}

/// Why a change was not stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChangeError {
    /// The room has changed since the change was made: the head must be loaded anew.
    #[error("the room's head has moved on")]
    Stale,
    /// An event's ID has become that of an event of another room while the change was made (room versions 1 and 2 only).
    #[error("another room has an event with the same ID")]
    Taken,
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Stores a change. Gives the stream positions of its events, in order; 0 for those that have none.
pub(super) fn store(tx: &mut Tx, us: &Us, change: &Change) -> Result<Vec<u64>, ChangeError> {
    let mut room = ROOMS.get(tx, &change.room)?.ok_or_else(|| missing("rooms"))?.0;
    if room.changes != change.built_on {
        return Err(ChangeError::Stale);
    }
    room.changes += 1;
    // Of what others made nobody is told by us, and a room may have very many servers.
    let servers_before = match change.events.iter().any(|event| event.ours) {
        true => read::servers(tx, change.room)?,
        false => Vec::new(),
    };
    let mut positions = Vec::with_capacity(change.events.len());
    let mut shown = change.completes;
    let partial = partial::row(tx, change.room)?.filter(|_| !change.completes);
    for event in &change.events {
        if is_taken(tx, change.room, event)? {
            return Err(ChangeError::Taken);
        }
        let position = match change.completes && event.passed.is_some() {
            true => judge_anew(tx, change, event)?,
            false => store_event(tx, change, event)?,
        };
        if partial.as_ref().is_some_and(|partial| partial.join != event.number) {
            partial::note(tx, change.room, event)?;
        }
        shown |= position != 0;
        positions.push(position);
    }
    if let Some(head) = &change.head {
        let old: Vec<(u64, u64)> =
            EXTREMITIES.prefix(tx, &change.room)?.map(|row| row.map(|(key, ())| key)).collect::<Result<_, _>>()?;
        // Only what differs: somebody may have left the room very many ends.
        let (old, new): (BTreeSet<u64>, BTreeSet<u64>) =
            (old.into_iter().map(|(_, number)| number).collect(), head.extremities.iter().copied().collect());
        for number in old.difference(&new) {
            EXTREMITIES.delete(tx, &(change.room, *number))?;
        }
        for number in new.difference(&old) {
            EXTREMITIES.put(tx, &(change.room, *number), &())?;
        }
        let position = match change.completes {
            // Whoever has heard of the room hears now who else is in it.
            true => tx.next_position(),
            false => positions.iter().copied().max().unwrap_or_default(),
        };
        let mut memberships = Memberships { us, room: change.room, joined: room.joined, encrypted: None, position };
        for place in &head.state_changes {
            let row = (change.room, place.key.0.clone(), place.key.1.clone());
            match place.event {
                Some(number) => CURRENT_STATE.put(tx, &row, &number)?,
                None => drop(CURRENT_STATE.delete(tx, &row)?),
            }
            if place.key.0 == "m.room.member" {
                memberships.change(tx, place)?;
            }
        }
        if change.completes {
            partial::end(tx, change.room)?;
            room.completed = position;
        }
        if position != 0 && room.state != head.state {
            STATE_STREAM.put(tx, &(change.room, position), &head.state)?;
        }
        room.state = head.state;
        room.depth = room.depth.max(head.depth);
    }
    let was_joined = room.joined;
    room.joined = ROOM_SERVERS.contains(tx, &(change.room, us.server.clone()))?;
    let is_joined = room.joined;
    if was_joined && !is_joined {
        partial::leave(tx, change.room)?;
    }
    if is_joined && !was_joined {
        let shown = change.events.iter().zip(&positions).filter(|(_, position)| **position != 0);
        room.begin = shown.map(|(event, _)| event.depth.saturating_sub(1)).min().unwrap_or_default();
    }
    ROOMS.put(tx, &change.room, &Json(room))?;
    match (was_joined, is_joined) {
        (false, true) => e2ee::remote::room_entered(tx, change.room)?,
        (true, false) => e2ee::remote::room_left(tx, &us.server, change.room)?,
        _ => {}
    }
    if shown {
        tx.touch(Touched::Room(change.room));
        for user in read::local_members(tx, change.room)? {
            tx.touch(Touched::User(user));
        }
    }
    addressees::note(tx, us, change, &servers_before, &positions)?;
    Ok(positions)
}

/// Whether an event of another room has this event's ID. From room version 3 on IDs are hashes, which do not meet.
fn is_taken(tx: &Tx, room: u64, event: &Judged) -> Result<bool, StoreError> {
    if server_of(&event.event_id).is_empty() {
        return Ok(false);
    }
    let Some(number) = EVENT_IDS.get(tx, &event.event_id)?.filter(|number| *number != event.number) else {
        return Ok(false);
    };
    Ok(EVENTS.get(tx, &number)?.is_some_and(|row| row.room != room))
}

fn store_event(tx: &mut Tx, change: &Change, event: &Judged) -> Result<u64, StoreError> {
    for state in &event.new_states {
        states::append(tx, state.number, state.parent, &state.changes)?;
    }
    let position = if event.place == Place::Live { tx.next_position() } else { 0 };
    let known = EVENTS.get(tx, &event.number)?;
    let mut json = event.json.clone();
    let room = change.room;
    if redaction::is_due(tx, room, event)? || (known.is_some() && REDACTED_BY.contains(tx, &event.number)?) {
        json = redaction::prune(&json, &change.version)?;
    }
    let row = EventRow {
        room,
        status: event.status,
        ours: event.ours,
        depth: event.depth,
        position,
        state_before: event.state_before,
        state_after: event.state_after,
        auth: event.auth.clone(),
        event_id: event.event_id.clone(),
        json,
    };
    EVENTS.put(tx, &event.number, &row)?;
    EVENT_IDS.put(tx, &event.event_id, &event.number)?;
    if event.stripped && known.is_none() {
        STRIPPED.put(tx, &event.number, &())?;
    }
    // One that comes as an outlier still waits for its place.
    if event.status != EventStatus::Outlier {
        parking::unpark(tx, room, &event.event_id)?;
    }
    // Whatever became of it, it is not missing any more.
    if event.status != EventStatus::Outlier && !mutant!("leaves-gap-open") {
        close_gaps(tx, room, &event.event_id)?;
    }
    for gap in &event.gaps {
        let depth = event.depth.saturating_sub(1);
        GAPS.put(tx, &(room, depth, gap.clone()), &event.number)?;
        GAPS_BY_EVENT.put(tx, &(room, gap.clone(), depth), &())?;
    }
    if event.place != Place::Hidden {
        TIMELINE.put(tx, &(room, event.depth, event.number), &())?;
        search::index(tx, room, event.number, &row.json)?;
        relate(tx, room, event)?;
        if let Some(redacts) = &event.redacts {
            redaction::apply(tx, room, &change.version, redacts, event)?;
        }
    }
    if position != 0 {
        STREAM.put(tx, &(room, position), &event.number)?;
        if event.ours {
            OWN_STREAM.put(tx, &(room, position), &event.number)?;
        }
    }
    transactions::note(tx, room, event)?;
    Ok(position)
}

/// Stores what has become of an event now that it was judged by a whole state. It keeps its place, unless it turns out not to be
/// allowed; one that turns out to be allowed is new.
fn judge_anew(tx: &mut Tx, change: &Change, event: &Judged) -> Result<u64, StoreError> {
    let row = EVENTS.get(tx, &event.number)?.ok_or_else(|| missing("events"))?;
    let (was_shown, is_shown) = (row.status == EventStatus::Accepted, event.status == EventStatus::Accepted);
    if is_shown && !was_shown {
        return store_event(tx, change, event);
    }
    for state in &event.new_states {
        states::append(tx, state.number, state.parent, &state.changes)?;
    }
    let mut position = row.position;
    if was_shown && !is_shown {
        TIMELINE.delete(tx, &(change.room, row.depth, event.number))?;
        search::forget(tx, change.room, event.number)?;
        STREAM.delete(tx, &(change.room, position))?;
        OWN_STREAM.delete(tx, &(change.room, position))?;
        position = 0;
    }
    let (state_before, state_after) = (event.state_before, event.state_after);
    EVENTS.put(tx, &event.number, &EventRow { status: event.status, position, state_before, state_after, ..row })?;
    Ok(0)
}

/// Puts the content back into an event that came without: some server had tampered with the copy that came first. `json` is a
/// copy that passed all checks.
pub(super) fn mend(tx: &mut Tx, room: u64, event_id: &str, json: String) -> Result<(), StoreError> {
    let Some(number) = EVENT_IDS.get(tx, &event_id.to_owned())? else { return Ok(()) };
    let Some(row) = EVENTS.get(tx, &number)?.filter(|row| row.room == room) else { return Ok(()) };
    if STRIPPED.delete(tx, &number)? && !REDACTED_BY.contains(tx, &number)? {
        if TIMELINE.contains(tx, &(room, row.depth, number))? {
            search::index(tx, room, number, &json)?;
        }
        EVENTS.put(tx, &number, &EventRow { json, ..row })?;
        tx.touch(Touched::Room(room));
    }
    Ok(())
}

fn close_gaps(tx: &mut Tx, room: u64, event_id: &str) -> Result<(), StoreError> {
    let closed: Vec<_> = GAPS_BY_EVENT
        .prefix(tx, &(room, event_id.to_owned()))?
        .map(|row| row.map(|(key, ())| key))
        .collect::<Result<_, _>>()?;
    for key in closed {
        GAPS_BY_EVENT.delete(tx, &key)?;
        GAPS.delete(tx, &(room, key.2, key.1))?;
    }
    Ok(())
}

/// Notes what the event relates to (specification, "Forwarding relationships between events").
fn relate(tx: &mut Tx, room: u64, event: &Judged) -> Result<(), StoreError> {
    if !event.json.contains("m.relates_to") {
        return Ok(());
    }
    let Ok(pdu) = json::plain_object(&event.json) else { return Ok(()) };
    let relates = pdu.get("content").and_then(|content| content.get("m.relates_to"));
    let text = |field: &str| relates.and_then(|relates| relates.get(field)).and_then(Value::as_str);
    if let (Some(target), Some(kind)) = (text("event_id"), text("rel_type"))
        && target.len() <= 255
        && kind.len() <= 255
    {
        let of_kind = pdu.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        RELATIONS.put(tx, &(room, target.to_owned(), kind.to_owned(), event.number), &of_kind)?;
    }
    Ok(())
}

pub(super) fn pdu_text(json: &str, field: &str) -> String {
    json::plain_object(json)
        .ok()
        .and_then(|pdu| pdu.get(field).and_then(Value::as_str).map(str::to_owned))
        .unwrap_or_default()
}

fn missing(table: &'static str) -> StoreError {
    StoreError::Corrupt { table, cause: Corrupt::new("a row that another one names is missing") }
}
