//! Simplified sliding sync, seen through the client API of whole nodes.

mod connections;
mod extensions;
mod lists;
mod model;
mod rooms;

use super::*;
use crate::testing::Reply;

pub(super) const PATH: &str = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";

/// A connection of a client's device that goes on from where it was.
pub(super) struct Window {
    pub(super) client: Client,
    pub(super) pos: Option<String>,
    /// What it asks for.
    pub(super) body: Value,
}

impl Window {
    pub(super) fn new(client: &Client, body: Value) -> Self {
        Self { client: client.clone(), pos: None, body }
    }

    /// One list of all rooms, with this much of each.
    pub(super) fn of_all(client: &Client, timeline_limit: u64, required_state: Value) -> Self {
        let list = json!({ "ranges": [[0, 99]], "timeline_limit": timeline_limit, "required_state": required_state });
        Self::new(client, json!({ "lists": { "all": list } }))
    }

    fn path(&self, timeout: u64) -> String {
        let pos = self.pos.as_ref().map(|pos| format!("&pos={pos}")).unwrap_or_default();
        format!("{PATH}?timeout={timeout}{pos}")
    }

    /// Asks, and forgets the answer.
    pub(super) async fn lose(&self) -> Reply {
        self.client.post(&self.path(0), self.body.clone()).await
    }

    pub(super) async fn ask(&mut self) -> Value {
        let answer = self.lose().await.ok();
        self.pos = Some(answer["pos"].as_str().unwrap().to_owned());
        answer
    }

    /// Asks, and waits up to 30 seconds of the node's clock.
    pub(super) fn wait(&self) -> tokio::task::JoinHandle<Value> {
        let (client, path, body) = (self.client.clone(), self.path(30_000), self.body.clone());
        tokio::spawn(async move { client.post(&path, body).await.ok() })
    }
}

/// The rooms of an answer.
pub(super) fn rooms_of(answer: &Value) -> Vec<&str> {
    answer["rooms"].as_object().unwrap().keys().map(String::as_str).collect()
}

/// Subscribes a window to a room.
pub(super) fn subscribe(window: &mut Window, room: &str, timeline_limit: u64, required_state: Value) {
    window.body["room_subscriptions"][room] =
        json!({ "timeline_limit": timeline_limit, "required_state": required_state });
}
