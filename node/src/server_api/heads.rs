//! `POST /_matrix/federation/unstable/org.kith.heads`: comparing rooms; see [`crate::federation::heads`]. A server learns the heads
//! of rooms that it is in itself, and of no others.

use std::sync::Arc;

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
    routing::post,
};
use futures::FutureExt as _;
use http::{Request, header};
use ruma::api::{auth_scheme::AuthScheme as _, federation::authentication::ServerSignatures};

use crate::{
    Node,
    federation::heads::{self, PATH, RoomHeads},
    http::{Answer, MatrixError, Routes, endpoint},
};

/// The longest request, in bytes.
const LIMIT: usize = 1 << 20;

/// The routes of this file.
pub fn routes(routes: Routes) -> Routes {
    let node = routes.node().clone();
    routes.raw(
        PATH,
        post(move |request: Request<Body>| {
            let node = node.clone();
            async move { answer(node, request).await.unwrap_or_else(|error| error.into_response()) }
        }),
    )
}

async fn answer(node: Arc<Node>, request: Request<Body>) -> Answer<Response> {
    let (parts, _, body) = endpoint::read(request, LIMIT).await?;
    let request = Request::from_parts(parts, body);
    let header = ServerSignatures::extract_authentication(&request)
        .map_err(|error| MatrixError::new(http::StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED", error.to_string()))?;
    let server = super::verify(&node, header, &request).await?.server;
    let mut theirs: RoomHeads =
        serde_json::from_slice(request.body()).map_err(|error| MatrixError::bad_json(error.to_string()))?;
    let ours = node.store.read(|read| {
        let shared = heads::shared_rooms(read, theirs.rooms.keys(), &server)?;
        heads::heads_of(read, &shared)
    })?;
    theirs.rooms.retain(|room, _| ours.rooms.contains_key(room));
    let fetching = node.clone();
    let task = async move {
        if let Err(error) = heads::take(&fetching, &server, theirs).await {
            tracing::debug!(%server, %error, "the heads of a server could not be fetched");
        }
    };
    node.spawner.spawn("fetch heads", task.boxed());
    let body = serde_json::to_string(&ours).map_err(MatrixError::internal)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}
