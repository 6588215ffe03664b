//! Messages that a room wants kept for some time only (MSC1763, `m.room.retention`): they leave the disk when it is over.
//!
//! What goes is what a redaction would remove, and the event's place in the timeline, the stream and the index of words. Its ID,
//! sender and place in the graph stay, as other events cite it; no client is shown it. State events and the room's latest events are
//! never touched. It is looked once a minute, so that an event is gone a minute after its time at the latest.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use kith_store::{
    Read, StoreError, Tx,
    tables::rooms::{CURRENT_STATE, EVENTS, EXPIRED, EXTREMITIES, ROOMS, STREAM, TIMELINE},
};
use ruma::RoomVersionId;
use serde_json::Value;

use super::{
    read::{self, StoredEvent},
    redaction::prune,
    search,
};
use crate::{Node, http::Answer};

/// The types of the state event that says how long: the proposal's, and its unstable one.
const TYPES: [&str; 2] = ["m.room.retention", "org.matrix.msc1763.retention"];
/// How often it is looked.
const LOOK: Duration = Duration::from_secs(60);
/// A room is gone through anew after this time, in milliseconds, though nothing seems due: old events may have come.
const LOOK_THROUGH_MS: u64 = 3_600_000;
/// No event goes before this age, in milliseconds, whatever the room says: devices must have time to fetch it.
const SHORTEST_MS: u64 = 60_000;
/// Rows of the timeline that are read at once, and events that one change removes.
const PAGE: usize = 1_000;

/// How long a room wants its messages kept, in milliseconds; none: for ever.
///
/// # Errors
/// The store's.
pub(crate) fn lifetime(read: &dyn Read, room: u64) -> Result<Option<u64>, StoreError> {
    for kind in TYPES {
        let Some(number) = CURRENT_STATE.get(read, &(room, kind.to_owned(), String::new()))? else { continue };
        let Some(event) = read::event(read, number)? else { continue };
        if let Some(longest) = event.content().get("max_lifetime").and_then(Value::as_u64) {
            return Ok(Some(longest.max(SHORTEST_MS)));
        }
    }
    Ok(None)
}

/// When a room has to be gone through again.
struct Next {
    lifetime: u64,
    at: u64,
}

/// Removes what is over, for as long as the node runs.
pub(crate) async fn run(node: Weak<Node>) {
    let mut known: BTreeMap<u64, Next> = BTreeMap::new();
    loop {
        let Some(strong) = node.upgrade() else { return };
        if let Err(error) = look(&strong, &mut known).await {
            tracing::warn!(%error, "messages whose time is over could not be removed");
        }
        let sleep = strong.clock.sleep(LOOK);
        drop(strong);
        sleep.await;
    }
}

async fn look(node: &Arc<Node>, known: &mut BTreeMap<u64, Next>) -> Answer<()> {
    let now = node.clock.now_ms();
    let rooms: Vec<(u64, u64)> = node.store.read(|read| {
        let mut rooms = Vec::new();
        for row in ROOMS.range(read, ..)? {
            let (room, _) = row?;
            rooms.extend(lifetime(read, room)?.map(|lifetime| (room, lifetime)));
        }
        Ok::<_, StoreError>(rooms)
    })?;
    known.retain(|room, _| rooms.iter().any(|(other, _)| other == room));
    for (room, lifetime) in rooms {
        if known.get(&room).is_some_and(|next| next.lifetime == lifetime && now < next.at) {
            continue;
        }
        let at = go_through(node, room, lifetime, now).await?;
        known.insert(room, Next { lifetime, at });
    }
    Ok(())
}

/// Removes what is over in a room; gives the time at which the next message may be.
async fn go_through(node: &Arc<Node>, room: u64, lifetime: u64, now: u64) -> Answer<u64> {
    let mut next = now.saturating_add(LOOK_THROUGH_MS);
    let mut after = (room, 0, 0);
    loop {
        let is_over = |event: &StoredEvent, is_latest: bool| {
            let ends = event.timestamp().saturating_add(lifetime);
            let is_over = ends <= now && !is_latest;
            if !is_over {
                // One of the room's latest events goes as soon as another follows it: that is looked for each time.
                next = next.min(ends);
            }
            is_over
        };
        let (page, over) = node.store.read(|read| page(read, room, after, is_over))?;
        if !over.is_empty() {
            node.store.write(move |tx| remove(tx, room, &over)).await?;
        }
        match page {
            Some(last) => after = last,
            None => return Ok(next),
        }
    }
}

/// A place in the timeline.
type Place = (u64, u64, u64);

/// A page of the timeline: its last row, if there are more, and the messages that are over.
fn page(
    read: &dyn Read,
    room: u64,
    after: Place,
    mut is_over: impl FnMut(&StoredEvent, bool) -> bool,
) -> Result<(Option<Place>, Vec<Place>), StoreError> {
    let mut over = Vec::new();
    let mut last = None;
    let from = (after.0, after.1, after.2.saturating_add(1));
    for (count, row) in TIMELINE.prefix_from(read, &room, &from)?.enumerate() {
        if count >= PAGE {
            return Ok((last, over));
        }
        let (place, ()) = row?;
        last = Some(place);
        let Some(event) = read::event(read, place.2)? else { continue };
        // A redaction says nothing by itself, and what it took away must stay away.
        if event.state_key().is_none() && event.kind() != "m.room.redaction" {
            let is_latest = EXTREMITIES.contains(read, &(room, place.2))?;
            if is_over(&event, is_latest) {
                over.push(place);
            }
        }
    }
    Ok((None, over))
}

fn remove(tx: &mut Tx, room: u64, over: &[Place]) -> Result<(), StoreError> {
    let Some(version) = read::room(tx, room)?.and_then(|row| RoomVersionId::try_from(row.version).ok()) else {
        return Ok(());
    };
    for place in over {
        let number = place.2;
        let Some(mut row) = EVENTS.get(tx, &number)? else { continue };
        row.json = prune(&row.json, &version)?;
        TIMELINE.delete(tx, place)?;
        if row.position != 0 {
            STREAM.delete(tx, &(room, row.position))?;
        }
        search::forget(tx, room, number)?;
        EVENTS.put(tx, &number, &row)?;
        EXPIRED.put(tx, &number, &())?;
    }
    Ok(())
}

/// Whether an event was removed because its time was over.
///
/// # Errors
/// The store's.
pub(super) fn is_removed(read: &dyn Read, event: &StoredEvent) -> Result<bool, StoreError> {
    // What is left of one has no content: for all others nothing has to be looked up.
    Ok(event.state_key().is_none() && event.content_text() == "{}" && EXPIRED.contains(read, &event.number)?)
}
