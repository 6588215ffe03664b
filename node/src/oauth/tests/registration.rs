//! Clients register.

use std::time::Duration;

use kith_store::tables::oauth::{MAX_CLIENTS, OAUTH_CLIENTS, OAUTH_DEVICES};

use super::*;
use crate::config::Rate;

fn kept(node: &TestNode) -> usize {
    node.node().store.read(|read| Ok::<_, kith_store::StoreError>(OAUTH_CLIENTS.range(read, ..)?.count())).unwrap()
}

fn numbered(number: usize) -> Value {
    let mut metadata = metadata();
    metadata["client_name"] = format!("App {number}").into();
    metadata
}

#[tokio::test]
async fn the_same_client_is_one_however_often_it_registers() {
    let node = TestNode::start().await;
    let first = register(&node, metadata()).await;
    assert_eq!(first.status, 201);
    let mut again = metadata();
    again["client_name#fr"] = "Exemple".into();
    again["unknown"] = json!({ "x": 1 });
    let again = register(&node, again).await.ok();
    assert_eq!(again, first.json());
    assert_eq!((again["client_name"].as_str(), again["redirect_uris"][0].as_str()), (Some("Example"), Some(REDIRECT)));
    assert_eq!(kept(&node), 1);
    register(&node, numbered(1)).await.ok();
    assert_eq!(kept(&node), 2);
}

#[tokio::test]
async fn clients_outlive_a_restart() {
    let node = TestNode::start().await;
    let client = client(&node).await;
    node.register("alice").await;
    let backend = node.backend.clone();
    node.handle.stop().await;
    let node = TestNode::start_on(backend, |_| {}).await;
    signed_in(&node, &client, "alice").await;
}

#[tokio::test]
async fn clients_without_a_device_go_and_those_in_use_stay() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let used = client(&node).await;
    let tokens = signed_in(&node, &used, "alice").await;
    register(&node, numbered(1)).await.ok();
    node.clock.advance(Duration::from_secs(24 * 3600));
    register(&node, numbered(2)).await.ok();
    assert_eq!(kept(&node), 2, "the unused one is gone");
    refresh(&node, &used, &tokens).await.ok();
    // Signed out, it is not in use any more.
    alice.post("/_matrix/client/v3/logout/all", json!({})).await.ok();
    let rows = node.node().store.read(|read| Ok::<_, kith_store::StoreError>(OAUTH_DEVICES.range(read, ..)?.count()));
    assert_eq!(rows.unwrap(), 0);
    node.clock.advance(Duration::from_secs(24 * 3600));
    register(&node, numbered(3)).await.ok();
    assert_eq!(kept(&node), 1);
    let page = Browser::new(&node).get(&authorize(&used, &[])).await;
    assert_eq!((page.status, page.header(header::LOCATION)), (400, ""));
}

#[tokio::test]
async fn however_many_register_no_more_than_a_bound_are_kept() {
    let node = TestNode::start().await;
    let used = client(&node).await;
    node.register("alice").await;
    signed_in(&node, &used, "alice").await;
    for number in 0..MAX_CLIENTS + 5 {
        assert_eq!(register(&node, numbered(number)).await.status, 201);
        node.clock.advance(Duration::from_millis(1));
    }
    assert_eq!(kept(&node), MAX_CLIENTS);
    code(&node, &used, "alice", &[]).await;
}

#[tokio::test]
async fn who_registers_too_often_has_to_wait_and_what_is_wrong_is_said() {
    let node = TestNode::start_with(|config| {
        config.limits.rate_limits = true;
        config.limits.rate_login = Rate::per_minute(3);
    })
    .await;
    for _ in 0..3 {
        register(&node, metadata()).await.ok();
    }
    let refused = register(&node, metadata()).await;
    refused.refused(429, "temporarily_unavailable");
    assert_eq!(refused.header(header::RETRY_AFTER), "20");
    let mut bad = metadata();
    bad["redirect_uris"] = json!(["https://evil.org/"]);
    register(&node, bad).await.refused(400, "invalid_redirect_uri");
    register(&node, json!([])).await.refused(400, "invalid_request");
    register(&node, json!({})).await.refused(400, "invalid_client_metadata");
    register(&node, json!({ "client_uri": "https://example.com/", "x": "x".repeat(20_000) }))
        .await
        .refused(413, "invalid_request");
}

#[tokio::test]
async fn web_pages_may_call_what_clients_call_and_read_no_page_of_users() {
    let node = TestNode::start().await;
    for (path, open) in [
        ("/oauth2/register", true),
        ("/oauth2/token", true),
        ("/oauth2/revoke", true),
        ("/oauth2/device", true),
        ("/oauth2/authorize", false),
        ("/oauth2/link", false),
        ("/oauth2/account", false),
        ("/oauth2/register/x", false),
    ] {
        for method in [Method::OPTIONS, Method::POST, Method::GET] {
            let origin = [(header::ORIGIN, "https://evil.org")];
            let seen = call(&node, method, path, &origin, String::new()).await;
            assert_eq!(seen.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN), open, "{path}");
        }
    }
}
