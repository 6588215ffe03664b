//! Extensions.

use super::*;

fn window(client: &Client, extensions: Value) -> Window {
    let mut window = Window::of_all(client, 5, json!([]));
    window.body["extensions"] = extensions;
    window
}

#[tokio::test]
async fn account_data_is_told_of_the_account_and_of_the_rooms_that_are_shown() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let (one, two) = (create(&alice).await, create(&alice).await);
    let of_room = |room: &str| {
        format!("/_matrix/client/v3/user/{}/rooms/{}/account_data/m.x", encoded(&alice.user), encoded(room))
    };
    alice.put(&of_room(&one), json!({ "n": 1 })).await.ok();
    alice.put(&of_room(&two), json!({ "n": 1 })).await.ok();
    account_data(&alice, "m.y", json!({ "n": 1 })).await;
    let mut window = window(&alice, json!({ "account_data": { "enabled": true } }));
    window.body["lists"]["all"]["ranges"] = json!([[0, 0]]);
    let told = window.ask().await["extensions"]["account_data"].clone();
    let kinds: Vec<&str> =
        told["global"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"m.y") && kinds.contains(&"m.push_rules"));
    assert_eq!(told["rooms"].as_object().unwrap().keys().collect::<Vec<_>>(), [&two]);
    assert!(window.ask().await["extensions"].get("account_data").is_none());
    // The other room's waits until the room is shown.
    alice.put(&of_room(&one), json!({ "n": 2 })).await.ok();
    let waiting = window.wait();
    alice.put(&of_room(&two), json!({ "n": 3 })).await.ok();
    let answer = soon(waiting).await;
    assert_eq!(answer["extensions"]["account_data"]["rooms"][&two][0]["content"]["n"], 3);
    assert!(answer["extensions"]["account_data"]["rooms"].get(&one).is_none());
    window.pos = Some(answer["pos"].as_str().unwrap().to_owned());
    window.body["lists"]["all"]["ranges"] = json!([[0, 9]]);
    let told = window.ask().await["extensions"]["account_data"].clone();
    assert_eq!(told["rooms"], json!({ &one: [{ "type": "m.x", "content": { "n": 2 } }] }));
    account_data(&alice, "m.y", json!({ "n": 2 })).await;
    let told = window.ask().await["extensions"]["account_data"].clone();
    assert_eq!(told, json!({ "global": [{ "type": "m.y", "content": { "n": 2 } }] }));
}

#[tokio::test]
async fn receipts_are_told_of_the_events_that_are_and_private_ones_to_nobody_else() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let room = create(&alice).await;
    join(&bob, &room).await;
    let read = |event: &str, kind: &str| path(&room, &format!("receipt/{kind}/{}", encoded(event)));
    let old = say(&alice, &room, "old").await;
    bob.post(&read(&old, "m.read"), json!({})).await.ok();
    alice.post(&read(&old, "m.read.private"), json!({})).await.ok();
    let event = say(&alice, &room, "one").await;
    let mut window = window(&alice, json!({ "receipts": { "enabled": true } }));
    window.body["lists"]["all"]["timeline_limit"] = json!(1);
    let told = window.ask().await["extensions"]["receipts"]["rooms"][&room].clone();
    assert_eq!(told["type"], "m.receipt");
    assert!(told["content"][&old]["m.read.private"][&alice.user].is_object(), "her own");
    assert!(told["content"][&old].get("m.read").is_none(), "his is at an event that she was not given");
    let waiting = window.wait();
    bob.post(&read(&event, "m.read"), json!({})).await.ok();
    let answer = soon(waiting).await;
    assert!(rooms_of(&answer).is_empty());
    assert!(answer["extensions"]["receipts"]["rooms"][&room]["content"][&event]["m.read"][&bob.user].is_object());
    window.pos = Some(answer["pos"].as_str().unwrap().to_owned());
    let next = say(&alice, &room, "two").await;
    window.ask().await;
    bob.post(&read(&next, "m.read.private"), json!({})).await.ok();
    assert!(window.ask().await["extensions"].get("receipts").is_none(), "his private one");
}

#[tokio::test]
async fn typing_is_told_when_it_begins_and_when_it_ends() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let (room, other) = (create(&alice).await, create(&alice).await);
    join(&bob, &room).await;
    let typing = |room: &str, client: &Client, now: bool| {
        let path = path(room, &format!("typing/{}", encoded(&client.user)));
        let client = client.clone();
        async move { client.put(&path, json!({ "typing": now, "timeout": 20_000 })).await.ok() }
    };
    let mut window = window(&alice, json!({ "typing": { "enabled": true } }));
    window.ask().await;
    let waiting = window.wait();
    typing(&room, &bob, true).await;
    let answer = soon(waiting).await;
    let told = |answer: &Value| answer["extensions"]["typing"]["rooms"][&room]["content"]["user_ids"].clone();
    assert_eq!(told(&answer), json!([bob.user]));
    // The answer was lost: it is told again.
    assert_eq!(told(&window.ask().await), json!([bob.user]));
    assert_eq!(told(&window.ask().await), Value::Null);
    // It ends while the room is out of sight.
    window.body["lists"]["all"]["filters"] = json!({ "is_dm": true });
    window.ask().await;
    typing(&room, &bob, false).await;
    assert_eq!(told(&window.ask().await), Value::Null);
    window.body["lists"]["all"]["filters"] = json!({});
    assert_eq!(told(&window.ask().await), json!([]));
    window.body["extensions"]["typing"] = json!({ "enabled": true, "lists": [], "rooms": [other] });
    typing(&room, &bob, true).await;
    assert_eq!(told(&window.ask().await), Value::Null, "not wanted of this room");
    // Who was put out of a room has it in the list still, and hears nothing of it.
    let mut his = self::window(&bob, json!({ "typing": { "enabled": true }, "receipts": { "enabled": true } }));
    act(&alice, &room, "kick", &bob).await;
    typing(&room, &alice, true).await;
    let event = say(&alice, &room, "without him").await;
    alice.post(&path(&room, &format!("receipt/m.read/{}", encoded(&event))), json!({})).await.ok();
    for _ in 0..2 {
        let answer = his.ask().await;
        assert_eq!(answer["lists"]["all"]["count"], 1);
        assert_eq!(answer["extensions"], json!({}));
    }
}

#[tokio::test]
async fn changed_device_lists_are_told_and_how_many_keys_are_left() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let room = create(&alice).await;
    set_state(&alice, &room, "m.room.encryption", "", json!({ "algorithm": "m.megolm.v1.aes-sha2" })).await;
    let mut window = window(&alice, json!({ "e2ee": { "enabled": true } }));
    let told = window.ask().await["extensions"]["e2ee"].clone();
    assert_eq!(told["device_one_time_keys_count"]["signed_curve25519"], 0);
    assert_eq!(told["device_unused_fallback_key_types"], json!([]));
    assert!(told.get("device_lists").is_none());
    let waiting = window.wait();
    join(&bob, &room).await;
    let answer = soon(waiting).await;
    assert_eq!(answer["extensions"]["e2ee"]["device_lists"]["changed"], json!([bob.user]));
    window.pos = Some(answer["pos"].as_str().unwrap().to_owned());
    leave(&bob, &room).await;
    assert_eq!(window.ask().await["extensions"]["e2ee"]["device_lists"]["left"], json!([bob.user]));
    assert!(window.ask().await["extensions"]["e2ee"].get("device_lists").is_none());
}
