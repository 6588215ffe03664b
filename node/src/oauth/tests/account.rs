//! The account's page, and what clients cannot do that signed in by OAuth 2.0.

use std::time::Duration;

use super::*;

const PAGE: &str = "/oauth2/account";
const SIGNING: &str = "/_matrix/client/v3/keys/device_signing/upload";

fn at(action: &str, device: &str) -> String {
    format!("{PAGE}?action={action}&device_id={device}")
}

/// A master key that is made of a letter.
fn master(user: &str, letter: &str) -> Value {
    let key = base64::engine::general_purpose::STANDARD_NO_PAD.encode(letter.repeat(32));
    json!({ "master_key": { "user_id": user, "usage": ["master"], "keys": { format!("ed25519:{key}"): key } } })
}

#[tokio::test]
async fn devices_are_looked_at_and_signed_out_on_the_page() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let client = client(&node).await;
    let phone = device(&node, &signed_in(&node, &client, "alice").await);
    let mut browser = Browser::new(&node);
    let list = browser.sign_in(&at("org.matrix.devices_list", ""), "alice").await;
    assert!(list.text.contains("PHONE") && list.text.contains(&alice.device), "{}", list.text);
    for action in ["org.matrix.device_view", "org.matrix.device_delete", "org.matrix.session_end"] {
        let page = browser.get(&at(action, "PHONE")).await;
        assert!(page.text.contains("value=\"delete\"") && page.text.contains("(example.com)"), "{}", page.text);
    }
    let nothing = browser.get(&at("org.matrix.device_view", "%22%3E%3Cb%3E")).await;
    assert!(nothing.text.contains("no such device") && !nothing.text.contains("<b>"));
    let path = at("org.matrix.device_delete", "PHONE");
    browser.get(&path).await;
    let done = browser.post(&path, &[("do", "delete"), ("device_id", "PHONE")]).await;
    assert!(done.text.contains("The device is signed out"), "{}", done.text);
    phone.get(WHOAMI).await.fails(401, "M_UNKNOWN_TOKEN");
    alice.get(WHOAMI).await.ok();
    // Of others nothing can be signed out.
    let bob = node.register("bob").await;
    browser.post(&path, &[("do", "delete"), ("device_id", &bob.device)]).await;
    bob.get(WHOAMI).await.ok();
}

#[tokio::test]
async fn the_name_is_changed_on_the_page() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let mut browser = Browser::new(&node);
    browser.sign_in(PAGE, "alice").await;
    let page = browser.post(PAGE, &[("do", "rename"), ("displayname", "<i>Alice</i> & co")]).await;
    assert!(page.text.contains("value=\"&lt;i&gt;Alice&lt;/i&gt; &amp; co\""), "{}", page.text);
    let path = format!("/_matrix/client/v3/profile/{}/displayname", alice.user);
    assert_eq!(alice.get(&path).await.ok()["displayname"], "<i>Alice</i> & co");
    let page = browser.post(PAGE, &[("do", "rename"), ("displayname", &"x".repeat(2000))]).await;
    assert_eq!(page.status, 400);
    assert_eq!(browser.post(PAGE, &[("do", "nonsense")]).await.status, 400);
}

#[tokio::test]
async fn what_is_grave_asks_for_the_password_again() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let mut browser = Browser::new(&node);
    let path = at("org.kith.password", "");
    browser.sign_in(&path, "alice").await;
    let change = |old: &str, new: &str| {
        [("do", "password"), ("password", old), ("new_password", new)].map(|(name, value)| (name, value.to_owned()))
    };
    for (old, new, status) in [("guess", "a new secret", 403), ("secret alice", "short", 400)] {
        let fields = change(old, new);
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(browser.post(&path, &fields).await.status, status);
    }
    let done = browser
        .post(&path, &[("do", "password"), ("password", "secret alice"), ("new_password", "secret alice2")])
        .await;
    assert!(done.text.contains("The password is changed"), "{}", done.text);
    alice.get(WHOAMI).await.ok();
    let login = "/_matrix/client/v3/login";
    node.client().post(login, crate::testing::login_body("alice", "secret alice2")).await.ok();
    node.client().post(login, crate::testing::login_body("alice", "secret alice")).await.fails(403, "M_FORBIDDEN");

    let path = at("org.matrix.account_deactivate", "");
    let mut browser = Browser::new(&node);
    browser.get(&path).await;
    let sent = browser.post(&path, &[("do", "sign_in"), ("name", "alice"), ("password", "secret alice2")]).await;
    assert_eq!(sent.status, 303);
    browser.get(&path).await;
    for (fields, status) in [
        (vec![("do", "deactivate"), ("password", "guess"), ("sure", "yes")], 403),
        (vec![("do", "deactivate"), ("password", "secret alice2")], 400),
    ] {
        assert_eq!(browser.post(&path, &fields).await.status, status);
        alice.get(WHOAMI).await.ok();
    }
    let fields = [("do", "deactivate"), ("password", "secret alice2"), ("sure", "yes"), ("erase", "yes")];
    assert!(browser.post(&path, &fields).await.text.contains("is deactivated"));
    alice.get(WHOAMI).await.fails(401, "M_UNKNOWN_TOKEN");
    assert!(browser.get(PAGE).await.text.contains("value=\"sign_in\""));
}

#[tokio::test]
async fn the_keys_are_replaced_when_the_user_has_said_so_on_the_page() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let client = client(&node).await;
    let phone = device(&node, &signed_in(&node, &client, "alice").await);
    let other_scope = "urn:matrix:client:api:* urn:matrix:client:device:OTHER";
    let code = code(&node, &client, "alice", &[("scope", other_scope)]).await;
    let other = device(&node, &exchange(&node, &client, &code, &[]).await.ok());
    phone.post(SIGNING, master(&alice.user, "a")).await.ok();
    let asked = phone.post(SIGNING, master(&alice.user, "b")).await;
    assert_eq!(asked.status.as_u16(), 401);
    assert_eq!(asked.body.get("errcode"), None, "clients take an error for the end of it");
    assert_eq!(
        asked.body["flows"],
        json!([{ "stages": ["m.oauth"] }, { "stages": ["org.matrix.cross_signing_reset"] }])
    );
    let url = asked.body["params"]["m.oauth"]["url"].as_str().unwrap();
    assert_eq!(url, "http://localhost:8008/oauth2/account?action=org.matrix.cross_signing_reset&device_id=PHONE");
    let path = url.strip_prefix("http://localhost:8008").unwrap();
    let mut confirmed = master(&alice.user, "b");
    confirmed["auth"] = json!({ "session": asked.body["session"] });
    let still = phone.post(SIGNING, confirmed.clone()).await;
    assert_eq!((still.status.as_u16(), &still.body["session"]), (401, &asked.body["session"]));
    // Nor does the password help: it is none of the client's business.
    let mut with_password = master(&alice.user, "b");
    with_password["auth"] = json!({
        "type": "m.login.password", "identifier": { "type": "m.id.user", "user": "alice" }, "password": "secret alice",
    });
    assert_eq!(phone.post(SIGNING, with_password).await.status.as_u16(), 401);

    let mut browser = Browser::new(&node);
    let page = browser.sign_in(path, "alice").await;
    assert!(page.text.contains("PHONE") && page.text.contains("Example"), "{}", page.text);
    assert_eq!(browser.post(path, &[("do", "reset"), ("password", "guess")]).await.status, 403);
    assert_eq!(phone.post(SIGNING, confirmed.clone()).await.status.as_u16(), 401);
    assert_eq!(browser.post(path, &[("do", "reset"), ("password", "secret alice")]).await.status, 200);
    // It was said of the one device.
    assert_eq!(other.post(SIGNING, master(&alice.user, "c")).await.status.as_u16(), 401);
    phone.post(SIGNING, confirmed).await.ok();
    assert_eq!(phone.post(SIGNING, master(&alice.user, "c")).await.status.as_u16(), 401, "it counts once");
    // And not for ever.
    browser.post(path, &[("do", "reset"), ("password", "secret alice")]).await;
    node.clock.advance(Duration::from_secs(600));
    assert_eq!(phone.post(SIGNING, master(&alice.user, "c")).await.status.as_u16(), 401);
}

#[tokio::test]
async fn what_asks_for_the_password_is_none_of_such_a_client_s() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let client = client(&node).await;
    let phone = device(&node, &signed_in(&node, &client, "alice").await);
    let auth = json!({ "type": "m.login.password", "user": "alice", "password": "secret alice" });
    let other = format!("/_matrix/client/v3/devices/{}", alice.device);
    let body = json!({ "auth": auth, "new_password": "a new secret", "devices": [alice.device] });
    for (method, path) in [
        (Method::DELETE, other.as_str()),
        (Method::POST, "/_matrix/client/v3/delete_devices"),
        (Method::POST, "/_matrix/client/v3/account/password"),
        (Method::POST, "/_matrix/client/v3/account/deactivate"),
        (Method::POST, "/_matrix/client/v1/login/get_token"),
    ] {
        let told = phone.call(method, path, Some(body.clone())).await.fails(403, "M_FORBIDDEN");
        assert!(told["error"].as_str().unwrap().contains("account's page"), "{told}");
    }
    alice.get(WHOAMI).await.ok();
    let shown = async |client: &Client| {
        let answer = client.get("/_matrix/client/v3/capabilities").await.ok();
        let enabled = |name: &str| answer["capabilities"][name]["enabled"] == true;
        (enabled("m.change_password"), enabled("m.get_login_token"), enabled("m.set_displayname"))
    };
    assert_eq!(shown(&phone).await, (false, false, true));
    assert_eq!(shown(&alice).await, (true, true, true));
    // Its own name it may change.
    phone.put("/_matrix/client/v3/devices/PHONE", json!({ "display_name": "Mine" })).await.ok();
}
