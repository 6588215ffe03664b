//! Sending events, state and redactions.

use serde_json::{Value, json};

use super::world::{World, bodies, text};
use crate::config::Rate;

#[tokio::test]
async fn a_repeated_request_sends_once_and_another_device_or_endpoint_sends_anew() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = alice.create(json!({})).await;
    let other_room = alice.create(json!({})).await;
    let path = |room: &str, kind: &str| format!("/rooms/{room}/send/{kind}/txn1");
    let hello = json!({ "msgtype": "m.text", "body": "hello" });
    let first = alice.put(&path(&room, "m.room.message"), hello.clone()).await.ok();
    let same = path(&room, "m.room.message");
    let (again, and_again) = tokio::join!(alice.put(&same, hello.clone()), alice.put(&same, hello.clone()));
    assert_eq!((&again.ok(), &and_again.ok()), (&first, &first));
    let phone = world.sign_in(alice.user_id.clone()).await;
    assert_ne!(phone.put(&path(&room, "m.room.message"), hello.clone()).await.ok(), first);
    let elsewhere = alice.put(&path(&other_room, "m.room.message"), hello.clone()).await.ok();
    let of_another_type = alice.put(&path(&room, "org.example.thing"), json!({})).await.ok();
    assert!(elsewhere != first && of_another_type != first);
    // What came in between with the same ID hides none of them.
    assert_eq!(alice.put(&path(&room, "m.room.message"), hello.clone()).await.ok(), first);
    assert_eq!(alice.put(&path(&other_room, "m.room.message"), hello).await.ok(), elsewhere);
    assert_eq!(alice.put(&path(&room, "org.example.thing"), json!({})).await.ok(), of_another_type);
    assert_eq!(bodies(&alice.history(&room).await), ["hello", "hello"]);

    let event = alice.history(&room).await.into_iter().find(|event| event["event_id"] == first["event_id"]);
    assert_eq!(event.expect("the event")["unsigned"]["transaction_id"], "txn1");
    let event = phone.history(&room).await.into_iter().find(|event| event["event_id"] == first["event_id"]);
    assert_eq!(event.expect("the event")["unsigned"].get("transaction_id"), None, "it is for the sending device only");
}

#[tokio::test]
async fn who_sends_joins_or_invites_too_fast_is_told_to_wait() {
    let world = World::with(|config| {
        config.limits.rate_limits = true;
        config.limits.rate_message = Rate::per_minute(2);
        config.limits.rate_join = Rate::per_minute(3);
        config.limits.rate_invite = Rate::per_minute(1);
    })
    .await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    let send = |transaction: &str| format!("/rooms/{room}/send/m.room.message/{transaction}");
    let text = json!({ "msgtype": "m.text", "body": "x" });
    alice.put(&send("1"), text.clone()).await.ok();
    alice.set(&room, "m.room.topic", json!({ "topic": "x" })).await;
    alice.put(&send("2"), text.clone()).await.refused(429, "M_LIMIT_EXCEEDED");
    alice.put(&format!("/rooms/{room}/state/m.room.topic/"), json!({})).await.refused(429, "M_LIMIT_EXCEEDED");
    alice.put(&send("1"), text.clone()).await.ok();
    alice.create(json!({})).await;
    let left = alice.create(json!({ "preset": "public_chat" })).await;
    alice.post("/createRoom", json!({})).await.refused(429, "M_LIMIT_EXCEEDED");
    alice.post(&format!("/join/{left}"), json!({})).await.refused(429, "M_LIMIT_EXCEEDED");
    alice.invite(&left, bob.id()).await;
    let invite = format!("/rooms/{room}/invite");
    alice.post(&invite, json!({ "user_id": bob.id() })).await.refused(429, "M_LIMIT_EXCEEDED");
    let member = format!("/rooms/{room}/state/m.room.member/{}", bob.id());
    alice.put(&member, json!({ "membership": "invite" })).await.refused(429, "M_LIMIT_EXCEEDED");
    // Each user has its own.
    bob.join(&room).await;
    bob.put(&send("1"), text.clone()).await.ok();
    world.clock.advance(std::time::Duration::from_secs(60));
    alice.put(&send("2"), text).await.ok();
    alice.create(json!({})).await;
    let carol = world.person("carol").await;
    alice.invite(&room, carol.id()).await;
}

#[tokio::test]
async fn requests_at_once_with_one_transaction_send_one_event() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = alice.create(json!({})).await;
    let path = format!("/rooms/{room}/send/m.room.message/once");
    let sends = (0..8).map(|_| alice.put(&path, json!({ "msgtype": "m.text", "body": "once" })));
    let answers = futures::future::join_all(sends).await;
    let ids: std::collections::BTreeSet<String> =
        answers.into_iter().map(|answer| text(&answer.ok()["event_id"])).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(bodies(&alice.history(&room).await), ["once"]);
}

#[tokio::test]
async fn what_power_levels_forbid_is_refused_with_the_reason() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    let eve = world.person("eve").await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await;
    bob.put(&format!("/rooms/{room}/state/m.room.name/"), json!({ "name": "mine" })).await.refused(403, "M_FORBIDDEN");
    bob.put(&format!("/rooms/{room}/state/m.room.power_levels"), json!({ "users": { bob.id(): 100 } }))
        .await
        .refused(403, "M_FORBIDDEN");
    eve.put(&format!("/rooms/{room}/send/m.room.message/1"), json!({ "body": "x" })).await.refused(403, "M_FORBIDDEN");
    eve.put("/rooms/!nowhere:example.org/send/m.room.message/1", json!({})).await.refused(403, "M_FORBIDDEN");

    let mut levels = alice.state(&room, "m.room.power_levels").await;
    levels["events_default"] = json!(10);
    alice.set(&room, "m.room.power_levels", levels.clone()).await;
    bob.put(&format!("/rooms/{room}/send/m.room.message/2"), json!({ "body": "x" })).await.refused(403, "M_FORBIDDEN");
    levels["users"][bob.id()] = json!(50);
    alice.set(&room, "m.room.power_levels", levels).await;
    bob.set(&room, "m.room.name", json!({ "name": "ours" })).await;
    assert_eq!(alice.state(&room, "m.room.name").await["name"], "ours");
}

#[tokio::test]
async fn malformed_events_are_refused() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = alice.create(json!({})).await;
    let send = format!("/rooms/{room}/send/m.room.message/1");
    alice.put(&send, json!([])).await.refused(400, "M_BAD_JSON");
    alice.put(&send, json!({ "body": 1.5 })).await.refused(400, "M_BAD_JSON");
    alice.put(&send, json!({ "body": "x".repeat(66_000) })).await.refused(413, "M_TOO_LARGE");
    let long = format!("/rooms/{room}/send/m.room.message/{}", "t".repeat(300));
    alice.put(&long, json!({})).await.refused(400, "M_INVALID_PARAM");
    alice
        .put(&format!("/rooms/{room}/state/m.room.canonical_alias/"), json!({ "alias": "#none:nowhere" }))
        .await
        .refused(400, "M_BAD_ALIAS");
    alice
        .put(&format!("/rooms/{room}/state/m.room.canonical_alias/"), json!({ "alt_aliases": ["nonsense"] }))
        .await
        .refused(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn state_is_read_whole_by_key_and_as_an_event_and_setting_it_twice_changes_nothing() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let eve = world.person("eve").await;
    let room = alice.create(json!({ "name": "one" })).await;
    let first = alice.set(&room, "m.room.name", json!({ "name": "two" })).await;
    assert_eq!(alice.set(&room, "m.room.name", json!({ "name": "two" })).await, first);
    let path = format!("/rooms/{room}/state/org.example/some%2Fkey");
    alice.put(&path, json!({ "x": 1 })).await.ok();
    assert_eq!(alice.get(&path).await.ok(), json!({ "x": 1 }));
    assert_eq!(alice.get(&format!("/rooms/{room}/state/m.room.name")).await.ok(), json!({ "name": "two" }));
    let event = alice.get(&format!("/rooms/{room}/state/m.room.name/?format=event")).await.ok();
    assert_eq!(event["event_id"], *first);
    assert_eq!(event["room_id"], *room);
    assert_eq!(event["unsigned"]["prev_content"], json!({ "name": "one" }));
    assert!(event["unsigned"]["replaces_state"].is_string());
    for hidden in ["auth_events", "prev_events", "hashes", "signatures", "depth"] {
        assert_eq!(event.get(hidden), None, "{hidden}");
    }
    let all = alice.get(&format!("/rooms/{room}/state")).await.ok();
    let names: Vec<&Value> =
        all.as_array().expect("events").iter().filter(|event| event["type"] == "m.room.name").collect();
    assert_eq!(names.len(), 1);
    alice.get(&format!("/rooms/{room}/state/m.room.topic")).await.refused(404, "M_NOT_FOUND");
    eve.get(&format!("/rooms/{room}/state")).await.refused(403, "M_FORBIDDEN");
    eve.get(&format!("/rooms/{room}/state/m.room.name")).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn redaction_removes_what_was_said_from_the_disk_and_tells_by_whom() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    for version in ["10", "11", "12"] {
        let room = alice.create(json!({ "preset": "public_chat", "room_version": version })).await;
        bob.join(&room).await;
        let secret = format!("a secret of version {version}");
        let event_id = alice.say(&room, &secret).await;
        let redact = format!("/rooms/{room}/redact/{event_id}/t{version}");
        bob.put(&redact, json!({})).await.refused(403, "M_FORBIDDEN");
        let redaction = text(&alice.put(&redact, json!({ "reason": "oops" })).await.ok()["event_id"]);
        assert_eq!(text(&alice.put(&redact, json!({ "reason": "oops" })).await.ok()["event_id"]), redaction);

        let event = bob.get(&format!("/rooms/{room}/event/{event_id}")).await.ok();
        assert_eq!(event["content"], json!({}));
        let because = &event["unsigned"]["redacted_because"];
        assert_eq!(because["event_id"], *redaction);
        assert_eq!(because["content"]["reason"], "oops");
        assert_eq!((&because["redacts"], &because["content"]["redacts"]), (&json!(event_id), &json!(event_id)));
        let stored = world.node().store.read(|read| crate::rooms::read::event_by_id(read, &event_id)).expect("a read");
        assert!(!stored.expect("the event").row.json.contains("secret"));

        // Moderators redact what others sent; one's own can always be redacted.
        let said = bob.say(&room, "x").await;
        alice.put(&format!("/rooms/{room}/redact/{said}/m{version}"), json!({})).await.ok();
        let said = bob.say(&room, "y").await;
        bob.put(&format!("/rooms/{room}/redact/{said}/o{version}"), json!({})).await.ok();
        assert_eq!(bodies(&bob.history(&room).await), Vec::<&str>::new());
        bob.put(&format!("/rooms/{room}/redact/$nothing/x{version}"), json!({})).await.refused(404, "M_NOT_FOUND");
    }
}

/// The rules for notifications are asked by a part of `ruma` that reads an event again, and panicked over this one.
#[tokio::test]
async fn a_message_with_the_key_of_a_json_library_is_read_and_counted_like_others() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await;
    bob.get("/sync?timeout=0").await.ok();
    let odd =
        serde_json::Value::Object([("$serde_json::private::RawValue".to_owned(), json!({}))].into_iter().collect());
    let id = alice.send(&room, "m.room.message", json!({ "msgtype": "m.text", "body": "odd", "odd": odd })).await;
    // What a client gets is what was said, which a JSON value here cannot hold: it stays text.
    let said = r#""odd":{"$serde_json::private::RawValue":{}}"#;
    for (path, expected) in [
        ("/sync?timeout=0".to_owned(), r#""notification_count":1"#),
        (format!("/rooms/{room}/event/{id}"), said),
        (format!("/rooms/{room}/messages?dir=b"), said),
    ] {
        let answer = bob.get(&path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        let body = answer.body.as_str().expect("text");
        assert!(body.contains(said) && body.contains(expected), "{path}: {body}");
    }
}
