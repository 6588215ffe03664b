//! Hashes, signatures, IDs and redactions are byte for byte those of an independent implementation:
//! `vectors/events.json` was written by Synapse 1.163.2 through `vectors/make.py`.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;

use kith_room::{
    Signer,
    build::complete_template,
    format, json,
    receive::{receive, signing_servers},
    redact::redact,
};
use ruma::{
    CanonicalJsonObject, OwnedEventId, OwnedRoomId, RoomVersionId, ServerName, serde::Base64, signatures::PublicKeyMap,
};
use serde::Deserialize;
use support::*;

#[derive(Deserialize)]
struct Vectors {
    seed_byte: u8,
    key_id: String,
    server: String,
    events: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    version: RoomVersionId,
    event_id: OwnedEventId,
    event: CanonicalJsonObject,
    redacted: CanonicalJsonObject,
    room_id: Option<OwnedRoomId>,
}

#[test]
fn events_hash_sign_and_redact_as_in_synapse() {
    let vectors: Vectors = serde_json::from_str(include_str!("vectors/events.json")).unwrap();
    let key = key_pair(vectors.seed_byte, vectors.key_id.strip_prefix("ed25519:").unwrap());
    let public = Base64::new(key.public_key().to_vec());
    let keys = PublicKeyMap::from([(vectors.server.clone(), BTreeMap::from([(vectors.key_id.clone(), public)]))]);
    let server_name = ServerName::parse(&vectors.server).unwrap();
    let signer = Signer { server_name: &server_name, key: &key };

    assert_eq!(vectors.events.len(), 100);
    for vector in vectors.events {
        let what = format!("{} in version {}", vector.event["type"], vector.version);
        let text = json::to_text(&vector.event);
        let event = receive(&text, &vector.version, &keys).expect(&what);
        assert_eq!(event.event_id(), vector.event_id, "{what}");
        assert!(!event.redacted(), "content hash of {what}");
        if let Some(room_id) = &vector.room_id {
            assert_eq!(event.room_id(), room_id);
        }
        // Third-party invites need no signature of the sender's server.
        let by_third_party = text.contains("third_party_invite");
        assert_eq!(signing_servers(&text, &vector.version).unwrap().len(), usize::from(!by_third_party));

        let rules = format::rules(&vector.version).unwrap();
        assert_eq!(redact(&event, &rules).unwrap().json(), &vector.redacted, "redaction of {what}");
        let redacted = receive(&json::to_text(&vector.redacted), &vector.version, &keys).expect(&what);
        assert_eq!(redacted.event_id(), vector.event_id, "ID of the redacted {what}");

        let rebuilt =
            complete_template(vector.event.clone(), &vector.version, event.origin_server_ts(), signer).unwrap();
        assert_eq!(rebuilt.json(), &vector.event, "hash and signature of {what}");
    }
}
