//! Typing, receipts, read markers, presence.

use std::time::Duration;

use serde_json::json;

use super::*;

async fn types(client: &Client, room: &str, timeout: Option<u64>) {
    let body = match timeout {
        Some(timeout) => json!({"typing": true, "timeout": timeout}),
        None => json!({"typing": false}),
    };
    client.put(&path(room, &format!("typing/{}", encoded(&client.user))), body).await.ok();
}

fn typing(answer: &Value, room: &str) -> Option<Vec<String>> {
    let events = answer["rooms"]["join"][room]["ephemeral"]["events"].as_array()?.clone();
    let event = events.into_iter().find(|event| event["type"] == "m.typing")?;
    let users = event["content"]["user_ids"].as_array()?.clone();
    Some(users.iter().map(|user| user.as_str().unwrap().to_owned()).collect())
}

fn receipts(answer: &Value, room: &str) -> Value {
    let events = answer["rooms"]["join"][room]["ephemeral"]["events"].as_array().cloned().unwrap_or_default();
    let event = events.into_iter().find(|event| event["type"] == "m.receipt");
    event.map_or(Value::Null, |event| event["content"].clone())
}

async fn read(client: &Client, room: &str, kind: &str, event: &str, body: Value) {
    client.post(&path(room, &format!("receipt/{kind}/{}", encoded(event))), body).await.ok();
}

#[tokio::test]
async fn typing_is_told_to_all_devices_and_ends_when_it_was_stopped_or_its_time_is_up() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let room = create(&alice).await;
    join(&bob, &room).await;
    let phone = node.login("alice").await;
    let mut devices = [Device::ready(&alice).await, Device::ready(&phone).await];
    for device in &mut devices {
        device.sync("").await;
    }
    let waiting: Vec<_> = devices.iter().map(Device::wait).collect();
    tokio::task::yield_now().await;
    types(&bob, &room, Some(10_000)).await;
    for (waiting, device) in waiting.into_iter().zip(&mut devices) {
        let answer = soon(waiting).await;
        assert_eq!(typing(&answer, &room), Some(vec![bob.user.clone()]));
        device.since = Some(next(&answer));
    }
    let device = &mut devices[0];
    assert!(device.sync("").await["rooms"].is_null(), "it was told already");
    types(&bob, &room, None).await;
    assert_eq!(typing(&device.sync("").await, &room), Some(vec![]));
    types(&bob, &room, Some(10_000)).await;
    assert_eq!(typing(&device.sync("").await, &room), Some(vec![bob.user.clone()]));
    let began = node.node().clock.now_ms();
    let waiting = device.wait();
    let answer = pass_until(&node, Duration::from_secs(1), waiting).await;
    assert_eq!(typing(&answer, &room), Some(vec![]));
    let passed = node.node().clock.now_ms() - began;
    assert!(passed >= 10_000, "after {passed} ms");
    let filtered = filter(json!({"room": {"ephemeral": {"not_types": ["m.typing"]}}}));
    types(&bob, &room, Some(10_000)).await;
    assert!(sync(&alice, Some(&next(&answer)), &filtered).await["rooms"].is_null());
    // Who does not say for how long types for half a minute.
    let since = next(&sync(&alice, None, "").await);
    let his = path(&room, &format!("typing/{}", encoded(&bob.user)));
    bob.put(&his, json!({"typing": false})).await.ok();
    bob.put(&his, json!({"typing": true})).await.ok();
    assert_eq!(typing(&sync(&alice, Some(&since), "").await, &room), Some(vec![bob.user.clone()]));
    bob.put(&his, json!({})).await.fails(400, "M_MISSING_PARAM");
    bob.put(&his, json!({"typing": true, "timeout": "x"})).await.fails(400, "M_BAD_JSON");
    let carol = node.register("carol").await;
    let outside = path(&room, &format!("typing/{}", encoded(&carol.user)));
    carol.put(&outside, json!({"typing": true, "timeout": 1000})).await.fails(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn receipts_are_told_forward_only_and_private_ones_to_nobody_else() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let room = create(&alice).await;
    join(&bob, &room).await;
    let first = say(&alice, &room, "one").await;
    let second = say(&alice, &room, "two").await;
    let (mut hers, mut his) = (Device::ready(&alice).await, Device::ready(&bob).await);
    read(&bob, &room, "m.read", &second, json!({})).await;
    let told = receipts(&hers.sync("").await, &room);
    assert!(told[&second]["m.read"][&bob.user]["ts"].is_u64(), "{told}");
    assert!(hers.sync("").await["rooms"].is_null(), "it was told already");
    read(&bob, &room, "m.read", &first, json!({})).await;
    assert!(hers.sync("").await["rooms"].is_null(), "receipts do not go back");
    his.sync("").await;
    let third = say(&alice, &room, "three").await;
    hers.sync("").await;
    his.sync("").await;
    read(&bob, &room, "m.read.private", &third, json!({})).await;
    assert!(hers.sync("").await["rooms"].is_null(), "a private receipt was told");
    let told = receipts(&his.sync("").await, &room);
    assert!(told[&third]["m.read.private"][&bob.user].is_object(), "{told}");
    let told = receipts(&sync(&alice, None, "").await, &room);
    assert!(!told.to_string().contains("private"), "{told}");
    // All that is known comes with a room that is new to the client.
    assert!(told[&second]["m.read"][&bob.user].is_object(), "{told}");
    bob.post(&path(&room, "receipt/m.read/%24nothing"), json!({})).await.fails(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn receipts_in_threads_stand_beside_each_other() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let room = create(&alice).await;
    join(&bob, &room).await;
    let root = say(&alice, &room, "root").await;
    let reply = json!({
        "msgtype": "m.text", "body": "in the thread", "m.relates_to": {"rel_type": "m.thread", "event_id": root}
    });
    let reply = send(&alice, &room, "m.room.message", reply).await;
    let mut device = Device::ready(&alice).await;
    read(&bob, &room, "m.read", &root, json!({"thread_id": "main"})).await;
    read(&bob, &room, "m.read", &reply, json!({"thread_id": root})).await;
    let told = receipts(&device.sync("").await, &room);
    assert_eq!(told[&root]["m.read"][&bob.user]["thread_id"], "main");
    assert_eq!(told[&reply]["m.read"][&bob.user]["thread_id"], root.as_str());
    let wrong = path(&room, &format!("receipt/m.read/{}", encoded(&reply)));
    bob.post(&wrong, json!({"thread_id": "main"})).await.fails(400, "M_INVALID_PARAM");
    bob.post(&wrong, json!({"thread_id": "nonsense"})).await.fails(400, "M_INVALID_PARAM");
    // Two receipts of one user at one event do not hide each other.
    read(&bob, &room, "m.read", &root, json!({})).await;
    let answer = sync(&alice, None, "").await;
    let events = answer["rooms"]["join"][&room]["ephemeral"]["events"].as_array().unwrap().clone();
    let at_root = events.iter().filter(|event| event["content"][&root]["m.read"][&bob.user].is_object()).count();
    assert_eq!(at_root, 2);
}

#[tokio::test]
async fn the_read_marker_is_kept_for_the_users_devices() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let room = create(&alice).await;
    let event = say(&alice, &room, "x").await;
    let mut device = Device::ready(&alice).await;
    let markers = json!({"m.fully_read": event, "m.read": event});
    alice.post(&path(&room, "read_markers"), markers).await.ok();
    let answer = device.sync("").await;
    let told = &answer["rooms"]["join"][&room]["account_data"]["events"];
    assert_eq!(told, &json!([{"type": "m.fully_read", "content": {"event_id": event}}]));
    assert!(receipts(&answer, &room)[&event]["m.read"][&alice.user].is_object());
    let other = say(&alice, &room, "y").await;
    read(&alice, &room, "m.fully_read", &other, json!({})).await;
    let answer = device.sync("").await;
    assert_eq!(answer["rooms"]["join"][&room]["account_data"]["events"][0]["content"]["event_id"], other.as_str());
}

fn presence(answer: &Value, user: &Client) -> Value {
    let events = answer["presence"]["events"].as_array().cloned().unwrap_or_default();
    let event = events.into_iter().find(|event| event["sender"] == user.user.as_str());
    event.map_or(Value::Null, |event| event["content"].clone())
}

#[tokio::test]
async fn presence_follows_the_syncs_of_all_devices_and_ends_some_time_after_the_last() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let stranger = node.register("stranger").await;
    let room = create(&alice).await;
    join(&bob, &room).await;
    let quiet = "&set_presence=offline";
    let mut device = Device::new(&alice);
    let mut other = Device::new(&stranger);
    assert!(device.sync(quiet).await["presence"].is_null(), "nobody is there");
    other.sync(quiet).await;
    sync(&bob, None, "").await;
    assert_eq!(presence(&device.sync(quiet).await, &bob)["presence"], "online");
    assert!(presence(&other.sync(quiet).await, &bob).is_null(), "told to who shares no room");
    // A second device that is idle changes nothing, and tells nobody.
    let phone = node.login("bob").await;
    sync(&phone, None, "&set_presence=unavailable").await;
    assert!(device.sync(quiet).await["presence"].is_null());
    let status = format!("/_matrix/client/v3/presence/{}/status", encoded(&bob.user));
    bob.put(&status, json!({"presence": "online", "status_msg": "busy"})).await.ok();
    assert_eq!(presence(&device.sync(quiet).await, &bob)["status_msg"], "busy");
    let told = alice.get(&status).await.ok();
    assert_eq!((&told["presence"], &told["status_msg"]), (&json!("online"), &json!("busy")));
    stranger.get(&status).await.fails(403, "M_FORBIDDEN");
    // While a sync waits its device is there, however long it takes.
    let mut his = Device::new(&bob);
    his.sync("").await;
    let client = bob.clone();
    let path = sync_path(his.since.as_deref(), "").replace("timeout=0", "timeout=150000");
    let waiting = tokio::spawn(async move { client.get(&path).await.ok() });
    for _ in 0..10 {
        node.clock.advance(Duration::from_secs(12));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let now = presence(&device.sync(quiet).await, &bob);
    assert_ne!(now["presence"], "offline", "he was taken for gone while he waited");
    let waited = pass_until(&node, Duration::from_secs(1), waiting).await;
    assert!(waited["next_batch"].is_string());
    let client = alice.clone();
    let path = sync_path(device.since.as_deref(), quiet).replace("timeout=0", "timeout=300000");
    let waiting = tokio::spawn(async move { client.get(&path).await.ok() });
    let answer = pass_until(&node, Duration::from_secs(2), waiting).await;
    assert_eq!(presence(&answer, &bob)["presence"], "offline");
}

#[tokio::test]
async fn syncs_that_say_offline_do_not_keep_their_user_present() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let room = create(&alice).await;
    join(&bob, &room).await;
    let quiet = "&set_presence=offline";
    sync(&bob, None, "").await;
    let mut device = Device::new(&alice);
    assert_eq!(presence(&device.sync(quiet).await, &bob)["presence"], "online");
    for _ in 0..12 {
        node.clock.advance(Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(5)).await;
        sync(&bob, None, quiet).await;
    }
    assert_eq!(presence(&device.sync(quiet).await, &bob)["presence"], "offline");
}

#[tokio::test]
async fn after_a_restart_nobody_types_and_who_does_not_come_back_is_offline() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let stranger = node.register("stranger").await;
    let (room, quiet) = (create(&alice).await, create(&alice).await);
    join(&bob, &room).await;
    sync(&bob, None, "").await;
    sync(&stranger, None, "").await;
    types(&bob, &room, Some(30_000)).await;
    let answer = sync(&alice, None, "").await;
    assert_eq!(typing(&answer, &room), Some(vec![bob.user.clone()]));
    assert_eq!(presence(&answer, &bob)["presence"], "online");
    node.handle.stop().await;
    let node = TestNode::start_anew(node.backend.crash(5)).await;
    let alice = node.again(&alice);
    let answer = sync(&alice, Some(&next(&answer)), "").await;
    assert_eq!((typing(&answer, &room), typing(&answer, &quiet)), (Some(vec![]), Some(vec![])));
    assert_eq!(presence(&answer, &bob)["presence"], "offline");
    assert_eq!(presence(&answer, &alice)["presence"], "online");
    assert!(presence(&answer, &stranger).is_null());
    let answer = sync(&alice, Some(&next(&answer)), "").await;
    assert!(answer["rooms"].is_null() && presence(&answer, &bob).is_null(), "it was told: {answer}");
}

#[tokio::test]
async fn two_devices_that_differ_do_not_wake_each_other_without_end() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let phone = node.login("alice").await;
    let mut desk = Device::ready(&alice).await;
    let mut pocket = Device::new(&phone);
    pocket.sync("&set_presence=unavailable").await;
    desk.sync("").await;
    pocket.sync("&set_presence=unavailable").await;
    for _ in 0..3 {
        assert!(desk.sync("").await["presence"].is_null());
        assert!(pocket.sync("&set_presence=unavailable").await["presence"].is_null());
    }
}

#[tokio::test]
async fn who_comes_into_a_room_sees_who_is_there_and_is_seen() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let room = create(&alice).await;
    let (mut hers, mut his) = (Device::ready(&alice).await, Device::ready(&bob).await);
    hers.sync("").await;
    his.sync("").await;
    join(&bob, &room).await;
    assert_eq!(presence(&his.sync("").await, &alice)["presence"], "online");
    assert_eq!(presence(&hers.sync("").await, &bob)["presence"], "online");
}
