//! Thread subscriptions: the endpoints, what push rules make of them, and how sliding sync tells of them.

use super::*;

fn subscription(room: &str, root: &str) -> String {
    format!("/_matrix/client/unstable/io.element.msc4306/rooms/{}/thread/{}/subscription", encoded(room), encoded(root))
}

async fn reply(client: &Client, room: &str, root: &str, text: &str) -> String {
    let content = json!({
        "msgtype": "m.text", "body": text, "m.relates_to": { "rel_type": "m.thread", "event_id": root },
    });
    send(client, room, "m.room.message", content).await
}

/// A room of three, with a thread.
async fn with_thread(node: &TestNode) -> (Client, Client, String, String) {
    let (alice, bob, carol) = (node.register("alice").await, node.register("bob").await, node.register("carol").await);
    let room = create(&alice).await;
    join(&bob, &room).await;
    join(&carol, &room).await;
    let root = say(&alice, &room, "root").await;
    (alice, bob, room, root)
}

#[tokio::test]
async fn a_thread_is_followed_by_hand_or_by_itself_and_not_again_after_it_was_left() {
    let node = TestNode::start().await;
    let (alice, bob, room, root) = with_thread(&node).await;
    let path = subscription(&room, &root);
    let first = reply(&alice, &room, &root, "first").await;
    bob.get(&path).await.fails(404, "M_NOT_FOUND");
    bob.delete(&path).await.ok();
    bob.put(&path, json!({ "automatic": first })).await.ok();
    assert_eq!(bob.get(&path).await.ok(), json!({ "automatic": true }));
    bob.put(&path, json!({})).await.ok();
    assert_eq!(bob.get(&path).await.ok(), json!({ "automatic": false }));
    bob.put(&path, json!({ "automatic": first })).await.ok();
    assert_eq!(bob.get(&path).await.ok(), json!({ "automatic": false }), "what a person decided stands");
    alice.get(&path).await.fails(404, "M_NOT_FOUND");
    bob.delete(&path).await.ok();
    bob.get(&path).await.fails(404, "M_NOT_FOUND");
    let conflict = "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION";
    bob.put(&path, json!({ "automatic": first })).await.fails(409, conflict);
    let second = reply(&alice, &room, &root, "second").await;
    bob.put(&path, json!({ "automatic": second })).await.ok();
    assert_eq!(bob.get(&path).await.ok(), json!({ "automatic": true }));
}

#[tokio::test]
async fn what_is_no_thread_for_its_reader_cannot_be_followed() {
    let node = TestNode::start().await;
    let (alice, bob, room, root) = with_thread(&node).await;
    let elsewhere = say(&alice, &room, "elsewhere").await;
    let path = subscription(&room, &root);
    let not_in = "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD";
    bob.put(&path, json!({ "automatic": elsewhere })).await.fails(400, not_in);
    bob.put(&path, json!({ "automatic": "$nothing" })).await.fails(400, not_in);
    bob.put(&path, json!({ "automatic": 3 })).await.fails(400, "M_BAD_JSON");
    bob.put(&subscription(&room, "$nothing"), json!({})).await.fails(404, "M_NOT_FOUND");
    bob.put(&subscription("!nowhere:x", &root), json!({})).await.fails(404, "M_NOT_FOUND");
    let stranger = node.register("dave").await;
    let hidden = create_with(&alice, json!({ "preset": "private_chat" })).await;
    let secret = say(&alice, &hidden, "secret").await;
    let hidden = subscription(&hidden, &secret);
    stranger.put(&hidden, json!({})).await.fails(404, "M_NOT_FOUND");
    stranger.get(&hidden).await.fails(404, "M_NOT_FOUND");
    stranger.delete(&hidden).await.fails(404, "M_NOT_FOUND");
    bob.get(&path).await.fails(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn threads_that_are_not_followed_are_silent_and_those_that_are_are_heard_whatever_the_room() {
    let node = TestNode::start().await;
    let (alice, bob, room, root) = with_thread(&node).await;
    let other = say(&alice, &room, "other root").await;
    let mut window = sliding::Window::of_all(&bob, 1, json!([]));
    let unread = |answer: &Value| answer["rooms"][&room]["notification_count"].clone();
    let rules = "/_matrix/client/v3/pushrules/global";
    assert_eq!(unread(&window.ask().await), 2);
    // As long as none of his clients follows threads, all is as it was.
    reply(&alice, &room, &root, "one").await;
    assert_eq!(unread(&window.ask().await), 3);
    assert!(bob.get(&format!("{rules}/")).await.ok().get("postcontent").is_none());

    bob.put(&subscription(&room, &root), json!({})).await.ok();
    let told = bob.get(&format!("{rules}/")).await.ok()["postcontent"].clone();
    let ids: Vec<&str> = told.as_array().unwrap().iter().map(|rule| rule["rule_id"].as_str().unwrap()).collect();
    let prefix = ".io.element.msc4306.rule";
    assert_eq!(ids, [format!("{prefix}.unsubscribed_thread"), format!("{prefix}.subscribed_thread")]);
    assert_eq!(
        told[0]["conditions"][0],
        json!({ "kind": "io.element.msc4306.thread_subscription", "subscribed": false })
    );
    let data = format!("/_matrix/client/v3/user/{}/account_data/m.push_rules", encoded(&bob.user));
    assert!(bob.get(&data).await.ok()["global"]["postcontent"].is_array(), "clients are told");

    reply(&alice, &room, &other, "unheard").await;
    reply(&alice, &room, &root, "heard").await;
    assert_eq!(unread(&window.ask().await), 4);
    let mention = json!({
        "msgtype": "m.text", "body": "you", "m.mentions": { "user_ids": [bob.user] },
        "m.relates_to": { "rel_type": "m.thread", "event_id": other },
    });
    send(&alice, &room, "m.room.message", mention).await;
    let answer = window.ask().await;
    assert_eq!((unread(&answer), &answer["rooms"][&room]["highlight_count"]), (json!(5), &json!(1)));
    // The room is muted, the thread is not.
    let mute = json!({ "actions": [] });
    bob.put(&format!("{rules}/room/{}", encoded(&room)), mute).await.ok();
    reply(&alice, &room, &root, "still heard").await;
    say(&alice, &room, "muted").await;
    assert_eq!(unread(&window.ask().await), 4, "of threads: one, heard, still heard, and the mention");
    bob.delete(&subscription(&room, &root)).await.ok();
    reply(&alice, &room, &root, "no more").await;
    assert_eq!(unread(&window.ask().await), 1, "the mention");

    // The server's rules can be turned off, and there are no others of their kind.
    for kind in ["postcontent", "io.element.msc4306.postcontent"] {
        let rule = format!("{rules}/{kind}/{prefix}.unsubscribed_thread/enabled");
        assert!(bob.get(&rule).await.ok()["enabled"].is_boolean());
        bob.put(&rule, json!({ "enabled": false })).await.ok();
        assert_eq!(bob.get(&rule).await.ok()["enabled"], false);
        let own = json!({ "conditions": [], "actions": ["notify"] });
        bob.put(&format!("{rules}/{kind}/mine"), own).await.fails(400, "M_INVALID_PARAM");
    }
}

#[tokio::test]
async fn sliding_sync_tells_of_changes_and_the_rest_is_found_by_paging() {
    let node = TestNode::start().await;
    let (alice, bob, room, root) = with_thread(&node).await;
    let mut roots = vec![root];
    for number in 0..4 {
        roots.push(say(&alice, &room, &number.to_string()).await);
    }
    let name = "io.element.msc4308.thread_subscriptions";
    let mut window = sliding::Window::new(&bob, json!({ "extensions": { name: { "enabled": true, "limit": 2 } } }));
    bob.put(&subscription(&room, &roots[0]), json!({})).await.ok();
    bob.put(&subscription(&room, &roots[1]), json!({})).await.ok();
    bob.delete(&subscription(&room, &roots[1])).await.ok();
    let told = window.ask().await["extensions"][name].clone();
    assert_eq!(told["subscribed"][&room].as_object().unwrap().keys().collect::<Vec<_>>(), [&roots[0]]);
    assert!(told.get("unsubscribed").is_none() && told.get("prev_batch").is_none(), "{told}");
    assert!(window.ask().await["extensions"].get(name).is_none());
    let since = window.pos.clone().unwrap();
    let waiting = window.wait();
    bob.delete(&subscription(&room, &roots[0])).await.ok();
    let answer = soon(waiting).await;
    assert!(answer["extensions"][name]["unsubscribed"][&room][&roots[0]]["bump_stamp"].is_u64());
    // From the same place again, with more than one answer holds.
    for root in &roots[2..] {
        bob.put(&subscription(&room, root), json!({})).await.ok();
    }
    let told = window.ask().await["extensions"][name].clone();
    let mut found: Vec<String> = told["subscribed"][&room].as_object().unwrap().keys().cloned().collect();
    found.sort();
    let mut latest = roots[3..].to_vec();
    latest.sort();
    assert_eq!(found, latest);
    let page = "/_matrix/client/unstable/io.element.msc4308/thread_subscriptions?dir=b&limit=1";
    let from = told["prev_batch"].as_str().unwrap();
    let told = bob.get(&format!("{page}&from={from}&to={since}")).await.ok();
    assert!(told["subscribed"][&room][&roots[2]]["bump_stamp"].is_u64());
    assert_eq!(told["subscribed"][&room][&roots[2]]["automatic"], false);
    let told = bob.get(&format!("{page}&from={}&to={since}", told["end"].as_str().unwrap())).await.ok();
    assert!(told["unsubscribed"][&room].get(&roots[0]).is_some());
    assert!(told.get("end").is_none(), "what lies before is known: {told}");
    assert_eq!(alice.get(page).await.ok(), json!({}));
    bob.get("/_matrix/client/unstable/io.element.msc4308/thread_subscriptions?dir=f")
        .await
        .fails(400, "M_INVALID_PARAM");
    bob.get(&format!("{page}&from=nonsense")).await.fails(400, "M_INVALID_PARAM");
    bob.get(&format!("{}0", page)).await.ok();
    bob.get(&page.replace("limit=1", "limit=0")).await.fails(400, "M_INVALID_PARAM");
}
