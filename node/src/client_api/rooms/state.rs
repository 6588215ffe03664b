//! `GET` and `PUT /rooms/{roomId}/state...` (client-server specification, "Getting events for a room", "Sending events to
//! a room").

use std::sync::Arc;

use kith_room::power::make_levels_plain;
use kith_store::{Json, Read, tables::directory::ALIASES, tables::rooms::membership as number};
use ruma::{
    OwnedEventId, OwnedRoomAliasId, OwnedUserId, RoomAliasId, RoomId,
    api::client::state::{
        get_state_event_for_key::v3::{self as get_state_event, StateEventFormat},
        get_state_events::v3 as get_state_events,
        send_state_event::v3 as send_state_event,
    },
};
use serde_json::{Map, Value, json, value::to_raw_value};

use super::{
    aliases, content_of,
    delayed::{Delayable, scheduled},
    entered, join, joined,
    members::state_for,
    membership, sent_at, viewer,
};
use crate::{
    Node,
    accounts::limits::{self, Action},
    client_api::untyped::Reply,
    delayed::Plan,
    http::{Answer, MatrixError, Routes, Session},
    rooms::{
        Draft,
        client_event::{Form, Showing},
        read,
    },
};

/// The paths whose state key is empty: with and without the last slash.
const WITHOUT_KEY: [&str; 4] = [
    "/_matrix/client/v3/rooms/{room_id}/state/{event_type}",
    "/_matrix/client/v3/rooms/{room_id}/state/{event_type}/",
    "/_matrix/client/r0/rooms/{room_id}/state/{event_type}",
    "/_matrix/client/r0/rooms/{room_id}/state/{event_type}/",
];

pub(super) fn routes(routes: Routes) -> Routes {
    let routes = routes.add(get_state_events).add(get_state_event).add(send_state_event);
    WITHOUT_KEY.iter().fold(routes, |routes, path| routes.add_at(path, get_state_event).add_at(path, send_state_event))
}

async fn get_state_events(
    node: Arc<Node>,
    session: Session,
    request: get_state_events::Request,
) -> Answer<get_state_events::Response> {
    let viewer = viewer(&node, &session);
    node.federation.whole(&request.room_id).await?;
    node.store.read(|read| {
        let (room, eyes) = entered(read, &request.room_id, &viewer.user_id)?;
        let events = state_for(read, room, &eyes)?.events(read)?;
        let form = Form { room_id: Some(request.room_id.as_str()), relations: false };
        Ok(get_state_events::Response::new(Showing::new(read, &eyes, &viewer, form).raws(&events)?))
    })
}

async fn get_state_event(
    node: Arc<Node>,
    session: Session,
    request: get_state_event::Request,
) -> Answer<get_state_event::Response> {
    let viewer = viewer(&node, &session);
    let kind = request.event_type.to_string();
    // Of one's own membership, and of all that is no membership, this node knows all that there is.
    if kind == "m.room.member" && request.state_key != session.user_id.as_str() {
        node.federation.whole(&request.room_id).await?;
    }
    node.store.read(|read| {
        let (room, eyes) = entered(read, &request.room_id, &viewer.user_id)?;
        let event = state_for(read, room, &eyes)?.event(read, &kind, &request.state_key)?;
        let event = event.ok_or_else(|| MatrixError::not_found("the room has no such state"))?;
        let shown = match request.format {
            StateEventFormat::Event => {
                let form = Form { room_id: Some(request.room_id.as_str()), relations: false };
                Value::Object(Showing::new(read, &eyes, &viewer, form).event(&event)?)
            }
            _ => Value::Object(event.content().clone()),
        };
        Ok(get_state_event::Response::new(to_raw_value(&shown).map_err(MatrixError::internal)?))
    })
}

async fn send_state_event(
    node: Arc<Node>,
    session: Session,
    request: Delayable<send_state_event::Request>,
) -> Answer<Reply> {
    let delay = request.delay()?;
    let request = request.request;
    let content = content_of(request.body.json().get())?;
    let kind = request.event_type.to_string();
    if let Some(delay) = delay {
        let plan = Plan { kind, state_key: Some(request.state_key), content, delay, transaction: None };
        return scheduled(&node, &session, &request.room_id, plan).await;
    }
    let mut draft = Draft::state(session.user_id.clone(), kind, request.state_key, content);
    draft.timestamp = sent_at(&session, request.timestamp);
    let event_id = set(&node, &session, &request.room_id, draft).await?;
    Ok(Reply::ok(json!({ "event_id": event_id })))
}

/// Sets a piece of a room's state: the draft is a state event of the session's user.
pub(crate) async fn set(node: &Arc<Node>, session: &Session, room_id: &RoomId, draft: Draft) -> Answer<OwnedEventId> {
    let (user, kind, content) = (&session.user_id, draft.kind.as_str(), &draft.content);
    let state_key = draft.state_key.as_deref().unwrap_or_default();
    let present = || node.store.read(|read| present(read, room_id, kind, state_key));
    if kind == "m.room.member" {
        // Joining, and inviting to another server, take more than an event.
        let target = OwnedUserId::try_from(state_key)
            .map_err(|_| MatrixError::invalid_param("the state key of a member event is a user ID"))?;
        if target != *user {
            node.federation.whole(room_id).await?;
        }
        let now = membership::membership_now(node, room_id, &target)?;
        let wanted = content.get("membership").and_then(Value::as_str).and_then(number::number);
        match wanted {
            Some(number::JOIN) if target == *user && now != Some(number::JOIN) => {
                limits::check(node, Action::Join, user.as_str())?;
                let reason = content.get("reason").and_then(Value::as_str).map(str::to_owned);
                join::join(node, user, room_id, &[], reason).await?;
                return present()?.map(|(id, ..)| id).ok_or_else(|| MatrixError::internal("a join left no state"));
            }
            Some(number::INVITE) if now != Some(number::INVITE) => {
                limits::check(node, Action::Invite, user.as_str())?;
                membership::invite(node, user, room_id, &target, content.clone()).await?;
                return present()?.map(|(id, ..)| id).ok_or_else(|| MatrixError::internal("an invite left no state"));
            }
            _ => {}
        }
    }
    // One's own membership one may change from outside: decline an invite, withdraw a knock.
    if kind != "m.room.member" || state_key != user.as_str() {
        node.store.read(|read| joined(read, room_id, user.as_str()).map(drop))?;
    }
    // A client that repeats its request for want of an answer changes nothing.
    if let Some((event_id, sender, now)) = present()?
        && sender == *user
        && now == *content
    {
        return Ok(event_id);
    }
    limits::check(node, Action::Message, user.as_str())?;
    if kind == "m.room.canonical_alias" {
        check_aliases(node, room_id, content).await?;
    }
    // Old room versions would take them; the specification asks servers not to let new ones be made.
    if kind == "m.room.power_levels" && make_levels_plain(&mut content.clone()) {
        return Err(MatrixError::bad_json("power levels are integers"));
    }
    membership::room(node, room_id)?.send(draft).await
}

/// ID, sender and content of a state event.
type Present = (OwnedEventId, String, Map<String, Value>);

/// The event that the room's state has for a type and key.
fn present(read: &dyn Read, room_id: &RoomId, kind: &str, key: &str) -> Answer<Option<Present>> {
    let Some(room) = read::room_number(read, room_id.as_str())? else { return Ok(None) };
    let Some(event) = read::state_event(read, room, kind, key)? else { return Ok(None) };
    let id = OwnedEventId::try_from(event.row.event_id.as_str()).map_err(MatrixError::internal)?;
    Ok(Some((id, event.sender().to_owned(), event.content().clone())))
}

/// That the aliases an `m.room.canonical_alias` event adds point to the room.
async fn check_aliases(node: &Arc<Node>, room_id: &RoomId, content: &Map<String, Value>) -> Answer<()> {
    let wrong = |alias: &str| MatrixError::invalid_param(format!("{alias:?} is no room alias"));
    let named = |content: &Map<String, Value>| -> Vec<String> {
        let others = content.get("alt_aliases").and_then(Value::as_array).into_iter().flatten();
        content.get("alias").into_iter().chain(others).filter_map(Value::as_str).map(str::to_owned).collect()
    };
    if content
        .get("alt_aliases")
        .is_some_and(|others| !others.as_array().is_some_and(|others| others.iter().all(Value::is_string)))
    {
        return Err(MatrixError::invalid_param("`alt_aliases` is a list of room aliases"));
    }
    let had = node.store.read(|read| present(read, room_id, "m.room.canonical_alias", ""))?;
    let had = had.map(|(.., content)| named(&content)).unwrap_or_default();
    for alias in named(content) {
        if alias.is_empty() || had.contains(&alias) {
            continue;
        }
        let alias: OwnedRoomAliasId = RoomAliasId::parse(&alias).map_err(|_| wrong(&alias))?;
        let bad = || {
            MatrixError::new(
                http::StatusCode::BAD_REQUEST,
                "M_BAD_ALIAS",
                format!("{alias} does not point to this room"),
            )
        };
        let points_to = if alias.server_name() == node.identity.server_name() {
            let row = node.store.read(|read| ALIASES.get(read, &alias.to_string()))?;
            row.map(|Json(row)| row.room_id)
        } else {
            aliases::resolve(node, &alias).await.ok().map(|(room_id, _)| room_id.to_string())
        };
        if points_to.as_deref() != Some(room_id.as_str()) {
            return Err(bad());
        }
    }
    Ok(())
}
