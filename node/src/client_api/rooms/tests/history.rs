//! Scrolling, context, single events and who sees them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::world::{Person, World, bodies, encoded, text};

#[tokio::test]
async fn five_hundred_messages_are_scrolled_both_ways_without_loss_or_repetition() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = alice.create(json!({})).await;
    let said: Vec<String> = (0..500).map(|n| format!("message {n}")).collect();
    for body in &said {
        alice.say(&room, body).await;
    }
    for limit in [1_000, 37, 1] {
        for (direction, first) in [("b", ""), ("f", "")] {
            if limit == 1 && direction == "f" {
                continue;
            }
            let mut seen = Vec::new();
            let mut ids = BTreeSet::new();
            let mut from = first.to_owned();
            loop {
                let path = format!("/rooms/{room}/messages?dir={direction}&limit={limit}{from}");
                let page = alice.get(&path).await.ok();
                let chunk = page["chunk"].as_array().expect("a chunk").clone();
                assert!(chunk.len() <= limit);
                for event in &chunk {
                    assert!(ids.insert(text(&event["event_id"])), "an event came twice");
                }
                seen.extend(bodies(&chunk).into_iter().map(str::to_owned));
                match page["end"].as_str() {
                    Some(end) => from = format!("&from={end}"),
                    None => break,
                }
            }
            if direction == "b" {
                seen.reverse();
            }
            assert_eq!(seen, said, "{direction} by {limit}");
        }
    }
}

#[tokio::test]
async fn a_range_ends_at_its_token_and_a_filter_leaves_out() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await;
    for n in 0..6 {
        if n % 2 == 0 {
            alice.say(&room, &n.to_string()).await
        } else {
            bob.say(&room, &n.to_string()).await
        };
    }
    let page = alice.get(&format!("/rooms/{room}/messages?dir=b&limit=4")).await.ok();
    assert_eq!(bodies(page["chunk"].as_array().expect("a chunk")), ["5", "4", "3", "2"]);
    let (start, end) = (text(&page["start"]), text(&page["end"]));
    let page = alice.get(&format!("/rooms/{room}/messages?dir=f&limit=9&from={end}&to={start}")).await.ok();
    assert_eq!(bodies(page["chunk"].as_array().expect("a chunk")), ["2", "3", "4", "5"]);
    assert_eq!(page.get("end"), None);
    let position = world.node().store.position();
    let page = alice.get(&format!("/rooms/{room}/messages?dir=b&limit=1&from=s{position}_x")).await.ok();
    assert_eq!(bodies(page["chunk"].as_array().expect("a chunk")), ["5"], "sync's tokens are understood");

    let filter = json!({ "senders": [bob.id()], "types": ["m.room.*"], "lazy_load_members": true }).to_string();
    let page = alice.get(&format!("/rooms/{room}/messages?dir=b&limit=3&filter={}", encoded(&filter))).await.ok();
    assert_eq!(bodies(page["chunk"].as_array().expect("a chunk")), ["5", "3", "1"]);
    let state = page["state"].as_array().expect("state");
    assert_eq!(state.len(), 1);
    assert_eq!((&state[0]["type"], &state[0]["state_key"]), (&json!("m.room.member"), &json!(bob.id())));

    for query in ["dir=x", "from=zzz&dir=b", "from=t1&dir=b", "from=s&dir=b", "dir=b&limit=-1", ""] {
        let answer = alice.get(&format!("/rooms/{room}/messages?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.body);
    }
}

#[tokio::test]
async fn context_stands_around_its_event() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let eve = world.person("eve").await;
    let room = alice.create(json!({})).await;
    let mut ids = Vec::new();
    for n in 0..9 {
        ids.push(alice.say(&room, &n.to_string()).await);
    }
    let context = alice.get(&format!("/rooms/{room}/context/{}?limit=4", ids[4])).await.ok();
    assert_eq!(context["event"]["content"]["body"], "4");
    assert_eq!(bodies(context["events_before"].as_array().expect("events")), ["3", "2"]);
    assert_eq!(bodies(context["events_after"].as_array().expect("events")), ["5", "6"]);
    assert!(context["state"].as_array().expect("state").iter().any(|event| event["type"] == "m.room.create"));
    let on = text(&context["end"]);
    let page = alice.get(&format!("/rooms/{room}/messages?dir=f&limit=9&from={on}")).await.ok();
    assert_eq!(bodies(page["chunk"].as_array().expect("a chunk")), ["7", "8"]);
    let back = text(&context["start"]);
    let page = alice.get(&format!("/rooms/{room}/messages?dir=b&limit=2&from={back}")).await.ok();
    assert_eq!(bodies(page["chunk"].as_array().expect("a chunk")), ["1", "0"]);
    let alone = alice.get(&format!("/rooms/{room}/context/{}?limit=0", ids[4])).await.ok();
    assert_eq!(alone["event"]["event_id"], *ids[4]);
    alice.get(&format!("/rooms/{room}/context/$none")).await.refused(404, "M_NOT_FOUND");
    eve.get(&format!("/rooms/{room}/context/{}", ids[4])).await.refused(403, "M_FORBIDDEN");
    eve.get(&format!("/rooms/{room}/event/{}", ids[4])).await.refused(404, "M_NOT_FOUND");
    let other = alice.create(json!({})).await;
    alice.get(&format!("/rooms/{other}/event/{}", ids[4])).await.refused(404, "M_NOT_FOUND");
}

async fn seen_by_later(visibility: &str) -> (Vec<String>, Value) {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    let state = json!([{ "type": "m.room.history_visibility", "content": { "history_visibility": visibility } }]);
    let room = alice.create(json!({ "initial_state": state })).await;
    let before = alice.say(&room, "before").await;
    alice.invite(&room, bob.id()).await;
    alice.say(&room, "invited").await;
    bob.join(&room).await;
    alice.say(&room, "joined").await;
    bob.post(&format!("/rooms/{room}/leave"), json!({})).await.ok();
    alice.say(&room, "left").await;
    let seen = bodies(&bob.history(&room).await).into_iter().map(str::to_owned).collect();
    (seen, json!(bob.get(&format!("/rooms/{room}/event/{before}")).await.status.as_u16()))
}

#[tokio::test]
async fn who_comes_later_sees_what_the_history_visibility_allows() {
    assert_eq!(seen_by_later("shared").await, (vec!["before".into(), "invited".into(), "joined".into()], json!(200)));
    assert_eq!(seen_by_later("invited").await, (vec!["invited".into(), "joined".into()], json!(404)));
    assert_eq!(seen_by_later("joined").await, (vec!["joined".into()], json!(404)));
    let all = vec!["before".into(), "invited".into(), "joined".into(), "left".into()];
    assert_eq!(seen_by_later("world_readable").await, (all, json!(200)));
}

#[tokio::test]
async fn strangers_read_what_everybody_may_read_and_events_carry_the_readers_membership() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    let state = json!([{ "type": "m.room.history_visibility", "content": { "history_visibility": "world_readable" } }]);
    let room = alice.create(json!({ "preset": "public_chat", "initial_state": state })).await;
    let first = alice.say(&room, "to all").await;
    let event = bob.get(&format!("/rooms/{room}/event/{first}")).await.ok();
    assert_eq!((&event["event_id"], &event["content"]["body"]), (&json!(first), &json!("to all")));
    assert_eq!(event["unsigned"]["membership"], "leave");
    assert_eq!(alice.get(&format!("/rooms/{room}/event/{first}")).await.ok()["unsigned"]["membership"], "join");
    assert_eq!(bob.state(&room, "m.room.join_rules").await["join_rule"], "public");
    // What is said after it was closed is not for strangers; what was open stays open.
    alice.set(&room, "m.room.history_visibility", json!({ "history_visibility": "joined" })).await;
    let second = alice.say(&room, "to us").await;
    bob.get(&format!("/rooms/{room}/event/{second}")).await.refused(404, "M_NOT_FOUND");
    bob.get(&format!("/rooms/{room}/messages?dir=b")).await.refused(403, "M_FORBIDDEN");
    bob.join(&room).await;
    assert_eq!(bodies(&bob.history(&room).await), ["to all"]);
    let own = own_join(&bob, &room).await;
    assert_eq!(own["unsigned"]["membership"], "join");
}

async fn own_join(person: &Person<'_>, room: &str) -> Value {
    let events = person.history(room).await;
    events.into_iter().rfind(|event| event["state_key"] == *person.id()).expect("the own join is seen")
}

#[tokio::test]
async fn the_event_closest_to_a_time_is_found() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = alice.create(json!({})).await;
    let first = alice.say(&room, "first").await;
    world.clock.advance(std::time::Duration::from_secs(60));
    let second = alice.say(&room, "second").await;
    let time =
        alice.get(&format!("/rooms/{room}/event/{second}")).await.ok()["origin_server_ts"].as_u64().expect("a time");
    let ask = async |ts: u64, dir: &str| {
        alice.get(&format!("/_matrix/client/v1/rooms/{room}/timestamp_to_event?ts={ts}&dir={dir}")).await
    };
    assert_eq!(ask(time - 1_000, "f").await.ok()["event_id"], *second);
    assert_eq!(ask(time - 1_000, "b").await.ok()["event_id"], *first);
    assert_eq!(ask(time, "b").await.ok(), json!({ "event_id": second, "origin_server_ts": time }));
    ask(time + 1_000, "f").await.refused(404, "M_NOT_FOUND");
    ask(5, "b").await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn who_left_is_shown_the_state_of_then_even_after_knocking_or_a_ban() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    let rule = json!([{ "type": "m.room.join_rules", "content": { "join_rule": "knock" } }]);
    let room = alice.create(json!({ "name": "then", "initial_state": rule, "invite": [bob.id()] })).await;
    bob.join(&room).await;
    bob.post(&format!("/rooms/{room}/leave"), json!({})).await.ok();
    alice.set(&room, "m.room.name", json!({ "name": "now" })).await;
    alice.say(&room, "not for bob").await;
    assert_eq!(bob.state(&room, "m.room.name").await["name"], "then");
    bob.post(&format!("/knock/{room}"), json!({})).await.ok();
    assert_eq!(bob.state(&room, "m.room.name").await["name"], "then");
    alice.post(&format!("/rooms/{room}/ban"), json!({ "user_id": bob.id() })).await.ok();
    assert_eq!(bob.state(&room, "m.room.name").await["name"], "then");
    assert_eq!(bodies(&bob.history(&room).await), Vec::<&str>::new());
}

#[tokio::test]
async fn what_ignored_users_say_is_not_shown_until_they_are_heard_again() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await;
    let root = alice.say(&room, "root").await;
    let said = bob.say(&room, "noise").await;
    let relates = json!({ "rel_type": "m.thread", "event_id": root });
    bob.send(&room, "m.room.message", json!({ "body": "more noise", "m.relates_to": relates })).await;
    let list = format!("/user/{}/account_data/m.ignored_user_list", alice.id());
    alice.put(&list, json!({ "ignored_users": { bob.id(): {} } })).await.ok();
    let history = alice.history(&room).await;
    assert_eq!(bodies(&history), ["root"]);
    assert!(history.iter().any(|event| event["state_key"] == *bob.id()), "state is shown whoever sent it");
    let root_event = alice.get(&format!("/rooms/{room}/event/{root}")).await.ok();
    assert_eq!(root_event["unsigned"].get("m.relations"), None);
    alice.get(&format!("/rooms/{room}/event/{said}")).await.refused(404, "M_NOT_FOUND");
    alice.put(&list, json!({ "ignored_users": {} })).await.ok();
    assert_eq!(bodies(&alice.history(&room).await), ["root", "noise", "more noise"]);
}
