//! `/node`.

use std::time::Duration;

use kith_transport::SecretKey;

use super::*;

#[tokio::test]
async fn a_user_is_told_of_the_node_and_of_queues_to_servers_of_own_rooms_an_administrator_of_all() {
    let hub = MemoryHub::new();
    let (here, there) = (TestNode::start_among(&hub, 1).await, TestNode::start_among(&hub, 2).await);
    let (alice, albert) = (person(&here, "alice", false).await, person(&here, "albert", false).await);
    let (admin, bob) = (person(&here, "admin", true).await, person(&there, "bob", false).await);
    let room = room_of(&alice, &[&bob]).await;
    hub.isolate(SecretKey::from_seed([2; 32]).public());
    let went = here.clock.now_ms();
    say(&alice, &room, "waits").await;
    here.clock.advance(Duration::from_millis(40));

    let queue = async |who: &Client| get(who, "node").await["queues"][0].clone();
    eventually("it is noticed", async || queue(&alice).await["away_since_ms"].is_u64()).await;
    for who in [&alice, &admin] {
        let queue = queue(who).await;
        assert_eq!((&queue["server_name"], &queue["rooms"]), (&json!(server(&bob)), &json!(1)), "{queue}");
        assert_eq!((&queue["dropped"], queue["away_since_ms"].as_u64() >= Some(went)), (&json!(0), true), "{queue}");
        assert!(queue["retry_in_ms"].is_u64(), "{queue}");
    }
    let node = get(&albert, "node").await;
    assert_eq!(node["queues"], json!([]));
    assert_eq!(node["server_name"], here.node().server_name().as_str());
    assert_eq!(node["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(node["peer_id"], here.node().identity.peer_id());
    assert_eq!(node["addresses"].as_array().unwrap().len(), 1);
    assert_eq!(node["peers"], json!({ "connected": 0, "nearby": 0 }));
    assert!(node["uptime_ms"].as_u64() >= Some(40));
    here.client().get(&format!("{PREFIX}/node")).await.fails(401, "M_MISSING_TOKEN");

    let versions = alice.get("/_matrix/client/versions").await.ok();
    assert_eq!(versions["unstable_features"]["org.kith.node"], true);
}

#[tokio::test]
async fn media_are_counted_now_and_then() {
    let hub = MemoryHub::new();
    let node = TestNode::start_among(&hub, 1).await;
    let alice = person(&node, "alice", false).await;
    let bytes = async || get(&alice, "node").await["storage"]["media_bytes"].as_u64();
    assert_eq!(bytes().await, Some(0));
    alice.post("/_matrix/media/v3/upload", json!({ "body": "of some bytes" })).await.ok();
    assert_eq!(bytes().await, Some(0));
    node.clock.advance(Duration::from_secs(60));
    assert_eq!(bytes().await, Some(json!({ "body": "of some bytes" }).to_string().len() as u64));
}
