//! `PUT /_matrix/federation/v1/exchange_third_party_invite/{roomId}`: another server's user has proven that a third-party
//! invite of a room here is for it; `PUT /_matrix/federation/v1/3pid/onbind`: an identity server says that a user of ours has.
//! Server-server specification, "Third-party invites". The identity servers that there are say `POST` instead.
//!
//! What is checked, and why no `key_validity_url` is asked: [`crate::federation::membership::third_party`].

use std::{sync::Arc, time::Duration};

use http::{Method, Request};
use ruma::{
    OwnedRoomId, OwnedUserId,
    api::{
        IncomingRequest, Metadata,
        error::DeserializationError,
        federation::thirdparty::{bind_callback::v1 as onbind, exchange_invite::v1 as exchange},
    },
};
use serde_json::{Map, Value, json};

use super::template::{check_user, whole_room};
use crate::{
    Node,
    accounts::limits::{self, Action},
    client_api::{rooms::membership::check_invitable, untyped::Untyped},
    federation::membership::third_party::Exchange,
    http::{Anonymous, Answer, MatrixError, Routes, endpoint::Origin},
    platform::timeout,
};

/// Pending invites that one binding may bring.
const MOST_PENDING: usize = 20;
/// Servers that are asked for each of them.
const MOST_ASKED: usize = 3;
/// How long all of them may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The routes of this file.
pub fn routes(routes: Routes) -> Routes {
    routes.add(exchange_invite).add(bound).add(posted)
}

/// The type of ruma does not tell the room that the body names.
type Template = Untyped<exchange::Request, exchange::Response>;

async fn exchange_invite(node: Arc<Node>, origin: Origin, request: Template) -> Answer<exchange::Response> {
    let exchange = read_template(&request)?;
    check_user(exchange.invited(), &origin.server)?;
    let room = whole_room(&node, exchange.room_id(), &origin.server)?;
    // Each rings at somebody's device.
    limits::check(&node, Action::Invite, origin.server.as_str())?;
    node.federation.use_third_party_invite(&room, &exchange).await?;
    Ok(exchange::Response::new())
}

/// The invite that another server proposes, when it is one.
fn read_template(request: &Template) -> Answer<Exchange> {
    let room_id = OwnedRoomId::try_from(request.parameter(0))
        .map_err(|_| MatrixError::invalid_param("this is no room ID in the path"))?;
    if text(&request.body, "type")? != "m.room.member" {
        return Err(MatrixError::invalid_param("the event is no `m.room.member`"));
    }
    if text(&request.body, "room_id")? != room_id.as_str() {
        return Err(MatrixError::invalid_param("the event is of another room than the path names"));
    }
    let user = |field| {
        OwnedUserId::try_from(text(&request.body, field)?)
            .map_err(|_| MatrixError::bad_json(format!("`{field}` is no user ID")))
    };
    let (sender, invited) = (user("sender")?, user("state_key")?);
    let content = object(&request.body, "content")?;
    if text(content, "membership")? != "invite" {
        return Err(MatrixError::invalid_param("the event is no invite"));
    }
    let used = object(content, "third_party_invite")?;
    // Some servers leave it out; what counts is the name that the room has.
    if used.get("display_name").is_some_and(|name| !name.is_string()) {
        return Err(MatrixError::bad_json("`display_name` is no text"));
    }
    Exchange::new(room_id, sender, invited, object(used, "signed")?.clone())
}

fn field<'a>(of: &'a Map<String, Value>, name: &str) -> Answer<&'a Value> {
    of.get(name).ok_or_else(|| MatrixError::missing_param(format!("`{name}` is missing")))
}

fn text<'a>(of: &'a Map<String, Value>, name: &str) -> Answer<&'a str> {
    field(of, name)?.as_str().ok_or_else(|| MatrixError::bad_json(format!("`{name}` is no text")))
}

fn object<'a>(of: &'a Map<String, Value>, name: &str) -> Answer<&'a Map<String, Value>> {
    field(of, name)?.as_object().ok_or_else(|| MatrixError::bad_json(format!("`{name}` is no object")))
}

/// Takes the pending invites of a user of ours. What was bound to the user is nobody's business here and not kept.
///
/// An identity server signs no request, so this believes nothing: each invite is judged by the servers of its room, ours among
/// them. A refused one is passed over; when a server could not be asked, the identity server is told to try again.
async fn bound(node: Arc<Node>, _: Anonymous, request: onbind::Request) -> Answer<onbind::Response> {
    if !node.is_local(&request.mxid) {
        return Err(MatrixError::invalid_param(format!("{} is not a user of this server", request.mxid)));
    }
    if request.invites.len() > MOST_PENDING {
        return Err(MatrixError::too_large(format!("at most {MOST_PENDING} invites are taken at once")));
    }
    let exchanges: Vec<Exchange> = request
        .invites
        .into_iter()
        .map(|invite| {
            if invite.mxid != request.mxid {
                return Err(MatrixError::invalid_param("an invite is for another user than the binding"));
            }
            let signed = serde_json::from_str(invite.signed.json().get())
                .map_err(|_| MatrixError::bad_json("`signed` is no object"))?;
            Exchange::new(invite.room_id, invite.sender, invite.mxid, signed)
        })
        .collect::<Answer<_>>()?;
    limits::check(&node, Action::Invite, &format!("bound to {}", request.mxid))?;
    let all = async {
        let mut unreached = None;
        for exchange in &exchanges {
            match take(&node, exchange).await {
                Ok(()) => {}
                Err(error) if error.status.is_server_error() => unreached = Some(error),
                Err(error) => {
                    tracing::info!(user = %request.mxid, room = %exchange.room_id(), %error, "a third-party invite is not taken");
                }
            }
        }
        unreached.map_or(Ok(()), Err)
    };
    let late = || MatrixError::unreachable("the servers of the rooms do not answer in time; try again later");
    timeout(&*node.clock, PATIENCE, all).await.map_err(|_| late())??;
    Ok(onbind::Response::new())
}

/// A binding as Sydent tells of it: by `POST`, which is all that Synapse takes, and without `invites` where none wait. An error
/// would have it come again and again.
#[derive(Debug)]
struct Posted(onbind::Request);

impl Metadata for Posted {
    const METHOD: Method = Method::POST;
    const RATE_LIMITED: bool = <onbind::Request as Metadata>::RATE_LIMITED;
    type Authentication = <onbind::Request as Metadata>::Authentication;
    type PathBuilder = <onbind::Request as Metadata>::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = <onbind::Request as Metadata>::PATH_BUILDER;
}

impl IncomingRequest for Posted {
    type EndpointError = <onbind::Request as IncomingRequest>::EndpointError;
    type OutgoingResponse = onbind::Response;

    fn try_from_http_request_inner(request: Request<&[u8]>, path: &[&str]) -> Result<Self, DeserializationError> {
        let (parts, body) = request.into_parts();
        let mut body: Map<String, Value> = serde_json::from_slice(body)?;
        body.entry("invites").or_insert_with(|| json!([]));
        let body = Value::Object(body).to_string();
        onbind::Request::try_from_http_request_inner(Request::from_parts(parts, body.as_bytes()), path).map(Self)
    }
}

async fn posted(node: Arc<Node>, from: Anonymous, request: Posted) -> Answer<onbind::Response> {
    bound(node, from, request.0).await
}

async fn take(node: &Arc<Node>, exchange: &Exchange) -> Answer<()> {
    node.store.read(|read| check_invitable(read, exchange.invited(), exchange.sender()))?;
    node.federation.claim_third_party_invite(exchange, &[], MOST_ASKED).await.map(drop)
}
