//! What accounts do to rooms: profiles in member events, leaving, room account data and tags.

use std::time::Duration;

use kith_store::tables::account_data::changes_since;
use kith_store::tables::accounts::{PROFILES, ROOM_UPDATES};
use ruma::{OwnedUserId, RoomVersionId};
use serde_json::{Map, Value, json};

use crate::accounts::room_updates;
use crate::rooms::{Draft, Room, read};
use crate::testing::{Client, TestNode, login_body};

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

async fn room_of(node: &TestNode, client: &Client) -> Room {
    let user = OwnedUserId::try_from(client.user.clone()).unwrap();
    let create = Draft::state(user.clone(), "m.room.create", "", Map::new());
    let join = object(json!({ "membership": "join", "displayname": "alice", "org.example": 1 }));
    let rules = object(json!({ "join_rule": "invite" }));
    let drafts = vec![
        Draft::state(user.clone(), "m.room.member", user.as_str(), join),
        Draft::state(user, "m.room.join_rules", "", rules),
    ];
    node.node().rooms.create(&RoomVersionId::V12, None, |_| drafts, create).await.unwrap()
}

/// Waits until the user's member event is so.
async fn member(node: &TestNode, room: &Room, user: &str, wanted: Value) {
    let mut place = node.node().notifier.subscribe(user);
    let mut last = Value::Null;
    let reached = async {
        loop {
            let snapshot = node.node().store.snapshot().unwrap();
            let event = read::state_event(&snapshot, room.number(), "m.room.member", user).unwrap().unwrap();
            drop(snapshot);
            last = Value::Object(event.content().clone());
            if last == wanted {
                return;
            }
            place.changed().await;
        }
    };
    let reached = tokio::time::timeout(Duration::from_secs(20), reached).await;
    assert!(reached.is_ok(), "{last} is not {wanted}");
}

#[tokio::test]
async fn a_new_name_reaches_the_rooms_and_an_unchanged_one_sends_nothing() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let room = room_of(&node, &alice).await;
    let path = format!("/_matrix/client/v3/profile/{}/displayname", alice.user);
    alice.put(&path, json!({ "displayname": "Alice" })).await.ok();
    let renamed = json!({ "membership": "join", "displayname": "Alice", "org.example": 1 });
    member(&node, &room, &alice.user, renamed.clone()).await;
    let depth = || {
        let snapshot = node.node().store.snapshot().unwrap();
        read::room(&snapshot, room.number()).unwrap().unwrap().depth
    };
    let before = depth();
    alice.put(&path, json!({ "displayname": "Alice" })).await.ok();
    alice.put(&path, json!({ "displayname": "Al" })).await.ok();
    member(&node, &room, &alice.user, json!({ "membership": "join", "displayname": "Al", "org.example": 1 })).await;
    assert_eq!(depth(), before + 1);
}

#[tokio::test]
async fn rooms_learn_after_a_restart_what_they_were_not_told_before_it() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let room = room_of(&node, &alice).await.id().to_owned();
    // As a crash right after the change leaves it.
    let user = OwnedUserId::try_from(alice.user.clone()).unwrap();
    node.node()
        .store
        .write(move |tx| {
            PROFILES.put(tx, &(user.to_string(), "displayname".to_owned()), &"\"Alice\"".to_owned())?;
            room_updates::note(tx, &user, false)
        })
        .await
        .unwrap();
    let again = TestNode::start_on(node.backend.crash(5), |_| {}).await;
    let room = again.node().rooms.require(&room).unwrap();
    member(&again, &room, &alice.user, json!({ "membership": "join", "displayname": "Alice", "org.example": 1 })).await;
}

#[tokio::test]
async fn a_deactivated_user_is_signed_out_for_good_and_leaves_its_rooms() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let room = room_of(&node, &alice).await;
    let auth = json!({ "type": "m.login.password", "user": "alice", "password": "secret alice" });
    alice.post("/_matrix/client/v3/account/deactivate", json!({ "auth": auth })).await.ok();
    alice.get("/_matrix/client/v3/account/whoami").await.fails(401, "M_UNKNOWN_TOKEN");
    let login = login_body("alice", "secret alice");
    node.client().post("/_matrix/client/v3/login", login).await.fails(403, "M_FORBIDDEN");
    member(&node, &room, &alice.user, json!({ "membership": "leave" })).await;
    // Done, and noted so.
    let done = async {
        while ROOM_UPDATES.first(&node.node().store.snapshot().unwrap()).unwrap().is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), done).await.unwrap();
}

#[tokio::test]
async fn what_a_client_notes_of_a_room_is_kept_for_this_room_and_its_user_and_told_in_sync() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let (room, other) = (room_of(&node, &alice).await, room_of(&node, &alice).await);
    let path =
        |room: &Room| format!("/_matrix/client/v3/user/{}/rooms/{}/account_data/org.example", alice.user, room.id());
    alice.get(&path(&room)).await.fails(404, "M_NOT_FOUND");
    alice.put(&path(&room), json!({ "n": 1 })).await.ok();
    alice.put(&path(&room), json!({ "n": 2.5 })).await.ok();
    assert_eq!(alice.get(&path(&room)).await.ok(), json!({ "n": 2.5 }));
    alice.get(&path(&other)).await.fails(404, "M_NOT_FOUND");
    let of_account = format!("/_matrix/client/v3/user/{}/account_data/org.example", alice.user);
    alice.get(&of_account).await.fails(404, "M_NOT_FOUND");
    bob.get(&path(&room)).await.fails(403, "M_FORBIDDEN");
    bob.put(&path(&room), json!({})).await.fails(403, "M_FORBIDDEN");
    let synced = alice.get("/_matrix/client/v3/sync?timeout=0").await.ok();
    let told = |room: &Room| synced["rooms"]["join"][room.id().as_str()]["account_data"].clone();
    assert_eq!(told(&room)["events"], json!([{ "type": "org.example", "content": { "n": 2.5 } }]));
    assert_eq!(told(&other), Value::Null);
}

#[tokio::test]
async fn tags_are_account_data_of_their_room() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let room = room_of(&node, &alice).await;
    let path = format!("/_matrix/client/v3/user/{}/rooms/{}/tags", alice.user, room.id());
    assert_eq!(alice.get(&path).await.ok(), json!({ "tags": {} }));
    alice.put(&format!("{path}/m.favourite"), json!({ "order": 0.25 })).await.ok();
    alice.put(&format!("{path}/u.work"), json!({})).await.ok();
    let tags = json!({ "tags": { "m.favourite": { "order": 0.25 }, "u.work": {} } });
    assert_eq!(alice.get(&path).await.ok(), tags);
    let data = format!("/_matrix/client/v3/user/{}/rooms/{}/account_data/m.tag", alice.user, room.id());
    assert_eq!(alice.get(&data).await.ok(), tags);
    alice.delete(&format!("{path}/m.favourite")).await.ok();
    assert_eq!(alice.get(&path).await.ok(), json!({ "tags": { "u.work": {} } }));
    let synced = alice.get("/_matrix/client/v3/sync?timeout=0").await.ok();
    let told = &synced["rooms"]["join"][room.id().as_str()]["account_data"]["events"];
    assert_eq!(told, &json!([{ "type": "m.tag", "content": { "tags": { "u.work": {} } } }]));
    let changes = changes_since(&node.node().store.snapshot().unwrap(), &alice.user, 0).unwrap();
    let last = changes.last().unwrap();
    assert_eq!((last.room.as_deref(), last.kind.as_str()), (Some(room.id().as_str()), "m.tag"));
    alice.put(&format!("{path}/m.favourite"), json!({ "order": 2 })).await.fails(400, "M_INVALID_PARAM");
    alice.put(&format!("{path}/{}", "t".repeat(256)), json!({})).await.fails(400, "M_INVALID_PARAM");
}
