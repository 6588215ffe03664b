//! What the driver, the streams' tasks and the callers of the network share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use libp2p::Multiaddr;
use libp2p::swarm::ConnectionId;
use tokio::sync::{Notify, broadcast, watch};

use super::config::{Libp2pConfig, RecordParts, StartError};
use super::link::{Channel, SendFailure};
use super::places::Places;
use super::table::Table;
use super::table::dialing::REQUEST_RETRY;
use crate::record::{NodeRecord, RecordError, SavedRecord, SignedRecord};
use crate::{Body, Class, NetworkError, NetworkEvent, Router, SecretKey, Sequence, ServerKey, Stats};

/// News kept for a receiver that lags.
const EVENTS: usize = 1024;
/// How often a request that surely was not delivered is tried on another connection.
const ATTEMPTS: usize = 3;
/// Most peers of whom it is remembered what was saved.
const MAX_SAVED: usize = 4096;

pub(super) struct Shared {
    pub(super) config: Libp2pConfig,
    pub(super) secret: SecretKey,
    pub(super) local: ServerKey,
    pub(super) router: Router,
    pub(super) stats: Arc<Stats>,
    pub(super) events: broadcast::Sender<NetworkEvent>,
    /// Wakes the driver: there may be work in the table.
    pub(super) wake: Notify,
    /// A place for each request of any peer that is handled, or whose answer is being sent.
    pub(super) handlers: Arc<Places>,
    /// A place for each download of any peer.
    pub(super) downloads: Arc<Places>,
    /// Becomes true when the driver has ended.
    pub(super) ended: watch::Sender<bool>,
    parts: RecordParts,
    own: Mutex<Own>,
    /// What was saved of each peer's records last, and whether as a contact's.
    saved: Mutex<BTreeMap<ServerKey, (Sequence, bool)>>,
    table: Mutex<Table>,
    started: Instant,
}

/// Our own record and addresses.
struct Own {
    addresses: Vec<Multiaddr>,
    record: SignedRecord,
    next: Sequence,
}

impl Shared {
    pub(super) fn new(
        config: Libp2pConfig,
        secret: SecretKey,
        parts: RecordParts,
        router: Router,
    ) -> Result<Self, StartError> {
        let local = secret.public();
        let (events, _) = broadcast::channel(EVENTS);
        let stats = Arc::new(Stats::default());
        let table = Table::new(local, config.idle_timeout, events.clone(), stats.clone());
        let own = Own {
            addresses: vec![],
            record: make_record(&secret, &parts, parts.sequence, &[])?,
            next: parts.sequence.next(),
        };
        Ok(Self {
            handlers: Places::new(config.max_inbound_requests),
            downloads: Places::new(config.max_inbound_requests / 4),
            config,
            secret,
            local,
            router,
            stats,
            events,
            wake: Notify::new(),
            ended: watch::Sender::new(false),
            parts,
            own: Mutex::new(own),
            saved: Mutex::default(),
            table: Mutex::new(table),
            started: Instant::now(),
        })
    }

    /// The table. Nothing is awaited while it is held.
    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the table and wakes the driver.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut Table, Instant) -> R) -> R {
        let result = change(&mut self.table(), Instant::now());
        self.wake.notify_one();
        result
    }

    /// Milliseconds since the start, for the record book.
    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn own_record(&self) -> SignedRecord {
        self.own().record.clone()
    }

    /// Shows another record from now on, true or not.
    #[cfg(test)]
    pub(super) fn show(&self, record: SignedRecord) {
        self.own().record = record;
    }

    pub(super) fn own_addresses(&self) -> Vec<Multiaddr> {
        self.own().addresses.clone()
    }

    /// Takes the addresses we listen on. `true` if what we show changed.
    pub(super) fn set_own_addresses(&self, listening: Vec<Multiaddr>) -> bool {
        let addresses = super::addresses::shown(listening);
        let mut own = self.own();
        if own.addresses == addresses {
            return false;
        }
        match make_record(&self.secret, &self.parts, own.next, &addresses) {
            Ok(record) => {
                own.record = record;
                own.next = own.next.next();
            }
            Err(error) => tracing::warn!(%error, "the node record was not renewed"),
        }
        own.addresses = addresses;
        true
    }

    /// Takes a record from a peer or the application, counting what is wrong with it.
    pub(super) fn take_record(&self, bytes: &[u8], loopback: bool) -> Result<ServerKey, RecordError> {
        let record = SignedRecord::verify(bytes).inspect_err(|error| {
            match error {
                RecordError::NameMismatch => self.stats.mismatched_names.add(),
                _ => self.stats.bad_records.add(),
            };
        })?;
        let key = record.record().key;
        if key != self.local {
            let now_ms = self.now_ms();
            self.change(|table, now| table.take_record(record.clone(), loopback, now_ms, now));
            self.save_record(key, &record, loopback);
        }
        Ok(key)
    }

    /// The peer showed this record in its greeting: it must be its own.
    pub(super) fn greet(&self, id: ConnectionId, peer: ServerKey, bytes: &[u8]) -> Result<(), String> {
        let record = SignedRecord::verify(bytes).map_err(|error| {
            match error {
                RecordError::NameMismatch => self.stats.mismatched_names.add(),
                _ => self.stats.bad_records.add(),
            };
            error.to_string()
        })?;
        if record.record().key != peer {
            self.stats.mismatched_names.add();
            return Err(format!("it claims to be {}, which its key is not", record.record().server_name));
        }
        let now_ms = self.now_ms();
        let loopback = self.change(|table, now| {
            let loopback = table.is_loopback(id);
            table.take_record(record.clone(), loopback, now_ms, now);
            table.verified(id, now);
            loopback
        });
        self.save_record(peer, &record, loopback);
        Ok(())
    }

    /// Keeps a record beyond this run, if it is the newest and of a peer that matters: what strangers show must not fill the disk.
    pub(super) fn save_record(&self, key: ServerKey, record: &SignedRecord, within_device: bool) {
        let Some(records) = &self.config.records else { return };
        let contact = {
            let table = self.table();
            let wanted = table.peers.get(&key).is_some_and(|peer| peer.is_wanted(Instant::now()));
            let contact = table.is_kept(&key);
            if table.records.latest(&key) != Some(record) || !(wanted || contact) {
                return;
            }
            contact
        };
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let now = (record.record().sequence, contact);
        // Each greeting shows it again.
        if saved.get(&key) == Some(&now) {
            return;
        }
        if saved.len() >= MAX_SAVED {
            saved.clear();
        }
        saved.insert(key, now);
        drop(saved);
        records.save(key, SavedRecord { record: record.bytes().clone(), within_device, contact });
    }

    /// Sends a request, connecting where needed.
    pub(super) async fn request(
        self: Arc<Self>,
        peer: ServerKey,
        class: Class,
        mut request: http::Request<Body>,
    ) -> Result<http::Response<Body>, NetworkError> {
        self.stats.requests_out.add();
        let deadline = Instant::now() + self.config.connect_timeout;
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            let channel = self.channel(peer, class, deadline).await?;
            match channel.send(peer, request).await {
                Ok(response) => return Ok(response),
                Err(SendFailure::Final(error)) => return Err(error),
                Err(SendFailure::Unsent(returned, reason)) => {
                    request = *returned;
                    last = reason;
                    let id = channel.connection;
                    self.change(|table, now| table.fail_connection(id, &last, now));
                }
            }
        }
        Err(NetworkError::Unreachable { peer, reason: last })
    }

    /// The stream that carries a request to this peer; connects and waits until the deadline.
    async fn channel(&self, peer: ServerKey, class: Class, deadline: Instant) -> Result<Channel, NetworkError> {
        let unreachable = |reason: String| NetworkError::Unreachable { peer, reason };
        let mut failures_before = None;
        loop {
            let mut changed = {
                let mut table = self.table();
                let now = Instant::now();
                if table.closed {
                    return Err(NetworkError::Closed);
                }
                let entry = table.peer_mut(peer, now);
                entry.want(now);
                let changed = entry.changed.subscribe();
                let (failures, error) = (entry.failures_ever, entry.last_error.clone());
                let just_failed = entry.failed_at.is_some_and(|at| now.saturating_duration_since(at) < REQUEST_RETRY);
                let known = entry.has_addresses();
                let dialing = entry.is_dialing();
                if let Some(channel) = table.channel(peer, class, now) {
                    return Ok(channel);
                }
                let failed = *failures_before.get_or_insert(failures) != failures;
                if table.suspended && !table.has_connection(peer) {
                    return Err(unreachable("this node is suspended: it connects to nobody until it resumes".into()));
                }
                if !table.has_connection(peer) && !dialing {
                    if failed || just_failed {
                        let reason = error.unwrap_or_else(|| "the connection was refused".into());
                        return Err(unreachable(reason));
                    }
                    if !known {
                        return Err(unreachable(
                            "none of its addresses is known. It is found when it is on the same network with discovery \
                             (mdns) on at both ends; else add an address of it"
                                .into(),
                        ));
                    }
                    table.dial(peer, false, now);
                    drop(table);
                    self.wake.notify_one();
                }
                changed
            };
            tokio::select! {
                biased;
                _ = changed.changed() => {}
                () = tokio::time::sleep_until(deadline.into()) => {
                    return Err(unreachable(format!(
                        "no connection after {} s",
                        self.config.connect_timeout.as_secs_f32()
                    )));
                }
            }
        }
    }

    /// Waits until the driver has ended, at most `limit`.
    pub(super) async fn wait_end(&self, limit: Duration) {
        let mut ended = self.ended.subscribe();
        let _ = tokio::time::timeout(limit, ended.wait_for(|ended| *ended)).await;
    }
}

fn make_record(
    secret: &SecretKey,
    parts: &RecordParts,
    sequence: Sequence,
    addresses: &[Multiaddr],
) -> Result<SignedRecord, RecordError> {
    NodeRecord {
        sequence,
        key: secret.public(),
        server_name: parts.server_name.clone(),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        mailboxes: parts.mailboxes.clone(),
        gateway: parts.gateway,
    }
    .sign(secret)
}
