//! An event's JSON between reading and storing: what is hashed, signed and redacted.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#signing-events>. By ruma's implementation, except where an event holds
//! numbers that ruma's canonical JSON cannot carry (see `numbers.rs`).

use std::borrow::Cow;

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedEventId, ServerName,
    canonical_json::{RedactingSerializer, redact_in_place},
    room_version_rules::{EventIdFormatVersion, RoomVersionRules},
    signatures::{self, KeyPair as _},
};
use sha2::{Digest as _, Sha256};

use crate::{
    build::Signer,
    canonical::is_canonical,
    json::{self, JsonError},
    numbers::{self, Odd, OddNumbers, Step},
    receive::{MAX_TEXT_BYTES, ReceiveError},
};

/// How many objects and arrays may lie around an event in a request.
const AROUND_EVENTS: usize = 7;

/// An event as JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    object: CanonicalJsonObject,
    odd: OddNumbers,
}

impl From<CanonicalJsonObject> for Document {
    fn from(object: CanonicalJsonObject) -> Self {
        Self { object, odd: OddNumbers::new() }
    }
}

impl Document {
    /// Reads an event's text: strictly as canonical JSON from version 6 on, with any numbers before that.
    ///
    /// # Errors
    ///
    /// The text is too long, or not JSON that this room version allows.
    pub fn read(text: &str, rules: &RoomVersionRules) -> Result<Self, ReceiveError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(ReceiveError::TooLong(text.len()));
        }
        let document = match rules.authorization.strict_canonical_json {
            true => json::parse_object(text).map(Self::from),
            false => Self::read_lenient(text),
        };
        Ok(document?)
    }

    /// Reads JSON with any numbers in it.
    pub(crate) fn read_lenient(text: &str) -> Result<Self, JsonError> {
        match json::parse_object(text) {
            Ok(object) => Ok(object.into()),
            Err(_) => numbers::parse_object(text).map(|(object, odd)| Self { object, odd }),
        }
    }

    /// The event. Where it holds a number that canonical JSON does not know, an integer stands for it: the number without its
    /// fraction, and the nearest of ±(2^53 − 1) where it is beyond.
    pub fn object(&self) -> &CanonicalJsonObject {
        &self.object
    }

    pub(crate) fn into_object(self) -> CanonicalJsonObject {
        self.object
    }

    /// How a number at the top of the event is written, if canonical JSON does not know it.
    pub(crate) fn odd_number(&self, name: &str) -> Option<&str> {
        match self.odd.get(&Step::Key(name.to_owned())) {
            Some(Odd::Number(text)) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.object.remove(name);
        self.odd.remove(&Step::Key(name.to_owned()));
    }

    /// The event's text, in the form in which it is stored and sent.
    pub fn to_text(&self) -> String {
        match self.odd.is_empty() {
            true => json::to_text(&self.object),
            false => numbers::to_text(&self.object, &self.odd),
        }
    }

    /// Takes away what a redaction takes away.
    pub(crate) fn redact(&mut self, rules: &RoomVersionRules) -> Result<(), ReceiveError> {
        redact_in_place(&mut self.object, &rules.redaction, None).map_err(format_error)
    }

    /// What signatures cover: the redacted event without signatures.
    pub(crate) fn signed_text(&self, rules: &RoomVersionRules) -> Result<String, ReceiveError> {
        if self.odd.is_empty() {
            return RedactingSerializer::new()
                .rules(&rules.redaction)
                .custom_redacted_root_fields(&["signatures", "unsigned"])
                .serialize(&self.object)
                .map_err(format_error);
        }
        let mut redacted = self.clone();
        redacted.redact(rules)?;
        redacted.remove("signatures");
        redacted.remove("unsigned");
        Ok(redacted.to_text())
    }

    /// <https://spec.matrix.org/v1.19/server-server-api/#calculating-the-content-hash-for-an-event>
    pub(crate) fn content_hash(&self) -> Result<[u8; 32], ReceiveError> {
        if self.odd.is_empty() {
            return signatures::content_hash(&self.object).map(|hash| hash.into_inner()).map_err(format_error);
        }
        let mut hashed = self.clone();
        ["hashes", "signatures", "unsigned"].iter().for_each(|name| hashed.remove(name));
        Ok(Sha256::digest(hashed.to_text()).into())
    }

    /// The same in the form in which events hold it: unpadded Base64.
    ///
    /// # Errors
    ///
    /// The event is far too long.
    pub fn content_hash_base64(&self) -> Result<String, ReceiveError> {
        self.content_hash().map(|hash| data_encoding::BASE64_NOPAD.encode(&hash))
    }

    /// The hash that names the event (from version 3 on) and that events which cite it hold (before), in unpadded Base64:
    /// <https://spec.matrix.org/v1.19/server-server-api/#calculating-the-reference-hash-for-an-event>.
    pub(crate) fn reference_hash(&self, rules: &RoomVersionRules) -> Result<String, ReceiveError> {
        Ok(reference_hash_of(&self.signed_text(rules)?, rules))
    }

    /// The event's ID: what it says itself in versions 1 and 2, its reference hash from 3 on.
    pub(crate) fn event_id(&self, rules: &RoomVersionRules) -> Result<OwnedEventId, ReceiveError> {
        match rules.event_id_format {
            EventIdFormatVersion::V1 => self.event_id_with("", rules),
            _ => self.event_id_with(&self.signed_text(rules)?, rules),
        }
    }

    /// The same where [`Document::signed_text`] is at hand.
    pub(crate) fn event_id_with(&self, signed: &str, rules: &RoomVersionRules) -> Result<OwnedEventId, ReceiveError> {
        let id = match rules.event_id_format {
            EventIdFormatVersion::V1 => {
                self.object.get("event_id").and_then(CanonicalJsonValue::as_str).map(str::to_owned)
            }
            _ => Some(format!("${}", reference_hash_of(signed, rules))),
        };
        let id = id.ok_or_else(|| ReceiveError::Format("missing `event_id`".to_owned()))?;
        OwnedEventId::try_from(id).map_err(format_error)
    }

    /// Adds a signature.
    ///
    /// # Errors
    ///
    /// The event has no form that could be signed.
    pub fn sign(&mut self, rules: &RoomVersionRules, signer: Signer<'_>) -> Result<(), ReceiveError> {
        if self.odd.is_empty() {
            return signatures::sign_event(signer.server_name.as_str(), signer.key, &mut self.object, &rules.redaction)
                .map_err(format_error);
        }
        let signature = signer.key.sign(self.signed_text(rules)?.as_bytes());
        self.add_signature(signer.server_name, &signature.id(), signature.base64())
    }

    /// Adds a signature that somebody has made.
    pub(crate) fn add_signature(
        &mut self,
        server: &ServerName,
        key_id: &str,
        signature: String,
    ) -> Result<(), ReceiveError> {
        let empty = || CanonicalJsonValue::Object(CanonicalJsonObject::new());
        let place = self.object.entry("signatures".to_owned()).or_insert_with(empty);
        let place = place
            .as_object_mut()
            .and_then(|signatures| signatures.entry(server.to_string()).or_insert_with(empty).as_object_mut());
        let place = place.ok_or_else(|| ReceiveError::Format("`signatures` is not an object of objects".to_owned()))?;
        place.insert(key_id.to_owned(), signature.into());
        Ok(())
    }
}

/// The text that a signature of a JSON object covers where it may hold any numbers, as requests between servers do that carry
/// events of room versions 1 to 5.
///
/// # Errors
///
/// As [`json::parse_object`], but for the numbers. The nesting may be a little deeper, as events lie within.
pub fn text_with_any_numbers(text: &str) -> Result<Cow<'_, str>, JsonError> {
    if is_canonical(text) {
        return Ok(Cow::Borrowed(text));
    }
    let (object, odd) = numbers::parse_nested(text, json::MAX_NESTING + AROUND_EVENTS)?;
    Ok(Cow::Owned(Document { object, odd }.to_text()))
}

/// The hash of what signatures cover, as room versions write it.
fn reference_hash_of(signed: &str, rules: &RoomVersionRules) -> String {
    let hash = Sha256::digest(signed);
    match rules.event_id_format {
        EventIdFormatVersion::V1 | EventIdFormatVersion::V2 => data_encoding::BASE64_NOPAD.encode(&hash),
        _ => data_encoding::BASE64URL_NOPAD.encode(&hash),
    }
}

fn format_error(error: impl std::fmt::Display) -> ReceiveError {
    ReceiveError::Format(error.to_string())
}
