//! Taking an event from another server: form, signatures, hash.
//!
//! Steps 1 to 3 of <https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu>; the later steps
//! need the room and are in [`crate::engine`].

use std::collections::BTreeSet;

use kith_mutants::mutant;
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, EventId, OwnedEventId, OwnedServerName, RoomVersionId, ServerName, UserId,
    room_version_rules::RoomVersionRules,
    serde::{Base64, base64::Standard},
    signatures::PublicKeyMap,
};

use crate::{
    document::Document,
    event::{Event, EventError},
    format::{self, MAX_EVENT_BYTES, check_format},
    json,
    keys::{SELF_CERTIFIED_KEY_ID, self_certified_key},
    signature,
};

/// Text longer than this is not even parsed: spaces and `unsigned` may make an event longer on the wire than it is.
pub const MAX_TEXT_BYTES: usize = 4 * MAX_EVENT_BYTES;

/// Checks an event that came from outside and makes it ready for [`crate::engine::Room::handle_pdu`].
///
/// `keys` holds the verification keys of the servers that [`signing_servers`] names, from version 5 on only those valid at the
/// event's `origin_server_ts` (`enforce_key_validity` of the rules); names that are keys verify by themselves. `unsigned` is
/// dropped. An event whose content hash does not match comes back redacted, as the specification wants it stored
/// ([`Event::redacted`]).
///
/// # Errors
///
/// The event is to be dropped; only [`ReceiveError::NoKey`] is worth another try.
pub fn receive(text: &str, version: &RoomVersionId, keys: &PublicKeyMap) -> Result<Event, ReceiveError> {
    receive_with(text, version, &|server, key_id, _| {
        keys.get(server.as_str()).and_then(|keys| keys.get(key_id)).and_then(|key| key.as_bytes().try_into().ok())
    })
}

/// [`receive`], where keys are looked up: by server, key ID, and in rooms that ask for keys which were valid then the event's
/// `origin_server_ts`.
///
/// # Errors
///
/// As [`receive`].
pub fn receive_with(text: &str, version: &RoomVersionId, keys: &KeyLookup<'_>) -> Result<Event, ReceiveError> {
    let rules = format::rules(version).ok_or_else(|| ReceiveError::UnknownVersion(version.clone()))?;
    receive_document(Document::read(text, &rules)?, &rules, keys)
}

/// Gives the key of a server with which it may have signed, if that is at hand.
pub type KeyLookup<'a> = dyn Fn(&ServerName, &str, Option<u64>) -> Option<[u8; 32]> + 'a;

/// [`receive_with`] for an event whose JSON is read already.
///
/// # Errors
///
/// As [`receive`].
pub fn receive_document(
    mut document: Document,
    rules: &RoomVersionRules,
    keys: &KeyLookup<'_>,
) -> Result<Event, ReceiveError> {
    document.remove("unsigned");
    let text = document.to_text();
    if text.len() > MAX_EVENT_BYTES {
        return Err(ReceiveError::TooLong(text.len()));
    }
    check_format(&document, text.len(), rules).map_err(ReceiveError::Format)?;
    let signed = document.signed_text(rules)?;
    if !mutant!("skips-event-signature") {
        verify_signatures(&document, &signed, rules, keys)?;
    }
    let redacted = !mutant!("skips-content-hash") && !content_hash_matches(&document);
    let event_id = document.event_id_with(&signed, rules)?;
    if !redacted {
        return Ok(Event::from_checked(text, event_id, rules, false)?);
    }
    document.redact(rules)?;
    Ok(Event::from_checked(document.to_text(), event_id, rules, true)?)
}

/// The ID of an event, from its text alone; the event is not checked.
///
/// # Errors
///
/// The text is no event of this room version.
pub fn event_id_of(text: &str, version: &RoomVersionId) -> Result<OwnedEventId, ReceiveError> {
    let rules = format::rules(version).ok_or_else(|| ReceiveError::UnknownVersion(version.clone()))?;
    Document::read(text, &rules)?.event_id(&rules)
}

/// Which keys must be had to verify an event: pairs of server and key ID that appear in its signatures. Servers that are
/// named by their key are left out, as no one needs to be asked.
///
/// # Errors
///
/// The text is no event, or a server that has to sign it did not.
pub fn signing_servers(
    text: &str,
    version: &RoomVersionId,
) -> Result<BTreeSet<(OwnedServerName, String)>, ReceiveError> {
    let rules = format::rules(version).ok_or_else(|| ReceiveError::UnknownVersion(version.clone()))?;
    let document = Document::read(text, &rules)?;
    let mut needed = BTreeSet::new();
    for server in servers_that_must_sign(document.object(), &rules)? {
        if self_certified_key(&server).is_some() {
            continue;
        }
        for (key_id, _) in signatures_of(document.object(), &server)? {
            needed.insert((server.clone(), key_id.to_owned()));
        }
    }
    Ok(needed)
}

/// Why an event that came from outside is dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    /// The room's version is not one that this engine knows.
    #[error("room version {0} is not supported")]
    UnknownVersion(RoomVersionId),
    /// Longer than an event may be.
    #[error("the event has {0} bytes, which is too many")]
    TooLong(usize),
    /// Not JSON that the room version allows.
    #[error("the event is not valid JSON: {0}")]
    Json(#[from] json::JsonError),
    /// Not an event of this room version.
    #[error("invalid event: {0}")]
    Format(String),
    /// A server that has to sign the event did not.
    #[error("{0} did not sign the event")]
    NotSigned(OwnedServerName),
    /// None of the keys with which a server signed is known.
    #[error("no known key of {server} among {key_ids:?}")]
    NoKey {
        /// The server.
        server: OwnedServerName,
        /// The keys with which it signed.
        key_ids: Vec<String>,
    },
    /// A signature is false.
    #[error("the signature of {0} does not match")]
    BadSignature(OwnedServerName),
}

impl From<EventError> for ReceiveError {
    fn from(error: EventError) -> Self {
        Self::Format(error.0)
    }
}

fn content_hash_matches(document: &Document) -> bool {
    let claimed = document
        .object()
        .get("hashes")
        .and_then(CanonicalJsonValue::as_object)
        .and_then(|hashes| hashes.get("sha256"))
        .and_then(CanonicalJsonValue::as_str)
        .and_then(|hash| Base64::<Standard>::parse(hash).ok());
    let actual = document.content_hash().ok();
    claimed.zip(actual).is_some_and(|(claimed, actual)| claimed.as_bytes() == actual)
}

/// <https://spec.matrix.org/v1.19/server-server-api/#validating-hashes-and-signatures-on-received-events>
fn servers_that_must_sign(
    object: &CanonicalJsonObject,
    rules: &RoomVersionRules,
) -> Result<BTreeSet<OwnedServerName>, ReceiveError> {
    let text = |name: &str| object.get(name).and_then(CanonicalJsonValue::as_str);
    let server_of = |user: &str| {
        <&UserId>::try_from(user)
            .map(|user| user.server_name().to_owned())
            .map_err(|error| ReceiveError::Format(format!("{user:?} is no user ID: {error}")))
    };
    let content = object.get("content").and_then(CanonicalJsonValue::as_object);
    let membership = content
        .filter(|_| text("type") == Some("m.room.member"))
        .and_then(|content| content.get("membership"))
        .and_then(CanonicalJsonValue::as_str);

    let mut servers = BTreeSet::new();
    let by_third_party = membership == Some("invite")
        && content
            .and_then(|content| content.get("third_party_invite"))
            .is_some_and(|value| value.as_object().is_some());
    if !by_third_party {
        let sender = text("sender").ok_or_else(|| ReceiveError::Format("missing `sender`".to_owned()))?;
        servers.insert(server_of(sender)?);
    }
    if rules.signatures.check_event_id_server {
        let server = text("event_id").and_then(|id| <&EventId>::try_from(id).ok()?.server_name());
        let server = server.ok_or_else(|| ReceiveError::Format("`event_id` names no server".to_owned()))?;
        servers.insert(server.to_owned());
    }
    // Only for joins: the field is copied into other events of a user at times, where it says nothing.
    if membership == Some("join")
        && rules.signatures.check_join_authorised_via_users_server
        && let Some(via) = content.and_then(|content| content.get("join_authorised_via_users_server"))
    {
        let via = via
            .as_str()
            .ok_or_else(|| ReceiveError::Format("`join_authorised_via_users_server` is not a string".to_owned()))?;
        servers.insert(server_of(via)?);
    }
    Ok(servers)
}

/// The ed25519 signatures that the event carries of `server`.
fn signatures_of<'a>(
    object: &'a CanonicalJsonObject,
    server: &ServerName,
) -> Result<Vec<(&'a str, &'a str)>, ReceiveError> {
    let signatures: Vec<_> = object
        .get("signatures")
        .and_then(CanonicalJsonValue::as_object)
        .and_then(|signatures| signatures.get(server.as_str()))
        .and_then(CanonicalJsonValue::as_object)
        .into_iter()
        .flatten()
        .filter(|(key_id, _)| key_id.starts_with("ed25519:"))
        .filter_map(|(key_id, signature)| Some((key_id.as_str(), signature.as_str()?)))
        .collect();
    if signatures.is_empty() {
        return Err(ReceiveError::NotSigned(server.to_owned()));
    }
    Ok(signatures)
}

/// `signed` is the event's [`Document::signed_text`].
fn verify_signatures(
    document: &Document,
    signed: &str,
    rules: &RoomVersionRules,
    keys: &KeyLookup<'_>,
) -> Result<(), ReceiveError> {
    let object = document.object();
    let at = rules.enforce_key_validity.then(|| match object.get("origin_server_ts") {
        Some(CanonicalJsonValue::Integer(at)) => u64::try_from(i64::from(*at)).unwrap_or_default(),
        _ => 0,
    });
    for server in servers_that_must_sign(object, rules)? {
        let own_key = self_certified_key(&server);
        let mut verified = false;
        let signatures = signatures_of(object, &server)?;
        for (key_id, signature) in &signatures {
            let key = match &own_key {
                Some(key) => (*key_id == SELF_CERTIFIED_KEY_ID).then_some(*key),
                None => keys(&server, key_id, at),
            };
            let Some(key) = key else { continue };
            let signature =
                Base64::<Standard>::parse(signature).map_err(|_| ReceiveError::BadSignature(server.clone()))?;
            if !signature::verifies(&key, signature.as_bytes(), signed.as_bytes()) {
                return Err(ReceiveError::BadSignature(server.clone()));
            }
            verified = true;
        }
        if !verified {
            let key_ids = signatures.iter().map(|(key_id, _)| (*key_id).to_owned()).collect();
            return Err(ReceiveError::NoKey { server, key_ids });
        }
    }
    Ok(())
}
