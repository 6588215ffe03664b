//! Profiles of users of other nodes, and who an OpenID token belongs to.

use axum::body::{Body, to_bytes};
use http::{Request, StatusCode};
use kith::accounts::{openid, profile};
use kith::config::ProfilesFor;
use kith_transport::memory::MemoryHub;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::world::{Peer, object, until};

async fn get(router: axum::Router, path: &str) -> (StatusCode, Value) {
    let request = Request::get(path).body(Body::empty()).expect("a request");
    let response = router.oneshot(request).await.expect("an answer");
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.expect("a body");
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

#[tokio::test]
async fn a_profile_is_asked_of_its_server_and_known_from_a_room_while_that_is_away() {
    let hub = MemoryHub::new();
    let two = Peer::with(&hub, 2, |config| config.p2p.profiles = ProfilesFor::Everyone).await;
    let one = Peer::new(&hub, 1).await;
    let set = async |peer: &Peer, field: &str, value: Value| {
        profile::set(peer.node(), &peer.user, field, Some(value)).await.expect("a field is set");
    };
    set(&two, "displayname", json!("Two")).await;
    set(&two, "org.example", json!({ "a": 1 })).await;
    let whole = profile::of_remote(one.node(), &two.user, None).await.expect("a profile");
    assert_eq!(whole, object(json!({ "displayname": "Two", "org.example": { "a": 1 } })));
    let field = profile::of_remote(one.node(), &two.user, Some("displayname")).await.expect("a field");
    assert_eq!(field, object(json!({ "displayname": "Two" })));
    let nobody = ruma::UserId::parse(format!("@nobody:{}", two.node().server_name())).expect("a user ID");
    assert!(profile::of_remote(one.node(), &nobody, None).await.expect_err("no such user").is("M_NOT_FOUND"));

    let room = one.public_room().await;
    two.join(room.id(), &one).await.expect("a join");
    set(&two, "displayname", json!("Second")).await;
    let shown = || {
        let snapshot = one.node().store.snapshot().expect("a snapshot");
        let event = kith::rooms::read::state_event(&snapshot, room.number(), "m.room.member", two.user.as_str());
        event.expect("readable").and_then(|event| event.content().get("displayname").cloned()) == Some(json!("Second"))
    };
    until("the new name reaches the other node", shown).await;
    hub.leave(two.key());
    let known = profile::of_remote(one.node(), &two.user, None).await.expect("known from the room");
    assert_eq!(known, object(json!({ "displayname": "Second" })));
    assert_eq!(profile::of_remote(one.node(), &nobody, None).await.expect_err("unknown").status, 502);
}

#[tokio::test]
async fn names_and_pictures_are_not_for_strangers_and_not_even_whether_there_is_such_a_user() {
    let hub = MemoryHub::new();
    let (one, two) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await);
    let nobody = ruma::UserId::parse(format!("@nobody:{}", two.node().server_name())).expect("a user ID");
    let ask = async |user| profile::of_remote(one.node(), user, None).await;
    let (known, unknown) = (ask(&two.user).await.expect_err("hidden"), ask(&nobody).await.expect_err("unknown"));
    assert_eq!((known.status, known.errcode, known.message), (unknown.status, unknown.errcode, unknown.message));
    let room = one.public_room().await;
    two.join(room.id(), &one).await.expect("a join");
    assert_eq!(ask(&two.user).await.expect("shown"), object(json!({ "displayname": "user" })));
}

#[tokio::test]
async fn without_a_token_no_profile_is_asked_of_another_server() {
    let hub = MemoryHub::new();
    let (one, two) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await);
    let path = |user: &ruma::UserId| format!("/_matrix/client/v3/profile/{user}");
    let (status, body) = get(one.handle.client_router(), &path(&two.user)).await;
    assert_eq!((status, &body["errcode"]), (StatusCode::UNAUTHORIZED, &json!("M_MISSING_TOKEN")));
    let (status, body) = get(one.handle.client_router(), &path(&one.user)).await;
    assert_eq!((status, &body["displayname"]), (StatusCode::OK, &json!("user")));
}

#[tokio::test]
async fn an_openid_token_tells_who_its_bearer_is() {
    let hub = MemoryHub::new();
    let one = Peer::new(&hub, 1).await;
    let token = openid::issue(one.node(), &one.user);
    let path = |token: &str| format!("/_matrix/federation/v1/openid/userinfo?access_token={token}");
    let (status, body) = get(one.handle.server_router(), &path(&token)).await;
    assert_eq!((status, body), (StatusCode::OK, json!({ "sub": one.user })));
    let (status, _) = get(one.handle.server_router(), &path("other")).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    kith::accounts::users::deactivate(one.node(), &one.user, false).await.expect("deactivated");
    assert_eq!(get(one.handle.server_router(), &path(&token)).await.0, StatusCode::UNAUTHORIZED);
}
