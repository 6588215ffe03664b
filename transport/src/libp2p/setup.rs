//! Builds the swarm and its listeners.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, ListenerId, TransportError};
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{Config, Swarm};
use libp2p::{
    Multiaddr, PeerId, Transport, connection_limits, dns, identify, memory_connection_limits, noise, ping, quic, tcp,
    yamux,
};
use socket2::{Domain, Socket, Type};

use super::behaviour::Behaviour;
use super::config::{Libp2pConfig, MdnsMode, StartError};
use super::driver::{Behaviours, Driver};
use super::mdns::Mdns;
use super::own_port::OwnPort;
use super::shared::Shared;
use super::{addresses, link};
use crate::{Class, ServerKey, SignedRecord};

/// How long an attempt to connect may take on one address.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long the start waits for the listeners' addresses.
const LISTENING: Duration = Duration::from_secs(2);
/// Streams a peer may have open on one connection: ours, and those of libp2p's own small protocols.
const MAX_STREAMS: u32 = 32;
/// Connections being established at once, in each direction.
const MAX_PENDING: u32 = 64;

/// Builds and listens; the driver is to be run.
pub(super) async fn start(shared: Arc<Shared>) -> Result<Driver, StartError> {
    know_saved_records(&shared);
    know_configured_peers(&shared)?;
    let keypair = shared.secret.to_libp2p();
    let transport = transport(&keypair, &shared.config)?;
    let swarm = Swarm::new(
        transport,
        behaviours(&shared, &keypair),
        keypair.public().to_peer_id(),
        Config::with_tokio_executor()
            .with_idle_connection_timeout(shared.config.idle_timeout)
            .with_max_negotiating_inbound_streams(8)
            .with_smart_dial(),
    );
    let mut driver = Driver::new(shared.clone(), swarm);
    let listeners = listen(&mut driver)?;
    driver.wait_listening(listeners, LISTENING).await;
    if shared.config.mdns.mode != MdnsMode::Off {
        driver.mdns = Some(Mdns::start(shared));
    }
    Ok(driver)
}

fn behaviours(shared: &Arc<Shared>, keypair: &Keypair) -> Behaviours {
    let config = &shared.config;
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(MAX_PENDING))
        .with_max_pending_outgoing(Some(MAX_PENDING))
        .with_max_established_incoming(Some(config.max_inbound_connections))
        .with_max_established_per_peer(Some(config.max_connections_per_peer));
    Behaviours {
        limits: connection_limits::Behaviour::new(limits),
        memory: memory_connection_limits::Behaviour::with_max_bytes(config.max_memory),
        // For the round trip only; dead connections are noticed on the control stream.
        ping: ping::Behaviour::new(
            ping::Config::new().with_interval(Duration::from_secs(20)).with_timeout(Duration::from_secs(15)),
        ),
        identify: identify::Behaviour::new(
            identify::Config::new("/kith/1".to_owned(), keypair.public())
                .with_agent_version(concat!("kith/", env!("CARGO_PKG_VERSION")).to_owned())
                .with_interval(Duration::from_secs(3600))
                .with_hide_listen_addrs(true)
                .with_cache_size(0),
        ),
        kith: Behaviour(shared.clone()),
    }
}

/// QUIC, and TCP with Noise and yamux; DNS names in addresses are looked up where the system can.
fn transport(keypair: &Keypair, config: &Libp2pConfig) -> Result<Boxed<(PeerId, StreamMuxerBox)>, StartError> {
    let build = || -> Result<Boxed<(PeerId, StreamMuxerBox)>, StartError> {
        let noise = noise::Config::new(keypair).map_err(|error| StartError::Setup(format!("encryption: {error}")))?;
        let mut muxer = yamux::Config::default();
        muxer.set_max_num_streams(MAX_STREAMS as usize);
        let tcp = OwnPort(tcp::tokio::Transport::new(tcp::Config::default().nodelay(true)))
            .upgrade(Version::V1Lazy)
            .authenticate(noise)
            .multiplex(muxer)
            .timeout(HANDSHAKE);
        let quic = quic::tokio::Transport::new(quic_config(keypair, config))
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
        Ok(quic
            .or_transport(tcp.map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer))))
            .map(|either, _| either.into_inner())
            .boxed())
    };
    match dns::tokio::Transport::system(build()?) {
        Ok(with_dns) => Ok(with_dns.boxed()),
        Err(error) => {
            // A mesh without any name server is an ordinary place to be.
            tracing::info!(%error, "no DNS on this system: addresses with names cannot be dialled");
            build()
        }
    }
}

fn quic_config(keypair: &Keypair, config: &Libp2pConfig) -> quic::Config {
    let mut quic = quic::Config::new(keypair);
    quic.handshake_timeout = HANDSHAKE;
    quic.max_idle_timeout = u32::try_from(config.dead_after.as_millis()).unwrap_or(u32::MAX);
    quic.keep_alive_interval = config.keep_alive;
    quic.max_concurrent_stream_limit = MAX_STREAMS;
    // What a peer has sent and we have not taken yet; by it, too, the most that waits unsent in a stream.
    quic.max_stream_data = link::STREAM_WINDOW;
    quic.max_connection_data = link::STREAM_WINDOW * 2 * Class::ALL.len() as u32;
    quic
}

fn know_configured_peers(shared: &Shared) -> Result<(), StartError> {
    for text in &shared.config.known_peers {
        let invalid = |reason: String| StartError::Address { address: text.clone(), reason };
        let address: Multiaddr = text.parse().map_err(|_| invalid("it is no multiaddr".into()))?;
        let Some(Protocol::P2p(id)) = address.iter().last() else {
            return Err(invalid("it must end in /p2p/ and the peer id".into()));
        };
        let key = ServerKey::from_peer_id(&id).ok_or_else(|| invalid("its peer id is not of an ed25519 key".into()))?;
        let address = addresses::parse_for(key, text).map_err(|error| invalid(error.to_string()))?;
        shared.change(|table, now| {
            table.told(key, address, now);
            table.keep(key, now);
        });
    }
    Ok(())
}

/// What earlier runs learned of where peers are.
fn know_saved_records(shared: &Shared) {
    for saved in shared.config.records.iter().flat_map(|records| records.load()) {
        match SignedRecord::verify(&saved.record) {
            Ok(record) if record.record().key != shared.local => {
                let now_ms = shared.now_ms();
                shared.change(|table, now| table.take_record(record, saved.within_device, now_ms, now));
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "a record that was kept is left out"),
        }
    }
}

fn listen(driver: &mut Driver) -> Result<Vec<ListenerId>, StartError> {
    let mut listeners = vec![];
    let mut refusal = "the list is empty".to_owned();
    for text in driver.shared.config.listen.clone() {
        let invalid = |reason: &str| StartError::Address { address: text.clone(), reason: reason.to_owned() };
        let address: Multiaddr = text.parse().map_err(|_| invalid("it is no multiaddr"))?;
        let Some((ip, port, quic)) = addresses::socket(&address) else {
            return Err(invalid("it is neither QUIC nor TCP on an IP address"));
        };
        let result = if quic {
            Ok(())
        } else {
            // libp2p shares TCP ports between sockets, so a second node would not notice the first: ask the system plainly.
            probe(SocketAddr::new(ip, port))
        };
        let result = result.and_then(|()| {
            driver.swarm.listen_on(address).map_err(|error| match error {
                TransportError::Other(error) => error,
                TransportError::MultiaddrNotSupported(_) => io::ErrorKind::Unsupported.into(),
            })
        });
        match result {
            Ok(listener) => {
                listeners.push(listener);
            }
            Err(error) if is_in_use(&error) => {
                return Err(StartError::PortInUse { address: text });
            }
            // A device without IPv6 (or IPv4) is fine as long as something is left.
            Err(error) if ip.is_unspecified() => {
                refusal = format!("{text}: {}", link::describe(&error));
                tracing::info!(address = %text, %error, "not listening there");
            }
            Err(error) => {
                return Err(StartError::Listen { address: text, error });
            }
        }
    }
    if listeners.is_empty() {
        return Err(StartError::NoListener { reason: refusal });
    }
    Ok(listeners)
}

/// Whether nobody listens on this TCP address, asked in the way libp2p listens: on `[::]` for IPv6 alone, or it would meet our
/// own listener on the same port of IPv4.
fn probe(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // As std does it: connections of an earlier run that linger are nobody who listens.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1)
}

/// The system's "in use" may be wrapped by libp2p.
fn is_in_use(error: &io::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && error.kind() == io::ErrorKind::AddrInUse
        {
            return true;
        }
        cause = error.source();
    }
    link::describe(error).contains("in use")
}
