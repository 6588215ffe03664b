//! `GET /rooms/{roomId}/relations/{eventId}[/{relType}[/{eventType}]]` (client-server specification, "Relationships API").

use std::{collections::BTreeSet, sync::Arc};

use ruma::{
    EventId, RoomId, UInt,
    api::{
        Direction,
        client::relations::{
            get_relating_events::v1 as get_relating_events,
            get_relating_events_with_rel_type::v1 as get_relating_events_with_rel_type,
            get_relating_events_with_rel_type_and_event_type::v1 as get_relating_events_with_types,
        },
    },
    events::AnyMessageLikeEvent,
    serde::Raw,
};

use super::{entered, page_length, seen, viewer};
use crate::{
    Node,
    http::{Answer, Routes, Session},
    rooms::{
        client_event::{Form, Showing},
        read::{self, StoredEvent},
        relations::{children, relation},
        timeline::{Edge, Place},
    },
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(get_relating_events).add(get_relating_events_with_rel_type).add(get_relating_events_with_types)
}

/// How far `recurse` follows relations of relations, and how many events it visits.
const DEEPEST: u64 = 3;
const MOST_VISITED: usize = 5_000;

/// What is asked for.
struct Question<'a> {
    room_id: &'a RoomId,
    event_id: &'a EventId,
    rel_type: Option<String>,
    event_type: Option<String>,
    from: Option<&'a str>,
    to: Option<&'a str>,
    direction: Direction,
    limit: Option<UInt>,
    recurse: bool,
}

struct Found {
    chunk: Vec<Raw<AnyMessageLikeEvent>>,
    next_batch: Option<String>,
    prev_batch: Option<String>,
    depth: Option<UInt>,
}

fn find(node: &Node, session: &Session, question: &Question<'_>) -> Answer<Found> {
    let viewer = viewer(node, session);
    let limit = page_length(question.limit.unwrap_or(UInt::from(50u8))).max(1);
    node.store.read(|read| {
        let (room, eyes) = entered(read, question.room_id, &viewer.user_id)?;
        let target = seen(read, &eyes, question.event_id.as_str())?;
        let place = |token: Option<&str>, edge| token.map(|token| Place::parse(read, room, token, edge)).transpose();
        let from = place(question.from, Edge::first(question.direction))?;
        let to = place(question.to, Edge::last(question.direction))?;
        let mut visited = BTreeSet::new();
        let mut events: Vec<StoredEvent> = Vec::new();
        let mut level = vec![target.row.event_id];
        let mut depth = 0;
        while !level.is_empty() && depth < if question.recurse { DEEPEST } else { 1 } {
            depth += 1;
            let mut next = Vec::new();
            for parent in level {
                // When following relations, those between may be of any type.
                let kind = question.rel_type.as_deref().filter(|_| !question.recurse);
                for number in children(read, room, &parent, kind)? {
                    if visited.len() >= MOST_VISITED || !visited.insert(number) {
                        continue;
                    }
                    let Some(event) = read::event(read, number)? else { continue };
                    if relation(&event).is_some() && eyes.sees(&event)? {
                        next.push(event.row.event_id.clone());
                        events.push(event);
                    }
                }
            }
            level = next;
        }
        let backward = question.direction == Direction::Backward;
        events.retain(|event| {
            let at = Place::after(event);
            let behind_from = from.is_none_or(|from| if backward { at <= from } else { at > from });
            let before_to = to.is_none_or(|to| if backward { at > to } else { at <= to });
            let fits = |wanted: &Option<String>, is: Option<&str>| wanted.is_none() || wanted.as_deref() == is;
            behind_from
                && before_to
                && fits(&question.rel_type, relation(event).map(|(kind, _)| kind))
                && fits(&question.event_type, Some(event.kind()))
        });
        events.sort_by_key(Place::after);
        if backward {
            events.reverse();
        }
        let more = events.len() > limit;
        events.truncate(limit);
        let next_batch = events
            .last()
            .filter(|_| more)
            .map(|last| if backward { Place::before(last) } else { Place::after(last) }.to_string());
        let form = Form { room_id: Some(question.room_id.as_str()), relations: true };
        Ok(Found {
            chunk: Showing::new(read, &eyes, &viewer, form).raws(&events)?,
            next_batch,
            prev_batch: question.from.map(str::to_owned),
            depth: question.recurse.then(|| UInt::new_saturating(depth)),
        })
    })
}

async fn get_relating_events(
    node: Arc<Node>,
    session: Session,
    request: get_relating_events::Request,
) -> Answer<get_relating_events::Response> {
    let found = find(
        &node,
        &session,
        &Question {
            room_id: &request.room_id,
            event_id: &request.event_id,
            rel_type: None,
            event_type: None,
            from: request.from.as_deref(),
            to: request.to.as_deref(),
            direction: request.dir,
            limit: request.limit,
            recurse: request.recurse,
        },
    )?;
    let mut response = get_relating_events::Response::new(found.chunk);
    (response.next_batch, response.prev_batch, response.recursion_depth) =
        (found.next_batch, found.prev_batch, found.depth);
    Ok(response)
}

async fn get_relating_events_with_rel_type(
    node: Arc<Node>,
    session: Session,
    request: get_relating_events_with_rel_type::Request,
) -> Answer<get_relating_events_with_rel_type::Response> {
    let found = find(
        &node,
        &session,
        &Question {
            room_id: &request.room_id,
            event_id: &request.event_id,
            rel_type: Some(request.rel_type.to_string()),
            event_type: None,
            from: request.from.as_deref(),
            to: request.to.as_deref(),
            direction: request.dir,
            limit: request.limit,
            recurse: request.recurse,
        },
    )?;
    let mut response = get_relating_events_with_rel_type::Response::new(found.chunk);
    (response.next_batch, response.prev_batch, response.recursion_depth) =
        (found.next_batch, found.prev_batch, found.depth);
    Ok(response)
}

async fn get_relating_events_with_types(
    node: Arc<Node>,
    session: Session,
    request: get_relating_events_with_types::Request,
) -> Answer<get_relating_events_with_types::Response> {
    let found = find(
        &node,
        &session,
        &Question {
            room_id: &request.room_id,
            event_id: &request.event_id,
            rel_type: Some(request.rel_type.to_string()),
            event_type: Some(request.event_type.to_string()),
            from: request.from.as_deref(),
            to: request.to.as_deref(),
            direction: request.dir,
            limit: request.limit,
            recurse: request.recurse,
        },
    )?;
    let mut response = get_relating_events_with_types::Response::new(found.chunk);
    (response.next_batch, response.prev_batch, response.recursion_depth) =
        (found.next_batch, found.prev_batch, found.depth);
    Ok(response)
}
