//! What a node takes from the outside world: time, randomness, tasks, storage and a network.
//!
//! A node never reaches for these itself (DESIGN section 6): everything comes in through [`Platform`], so the same
//! code runs in the `kith` binary, inside an app and in the simulator, several times in one process, without globals.

mod clock;
mod inline;
mod manual_clock;
mod rng;
mod spawner;

use std::fmt;
use std::sync::Arc;

use kith_transport::{Network, Router, SecretKey};

use crate::web::Web;

pub use kith_room::local::Citing;

pub use clock::{Clock, Elapsed, SystemClock, Told, timeout};
pub use inline::{Executor, InlineSpawner};
use kith_store::{MemoryBackend, Options, blobs::BlobStore};
pub use manual_clock::ManualClock;
pub use rng::Rng;
pub use spawner::{BlockingError, Spawner, SpawnerExt, TaskHandle, TokioSpawner};

/// What one node is given to live on. Cheap to clone; every clone is the same node's.
#[derive(Clone)]
pub struct Platform {
    /// Wall time, monotonic time and timers.
    pub clock: Arc<dyn Clock>,
    /// The node's only source of randomness.
    pub rng: Rng,
    /// Starts and stops the node's tasks.
    pub spawner: Arc<dyn Spawner>,
    /// Where tables and media are kept.
    pub storage: Storage,
    /// How other nodes are reached.
    pub network: NetworkChoice,
    /// How push gateways, application services, web pages, and servers that DNS knows are reached.
    pub web: WebChoice,
    /// Whether the configured HTTP listeners are opened; off when requests only enter in process.
    pub listeners: bool,
    /// The server key, where the platform keeps it itself; else it is a file in the data folder.
    pub secret: Option<SecretKey>,
    /// Which forward extremities the node's events follow: for experiments.
    pub citing: Citing,
}

/// Where a node keeps its tables and media.
#[derive(Clone, Default)]
pub enum Storage {
    /// In files in the configuration's data folder.
    #[default]
    Folder,
    /// In what the platform gives: tests and the simulator give memory that can crash.
    Given {
        /// The disk of the tables.
        backend: MemoryBackend,
        /// How the store works on it.
        options: Arc<dyn Fn() -> Options + Send + Sync>,
        /// The media.
        blobs: Arc<dyn BlobStore>,
    },
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Folder => "Folder",
            Self::Given { .. } => "Given",
        })
    }
}

/// How a node reaches its peers.
#[derive(Clone, Default)]
pub enum NetworkChoice {
    /// libp2p, as the `[p2p]` section of the configuration says (none if it is not enabled).
    #[default]
    Libp2p,
    /// What this function makes: tests and simulations use `kith_transport::memory`.
    Given(NetworkFactory),
    /// No peers at all.
    None,
}

/// Makes a node's network from its key and the router for inbound requests.
pub type NetworkFactory = Arc<dyn Fn(&SecretKey, Router) -> Arc<dyn Network> + Send + Sync>;

impl fmt::Debug for NetworkChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Libp2p => "Libp2p",
            Self::Given(_) => "Given",
            Self::None => "None",
        })
    }
}

/// How a node reaches the web, and servers that DNS knows.
#[derive(Clone, Default)]
pub enum WebChoice {
    /// By connections of its own.
    #[default]
    Real,
    /// The web through this; other servers not at all.
    Given(Arc<dyn Web>),
    /// Not at all.
    None,
}

impl fmt::Debug for WebChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Real => "Real",
            Self::Given(_) => "Given",
            Self::None => "None",
        })
    }
}

impl Platform {
    /// The real world: the system's clock and randomness, tasks on the tokio runtime this is called in, files in the
    /// data folder, libp2p, and HTTP listeners.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn system() -> std::io::Result<Self> {
        Ok(Self {
            clock: Arc::new(SystemClock::new()),
            rng: Rng::from_os()?,
            spawner: Arc::new(TokioSpawner::current()),
            storage: Storage::Folder,
            network: NetworkChoice::Libp2p,
            web: WebChoice::Real,
            listeners: true,
            secret: None,
            citing: Citing::default(),
        })
    }
}

impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Platform")
            .field("storage", &self.storage)
            .field("network", &self.network)
            .field("web", &self.web)
            .field("listeners", &self.listeners)
            .finish_non_exhaustive()
    }
}
