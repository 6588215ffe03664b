//! Profiles, account data, filters, push rules.

use kith_store::tables::account_data::changes_since;
use serde_json::json;

use crate::testing::TestNode;

#[tokio::test]
async fn account_data_is_kept_by_type_and_its_changes_are_a_stream() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let path = |kind: &str| format!("/_matrix/client/v3/user/{}/account_data/{kind}", alice.user);
    let changes = |since: u64| {
        let snapshot = node.node().store.snapshot().unwrap();
        let rows = changes_since(&snapshot, &alice.user, since).unwrap();
        rows.into_iter().map(|row| (row.kind, row.position)).collect::<Vec<_>>()
    };
    let start = changes(0).last().unwrap().1;
    alice.get(&path("m.direct")).await.fails(404, "M_NOT_FOUND");
    alice.put(&path("m.direct"), json!({ "a": 1 })).await.ok();
    alice.put(&path("org.example"), json!({ "b": 1.5 })).await.ok();
    alice.put(&path("m.direct"), json!({ "a": 2 })).await.ok();
    assert_eq!(alice.get(&path("m.direct")).await.ok(), json!({ "a": 2 }));
    let stream = changes(start);
    let kinds: Vec<_> = stream.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["org.example", "m.direct"]);
    assert_eq!(changes(stream[0].1).len(), 1);
    assert_eq!(changes(stream[1].1).len(), 0);
    // Only one's own, and not what the server controls.
    bob.put(&path("m.direct"), json!({})).await.fails(403, "M_FORBIDDEN");
    bob.get(&path("m.direct")).await.fails(403, "M_FORBIDDEN");
    alice.put(&path("m.push_rules"), json!({})).await.fails(405, "M_BAD_JSON");
    alice.put(&path("m.direct"), json!([1])).await.fails(400, "M_BAD_JSON");
    alice.put(&path("org.big"), json!({ "x": "y".repeat(300 << 10) })).await.fails(413, "M_TOO_LARGE");
    let room = format!("/_matrix/client/v3/user/{}/rooms/!made:up/account_data/org.example", alice.user);
    alice.put(&room, json!({})).await.fails(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn a_change_of_account_data_rings_for_its_user() {
    use futures::FutureExt as _;
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let mut place = node.node().notifier.subscribe(&alice.user);
    assert!(place.changed().now_or_never().is_none());
    let path = format!("/_matrix/client/v3/user/{}/account_data/org.example", alice.user);
    alice.put(&path, json!({})).await.ok();
    assert!(place.changed().now_or_never().is_some());
}

#[tokio::test]
async fn a_filter_comes_back_as_made_and_the_same_filter_has_the_same_id() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let path = format!("/_matrix/client/v3/user/{}/filter", alice.user);
    let filter = json!({ "room": { "timeline": { "limit": 3 } }, "org.example.new": true });
    let id = alice.post(&path, filter.clone()).await.ok()["filter_id"].as_str().unwrap().to_owned();
    assert!(!id.starts_with('{'));
    assert_eq!(alice.get(&format!("{path}/{id}")).await.ok(), filter);
    assert_eq!(alice.post(&path, filter).await.ok()["filter_id"], id.as_str());
    alice.get(&format!("{path}/other")).await.fails(404, "M_NOT_FOUND");
    bob.get(&format!("{path}/{id}")).await.fails(403, "M_FORBIDDEN");
    alice.post(&path, json!({ "room": 5 })).await.fails(400, "M_BAD_JSON");
}

#[tokio::test]
async fn profiles_are_read_by_anyone_and_written_by_their_user() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let path = format!("/_matrix/client/v3/profile/{}", alice.user);
    assert_eq!(bob.get(&path).await.ok(), json!({ "displayname": "alice" }));
    alice.put(&format!("{path}/displayname"), json!({ "displayname": "Alice" })).await.ok();
    alice.put(&format!("{path}/avatar_url"), json!({ "avatar_url": "mxc://x/y" })).await.ok();
    alice.put(&format!("{path}/org.example.pronouns"), json!({ "org.example.pronouns": ["she"] })).await.ok();
    let whole = json!({ "displayname": "Alice", "avatar_url": "mxc://x/y", "org.example.pronouns": ["she"] });
    assert_eq!(node.client().get(&path).await.ok(), whole);
    let one = bob.get(&format!("{path}/org.example.pronouns")).await.ok();
    assert_eq!(one, json!({ "org.example.pronouns": ["she"] }));
    alice.delete(&format!("{path}/org.example.pronouns")).await.ok();
    alice.put(&format!("{path}/avatar_url"), json!({ "avatar_url": "" })).await.ok();
    assert_eq!(bob.get(&path).await.ok(), json!({ "displayname": "Alice" }));
    bob.get(&format!("{path}/avatar_url")).await.fails(404, "M_NOT_FOUND");

    bob.put(&format!("{path}/displayname"), json!({ "displayname": "Bob" })).await.fails(403, "M_FORBIDDEN");
    alice.put(&format!("{path}/displayname"), json!({ "displayname": 7 })).await.fails(400, "M_INVALID_PARAM");
    alice.put(&format!("{path}/avatar_url"), json!({ "avatar_url": "https://x" })).await.fails(400, "M_INVALID_PARAM");
    alice.put(&format!("{path}/org.example"), json!({ "other": 1 })).await.fails(400, "M_MISSING_PARAM");
    let long = "k".repeat(256);
    alice.put(&format!("{path}/{long}"), json!({ (long.as_str()): 1 })).await.fails(400, "M_KEY_TOO_LARGE");
    let big = json!({ "org.example": "x".repeat(65 << 10) });
    alice.put(&format!("{path}/org.example"), big).await.fails(400, "M_PROFILE_TOO_LARGE");
    let nobody = format!("/_matrix/client/v3/profile/@nobody:{}", node.node().server_name());
    bob.get(&nobody).await.fails(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn push_rules_are_changed_in_place_and_by_order() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let rule = |id: &str| format!("/_matrix/client/v3/pushrules/global/content/{id}");
    let body = json!({ "pattern": "cake", "actions": ["notify"] });
    for id in ["c", "b", "a"] {
        alice.put(&rule(id), body.clone()).await.ok();
    }
    alice.put(&format!("{}?after=c", rule("a")), body.clone()).await.ok();
    let order = async || {
        let rules = alice.get("/_matrix/client/v3/pushrules/").await.ok();
        let rules = rules["global"]["content"].as_array().unwrap().clone();
        let ids = rules.iter().map(|rule| rule["rule_id"].as_str().unwrap().to_owned());
        ids.filter(|id| !id.starts_with('.')).collect::<Vec<_>>()
    };
    assert_eq!(order().await, ["b", "c", "a"]);
    alice.put(&format!("{}?before=b", rule("a")), body.clone()).await.ok();
    assert_eq!(order().await, ["a", "b", "c"]);
    alice.put(&format!("{}?before=z", rule("a")), body.clone()).await.fails(404, "M_NOT_FOUND");
    assert_eq!(order().await, ["a", "b", "c"]);

    alice.put(&format!("{}/enabled", rule("a")), json!({ "enabled": false })).await.ok();
    assert_eq!(alice.get(&format!("{}/enabled", rule("a"))).await.ok(), json!({ "enabled": false }));
    let loud = json!({ "actions": ["notify", { "set_tweak": "sound", "value": "bing" }] });
    alice.put(&format!("{}/actions", rule("a")), loud.clone()).await.ok();
    assert_eq!(alice.get(&format!("{}/actions", rule("a"))).await.ok(), loud);
    let seen = alice.get(&rule("a")).await.ok();
    assert_eq!((&seen["enabled"], &seen["default"], &seen["pattern"]), (&json!(false), &json!(false), &json!("cake")));
    alice.delete(&rule("a")).await.ok();
    alice.get(&rule("a")).await.fails(404, "M_NOT_FOUND");
    assert_eq!(order().await, ["b", "c"]);
    alice.delete(&rule("a")).await.fails(404, "M_NOT_FOUND");

    // Sync gives the same rules as account data.
    let stored = alice.get(&format!("/_matrix/client/v3/user/{}/account_data/m.push_rules", alice.user)).await.ok();
    let rules = alice.get("/_matrix/client/v3/pushrules/").await.ok();
    assert_eq!(stored, rules);
    assert_eq!(alice.get("/_matrix/client/v3/pushrules/global/").await.ok(), rules["global"]);
    assert_eq!(rules["global"]["override"][0]["rule_id"], ".m.rule.master");
    alice.delete("/_matrix/client/v3/pushrules/global/override/.m.rule.master").await.fails(400, "M_UNKNOWN");
    alice
        .put("/_matrix/client/v3/pushrules/global/nonsense/x", json!({ "actions": [] }))
        .await
        .fails(400, "M_INVALID_PARAM");
    let master = "/_matrix/client/v3/pushrules/global/override/.m.rule.master/enabled";
    alice.put(master, json!({ "enabled": true })).await.ok();
    assert_eq!(alice.get(master).await.ok(), json!({ "enabled": true }));
}
