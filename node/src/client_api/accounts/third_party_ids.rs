//! `/account/3pid/*` and the `requestToken` endpoints (client-server specification, "Adding Account Administrative
//! Contact Information"): this server sends no email or SMS and uses no identity server, and says so.

use std::sync::Arc;

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
    routing::post,
};
use http::Request;
use ruma::api::client::account::{
    ThirdPartyIdRemovalStatus, add_3pid, bind_3pid, delete_3pid, get_3pids,
    request_3pid_management_token_via_email as manage_email, request_3pid_management_token_via_msisdn as manage_msisdn,
    request_password_change_token_via_email as password_email,
    request_password_change_token_via_msisdn as password_msisdn,
    request_registration_token_via_email as register_email, request_registration_token_via_msisdn as register_msisdn,
    unbind_3pid,
};

use crate::Node;
use crate::client_api::untyped::{Lenient, Reply, Untyped};
use crate::http::{Anonymous, Answer, MatrixError, Routes, Session, endpoint};

pub(super) fn routes(routes: Routes) -> Routes {
    let node = routes.node().clone();
    let old_add = move |request: Request<Body>| add_unbound(node.clone(), request);
    routes
        .add(list)
        .raw("/_matrix/client/v3/account/3pid", post(old_add.clone()))
        .raw("/_matrix/client/r0/account/3pid", post(old_add))
        .add(add)
        .add(bind)
        .add(delete)
        .add(unbind)
        .add(unsupported::<manage_email::v3::Request, manage_email::v3::Response>)
        .add(unsupported::<manage_msisdn::v3::Request, manage_msisdn::v3::Response>)
        .add(unsupported::<password_email::v3::Request, password_email::v3::Response>)
        .add(unsupported::<password_msisdn::v3::Request, password_msisdn::v3::Response>)
        .add(unsupported::<register_email::v3::Request, register_email::v3::Response>)
        .add(unsupported::<register_msisdn::v3::Request, register_msisdn::v3::Response>)
}

fn denied() -> MatrixError {
    MatrixError::new(
        http::StatusCode::FORBIDDEN,
        "M_THREEPID_DENIED",
        "this server does not use email addresses or phone numbers",
    )
}

/// Not ruma's answer, which leaves an empty list out; clients read the field.
async fn list(_: Arc<Node>, _: Session, _: Untyped<get_3pids::v3::Request, Reply>) -> Answer<Reply> {
    Ok(Reply::ok(serde_json::json!({ "threepids": [] })))
}

/// `POST /account/3pid`, from before there was `/account/3pid/add`.
async fn add_unbound(node: Arc<Node>, request: Request<Body>) -> Response {
    let admitted = endpoint::admit_streaming(&node, request).await;
    admitted.map_or_else(|error| error, |_| denied()).into_response()
}

async fn add(_: Arc<Node>, _: Session, Lenient(_): Lenient<add_3pid::v3::Request>) -> Answer<add_3pid::v3::Response> {
    Err(denied())
}

async fn bind(_: Arc<Node>, _: Session, _: bind_3pid::v3::Request) -> Answer<bind_3pid::v3::Response> {
    Err(denied())
}

async fn delete(_: Arc<Node>, _: Session, _: delete_3pid::v3::Request) -> Answer<delete_3pid::v3::Response> {
    Ok(delete_3pid::v3::Response::new(ThirdPartyIdRemovalStatus::NoSupport))
}

async fn unbind(_: Arc<Node>, _: Session, _: unbind_3pid::v3::Request) -> Answer<unbind_3pid::v3::Response> {
    Ok(unbind_3pid::v3::Response::new(ThirdPartyIdRemovalStatus::NoSupport))
}

async fn unsupported<R, A>(_: Arc<Node>, _: Anonymous, _: Untyped<R, A>) -> Answer<A> {
    Err(denied())
}
