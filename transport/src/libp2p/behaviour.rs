//! Our own libp2p behaviour: on every connection it opens one stream of each class and accepts the peer's.
//!
//! It keeps no queue of its own and drops nothing: each stream is handed to a task as soon as its protocol is negotiated.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    StreamProtocol, SubstreamProtocol, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use tokio::sync::watch;

use super::addresses::is_loopback;
use super::link;
use super::shared::Shared;
use crate::{Class, ServerKey};

/// The protocol of both streams; the first byte on a stream tells its class.
const PROTOCOL: StreamProtocol = StreamProtocol::new("/kith/http/1");

/// Inbound streams of one connection that may run at once: one of each class, and one that is being refused.
const MAX_INBOUND: usize = 3;

pub(super) struct Behaviour(pub(super) Arc<Shared>);

impl Behaviour {
    fn handler(
        &self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        dialled_by_us: bool,
    ) -> Result<Handler, ConnectionDenied> {
        let shared = self.0.clone();
        let Some(key) = ServerKey::from_peer_id(&peer) else {
            shared.stats.foreign_keys.add();
            return Err(ConnectionDenied::new("its key is not ed25519"));
        };
        if key == shared.local {
            return Err(ConnectionDenied::new("it is this node itself"));
        }
        let direct = !address.iter().any(|part| part == Protocol::P2pCircuit);
        let loopback = is_loopback(address);
        {
            let mut table = shared.table();
            if table.closed {
                return Err(ConnectionDenied::new("this node is stopping"));
            }
            table.connection_opened(id, key, dialled_by_us, direct, loopback, Instant::now());
            if dialled_by_us {
                table.reached_at(key, address.clone(), Instant::now());
            }
        }
        shared.wake.notify_one();
        if dialled_by_us {
            shared.stats.outbound_connections.add();
        } else {
            shared.stats.inbound_connections.add();
        }
        Ok(Handler {
            shared,
            id,
            peer: key,
            to_open: Class::ALL.to_vec(),
            inbound: Arc::new(AtomicUsize::new(0)),
            verified: watch::Sender::new(false),
        })
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        self.handler(id, peer, remote, false)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _role: Endpoint,
        _port: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        self.handler(id, peer, address, true)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        let gone = match event {
            FromSwarm::ConnectionClosed(closed) => closed.connection_id,
            // Another behaviour refused a connection that we had noted already.
            FromSwarm::ListenFailure(failure) => failure.connection_id,
            FromSwarm::DialFailure(failure) => failure.connection_id,
            _ => return,
        };
        self.0.change(|table, now| table.connection_gone(gone, now));
    }

    fn on_connection_handler_event(&mut self, _peer: PeerId, _id: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

/// One connection's end.
pub(super) struct Handler {
    shared: Arc<Shared>,
    id: ConnectionId,
    peer: ServerKey,
    /// Streams still to be asked for.
    to_open: Vec<Class>,
    /// Tasks that run the peer's streams.
    inbound: Arc<AtomicUsize>,
    /// Whether the peer's record was seen on this connection.
    verified: watch::Sender<bool>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Infallible;
    type ToBehaviour = Infallible;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Class;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), ())
    }

    /// Connections end by the table's rules, not by libp2p's.
    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Class, Infallible>> {
        match self.to_open.pop() {
            Some(class) => Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                protocol: SubstreamProtocol::new(ReadyUpgrade::new(PROTOCOL), class),
            }),
            None => Poll::Pending,
        }
    }

    fn on_behaviour_event(&mut self, event: Infallible) {
        match event {}
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol, (), Class>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: stream, info: class }) => {
                tokio::spawn(link::run_outbound(self.shared.clone(), self.id, class, stream));
            }
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: stream, .. }) => {
                let inbound = self.inbound.clone();
                if inbound.fetch_add(1, Ordering::Relaxed) >= MAX_INBOUND {
                    inbound.fetch_sub(1, Ordering::Relaxed);
                    self.shared.stats.refused_streams.add();
                    return;
                }
                let run = link::run_inbound(self.shared.clone(), self.id, self.peer, self.verified.clone(), stream);
                tokio::spawn(async move {
                    run.await;
                    inbound.fetch_sub(1, Ordering::Relaxed);
                });
            }
            ConnectionEvent::DialUpgradeError(error) => {
                let reason = format!("it does not speak kith's protocol: {}", error.error);
                let id = self.id;
                self.shared.change(|table, now| table.fail_connection(id, &reason, now));
            }
            _ => {}
        }
    }
}
