//! Ordinary federation: requests over HTTPS to servers that DNS knows.
//!
//! [`discovery`] finds the server of a name as the specification says: address, port, well-known document ([`well_known`]), SRV
//! records ([`srv`]), port 8448. `connect` looks the addresses up, refuses private ones, and has the server prove by its certificate
//! that it is the one; `pool` keeps connections for a while. What a hostile server may take is bounded: the length of its
//! document, redirects, heads of answers, the time for each step, the number of connections. (Bodies of answers are for the caller to
//! bound: [`crate::read_body`].)
//!
//! Time, randomness and tasks are given; sockets are tokio's. Nothing of this is in the simulator.

pub mod address;
mod connect;
pub mod discovery;
mod dns;
pub mod host;
mod pool;
pub mod srv;
pub mod tls;
pub mod well_known;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use futures::future::BoxFuture;
use http::HeaderValue;

use self::connect::{Connector, Offer};
use self::discovery::{Discovery, Resolve};
use self::dns::Dns;
use self::pool::Pool;
use self::tls::TlsError;
use crate::stats::Counter;
use crate::{Body, Class, Timer};

/// What requests say of the program that sends them.
const USER_AGENT: &str = concat!("kith/", env!("CARGO_PKG_VERSION"));

/// Draws a number below the given one.
pub type Below = Arc<dyn Fn(u64) -> u64 + Send + Sync>;

/// Starts a task.
pub type Spawn = Arc<dyn Fn(BoxFuture<'static, ()>) + Send + Sync>;

/// Whom to trust and what to reach.
#[derive(Clone, Debug, Default)]
pub struct HttpsConfig {
    /// Certificates in PEM files, trusted beside the platform's.
    pub extra_roots: Vec<PathBuf>,
    /// Whether addresses of this device and of local networks may be connected to.
    pub allow_private_addresses: bool,
}

/// Counters since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) requests: Counter,
    pub(crate) failures: Counter,
    pub(crate) connections: Counter,
    pub(crate) private_addresses: Counter,
    pub(crate) without_well_known: Counter,
    pub(crate) invalid_well_known: Counter,
}

/// Sends requests over HTTPS. Cheap to clone.
#[derive(Clone)]
pub struct Https {
    inner: Arc<Inner>,
}

struct Inner {
    dns: Option<Arc<Dns>>,
    discovery: Discovery,
    connector: Arc<Connector>,
    pool: Arc<Pool>,
    counters: Arc<Counters>,
}

impl Https {
    /// A client over real sockets and the system's DNS.
    pub fn new(config: HttpsConfig, timer: Arc<dyn Timer>, spawn: Spawn, below: Below) -> Self {
        let dns = Arc::new(Dns::new(timer.clone()));
        Self::make(config, timer, spawn, below, dns.clone(), Some(dns))
    }

    /// The same over another DNS.
    #[cfg(test)]
    pub(crate) fn with(
        config: HttpsConfig,
        timer: Arc<dyn Timer>,
        spawn: Spawn,
        below: Below,
        resolve: Arc<dyn Resolve>,
    ) -> Self {
        Self::make(config, timer, spawn, below, resolve, None)
    }

    fn make(
        config: HttpsConfig,
        timer: Arc<dyn Timer>,
        spawn: Spawn,
        below: Below,
        resolve: Arc<dyn Resolve>,
        dns: Option<Arc<Dns>>,
    ) -> Self {
        let counters = Arc::new(Counters::default());
        let HttpsConfig { extra_roots, allow_private_addresses } = config;
        let connector =
            Connector::new(resolve.clone(), timer.clone(), counters.clone(), extra_roots, allow_private_addresses);
        let connector = Arc::new(connector);
        let discovery = Discovery::new(resolve, connector.clone(), timer.clone(), below, counters.clone());
        let pool = Pool::new(timer, spawn);
        Self { inner: Arc::new(Inner { dns, discovery, connector, pool, counters }) }
    }

    /// Sends a request to the server of that name and gives the response once its head is there; the body streams. Of the
    /// request's URI the path and query count. Dropping the future gives the request up.
    pub fn request(
        &self,
        name: &str,
        class: Class,
        request: http::Request<Body>,
    ) -> BoxFuture<'static, Result<http::Response<Body>, HttpsError>> {
        let (inner, name) = (self.inner.clone(), name.to_owned());
        Box::pin(async move {
            inner.counters.requests.add();
            let answer = inner.exchange(name, class, request).await;
            if answer.is_err() {
                inner.counters.failures.add();
            }
            answer
        })
    }

    /// The device is in another network: what did not answer may answer there, and open connections lead nowhere.
    pub fn network_changed(&self) {
        if let Some(dns) = &self.inner.dns {
            dns.network_changed();
        }
        self.inner.discovery.network_changed();
        self.inner.pool.clear();
    }

    /// Name and value of each counter.
    pub fn stats(&self) -> Vec<(&'static str, u64)> {
        let counters = &self.inner.counters;
        vec![
            ("https_requests_out", counters.requests.get()),
            ("https_requests_failed", counters.failures.get()),
            ("https_connections", counters.connections.get()),
            ("https_private_addresses", counters.private_addresses.get()),
            ("https_without_well_known", counters.without_well_known.get()),
            ("https_invalid_well_known", counters.invalid_well_known.get()),
        ]
    }
}

impl Inner {
    async fn exchange(
        &self,
        name: String,
        class: Class,
        mut request: http::Request<Body>,
    ) -> Result<http::Response<Body>, HttpsError> {
        let key = (name, class);
        while let Some(taken) = self.pool.take(&key) {
            match self.pool.send(&key, taken, request).await {
                Ok(response) => return Ok(response),
                // The server closed it while nobody used it: nothing was sent.
                Err((_, Some(unsent))) => request = unsent,
                Err((error, None)) => return Err(HttpsError::Lost(error)),
            }
        }
        let route = self.discovery.route(&key.0).await?;
        let host = HeaderValue::from_str(&route.host_header).map_err(|_| HttpsError::Name)?;
        let place = self.pool.place().await?;
        let stream = self.connector.connect(&route, Offer::OneAndTwo).await?;
        let taken = self.pool.begin(&key, stream, host, place).await?;
        match self.pool.send(&key, taken, request).await {
            Ok(response) => Ok(response),
            Err((error, Some(_))) => Err(HttpsError::Unsent(error)),
            Err((error, None)) => Err(HttpsError::Lost(error)),
        }
    }
}

impl fmt::Debug for Https {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Https").finish_non_exhaustive()
    }
}

/// Why a request over HTTPS brought no response.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// The name, or the one that its owner delegates to, is no server name.
    #[error("that is no server name")]
    Name,
    /// Its SRV records name no server.
    #[error("its SRV records name no server")]
    NotOffered,
    /// The host's name could not be looked up.
    #[error("{host} cannot be looked up: {reason}")]
    Resolve {
        /// The host.
        host: String,
        /// What DNS said.
        reason: String,
    },
    /// The host has no address that may be connected to.
    #[error("{host} has only private addresses; `federation.allow_private_addresses` lets them be reached")]
    Private {
        /// The host.
        host: String,
    },
    /// Nobody answers there.
    #[error("no connection to {address}: {reason}")]
    Connect {
        /// The address tried last.
        address: SocketAddr,
        /// What happened.
        reason: String,
    },
    /// The host does not prove to be the server.
    #[error("no secure connection to {host}: {reason}")]
    Tls {
        /// The host.
        host: String,
        /// What is wrong.
        reason: String,
    },
    /// TLS cannot be used here.
    #[error("TLS cannot be used: {0}")]
    Setup(#[from] TlsError),
    /// The connection ended before the request was sent.
    #[error("the connection ended at once: {0}")]
    Unsent(#[source] hyper::Error),
    /// The conversation broke off. The server may have acted on the request.
    #[error("the connection broke before the answer was there: {0}")]
    Lost(#[source] hyper::Error),
    /// The node stops.
    #[error("no more requests are sent")]
    Closed,
}

impl HttpsError {
    /// Whether the server may have received the request and acted on it.
    pub fn maybe_delivered(&self) -> bool {
        matches!(self, Self::Lost(_))
    }
}

#[cfg(test)]
mod tests;
