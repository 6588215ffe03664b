//! The endpoints from before `/sync`.

use std::time::Duration;

use http::Method;
use serde_json::json;

use super::world::{World, bodies, text};

#[tokio::test]
async fn events_are_told_from_a_token_on_and_waited_for() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await;
    let start = text(&bob.get("/events").await.ok()["end"]);
    let secret = alice.create(json!({})).await;
    alice.say(&secret, "not for bob").await;
    alice.say(&room, "one").await;
    alice.say(&room, "two").await;
    let page = bob.get(&format!("/events?from={start}")).await.ok();
    let chunk = page["chunk"].as_array().unwrap();
    assert_eq!(bodies(chunk), ["one", "two"]);
    assert_eq!((&page["start"], &chunk[0]["room_id"]), (&json!(start), &json!(room)));
    let end = text(&page["end"]);
    assert_eq!(bob.get(&format!("/events?from={end}")).await.ok()["chunk"], json!([]));
    let path = format!("/events?from={end}&timeout=30000");
    let (waited, _) = tokio::join!(bob.get(&path), async {
        tokio::task::yield_now().await;
        alice.say(&room, "three").await
    });
    assert_eq!(bodies(waited.ok()["chunk"].as_array().unwrap()), ["three"]);
    bob.get("/events?from=nonsense").await.refused(400, "M_INVALID_PARAM");
    world.ask(Method::GET, "/events", None, None).await.refused(401, "M_MISSING_TOKEN");
}

#[tokio::test]
async fn who_may_look_into_a_room_gets_it_and_its_events_and_nobody_else() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let state = json!([{ "type": "m.room.history_visibility", "content": { "history_visibility": "world_readable" } }]);
    let open = alice.create(json!({ "visibility": "public", "initial_state": state })).await;
    let closed = alice.create(json!({})).await;
    let (shown, hidden) = (alice.say(&open, "open").await, alice.say(&closed, "closed").await);

    let room = bob.get(&format!("/rooms/{open}/initialSync?limit=1")).await.ok();
    assert_eq!(bodies(room["messages"]["chunk"].as_array().unwrap()), ["open"]);
    assert_eq!((&room["visibility"], &room["membership"]), (&json!("public"), &json!(null)));
    assert!(room["state"].as_array().unwrap().iter().any(|event| event["type"] == "m.room.create"));
    bob.get(&format!("/rooms/{closed}/initialSync")).await.refused(403, "M_FORBIDDEN");
    assert_eq!(bob.get(&format!("/events/{shown}")).await.ok()["content"]["body"], "open");
    bob.get(&format!("/events/{hidden}")).await.refused(404, "M_NOT_FOUND");
    bob.get("/events/$nothing").await.refused(404, "M_NOT_FOUND");

    let from = text(&bob.get(&format!("/events?room_id={open}")).await.ok()["end"]);
    alice.say(&open, "more").await;
    let page = bob.get(&format!("/events?room_id={open}&from={from}")).await.ok();
    assert_eq!(bodies(page["chunk"].as_array().unwrap()), ["more"]);
    bob.get(&format!("/events?room_id={closed}")).await.refused(403, "M_FORBIDDEN");
    world.clock.advance(Duration::from_secs(1));
}

#[tokio::test]
async fn an_initial_sync_has_all_rooms_and_goes_on_with_events() {
    let world = World::new().await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let room = alice.create(json!({ "name": "Here" })).await;
    alice.invite(&room, bob.id()).await;
    alice.say(&room, "one").await;
    alice.put(&format!("/user/{}/account_data/org.example", alice.id()), json!({ "a": 1 })).await.ok();
    let all = alice.get("/initialSync?limit=1").await.ok();
    assert_eq!((&all["rooms"][0]["room_id"], &all["rooms"][0]["membership"]), (&json!(room), &json!("join")));
    assert_eq!(bodies(all["rooms"][0]["messages"]["chunk"].as_array().unwrap()), ["one"]);
    assert!(all["account_data"].as_array().unwrap().iter().any(|event| event["type"] == "org.example"));
    alice.say(&room, "two").await;
    let page = alice.get(&format!("/events?from={}", text(&all["end"]))).await.ok();
    assert_eq!(bodies(page["chunk"].as_array().unwrap()), ["two"]);
    let of_bob = bob.get("/initialSync").await.ok();
    assert_eq!(
        (&of_bob["rooms"][0]["membership"], &of_bob["rooms"][0]["inviter"]),
        (&json!("invite"), &json!(alice.id()))
    );
    assert!(!of_bob.to_string().contains("\"one\""));
}
