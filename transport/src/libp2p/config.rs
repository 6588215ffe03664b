//! What a libp2p network is started with, and why a start fails.

use std::sync::Arc;
use std::time::Duration;

use crate::{RecordStore, Sequence, ServerKey};

/// Settings of [`super::Libp2pNetwork`]. `Default` suits a device on a home network.
#[derive(Clone, Debug)]
pub struct Libp2pConfig {
    /// Multiaddrs to listen on, for example `/ip4/0.0.0.0/udp/0/quic-v1` or `/ip6/::/tcp/4001`.
    pub listen: Vec<String>,
    /// Multiaddrs, each ending in `/p2p/<peer id>`, of peers to connect to from the start on. They are dialled again, ever more
    /// seldom, while they are away.
    pub known_peers: Vec<String>,
    /// Where records of peers outlast this run; nowhere if there is none.
    pub records: Option<Arc<dyn RecordStore>>,
    /// Discovery on the local network.
    pub mdns: MdnsConfig,
    /// How long a request waits for a connection.
    pub connect_timeout: Duration,
    /// A quiet connection is probed at this interval.
    pub keep_alive: Duration,
    /// A connection that answered nothing for this long is dead.
    pub dead_after: Duration,
    /// A connection without requests is closed after this time, unless it is to a contact.
    pub idle_timeout: Duration,
    /// Most connections that peers may have opened to us. Contacts are let in beyond it.
    pub max_inbound_connections: u32,
    /// Most connections of one peer.
    pub max_connections_per_peer: u32,
    /// Above this resident memory of the process, in bytes, new connections are refused.
    pub max_memory: usize,
    /// Most requests of all peers together that are being handled, or whose answers are being sent, at once; beyond it they
    /// are answered 503. One peer may have an eighth of them. A quarter of them may be downloads, of which again one peer
    /// may have an eighth.
    pub max_inbound_requests: usize,
    /// A request's body of which nothing comes, and a response's of which nothing is taken, for this long is given up.
    pub stalled_after: Duration,
}

impl Default for Libp2pConfig {
    fn default() -> Self {
        Self {
            listen: vec![
                "/ip4/0.0.0.0/udp/0/quic-v1".to_owned(),
                "/ip6/::/udp/0/quic-v1".to_owned(),
                "/ip4/0.0.0.0/tcp/0".to_owned(),
                "/ip6/::/tcp/0".to_owned(),
            ],
            known_peers: vec![],
            records: None,
            mdns: MdnsConfig::default(),
            connect_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(3),
            dead_after: Duration::from_secs(8),
            idle_timeout: Duration::from_secs(30 * 60),
            max_inbound_connections: 256,
            max_connections_per_peer: 4,
            max_memory: 1 << 30,
            max_inbound_requests: 1024,
            stalled_after: Duration::from_secs(60),
        }
    }
}

/// Discovery on the local network.
#[derive(Clone, Debug)]
pub struct MdnsConfig {
    /// To whom this node shows itself.
    pub mode: MdnsMode,
    /// UDP port; 5353 is the standard's.
    pub port: u16,
    /// Names of the network interfaces to use; none named: all but loopback.
    pub interfaces: Vec<String>,
    /// How long one set of tags is shown in contacts mode.
    pub rotation: Duration,
}

impl Default for MdnsConfig {
    fn default() -> Self {
        Self { mode: MdnsMode::Everyone, port: 5353, interfaces: vec![], rotation: Duration::from_secs(15 * 60) }
    }
}

/// To whom this node shows itself on the local network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MdnsMode {
    /// Its name is announced.
    #[default]
    Everyone,
    /// Only tags are announced, which contacts recognise and nobody else can tell from noise.
    Contacts,
    /// It neither announces nor listens.
    Off,
}

impl std::str::FromStr for MdnsMode {
    type Err = String;

    /// Reads `everyone`, `contacts` or `off`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "everyone" => Ok(Self::Everyone),
            "contacts" => Ok(Self::Contacts),
            "off" => Ok(Self::Off),
            other => Err(format!("mdns is {other:?}: it must be \"everyone\", \"contacts\" or \"off\"")),
        }
    }
}

/// What our node record says beside key and addresses.
#[derive(Clone, Debug)]
pub struct RecordParts {
    /// The full server name.
    pub server_name: String,
    /// The first sequence of this run. It must be higher than any that an earlier run used: count the runs on disk and use
    /// [`Sequence::for_run`].
    pub sequence: Sequence,
    /// Nodes that keep messages for us.
    pub mailboxes: Vec<ServerKey>,
    /// The gateway of our zone.
    pub gateway: Option<ServerKey>,
}

impl RecordParts {
    /// The parts of a node without mailboxes and gateway.
    pub fn new(server_name: impl Into<String>, sequence: Sequence) -> Self {
        Self { server_name: server_name.into(), sequence, mailboxes: vec![], gateway: None }
    }
}

/// Why the network could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Not a multiaddr, or one that nothing here listens on or dials.
    #[error(
        "the address {address:?} cannot be used ({reason}); write it like /ip4/0.0.0.0/udp/4001/quic-v1 or /ip4/0.0.0.0/tcp/4001"
    )]
    Address {
        /// As configured.
        address: String,
        /// What is wrong.
        reason: String,
    },
    /// Another program has the port.
    #[error(
        "cannot listen on {address}: the port is in use. Stop the other program (perhaps a second kith), or choose another port in [p2p] listen; port 0 takes any free one"
    )]
    PortInUse {
        /// As configured.
        address: String,
    },
    /// The system refuses to listen there.
    #[error("cannot listen on {address}: {error}. Choose an address of this device in [p2p] listen")]
    Listen {
        /// As configured.
        address: String,
        /// The system's error.
        error: std::io::Error,
    },
    /// None of the addresses could be listened on.
    #[error("no address to listen on is left: {reason}. Check [p2p] listen")]
    NoListener {
        /// The last refusal.
        reason: String,
    },
    /// The record would not be accepted by others.
    #[error("the node record cannot be made: {0}")]
    Record(#[from] crate::RecordError),
    /// A part of the network could not be set up.
    #[error("the network cannot be set up: {0}")]
    Setup(String),
}
