//! `GET /_matrix/federation/v1/make_knock`, `PUT /_matrix/federation/v1/send_knock`: a user of another server asks to be let in.
//! Server-server specification, "Knocking upon a room".

use std::sync::Arc;

use ruma::{
    CanonicalJsonObject,
    api::federation::membership::{
        RawStrippedState, create_knock_event::v1 as send_knock, prepare_knock_event::v1 as make_knock,
    },
};

use super::{
    joins::check_version,
    template::{check_own_member, check_user, propose, whole_room},
};
use crate::{
    Node,
    federation::{pdus, pending, rules},
    http::{Answer, Routes, endpoint::Origin},
};

/// The routes of this file.
pub fn routes(routes: Routes) -> Routes {
    routes.add(make).add(send)
}

async fn make(node: Arc<Node>, origin: Origin, request: make_knock::Request) -> Answer<make_knock::Response> {
    check_user(&request.user_id, &origin.server)?;
    let room = whole_room(&node, &request.room_id, &origin.server)?;
    check_version(&room, &request.ver)?;
    node.store.read(|read| rules::check_names(read, room.number(), &origin.server))?;
    let content = CanonicalJsonObject::from([("membership".to_owned(), "knock".into())]);
    let event = propose(&node, &room, &request.user_id, content).await?;
    Ok(make_knock::Response::new(room.version().clone(), event))
}

async fn send(node: Arc<Node>, origin: Origin, request: send_knock::Request) -> Answer<send_knock::Response> {
    let room = whole_room(&node, &request.room_id, &origin.server)?;
    let event = pdus::check_named(&node, &request.pdu, room.version(), &request.room_id, &request.event_id).await?;
    check_own_member(&event, "knock", &origin.server)?;
    node.store.read(|read| rules::check_names(read, room.number(), &origin.server))?;
    let event = room.with_policy_signature(event).await?;
    room.receive_for_others(origin.server.as_str(), event)
        .await
        .inspect_err(|error| node.federation.stats.refused.note(error))?;
    let state = node.store.read(|read| pending::stripped_pdus(read, room.number(), None))?;
    Ok(send_knock::Response::new(state.into_iter().map(RawStrippedState::Pdu).collect()))
}
