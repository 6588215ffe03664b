//! Dehydrated devices.

use serde_json::{Value, json};

use super::*;
use crate::testing::TestNode;

const PATH: &str = "/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device";

/// What a client uploads to dehydrate a device.
fn upload(client: &Client, device: &str, seed: u8) -> Value {
    let pair = Pair::new(seed);
    let mut ghost = client.clone();
    ghost.device = device.to_owned();
    let mut keys = device_keys(&ghost, &pair);
    keys.as_object_mut().unwrap().remove("signatures");
    keys["dehydrated"] = json!(true);
    json!({
        "device_id": device,
        "initial_device_display_name": "ghost",
        "device_data": { "algorithm": "org.matrix.msc3814.v2", "device_pickle": format!("pickle {seed}"), "nonce": "n" },
        "device_keys": pair.sign(keys, &client.user, device),
        "one_time_keys": one_time_keys(&ghost, &pair, &format!("o{seed}"), 2),
        "fallback_keys": { "signed_curve25519:f": pair.sign(json!({ "key": "f", "fallback": true }), &client.user, device) },
    })
}

fn events(device: &str) -> String {
    format!("{PATH}/{}/events", crate::http::escape::escaped(device))
}

async fn tell(from: &Client, to: &Client, device: &str, number: u64) {
    let body = json!({ "messages": { &to.user: { device: { "n": number } } } });
    from.put(&format!("/_matrix/client/v3/sendToDevice/org.example.note/t{number}"), body).await.ok();
}

fn numbers(answer: &Value) -> Vec<u64> {
    answer["events"].as_array().unwrap().iter().map(|event| event["content"]["n"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_dehydrated_device_gets_keys_and_messages_that_its_user_reads_as_often_as_it_takes() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    alice.get(PATH).await.fails(404, "M_NOT_FOUND");
    let body = upload(&alice, "ghost/+1", 1);
    assert_eq!(alice.put(PATH, body.clone()).await.ok(), json!({ "device_id": "ghost/+1" }));
    let told = alice.get(PATH).await.ok();
    assert_eq!(told, json!({ "device_id": "ghost/+1", "device_data": body["device_data"] }));
    bob.get(PATH).await.fails(404, "M_NOT_FOUND");

    let keys = bob.post(QUERY, json!({ "device_keys": { &alice.user: [] } })).await.ok();
    assert_eq!(keys["device_keys"][&alice.user]["ghost/+1"]["dehydrated"], true);
    for _ in 0..3 {
        let claim = json!({ "one_time_keys": { &alice.user: { "ghost/+1": "signed_curve25519" } } });
        let claimed = bob.post(CLAIM, claim).await.ok();
        assert!(claimed["one_time_keys"][&alice.user]["ghost/+1"].is_object());
    }
    for number in 0..150 {
        tell(&bob, &alice, "ghost/+1", number).await;
    }
    // Twice, as nothing is deleted by reading.
    for _ in 0..2 {
        let first = alice.get(&events("ghost/+1")).await.ok();
        assert_eq!(numbers(&first), (0..100).collect::<Vec<_>>());
        let from = first["next_batch"].as_str().unwrap();
        let second = alice.get(&format!("{}?from={from}", events("ghost/+1"))).await.ok();
        assert_eq!(numbers(&second), (100..150).collect::<Vec<_>>());
        assert!(second.get("next_batch").is_none());
    }
    // The older form goes on until nothing comes.
    let (mut found, mut body) = (Vec::new(), json!({}));
    loop {
        let answer = alice.post(&events("ghost/+1"), body).await.ok();
        if numbers(&answer).is_empty() {
            break;
        }
        found.extend(numbers(&answer));
        body = json!({ "next_batch": answer["next_batch"] });
    }
    assert_eq!(found, (0..150).collect::<Vec<_>>());
    alice.get(&events("other")).await.fails(403, "M_FORBIDDEN");
    bob.get(&events("ghost/+1")).await.fails(403, "M_FORBIDDEN");
    alice.get(&format!("{}?from=nonsense", events("ghost/+1"))).await.fails(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn the_next_one_replaces_it_and_the_same_one_does_not() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let room = encrypted_room(&alice).await;
    join(&bob, &room).await;
    let since = sync(&bob, None).await;
    alice.put(PATH, upload(&alice, "one", 1)).await.ok();
    assert_eq!(sync(&bob, Some(next(&since))).await["device_lists"]["changed"], json!([alice.user]));
    tell(&bob, &alice, "one", 1).await;
    // The answer was lost, and the client repeats its request.
    alice.put(PATH, upload(&alice, "one", 1)).await.ok();
    assert_eq!(numbers(&alice.get(&events("one")).await.ok()), [1]);
    // Other keys under the same name are another device.
    alice.put(PATH, upload(&alice, "one", 2)).await.ok();
    assert!(numbers(&alice.get(&events("one")).await.ok()).is_empty());
    alice.put(PATH, upload(&alice, "two", 3)).await.ok();
    alice.get(&events("one")).await.fails(403, "M_FORBIDDEN");
    let keys = bob.post(QUERY, json!({ "device_keys": { &alice.user: [] } })).await.ok();
    let devices: Vec<&String> = keys["device_keys"][&alice.user].as_object().unwrap().keys().collect();
    assert_eq!(devices, ["two"]);
    let list = alice.get("/_matrix/client/v3/devices").await.ok();
    assert_eq!(list["devices"].as_array().unwrap().len(), 2);

    assert_eq!(alice.delete(PATH).await.ok(), json!({ "device_id": "two" }));
    alice.get(PATH).await.fails(404, "M_NOT_FOUND");
    alice.delete(PATH).await.fails(404, "M_NOT_FOUND");
    let keys = bob.post(QUERY, json!({ "device_keys": { &alice.user: [] } })).await.ok();
    assert_eq!(keys["device_keys"][&alice.user], json!({}));
    // As any device it goes when all are signed out.
    alice.put(PATH, upload(&alice, "three", 4)).await.ok();
    alice.post("/_matrix/client/v3/logout/all", json!({})).await.ok();
    let left = node.node().store.read(|read| super::super::dehydrated::get(read, &alice.user)).unwrap();
    assert!(left.is_none());
}

#[tokio::test]
async fn what_is_no_device_is_refused_and_the_one_before_stays() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    alice.put(PATH, upload(&alice, "good", 1)).await.ok();
    let wrong = |change: &dyn Fn(&mut Value)| {
        let mut body = upload(&alice, "bad", 2);
        change(&mut body);
        body
    };
    for (body, status, code) in [
        (wrong(&|body| body["device_data"] = json!({})), 400, "M_BAD_JSON"),
        (wrong(&|body| body["device_data"] = json!("x")), 400, "M_BAD_JSON"),
        (wrong(&|body| drop(body.as_object_mut().unwrap().remove("device_keys"))), 400, "M_BAD_JSON"),
        (wrong(&|body| body["device_id"] = json!("other")), 400, "M_INVALID_PARAM"),
        (wrong(&|body| body["device_keys"]["algorithms"] = json!(["changed"])), 400, "M_INVALID_SIGNATURE"),
        (wrong(&|body| body["one_time_keys"] = json!({ "signed_curve25519:x": 3 })), 400, "M_INVALID_PARAM"),
        (wrong(&|body| body["device_data"]["pickle"] = json!("x".repeat(300_000))), 413, "M_TOO_LARGE"),
        (upload(&alice, &alice.device, 2), 400, "M_INVALID_PARAM"),
    ] {
        alice.put(PATH, body).await.fails(status, code);
        assert_eq!(alice.get(PATH).await.ok()["device_id"], "good");
    }
}
