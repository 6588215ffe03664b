//! Patterns of names, and the servers that the owner wants nothing to do with (`federation.blocked_servers`).

use std::sync::Arc;

use ruma::ServerName;

/// Servers that are neither heard nor asked. What others hand on of them is theirs to judge: rooms have access lists for that.
#[derive(Debug, Clone, Default)]
pub struct Blocked(Arc<[String]>);

impl Blocked {
    /// Those whose names fit one of these patterns; ports are of no matter, as in server access lists.
    pub fn new(patterns: &[String]) -> Self {
        Self(patterns.iter().map(|pattern| pattern.to_lowercase()).collect())
    }

    /// Whether a server is one of them.
    pub fn has(&self, server: &ServerName) -> bool {
        let name = without_port(server.as_str()).to_lowercase();
        self.0.iter().any(|pattern| fits(pattern.as_bytes(), name.as_bytes()))
    }
}

/// A server's name without its port, as server ACLs have it.
pub(crate) fn without_port(server: &str) -> &str {
    match server.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => server,
    }
}

/// Whether a name fits a pattern, in which `*` stands for any characters and `?` for one (specification, "Glob-style matching").
pub(crate) fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    // Where the last star was, and what it has swallowed so far.
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = name.get(from) {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(wanted) if *wanted == b'?' || wanted == byte => {
                at += 1;
                from += 1;
            }
            _ => match star {
                Some((place, swallowed)) => {
                    star = Some((place, swallowed + 1));
                    at = place + 1;
                    from = swallowed + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_blocked_by_name_and_pattern_whatever_their_ports() {
        let blocked = Blocked::new(&["evil.example".to_owned(), "*.Spam.example".to_owned(), "192.0.2.?".to_owned()]);
        for (server, is) in [
            ("evil.example", true),
            ("evil.example:8448", true),
            ("Evil.Example", true),
            ("notevil.example", false),
            ("evil.example.org", false),
            ("a.spam.example", true),
            ("spam.example", false),
            ("192.0.2.7:80", true),
            ("192.0.2.77", false),
            ("[2001:db8::1]:80", false),
        ] {
            assert_eq!(blocked.has(&ServerName::parse(server).unwrap()), is, "{server}");
        }
        assert!(!Blocked::default().has(&ServerName::parse("a").unwrap()));
    }
}
