//! Requests that make no sense: each is answered with an error of the specification, none ends the node or is its fault.

use http::Method;
use serde_json::{Value, json};

use crate::config::Secret;
use crate::testing::TestNode;

#[tokio::test]
async fn no_nonsense_in_a_request_is_the_nodes_fault() {
    let node = TestNode::start_with(|config| config.registration.shared_secret = Some(Secret::new("s"))).await;
    let alice = node.register("alice").await;
    let user = &alice.user;
    let user_path = |rest: &str| format!("/_matrix/client/v3/user/{user}/{rest}");
    let mut paths: Vec<String> = [
        "/_synapse/admin/v1/register",
        "/_matrix/client/versions",
        "/_matrix/client/v3/login",
        "/_matrix/client/v3/refresh",
        "/_matrix/client/v3/register",
        "/_matrix/client/v3/register/available",
        "/_matrix/client/v3/register/available?username=%00%ff",
        "/_matrix/client/v1/register/m.login.registration_token/validity",
        "/_matrix/client/v3/account/password",
        "/_matrix/client/v3/account/deactivate",
        "/_matrix/client/v3/account/3pid",
        "/_matrix/client/v3/account/3pid/add",
        "/_matrix/client/v3/account/3pid/delete",
        "/_matrix/client/v3/account/3pid/email/requestToken",
        "/_matrix/client/v3/devices",
        "/_matrix/client/v3/devices/%F0%9F%A6%80",
        "/_matrix/client/v3/delete_devices",
        "/_matrix/client/v3/capabilities",
        "/_matrix/client/v3/admin/whois/nobody",
        "/_matrix/client/v3/profile/nobody",
        "/_matrix/client/v3/profile/@nobody:x/displayname",
        "/_matrix/client/v3/pushers",
        "/_matrix/client/v3/pushers/set",
        "/_matrix/client/v3/pushrules/",
        "/_matrix/client/v3/pushrules/global/",
        "/_matrix/client/v3/pushrules/global/override/x",
        "/_matrix/client/v3/pushrules/global/override/x?before=x&after=x",
        "/_matrix/client/v3/pushrules/global/content/x?after=x",
        "/_matrix/client/v3/pushrules/global/room/x",
        "/_matrix/client/v3/pushrules/global/sender/x",
        "/_matrix/client/v3/pushrules/global/none/x/enabled",
        "/_matrix/client/v3/pushrules/global/underride/x/actions",
        "/_matrix/client/v3/thirdparty/protocols",
        "/_matrix/client/v3/thirdparty/user",
        "/_matrix/client/v3/voip/turnServer",
    ]
    .map(str::to_owned)
    .into();
    for rest in [
        "account_data/x",
        "account_data/m.push_rules",
        "rooms/x/account_data/x",
        "rooms/!x:y/account_data/m.tag",
        "rooms/x/tags",
        "rooms/!x:y/tags/t",
        "filter",
        "filter/x",
        "openid/request_token",
    ] {
        paths.push(user_path(rest));
    }
    for field in ["displayname", "avatar_url", "org.example", "%00"] {
        paths.push(format!("/_matrix/client/v3/profile/{user}/{field}"));
    }
    let deep = (0..200).fold(json!(1), |inner, _| json!([inner]));
    let auth =
        |auth: Value| json!({ "auth": auth, "devices": [], "new_password": "x", "username": "b", "password": "p" });
    let bodies = [
        None,
        Some(json!(null)),
        Some(json!([])),
        Some(json!("x")),
        Some(json!({})),
        Some(json!({ "type": null, "identifier": 5, "user": {}, "password": [], "auth": 3, "enabled": 1, "kind": {} })),
        Some(json!({ "type": "m.login.password", "identifier": {}, "password": "" })),
        Some(json!({ "type": "m.login.password", "user": "@:", "password": "x".repeat(5000) })),
        Some(json!({ "actions": {}, "conditions": [{}], "pattern": 7, "order": "x", "displayname": {}, "data": [] })),
        Some(json!({ "actions": [{}], "conditions": [], "pattern": "" })),
        Some(json!({ "nonce": "", "username": "", "password": "", "mac": "zz", "refresh_token": "", "token": "" })),
        Some(json!({ "deep": deep })),
        Some(auth(json!({ "type": "m.login.password" }))),
        Some(auth(json!({ "type": "m.login.password", "user": 5, "password": "x", "session": "none" }))),
        Some(auth(json!({ "type": "m.login.registration_token", "token": "" }))),
        Some(auth(json!({ "type": "org.example", "session": 5 }))),
        Some(auth(json!({ "session": "none" }))),
    ];
    for path in &paths {
        for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
            for body in &bodies {
                let reply = alice.call(method.clone(), path, body.clone()).await;
                let what = format!("{method} {path} {body:?}: {} {}", reply.status, reply.body);
                assert!(!reply.status.is_server_error() || reply.status == 502, "{what}");
                if !reply.status.is_success() {
                    let interactive = reply.status == 401 && reply.body["session"].is_string();
                    assert!(interactive || reply.body["errcode"].is_string(), "{what}");
                }
            }
        }
    }
    // None of it took effect on her account.
    alice.get("/_matrix/client/v3/account/whoami").await.ok();
    node.login("alice").await;
}
