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
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use kith_transport::https::host::{FEDERATION_PORT, Host};

pub use example::example;
pub use keys::{Appservices, Client, Federation, KEYS, Key, Kind, Limits, P2p, Registration};
pub use load::{ConfigError, Flags, Place};
pub use parse::{Contact, MdnsMode, OldKey, ProfilesFor, Rate, RegistrationMode, Secret};

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

    /// Where to listen for other servers, with TLS: as configured, else port 8448 when there is a certificate, or 443 where an authority
    /// gives one by itself.
    #[must_use]
    pub fn federation_listen(&self) -> Vec<SocketAddr> {
        let federation = &self.federation;
        let port = match &federation.tls_certificate {
            Some(_) => FEDERATION_PORT,
            None if federation.acme => ACME_PORT,
            None => return federation.listen.clone().unwrap_or_default(),
        };
        let everywhere = || vec![SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))];
        federation.listen.clone().unwrap_or_else(everywhere)
    }

    /// What `/.well-known/matrix/server` tells other servers: host and port where this one is reached, for a node with a DNS name.
    /// The host is that of `client.public_base_url` if it is an `https` address, since a proxy with a certificate stands there, else
    /// that of the server name; the port that of the first of `listening` with TLS, else the proxy's. None: nothing leads here.
    #[must_use]
    pub fn delegation(&self, listening: &[SocketAddr]) -> Option<String> {
        self.server_name.as_deref()?;
        match (listening.first(), self.proxy()) {
            (Some(listener), _) => Some(format!("{}:{}", self.federation_host()?, listener.port())),
            (None, Some((host, port))) => Some(format!("{host}:{port}")),
            (None, None) => None,
        }
    }

    /// The host at which other servers reach this one, and which its certificate has to name: that of `client.public_base_url` if it is an
    /// `https` address, else that of the server name, if it is a DNS name.
    #[must_use]
    pub fn federation_host(&self) -> Option<String> {
        let name = self.server_name.as_deref()?;
        let own = || {
            let (host, _) = kith_transport::https::host::parse(name)?;
            Some(match host {
                Host::Ip(IpAddr::V6(address)) => format!("[{address}]"),
                host => host.to_string(),
            })
        };
        self.proxy().map_or_else(own, |(host, _)| Some(host))
    }

    /// Host and port of `client.public_base_url`, if it is an `https` address.
    fn proxy(&self) -> Option<(String, u16)> {
        let url: http::Uri = self.client.public_base_url.as_deref()?.parse().ok()?;
        (url.scheme_str() == Some("https")).then_some(())?;
        Some((url.host()?.to_owned(), url.port_u16().unwrap_or(443)))
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

/// Where an authority comes to see that a name is ours (RFC 8737).
const ACME_PORT: u16 = 443;

#[cfg(test)]
mod delegation {
    use super::*;

    #[test]
    fn other_servers_are_led_to_the_tls_listener_or_to_the_proxy() {
        let listener: SocketAddr = "0.0.0.0:8448".parse().unwrap();
        for (name, public, listening, told) in [
            (None, Some("https://matrix.example.org"), true, None),
            (Some("example.org"), None, false, None),
            (Some("example.org"), Some("http://example.org"), false, None),
            (Some("example.org"), None, true, Some("example.org:8448")),
            (Some("example.org:1"), None, true, Some("example.org:8448")),
            (Some("[::1]:1"), None, true, Some("[::1]:8448")),
            (Some("example.org"), Some("https://matrix.example.org/"), true, Some("matrix.example.org:8448")),
            (Some("example.org"), Some("https://matrix.example.org/"), false, Some("matrix.example.org:443")),
            (Some("example.org"), Some("https://matrix.example.org:8443"), false, Some("matrix.example.org:8443")),
        ] {
            let mut config = Config::in_folder("/data");
            config.server_name = name.map(str::to_owned);
            config.client.public_base_url = public.map(str::to_owned);
            let listening: &[SocketAddr] = if listening { &[listener] } else { &[] };
            assert_eq!(config.delegation(listening).as_deref(), told, "{name:?} {public:?}");
        }
    }

    #[test]
    fn a_certificate_alone_opens_the_port_of_federation() {
        let mut config = Config::in_folder("/data");
        assert!(config.federation_listen().is_empty());
        config.federation.tls_certificate = Some("cert.pem".into());
        assert_eq!(config.federation_listen(), ["0.0.0.0:8448".parse().unwrap()]);
        config.federation.listen = Some(Vec::new());
        assert!(config.federation_listen().is_empty());
        config.federation.tls_certificate = None;
        config.federation.listen = None;
        config.federation.acme = true;
        assert_eq!(config.federation_listen(), ["0.0.0.0:443".parse().unwrap()]);
    }
}
