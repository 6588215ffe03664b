//! What clients are told, seen through the client API of whole nodes.
#![expect(clippy::disallowed_methods, reason = "the tests wait in real time for nodes whose clocks they move")]

mod cost;
mod ephemeral;
mod model;
mod rooms;
mod sliding;
mod threads;
mod timeline;
mod unread;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde_json::{Value, json};

pub(super) use crate::http::escape::escaped as encoded;
use crate::testing::{Client, TestNode};

pub(super) fn path(room: &str, rest: &str) -> String {
    format!("/_matrix/client/v3/rooms/{}/{rest}", encoded(room))
}

/// Makes a public room.
pub(super) async fn create(client: &Client) -> String {
    create_with(client, json!({"preset": "public_chat"})).await
}

pub(super) async fn create_with(client: &Client, body: Value) -> String {
    let answer = client.post("/_matrix/client/v3/createRoom", body).await.ok();
    answer["room_id"].as_str().unwrap().to_owned()
}

pub(super) async fn join(client: &Client, room: &str) {
    client.post(&path(room, "join"), json!({})).await.ok();
}

pub(super) async fn leave(client: &Client, room: &str) {
    client.post(&path(room, "leave"), json!({})).await.ok();
}

/// Kicks, bans, unbans or invites.
pub(super) async fn act(client: &Client, room: &str, what: &str, user: &Client) {
    client.post(&path(room, what), json!({"user_id": user.user})).await.ok();
}

/// Sends a text message; gives its event ID.
pub(super) async fn say(client: &Client, room: &str, text: &str) -> String {
    send(client, room, "m.room.message", json!({"msgtype": "m.text", "body": text})).await
}

pub(super) async fn send(client: &Client, room: &str, kind: &str, content: Value) -> String {
    static TRANSACTION: AtomicU64 = AtomicU64::new(0);
    let transaction = TRANSACTION.fetch_add(1, Ordering::Relaxed);
    let answer = client.put(&path(room, &format!("send/{kind}/t{transaction}")), content).await.ok();
    answer["event_id"].as_str().unwrap().to_owned()
}

pub(super) async fn set_state(client: &Client, room: &str, kind: &str, key: &str, content: Value) -> String {
    let answer = client.put(&path(room, &format!("state/{kind}/{}", encoded(key))), content).await.ok();
    answer["event_id"].as_str().unwrap().to_owned()
}

pub(super) async fn account_data(client: &Client, kind: &str, content: Value) {
    let path = format!("/_matrix/client/v3/user/{}/account_data/{kind}", encoded(&client.user));
    client.put(&path, content).await.ok();
}

/// Syncs at once. `more` are further parameters, with the `&` before them.
pub(super) async fn sync(client: &Client, since: Option<&str>, more: &str) -> Value {
    client.get(&sync_path(since, more)).await.ok()
}

pub(super) fn sync_path(since: Option<&str>, more: &str) -> String {
    let since = since.map(|since| format!("&since={}", encoded(since))).unwrap_or_default();
    format!("/_matrix/client/v3/sync?timeout=0{since}{more}")
}

/// The parameter for a filter.
pub(super) fn filter(filter: Value) -> String {
    format!("&filter={}", encoded(&filter.to_string()))
}

/// The token to go on from.
pub(super) fn next(answer: &Value) -> String {
    answer["next_batch"].as_str().unwrap().to_owned()
}

/// A client's device that goes on from where it was.
pub(super) struct Device {
    pub(super) client: Client,
    pub(super) since: Option<String>,
}

impl Device {
    pub(super) fn new(client: &Client) -> Self {
        Self { client: client.clone(), since: None }
    }

    /// A device that has synced once.
    pub(super) async fn ready(client: &Client) -> Self {
        let mut device = Self::new(client);
        device.sync("").await;
        device
    }

    pub(super) async fn sync(&mut self, more: &str) -> Value {
        let answer = sync(&self.client, self.since.as_deref(), more).await;
        self.since = Some(next(&answer));
        answer
    }

    /// Starts a sync that waits up to 30 seconds of the node's clock.
    pub(super) fn wait(&self) -> tokio::task::JoinHandle<Value> {
        let client = self.client.clone();
        let path = sync_path(self.since.as_deref(), "").replace("timeout=0", "timeout=30000");
        tokio::spawn(async move { client.get(&path).await.ok() })
    }
}

/// Bodies of the messages in the timeline of a joined room.
pub(super) fn bodies(answer: &Value, room: &str) -> Vec<String> {
    texts(&answer["rooms"]["join"][room]["timeline"]["events"])
}

pub(super) fn texts(events: &Value) -> Vec<String> {
    let bodies = |event: &Value| event["content"]["body"].as_str().map(str::to_owned);
    events.as_array().into_iter().flatten().filter_map(bodies).collect()
}

pub(super) fn ids(events: &Value) -> Vec<String> {
    let id = |event: &Value| event["event_id"].as_str().unwrap().to_owned();
    events.as_array().into_iter().flatten().map(id).collect()
}

/// `(type, state key)` of state events, in order.
pub(super) fn keys(events: &Value) -> Vec<(String, String)> {
    let key = |event: &Value| {
        (event["type"].as_str().unwrap().to_owned(), event["state_key"].as_str().unwrap_or_default().to_owned())
    };
    let mut keys: Vec<_> = events.as_array().into_iter().flatten().map(key).collect();
    keys.sort();
    keys
}

/// Awaits a task that must end without the clock moving.
pub(super) async fn soon<T>(task: tokio::task::JoinHandle<T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), task).await.expect("it ends soon").unwrap()
}

/// Moves the clock until the task has ended.
pub(super) async fn pass_until<T>(node: &TestNode, step: Duration, task: tokio::task::JoinHandle<T>) -> T {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !task.is_finished() {
        assert!(std::time::Instant::now() < deadline, "it does not end however the clock moves");
        node.clock.advance(step);
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    task.await.unwrap()
}
