//! `GET /_matrix/federation/unstable/org.kith/introduction`: the users of this node who want to be found by people near
//! ([`crate::federation::introductions`]; `docs/extension.md`).
//!
//! Threats met (DESIGN section 8): a stranger somewhere on the internet, behind a relay or over HTTPS is told nothing, whoever signed its
//! request: the peer itself must bring it, over a direct connection, and be seen by this node's own discovery on the local network.

use std::sync::Arc;

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{Request, header};
use kith_transport::RemotePeer;

use crate::{
    Node,
    federation::introductions::{self, PATH},
    http::{Answer, MatrixError, Routes, endpoint},
};

/// The routes of this file.
pub(super) fn routes(routes: Routes) -> Routes {
    let node = routes.node().clone();
    routes.raw(
        PATH,
        get(move |request: Request<Body>| {
            let node = node.clone();
            async move { answer(node, request).await.unwrap_or_else(|error| error.into_response()) }
        }),
    )
}

async fn answer(node: Arc<Node>, request: Request<Body>) -> Answer<Response> {
    let (_, _, request) = endpoint::admit_server(&node, request).await?;
    if !is_near(&node, &request) {
        return Err(MatrixError::forbidden("this is told to nodes on the same local network alone"));
    }
    let introduction = node.store.read(|read| introductions::told(read, node.server_name()))?;
    let body = serde_json::to_string(&introduction).map_err(MatrixError::internal)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// Whether a peer brought the request that is seen near by and connected directly.
fn is_near(node: &Node, request: &Request<Body>) -> bool {
    let Some(RemotePeer(key)) = request.extensions().get::<RemotePeer>() else { return false };
    let Some(network) = node.transport.network() else { return false };
    network.peers().iter().any(|peer| peer.key == *key && peer.nearby && peer.direct && peer.connected)
}
