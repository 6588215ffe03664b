//! The device authorization grant.

use std::time::Duration;

use super::*;
use crate::config::Rate;
use crate::oauth::clients::DEVICE;

const SCOPE: &str = "urn:matrix:client:api:* urn:matrix:client:device:TV";

async fn begin(node: &TestNode, client: &str) -> Value {
    post(node, "/oauth2/device", &[("client_id", client), ("scope", SCOPE)]).await.ok()
}

async fn poll(node: &TestNode, client: &str, begun: &Value) -> Seen {
    let code = begun["device_code"].as_str().unwrap();
    post(node, "/oauth2/token", &[("grant_type", DEVICE), ("client_id", client), ("device_code", code)]).await
}

fn link(begun: &Value) -> String {
    let complete = begun["verification_uri_complete"].as_str().unwrap();
    complete.strip_prefix("http://localhost:8008").unwrap().to_owned()
}

#[tokio::test]
async fn a_device_waits_for_its_user_and_is_signed_in() {
    let node = TestNode::start().await;
    node.register("alice").await;
    let client = client(&node).await;
    let begun = begin(&node, &client).await;
    assert_eq!((&begun["expires_in"], &begun["interval"]), (&json!(900), &json!(5)));
    assert_eq!(begun["verification_uri"], "http://localhost:8008/oauth2/link");
    poll(&node, &client, &begun).await.refused(400, "authorization_pending");
    poll(&node, &client, &begun).await.refused(400, "slow_down");

    let code = begun["user_code"].as_str().unwrap().to_owned();
    let mut browser = Browser::new(&node);
    let page = browser.sign_in("/oauth2/link", "alice").await;
    assert!(page.text.contains("name=\"user_code\""), "{}", page.text);
    let typed = code.to_lowercase().replace('-', " ");
    let sent = browser.post("/oauth2/link", &[("do", "look"), ("user_code", &typed)]).await;
    let path = format!("/oauth2/{}", sent.header(header::LOCATION));
    let page = browser.get(&path).await;
    assert!(page.text.contains(&code) && page.text.contains("TV") && page.text.contains("Example"), "{}", page.text);
    let done = browser.post(&path, &[("do", "allow")]).await;
    assert!(done.status == 200 && done.text.contains("is let in"), "{}", done.text);
    assert_eq!(browser.post(&path, &[("do", "allow")]).await.status, 404, "a code is used once");

    node.clock.advance(Duration::from_secs(20));
    poll(&node, "nobody", &begun).await.refused(400, "expired_token");
    let tokens = poll(&node, &client, &begun).await.ok();
    assert_eq!(tokens["scope"], SCOPE);
    assert_eq!(device(&node, &tokens).get(WHOAMI).await.ok()["device_id"], "TV");
    node.clock.advance(Duration::from_secs(20));
    poll(&node, &client, &begun).await.refused(400, "expired_token");
    refresh(&node, &client, &tokens).await.ok();
}

#[tokio::test]
async fn a_user_s_no_and_the_end_of_the_time_are_told() {
    let node = TestNode::start().await;
    node.register("alice").await;
    let client = client(&node).await;
    let denied = begin(&node, &client).await;
    let mut browser = Browser::new(&node);
    let page = browser.sign_in(&link(&denied), "alice").await;
    assert!(page.text.contains("value=\"deny\""), "{}", page.text);
    browser.post(&link(&denied), &[("do", "deny")]).await;
    poll(&node, &client, &denied).await.refused(400, "access_denied");

    let late = begin(&node, &client).await;
    node.clock.advance(Duration::from_secs(900));
    poll(&node, &client, &late).await.refused(400, "expired_token");
    let page = browser.sign_in(&link(&late), "alice").await;
    assert!(page.status == 404 && page.text.contains("No device waits with this code"), "{}", page.text);
}

#[tokio::test]
async fn what_a_device_asks_for_is_checked() {
    let node = TestNode::start().await;
    let good = client(&node).await;
    let mut by_code_only = metadata();
    by_code_only["grant_types"] = json!(["authorization_code"]);
    let other = register(&node, by_code_only).await.ok()["client_id"].as_str().unwrap().to_owned();
    for (fields, status, error) in [
        (vec![("client_id", good.as_str())], 400, "invalid_request"),
        (vec![("scope", SCOPE)], 400, "invalid_request"),
        (vec![("client_id", good.as_str()), ("scope", "openid")], 400, "invalid_scope"),
        (vec![("client_id", "nobody"), ("scope", SCOPE)], 401, "invalid_client"),
        (vec![("client_id", other.as_str()), ("scope", SCOPE)], 400, "unauthorized_client"),
    ] {
        post(&node, "/oauth2/device", &fields).await.refused(status, error);
    }
}

#[tokio::test]
async fn user_codes_cannot_be_tried_out() {
    let node = TestNode::start_with(|config| {
        config.limits.rate_limits = true;
        config.limits.rate_login = Rate::per_minute(6);
    })
    .await;
    node.register("alice").await;
    let mut browser = Browser::new(&node);
    // Nobody who is not signed in learns anything.
    let page = browser.get("/oauth2/link?user_code=BCDF-GHJK").await;
    assert!(page.text.contains("value=\"sign_in\"") && !page.text.contains("waits"), "{}", page.text);
    browser.sign_in("/oauth2/link", "alice").await;
    let mut statuses = Vec::new();
    for _ in 0..8 {
        statuses.push(browser.get("/oauth2/link?user_code=BCDF-GHJK").await.status);
    }
    assert_eq!(statuses, [404, 404, 404, 404, 404, 404, 429, 429]);
}

#[tokio::test]
async fn a_new_password_takes_back_what_was_granted_and_not_used_yet() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    node.register("bob").await;
    let client = client(&node).await;
    let allow = async |name: &str| {
        let begun = begin(&node, &client).await;
        let mut browser = Browser::new(&node);
        browser.sign_in(&link(&begun), name).await;
        let done = browser.post(&link(&begun), &[("do", "allow")]).await;
        assert!(done.text.contains("is let in"), "{}", done.text);
        begun
    };
    let (hers, his) = (allow("alice").await, allow("bob").await);
    let code = code(&node, &client, "alice", &[]).await;
    node.clock.advance(Duration::from_secs(20));

    let user = ruma::OwnedUserId::try_from(alice.user.as_str()).unwrap();
    crate::accounts::users::set_password(node.node(), &user, "another password", true, None, false).await.unwrap();

    poll(&node, &client, &hers).await.refused(400, "expired_token");
    exchange(&node, &client, &code, &[]).await.refused(400, "invalid_grant");
    poll(&node, &client, &his).await.ok();
}
