//! Where room versions differ: names, citations, numbers, signatures, and what each allows.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::{collections::BTreeMap, sync::Arc};

use kith_room::{
    Builder, CreateError, Decision, Event, Outcome, ReceiveError,
    build::build,
    format,
    power::PowerLevels,
    receive::{receive, receive_document, signing_servers},
    redact::may_redact,
};
use ruma::{EventId, OwnedEventId, OwnedUserId, RoomVersionId, signatures::PublicKeyMap};
use serde_json::{Value, json};
use support::*;

/// Alice's room (level 100), in which Bob of another server is, at level 0.
struct World {
    a: Server,
    b: Server,
    alice: OwnedUserId,
    bob: OwnedUserId,
    room: Replica,
}

fn world(version: &RoomVersionId) -> World {
    let (a, b) = (Server::new(1), Server::new(2));
    let (alice, bob) = (a.user("alice"), b.user("bob"));
    let mut room = Replica::create(&a, &alice, version, levels(version, &alice));
    room.send(&b, member(&bob, &bob, "join"));
    World { a, b, alice, bob, room }
}

fn levels(version: &RoomVersionId, alice: &OwnedUserId) -> Value {
    if *version == RoomVersionId::V12 { json!({}) } else { json!({ "users": { alice.as_str(): 100 } }) }
}

fn no_keys() -> PublicKeyMap {
    BTreeMap::new()
}

fn ids(events: &[&Arc<Event>]) -> Vec<OwnedEventId> {
    events.iter().map(|event| event.event_id().to_owned()).collect()
}

/// `event` with `change` made to it, hashed and signed anew by its server, as a server of old would do it.
fn remade(event: &Event, version: &RoomVersionId, server: &Server, change: impl FnOnce(&mut Value)) -> String {
    let mut value: Value = serde_json::from_str(event.text()).unwrap();
    value["hashes"] = json!({});
    value["signatures"] = json!({});
    change(&mut value);
    let rules = format::rules(version).unwrap();
    let document = |value: &Value| kith_room::Document::read(&value.to_string(), &rules);
    value["hashes"] = json!({ "sha256": document(&value).unwrap().content_hash_base64().unwrap() });
    let mut signed = document(&value).unwrap();
    signed.sign(&rules, server.signer()).unwrap();
    signed.to_text()
}

#[test]
fn events_are_named_and_cited_in_the_way_of_their_version() {
    for version in &VERSIONS {
        let mut w = world(version);
        let event = w.room.send(&w.b, message(&w.bob, "hi"));
        let parent = &event.prev_events()[0];
        let json: Value = serde_json::from_str(event.text()).unwrap();
        let id = event.event_id().as_str();
        if number(version) < 3 {
            assert_eq!(json["event_id"], id);
            assert_eq!(event.event_id().server_name(), Some(&*w.b.name));
            let hash = w.room.store.events[parent].event.reference_hash(w.room.room.rules()).unwrap();
            assert_eq!(json["prev_events"], json!([[parent, { "sha256": hash }]]));
            assert!(json["auth_events"].as_array().unwrap().iter().all(|cited| cited[1]["sha256"].is_string()));
        } else {
            assert!(json.get("event_id").is_none());
            assert_eq!(json["prev_events"], json!([parent]));
            assert_eq!(id.len(), 44, "a hash in Base64");
            let foreign = if number(version) == 3 { ['-', '_'] } else { ['+', '/'] };
            assert!(!id.contains(foreign), "{version}: {id}");
        }
        assert_eq!(event.room_id().server_name().is_some(), number(version) < 12);
        let received = receive(event.text(), version, &no_keys()).unwrap();
        assert_eq!((received.event_id(), received.prev_events()), (event.event_id(), event.prev_events()));
    }
}

#[test]
fn the_server_that_names_an_event_signs_it() {
    for version in &VERSIONS[..2] {
        let mut w = world(version);
        let event = w.room.send(&w.b, message(&w.bob, "hi"));
        assert!(signing_servers(event.text(), version).unwrap().is_empty());
        let foreign = remade(&event, version, &w.b, |event| event["event_id"] = json!(format!("$x:{}", w.a.name)));
        assert_eq!(receive(&foreign, version, &no_keys()).unwrap_err(), ReceiveError::NotSigned(w.a.name.clone()));
        let rules = format::rules(version).unwrap();
        let mut document = kith_room::Document::read(&foreign, &rules).unwrap();
        document.sign(&rules, w.a.signer()).unwrap();
        assert!(!receive_document(document, &rules, &|_, _, _| None).unwrap().redacted());
        for id in ["$no_server", "no_sigil:example.org", "$bad:exa mple.org", ""] {
            let text = remade(&event, version, &w.b, |event| event["event_id"] = json!(id));
            assert!(matches!(receive(&text, version, &no_keys()), Err(ReceiveError::Format(_))), "{id:?}");
        }
        for cited in
            [json!("$x:example.org"), json!(["$x:example.org"]), json!(["$x", {}]), json!([{}, "$x:example.org"])]
        {
            let text = remade(&event, version, &w.b, |event| event["prev_events"] = json!([cited]));
            assert!(matches!(receive(&text, version, &no_keys()), Err(ReceiveError::Format(_))), "{cited}");
        }
    }
}

#[test]
fn of_two_events_with_one_name_the_first_counts() {
    for version in &VERSIONS[..2] {
        let mut w = world(version);
        let event = w.room.send(&w.b, message(&w.bob, "first"));
        let second = remade(&event, version, &w.b, |event| event["content"]["body"] = json!("second"));
        let second = Arc::new(receive(&second, version, &no_keys()).unwrap());
        assert_eq!(second.event_id(), event.event_id());
        assert!(matches!(w.room.offer(&second), Outcome::Duplicate));
    }
}

#[test]
fn the_redact_level_is_asked_for_by_the_auth_rules_of_versions_1_and_2_only() {
    for version in &VERSIONS {
        let mut w = world(version);
        let by_alice = w.room.send(&w.a, message(&w.alice, "hers"));
        let by_bob = w.room.send(&w.b, message(&w.bob, "his"));
        let redact = |user: &OwnedUserId, target: &Event| {
            Builder::new(user, "m.room.redaction", object(json!({}))).redacts(target.event_id().to_owned())
        };
        let effect = |room: &Replica, redaction: &Event, target: &Event| {
            let create = room.current("m.room.create", "").unwrap();
            let levels = room.current("m.room.power_levels", "");
            let levels = PowerLevels::new(&create, levels.as_ref(), &room.room.rules().authorization).unwrap();
            may_redact(redaction, target, &levels)
        };
        let own = w.room.send(&w.b, redact(&w.bob, &by_bob));
        assert!(effect(&w.room, &own, &by_bob));
        assert!(!effect(&w.room, &own, &by_alice), "it names another event");
        let by_power = w.room.send(&w.a, redact(&w.alice, &by_bob));
        assert!(effect(&w.room, &by_power, &by_bob));
        if number(version) < 3 {
            assert!(w.room.refusal(&w.b, redact(&w.bob, &by_alice)).contains("redaction"));
        } else {
            let without_effect = w.room.send(&w.b, redact(&w.bob, &by_alice));
            assert!(!effect(&w.room, &without_effect, &by_alice), "{version}");
        }
    }
}

#[test]
fn aliases_need_no_level_but_the_right_server_before_version_6() {
    for version in &VERSIONS {
        let mut w = world(version);
        let aliases = |server: &str| state(&w.bob, "m.room.aliases", server, json!({ "aliases": [] }));
        let (own, foreign) = (aliases(w.b.name.as_str()), aliases(w.a.name.as_str()));
        if number(version) < 6 {
            w.room.send(&w.b, own);
            assert!(w.room.refusal(&w.b, foreign).contains("server name"));
        } else {
            assert!(w.room.refusal(&w.b, own).contains("enough power"));
        }
    }
}

#[test]
fn levels_may_be_strings_before_version_10() {
    for version in &VERSIONS {
        let mut w = world(version);
        let mut content = levels(version, &w.alice);
        content["events"] = json!({ "m.room.topic": " +0025 " });
        content["users"][w.bob.as_str()] = json!("30");
        let levels = state(&w.alice, "m.room.power_levels", "", content);
        let topic = state(&w.bob, "m.room.topic", "", json!({ "topic": "t" }));
        if number(version) < 10 {
            w.room.send(&w.a, levels);
            w.room.send(&w.b, topic);
            let name = state(&w.bob, "m.room.name", "", json!({ "name": "n" }));
            assert!(w.room.refusal(&w.b, name).contains("enough power"));
        } else {
            w.room.refusal(&w.a, levels);
            assert!(w.room.refusal(&w.b, topic).contains("enough power"));
        }
    }
}

#[test]
fn levels_may_be_floats_before_version_6() {
    for version in &VERSIONS {
        let mut w = world(version);
        let mut content = levels(version, &w.alice);
        content["users"][w.bob.as_str()] = json!(49);
        let plain = w.room.send(&w.a, state(&w.alice, "m.room.power_levels", "", content));
        if number(version) >= 6 {
            let text = plain.text().replace(":49", ":50.57");
            assert!(matches!(receive(&text, version, &no_keys()), Err(ReceiveError::Json(_))), "{version}");
            continue;
        }
        let text = remade(&plain, version, &w.a, |event| {
            event["content"]["users"][w.bob.as_str()] = json!(50.57);
            event["prev_events"] = match number(version) < 3 {
                true => json!([[plain.event_id(), {}]]),
                false => json!([plain.event_id()]),
            };
            if number(version) < 3 {
                event["event_id"] = json!(format!("$floats:{}", w.a.name));
            }
        });
        let floats = Arc::new(receive(&text, version, &no_keys()).unwrap());
        assert!(!floats.redacted() && floats.text().contains("50.57"));
        assert_eq!(w.room.decide(&floats), Decision::Accepted);
        w.room.send(&w.b, state(&w.bob, "m.room.topic", "", json!({ "topic": "50 is enough" })));
        let stored = Event::from_stored(floats.text(), floats.event_id().to_owned(), w.room.room.rules()).unwrap();
        let create = w.room.current("m.room.create", "").unwrap();
        let levels = PowerLevels::new(&create, Some(&Arc::new(stored)), &w.room.room.rules().authorization).unwrap();
        assert_eq!(levels.user(&w.bob), ruma::events::room::power_levels::UserPowerLevel::Int(50.into()));
    }
}

/// Read by what canonical JSON can carry and no more, such events would be lost, and with them what follows.
#[test]
fn numbers_of_any_size_are_kept_as_they_are_before_version_6() {
    for version in &VERSIONS {
        let mut w = world(version);
        let event = w.room.send(&w.b, message(&w.bob, "hi"));
        for (field, value) in
            [("a", "1.5"), ("a", "-1e+16"), ("a", "9223372036854775807"), ("a", "123456789012345678901234567890")]
        {
            let mut hash = String::new();
            let plain = remade(&event, version, &w.b, |event| event["content"] = json!({ field: 7 }));
            let rules = format::rules(version).unwrap();
            let text = plain.replace(r#"{"a":7}"#, &format!(r#"{{"a":{value}}}"#));
            let Ok(document) = kith_room::Document::read(&text, &rules) else {
                assert!(number(version) >= 6, "{version}: {value}");
                continue;
            };
            assert!(number(version) < 6, "{version}: {value}");
            hash.push_str(&document.content_hash_base64().unwrap());
            let mut value_of: Value = serde_json::from_str(&plain).unwrap();
            let old = value_of["hashes"]["sha256"].take();
            let text = text.replace(old.as_str().unwrap(), &hash);
            let mut document = kith_room::Document::read(&text, &rules).unwrap();
            document.sign(&rules, w.b.signer()).unwrap();
            let received = receive(&document.to_text(), version, &no_keys()).unwrap();
            assert!(!received.redacted());
            assert!(received.text().contains(&format!(r#""content":{{"a":{value}}}"#)), "{}", received.text());
            // Another value is noticed.
            let forged = document.to_text().replace(&format!(r#"{{"a":{value}}}"#), r#"{"a":2.5}"#);
            assert!(receive(&forged, version, &no_keys()).unwrap().redacted());
        }
        for (value, fits) in
            [("9007199254740992", true), ("9223372036854775807", true), ("9223372036854775808", false), ("7.0", false)]
        {
            let text = event.text().replace(&format!(r#""depth":{}"#, event.depth()), &format!(r#""depth":{value}"#));
            match receive(&text, version, &no_keys()) {
                // Only the signature is wrong then.
                Err(ReceiveError::BadSignature(_)) => assert!(fits && number(version) < 6, "{version}: {value}"),
                Err(ReceiveError::Format(_)) => assert!(!fits && number(version) < 6, "{version}: {value}"),
                Err(ReceiveError::Json(_)) => assert!(number(version) >= 6, "{version}: {value}"),
                other => panic!("{version}: {value}: {other:?}"),
            }
        }
    }
}

#[test]
fn knocking_and_restricted_joins_come_with_their_versions() {
    for version in &VERSIONS {
        let mut w = world(version);
        let carol = w.b.user("carol");
        let via = json!({ "membership": "join", "join_authorised_via_users_server": w.alice });
        for (rule, first_knock, first_join) in
            [("knock", 7, 99), ("restricted", 99, 8), ("knock_restricted", 10, 10), ("invite", 99, 99)]
        {
            w.room.send(&w.a, state(&w.alice, "m.room.join_rules", "", json!({ "join_rule": rule })));
            let knock = w.room.try_send(&w.b, member(&carol, &carol, "knock"));
            assert_eq!(knock.is_ok(), number(version) >= first_knock, "{version}: knock where {rule}");
            if knock.is_ok() {
                w.room.send(&w.b, member(&carol, &carol, "leave"));
            }
            let join = w.room.try_send(&w.b, state(&carol, "m.room.member", carol.as_str(), via.clone()));
            assert_eq!(join.is_ok(), number(version) >= first_join, "{version}: join where {rule}");
            if join.is_ok() {
                w.room.send(&w.b, member(&carol, &carol, "leave"));
            }
        }
    }
}

#[test]
fn the_creator_is_named_in_the_content_before_version_11() {
    for version in &VERSIONS {
        let server = Server::new(1);
        let (alice, eve) = (server.user("alice"), server.user("eve"));
        let mut builder = state(&alice, "m.room.create", "", json!({ "creator": eve }));
        if number(version) < 12 {
            builder = builder.room_id(ruma::RoomId::parse(format!("!room:{}", server.name)).unwrap());
        }
        let (room, verdict) = kith_room::Room::create(version, builder, ts(1), server.signer()).unwrap();
        let create = &verdict.event;
        let levels = PowerLevels::new(create, None, &room.rules().authorization).unwrap();
        let creator = if number(version) < 11 { &eve } else { &alice };
        assert_eq!(levels.creators().iter().collect::<Vec<_>>(), [creator], "{version}");

        let no_creator = state(&alice, "m.room.create", "", json!({}))
            .room_id(ruma::RoomId::parse(format!("!room:{}", server.name)).unwrap());
        let made = kith_room::Room::create(version, no_creator, ts(1), server.signer());
        assert_eq!(matches!(made, Err(CreateError::Forbidden(_))), number(version) < 11, "{version}");
    }
}

/// From version 3 on, the ID of an event is a hash of what it cites, so nobody can make a cycle. Before, anybody can.
#[test]
fn events_that_claim_to_follow_each_other_lose_nothing_of_the_room() {
    for version in &VERSIONS[..2] {
        let mut w = world(version);
        let good = w.room.send(&w.b, message(&w.bob, "good"));
        let name = |name: &str| format!("${name}:{}", w.b.name);
        let make = |own: &str, prev: &str, auth: Option<&str>| {
            remade(&good, version, &w.b, |event| {
                event["event_id"] = json!(name(own));
                event["prev_events"] = json!([[name(prev), {}]]);
                if let Some(auth) = auth {
                    event["auth_events"] = json!([[name(auth), {}]]);
                }
            })
        };
        let error = receive(&make("self", "self", None), version, &no_keys()).unwrap_err();
        assert!(matches!(&error, ReceiveError::Format(why) if why.contains("predecessor")), "{error:?}");
        let error = receive(&make("self", "other", Some("self")), version, &no_keys()).unwrap_err();
        assert!(matches!(&error, ReceiveError::Format(why) if why.contains("predecessor")), "{error:?}");

        let event = |own, prev, auth| Arc::new(receive(&make(own, prev, auth), version, &no_keys()).unwrap());
        let (one, two) = (event("one", "two", None), event("two", "one", None));
        let before: Vec<_> = w.room.room.extremities().map(ToOwned::to_owned).collect();
        for claim in [&one, &two] {
            assert!(matches!(w.room.offer(claim), Outcome::Missing { prev, .. } if prev == claim.prev_events()));
        }
        assert!(kith_room::graph::sort_by_prev_events([one.clone(), two.clone()]).is_empty());

        // In a state that a server gives, what is its own authority is left out.
        let (x, y) = (event("x", "good", Some("y")), event("y", "good", Some("x")));
        let rules = w.room.room.rules();
        let checked = kith_room::join::check_outliers(rules, w.room.room.room_id(), [x, y], &w.room.store).unwrap();
        assert_eq!((checked.events.len(), checked.dropped.len()), (0, 2));

        assert_eq!(w.room.room.extremities().map(ToOwned::to_owned).collect::<Vec<_>>(), before);
        let next = w.room.send(&w.a, message(&w.alice, "on"));
        assert_eq!(next.prev_events(), ids(&[&good]));

        // Even where one of them gets a state from elsewhere, the other one closes the circle without harm.
        let state = w.room.room.current().clone();
        let placement = kith_room::Placement::Live;
        let outcome = w.room.room.with_given_state(one.clone(), state, placement, &w.room.store).unwrap();
        let Outcome::Verdict(verdict) = outcome else { panic!("{outcome:?}") };
        w.room.take(&verdict);
        assert_eq!(w.room.decide(&two), Decision::Accepted);
        let on = w.room.send(&w.a, message(&w.alice, "and on"));
        assert_eq!(w.room.room.extremities().collect::<Vec<_>>(), [on.event_id()]);
    }
}

#[test]
fn events_of_another_room_or_of_a_forged_sender_change_nothing() {
    for version in &VERSIONS {
        let mut w = world(version);
        let head: Vec<_> = w.room.room.extremities().map(ToOwned::to_owned).collect();
        let elsewhere = match number(version) {
            12 => "!6sPzG_jVZvsKmYqRMCxTHRHMbNYmAU9VQQsLZgyKtHE".to_owned(),
            _ => format!("!other:{}", w.a.name),
        };
        let builder = message(&w.bob, "hi").room_id(ruma::RoomId::parse(elsewhere).unwrap());
        let event = build(builder, version, &head, &[], 9, ts(9), w.b.signer()).unwrap();
        let event = Arc::new(receive(event.text(), version, &no_keys()).unwrap());
        assert!(matches!(w.room.offer(&event), Outcome::Refused { reason } if reason.contains("of room")));

        // Bob's server signs in the name of Alice.
        let forged = w.room.forge(&w.b, message(&w.alice, "forged"), &head, &[], 9);
        assert_eq!(receive(forged.text(), version, &no_keys()).unwrap_err(), ReceiveError::NotSigned(w.a.name.clone()));
        assert_eq!(w.room.room.extremities().map(ToOwned::to_owned).collect::<Vec<_>>(), head);
    }
}

#[test]
fn a_soft_failed_event_that_wins_a_resolution_is_state() {
    for version in &VERSIONS {
        let mut w = world(version);
        let mut content = levels(version, &w.alice);
        content["events"] = json!({ "m.room.topic": 0 });
        let open = w.room.send(&w.a, state(&w.alice, "m.room.power_levels", "", content.clone()));
        let auth = |room: &Replica, user: &OwnedUserId| -> Vec<OwnedEventId> {
            let mut wanted = vec![("m.room.power_levels", ""), ("m.room.member", user.as_str())];
            if number(version) < 12 {
                wanted.push(("m.room.create", ""));
            }
            wanted.into_iter().map(|(kind, key)| room.room.current_id(kind, key).unwrap().to_owned()).collect()
        };
        let bob_may = auth(&w.room, &w.bob);
        // Alice closes the topic, and opens it again. Bob's topic of before comes between the two.
        content["events"] = json!({ "m.room.topic": 50 });
        let closed = w.room.send(&w.a, state(&w.alice, "m.room.power_levels", "", content.clone()));
        let topic = state(&w.bob, "m.room.topic", "", json!({ "topic": "late" }));
        let late = w.room.forge(&w.b, topic, &ids(&[&open]), &bob_may, 1_050);
        assert!(matches!(w.room.decide(&late), Decision::SoftFailed { .. }), "{version}");
        assert!(w.room.current("m.room.topic", "").is_none());
        assert_eq!(w.room.room.extremities().collect::<Vec<_>>(), [closed.event_id()]);
        content["events"] = json!({ "m.room.topic": 0 });
        let reopened = w.room.send(&w.a, state(&w.alice, "m.room.power_levels", "", content));
        let merge =
            w.room.forge(&w.a, message(&w.alice, "merge"), &ids(&[&late, &reopened]), &auth(&w.room, &w.alice), 1_100);
        assert_eq!(w.room.decide(&merge), Decision::Accepted);
        assert_eq!(w.room.room.current_id("m.room.topic", ""), Some::<&EventId>(late.event_id()), "{version}");
    }
}
