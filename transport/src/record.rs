//! The signed node record: how a node may be reached, told by itself (DESIGN section 2).
//!
//! Form: canonical JSON (Matrix appendices, "Canonical JSON") of at most 4 KiB, signed with the server key over
//! a domain prefix and the JSON without its `signature`. A record travels with handshakes, invites, the DHT and
//! mDNS through strangers' hands, so it is believed for its signature alone. Keys that this version does not
//! know are covered by the signature and kept in the bytes, so that newer nodes' records pass through older ones.

mod book;
mod canonical;
mod store;

use bytes::Bytes;
use data_encoding::BASE64_NOPAD;
use serde_json::{Map, Value};

pub use book::{Insert, RecordBook, RecordCounts};
pub use store::{RecordStore, SavedRecord};

use crate::{KithName, SecretKey, ServerKey};

/// Longest record in bytes, signature included.
pub const MAX_RECORD_LEN: usize = 4096;
/// Most addresses in a record.
pub const MAX_ADDRESSES: usize = 16;
/// Longest address (a multiaddr) in bytes.
pub const MAX_ADDRESS_LEN: usize = 200;
/// Most mailboxes in a record.
pub const MAX_MAILBOXES: usize = 8;
/// Format version written; others are refused.
const VERSION: u64 = 1;
/// Separates these signatures from those on events and requests, which are made with the same key.
const DOMAIN: &[u8] = b"kith node record 1\0";

/// Largest epoch: a sequence must stay within JSON's exact integers (2^53 - 1).
pub const MAX_EPOCH: u32 = (1 << 21) - 1;

/// The number that orders the records of one node: the epoch (how often a backup was restored) in the high bits,
/// a counter below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(u64);

impl Sequence {
    /// Epoch (at most [`MAX_EPOCH`]; larger is cut to it) and counter.
    pub fn new(epoch: u32, counter: u32) -> Self {
        Self((u64::from(epoch.min(MAX_EPOCH)) << 32) | u64::from(counter))
    }

    /// The first sequence of a node's `run`-th run in an epoch, `run` being counted on disk at each start. Each run has room for
    /// 4096 records of its own; there is room for a million runs.
    pub fn for_run(epoch: u32, run: u32) -> Self {
        Self::new(epoch, run.saturating_mul(1 << 12))
    }

    /// The number as it stands in the record. `None` above 2^53 - 1.
    pub fn from_number(number: u64) -> Option<Self> {
        (number < 1 << 53).then_some(Self(number))
    }

    /// The number as it stands in the record.
    pub fn number(self) -> u64 {
        self.0
    }

    /// How often the node was restored from a backup.
    pub fn epoch(self) -> u32 {
        u32::try_from(self.0 >> 32).unwrap_or(MAX_EPOCH)
    }

    /// The next sequence of the same epoch; the last one stays itself.
    pub fn next(self) -> Self {
        Self::new(self.epoch(), u32::try_from(self.0 & 0xffff_ffff).unwrap_or(u32::MAX).saturating_add(1))
    }
}

/// What a node says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// Newer records have the higher number.
    pub sequence: Sequence,
    /// The server key that signs the record; the peer id follows from it.
    pub key: ServerKey,
    /// The full server name: a key name of `key`, or the DNS name a node was configured with.
    pub server_name: String,
    /// Multiaddrs, best first. At most [`MAX_ADDRESSES`] of [`MAX_ADDRESS_LEN`] bytes.
    pub addresses: Vec<String>,
    /// Server keys of the nodes that keep messages for this one while it is away. At most [`MAX_MAILBOXES`].
    pub mailboxes: Vec<ServerKey>,
    /// Server key of the gateway that serves the name's zone.
    pub gateway: Option<ServerKey>,
}

impl NodeRecord {
    /// Signs the record. Fails when a bound is passed, or the name and key do not belong together.
    pub fn sign(&self, secret: &SecretKey) -> Result<SignedRecord, RecordError> {
        self.check()?;
        if secret.public() != self.key {
            return Err(RecordError::ForeignKey);
        }
        let mut object = self.to_object();
        let signature = secret.sign(&signed_bytes(&object)?);
        object.insert("signature".to_owned(), BASE64_NOPAD.encode(&signature).into());
        let bytes = canonical::to_bytes(&Value::Object(object)).ok_or(RecordError::Malformed)?;
        if bytes.len() > MAX_RECORD_LEN {
            return Err(RecordError::TooLarge);
        }
        Ok(SignedRecord { record: self.clone(), bytes: bytes.into() })
    }

    /// Reads and checks a record from anywhere. See [`SignedRecord::verify`].
    pub fn verify(bytes: &[u8]) -> Result<Self, RecordError> {
        SignedRecord::verify(bytes).map(|signed| signed.record)
    }

    fn check(&self) -> Result<(), RecordError> {
        let bound = |ok: bool, what| {
            if ok { Ok(()) } else { Err(RecordError::Bound(what)) }
        };
        bound(self.addresses.len() <= MAX_ADDRESSES, "addresses")?;
        bound(
            self.addresses.iter().all(|address| (1..=MAX_ADDRESS_LEN).contains(&address.len())),
            "the length of an address",
        )?;
        bound(self.mailboxes.len() <= MAX_MAILBOXES, "mailboxes")?;
        bound((1..=crate::name::MAX_NAME_LEN).contains(&self.server_name.len()), "the length of the server name")?;
        match KithName::parse(&self.server_name) {
            Ok(Some(name)) if name.key != self.key => Err(RecordError::NameMismatch),
            Ok(_) => Ok(()),
            Err(_) => Err(RecordError::NameMismatch),
        }
    }

    fn to_object(&self) -> Map<String, Value> {
        let mut object = Map::new();
        let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
        put("version", VERSION.into());
        put("sequence", self.sequence.number().into());
        put("key", self.key.to_string().into());
        put("peer_id", self.key.peer_id().to_string().into());
        put("server_name", self.server_name.clone().into());
        put("addresses", self.addresses.clone().into());
        put("mailboxes", self.mailboxes.iter().map(ToString::to_string).collect::<Vec<_>>().into());
        if let Some(gateway) = self.gateway {
            put("gateway", gateway.to_string().into());
        }
        object
    }

    fn from_object(object: &Map<String, Value>) -> Result<Self, RecordError> {
        if object.get("version").and_then(Value::as_u64) != Some(VERSION) {
            return Err(RecordError::Version);
        }
        let text = |name: &str| object.get(name).and_then(Value::as_str);
        let key_of = |text: &str| text.parse::<ServerKey>().ok();
        let list = |name: &str, most| match object.get(name) {
            Some(Value::Array(list)) if list.len() <= most => list
                .iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
                .ok_or(RecordError::Malformed),
            Some(Value::Array(_)) => Err(RecordError::Bound("the number of entries")),
            _ => Err(RecordError::Malformed),
        };
        let key = text("key").and_then(key_of).ok_or(RecordError::Malformed)?;
        if text("peer_id") != Some(&key.peer_id().to_string()) {
            return Err(RecordError::NameMismatch);
        }
        let gateway = match object.get("gateway") {
            None => None,
            Some(gateway) => Some(gateway.as_str().and_then(key_of).ok_or(RecordError::Malformed)?),
        };
        let record = Self {
            sequence: object
                .get("sequence")
                .and_then(Value::as_u64)
                .and_then(Sequence::from_number)
                .ok_or(RecordError::Malformed)?,
            key,
            server_name: text("server_name").ok_or(RecordError::Malformed)?.to_owned(),
            addresses: list("addresses", MAX_ADDRESSES)?,
            mailboxes: list("mailboxes", MAX_MAILBOXES)?
                .iter()
                .map(|text| key_of(text))
                .collect::<Option<_>>()
                .ok_or(RecordError::Malformed)?,
            gateway,
        };
        record.check()?;
        Ok(record)
    }
}

/// A record together with the bytes that were signed, as they are passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRecord {
    record: NodeRecord,
    bytes: Bytes,
}

impl SignedRecord {
    /// Reads a record: size, canonical form, bounds, that name, peer id and key belong together, and the signature.
    pub fn verify(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > MAX_RECORD_LEN {
            return Err(RecordError::TooLarge);
        }
        let value: Value = serde_json::from_slice(bytes).map_err(|_| RecordError::Malformed)?;
        // One record has one form: otherwise the same record could be made to look like a new one.
        if canonical::to_bytes(&value).as_deref() != Some(bytes) {
            return Err(RecordError::NotCanonical);
        }
        let Value::Object(mut object) = value else {
            return Err(RecordError::Malformed);
        };
        let signature = match object.remove("signature") {
            Some(Value::String(text)) => BASE64_NOPAD.decode(text.as_bytes()).map_err(|_| RecordError::BadSignature)?,
            _ => return Err(RecordError::BadSignature),
        };
        let record = NodeRecord::from_object(&object)?;
        if !record.key.verify(&signed_bytes(&object)?, &signature) {
            return Err(RecordError::BadSignature);
        }
        Ok(Self { record, bytes: Bytes::copy_from_slice(bytes) })
    }

    /// What the node says.
    pub fn record(&self) -> &NodeRecord {
        &self.record
    }

    /// The signed form, to be passed on.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

fn signed_bytes(object: &Map<String, Value>) -> Result<Vec<u8>, RecordError> {
    let mut bytes = DOMAIN.to_vec();
    canonical::write_object(object, &mut bytes).ok_or(RecordError::Malformed)?;
    Ok(bytes)
}

/// Why a node record is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// More than [`MAX_RECORD_LEN`] bytes.
    #[error("the node record is larger than 4 KiB: list fewer or shorter addresses")]
    TooLarge,
    /// Not JSON, or a key is missing or of the wrong kind.
    #[error("the node record is malformed")]
    Malformed,
    /// JSON, but not in its canonical form.
    #[error("the node record is not in canonical form")]
    NotCanonical,
    /// Written by a version of kith that this one cannot read.
    #[error("the node record is of another format version: one of the two nodes needs an update")]
    Version,
    /// A list or text is longer than allowed.
    #[error("the node record passes the bound for {0}")]
    Bound(&'static str),
    /// Server name, peer id and key are not of one node.
    #[error("the node record claims a name that is not its key's")]
    NameMismatch,
    /// Not signed by the key it names.
    #[error("the node record is not signed by its own key")]
    BadSignature,
    /// We were asked to sign with a key that is not the record's.
    #[error("the node record is of another key than the one to sign with")]
    ForeignKey,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> SecretKey {
        SecretKey::from_seed([9; 32])
    }

    fn record() -> NodeRecord {
        NodeRecord {
            sequence: Sequence::new(1, 7),
            key: secret().public(),
            server_name: secret().public().to_string(),
            addresses: vec!["/ip4/192.168.1.2/udp/4001/quic-v1".to_owned()],
            mailboxes: vec![],
            gateway: None,
        }
    }

    #[test]
    fn a_signed_record_reads_back_from_its_bytes() {
        let mut record = record();
        record.gateway = Some(SecretKey::from_seed([1; 32]).public());
        record.mailboxes = vec![SecretKey::from_seed([2; 32]).public()];
        record.server_name = format!("{}.mesh.example.org", record.key);
        let signed = record.sign(&secret()).unwrap();
        assert_eq!(NodeRecord::verify(signed.bytes()), Ok(record));
        assert_eq!(SignedRecord::verify(signed.bytes()), Ok(signed));
    }

    #[test]
    fn no_byte_of_a_record_can_be_changed() {
        let signed = record().sign(&secret()).unwrap();
        for index in 0..signed.bytes().len() {
            for change in [1u8, 0x20, 0x80] {
                let mut bytes = signed.bytes().to_vec();
                bytes[index] ^= change;
                assert!(NodeRecord::verify(&bytes).is_err(), "byte {index} ^ {change}");
            }
        }
        for length in 0..signed.bytes().len() {
            assert!(NodeRecord::verify(&signed.bytes()[..length]).is_err());
        }
    }

    #[test]
    fn another_key_cannot_sign_for_a_name() {
        let thief = SecretKey::from_seed([8; 32]);
        assert_eq!(record().sign(&thief), Err(RecordError::ForeignKey));
        let mut stolen = record();
        stolen.key = thief.public();
        assert_eq!(stolen.sign(&thief), Err(RecordError::NameMismatch));
    }

    #[test]
    fn a_dns_name_may_stand_in_a_record_but_no_other_spelling_of_a_key_name() {
        let mut record = record();
        record.server_name = "example.org".to_owned();
        assert!(NodeRecord::verify(record.sign(&secret()).unwrap().bytes()).is_ok());
        record.server_name = record.key.to_string().to_ascii_uppercase();
        assert_eq!(record.sign(&secret()), Err(RecordError::NameMismatch));
    }

    #[test]
    fn bounds_hold_when_signing_and_when_reading() {
        let mut many = record();
        many.addresses = vec!["/ip4/1.2.3.4/tcp/1".to_owned(); MAX_ADDRESSES + 1];
        assert_eq!(many.sign(&secret()), Err(RecordError::Bound("addresses")));
        let mut long = record();
        long.addresses = vec!["x".repeat(MAX_ADDRESS_LEN + 1)];
        assert!(matches!(long.sign(&secret()), Err(RecordError::Bound(_))));
        // Even a hostile signer, who skips the check, is refused.
        for hostile in [many, long] {
            let mut object = hostile.to_object();
            let signature = secret().sign(&signed_bytes(&object).unwrap());
            object.insert("signature".into(), BASE64_NOPAD.encode(&signature).into());
            let bytes = canonical::to_bytes(&Value::Object(object)).unwrap();
            assert!(matches!(NodeRecord::verify(&bytes), Err(RecordError::Bound(_))));
        }
        let oversized = vec![b' '; MAX_RECORD_LEN + 1];
        assert_eq!(NodeRecord::verify(&oversized), Err(RecordError::TooLarge));
    }

    #[test]
    fn unknown_keys_are_covered_by_the_signature_and_kept() {
        let mut object = record().to_object();
        object.insert("later".into(), Value::from(vec![1, 2]));
        let signature = secret().sign(&signed_bytes(&object).unwrap());
        object.insert("signature".into(), BASE64_NOPAD.encode(&signature).into());
        let bytes = canonical::to_bytes(&Value::Object(object)).unwrap();
        let signed = SignedRecord::verify(&bytes).unwrap();
        assert_eq!(signed.record(), &record());
        assert_eq!(signed.bytes().as_ref(), bytes);
        let stripped = String::from_utf8(bytes).unwrap().replace(r#""later":[1,2],"#, "");
        assert_eq!(NodeRecord::verify(stripped.as_bytes()), Err(RecordError::BadSignature));
    }

    #[test]
    fn a_new_epoch_is_newer_than_every_counter_of_the_old_one() {
        assert!(Sequence::new(1, 0) > Sequence::new(0, u32::MAX));
        assert_eq!(Sequence::new(0, u32::MAX).next(), Sequence::new(0, u32::MAX));
        assert_eq!(Sequence::new(3, 4).next(), Sequence::new(3, 5));
        assert_eq!(Sequence::new(3, 4).epoch(), 3);
        assert!(Sequence::from_number(Sequence::new(u32::MAX, u32::MAX).number()).is_some());
        assert_eq!(Sequence::from_number(1 << 53), None);
    }
}
