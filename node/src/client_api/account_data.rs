//! `/user/{userId}/account_data/{type}`, `/user/{userId}/rooms/{roomId}/account_data/{type}`
//! (client-server specification, "Client config").

use std::sync::Arc;

use ruma::api::client::config::{
    get_global_account_data, get_room_account_data, set_global_account_data, set_room_account_data,
};
use ruma::serde::Raw;
use ruma::{RoomId, UserId};
use serde_json::Value;

use super::own_user;
use super::untyped::{Reply, Untyped};
use crate::Node;
use crate::accounts::account_data;
use crate::http::{Answer, MatrixError, Routes, Session};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(get_global).add(set_global).add(get_in_room).add(set_in_room)
}

fn get(node: &Node, user: &UserId, room: Option<&RoomId>, kind: &str) -> Answer<Reply> {
    let content = node.store.read(|read| account_data::get(read, user.as_str(), room.map(RoomId::as_str), kind))?;
    let content = content.ok_or_else(|| MatrixError::not_found("there is no such account data"))?;
    Ok(Reply::ok(Value::Object(content)))
}

async fn get_global(
    node: Arc<Node>,
    session: Session,
    request: Untyped<get_global_account_data::v3::Request, Reply>,
) -> Answer<Reply> {
    own_user(&session, request.parameter(0))?;
    get(&node, &session.user_id, None, request.parameter(1))
}

async fn get_in_room(
    node: Arc<Node>,
    session: Session,
    request: Untyped<get_room_account_data::v3::Request, Reply>,
) -> Answer<Reply> {
    own_user(&session, request.parameter(0))?;
    let room = room_id(request.parameter(1))?;
    get(&node, &session.user_id, Some(room), request.parameter(2))
}

async fn set_global(
    node: Arc<Node>,
    session: Session,
    request: set_global_account_data::v3::Request,
) -> Answer<set_global_account_data::v3::Response> {
    own_user(&session, request.user_id.as_str())?;
    let kind = request.event_type.to_string();
    account_data::set(&node, &session.user_id, None, &kind, text(&request.data)).await?;
    Ok(set_global_account_data::v3::Response::new())
}

async fn set_in_room(
    node: Arc<Node>,
    session: Session,
    request: set_room_account_data::v3::Request,
) -> Answer<set_room_account_data::v3::Response> {
    own_user(&session, request.user_id.as_str())?;
    let (kind, room) = (request.event_type.to_string(), Some(request.room_id.as_str()));
    account_data::set(&node, &session.user_id, room, &kind, text(&request.data)).await?;
    Ok(set_room_account_data::v3::Response::new())
}

fn text<T>(content: &Raw<T>) -> &str {
    content.json().get()
}

pub(super) fn room_id(text: &str) -> Answer<&RoomId> {
    <&RoomId>::try_from(text).map_err(|_| MatrixError::invalid_param("this is not a room ID"))
}
