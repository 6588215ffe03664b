//! The certificate of the federation listeners, read again when it was renewed: authorities give them for weeks, and nobody restarts
//! a node for one.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kith_transport::https::tls::{self, TlsError};
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::acme::{Acme, Renewal};
use crate::{
    config::Config,
    platform::{Clock, Spawner, SpawnerExt as _},
};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(600);

/// What a listener shows to who connects.
#[derive(Debug)]
pub enum Shown {
    /// A certificate of the owner's.
    Files(Arc<Certificate>),
    /// One that an authority gives by itself.
    Acme(Acme),
}

impl Shown {
    /// What the configuration says is shown to other servers, and what keeps it new.
    ///
    /// # Errors
    /// The files that it names cannot be used.
    pub fn of(config: &Config) -> Result<(Option<Arc<Self>>, Option<Renewal>), TlsError> {
        let federation = &config.federation;
        if let (Some(chain), Some(key)) = (&federation.tls_certificate, &federation.tls_private_key) {
            let files = Certificate::open(chain.clone(), key.clone())?;
            return Ok((Some(Arc::new(Self::Files(Arc::new(files)))), None));
        }
        let Some(host) = config.federation_host().filter(|_| federation.acme) else { return Ok((None, None)) };
        let trust = tls::client(&federation.extra_roots)?;
        let contact = federation.acme_contact.as_deref();
        let (acme, renewal) = Acme::open(&host, &federation.acme_directory, contact, trust, &config.data_dir);
        Ok((Some(Arc::new(Self::Acme(acme))), Some(renewal)))
    }

    /// Secures a connection. None: it came for nothing else.
    ///
    /// # Errors
    /// The other side does not go on, or there is nothing yet that it could be shown.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<Option<TlsStream<TcpStream>>> {
        match self {
            Self::Files(certificate) => TlsAcceptor::from(certificate.current()).accept(stream).await.map(Some),
            Self::Acme(acme) => acme.accept(stream).await,
        }
    }
}

/// A certificate and its key, in files.
pub struct Certificate {
    files: Files,
    current: Mutex<Current>,
}

#[derive(Clone)]
struct Files {
    chain: PathBuf,
    key: PathBuf,
}

struct Current {
    config: Arc<ServerConfig>,
    contents: [Vec<u8>; 2],
}

impl Files {
    fn read(&self) -> Result<Current, TlsError> {
        let contents = [&self.chain, &self.key].map(|path| std::fs::read(path).unwrap_or_default());
        Ok(Current { config: Arc::new(tls::server(&self.chain, &self.key)?), contents })
    }
}

impl Certificate {
    /// Reads a certificate chain and its private key.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn open(chain: PathBuf, key: PathBuf) -> Result<Self, TlsError> {
        let files = Files { chain, key };
        let current = Mutex::new(files.read()?);
        Ok(Self { files, current })
    }

    /// What the next connection is shown.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).config.clone()
    }

    /// Takes what is in the files now. While they do not fit each other, what was there before counts on.
    fn renew(&self, read: Result<Current, TlsError>) {
        match read {
            Ok(read) => {
                let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
                if read.contents != current.contents {
                    tracing::info!("a new TLS certificate is used from now on");
                    *current = read;
                }
            }
            Err(error) => tracing::warn!(%error, "the TLS certificate could not be read again; the old one is used"),
        }
    }

    /// Looks for a new certificate from time to time, for as long as the node runs.
    pub async fn watch(self: Arc<Self>, clock: Arc<dyn Clock>, spawner: Arc<dyn Spawner>) {
        loop {
            clock.sleep(LOOK).await;
            let files = self.files.clone();
            let Ok(read) = spawner.blocking("read certificate", move || files.read()).await else { return };
            self.renew(read);
        }
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate").field("chain", &self.files.chain).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &std::path::Path, part: usize, name: &str) {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        if part != 1 {
            std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
        }
        std::fs::write(folder.join("key.pem"), made.key_pair.serialize_pem()).unwrap();
    }

    #[test]
    fn a_renewed_certificate_is_used_and_half_of_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), 2, "a.test");
        let certificate = Certificate::open(folder.path().join("cert.pem"), folder.path().join("key.pem")).unwrap();
        let first = certificate.current();
        let look = || certificate.renew(certificate.files.read());
        look();
        assert!(Arc::ptr_eq(&first, &certificate.current()), "nothing changed");
        write(folder.path(), 1, "b.test");
        look();
        assert!(Arc::ptr_eq(&first, &certificate.current()), "the new key does not fit the old certificate");
        write(folder.path(), 2, "b.test");
        look();
        assert!(!Arc::ptr_eq(&first, &certificate.current()));
    }
}
