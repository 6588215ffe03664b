//! The trait [`Network`]: requests between adjacent, authenticated peers, and news of who is there.
//!
//! Below it stand libp2p (`crate::libp2p`) and, for tests and many nodes in one process, [`crate::memory`].
//! Above it stand [`crate::Transport`] and whatever routes over several hops. A request is an ordinary HTTP request with
//! streamed bodies; the peer at the other end is known by its key before the first byte arrives, and its requests carry a
//! [`RemotePeer`] so that the server API can compare the `X-Matrix` origin with it.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use kith_mutants::mutant;
use tokio::sync::broadcast;

use crate::record::{RecordError, SignedRecord};
use crate::stats::StatsSnapshot;
use crate::{HttpsError, KithName, NameError, ServerKey};

/// Any error, as bodies carry it.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A request's or response's body: a stream of chunks.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A body of nothing.
pub fn empty() -> Body {
    full(Bytes::new())
}

/// A body of bytes at hand.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    http_body_util::Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// Any body as a [`Body`].
pub fn boxed<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// Reads a body to its end. Fails above `limit` bytes without having kept more than that.
pub async fn read_body(mut body: Body, limit: usize) -> Result<Bytes, BodyError> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(BodyError::Broken)?.into_data() else {
            continue;
        };
        if first.len() + rest.len() + data.len() > limit {
            return Err(BodyError::TooLarge { limit });
        }
        // Most bodies come in one piece, which needs no copy.
        if first.is_empty() || mutant!("keeps-last-part") {
            first = data;
        } else {
            rest.extend_from_slice(&data);
        }
    }
    if rest.is_empty() {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(first.len() + rest.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&rest);
    Ok(whole.freeze())
}

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// More than the caller allows.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// The caller's limit in bytes.
        limit: usize,
    },
    /// The stream ended before the body did.
    #[error("the body broke off: {0}")]
    Broken(#[source] BoxError),
}

/// Which of the two streams to a peer carries a request. Each has its own flow control, so that a photo does not hold up a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Small and urgent: transactions, keys, queries, invites.
    Control,
    /// Large: media, joins, state, backfill.
    Bulk,
}

impl Class {
    /// Both, in order of urgency.
    pub const ALL: [Self; 2] = [Self::Control, Self::Bulk];
}

/// The authenticated sender of an inbound request, in its [`http::Extensions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemotePeer(pub ServerKey);

type RouterFn = dyn Fn(http::Request<Body>) -> BoxFuture<'static, http::Response<Body>> + Send + Sync;

/// Where inbound requests go: a clonable function from request to response.
#[derive(Clone)]
pub struct Router(Arc<RouterFn>);

impl Router {
    /// A router from a function.
    pub fn new<F, R>(handler: F) -> Self
    where
        F: Fn(http::Request<Body>) -> R + Send + Sync + 'static,
        R: Future<Output = http::Response<Body>> + Send + 'static,
    {
        Self(Arc::new(move |request| Box::pin(handler(request))))
    }

    /// A router from a tower service that cannot fail, for example `axum::Router`.
    pub fn from_service<S, B>(service: S) -> Self
    where
        S: tower::Service<http::Request<Body>, Response = http::Response<B>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self::new(move |request| {
            tower::ServiceExt::oneshot(service.clone(), request).map(|result| match result {
                Ok(response) => response.map(boxed),
                Err(never) => match never {},
            })
        })
    }

    /// Hands a request over and gives the response.
    pub fn call(&self, request: http::Request<Body>) -> BoxFuture<'static, http::Response<Body>> {
        (self.0)(request)
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Router")
    }
}

/// News about peers. Receivers that lag lose the oldest news (`RecvError::Lagged`): then ask [`Network::peers`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetworkEvent {
    /// A peer was seen nearby, or we were told addresses of it: it can probably be reached now.
    Discovered {
        /// Whom.
        peer: ServerKey,
    },
    /// Requests reach this peer now.
    Connected {
        /// Whom.
        peer: ServerKey,
        /// Without a relay between us.
        direct: bool,
    },
    /// No connection to this peer is left.
    Disconnected {
        /// Whom.
        peer: ServerKey,
    },
    /// A peer seen nearby said goodbye, or was not heard of for long.
    Lost {
        /// Whom.
        peer: ServerKey,
    },
    /// The addresses at which we can be reached changed.
    AddressesChanged,
}

impl NetworkEvent {
    /// The peer it is about.
    pub fn peer(&self) -> Option<ServerKey> {
        match self {
            Self::Discovered { peer }
            | Self::Connected { peer, .. }
            | Self::Disconnected { peer }
            | Self::Lost { peer } => Some(*peer),
            Self::AddressesChanged => None,
        }
    }
}

/// What is known of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// Its key.
    pub key: ServerKey,
    /// Its full server name as its own signed record says: see [`PeerInfo::proven_name`] for what that proves.
    pub server_name: Option<String>,
    /// Whether requests reach it now.
    pub connected: bool,
    /// Whether the connection in use goes without a relay.
    pub direct: bool,
    /// Seen by discovery on the local network, and not gone since.
    pub nearby: bool,
    /// Addresses known, as multiaddrs.
    pub addresses: Vec<String>,
    /// How long ago it was last heard of. `None`: never.
    pub last_seen: Option<Duration>,
    /// The last measured round trip.
    pub rtt: Option<Duration>,
    /// Why the last attempt to connect failed. `None`: there was none since it was last connected, or there is a connection.
    pub last_error: Option<String>,
}

impl PeerInfo {
    /// The server name of its record, if the name itself proves that it is this peer's: it is made of the peer's key.
    pub fn proven_name(&self) -> Option<&str> {
        self.server_name.as_deref().filter(|name| is_made_of(name, self.key))
    }

    /// The DNS name that its record claims. Anybody can claim any: nothing here proves it.
    pub fn claimed_name(&self) -> Option<&str> {
        self.server_name.as_deref().filter(|name| !is_made_of(name, self.key))
    }
}

fn is_made_of(name: &str, key: ServerKey) -> bool {
    matches!(KithName::parse(name), Ok(Some(name)) if name.key == key)
}

/// Requests between adjacent authenticated peers. Object-safe; held as `Arc<dyn Network>`.
pub trait Network: Send + Sync + 'static {
    /// Our own key.
    fn local(&self) -> ServerKey;

    /// Sends a request to a peer, connecting first where needed, and gives the response with its body streaming.
    ///
    /// Not `Ok` means no complete answer: see [`NetworkError::maybe_delivered`] for whether the peer may have acted on it.
    /// Dropping the future cancels the request. Bodies end with an error when the connection breaks.
    fn request(
        &self,
        peer: ServerKey,
        class: Class,
        request: http::Request<Body>,
    ) -> BoxFuture<'static, Result<http::Response<Body>, NetworkError>>;

    /// News about peers, from now on.
    fn events(&self) -> broadcast::Receiver<NetworkEvent>;

    /// All peers known: connected, nearby, or with an address. In order of their keys.
    fn peers(&self) -> Vec<PeerInfo>;

    /// Tells an address of a peer (a multiaddr, with or without `/p2p/...` at its end). Bounded for each peer; the oldest goes.
    fn add_address(&self, peer: ServerKey, address: String) -> Result<(), NetworkError>;

    /// The addresses at which peers can reach us, as multiaddrs.
    fn own_addresses(&self) -> Vec<String>;

    /// A hint that this peer is wanted: connect now if we are not connected and know an address.
    fn dial(&self, peer: ServerKey);

    /// The platform's network changed: connections that no longer work are replaced at once.
    fn network_changed(&self);

    /// The device is about to sleep: requests under way end, connections are closed so that peers know at once, and none is made
    /// until [`Network::resume`]. Waits until that is done (bounded by a few seconds). Peers may still connect.
    fn suspend(&self) -> BoxFuture<'static, ()> {
        futures::future::ready(()).boxed()
    }

    /// The device is awake: who was connected or is wanted is dialled at once.
    fn resume(&self) {
        self.network_changed();
    }

    /// Those whom we recognise, and who recognise us, where discovery shows itself to contacts only.
    fn set_contacts(&self, _contacts: Vec<ServerKey>) {}

    /// Our own signed record, with the addresses of this moment.
    fn own_record(&self) -> Option<SignedRecord> {
        None
    }

    /// The newest record known of a peer.
    fn record(&self, _peer: &ServerKey) -> Option<SignedRecord> {
        None
    }

    /// Takes a record that came some other way (an invite, a QR code); its addresses are used from now on.
    fn add_record(&self, bytes: &[u8]) -> Result<ServerKey, RecordError> {
        SignedRecord::verify(bytes).map(|signed| signed.record().key)
    }

    /// Counters since the start.
    fn stats(&self) -> StatsSnapshot {
        StatsSnapshot::default()
    }

    /// Says goodbye, closes all connections and listeners, and waits until that is done (bounded by a few seconds).
    fn shutdown(&self) -> BoxFuture<'static, ()>;
}

/// Why a request got no answer from a peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// No connection, and none could be made.
    #[error("cannot reach {peer}: {reason}")]
    Unreachable {
        /// Whom.
        peer: ServerKey,
        /// What was tried, and what to do.
        reason: String,
    },
    /// No answer in time. The peer may have acted on the request.
    #[error("{peer} did not answer in time; check that it is running and the network is up")]
    Timeout {
        /// Whom.
        peer: ServerKey,
    },
    /// The peer, or we, refuse to talk.
    #[error("{peer} refuses: {reason}")]
    Refused {
        /// Whom.
        peer: ServerKey,
        /// Why.
        reason: String,
    },
    /// Headers or queues pass their bound.
    #[error("the request to {peer} is too large: {reason}")]
    TooLarge {
        /// Whom.
        peer: ServerKey,
        /// What is too large.
        reason: String,
    },
    /// Too much is waiting for this peer already; later it may pass.
    #[error("too many requests are waiting for {peer}; try again when some are answered")]
    Busy {
        /// Whom.
        peer: ServerKey,
    },
    /// The connection broke under the request. The peer may have acted on it.
    #[error("the connection to {peer} broke before the answer was complete: {reason}")]
    Lost {
        /// Whom.
        peer: ServerKey,
        /// What happened.
        reason: String,
    },
    /// An address that cannot be used.
    #[error("the address {address:?} cannot be used: {reason}")]
    InvalidAddress {
        /// The address as given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Requests to oneself are a mistake of the caller.
    #[error("this is our own server: nothing goes over the network for it")]
    Ourselves,
    /// The network was shut down.
    #[error("the network is shut down")]
    Closed,
}

impl NetworkError {
    /// Whether the peer may have received the request and acted on it. If not, it surely has not.
    pub fn maybe_delivered(&self) -> bool {
        matches!(self, Self::Timeout { .. } | Self::Lost { .. })
    }
}

/// Why [`crate::Transport::send`] got no answer.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The name is no canonical server name.
    #[error("{name:?} is no usable server name: {error}")]
    Name {
        /// As given.
        name: String,
        /// What is wrong.
        #[source]
        error: NameError,
    },
    /// Nothing here carries requests to such a server.
    #[error("no way leads to {name}: {}", match .zoneless {
        true => "`p2p.enabled` is off, and a name that is a key without a gateway's zone is reached by peers alone",
        false => "this node has no connections over HTTPS",
    })]
    NoRoute {
        /// The server.
        name: String,
        /// Whether its name is a key without a zone.
        zoneless: bool,
    },
    /// A request to our own server.
    #[error("the request to {name} is to our own server: nothing goes over the network for it")]
    Ourselves {
        /// Our name.
        name: String,
    },
    /// The caller's time ran out before the response's head came. The server may have acted on the request.
    #[error("{name} did not answer within {} s", .after.as_secs_f32())]
    Timeout {
        /// The server.
        name: String,
        /// The caller's limit.
        after: Duration,
    },
    /// The network's own report.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// What happened on the way over HTTPS.
    #[error("{name} cannot be reached: {error}")]
    Https {
        /// The server.
        name: String,
        /// What happened.
        #[source]
        error: HttpsError,
    },
}

impl TransportError {
    /// Whether the server may have received the request and acted on it.
    pub fn maybe_delivered(&self) -> bool {
        match self {
            Self::Timeout { .. } => true,
            Self::Network(error) => error.maybe_delivered(),
            Self::Https { error, .. } => error.maybe_delivered(),
            Self::Name { .. } | Self::NoRoute { .. } | Self::Ourselves { .. } => false,
        }
    }
}
