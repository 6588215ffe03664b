//! The authorization code grant, refreshing and revoking.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::accounts::tokens::ACCESS_TOKEN_MS;

#[tokio::test]
async fn the_metadata_say_where_everything_is() {
    let node = TestNode::start().await;
    for path in ["v1/auth_metadata", "unstable/org.matrix.msc2965/auth_metadata"] {
        let metadata = node.client().get(&format!("/_matrix/client/{path}")).await.ok();
        let typed: ruma::api::client::discovery::get_authorization_server_metadata::v1::AuthorizationServerMetadata =
            serde_json::from_value(metadata.clone()).unwrap();
        typed.insecure_validate_urls().unwrap();
        assert_eq!(metadata["issuer"], "http://localhost:8008/");
        assert_eq!(metadata["authorization_endpoint"], "http://localhost:8008/oauth2/authorize");
        assert_eq!(metadata["prompt_values_supported"], json!(["create"]));
        assert_eq!(metadata["code_challenge_methods_supported"], json!(["S256"]));
    }
    let closed = TestNode::start_with(|config| {
        config.registration.mode = crate::config::RegistrationMode::Closed;
        config.client.public_base_url = Some("https://chat.example.org/kith/".to_owned());
    })
    .await;
    let metadata = closed.client().get("/_matrix/client/v1/auth_metadata").await.ok();
    assert_eq!(metadata.get("prompt_values_supported"), None);
    assert_eq!(metadata["token_endpoint"], "https://chat.example.org/kith/oauth2/token");
}

#[tokio::test]
async fn where_it_is_switched_off_or_others_could_not_use_it_there_is_none() {
    for configure in [
        |config: &mut crate::config::Config| config.client.oauth = Some(false),
        |config: &mut crate::config::Config| config.client.listen = vec!["0.0.0.0:8008".parse().unwrap()],
    ] {
        let node = TestNode::start_with(configure).await;
        node.client().get("/_matrix/client/v1/auth_metadata").await.fails(404, "M_UNRECOGNIZED");
        assert_eq!(register(&node, metadata()).await.status, 404);
    }
}

#[tokio::test]
async fn a_user_signs_in_on_the_page_and_the_client_gets_an_ordinary_device() {
    let node = TestNode::start().await;
    node.register("alice").await;
    let client = client(&node).await;
    let code = code(&node, &client, "alice", &[]).await;
    let answer = exchange(&node, &client, &code, &[]).await;
    assert_eq!(answer.header(header::CACHE_CONTROL), "no-store");
    let tokens = answer.ok();
    assert_eq!((&tokens["token_type"], &tokens["expires_in"]), (&json!("Bearer"), &json!(3600)));
    assert_eq!(tokens["scope"], "urn:matrix:client:api:* urn:matrix:client:device:PHONE");
    let phone = device(&node, &tokens);
    let me = phone.get(WHOAMI).await.ok();
    assert_eq!(me, json!({ "user_id": format!("@alice:{}", node.node().server_name()), "device_id": "PHONE" }));
    let devices = phone.get("/_matrix/client/v3/devices").await.ok();
    let phone_row = devices["devices"].as_array().unwrap().iter().find(|row| row["device_id"] == "PHONE").unwrap();
    assert_eq!(phone_row["display_name"], "Example");
    // It ends as any device does.
    phone.post("/_matrix/client/v3/logout", json!({})).await.ok();
    phone.get(WHOAMI).await.fails(401, "M_UNKNOWN_TOKEN");
    refresh(&node, &client, &tokens).await.refused(400, "invalid_grant");
}

#[tokio::test]
async fn a_code_is_worth_nothing_in_wrong_company() {
    let node = TestNode::start().await;
    node.register("alice").await;
    let client = client(&node).await;
    let mut others = metadata();
    others["client_name"] = "Other".into();
    let other = register(&node, others).await.ok()["client_id"].as_str().unwrap().to_owned();
    let code = code(&node, &client, "alice", &[]).await;
    for (changed, error) in [
        (vec![("code_verifier", "a".repeat(43))], "invalid_grant"),
        (vec![("code_verifier", String::new())], "invalid_request"),
        (vec![("redirect_uri", "https://app.example.com/other".to_owned())], "invalid_grant"),
        (vec![("redirect_uri", String::new())], "invalid_request"),
        (vec![("client_id", other)], "invalid_grant"),
        (vec![("client_id", "nobody".to_owned())], "invalid_grant"),
        (vec![("client_id", String::new())], "invalid_request"),
        (vec![("code", "nonsense".to_owned())], "invalid_grant"),
        (vec![("code", String::new())], "invalid_request"),
        (vec![("grant_type", "password".to_owned())], "unsupported_grant_type"),
        (vec![("grant_type", String::new())], "invalid_request"),
        (vec![("extra", "1".to_owned()), ("extra", "2".to_owned())], "invalid_request"),
    ] {
        let changed: Vec<(&str, &str)> = changed.iter().map(|(name, value)| (*name, value.as_str())).collect();
        exchange(&node, &client, &code, &changed).await.refused(400, error);
    }
    // None of them spent it.
    exchange(&node, &client, &code, &[]).await.ok();
}

#[tokio::test]
async fn a_code_lives_a_minute_and_a_second_use_ends_what_the_first_got() {
    let node = TestNode::start().await;
    node.register("alice").await;
    let client = client(&node).await;
    let late = code(&node, &client, "alice", &[]).await;
    node.clock.advance(Duration::from_secs(60));
    exchange(&node, &client, &late, &[]).await.refused(400, "invalid_grant");

    let used = code(&node, &client, "alice", &[]).await;
    let tokens = exchange(&node, &client, &used, &[]).await.ok();
    let tokens = refresh(&node, &client, &tokens).await.ok();
    device(&node, &tokens).get(WHOAMI).await.ok();
    node.clock.advance(Duration::from_secs(300));
    exchange(&node, &client, &used, &[]).await.refused(400, "invalid_grant");
    device(&node, &tokens).get(WHOAMI).await.fails(401, "M_UNKNOWN_TOKEN");
    refresh(&node, &client, &tokens).await.refused(400, "invalid_grant");

    // What the device has got since by another code stays.
    let old = code(&node, &client, "alice", &[]).await;
    exchange(&node, &client, &old, &[]).await.ok();
    let new = signed_in(&node, &client, "alice").await;
    exchange(&node, &client, &old, &[]).await.refused(400, "invalid_grant");
    device(&node, &new).get(WHOAMI).await.ok();
}

#[tokio::test]
async fn signing_in_again_on_a_device_ends_its_tokens_and_keeps_it() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let client = client(&node).await;
    let first = signed_in(&node, &client, "alice").await;
    let second = signed_in(&node, &client, "alice").await;
    device(&node, &first).get(WHOAMI).await.fails(401, "M_UNKNOWN_TOKEN");
    device(&node, &second).get(WHOAMI).await.ok();
    let devices = alice.get("/_matrix/client/v3/devices").await.ok();
    assert_eq!(devices["devices"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn tokens_are_refreshed_in_turn_and_a_spent_one_ends_the_device() {
    let node = TestNode::start().await;
    node.register("alice").await;
    let client = client(&node).await;
    let first = signed_in(&node, &client, "alice").await;
    node.clock.advance(Duration::from_millis(ACCESS_TOKEN_MS));
    let error = device(&node, &first).get(WHOAMI).await.fails(401, "M_UNKNOWN_TOKEN");
    assert_eq!(error["soft_logout"], true);
    // Another client, and the other API, cannot.
    refresh(&node, "nobody", &first).await.refused(400, "invalid_grant");
    let by_api = json!({ "refresh_token": first["refresh_token"] });
    node.client().post("/_matrix/client/v3/refresh", by_api).await.fails(401, "M_UNKNOWN_TOKEN");
    // The answer to the first is lost.
    refresh(&node, &client, &first).await.ok();
    let second = refresh(&node, &client, &first).await.ok();
    assert_eq!(second["scope"], first["scope"]);
    device(&node, &second).get(WHOAMI).await.ok();
    let third = refresh(&node, &client, &second).await.ok();
    device(&node, &third).get(WHOAMI).await.ok();
    // Somebody has the first one still.
    refresh(&node, &client, &first).await.refused(400, "invalid_grant");
    device(&node, &third).get(WHOAMI).await.fails(401, "M_UNKNOWN_TOKEN");
    refresh(&node, &client, &third).await.refused(400, "invalid_grant");
}

#[tokio::test]
async fn tokens_of_the_other_api_are_none_of_a_client_s() {
    let node = TestNode::start().await;
    node.register("alice").await;
    let client = client(&node).await;
    let mut body = crate::testing::login_body("alice", "secret alice");
    body["refresh_token"] = true.into();
    let tokens = node.client().post("/_matrix/client/v3/login", body).await.ok();
    refresh(&node, &client, &tokens).await.refused(400, "invalid_grant");
    device(&node, &tokens).get(WHOAMI).await.ok();
}

#[tokio::test]
async fn a_locked_account_gets_no_tokens_and_is_not_told_that_its_session_ended() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let client = client(&node).await;
    let tokens = signed_in(&node, &client, "alice").await;
    let code = code(&node, &client, "alice", &[]).await;
    let user = ruma::OwnedUserId::try_from(alice.user.as_str()).unwrap();
    let lock = async |locked: bool| {
        let user = user.clone();
        node.node()
            .store
            .write(move |tx| {
                let mut row = kith_store::tables::accounts::USERS.get(tx, &user.to_string())?.unwrap();
                row.0.locked = locked;
                kith_store::tables::accounts::USERS.put(tx, &user.to_string(), &row)
            })
            .await
            .unwrap();
    };
    lock(true).await;
    refresh(&node, &client, &tokens).await.refused(503, "temporarily_unavailable");
    exchange(&node, &client, &code, &[]).await.refused(503, "temporarily_unavailable");
    lock(false).await;
    refresh(&node, &client, &tokens).await.ok();
}

#[tokio::test]
async fn either_token_signs_the_device_out_and_what_is_none_is_fine() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let client = client(&node).await;
    for kind in ["access_token", "refresh_token"] {
        let tokens = signed_in(&node, &client, "alice").await;
        let token = tokens[kind].as_str().unwrap();
        post(&node, "/oauth2/revoke", &[("token", token), ("token_type_hint", "password")])
            .await
            .refused(400, "unsupported_token_type");
        post(&node, "/oauth2/revoke", &[("token", token), ("token_type_hint", kind)]).await.ok();
        device(&node, &tokens).get(WHOAMI).await.fails(401, "M_UNKNOWN_TOKEN");
        refresh(&node, &client, &tokens).await.refused(400, "invalid_grant");
        post(&node, "/oauth2/revoke", &[("token", token)]).await.ok();
    }
    post(&node, "/oauth2/revoke", &[("token", "nonsense"), ("client_id", "nobody")]).await.ok();
    post(&node, "/oauth2/revoke", &[]).await.refused(400, "invalid_request");
    let devices = alice.get("/_matrix/client/v3/devices").await.ok();
    assert_eq!(devices["devices"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn neither_codes_nor_tokens_are_stored_as_they_are() {
    use kith_store::Read as _;
    use std::ops::Bound::Unbounded;
    let node = TestNode::start().await;
    node.register("alice").await;
    let client = client(&node).await;
    let tokens = signed_in(&node, &client, "alice").await;
    let snapshot = node.node().store.snapshot().unwrap();
    for table in [
        kith_store::tables::accounts::TOKENS.name(),
        kith_store::tables::accounts::DEVICES.name(),
        kith_store::tables::oauth::OAUTH_CLIENTS.name(),
    ] {
        for row in snapshot.range_raw(table, Unbounded, Unbounded).unwrap() {
            let (_, value) = row.unwrap();
            for kind in ["access_token", "refresh_token"] {
                let token = tokens[kind].as_str().unwrap().as_bytes();
                assert!(!value.windows(token.len()).any(|part| part == token), "{table}");
            }
        }
    }
}
