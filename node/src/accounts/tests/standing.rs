//! Login tokens; accounts that are locked or suspended.

use std::time::Duration;

use serde_json::{Value, json};

use crate::accounts::{login_tokens, users};
use crate::testing::{Client, TestNode, login_body};

const V3: &str = "/_matrix/client/v3";
const GET_TOKEN: &str = "/_matrix/client/v1/login/get_token";

fn password(name: &str, session: &Value) -> Value {
    json!({ "auth": {
        "type": "m.login.password", "identifier": { "type": "m.id.user", "user": name },
        "password": format!("secret {name}"), "session": session,
    } })
}

async fn login_token(client: &Client, name: &str) -> String {
    let asked = client.post(GET_TOKEN, json!({})).await;
    assert_eq!(asked.status, 401, "{}", asked.body);
    let answer = client.post(GET_TOKEN, password(name, &asked.body["session"])).await.ok();
    assert_eq!(answer["expires_in_ms"], login_tokens::TOKEN_MS);
    answer["login_token"].as_str().expect("a token").to_owned()
}

#[tokio::test]
async fn a_signed_in_client_lets_another_one_in_by_a_token_that_counts_once_and_soon() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let by_token = |token: &str| json!({ "type": "m.login.token", "token": token });
    let login = format!("{V3}/login");
    let token = login_token(&alice, "alice").await;
    let mut second = node.client();
    let answer = second.post(&login, by_token(&token)).await.ok();
    second.signed_in(&answer);
    assert_eq!(second.user, alice.user);
    assert_ne!(second.device, alice.device);
    second.get(&format!("{V3}/account/whoami")).await.ok();
    node.client().post(&login, by_token(&token)).await.fails(403, "M_FORBIDDEN");
    node.client().post(&login, by_token("nonsense")).await.fails(403, "M_FORBIDDEN");
    node.client().post(&login, json!({ "type": "m.login.token" })).await.fails(400, "M_MISSING_PARAM");
    let late = login_token(&alice, "alice").await;
    node.clock.advance(Duration::from_millis(login_tokens::TOKEN_MS));
    node.client().post(&login, by_token(&late)).await.fails(403, "M_FORBIDDEN");
    // Whoever only has the access token gets no token for another client.
    let asked = alice.post(GET_TOKEN, json!({})).await;
    let wrong = alice.post(GET_TOKEN, password("bob", &asked.body["session"])).await;
    assert_eq!(wrong.status, 401, "{}", wrong.body);
}

/// An administrator, signed in.
pub(super) async fn admin(node: &TestNode) -> Client {
    let id = users::create(node.node(), "admin", Some("secret admin"), true).await.expect("an account");
    let mut client = node.client();
    let answer = client.post(&format!("{V3}/login"), login_body(id.as_str(), "secret admin")).await.ok();
    client.signed_in(&answer);
    client
}

#[tokio::test]
async fn with_a_locked_account_nothing_can_be_done_until_it_is_unlocked_and_nothing_is_lost() {
    let node = TestNode::start().await;
    let (admin, alice) = (admin(&node).await, node.register("alice").await);
    let lock = format!("/_matrix/client/v1/admin/lock/{}", alice.user);
    assert_eq!(admin.get(&lock).await.ok(), json!({ "locked": false }));
    assert_eq!(admin.put(&lock, json!({ "locked": true })).await.ok(), json!({ "locked": true }));
    assert_eq!(admin.get(&lock).await.ok(), json!({ "locked": true }));
    for path in ["/sync?timeout=0", "/account/whoami", "/pushrules/", "/joined_rooms"] {
        let refused = alice.get(&format!("{V3}{path}")).await.fails(401, "M_USER_LOCKED");
        assert_eq!(refused["soft_logout"], true);
    }
    let login = format!("{V3}/login");
    node.client().post(&login, login_body("alice", "secret alice")).await.fails(401, "M_USER_LOCKED");
    node.client().post(&login, login_body("alice", "wrong")).await.fails(403, "M_FORBIDDEN");
    admin.put(&lock, json!({ "locked": false })).await.ok();
    alice.get(&format!("{V3}/account/whoami")).await.ok();
    // Signing out is possible always.
    admin.put(&lock, json!({ "locked": true })).await.ok();
    alice.post(&format!("{V3}/logout"), json!({})).await.ok();
    admin.put(&lock, json!({ "locked": false })).await.ok();
    alice.get(&format!("{V3}/account/whoami")).await.fails(401, "M_UNKNOWN_TOKEN");
}

#[tokio::test]
async fn a_suspended_user_reads_and_leaves_and_does_nothing_that_others_notice() {
    let node = TestNode::start().await;
    let (admin, alice) = (admin(&node).await, node.register("alice").await);
    let room = alice.post(&format!("{V3}/createRoom"), json!({ "preset": "public_chat" })).await.ok();
    let room = room["room_id"].as_str().expect("a room").to_owned();
    let said = alice.put(&format!("{V3}/rooms/{room}/send/m.room.message/1"), json!({ "body": "hm" })).await.ok();
    let suspend = format!("/_matrix/client/v1/admin/suspend/{}", alice.user);
    admin.put(&suspend, json!({ "suspended": true })).await.ok();
    assert_eq!(admin.get(&suspend).await.ok(), json!({ "suspended": true }));
    let in_room = |path: &str| format!("{V3}/rooms/{room}{path}");
    for (path, body) in [
        (in_room("/send/m.room.message/2"), json!({ "body": "hm" })),
        (in_room("/state/m.room.topic"), json!({ "topic": "hm" })),
        (in_room(&format!("/typing/{}", alice.user)), json!({ "typing": true, "timeout": 1000 })),
        (format!("{V3}/profile/{}/displayname", alice.user), json!({ "displayname": "hm" })),
        (format!("{V3}/directory/room/%23x%3A{}", node.node().server_name()), json!({ "room_id": room })),
    ] {
        alice.put(&path, body).await.fails(403, "M_USER_SUSPENDED");
    }
    for path in [
        in_room("/invite"),
        in_room("/join"),
        in_room("/kick"),
        in_room("/ban"),
        in_room("/unban"),
        in_room("/upgrade"),
        format!("{V3}/join/{room}"),
        format!("{V3}/knock/{room}"),
        format!("{V3}/createRoom"),
        "/_matrix/media/v1/create".to_owned(),
        "/_matrix/media/v3/upload".to_owned(),
    ] {
        alice.post(&path, json!({ "user_id": admin.user, "new_version": "12" })).await.fails(403, "M_USER_SUSPENDED");
    }
    alice.get(&format!("{V3}/sync?timeout=0")).await.ok();
    alice.get(&in_room("/messages?dir=b")).await.ok();
    alice.get(&format!("{V3}/profile/{}", alice.user)).await.ok();
    let event = said["event_id"].as_str().expect("an event");
    alice.put(&in_room(&format!("/redact/{event}/3")), json!({})).await.ok();
    let again = node.login("alice").await;
    again.put(&in_room("/send/m.room.message/4"), json!({ "body": "hm" })).await.fails(403, "M_USER_SUSPENDED");
    alice.post(&in_room("/leave"), json!({})).await.ok();
    admin.put(&suspend, json!({ "suspended": false })).await.ok();
    alice.post(&format!("{V3}/createRoom"), json!({})).await.ok();
}

#[tokio::test]
async fn only_administrators_lock_and_suspend_and_not_each_other() {
    let node = TestNode::start().await;
    let (admin, alice) = (admin(&node).await, node.register("alice").await);
    let moderation = |answer: Value| answer["capabilities"]["m.account_moderation"].clone();
    let capabilities = format!("{V3}/capabilities");
    assert_eq!(moderation(admin.get(&capabilities).await.ok()), json!({ "lock": true, "suspend": true }));
    assert_eq!(moderation(alice.get(&capabilities).await.ok()), Value::Null);
    for what in ["lock", "suspend"] {
        let of = |user: &str| format!("/_matrix/client/v1/admin/{what}/{user}");
        let body = json!({ "locked": true, "suspended": true });
        let nobody = format!("@nobody:{}", node.node().server_name());
        // Who may not ask does not learn either whether there is such a user.
        for user in [&admin.user, &nobody, &alice.user] {
            alice.get(&of(user)).await.fails(403, "M_FORBIDDEN");
            alice.put(&of(user), body.clone()).await.fails(403, "M_FORBIDDEN");
        }
        admin.put(&of(&admin.user), body.clone()).await.fails(403, "M_FORBIDDEN");
        admin.put(&of(&nobody), body.clone()).await.fails(404, "M_NOT_FOUND");
        admin.get(&of("@a:elsewhere.org")).await.fails(400, "M_INVALID_PARAM");
    }
    alice.get(&format!("{V3}/account/whoami")).await.ok();
}
