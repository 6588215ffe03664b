//! Registration, login, tokens, passwords.

use std::time::Duration;

use kith_store::Read as _;
use kith_store::tables::accounts::{TOKENS, USERS};
use serde_json::{Value, json};

use crate::accounts::{registration, users};
use crate::config::{Rate, RegistrationMode, Secret};
use crate::testing::{TestNode, login_body};

const LOGIN: &str = "/_matrix/client/v3/login";
const REGISTER: &str = "/_matrix/client/v3/register";
const WHOAMI: &str = "/_matrix/client/v3/account/whoami";

#[tokio::test]
async fn an_account_is_made_in_one_request_and_its_token_is_good() {
    let node = TestNode::start().await;
    let alice = node.register("Alice").await;
    assert_eq!(alice.user, format!("@alice:{}", node.node().server_name()));
    let me = alice.get(WHOAMI).await.ok();
    assert_eq!(me, json!({ "user_id": alice.user, "device_id": alice.device }));
    node.client().get(WHOAMI).await.fails(401, "M_MISSING_TOKEN");
    let mut stranger = node.client();
    stranger.token = Some("kat_nonsense".to_owned());
    stranger.get(WHOAMI).await.fails(401, "M_UNKNOWN_TOKEN");
    assert_eq!(alice.get("/_matrix/client/r0/account/whoami").await.ok(), me);
}

#[tokio::test]
async fn neither_passwords_nor_tokens_are_stored_as_they_are() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let snapshot = node.node().store.snapshot().unwrap();
    let row = USERS.get(&snapshot, &alice.user).unwrap().unwrap().0;
    let hash = row.password.unwrap();
    assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
    assert!(!hash.contains("secret"));
    let token = alice.token.unwrap();
    let rows = snapshot.range_raw(TOKENS.name(), std::ops::Bound::Unbounded, std::ops::Bound::Unbounded).unwrap();
    for row in rows {
        let (key, value) = row.unwrap();
        assert_ne!(&*key, token.as_bytes());
        assert!(!value.windows(token.len()).any(|part| part == token.as_bytes()));
    }
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_get_the_same_answer() {
    let node = TestNode::start().await;
    node.register("alice").await;
    let client = node.client();
    let wrong = client.post(LOGIN, login_body("alice", "secret bob")).await.fails(403, "M_FORBIDDEN");
    let unknown = client.post(LOGIN, login_body("bob", "secret bob")).await.fails(403, "M_FORBIDDEN");
    assert_eq!(wrong, unknown);
    client.post(LOGIN, login_body("@alice:elsewhere.org", "secret alice")).await.fails(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn a_login_names_its_user_in_any_form_of_the_specification() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let client = node.client();
    for body in [
        login_body("alice", "secret alice"),
        login_body("Alice", "secret alice"),
        login_body(&alice.user, "secret alice"),
        json!({ "type": "m.login.password", "user": "alice", "password": "secret alice" }),
    ] {
        assert_eq!(client.post(LOGIN, body).await.ok()["user_id"], alice.user.as_str());
    }
    client.post(LOGIN, json!({})).await.fails(400, "M_MISSING_PARAM");
    client.post(LOGIN, json!({ "type": "m.login.password" })).await.fails(400, "M_MISSING_PARAM");
    client.post(LOGIN, json!({ "type": 7 })).await.fails(400, "M_MISSING_PARAM");
    client.post(LOGIN, json!({ "type": "m.login.jwt", "token": "x" })).await.fails(400, "M_UNKNOWN");
    client.post(LOGIN, json!([])).await.fails(400, "M_BAD_JSON");
    assert_eq!(
        client.get(LOGIN).await.ok(),
        json!({ "flows": [{ "type": "m.login.password" }, { "type": "m.login.token", "get_login_token": true }] })
    );
}

#[tokio::test]
async fn a_token_is_worth_nothing_after_logout() {
    let node = TestNode::start().await;
    let first = node.register("alice").await;
    let second = node.login("alice").await;
    first.post("/_matrix/client/v3/logout", json!({})).await.ok();
    first.get(WHOAMI).await.fails(401, "M_UNKNOWN_TOKEN");
    second.get(WHOAMI).await.ok();
    let third = node.login("alice").await;
    second.post("/_matrix/client/v3/logout/all", json!({})).await.ok();
    second.get(WHOAMI).await.fails(401, "M_UNKNOWN_TOKEN");
    third.get(WHOAMI).await.fails(401, "M_UNKNOWN_TOKEN");
    assert!(TOKENS.first(&node.node().store.snapshot().unwrap()).unwrap().is_none());
}

#[tokio::test]
async fn signing_in_again_on_a_device_ends_its_old_token() {
    let node = TestNode::start().await;
    let old = node.register("alice").await;
    let mut body = login_body("alice", "secret alice");
    body["device_id"] = old.device.as_str().into();
    let mut new = node.client();
    new.signed_in(&new.post(LOGIN, body).await.ok());
    assert_eq!(new.device, old.device);
    old.get(WHOAMI).await.fails(401, "M_UNKNOWN_TOKEN");
    new.get(WHOAMI).await.ok();
}

#[tokio::test]
async fn refreshing_gives_new_tokens_and_the_old_ones_end_when_the_new_are_used() {
    let node = TestNode::start().await;
    node.register("alice").await;
    let mut body = login_body("alice", "secret alice");
    body["refresh_token"] = true.into();
    let mut client = node.client();
    let first = client.post(LOGIN, body).await.ok();
    client.signed_in(&first);
    assert_eq!(first["expires_in_ms"], 3_600_000);
    let refresh =
        async |token: &Value| node.client().post("/_matrix/client/v3/refresh", json!({ "refresh_token": token })).await;
    // Expired: the client is told to refresh, not to throw its keys away.
    node.clock.advance(Duration::from_secs(3600));
    let error = client.get(WHOAMI).await.fails(401, "M_UNKNOWN_TOKEN");
    assert_eq!(error["soft_logout"], true);
    // The answer to the first refresh is lost; the token can be used again.
    let lost = refresh(&first["refresh_token"]).await.ok();
    let second = refresh(&first["refresh_token"]).await.ok();
    assert_ne!(lost["access_token"], second["access_token"]);
    let mut renewed = client.clone();
    renewed.token = lost["access_token"].as_str().map(str::to_owned);
    renewed.get(WHOAMI).await.fails(401, "M_UNKNOWN_TOKEN");
    renewed.token = second["access_token"].as_str().map(str::to_owned);
    assert_eq!(renewed.get(WHOAMI).await.ok()["device_id"], first["device_id"]);
    // Used: what came before is over.
    refresh(&first["refresh_token"]).await.fails(401, "M_UNKNOWN_TOKEN");
    refresh(&second["refresh_token"]).await.ok();
    // An access token does not refresh, a refresh token does not authenticate.
    refresh(&second["access_token"]).await.fails(401, "M_UNKNOWN_TOKEN");
    renewed.token = second["refresh_token"].as_str().map(str::to_owned);
    renewed.get(WHOAMI).await.fails(401, "M_UNKNOWN_TOKEN");
}

#[tokio::test]
async fn names_that_are_taken_or_break_the_grammar_are_refused() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let client = node.client();
    let body = |name: &str| json!({ "username": name, "password": "p", "auth": { "type": "m.login.dummy" } });
    client.post(REGISTER, body("ALICE")).await.fails(400, "M_USER_IN_USE");
    client.post(REGISTER, body("a b")).await.fails(400, "M_INVALID_USERNAME");
    client.post(REGISTER, body(&"a".repeat(250))).await.fails(400, "M_INVALID_USERNAME");
    let available = |name: &str| format!("{REGISTER}/available?username={name}");
    client.get(&available("alice")).await.fails(400, "M_USER_IN_USE");
    assert_eq!(client.get(&available("bob")).await.ok(), json!({ "available": true }));
    // A deactivated name is not given again.
    let auth = json!({ "type": "m.login.password", "user": "alice", "password": "secret alice" });
    alice.post("/_matrix/client/v3/account/deactivate", json!({ "auth": auth, "erase": true })).await.ok();
    alice.get(WHOAMI).await.fails(401, "M_UNKNOWN_TOKEN");
    let gone = client.post(LOGIN, login_body("alice", "secret alice")).await.fails(403, "M_FORBIDDEN");
    let unknown = client.post(LOGIN, login_body("nobody", "secret alice")).await.fails(403, "M_FORBIDDEN");
    assert_eq!(gone, unknown, "who cannot prove to be the user is not told that there was one");
    client.post(REGISTER, body("alice")).await.fails(400, "M_USER_IN_USE");
}

#[tokio::test]
async fn inhibit_login_makes_an_account_without_a_device() {
    let node = TestNode::start().await;
    let body = json!({
        "username": "alice", "password": "secret alice", "inhibit_login": true, "auth": { "type": "m.login.dummy" }
    });
    let answer = node.client().post(REGISTER, body).await.ok();
    assert_eq!(answer["access_token"], Value::Null);
    node.login("alice").await;
}

#[tokio::test]
async fn a_setup_token_makes_one_account_which_administers_the_node() {
    let node = TestNode::start_with(|config| config.registration.mode = RegistrationMode::Setup).await;
    let client = node.client();
    client.post(REGISTER, json!({})).await.fails(403, "M_FORBIDDEN");
    let first = registration::setup_token(node.node(), 60_000).await.unwrap().unwrap();
    let token = registration::setup_token(node.node(), 60_000).await.unwrap().unwrap();
    let body = |name: &str, token: &str| {
        json!({
            "username": name, "password": "p", "auth": { "type": "m.login.registration_token", "token": token }
        })
    };
    let flows = client.post(REGISTER, json!({})).await;
    assert_eq!(flows.status, 401);
    assert_eq!(flows.body["flows"], json!([{ "stages": ["m.login.registration_token"] }]));
    client.post(REGISTER, body("mallory", "guess")).await.fails(401, "M_FORBIDDEN");
    // The link that was replaced is worth nothing.
    client.post(REGISTER, body("mallory", &first)).await.fails(401, "M_FORBIDDEN");
    let both = tokio::join!(client.post(REGISTER, body("alice", &token)), client.post(REGISTER, body("bob", &token)));
    let statuses = [both.0.status.as_u16(), both.1.status.as_u16()];
    assert!(statuses.contains(&200) && statuses.contains(&403), "{statuses:?}");
    let all = node.node().store.read(|read| users::list(read)).unwrap();
    assert_eq!(all.len(), 1);
    assert!(all[0].row.admin);
    assert!(registration::setup_token(node.node(), 60_000).await.unwrap().is_none());
    client.post(REGISTER, body("carol", &token)).await.fails(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn the_setup_link_ends_with_the_first_account_however_that_was_made() {
    let node = TestNode::start_with(|config| config.registration.mode = RegistrationMode::Setup).await;
    let setup = registration::setup_token(node.node(), 60_000).await.unwrap().unwrap();
    let invite = registration::invite_token(node.node(), 60_000).await.unwrap();
    // As `kith user add` does.
    users::create(node.node(), "alice", Some("secret alice"), true).await.unwrap();
    let body = |name: &str, token: &str| {
        let auth = json!({ "type": "m.login.registration_token", "token": token });
        json!({ "username": name, "password": "p", "auth": auth })
    };
    node.client().post(REGISTER, body("mallory", &setup)).await.fails(401, "M_FORBIDDEN");
    // Tokens for ordinary accounts stay good.
    node.client().post(REGISTER, body("bob", &invite)).await.ok();
    let admins = node.node().store.read(|read| users::list(read)).unwrap().into_iter().filter(|user| user.row.admin);
    assert_eq!(admins.count(), 1);
}

#[tokio::test]
async fn a_registration_token_ends_with_its_time() {
    let node = TestNode::start_with(|config| config.registration.mode = RegistrationMode::Token).await;
    let client = node.client();
    let token = registration::invite_token(node.node(), 60_000).await.unwrap();
    let valid = format!("/_matrix/client/v1/register/m.login.registration_token/validity?token={token}");
    assert_eq!(client.get(&valid).await.ok(), json!({ "valid": true }));
    node.clock.advance(Duration::from_secs(60));
    assert_eq!(client.get(&valid).await.ok(), json!({ "valid": false }));
    let auth = json!({ "type": "m.login.registration_token", "token": token });
    let body = json!({ "username": "alice", "password": "p", "auth": auth });
    client.post(REGISTER, body).await.fails(401, "M_FORBIDDEN");
}

#[tokio::test]
async fn standing_tokens_and_closed_registration_do_what_they_say() {
    let node = TestNode::start_with(|config| {
        config.registration.mode = RegistrationMode::Token;
        config.registration.tokens = vec![Secret::new("let-me-in")];
    })
    .await;
    for name in ["alice", "bob"] {
        let auth = json!({ "type": "m.login.registration_token", "token": "let-me-in" });
        let body = json!({ "username": name, "password": "p", "auth": auth });
        node.client().post(REGISTER, body).await.ok();
    }
    let dummy = json!({ "username": "carol", "password": "p", "auth": { "type": "m.login.dummy" } });
    node.client().post(REGISTER, dummy.clone()).await.fails(401, "M_UNRECOGNIZED");
    let closed = TestNode::start_with(|config| config.registration.mode = RegistrationMode::Closed).await;
    closed.client().post(REGISTER, dummy).await.fails(403, "M_FORBIDDEN");
    users::create(closed.node(), "dave", Some("secret dave"), false).await.unwrap();
    closed.login("dave").await;
}

#[tokio::test]
async fn too_many_tries_are_told_to_wait_and_let_in_after_it() {
    let node = TestNode::start_with(|config| {
        config.limits.rate_limits = true;
        config.limits.rate_login = Rate::per_minute(3);
    })
    .await;
    node.register("alice").await;
    let client = node.client();
    for _ in 0..3 {
        client.post(LOGIN, login_body("alice", "wrong")).await.fails(403, "M_FORBIDDEN");
    }
    let error = client.post(LOGIN, login_body("alice", "secret alice")).await.fails(429, "M_LIMIT_EXCEEDED");
    assert_eq!(error["retry_after_ms"], 20_000);
    node.clock.advance(Duration::from_secs(20));
    client.post(LOGIN, login_body("alice", "secret alice")).await.ok();
}

#[tokio::test]
async fn a_hostile_page_on_the_owners_device_does_not_use_up_the_owners_tries() {
    let node = TestNode::start_with(|config| {
        config.limits.rate_limits = true;
        config.limits.rate_login = Rate::per_minute(3);
    })
    .await;
    let alice = node.register("alice").await;
    let mut page = node.client();
    page.page = Some("https://evil.example");
    let wrong = login_body("alice", "wrong");
    for _ in 0..3 {
        page.post(LOGIN, wrong.clone()).await.fails(403, "M_FORBIDDEN");
    }
    page.post(LOGIN, wrong.clone()).await.fails(429, "M_LIMIT_EXCEEDED");
    // Who asks for images and scripts does not say which page it is.
    let validity = "/_matrix/client/v1/register/m.login.registration_token/validity?token=x";
    for expected in [200, 200, 200, 429] {
        assert_eq!(node.client().get(validity).await.status, expected);
    }
    let mut body = login_body("alice", "secret alice");
    body["refresh_token"] = true.into();
    let mut own_page = node.client();
    own_page.page = Some("http://localhost:8008");
    own_page.post(LOGIN, body.clone()).await.ok();
    let mut client = node.client();
    client.signed_in(&client.post(LOGIN, body.clone()).await.ok());
    let delete = format!("/_matrix/client/v3/devices/{}", client.device);
    let auth = json!({ "type": "m.login.password", "user": "alice", "password": "secret alice" });
    alice.call(http::Method::DELETE, &delete, Some(json!({ "auth": auth }))).await.ok();
    let mut tokens = client.post(LOGIN, body).await.ok();
    // Guesses are limited, even those of a page that claims to be another each time.
    for claimed in ["https://a.example", "https://b.example"] {
        page.page = Some(claimed);
        page.post(LOGIN, wrong.clone()).await.fails(429, "M_LIMIT_EXCEEDED");
    }
    // All tries of this address are used up, and a client refreshes nevertheless.
    let guess = json!({ "refresh_token": "krt_guess" });
    while client.post("/_matrix/client/v3/refresh", guess.clone()).await.status == 401 {}
    for _ in 0..5 {
        let known = json!({ "refresh_token": tokens["refresh_token"] });
        tokens = client.post("/_matrix/client/v3/refresh", known).await.ok();
    }
}

#[tokio::test]
async fn accounts_and_tokens_survive_a_crash() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let crashed = node.backend.crash(3);
    let again = TestNode::start_on(crashed, |_| {}).await;
    let mut client = again.client();
    client.token.clone_from(&alice.token);
    assert_eq!(client.get(WHOAMI).await.ok()["user_id"], alice.user.as_str());
}

#[tokio::test]
async fn the_shared_secret_registers_once_per_nonce() {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    const PATH: &str = "/_synapse/admin/v1/register";
    let node = TestNode::start_with(|config| {
        config.registration.mode = RegistrationMode::Closed;
        config.registration.shared_secret = Some(Secret::new("shared"));
    })
    .await;
    let client = node.client();
    let nonce = client.get(PATH).await.ok()["nonce"].as_str().unwrap().to_owned();
    let mac = |nonce: &str, admin: &str| {
        let mut mac = Hmac::<sha1::Sha1>::new_from_slice(b"shared").unwrap();
        mac.update(format!("{nonce}\0alice\0secret alice\0{admin}").as_bytes());
        data_encoding::HEXLOWER.encode(&mac.finalize().into_bytes())
    };
    let body = |nonce: &str, mac: String| json!({ "nonce": nonce, "username": "alice", "password": "secret alice", "admin": true, "mac": mac });
    client.post(PATH, body(&nonce, mac(&nonce, "notadmin"))).await.fails(403, "M_FORBIDDEN");
    // The nonce is spent, though the HMAC was wrong.
    client.post(PATH, body(&nonce, mac(&nonce, "admin"))).await.fails(400, "M_UNKNOWN");
    let nonce = client.get(PATH).await.ok()["nonce"].as_str().unwrap().to_owned();
    let answer = client.post(PATH, body(&nonce, mac(&nonce, "admin"))).await.ok();
    assert!(answer["access_token"].is_string());
    let alice = node.login("alice").await;
    alice.get(&format!("/_matrix/client/v3/admin/whois/{}", alice.user)).await.ok();
    // Not served where no secret is set.
    let plain = TestNode::start().await;
    plain.client().get(PATH).await.fails(404, "M_UNRECOGNIZED");
}

#[tokio::test]
async fn versions_and_discovery_need_no_account() {
    let node = TestNode::start().await;
    let versions = node.client().get("/_matrix/client/versions").await.ok();
    let versions = versions["versions"].as_array().unwrap();
    assert_eq!((versions.len(), &versions[0], &versions[18]), (19, &json!("v1.1"), &json!("v1.19")));
    let known = node.client().get("/.well-known/matrix/client").await.ok();
    assert_eq!(known, json!({ "m.homeserver": { "base_url": "http://localhost:8008" } }));
    node.client().get("/_matrix/client/v3/capabilities").await.fails(401, "M_MISSING_TOKEN");
    let alice = node.register("alice").await;
    let capabilities = alice.get("/_matrix/client/v3/capabilities").await.ok();
    let rooms = &capabilities["capabilities"]["m.room_versions"];
    let versions: serde_json::Map<_, _> = (1..=12).map(|version| (version.to_string(), json!("stable"))).collect();
    assert_eq!((&rooms["default"], &rooms["available"]), (&json!("12"), &serde_json::Value::Object(versions)));
}
