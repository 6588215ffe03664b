//! Edits, reactions, references and threads.

use serde_json::{Value, json};

use super::world::{Person, World, text};

fn edit(of: &str, body: &str) -> Value {
    json!({
        "msgtype": "m.text",
        "body": format!("* {body}"),
        "m.new_content": { "msgtype": "m.text", "body": body },
        "m.relates_to": { "rel_type": "m.replace", "event_id": of },
    })
}

fn reply_in_thread(root: &str, body: &str) -> Value {
    json!({ "msgtype": "m.text", "body": body, "m.relates_to": { "rel_type": "m.thread", "event_id": root } })
}

async fn bundle(person: &Person<'_>, room: &str, event: &str) -> Value {
    person.get(&format!("/rooms/{room}/event/{event}")).await.ok()["unsigned"]["m.relations"].clone()
}

#[tokio::test]
async fn the_latest_edit_of_the_sender_is_bundled_and_a_redacted_one_is_not() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await;
    let event = alice.say(&room, "teh").await;
    assert_eq!(bundle(&bob, &room, &event).await, Value::Null);
    alice.send(&room, "m.room.message", edit(&event, "the")).await;
    let last = alice.send(&room, "m.room.message", edit(&event, "The")).await;
    bob.send(&room, "m.room.message", edit(&event, "forged")).await;
    let replace = bundle(&bob, &room, &event).await["m.replace"].clone();
    assert_eq!(replace["event_id"], *last);
    assert_eq!(replace["content"]["m.new_content"]["body"], "The");
    let original = bob.get(&format!("/rooms/{room}/event/{event}")).await.ok();
    assert_eq!(original["content"]["body"], "teh", "the event itself stays as it was");
    alice.put(&format!("/rooms/{room}/redact/{last}/1"), json!({})).await.ok();
    assert_eq!(bundle(&bob, &room, &event).await["m.replace"]["content"]["m.new_content"]["body"], "the");
    let in_history = bob.history(&room).await.into_iter().find(|shown| shown["event_id"] == *event).expect("the event");
    assert_eq!(in_history["unsigned"]["m.relations"]["m.replace"]["content"]["m.new_content"]["body"], "the");
}

#[tokio::test]
async fn the_same_reaction_is_refused_until_the_first_is_taken_back() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await;
    let event = alice.say(&room, "hello").await;
    let reaction = |key: &str| json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": event, "key": key } });
    let path = |transaction: &str| format!("/rooms/{room}/send/m.reaction/{transaction}");
    let first = text(&bob.put(&path("1"), reaction("a")).await.ok()["event_id"]);
    assert_eq!(text(&bob.put(&path("1"), reaction("a")).await.ok()["event_id"]), first, "the same request");
    bob.put(&path("2"), reaction("a")).await.refused(400, "M_DUPLICATE_ANNOTATION");
    bob.put(&path("3"), reaction("b")).await.ok();
    alice.put(&path("4"), reaction("a")).await.ok();
    bob.send(&room, "org.example.mark", reaction("a")).await;
    bob.put(&format!("/rooms/{room}/redact/{first}/5"), json!({})).await.ok();
    bob.put(&path("6"), reaction("a")).await.ok();
}

#[tokio::test]
async fn a_thread_does_not_begin_at_an_event_that_relates_to_another() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = alice.create(json!({})).await;
    let root = alice.say(&room, "root").await;
    let reply = alice.send(&room, "m.room.message", reply_in_thread(&root, "one")).await;
    let path = format!("/rooms/{room}/send/m.room.message/nested");
    alice.put(&path, reply_in_thread(&reply, "nested")).await.refused(400, "M_UNKNOWN");
    // An answer is no relation of this kind.
    let answer = json!({ "body": "x", "m.relates_to": { "m.in_reply_to": { "event_id": root } } });
    let answer = alice.send(&room, "m.room.message", answer).await;
    alice.send(&room, "m.room.message", reply_in_thread(&answer, "of an answer")).await;
}

#[tokio::test]
async fn threads_are_counted_listed_by_their_latest_reply_and_known_to_take_part_in() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await;
    let mut roots = Vec::new();
    for n in 0..3 {
        roots.push(alice.say(&room, &format!("root {n}")).await);
    }
    for n in [2, 0, 1] {
        alice.send(&room, "m.room.message", reply_in_thread(&roots[n], "first")).await;
    }
    let latest = bob.send(&room, "m.room.message", reply_in_thread(&roots[2], "second")).await;
    let thread = bundle(&bob, &room, &roots[2]).await["m.thread"].clone();
    assert_eq!((&thread["count"], &thread["current_user_participated"]), (&json!(2), &json!(true)));
    assert_eq!(thread["latest_event"]["event_id"], *latest);
    assert_eq!(bundle(&bob, &room, &roots[0]).await["m.thread"]["current_user_participated"], false);
    let list = async |query: &str| bob.get(&format!("/_matrix/client/v1/rooms/{room}/threads{query}")).await.ok();
    let ids = |page: &Value| -> Vec<String> {
        page["chunk"].as_array().expect("a chunk").iter().map(|event| text(&event["event_id"])).collect()
    };
    let all = [roots[2].clone(), roots[1].clone(), roots[0].clone()];
    assert_eq!(ids(&list("").await), all);
    assert_eq!(ids(&list("?include=participated").await), all[..1]);
    let page = list("?limit=2").await;
    assert_eq!(ids(&page), all[..2]);
    let page = list(&format!("?limit=2&from={}", text(&page["next_batch"]))).await;
    assert_eq!(ids(&page), all[2..]);
    assert_eq!(page.get("next_batch"), None);
}

#[tokio::test]
async fn relations_are_found_by_their_kind_page_by_page_and_through_each_other() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let eve = world.person("eve").await;
    let room = alice.create(json!({})).await;
    let root = alice.say(&room, "root").await;
    let mut replies = Vec::new();
    for n in 0..5 {
        replies.push(alice.send(&room, "m.room.message", reply_in_thread(&root, &n.to_string())).await);
    }
    let react = |to: &str| json!({ "m.relates_to": { "rel_type": "m.annotation", "event_id": to, "key": "+1" } });
    let reaction = alice.send(&room, "m.reaction", react(&root)).await;
    let to_reply = alice.send(&room, "m.reaction", react(&replies[0])).await;
    let refers = json!({ "m.relates_to": { "rel_type": "m.reference", "event_id": root } });
    let reference = alice.send(&room, "org.example", refers).await;
    let ask =
        async |rest: &str| alice.get(&format!("/_matrix/client/v1/rooms/{room}/relations/{root}{rest}")).await.ok();
    let ids = |page: &Value| -> Vec<String> {
        page["chunk"].as_array().expect("a chunk").iter().map(|event| text(&event["event_id"])).collect()
    };
    let mut all = vec![reference.clone(), reaction.clone()];
    all.extend(replies.iter().rev().cloned());
    assert_eq!(ids(&ask("").await), all);
    assert_eq!(ids(&ask("/m.annotation").await), std::slice::from_ref(&reaction));
    assert_eq!(ids(&ask("/m.annotation/m.reaction").await), std::slice::from_ref(&reaction));
    assert_eq!(ids(&ask("/m.annotation/m.room.message").await), Vec::<String>::new());
    assert_eq!(ids(&ask("/m.annotation?recurse=true").await), [to_reply, reaction]);
    assert_eq!(bundle(&alice, &room, &root).await["m.reference"], json!({ "chunk": [{ "event_id": reference }] }));

    let mut forwards = Vec::new();
    let mut from = String::new();
    loop {
        let page = ask(&format!("/m.thread?dir=f&limit=2{from}")).await;
        forwards.extend(ids(&page));
        match page["next_batch"].as_str() {
            Some(next) => from = format!("&from={next}"),
            None => break,
        }
    }
    assert_eq!(forwards, replies);
    let page = ask("/m.thread?limit=2").await;
    assert_eq!(ids(&page), [replies[4].clone(), replies[3].clone()]);
    let page = ask(&format!("/m.thread?limit=9&from={}", text(&page["next_batch"]))).await;
    assert_eq!(ids(&page), [replies[2].clone(), replies[1].clone(), replies[0].clone()]);
    eve.get(&format!("/_matrix/client/v1/rooms/{room}/relations/{root}")).await.refused(403, "M_FORBIDDEN");
    alice.get(&format!("/_matrix/client/v1/rooms/{room}/relations/$none")).await.refused(404, "M_NOT_FOUND");
}
