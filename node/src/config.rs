//! Configuration: `kith.toml`, the environment and the command line, in rising order of precedence.
//!
//! Every key is optional. The keys, their types, defaults and explanations stand in one place, `config/keys.rs`; the
//! commented example (`kith.toml` in docs/configuration.md) is made from it, and unknown keys are answered with the
//! nearest valid one.

mod example;
mod keys;
mod load;
mod parse;
mod validate;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

pub use example::example;
pub use keys::{Appservices, Client, Federation, KEYS, Key, Kind, Limits, P2p, Registration};
pub use load::{ConfigError, Flags, Place};
pub use parse::{Contact, MdnsMode, ProfilesFor, Rate, RegistrationMode, Secret};

/// What the owner can set about a node. `Default` is a node that needs no configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The folder that holds the key, the tables, the media and the local socket.
    pub data_dir: PathBuf,
    /// An ordinary (DNS) server name; without one the node is named by its own key.
    pub server_name: Option<String>,
    /// The zone that follows the key in the server name, when a gateway serves this node.
    pub gateway_zone: Option<String>,
    /// Plain HTTP for clients on this device.
    pub client: Client,
    /// Who may make an account.
    pub registration: Registration,
    /// Federation over HTTPS.
    pub federation: Federation,
    /// Federation between peers.
    pub p2p: P2p,
    /// Bridges and bots.
    pub appservices: Appservices,
    /// Bounds on sizes and rates.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self::in_folder(default_data_dir(&|name| std::env::var_os(name)))
    }
}

impl Config {
    /// The defaults, in the given data folder.
    #[must_use]
    pub fn in_folder(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            server_name: None,
            gateway_zone: None,
            client: Client::default(),
            registration: Registration::default(),
            federation: Federation::default(),
            p2p: P2p::default(),
            appservices: Appservices::default(),
            limits: Limits::default(),
        }
    }

    /// The address given to clients: `client.public_base_url`, else that of the first client listener.
    /// Never ends in a slash.
    #[must_use]
    pub fn public_base_url(&self) -> String {
        self.public_base_url_at(&self.client.listen)
    }

    /// The same, for a node that really listens on `listening` (port 0 of the configuration is none to connect to).
    #[must_use]
    pub fn public_base_url_at(&self, listening: &[SocketAddr]) -> String {
        if let Some(url) = &self.client.public_base_url {
            return url.trim_end_matches('/').to_owned();
        }
        match listening.first() {
            // The name is a secure context for browsers, which an address of the network is not.
            Some(address) if address.ip().to_canonical().is_loopback() || address.ip().is_unspecified() => {
                format!("http://localhost:{}", address.port())
            }
            Some(address) => format!("http://{address}"),
            None => "http://localhost:8008".to_owned(),
        }
    }

    /// Whether clients can sign in by OAuth 2.0: `client.oauth`, else when the address that they are told is that of the owner's
    /// choice, or none but this device can connect.
    #[must_use]
    pub fn oauth(&self) -> bool {
        let client = &self.client;
        let only_here = || client.listen.iter().all(|address| address.ip().to_canonical().is_loopback());
        client.oauth.unwrap_or_else(|| client.public_base_url.is_some() || only_here())
    }

    /// The keys that are set although this version does nothing with them: it has no federation over HTTPS yet.
    #[must_use]
    pub fn without_effect(&self) -> Vec<&'static str> {
        let federation = &self.federation;
        [
            ("federation.listen", federation.listen.is_some()),
            ("federation.tls_certificate", federation.tls_certificate.is_some()),
            ("federation.tls_private_key", federation.tls_private_key.is_some()),
            ("federation.trusted_key_servers", !federation.trusted_key_servers.is_empty()),
        ]
        .into_iter()
        .filter_map(|(key, set)| set.then_some(key))
        .collect()
    }
}

/// The platform's folder for an application's data; `variable` looks up the environment.
pub(crate) fn default_data_dir(variable: &dyn Fn(&str) -> Option<OsString>) -> PathBuf {
    let folder = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || folder("HOME").or_else(std::env::home_dir);
    if cfg!(windows) {
        folder("LOCALAPPDATA").or_else(|| home().map(|home| home.join("AppData").join("Local")))
    } else if cfg!(target_os = "macos") {
        home().map(|home| home.join("Library").join("Application Support"))
    } else {
        folder("XDG_DATA_HOME").or_else(|| home().map(|home| home.join(".local").join("share")))
    }
    // A service without a home.
    .unwrap_or_else(|| PathBuf::from("/var/lib"))
    .join("kith")
}
