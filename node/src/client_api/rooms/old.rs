//! `/events`, `/events/{eventId}`, `/initialSync` and `/rooms/{roomId}/initialSync` (client-server specification, "Syncing" and "Peeking":
//! deprecated since r0, but for looking into rooms that anybody may read).

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::Request;
use kith_store::{
    Read,
    tables::{
        account_data,
        directory::PUBLISHED_ROOMS,
        rooms::{STREAM, membership},
    },
};
use ruma::{OwnedRoomId, RoomId, api::Direction};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{entered, members::state_for, viewer};
use crate::{
    Node,
    http::{
        Answer, MatrixError, Routes, Session,
        endpoint::{admit_streaming, query},
    },
    platform::timeout,
    rooms::{
        client_event::{Form, Showing, Viewer},
        read,
        timeline::{self, Place},
        visibility::Eyes,
    },
    sync::token::Token,
};

/// Events of one answer.
const MOST_EVENTS: usize = 100;
/// Rows that are looked at for one answer.
const MOST_ROWS: usize = 2_000;
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How often a room that its reader is not in is looked at again.
const LOOK: Duration = Duration::from_secs(2);
/// Messages of a room, if the client does not say, and at most.
const MESSAGES: usize = 10;
const MOST_MESSAGES: usize = 100;
/// Rooms of one answer.
const MOST_ROOMS: usize = 1_000;

pub(super) fn routes(mut routes: Routes) -> Routes {
    for version in ["v3", "r0"] {
        let at = |path: &str| format!("/_matrix/client/{version}/{path}");
        let nodes: [Arc<Node>; 4] = std::array::from_fn(|_| routes.node().clone());
        let [of_events, of_event, of_all, of_room] = nodes;
        routes = routes
            .raw(&at("events"), get(move |request: Request<Body>| answer(events(of_events.clone(), request))))
            .raw(&at("events/{event_id}"), get(move |request: Request<Body>| answer(event(of_event.clone(), request))))
            .raw(&at("initialSync"), get(move |request: Request<Body>| answer(everything(of_all.clone(), request))))
            .raw(
                &at("rooms/{room_id}/initialSync"),
                get(move |request: Request<Body>| answer(one_room(of_room.clone(), request))),
            );
    }
    routes
}

async fn answer(work: impl Future<Output = Answer<Value>>) -> Response {
    work.await.map_or_else(|error| error.into_response(), |body| Json(body).into_response())
}

#[derive(Deserialize)]
struct EventsQuery {
    from: Option<String>,
    timeout: Option<u64>,
    room_id: Option<OwnedRoomId>,
}

/// What is new in the user's rooms, or in one that it may look into.
async fn events(node: Arc<Node>, request: Request<Body>) -> Answer<Value> {
    let (session, _, request) = admit_streaming(&node, request).await?;
    let wish: EventsQuery = query(&request)?;
    let position = node.activity.position();
    let from = match &wish.from {
        Some(token) => Token::parse(token)?.position.min(position),
        None => position,
    };
    let viewer = viewer(&node, &session);
    let wait = Duration::from_millis(wish.timeout.unwrap_or(0)).min(LONGEST_WAIT);
    let deadline = node.clock.monotonic() + wait;
    let mut bell = node.notifier.subscribe(session.user_id.as_str());
    loop {
        let upto = node.activity.position();
        let (chunk, end) = node.store.read(|read| news(&node, read, &viewer, wish.room_id.as_deref(), from, upto))?;
        let left = deadline.saturating_sub(node.clock.monotonic());
        if !chunk.is_empty() || left.is_zero() || *node.stopping().borrow() {
            return Ok(json!({ "start": token(from), "end": token(end), "chunk": chunk }));
        }
        // Nothing rings for rooms that the user is not in.
        let left = if wish.room_id.is_some() { left.min(LOOK) } else { left };
        let _ = timeout(&*node.clock, left, bell.changed_or(node.stopping())).await;
    }
}

fn token(position: u64) -> String {
    Token { position, ..Token::default() }.to_string()
}

/// Events after a position, and the position that they reach to.
fn news(
    node: &Node,
    read: &dyn Read,
    viewer: &Viewer,
    room: Option<&RoomId>,
    from: u64,
    upto: u64,
) -> Answer<(Vec<Value>, u64)> {
    let rooms: Vec<u64> = match room {
        Some(room) => vec![entered(read, room, &viewer.user_id)?.0],
        None => {
            let joined = |room: &u64| read::is_joined(read, &viewer.user_id, *room).unwrap_or(false);
            match node.activity.since(from) {
                Some(rooms) => rooms.into_iter().filter(joined).collect(),
                None => {
                    read::rooms_of(read, &viewer.user_id)?.into_iter().map(|(room, _)| room).filter(joined).collect()
                }
            }
        }
    };
    let mut rows = std::collections::BTreeMap::new();
    for room in rooms {
        for row in STREAM.range(read, (room, from.saturating_add(1))..=(room, upto))?.take(MOST_ROWS) {
            let ((_, position), number) = row?;
            rows.insert(position, (room, number));
            if rows.len() > MOST_ROWS && rows.pop_last().is_some_and(|(last, _)| last == position) {
                break;
            }
        }
    }
    let mut end = match rows.last_key_value() {
        Some((last, _)) if rows.len() >= MOST_ROWS => *last,
        _ => upto,
    };
    let mut chunk = Vec::new();
    for (position, (room, number)) in rows {
        let Some(event) = read::event(read, number)? else { continue };
        let eyes = Eyes::new(read, room, &viewer.user_id)?;
        if !eyes.sees(&event)? {
            continue;
        }
        let Some(row) = read::room(read, room)? else { continue };
        let form = Form { room_id: Some(&row.room_id), relations: false };
        chunk.push(Value::Object(Showing::new(read, &eyes, viewer, form).event(&event)?));
        if chunk.len() >= MOST_EVENTS {
            end = position;
            break;
        }
    }
    Ok((chunk, end))
}

/// One event, of whichever room.
async fn event(node: Arc<Node>, request: Request<Body>) -> Answer<Value> {
    let (session, path, _) = admit_streaming(&node, request).await?;
    let viewer = viewer(&node, &session);
    let none = || MatrixError::not_found("there is no such event here, or you may not see it");
    node.store.read(|read| {
        let event = read::event_by_id(read, path.first().map_or("", String::as_str))?.ok_or_else(none)?;
        let eyes = Eyes::new(read, event.row.room, &viewer.user_id)?;
        if !eyes.sees(&event)? {
            return Err(none());
        }
        let row = read::room(read, event.row.room)?.ok_or_else(none)?;
        let form = Form { room_id: Some(&row.room_id), relations: false };
        Ok(Value::Object(Showing::new(read, &eyes, &viewer, form).event(&event)?))
    })
}

#[derive(Deserialize)]
struct InitialQuery {
    limit: Option<usize>,
    #[serde(default)]
    archived: bool,
}

impl InitialQuery {
    fn messages(&self) -> usize {
        self.limit.unwrap_or(MESSAGES).min(MOST_MESSAGES)
    }
}

/// All of the user's rooms.
async fn everything(node: Arc<Node>, request: Request<Body>) -> Answer<Value> {
    let (session, _, request) = admit_streaming(&node, request).await?;
    let wish: InitialQuery = query(&request)?;
    let viewer = viewer(&node, &session);
    let position = node.activity.position();
    node.store.read(|read| {
        let mut rooms = Vec::new();
        for (room, part) in read::rooms_of(read, &viewer.user_id)?.into_iter().take(MOST_ROOMS) {
            let Some(row) = read::room(read, room)? else { continue };
            match part.membership {
                membership::INVITE => rooms.push(json!({
                    "room_id": row.room_id, "membership": "invite", "inviter": part.sender, "invite": invite(read, room, &part)?,
                })),
                membership::LEAVE | membership::BAN if !wish.archived || part.joined_at == 0 => {}
                membership::KNOCK => {}
                _ => {
                    let Ok(room_id) = RoomId::parse(&row.room_id) else { continue };
                    rooms.push(whole(read, &viewer, &room_id, wish.messages())?);
                }
            }
        }
        let account_data = account_events(read, &session, None)?;
        Ok(json!({ "end": token(position), "rooms": rooms, "presence": [], "account_data": account_data }))
    })
}

/// The invite's member event, stripped.
fn invite(read: &dyn Read, room: u64, part: &kith_store::tables::rooms::UserRoomRow) -> Answer<Value> {
    Ok(match read::event(read, part.event)?.filter(|event| event.row.room == room) {
        Some(event) => crate::rooms::client_event::stripped(&event),
        None => part.pdu.as_ref().and_then(crate::federation::pending::strip).unwrap_or_default(),
    })
}

/// One room, as far as the user may look into it.
async fn one_room(node: Arc<Node>, request: Request<Body>) -> Answer<Value> {
    let (session, path, request) = admit_streaming(&node, request).await?;
    let wish: InitialQuery = query(&request)?;
    let viewer = viewer(&node, &session);
    let room_id = OwnedRoomId::try_from(path.first().map_or("", String::as_str))
        .map_err(|_| MatrixError::invalid_param("this is no room ID"))?;
    node.federation.whole(&room_id).await?;
    node.store.read(|read| {
        let mut shown = whole(read, &viewer, &room_id, wish.messages())?;
        shown["account_data"] = account_events(read, &session, Some(room_id.as_str()))?;
        Ok(shown)
    })
}

fn whole(read: &dyn Read, viewer: &Viewer, room_id: &RoomId, limit: usize) -> Answer<Value> {
    let (room, eyes) = entered(read, room_id, &viewer.user_id)?;
    let from = Place::latest(read, room)?;
    let mut page = timeline::page(read, room, Direction::Backward, from, None, limit, |event| eyes.sees(event))?;
    page.events.reverse();
    let showing = Showing::new(read, &eyes, viewer, Form { room_id: Some(room_id.as_str()), relations: false });
    let shown = |events: &[read::StoredEvent]| -> Answer<Vec<Value>> {
        events.iter().map(|event| Ok(Value::Object(showing.event(event)?))).collect()
    };
    let state = state_for(read, room, &eyes)?.events(read)?;
    let is_published = PUBLISHED_ROOMS.contains(read, &room_id.to_string())?;
    let mut answer = json!({
        "room_id": room_id,
        "messages": { "start": page.end.to_string(), "end": from.to_string(), "chunk": shown(&page.events)? },
        "state": shown(&state)?,
        "visibility": if is_published { "public" } else { "private" },
    });
    if let Some(part) = eyes.part() {
        answer["membership"] = json!(membership::name(part.membership));
    }
    Ok(answer)
}

fn account_events(read: &dyn Read, session: &Session, room: Option<&str>) -> Answer<Value> {
    let events = account_data::in_room(read, session.user_id.as_str(), room)?;
    let event = |event: account_data::AccountDataEvent| {
        let content: Value = serde_json::from_str(&event.content).unwrap_or_default();
        json!({ "type": event.kind, "content": content })
    };
    Ok(events.into_iter().map(event).collect())
}
