//! Tests of the extension, over nodes on one network in memory.

mod contact;
mod delivery;
mod node;
mod people;

use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use kith_transport::{
    Body, Class, Network, NetworkError, NetworkEvent, PeerInfo, ServerKey, SignedRecord, memory::MemoryHub,
};
use serde_json::{Value, json};
use tokio::sync::broadcast;

use crate::{
    accounts::{
        devices::{self, NewDevice},
        users,
    },
    config::Config,
    http::escape::escaped,
    platform::Clock as _,
    testing::{Client, TestNode, eventually},
};

const PREFIX: &str = "/_matrix/client/unstable/org.kith";

/// A network that shows its peers otherwise than they are, and notes what it is told.
struct Shown {
    inner: Arc<dyn Network>,
    change: fn(&mut PeerInfo),
    told: Arc<Mutex<Vec<String>>>,
}

impl Shown {
    /// A node on such a network, and what the network is told.
    async fn node(hub: &MemoryHub, key: u8, change: fn(&mut PeerInfo)) -> (TestNode, Arc<Mutex<Vec<String>>>) {
        Self::node_with(hub, key, change, |_| {}).await
    }

    /// As [`Shown::node`], with changes to the configuration.
    async fn node_with(
        hub: &MemoryHub,
        key: u8,
        change: fn(&mut PeerInfo),
        configure: fn(&mut Config),
    ) -> (TestNode, Arc<Mutex<Vec<String>>>) {
        let (hub, told) = (hub.clone(), Arc::new(Mutex::default()));
        let notes = told.clone();
        let join = Arc::new(move |secret: &kith_transport::SecretKey, router| -> Arc<dyn Network> {
            Arc::new(Self { inner: hub.join(secret.public(), router), change, told: notes.clone() })
        });
        (TestNode::start_in_with(join, key, configure).await, told)
    }
}

impl Network for Shown {
    fn local(&self) -> ServerKey {
        self.inner.local()
    }

    fn request(
        &self,
        peer: ServerKey,
        class: Class,
        request: http::Request<Body>,
    ) -> BoxFuture<'static, Result<http::Response<Body>, NetworkError>> {
        self.told.lock().unwrap().push(request.uri().path().to_owned());
        self.inner.request(peer, class, request)
    }

    fn events(&self) -> broadcast::Receiver<NetworkEvent> {
        self.inner.events()
    }

    fn peers(&self) -> Vec<PeerInfo> {
        let mut peers = self.inner.peers();
        peers.iter_mut().for_each(self.change);
        peers
    }

    fn add_address(&self, peer: ServerKey, address: String) -> Result<(), NetworkError> {
        self.told.lock().unwrap().push(format!("{peer} is at {address}"));
        self.inner.add_address(peer, address)
    }

    fn own_addresses(&self) -> Vec<String> {
        vec!["/ip4/127.0.0.1/udp/4001/quic-v1".to_owned(), "/ip4/192.0.2.1/udp/4001/quic-v1".to_owned()]
    }

    fn dial(&self, peer: ServerKey) {
        self.told.lock().unwrap().push(format!("dial {peer}"));
    }

    fn network_changed(&self) {}

    fn record(&self, peer: &ServerKey) -> Option<SignedRecord> {
        self.inner.record(peer)
    }

    fn shutdown(&self) -> BoxFuture<'static, ()> {
        self.inner.shutdown()
    }
}

/// Somebody with an account who is signed in.
async fn person(node: &TestNode, name: &str, admin: bool) -> Client {
    let user = users::create(node.node(), name, None, admin).await.unwrap();
    let (device, tokens) = devices::sign_in(node.node(), &user, NewDevice::default()).await.unwrap();
    let mut client = node.client();
    client.signed_in(&json!({ "access_token": tokens.access, "user_id": user, "device_id": device }));
    client
}

/// The server of a client's user.
fn server(client: &Client) -> &str {
    client.user.split_once(':').unwrap().1
}

/// Makes a room and has the others join it; gives its ID, ready for a path.
async fn room_of(maker: &Client, others: &[&Client]) -> String {
    let invite: Vec<&str> = others.iter().map(|other| other.user.as_str()).collect();
    let body = json!({ "preset": "private_chat", "invite": invite });
    let room = maker.post("/_matrix/client/v3/createRoom", body).await.ok();
    let room = escaped(room["room_id"].as_str().unwrap());
    for other in others {
        join(other, &room).await;
    }
    room
}

async fn join(who: &Client, room: &str) {
    let path = format!("/_matrix/client/v3/rooms/{room}/join");
    eventually("the join", async || who.post(&path, json!({})).await.status == 200).await;
}

/// Sends a text; gives the event's ID.
async fn say(who: &Client, room: &str, text: &str) -> String {
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/{text}");
    let sent = who.put(&path, json!({ "msgtype": "m.text", "body": text })).await.ok();
    sent["event_id"].as_str().unwrap().to_owned()
}

/// What the extension answers.
async fn get(who: &Client, what: &str) -> Value {
    who.get(&format!("{PREFIX}/{what}")).await.ok()
}
