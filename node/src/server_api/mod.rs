//! The server-server API: one file per group of federation endpoints.
//!
//! Every request but the few public ones is signed with `X-Matrix` ([`verify`]) by the server it comes from, whatever brought it
//! here; when a peer brought it over the mesh, that server must be the peer itself. Before anything else is done, a request
//! takes a place among those of its source ([`limits`]), so that a flood of one never delays the others. Threats met here
//! (DESIGN section 8): forged, replayed, oversized and endless input of a hostile server.

mod devices;
pub mod directory;
mod edus;
pub mod events;
pub mod heads;
mod introductions;
pub mod invites;
mod invites_v1;
pub mod joins;
pub mod keys;
pub mod knocks;
pub mod leaves;
pub mod limits;
mod media;
pub mod missing;
mod profiles;
pub(crate) mod template;
pub mod third_party;
pub mod transactions;
pub mod visibility;
pub(crate) mod well_known;

use std::sync::Arc;

pub(crate) use self::template::signer;
use axum::body::Bytes;
use http::{Request, StatusCode};
use kith_mutants::mutant;
use kith_transport::{KithName, RemotePeer, ServerKey};
use ruma::{ServerName, api::federation::authentication::XMatrix, serde::Base64, signatures::PublicKeyMap};

use crate::{
    Node,
    federation::{keys as keys_of_others, signing},
    http::{Answer, MatrixError, Routes, endpoint::Origin, layers},
};

/// The key ID of a server whose name is its key.
const SELF_CERTIFIED: &str = "ed25519:0";

/// All federation routes: the one router for requests of other servers, whichever way they come.
pub fn router(node: &Arc<Node>) -> axum::Router {
    let routes = Routes::new(node.clone());
    let routes = keys::routes(routes);
    let routes = transactions::routes(routes);
    let routes = joins::routes(routes);
    let routes = leaves::routes(routes);
    let routes = knocks::routes(routes);
    let routes = invites::routes(routes);
    let routes = invites_v1::routes(routes);
    let routes = third_party::routes(routes);
    let routes = events::routes(routes);
    let routes = missing::routes(routes);
    let routes = heads::routes(routes);
    let routes = introductions::routes(routes);
    let routes = media::routes(routes);
    let routes = profiles::routes(routes);
    let routes = directory::routes(routes);
    let routes = devices::routes(routes);
    let routes = layers::as_one(routes.finish().fallback(layers::unknown_path));
    routes.layer(axum::middleware::from_fn_with_state(node.clone(), limits::admit))
}

/// Verifies who signed a request: the destination is our full name, byte for byte; the origin's name is canonical; the key is
/// the origin's; the signature covers method, path, both names and the body; and the peer that brought the request over the
/// mesh, if one did, is the origin, by the full name that its own record says. (That of a server with a DNS name may be brought by
/// anybody: its key is not a peer's.)
///
/// # Errors
/// 401 `M_UNAUTHORIZED` with what is wrong; 403 `M_FORBIDDEN` when another server's peer brought it.
pub async fn verify(node: &Arc<Node>, header: XMatrix, request: &Request<Bytes>) -> Answer<Origin> {
    if node.federation.blocked.has(&header.origin) {
        node.federation.stats.blocked_requests.add();
        return Err(MatrixError::forbidden("this server wants nothing to do with yours"));
    }
    match check(node, &header, request).await {
        Err(error) if mutant!("skips-request-signature") && error.status == StatusCode::UNAUTHORIZED => {
            Ok(Origin { server: header.origin })
        }
        Ok(()) => Ok(Origin { server: header.origin }),
        Err(error) => {
            if error.status == StatusCode::FORBIDDEN {
                node.federation.stats.wrong_peers.add();
            } else {
                node.federation.stats.unsigned_requests.add();
            }
            tracing::debug!(origin = %header.origin, %error, "a request of another server is refused");
            Err(error)
        }
    }
}

async fn check(node: &Arc<Node>, header: &XMatrix, request: &Request<Bytes>) -> Answer<()> {
    let own = node.server_name();
    // Servers older than v1.3 leave it out of the header. What they signed names it all the same, so nothing can be replayed to another.
    if header.destination.as_deref().is_some_and(|destination| destination != own) {
        return Err(unauthorized(format!("the request is not for {own}")));
    }
    if header.origin == own {
        return Err(unauthorized("the request claims to be our own"));
    }
    let key = match KithName::parse(header.origin.as_str()) {
        Ok(Some(name)) => name.key,
        Ok(None) => {
            let key = dns_key(node, header).await?;
            // Who brought it is of no matter: the signature says whose it is.
            return verify_signature(header, own, request, &key);
        }
        Err(error) => return Err(unauthorized(format!("{} is no usable server name: {error}", header.origin))),
    };
    if header.key.as_str() != SELF_CERTIFIED {
        return Err(unauthorized(format!("{} signs with the key {SELF_CERTIFIED}, not {}", header.origin, header.key)));
    }
    if let Some(RemotePeer(peer)) = request.extensions().get::<RemotePeer>()
        && *peer != key
    {
        return Err(MatrixError::forbidden(format!("the peer {peer} brings a request of {}", header.origin)));
    }
    // A key has exactly one full server name (DESIGN section 2): with another zone the same key could act as many servers.
    if let Some(RemotePeer(peer)) = request.extensions().get::<RemotePeer>()
        && let Some(record) = node.transport.network().and_then(|network| network.record(peer))
        && record.record().server_name != header.origin.as_str()
    {
        return Err(MatrixError::forbidden(format!(
            "the peer {peer} is {}, and brings a request of {}",
            record.record().server_name,
            header.origin
        )));
    }
    verify_signature(header, own, request, &key)
}

/// The key with which a server with a DNS name signed a request, if it is one of its keys now.
async fn dns_key(node: &Arc<Node>, header: &XMatrix) -> Answer<ServerKey> {
    let key = keys_of_others::for_request(node, &header.origin, header.key.as_str()).await;
    key.and_then(|key| ServerKey::from_bytes(key).ok()).ok_or_else(|| {
        unauthorized(format!("{} has no valid key {}, or it could not be fetched", header.origin, header.key))
    })
}

fn verify_signature(header: &XMatrix, own: &ServerName, request: &Request<Bytes>, key: &ServerKey) -> Answer<()> {
    if verifies_as_written(header, own, request, key) {
        return Ok(());
    }
    let mut header = header.clone();
    header.destination.get_or_insert_with(|| own.to_owned());
    header
        .verify_http_request(request, own, &key_map(&header, key))
        .map_err(|error| unauthorized(format!("the signature of {} does not match: {error}", header.origin)))
}

/// Whether the signature covers the request as its body is written. `ruma` sees only what `serde_json` makes of the body, and
/// refusing a transaction for that would refuse all that comes after it.
fn verifies_as_written(header: &XMatrix, own: &ServerName, request: &Request<Bytes>, key: &ServerKey) -> bool {
    signing::signed_text(request, &header.origin, own)
        .is_some_and(|signed| kith_room::signature::verifies(key.as_bytes(), header.sig.as_bytes(), signed.as_bytes()))
}

fn key_map(header: &XMatrix, key: &ServerKey) -> PublicKeyMap {
    let key = Base64::new(key.as_bytes().to_vec());
    PublicKeyMap::from([(header.origin.to_string(), [(header.key.to_string(), key)].into())])
}

fn unauthorized(message: impl Into<String>) -> MatrixError {
    MatrixError::new(StatusCode::UNAUTHORIZED, "M_UNAUTHORIZED", message)
}
