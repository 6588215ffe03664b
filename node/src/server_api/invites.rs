//! `PUT /_matrix/federation/v2/invite`: another server invites a user of ours. Server-server specification, "Inviting to a room".
//!
//! The invite is checked, signed and kept with its stripped state until the user answers. A repetition of the request gets the
//! stored answer, so nobody is rung twice.

use std::{collections::BTreeMap, sync::Arc};

use http::StatusCode;
use kith_room::{Event, StateKey, auth::check_auth, build::countersign, format, json::plain_object};
use ruma::{
    RoomVersionId, UserId,
    api::federation::membership::{RawStrippedState, create_invite::v2 as invite},
};
use serde_json::{Value, value::RawValue};

use super::template::{check_user, signer};
use crate::{
    Node,
    accounts::{self, limits},
    federation::{
        membership::third_party::THIRD_PARTY_INVITE,
        pdus,
        pending::{self, MOST_STRIPPED, MOST_STRIPPED_BYTES, Outside},
        rules,
        stats::Refusal,
    },
    http::{Answer, MatrixError, Routes, endpoint::Origin},
};

/// The routes of this file.
pub fn routes(routes: Routes) -> Routes {
    routes.add(receive)
}

pub(super) async fn receive(node: Arc<Node>, origin: Origin, request: invite::Request) -> Answer<invite::Response> {
    // The same request is known by the event and the server that sends it.
    let id = format!("invite:{}:{}", request.room_id, request.event_id);
    let server = origin.server.clone();
    let answer = node.federation.answers.once(&node, &server, &id, accept(&node, &origin, request)).await?;
    let text = answer.as_str().ok_or_else(|| MatrixError::internal("a stored invite is no event"))?;
    Ok(invite::Response::new(pdus::raw(text)?))
}

async fn accept(node: &Arc<Node>, origin: &Origin, request: invite::Request) -> Answer<Value> {
    let Some(room_rules) = format::rules(&request.room_version) else {
        node.federation.stats.refused.add(Refusal::Version);
        let message = format!("room version {} is not known here", request.room_version);
        return Err(MatrixError::new(StatusCode::BAD_REQUEST, "M_INCOMPATIBLE_ROOM_VERSION", message)
            .with("room_version", request.room_version.as_str()));
    };
    let event =
        pdus::check_named(node, &request.event, &request.room_version, &request.room_id, &request.event_id).await?;
    check_inviter(node, &event, origin, &request).await?;
    if event.kind() != "m.room.member" || event.content_str("membership") != Some("invite") {
        return Err(MatrixError::invalid_param("the event is no invite"));
    }
    let invited = event.member().ok_or_else(|| MatrixError::invalid_param("the event invites nobody"))?.to_owned();
    if !node.is_local(&invited) {
        return Err(MatrixError::invalid_param(format!("{invited} is not a user of this server")));
    }
    if !node.store.read(|read| accounts::users::is_active(read, &invited))? {
        return Err(MatrixError::not_found(format!("{invited} has no account here")));
    }
    node.store.read(|read| accounts::invites::check(read, &invited, event.sender()))?;
    for server in [&*origin.server, event.sender().server_name()] {
        rules::check_pair(server, node.server_name())?;
    }
    // Each rings at somebody's device.
    limits::check(node, limits::Action::Invite, origin.server.as_str())?;
    node.store.read(|read| pending::check_room_for_invite(read, &invited, event.sender().server_name()))?;
    let stripped = check_stripped(node, &request).await?;
    let signed = countersign(&event, &room_rules, signer(node))
        .map_err(|error| MatrixError::invalid_param(error.to_string()))?;
    let text = signed.text().to_owned();
    let room = node.rooms.get_or_new(&request.room_id, &request.room_version)?;
    node.federation.invites.came(&*node.clock, &request.room_id, &invited);
    pending::note(node, Outside { room, event: Arc::new(signed), stripped }).await?;
    tracing::info!(user = %invited, from = %event.sender(), room = %request.room_id, "an invite came");
    Ok(Value::String(text))
}

/// The inviter is a user of the server that asks. Only a third-party invite may be turned into an invite by any server of its
/// room, which then has to show that it is one: with the inviter's `m.room.third_party_invite`, by which the rules allow it.
async fn check_inviter(node: &Arc<Node>, event: &Event, origin: &Origin, request: &invite::Request) -> Answer<()> {
    let own = check_user(event.sender(), &origin.server);
    let by_third_party = event
        .json()
        .get("content")
        .and_then(|content| content.as_object()?.get("third_party_invite"))
        .is_some_and(|used| used.as_object().is_some());
    let Some(rules) = format::rules(&request.room_version).filter(|_| own.is_err() && by_third_party) else {
        return own;
    };
    let mut state = BTreeMap::new();
    for entry in request.invite_room_state.iter().take(MOST_STRIPPED) {
        if let RawStrippedState::Pdu(pdu) = entry
            && let Ok(pdu) = pdus::check(node, pdu, &request.room_version).await
            && pdu.room_id() == request.room_id
            && !pdu.redacted()
            && let Some(key) = pdu.state_key()
            && matches!(pdu.kind(), "m.room.create" | THIRD_PARTY_INVITE)
        {
            state.insert(StateKey::new(pdu.kind(), key), pdu);
        }
    }
    check_auth(event, &rules, |key| state.get(key).cloned()).map_err(|error| MatrixError::forbidden(error.to_string()))
}

/// The stripped state as clients get it. From version 12 on it must prove the room: a valid create event, whose ID the room has.
async fn check_stripped(node: &Arc<Node>, request: &invite::Request) -> Answer<Vec<Value>> {
    let version = &request.room_version;
    let proven = format::rules(version).is_some_and(|rules| rules.authorization.room_create_event_id_as_room_id);
    let mut stripped = Vec::new();
    let mut created = false;
    let mut bytes = 0;
    for entry in request.invite_room_state.iter().take(MOST_STRIPPED) {
        let (text, checked) = match entry {
            RawStrippedState::Pdu(pdu) => (pdu.get(), check_state(node, pdu, version, request).await),
            // Servers from before v1.16 send type, key, sender and content only.
            #[allow(deprecated)]
            RawStrippedState::Stripped(raw) => (raw.json().get(), Ok(())),
            _ => continue,
        };
        match checked {
            Err(error) if proven => return Err(error),
            Err(_) => continue,
            Ok(()) => {}
        }
        let Ok(value) = plain_object(text).map(Value::Object) else { continue };
        let Some(state) = pending::strip(&value).filter(|_| text.len() <= kith_room::format::MAX_EVENT_BYTES) else {
            continue;
        };
        let is_create = state.get("type").and_then(Value::as_str) == Some("m.room.create");
        if is_create {
            created |= matches!(entry, RawStrippedState::Pdu(_));
            if let Some(creator) = state.get("sender").and_then(Value::as_str)
                && let Ok(creator) = <&UserId>::try_from(creator)
            {
                rules::check_pair(creator.server_name(), node.server_name())?;
            }
        }
        bytes += text.len();
        if bytes > MOST_STRIPPED_BYTES {
            return Err(MatrixError::too_large("the invite carries too much of the room's state"));
        }
        stripped.push(state);
    }
    if proven && !created {
        return Err(MatrixError::missing_param("the invite lacks the room's create event"));
    }
    Ok(stripped)
}

async fn check_state(
    node: &Arc<Node>,
    pdu: &RawValue,
    version: &RoomVersionId,
    request: &invite::Request,
) -> Answer<()> {
    let event = pdus::check(node, pdu, version).await.map_err(|error| MatrixError::invalid_param(error.to_string()))?;
    if event.room_id() != request.room_id || event.state_key().is_none() {
        return Err(MatrixError::invalid_param("`invite_room_state` holds an event that is no state of that room"));
    }
    Ok(())
}
