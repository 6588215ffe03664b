//! `GET /_matrix/federation/v1/{event,state,state_ids,event_auth}`: events and states by ID. Server-server specification,
//! "Retrieving events", "Room state resolution".

use std::{collections::BTreeSet, sync::Arc};

use kith_store::{Read, tables::rooms::EVENTS};
use ruma::{
    EventId, OwnedEventId, ServerName, UInt,
    api::federation::{
        authorization::get_event_authorization::v1 as event_auth,
        event::{get_event::v1 as get_event, get_room_state::v1 as get_state, get_room_state_ids::v1 as get_state_ids},
    },
};
use serde_json::value::RawValue;

use super::{
    joins::{auth_chain, state_before, state_numbers},
    template::{joined_room, whole_room},
    visibility,
};
use crate::{
    Node,
    federation::{pdus, rules},
    http::{Answer, MatrixError, Routes, endpoint::Origin},
    platform::SpawnerExt as _,
    rooms::{
        Room,
        read::{self, StoredEvent},
        timestamp,
    },
};

/// The routes of this file.
pub fn routes(routes: Routes) -> Routes {
    routes.add(event).add(state).add(state_ids).add(auth)
}

fn unknown() -> MatrixError {
    MatrixError::not_found("this event is not known here, or not yours to see")
}

async fn event(node: Arc<Node>, origin: Origin, request: get_event::Request) -> Answer<get_event::Response> {
    let pdu = node.store.read(|snapshot| {
        let event = read::event_by_id(snapshot, request.event_id.as_str())?.ok_or_else(unknown)?;
        let row = read::room(snapshot, event.row.room)?.ok_or_else(unknown)?;
        let room_id = ruma::RoomId::parse(row.room_id).map_err(MatrixError::internal)?;
        let room = node.rooms.get(&room_id)?.ok_or_else(unknown)?;
        rules::check_acl(snapshot, room.number(), &origin.server)?;
        if !visibility::may_see(&visibility::Eyes::new(snapshot, &room, &origin.server)?, &event)? {
            return Err(unknown());
        }
        pdus::raw(&event.row.json)
    })?;
    Ok(get_event::Response::new(node.server_name().to_owned(), timestamp(node.clock.now_ms()), pdu))
}

async fn state(node: Arc<Node>, origin: Origin, request: get_state::Request) -> Answer<get_state::Response> {
    let room = whole_room(&node, &request.room_id, &origin.server)?;
    let reader = node.clone();
    let whole = node
        .spawner
        .blocking("state", move || {
            reader.store.read(|snapshot| {
                check_may_ask(snapshot, &room, &origin, &request.event_id)?;
                state_numbers(snapshot, request.event_id.as_str(), Some(&request.room_id))?;
                state_before(snapshot, request.event_id.as_str())
            })
        })
        .await
        .map_err(MatrixError::internal)??;
    Ok(get_state::Response::new(whole.auth_chain, whole.state))
}

async fn state_ids(
    node: Arc<Node>,
    origin: Origin,
    request: get_state_ids::Request,
) -> Answer<get_state_ids::Response> {
    let room = whole_room(&node, &request.room_id, &origin.server)?;
    let reader = node.clone();
    let read = move || {
        reader.store.read(|snapshot| {
            check_may_ask(snapshot, &room, &origin, &request.event_id)?;
            let (state, chain) = state_numbers(snapshot, request.event_id.as_str(), Some(&request.room_id))?;
            Ok::<_, MatrixError>((ids(snapshot, &state)?, ids(snapshot, &chain)?))
        })
    };
    let (state, chain) = node.spawner.blocking("state IDs", read).await.map_err(MatrixError::internal)??;
    Ok(get_state_ids::Response::new(chain, state))
}

/// Servers in the room may ask for everything; those that were, for what belongs to an event that they may see, or that is about
/// the membership of a user of theirs who was in it: such an event may lie on a branch of which they saw nothing, and without
/// what it rests on a server would believe for ever that its user is still there.
fn check_may_ask(snapshot: &dyn Read, room: &Room, origin: &Origin, event: &EventId) -> Answer<()> {
    if rules::is_in_room(snapshot, room.number(), &origin.server)? {
        return Ok(());
    }
    let eyes = visibility::Eyes::new(snapshot, room, &origin.server)?;
    match read::event_by_id(snapshot, event.as_str())?.filter(|event| event.row.room == room.number()) {
        Some(event) if visibility::may_see(&eyes, &event)? => Ok(()),
        Some(event) if is_of_former_member(snapshot, &event, &origin.server)? => Ok(()),
        _ => Err(MatrixError::forbidden("your server has no user in this room")),
    }
}

/// Whether the event is the membership of a user of that server who was joined once. Who never was learns nothing by being banned.
fn is_of_former_member(snapshot: &dyn Read, event: &StoredEvent, server: &ServerName) -> Answer<bool> {
    let user = event.state_key().filter(|_| event.kind() == "m.room.member");
    let Some(user) = user.filter(|user| user.split_once(':').is_some_and(|(_, of)| of == server.as_str())) else {
        return Ok(false);
    };
    Ok(read::user_room(snapshot, user, event.row.room)?.is_some_and(|part| part.joined_at != 0))
}

fn ids(snapshot: &dyn Read, numbers: &BTreeSet<u64>) -> Answer<Vec<OwnedEventId>> {
    let mut ids = Vec::with_capacity(numbers.len());
    for number in numbers {
        if let Some(row) = EVENTS.get(snapshot, number)? {
            ids.push(OwnedEventId::try_from(row.event_id).map_err(MatrixError::internal)?);
        }
    }
    Ok(ids)
}

async fn auth(node: Arc<Node>, origin: Origin, request: event_auth::Request) -> Answer<event_auth::Response> {
    let room = joined_room(&node, &request.room_id, &origin.server)?;
    let reader = node.clone();
    let read = move || {
        reader.store.read(|snapshot| {
            check_may_ask(snapshot, &room, &origin, &request.event_id)?;
            let event = read::event_by_id(snapshot, request.event_id.as_str())?.ok_or_else(unknown)?;
            if event.row.room != room.number() {
                return Err(unknown());
            }
            let numbers = auth_chain(snapshot, [event.number].into_iter())?;
            let mut pdus: Vec<Box<RawValue>> = Vec::with_capacity(numbers.len());
            for number in numbers {
                if let Some(row) = EVENTS.get(snapshot, &number)? {
                    pdus.push(pdus::raw(&row.json)?);
                }
            }
            Ok(pdus)
        })
    };
    let chain = node.spawner.blocking("auth chain", read).await.map_err(MatrixError::internal)??;
    Ok(event_auth::Response::new(chain))
}

/// A number of events that a request may ask for.
pub(super) fn count(asked: UInt, most: usize) -> usize {
    usize::try_from(u64::from(asked)).unwrap_or(most).min(most)
}
