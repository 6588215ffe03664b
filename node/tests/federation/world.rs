//! Several nodes in one process, on memory disks and a memory network.

use std::{sync::Arc, time::Duration};

use kith::{
    Handle, Node, accounts,
    config::Config,
    platform::{Citing, Clock, NetworkChoice, Platform, Rng, Storage, SystemClock, TokioSpawner, WebChoice},
    rooms::{Draft, Room, read},
};
use kith_store::{MemoryBackend, Options, blobs::MemoryBlobs, tables::rooms::STREAM};
use kith_transport::{SecretKey, ServerKey, memory::MemoryHub};
use ruma::{OwnedEventId, OwnedUserId, RoomId, RoomVersionId, UserId};
use serde_json::{Map, Value, json};

use crate::without::{self, Lack};

/// A node with one user.
pub struct Peer {
    pub handle: Handle,
    pub user: OwnedUserId,
    seed: u8,
    disk: MemoryBackend,
    hub: MemoryHub,
    config: Config,
    without: Lack,
}

pub fn secret(seed: u8) -> SecretKey {
    SecretKey::from_seed([seed; 32])
}

pub fn key(seed: u8) -> ServerKey {
    secret(seed).public()
}

fn options() -> Options {
    Options { reserve_bytes: 0, cache_bytes: 1 << 20, ..Options::default() }
}

async fn start(hub: &MemoryHub, seed: u8, disk: MemoryBackend, config: Config, lack: Lack) -> Handle {
    let hub = hub.clone();
    let network = NetworkChoice::Given(Arc::new(move |secret: &SecretKey, router| {
        let router = match lack {
            Lack::Guards(guard) => guard.before(router),
            _ => router,
        };
        without::without(hub.join(secret.public(), router), lack)
    }));
    let platform = Platform {
        clock: Arc::new(SystemClock::new()),
        rng: Rng::from_seed(seed.into()),
        spawner: Arc::new(TokioSpawner::current()),
        storage: Storage::Given { backend: disk, options: Arc::new(options), blobs: Arc::new(MemoryBlobs::new()) },
        network,
        web: WebChoice::None,
        listeners: false,
        secret: Some(secret(seed)),
        citing: Citing::default(),
    };
    Node::start(config, platform).await.expect("a node starts")
}

impl Peer {
    pub async fn new(hub: &MemoryHub, seed: u8) -> Self {
        Self::make(hub, seed, |_| {}, Lack::Nothing).await
    }

    pub async fn with(hub: &MemoryHub, seed: u8, configure: impl FnOnce(&mut Config)) -> Self {
        Self::make(hub, seed, configure, Lack::Nothing).await
    }

    /// A node that is not told all.
    pub async fn without(hub: &MemoryHub, seed: u8, without: Lack) -> Self {
        Self::make(hub, seed, |_| {}, without).await
    }

    async fn make(hub: &MemoryHub, seed: u8, configure: impl FnOnce(&mut Config), without: Lack) -> Self {
        let mut config = Config::in_folder("/nonexistent");
        configure(&mut config);
        let disk = MemoryBackend::new();
        let handle = start(hub, seed, disk.clone(), config.clone(), without).await;
        let user = accounts::users::create(handle.node(), "user", None, false).await.expect("an account");
        Self { handle, user, seed, disk, hub: hub.clone(), config, without }
    }

    /// Pulls the plug and starts it anew from what had reached the disk.
    pub async fn crash(&mut self) {
        self.hub.leave(key(self.seed));
        let disk = self.disk.crash(u64::from(self.seed));
        self.handle.stop().await;
        self.disk = disk.clone();
        self.handle = start(&self.hub, self.seed, disk, self.config.clone(), self.without).await;
    }

    /// Stops it in good order and starts it anew.
    pub async fn restart(&mut self) {
        self.handle.stop().await;
        self.hub.leave(key(self.seed));
        self.handle = start(&self.hub, self.seed, self.disk.clone(), self.config.clone(), self.without).await;
    }

    pub fn node(&self) -> &Arc<Node> {
        self.handle.node()
    }

    pub fn key(&self) -> ServerKey {
        key(self.seed)
    }

    pub fn room(&self, room: &RoomId) -> Room {
        self.node().rooms.require(room).expect("the room is known")
    }

    pub async fn create_room(&self, version: RoomVersionId, join_rule: Value) -> Room {
        let user = &self.user;
        let rules = version.rules().expect("a known version");
        let create = match rules.authorization.use_room_create_sender {
            true => Map::new(),
            false => object(json!({"creator": user})),
        };
        let levels = match version {
            RoomVersionId::V12 => json!({"invite": 0}),
            _ => json!({"users": {user.as_str(): 100}, "invite": 0}),
        };
        let id = (version != RoomVersionId::V12).then(|| self.node().rooms.new_room_id());
        let state = |kind: &str, content: Value| Draft::state(user.clone(), kind, "", object(content));
        let member = Draft::state(user.clone(), "m.room.member", user.as_str(), object(json!({"membership": "join"})));
        let drafts = |_: &RoomId| {
            vec![
                member,
                state("m.room.power_levels", levels),
                state("m.room.join_rules", join_rule),
                state("m.room.name", json!({"name": "a room"})),
            ]
        };
        let create = Draft::state(user.clone(), "m.room.create", "", create);
        self.node().rooms.create(&version, id, drafts, create).await.expect("a room")
    }

    pub async fn public_room(&self) -> Room {
        self.create_room(RoomVersionId::V12, json!({"join_rule": "public"})).await
    }

    /// Has further users of this node join a room of its own.
    pub async fn populate(&self, room: &RoomId, count: usize) {
        let members: Vec<OwnedUserId> = (0..count)
            .map(|n| UserId::parse(format!("@m{n}:{}", self.node().server_name())).expect("a user"))
            .collect();
        for some in members.chunks(500) {
            let joins = some.iter().map(|user| {
                let content = object(json!({"membership": "join"}));
                Draft::state(user.clone(), "m.room.member", user.as_str(), content)
            });
            self.room(room).send_many(joins.collect()).await.expect("they join");
        }
    }

    pub async fn join(&self, room: &RoomId, via: &Peer) -> Result<(), kith::http::MatrixError> {
        let via = [via.node().server_name().to_owned()];
        self.node().federation.join(&self.user, room, &via, &Map::new()).await
    }

    pub async fn say(&self, room: &RoomId, body: &str) -> OwnedEventId {
        let content = object(json!({"msgtype": "m.text", "body": body}));
        let draft = Draft::message(self.user.clone(), "m.room.message", content);
        self.room(room).send(draft).await.expect("a message is sent")
    }

    pub async fn set_member(&self, room: &RoomId, user: &UserId, membership: &str) -> OwnedEventId {
        let content = object(json!({"membership": membership}));
        let draft = Draft::state(self.user.clone(), "m.room.member", user.as_str(), content);
        self.room(room).send(draft).await.expect("the membership is changed")
    }

    /// The bodies of all messages, in the order in which sync shows them.
    pub fn messages(&self, room: &RoomId) -> Vec<String> {
        let snapshot = self.node().store.snapshot().expect("a snapshot");
        let Some(number) = read::room_number(&snapshot, room.as_str()).expect("readable") else { return vec![] };
        let rows = STREAM.prefix(&snapshot, &number).expect("readable");
        rows.map(|row| read::event(&snapshot, row.expect("readable").1).expect("readable").expect("stored"))
            .filter(|event| event.kind() == "m.room.message")
            .map(|event| event.content().get("body").and_then(Value::as_str).unwrap_or_default().to_owned())
            .collect()
    }

    /// `(type, state key)` and event ID of the whole current state.
    pub fn state(&self, room: &RoomId) -> Vec<(String, String, String)> {
        let snapshot = self.node().store.snapshot().expect("a snapshot");
        let Some(number) = read::room_number(&snapshot, room.as_str()).expect("readable") else { return vec![] };
        let events = read::current_state(&snapshot, number).expect("readable");
        events
            .into_iter()
            .map(|event| {
                let key = event.state_key().unwrap_or_default().to_owned();
                (event.kind().to_owned(), key, event.row.event_id.clone())
            })
            .collect()
    }

    pub fn membership(&self, room: &RoomId, user: &UserId) -> Option<u8> {
        let snapshot = self.node().store.snapshot().expect("a snapshot");
        let number = read::room_number(&snapshot, room.as_str()).expect("readable")?;
        Some(read::user_room(&snapshot, user.as_str(), number).expect("readable")?.membership)
    }
}

pub fn object(value: Value) -> Map<String, Value> {
    value.as_object().expect("an object").clone()
}

/// Waits until a condition holds, at most 30 seconds.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    until_within(30, what, condition).await;
}

/// [`until`], with its patience in seconds.
pub async fn until_within(seconds: u64, what: &str, condition: impl Fn() -> bool) {
    let clock = SystemClock::new();
    let end = clock.monotonic() + Duration::from_secs(seconds);
    while !condition() {
        assert!(clock.monotonic() < end, "in vain: {what}");
        clock.sleep(Duration::from_millis(10)).await;
    }
}
