//! People who use a node in memory: requests enter as calls of its router.

use std::{sync::Arc, time::Duration};

use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use kith_transport::memory::MemoryHub;
use ruma::OwnedUserId;
use serde_json::{Value, json};
use tower::ServiceExt as _;

pub(super) use crate::http::escape::escaped as encoded;
pub(super) use crate::testing::eventually;

use crate::{
    Node,
    accounts::{
        devices::{self, NewDevice},
        users,
    },
    config::Config,
    platform::ManualClock,
    testing::TestNode,
};

/// A node, alone, whose clock moves a millisecond with each request.
pub(super) struct World {
    pub(super) node: TestNode,
    pub(super) clock: Arc<ManualClock>,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// As [`World::new`], with changes to the configuration.
    pub(super) async fn with(configure: impl FnOnce(&mut Config)) -> Self {
        let node = TestNode::start_with(configure).await;
        Self { clock: node.clock.clone(), node }
    }

    /// Two nodes that can reach each other.
    pub(super) async fn two() -> (Self, Self) {
        Self::two_on(&MemoryHub::new()).await
    }

    /// Two nodes, with keys of the seeds 1 and 2, that can reach each other as the hub lets them.
    pub(super) async fn two_on(hub: &MemoryHub) -> (Self, Self) {
        let one = TestNode::start_among(hub, 1).await;
        let other = TestNode::start_among(hub, 2).await;
        (Self { clock: one.clock.clone(), node: one }, Self { clock: other.clock.clone(), node: other })
    }

    pub(super) fn node(&self) -> &Arc<Node> {
        self.node.node()
    }

    /// Makes an account and signs in.
    pub(super) async fn person(&self, name: &str) -> Person<'_> {
        let user_id = users::create(self.node(), name, None, false).await.expect("a new account");
        self.sign_in(user_id).await
    }

    /// Signs a user in on a new device.
    pub(super) async fn sign_in(&self, user_id: OwnedUserId) -> Person<'_> {
        let (_, tokens) = devices::sign_in(self.node(), &user_id, NewDevice::default()).await.expect("a sign-in");
        Person { world: self, user_id, token: tokens.access }
    }

    /// A request of nobody in particular.
    pub(super) async fn ask(&self, method: Method, path: &str, token: Option<&str>, body: Option<Value>) -> Response {
        self.ask_by("test", method, path, token, body).await
    }

    /// As [`World::ask`], by a client that calls itself `agent`.
    pub(super) async fn ask_by(
        &self,
        agent: &str,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> Response {
        self.clock.advance(Duration::from_millis(1));
        let path = if path.starts_with("/_") { path.to_owned() } else { format!("/_matrix/client/v3{path}") };
        let mut request = Request::builder()
            .method(method)
            .uri(&path)
            .header(header::HOST, "localhost")
            .header(header::USER_AGENT, agent);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let request = request.body(body).expect("a request");
        let response = self.node.handle.client_router().oneshot(request).await.expect("routers do not fail");
        let status = response.status();
        let bytes = response.into_body().collect().await.expect("a whole body").to_bytes();
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Response { status, body, path }
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub(super) struct Response {
    pub(super) status: StatusCode,
    pub(super) body: Value,
    path: String,
}

impl Response {
    /// The body of a request that must have succeeded.
    #[track_caller]
    pub(super) fn ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}: {}", self.path, self.body);
        self.body
    }

    /// That it was refused so.
    #[track_caller]
    pub(super) fn refused(self, status: u16, errcode: &str) -> Value {
        assert_eq!(
            (self.status.as_u16(), self.body["errcode"].as_str()),
            (status, Some(errcode)),
            "{}: {}",
            self.path,
            self.body
        );
        self.body
    }
}

/// A user at a device.
pub(super) struct Person<'a> {
    pub(super) world: &'a World,
    pub(super) user_id: OwnedUserId,
    pub(super) token: String,
}

impl Person<'_> {
    pub(super) fn id(&self) -> &str {
        self.user_id.as_str()
    }

    pub(super) async fn get(&self, path: &str) -> Response {
        self.world.ask(Method::GET, path, Some(&self.token), None).await
    }

    pub(super) async fn post(&self, path: &str, body: Value) -> Response {
        self.world.ask(Method::POST, path, Some(&self.token), Some(body)).await
    }

    pub(super) async fn put(&self, path: &str, body: Value) -> Response {
        self.world.ask(Method::PUT, path, Some(&self.token), Some(body)).await
    }

    pub(super) async fn delete(&self, path: &str) -> Response {
        self.world.ask(Method::DELETE, path, Some(&self.token), None).await
    }

    /// Makes a room; gives its ID.
    pub(super) async fn create(&self, body: Value) -> String {
        text(&self.post("/createRoom", body).await.ok()["room_id"])
    }

    /// Sends a text message; gives the event's ID.
    pub(super) async fn say(&self, room: &str, body: &str) -> String {
        self.send(room, "m.room.message", json!({ "msgtype": "m.text", "body": body })).await
    }

    /// Sends an event; gives its ID.
    pub(super) async fn send(&self, room: &str, kind: &str, content: Value) -> String {
        let transaction = self.world.node().rng.token(10);
        text(&self.put(&format!("/rooms/{room}/send/{kind}/{transaction}"), content).await.ok()["event_id"])
    }

    /// Sets state with an empty key; gives the event's ID.
    pub(super) async fn set(&self, room: &str, kind: &str, content: Value) -> String {
        text(&self.put(&format!("/rooms/{room}/state/{kind}/"), content).await.ok()["event_id"])
    }

    /// The content of state with an empty key.
    pub(super) async fn state(&self, room: &str, kind: &str) -> Value {
        self.get(&format!("/rooms/{room}/state/{kind}/")).await.ok()
    }

    pub(super) async fn join(&self, room: &str) {
        self.post(&format!("/rooms/{room}/join"), json!({})).await.ok();
    }

    pub(super) async fn invite(&self, room: &str, user: &str) {
        self.post(&format!("/rooms/{room}/invite"), json!({ "user_id": user })).await.ok();
    }

    /// All that the user can scroll back to, oldest first.
    pub(super) async fn history(&self, room: &str) -> Vec<Value> {
        let mut events = Vec::new();
        let mut from = String::new();
        for _ in 0..1_000 {
            let page = self.get(&format!("/rooms/{room}/messages?dir=b&limit=50{from}")).await.ok();
            events.extend(page["chunk"].as_array().expect("a chunk").iter().cloned());
            match page["end"].as_str() {
                Some(end) => from = format!("&from={end}"),
                None => break,
            }
        }
        events.reverse();
        events
    }
}

/// A JSON string's text.
#[track_caller]
pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a string: {value}")).to_owned()
}

/// The bodies of the messages among these events.
pub(super) fn bodies(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["content"]["body"].as_str()).collect()
}
