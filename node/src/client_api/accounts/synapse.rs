//! `/_synapse/admin/v1/register`: registration by a shared secret, compatible with Synapse, so that its tools and test
//! suites can make accounts. Served only when `registration.shared_secret` is set.
//!
//! Threats met: whoever does not know the secret cannot make the HMAC; a recorded request is worth nothing, because
//! each nonce counts once and for a minute.

use std::sync::{Arc, PoisonError};

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::Request;
use serde_json::{Value, json};
use sha1::Sha1;

use crate::Node;
use crate::accounts::devices::NewDevice;
use crate::accounts::registration::{self, NewAccount};
use crate::accounts::{localpart, profile};
use crate::http::{Answer, MatrixError, Routes, endpoint};

/// How long a nonce counts, in milliseconds.
const NONCE_MS: u64 = 60_000;
/// Nonces at once; beyond it the oldest goes.
const MAX_NONCES: usize = 1000;

pub(super) fn routes(routes: Routes) -> Routes {
    if routes.node().config.registration.shared_secret.is_none() {
        return routes;
    }
    let (for_nonce, for_register) = (routes.node().clone(), routes.node().clone());
    let nonce = move || {
        let node = for_nonce.clone();
        async move { axum::Json(json!({ "nonce": nonce(&node) })).into_response() }
    };
    let register = move |request: Request<Body>| {
        let node = for_register.clone();
        async move {
            match register(&node, request).await {
                Ok(response) => response,
                Err(error) => error.into_response(),
            }
        }
    };
    routes.raw("/_synapse/admin/v1/register", get(nonce).post(register))
}

fn nonce(node: &Node) -> String {
    let (nonce, now) = (node.rng.token(32), now(node));
    let mut nonces = node.accounts.nonces.lock().unwrap_or_else(PoisonError::into_inner);
    nonces.retain(|_, expires| *expires > now);
    if nonces.len() >= MAX_NONCES
        && let Some(oldest) = nonces.iter().min_by_key(|(_, expires)| **expires).map(|(nonce, _)| nonce.clone())
    {
        nonces.remove(&oldest);
    }
    nonces.insert(nonce.clone(), now.saturating_add(NONCE_MS));
    nonce
}

fn now(node: &Node) -> u64 {
    u64::try_from(node.clock.monotonic().as_millis()).unwrap_or(u64::MAX)
}

async fn register(node: &Arc<Node>, request: Request<Body>) -> Answer<Response> {
    let (_, _, body) = endpoint::read(request, 64 << 10).await?;
    let body: Value = serde_json::from_slice(&body).map_err(|_| MatrixError::bad_json("the body is not JSON"))?;
    let text = |field: &str| body.get(field).and_then(Value::as_str);
    let required =
        |field: &str| text(field).ok_or_else(|| MatrixError::missing_param(format!("`{field}` must be specified")));
    let (nonce, name, password, mac) =
        (required("nonce")?, required("username")?, required("password")?, required("mac")?);
    let admin = body.get("admin").and_then(Value::as_bool).unwrap_or(false);

    let known = node.accounts.nonces.lock().unwrap_or_else(PoisonError::into_inner).remove(nonce);
    if known.is_none_or(|expires| expires <= now(node)) {
        return Err(MatrixError::bad_request("unrecognised nonce"));
    }
    let secret = node.config.registration.shared_secret.as_ref();
    let secret = secret.ok_or_else(|| MatrixError::forbidden("shared secret registration is not enabled"))?;
    let mut wanted = Hmac::<Sha1>::new_from_slice(secret.expose().as_bytes()).map_err(MatrixError::internal)?;
    for part in [nonce, "\0", name, "\0", password, "\0", if admin { "admin" } else { "notadmin" }] {
        wanted.update(part.as_bytes());
    }
    if let Some(kind) = text("user_type") {
        wanted.update(b"\0");
        wanted.update(kind.as_bytes());
    }
    let given = data_encoding::HEXLOWER_PERMISSIVE.decode(mac.as_bytes()).unwrap_or_default();
    // Compares in constant time.
    wanted.verify_slice(&given).map_err(|_| MatrixError::forbidden("HMAC incorrect"))?;

    let user_id = localpart::new_user_id(name, node.identity.server_name())?;
    let device = (!body.get("inhibit_login").and_then(Value::as_bool).unwrap_or(false)).then(NewDevice::default);
    let account = NewAccount { user_id: user_id.clone(), password, token: None, admin, device };
    let signed_in = registration::register(node, account).await?;
    if let Some(name) = text("displayname") {
        profile::set(node, &user_id, profile::DISPLAYNAME, Some(name.into())).await?;
    }
    let mut answer = json!({ "user_id": user_id, "home_server": node.identity.server_name() });
    if let Some((device_id, tokens)) = signed_in {
        answer["device_id"] = device_id.as_str().into();
        answer["access_token"] = tokens.access.into();
    }
    Ok(axum::Json(answer).into_response())
}
