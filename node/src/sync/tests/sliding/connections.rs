//! Connections: tokens, lost answers, waiting, restarts.

use super::*;

#[tokio::test]
async fn a_lost_answer_is_given_again_and_what_was_given_is_not() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let room = create(&alice).await;
    let mut window = Window::of_all(&alice, 10, json!([]));
    let first = window.ask().await;
    assert_eq!(first["rooms"][&room]["initial"], true);
    say(&alice, &room, "one").await;
    let lost = window.lose().await.ok();
    assert_eq!(texts(&lost["rooms"][&room]["timeline"]), ["one"]);
    say(&alice, &room, "two").await;
    let again = window.ask().await;
    assert_eq!(texts(&again["rooms"][&room]["timeline"]), ["one", "two"]);
    assert_eq!(again["rooms"][&room]["num_live"], 2);
    assert!(again["rooms"][&room].get("initial").is_none());
    assert!(rooms_of(&window.ask().await).is_empty());
    // The token of the answer that was lost leads nowhere: the client has another since.
    window.pos = Some(lost["pos"].as_str().unwrap().to_owned());
    window.lose().await.fails(400, "M_UNKNOWN_POS");
}

#[tokio::test]
async fn tokens_that_are_not_the_devices_own_are_unknown() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let mut window = Window::of_all(&alice, 1, json!([]));
    window.ask().await;
    for client in [&bob, &node.login("alice").await] {
        let mut other = Window::of_all(client, 1, json!([]));
        other.ask().await;
        other.pos = window.pos.clone();
        other.lose().await.fails(400, "M_UNKNOWN_POS");
    }
    let mut other = Window::of_all(&alice, 1, json!([]));
    other.body["conn_id"] = json!("other");
    other.pos = window.pos.clone();
    other.lose().await.fails(400, "M_UNKNOWN_POS");
    other.pos = Some("nonsense".to_owned());
    other.lose().await.fails(400, "M_UNKNOWN_POS");
    // Connections with names of their own do not disturb each other.
    other.pos = None;
    other.ask().await;
    window.ask().await;
    other.ask().await;
    let nobody = Window::of_all(&node.client(), 1, json!([]));
    nobody.lose().await.fails(401, "M_MISSING_TOKEN");
}

#[tokio::test]
async fn a_request_says_which_one_it_was_and_a_wrong_one_changes_nothing() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let room = create(&alice).await;
    let mut window = Window::of_all(&alice, 1, json!([]));
    window.body["txn_id"] = json!("t1");
    assert_eq!(window.ask().await["txn_id"], "t1");
    say(&alice, &room, "one").await;
    let good = std::mem::replace(&mut window.body, json!({ "lists": { "a": { "ranges": [[0, 1]] } } }));
    window.lose().await.fails(400, "M_BAD_JSON");
    window.body = json!({ "lists": { "a": { "ranges": [[2, 1]], "timeline_limit": 1, "required_state": [] } } });
    window.lose().await.fails(400, "M_INVALID_PARAM");
    window.body = json!({ "extensions": { "to_device": { "enabled": true, "since": "nonsense" } } });
    window.lose().await.fails(400, "M_INVALID_PARAM");
    window.body = good;
    assert_eq!(texts(&window.ask().await["rooms"][&room]["timeline"]), ["one"]);
}

#[tokio::test]
async fn who_waits_is_woken_by_what_happens_and_only_by_that() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let room = create(&alice).await;
    let his = create(&bob).await;
    let mut window = Window::of_all(&alice, 10, json!([]));
    window.ask().await;
    let waiting = window.wait();
    say(&bob, &his, "elsewhere").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished());
    say(&alice, &room, "here").await;
    let answer = soon(waiting).await;
    assert_eq!(texts(&answer["rooms"][&room]["timeline"]), ["here"]);
    window.pos = Some(answer["pos"].as_str().unwrap().to_owned());
    let quiet = pass_until(&node, Duration::from_secs(1), window.wait()).await;
    assert!(rooms_of(&quiet).is_empty());
    // What waits gives way to the next request, and loses nothing by it.
    window.pos = Some(quiet["pos"].as_str().unwrap().to_owned());
    let waiting = window.wait();
    tokio::time::sleep(Duration::from_millis(50)).await;
    window.ask().await;
    say(&alice, &room, "later").await;
    assert!(rooms_of(&soon(waiting).await).is_empty());
    assert_eq!(texts(&window.ask().await["rooms"][&room]["timeline"]), ["later"]);
}

#[tokio::test]
async fn a_node_that_was_started_again_lets_clients_begin_anew_and_loses_no_message_to_a_device() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let extensions = json!({ "to_device": { "enabled": true } });
    let mut window = Window::new(&alice, json!({ "extensions": extensions }));
    window.ask().await;
    let to_device = |text: &str| json!({ "messages": { &alice.user: { "*": { "text": text } } } });
    bob.put("/_matrix/client/v3/sendToDevice/m.x/t1", to_device("one")).await.ok();
    let told = window.ask().await["extensions"]["to_device"].clone();
    assert_eq!(told["events"][0]["content"]["text"], "one");
    bob.put("/_matrix/client/v3/sendToDevice/m.x/t2", to_device("two")).await.ok();
    node.handle.stop().await;

    let node = TestNode::start_anew(node.backend.clone()).await;
    window.client = node.again(&alice);
    window.lose().await.fails(400, "M_UNKNOWN_POS");
    window.pos = None;
    let texts = |answer: &Value| -> Vec<String> {
        let events = answer["extensions"]["to_device"]["events"].as_array().unwrap().clone();
        events.iter().map(|event| event["content"]["text"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(texts(&window.ask().await), ["one", "two"], "nothing was acknowledged");
    window.body["extensions"]["to_device"]["since"] = told["next_batch"].clone();
    let answer = window.ask().await;
    assert_eq!(texts(&answer), ["two"]);
    // Acknowledged ones are gone, whoever asks.
    window.body["extensions"]["to_device"]["since"] = Value::Null;
    eventually_gone(&mut window, &texts).await;
    window.body["extensions"]["to_device"]["since"] = answer["extensions"]["to_device"]["next_batch"].clone();
    assert!(texts(&window.ask().await).is_empty());
}

async fn eventually_gone(window: &mut Window, texts: &impl Fn(&Value) -> Vec<String>) {
    let mut left = Vec::new();
    for _ in 0..100 {
        left = texts(&window.ask().await);
        if left == ["two"] {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{left:?}");
}
