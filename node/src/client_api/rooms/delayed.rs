//! `/rooms/{roomId}/delayed_event/{eventType}/{txnId}` and `/delayed_events` (MSC4140): events that are sent later. In its older form,
//! which clients use beside, they are scheduled by `/send` and `/state` with `org.matrix.msc4140.delay` in the query.

use std::sync::Arc;

use http::{Method, Request};
use ruma::{
    OwnedRoomId,
    api::{
        IncomingRequest, Metadata,
        client::delayed_events::{
            get_all_delayed_events::unstable as get_all,
            get_delayed_event::unstable as get_one,
            send_delayed_event::unstable as send_delayed,
            update_delayed_event::{UpdateAction, unstable_v1, unstable_v2},
        },
        error::DeserializationError,
    },
};
use serde_json::{Value, json};

use crate::{
    Node,
    client_api::untyped::{MaySignIn, Reply, Untyped},
    delayed::{self, Act, Plan},
    http::{Answer, MatrixError, Routes, Session},
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(schedule).add(list).add(get).add(update).add(update_older)
}

/// `R`, with how long it is to wait, as older clients say it.
#[derive(Debug)]
pub(super) struct Delayable<R> {
    pub(super) request: R,
    /// Milliseconds, as text; none: at once.
    delay: Option<String>,
}

impl<R: Metadata> Metadata for Delayable<R> {
    const METHOD: Method = R::METHOD;
    const RATE_LIMITED: bool = R::RATE_LIMITED;
    type Authentication = R::Authentication;
    type PathBuilder = R::PathBuilder;
    const PATH_BUILDER: R::PathBuilder = R::PATH_BUILDER;
}

impl<R: IncomingRequest> IncomingRequest for Delayable<R> {
    type EndpointError = R::EndpointError;
    type OutgoingResponse = Reply;

    fn try_from_http_request_inner(request: Request<&[u8]>, path: &[&str]) -> Result<Self, DeserializationError> {
        let query = request.uri().query().unwrap_or_default().as_bytes();
        let mut query = url::form_urlencoded::parse(query);
        let delay = query.find(|(name, _)| name == "org.matrix.msc4140.delay").map(|(_, value)| value.into_owned());
        Ok(Self { request: R::try_from_http_request_inner(request, path)?, delay })
    }
}

impl<R> Delayable<R> {
    /// How many milliseconds the event is to wait; none: it is not a delayed one.
    pub(super) fn delay(&self) -> Answer<Option<u64>> {
        let wrong = |_| MatrixError::invalid_param("a delay is a number of milliseconds");
        self.delay.as_ref().map(|delay| delay.parse().map_err(wrong)).transpose()
    }
}

async fn schedule(
    node: Arc<Node>,
    session: Session,
    mut request: Untyped<send_delayed::Request, Reply>,
) -> Answer<Reply> {
    let room_id = OwnedRoomId::try_from(request.parameter(0)).map_err(|_| MatrixError::invalid_param("no room ID"))?;
    let Some(Value::Object(content)) = request.body.remove("content") else {
        return Err(MatrixError::bad_json("`content` is an object"));
    };
    // The newest text of the proposal calls it otherwise than the clients there are.
    let delay = request.body.get("delay_ms").or_else(|| request.body.get("delay"));
    let delay = delay.ok_or_else(|| MatrixError::missing_param("`delay_ms` is missing"))?;
    let delay = delay.as_u64().ok_or_else(|| MatrixError::invalid_param("a delay is a number of milliseconds"))?;
    let state_key = match request.body.get("state_key") {
        None | Some(Value::Null) => None,
        Some(Value::String(key)) => Some(key.clone()),
        Some(_) => return Err(MatrixError::bad_json("`state_key` is a text")),
    };
    let (kind, transaction) = (request.parameter(1).to_owned(), Some(request.parameter(2).to_owned()));
    let plan = Plan { kind, state_key, content, delay, transaction };
    scheduled(&node, &session, &room_id, plan).await
}

/// Schedules an event, and answers with its delay ID.
pub(super) async fn scheduled(node: &Arc<Node>, session: &Session, room_id: &OwnedRoomId, plan: Plan) -> Answer<Reply> {
    let id = delayed::schedule(node, session, room_id, plan).await?;
    Ok(Reply::ok(json!({ "delay_id": id })))
}

async fn list(node: Arc<Node>, session: Session, _: Untyped<get_all::Request, Reply>) -> Answer<Reply> {
    let events = node.store.read(|read| delayed::list(read, &session.user_id))?;
    Ok(Reply::ok(json!({ "delayed_events": events })))
}

async fn get(node: Arc<Node>, session: Session, request: Untyped<get_one::Request, Reply>) -> Answer<Reply> {
    node.store.read(|read| delayed::shown(read, &session.user_id, request.parameter(0))).map(Reply::ok)
}

async fn update(
    node: Arc<Node>,
    session: Option<Session>,
    request: MaySignIn<unstable_v2::Request>,
) -> Answer<unstable_v2::Response> {
    act(&node, session, &request.request.delay_id, &request.request.action).await?;
    Ok(unstable_v2::Response::new())
}

async fn update_older(
    node: Arc<Node>,
    session: Option<Session>,
    request: MaySignIn<unstable_v1::Request>,
) -> Answer<unstable_v1::Response> {
    act(&node, session, &request.request.delay_id, &request.request.action).await?;
    Ok(unstable_v1::Response::new())
}

async fn act(node: &Arc<Node>, session: Option<Session>, id: &str, action: &UpdateAction) -> Answer<()> {
    let what = match action {
        UpdateAction::Restart => Act::Restart,
        UpdateAction::Send => Act::Send,
        UpdateAction::Cancel => Act::Cancel,
        _ => return Err(MatrixError::invalid_param("a delayed event is restarted, sent or cancelled")),
    };
    delayed::act(node, session.as_ref().map(|session| &*session.user_id), id, what).await
}
