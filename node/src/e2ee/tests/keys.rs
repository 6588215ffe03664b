//! Identity, one-time and fallback keys.

use std::collections::BTreeSet;

use kith_store::tables::e2ee::CLAIMED_KEYS;
use serde_json::{Value, json};

use super::{CLAIM, Pair, QUERY, UPLOAD, device_keys, next, one_time_keys, sync, with_keys};
use crate::testing::{Client, TestNode};

fn wish(client: &Client) -> Value {
    json!({ "one_time_keys": { &client.user: { &client.device: "signed_curve25519" } } })
}

async fn claimed(by: &Client, of: &Client) -> Option<String> {
    let answer = by.post(CLAIM, wish(of)).await.ok();
    let keys = answer["one_time_keys"][&of.user][&of.device].as_object()?.clone();
    keys.into_iter().next().map(|(name, _)| name)
}

#[tokio::test]
async fn uploaded_keys_are_found_as_they_were_with_the_name_of_the_device() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let keys = device_keys(&alice, &Pair::new(1));
    alice.post(UPLOAD, json!({ "device_keys": keys })).await.ok();
    let path = format!("/_matrix/client/v3/devices/{}", alice.device);
    alice.put(&path, json!({ "display_name": "phone" })).await.ok();

    let mut expected = keys;
    expected["unsigned"] = json!({ "device_display_name": "phone" });
    let answer = bob.post(QUERY, json!({ "device_keys": { &alice.user: [] } })).await.ok();
    assert_eq!(answer["device_keys"], json!({ &alice.user: { &alice.device: expected } }));
    let answer = bob.post(QUERY, json!({ "device_keys": { &alice.user: ["OTHER"] } })).await.ok();
    assert_eq!(answer["device_keys"], json!({ &alice.user: {} }));
}

#[tokio::test]
async fn keys_of_another_device_or_with_a_wrong_signature_are_refused() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let pair = Pair::new(1);
    let upload = |keys: Value| alice.post(UPLOAD, json!({ "device_keys": keys }));
    upload(device_keys(&bob, &pair)).await.fails(400, "M_INVALID_PARAM");

    let mut changed = device_keys(&alice, &pair);
    changed["algorithms"] = json!(["m.olm.v1.curve25519-aes-sha2"]);
    upload(changed).await.fails(400, "M_INVALID_SIGNATURE");
    let mut unsigned = device_keys(&alice, &pair);
    unsigned["signatures"] = json!({});
    upload(unsigned).await.fails(400, "M_INVALID_SIGNATURE");
    // Signed, but by another key than the one it shows.
    let foreign = Pair::new(2).sign(device_keys(&alice, &pair), &alice.user, &alice.device);
    upload(foreign).await.fails(400, "M_INVALID_SIGNATURE");

    let answer = bob.post(QUERY, json!({ "device_keys": { &alice.user: [] } })).await.ok();
    assert_eq!(answer["device_keys"], json!({ &alice.user: {} }));
}

#[tokio::test]
async fn each_one_time_key_is_handed_out_once_in_order_and_stays_so_after_a_crash() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let pair = with_keys(&alice, 1).await;
    let counts = alice.post(UPLOAD, json!({ "one_time_keys": one_time_keys(&alice, &pair, "A", 20) })).await.ok();
    assert_eq!(counts["one_time_key_counts"]["signed_curve25519"], 20);

    assert_eq!(claimed(&bob, &alice).await.as_deref(), Some("signed_curve25519:A0"));
    assert_eq!(claimed(&bob, &alice).await.as_deref(), Some("signed_curve25519:A1"));
    let claims = futures::future::join_all((0..10).map(|_| claimed(&bob, &alice))).await;
    let distinct: BTreeSet<_> = claims.iter().flatten().collect();
    assert_eq!(distinct.len(), 10, "{claims:?}");
    assert_eq!(sync(&alice, None).await["device_one_time_keys_count"]["signed_curve25519"], 8);

    let backend = node.backend.crash(3);
    drop(node);
    let node = TestNode::start_on(backend, |_| {}).await;
    let (alice, bob) = (node.again(&alice), node.again(&bob));
    let rest = futures::future::join_all((0..10).map(|_| claimed(&bob, &alice))).await;
    let distinct: BTreeSet<_> = claims.iter().chain(&rest).flatten().collect();
    assert_eq!(distinct.len(), 18, "{rest:?}");
    assert_eq!(sync(&alice, None).await["device_one_time_keys_count"]["signed_curve25519"], 0);
}

#[tokio::test]
async fn the_id_of_a_waiting_one_time_key_cannot_be_used_for_another_key() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let pair = with_keys(&alice, 1).await;
    let keys = one_time_keys(&alice, &pair, "A", 3);
    alice.post(UPLOAD, json!({ "one_time_keys": keys })).await.ok();
    // The answer was lost: the same again.
    let counts = alice.post(UPLOAD, json!({ "one_time_keys": keys })).await.ok();
    assert_eq!(counts["one_time_key_counts"]["signed_curve25519"], 3);
    let other = json!({
        "signed_curve25519:A1": pair.sign(json!({ "key": "other" }), &alice.user, &alice.device),
        "signed_curve25519:B": pair.sign(json!({ "key": "new" }), &alice.user, &alice.device),
    });
    alice.post(UPLOAD, json!({ "one_time_keys": other })).await.fails(400, "M_INVALID_PARAM");
    let counts = alice.post(UPLOAD, json!({})).await.ok();
    assert_eq!(counts["one_time_key_counts"]["signed_curve25519"], 3, "a refused upload is refused as a whole");
}

#[tokio::test]
async fn a_one_time_key_that_was_handed_out_is_not_taken_again_when_its_upload_is_repeated() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let pair = with_keys(&alice, 1).await;
    let keys = one_time_keys(&alice, &pair, "A", 3);
    alice.post(UPLOAD, json!({ "one_time_keys": keys })).await.ok();
    assert_eq!(claimed(&bob, &alice).await.as_deref(), Some("signed_curve25519:A0"));
    let counts = alice.post(UPLOAD, json!({ "one_time_keys": keys })).await.ok();
    assert_eq!(counts["one_time_key_counts"]["signed_curve25519"], 2);
    assert_eq!(claimed(&bob, &alice).await.as_deref(), Some("signed_curve25519:A1"));
    // Another key may have the ID of one that is gone.
    let other = pair.sign(json!({ "key": "other" }), &alice.user, &alice.device);
    let counts = alice.post(UPLOAD, json!({ "one_time_keys": { "signed_curve25519:A0": other } })).await.ok();
    assert_eq!(counts["one_time_key_counts"]["signed_curve25519"], 2);
    // What is remembered is bounded.
    for batch in 0..3 {
        let keys = one_time_keys(&alice, &pair, &format!("{batch}-"), 100);
        alice.post(UPLOAD, json!({ "one_time_keys": keys })).await.ok();
        futures::future::join_all((0..100).map(|_| claimed(&bob, &alice))).await;
    }
    let remembered = node.node().store.read(|read| CLAIMED_KEYS.range(read, ..).map(Iterator::count)).unwrap();
    assert_eq!(remembered, 200);
    alice.post("/_matrix/client/v3/logout", json!({})).await.ok();
    let remembered = node.node().store.read(|read| CLAIMED_KEYS.range(read, ..).map(Iterator::count)).unwrap();
    assert_eq!(remembered, 0);
}

#[tokio::test]
async fn the_fallback_key_is_given_when_no_other_is_left_and_its_device_is_told() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let pair = with_keys(&alice, 1).await;
    assert_eq!(sync(&alice, None).await["device_unused_fallback_key_types"], json!([]));
    let fallback = pair.sign(json!({ "key": "f", "fallback": true }), &alice.user, &alice.device);
    let body = json!({
        "one_time_keys": one_time_keys(&alice, &pair, "A", 1),
        "fallback_keys": { "signed_curve25519:F": fallback },
    });
    alice.post(UPLOAD, body).await.ok();
    assert_eq!(sync(&alice, None).await["device_unused_fallback_key_types"], json!(["signed_curve25519"]));

    assert_eq!(claimed(&bob, &alice).await.as_deref(), Some("signed_curve25519:A0"));
    for _ in 0..2 {
        let answer = bob.post(CLAIM, wish(&alice)).await.ok();
        assert_eq!(answer["one_time_keys"][&alice.user][&alice.device], json!({ "signed_curve25519:F": fallback }));
    }
    let told = sync(&alice, None).await;
    assert_eq!(told["device_unused_fallback_key_types"], json!([]));
    let fresh = pair.sign(json!({ "key": "g", "fallback": true }), &alice.user, &alice.device);
    alice.post(UPLOAD, json!({ "fallback_keys": { "signed_curve25519:G": fresh } })).await.ok();
    let told = sync(&alice, Some(next(&told))).await;
    assert_eq!(told["device_unused_fallback_key_types"], json!(["signed_curve25519"]));
}

#[tokio::test]
async fn a_device_that_signs_out_takes_its_keys_with_it() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let pair = with_keys(&alice, 1).await;
    alice.post(UPLOAD, json!({ "one_time_keys": one_time_keys(&alice, &pair, "A", 3) })).await.ok();
    alice.post("/_matrix/client/v3/logout", json!({})).await.ok();
    let answer = bob.post(QUERY, json!({ "device_keys": { &alice.user: [] } })).await.ok();
    assert_eq!(answer["device_keys"], json!({ &alice.user: {} }));
    assert_eq!(claimed(&bob, &alice).await, None);
}
