//! Delayed events through the client API of whole nodes.

use serde_json::{Value, json};

use super::*;
use crate::{
    http::escape::escaped,
    testing::{Client, Reply, TestNode, eventually},
};

const PATH: &str = "/_matrix/client/unstable/org.matrix.msc4140";

async fn room_of(client: &Client) -> String {
    let answer = client.post("/_matrix/client/v3/createRoom", json!({ "preset": "public_chat" })).await.ok();
    answer["room_id"].as_str().unwrap().to_owned()
}

async fn later(client: &Client, room: &str, kind: &str, transaction: &str, body: Value) -> Reply {
    client.put(&format!("{PATH}/rooms/{}/delayed_event/{kind}/{transaction}", escaped(room)), body).await
}

/// Schedules a text message; gives its delay ID.
async fn say(client: &Client, room: &str, text: &str, delay: u64) -> String {
    let body = json!({ "delay": delay, "content": { "msgtype": "m.text", "body": text } });
    let answer = later(client, room, "m.room.message", text, body).await.ok();
    answer["delay_id"].as_str().unwrap().to_owned()
}

async fn act_on(client: &Client, id: &str, action: &str) -> Reply {
    client.post(&format!("{PATH}/delayed_events/{id}/{action}"), json!({})).await
}

async fn one(client: &Client, id: &str) -> Value {
    client.get(&format!("{PATH}/delayed_events/{id}")).await.ok()
}

async fn all(client: &Client) -> Vec<Value> {
    client.get(&format!("{PATH}/delayed_events")).await.ok()["delayed_events"].as_array().unwrap().clone()
}

/// The latest events of a room, the latest first.
async fn latest(client: &Client, room: &str) -> Vec<Value> {
    let path = format!("/_matrix/client/v3/rooms/{}/messages?dir=b&limit=20", escaped(room));
    client.get(&path).await.ok()["chunk"].as_array().unwrap().clone()
}

async fn texts(client: &Client, room: &str) -> Vec<String> {
    let body = |event: &Value| event["content"]["body"].as_str().map(str::to_owned);
    let mut texts: Vec<String> = latest(client, room).await.iter().filter_map(body).collect();
    texts.reverse();
    texts
}

#[tokio::test]
async fn an_event_is_sent_when_its_time_has_come_and_not_before() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let room = room_of(&alice).await;
    bob.post(&format!("/_matrix/client/v3/join/{}", escaped(&room)), json!({})).await.ok();
    let second = say(&alice, &room, "second", 9_000).await;
    let first = say(&alice, &room, "first", 5_000).await;
    let ids: Vec<Value> = all(&alice).await.iter().map(|event| event["delay_id"].clone()).collect();
    assert_eq!(ids, [json!(first), json!(second)]);
    let shown = one(&alice, &first).await;
    assert_eq!((&shown["type"], &shown["room_id"]), (&json!("m.room.message"), &json!(room)));
    assert_eq!(
        (&shown["delay_ms"], &shown["delay"], &shown["content"]["body"]),
        (&json!(5000), &json!(5000), &json!("first"))
    );
    assert!(shown.get("finalised_ts").is_none());
    assert!(all(&bob).await.is_empty());
    bob.get(&format!("{PATH}/delayed_events/{first}")).await.fails(404, "M_NOT_FOUND");

    node.clock.advance(std::time::Duration::from_millis(4_999));
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(texts(&alice, &room).await.is_empty());
    node.clock.advance(std::time::Duration::from_millis(1));
    eventually("the first is sent", async || texts(&alice, &room).await == ["first"]).await;
    let event = latest(&alice, &room).await.remove(0);
    assert_eq!(event["unsigned"]["org.matrix.msc4140.delay_id"], json!(first));
    assert!(event["unsigned"].get("transaction_id").is_none());
    assert!(latest(&bob, &room).await[0]["unsigned"].get("org.matrix.msc4140.delay_id").is_none());
    eventually("it is finished", async || one(&alice, &first).await["event_id"] == event["event_id"]).await;
    assert!(one(&alice, &first).await["finalised_ts"].is_u64());
    node.clock.advance(std::time::Duration::from_secs(4));
    eventually("the second is sent", async || texts(&alice, &room).await == ["first", "second"]).await;
    eventually("none is left", async || all(&alice).await.is_empty()).await;
}

#[tokio::test]
async fn a_scheduled_event_is_restarted_cancelled_and_sent() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let room = room_of(&alice).await;
    let (kept, ended, hurried) = (
        say(&alice, &room, "kept", 10_000).await,
        say(&alice, &room, "ended", 10_000).await,
        say(&alice, &room, "hurried", 10_000).await,
    );
    act_on(&bob, &ended, "cancel").await.fails(404, "M_NOT_FOUND");
    act_on(&alice, &ended, "dance").await.fails(400, "M_INVALID_PARAM");
    act_on(&alice, "nonsense", "cancel").await.fails(404, "M_NOT_FOUND");
    // The older form of the request.
    alice.post(&format!("{PATH}/delayed_events/{ended}"), json!({ "action": "cancel" })).await.ok();
    // Whoever knows the ID may act, signed in or not.
    act_on(&node.client(), &hurried, "send").await.ok();
    assert_eq!(texts(&alice, &room).await, ["hurried"]);
    node.clock.advance(std::time::Duration::from_secs(8));
    act_on(&alice, &kept, "restart").await.ok();
    node.clock.advance(std::time::Duration::from_secs(8));
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(texts(&alice, &room).await, ["hurried"]);
    node.clock.advance(std::time::Duration::from_secs(2));
    eventually("it is sent", async || texts(&alice, &room).await == ["hurried", "kept"]).await;
    eventually("and finished", async || one(&alice, &kept).await["event_id"].is_string()).await;
    // What happened may be asked for again; the opposite may not.
    act_on(&alice, &kept, "send").await.ok();
    act_on(&alice, &ended, "cancel").await.ok();
    act_on(&alice, &kept, "cancel").await.fails(409, "M_UNKNOWN");
    act_on(&alice, &ended, "send").await.fails(409, "M_UNKNOWN");
    act_on(&alice, &ended, "restart").await.fails(409, "M_UNKNOWN");
    assert_eq!(texts(&alice, &room).await, ["hurried", "kept"]);
    let shown = one(&alice, &ended).await;
    assert!(shown["finalised_ts"].is_u64() && shown.get("event_id").is_none() && shown.get("error").is_none());
}

#[tokio::test]
async fn state_and_redactions_can_wait_too_in_both_forms_of_the_request() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let room = room_of(&alice).await;
    let path = format!("/_matrix/client/v3/rooms/{}", escaped(&room));
    let delay = "org.matrix.msc4140.delay=1000";
    let body = json!({ "delay_ms": 1_000, "state_key": "", "content": { "topic": "new" } });
    let topic = later(&alice, &room, "m.room.topic", "t", body).await.ok()["delay_id"].clone();
    let name = alice.put(&format!("{path}/state/m.room.name/?{delay}"), json!({ "name": "later" })).await.ok();
    let message = json!({ "msgtype": "m.text", "body": "older form" });
    let sent = alice.put(&format!("{path}/send/m.room.message/x?{delay}"), message).await.ok();
    assert!(name["delay_id"].is_string() && sent["delay_id"].is_string() && sent.get("event_id").is_none());
    let spoken = alice.put(&format!("{path}/send/m.room.message/y"), json!({ "body": "said" })).await.ok();
    let redaction = json!({ "delay_ms": 1_000, "content": { "redacts": spoken["event_id"], "reason": "r" } });
    later(&alice, &room, "m.room.redaction", "r", redaction).await.ok();
    alice
        .put(&format!("{path}/send/m.room.message/z?org.matrix.msc4140.delay=soon"), json!({}))
        .await
        .fails(400, "M_INVALID_PARAM");
    assert_eq!(all(&alice).await.iter().filter(|event| event["state_key"] == "").count(), 2);
    node.clock.advance(std::time::Duration::from_secs(1));
    eventually("all are sent", async || all(&alice).await.is_empty()).await;
    assert_eq!(alice.get(&format!("{path}/state/m.room.topic")).await.ok()["topic"], "new");
    assert_eq!(alice.get(&format!("{path}/state/m.room.name")).await.ok()["name"], "later");
    assert_eq!(texts(&alice, &room).await, ["older form"], "what was said is redacted");
    let events = latest(&alice, &room).await;
    let set = events.iter().find(|event| event["type"] == "m.room.topic").unwrap();
    assert_eq!(set["unsigned"]["org.matrix.msc4140.delay_id"], topic);
}

#[tokio::test]
async fn what_may_not_be_sent_when_its_time_comes_ends_with_the_reason() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let room = room_of(&alice).await;
    // He is not in it yet: that is judged later.
    let (early, late) = (say(&bob, &room, "early", 1_000).await, say(&bob, &room, "late", 60_000).await);
    node.clock.advance(std::time::Duration::from_secs(1));
    eventually("it failed", async || one(&bob, &early).await["error"]["errcode"] == "M_FORBIDDEN").await;
    act_on(&bob, &early, "send").await.fails(409, "M_UNKNOWN");
    // One that fails when it is sent by hand stays scheduled.
    act_on(&bob, &late, "send").await.fails(403, "M_FORBIDDEN");
    bob.post(&format!("/_matrix/client/v3/join/{}", escaped(&room)), json!({})).await.ok();
    node.clock.advance(std::time::Duration::from_secs(59));
    eventually("it is sent", async || texts(&alice, &room).await == ["late"]).await;
}

#[tokio::test]
async fn what_was_scheduled_outlasts_a_crash_and_is_sent_once() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let room = room_of(&alice).await;
    let (second, first) = (say(&alice, &room, "second", 8_000).await, say(&alice, &room, "first", 5_000).await);
    // Sent, but the node fell over before it noted that.
    let row = node.node().store.read(|read| get(read, &alice.user, &first)).unwrap().unwrap();
    run::send(node.node(), &alice.user, &first, &row).await.unwrap();
    let backend = node.backend.crash(3);
    drop(node);
    let node = TestNode::start_anew(backend).await;
    let alice = node.again(&alice);
    assert_eq!(all(&alice).await.len(), 2);
    node.clock.advance(std::time::Duration::from_secs(20));
    eventually("all are sent", async || all(&alice).await.is_empty()).await;
    assert_eq!(texts(&alice, &room).await, ["first", "second"]);
    assert!(one(&alice, &second).await["event_id"].is_string());
}

#[tokio::test]
async fn requests_that_come_again_schedule_once_and_limits_hold() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let room = room_of(&alice).await;
    assert_eq!(say(&alice, &room, "same", 1_000).await, say(&alice, &room, "same", 1_000).await);
    let content = json!({ "body": "x" });
    for (body, status, code) in [
        (json!({ "content": content }), 400, "M_MISSING_PARAM"),
        (json!({ "delay": 1 }), 400, "M_BAD_JSON"),
        (json!({ "delay": 0, "content": content }), 400, "M_INVALID_PARAM"),
        (json!({ "delay": -1, "content": content }), 400, "M_INVALID_PARAM"),
        (json!({ "delay": 1, "state_key": 1, "content": content }), 400, "M_BAD_JSON"),
        (json!({ "delay": LONGEST_DELAY + 1, "content": content }), 403, "M_FORBIDDEN"),
        (json!({ "delay": 1, "content": { "body": "x".repeat(70_000) } }), 413, "M_TOO_LARGE"),
    ] {
        later(&alice, &room, "m.room.message", "bad", body).await.fails(status, code);
    }
    assert_eq!(all(&alice).await.len(), 1);
    for number in 1..MOST_SCHEDULED {
        say(&alice, &room, &number.to_string(), 60_000).await;
    }
    let body = json!({ "delay": 1, "content": content });
    let refused = later(&alice, &room, "m.room.message", "more", body).await.fails(429, "M_LIMIT_EXCEEDED");
    assert!((1..=1_000).contains(&refused["retry_after_ms"].as_u64().unwrap()), "until the next one is due");
    let capabilities = alice.get("/_matrix/client/v3/capabilities").await.ok();
    let told = &capabilities["capabilities"]["org.matrix.msc4140.delayed_events"];
    assert_eq!(*told, json!({ "max_delay_ms": LONGEST_DELAY, "max_scheduled": MOST_SCHEDULED }));
}

#[tokio::test]
async fn nothing_is_sent_for_who_is_gone_and_what_is_finished_is_forgotten() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let room = room_of(&alice).await;
    bob.post(&format!("/_matrix/client/v3/join/{}", escaped(&room)), json!({})).await.ok();
    say(&bob, &room, "beyond", 1_000).await;
    let auth = json!({ "auth": { "type": "m.login.password", "user": "bob", "password": "secret bob" } });
    bob.post("/_matrix/client/v3/account/deactivate", auth).await.ok();
    let mut ids = Vec::new();
    for number in 0..MOST_FINISHED + 5 {
        let id = say(&alice, &room, &number.to_string(), 60_000).await;
        act_on(&alice, &id, "cancel").await.ok();
        node.clock.advance(std::time::Duration::from_millis(100));
        ids.push(id);
    }
    let known = node.node().store.read(|read| of_user(read, &alice.user)).unwrap();
    assert_eq!(known.len(), MOST_FINISHED);
    act_on(&alice, &ids[0], "cancel").await.fails(404, "M_NOT_FOUND");
    node.clock.advance(std::time::Duration::from_millis(FINISHED_MS));
    let id = say(&alice, &room, "new", 60_000).await;
    act_on(&alice, &id, "cancel").await.ok();
    let known = node.node().store.read(|read| of_user(read, &alice.user)).unwrap();
    assert_eq!(known.into_iter().map(|(id, _)| id).collect::<Vec<_>>(), [id]);
    assert!(texts(&alice, &room).await.is_empty());
    let left: Result<_, StoreError> = node.node().store.read(|read| Ok(DELAYED_EVENT_OWNERS.range(read, ..)?.count()));
    assert_eq!(left.unwrap(), 1);
}
