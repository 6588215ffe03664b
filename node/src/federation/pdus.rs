//! Checking events as they come from another server: form, signatures, hash.

use std::{collections::BTreeSet, sync::Arc};

use kith_room::{Event, ReceiveError, graph::sort_by_prev_events, receive::receive};
use ruma::{EventId, OwnedEventId, RoomId, RoomVersionId, signatures::PublicKeyMap};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::stats::{Refusal, Stats};
use crate::{
    Node,
    http::{Answer, MatrixError},
    platform::SpawnerExt as _,
};

/// Up to this many events are checked without leaving the task.
const CHECKED_AT_ONCE: usize = 50;
/// Events that one job checks.
const PART: usize = 500;

/// The room an event says it is of, without any check; none for events of version 12 rooms that create them.
pub fn room_of(pdu: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Fields {
        room_id: Option<String>,
    }
    serde_json::from_str::<Fields>(pdu.get()).ok()?.room_id
}

/// Checks one event, and counts what comes of it. Keys of servers with a key name are in the name; keys of others are not
/// fetched yet.
///
/// # Errors
/// The event is to be dropped.
pub fn check(stats: &Stats, pdu: &RawValue, version: &RoomVersionId) -> Result<Arc<Event>, ReceiveError> {
    let event = receive(pdu.get(), version, &PublicKeyMap::new()).inspect_err(|error| stats.refused.add(error))?;
    if event.redacted() {
        stats.pdus_redacted.add();
    }
    Ok(Arc::new(event))
}

/// Checks many events of one room; those that fail are left out and logged. Gives them in an order in which each comes after
/// its prev events. Signatures of a large room's state take seconds of work, which is shared out to the blocking threads.
///
/// # Errors
/// The node is stopping.
pub async fn check_many(
    node: &Arc<Node>,
    room_id: &RoomId,
    version: &RoomVersionId,
    mut pdus: Vec<Box<RawValue>>,
) -> Answer<Vec<Arc<Event>>> {
    if pdus.len() <= CHECKED_AT_ONCE {
        return Ok(sorted(node, check_part(&node.federation.stats, room_id, version, &pdus)));
    }
    let mut jobs = Vec::new();
    while !pdus.is_empty() {
        let part = pdus.split_off(pdus.len().saturating_sub(PART));
        let (checker, room_id, version) = (node.clone(), room_id.to_owned(), version.clone());
        let check = move || check_part(&checker.federation.stats, &room_id, &version, &part);
        jobs.push(node.spawner.blocking("check events", check));
    }
    let mut events = Vec::new();
    for part in futures::future::join_all(jobs).await {
        events.extend(part.map_err(MatrixError::internal)?);
    }
    let sorter = node.clone();
    node.spawner.blocking("sort events", move || sorted(&sorter, events)).await.map_err(MatrixError::internal)
}

/// The events so that each comes after its prev events; those that follow themselves by others are left out and counted.
fn sorted(node: &Node, events: Vec<Arc<Event>>) -> Vec<Arc<Event>> {
    let given: BTreeSet<OwnedEventId> = events.iter().map(|event| event.event_id().to_owned()).collect();
    let sorted = sort_by_prev_events(events);
    node.federation.stats.refused.add_many(Refusal::Cycle, given.len().saturating_sub(sorted.len()));
    sorted
}

fn check_part(stats: &Stats, room_id: &RoomId, version: &RoomVersionId, pdus: &[Box<RawValue>]) -> Vec<Arc<Event>> {
    let mut events = Vec::with_capacity(pdus.len());
    for pdu in pdus {
        match check(stats, pdu, version) {
            Ok(event) if event.room_id() == room_id => events.push(event),
            Ok(event) => {
                stats.refused.add(Refusal::Room);
                tracing::info!(event = %event.event_id(), "an event of another room is left out");
            }
            Err(error) => tracing::info!(room = %room_id, %error, "an event is left out"),
        }
    }
    events
}

/// Checks an event sent to a membership endpoint: of that room, with that ID.
///
/// # Errors
/// 400 with what is wrong.
pub fn check_named(
    stats: &Stats,
    pdu: &RawValue,
    version: &RoomVersionId,
    room_id: &RoomId,
    event_id: &EventId,
) -> Answer<Arc<Event>> {
    let event = check(stats, pdu, version).map_err(|error| MatrixError::invalid_param(error.to_string()))?;
    if event.room_id() != room_id {
        stats.refused.add(Refusal::Room);
        return Err(MatrixError::invalid_param("the event is of another room"));
    }
    if event.event_id() != event_id {
        return Err(MatrixError::invalid_param(format!("the event's ID is {}", event.event_id())));
    }
    if event.redacted() {
        return Err(MatrixError::invalid_param("the event's content hash does not match"));
    }
    Ok(event)
}

/// An event as JSON text for the wire.
///
/// # Errors
/// It is not JSON, which the store makes sure of.
pub fn raw(text: &str) -> Answer<Box<RawValue>> {
    RawValue::from_string(text.to_owned()).map_err(MatrixError::internal)
}
