//! The task that owns the swarm: it dials and closes as the table says, and tells the table what happened.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::core::transport::ListenerId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{Multiaddr, connection_limits, identify, memory_connection_limits, ping};

use super::behaviour::Behaviour;
use super::link::describe;
use super::mdns::Mdns;
use super::shared::Shared;
use crate::{Class, NetworkEvent, ServerKey, full};

/// Addresses of one peer dialled at once: all that are kept, so that wrong ones do not hold up right ones.
const PARALLEL_DIALS: std::num::NonZeroU8 = std::num::NonZeroU8::new(52).expect("not zero");
/// Changes of our addresses within this time count as one (several interfaces come up together).
const ADDRESSES_SETTLE: Duration = Duration::from_millis(300);
/// How long a stop waits for requests of peers that are being handled.
const STOP_REQUESTS: Duration = Duration::from_secs(2);
/// How long a stop waits for connections to close.
const STOP_CONNECTIONS: Duration = Duration::from_secs(1);
/// How long we try to tell one peer our new addresses.
const TELL_ADDRESSES: Duration = Duration::from_secs(10);

/// All behaviours. Limits come first: what they refuse the others never see.
#[derive(NetworkBehaviour)]
pub(super) struct Behaviours {
    pub(super) limits: connection_limits::Behaviour,
    pub(super) memory: memory_connection_limits::Behaviour,
    pub(super) ping: ping::Behaviour,
    pub(super) identify: identify::Behaviour,
    pub(super) kith: Behaviour,
}

pub(super) struct Driver {
    pub(super) shared: Arc<Shared>,
    pub(super) swarm: Swarm<Behaviours>,
    pub(super) mdns: Option<Mdns>,
    /// Peers let in beyond the limits.
    bypassed: BTreeSet<ServerKey>,
    /// When changed addresses are told.
    addresses_due: Option<Instant>,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, swarm: Swarm<Behaviours>) -> Self {
        Self { shared, swarm, mdns: None, bypassed: BTreeSet::new(), addresses_due: None }
    }

    /// Waits until each of these listeners has told an address, at most `limit`.
    pub(super) async fn wait_listening(&mut self, mut listeners: Vec<ListenerId>, limit: Duration) {
        let deadline = tokio::time::Instant::now() + limit;
        while !listeners.is_empty() {
            let Ok(event) = tokio::time::timeout_at(deadline, self.swarm.select_next_some()).await else {
                break;
            };
            if let SwarmEvent::NewListenAddr { listener_id, .. } | SwarmEvent::ListenerClosed { listener_id, .. } =
                &event
            {
                listeners.retain(|waited| waited != listener_id);
            }
            self.on_event(event);
        }
        self.addresses_due = None;
        let listening = self.listening();
        self.shared.set_own_addresses(listening);
    }

    /// Runs until the network is shut down.
    pub(super) async fn run(mut self) {
        let shared = self.shared.clone();
        loop {
            self.work();
            if shared.table().todo.shutdown {
                break;
            }
            let due = self.next_due();
            tokio::select! {
                biased;
                event = self.swarm.select_next_some() => self.on_event(event),
                () = shared.wake.notified() => {}
                () = sleep_until(due) => {}
            }
        }
        self.stop().await;
        shared.ended.send_replace(true);
    }

    fn next_due(&self) -> Option<Instant> {
        let table = self.shared.table();
        [table.next_retry(Instant::now()), table.next_tending(), self.addresses_due].into_iter().flatten().min()
    }

    /// Does what is to be done now.
    fn work(&mut self) {
        let now = Instant::now();
        if self.addresses_due.is_some_and(|due| due <= now) {
            self.addresses_due = None;
            self.addresses_changed();
        }
        let (dials, close, contacts) = {
            let mut table = self.shared.table();
            table.tend_connections(now);
            let close = table.take_closing();
            let contacts = std::mem::take(&mut table.todo.contacts).then(|| table.contacts.clone());
            (table.take_dials(now), close, contacts)
        };
        for (peer, addresses) in dials {
            self.dial(peer, addresses);
        }
        for id in close {
            if !self.swarm.close_connection(id) {
                self.shared.change(|table, now| table.connection_gone(id, now));
            }
        }
        if let Some(contacts) = contacts {
            self.set_contacts(contacts);
        }
    }

    fn dial(&mut self, peer: ServerKey, addresses: Vec<Multiaddr>) {
        self.shared.stats.dials.add();
        let options = DialOpts::peer_id(peer.peer_id())
            .condition(PeerCondition::Always)
            .addresses(addresses.clone())
            .override_dial_concurrency_factor(PARALLEL_DIALS)
            .build();
        let id = options.connection_id();
        self.shared.table().peer_mut(peer, Instant::now()).dial_begins(id, addresses);
        if let Err(error) = self.swarm.dial(options) {
            self.dial_failed(peer, id, &error);
        }
    }

    fn dial_failed(&self, peer: ServerKey, id: ConnectionId, error: &DialError) {
        self.shared.stats.dial_failures.add();
        let reason = self.explain(error);
        tracing::debug!(%peer, %reason, "could not connect");
        self.shared.change(|table, now| table.dial_failed(peer, id, &reason, now));
    }

    fn explain(&self, error: &DialError) -> String {
        match error {
            DialError::WrongPeerId { obtained, address } => {
                self.shared.stats.mismatched_names.add();
                format!("at {address} another node answers ({obtained})")
            }
            DialError::Denied { cause } => format!("not connected: {}", describe(cause)),
            DialError::Transport(errors) => {
                let mut tried: Vec<String> = errors
                    .iter()
                    .take(4)
                    .map(|(address, error)| {
                        let shown = super::addresses::without_peer(address.clone());
                        format!("{shown} ({})", describe(error))
                    })
                    .collect();
                if errors.len() > tried.len() {
                    tried.push(format!("{} more", errors.len() - tried.len()));
                }
                format!("tried {}", tried.join(", "))
            }
            other => describe(other),
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehavioursEvent>) {
        match event {
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), connection_id, error } => {
                if let Some(key) = ServerKey::from_peer_id(&peer) {
                    self.dial_failed(key, connection_id, &error);
                }
            }
            SwarmEvent::IncomingConnectionError { error, .. } => {
                self.shared.stats.refused_connections.add();
                tracing::debug!(error = %describe(&error), "refused a connection");
            }
            SwarmEvent::NewListenAddr { .. }
            | SwarmEvent::ExpiredListenAddr { .. }
            | SwarmEvent::ListenerClosed { .. } => {
                self.addresses_due.get_or_insert_with(|| Instant::now() + ADDRESSES_SETTLE);
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::debug!(error = %describe(&error), "a listener had an error");
            }
            SwarmEvent::Behaviour(BehavioursEvent::Ping(ping::Event { peer, result: Ok(rtt), .. })) => {
                if let Some(key) = ServerKey::from_peer_id(&peer)
                    && let Some(peer) = self.shared.table().peers.get_mut(&key)
                {
                    peer.rtt = Some(rtt);
                    peer.last_seen = Some(Instant::now());
                }
            }
            _ => {}
        }
    }

    fn listening(&self) -> Vec<Multiaddr> {
        self.swarm.listeners().cloned().collect()
    }

    /// Our addresses changed: the record is renewed, peers are told, and connections over the old network replaced.
    fn addresses_changed(&mut self) {
        if !self.shared.set_own_addresses(self.listening()) {
            return;
        }
        tracing::info!(addresses = ?self.shared.own_addresses(), "the network changed");
        let connected = {
            let mut table = self.shared.table();
            table.tell(NetworkEvent::AddressesChanged);
            table.redial_all(Instant::now());
            table.connected()
        };
        if let Some(mdns) = &self.mdns {
            mdns.announce();
        }
        let shared = self.shared.clone();
        tokio::spawn(async move {
            for peer in connected {
                let record = shared.own_record().bytes().clone();
                let mut request = http::Request::new(full(record));
                *request.method_mut() = http::Method::PUT;
                *request.uri_mut() = http::Uri::from_static(super::serve::RECORD_PATH);
                let send = shared.clone().request(peer, Class::Control, request);
                let _ = tokio::time::timeout(TELL_ADDRESSES, send).await;
            }
        });
    }

    fn set_contacts(&mut self, contacts: BTreeSet<ServerKey>) {
        let limits = &mut self.swarm.behaviour_mut().limits;
        for gone in self.bypassed.difference(&contacts) {
            limits.remove_peer_id(&gone.peer_id());
        }
        for new in contacts.difference(&self.bypassed) {
            limits.bypass_peer_id(&new.peer_id());
        }
        if let Some(mdns) = &self.mdns {
            mdns.announce();
        }
        self.bypassed = contacts;
    }

    /// Says goodbye, lets requests finish for a moment, closes everything.
    async fn stop(mut self) {
        let listening = self.listening();
        self.shared.table().closed = true;
        if let Some(mdns) = self.mdns.take() {
            mdns.stop().await;
        }
        let shared = self.shared.clone();
        self.run_until(STOP_REQUESTS, || shared.table().running() == 0).await;
        for id in self.shared.table().connection_ids() {
            self.swarm.close_connection(id);
        }
        self.run_until(STOP_CONNECTIONS, || shared.table().connection_ids().is_empty()).await;
        drop(self.swarm);
        wait_ports(&listening).await;
    }

    async fn run_until(&mut self, limit: Duration, done: impl Fn() -> bool) {
        let deadline = tokio::time::Instant::now() + limit;
        let shared = self.shared.clone();
        while !done() {
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(deadline) => return,
                event = self.swarm.select_next_some() => self.on_event(event),
                () = shared.wake.notified() => {}
                // A request that ends wakes nobody.
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        }
    }
}

/// QUIC keeps its sockets until the last farewell is sent. Whoever starts again on the same ports needs them free.
async fn wait_ports(listening: &[Multiaddr]) {
    let deadline = Instant::now() + STOP_CONNECTIONS;
    for address in listening {
        if let Some((ip, port, true)) = super::addresses::socket(address) {
            while std::net::UdpSocket::bind((ip, port)).is_err() && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
