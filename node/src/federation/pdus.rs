//! Checking events as they come from another server: form, signatures, hash.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kith_room::{Event, ReceiveError, graph::sort_by_prev_events, receive::receive_with};
use ruma::{EventId, OwnedEventId, OwnedServerName, RoomId, RoomVersionId, ServerName};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    keys::{self, Needs, ServerKeys},
    stats::{Refusal, Stats},
};
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

/// Checks one event, and counts what comes of it. Keys of servers with a key name are in the name; those of others are fetched if
/// they are not known.
///
/// # Errors
/// The event is to be dropped.
pub async fn check(node: &Arc<Node>, pdu: &RawValue, version: &RoomVersionId) -> Result<Arc<Event>, ReceiveError> {
    let look = || receive_with(pdu.get(), version, &|server, id, at| keys::at_hand(node, server, id, at));
    let result = match look() {
        Err(ReceiveError::NoKey { .. }) => {
            keys::fetch_for_event(node, pdu.get(), version).await;
            look()
        }
        result => result,
    };
    counted(&node.federation.stats, result.map(Arc::new))
}

fn counted(stats: &Stats, result: Result<Arc<Event>, ReceiveError>) -> Result<Arc<Event>, ReceiveError> {
    let event = result.inspect_err(|error| stats.refused.add(error))?;
    if event.redacted() {
        stats.pdus_redacted.add();
    }
    Ok(event)
}

/// Checks events one by one, and gives what comes of each, in their order. The keys that they need are fetched together.
pub async fn check_each(
    node: &Arc<Node>,
    version: &RoomVersionId,
    pdus: Vec<Box<RawValue>>,
) -> Answer<Vec<Result<Arc<Event>, ReceiveError>>> {
    // Of many events most are signed by one server, whose keys the first of them tells.
    if let Some(pdu) = pdus.first().filter(|_| pdus.len() > CHECKED_AT_ONCE) {
        keys::fetch_for_event(node, pdu.get(), version).await;
    }
    // Most need no key that is not in a name or at hand: only those that do are looked at twice.
    let purpose = if pdus.len() > CHECKED_AT_ONCE { keys::For::Rooms } else { keys::For::Events };
    let first = in_parts(node, version, pdus, BTreeMap::new()).await?;
    let mut needed = Needs::new();
    for result in &first {
        if let Err(Unchecked::NeedsKeys(_, needs)) = result {
            for (server, keys) in needs {
                let all = needed.entry(server.clone()).or_default();
                all.extend(keys.iter().filter(|key| !all.contains(key)).cloned().collect::<Vec<_>>());
            }
        }
    }
    let stats = &node.federation.stats;
    let (mut results, mut again) = (Vec::with_capacity(first.len()), Vec::new());
    for (place, result) in first.into_iter().enumerate() {
        results.push(match result {
            Ok(event) => Some(counted(stats, Ok(event))),
            Err(Unchecked::Refused(error)) => Some(counted(stats, Err(error))),
            Err(Unchecked::NeedsKeys(pdu, _)) => {
                again.push((place, pdu));
                None
            }
        });
    }
    if !again.is_empty() {
        let known = keys::gather(node, &needed, purpose).await;
        let (places, pdus): (Vec<_>, Vec<_>) = again.into_iter().unzip();
        let second = in_parts(node, version, pdus, known).await?;
        for (place, result) in places.into_iter().zip(second) {
            let result = result.map_err(|unchecked| match unchecked {
                Unchecked::Refused(error) => error,
                Unchecked::NeedsKeys(_, needs) => without_keys(&needs),
            });
            if let Some(slot) = results.get_mut(place) {
                *slot = Some(counted(stats, result));
            }
        }
    }
    Ok(results.into_iter().flatten().collect())
}

enum Unchecked {
    Refused(ReceiveError),
    /// The event is given back to be looked at again with these.
    NeedsKeys(Box<RawValue>, Needs),
}

fn without_keys(needs: &Needs) -> ReceiveError {
    match needs.iter().next() {
        Some((server, keys)) => {
            ReceiveError::NoKey { server: server.clone(), key_ids: keys.iter().map(|(id, _)| id.clone()).collect() }
        }
        None => ReceiveError::Format("no server signed the event".to_owned()),
    }
}

type Known = BTreeMap<OwnedServerName, ServerKeys>;
type Looked = Result<Arc<Event>, Unchecked>;

/// Checks events with these keys. Signatures of a large room's state take seconds of work, which is shared out to the blocking
/// threads.
async fn in_parts(
    node: &Arc<Node>,
    version: &RoomVersionId,
    mut pdus: Vec<Box<RawValue>>,
    known: Known,
) -> Answer<Vec<Looked>> {
    if pdus.len() <= CHECKED_AT_ONCE {
        return Ok(look_at(node, version, pdus, &known));
    }
    let known = Arc::new(known);
    let mut jobs = Vec::new();
    while !pdus.is_empty() {
        let rest = pdus.split_off(pdus.len().min(PART));
        let part = std::mem::replace(&mut pdus, rest);
        let (for_part, version, known) = (node.clone(), version.clone(), known.clone());
        jobs.push(node.spawner.blocking("check events", move || look_at(&for_part, &version, part, &known)));
    }
    let mut looked = Vec::new();
    for part in futures::future::join_all(jobs).await {
        looked.extend(part.map_err(MatrixError::internal)?);
    }
    Ok(looked)
}

/// Checks events with these keys, and those at hand.
fn look_at(node: &Node, version: &RoomVersionId, pdus: Vec<Box<RawValue>>, known: &Known) -> Vec<Looked> {
    let key = |server: &ServerName, id: &str, at| match known.get(server) {
        Some(row) => keys::usable_at(row, id, at),
        None => keys::at_hand(node, server, id, at),
    };
    let look = |pdu: Box<RawValue>| match receive_with(pdu.get(), version, &key) {
        Ok(event) => Ok(Arc::new(event)),
        Err(ReceiveError::NoKey { .. }) => {
            let needs = keys::needs(pdu.get(), version);
            Err(Unchecked::NeedsKeys(pdu, needs))
        }
        Err(error) => Err(Unchecked::Refused(error)),
    };
    pdus.into_iter().map(look).collect()
}

/// Checks many events of one room; those that fail are left out and logged. Gives them in an order in which each comes after
/// its prev events.
///
/// # Errors
/// The node is stopping.
pub async fn check_many(
    node: &Arc<Node>,
    room_id: &RoomId,
    version: &RoomVersionId,
    pdus: Vec<Box<RawValue>>,
) -> Answer<Vec<Arc<Event>>> {
    let events = check_set(node, room_id, version, pdus).await?;
    if events.len() <= CHECKED_AT_ONCE {
        return Ok(sorted(node, events));
    }
    let sorter = node.clone();
    node.spawner.blocking("sort events", move || sorted(&sorter, events)).await.map_err(MatrixError::internal)
}

/// As [`check_many`] in the order in which they came: for a state or an auth chain, whose order says nothing.
///
/// # Errors
/// The node is stopping.
pub async fn check_set(
    node: &Arc<Node>,
    room_id: &RoomId,
    version: &RoomVersionId,
    pdus: Vec<Box<RawValue>>,
) -> Answer<Vec<Arc<Event>>> {
    let mut events = Vec::with_capacity(pdus.len());
    for result in check_each(node, version, pdus).await? {
        match result {
            Ok(event) if event.room_id() == room_id => events.push(event),
            Ok(event) => {
                node.federation.stats.refused.add(Refusal::Room);
                tracing::info!(event = %event.event_id(), "an event of another room is left out");
            }
            Err(error) => tracing::info!(room = %room_id, %error, "an event is left out"),
        }
    }
    Ok(events)
}

/// The events so that each comes after its prev events; those that follow themselves by others are left out and counted.
fn sorted(node: &Node, events: Vec<Arc<Event>>) -> Vec<Arc<Event>> {
    let given: BTreeSet<OwnedEventId> = events.iter().map(|event| event.event_id().to_owned()).collect();
    let sorted = sort_by_prev_events(events);
    node.federation.stats.refused.add_many(Refusal::Cycle, given.len().saturating_sub(sorted.len()));
    sorted
}

/// Checks an event sent to a membership endpoint: of that room, with that ID.
///
/// # Errors
/// 400 with what is wrong.
pub async fn check_named(
    node: &Arc<Node>,
    pdu: &RawValue,
    version: &RoomVersionId,
    room_id: &RoomId,
    event_id: &EventId,
) -> Answer<Arc<Event>> {
    let event = check(node, pdu, version).await.map_err(|error| MatrixError::invalid_param(error.to_string()))?;
    if event.room_id() != room_id {
        node.federation.stats.refused.add(Refusal::Room);
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
