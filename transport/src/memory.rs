//! A [`Network`] inside one process: for tests, and for many nodes under simulated time.
//!
//! A [`MemoryHub`] is the air between the nodes. Links between any two of them can be cut and healed; a [`Fault`] makes
//! the next requests of a link fail before or after the other side acted on them. Nothing here spawns, sleeps or
//! draws random numbers: a request runs the other node's router in the caller's future.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body::Frame;
use tokio::sync::broadcast;

use crate::record::SignedRecord;
use crate::{
    Body, BoxError, Class, Network, NetworkError, NetworkEvent, PeerInfo, RemotePeer, Router, ServerKey, boxed,
};

/// News kept for a receiver that lags.
const EVENTS: usize = 1024;

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request never arrives; the sender is told that the peer cannot be reached.
    Unreachable,
    /// The request arrives and is carried out; the answer is lost.
    LoseResponse,
    /// The request arrives; the answer breaks off after its head.
    BreakBody,
}

/// The space in which memory nodes meet. Clones are the same hub.
#[derive(Clone, Default)]
pub struct MemoryHub(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    nodes: BTreeMap<ServerKey, Node>,
    /// Pairs, the lower key first.
    cut: BTreeSet<(ServerKey, ServerKey)>,
    isolated: BTreeSet<ServerKey>,
    /// Faults still to come, for each direction: how many requests pass before, then what.
    faults: BTreeMap<(ServerKey, ServerKey), Vec<(u64, Fault)>>,
    requests: u64,
}

struct Node {
    router: Router,
    events: broadcast::Sender<NetworkEvent>,
    record: Option<SignedRecord>,
    contacts: Vec<ServerKey>,
}

impl MemoryHub {
    /// An empty hub.
    pub fn new() -> Self {
        Self::default()
    }

    /// A node comes: it and all that it has links to discover each other. A node of the same key that is there is replaced.
    pub fn join(&self, key: ServerKey, router: Router) -> Arc<MemoryNetwork> {
        let mut state = self.lock();
        state.leave(key);
        let (events, _) = broadcast::channel(EVENTS);
        let network =
            Arc::new(MemoryNetwork { key, hub: self.0.clone(), events: events.clone(), alive: Mutex::new(true) });
        let before = state.links();
        let node = Node { router, events, record: None, contacts: vec![] };
        state.nodes.insert(key, node);
        state.announce(&before);
        network
    }

    /// A node goes, as when its process ends.
    pub fn leave(&self, key: ServerKey) {
        self.lock().leave(key);
    }

    /// Cuts the link between two nodes, whether they are there or not. Running requests lose their answer.
    pub fn cut(&self, a: ServerKey, b: ServerKey) {
        self.change(|state| {
            state.cut.insert(pair(a, b));
        });
    }

    /// Restores the link between two nodes.
    pub fn heal(&self, a: ServerKey, b: ServerKey) {
        self.change(|state| {
            state.cut.remove(&pair(a, b));
        });
    }

    /// Cuts a node off from all others, as when its cable is pulled.
    pub fn isolate(&self, key: ServerKey) {
        self.change(|state| {
            state.isolated.insert(key);
        });
    }

    /// Ends [`MemoryHub::isolate`]; links cut one by one stay cut.
    pub fn rejoin(&self, key: ServerKey) {
        self.change(|state| {
            state.isolated.remove(&key);
        });
    }

    /// Makes one request from `from` to `to` go wrong: the one after the next `passing` ones (0: the next).
    pub fn fail(&self, from: ServerKey, to: ServerKey, passing: u64, fault: Fault) {
        let mut state = self.lock();
        state.faults.entry((from, to)).or_default().push((passing, fault));
    }

    /// The contacts that a node told last; none if it is not there.
    pub fn contacts(&self, key: ServerKey) -> Vec<ServerKey> {
        self.lock().nodes.get(&key).map(|node| node.contacts.clone()).unwrap_or_default()
    }

    /// How many requests were tried in all.
    pub fn requests(&self) -> u64 {
        self.lock().requests
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        let before = state.links();
        change(&mut state);
        state.announce(&before);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }
}

/// State is consistent at every moment a panic could leave it: no poisoning.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pair(a: ServerKey, b: ServerKey) -> (ServerKey, ServerKey) {
    (a.min(b), a.max(b))
}

impl State {
    fn linked(&self, a: ServerKey, b: ServerKey) -> bool {
        a != b
            && self.nodes.contains_key(&a)
            && self.nodes.contains_key(&b)
            && !self.cut.contains(&pair(a, b))
            && !self.isolated.contains(&a)
            && !self.isolated.contains(&b)
    }

    fn neighbours(&self, key: ServerKey) -> Vec<ServerKey> {
        self.nodes.keys().copied().filter(|other| self.linked(key, *other)).collect()
    }

    fn links(&self) -> BTreeSet<(ServerKey, ServerKey)> {
        self.nodes.keys().flat_map(|a| self.neighbours(*a).into_iter().map(|b| pair(*a, b))).collect()
    }

    /// Tells both ends of every link that appeared or vanished since `before`.
    fn announce(&self, before: &BTreeSet<(ServerKey, ServerKey)>) {
        let after = self.links();
        for (a, b) in before.difference(&after) {
            for (at, peer) in [(*a, *b), (*b, *a)] {
                self.tell(at, NetworkEvent::Disconnected { peer });
                self.tell(at, NetworkEvent::Lost { peer });
            }
        }
        for (a, b) in after.difference(before) {
            for (at, peer) in [(*a, *b), (*b, *a)] {
                self.tell(at, NetworkEvent::Discovered { peer });
                self.tell(at, NetworkEvent::Connected { peer, direct: true });
            }
        }
    }

    fn tell(&self, key: ServerKey, event: NetworkEvent) {
        if let Some(node) = self.nodes.get(&key) {
            // Fails only when nobody listens.
            let _ = node.events.send(event);
        }
    }

    fn leave(&mut self, key: ServerKey) {
        let before = self.links();
        self.nodes.remove(&key);
        self.announce(&before);
    }

    fn next_fault(&mut self, from: ServerKey, to: ServerKey) -> Option<Fault> {
        let faults = self.faults.get_mut(&(from, to))?;
        let due = faults.iter().position(|(passing, _)| *passing == 0);
        for (passing, _) in faults.iter_mut() {
            *passing = passing.saturating_sub(1);
        }
        due.map(|index| faults.remove(index).1)
    }
}

/// One node's end of a [`MemoryHub`]. It keeps the hub alive; the hub keeps its router until `shutdown` or
/// [`MemoryHub::leave`].
pub struct MemoryNetwork {
    key: ServerKey,
    hub: Arc<Mutex<State>>,
    events: broadcast::Sender<NetworkEvent>,
    /// Ends with `shutdown`, even when another node has taken the key since.
    alive: Mutex<bool>,
}

impl MemoryNetwork {
    /// Shows this record to the other nodes.
    pub fn set_record(&self, record: SignedRecord) {
        if let Some(hub) = self.hub()
            && let Some(node) = lock(&hub).nodes.get_mut(&self.key)
        {
            node.record = Some(record);
        }
    }

    fn hub(&self) -> Option<Arc<Mutex<State>>> {
        let mine = *lock(&self.alive)
            && lock(&self.hub).nodes.get(&self.key).is_some_and(|node| node.events.same_channel(&self.events));
        mine.then(|| self.hub.clone())
    }
}

async fn carry(
    hub: Arc<Mutex<State>>,
    from: ServerKey,
    to: ServerKey,
    mut request: http::Request<Body>,
) -> Result<http::Response<Body>, NetworkError> {
    let unreachable = |reason: &str| NetworkError::Unreachable { peer: to, reason: reason.to_owned() };
    let lost = |reason: &str| NetworkError::Lost { peer: to, reason: reason.to_owned() };
    let (router, fault) = {
        let mut state = lock(&hub);
        state.requests += 1;
        if !state.linked(from, to) {
            return Err(unreachable("no link leads to it"));
        }
        let fault = state.next_fault(from, to);
        let router = state.nodes.get(&to).map(|node| node.router.clone());
        (router.ok_or_else(|| unreachable("it is not there"))?, fault)
    };
    if fault == Some(Fault::Unreachable) {
        return Err(unreachable("a fault was set"));
    }
    request.extensions_mut().clear();
    request.extensions_mut().insert(RemotePeer(from));
    let link = Link { hub: Arc::downgrade(&hub), from, to, broken: false };
    let request = request.map(|body| link.carry(body));
    let response = router.call(request).await;
    if fault == Some(Fault::LoseResponse) || !lock(&hub).linked(from, to) {
        return Err(lost("the link was cut"));
    }
    let broken = fault == Some(Fault::BreakBody);
    Ok(response.map(|body| Link { broken, ..link }.carry(body)))
}

/// The way of a body: it breaks when the link does.
#[derive(Clone)]
struct Link {
    hub: Weak<Mutex<State>>,
    from: ServerKey,
    to: ServerKey,
    broken: bool,
}

impl Link {
    fn carry(&self, body: Body) -> Body {
        let link = self.clone();
        boxed(LinkBody { link, body })
    }

    fn is_up(&self) -> bool {
        !self.broken && self.hub.upgrade().is_some_and(|hub| lock(&hub).linked(self.from, self.to))
    }
}

struct LinkBody {
    link: Link,
    body: Body,
}

impl http_body::Body for LinkBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if !self.link.is_up() {
            return Poll::Ready(Some(Err("the link was cut".into())));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        !self.link.broken && self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

impl Network for MemoryNetwork {
    fn local(&self) -> ServerKey {
        self.key
    }

    fn request(
        &self,
        peer: ServerKey,
        _class: Class,
        request: http::Request<Body>,
    ) -> BoxFuture<'static, Result<http::Response<Body>, NetworkError>> {
        if peer == self.key {
            return futures::future::ready(Err(NetworkError::Ourselves)).boxed();
        }
        match self.hub() {
            Some(hub) => carry(hub, self.key, peer, request).boxed(),
            None => futures::future::ready(Err(NetworkError::Closed)).boxed(),
        }
    }

    fn events(&self) -> broadcast::Receiver<NetworkEvent> {
        self.events.subscribe()
    }

    fn peers(&self) -> Vec<PeerInfo> {
        let Some(hub) = self.hub() else { return vec![] };
        let state = lock(&hub);
        let info = |key: ServerKey| PeerInfo {
            key,
            server_name: state
                .nodes
                .get(&key)
                .and_then(|node| node.record.as_ref())
                .map(|signed| signed.record().server_name.clone()),
            connected: true,
            direct: true,
            nearby: true,
            addresses: vec![format!("/memory/{key}")],
            last_seen: Some(Duration::ZERO),
            rtt: None,
            last_error: None,
        };
        state.neighbours(self.key).into_iter().map(info).collect()
    }

    fn add_address(&self, _peer: ServerKey, _address: String) -> Result<(), NetworkError> {
        Ok(())
    }

    fn own_addresses(&self) -> Vec<String> {
        vec![format!("/memory/{}", self.key)]
    }

    fn dial(&self, _peer: ServerKey) {}

    fn network_changed(&self) {}

    fn set_contacts(&self, contacts: Vec<ServerKey>) {
        if let Some(hub) = self.hub()
            && let Some(node) = lock(&hub).nodes.get_mut(&self.key)
        {
            node.contacts = contacts;
        }
    }

    fn own_record(&self) -> Option<SignedRecord> {
        let hub = self.hub()?;
        let state = lock(&hub);
        state.nodes.get(&self.key)?.record.clone()
    }

    fn record(&self, peer: &ServerKey) -> Option<SignedRecord> {
        let hub = self.hub()?;
        let state = lock(&hub);
        let node = state.nodes.get(peer).filter(|_| state.linked(self.key, *peer))?;
        node.record.clone()
    }

    fn shutdown(&self) -> BoxFuture<'static, ()> {
        if let Some(hub) = self.hub() {
            lock(&hub).leave(self.key);
        }
        *lock(&self.alive) = false;
        futures::future::ready(()).boxed()
    }
}

#[cfg(test)]
mod tests;
