//! Names of kith servers: self-certifying, because the leftmost label is the server's public key.
//!
//! `abc...xyz` (52 characters) or `abc...xyz.mesh.example.org`: the unpadded lowercase base32 (RFC 4648) of an
//! ed25519 public key, optionally followed by a gateway's zone (DESIGN section 2). Two spellings of one key
//! would be two servers to Matrix, which compares names byte for byte. So exactly one spelling is accepted
//! here; everything that merely looks like a key name is an error, never an ordinary DNS name.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use ed25519_dalek::VerifyingKey;
use libp2p::PeerId;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Characters of a key in a name: 256 bits, 5 in each.
pub const KEY_LABEL_LEN: usize = 52;

/// Longest server name in bytes that Matrix lets us use in identifiers (user IDs have 255 in all).
pub const MAX_NAME_LEN: usize = 230;

/// Keys that were found good and need not be looked at again, in each thread.
const MOST_KNOWN: usize = 2_048;
thread_local! {
    static KNOWN: RefCell<BTreeSet<[u8; 32]>> = RefCell::default();
}

/// An ed25519 public key that identifies a server. Always a valid curve point, in its only encoding, of full order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerKey([u8; 32]);

impl ServerKey {
    /// Takes the 32 bytes of an ed25519 public key; refuses what is no point, not canonically encoded, or of small order
    /// (such a key verifies signatures that nobody made).
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, NameError> {
        // Few keys come again and again: with each request, and with each name of a server that is looked at.
        if KNOWN.with_borrow(|known| known.contains(&bytes)) {
            return Ok(Self(bytes));
        }
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| NameError::NotAKey)?;
        if key.is_weak() || key.to_edwards().compress().to_bytes() != bytes {
            return Err(NameError::NotAKey);
        }
        KNOWN.with_borrow_mut(|known| {
            if known.len() >= MOST_KNOWN {
                known.clear();
            }
            known.insert(bytes);
        });
        Ok(Self(bytes))
    }

    /// The 32 bytes of the public key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether `signature` (64 bytes) is this key's over `message` (strict verification: one signature has one form).
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(signature) = ed25519_dalek::Signature::from_slice(signature) else {
            return false;
        };
        self.verifying_key().is_some_and(|key| key.verify_strict(message, &signature).is_ok())
    }

    /// The libp2p peer id made from this key.
    pub fn peer_id(&self) -> PeerId {
        // A peer id of an ed25519 key is the identity multihash of the key's protobuf: type 1 = ed25519, then the bytes.
        let mut bytes = [0u8; 38];
        bytes[..6].copy_from_slice(&PEER_ID_PREFIX);
        bytes[6..].copy_from_slice(&self.0);
        PeerId::from_bytes(&bytes).expect("an identity multihash of 36 bytes is a peer id")
    }

    /// The key inside a peer id. `None` for peers whose key is not ed25519, or no valid key.
    pub fn from_peer_id(peer: &PeerId) -> Option<Self> {
        let bytes = peer.to_bytes();
        let key = bytes.strip_prefix(&PEER_ID_PREFIX)?;
        Self::from_bytes(key.try_into().ok()?).ok()
    }

    pub(crate) fn verifying_key(&self) -> Option<VerifyingKey> {
        VerifyingKey::from_bytes(&self.0).ok()
    }
}

/// Identity multihash (0x00) of 36 bytes: protobuf field 1 (key type) = 1 (ed25519), field 2 (data) of 32 bytes.
const PEER_ID_PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];

impl fmt::Display for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE32_NOPAD.encode(&self.0).to_ascii_lowercase())
    }
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.to_string();
        write!(f, "ServerKey({}…)", name.get(..8).unwrap_or_default())
    }
}

impl FromStr for ServerKey {
    type Err = NameError;

    /// Reads the 52 characters of a key (no zone).
    fn from_str(text: &str) -> Result<Self, NameError> {
        match KithName::parse(text)? {
            Some(KithName { key, zone: None }) => Ok(key),
            _ => Err(NameError::NotAKey),
        }
    }
}

impl Serialize for ServerKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ServerKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A server name that carries its own key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KithName {
    /// The key in the leftmost label.
    pub key: ServerKey,
    /// The gateway's zone behind it, for example `mesh.example.org`.
    pub zone: Option<String>,
}

impl KithName {
    /// A name from its parts; the zone is checked.
    pub fn new(key: ServerKey, zone: Option<&str>) -> Result<Self, NameError> {
        if let Some(zone) = zone {
            check_zone(zone)?;
        }
        Ok(Self { key, zone: zone.map(str::to_owned) })
    }

    /// Reads a server name. `Ok(None)`: an ordinary DNS name or address literal (not checked further).
    /// `Err`: it is spelled like a key name, but is not the canonical spelling of one.
    pub fn parse(name: &str) -> Result<Option<Self>, NameError> {
        let (host, port) = match name.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (name, None),
        };
        let (label, zone) = match host.split_once('.') {
            Some((label, zone)) => (label, Some(zone)),
            None => (host, None),
        };
        let stem = label.trim_end_matches('=');
        if stem.len() != KEY_LABEL_LEN || !stem.bytes().all(is_base32) {
            return Ok(None);
        }
        if stem.len() != label.len() {
            return Err(NameError::Padded);
        }
        if port.is_some() {
            return Err(NameError::Port);
        }
        if host.ends_with('.') {
            return Err(NameError::TrailingDot);
        }
        if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(NameError::UpperCase);
        }
        let bytes = BASE32_NOPAD.decode(stem.to_ascii_uppercase().as_bytes()).map_err(|_| NameError::TrailingBits)?;
        let bytes = <[u8; 32]>::try_from(bytes).map_err(|_| NameError::TrailingBits)?;
        Self::new(ServerKey::from_bytes(bytes)?, zone).map(Some)
    }
}

impl fmt::Display for KithName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)?;
        match &self.zone {
            Some(zone) => write!(f, ".{zone}"),
            None => Ok(()),
        }
    }
}

impl From<ServerKey> for KithName {
    fn from(key: ServerKey) -> Self {
        Self { key, zone: None }
    }
}

/// Whether this name may be used: an ordinary name, or the one spelling of a key name.
pub fn is_canonical(name: &str) -> bool {
    KithName::parse(name).is_ok()
}

fn is_base32(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || (b'2'..=b'7').contains(&byte)
}

/// Lowercase DNS labels, so that the name has one spelling.
fn check_zone(zone: &str) -> Result<(), NameError> {
    let good_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    let numeric_end = zone.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if zone.len() + KEY_LABEL_LEN + 1 > MAX_NAME_LEN || numeric_end || !zone.split('.').all(good_label) {
        return Err(NameError::Zone);
    }
    Ok(())
}

/// Why a name that looks like a key name is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Upper-case letters.
    #[error("a kith server name is written in lower case only")]
    UpperCase,
    /// `=` behind the key.
    #[error("a kith server name is base32 without padding: remove the '='")]
    Padded,
    /// The last character carries bits that belong to no byte.
    #[error("the last character of this server name's key is wrong: it was mistyped or altered")]
    TrailingBits,
    /// The 52 characters are no usable ed25519 public key.
    #[error("the first label of this server name is not an ed25519 public key: it was mistyped or altered")]
    NotAKey,
    /// A dot at the end.
    #[error("a kith server name has no dot at its end")]
    TrailingDot,
    /// A port behind the name.
    #[error("a kith server name has no port: the node is found by its key")]
    Port,
    /// What follows the key is no zone.
    #[error("what follows the key must be a gateway's zone: lower-case DNS labels, 230 bytes for the whole name")]
    Zone,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretKey;

    fn key(n: u8) -> ServerKey {
        SecretKey::from_seed([n; 32]).public()
    }

    #[test]
    fn a_name_is_the_base32_of_the_key_and_reads_back() {
        for n in 0..50 {
            let name = key(n).to_string();
            assert_eq!(name.len(), KEY_LABEL_LEN);
            assert_eq!(KithName::parse(&name), Ok(Some(key(n).into())));
            assert_eq!(name.parse(), Ok(key(n)));
            let zoned = format!("{name}.mesh.example.org");
            let parsed = KithName::parse(&zoned).unwrap().unwrap();
            assert_eq!(parsed.zone.as_deref(), Some("mesh.example.org"));
            assert_eq!(parsed.key, key(n));
            assert_eq!(parsed.to_string(), zoned);
        }
    }

    #[test]
    fn the_name_of_a_known_seed_never_changes() {
        // RFC 8032, section 7.1, test 1: any change here would cut existing nodes off from their rooms.
        let seed = data_encoding::HEXLOWER
            .decode(b"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
            .unwrap();
        let key = SecretKey::from_seed(seed.try_into().unwrap()).public();
        assert_eq!(
            data_encoding::HEXLOWER.encode(key.as_bytes()),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
        assert_eq!(key.to_string(), "25njqamcweflpvkl73j4szahhihoc4xt3ktcgjnpaingr5yhkena");
    }

    #[test]
    fn ordinary_names_are_not_key_names() {
        let short = "a".repeat(51);
        let long = "a".repeat(53);
        for name in [
            "example.org",
            "example.org:8448",
            "1.2.3.4",
            "[::1]:8448",
            "localhost",
            "",
            &short,
            &long,
            &format!("{}0", "a".repeat(51)),
            &format!("matrix.{}", key(1)),
        ] {
            assert_eq!(KithName::parse(name), Ok(None), "{name}");
            assert!(is_canonical(name));
        }
    }

    #[test]
    fn every_other_spelling_of_a_key_name_is_refused() {
        let name = key(7).to_string();
        let mut capital = name.clone();
        let letter = capital.find(|c: char| c.is_ascii_lowercase()).expect("a letter");
        capital.replace_range(letter..=letter, &capital[letter..=letter].to_ascii_uppercase());
        let cases = [
            (name.to_ascii_uppercase(), NameError::UpperCase),
            (capital, NameError::UpperCase),
            (format!("{name}."), NameError::TrailingDot),
            (format!("{name}.example.org."), NameError::TrailingDot),
            (format!("{name}:8448"), NameError::Port),
            (format!("{name}:"), NameError::Port),
            (format!("{name}.example.org:443"), NameError::Port),
            (format!("{name}===="), NameError::Padded),
            (format!("{name}====.example.org"), NameError::Padded),
            (format!("{name}.Example.org"), NameError::UpperCase),
            (format!("{name}..org"), NameError::Zone),
            (format!("{name}.-a.org"), NameError::Zone),
            (format!("{name}.exa_mple.org"), NameError::Zone),
            (format!("{name}.é.org"), NameError::Zone),
            (format!("{name}.1.2.3.4"), NameError::Zone),
            (format!("{name}.{}", "a.".repeat(100) + "org"), NameError::Zone),
            (format!("{name}.{}", "a".repeat(64)), NameError::Zone),
        ];
        for (spelling, error) in cases {
            assert_eq!(KithName::parse(&spelling), Err(error), "{spelling}");
            assert!(!is_canonical(&spelling));
        }
    }

    #[test]
    fn bits_behind_the_key_are_refused() {
        let name = key(3).to_string();
        let alphabet = "abcdefghijklmnopqrstuvwxyz234567";
        let last = name.chars().last().unwrap();
        let index = alphabet.find(last).unwrap();
        assert!(index == 0 || index == 16, "256 bits leave one bit of the last character");
        for other in (0..32).filter(|other| other % 16 != 0) {
            let spelling = format!("{}{}", &name[..51], &alphabet[other..=other]);
            assert_eq!(KithName::parse(&spelling), Err(NameError::TrailingBits), "{spelling}");
        }
    }

    #[test]
    fn labels_that_are_no_usable_point_are_refused() {
        let not_a_point = (0..=255u8).map(|n| [n; 32]).find(|bytes| VerifyingKey::from_bytes(bytes).is_err()).unwrap();
        let identity = {
            let mut bytes = [0; 32];
            bytes[0] = 1;
            bytes
        };
        // y = p + 3 is the point y = 3 in another encoding, for each small y that is a point.
        let unreduced = (2..19u8)
            .map(|y| {
                let mut bytes = [0xff; 32];
                bytes[0] = 0xed + y;
                bytes[31] = 0x7f;
                bytes
            })
            .find(|bytes| VerifyingKey::from_bytes(bytes).is_ok_and(|key| !key.is_weak()));
        for bytes in [not_a_point, identity].into_iter().chain(unreduced) {
            assert_eq!(ServerKey::from_bytes(bytes), Err(NameError::NotAKey));
            let name = BASE32_NOPAD.encode(&bytes).to_ascii_lowercase();
            assert_eq!(KithName::parse(&name), Err(NameError::NotAKey));
        }
        assert!(unreduced.is_some(), "the case of a second encoding was not tried");
    }

    #[test]
    fn peer_ids_and_keys_convert_both_ways() {
        for n in 0..20 {
            let secret = SecretKey::from_seed([n; 32]);
            let peer = secret.to_libp2p().public().to_peer_id();
            assert_eq!(secret.public().peer_id(), peer);
            assert_eq!(ServerKey::from_peer_id(&peer), Some(secret.public()));
        }
        let hashed = PeerId::from_bytes(&[&[0x12, 0x20][..], &[7; 32]].concat()).unwrap();
        assert_eq!(ServerKey::from_peer_id(&hashed), None);
    }

    #[test]
    fn debug_is_short() {
        assert!(format!("{:?}", key(1)).len() < 25);
    }
}
