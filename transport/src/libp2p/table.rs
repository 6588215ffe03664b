//! What is known of peers and connections, and the rules over them: which connection is used, when to dial, what to close.
//!
//! Pure: it is told what happened and the time; it answers with work for the driver ([`Todo`]) and news for listeners.
//! The choice of connection (DESIGN section 5) must come out the same at both ends, or each would close what the other uses:
//! see [`prefer`].

pub(super) mod dialing;
mod peer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use libp2p::swarm::ConnectionId;
use tokio::sync::broadcast;

use super::link::{Channel, Pending};
use crate::record::{RecordBook, SignedRecord};
use crate::{Class, NetworkEvent, ServerKey, Stats};

pub(super) use peer::{Peer, Source};

/// Most peers remembered; those of no further use go first.
const MAX_PEERS: usize = 4096;
/// Connections established within this time of each other come from both sides dialling at once. A later one means that
/// its dialler has lost the earlier.
const SIMULTANEOUS: Duration = Duration::from_secs(3);
/// A connection that cannot carry requests after this time is closed.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection that the peer is leaving may still be used while no other is there.
const LEAVE: Duration = Duration::from_secs(5);
/// A drained connection is closed after this time even if the peer has not let go of it, if nothing runs on it.
const DRAIN: Duration = Duration::from_secs(30);
/// How often a connection that is being drained is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// And after this time even if something does.
const DRAIN_LIMIT: Duration = Duration::from_secs(600);

/// All state that the driver, the streams' tasks and the callers share.
pub(super) struct Table {
    pub(super) peers: BTreeMap<ServerKey, Peer>,
    connections: BTreeMap<ConnectionId, Connection>,
    pub(super) contacts: BTreeSet<ServerKey>,
    /// Peers that the configuration wants connected.
    configured: BTreeSet<ServerKey>,
    /// Nobody is dialled for the time being.
    pub(super) suspended: bool,
    /// Whom to dial when that ends.
    resuming: BTreeSet<ServerKey>,
    pub(super) records: RecordBook,
    pub(super) todo: Todo,
    pub(super) closed: bool,
    local: ServerKey,
    idle_timeout: Duration,
    /// When the connections were last looked through.
    tended: Instant,
    events: broadcast::Sender<NetworkEvent>,
    stats: Arc<Stats>,
}

/// Work for the driver. Sets, so that however often something is asked for, it is kept once.
#[derive(Default)]
pub(super) struct Todo {
    /// Whom to dial; `true`: even if connected.
    pub(super) dial: BTreeMap<ServerKey, bool>,
    /// What to close.
    pub(super) close: BTreeSet<ConnectionId>,
    /// The contacts changed.
    pub(super) contacts: bool,
    /// The network is to stop.
    pub(super) shutdown: bool,
}

struct Connection {
    peer: ServerKey,
    dialled_by_us: bool,
    direct: bool,
    loopback: bool,
    since: Instant,
    last_used: Instant,
    /// The peer's hello came and was right.
    verified: bool,
    /// Where our requests go, by class; gone when draining.
    channels: [Option<Channel>; 2],
    /// Requests of ours under way on each stream (hyper ends a stream's task before they are answered).
    pending: [Option<Pending>; 2],
    /// The peer's streams that run, by class.
    inbound: [bool; 2],
    /// Requests of the peer being handled.
    running: usize,
    /// Since when the peer sends no new requests here.
    left_by_peer: Option<Instant>,
    /// Since when we send no new requests here.
    draining: Option<Instant>,
    /// It is closed as soon as nothing runs on it.
    leaving: bool,
    /// The driver was told to close it.
    closing: bool,
}

impl Connection {
    fn is_ready(&self) -> bool {
        self.verified && self.draining.is_none() && self.channels.iter().all(Option::is_some)
    }

    /// Whether none of our requests waits for the rest of its answer.
    fn is_answered(&self) -> bool {
        self.pending.iter().flatten().all(Pending::is_none)
    }
}

/// What the choice between two connections to one peer depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) left_by_peer: bool,
    pub(super) direct: bool,
    pub(super) dialled_by_lower: bool,
    pub(super) since: Instant,
}

/// Whether `newer` is used rather than `older` (by the time they were established).
///
/// The direct one; of those dialled at about the same time the one that the lower key dialled, else the newer, because
/// whoever dials anew has lost the older. Both ends see the same facts, the times but for a round trip.
pub(super) fn prefer(older: Candidate, newer: Candidate) -> bool {
    if older.left_by_peer != newer.left_by_peer {
        return older.left_by_peer;
    }
    if older.direct != newer.direct {
        return newer.direct;
    }
    if newer.since.saturating_duration_since(older.since) > SIMULTANEOUS {
        return true;
    }
    !older.dialled_by_lower && newer.dialled_by_lower
}

impl Table {
    pub(super) fn new(
        local: ServerKey,
        idle_timeout: Duration,
        events: broadcast::Sender<NetworkEvent>,
        stats: Arc<Stats>,
    ) -> Self {
        // A record is of use until its node has surely moved; two weeks outlast a holiday.
        let records = RecordBook::new(MAX_PEERS, 14 * 24 * 3600 * 1000);
        Self {
            peers: BTreeMap::new(),
            connections: BTreeMap::new(),
            contacts: BTreeSet::new(),
            configured: BTreeSet::new(),
            suspended: false,
            resuming: BTreeSet::new(),
            records,
            todo: Todo::default(),
            closed: false,
            local,
            idle_timeout,
            tended: Instant::now(),
            events,
            stats,
        }
    }

    pub(super) fn tell(&self, event: NetworkEvent) {
        // Fails only when nobody listens.
        let _ = self.events.send(event);
    }

    /// A connection was established (its hello is still to come).
    pub(super) fn connection_opened(
        &mut self,
        id: ConnectionId,
        key: ServerKey,
        dialled_by_us: bool,
        direct: bool,
        loopback: bool,
        now: Instant,
    ) {
        let connection = Connection {
            peer: key,
            dialled_by_us,
            direct,
            loopback,
            since: now,
            last_used: now,
            verified: false,
            channels: [None, None],
            pending: [None, None],
            inbound: [false; 2],
            running: 0,
            left_by_peer: None,
            draining: None,
            leaving: false,
            closing: false,
        };
        self.connections.insert(id, connection);
        self.peer_mut(key, now).dial_ends(id);
    }

    /// Our stream of a class is ready for requests.
    pub(super) fn channel_up(&mut self, id: ConnectionId, channel: Channel, now: Instant) {
        let class = channel.class;
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let key = connection.peer;
        if let Some(slot) = connection.pending.get_mut(class as usize) {
            *slot = Some(channel.pending());
        }
        if connection.draining.is_none()
            && let Some(slot) = connection.channels.get_mut(class as usize)
        {
            *slot = Some(channel);
        }
        self.settle(key, now);
    }

    /// Our stream of a class ended. Unless we let go of it ourselves, the connection is of no use any more.
    pub(super) fn channel_down(&mut self, id: ConnectionId, reason: &str, now: Instant) {
        let in_use = |connection: &Connection| connection.draining.is_none();
        if self.connections.get(&id).is_some_and(in_use) {
            self.fail_connection(id, reason, now);
        }
    }

    /// The peer opened its stream of a class. `false`: it has one already.
    pub(super) fn inbound_up(&mut self, id: ConnectionId, class: Class) -> bool {
        self.connections
            .get_mut(&id)
            .and_then(|connection| connection.inbound.get_mut(class as usize))
            .is_some_and(|slot| !std::mem::replace(slot, true))
    }

    /// The peer's stream of a class ended: it will not use this connection any more.
    pub(super) fn inbound_down(&mut self, id: ConnectionId, class: Class, now: Instant) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if let Some(slot) = connection.inbound.get_mut(class as usize) {
            *slot = false;
        }
        connection.left_by_peer.get_or_insert(now);
        let key = connection.peer;
        self.settle(key, now);
    }

    /// The peer showed its record on this connection, and the record is the peer's.
    pub(super) fn verified(&mut self, id: ConnectionId, now: Instant) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.verified = true;
            let key = connection.peer;
            self.settle(key, now);
        }
    }

    /// Whether this connection runs within this device.
    pub(super) fn is_loopback(&self, id: ConnectionId) -> bool {
        self.connections.get(&id).is_some_and(|connection| connection.loopback)
    }

    /// A request of the peer begins (`true`) or ends on this connection.
    pub(super) fn inbound_request(&mut self, id: ConnectionId, begins: bool, now: Instant) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.last_used = now;
        if begins {
            connection.running += 1;
        } else {
            connection.running = connection.running.saturating_sub(1);
        }
        if let Some(peer) = self.peers.get_mut(&connection.peer) {
            peer.want(now);
            peer.last_seen = Some(now);
        }
    }

    /// We reached a peer at this address.
    pub(super) fn reached_at(&mut self, key: ServerKey, address: Multiaddr, now: Instant) {
        let plain = super::addresses::without_peer(address);
        self.peer_mut(key, now).set_addresses(Source::Reached, vec![plain], now);
    }

    /// Where a request of this class to this peer goes now.
    pub(super) fn channel(&mut self, key: ServerKey, class: Class, now: Instant) -> Option<Channel> {
        let id = self.best(key)?;
        let connection = self.connections.get_mut(&id)?;
        connection.last_used = now;
        connection.channels.get(class as usize)?.clone()
    }

    /// Whether a connection to this peer is there or being made ready.
    pub(super) fn has_connection(&self, key: ServerKey) -> bool {
        self.of_peer(key).any(|(_, connection)| connection.draining.is_none())
    }

    /// Whether the connection in use goes without a relay. `None`: none is in use.
    pub(super) fn is_direct(&self, key: ServerKey) -> Option<bool> {
        let id = self.best(key)?;
        Some(self.connections.get(&id)?.direct)
    }

    /// The connection is unusable or the peer refused: it is closed, and who waits for it is told.
    pub(super) fn fail_connection(&mut self, id: ConnectionId, reason: &str, now: Instant) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.channels = [None, None];
        connection.draining.get_or_insert(now);
        let key = connection.peer;
        self.todo.close.insert(id);
        if !self.peers.get(&key).is_some_and(|peer| peer.connected) {
            self.peer_mut(key, now).note_failure(reason, now);
        }
        self.settle(key, now);
    }

    /// A connection is gone, or was never completed.
    pub(super) fn connection_gone(&mut self, id: ConnectionId, now: Instant) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        self.todo.close.remove(&id);
        let key = connection.peer;
        if connection.draining.is_none() && !connection.verified {
            self.peer_mut(key, now).note_failure("it closed the connection while greeting", now);
        }
        self.settle(key, now);
    }

    /// Chooses the connection in use, lets go of the others, and tells what changed.
    fn settle(&mut self, key: ServerKey, now: Instant) {
        let best = self.best(key);
        let others: Vec<ConnectionId> = self
            .of_peer(key)
            .filter(|(id, connection)| Some(**id) != best && connection.is_ready())
            .map(|(id, _)| *id)
            .collect();
        for id in others {
            self.stats.duplicate_connections.add();
            self.drain(id, now);
        }
        let direct = best.and_then(|id| self.connections.get(&id)).map(|connection| connection.direct);
        let peer = self.peer_mut(key, now);
        let was_connected = std::mem::replace(&mut peer.connected, direct.is_some());
        if direct.is_some() {
            peer.reached(now);
        } else if was_connected {
            peer.lost(now);
        }
        peer.changed.send_replace(());
        let known = self.contacts.contains(&key);
        match (was_connected, direct) {
            (false, Some(direct)) => {
                self.records.pin(key, true);
                self.tell(NetworkEvent::Connected { peer: key, direct });
            }
            (true, None) => {
                self.records.pin(key, known);
                self.tell(NetworkEvent::Disconnected { peer: key });
            }
            _ => {}
        }
    }

    fn best(&self, key: ServerKey) -> Option<ConnectionId> {
        let mut ready: Vec<(ConnectionId, Candidate)> = self
            .of_peer(key)
            .filter(|(_, connection)| connection.is_ready())
            .map(|(id, connection)| {
                let candidate = Candidate {
                    left_by_peer: connection.left_by_peer.is_some(),
                    direct: connection.direct,
                    dialled_by_lower: connection.dialled_by_us == (self.local < key),
                    since: connection.since,
                };
                (*id, candidate)
            })
            .collect();
        ready.sort_by_key(|(id, candidate)| (candidate.since, *id));
        ready.into_iter().reduce(|older, newer| if prefer(older.1, newer.1) { newer } else { older }).map(|(id, _)| id)
    }

    /// No new requests of ours go here; those under way finish.
    fn drain(&mut self, id: ConnectionId, now: Instant) {
        if let Some(connection) = self.connections.get_mut(&id) {
            // With its last sender gone, each stream ends when its requests are answered.
            connection.channels = [None, None];
            connection.draining.get_or_insert(now);
        }
    }

    fn of_peer(&self, key: ServerKey) -> impl Iterator<Item = (&ConnectionId, &Connection)> {
        // Few connections per peer, a few hundred in all: an index would cost more than it saves.
        self.connections.iter().filter(move |(_, connection)| connection.peer == key)
    }

    /// Whether a connection to this peer runs within this device.
    pub(super) fn has_loopback(&self, key: ServerKey) -> bool {
        self.of_peer(key).any(|(_, connection)| connection.loopback)
    }

    /// Closes what is drained, overdue, or left; drains what is idle.
    pub(super) fn tend_connections(&mut self, now: Instant) {
        self.tended = now;
        let mut drain = vec![];
        let mut fail = vec![];
        for (id, connection) in &self.connections {
            let age = now.saturating_duration_since(connection.since);
            let since = |moment: Option<Instant>| moment.map(|at| now.saturating_duration_since(at));
            if connection.closing {
                continue;
            }
            if let Some(draining) = since(connection.draining) {
                let ours_ended = connection.is_answered();
                let theirs_ended = connection.inbound == [false; 2];
                let enough = ours_ended
                    && (theirs_ended || ((connection.leaving || draining >= DRAIN) && connection.running == 0));
                if enough || draining >= DRAIN_LIMIT {
                    self.todo.close.insert(*id);
                }
            } else if !connection.is_ready() {
                if age >= HANDSHAKE {
                    fail.push(*id);
                }
            } else {
                let left = since(connection.left_by_peer).is_some_and(|left| left >= LEAVE);
                let idle = now.saturating_duration_since(connection.last_used) >= self.idle_timeout
                    && connection.running == 0
                    && !self.is_kept(&connection.peer);
                if left || idle {
                    drain.push(*id);
                }
            }
        }
        for id in drain {
            self.drain(id, now);
            if let Some(key) = self.connections.get(&id).map(|connection| connection.peer) {
                // One of us wants it to end: it is not dialled again before there is something to send.
                self.peer_mut(key, now).unwant();
                self.settle(key, now);
            }
        }
        for id in fail {
            self.fail_connection(id, "it opened a connection but does not speak kith's protocol", now);
        }
    }

    /// When [`Table::tend_connections`] has something to do next.
    pub(super) fn next_tending(&self) -> Option<Instant> {
        let due = |connection: &Connection| {
            if connection.closing {
                return None;
            }
            Some(if connection.draining.is_some() {
                self.tended
            } else if !connection.is_ready() {
                connection.since + HANDSHAKE
            } else if let Some(left) = connection.left_by_peer {
                left + LEAVE
            } else if self.is_kept(&connection.peer) {
                return None;
            } else {
                connection.last_used + self.idle_timeout
            })
        };
        let due = self.connections.values().filter_map(due).min()?;
        Some(due.max(self.tended + LOOK))
    }

    /// The connections to be closed, each once.
    pub(super) fn take_closing(&mut self) -> Vec<ConnectionId> {
        let closing = std::mem::take(&mut self.todo.close);
        for id in &closing {
            if let Some(connection) = self.connections.get_mut(id) {
                connection.closing = true;
            }
        }
        closing.into_iter().collect()
    }

    /// All connections.
    pub(super) fn connection_ids(&self) -> Vec<ConnectionId> {
        self.connections.keys().copied().collect()
    }

    /// Requests of all peers being handled.
    pub(super) fn running(&self) -> usize {
        self.connections.values().map(|c| c.running).sum()
    }

    /// Peers with a connection in use.
    pub(super) fn connected(&self) -> Vec<ServerKey> {
        self.peers.iter().filter(|(_, peer)| peer.connected).map(|(key, _)| *key).collect()
    }

    /// Takes a record that was verified: the newest wins, and its addresses replace those of the former.
    pub(super) fn take_record(&mut self, record: SignedRecord, loopback: bool, now_ms: u64, now: Instant) {
        use crate::record::Insert;
        let key = record.record().key;
        let addresses = super::addresses::from_record(&record.record().addresses, loopback);
        match self.records.insert_verified(record, now_ms) {
            Insert::New | Insert::Newer | Insert::Same => {
                self.peer_mut(key, now).set_addresses(Source::Record, addresses, now);
            }
            Insert::Older => {}
            Insert::Conflict => self.stats.record_conflicts.add(),
        }
    }
}

#[cfg(test)]
mod tests;
