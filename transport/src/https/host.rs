//! Server names of the DNS world: a host and perhaps a port. Matrix specification, appendices, "Server Name".

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The port of federation where none is named.
pub const FEDERATION_PORT: u16 = 8448;

/// The longest DNS name.
const MOST: usize = 255;

/// Whom a server name names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// An address, written as such.
    Ip(IpAddr),
    /// A name that DNS knows.
    Name(String),
}

impl fmt::Display for Host {
    /// As certificates have it: no brackets around an address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// Reads `host[:port]`. `None`: that is no server name.
pub fn parse(name: &str) -> Option<(Host, Option<u16>)> {
    let (host, port) = match name.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            let port = match rest {
                "" => None,
                rest => Some(rest.strip_prefix(':')?),
            };
            (Host::Ip(address.parse::<Ipv6Addr>().ok()?.into()), port)
        }
        None => {
            let (host, port) = match name.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (name, None),
            };
            match host.parse::<Ipv4Addr>() {
                Ok(address) => (Host::Ip(address.into()), port),
                Err(_) if is_name(host) => (Host::Name(host.to_owned()), port),
                Err(_) => return None,
            }
        }
    };
    let port = match port {
        None => None,
        Some(digits) if (1..=5).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse::<u16>().ok().filter(|port| *port != 0)?)
        }
        Some(_) => return None,
    };
    Some((host, port))
}

/// Letters, digits, `-` and `.` as the specification has it; and `_`, which some names have all the same.
fn is_name(host: &str) -> bool {
    (1..=MOST).contains(&host.len())
        && !host.starts_with('.')
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_addresses_and_ports_are_told_apart() {
        let name = |name: &str| Host::Name(name.to_owned());
        let ip = |text: &str| Host::Ip(text.parse().unwrap());
        for (text, host, port) in [
            ("example.org", name("example.org"), None),
            ("example.org:443", name("example.org"), Some(443)),
            ("localhost", name("localhost"), None),
            ("1.2.3.4", ip("1.2.3.4"), None),
            ("1.2.3.4:80", ip("1.2.3.4"), Some(80)),
            ("[::1]", ip("::1"), None),
            ("[2001:db8::1]:8448", ip("2001:db8::1"), Some(8448)),
        ] {
            assert_eq!(parse(text), Some((host, port)), "{text}");
        }
    }

    #[test]
    fn what_is_no_server_name_is_refused() {
        for text in [
            "",
            ":1",
            "a:",
            "a:0",
            "a:65536",
            "a:+1",
            "a:1:2",
            "::1",
            "[::1",
            "[::1]1",
            "[1.2.3.4]",
            "a b",
            "a/b",
            "user@a",
            "https://a",
            ".a",
            "é.org",
            "a:000443",
            "[::1%eth0]",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
