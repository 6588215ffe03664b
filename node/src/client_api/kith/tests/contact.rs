//! `/contact`.

use super::*;

#[tokio::test]
async fn a_link_of_one_node_leads_another_to_it() {
    let hub = MemoryHub::new();
    let (here, _) = Shown::node(&hub, 1, |_| {}).await;
    let (there, told) = Shown::node(&hub, 2, |_| {}).await;
    let (alice, bob) = (person(&here, "alice", false).await, person(&there, "bob", false).await);
    let link = get(&alice, "contact").await["link"].clone();
    assert_eq!(
        link,
        format!("matrix:u/alice:{}?action=chat&org.kith.address=/ip4/192.0.2.1/udp/4001/quic-v1", server(&alice))
    );
    told.lock().unwrap().clear();
    let found = bob.post(&format!("{PREFIX}/contact"), json!({ "link": link })).await.ok();
    assert_eq!(found, json!({ "user_id": alice.user }));
    let key = here.node().identity.secret().public();
    let expected = [format!("{key} is at /ip4/192.0.2.1/udp/4001/quic-v1"), format!("dial {key}")];
    assert!(expected.iter().all(|line| told.lock().unwrap().contains(line)), "{:?}", told.lock());
}

#[tokio::test]
async fn a_user_of_a_server_with_a_dns_name_is_found_and_nobody_is_dialled() {
    let hub = MemoryHub::new();
    let (node, told) = Shown::node(&hub, 1, |_| {}).await;
    let alice = person(&node, "alice", false).await;
    for link in ["@bob:example.org", "https://matrix.to/#/@bob:example.org", &alice.user] {
        let found = alice.post(&format!("{PREFIX}/contact"), json!({ "link": link })).await.ok();
        assert!(link.ends_with(found["user_id"].as_str().unwrap()));
    }
    assert!(told.lock().unwrap().is_empty(), "{:?}", told.lock());
}

#[tokio::test]
async fn what_is_no_link_to_a_user_is_refused() {
    let hub = MemoryHub::new();
    let (node, told) = Shown::node(&hub, 1, |_| {}).await;
    let alice = person(&node, "alice", false).await;
    let path = format!("{PREFIX}/contact");
    // The last is spelled like a key name, and is not the name of any.
    let capital = format!("@bob:{}", server(&alice).to_uppercase());
    for link in ["", "bob", "#room:example.org", "https://example.org", "matrix:u/bob", &"x".repeat(10_000), &capital] {
        alice.post(&path, json!({ "link": link })).await.fails(400, "M_INVALID_PARAM");
    }
    for body in [json!({}), json!({ "link": 1 }), json!({ "link": null })] {
        alice.post(&path, body).await.fails(400, "M_BAD_JSON");
    }
    node.client().post(&path, json!({ "link": "@bob:example.org" })).await.fails(401, "M_MISSING_TOKEN");
    node.client().get(&path).await.fails(401, "M_MISSING_TOKEN");
    assert!(told.lock().unwrap().is_empty());
}
