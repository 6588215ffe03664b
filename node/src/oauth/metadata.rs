//! `/_matrix/client/v1/auth_metadata`: where everything is (client-server specification, "Server metadata discovery"; RFC 8414).

use std::sync::Arc;

use ruma::api::client::discovery::get_authorization_server_metadata::v1::Request;
use serde_json::json;

use super::{account, address, clients};
use crate::Node;
use crate::accounts::registration;
use crate::client_api::untyped::{Reply, Untyped};
use crate::http::{Anonymous, Answer, MatrixError};

/// Not ruma's answer, which is made of JSON, too.
pub(super) async fn metadata(node: Arc<Node>, _: Anonymous, _: Untyped<Request, Reply>) -> Answer<Reply> {
    if !node.config.oauth() {
        let message = "this server has no OAuth 2.0: sign in with `/login`";
        return Err(MatrixError { message: message.to_owned(), ..MatrixError::unrecognized() });
    }
    let mut metadata = json!({
        "issuer": format!("{}/", node.config.public_base_url()),
        "authorization_endpoint": address(&node, "authorize"),
        "token_endpoint": address(&node, "token"),
        "revocation_endpoint": address(&node, "revoke"),
        "registration_endpoint": address(&node, "register"),
        "device_authorization_endpoint": address(&node, "device"),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "fragment"],
        "grant_types_supported": [clients::CODE, clients::REFRESH, clients::DEVICE],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "account_management_uri": address(&node, "account"),
        "account_management_actions_supported": account::ACTIONS,
    });
    if registration::stages(&node).is_ok() {
        metadata["prompt_values_supported"] = json!(["create"]);
    }
    Ok(Reply::ok(metadata))
}
