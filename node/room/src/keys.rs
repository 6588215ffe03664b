//! Server names that are keys, and who may share a room with whom.
//!
//! A kith node is named by the unpadded lowercase base32 (RFC 4648) of its ed25519 key: 52 characters, alone or followed
//! by `.` and the zone of a gateway. Such a name certifies itself: the only key that signs for it is `ed25519:0`, the
//! name. Servers outside of kith know a name only when DNS leads somewhere, which is so for names with a zone and for
//! ordinary DNS names, and not for a name without a zone.

use ruma::{OwnedServerName, ServerName};

/// The key ID under which a self-certified name signs.
pub const SELF_CERTIFIED_KEY_ID: &str = "ed25519:0";

/// Length of the label that is a key: 256 bits in letters of 5 bits.
const LABEL_LENGTH: usize = 52;

/// What a server name says about its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameKind {
    /// An ordinary name: its keys are asked for over HTTPS.
    Dns,
    /// The name is the key; `zone` tells whether a gateway makes it known in DNS.
    Key {
        /// The ed25519 public key.
        key: [u8; 32],
        /// Whether a zone follows the key.
        zone: bool,
    },
    /// Looks like a key but is not its canonical spelling (capitals, spare bits set, a port): to be refused everywhere.
    NotCanonical,
}

/// Sorts a server name into its kind.
pub fn name_kind(name: &ServerName) -> NameKind {
    let (label, rest) = match name.as_str().find(['.', ':']) {
        Some(end) => name.as_str().split_at(end),
        None => (name.as_str(), ""),
    };
    let is_letter = |byte: u8| matches!(byte.to_ascii_lowercase(), b'a'..=b'z' | b'2'..=b'7');
    if label.len() != LABEL_LENGTH || !label.bytes().all(is_letter) {
        return NameKind::Dns;
    }
    let zone = rest.strip_prefix('.');
    let canonical_zone = zone.is_none_or(|zone| {
        zone.split('.').all(|part| !part.is_empty())
            && zone.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
    });
    if !canonical_zone || (zone.is_none() && !rest.is_empty()) {
        return NameKind::NotCanonical;
    }
    match decode(label) {
        Some(key) => NameKind::Key { key, zone: zone.is_some() },
        None => NameKind::NotCanonical,
    }
}

/// The ed25519 key that the name consists of, if it is a canonically spelled key.
pub fn self_certified_key(name: &ServerName) -> Option<[u8; 32]> {
    match name_kind(name) {
        NameKind::Key { key, .. } => Some(key),
        NameKind::Dns | NameKind::NotCanonical => None,
    }
}

/// The 52-character label for a key.
pub fn key_label(key: &[u8; 32]) -> String {
    data_encoding::BASE32_NOPAD.encode(key).to_ascii_lowercase()
}

fn decode(label: &str) -> Option<[u8; 32]> {
    if label.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    // Refuses set bits after the 256th, so that each key has one spelling only.
    let bytes = data_encoding::BASE32_NOPAD.decode(label.to_ascii_uppercase().as_bytes()).ok()?;
    bytes.try_into().ok()
}

/// Whether `joining` may enter a room of `servers`.
///
/// A server outside of kith can verify nothing that a name without a zone has signed, so its copy of the room would
/// split off. Therefore no room holds names without a zone and DNS names both. Names with a zone go with either.
///
/// # Errors
///
/// [`ShareError`], which names both servers and the remedy.
pub fn may_share<'a>(
    servers: impl IntoIterator<Item = &'a ServerName>,
    joining: &ServerName,
) -> Result<(), ShareError> {
    let entering = name_kind(joining);
    if entering == NameKind::NotCanonical {
        return Err(ShareError::NotCanonical { server: joining.to_owned() });
    }
    for present in servers {
        let error = match (name_kind(present), entering) {
            (NameKind::Key { zone: false, .. }, NameKind::Dns) => (present, joining),
            (NameKind::Dns, NameKind::Key { zone: false, .. }) => (joining, present),
            _ => continue,
        };
        return Err(ShareError::Unverifiable { zoneless: error.0.to_owned(), dns: error.1.to_owned() });
    }
    Ok(())
}

/// Two servers that must not meet in a room.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// A node without a zone and a server of the DNS world.
    #[error(
        "{dns} cannot verify events of {zoneless}, which is in no gateway's zone, so they cannot share a room; \
         use an account whose name has a gateway's zone"
    )]
    Unverifiable {
        /// The server that is named by its key alone.
        zoneless: OwnedServerName,
        /// The server that is named in DNS.
        dns: OwnedServerName,
    },
    /// A misspelled key.
    #[error("{server} is not the canonical spelling of a server key")]
    NotCanonical {
        /// The name.
        server: OwnedServerName,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> OwnedServerName {
        ServerName::parse(text).expect("a server name")
    }

    #[test]
    fn a_key_and_its_name_are_one() {
        let key: [u8; 32] = std::array::from_fn(|i| (i * 7 + 3) as u8);
        let label = key_label(&key);
        assert_eq!(label.len(), LABEL_LENGTH);
        assert_eq!(self_certified_key(&name(&label)), Some(key));
        assert_eq!(self_certified_key(&name(&format!("{label}.mesh.example.org"))), Some(key));
    }

    #[test]
    fn other_spellings_of_a_key_are_refused() {
        let label = key_label(&[0; 32]);
        let with_spare_bit = format!("{}b", &label[..51]);
        for text in [
            label.to_ascii_uppercase(),
            with_spare_bit,
            format!("{label}:8448"),
            format!("{label}.Mesh.example.org"),
            format!("{label}.mesh.example.org:443"),
        ] {
            assert_eq!(name_kind(&name(&text)), NameKind::NotCanonical, "{text}");
            assert_eq!(self_certified_key(&name(&text)), None);
            assert!(may_share([], &name(&text)).is_err());
        }
        for text in ["example.org", "example.org:8448", "1.2.3.4", "[::1]:8448", &label[..51], &format!("{label}a")] {
            assert_eq!(name_kind(&name(text)), NameKind::Dns, "{text}");
        }
        assert_eq!(name_kind(&name(&label.replace('a', "1"))), NameKind::Dns, "1 is no letter of base32");
    }

    #[test]
    fn a_name_without_zone_and_a_dns_name_do_not_share_a_room() {
        let bare = name(&key_label(&[1; 32]));
        let zoned = name(&format!("{}.mesh.example.org", key_label(&[2; 32])));
        let dns = name("example.org");
        assert!(may_share([&*bare, &*zoned], &dns).is_err());
        assert!(may_share([&*dns, &*zoned], &bare).is_err());
        assert!(may_share([&*bare, &*zoned], &name(&key_label(&[3; 32]))).is_ok());
        assert!(may_share([&*dns, &*zoned], &name("matrix.org")).is_ok());
        assert!(may_share([&*dns], &zoned).is_ok());
        let error = may_share([&*bare], &dns).expect_err("refused").to_string();
        assert!(error.contains("example.org") && error.contains("gateway"), "{error}");
    }
}
