//! When which peer is dialled.

use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use libp2p::swarm::ConnectionId;

use super::{Peer, Source, Table};
use crate::{NetworkEvent, ServerKey};

/// The first retry after a failure; doubled for each further one.
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// The longest wait while a peer is nearby, or was connected a short while ago: a cable may be put back any moment, and
/// an attempt costs a few packets.
const NEAR_RETRY: Duration = Duration::from_secs(2);
/// The longest wait otherwise.
const FAR_RETRY: Duration = Duration::from_secs(60);
/// What "a short while ago" means.
const RECENT: Duration = Duration::from_secs(180);
/// A request does not start a new attempt so soon after a failed one.
pub(crate) const REQUEST_RETRY: Duration = Duration::from_millis(500);
/// Repeated sightings of a peer that is not connected are told again after this time.
const ANNOUNCE_AGAIN: Duration = Duration::from_secs(10);

impl Table {
    /// Asks the driver to dial. `force`: even if connected.
    pub(crate) fn dial(&mut self, key: ServerKey, force: bool, now: Instant) {
        if self.closed || self.suspended || key == self.local {
            return;
        }
        if (force || !self.has_connection(key)) && !self.peer_mut(key, now).to_dial().is_empty() {
            *self.todo.dial.entry(key).or_default() |= force;
        }
    }

    /// The configuration wants this peer connected, from now on.
    pub(crate) fn keep(&mut self, key: ServerKey, now: Instant) {
        self.configured.insert(key);
        self.dial(key, false, now);
    }

    /// Whether a peer is to be kept connected whether anything is to be sent or not.
    pub(crate) fn is_kept(&self, key: &ServerKey) -> bool {
        self.contacts.contains(key) || self.configured.contains(key)
    }

    /// Lets go of all connections, and dials nobody until [`Table::resume`].
    pub(crate) fn suspend(&mut self, now: Instant) {
        self.suspended = true;
        self.todo.dial.clear();
        let ids = self.connection_ids();
        for id in ids {
            self.drain(id, now);
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.leaving = true;
                let key = connection.peer;
                // Who was connected is dialled when this ends, however long it takes.
                if self.peers.get(&key).is_some_and(|peer| peer.connected) {
                    self.resuming.insert(key);
                }
                self.settle(key, now);
            }
        }
        self.tend_connections(now);
    }

    /// Ends [`Table::suspend`]: dials who was connected, and who is wanted.
    pub(crate) fn resume(&mut self, now: Instant) {
        self.suspended = false;
        for key in std::mem::take(&mut self.resuming) {
            self.peer_mut(key, now).want(now);
        }
        self.redial_all(now);
    }

    /// The network changed: every peer that is connected or wanted is dialled, whatever its backoff.
    pub(crate) fn redial_all(&mut self, now: Instant) {
        if self.suspended {
            return;
        }
        let keys: Vec<ServerKey> = self
            .peers
            .iter()
            .filter(|(key, peer)| peer.connected || peer.is_wanted(now) || self.is_kept(key))
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            self.peer_mut(key, now).reset_backoff();
            self.dial(key, true, now);
        }
    }

    /// Whom to dial now, and where: what was asked for, and peers to keep connected whose wait is over.
    pub(crate) fn take_dials(&mut self, now: Instant) -> Vec<(ServerKey, Vec<Multiaddr>)> {
        let mut dials = std::mem::take(&mut self.todo.dial);
        if self.closed {
            return vec![];
        }
        for (key, peer) in &self.peers {
            if self.retry_at(key, peer, now).is_some_and(|at| at <= now) {
                dials.entry(*key).or_default();
            }
        }
        dials
            .into_iter()
            .filter(|(key, force)| *force || !self.has_connection(*key))
            .filter_map(|(key, _)| {
                let addresses = self.peers.get(&key)?.to_dial();
                (!addresses.is_empty()).then_some((key, addresses))
            })
            .collect()
    }

    /// When [`Table::take_dials`] has a retry next.
    pub(crate) fn next_retry(&self, now: Instant) -> Option<Instant> {
        self.peers.iter().filter_map(|(key, peer)| self.retry_at(key, peer, now)).min()
    }

    /// When a peer that is to be kept connected is dialled next. `None`: not by itself.
    fn retry_at(&self, key: &ServerKey, peer: &Peer, now: Instant) -> Option<Instant> {
        let kept = peer.is_wanted(now) || self.is_kept(key);
        // Who was never reached in this run is dialled when something is to be sent, not for its own sake.
        let last = peer.failed_at.or(peer.connected_until)?;
        if self.closed
            || self.suspended
            || !kept
            || peer.connected
            || peer.is_dialing()
            || !peer.has_addresses()
            || self.has_connection(*key)
        {
            return None;
        }
        Some(last + self.backoff(key, peer, now))
    }

    fn backoff(&self, key: &ServerKey, peer: &Peer, now: Instant) -> Duration {
        let near =
            peer.is_nearby() || peer.connected_until.is_some_and(|at| now.saturating_duration_since(at) < RECENT);
        let most = if near { NEAR_RETRY } else { FAR_RETRY };
        let wait = FIRST_RETRY.saturating_mul(1 << peer.failures.min(16)).min(most);
        // Up to a quarter more, different for each pair and attempt, so that a whole network does not dial in step.
        let bytes = key.as_bytes();
        let index = peer.failures as usize % bytes.len();
        let spread = bytes.get(index).copied().unwrap_or_default()
            ^ self.local.as_bytes().get(index).copied().unwrap_or_default();
        wait + wait.mul_f64(f64::from(spread) / 1024.0)
    }

    /// An attempt failed. Who waits is told when the last one has.
    pub(crate) fn dial_failed(&mut self, key: ServerKey, id: ConnectionId, reason: &str, now: Instant) {
        let peer = self.peer_mut(key, now);
        peer.dial_ends(id);
        if !peer.is_dialing() && !peer.connected {
            peer.note_failure(reason, now);
        }
    }

    /// Discovery sees a peer.
    pub(crate) fn seen_nearby(&mut self, key: ServerKey, service: &str, addresses: Vec<Multiaddr>, now: Instant) {
        if key == self.local || self.closed {
            return;
        }
        let wanted = self.is_kept(&key);
        let peer = self.peer_mut(key, now);
        let was_nearby = peer.is_nearby();
        let fresh = peer.seen_nearby(key, service, addresses, now);
        let again =
            !peer.connected && peer.announced.is_none_or(|at| now.saturating_duration_since(at) >= ANNOUNCE_AGAIN);
        if fresh || again {
            peer.announced = Some(now);
            peer.reset_backoff();
            let wanted = wanted || peer.is_wanted(now);
            if !was_nearby {
                self.stats.discovered.add();
            }
            if wanted {
                self.dial(key, false, now);
            }
            self.tell(NetworkEvent::Discovered { peer: key });
        }
    }

    /// Discovery lost a service of a peer.
    pub(crate) fn gone_nearby(&mut self, key: ServerKey, service: &str, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&key)
            && peer.gone_nearby(key, service, now)
        {
            self.tell(NetworkEvent::Lost { peer: key });
        }
    }

    /// The application tells an address.
    pub(crate) fn told(&mut self, key: ServerKey, address: Multiaddr, now: Instant) {
        let peer = self.peer_mut(key, now);
        let known = peer.addresses().contains(&address);
        peer.add_address(address, Source::Told, now);
        if !known {
            peer.reset_backoff();
            let wanted = peer.is_wanted(now) || self.contacts.contains(&key);
            if wanted {
                self.dial(key, false, now);
            }
            self.tell(NetworkEvent::Discovered { peer: key });
        }
    }
}
