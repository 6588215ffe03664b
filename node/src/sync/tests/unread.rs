//! Unread counts and the list of notifications.

use serde_json::json;

use super::*;

fn counts(answer: &Value, room: &str) -> (u64, u64) {
    let counts = &answer["rooms"]["join"][room]["unread_notifications"];
    (counts["notification_count"].as_u64().unwrap_or(99), counts["highlight_count"].as_u64().unwrap_or(99))
}

async fn read(client: &Client, room: &str, event: &str, body: Value) {
    client.post(&path(room, &format!("receipt/m.read/{}", encoded(event))), body).await.ok();
}

/// A room of three, so that the rules for rooms of two do not count.
async fn three(node: &TestNode) -> (Client, Client, String) {
    let (alice, bob, carol) = (node.register("alice").await, node.register("bob").await, node.register("carol").await);
    let room = create(&alice).await;
    join(&bob, &room).await;
    join(&carol, &room).await;
    (alice, bob, room)
}

#[tokio::test]
async fn unread_counts_follow_messages_mentions_and_receipts() {
    let node = TestNode::start().await;
    let (alice, bob, room) = three(&node).await;
    let mut device = Device::new(&bob);
    assert_eq!(counts(&device.sync("").await, &room), (0, 0));
    say(&alice, &room, "one").await;
    assert_eq!(counts(&device.sync("").await, &room), (1, 0));
    let mention = json!({"msgtype": "m.text", "body": "look", "m.mentions": {"user_ids": [bob.user]}});
    let mention = send(&alice, &room, "m.room.message", mention).await;
    let last = say(&alice, &room, "three").await;
    assert_eq!(counts(&device.sync("").await, &room), (3, 1));
    // A topic is no message.
    set_state(&alice, &room, "m.room.topic", "", json!({"topic": "x"})).await;
    assert_eq!(counts(&device.sync("").await, &room), (3, 1));
    read(&bob, &room, &mention, json!({})).await;
    assert_eq!(counts(&device.sync("").await, &room), (1, 0));
    read(&bob, &room, &last, json!({})).await;
    assert_eq!(counts(&device.sync("").await, &room), (0, 0));
    say(&alice, &room, "four").await;
    assert_eq!(counts(&device.sync("").await, &room), (1, 0));
    let phone = node.login("bob").await;
    assert_eq!(counts(&sync(&phone, None, "").await, &room), (1, 0), "another device counts alike");
    say(&bob, &room, "I have read").await;
    assert_eq!(counts(&device.sync("").await, &room), (0, 0));
    // An edit does not count again.
    let edit = json!({
        "msgtype": "m.text", "body": "* three", "m.new_content": {"msgtype": "m.text", "body": "three"},
        "m.relates_to": {"rel_type": "m.replace", "event_id": last}
    });
    send(&alice, &room, "m.room.message", edit).await;
    assert_eq!(counts(&device.sync("").await, &room), (0, 0));
}

#[tokio::test]
async fn what_is_redacted_is_no_longer_unread() {
    let node = TestNode::start().await;
    let (alice, bob, room) = three(&node).await;
    let mut device = Device::ready(&bob).await;
    let event = say(&alice, &room, "oops").await;
    assert_eq!(counts(&device.sync("").await, &room), (1, 0));
    alice.put(&path(&room, &format!("redact/{}/r1", encoded(&event))), json!({})).await.ok();
    assert_eq!(counts(&device.sync("").await, &room), (0, 0));
}

#[tokio::test]
async fn encrypted_events_count_as_messages_and_a_muted_room_does_not() {
    let node = TestNode::start().await;
    let (alice, bob, room) = three(&node).await;
    let mut device = Device::ready(&bob).await;
    send(&alice, &room, "m.room.encrypted", json!({"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x"})).await;
    assert_eq!(counts(&device.sync("").await, &room), (1, 0));
    let rule = format!("/_matrix/client/v3/pushrules/global/room/{}", encoded(&room));
    bob.put(&rule, json!({"actions": []})).await.ok();
    say(&alice, &room, "quiet").await;
    assert_eq!(counts(&device.sync("").await, &room), (0, 0));
}

#[tokio::test]
async fn a_loud_call_to_the_room_needs_the_power_for_it() {
    let node = TestNode::start().await;
    let (alice, bob, room) = three(&node).await;
    let (mut hers, mut his) = (Device::ready(&alice).await, Device::ready(&bob).await);
    let all = json!({"msgtype": "m.text", "body": "@room", "m.mentions": {"room": true}});
    send(&alice, &room, "m.room.message", all.clone()).await;
    assert_eq!(counts(&his.sync("").await, &room), (1, 1));
    send(&bob, &room, "m.room.message", all).await;
    assert_eq!(counts(&hers.sync("").await, &room), (1, 0));
}

#[tokio::test]
async fn threads_are_counted_apart_if_the_client_wants_it() {
    let node = TestNode::start().await;
    let (alice, bob, room) = three(&node).await;
    let root = say(&alice, &room, "root").await;
    let reply = json!({
        "msgtype": "m.text", "body": "in the thread", "m.relates_to": {"rel_type": "m.thread", "event_id": root}
    });
    let reply = send(&alice, &room, "m.room.message", reply).await;
    let apart = filter(json!({"room": {"timeline": {"unread_thread_notifications": true}}}));
    let thread = |answer: &Value| {
        answer["rooms"]["join"][&room]["unread_thread_notifications"][&root]["notification_count"].clone()
    };
    let mut device = Device::new(&bob);
    let answer = device.sync(&apart).await;
    assert_eq!((counts(&answer, &room).0, thread(&answer)), (1, json!(1)));
    assert_eq!(counts(&sync(&bob, None, "").await, &room), (2, 0), "together for other clients");
    read(&bob, &room, &root, json!({"thread_id": "main"})).await;
    let answer = device.sync(&apart).await;
    assert_eq!((counts(&answer, &room).0, thread(&answer)), (0, json!(1)));
    read(&bob, &room, &reply, json!({"thread_id": root})).await;
    let answer = device.sync(&apart).await;
    assert_eq!((counts(&answer, &room).0, thread(&answer)), (0, json!(null)));
}

#[tokio::test]
async fn what_relates_to_an_event_of_a_thread_is_of_that_thread() {
    let node = TestNode::start().await;
    let (alice, bob, room) = three(&node).await;
    let related = |kind: &str, to: &str| json!({"rel_type": kind, "event_id": to});
    let root = say(&alice, &room, "root").await;
    let body = json!({"msgtype": "m.text", "body": "x", "m.relates_to": related("m.thread", &root)});
    let reply = send(&alice, &room, "m.room.message", body).await;
    let body = json!({"msgtype": "m.text", "body": "y", "m.relates_to": related("m.reference", &reply)});
    let reference = send(&alice, &room, "m.room.message", body).await;
    let body = json!({"msgtype": "m.text", "body": "z", "m.relates_to": related("m.reference", &reference)});
    let further = send(&alice, &room, "m.room.message", body).await;
    let body = json!({"msgtype": "m.text", "body": "of the root", "m.relates_to": related("m.reference", &root)});
    let of_root = send(&alice, &room, "m.room.message", body).await;
    let apart = filter(json!({"room": {"timeline": {"unread_thread_notifications": true}}}));
    let told = async || {
        let answer = sync(&bob, None, &apart).await;
        let threads = &answer["rooms"]["join"][&room]["unread_thread_notifications"];
        (counts(&answer, &room).0, threads[&root]["notification_count"].as_u64().unwrap_or(0))
    };
    assert_eq!(told().await, (2, 3));
    read(&bob, &room, &further, json!({"thread_id": root})).await;
    assert_eq!(told().await, (2, 0));
    read(&bob, &room, &of_root, json!({"thread_id": "main"})).await;
    assert_eq!(told().await, (0, 0));
    let wrong = path(&room, &format!("receipt/m.read/{}", encoded(&reference)));
    bob.post(&wrong, json!({"thread_id": "main"})).await.fails(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn of_very_many_events_the_latest_are_counted() {
    let node = TestNode::start().await;
    let (alice, bob, room) = three(&node).await;
    for number in 0..120 {
        say(&alice, &room, &number.to_string()).await;
    }
    let mention = json!({"msgtype": "m.text", "body": "look", "m.mentions": {"user_ids": [bob.user]}});
    let mention = send(&alice, &room, "m.room.message", mention).await;
    let mut device = Device::new(&bob);
    assert_eq!(counts(&device.sync("").await, &room), (100, 1));
    read(&bob, &room, &mention, json!({})).await;
    assert_eq!(counts(&device.sync("").await, &room), (0, 0));
    say(&alice, &room, "unseen").await;
    say(&bob, &room, "mine").await;
    for number in 0..3 {
        say(&alice, &room, &number.to_string()).await;
    }
    assert_eq!(counts(&device.sync("").await, &room), (3, 0));
    assert_eq!(counts(&sync(&node.login("bob").await, None, "").await, &room), (3, 0));
}

#[tokio::test]
async fn notifications_are_listed_from_the_latest_on() {
    let node = TestNode::start().await;
    let (alice, bob, room) = three(&node).await;
    let other = create_with(&alice, json!({"preset": "public_chat"})).await;
    join(&bob, &other).await;
    let mut sent = Vec::new();
    for number in 0..6 {
        let room = if number % 2 == 0 { &room } else { &other };
        sent.push(say(&alice, room, &number.to_string()).await);
        say(&bob, &other, "mine").await;
    }
    read(&bob, &room, &sent[2], json!({})).await;
    let mention = json!({"msgtype": "m.text", "body": "look", "m.mentions": {"user_ids": [bob.user]}});
    send(&alice, &room, "m.room.message", mention).await;
    let mut listed = Vec::new();
    let mut from = String::new();
    loop {
        let page = bob.get(&format!("/_matrix/client/v3/notifications?limit=2{from}")).await.ok();
        listed.extend(page["notifications"].as_array().unwrap().clone());
        assert!(listed.len() <= 7, "the pages do not end");
        match page["next_token"].as_str() {
            Some(token) => from = format!("&from={token}"),
            None => break,
        }
    }
    let told: Vec<&str> = listed.iter().map(|entry| entry["event"]["content"]["body"].as_str().unwrap()).collect();
    assert_eq!(told, ["look", "5", "4", "3", "2", "1", "0"]);
    let is_read: Vec<bool> = listed.iter().map(|entry| entry["read"].as_bool().unwrap()).collect();
    assert_eq!(is_read, [false, false, false, false, true, false, true]);
    assert_eq!(listed[0]["room_id"], room.as_str());
    let loud = bob.get("/_matrix/client/v3/notifications?only=highlight").await.ok();
    assert_eq!(loud["notifications"].as_array().unwrap().len(), 1);
    bob.get("/_matrix/client/v3/notifications?from=x").await.fails(400, "M_INVALID_PARAM");
}
