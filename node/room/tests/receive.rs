//! Events that come from outside: what is dropped, what is redacted, what is taken.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;

use kith_room::{
    Builder, Event, ReceiveError, Signer,
    build::{build, countersign},
    format::{self, MAX_EVENT_BYTES},
    receive::{event_id_of, receive, signing_servers},
};
use ruma::{RoomId, RoomVersionId, ServerName, UserId, serde::Base64, signatures::PublicKeyMap};
use serde_json::{Value, json};
use support::*;

fn sample(server: &Server, version: &RoomVersionId, content: Value) -> Event {
    let room = RoomId::parse("!6sPzG_jVZvsKmYqRMCxTHRHMbNYmAU9VQQsLZgyKtHE").unwrap();
    let room = if *version == RoomVersionId::V12 { room } else { RoomId::parse("!room:example.org").unwrap() };
    let builder = Builder::new(&server.user("alice"), "m.room.message", object(content)).room_id(room);
    let prev = prev_id(version).try_into().unwrap();
    build(builder, version, &[prev], &[], 7, ts(5), server.signer()).unwrap()
}

fn prev_id(version: &RoomVersionId) -> &'static str {
    if number(version) < 3 { "$prev:example.org" } else { "$aSmZ2mHJVLSyzqDjKDNFsmgnMUNEiZTG8r0Fs6zfQlE" }
}

fn altered(event: &Event, change: impl FnOnce(&mut Value)) -> String {
    let mut value: Value = serde_json::from_str(event.text()).unwrap();
    change(&mut value);
    value.to_string()
}

fn no_keys() -> PublicKeyMap {
    BTreeMap::new()
}

#[test]
fn an_event_of_a_server_named_by_its_key_verifies_without_any_key_request() {
    let server = Server::new(1);
    for version in &VERSIONS {
        let event = sample(&server, version, json!({ "body": "hi" }));
        assert!(signing_servers(event.text(), version).unwrap().is_empty());
        let received = receive(event.text(), version, &no_keys()).unwrap();
        assert_eq!(received.event_id(), event.event_id());
        assert_eq!(received.text(), event.text());
        assert!(!received.redacted());
        assert_eq!(event_id_of(event.text(), version).unwrap(), event.event_id());
        let stored = Event::from_stored(event.text(), event.event_id().to_owned(), &format::rules(version).unwrap());
        assert_eq!(stored.unwrap().json(), event.json());
    }
}

#[test]
fn unsigned_and_spelling_do_not_matter() {
    let server = Server::new(1);
    let event = sample(&server, &RoomVersionId::V12, json!({ "body": "hi" }));
    let text = altered(&event, |value| value["unsigned"] = json!({ "age": 4, "prev_content": {} }));
    let pretty = serde_json::to_string_pretty(&serde_json::from_str::<Value>(&text).unwrap()).unwrap();
    let received = receive(&pretty, &RoomVersionId::V12, &no_keys()).unwrap();
    assert_eq!(received.text(), event.text());
}

#[test]
fn an_event_whose_content_was_changed_is_kept_redacted() {
    let server = Server::new(1);
    for version in &VERSIONS {
        let event = sample(&server, version, json!({ "body": "hi" }));
        let text = altered(&event, |value| value["content"]["body"] = json!("forged"));
        let received = receive(&text, version, &no_keys()).unwrap();
        assert!(received.redacted());
        assert_eq!(received.event_id(), event.event_id());
        assert!(received.content_object().is_empty());
        assert!(!received.text().contains("forged"));
    }
}

#[test]
fn a_false_or_missing_signature_drops_the_event() {
    let (server, other) = (Server::new(1), Server::new(2));
    let version = RoomVersionId::V12;
    let event = sample(&server, &version, json!({ "body": "hi" }));
    let name = server.name.as_str();

    let changed = altered(&event, |value| value["depth"] = json!(8));
    assert_eq!(receive(&changed, &version, &no_keys()).map(none), Err(ReceiveError::BadSignature(server.name.clone())));

    let unsigned = altered(&event, |value| value["signatures"] = json!({}));
    assert_eq!(receive(&unsigned, &version, &no_keys()).map(none), Err(ReceiveError::NotSigned(server.name.clone())));

    let by_other = altered(&event, |value| {
        let signature = value["signatures"][name].take();
        value["signatures"] = json!({ other.name.as_str(): signature });
    });
    assert_eq!(receive(&by_other, &version, &no_keys()).map(none), Err(ReceiveError::NotSigned(server.name.clone())));

    let other_key_id = altered(&event, |value| {
        let signature = value["signatures"][name]["ed25519:0"].take();
        value["signatures"][name] = json!({ "ed25519:1": signature });
    });
    // Not even a key that somebody hands in counts for a name that is a key.
    let keys = PublicKeyMap::from([(
        name.to_owned(),
        BTreeMap::from([("ed25519:1".to_owned(), Base64::new(server.key.public_key().to_vec()))]),
    )]);
    assert!(matches!(receive(&other_key_id, &version, &keys), Err(ReceiveError::NoKey { .. })));
}

type Change<'a> = Box<dyn Fn(&mut Value) + 'a>;

fn none(_: Event) {}

#[test]
fn a_server_with_a_dns_name_verifies_with_the_keys_that_are_given() {
    let key = key_pair(9, "a_key");
    let name = ServerName::parse("example.org").unwrap();
    let server = Server { name, key };
    let version = RoomVersionId::V11;
    let event = sample(&server, &version, json!({ "body": "hi" }));
    let needed: Vec<_> = signing_servers(event.text(), &version).unwrap().into_iter().collect();
    assert_eq!(needed, [(server.name.clone(), "ed25519:a_key".to_owned())]);
    assert_eq!(
        receive(event.text(), &version, &no_keys()).map(none),
        Err(ReceiveError::NoKey { server: server.name.clone(), key_ids: vec!["ed25519:a_key".to_owned()] })
    );
    let keys = |seed| {
        let key = Base64::new(key_pair(seed, "a_key").public_key().to_vec());
        PublicKeyMap::from([("example.org".to_owned(), BTreeMap::from([("ed25519:a_key".to_owned(), key)]))])
    };
    assert!(receive(event.text(), &version, &keys(9)).is_ok());
    assert_eq!(
        receive(event.text(), &version, &keys(8)).map(none),
        Err(ReceiveError::BadSignature(server.name.clone()))
    );
}

#[test]
fn what_breaks_the_format_is_dropped() {
    let server = Server::new(1);
    let long = "x".repeat(256);
    for version in &VERSIONS {
        let cited = if number(version) < 3 { json!([prev_id(version), {}]) } else { json!(prev_id(version)) };
        let ids = |count: usize| json!(vec![cited.clone(); count]);
        let event = sample(&server, version, json!({ "body": "hi" }));
        let cases: Vec<(&str, Change<'_>)> = vec![
            ("`type`", Box::new(|value| value["type"] = json!(long))),
            ("`type`", Box::new(|value| value["type"] = json!(5))),
            ("`state_key`", Box::new(|value| value["state_key"] = json!(long))),
            ("`state_key`", Box::new(|value| value["state_key"] = Value::Null)),
            ("`sender`", Box::new(|value| value["sender"] = json!("alice"))),
            ("`sender`", Box::new(|value| value["sender"] = json!(format!("@{long}:example.org")))),
            ("`room_id`", Box::new(|value| value["room_id"] = json!("room"))),
            ("`room_id`", Box::new(|value| drop(value.as_object_mut().unwrap().remove("room_id")))),
            ("`depth`", Box::new(|value| value["depth"] = json!(-1))),
            ("`depth`", Box::new(|value| value["depth"] = json!("7"))),
            ("`origin_server_ts`", Box::new(|value| value["origin_server_ts"] = json!(-5))),
            ("`content`", Box::new(|value| value["content"] = json!([]))),
            ("`hashes`", Box::new(|value| value["hashes"] = json!("x"))),
            ("`prev_events`", Box::new(|value| value["prev_events"] = ids(21))),
            ("`prev_events`", Box::new(|value| value["prev_events"] = json!([["$a", {}]]))),
            ("`prev_events`", Box::new(|value| value["prev_events"] = json!([5]))),
            ("`auth_events`", Box::new(|value| value["auth_events"] = ids(11))),
            ("`auth_events`", Box::new(|value| value["auth_events"] = json!({}))),
        ];
        for (field, change) in cases {
            let text = altered(&event, change);
            let error = receive(&text, version, &no_keys()).unwrap_err();
            assert!(matches!(&error, ReceiveError::Format(why) if why.contains(field)), "{field}: {error:?}");
        }
        let twice = event.text().replacen("{", r#"{"depth":7,"#, 1);
        assert!(matches!(receive(&twice, version, &no_keys()), Err(ReceiveError::Json(_))));
        let deep = event.text().replace(r#""hi""#, &format!("{}{}", "[".repeat(5_000), "]".repeat(5_000)));
        assert!(matches!(receive(&deep, version, &no_keys()), Err(ReceiveError::Json(_))));
        let deep_key = event.text().replace(r#""hi""#, &format!("{}1{}", r#"{"a":"#.repeat(5_000), "}".repeat(5_000)));
        assert!(matches!(receive(&deep_key, version, &no_keys()), Err(ReceiveError::Json(_))));
    }
    let event = sample(&server, &RoomVersionId::V12, json!({ "body": "hi" }));
    let cites_create =
        altered(&event, |value| value["auth_events"] = json!(["$6sPzG_jVZvsKmYqRMCxTHRHMbNYmAU9VQQsLZgyKtHE"]));
    assert!(matches!(receive(&cites_create, &RoomVersionId::V12, &no_keys()), Err(ReceiveError::Format(_))));
    for unknown in ["13", "0", "org.example.odd"] {
        let unknown = RoomVersionId::try_from(unknown).unwrap();
        assert!(matches!(receive(event.text(), &unknown, &no_keys()), Err(ReceiveError::UnknownVersion(_))));
        assert!(matches!(event_id_of(event.text(), &unknown), Err(ReceiveError::UnknownVersion(_))));
        assert!(kith_room::Room::new(&unknown, event.room_id()).is_err());
    }
}

#[test]
fn an_event_may_have_65536_bytes_and_not_one_more() {
    let server = Server::new(1);
    for version in &VERSIONS {
        let empty = sample(&server, version, json!({ "body": "" })).text().len();
        let body = |size: usize| json!({ "body": "x".repeat(size - empty) });
        let event = sample(&server, version, body(MAX_EVENT_BYTES));
        assert_eq!(event.text().len(), MAX_EVENT_BYTES);
        receive(event.text(), version, &no_keys()).unwrap();

        let builder = Builder::new(&server.user("alice"), "m.room.message", object(body(MAX_EVENT_BYTES + 1)))
            .room_id(event.room_id().to_owned());
        assert!(build(builder, version, event.prev_events(), &[], 7, ts(5), server.signer()).is_err());
        let longer = event.text().replacen("xx", "xxx", 1);
        assert!(matches!(receive(&longer, version, &no_keys()), Err(ReceiveError::TooLong(_))));
        let endless = format!("{}{}", event.text(), " ".repeat(1 << 20));
        assert!(matches!(receive(&endless, version, &no_keys()), Err(ReceiveError::TooLong(_))));
    }
}

#[test]
fn a_restricted_join_needs_the_signature_of_the_authorising_server_and_nothing_else_does() {
    let (server, authorising) = (Server::new(1), Server::new(2));
    let user = server.user("bob");
    let content = |membership: &str| json!({ "membership": membership, "join_authorised_via_users_server": authorising.user("alice") });
    let version = RoomVersionId::V11;
    let rules = format::rules(&version).unwrap();
    let room = RoomId::parse("!room:example.org").unwrap();
    let make = |membership: &str| {
        let builder = state(&user, "m.room.member", user.as_str(), content(membership)).room_id(room.clone());
        build(builder, &version, &[], &[], 7, ts(5), server.signer()).unwrap()
    };
    let join = make("join");
    assert_eq!(
        receive(join.text(), &version, &no_keys()).map(none),
        Err(ReceiveError::NotSigned(authorising.name.clone()))
    );
    let signed = countersign(&join, &rules, authorising.signer()).unwrap();
    assert_eq!(signed.event_id(), join.event_id());
    assert!(receive(signed.text(), &version, &no_keys()).is_ok());
    let wrong = Signer { server_name: &authorising.name, key: &server.key };
    let wrong = countersign(&join, &rules, wrong).unwrap();
    assert!(matches!(receive(wrong.text(), &version, &no_keys()), Err(ReceiveError::BadSignature(_))));
    assert!(receive(make("leave").text(), &version, &no_keys()).is_ok());
}

#[test]
fn redacted_events_keep_what_their_version_keeps() {
    let server = Server::new(1);
    let user: &UserId = &server.user("alice");
    for version in &VERSIONS {
        let rules = format::rules(version).unwrap();
        let room = RoomId::parse("!6sPzG_jVZvsKmYqRMCxTHRHMbNYmAU9VQQsLZgyKtHE").unwrap();
        let content = json!({ "users": { user: 100 }, "invite": 5, "notifications": { "room": 1 } });
        let builder = state(user, "m.room.power_levels", "", content).room_id(room.clone());
        let event = build(builder, version, &[], &[], 7, ts(5), server.signer()).unwrap();
        let redacted = kith_room::redact::redact(&event, &rules).unwrap();
        assert_eq!(redacted.event_id(), event.event_id());
        assert_eq!(redacted.content_object().contains_key("invite"), number(version) >= 11, "{version}");
        assert!(!redacted.content_object().contains_key("notifications"));
        assert!(receive(redacted.text(), version, &no_keys()).unwrap().redacted());
        assert_eq!(event_id_of(redacted.text(), version).unwrap(), event.event_id());

        let redaction = Builder::new(user, "m.room.redaction", object(json!({ "reason": "why" })))
            .redacts(event.event_id().to_owned())
            .room_id(room);
        let redaction = build(redaction, version, &[], &[], 7, ts(5), server.signer()).unwrap();
        assert_eq!(redaction.redacts(), Some(event.event_id()));
        assert_eq!(redaction.content_object().contains_key("redacts"), number(version) >= 11);
        let because = object(json!({ "type": "m.room.redaction" }));
        let pruned = kith_room::redact::prune_for_client(event.json().clone(), &rules, because).unwrap();
        assert!(serde_json::to_string(&pruned).unwrap().contains("redacted_because"));
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    /// Whatever the text, the answer is an event or an error; and no changed text is taken as it is under another ID.
    #[test]
    fn garbled_text_neither_panics_nor_passes_for_another_event(
        version in proptest::sample::select(vec![RoomVersionId::V1, RoomVersionId::V5, RoomVersionId::V12]),
        place in proptest::prelude::any::<proptest::sample::Index>(),
        cut in 0_usize..6,
        put in "[\\[\\]{}\",:0-9a-e\\-\\\\]{0,6}",
    ) {
        let server = Server::new(1);
        let event = sample(&server, &version, json!({ "body": "hi", "n": [1, -2, { "a": null }] }));
        let mut text = event.text().to_owned();
        let start = place.index(text.len());
        text.replace_range(start..(start + cut).min(text.len()), &put);
        drop(event_id_of(&text, &version));
        drop(signing_servers(&text, &version));
        if let Ok(received) = receive(&text, &version, &no_keys()) {
            proptest::prop_assert_eq!(received.event_id(), event.event_id());
            proptest::prop_assert!(received.redacted() || received.content_object() == event.content_object());
        }
    }
}
