//! The [`Network`] between real devices: libp2p over QUIC, with TCP (Noise, yamux) as the fallback.
//!
//! - [`config`]: what it is started with.
//! - `driver` owns the swarm; `behaviour` hands every connection's streams to tasks; `link` and `serve` are what runs on
//!   them, `bodies` what passes through; `table` holds what is known and decides; `mdns` finds peers on the local network.
//!
//! Threats (DESIGN section 8) met here: a peer is known by the key it proved in the TLS or Noise handshake, and its greeting must
//! show a node record of that key; connections, streams, requests, headers, windows and everything remembered are bounded; a
//! silent or foreign peer is closed after ten seconds. Not met: someone on the path can cut or delay, and sees who talks to
//! whom.

mod addresses;
mod behaviour;
mod bodies;
pub mod config;
mod driver;
mod io;
mod link;
mod mdns;
mod own_port;
mod paced;
mod places;
mod serve;
mod setup;
mod shared;
mod table;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use tokio::sync::broadcast;

pub use config::{Libp2pConfig, MdnsConfig, MdnsMode, RecordParts, StartError};

use crate::record::{RecordError, SignedRecord};
use crate::{Body, Class, Network, NetworkError, NetworkEvent, PeerInfo, Router, SecretKey, ServerKey, StatsSnapshot};
use shared::Shared;

/// How long [`Network::shutdown`] waits at most.
const SHUTDOWN: Duration = Duration::from_secs(6);
/// How long [`Network::suspend`] waits at most for requests under way.
const SUSPEND: Duration = Duration::from_secs(3);

/// Peers over QUIC and TCP. Stops when dropped; [`Network::shutdown`] stops it in good order.
pub struct Libp2pNetwork {
    shared: Arc<Shared>,
}

impl Libp2pNetwork {
    /// Listens, starts discovery, and gives the network once its addresses are known. Runs on the tokio runtime it is called in.
    ///
    /// `parts` is what the node record says; inbound requests go to `router`, each with a [`crate::RemotePeer`] and its
    /// [`Class`] in the extensions.
    pub async fn start(
        config: Libp2pConfig,
        secret: SecretKey,
        parts: RecordParts,
        router: Router,
    ) -> Result<Arc<Self>, StartError> {
        let shared = Arc::new(Shared::new(config, secret, parts, router)?);
        let driver = setup::start(shared.clone()).await?;
        tokio::spawn(driver.run());
        Ok(Arc::new(Self { shared }))
    }

    fn peer_info(key: ServerKey, peer: &table::Peer, table: &table::Table, now: Instant) -> PeerInfo {
        let direct = table.is_direct(key);
        PeerInfo {
            key,
            server_name: table.records.latest(&key).map(|record| record.record().server_name.clone()),
            connected: direct.is_some(),
            direct: direct == Some(true),
            nearby: peer.is_nearby(),
            addresses: peer.addresses().iter().map(Multiaddr::to_string).collect(),
            last_seen: peer.last_seen.map(|at| now.saturating_duration_since(at)),
            rtt: peer.rtt.filter(|_| direct.is_some()),
            last_error: peer.last_error.clone().filter(|_| direct.is_none()),
        }
    }
}

impl Drop for Libp2pNetwork {
    fn drop(&mut self) {
        self.shared.change(|table, _| {
            table.closed = true;
            table.todo.shutdown = true;
        });
    }
}

impl Network for Libp2pNetwork {
    fn local(&self) -> ServerKey {
        self.shared.local
    }

    fn request(
        &self,
        peer: ServerKey,
        class: Class,
        request: http::Request<Body>,
    ) -> BoxFuture<'static, Result<http::Response<Body>, NetworkError>> {
        if peer == self.shared.local {
            return futures::future::ready(Err(NetworkError::Ourselves)).boxed();
        }
        self.shared.clone().request(peer, class, request).boxed()
    }

    fn events(&self) -> broadcast::Receiver<NetworkEvent> {
        self.shared.events.subscribe()
    }

    fn peers(&self) -> Vec<PeerInfo> {
        let table = self.shared.table();
        let now = Instant::now();
        table
            .peers
            .iter()
            .filter(|(_, peer)| peer.connected || peer.is_nearby() || peer.has_addresses())
            .map(|(key, peer)| Self::peer_info(*key, peer, &table, now))
            .collect()
    }

    fn add_address(&self, peer: ServerKey, address: String) -> Result<(), NetworkError> {
        if peer == self.shared.local {
            return Err(NetworkError::Ourselves);
        }
        let address = addresses::parse_for(peer, &address)?;
        self.shared.change(|table, now| table.told(peer, address, now));
        Ok(())
    }

    fn own_addresses(&self) -> Vec<String> {
        let id = self.shared.local.peer_id();
        self.shared.own_addresses().into_iter().map(|address| address.with(Protocol::P2p(id)).to_string()).collect()
    }

    fn dial(&self, peer: ServerKey) {
        self.shared.change(|table, now| {
            let entry = table.peer_mut(peer, now);
            entry.want(now);
            entry.reset_backoff();
            table.dial(peer, false, now);
        });
    }

    fn network_changed(&self) {
        self.shared.change(|table, now| table.redial_all(now));
    }

    fn suspend(&self) -> BoxFuture<'static, ()> {
        let shared = self.shared.clone();
        async move {
            shared.change(|table, now| table.suspend(now));
            let deadline = tokio::time::Instant::now() + SUSPEND;
            while !shared.table().connection_ids().is_empty() && tokio::time::Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        .boxed()
    }

    fn resume(&self) {
        self.shared.change(|table, now| table.resume(now));
    }

    fn set_contacts(&self, contacts: Vec<ServerKey>) {
        let local = self.shared.local;
        self.shared.change(|table, _| {
            for former in &table.contacts.clone() {
                let connected = table.peers.get(former).is_some_and(|peer| peer.connected);
                table.records.pin(*former, connected);
            }
            table.contacts = contacts.into_iter().filter(|key| *key != local).collect();
            for contact in &table.contacts.clone() {
                table.records.pin(*contact, true);
            }
            table.todo.contacts = true;
        });
        let known: Vec<(SignedRecord, bool)> = {
            let table = self.shared.table();
            let of = |key| Some((table.records.latest(key)?.clone(), table.has_loopback(*key)));
            table.contacts.iter().filter_map(of).collect()
        };
        for (record, within_device) in known {
            self.shared.save_record(record.record().key, &record, within_device);
        }
    }

    fn own_record(&self) -> Option<SignedRecord> {
        Some(self.shared.own_record())
    }

    fn record(&self, peer: &ServerKey) -> Option<SignedRecord> {
        let now_ms = self.shared.now_ms();
        self.shared.table().records.get(peer, now_ms).cloned()
    }

    fn add_record(&self, bytes: &[u8]) -> Result<ServerKey, RecordError> {
        let key = self.shared.take_record(bytes, false)?;
        self.shared.change(|table, now| {
            if table.peers.get(&key).is_some_and(|peer| peer.is_wanted(now)) {
                table.dial(key, false, now);
            }
        });
        Ok(key)
    }

    fn stats(&self) -> StatsSnapshot {
        self.shared.stats.snapshot()
    }

    fn shutdown(&self) -> BoxFuture<'static, ()> {
        let shared = self.shared.clone();
        async move {
            shared.change(|table, _| table.todo.shutdown = true);
            shared.wait_end(SHUTDOWN).await;
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests;
