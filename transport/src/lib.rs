//! How a request reaches another server.
//!
//! [`Transport::send`] takes a server name and an HTTP request and gives the response. A name that carries a key
//! ([`name`], DESIGN section 2) goes to the [`Network`], which knows peers by that key: [`libp2p`] between real
//! devices, [`memory`] between nodes of one process. [`record`] is what nodes tell about themselves. Any other name goes over
//! [`https`], as in ordinary federation.
//!
//! This crate knows nothing of Matrix rooms or storage: inbound requests go to the [`Router`] it is given.

pub mod https;
#[allow(
    clippy::disallowed_methods,
    reason = "QUIC cannot be simulated: below `Network` time and tasks are tokio's; the simulator works above it"
)]
pub mod libp2p;
pub mod memory;
pub mod name;
pub mod network;
pub mod record;
pub mod secret;
pub mod stats;
mod transport;

pub use https::address::is_public;
pub use https::{Https, HttpsConfig, HttpsError};
pub use name::{KithName, NameError, ServerKey, is_canonical};
pub use network::{
    Body, BodyError, BoxError, Class, Network, NetworkError, NetworkEvent, PeerInfo, RemotePeer, Router,
    TransportError, boxed, empty, full, read_body,
};
pub use record::{NodeRecord, RecordBook, RecordError, RecordStore, SavedRecord, Sequence, SignedRecord};
pub use secret::SecretKey;
pub use stats::{Stats, StatsSnapshot};
pub use transport::{Timer, TokioTimer, Transport};
