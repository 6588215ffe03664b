//! What is looked at on the network: ports, interfaces, who is near.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use kith_transport::https::tls::{self, TlsError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::super::port;
use super::{Finding, Running};
use crate::admin::Peer;
use crate::config::{Config, MdnsMode};
use crate::p2p;

/// The group of multicast DNS (RFC 6762).
const MDNS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);

/// How long a listener of this device may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether the addresses for clients, servers and peers are free, for a node that does not run.
pub(super) fn ports(config: &Config) -> Vec<Finding> {
    let clients = config.client.listen.iter().map(|address| free(*address, Protocol::Tcp, "[client]"));
    let peers = if config.p2p.enabled { p2p::with_tcp(&config.p2p.listen) } else { Vec::new() };
    let peers = peers.iter().filter_map(|address| socket_address(address));
    let peers = peers.map(|(address, protocol)| free(address, protocol, "[p2p]"));
    let servers = config.federation_listen();
    let servers = servers.iter().map(|address| free(*address, Protocol::Tcp, "[federation]"));
    clients.chain(servers).chain(peers).flatten().collect()
}

/// Whether the certificate of the federation listeners and those that are trusted can be used.
pub(super) fn certificate(config: &Config) -> Vec<Finding> {
    const CHECK: &str = "certificate";
    let federation = &config.federation;
    let wrong = |error: TlsError, key: &str| {
        Finding::problem(CHECK, error.to_string(), format!("Mend the file, or set another: `{key}` in kith.toml."))
    };
    let mut findings = Vec::new();
    if let (Some(chain), Some(key)) = (&federation.tls_certificate, &federation.tls_private_key) {
        findings.push(match tls::server(chain, key) {
            Ok(_) => Finding::ok(CHECK, format!("{} and its key fit", chain.display())),
            Err(error) => wrong(error, "federation.tls_certificate"),
        });
    }
    if !federation.extra_roots.is_empty()
        && let Err(error) = tls::client(&federation.extra_roots)
    {
        findings.push(wrong(error, "federation.extra_roots"));
    }
    findings
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Tcp,
    Udp,
}

/// The address and protocol of a multiaddr such as `p2p.listen` has.
fn socket_address(multiaddr: &str) -> Option<(SocketAddr, Protocol)> {
    let mut parts = multiaddr.split('/').skip(2);
    let ip = parts.next()?.parse().ok()?;
    let protocol = match parts.next()? {
        "udp" => Protocol::Udp,
        "tcp" => Protocol::Tcp,
        _ => return None,
    };
    Some((SocketAddr::new(ip, parts.next()?.parse().ok()?), protocol))
}

/// Tries to listen. Port 0 is always free.
fn free(address: SocketAddr, protocol: Protocol, section: &str) -> Option<Finding> {
    const CHECK: &str = "port";
    if address.port() == 0 {
        return None;
    }
    let (name, bound) = match protocol {
        Protocol::Tcp => (address.to_string(), TcpListener::bind(address).map(drop)),
        Protocol::Udp => (format!("{address} (UDP)"), UdpSocket::bind(address).map(drop)),
    };
    Some(match bound {
        Ok(()) => Finding::ok(CHECK, format!("{name} is free")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let holder = (protocol == Protocol::Tcp).then(|| port::holder(address)).flatten();
            let holder = holder.unwrap_or_else(|| "another program".to_owned());
            let remedy = format!("Stop that program, or set another port: `listen` in section {section} of kith.toml.");
            Finding::problem(CHECK, format!("{name} is in use by {holder}"), remedy)
        }
        Err(error) => {
            let remedy = format!("Set another address: `listen` in section {section} of kith.toml.");
            Finding::problem(CHECK, format!("{name} cannot be listened on: {error}"), remedy)
        }
    })
}

/// Whether the running node answers clients.
pub(super) async fn answers(running: &Running) -> Vec<Finding> {
    const CHECK: &str = "port";
    let mut findings = Vec::new();
    for listener in &running.status.client_listeners {
        let Ok(address) = listener.parse::<SocketAddr>() else { continue };
        let finding = match tokio::time::timeout(PATIENCE, versions(reachable(address))).await {
            Ok(Ok(true)) => Finding::ok(CHECK, format!("{address} answers Matrix clients")),
            Ok(Ok(false)) => {
                let message = format!("{address} answers, but not as a Matrix homeserver");
                Finding::problem(CHECK, message, "Another program may stand before it: `ss -ltnp` tells which.")
            }
            Ok(Err(error)) => Finding::problem(
                CHECK,
                format!("{address} cannot be reached: {error}"),
                "Look for a firewall on this device.",
            ),
            Err(_) => Finding::problem(CHECK, format!("{address} does not answer in time"), "Restart the node."),
        };
        findings.push(finding);
    }
    findings
}

/// An address to connect to for one to listen on.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

async fn versions(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /_matrix/client/versions HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(64 << 10).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    Ok(answer.starts_with("HTTP/1.1 200") && answer.contains("\"versions\""))
}

/// Whether other nodes can be found on a local network from here.
pub(super) fn interfaces(config: &Config) -> Finding {
    const CHECK: &str = "local network";
    if !config.p2p.enabled || config.p2p.mdns == MdnsMode::Off {
        let message = "nodes near by are not looked for (`p2p.enabled`, `p2p.mdns`)";
        return Finding::note(CHECK, message, "Nothing, if that is meant.");
    }
    let interfaces = match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            return Finding::problem(
                CHECK,
                format!("interfaces cannot be listed: {error}"),
                "Check the system's permissions.",
            );
        }
    };
    let mut usable = Vec::new();
    let mut refused = Vec::new();
    for interface in interfaces.iter().filter(|interface| !interface.is_loopback()) {
        let IpAddr::V4(ip) = interface.ip() else { continue };
        let joined =
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| socket.join_multicast_v4(&MDNS, &ip));
        match joined {
            Ok(()) => usable.push(format!("{} ({ip})", interface.name)),
            Err(error) => refused.push(format!("{} ({ip}): {error}", interface.name)),
        }
    }
    match (usable.is_empty(), refused.is_empty()) {
        (false, _) => Finding::ok(CHECK, format!("multicast works on {}", usable.join(", "))),
        (true, false) => Finding::problem(
            CHECK,
            format!("no interface takes multicast: {}", refused.join("; ")),
            "Nodes near by cannot be found by themselves: look at firewall and container settings (UDP port 5353).",
        ),
        (true, true) => Finding::problem(
            CHECK,
            "this device has no address on any network",
            "Connect it to a network: Wi-Fi, cable, or its own hotspot.",
        ),
    }
}

/// Who the running node sees.
pub(super) fn peers(config: &Config, running: &Running) -> Finding {
    const CHECK: &str = "peers";
    if !config.p2p.enabled {
        return Finding::note(CHECK, "peer-to-peer is off (`p2p.enabled`)", "Nothing, if that is meant.");
    }
    seen(&running.peers)
}

/// A neighbour without a room in common is not dialled, and a connection that nobody uses ends: only an attempt that
/// failed tells that something is wrong.
fn seen(peers: &[Peer]) -> Finding {
    const CHECK: &str = "peers";
    let near = peers.iter().filter(|peer| peer.nearby).count();
    let connected = peers.iter().filter(|peer| peer.connected).count();
    let mut failed = peers.iter().filter(|peer| peer.nearby && !peer.connected && peer.last_error.is_some());
    if let Some(first) = failed.next() {
        let others = failed.count();
        let others = if others == 0 { String::new() } else { format!(" (and {others} others)") };
        let error = first.last_error.as_deref().unwrap_or_default();
        return Finding::problem(
            CHECK,
            format!("{}{others} is seen near by, but cannot be connected to: {error}", first.server_name),
            "A firewall may block UDP between the devices; some Wi-Fi networks keep their guests apart.",
        );
    }
    if near == 0 && connected == 0 {
        return Finding::note(
            CHECK,
            "nobody is near",
            "If somebody should be: run `kith doctor` on the other device too.",
        );
    }
    Finding::ok(CHECK, format!("{near} near, {connected} connected"))
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_port_in_use_is_a_problem_that_names_the_holder() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = Config::in_folder("unused");
        config.client.listen = vec![listener.local_addr().unwrap()];
        let finding = &ports(&config)[0];
        assert_eq!(finding.level, Level::Problem);
        if cfg!(target_os = "linux") {
            assert!(finding.message.contains(&std::process::id().to_string()), "{}", finding.message);
        }
        drop(listener);
        assert_eq!(ports(&config)[0].level, Level::Ok);
    }

    #[test]
    fn only_a_neighbour_who_was_tried_in_vain_is_a_problem() {
        let peer = |connected: bool, last_error: Option<&str>| Peer {
            server_name: "bob".into(),
            unverified_name: None,
            peer_id: String::new(),
            connected,
            direct: connected,
            nearby: true,
            rtt_ms: None,
            last_seen_s: None,
            addresses: Vec::new(),
            last_error: last_error.map(str::to_owned),
        };
        assert_eq!(seen(&[peer(false, None), peer(true, None)]).level, Level::Ok);
        assert_eq!(seen(&[]).level, Level::Note);
        let found = seen(&[peer(true, None), peer(false, Some("timed out"))]);
        assert_eq!(found.level, Level::Problem);
        assert!(found.message.contains("bob") && found.message.contains("timed out"), "{}", found.message);
    }

    #[test]
    fn a_port_for_peers_that_is_in_use_is_a_problem() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let mut config = Config::in_folder("unused");
        config.client.listen.clear();
        config.p2p.listen = vec![format!("/ip4/127.0.0.1/udp/{port}/quic-v1"), "/ip6/::/udp/0/quic-v1".into()];
        let findings = ports(&config);
        assert!(findings.iter().any(|found| found.level == Level::Problem && found.message.contains("(UDP)")));
        assert!(findings.iter().all(|found| !found.message.contains(":0 ")), "any port is free: {findings:?}");
        config.p2p.enabled = false;
        assert_eq!(ports(&config), []);
    }

    #[tokio::test]
    async fn a_listener_that_is_no_homeserver_is_told() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, ()) = tokio::join!(versions(address), async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello").await.unwrap();
        });
        assert!(!answer.unwrap());
    }
}
