//! Several real nodes in one process, on one memory network and on disks that crash, called as clients call them.
//!
//! The tests over real processes, real networks and a real client library are in Python, in `tests/e2e`.

mod slow;

use std::{sync::Arc, time::Duration};

use http_body_util::{BodyExt as _, Full};
use kith::{
    Handle, Node,
    config::{Config, RegistrationMode},
    platform::{
        Citing, Clock as _, NetworkChoice, NetworkFactory, Platform, Rng, Storage, SystemClock, TokioSpawner, WebChoice,
    },
};
use kith_store::{MemoryBackend, Options, blobs::MemoryBlobs};
use kith_transport::{SecretKey, memory::MemoryHub};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use slow::SlowNetwork;

/// How long a condition may take to come true. Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Nodes that are each other's neighbours.
pub struct Cluster {
    hub: MemoryHub,
    seed: u64,
    /// The longest delay of a request, and of its answer, in milliseconds.
    delay: u64,
    nodes: Vec<Member>,
}

/// One node of a cluster, running or crashed.
struct Member {
    key: [u8; 32],
    disk: MemoryBackend,
    blobs: MemoryBlobs,
    handle: Option<Handle>,
    starts: u64,
}

impl Cluster {
    /// Starts `count` nodes.
    pub async fn start(count: u8, seed: u64) -> Self {
        Self::start_slow(count, seed, 0).await
    }

    /// Starts `count` nodes on a network where each request and each answer takes up to `delay` milliseconds.
    pub async fn start_slow(count: u8, seed: u64, delay: u64) -> Self {
        let mut cluster = Self { hub: MemoryHub::new(), seed, delay, nodes: Vec::new() };
        for number in 0..count {
            cluster.nodes.push(Member {
                key: [number + 1; 32],
                disk: MemoryBackend::new(),
                blobs: MemoryBlobs::new(),
                handle: None,
                starts: 0,
            });
            cluster.restart(usize::from(number)).await;
        }
        cluster
    }

    /// Starts a node that crashed.
    pub async fn restart(&mut self, index: usize) {
        let hub = self.hub.clone();
        let (seed, delay) = (self.seed, self.delay);
        let join: NetworkFactory = Arc::new(move |secret, router| {
            let inner = hub.join(secret.public(), router);
            let rng = Rng::from_seed(seed ^ u64::from_le_bytes([secret.public().as_bytes()[0]; 8]));
            if delay == 0 { inner } else { Arc::new(SlowNetwork { inner, rng, most: delay }) }
        });
        let mut config = Config::in_folder("/nonexistent");
        config.registration.mode = RegistrationMode::Open;
        config.limits.rate_limits = false;
        let member = &mut self.nodes[index];
        member.starts += 1;
        let platform = Platform {
            clock: Arc::new(SystemClock::new()),
            rng: Rng::from_seed(self.seed ^ u64::from(member.key[0]) << 32 ^ member.starts << 48),
            spawner: Arc::new(TokioSpawner::current()),
            storage: Storage::Given {
                backend: member.disk.clone(),
                options: Arc::new(Options::default),
                blobs: Arc::new(member.blobs.clone()),
            },
            network: NetworkChoice::Given(join),
            web: WebChoice::None,
            listeners: false,
            secret: Some(SecretKey::from_seed(member.key)),
            citing: Citing::default(),
        };
        member.handle = Some(Node::start(config, platform).await.expect("a node starts"));
    }

    /// Cuts the power of a node: its disk keeps what was synced, and of the rest what the seed says.
    pub async fn crash(&mut self, index: usize, seed: u64) {
        let member = &mut self.nodes[index];
        member.disk = member.disk.crash(seed);
        member.blobs = member.blobs.crash(seed);
        self.hub.leave(SecretKey::from_seed(member.key).public());
        if let Some(handle) = member.handle.take() {
            // The old disk is dead: nothing it still does reaches the new one.
            handle.stop().await;
        }
    }

    /// Takes a node off the network, or back.
    pub fn isolate(&self, index: usize, cut: bool) {
        let key = SecretKey::from_seed(self.nodes[index].key).public();
        if cut { self.hub.isolate(key) } else { self.hub.rejoin(key) }
    }

    /// A client of a running node.
    pub fn client(&self, index: usize) -> Client {
        let handle = self.nodes[index].handle.as_ref().expect("the node runs");
        Client { router: handle.client_router(), token: String::new(), user: String::new() }
    }

    /// The same device on the node as it runs now.
    pub fn again(&self, index: usize, client: &Client) -> Client {
        Client { router: self.client(index).router, ..client.clone() }
    }

    /// Makes an account.
    pub async fn register(&self, index: usize, name: &str) -> Client {
        let mut client = self.client(index);
        let body = json!({"username": name, "password": "correct horse", "auth": {"type": "m.login.dummy"}});
        let answer = client.call("POST", "/_matrix/client/v3/register", Some(body)).await.expect("an account");
        client.token = answer["access_token"].as_str().expect("a token").to_owned();
        client.user = answer["user_id"].as_str().expect("a user").to_owned();
        client
    }
}

/// One device of a user.
#[derive(Clone)]
pub struct Client {
    router: axum::Router,
    token: String,
    /// The user's ID.
    pub user: String,
}

impl Client {
    /// Calls the client API; an error is the answer's body.
    ///
    /// # Errors
    /// The body of any answer that is no success.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value, Value> {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("Host", "localhost")
            .header("Authorization", format!("Bearer {}", self.token))
            .body(axum::body::Body::new(Full::from(body)))
            .expect("a request");
        let Ok(response) = self.router.clone().oneshot(request).await;
        let status = response.status();
        let bytes = response.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let answer = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if status.is_success() { Ok(answer) } else { Err(answer) }
    }

    /// Makes a room and invites users; gives its ID, ready for a path.
    pub async fn create_room(&self, invite: &[&str]) -> String {
        let body = json!({"preset": "private_chat", "invite": invite});
        let room = self.call("POST", "/_matrix/client/v3/createRoom", Some(body)).await.expect("a room");
        escape(room["room_id"].as_str().expect("a room ID"))
    }

    /// Joins a room, trying again until the invite has come.
    pub async fn join(&self, room: &str) {
        let path = format!("/_matrix/client/v3/rooms/{room}/join");
        eventually("the join", async || self.call("POST", &path, Some(json!({}))).await.ok()).await;
    }

    /// Sends a text; gives the event's ID once it is acknowledged.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn say(&self, room: &str, text: &str) -> Result<String, Value> {
        let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{text}");
        let sent = self.call("PUT", &path, Some(json!({"msgtype": "m.text", "body": text}))).await?;
        Ok(sent["event_id"].as_str().unwrap_or_default().to_owned())
    }

    /// Syncs from a token on (`None`: from the beginning); gives the texts that the room's timeline shows, and the next token.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn sync(&self, room: &str, since: Option<&str>) -> Result<(Vec<String>, String), Value> {
        let since = since.map(|since| format!("&since={since}")).unwrap_or_default();
        // {"room":{"timeline":{"limit":1000}}}: what is said at once is not cut to the latest of it.
        let filter = "%7B%22room%22%3A%7B%22timeline%22%3A%7B%22limit%22%3A1000%7D%7D%7D";
        let path = format!("/_matrix/client/v3/sync?timeout=1000&filter={filter}{since}");
        let answer = self.call("GET", &path, None).await?;
        let events = &answer["rooms"]["join"][unescape(room)]["timeline"]["events"];
        let texts = events
            .as_array()
            .into_iter()
            .flatten()
            .filter(|event| event["type"] == "m.room.message")
            .filter_map(|event| event["content"]["body"].as_str().map(str::to_owned))
            .collect();
        Ok((texts, answer["next_batch"].as_str().unwrap_or_default().to_owned()))
    }

    /// All texts of the room, oldest first, with their event IDs.
    pub async fn texts(&self, room: &str) -> Vec<(String, String)> {
        let mut texts = Vec::new();
        let mut from = String::new();
        loop {
            let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=100{from}");
            let Ok(page) = self.call("GET", &path, None).await else { return Vec::new() };
            for event in page["chunk"].as_array().into_iter().flatten() {
                if event["type"] == "m.room.message" {
                    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                    texts.push((text(&event["content"]["body"]), text(&event["event_id"])));
                }
            }
            match page["end"].as_str() {
                Some(end) => from = format!("&from={end}"),
                None => break,
            }
        }
        texts.reverse();
        texts
    }

    /// The IDs of the events of the room's state, in order.
    pub async fn state(&self, room: &str) -> Vec<String> {
        let path = format!("/_matrix/client/v3/rooms/{room}/state");
        let state = self.call("GET", &path, None).await.unwrap_or_default();
        let mut ids: Vec<String> = state
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|event| event["event_id"].as_str().map(str::to_owned))
            .collect();
        ids.sort();
        ids
    }
}

/// Waits until `ask` gives something.
///
/// # Panics
/// If it does not within a minute.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let clock = SystemClock::new();
    let end = clock.monotonic() + PATIENCE;
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(clock.monotonic() < end, "{what} did not come about within {PATIENCE:?}");
        clock.sleep(Duration::from_millis(20)).await;
    }
}

fn escape(id: &str) -> String {
    id.replace('!', "%21").replace(':', "%3A")
}

fn unescape(id: &str) -> String {
    id.replace("%21", "!").replace("%3A", ":")
}
