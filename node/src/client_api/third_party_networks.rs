//! `/thirdparty/*` and `/voip/turnServer` (client-server specification, "Third-party Networks", "Voice over IP"): what
//! application services know of the networks that they bridge to, and TURN servers, of which there are none.

use std::sync::Arc;

use ruma::api::client::thirdparty::{
    get_location_for_protocol, get_location_for_room_alias, get_protocol, get_protocols, get_user_for_protocol,
    get_user_for_user_id,
};
use ruma::api::client::voip::get_turn_server_info;
use serde_json::{Map, Value, json};

use super::untyped::{Reply, Untyped};
use crate::Node;
use crate::appservice::ask;
use crate::http::{Answer, MatrixError, Routes, Session, escape::escaped};

/// The most that one look-up gives.
const MOST_FOUND: usize = 1_000;

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
    MatrixError::not_found("no such third-party network is bridged here")
}

async fn protocols(node: Arc<Node>, _: Session, _: Untyped<get_protocols::v3::Request, Reply>) -> Answer<Reply> {
    let mut names: Vec<&str> =
        node.appservices.all().iter().flat_map(|one| one.service.protocols.iter().map(String::as_str)).collect();
    names.sort_unstable();
    names.dedup();
    let mut protocols = Map::new();
    for name in names {
        protocols.extend(ask::protocol(&node, name).await.map(|protocol| (name.to_owned(), protocol)));
    }
    Ok(Reply::ok(Value::Object(protocols)))
}

async fn protocol(node: Arc<Node>, _: Session, request: Untyped<get_protocol::v3::Request, Reply>) -> Answer<Reply> {
    ask::protocol(&node, request.parameter(0)).await.map(Reply::ok).ok_or_else(no_protocol)
}

async fn location_by_protocol(
    node: Arc<Node>,
    _: Session,
    request: Untyped<get_location_for_protocol::v3::Request, Reply>,
) -> Answer<Reply> {
    find(&node, "location", Some(request.parameter(0)), &request.query).await
}

async fn location_by_alias(
    node: Arc<Node>,
    _: Session,
    request: Untyped<get_location_for_room_alias::v3::Request, Reply>,
) -> Answer<Reply> {
    find(&node, "location", None, &request.query).await
}

async fn user_by_protocol(
    node: Arc<Node>,
    _: Session,
    request: Untyped<get_user_for_protocol::v3::Request, Reply>,
) -> Answer<Reply> {
    find(&node, "user", Some(request.parameter(0)), &request.query).await
}

async fn user_by_id(
    node: Arc<Node>,
    _: Session,
    request: Untyped<get_user_for_user_id::v3::Request, Reply>,
) -> Answer<Reply> {
    find(&node, "user", None, &request.query).await
}

/// What services know of users or locations. `query` goes on to them, but for the caller's token.
async fn find(node: &Arc<Node>, what: &str, protocol: Option<&str>, query: &str) -> Answer<Reply> {
    let mut path = format!("thirdparty/{what}");
    if let Some(protocol) = protocol {
        if !node.appservices.all().iter().any(|one| one.service.protocols.iter().any(|its| its == protocol)) {
            return Err(no_protocol());
        }
        path = format!("{path}/{}", escaped(protocol));
    }
    let query: Vec<&str> = query.split('&').filter(|pair| !pair.starts_with("access_token=")).collect();
    let path = format!("{path}?{}", query.join("&"));
    let mut found = Vec::new();
    for (_, answer) in ask::about_networks(node, protocol, &path).await {
        if let Value::Array(more) = answer {
            found.extend(more);
        }
    }
    if protocol.is_none() && found.is_empty() {
        return Err(MatrixError::not_found("no bridge knows this"));
    }
    found.truncate(MOST_FOUND);
    Ok(Reply::ok(Value::Array(found)))
}

/// The empty answer tells clients that there is no TURN server.
async fn turn_server(_: Arc<Node>, _: Session, _: Untyped<get_turn_server_info::v3::Request, Reply>) -> Answer<Reply> {
    Ok(Reply::ok(json!({})))
}
