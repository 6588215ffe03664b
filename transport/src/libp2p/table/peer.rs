//! One peer: its addresses, and how dialling it went.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use libp2p::swarm::ConnectionId;
use tokio::sync::watch;

use super::{MAX_PEERS, Table};
use crate::ServerKey;

/// Most addresses kept of one peer.
const MAX_PEER_ADDRESSES: usize = 32;
/// Most places where one peer may be seen nearby at once (a service for each of its network interfaces is common).
const MAX_NEARBY: usize = 8;
/// A peer is kept connected for this long after the last request.
const WANTED: Duration = Duration::from_secs(600);

/// Who told an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// We reached the peer there.
    Reached,
    /// Discovery on the local network.
    Nearby,
    /// The application, or the configuration.
    Told,
    /// The peer's own record.
    Record,
}

pub(crate) struct Peer {
    /// With who told it and when.
    addresses: Vec<(Multiaddr, Source, Instant)>,
    /// The services under which discovery sees it, with their addresses.
    nearby: BTreeMap<String, Vec<Multiaddr>>,
    /// When its discovery was last told.
    pub(crate) announced: Option<Instant>,
    pub(crate) last_seen: Option<Instant>,
    known_since: Instant,
    pub(crate) rtt: Option<Duration>,
    /// The attempt under way.
    pub(crate) dialing: Option<ConnectionId>,
    /// Failures since it was last reached or discovered.
    pub(crate) failures: u32,
    /// Failures in all: who waits compares.
    pub(crate) failures_ever: u64,
    pub(crate) failed_at: Option<Instant>,
    pub(crate) last_error: Option<String>,
    /// When it was last connected.
    pub(crate) connected_until: Option<Instant>,
    wanted_until: Option<Instant>,
    pub(crate) connected: bool,
    /// Fires on every change that someone may wait for.
    pub(crate) changed: watch::Sender<()>,
}

impl Peer {
    fn new(now: Instant) -> Self {
        Self {
            addresses: vec![],
            nearby: BTreeMap::new(),
            announced: None,
            last_seen: None,
            known_since: now,
            rtt: None,
            dialing: None,
            failures: 0,
            failures_ever: 0,
            failed_at: None,
            last_error: None,
            connected_until: None,
            wanted_until: None,
            connected: false,
            changed: watch::Sender::new(()),
        }
    }

    /// Keeps it connected for a while from now.
    pub(crate) fn want(&mut self, now: Instant) {
        self.wanted_until = Some(now + WANTED);
    }

    /// No longer keeps it connected.
    pub(crate) fn unwant(&mut self) {
        self.wanted_until = None;
    }

    pub(crate) fn is_wanted(&self, now: Instant) -> bool {
        self.wanted_until.is_some_and(|until| now < until)
    }

    pub(crate) fn is_nearby(&self) -> bool {
        !self.nearby.is_empty()
    }

    /// All addresses, the best first, each once.
    pub(crate) fn addresses(&self) -> Vec<Multiaddr> {
        let mut all: Vec<_> = self.addresses.iter().collect();
        all.sort_by_key(|(_, source, at)| (*source, std::cmp::Reverse(*at)));
        let mut addresses = vec![];
        for (address, _, _) in all {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        addresses
    }

    pub(crate) fn has_addresses(&self) -> bool {
        !self.addresses.is_empty()
    }

    /// Adds an address. Of too many the one told longest ago goes.
    pub(crate) fn add_address(&mut self, address: Multiaddr, source: Source, now: Instant) {
        self.addresses.retain(|(known, from, _)| (known, from) != (&address, &source));
        self.addresses.push((address, source, now));
        while self.addresses.len() > MAX_PEER_ADDRESSES {
            self.addresses.remove(0);
        }
    }

    /// Replaces all addresses of one source.
    pub(crate) fn set_addresses(&mut self, source: Source, addresses: Vec<Multiaddr>, now: Instant) {
        self.addresses.retain(|(_, from, _)| *from != source);
        for address in addresses {
            self.add_address(address, source, now);
        }
    }

    /// Discovery sees it under this service name. `true` if that is new, or its addresses are.
    pub(crate) fn seen_nearby(&mut self, service: &str, addresses: Vec<Multiaddr>, now: Instant) -> bool {
        self.last_seen = Some(now);
        let fresh = self.nearby.get(service) != Some(&addresses);
        if self.nearby.len() < MAX_NEARBY || self.nearby.contains_key(service) {
            self.nearby.insert(service.to_owned(), addresses);
        }
        self.refresh_nearby(now);
        fresh
    }

    /// Discovery lost this service. `true` if it was the last.
    pub(crate) fn gone_nearby(&mut self, service: &str, now: Instant) -> bool {
        let known = self.nearby.remove(service).is_some();
        self.refresh_nearby(now);
        known && self.nearby.is_empty()
    }

    fn refresh_nearby(&mut self, now: Instant) {
        let addresses = self.nearby.values().flatten().cloned().collect();
        self.set_addresses(Source::Nearby, addresses, now);
    }

    /// Requests reach it now.
    pub(super) fn reached(&mut self, now: Instant) {
        self.failures = 0;
        self.failed_at = None;
        self.last_error = None;
        self.last_seen = Some(now);
        self.connected_until = Some(now);
    }

    /// Its last connection broke: dial again soon.
    pub(super) fn lost(&mut self, now: Instant) {
        self.failures = 0;
        self.failed_at = None;
        self.connected_until = Some(now);
    }

    /// An attempt failed.
    pub(crate) fn note_failure(&mut self, reason: &str, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.failures_ever += 1;
        self.failed_at = Some(now);
        self.last_error = Some(reason.to_owned());
        self.changed.send_replace(());
    }

    /// Something suggests that it can be reached again.
    pub(crate) fn reset_backoff(&mut self) {
        self.failures = 0;
        self.failed_at = None;
    }

    /// How little is lost when it is forgotten: lower goes first. `None`: it must stay.
    fn worth(&self, contact: bool) -> Option<(bool, bool, Instant)> {
        let held = self.connected || self.dialing.is_some() || self.changed.receiver_count() > 0;
        (!held).then_some((contact, self.is_nearby(), self.last_seen.unwrap_or(self.known_since)))
    }
}

impl Table {
    /// What is known of a peer; room is made for it when it is new.
    pub(crate) fn peer_mut(&mut self, key: ServerKey, now: Instant) -> &mut Peer {
        if self.peers.len() >= MAX_PEERS && !self.peers.contains_key(&key) {
            let victim = self
                .peers
                .iter()
                .filter_map(|(key, peer)| Some((peer.worth(self.contacts.contains(key))?, *key)))
                .min();
            if let Some((_, victim)) = victim {
                self.peers.remove(&victim);
                self.todo.dial.remove(&victim);
            }
        }
        self.peers.entry(key).or_insert_with(|| Peer::new(now))
    }
}
