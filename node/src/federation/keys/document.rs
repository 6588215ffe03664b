//! The document in which a server publishes its keys. Server-server specification, "Publishing Keys".

use std::collections::BTreeMap;

use kith_room::{keys::self_certified_key, signature};
use kith_store::tables::federation::{ServerKeyRow, ServerKeysRow};
use kith_transport::ServerKey;
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, ServerName,
    serde::{Base64, base64::Standard},
};

/// How many keys of a server are kept.
pub(super) const MOST_KEYS: usize = 32;
/// The longest document that is kept to be passed on, in bytes.
const MOST_KEPT: usize = 16 << 10;
/// For how long after it was fetched a document counts at most, in milliseconds: a week.
const WEEK: u64 = 7 * 24 * 3_600_000;

/// What a key is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// An event of a room version that asks for no validity.
    Event,
    /// An event that says it is of this time, in a room version that asks for validity then.
    EventAt(u64),
    /// A request, or the document of another server, now.
    Request(u64),
}

/// The key of that ID, if it may be used for that.
pub fn usable<'a>(row: &'a ServerKeysRow, key_id: &str, needed_for: Use) -> Option<&'a [u8; 32]> {
    let key = row.keys.get(key_id)?;
    let current = row.valid_until.min(row.fetched.saturating_add(WEEK));
    let good = match (needed_for, key.expired) {
        (Use::Event, _) => true,
        (Use::EventAt(at), Some(expired)) => at <= expired,
        (Use::EventAt(at) | Use::Request(at), None) => at <= current,
        (Use::Request(_), Some(_)) => false,
    };
    good.then_some(&key.key)
}

/// Reads and checks a document of `server`, fetched at `now`.
///
/// # Errors
/// What is wrong with it: it is of another server, or none of the keys in it signed it.
pub fn read(document: CanonicalJsonObject, server: &ServerName, now: u64) -> Result<ServerKeysRow, String> {
    if document.get("server_name").and_then(CanonicalJsonValue::as_str) != Some(server.as_str()) {
        return Err("it is of another server".to_owned());
    }
    let mut keys: BTreeMap<String, ServerKeyRow> = BTreeMap::new();
    for (id, entry) in entries(&document, "verify_keys").take(MOST_KEYS / 2) {
        keys.insert(id.clone(), ServerKeyRow { key: key(entry)?, expired: None });
    }
    let signed = signed_text(&document)?;
    if !signed_by(&document, server, &signed, |id| keys.get(id).map(|key| &key.key))? {
        return Err("none of the keys in it signed it".to_owned());
    }
    if let Some(own) = self_certified_key(server)
        && !(keys.len() == 1 && keys.get("ed25519:0").is_some_and(|key| key.key == own))
    {
        return Err("its key is not the one that its name is".to_owned());
    }
    for (id, entry) in entries(&document, "old_verify_keys").take(MOST_KEYS / 2) {
        let expired = integer(entry.get("expired_ts")).ok_or("an old key has no time of expiry")?;
        keys.entry(id.clone()).or_insert(ServerKeyRow { key: key(entry)?, expired: Some(expired) });
    }
    let valid_until = integer(document.get("valid_until_ts")).ok_or("it does not say how long it is valid")?;
    let text = serde_json::to_string(&document).map_err(|error| error.to_string())?;
    let document = if text.len() <= MOST_KEPT { text } else { String::new() };
    Ok(ServerKeysRow { keys, valid_until, fetched: now, document })
}

/// Whether a document carries good signatures of `server`. `keys` gives its keys.
///
/// # Errors
/// A signature with a known key is false.
pub fn is_signed_by<'a>(
    document: &CanonicalJsonObject,
    server: &ServerName,
    keys: impl Fn(&str) -> Option<&'a [u8; 32]>,
) -> Result<bool, String> {
    signed_by(document, server, &signed_text(document)?, keys)
}

fn signed_by<'a>(
    document: &CanonicalJsonObject,
    server: &ServerName,
    signed: &str,
    keys: impl Fn(&str) -> Option<&'a [u8; 32]>,
) -> Result<bool, String> {
    let signatures = document.get("signatures").and_then(CanonicalJsonValue::as_object);
    let signatures = signatures.and_then(|all| all.get(server.as_str())).and_then(CanonicalJsonValue::as_object);
    let mut verified = false;
    for (id, value) in signatures.into_iter().flatten().take(MOST_KEYS) {
        let Some(key) = keys(id) else { continue };
        let bytes = value.as_str().and_then(|text| Base64::<Standard>::parse(text).ok());
        if !bytes.is_some_and(|bytes| signature::verifies(key, bytes.as_bytes(), signed.as_bytes())) {
            return Err(format!("the signature of {server} does not match"));
        }
        verified = true;
    }
    Ok(verified)
}

fn signed_text(document: &CanonicalJsonObject) -> Result<String, String> {
    let signed: BTreeMap<&String, &CanonicalJsonValue> =
        document.iter().filter(|(name, _)| !matches!(name.as_str(), "signatures" | "unsigned")).collect();
    serde_json::to_string(&signed).map_err(|error| error.to_string())
}

fn entries<'a>(
    document: &'a CanonicalJsonObject,
    field: &str,
) -> impl Iterator<Item = (&'a String, &'a CanonicalJsonObject)> {
    let entries = document.get(field).and_then(CanonicalJsonValue::as_object).into_iter().flatten();
    // Other algorithms may come to be; they are none of ours.
    entries.filter(|(id, _)| id.starts_with("ed25519:")).filter_map(|(id, entry)| Some((id, entry.as_object()?)))
}

fn key(entry: &CanonicalJsonObject) -> Result<[u8; 32], String> {
    let text = entry.get("key").and_then(CanonicalJsonValue::as_str).ok_or("a key is missing")?;
    let bytes = Base64::<Standard>::parse(text).map_err(|_| "a key is no base64")?;
    let bytes = <[u8; 32]>::try_from(bytes.as_bytes()).map_err(|_| "a key has not 32 bytes")?;
    // Some keys verify signatures that nobody made.
    ServerKey::from_bytes(bytes).map(|_| bytes).map_err(|_| "a key is none of ed25519".to_owned())
}

fn integer(value: Option<&CanonicalJsonValue>) -> Option<u64> {
    match value {
        Some(CanonicalJsonValue::Integer(number)) => u64::try_from(i64::from(*number)).ok(),
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use ruma::{
        OwnedServerName,
        signatures::{Ed25519KeyPair, sign_json},
    };
    use serde_json::{Value, json};

    use super::*;
    use crate::node::key_pair;

    pub(crate) fn pair(seed: u8, id: &str) -> Ed25519KeyPair {
        let der = {
            let pair = key_pair(&kith_transport::SecretKey::from_seed([seed; 32])).unwrap();
            assert_eq!(pair.version(), "0");
            let mut document =
                vec![0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
            document.extend_from_slice(&[seed; 32]);
            document
        };
        Ed25519KeyPair::from_der(&der, id.to_owned()).unwrap()
    }

    pub(crate) fn encoded(pair: &Ed25519KeyPair) -> String {
        Base64::<Standard>::new(pair.public_key().to_vec()).encode()
    }

    pub(crate) fn name() -> OwnedServerName {
        "example.org".try_into().unwrap()
    }

    /// A document, changed before it is signed.
    pub(crate) fn document(change: impl FnOnce(&mut Value), signers: &[&Ed25519KeyPair]) -> CanonicalJsonObject {
        let mut value = json!({
            "server_name": "example.org",
            "verify_keys": { "ed25519:a": { "key": encoded(&pair(1, "a")) } },
            "old_verify_keys": { "ed25519:old": { "key": encoded(&pair(2, "old")), "expired_ts": 500 } },
            "valid_until_ts": 2_000,
        });
        change(&mut value);
        let mut document: CanonicalJsonObject = serde_json::from_value(value).unwrap();
        for signer in signers {
            sign_json("example.org", *signer, &mut document).unwrap();
        }
        document
    }

    #[test]
    fn a_document_gives_its_keys_for_as_long_as_each_is_valid() {
        let row = read(document(|_| {}, &[&pair(1, "a")]), &name(), 1_000).unwrap();
        for (id, needed_for, good) in [
            ("ed25519:a", Use::Event, true),
            ("ed25519:a", Use::EventAt(0), true),
            ("ed25519:a", Use::EventAt(2_000), true),
            ("ed25519:a", Use::EventAt(2_001), false),
            ("ed25519:a", Use::Request(2_000), true),
            ("ed25519:a", Use::Request(2_001), false),
            ("ed25519:old", Use::Event, true),
            ("ed25519:old", Use::EventAt(500), true),
            ("ed25519:old", Use::EventAt(501), false),
            ("ed25519:old", Use::Request(100), false),
            ("ed25519:b", Use::Event, false),
        ] {
            assert_eq!(usable(&row, id, needed_for).is_some(), good, "{id} {needed_for:?}");
        }
        // A week at most, whatever it says.
        let long = document(|value| value["valid_until_ts"] = json!(u32::MAX), &[&pair(1, "a")]);
        let row = read(long, &name(), 1_000).unwrap();
        assert!(usable(&row, "ed25519:a", Use::Request(1_000 + WEEK)).is_some());
        assert!(usable(&row, "ed25519:a", Use::Request(1_001 + WEEK)).is_none());
    }

    #[test]
    fn documents_that_are_forged_or_malformed_are_refused() {
        type Change = fn(&mut Value);
        let changes: [Change; 8] = [
            |value| value["server_name"] = json!("evil.org"),
            |value| value["verify_keys"] = json!({}),
            |value| value["verify_keys"] = json!({ "curve25519:a": { "key": "" } }),
            |value| value["verify_keys"]["ed25519:a"]["key"] = json!("AAAA"),
            |value| value["verify_keys"]["ed25519:b"] = json!({ "key": encoded_zero() }),
            |value| value["old_verify_keys"]["ed25519:old"] = json!({ "key": encoded(&pair(2, "old")) }),
            |value| value["valid_until_ts"] = json!("soon"),
            |value| value["valid_until_ts"] = json!(-1),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            assert!(read(document(change, &[&pair(1, "a")]), &name(), 0).is_err(), "{number}");
        }
        // Not signed; signed by a stranger only; signed by a stranger under the ID of its key; by an old key only.
        for signers in [&[][..], &[&pair(9, "z")], &[&pair(9, "a")], &[&pair(2, "old")]] {
            assert!(read(document(|_| {}, signers), &name(), 0).is_err());
        }
        let mut changed = document(|_| {}, &[&pair(1, "a")]);
        changed.insert("valid_until_ts".to_owned(), CanonicalJsonValue::Integer(9_999.into()));
        assert!(read(changed, &name(), 0).is_err());
    }

    /// A point of small order.
    fn encoded_zero() -> String {
        let mut bytes = vec![0; 32];
        bytes[0] = 1;
        Base64::<Standard>::new(bytes).encode()
    }

    #[test]
    fn a_name_that_is_a_key_has_no_other() {
        let own = pair(1, "0");
        let server = OwnedServerName::try_from(format!(
            "{}.mesh.example.org",
            kith_transport::SecretKey::from_seed([1; 32]).public()
        ))
        .unwrap();
        let make = |key: &Ed25519KeyPair| {
            let mut document: CanonicalJsonObject = serde_json::from_value(json!({
                "server_name": server,
                "verify_keys": { "ed25519:0": { "key": encoded(key) } },
                "valid_until_ts": 5,
            }))
            .unwrap();
            sign_json(server.as_str(), key, &mut document).unwrap();
            document
        };
        assert!(read(make(&own), &server, 0).is_ok());
        assert!(read(make(&pair(2, "0")), &server, 0).is_err());
    }
}
