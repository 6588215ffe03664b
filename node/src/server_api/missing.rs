//! `POST /_matrix/federation/v1/get_missing_events`, `GET /_matrix/federation/v1/{backfill,timestamp_to_event}`: what another
//! server lacks of a room's graph. Server-server specification, "Backfilling and retrieving missing events".

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kith_store::{
    Read,
    tables::rooms::{EVENT_IDS, EventStatus, TIMELINE},
};
use ruma::{
    EventId, OwnedEventId,
    api::{
        Direction,
        federation::{
            backfill::get_backfill::v1 as backfill,
            event::{get_event_by_timestamp::v1 as timestamp_to_event, get_missing_events::v1 as get_missing_events},
        },
    },
};
use serde_json::{Value, value::RawValue};

use super::{events::count, template::joined_room, visibility};
use crate::{
    Node,
    federation::rules,
    http::{Answer, MatrixError, Routes, endpoint::Origin},
    platform::SpawnerExt as _,
    rooms::{Room, read, read::StoredEvent, timestamp},
};

/// Events in one answer.
const MOST_EVENTS: usize = 200;
/// Bytes in one answer, about.
const MOST_BYTES: usize = 4 << 20;
/// Event IDs that a request may name.
const MOST_NAMED: usize = 200;
/// Events looked at for one by its time.
const MOST_LOOKED_AT: usize = 20_000;
/// Of these, the nearest that are tried for one that the server may see.
const MOST_TRIED: usize = 100;

/// The routes of this file.
pub fn routes(routes: Routes) -> Routes {
    routes.add(missing).add(back).add(by_timestamp)
}

async fn missing(
    node: Arc<Node>,
    origin: Origin,
    request: get_missing_events::Request,
) -> Answer<get_missing_events::Response> {
    let room = joined_room(&node, &request.room_id, &origin.server)?;
    let named = request.latest_events.len().saturating_add(request.earliest_events.len());
    if named > 2 * MOST_NAMED {
        return Err(MatrixError::invalid_param("too many events are named"));
    }
    let events = node.store.read(|snapshot| {
        let is_in = rules::is_in_room(snapshot, room.number(), &origin.server)?;
        let mut start = Vec::new();
        for id in &request.latest_events {
            if let Some(event) = in_graph(snapshot, &room, id)? {
                start.extend(prev_events(&event));
            }
        }
        let known: BTreeSet<OwnedEventId> =
            request.earliest_events.iter().chain(&request.latest_events).cloned().collect();
        let walk = Walk { min_depth: request.min_depth.into(), known, most: count(request.limit, MOST_EVENTS) };
        let found = walk.run(snapshot, &room, start)?;
        show(snapshot, &room, found, &origin, is_in)
    })?;
    Ok(get_missing_events::Response::new(events))
}

async fn back(node: Arc<Node>, origin: Origin, request: backfill::Request) -> Answer<backfill::Response> {
    let room = joined_room(&node, &request.room_id, &origin.server)?;
    if request.v.len() > MOST_NAMED {
        return Err(MatrixError::invalid_param("too many events are named"));
    }
    let pdus = node.store.read(|snapshot| {
        let is_in = rules::is_in_room(snapshot, room.number(), &origin.server)?;
        let walk = Walk { min_depth: 0, known: BTreeSet::new(), most: count(request.limit, MOST_EVENTS) };
        let mut found = walk.run(snapshot, &room, request.v.clone())?;
        found.reverse();
        show(snapshot, &room, found, &origin, is_in)
    })?;
    Ok(backfill::Response::new(node.server_name().to_owned(), timestamp(node.clock.now_ms()), pdus))
}

/// The events as the server may see them. One that is not in the room any more is not even told of those it may not see.
fn show(
    snapshot: &dyn Read,
    room: &Room,
    mut events: Vec<StoredEvent>,
    origin: &Origin,
    is_in: bool,
) -> Answer<Vec<Box<RawValue>>> {
    let eyes = visibility::Eyes::new(snapshot, room, &origin.server)?;
    if !is_in {
        let mut seen = Vec::new();
        for event in events {
            if visibility::may_see(&eyes, &event)? {
                seen.push(event);
            }
        }
        events = seen;
    }
    events.iter().map(|event| visibility::shown(&eyes, event)).collect()
}

/// A walk through the graph, from some events backwards, the deepest first.
struct Walk {
    min_depth: u64,
    /// Where it stops.
    known: BTreeSet<OwnedEventId>,
    most: usize,
}

impl Walk {
    /// The events found, those that come first in the room first.
    fn run(&self, snapshot: &dyn Read, room: &Room, start: Vec<OwnedEventId>) -> Answer<Vec<StoredEvent>> {
        let mut open: BTreeMap<(u64, u64), StoredEvent> = BTreeMap::new();
        let mut seen: BTreeSet<u64> = BTreeSet::new();
        let mut found = Vec::new();
        let mut bytes = 0;
        let mut next = start;
        loop {
            for id in next {
                if self.known.contains(&id) {
                    continue;
                }
                if let Some(event) = in_graph(snapshot, room, &id)?
                    && event.row.depth >= self.min_depth
                    && seen.insert(event.number)
                {
                    open.insert((event.row.depth, event.number), event);
                }
            }
            let Some((_, event)) = open.pop_last() else { break };
            bytes += event.row.json.len();
            if found.len() >= self.most || (bytes > MOST_BYTES && !found.is_empty()) {
                break;
            }
            next = prev_events(&event);
            found.push(event);
        }
        found.reverse();
        Ok(found)
    }
}

/// An event with a place in the room's graph.
fn in_graph(snapshot: &dyn Read, room: &Room, id: &EventId) -> Answer<Option<StoredEvent>> {
    let Some(number) = EVENT_IDS.get(snapshot, &id.to_string())? else { return Ok(None) };
    let event = read::event(snapshot, number)?;
    Ok(event.filter(|event| event.row.room == room.number() && event.row.status != EventStatus::Outlier))
}

fn prev_events(event: &StoredEvent) -> Vec<OwnedEventId> {
    event
        .pdu()
        .get("prev_events")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        // In room versions 1 and 2, in a pair with its hash.
        .filter_map(|cited| OwnedEventId::try_from(cited.as_str().or_else(|| cited.get(0)?.as_str())?).ok())
        .collect()
}

async fn by_timestamp(
    node: Arc<Node>,
    origin: Origin,
    request: timestamp_to_event::Request,
) -> Answer<timestamp_to_event::Response> {
    let room = joined_room(&node, &request.room_id, &origin.server)?;
    let reader = node.clone();
    let look = move || reader.store.read(|snapshot| nearest(snapshot, &room, &origin, &request));
    let found = node.spawner.blocking("timestamp_to_event", look).await.map_err(MatrixError::internal)??;
    let event = found.ok_or_else(|| MatrixError::not_found("no event lies on that side of the time"))?;
    let id = OwnedEventId::try_from(event.row.event_id.as_str()).map_err(MatrixError::internal)?;
    Ok(timestamp_to_event::Response::new(id, timestamp(event.timestamp())))
}

/// The event nearest to a time, on the side asked for, among those that the server may see.
fn nearest(
    snapshot: &dyn Read,
    room: &Room,
    origin: &Origin,
    request: &timestamp_to_event::Request,
) -> Answer<Option<StoredEvent>> {
    rules::check_in_room(snapshot, room.number(), &origin.server)?;
    let wanted = u64::from(request.ts.0);
    // Times are what senders say, in no order: the nearest is only found by looking at all.
    let mut near = Vec::new();
    for row in TIMELINE.prefix_rev(snapshot, &room.number())?.take(MOST_LOOKED_AT) {
        let ((_, _, number), ()) = row?;
        let Some(event) = read::event(snapshot, number)? else { continue };
        let distance = match request.dir {
            Direction::Forward => event.timestamp().checked_sub(wanted),
            Direction::Backward => wanted.checked_sub(event.timestamp()),
        };
        near.extend(distance.map(|distance| (distance, number)));
    }
    near.sort_unstable();
    let eyes = visibility::Eyes::new(snapshot, room, &origin.server)?;
    for (_, number) in near.into_iter().take(MOST_TRIED) {
        if let Some(event) = read::event(snapshot, number)?
            && visibility::may_see(&eyes, &event)?
        {
            return Ok(Some(event));
        }
    }
    Ok(None)
}
