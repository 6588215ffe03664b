//! TLS by rustls: whom we trust, and what we show.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// Why TLS cannot be set up, for the one who wrote the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(String);

/// How connections to others are secured: by the platform's root certificates, and those in these PEM files.
///
/// # Errors
/// A file cannot be used, or nothing at all is trusted.
pub fn client(extra_roots: &[PathBuf]) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    let of_platform = rustls_native_certs::load_native_certs();
    for error in &of_platform.errors {
        tracing::warn!(%error, "some of the platform's certificates cannot be read");
    }
    roots.add_parsable_certificates(of_platform.certs);
    for path in extra_roots {
        for certificate in certificates(path)? {
            roots.add(certificate).map_err(|error| wrong(path, &error))?;
        }
    }
    if roots.is_empty() {
        return Err(TlsError("no certificates are trusted here: install your system's `ca-certificates`".to_owned()));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError(error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// How a listener secures connections, with a certificate chain and its key in PEM files.
///
/// # Errors
/// A file cannot be read, or key and certificate are not of each other.
pub fn server(certificate: &Path, private_key: &Path) -> Result<ServerConfig, TlsError> {
    let chain = certificates(certificate)?;
    if chain.is_empty() {
        return Err(TlsError(format!("{}: there is no certificate in it", certificate.display())));
    }
    let key = PrivateKeyDer::from_pem_file(private_key).map_err(|error| wrong(private_key, &error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError(error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| {
            TlsError(format!("{} is no key for {}: {error}", private_key.display(), certificate.display()))
        })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_file_iter(path).map_err(|error| wrong(path, &error))?;
    found.map(|certificate| certificate.map_err(|error| wrong(path, &error))).collect()
}

fn wrong(path: &Path, error: &dyn fmt::Display) -> TlsError {
    TlsError(format!("{}: {error}", path.display()))
}
