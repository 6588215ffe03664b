//! Sending to other servers: one sender at a time for each destination that has something to get, none for the others.
//!
//! What is durable waits in the store (`queue`); a sender makes transactions of it, in order, and takes it out when the
//! destination has acknowledged. After a failure the destination has no task: one shared timer wakes it when its time has
//! come, and news from the network that the peer is there wakes it at once. Server-server specification, "Transactions".

mod acknowledged;
pub(crate) mod backoff;
pub(crate) mod progress;
mod queue;
mod sender;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::FutureExt as _;
use kith_mutants::mutant;
use kith_store::{Json, StoreError, tables::federation::DESTINATIONS};
use kith_transport::{KithName, NetworkEvent, ServerKey};
use ruma::{OwnedServerName, ServerName, api::federation::transactions::edu::Edu};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{Notify, Semaphore, broadcast::error::RecvError};

pub(super) use self::acknowledged::write as write_acknowledged;
pub use self::queue::{MOST_EDUS, MOST_PDUS, enqueue_edu};
use crate::Node;

/// Transactions under way at a time: to destinations of which nothing bad is known, and to those that failed last, or have not
/// answered for [`sender::PROMPT`]. However many servers hang, the others go on.
const SENDERS: usize = 256;
const SLOW_SENDERS: usize = 1_024;
/// Typing and presence that wait for one destination; then the oldest go.
const MOST_EPHEMERAL: usize = 100;

/// What waits where, and who is being sent to.
#[derive(Debug)]
pub struct Outgoing {
    state: Mutex<BTreeMap<OwnedServerName, Destination>>,
    /// A destination has to be woken earlier than the timer knows.
    timer: Notify,
    slots: Semaphore,
    slow_slots: Semaphore,
    acknowledged: acknowledged::Acknowledged,
}

/// A destination that is being sent to, or that failed.
#[derive(Debug, Default)]
struct Destination {
    /// Whether a sender is at work.
    running: bool,
    /// Something was queued while it was.
    woken: bool,
    /// The network saw the peer while it was.
    seen: bool,
    /// Since it was last reached it failed, or the node started: it may have missed much.
    away: bool,
    /// It failed when it was last tried, perhaps before the node started.
    slow: bool,
    ephemeral: VecDeque<Value>,
    failures: u32,
    refusals: u32,
    /// When it is tried again, on the monotonic clock.
    retry_at: Option<Duration>,
    /// Unix milliseconds.
    failing_since: u64,
    last_error: String,
}

/// A destination, for `kith status`.
#[derive(Debug, Clone, Serialize)]
pub struct DestinationStatus {
    /// The server.
    pub server: String,
    /// Rooms with events it has not been sent.
    pub rooms: usize,
    /// Device messages and updates that wait for it.
    pub messages: usize,
    /// Since when it cannot be reached, unix milliseconds; none if it can.
    pub away_since: Option<u64>,
    /// When it is tried again, in milliseconds from now.
    pub retry_in: Option<u64>,
    /// The latest failure.
    pub last_error: Option<String>,
    /// Device messages dropped because it was away for too long.
    pub dropped: u64,
    /// Transactions it refused for good.
    pub refused: u64,
}

impl Default for Outgoing {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            timer: Notify::new(),
            slots: Semaphore::new(SENDERS),
            slow_slots: Semaphore::new(SLOW_SENDERS),
            acknowledged: Default::default(),
        }
    }
}

impl Outgoing {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<OwnedServerName, Destination>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the timer and the listener, and wakes every destination for which something waits from before.
///
/// # Errors
/// The store's.
pub(super) fn start(node: &Arc<Node>) -> Result<(), StoreError> {
    let names = node.store.read(|read| queue::destinations(read))?;
    let failing = node.store.read(|read| {
        let rows = DESTINATIONS.range(read, ..)?;
        let failing = rows.filter(|row| !matches!(row, Ok((_, Json(row))) if row.failing_since == 0));
        failing.map(|row| row.map(|(name, _)| name)).collect::<Result<BTreeSet<String>, StoreError>>()
    })?;
    {
        let mut state = node.federation.outgoing.lock();
        for name in &names {
            if let Ok(known) = OwnedServerName::try_from(name.as_str()) {
                let destination = state.entry(known).or_default();
                destination.away = true;
                destination.slow = failing.contains(name);
            }
        }
    }
    for name in names.into_iter().filter(|_| !mutant!("sleeps-after-restart")) {
        wake(node, &name);
    }
    node.spawner.spawn("federation retries", run_timer(Arc::downgrade(node)).boxed());
    if let Some(network) = node.transport.network() {
        let events = network.events();
        node.spawner.spawn("federation peers", listen(Arc::downgrade(node), events).boxed());
        // Who was there before we listened.
        for peer in network.peers().into_iter().filter(|peer| peer.connected) {
            super::heads::peer_connected(node, peer.key);
        }
    }
    Ok(())
}

/// Something was queued for a destination. Quick; called after commits.
pub(crate) fn wake(node: &Arc<Node>, name: &str) {
    let Ok(name) = OwnedServerName::try_from(name) else { return };
    if name == *node.identity.server_name() {
        return;
    }
    {
        let mut state = node.federation.outgoing.lock();
        let destination = state.entry(name.clone()).or_default();
        if destination.running {
            destination.woken = true;
            return;
        }
        if destination.retry_at.is_some() {
            return;
        }
        destination.running = true;
    }
    node.spawner.spawn("federation sender", sender::run(node.clone(), name).boxed());
}

/// Sends an EDU that may be lost (typing, presence) to servers that can be reached.
pub(super) fn send_ephemeral(node: &Arc<Node>, destinations: impl IntoIterator<Item = OwnedServerName>, edu: &Edu) {
    let Ok(value) = serde_json::to_value(edu) else { return };
    for name in destinations {
        if name == *node.identity.server_name() {
            continue;
        }
        {
            let mut state = node.federation.outgoing.lock();
            let destination = state.entry(name.clone()).or_default();
            if destination.retry_at.is_some() {
                continue;
            }
            let subject = subject(&value);
            if subject.is_some() {
                destination.ephemeral.retain(|waiting| self::subject(waiting) != subject);
            }
            if destination.ephemeral.len() >= MOST_EPHEMERAL {
                destination.ephemeral.pop_front();
            }
            destination.ephemeral.push_back(value.clone());
        }
        wake(node, name.as_str());
    }
}

/// What a typing notice is about: a later one replaces it.
fn subject(edu: &Value) -> Option<(&str, &str)> {
    if edu.get("edu_type")?.as_str()? != "m.typing" {
        return None;
    }
    let content = edu.get("content")?;
    Some((content.get("room_id")?.as_str()?, content.get("user_id")?.as_str()?))
}

/// Wakes destinations whose time has come.
async fn run_timer(node: std::sync::Weak<Node>) {
    loop {
        let Some(strong) = node.upgrade() else { return };
        let now = strong.clock.monotonic();
        let mut due = Vec::new();
        let mut next: Option<Duration> = None;
        for (name, destination) in strong.federation.outgoing.lock().iter_mut() {
            match destination.retry_at {
                Some(_) if mutant!("never-retries") => {}
                Some(at) if at <= now => {
                    destination.retry_at = None;
                    due.push(name.clone());
                }
                Some(at) => next = Some(next.map_or(at, |next| next.min(at))),
                None => {}
            }
        }
        for name in due {
            wake(&strong, name.as_str());
        }
        let wait = next.map_or(Duration::from_secs(3600), |at| at.saturating_sub(now));
        let sleep = strong.clock.sleep(wait);
        tokio::select! {
            biased;
            () = strong.federation.outgoing.timer.notified() => {}
            () = sleep => {}
        }
    }
}

/// Wakes what waits for a peer as soon as the network sees it.
async fn listen(node: std::sync::Weak<Node>, mut events: tokio::sync::broadcast::Receiver<NetworkEvent>) {
    loop {
        let event = events.recv().await;
        let Some(node) = node.upgrade() else { return };
        match event {
            Ok(NetworkEvent::Connected { peer, .. }) => {
                peer_is_there(&node, peer);
                super::heads::peer_connected(&node, peer);
            }
            Ok(NetworkEvent::Discovered { peer }) => peer_is_there(&node, peer),
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => {
                let peers = node.transport.network().map(|network| network.peers()).unwrap_or_default();
                for peer in peers.into_iter().filter(|peer| peer.connected || peer.nearby) {
                    peer_is_there(&node, peer.key);
                    // One of the events that are gone may have been of its connecting.
                    if peer.connected {
                        super::heads::peer_connected(&node, peer.key);
                    }
                }
            }
            Err(RecvError::Closed) => return,
        }
    }
}

fn peer_is_there(node: &Arc<Node>, peer: ServerKey) {
    let mut waiting = Vec::new();
    for (name, destination) in node.federation.outgoing.lock().iter_mut() {
        if !KithName::parse(name.as_str()).is_ok_and(|parsed| parsed.is_some_and(|parsed| parsed.key == peer)) {
            continue;
        }
        destination.failures = 0;
        destination.seen = true;
        if destination.retry_at.take().is_some() {
            waiting.push(name.clone());
        }
    }
    for name in waiting {
        wake(node, name.as_str());
    }
}

/// Every destination for which something waits, or that cannot be reached.
///
/// # Errors
/// The store's.
pub(super) fn status(node: &Arc<Node>) -> Result<Vec<DestinationStatus>, StoreError> {
    node.store.read(|read| {
        let mut names: BTreeSet<String> = queue::destinations(read)?.into_iter().collect();
        for row in DESTINATIONS.range(read, ..)? {
            names.insert(row?.0);
        }
        let now = node.clock.monotonic();
        let state = node.federation.outgoing.lock();
        names.extend(state.iter().filter(|(_, known)| known.retry_at.is_some()).map(|(name, _)| name.to_string()));
        let mut all = Vec::new();
        for server in names {
            let (rooms, messages) = queue::lengths(read, &server, &node.federation.outgoing.acknowledged.of(&server))?;
            let stored = DESTINATIONS.get(read, &server)?.map(|Json(row)| row).unwrap_or_default();
            let live = <&ServerName>::try_from(server.as_str()).ok().and_then(|name| state.get(name));
            let since = live.map_or(stored.failing_since, |live| live.failing_since);
            let error = live.map(|live| live.last_error.clone()).filter(|error| !error.is_empty());
            all.push(DestinationStatus {
                rooms,
                messages,
                away_since: (since != 0).then_some(since),
                retry_in: live
                    .and_then(|live| live.retry_at)
                    .map(|at| u64::try_from(at.saturating_sub(now).as_millis()).unwrap_or(u64::MAX)),
                last_error: error.or_else(|| Some(stored.last_error).filter(|error| !error.is_empty())),
                dropped: stored.dropped,
                refused: stored.refused,
                server,
            });
        }
        Ok(all)
    })
}

#[cfg(test)]
mod tests {
    use kith_transport::memory::MemoryHub;
    use tokio::sync::broadcast;

    use super::*;
    use crate::testing::TestNode;

    /// A node whose task came too late for some of the network's events woke its queues, and compared no heads: what had been said
    /// before the peer connected came with the next round of comparing only, up to 15 minutes later.
    #[tokio::test]
    async fn peers_whose_events_were_missed_are_compared_with() {
        let hub = MemoryHub::new();
        let (one, other) = (TestNode::start_among(&hub, 1).await, TestNode::start_among(&hub, 2).await);
        let peer = other.node().identity.secret().public();
        let heads = &one.node().federation.heads;
        while !heads.is_comparing(peer) {
            tokio::task::yield_now().await;
        }
        assert!(!heads.compares_again(peer));

        let (events, receiver) = broadcast::channel(1);
        for _ in 0..2 {
            events.send(NetworkEvent::Lost { peer }).unwrap();
        }
        drop(events);
        listen(Arc::downgrade(one.node()), receiver).await;
        assert!(heads.compares_again(peer));
    }
}
