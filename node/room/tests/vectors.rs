//! Hashes, signatures, IDs and redactions are byte for byte those of an independent implementation:
//! `vectors/events.json` was written by Synapse 1.163.2 through `vectors/make.py`.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;

use kith_room::{
    ReceiveError, Signer,
    build::{complete_template, countersign},
    format, json,
    receive::{receive, signing_servers},
    redact::redact,
};
use ruma::{
    CanonicalJsonObject, OwnedEventId, OwnedRoomId, RoomVersionId, ServerName,
    serde::Base64,
    signatures::{Ed25519KeyPair, PublicKeyMap},
};
use serde::Deserialize;
use support::*;

#[derive(Deserialize)]
struct Vectors {
    seed_byte: u8,
    key_id: String,
    server: String,
    events: Vec<Vector>,
    odd_events: Vec<OddVector>,
}

#[derive(Deserialize)]
struct Vector {
    version: RoomVersionId,
    event_id: OwnedEventId,
    event: CanonicalJsonObject,
    redacted: CanonicalJsonObject,
    room_id: Option<OwnedRoomId>,
    reference_hash: String,
}

/// An event with numbers that canonical JSON does not know, as text.
#[derive(Deserialize)]
struct OddVector {
    version: RoomVersionId,
    event_id: OwnedEventId,
    event: String,
    redacted: String,
    reference_hash: String,
}

impl Vectors {
    fn read() -> Self {
        serde_json::from_str(include_str!("vectors/events.json")).unwrap()
    }

    fn key(&self) -> Ed25519KeyPair {
        key_pair(self.seed_byte, self.key_id.strip_prefix("ed25519:").unwrap())
    }

    fn public_keys(&self) -> PublicKeyMap {
        let public = Base64::new(self.key().public_key().to_vec());
        PublicKeyMap::from([(self.server.clone(), BTreeMap::from([(self.key_id.clone(), public)]))])
    }
}

#[test]
fn events_hash_sign_and_redact_as_in_synapse() {
    let vectors = Vectors::read();
    let (key, keys) = (vectors.key(), vectors.public_keys());
    let server_name = ServerName::parse(&vectors.server).unwrap();
    let signer = Signer { server_name: &server_name, key: &key };

    assert_eq!(vectors.events.len(), 132);
    for vector in vectors.events {
        let what = format!("{} in version {}", vector.event["type"], vector.version);
        let text = json::to_text(&vector.event);
        let event = receive(&text, &vector.version, &keys).expect(&what);
        assert_eq!(event.event_id(), vector.event_id, "{what}");
        assert!(!event.redacted(), "content hash of {what}");
        if let Some(room_id) = &vector.room_id {
            assert_eq!(event.room_id(), room_id);
        }
        // Third-party invites need no signature of the sender's server, but that of the server which the ID names.
        let by_third_party = text.contains("third_party_invite") && number(&vector.version) >= 3;
        assert_eq!(signing_servers(&text, &vector.version).unwrap().len(), usize::from(!by_third_party));

        let rules = format::rules(&vector.version).unwrap();
        assert_eq!(in_standard_alphabet(&event.reference_hash(&rules).unwrap()), vector.reference_hash, "{what}");
        assert_eq!(redact(&event, &rules).unwrap().json(), &vector.redacted, "redaction of {what}");
        let redacted = receive(&json::to_text(&vector.redacted), &vector.version, &keys).expect(&what);
        assert_eq!(redacted.event_id(), vector.event_id, "ID of the redacted {what}");

        // In versions 1 and 2 the server that completes an event names it, so hash and signature are others.
        let countersigned = countersign(&event, &rules, signer).unwrap();
        assert_eq!(countersigned.json(), &vector.event, "signature of {what}");
        if number(&vector.version) >= 3 {
            let rebuilt =
                complete_template(vector.event.clone(), &vector.version, event.origin_server_ts(), signer).unwrap();
            assert_eq!(rebuilt.json(), &vector.event, "hash and signature of {what}");
        }
    }
}

#[test]
fn events_with_floats_and_great_integers_hash_sign_and_redact_as_in_synapse() {
    let vectors = Vectors::read();
    let (key, keys) = (vectors.key(), vectors.public_keys());
    let server_name = ServerName::parse(&vectors.server).unwrap();
    let signer = Signer { server_name: &server_name, key: &key };

    assert_eq!(vectors.odd_events.len(), 15);
    for vector in vectors.odd_events {
        let what = format!("{} in version {}", vector.event, vector.version);
        let event = receive(&vector.event, &vector.version, &keys).expect(&what);
        assert_eq!(event.event_id(), vector.event_id, "{what}");
        assert!(!event.redacted(), "content hash of {what}");
        assert_eq!(event.text(), vector.event);

        let rules = format::rules(&vector.version).unwrap();
        assert_eq!(in_standard_alphabet(&event.reference_hash(&rules).unwrap()), vector.reference_hash, "{what}");
        assert_eq!(redact(&event, &rules).unwrap().text(), vector.redacted, "redaction of {what}");
        let redacted = receive(&vector.redacted, &vector.version, &keys).expect(&what);
        assert_eq!(redacted.event_id(), vector.event_id, "ID of the redacted {what}");
        assert_eq!(countersign(&event, &rules, signer).unwrap().text(), vector.event, "signature of {what}");

        // What canonical JSON does not know is dropped from version 6 on.
        assert!(matches!(receive(&vector.event, &RoomVersionId::V6, &keys), Err(ReceiveError::Json(_))));
    }
}

fn in_standard_alphabet(hash: &str) -> String {
    hash.replace('-', "+").replace('_', "/")
}
