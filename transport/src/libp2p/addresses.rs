//! Which multiaddrs are dialled and shown.

use std::net::{IpAddr, Ipv6Addr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use crate::{NetworkError, ServerKey};

/// Reads an address of a peer that a person or the application named: IP or DNS, over QUIC or TCP. A `/p2p/` at its end must be the
/// peer's, and is cut off.
pub(super) fn parse_for(peer: ServerKey, text: &str) -> Result<Multiaddr, NetworkError> {
    let invalid = |reason: &str| NetworkError::InvalidAddress { address: text.to_owned(), reason: reason.to_owned() };
    if text.len() > crate::record::MAX_ADDRESS_LEN {
        return Err(invalid("it is too long"));
    }
    let mut address: Multiaddr =
        text.parse().map_err(|_| invalid("it is no multiaddr, like /ip4/192.168.1.2/udp/4001/quic-v1"))?;
    if let Some(Protocol::P2p(id)) = address.iter().last() {
        if id != peer.peer_id() {
            return Err(invalid("the peer id at its end is another peer's"));
        }
        address.pop();
    }
    if !is_transport(&address) {
        return Err(invalid("only /udp/.../quic-v1 and /tcp/... are supported"));
    }
    match host(&address) {
        Some(Host::Ip(ip)) if !is_dialable(ip) => Err(invalid("nothing can be dialled at that IP address")),
        Some(_) => Ok(address),
        None => Err(invalid("it names no IP address or DNS name")),
    }
}

/// The addresses in a peer's own record that we are willing to dial: plain IP, and loopback only when `loopback`.
/// No DNS names: a stranger's record must not make us look up names.
pub(super) fn from_record(addresses: &[String], loopback: bool) -> Vec<Multiaddr> {
    addresses
        .iter()
        .filter_map(|text| text.parse::<Multiaddr>().ok())
        .filter(|address| {
            is_transport(address)
                && match host(address) {
                    Some(Host::Ip(ip)) => is_dialable(ip) && (loopback || !ip.is_loopback()),
                    _ => false,
                }
        })
        .collect()
}

/// Whether an address is in a range that only reaches this device.
pub(super) fn is_loopback(address: &Multiaddr) -> bool {
    matches!(host(address), Some(Host::Ip(ip)) if ip.is_loopback())
}

/// Our listening addresses as others should dial them: loopback only when there is nothing else, no link-local IPv6.
pub(super) fn shown(listening: impl IntoIterator<Item = Multiaddr>) -> Vec<Multiaddr> {
    let mut all: Vec<Multiaddr> = listening
        .into_iter()
        .filter(|address| matches!(host(address), Some(Host::Ip(ip)) if is_dialable(ip)))
        .collect();
    if all.iter().any(|address| !is_loopback(address)) {
        all.retain(|address| !is_loopback(address));
    }
    // QUIC first: it connects in one round trip. Then IPv4, which is what local networks have; then by text, to be stable.
    all.sort_by_cached_key(|address| {
        let v6 = matches!(host(address), Some(Host::Ip(IpAddr::V6(_))));
        (!is_quic(address), v6, address.to_string())
    });
    all.dedup();
    all.truncate(crate::record::MAX_ADDRESSES);
    all
}

/// An address without the peer id at its end.
pub(super) fn without_peer(mut address: Multiaddr) -> Multiaddr {
    if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
        address.pop();
    }
    address
}

/// The QUIC address for an IP and a port.
pub(super) fn quic(ip: IpAddr, port: u16) -> Multiaddr {
    Multiaddr::from(ip).with(Protocol::Udp(port)).with(Protocol::QuicV1)
}

/// The TCP address for an IP and a port.
pub(super) fn tcp(ip: IpAddr, port: u16) -> Multiaddr {
    Multiaddr::from(ip).with(Protocol::Tcp(port))
}

/// The IP and port of an address, when it has them, and whether it is QUIC.
pub(super) fn socket(address: &Multiaddr) -> Option<(IpAddr, u16, bool)> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    match (parts.next()?, parts.next()) {
        (Protocol::Tcp(port), None) => Some((ip, port, false)),
        (Protocol::Udp(port), Some(Protocol::QuicV1)) => Some((ip, port, true)),
        _ => None,
    }
}

/// Whether something can be dialled at this address of a host other than ours, or ours.
pub(super) fn is_dialable(ip: IpAddr) -> bool {
    if ip.is_unspecified() || ip.is_multicast() {
        return false;
    }
    match ip {
        IpAddr::V4(ip) => !ip.is_broadcast(),
        // A link-local address means nothing without an interface, which a multiaddr does not carry.
        IpAddr::V6(ip) => !is_v6_link_local(ip) && ip.to_ipv4_mapped().is_none(),
    }
}

fn is_v6_link_local(ip: Ipv6Addr) -> bool {
    ip.segments()[0] & 0xffc0 == 0xfe80
}

enum Host {
    Ip(IpAddr),
    Dns,
}

fn host(address: &Multiaddr) -> Option<Host> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(Host::Ip(IpAddr::V4(ip))),
        Protocol::Ip6(ip) => Some(Host::Ip(IpAddr::V6(ip))),
        Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) => Some(Host::Dns),
        _ => None,
    }
}

fn is_quic(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::QuicV1)
}

fn is_transport(address: &Multiaddr) -> bool {
    let mut parts = address.iter().skip(1);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(Protocol::Udp(port)), Some(Protocol::QuicV1), None) => port != 0,
        (Some(Protocol::Tcp(port)), None, None) => port != 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretKey;

    #[test]
    fn addresses_that_lead_nowhere_are_refused_with_the_reason() {
        let peer = SecretKey::from_seed([1; 32]).public();
        let other = SecretKey::from_seed([2; 32]).public();
        for good in [
            "/ip4/192.168.1.2/udp/4001/quic-v1".to_owned(),
            "/ip6/fd00::1/tcp/4001".to_owned(),
            "/dns4/example.org/tcp/4001".to_owned(),
            format!("/ip4/10.0.0.1/tcp/1/p2p/{}", peer.peer_id()),
        ] {
            let parsed = parse_for(peer, &good).unwrap();
            assert!(!parsed.to_string().contains("/p2p/"));
        }
        for bad in [
            "192.168.1.2:4001".to_owned(),
            "/ip4/192.168.1.2/udp/4001".to_owned(),
            "/ip4/192.168.1.2/tcp/0".to_owned(),
            "/ip4/0.0.0.0/tcp/1".to_owned(),
            "/ip4/224.0.0.251/udp/5353/quic-v1".to_owned(),
            "/ip6/fe80::1/tcp/1".to_owned(),
            "/ip4/10.0.0.1/tcp/1/ws".to_owned(),
            format!("/ip4/10.0.0.1/tcp/1/p2p/{}", other.peer_id()),
            format!("/dns4/{}/tcp/1", "a".repeat(300)),
        ] {
            let error = parse_for(peer, &bad).unwrap_err();
            assert!(matches!(error, NetworkError::InvalidAddress { .. }), "{bad}");
        }
    }

    #[test]
    fn a_record_makes_us_dial_neither_names_nor_our_own_device() {
        let addresses = [
            "/ip4/10.0.0.1/tcp/1",
            "/dns4/tracker.example/tcp/1",
            "/ip4/127.0.0.1/tcp/22",
            "/ip6/::1/tcp/22",
            "/ip6/::ffff:127.0.0.1/tcp/22",
            "nonsense",
        ]
        .map(str::to_owned);
        assert_eq!(from_record(&addresses, false).len(), 1);
        assert_eq!(from_record(&addresses, true).len(), 3);
    }

    #[test]
    fn loopback_is_shown_only_by_a_node_that_has_nothing_else() {
        let parse = |text: &str| text.parse::<Multiaddr>().unwrap();
        let lan = parse("/ip4/192.168.1.2/udp/1/quic-v1");
        let lan_tcp = parse("/ip4/192.168.1.2/tcp/1");
        let loopback = parse("/ip4/127.0.0.1/udp/1/quic-v1");
        let link = parse("/ip6/fe80::1/udp/1/quic-v1");
        let all = [loopback.clone(), lan_tcp.clone(), link, lan.clone()];
        assert_eq!(shown(all), [lan, lan_tcp]);
        assert_eq!(shown([loopback.clone()]), [loopback]);
    }
}
