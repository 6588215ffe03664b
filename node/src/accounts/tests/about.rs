//! What a user or an administrator can ask about an account and the server, and who a user is to third parties.

use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::standing::admin;
use crate::testing::{START_MS, TestNode};

const V3: &str = "/_matrix/client/v3";

#[tokio::test]
async fn administrators_see_from_where_each_device_was_seen_last_and_others_see_only_their_own() {
    let node = TestNode::start().await;
    let (admin, alice, bob) = (admin(&node).await, node.register("alice").await, node.register("bob").await);
    let phone = node.login("alice").await;
    node.clock.advance(Duration::from_secs(20 * 60));
    phone.get(&format!("{V3}/account/whoami")).await.ok();
    // Nobody waits for it to be written down; a change behind it is answered after it.
    node.node().store.write(|_| Ok::<_, kith_store::StoreError>(())).await.unwrap();

    let of_alice = format!("{V3}/admin/whois/{}", alice.user);
    let told = admin.get(&of_alice).await.ok();
    assert_eq!(told["user_id"], alice.user.as_str());
    let mut devices: Vec<&String> = told["devices"].as_object().unwrap().keys().collect();
    devices.sort();
    let mut expected = [&alice.device, &phone.device];
    expected.sort();
    assert_eq!(devices, expected);
    let connection = &told["devices"][&phone.device]["sessions"][0]["connections"][0];
    assert_eq!(connection["ip"], "192.0.2.1");
    assert_eq!(connection["last_seen"], START_MS + 20 * 60 * 1000);
    assert_eq!(alice.get(&of_alice).await.ok()["user_id"], alice.user.as_str());
    bob.get(&of_alice).await.fails(403, "M_FORBIDDEN");
    let nobody = format!("{V3}/admin/whois/@nobody:{}", node.node().server_name());
    admin.get(&nobody).await.fails(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn an_account_has_no_addresses_and_who_takes_one_away_is_told_that_no_identity_server_was_asked() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let list = format!("{V3}/account/3pid");
    assert_eq!(alice.get(&list).await.ok(), json!({ "threepids": [] }));
    for what in ["delete", "unbind"] {
        let address = json!({ "medium": "email", "address": "a@example.org" });
        let answer = alice.post(&format!("{list}/{what}"), address).await.ok();
        assert_eq!(answer, json!({ "id_server_unbind_result": "no-support" }), "{what}");
    }
    assert_eq!(alice.get(&list).await.ok(), json!({ "threepids": [] }));
    node.client().get(&list).await.fails(401, "M_MISSING_TOKEN");
}

#[tokio::test]
async fn a_third_party_learns_by_an_openid_token_who_asked_for_it_until_an_hour_has_passed() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let path = format!("{V3}/user/{}/openid/request_token", alice.user);
    bob.post(&path, json!({})).await.fails(403, "M_FORBIDDEN");
    let token = alice.post(&path, json!({})).await.ok();
    assert_eq!(token["matrix_server_name"], node.node().server_name().as_str());
    assert_eq!((&token["token_type"], &token["expires_in"]), (&json!("Bearer"), &json!(3600)));
    let userinfo = async || {
        let token = token["access_token"].as_str().unwrap();
        let path = format!("/_matrix/federation/v1/openid/userinfo?access_token={token}");
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let response = node.handle.server_router().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice::<Value>(&body).unwrap())
    };
    assert_eq!(userinfo().await, (StatusCode::OK, json!({ "sub": alice.user })));
    // It opens nothing here.
    let mut bearer = node.client();
    bearer.token = token["access_token"].as_str().map(str::to_owned);
    bearer.get(&format!("{V3}/account/whoami")).await.fails(401, "M_UNKNOWN_TOKEN");
    node.clock.advance(Duration::from_secs(60 * 60));
    assert_eq!(userinfo().await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn clients_are_told_that_there_is_no_turn_server() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let path = format!("{V3}/voip/turnServer");
    assert_eq!(alice.get(&path).await.ok(), json!({}));
    node.client().get(&path).await.fails(401, "M_MISSING_TOKEN");
}

#[tokio::test]
async fn whom_the_owner_names_can_be_asked_for_help_by_anybody() {
    const PATH: &str = "/.well-known/matrix/support";
    let silent = TestNode::start().await;
    silent.client().get(PATH).await.fails(404, "M_NOT_FOUND");
    let node = TestNode::start_with(|config| {
        let named = ["https://example.org/help", "@owner:example.org", "owner@example.org"];
        config.client.support = named.map(str::to_owned).into();
    })
    .await;
    let expected = json!({
        "support_page": "https://example.org/help",
        "contacts": [
            { "matrix_id": "@owner:example.org", "role": "m.role.admin" },
            { "email_address": "owner@example.org", "role": "m.role.admin" },
        ],
    });
    assert_eq!(node.client().get(PATH).await.ok(), expected);
}
