//! Who is told to look at whose keys anew.

use std::time::Duration;

use serde_json::{Value, json};

use super::{encrypted_room, escape, join, leave, next, sync, with_keys};
use crate::testing::{Client, TestNode};

fn lists(sync: &Value) -> (Vec<String>, Vec<String>) {
    let names = |field: &str| {
        let users = sync["device_lists"][field].as_array().cloned().unwrap_or_default();
        users.iter().map(|user| user.as_str().expect("a user").to_owned()).collect()
    };
    (names("changed"), names("left"))
}

fn only(client: &Client) -> Vec<String> {
    vec![client.user.clone()]
}

#[tokio::test]
async fn members_of_an_encrypted_room_are_told_of_new_keys_and_others_are_not() {
    let node = TestNode::start().await;
    let (alice, bob, carol) = (node.register("alice").await, node.register("bob").await, node.register("carol").await);
    let room = encrypted_room(&alice).await;
    join(&bob, &room).await;
    node.clock.advance(Duration::from_millis(1));
    let open = alice.post("/_matrix/client/v3/createRoom", json!({ "preset": "public_chat" })).await.ok();
    join(&carol, open["room_id"].as_str().expect("a room")).await;

    let (bobs, carols, own) = (sync(&bob, None).await, sync(&carol, None).await, sync(&alice, None).await);
    with_keys(&alice, 1).await;
    assert_eq!(lists(&sync(&bob, Some(next(&bobs))).await), (only(&alice), vec![]));
    assert_eq!(lists(&sync(&carol, Some(next(&carols))).await), (vec![], vec![]));
    let told = sync(&alice, Some(next(&own))).await;
    assert_eq!(lists(&told), (only(&alice), vec![]));
    assert_eq!(lists(&sync(&alice, Some(next(&told))).await), (vec![], vec![]));
    // A device that goes is a change as well.
    let bobs = sync(&bob, None).await;
    alice.post("/_matrix/client/v3/logout", json!({})).await.ok();
    assert_eq!(lists(&sync(&bob, Some(next(&bobs))).await), (only(&alice), vec![]));
}

#[tokio::test]
async fn those_who_come_and_go_are_told_both_ways() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let room = encrypted_room(&alice).await;
    let (own, bobs) = (sync(&alice, None).await, sync(&bob, None).await);
    join(&bob, &room).await;
    let own = sync(&alice, Some(next(&own))).await;
    assert_eq!(lists(&own), (only(&bob), vec![]));
    let bobs = sync(&bob, Some(next(&bobs))).await;
    assert!(lists(&bobs).0.contains(&alice.user), "{bobs}");

    node.clock.advance(Duration::from_millis(1));
    let second = encrypted_room(&alice).await;
    join(&bob, &second).await;
    let (own, bobs) = (sync(&alice, Some(next(&own))).await, sync(&bob, Some(next(&bobs))).await);
    leave(&bob, &second).await;
    let (own, bobs) = (sync(&alice, Some(next(&own))).await, sync(&bob, Some(next(&bobs))).await);
    assert_eq!(lists(&own), (vec![], vec![]), "they share another room still");
    assert_eq!(lists(&bobs), (vec![], vec![]));

    let from = next(&own).to_owned();
    leave(&bob, &room).await;
    let (own, bobs) = (sync(&alice, Some(next(&own))).await, sync(&bob, Some(next(&bobs))).await);
    assert_eq!(lists(&own), (vec![], only(&bob)));
    assert_eq!(lists(&bobs), (vec![], only(&alice)));
    let path = format!("/_matrix/client/v3/keys/changes?from={from}&to={}", next(&own));
    assert_eq!(alice.get(&path).await.ok(), json!({ "changed": [], "left": [bob.user] }));

    // Gone and back between two syncs: the keys may have changed meanwhile.
    let own = sync(&alice, Some(next(&own))).await;
    join(&bob, &room).await;
    leave(&bob, &room).await;
    join(&bob, &room).await;
    assert_eq!(lists(&sync(&alice, Some(next(&own))).await), (only(&bob), vec![]));
}

#[tokio::test]
async fn a_room_that_becomes_encrypted_brings_all_its_members() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let room = alice.post("/_matrix/client/v3/createRoom", json!({ "preset": "public_chat" })).await.ok();
    let room = room["room_id"].as_str().expect("a room");
    join(&bob, room).await;
    let own = sync(&alice, None).await;
    let path = format!("/_matrix/client/v3/rooms/{}/state/m.room.encryption/", escape(room));
    alice.put(&path, json!({ "algorithm": "m.megolm.v1.aes-sha2" })).await.ok();
    let told = sync(&alice, Some(next(&own))).await;
    assert!(lists(&told).0.contains(&bob.user), "{told}");
}
