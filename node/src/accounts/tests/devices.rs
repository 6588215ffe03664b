//! Devices, interactive authentication, pushers.

use std::time::Duration;

use http::Method;
use kith_store::tables::accounts::{DEVICES, PUSHERS};
use serde_json::json;

use crate::testing::{START_MS, TestNode, login_body};

const DEVICES_PATH: &str = "/_matrix/client/v3/devices";
const WHOAMI: &str = "/_matrix/client/v3/account/whoami";

#[tokio::test]
async fn a_device_is_deleted_after_the_password_was_given_in_its_session() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let other = node.login("alice").await;
    let path = format!("{DEVICES_PATH}/{}", other.device);

    let asked = alice.delete(&path).await;
    assert_eq!(asked.status, 401);
    assert_eq!(asked.body["flows"], json!([{ "stages": ["m.login.password"] }]));
    assert_eq!(asked.body["errcode"], json!(null));
    let session = asked.body["session"].as_str().unwrap().to_owned();
    let auth = |password: &str, session: &str| {
        json!({ "auth": {
            "type": "m.login.password", "password": password, "session": session,
            "identifier": { "type": "m.id.user", "user": "alice" },
        } })
    };
    let wrong = alice.call(Method::DELETE, &path, Some(auth("wrong", &session))).await.fails(401, "M_FORBIDDEN");
    assert_eq!(wrong["session"], session.as_str());
    other.get(WHOAMI).await.ok();
    // A session counts for its own request only.
    let own = format!("{DEVICES_PATH}/{}", alice.device);
    alice.call(Method::DELETE, &own, Some(auth("secret alice", &session))).await.fails(401, "M_UNKNOWN");
    alice.call(Method::DELETE, &path, Some(auth("secret alice", &session))).await.ok();
    other.get(WHOAMI).await.fails(401, "M_UNKNOWN_TOKEN");
    alice.get(&path).await.fails(404, "M_NOT_FOUND");
    let left = alice.get(DEVICES_PATH).await.ok();
    assert_eq!(left["devices"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn several_devices_are_deleted_by_one_password() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let (kept, first, second) = (node.login("alice").await, node.login("alice").await, node.login("alice").await);
    let path = "/_matrix/client/v3/delete_devices";
    // One of another user's is not there for her.
    let devices = json!([first.device, second.device, bob.device]);
    let asked = alice.post(path, json!({ "devices": devices })).await;
    assert_eq!(asked.status, 401);
    first.get(WHOAMI).await.ok();
    let auth = json!({
        "type": "m.login.password", "user": "alice", "password": "secret alice", "session": asked.body["session"],
    });
    // A session counts for the devices that it was asked for.
    let others = json!({ "devices": [kept.device], "auth": auth });
    alice.post(path, others).await.fails(401, "M_UNKNOWN");
    alice.post(path, json!({ "devices": devices, "auth": auth })).await.ok();
    for gone in [&first, &second] {
        gone.get(WHOAMI).await.fails(401, "M_UNKNOWN_TOKEN");
    }
    for here in [&alice, &kept, &bob] {
        here.get(WHOAMI).await.ok();
    }
    assert_eq!(alice.get(DEVICES_PATH).await.ok()["devices"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn all_devices_of_a_user_are_listed_with_their_names_and_when_they_were_seen() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    node.register("bob").await;
    node.clock.advance(Duration::from_secs(60));
    let phone = node.login("alice").await;
    phone.put(&format!("{DEVICES_PATH}/{}", phone.device), json!({ "display_name": "Phone" })).await.ok();
    let listed = alice.get(DEVICES_PATH).await.ok()["devices"].as_array().unwrap().clone();
    assert_eq!(listed.len(), 2);
    let row = |device: &str| listed.iter().find(|row| row["device_id"] == device).unwrap();
    assert_eq!(row(&phone.device)["display_name"], "Phone");
    assert_eq!(row(&phone.device)["last_seen_ts"], START_MS + 60_000);
    assert_eq!(row(&alice.device)["last_seen_ts"], START_MS);
}

#[tokio::test]
async fn an_interactive_session_ends_with_its_time() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let asked = alice.post("/_matrix/client/v3/delete_devices", json!({ "devices": ["A", "B"] })).await;
    let session = asked.body["session"].clone();
    let body = json!({ "devices": ["B", "A"], "auth": {
        "type": "m.login.password", "user": "alice", "password": "secret alice", "session": session
    } });
    node.clock.advance(Duration::from_secs(30 * 60));
    alice.post("/_matrix/client/v3/delete_devices", body).await.fails(401, "M_UNKNOWN");
}

#[tokio::test]
async fn another_users_password_does_not_pass() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    node.register("bob").await;
    let auth = json!({ "type": "m.login.password", "user": "bob", "password": "secret bob" });
    let body = json!({ "new_password": "x", "auth": auth });
    alice.post("/_matrix/client/v3/account/password", body).await.fails(401, "M_FORBIDDEN");
    node.login("alice").await;
}

#[tokio::test]
async fn a_new_password_signs_other_devices_out_unless_told_not_to() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let other = node.login("alice").await;
    let body = |new: &str, old: &str, logout: bool| {
        json!({ "new_password": new, "logout_devices": logout,
            "auth": { "type": "m.login.password", "user": alice.user, "password": old } })
    };
    let path = "/_matrix/client/v3/account/password";
    alice.post(path, body("second", "secret alice", false)).await.ok();
    other.get(WHOAMI).await.ok();
    alice.post(path, body("third", "second", true)).await.ok();
    other.get(WHOAMI).await.fails(401, "M_UNKNOWN_TOKEN");
    alice.get(WHOAMI).await.ok();
    let login = "/_matrix/client/v3/login";
    node.client().post(login, login_body("alice", "secret alice")).await.fails(403, "M_FORBIDDEN");
    node.client().post(login, login_body("alice", "third")).await.ok();
    node.client().post(path, json!({ "new_password": "x" })).await.fails(401, "M_MISSING_TOKEN");
}

#[tokio::test]
async fn devices_are_named_and_only_ones_own() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let path = format!("{DEVICES_PATH}/{}", alice.device);
    alice.put(&path, json!({ "display_name": "Phone" })).await.ok();
    assert_eq!(alice.get(&path).await.ok()["display_name"], "Phone");
    bob.put(&path, json!({ "display_name": "Mine" })).await.fails(404, "M_NOT_FOUND");
    bob.get(&path).await.fails(404, "M_NOT_FOUND");
    alice.put(&path, json!({ "display_name": "x".repeat(256) })).await.fails(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn being_seen_is_written_every_few_minutes_only() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let key = (alice.user.clone(), alice.device.clone());
    let seen = || DEVICES.get(&node.node().store.snapshot().unwrap(), &key).unwrap().unwrap().0;
    let first = seen().last_seen;
    node.clock.advance(Duration::from_secs(20 * 60));
    alice.get(WHOAMI).await.ok();
    // Nobody waits for that write; one behind it is answered after it.
    node.node().store.write(|_| Ok::<_, kith_store::StoreError>(())).await.unwrap();
    let second = seen();
    assert!(second.last_seen > first);
    assert_eq!(second.last_ip.as_deref(), Some("192.0.2.1"));
    // Timers of these 20 minutes may still write something; if each request does, there is no end to it.
    for round in 0.. {
        let changes = node.node().store.stats().changes;
        for _ in 0..20 {
            alice.get(WHOAMI).await.ok();
        }
        if node.node().store.stats().changes == changes {
            break;
        }
        assert!(round < 20, "every request is written");
    }
    assert_eq!(seen().last_seen, second.last_seen);
}

#[tokio::test]
async fn a_pusher_goes_with_its_device_and_with_its_phones_next_user() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let pusher = json!({
        "kind": "http", "app_id": "org.example", "pushkey": "k", "app_display_name": "Example", "lang": "en",
        "device_display_name": "Phone", "data": { "url": "https://push.example.org/_matrix/push/v1/notify" }
    });
    let set = "/_matrix/client/v3/pushers/set";
    let shown = json!({ "pushers": [pusher] });
    alice.post(set, pusher.clone()).await.ok();
    assert_eq!(alice.get("/_matrix/client/v3/pushers").await.ok(), shown);
    bob.post(set, pusher.clone()).await.ok();
    assert_eq!(alice.get("/_matrix/client/v3/pushers").await.ok(), json!({ "pushers": [] }));
    assert_eq!(bob.get("/_matrix/client/v3/pushers").await.ok(), shown);
    bob.post("/_matrix/client/v3/logout", json!({})).await.ok();
    assert!(PUSHERS.first(&node.node().store.snapshot().unwrap()).unwrap().is_none());
    for (field, value) in
        [("kind", json!("email")), ("data", json!({ "url": "https://x.org/other" })), ("lang", json!(1))]
    {
        let mut bad = pusher.clone();
        bad[field] = value;
        assert_eq!(alice.post(set, bad).await.status, 400, "{field}");
    }
}
