//! Messages to devices.

use kith_store::StoreError;
use serde_json::{Value, json};

use super::{next, sync};
use crate::{
    e2ee::to_device::{self, Message},
    testing::{Client, TestNode},
};

async fn send(from: &Client, transaction: &str, to: &Client, device: &str, body: Value) {
    let messages = json!({ "messages": { &to.user: { device: body } } });
    from.put(&format!("/_matrix/client/v3/sendToDevice/org.example.note/{transaction}"), messages).await.ok();
}

fn numbers(sync: &Value) -> Vec<u64> {
    let events = sync["to_device"]["events"].as_array().cloned().unwrap_or_default();
    events.iter().map(|event| event["content"]["n"].as_u64().expect("a number")).collect()
}

#[tokio::test]
async fn messages_come_in_order_at_least_once_and_go_when_the_device_goes_on() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let start = sync(&bob, None).await;
    for number in 0..250 {
        send(&alice, &number.to_string(), &bob, &bob.device, json!({ "n": number })).await;
    }
    let first = sync(&bob, Some(next(&start))).await;
    assert_eq!(numbers(&first), (0..100).collect::<Vec<_>>());
    assert_eq!(
        first["to_device"]["events"][0],
        json!({ "sender": alice.user, "type": "org.example.note", "content": { "n": 0 } })
    );
    // The answer was lost: the same again.
    let again = sync(&bob, Some(next(&start))).await;
    assert_eq!(numbers(&again), (0..100).collect::<Vec<_>>());
    let second = sync(&bob, Some(next(&again))).await;
    assert_eq!(numbers(&second), (100..200).collect::<Vec<_>>());
    let third = sync(&bob, Some(next(&second))).await;
    assert_eq!(numbers(&third), (200..250).collect::<Vec<_>>());
    assert_eq!(numbers(&sync(&bob, Some(next(&third))).await), Vec::<u64>::new());
    // What was given up to the latest token is deleted (changes are made in order, so before the next message), and only that.
    send(&alice, "last", &bob, &bob.device, json!({ "n": 7 })).await;
    assert_eq!(numbers(&sync(&bob, None).await), [7]);
    assert_eq!(numbers(&sync(&bob, None).await), [7]);
}

#[tokio::test]
async fn messages_wait_over_a_crash() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    send(&alice, "1", &bob, "*", json!({ "n": 1 })).await;
    let backend = node.backend.crash(5);
    drop(node);
    let node = TestNode::start_on(backend, |_| {}).await;
    assert_eq!(numbers(&sync(&node.again(&bob), None).await), [1]);
    // The request, sent again after the crash, has no second effect.
    send(&node.again(&alice), "1", &bob, "*", json!({ "n": 1 })).await;
    assert_eq!(numbers(&sync(&node.again(&bob), None).await), [1]);
}

#[tokio::test]
async fn a_transaction_counts_once_for_its_device_and_type() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let other = node.login("alice").await;
    send(&alice, "1", &bob, &bob.device, json!({ "n": 1 })).await;
    send(&alice, "1", &bob, &bob.device, json!({ "n": 2 })).await;
    send(&other, "1", &bob, &bob.device, json!({ "n": 3 })).await;
    assert_eq!(numbers(&sync(&bob, None).await), [1, 3]);
}

#[tokio::test]
async fn a_message_for_all_devices_reaches_each_and_a_waiting_sync_wakes() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let tablet = node.login("bob").await;
    let (start, tablet_start) = (sync(&bob, None).await, sync(&tablet, None).await);
    let path = format!("/_matrix/client/v3/sync?timeout=60000&since={}", next(&start));
    let (woken, ()) = futures::join!(bob.get(&path), send(&alice, "1", &bob, "*", json!({ "n": 4 })));
    assert_eq!(numbers(&woken.ok()), [4]);
    assert_eq!(numbers(&sync(&tablet, Some(next(&tablet_start))).await), [4]);
    // A device that is not there is passed over.
    send(&alice, "2", &bob, "NOBODY", json!({ "n": 5 })).await;
    assert_eq!(numbers(&sync(&bob, None).await), [4]);
}

#[tokio::test]
async fn messages_that_are_too_long_or_misshapen_are_refused() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let path = "/_matrix/client/v3/sendToDevice/m.test/1";
    let to = |content: Value| json!({ "messages": { &alice.user: { &alice.device: content } } });
    alice.put(path, to(json!({ "n": "x".repeat(70_000) }))).await.fails(413, "M_TOO_LARGE");
    alice.put(path, to(json!("text"))).await.fails(400, "M_BAD_JSON");
    alice.put(path, json!({ "messages": { "alice": { "A": {} } } })).await.fails(400, "M_INVALID_PARAM");
    alice.put(path, json!({})).await.fails(400, "M_BAD_JSON");
    alice.put(path, to(json!({ "n": 1 }))).await.ok();
    assert_eq!(numbers(&sync(&alice, None).await), [1]);
}

/// Whoever knew a user's name could fill the inbox of a sleeping device, and the room keys that waited in it went.
#[tokio::test]
async fn messages_of_strangers_do_not_push_out_what_waits_for_a_sleeping_device() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    send(&alice, "first", &bob, "*", json!({ "n": 1 })).await;
    let flood = async |count: u64| {
        let (user, device) = (bob.user.clone(), bob.device.clone());
        let write = node.node().store.write(move |tx| {
            for number in 0..count {
                let message = Message {
                    // Names are free: it comes as many.
                    sender: format!("@mallory:stranger{}.example", number % 7),
                    kind: "org.example.note".to_owned(),
                    content: json!({ "n": 1_000 + number }),
                };
                to_device::deliver(tx, &user, &device, &message, 5)?;
            }
            Ok::<(), StoreError>(())
        });
        write.await.expect("delivered");
    };
    flood(300).await;
    send(&alice, "last", &bob, "*", json!({ "n": 2 })).await;
    let mut all = Vec::new();
    let mut since: Option<String> = None;
    loop {
        let answer = sync(&bob, since.as_deref()).await;
        let more = numbers(&answer);
        since = Some(next(&answer).to_owned());
        if more.is_empty() {
            break;
        }
        all.extend(more);
    }
    assert_eq!(all.len(), 202, "a stranger has its share and no more");
    assert_eq!((all.first(), all.last()), (Some(&1), Some(&2)));
    // Once they are read there is room again.
    flood(3).await;
    assert_eq!(numbers(&sync(&bob, since.as_deref()).await), [1_000, 1_001, 1_002]);
}
