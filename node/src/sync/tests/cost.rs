//! What syncs cost.

use std::{collections::BTreeSet, time::Instant};

use ruma::{OwnedUserId, api::client::filter::FilterDefinition};
use serde_json::json;

use super::*;
use crate::sync::{Wish, changed_rooms, token::Token};

#[tokio::test]
async fn an_incremental_sync_looks_only_at_rooms_where_something_happened() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let mut rooms = Vec::new();
    for _ in 0..40 {
        rooms.push(create(&alice).await);
    }
    let since = node.node().activity.position();
    // Bob's room is busy too, but that is none of hers.
    let his = create(&bob).await;
    say(&bob, &his, "x").await;
    say(&alice, &rooms[7], "x").await;
    let wish = Wish {
        since: Some(Token { position: since, ..Token::default() }),
        filter: FilterDefinition::default(),
        full_state: false,
        state_after: false,
    };
    let user = OwnedUserId::try_from(alice.user.clone()).unwrap();
    let looked_at = |since| {
        let snapshot = node.node().store.snapshot().unwrap();
        changed_rooms(node.node(), &snapshot, user.as_str(), Some(since), &wish, BTreeSet::new()).unwrap().len()
    };
    assert_eq!(looked_at(since), 1);
    assert_eq!(looked_at(node.node().activity.position()), 0);
    // A token from before the node's memory: all her rooms, none of his.
    assert_eq!(node.node().activity.since(0), Some(node.node().activity.since(0).unwrap()));
    node.handle.stop().await;
    let node = TestNode::start_on(node.backend.clone(), |_| {}).await;
    assert!(node.node().activity.since(since).is_none());
    let snapshot = node.node().store.snapshot().unwrap();
    let found = changed_rooms(node.node(), &snapshot, user.as_str(), Some(since), &wish, BTreeSet::new()).unwrap();
    assert_eq!(found.len(), 40);
}

/// Run with `cargo test --release -p kith --lib first_sync_of_200 -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement"]
async fn first_sync_of_200_rooms() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let began = Instant::now();
    for number in 0..200 {
        let room = create_with(&alice, json!({"name": format!("Room {number}")})).await;
        say(&alice, &room, "hello").await;
    }
    println!("made in {:?}", began.elapsed());
    let mut times = Vec::new();
    for _ in 0..20 {
        let began = Instant::now();
        let answer = sync(&alice, None, "").await;
        times.push(began.elapsed());
        assert_eq!(answer["rooms"]["join"].as_object().unwrap().len(), 200);
    }
    times.sort();
    println!("first sync of 200 rooms: {:?}, median {:?}", times[0], times[10]);
    let since = next(&sync(&alice, None, "").await);
    let began = Instant::now();
    for _ in 0..100 {
        sync(&alice, Some(&since), "").await;
    }
    println!("nothing new: {:?}", began.elapsed() / 100);
}

/// Run with `cargo test --release -p kith --lib sliding_sync_of_1000 -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "a measurement"]
async fn sliding_sync_of_1000_rooms() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let mut rooms = Vec::new();
    for number in 0..1_000 {
        rooms.push(create_with(&alice, json!({"name": format!("Room {number}")})).await);
    }
    let required = json!([["m.room.name", ""], ["m.room.encryption", ""], ["m.room.member", "$LAZY"]]);
    let all = json!({"e2ee": {"enabled": true}, "to_device": {"enabled": true}, "account_data": {"enabled": true},
        "receipts": {"enabled": true}, "typing": {"enabled": true}});
    let mut window = sliding::Window::of_all(&alice, 1, required);
    window.body["extensions"] = all;
    for last in [19, 99, 499, 999] {
        window.body["lists"]["all"]["ranges"] = json!([[0, last]]);
        let began = Instant::now();
        let answer = window.ask().await;
        let count = answer["rooms"].as_object().unwrap().len();
        println!("a window up to {last}: {count} rooms in {:?}", began.elapsed());
    }
    for last in [19, 999] {
        window.body["lists"]["all"]["ranges"] = json!([[0, last]]);
        window.ask().await;
        let began = Instant::now();
        for _ in 0..100 {
            window.ask().await;
        }
        println!("nothing new in a window up to {last}: {:?}", began.elapsed() / 100);
        let mut times = Vec::new();
        for room in rooms.iter().take(50) {
            let waiting = window.wait();
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            say(&alice, room, "x").await;
            let began = Instant::now();
            let answer = waiting.await.unwrap();
            times.push(began.elapsed());
            assert_eq!(answer["rooms"].as_object().unwrap().len(), 1);
            window.pos = Some(answer["pos"].as_str().unwrap().to_owned());
        }
        times.sort();
        println!("after the commit, in a window up to {last}: median {:?}, most {:?}", times[25], times[49]);
    }
}
