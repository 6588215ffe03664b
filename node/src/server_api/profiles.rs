//! `GET /_matrix/federation/v1/query/profile`, `GET /_matrix/federation/v1/openid/userinfo`: who a user of this node is
//! (server-server specification, "Querying for information", "OpenID").

use std::sync::Arc;

use ruma::api::federation::openid::get_openid_userinfo::v1 as userinfo;
use ruma::api::federation::query::get_profile_information::v1 as profile_query;

use crate::Node;
use crate::accounts::{openid, profile};
use crate::http::endpoint::Origin;
use crate::http::{Anonymous, Answer, MatrixError, Routes};

/// The routes of this group.
pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(query_profile).add(openid_user)
}

async fn query_profile(node: Arc<Node>, _: Origin, request: profile_query::Request) -> Answer<profile_query::Response> {
    if !node.is_local(&request.user_id) {
        return Err(MatrixError::invalid_param("this user is of another server"));
    }
    let profile = node.store.read(|read| profile::get(read, &request.user_id))?;
    let profile = profile.ok_or_else(|| MatrixError::not_found("there is no such user"))?;
    let asked = request.field.as_ref().map(AsRef::<str>::as_ref);
    let fields = profile.into_iter().filter(|(field, _)| asked.is_none_or(|asked| asked == field));
    Ok(fields.collect::<profile_query::Response>())
}

/// For services to which a user gave a token; needs no signature, because the token is the secret.
async fn openid_user(node: Arc<Node>, _: Anonymous, request: userinfo::Request) -> Answer<userinfo::Response> {
    match openid::user_of(&node, &request.access_token)? {
        Some(user) => Ok(userinfo::Response::new(user)),
        None => Err(MatrixError::new(
            http::StatusCode::UNAUTHORIZED,
            "M_UNKNOWN_TOKEN",
            "the OpenID token is not known here, or has expired",
        )),
    }
}
