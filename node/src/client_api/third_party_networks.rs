//! `/thirdparty/*` and `/voip/turnServer` (client-server specification, "Third-party Networks", "Voice over IP"): what
//! comes with bridges and TURN servers; without them the answers of the specification for a server that has none.

use std::sync::Arc;

use ruma::api::client::thirdparty::{
    get_location_for_protocol, get_location_for_room_alias, get_protocol, get_protocols, get_user_for_protocol,
    get_user_for_user_id,
};
use ruma::api::client::voip::get_turn_server_info;
use serde_json::json;

use super::untyped::{Reply, Untyped};
use crate::Node;
use crate::http::{Answer, MatrixError, Routes, Session};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .add(protocols)
        .add(protocol)
        .add(location_by_protocol)
        .add(location_by_alias)
        .add(user_by_protocol)
        .add(user_by_id)
        .add(turn_server)
}

fn no_protocol() -> MatrixError {
    MatrixError::not_found("no third-party network is bridged here")
}

async fn protocols(_: Arc<Node>, _: Session, _: get_protocols::v3::Request) -> Answer<get_protocols::v3::Response> {
    Ok(get_protocols::v3::Response::new(Default::default()))
}

async fn protocol(_: Arc<Node>, _: Session, _: get_protocol::v3::Request) -> Answer<get_protocol::v3::Response> {
    Err(no_protocol())
}

async fn location_by_protocol(
    _: Arc<Node>,
    _: Session,
    _: get_location_for_protocol::v3::Request,
) -> Answer<get_location_for_protocol::v3::Response> {
    Err(no_protocol())
}

async fn location_by_alias(
    _: Arc<Node>,
    _: Session,
    _: get_location_for_room_alias::v3::Request,
) -> Answer<get_location_for_room_alias::v3::Response> {
    Err(no_protocol())
}

async fn user_by_protocol(
    _: Arc<Node>,
    _: Session,
    _: get_user_for_protocol::v3::Request,
) -> Answer<get_user_for_protocol::v3::Response> {
    Err(no_protocol())
}

async fn user_by_id(
    _: Arc<Node>,
    _: Session,
    _: get_user_for_user_id::v3::Request,
) -> Answer<get_user_for_user_id::v3::Response> {
    Err(no_protocol())
}

/// The empty answer tells clients that there is no TURN server.
async fn turn_server(_: Arc<Node>, _: Session, _: Untyped<get_turn_server_info::v3::Request, Reply>) -> Answer<Reply> {
    Ok(Reply(json!({})))
}
