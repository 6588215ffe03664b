//! Calls a node as its user's client, through the client API in process.

use futures::FutureExt as _;
use futures::channel::oneshot;
use futures::future::{Either, select};
use http_body_util::{BodyExt as _, Full};
use kith::platform::Spawner as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::World;
use crate::engine::{Nanos, Stream, seconds};

/// How long a client waits for an answer.
const PATIENCE: f64 = 120.0;

/// Why a call gave nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Failure {
    /// The node is not running, or crashed meanwhile.
    Off,
    /// No answer in time.
    Late,
    /// A refusal: its status and body.
    Refused(u16, Value),
}

impl World {
    /// Calls the client API of a node as its user.
    ///
    /// # Errors
    /// [`Failure`] says why there is no good answer; the node may have acted on it unless it refused.
    pub async fn call(&self, node: u32, method: &str, path: &str, body: Option<Value>) -> Result<Value, Failure> {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let bytes = self.exchange(node, method, path, "application/json", body.into_bytes()).await?;
        Ok(serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// As [`World::call`], with any body and answer.
    ///
    /// # Errors
    /// As [`World::call`].
    pub async fn exchange(
        &self,
        node: u32,
        method: &str,
        path: &str,
        kind: &str,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, Failure> {
        let (spawner, handle) = self.spawner_of(node).zip(self.handle(node)).ok_or(Failure::Off)?;
        let token = self.machine(node).map(|machine| machine.token.clone()).unwrap_or_default();
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("Host", "localhost")
            .header("Content-Type", kind)
            .header("Authorization", format!("Bearer {token}"))
            .body(axum::body::Body::new(Full::from(body)))
            .map_err(|error| Failure::Refused(0, Value::from(error.to_string())))?;
        let (give, take) = oneshot::channel();
        let router = handle.client_router();
        drop(handle);
        // A task of the node's: when that crashes, so does the connection.
        let task = async move {
            let Ok(response) = router.oneshot(request).await;
            let status = response.status();
            let bytes = response.into_body().collect().await.map(http_body_util::Collected::to_bytes);
            let _ = give.send((status, bytes.unwrap_or_default()));
        };
        spawner.spawn("client", task.boxed());
        let late = self.timeline().sleep(seconds(PATIENCE));
        match select(take, late).await {
            Either::Left((Ok((status, bytes)), _)) if status.is_success() => Ok(bytes.to_vec()),
            Either::Left((Ok((status, bytes)), _)) => {
                let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
                Err(Failure::Refused(status.as_u16(), body))
            }
            Either::Left((Err(_), _)) => Err(Failure::Off),
            Either::Right(_) => Err(Failure::Late),
        }
    }

    /// Sends an event to a room; counts it as acknowledged when it is. Gives its ID.
    ///
    /// # Errors
    /// As [`World::call`].
    pub async fn send(&self, node: u32, room: u32, kind: &str, content: Value) -> Result<String, Failure> {
        let transaction = format!("t{}", self.timeline().now());
        self.send_as(node, room, kind, content, &transaction).await
    }

    /// As [`World::send`], with a transaction ID of the client's, so that it can be repeated.
    ///
    /// # Errors
    /// As [`World::call`].
    pub async fn send_as(
        &self,
        node: u32,
        room: u32,
        kind: &str,
        content: Value,
        transaction: &str,
    ) -> Result<String, Failure> {
        let asked = self.timeline().now();
        let path = format!("{}/send/{kind}/{transaction}", self.room_path(room));
        let sent = self.call(node, "PUT", &path, Some(content)).await;
        self.sent(node, room, asked, sent)
    }

    /// Redacts an event, as [`World::send`].
    ///
    /// # Errors
    /// As [`World::call`].
    pub async fn redact(&self, node: u32, room: u32, event: &str) -> Result<String, Failure> {
        let asked = self.timeline().now();
        let path = format!("{}/redact/{}/t{asked}", self.room_path(room), escape(event));
        let sent = self.call(node, "PUT", &path, Some(json!({}))).await;
        self.sent(node, room, asked, sent)
    }

    /// Sets a piece of a room's state, as [`World::send`].
    ///
    /// # Errors
    /// As [`World::call`].
    pub async fn set_state(&self, node: u32, room: u32, kind: &str, content: Value) -> Result<String, Failure> {
        let asked = self.timeline().now();
        let path = format!("{}/state/{kind}/", self.room_path(room));
        let sent = self.call(node, "PUT", &path, Some(content)).await;
        self.sent(node, room, asked, sent)
    }

    fn sent(&self, node: u32, room: u32, asked: Nanos, sent: Result<Value, Failure>) -> Result<String, Failure> {
        let what = match &sent {
            Ok(_) => "sends",
            Err(Failure::Off) => "sends_off",
            Err(Failure::Late) => "sends_late",
            Err(Failure::Refused(..)) => "sends_refused",
        };
        self.record().count(what);
        let id = sent?["event_id"].as_str().unwrap_or_default().to_owned();
        self.record().acknowledged(&id, room, node, asked);
        Ok(id)
    }

    /// Says something of this length.
    ///
    /// # Errors
    /// As [`World::call`].
    pub async fn say(&self, node: u32, room: u32, bytes: u32) -> Result<String, Failure> {
        let text = format!("{} {}", self.timeline().now(), "x".repeat(bytes as usize));
        self.send(node, room, "m.room.message", json!({"msgtype": "m.text", "body": text})).await
    }

    /// Joins a room by its neighbours that are in it.
    ///
    /// # Errors
    /// As [`World::call`].
    pub async fn join(&self, node: u32, room: u32) -> Result<(), Failure> {
        let mut inside: Vec<u32> = self.members(room).into_iter().filter(|other| *other != node).collect();
        // Not always by the same ones.
        Stream::new(self.seed(), "via", u64::from(node), self.timeline().now()).shuffle(&mut inside);
        let near = inside.iter().filter(|other| self.edges().contains(&(node.min(**other), node.max(**other))));
        let via: Vec<String> =
            near.take(5).map(|other| format!("via={0}&server_name={0}", self.server_name(*other))).collect();
        let id = self.room_id(room).unwrap_or_default();
        let path = format!("/_matrix/client/v3/join/{}?{}", escape(&id), via.join("&"));
        self.call(node, "POST", &path, Some(json!({}))).await?;
        self.set_member(room, node, true);
        Ok(())
    }

    /// The path of a room in the client API.
    pub fn room_path(&self, room: u32) -> String {
        format!("/_matrix/client/v3/rooms/{}", escape(&self.room_id(room).unwrap_or_default()))
    }
}

/// An ID as it stands in a path.
pub fn escape(id: &str) -> String {
    id.replace('!', "%21").replace(':', "%3A").replace('$', "%24").replace('@', "%40").replace('/', "%2F")
}
