//! A client of a node: requests enter as calls of its router.

use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use kith::accounts::devices::{self, NewDevice};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::world::Peer;

pub struct Client {
    router: axum::Router,
    token: String,
}

impl Client {
    /// Signs the peer's user in on a new device.
    pub async fn of(peer: &Peer) -> Self {
        let (_, tokens) = devices::sign_in(peer.node(), &peer.user, NewDevice::default()).await.expect("a sign-in");
        Self { router: peer.handle.client_router(), token: tokens.access }
    }

    pub async fn call(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        let body = if body.is_null() { axum::body::Body::empty() } else { body.to_string().into() };
        let request = Request::builder()
            .method(method)
            .uri(format!("/_matrix/client/v3{path}"))
            .header(header::HOST, "localhost")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .body(body)
            .expect("a request");
        let response = self.router.clone().oneshot(request).await.expect("routers do not fail");
        let status = response.status();
        let bytes = response.into_body().collect().await.expect("a whole body").to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// The answer to a request that must succeed.
    pub async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.call(Method::GET, path, Value::Null).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        answer
    }
}
