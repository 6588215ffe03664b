//! Rooms that want their messages kept for some time only.

use std::time::Duration;

use kith_store::tables::rooms::EVENTS;
use serde_json::{Value, json};

use crate::{
    http::escape::escaped,
    rooms::read,
    testing::{Client, TestNode, eventually},
};

fn path(room: &str, rest: &str) -> String {
    format!("/_matrix/client/v3/rooms/{}/{rest}", escaped(room))
}

async fn room_of(client: &Client) -> String {
    let answer = client.post("/_matrix/client/v3/createRoom", json!({ "preset": "public_chat" })).await.ok();
    answer["room_id"].as_str().unwrap().to_owned()
}

async fn say(client: &Client, room: &str, text: &str) -> String {
    let content = json!({ "msgtype": "m.text", "body": text });
    let answer = client.put(&path(room, &format!("send/m.room.message/{text}")), content).await.ok();
    answer["event_id"].as_str().unwrap().to_owned()
}

async fn keep_for(client: &Client, room: &str, content: Value) {
    client.put(&path(room, "state/m.room.retention/"), content).await.ok();
}

async fn texts(client: &Client, room: &str) -> Vec<String> {
    let page = client.get(&path(room, "messages?dir=f&limit=100")).await.ok();
    let body = |event: &Value| event["content"]["body"].as_str().map(str::to_owned);
    page["chunk"].as_array().unwrap().iter().filter_map(body).collect()
}

async fn minutes(node: &TestNode, count: u64) {
    for _ in 0..count {
        node.clock.advance(Duration::from_secs(60));
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_message_leaves_the_disk_when_its_time_is_over_and_not_before() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let (room, other) = (room_of(&alice).await, room_of(&alice).await);
    keep_for(&alice, &room, json!({ "max_lifetime": 3_600_000 })).await;
    let old = say(&alice, &room, "ephemeral").await;
    say(&alice, &other, "lasting").await;
    minutes(&node, 30).await;
    say(&alice, &room, "young").await;
    minutes(&node, 29).await;
    assert_eq!(texts(&alice, &room).await, ["ephemeral", "young"]);
    minutes(&node, 2).await;
    eventually("it is gone", async || texts(&alice, &room).await == ["young"]).await;
    alice.get(&path(&room, &format!("event/{}", escaped(&old)))).await.fails(404, "M_NOT_FOUND");
    let found = json!({ "search_categories": { "room_events": { "search_term": "ephemeral" } } });
    let found = alice.post("/_matrix/client/v3/search", found).await.ok();
    assert_eq!(found["search_categories"]["room_events"]["count"], 0);
    let sync = alice.get("/_matrix/client/v3/sync").await.ok();
    let told = sync["rooms"]["join"][&room].to_string();
    assert!(!told.contains("ephemeral") && told.contains("young") && told.contains("m.room.retention"));
    let stored = node.node().store.read(|read| read::event_by_id(read, &old)).unwrap().unwrap();
    assert_eq!(stored.content_text(), "{}", "what is left is what its ID is made of");
    let anywhere = node.node().store.read(|read| -> Result<_, kith_store::StoreError> {
        let rows = EVENTS.range(read, ..)?.collect::<Result<Vec<_>, _>>()?;
        Ok(rows.iter().any(|(_, row)| row.json.contains("ephemeral")))
    });
    assert!(!anywhere.unwrap());
    assert_eq!(texts(&alice, &other).await, ["lasting"]);
    // The room goes on from the events that are left.
    minutes(&node, 120).await;
    say(&alice, &room, "later").await;
    minutes(&node, 1).await;
    eventually("only the latest is left", async || texts(&alice, &room).await == ["later"]).await;
}

#[tokio::test]
async fn the_latest_message_and_what_nobody_limits_any_more_stay() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let room = room_of(&alice).await;
    keep_for(&alice, &room, json!({ "max_lifetime": 60_000 })).await;
    say(&alice, &room, "one").await;
    say(&alice, &room, "two").await;
    minutes(&node, 10).await;
    eventually("one is gone", async || texts(&alice, &room).await == ["two"]).await;
    keep_for(&alice, &room, json!({ "max_lifetime": null })).await;
    say(&alice, &room, "three").await;
    minutes(&node, 70).await;
    keep_for(&alice, &room, json!({ "max_lifetime": "soon" })).await;
    minutes(&node, 70).await;
    assert_eq!(texts(&alice, &room).await, ["two", "three"]);
}
