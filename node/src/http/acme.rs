//! A certificate that an authority gives by itself: ACME (RFC 8555) with the challenge TLS-ALPN-01 (RFC 8737), by `rustls-acme`.
//!
//! The authority connects to port 443 of the name, and is shown there that whoever asks for the certificate answers for it. Account and
//! certificate are kept in the data folder, which is its owner's alone. Renewal begins when a third of the time is left. The library's
//! time is the system's: authorities have no other.

use std::{io, path::Path, sync::Arc};

use futures::StreamExt as _;
use rustls::{ClientConfig, ServerConfig};
use rustls_acme::{AcmeConfig, AcmeState, EventError, EventOk, caches::DirCache, is_tls_alpn_challenge};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

/// Where account and certificate lie, in the data folder.
const FOLDER: &str = "acme";

/// What connections are shown, by what they ask for.
pub struct Acme {
    ordinary: Arc<ServerConfig>,
    challenge: Arc<ServerConfig>,
}

impl std::fmt::Debug for Acme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acme").finish_non_exhaustive()
    }
}

/// Gets a certificate for a name, and renews it, for as long as it runs.
pub struct Renewal(AcmeState<io::Error>);

impl Acme {
    /// For one DNS name, of the authority whose directory is at a URL. `contact` is an email address it may write to;
    /// `trust` says whose certificates the authority itself may have.
    pub fn open(
        name: &str,
        directory: &str,
        contact: Option<&str>,
        trust: ClientConfig,
        data: &Path,
    ) -> (Self, Renewal) {
        let state = AcmeConfig::new_with_client_config([name], Arc::new(trust))
            .directory(directory)
            .contact(contact.map(|address| format!("mailto:{address}")))
            .cache(DirCache::new(data.join(FOLDER)))
            .state();
        let mut ordinary = ServerConfig::clone(&state.default_rustls_config());
        ordinary.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        (Self { ordinary: Arc::new(ordinary), challenge: state.challenge_rustls_config() }, Renewal(state))
    }

    /// Secures a connection. None: it was the authority, and has what it came for.
    ///
    /// # Errors
    /// The other side does not go on, or there is no certificate yet.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<Option<TlsStream<TcpStream>>> {
        let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream).await?;
        if is_tls_alpn_challenge(&start.client_hello()) {
            start.into_stream(self.challenge.clone()).await?.shutdown().await?;
            return Ok(None);
        }
        start.into_stream(self.ordinary.clone()).await.map(Some)
    }
}

impl Renewal {
    /// Runs until it is dropped.
    pub async fn run(mut self) {
        while let Some(event) = self.0.next().await {
            match event {
                Ok(EventOk::DeployedNewCert) => tracing::info!("the authority gave a new TLS certificate"),
                Ok(EventOk::DeployedCachedCert | EventOk::CertCacheStore | EventOk::AccountCacheStore) => {}
                Err(error @ EventError::Order(_)) => {
                    tracing::warn!(%error, "the authority gave no TLS certificate; it is asked again later. It must reach this node at port 443 of the name");
                }
                Err(error) => tracing::warn!(%error, "what belongs to the TLS certificate could not be kept or read"),
            }
        }
    }
}
