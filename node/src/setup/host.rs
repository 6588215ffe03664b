//! The check of `Host`: a request must be addressed to a name of this node.
//!
//! CORS has to be `*` for Matrix clients, so it does not protect a node on somebody's own device. What a hostile page
//! could still do is to point a DNS name of its own at this device (DNS rebinding) and act as if it were of our origin.
//! Its requests then carry that name, and are refused here.
//!
//! Addresses (not names) need no such care, since nobody can point them elsewhere: when a listener is open to all
//! interfaces, all of them are taken.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, Uri, header};
use ruma::ServerName;

use crate::config::Config;

/// The names and addresses under which a node may be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedHosts {
    names: BTreeSet<String>,
    addresses: BTreeSet<IpAddr>,
    every_address: bool,
}

impl AllowedHosts {
    /// From the configuration, and the addresses that are really listened on.
    #[must_use]
    pub fn new(config: &Config, listening: &[SocketAddr]) -> Self {
        let mut hosts = Self { names: BTreeSet::new(), addresses: BTreeSet::new(), every_address: false };
        for address in config.client.listen.iter().chain(listening) {
            let ip = address.ip().to_canonical();
            hosts.every_address |= ip.is_unspecified();
            hosts.addresses.insert(ip);
        }
        let base = config.public_base_url().parse::<Uri>().ok();
        if let Some(host) = base.as_ref().and_then(Uri::host) {
            hosts.add(host);
        }
        for host in config.client.allowed_hosts.iter().chain(config.server_name.as_ref()) {
            hosts.add(without_port(host));
        }
        hosts
    }

    fn add(&mut self, host: &str) {
        match address(host) {
            Some(ip) => _ = self.addresses.insert(ip),
            None => _ = self.names.insert(normal(host)),
        }
    }

    /// Whether a request addressed to `host` (with or without a port) is meant for this node.
    #[must_use]
    pub fn allows(&self, host: &str) -> bool {
        let host = without_port(host);
        if let Some(ip) = address(host) {
            return self.every_address || ip.is_loopback() || self.addresses.contains(&ip);
        }
        let name = normal(host);
        // RFC 6761: `localhost` and what ends in it is always this device.
        name == "localhost" || name.ends_with(".localhost") || self.names.contains(&name)
    }
}

/// The part before the port; brackets of IPv6 addresses stay.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|c| c.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) =>
        {
            name
        }
        _ => host,
    }
}

fn address(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// Names compare without case and without the dot of the root.
fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Which names a listener answers to.
#[derive(Debug)]
pub struct Guard {
    hosts: AllowedHosts,
    /// The node's full server name without a port, to which other servers address their requests.
    server: String,
}

/// Puts the check around the routes of the client listeners. Calls in process need none.
pub fn guard(router: axum::Router, config: &Config, server: &ServerName, listening: &[SocketAddr]) -> axum::Router {
    let guard = Guard { hosts: AllowedHosts::new(config, listening), server: normal(without_port(server.as_str())) };
    router.layer(axum::middleware::from_fn_with_state(Arc::new(guard), check_host))
}

/// A middleware (`axum::middleware::from_fn_with_state`) that refuses requests addressed to other names with 403.
///
/// Federation requests may be addressed to the node's server name besides, and to no other: what they are answered tells
/// who lives here. Requests without any host, which no browser makes, pass.
pub async fn check_host(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let federation = ["/_matrix/federation/", "/_matrix/key/"].iter().any(|start| path.starts_with(start));
    let allows = |host: &str| guard.hosts.allows(host) || (federation && normal(without_port(host)) == guard.server);
    if addressed_to_us(allows, request.uri(), request.headers()) {
        return next.run(request).await;
    }
    let message = "This node is not known by the name in this address. If the name is yours, add it to `allowed_hosts` \
                   in section [client] of kith.toml; otherwise open the node as http://localhost with its port.";
    if path.starts_with("/_") {
        let body = serde_json::json!({ "errcode": "M_FORBIDDEN", "error": message }).to_string();
        return (StatusCode::FORBIDDEN, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    }
    (StatusCode::FORBIDDEN, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], format!("{message}\n"))
        .into_response()
}

fn addressed_to_us(allows: impl Fn(&str) -> bool, uri: &Uri, headers: &HeaderMap) -> bool {
    // HTTP/2 has the authority in the URI, HTTP/1.1 in the header, a request through a proxy in both.
    let in_uri = uri.authority().is_none_or(|authority| allows(authority.as_str()));
    let mut written = headers.get_all(header::HOST).iter();
    let in_header = written.next().is_none_or(|host| host.to_str().is_ok_and(&allows));
    in_uri && in_header && written.next().is_none()
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::*;

    fn config() -> Config {
        let mut config = Config::in_folder("unused");
        config.client.public_base_url = Some("https://Chat.example.org/".into());
        config.client.allowed_hosts = vec!["node.lan".into(), "192.168.7.7".into()];
        config
    }

    #[test]
    fn only_names_of_this_node_are_allowed() {
        let hosts = AllowedHosts::new(&config(), &[]);
        for good in [
            "localhost",
            "localhost:8008",
            "LOCALHOST.",
            "app.localhost",
            "127.0.0.1:8008",
            "127.1.2.3",
            "[::1]:8008",
            "[::ffff:127.0.0.1]:8008",
            "chat.example.org",
            "CHAT.example.org:443",
            "node.lan:8008",
            "192.168.7.7:8008",
        ] {
            assert!(hosts.allows(good), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "evil.example:8008",
            "localhost.evil.example",
            "notlocalhost",
            "127.0.0.1.evil.example",
            "127.0.0.1.nip.io",
            "chat.example.org.evil.example",
            "xchat.example.org",
            "192.168.7.8",
            "8.8.8.8",
            "[2001:db8::1]",
            "localhost@evil.example",
            "evil.example#localhost",
        ] {
            assert!(!hosts.allows(bad), "{bad}");
        }
    }

    #[test]
    fn a_listener_on_all_interfaces_takes_every_address_but_no_other_name() {
        let hosts = AllowedHosts::new(&Config::in_folder("unused"), &["0.0.0.0:8008".parse().unwrap()]);
        assert!(hosts.allows("192.168.1.5:8008"));
        assert!(hosts.allows("[fd00::1]:8008"));
        assert!(!hosts.allows("evil.example"));
    }

    async fn status(uri: &str, hosts: &[&str]) -> StatusCode {
        let name = ruma::server_name!("key.mesh.example.org");
        let router = guard(Router::new().fallback(get(|| async { "in" })), &config(), name, &[]);
        let mut request = http::Request::get(uri);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap().status()
    }

    #[tokio::test]
    async fn a_rebound_name_gets_403_wherever_it_is_written() {
        assert_eq!(status("/", &["localhost:8008"]).await, StatusCode::OK);
        assert_eq!(status("/", &["evil.example:8008"]).await, StatusCode::FORBIDDEN);
        assert_eq!(status("/_matrix/client/v3/register", &["evil.example"]).await, StatusCode::FORBIDDEN);
        assert_eq!(status("http://evil.example/", &["localhost"]).await, StatusCode::FORBIDDEN);
        assert_eq!(status("http://localhost/", &["evil.example"]).await, StatusCode::FORBIDDEN);
        assert_eq!(status("/", &["localhost", "evil.example"]).await, StatusCode::FORBIDDEN);
        assert_eq!(status("http://localhost:8008/", &[]).await, StatusCode::OK);
    }

    #[tokio::test]
    async fn federation_requests_are_addressed_to_the_server_name_or_to_an_allowed_host() {
        for path in ["/_matrix/federation/v1/version", "/_matrix/key/v2/server"] {
            for good in ["key.mesh.example.org", "KEY.mesh.example.org.", "key.mesh.example.org:8448", "localhost:8008"]
            {
                assert_eq!(status(path, &[good]).await, StatusCode::OK, "{path} at {good}");
            }
            for rebound in ["evil.example", "other.mesh.example.org", "mesh.example.org", "key.mesh.example.org.evil"] {
                assert_eq!(status(path, &[rebound]).await, StatusCode::FORBIDDEN, "{path} at {rebound}");
            }
        }
        assert_eq!(status("/_matrix/client/versions", &["key.mesh.example.org"]).await, StatusCode::FORBIDDEN);
        assert_eq!(status("/_matrix/federationx", &["key.mesh.example.org"]).await, StatusCode::FORBIDDEN);
        assert_eq!(status("/x/../_matrix/key/", &["key.mesh.example.org"]).await, StatusCode::FORBIDDEN);
    }
}
