//! One peer: its addresses, and how dialling it went.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use libp2p::swarm::ConnectionId;
use tokio::sync::watch;

use super::{MAX_PEERS, Table};
use crate::ServerKey;

/// Most places where one peer may be seen nearby at once (a service for each of its network interfaces is common).
const MAX_NEARBY: usize = 8;
/// Most attempts to reach one peer at once.
const MAX_DIALS: usize = 3;
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

impl Source {
    /// Most addresses kept of one peer from this source. Anybody can announce anything on the local network, so what comes from
    /// one source never displaces what comes from another. Together no more than are dialled at once.
    fn most(self) -> usize {
        match self {
            Self::Reached => 4,
            Self::Nearby | Self::Told | Self::Record => 16,
        }
    }
}

/// One service under which discovery sees a peer.
struct Sighting {
    addresses: Vec<Multiaddr>,
    at: Instant,
}

pub(crate) struct Peer {
    /// With who told it and when.
    addresses: Vec<(Multiaddr, Source, Instant)>,
    /// The services under which discovery sees it, by name.
    nearby: BTreeMap<String, Sighting>,
    /// When its discovery was last told.
    pub(crate) announced: Option<Instant>,
    pub(crate) last_seen: Option<Instant>,
    known_since: Instant,
    pub(crate) rtt: Option<Duration>,
    /// The attempts under way, with the addresses they try.
    dials: BTreeMap<ConnectionId, Vec<Multiaddr>>,
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
            dials: BTreeMap::new(),
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

    pub(crate) fn is_dialing(&self) -> bool {
        !self.dials.is_empty()
    }

    /// Where an attempt that starts now would dial: all addresses that no attempt tries yet. What is learned while one waits
    /// in vain for an address of yesterday is tried at once.
    pub(crate) fn to_dial(&self) -> Vec<Multiaddr> {
        if self.dials.len() >= MAX_DIALS {
            return vec![];
        }
        let mut addresses = self.addresses();
        addresses.retain(|address| !self.dials.values().any(|tried| tried.contains(address)));
        addresses
    }

    pub(crate) fn dial_begins(&mut self, id: ConnectionId, addresses: Vec<Multiaddr>) {
        self.dials.insert(id, addresses);
    }

    pub(crate) fn dial_ends(&mut self, id: ConnectionId) {
        self.dials.remove(&id);
    }

    /// Adds an address. Of too many of one source the one told longest ago goes.
    pub(crate) fn add_address(&mut self, address: Multiaddr, source: Source, now: Instant) {
        self.addresses.retain(|(known, from, _)| (known, from) != (&address, &source));
        self.addresses.push((address, source, now));
        while self.addresses.iter().filter(|(_, from, _)| *from == source).count() > source.most() {
            if let Some(oldest) = self.addresses.iter().position(|(_, from, _)| *from == source) {
                self.addresses.remove(oldest);
            }
        }
    }

    /// Replaces all addresses of one source.
    pub(crate) fn set_addresses(&mut self, source: Source, addresses: Vec<Multiaddr>, now: Instant) {
        self.addresses.retain(|(_, from, _)| *from != source);
        // The first ones are the best.
        for address in addresses.into_iter().take(source.most()) {
            self.add_address(address, source, now);
        }
    }

    /// Discovery sees it under this service name. `true` if that is new, or its addresses are.
    ///
    /// Of too many names the one heard longest ago goes, but never for another the one named by the peer's key, which is what
    /// it announces itself; others are made by somebody else, or in contacts mode by an earlier rotation.
    pub(crate) fn seen_nearby(
        &mut self,
        key: ServerKey,
        service: &str,
        addresses: Vec<Multiaddr>,
        now: Instant,
    ) -> bool {
        self.last_seen = Some(now);
        let fresh = self.nearby.get(service).is_none_or(|sighting| sighting.addresses != addresses);
        self.nearby.insert(service.to_owned(), Sighting { addresses, at: now });
        if self.nearby.len() > MAX_NEARBY {
            let others = self.nearby.iter().filter(|(name, _)| *name != service && !is_named_by(name, key));
            let oldest = others.min_by_key(|(_, sighting)| sighting.at).map(|(name, _)| name.clone());
            self.nearby.remove(oldest.as_deref().unwrap_or(service));
        }
        self.refresh_nearby(key, now);
        fresh
    }

    /// Discovery lost this service. `true` if it was the last.
    pub(crate) fn gone_nearby(&mut self, key: ServerKey, service: &str, now: Instant) -> bool {
        let known = self.nearby.remove(service).is_some();
        self.refresh_nearby(key, now);
        known && self.nearby.is_empty()
    }

    /// Takes the addresses in turns, so that no service leaves no room for the others: first that named by the key, then the
    /// one heard last.
    fn refresh_nearby(&mut self, key: ServerKey, now: Instant) {
        let mut services: Vec<_> = self.nearby.iter().collect();
        services.sort_by_key(|(name, sighting)| (!is_named_by(name, key), std::cmp::Reverse(sighting.at)));
        let most = services.iter().map(|(_, sighting)| sighting.addresses.len()).max().unwrap_or(0);
        let mut addresses = vec![];
        for turn in 0..most {
            for address in services.iter().filter_map(|(_, sighting)| sighting.addresses.get(turn)) {
                if !addresses.contains(address) {
                    addresses.push(address.clone());
                }
            }
        }
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
    ///
    /// Anybody can make up keys and announce them, so what only discovery knows of goes before what the application told
    /// or what was reached.
    fn worth(&self, contact: bool) -> Option<(bool, bool, bool, Instant)> {
        let held = self.connected || self.is_dialing() || self.changed.receiver_count() > 0;
        let proven = self.addresses.iter().any(|(_, source, _)| matches!(source, Source::Reached | Source::Told));
        (!held).then_some((contact, proven, self.is_nearby(), self.last_seen.unwrap_or(self.known_since)))
    }
}

/// Whether a service is named as the node of this key names itself.
fn is_named_by(service: &str, key: ServerKey) -> bool {
    let label = service.split('.').next().unwrap_or_default();
    label.eq_ignore_ascii_case(&key.to_string())
}

impl Table {
    /// What is known of a peer; room is made for it when it is new.
    pub(crate) fn peer_mut(&mut self, key: ServerKey, now: Instant) -> &mut Peer {
        if self.peers.len() >= MAX_PEERS && !self.peers.contains_key(&key) {
            let victim = self.peers.iter().filter_map(|(key, peer)| Some((peer.worth(self.is_kept(key))?, *key))).min();
            if let Some((_, victim)) = victim {
                self.peers.remove(&victim);
                self.todo.dial.remove(&victim);
            }
        }
        self.peers.entry(key).or_insert_with(|| Peer::new(now))
    }
}
