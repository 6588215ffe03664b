//! `PUT /_matrix/federation/v1/invite`: how servers invite into rooms of versions 1 and 2 that know no later way. Server-server
//! specification, "Inviting to a room".
//!
//! The body is the event itself, and names no room version. Events of versions 1 and 2 have one form, so the invite is taken as
//! one of version 1; when the room is joined, its version gives way to the one that the room has.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::Path,
    response::{IntoResponse as _, Response},
    routing::put,
};
use http::{Request, header};
use ruma::{
    OwnedEventId, OwnedRoomId, RoomVersionId,
    api::{
        auth_scheme::AuthScheme as _,
        federation::{
            authentication::ServerSignatures,
            membership::{RawStrippedState, create_invite::v2 as invite},
        },
    },
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::invites;
use crate::{
    Node,
    http::{Answer, MatrixError, Routes, endpoint},
};

const PATH: &str = "/_matrix/federation/v1/invite/{room_id}/{event_id}";
/// The longest request, in bytes: an event and the state that goes with it.
const LIMIT: usize = 1 << 20;

/// The route of this file.
pub fn routes(routes: Routes) -> Routes {
    let node = routes.node().clone();
    routes.raw(
        PATH,
        put(move |Path(named): Path<(OwnedRoomId, OwnedEventId)>, request: Request<Body>| {
            let node = node.clone();
            async move { answer(node, named, request).await.unwrap_or_else(|error| error.into_response()) }
        }),
    )
}

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    unsigned: Unsigned,
}

#[derive(Default, Deserialize)]
struct Unsigned {
    #[serde(default)]
    invite_room_state: Vec<RawStrippedState>,
}

async fn answer(
    node: Arc<Node>,
    (room_id, event_id): (OwnedRoomId, OwnedEventId),
    request: Request<Body>,
) -> Answer<Response> {
    let (parts, _, body) = endpoint::read(request, LIMIT).await?;
    let request = Request::from_parts(parts, body);
    let header = ServerSignatures::extract_authentication(&request)
        .map_err(|error| MatrixError::new(http::StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED", error.to_string()))?;
    let origin = super::verify(&node, header, &request).await?;
    let bad = |error: serde_json::Error| MatrixError::bad_json(error.to_string());
    let event: Event = serde_json::from_slice(request.body()).map_err(bad)?;
    let pdu: Box<RawValue> = serde_json::from_slice(request.body()).map_err(bad)?;
    let mut invite = invite::Request::new(room_id, event_id, RoomVersionId::V1, pdu, Vec::new());
    invite.invite_room_state = event.unsigned.invite_room_state;
    let answer = invites::receive(node, origin, invite).await?;
    let body = format!(r#"[200,{{"event":{}}}]"#, answer.event.get());
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}
