//! `/people`, and the introductions that it shows.

use std::time::Duration;

use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::*;
use crate::{
    config::MdnsMode,
    federation::{introductions::PATH, signing},
};

/// Says whether a user wants to be found.
async fn introduce(who: &Client, nearby: Value) {
    let path = format!("/_matrix/client/v3/user/{}/account_data/org.kith.introduction", who.user);
    who.put(&path, json!({ "nearby": nearby })).await.ok();
}

async fn call_oneself(who: &Client, name: &str) {
    let path = format!("/_matrix/client/v3/profile/{}/displayname", who.user);
    who.put(&path, json!({ "displayname": name })).await.ok();
}

#[tokio::test]
async fn who_wants_to_be_found_is_shown_to_people_near_and_nobody_else_is() {
    let hub = MemoryHub::new();
    let (here, there) = (TestNode::start_among(&hub, 1).await, TestNode::start_among(&hub, 2).await);
    let alice = person(&here, "alice", false).await;
    let (bob, boris) = (person(&there, "bob", false).await, person(&there, "boris", false).await);
    let betty = person(&there, "betty", false).await;
    call_oneself(&bob, "Bob").await;
    introduce(&bob, json!(true)).await;
    introduce(&betty, json!("true")).await;

    let people = get(&alice, "people").await;
    let expected = json!({ "people": [{
        "server_name": server(&bob), "nearby": true, "connected": true, "direct": true, "contact": false,
        "last_seen_ms": here.clock.now_ms(), "users": [{ "user_id": bob.user, "displayname": "Bob" }],
    }] });
    assert_eq!(people, expected);
    assert!(!people.to_string().contains(&boris.user));

    // What was told counts for a while, and then is asked for again.
    introduce(&bob, json!(false)).await;
    assert_eq!(get(&alice, "people").await, expected);
    here.clock.advance(Duration::from_secs(31));
    eventually("he is not shown any more", async || get(&alice, "people").await["people"][0]["users"] == json!([]))
        .await;
}

#[tokio::test]
async fn contacts_are_those_who_share_a_room_with_the_one_who_asks_near_or_not() {
    let hub = MemoryHub::new();
    let nodes = [
        TestNode::start_among(&hub, 1).await,
        TestNode::start_among(&hub, 2).await,
        TestNode::start_among(&hub, 3).await,
    ];
    let (alice, albert) = (person(&nodes[0], "alice", false).await, person(&nodes[0], "albert", true).await);
    let (bob, boris) = (person(&nodes[1], "bob", false).await, person(&nodes[1], "boris", false).await);
    let carol = person(&nodes[2], "carol", false).await;
    call_oneself(&bob, "Bob").await;
    introduce(&bob, json!(true)).await;
    room_of(&alice, &[&bob, &carol]).await;
    room_of(&albert, &[&boris]).await;

    let of = |people: &Value, who: &Client| -> Value {
        let all = people["people"].as_array().unwrap();
        all.iter().find(|each| each["server_name"] == server(who)).cloned().unwrap_or_default()
    };
    let people = get(&alice, "people").await;
    assert_eq!(people["people"].as_array().unwrap().len(), 2);
    let bobs = of(&people, &bob);
    assert_eq!((&bobs["contact"], &bobs["nearby"]), (&json!(true), &json!(true)));
    assert_eq!(bobs["users"], json!([{ "user_id": bob.user, "displayname": "Bob" }]), "once, and not those of others");
    assert_eq!(of(&people, &carol)["users"], json!([{ "user_id": carol.user, "displayname": "carol" }]));
    assert!(of(&get(&albert, "people").await, &carol)["contact"] == false);

    hub.isolate(nodes[0].node().identity.secret().public());
    let people = get(&alice, "people").await;
    let carols = of(&people, &carol);
    assert_eq!(
        (&carols["contact"], &carols["nearby"], &carols["connected"]),
        (&json!(true), &json!(false), &json!(false))
    );
    assert_eq!(get(&albert, "people").await["people"].as_array().unwrap().len(), 1);
    nodes[0].client().get(&format!("{PREFIX}/people")).await.fails(401, "M_MISSING_TOKEN");
}

#[tokio::test]
async fn an_introduction_is_refused_to_all_but_nodes_near_that_are_connected_directly() {
    let changes: [fn(&mut PeerInfo); 4] =
        [|_| {}, |peer| peer.nearby = false, |peer| peer.direct = false, |peer| peer.connected = false];
    for (number, change) in changes.into_iter().enumerate() {
        let hub = MemoryHub::new();
        let (here, _) = Shown::node(&hub, 1, change).await;
        let there = TestNode::start_among(&hub, 2).await;
        introduce(&person(&here, "alice", false).await, json!(true)).await;
        let asked = there.node().federation.client().request_json(
            here.node().server_name(),
            http::Method::GET,
            PATH,
            &Value::Null,
            Class::Control,
            Duration::from_secs(5),
        );
        match asked.await {
            Ok(answer) => assert_eq!((number, answer["users"].as_array().unwrap().len()), (0, 1)),
            Err(error) => {
                assert_ne!(number, 0, "{error}");
                assert_eq!(
                    (error.status().map(|status| status.as_u16()), error.errcode()),
                    (Some(403), Some("M_FORBIDDEN"))
                );
            }
        }
    }
}

#[tokio::test]
async fn an_introduction_is_refused_over_any_other_way_than_the_peers_own() {
    let hub = MemoryHub::new();
    let (here, there) = (TestNode::start_among(&hub, 1).await, TestNode::start_among(&hub, 2).await);
    let (own, other) = (there.node().server_name(), here.node().server_name());
    let mut request = http::Request::get(format!("https://{other}{PATH}")).body(Vec::new()).unwrap();
    assert!(signing::sign(&mut request, own, other, &there.node().key));
    let response = here.handle.server_router().oneshot(request.map(axum::body::Body::from)).await.unwrap();
    assert_eq!(response.status(), 403);
    let unsigned = http::Request::get(PATH).body(axum::body::Body::empty()).unwrap();
    let response = here.handle.server_router().oneshot(unsigned).await.unwrap();
    assert_eq!(response.status(), 401);
    assert!(response.into_body().collect().await.unwrap().to_bytes().starts_with(b"{"));
}

#[tokio::test]
async fn nobody_is_asked_who_is_there_unless_a_user_looks() {
    let hub = MemoryHub::new();
    let (here, told) = Shown::node(&hub, 1, |_| {}).await;
    let _there = TestNode::start_among(&hub, 2).await;
    let alice = person(&here, "alice", false).await;
    let asked = || told.lock().unwrap().iter().filter(|path| *path == PATH).count();
    assert_eq!(asked(), 0);
    get(&alice, "people").await;
    get(&alice, "people").await;
    assert_eq!(asked(), 1);
    let (far, told) = Shown::node(&hub, 3, |peer| peer.nearby = false).await;
    let carol = person(&far, "carol", false).await;
    assert_eq!(get(&carol, "people").await, json!({ "people": [] }));
    assert!(!told.lock().unwrap().iter().any(|path| path == PATH));
}

#[tokio::test]
async fn a_node_that_shows_itself_to_contacts_only_asks_them_alone() {
    let hub = MemoryHub::new();
    let contacts_only = |config: &mut Config| config.p2p.mdns = MdnsMode::Contacts;
    let (here, told) = Shown::node_with(&hub, 1, |_| {}, contacts_only).await;
    let there = TestNode::start_among(&hub, 2).await;
    let (alice, bob) = (person(&here, "alice", false).await, person(&there, "bob", false).await);
    let boris = person(&there, "boris", false).await;
    introduce(&boris, json!(true)).await;
    let asked = || told.lock().unwrap().iter().any(|path| path == PATH);
    assert_eq!(get(&alice, "people").await["people"][0]["users"], json!([]));
    assert!(!asked());
    room_of(&alice, &[&bob]).await;
    assert_eq!(get(&alice, "people").await["people"][0]["users"].as_array().unwrap().len(), 2);
    assert!(asked());
}
