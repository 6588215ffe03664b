//! Key backups.

use serde_json::{Value, json};

use super::escape;
use crate::testing::{Client, TestNode};

const VERSION: &str = "/_matrix/client/v3/room_keys/version";
const ROOM: &str = "!room:example.org";

fn algorithm(public: &str) -> Value {
    json!({
        "algorithm": "m.megolm_backup.v1.curve25519-aes-sha2",
        "auth_data": { "public_key": public, "signatures": { "@a:x": { "ed25519:A": "sig" } } },
    })
}

fn key(verified: bool, index: u64, forwarded: u64) -> Value {
    json!({
        "first_message_index": index, "forwarded_count": forwarded, "is_verified": verified,
        "session_data": { "ephemeral": "a", "ciphertext": format!("{verified}{index}{forwarded}"), "mac": "c" },
    })
}

fn keys(version: &str) -> String {
    format!("/_matrix/client/v3/room_keys/keys?version={version}")
}

fn session(version: &str, id: &str) -> String {
    format!("/_matrix/client/v3/room_keys/keys/{}/{id}?version={version}", escape(ROOM))
}

async fn version(client: &Client, public: &str) -> String {
    let made = client.post(VERSION, algorithm(public)).await.ok();
    made["version"].as_str().expect("a version").to_owned()
}

#[tokio::test]
async fn versions_are_made_shown_changed_and_deleted_and_never_given_twice() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    alice.get(VERSION).await.fails(404, "M_NOT_FOUND");
    let (one, two) = (version(&alice, "a").await, version(&alice, "b").await);
    let current = alice.get(VERSION).await.ok();
    assert_eq!((&current["version"], &current["auth_data"]), (&json!(two), &algorithm("b")["auth_data"]));
    assert_eq!((&current["count"], current["etag"].is_string()), (&json!(0), true));
    assert_eq!(alice.get(&format!("{VERSION}/{one}")).await.ok()["auth_data"]["public_key"], "a");
    bob.get(&format!("{VERSION}/{one}")).await.fails(404, "M_NOT_FOUND");

    alice.put(&format!("{VERSION}/{two}"), algorithm("c")).await.ok();
    assert_eq!(alice.get(VERSION).await.ok()["auth_data"]["public_key"], "c");
    let mut other = algorithm("c");
    other["algorithm"] = json!("org.example");
    alice.put(&format!("{VERSION}/{two}"), other).await.fails(400, "M_INVALID_PARAM");
    let mut wrong = algorithm("c");
    wrong["version"] = json!(one);
    alice.put(&format!("{VERSION}/{two}"), wrong).await.fails(400, "M_INVALID_PARAM");

    alice.delete(&format!("{VERSION}/{two}")).await.ok();
    alice.delete(&format!("{VERSION}/{two}")).await.fails(404, "M_NOT_FOUND");
    assert_eq!(alice.get(VERSION).await.ok()["version"], json!(one));
    assert!(![one, two].contains(&version(&alice, "d").await));
}

#[tokio::test]
async fn keys_are_kept_in_the_current_version_and_the_better_of_two_stays() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    alice.put(&session("1", "S"), key(true, 0, 0)).await.fails(404, "M_NOT_FOUND");
    let old = version(&alice, "a").await;
    let now = version(&alice, "b").await;
    let refused = alice.put(&session(&old, "S"), key(true, 0, 0)).await.fails(403, "M_WRONG_ROOM_KEYS_VERSION");
    assert_eq!(refused["current_version"], json!(now));
    alice.put(&session(&now, "S"), json!({ "is_verified": true })).await.fails(400, "M_BAD_JSON");

    let mut etag = Value::Null;
    // Each with whether it takes the place of the one before.
    let tries = [
        (key(false, 5, 3), true),
        (key(false, 6, 0), false),
        (key(false, 5, 2), true),
        (key(false, 5, 2), false),
        (key(false, 4, 9), true),
        (key(true, 7, 7), true),
        (key(false, 0, 0), false),
        (key(true, 2, 7), true),
    ];
    let mut kept = Value::Null;
    for (key, is_better) in tries {
        let tally = alice.put(&session(&now, "S"), key.clone()).await.ok();
        assert_eq!((&tally["count"], tally["etag"] != etag), (&json!(1), is_better), "{key}");
        etag = tally["etag"].clone();
        kept = if is_better { key } else { kept };
        assert_eq!(alice.get(&session(&now, "S")).await.ok(), kept);
    }
    assert_eq!(alice.get(VERSION).await.ok()["etag"], etag);
}

#[tokio::test]
async fn many_keys_go_in_and_out_by_room_and_whole_and_are_deleted_on_each_level() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let now = version(&alice, "a").await;
    assert_eq!(alice.get(&keys(&now)).await.ok(), json!({ "rooms": {} }));
    let sessions = |count: u64| -> Value {
        (0..count).map(|number| (format!("S{number}"), key(true, number, 0))).collect::<crate::e2ee::Object>().into()
    };
    // More than a page, and a page that ends with a room.
    let whole = json!({ "rooms": {
        "!a:x": { "sessions": sessions(3) }, "!b:x": { "sessions": sessions(497) }, "!c:x": { "sessions": sessions(700) },
    } });
    let tally = alice.put(&keys(&now), whole.clone()).await.ok();
    assert_eq!(tally["count"], 1200);
    assert_eq!(alice.get(&keys(&now)).await.ok(), whole);
    let room = |id: &str| format!("/_matrix/client/v3/room_keys/keys/{}?version={now}", escape(id));
    assert_eq!(alice.get(&room("!c:x")).await.ok(), whole["rooms"]["!c:x"]);
    assert_eq!(alice.get(&room("!none:x")).await.ok(), json!({ "sessions": {} }));
    let tally = alice.put(&room("!d:x"), json!({ "sessions": sessions(1) })).await.ok();
    assert_eq!(tally["count"], 1201);

    let one = format!("/_matrix/client/v3/room_keys/keys/{}/S0?version={now}", escape("!d:x"));
    assert_eq!(alice.delete(&one).await.ok()["count"], 1200);
    alice.get(&one).await.fails(404, "M_NOT_FOUND");
    let before = alice.get(VERSION).await.ok()["etag"].clone();
    let tally = alice.delete(&room("!b:x")).await.ok();
    assert_eq!((&tally["count"], tally["etag"] != before), (&json!(703), true));
    assert_eq!(alice.delete(&keys(&now)).await.ok()["count"], 0);
    assert_eq!(alice.get(&keys(&now)).await.ok(), json!({ "rooms": {} }));
    alice.get(&keys("99")).await.fails(404, "M_NOT_FOUND");
    alice.get("/_matrix/client/v3/room_keys/keys").await.fails(400, "M_MISSING_PARAM");
}

#[tokio::test]
async fn the_keys_of_a_deleted_version_go_even_when_the_node_crashes_before() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let (gone, kept) = (version(&alice, "a").await, {
        alice.put(&session("1", "S"), key(true, 0, 0)).await.ok();
        version(&alice, "b").await
    });
    alice.put(&session(&kept, "S"), key(true, 1, 0)).await.ok();
    let user = alice.user.clone();
    // As a crash leaves it: the version is deleted, its keys are not.
    let (name, version) = (user.clone(), gone.parse().expect("a number"));
    let deleted = node.node().store.write(move |tx| kith_store::tables::e2ee::BACKUPS.delete(tx, &(name, version)));
    assert!(deleted.await.expect("a write"));
    crate::e2ee::backup::sweep(node.node()).await.expect("a sweep");
    let read = node.node().store.snapshot().expect("a snapshot");
    let left = |version: &str| {
        let version = version.parse().expect("a number");
        crate::e2ee::backup::page(&read, &user, version, None, None, 10).expect("a read").len()
    };
    assert_eq!((left(&gone), left(&kept)), (0, 1));
}
