//! What the types of the keys cannot say: names, addresses, and keys that only make sense together.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{Config, RegistrationMode};

/// The longest server name that leaves room for a user name in 255 bytes of user id.
const MAX_NAME: usize = 230;

/// Length of the key in a server name made of one.
const KEY_LABEL: usize = 52;

type Problem = (&'static str, String);

pub(super) fn check(config: &Config) -> Result<(), Problem> {
    names(config)?;
    client(config)?;
    registration(config)?;
    federation(config)?;
    p2p(config)?;
    limits(config)
}

fn names(config: &Config) -> Result<(), Problem> {
    if let Some(name) = &config.server_name {
        if config.gateway_zone.is_some() {
            return Err((
                "gateway_zone",
                "a zone belongs to a name made of the node's key: set `server_name` or `gateway_zone`, not both".into(),
            ));
        }
        let label = name.split('.').next().unwrap_or_default();
        if label.len() == KEY_LABEL && label.bytes().all(|c| matches!(c, b'a'..=b'z' | b'2'..=b'7')) {
            return Err((
                "server_name",
                "looks like a name made of a key; such a name is never configured: it is made of this node's own key"
                    .into(),
            ));
        }
        if name.len() > MAX_NAME
            || ruma::ServerName::parse(name).is_err()
            || name.bytes().any(|c| c.is_ascii_uppercase())
        {
            return Err((
                "server_name",
                format!("`{name}` is not a server name: expected a DNS name in lower case such as \"example.org\""),
            ));
        }
    }
    if let Some(zone) = &config.gateway_zone
        && (!is_dns_name(zone) || zone.len() + KEY_LABEL + 1 > MAX_NAME)
    {
        return Err((
            "gateway_zone",
            format!("`{zone}` is not a zone: expected a DNS name in lower case such as \"mesh.example.org\""),
        ));
    }
    if config.data_dir.as_os_str().is_empty() {
        return Err(("data_dir", "must not be empty".into()));
    }
    Ok(())
}

fn client(config: &Config) -> Result<(), Problem> {
    if let Some(url) = &config.client.public_base_url {
        let valid = url.parse::<http::Uri>().ok().is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
                && uri.query().is_none()
                && !url.contains(['#', '@'])
        });
        if !valid {
            return Err((
                "client.public_base_url",
                format!("`{url}` is not a base address: expected one such as \"http://localhost:8008\""),
            ));
        }
    }
    for host in &config.client.allowed_hosts {
        if host.is_empty() || host.contains(['/', ' ', '@', '*']) || host.parse::<http::uri::Authority>().is_err() {
            return Err((
                "client.allowed_hosts",
                format!("`{host}` is not a host name: expected one such as \"node.lan\", without a scheme or path"),
            ));
        }
    }
    for entry in &config.client.support {
        if super::Contact::of(entry).is_none() {
            return Err((
                "client.support",
                format!("`{entry}` is neither an email address nor a Matrix ID nor the address of a web page"),
            ));
        }
    }
    no_duplicates("client.listen", &config.client.listen)
}

fn no_duplicates(key: &'static str, addresses: &[SocketAddr]) -> Result<(), Problem> {
    for (position, address) in addresses.iter().enumerate() {
        if address.port() != 0 && addresses.iter().take(position).any(|earlier| earlier == address) {
            return Err((key, format!("{address} is listed twice")));
        }
    }
    Ok(())
}

fn registration(config: &Config) -> Result<(), Problem> {
    let registration = &config.registration;
    let reachable = config.client.listen.iter().find(|address| !address.ip().to_canonical().is_loopback());
    if let (RegistrationMode::Open, false, Some(address)) = (registration.mode, registration.open_to_network, reachable)
    {
        return Err((
            "registration.mode",
            format!(
                "\"open\" lets everyone who can reach {address} make an account: \
                 set `registration.open_to_network = true` if that is meant, or listen on 127.0.0.1 only"
            ),
        ));
    }
    let valid_token = |token: &str| {
        (1..=64).contains(&token.len())
            && token.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'~' | b'-'))
    };
    if registration.tokens.iter().any(|token| !valid_token(token.expose())) {
        return Err(("registration.tokens", "a token has 1 to 64 characters of A-Za-z0-9._~-".into()));
    }
    if registration.mode == RegistrationMode::Token && registration.tokens.is_empty() {
        return Err(("registration.mode", "\"token\" needs at least one token in `registration.tokens`".into()));
    }
    if registration.shared_secret.as_ref().is_some_and(|secret| secret.expose().is_empty()) {
        return Err(("registration.shared_secret", "must not be empty; leave the key away instead".into()));
    }
    Ok(())
}

fn federation(config: &Config) -> Result<(), Problem> {
    let federation = &config.federation;
    match (&federation.tls_certificate, &federation.tls_private_key) {
        (Some(_), None) => {
            return Err(("federation.tls_certificate", "needs `federation.tls_private_key` too".into()));
        }
        (None, Some(_)) => {
            return Err(("federation.tls_private_key", "needs `federation.tls_certificate` too".into()));
        }
        (Some(_), Some(_)) if federation.acme => {
            return Err((
                "federation.acme",
                "there is a certificate already: leave `federation.tls_certificate` away, or this".into(),
            ));
        }
        (None, None) if federation.acme => acme(config)?,
        (None, None) if federation.listen.as_ref().is_some_and(|listen| !listen.is_empty()) => {
            return Err((
                "federation.listen",
                "HTTPS needs `federation.tls_certificate` and `federation.tls_private_key`, or `federation.acme`; \
                 behind a proxy that has them, forward to `client.listen` instead"
                    .into(),
            ));
        }
        _ => {}
    }
    for key in &federation.old_verify_keys {
        if super::OldKey::parse(key).is_none() {
            let is = format!("`{key}` is not a key ID, a key in base64 and a time in milliseconds");
            return Err(("federation.old_verify_keys", is));
        }
    }
    for server in &federation.trusted_key_servers {
        if ruma::ServerName::parse(server).is_err() {
            return Err(("federation.trusted_key_servers", format!("`{server}` is not a server name")));
        }
    }
    no_duplicates("federation.listen", federation.listen.as_deref().unwrap_or_default())
}

/// Certificates are for DNS names, and an authority is asked over TLS.
fn acme(config: &Config) -> Result<(), Problem> {
    let host = config.federation_host();
    let host = host.as_deref().and_then(kith_transport::https::host::parse);
    if !matches!(host, Some((kith_transport::https::host::Host::Name(_), _))) {
        return Err((
            "federation.acme",
            "needs a `server_name` that is a DNS name, to which the certificate is given".into(),
        ));
    }
    let directory: Option<http::Uri> = config.federation.acme_directory.parse().ok();
    if !directory.is_some_and(|url| url.scheme_str() == Some("https") && url.host().is_some()) {
        return Err(("federation.acme_directory", "must be an `https` URL".into()));
    }
    match &config.federation.acme_contact {
        Some(contact) if !contact.contains('@') || contact.contains(|c: char| c.is_whitespace() || c.is_control()) => {
            Err(("federation.acme_contact", "must be an email address".into()))
        }
        _ => Ok(()),
    }
}

fn p2p(config: &Config) -> Result<(), Problem> {
    for address in &config.p2p.listen {
        if !is_listen_multiaddr(address) {
            return Err((
                "p2p.listen",
                format!(
                    "`{address}` is not an address to listen on: expected one such as \
                     \"/ip4/0.0.0.0/udp/0/quic-v1\" or \"/ip4/0.0.0.0/tcp/4001\""
                ),
            ));
        }
    }
    for address in &config.p2p.bootstrap {
        let valid = address.rsplit_once("/p2p/").is_some_and(|(reach, peer)| {
            reach.starts_with('/') && peer.len() > 40 && peer.bytes().all(|c| c.is_ascii_alphanumeric())
        });
        if !valid {
            return Err((
                "p2p.bootstrap",
                format!(
                    "`{address}` is not a peer's address: expected one such as \"/ip4/192.0.2.1/udp/4001/quic-v1/p2p/12D3Koo...\""
                ),
            ));
        }
    }
    if config.p2p.enabled && config.p2p.max_peers == 0 {
        return Err(("p2p.max_peers", "must be at least 1; to have no peers set `p2p.enabled = false`".into()));
    }
    Ok(())
}

fn limits(config: &Config) -> Result<(), Problem> {
    // A PDU has up to 64 KiB, a transaction 50 of them and 100 EDUs.
    const MIN_BODY: u64 = 128 << 10;
    const MIN_TRANSACTION: u64 = 4 << 20;
    let limits = &config.limits;
    for (key, size, least) in [
        ("limits.client_body_size", limits.client_body_size, MIN_BODY),
        ("limits.federation_body_size", limits.federation_body_size, MIN_TRANSACTION),
        ("limits.store_cache_size", limits.store_cache_size, 1 << 20),
    ] {
        if size < least {
            return Err((key, format!("{size} bytes are too few for Matrix to work: at least {} KiB", least >> 10)));
        }
    }
    Ok(())
}

/// Lower-case DNS name of at least two labels.
fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.contains('.') && name.split('.').all(label) && name.parse::<Ipv4Addr>().is_err()
}

fn is_listen_multiaddr(address: &str) -> bool {
    let parts: Vec<&str> = address.split('/').collect();
    let (family, ip, rest) = match parts.as_slice() {
        ["", family, ip, rest @ ..] => (*family, *ip, rest),
        _ => return false,
    };
    let ip = matches!((family, ip.parse::<IpAddr>()), ("ip4", Ok(IpAddr::V4(_))) | ("ip6", Ok(IpAddr::V6(_))));
    let port = |port: &str| port.parse::<u16>().is_ok();
    ip && matches!(rest, ["udp", number, "quic-v1"] | ["tcp", number] if port(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(change: impl FnOnce(&mut Config)) -> Option<&'static str> {
        let mut config = Config::in_folder("/data");
        change(&mut config);
        check(&config).err().map(|(key, _)| key)
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(problem(|_| {}), None);
    }

    #[test]
    fn open_registration_on_a_reachable_listener_needs_a_second_key() {
        let open = |listen: &str, second: bool| {
            problem(|config| {
                config.registration.mode = RegistrationMode::Open;
                config.registration.open_to_network = second;
                config.client.listen = vec![listen.parse().unwrap()];
            })
        };
        assert_eq!(open("127.0.0.1:8008", false), None);
        assert_eq!(open("[::1]:8008", false), None);
        assert_eq!(open("0.0.0.0:8008", false), Some("registration.mode"));
        assert_eq!(open("[::]:8008", false), Some("registration.mode"));
        assert_eq!(open("192.168.1.2:8008", true), None);
    }

    #[test]
    fn an_old_key_is_an_id_a_key_and_a_time() {
        let old = |key: &str| problem(|config| config.federation.old_verify_keys = vec![key.to_owned()]);
        let key = "Noi6WqcDj0QmPxCNQqgezwTlBKrfqehY1u2FyWP9uYw";
        assert_eq!(old(&format!("ed25519:a_Xy12 {key} 1700000000000")), None);
        for wrong in [
            format!("a_Xy12 {key} 1700000000000"),
            format!("ed25519: {key} 1700000000000"),
            format!("ed25519:0 {key} 1700000000000"),
            format!("ed25519:a {key}"),
            format!("ed25519:a {key} 1.5"),
            format!("ed25519:a {key} 1 2"),
            "ed25519:a Noi6 1700000000000".to_owned(),
            String::new(),
        ] {
            assert_eq!(old(&wrong), Some("federation.old_verify_keys"), "{wrong}");
        }
    }

    #[test]
    fn an_authority_gives_certificates_for_dns_names_alone_and_is_asked_over_tls() {
        let acme = |name: Option<&str>, change: fn(&mut Config)| {
            let name = name.map(str::to_owned);
            problem(|config| {
                config.server_name = name;
                config.federation.acme = true;
                change(config);
            })
        };
        assert_eq!(acme(Some("example.org"), |_| {}), None);
        assert_eq!(
            acme(Some("example.org"), |config| config.federation.acme_contact = Some("me@example.org".into())),
            None
        );
        for name in [None, Some("192.0.2.1"), Some("[2001:db8::1]")] {
            assert_eq!(acme(name, |_| {}), Some("federation.acme"), "{name:?}");
        }
        for directory in ["http://acme.test/dir", "acme.test", ""] {
            let problem = problem(|config| {
                config.server_name = Some("example.org".into());
                config.federation.acme = true;
                config.federation.acme_directory = directory.to_owned();
            });
            assert_eq!(problem, Some("federation.acme_directory"), "{directory}");
        }
        for contact in ["", "nobody", "a b@c", "a@b\n"] {
            let problem = problem(|config| {
                config.server_name = Some("example.org".into());
                config.federation.acme = true;
                config.federation.acme_contact = Some(contact.to_owned());
            });
            assert_eq!(problem, Some("federation.acme_contact"), "{contact:?}");
        }
        let both = acme(Some("example.org"), |config| {
            config.federation.tls_certificate = Some("cert.pem".into());
            config.federation.tls_private_key = Some("key.pem".into());
        });
        assert_eq!(both, Some("federation.acme"));
    }

    #[test]
    fn names_that_matrix_would_refuse_are_refused() {
        for name in ["", "Example.org", "exa mple.org", "http://example.org", &"a".repeat(300)] {
            assert_eq!(problem(|config| config.server_name = Some(name.to_owned())), Some("server_name"), "{name}");
        }
        let key = "a".repeat(52);
        assert_eq!(problem(|config| config.server_name = Some(key)), Some("server_name"));
        assert_eq!(problem(|config| config.server_name = Some("localhost:8448".into())), None);
        for zone in ["", "example", ".example.org", "example.org.", "Mesh.example.org", "-a.example.org", "1.2.3.4"] {
            assert_eq!(problem(|config| config.gateway_zone = Some(zone.to_owned())), Some("gateway_zone"), "{zone}");
        }
        assert_eq!(problem(|config| config.gateway_zone = Some("mesh.example.org".into())), None);
        assert_eq!(
            problem(|config| {
                config.gateway_zone = Some("mesh.example.org".into());
                config.server_name = Some("example.org".into());
            }),
            Some("gateway_zone")
        );
    }

    #[test]
    fn https_needs_certificate_and_key_together() {
        assert_eq!(
            problem(|config| config.federation.listen = Some(vec!["0.0.0.0:8448".parse().unwrap()])),
            Some("federation.listen")
        );
        assert_eq!(
            problem(|config| config.federation.tls_certificate = Some("cert.pem".into())),
            Some("federation.tls_certificate")
        );
        assert_eq!(
            problem(|config| config.federation.tls_private_key = Some("key.pem".into())),
            Some("federation.tls_private_key")
        );
    }

    #[test]
    fn addresses_and_hosts_are_checked() {
        for bad in ["0.0.0.0:4001", "/ip4/::/udp/0/quic-v1", "/ip4/1.2.3.4/udp/0/quic", "/ip4/1.2.3.4/tcp/99999"] {
            assert_eq!(problem(|config| config.p2p.listen = vec![bad.into()]), Some("p2p.listen"), "{bad}");
        }
        assert_eq!(problem(|config| config.p2p.listen = vec!["/ip6/::1/tcp/0".into()]), None);
        assert_eq!(problem(|config| config.p2p.bootstrap = vec!["/ip4/1.2.3.4/tcp/1".into()]), Some("p2p.bootstrap"));
        for url in ["localhost:8008", "ftp://a", "http://", "http://a/?x", "http://a/#x", "http://u@a"] {
            assert_eq!(
                problem(|config| config.client.public_base_url = Some(url.into())),
                Some("client.public_base_url"),
                "{url}"
            );
        }
        for entry in ["", "help", "@help", "https://", "a b@example.org"] {
            assert_eq!(problem(|config| config.client.support = vec![entry.into()]), Some("client.support"), "{entry}");
        }
        let support = ["help@example.org", "@help:example.org", "https://example.org/help"].map(str::to_owned);
        assert_eq!(problem(|config| config.client.support = support.to_vec()), None);
        for host in ["", "http://a", "a/b", "*"] {
            assert_eq!(
                problem(|config| config.client.allowed_hosts = vec![host.into()]),
                Some("client.allowed_hosts"),
                "{host}"
            );
        }
    }
}
