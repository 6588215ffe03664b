//! `GET /rooms/{roomId}/messages` (client-server specification, "Getting events for a room"): scrolling through history,
//! of which the part that is not here is asked for from other servers.

use std::{collections::BTreeSet, sync::Arc};

use kith_store::{Read, StoreError};
use ruma::api::{
    Direction,
    client::{
        filter::{LazyLoadOptions, RoomEventFilter},
        message::get_message_events::v3 as get_message_events,
    },
};

use super::{LONGEST_PAGE, entered, page_length, remote, viewer};
use crate::{
    Node,
    http::{Answer, Routes, Session},
    rooms::{
        client_event::{Form, Showing, Viewer},
        filter::passes,
        read::{self, StoredEvent},
        timeline::{self, Edge, Place},
    },
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(get_message_events)
}

/// How often one request asks other servers for history.
const MOST_BACKFILLS: usize = 3;

async fn get_message_events(
    node: Arc<Node>,
    session: Session,
    request: get_message_events::Request,
) -> Answer<get_message_events::Response> {
    let viewer = viewer(&node, &session);
    let mut asked = BTreeSet::new();
    loop {
        let (response, missing) = node.store.read(|read| look(read, &viewer, &request))?;
        // Each gap is tried once; a server that has nothing to give must not keep the reader waiting.
        let missing: Vec<StoredEvent> = missing.into_iter().filter(|event| !asked.contains(&event.number)).collect();
        if missing.is_empty() || asked.len() >= MOST_BACKFILLS {
            return Ok(response);
        }
        asked.extend(missing.iter().map(|event| event.number));
        if !remote::backfill(&node, &request.room_id, &missing).await {
            return Ok(response);
        }
    }
}

/// The answer as things stand, and the events in its range whose predecessors are not here.
fn look(
    read: &dyn Read,
    viewer: &Viewer,
    request: &get_message_events::Request,
) -> Answer<(get_message_events::Response, Vec<StoredEvent>)> {
    let (room, eyes) = entered(read, &request.room_id, &viewer.user_id)?;
    let backward = request.dir == Direction::Backward;
    let from = match &request.from {
        Some(token) => Place::parse(read, room, token, Edge::first(request.dir))?,
        None if backward => Place::latest(read, room)?,
        None => Place::START,
    };
    let end = Edge::last(request.dir);
    let to = request.to.as_deref().map(|token| Place::parse(read, room, token, end)).transpose()?;
    let filter = &request.filter;
    let limit = page_length(request.limit).min(filter.limit.map_or(LONGEST_PAGE, page_length)).max(1);
    let page = timeline::page(read, room, request.dir, from, to, limit, |event| {
        Ok(passes(filter, request.room_id.as_str(), event) && eyes.sees(event)?)
    })?;
    let missing = if backward { timeline::gaps(read, room, page.end, from, 1)? } else { Vec::new() };
    let form = Form { room_id: Some(request.room_id.as_str()), relations: true };
    let mut response = get_message_events::Response::new();
    response.start = from.to_string();
    // As long as something comes, the client may ask on for what lies behind a gap; when nothing comes, it stops.
    let more = !page.finished || (!missing.is_empty() && !page.events.is_empty());
    response.end = more.then(|| page.end.to_string());
    response.chunk = Showing::new(read, &eyes, viewer, form).raws(&page.events)?;
    let mut members = lazy_members(read, filter, &page.events)?;
    eyes.keep_known(&mut members)?;
    let form = Form { room_id: Some(request.room_id.as_str()), relations: false };
    response.state = Showing::new(read, &eyes, viewer, form).raws(&members)?;
    Ok((response, missing))
}

/// With lazy loading, the member events of those who sent `events`, as they were at the last of these; else nothing.
pub(super) fn lazy_members(
    read: &dyn Read,
    filter: &RoomEventFilter,
    events: &[StoredEvent],
) -> Result<Vec<StoredEvent>, StoreError> {
    if matches!(filter.lazy_load_options, LazyLoadOptions::Disabled) {
        return Ok(Vec::new());
    }
    let Some(last) = events.iter().max_by_key(|event| (event.row.depth, event.number)) else { return Ok(Vec::new()) };
    let senders: BTreeSet<&str> = events.iter().map(StoredEvent::sender).collect();
    let mut members = Vec::new();
    for sender in senders {
        members.extend(read::state_event_at(read, last.row.state_after, "m.room.member", sender)?);
    }
    Ok(members)
}
