//! `/profile/{userId}` and its fields (client-server specification, "Profiles").
//!
//! Threat met: a hostile web page in the owner's browser can call without a token. It learns no more than the profiles of
//! this node's own users, and cannot make the node call other servers: for users of those a token is asked for.

use std::sync::Arc;

use ruma::api::client::profile::{delete_profile_field, get_profile, get_profile_field, set_profile_field};
use ruma::{OwnedUserId, UserId};
use serde_json::{Map, Value, json};

use super::own_user;
use super::untyped::{MaySignIn, Reply, Untyped};
use crate::Node;
use crate::accounts::profile;
use crate::appservice::ask;
use crate::http::{Answer, MatrixError, Routes, Session};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(whole).add(field).add(put).add(delete)
}

/// A user's profile, wherever it is kept. `field` only tells another server what is asked for.
async fn find(
    node: &Arc<Node>,
    session: Option<Session>,
    user: &str,
    field: Option<&str>,
) -> Answer<Map<String, Value>> {
    let user: OwnedUserId = UserId::parse(user).map_err(|_| MatrixError::invalid_param("this is not a user ID"))?;
    let profile = if node.is_local(&user) {
        ask::introduce(node, &user).await?;
        node.store.read(|read| profile::get(read, &user))?
    } else if session.is_some() {
        Some(profile::of_remote(node, &user, field).await?)
    } else {
        return Err(MatrixError::missing_token());
    };
    profile.ok_or_else(|| MatrixError::not_found("there is no such user, or it has no profile"))
}

async fn whole(
    node: Arc<Node>,
    session: Option<Session>,
    request: Untyped<MaySignIn<get_profile::v3::Request>, Reply>,
) -> Answer<Reply> {
    find(&node, session, request.parameter(0), None).await.map(|profile| Reply::ok(Value::Object(profile)))
}

async fn field(
    node: Arc<Node>,
    session: Option<Session>,
    request: Untyped<MaySignIn<get_profile_field::v3::Request>, Reply>,
) -> Answer<Reply> {
    let name = request.parameter(1);
    let mut profile = find(&node, session, request.parameter(0), Some(name)).await?;
    match profile.remove(name) {
        Some(value) => Ok(Reply::ok(json!({ name: value }))),
        None => Err(MatrixError::not_found("this field of the profile is not set")),
    }
}

async fn put(
    node: Arc<Node>,
    session: Session,
    mut request: Untyped<set_profile_field::v3::Request, set_profile_field::v3::Response>,
) -> Answer<set_profile_field::v3::Response> {
    own_user(&session, request.parameter(0))?;
    let field = request.parameter(1).to_owned();
    let value = request.body.remove(&field);
    // Clients delete a name or picture by leaving it out, as they did before there was DELETE.
    if value.is_none() && field != profile::DISPLAYNAME && field != profile::AVATAR_URL {
        return Err(MatrixError::missing_param(format!("`{field:.255}` is missing")));
    }
    profile::set(&node, &session.user_id, &field, value).await?;
    Ok(set_profile_field::v3::Response::new())
}

async fn delete(
    node: Arc<Node>,
    session: Session,
    request: Untyped<delete_profile_field::v3::Request, delete_profile_field::v3::Response>,
) -> Answer<delete_profile_field::v3::Response> {
    own_user(&session, request.parameter(0))?;
    profile::set(&node, &session.user_id, request.parameter(1), None).await?;
    Ok(delete_profile_field::v3::Response::new())
}
