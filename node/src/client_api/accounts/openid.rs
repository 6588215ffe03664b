//! `/user/{userId}/openid/request_token` (client-server specification, "OpenID").

use std::sync::Arc;
use std::time::Duration;

use ruma::api::client::account::request_openid_token;
use ruma::authentication::TokenType;

use crate::Node;
use crate::accounts::openid;
use crate::client_api::own_user;
use crate::http::{Answer, Routes, Session};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(request_token)
}

async fn request_token(
    node: Arc<Node>,
    session: Session,
    request: request_openid_token::v3::Request,
) -> Answer<request_openid_token::v3::Response> {
    own_user(&session, &request.user_id)?;
    Ok(request_openid_token::v3::Response::new(
        openid::issue(&node, &session.user_id),
        TokenType::Bearer,
        node.identity.server_name().to_owned(),
        Duration::from_millis(openid::TOKEN_MS),
    ))
}
