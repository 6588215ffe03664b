//! Asking a service: about users and aliases of its namespaces, about its networks, and whether it is there (application service
//! specification, "Querying", "Pinging", "Third-party networks").

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, header};
use kith_store::StoreError;
use ruma::{RoomAliasId, UserId};
use serde_json::{Map, Value};

use super::{Registered, Service};
use crate::{
    Node,
    accounts::users,
    http::escape::escaped,
    platform::timeout,
    web::{Longer, Reach, WebError},
};

/// How long a service may take to answer.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer.
const LONGEST_ANSWER: usize = 1 << 20;

/// Why a service gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It has no URL.
    #[error("the application service has no URL")]
    NoUrl,
    /// It took too long.
    #[error("the application service did not answer in time")]
    Late,
    /// It could not be reached.
    #[error(transparent)]
    Web(#[from] WebError),
}

/// Asks a service, under `/_matrix/app/v1/`.
///
/// # Errors
/// [`AskError`]. Any status is an answer.
pub async fn call(
    node: &Node,
    service: &Service,
    method: Method,
    path: &str,
    body: Option<&Value>,
    patience: Duration,
) -> Result<Response<Bytes>, AskError> {
    let url = service.url.as_ref().ok_or(AskError::NoUrl)?;
    let mut request = Request::builder()
        .method(method)
        .uri(format!("{url}/_matrix/app/v1/{path}"))
        .header(header::AUTHORIZATION, format!("Bearer {}", service.hs_token()));
    if body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let body = body.map(Value::to_string).unwrap_or_default();
    let request = request.body(Bytes::from(body)).map_err(|_| WebError::Url("its path is none"))?;
    // The owner wrote the URL, and most bridges run on this device.
    let reach = Reach { private: true, most: LONGEST_ANSWER, longer: Longer::Refuse };
    match timeout(&*node.clock, patience, node.web.call(request, reach)).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(AskError::Late),
    }
}

impl Registered {
    /// The service was heard of: what it did not take is sent again at once.
    pub fn is_awake(&self) {
        self.awake.notify_one();
    }
}

/// Gives the services whose user this would be the chance to make it; says whether one says that it has.
pub async fn about_user(node: &Arc<Node>, user: &UserId) -> bool {
    let path = format!("users/{}", escaped(user.as_str()));
    anybody(node, &path, |service| *user != service.sender && service.has_user(user)).await
}

/// Before a user is invited: if it is none of this node's yet, its service may make it.
///
/// # Errors
/// As all reads.
pub async fn introduce(node: &Arc<Node>, user: &UserId) -> Result<(), StoreError> {
    if !node.appservices.all().is_empty()
        && node.is_local(user)
        && !node.store.read(|read| users::exists(read, user))?
    {
        about_user(node, user).await;
    }
    Ok(())
}

/// Gives the services whose alias this would be the chance to make it; says whether one says that it has.
pub async fn about_alias(node: &Arc<Node>, alias: &RoomAliasId) -> bool {
    let path = format!("rooms/{}", escaped(alias.as_str()));
    anybody(node, &path, |service| service.has_alias(alias.as_str())).await
}

async fn anybody(node: &Arc<Node>, path: &str, which: impl Fn(&Service) -> bool) -> bool {
    for one in node.appservices.all().iter().filter(|one| one.service.url.is_some() && which(&one.service)) {
        match call(node, &one.service, Method::GET, path, None, PATIENCE).await {
            Ok(answer) if answer.status().is_success() => return true,
            Ok(_) => {}
            Err(error) => tracing::debug!(service = one.service.id, %error, "an application service was asked in vain"),
        }
    }
    false
}

/// What all services that bridge to `protocol` (or to anything) answer to a question about third-party networks.
pub async fn about_networks(node: &Arc<Node>, protocol: Option<&str>, path: &str) -> Vec<(Arc<Registered>, Value)> {
    let mut answers = Vec::new();
    for one in node.appservices.all() {
        let protocols = &one.service.protocols;
        let is_asked = protocol.map_or(!protocols.is_empty(), |protocol| protocols.iter().any(|its| its == protocol));
        if !is_asked || one.service.url.is_none() {
            continue;
        }
        match call(node, &one.service, Method::GET, path, None, PATIENCE).await {
            Ok(answer) if answer.status().is_success() => {
                answers.extend(serde_json::from_slice(answer.body()).ok().map(|answer| (one.clone(), answer)));
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(service = one.service.id, %error, "an application service was asked in vain"),
        }
    }
    answers
}

/// What is known of a network: the services that bridge to it, put together. None if no service does, or tells.
pub async fn protocol(node: &Arc<Node>, protocol: &str) -> Option<Value> {
    let path = format!("thirdparty/protocol/{}", escaped(protocol));
    let mut whole: Option<Map<String, Value>> = None;
    for (one, answer) in about_networks(node, Some(protocol), &path).await {
        let Value::Object(mut answer) = answer else { continue };
        if let Some(Value::Array(instances)) = answer.get_mut("instances") {
            for instance in instances.iter_mut().filter_map(Value::as_object_mut) {
                if let Some(network) = instance.get("network_id").and_then(Value::as_str) {
                    let id = network_id(&one.service, network);
                    instance.insert("instance_id".to_owned(), Value::String(id));
                }
            }
        }
        match &mut whole {
            None => whole = Some(answer),
            Some(whole) => {
                let more = answer.remove("instances");
                if let (Some(Value::Array(instances)), Some(Value::Array(more))) = (whole.get_mut("instances"), more) {
                    instances.extend(more);
                }
            }
        }
    }
    whole.map(Value::Object)
}

/// The name that a network of a service's has here.
pub fn network_id(service: &Service, network: &str) -> String {
    format!("{}|{network}", service.id)
}
