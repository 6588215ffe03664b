//! `GET /_matrix/federation/v1/query/profile`, `GET /_matrix/federation/v1/openid/userinfo`: who a user of this node is
//! (server-server specification, "Querying for information", "OpenID").

use std::sync::Arc;

use kith_store::tables::rooms::{ROOM_SERVERS, USER_ROOMS, membership};
use kith_store::{Json, Read, StoreError};
use kith_transport::KithName;
use ruma::api::federation::openid::get_openid_userinfo::v1 as userinfo;
use ruma::api::federation::query::get_profile_information::v1 as profile_query;

use ruma::{ServerName, UserId};

use crate::Node;
use crate::accounts::{openid, profile};
use crate::config::ProfilesFor;
use crate::http::endpoint::Origin;
use crate::http::{Anonymous, Answer, MatrixError, Routes};

/// The routes of this group.
pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(query_profile).add(openid_user)
}

async fn query_profile(
    node: Arc<Node>,
    origin: Origin,
    request: profile_query::Request,
) -> Answer<profile_query::Response> {
    if !node.is_local(&request.user_id) {
        return Err(MatrixError::invalid_param("this user is of another server"));
    }
    // A node of the DNS world is asked by everybody, as ever. On a local network, name and picture are for those one talks to.
    let for_everyone = node.config.p2p.profiles == ProfilesFor::Everyone
        || !is_key_name(node.server_name())
        || !is_key_name(&origin.server);
    let profile = node.store.read(|read| {
        // Whether there is such a user is not told either.
        match for_everyone || shares_a_room(read, &request.user_id, &origin.server)? {
            true => profile::get(read, &request.user_id),
            false => Ok(None),
        }
    })?;
    let profile =
        profile.ok_or_else(|| MatrixError::not_found("there is no such user, or the profile is not shown"))?;
    let asked = request.field.as_ref().map(AsRef::<str>::as_ref);
    let fields = profile.into_iter().filter(|(field, _)| asked.is_none_or(|asked| asked == field));
    Ok(fields.collect::<profile_query::Response>())
}

fn is_key_name(name: &ServerName) -> bool {
    KithName::parse(name.as_str()).is_ok_and(|name| name.is_some())
}

/// Whether a user of ours is in a room, or invited to one, with somebody of that server.
fn shares_a_room(read: &dyn Read, user: &UserId, server: &ServerName) -> Result<bool, StoreError> {
    for row in USER_ROOMS.prefix(read, &user.to_string())? {
        let ((_, room), Json(part)) = row?;
        let is_there = matches!(part.membership, membership::JOIN | membership::INVITE | membership::KNOCK);
        if is_there && ROOM_SERVERS.contains(read, &(room, server.to_string()))? {
            return Ok(true);
        }
        // Of a room that is known by an invite only, the inviter is known.
        if is_there && part.sender.split_once(':').is_some_and(|(_, of)| of == server.as_str()) {
            return Ok(true);
        }
    }
    Ok(false)
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
