//! `GET /_matrix/federation/v1/make_leave`, `PUT /_matrix/federation/v2/send_leave`: a user of another server leaves, or
//! declines an invite or takes back a knock. Server-server specification, "Leaving Rooms".

use std::sync::Arc;

use ruma::{
    CanonicalJsonObject,
    api::federation::membership::{create_leave_event::v2 as send_leave, prepare_leave_event::v1 as make_leave},
};

use super::template::{check_own_member, check_user, membership, propose, whole_room};
use crate::{
    Node,
    federation::pdus,
    http::{Answer, MatrixError, Routes, endpoint::Origin},
};

/// The routes of this file.
pub fn routes(routes: Routes) -> Routes {
    routes.add(make).add(send)
}

async fn make(node: Arc<Node>, origin: Origin, request: make_leave::Request) -> Answer<make_leave::Response> {
    check_user(&request.user_id, &origin.server)?;
    let room = whole_room(&node, &request.room_id, &origin.server)?;
    let now = membership(&node, &room, &request.user_id)?;
    if !matches!(now.as_deref(), Some("join" | "invite" | "knock")) {
        return Err(MatrixError::forbidden("there is nothing to leave: the user is not in that room"));
    }
    let content = CanonicalJsonObject::from([("membership".to_owned(), "leave".into())]);
    let event = propose(&node, &room, &request.user_id, content).await?;
    Ok(make_leave::Response::new(Some(room.version().clone()), event))
}

async fn send(node: Arc<Node>, origin: Origin, request: send_leave::Request) -> Answer<send_leave::Response> {
    let room = whole_room(&node, &request.room_id, &origin.server)?;
    let event = pdus::check_named(&node, &request.pdu, room.version(), &request.room_id, &request.event_id).await?;
    check_own_member(&event, "leave", &origin.server)?;
    let event = room.with_policy_signature(event).await?;
    room.receive_for_others(origin.server.as_str(), event)
        .await
        .inspect_err(|error| node.federation.stats.refused.note(error))?;
    Ok(send_leave::Response::new())
}
