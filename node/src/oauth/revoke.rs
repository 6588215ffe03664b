//! `/oauth2/revoke`: a client signs out (RFC 7009; client-server specification, "Token revocation"). Whoever shows a token may
//! end it, whichever client it is of: it is worth more to a thief than to who found it.

use std::sync::Arc;

use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::json;

use super::error::{Answered, OauthError, json};
use super::form;
use crate::Node;
use crate::accounts::tokens;

/// `POST /oauth2/revoke`.
pub(super) async fn revoke(node: Arc<Node>, request: Request<Body>) -> Answered {
    let (_, form) = form::posted(&node, request).await?;
    let token = form.required("token")?;
    if !matches!(form.get("token_type_hint"), None | Some("access_token" | "refresh_token")) {
        return Err(OauthError::new("unsupported_token_type", "a token is an access token or a refresh token"));
    }
    tokens::revoke(&node, token).await?;
    Ok(json(StatusCode::OK, json!({})))
}
