//! Timelines, state and gaps of joined rooms.

use std::time::Duration;

use serde_json::json;

use super::*;

#[tokio::test]
async fn a_first_sync_tells_everything_and_the_next_ones_only_what_is_new() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let room = create_with(&alice, json!({"preset": "public_chat", "name": "Lobby", "topic": "Hello"})).await;
    say(&alice, &room, "one").await;
    let mut device = Device::new(&alice);
    let first = device.sync("").await;
    let joined = &first["rooms"]["join"][&room];
    assert_eq!(bodies(&first, &room), ["one"]);
    assert_eq!(joined["timeline"]["events"][0]["type"], "m.room.create");
    assert_eq!(joined["summary"]["m.joined_member_count"], 1);
    assert_eq!(joined["unread_notifications"]["notification_count"], 0);
    assert!(joined["timeline"]["prev_batch"].is_string());
    assert!(first["account_data"]["events"].as_array().unwrap().iter().any(|event| event["type"] == "m.push_rules"));
    let second = device.sync("").await;
    assert_eq!(second["rooms"], json!(null), "nothing happened");
    say(&alice, &room, "two").await;
    let third = device.sync("").await;
    assert_eq!(bodies(&third, &room), ["two"]);
    assert_eq!(third["rooms"]["join"][&room]["state"]["events"], json!(null));
    assert_eq!(third["rooms"]["join"][&room]["timeline"]["limited"], json!(null));
    // The same token again gives the same again.
    let again = sync(&alice, Some(&next(&second)), "").await;
    assert_eq!(bodies(&again, &room), ["two"]);
}

#[tokio::test]
async fn a_waiting_sync_is_woken_by_a_message_and_by_its_timeout() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let room = create(&alice).await;
    join(&bob, &room).await;
    let mut device = Device::ready(&bob).await;
    // Everybody has come by now: only the message is new.
    device.sync("").await;
    let waiting = device.wait();
    tokio::task::yield_now().await;
    say(&alice, &room, "wake up").await;
    let answer = soon(waiting).await;
    assert_eq!(bodies(&answer, &room), ["wake up"]);
    device.since = Some(next(&answer));
    let waiting = device.wait();
    let answer = pass_until(&node, Duration::from_secs(1), waiting).await;
    assert_eq!(answer["rooms"], json!(null));
    assert!(node.node().clock.now_ms() >= crate::testing::START_MS + 30_000, "it answered before its time was up");
}

#[tokio::test]
async fn a_node_that_stops_lets_waiting_syncs_go() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let device = Device::ready(&alice).await;
    let waiting = device.wait();
    tokio::task::yield_now().await;
    let handle = node.handle.clone();
    let stopping = tokio::spawn(async move { handle.stop().await });
    let answer = soon(waiting).await;
    assert!(answer["next_batch"].is_string());
    soon(stopping).await;
}

#[tokio::test]
async fn a_gap_is_filled_by_messages_without_loss_or_repetition() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let room = create(&alice).await;
    join(&bob, &room).await;
    say(&alice, &room, "before").await;
    let mut device = Device::ready(&bob).await;
    for number in 0..30 {
        say(&alice, &room, &number.to_string()).await;
        if number == 10 {
            set_state(&alice, &room, "m.room.topic", "", json!({"topic": "in the gap"})).await;
        }
    }
    let since = device.since.clone().unwrap();
    let answer = device.sync(&filter(json!({"room": {"timeline": {"limit": 5}}}))).await;
    let joined = &answer["rooms"]["join"][&room];
    assert_eq!(joined["timeline"]["limited"], true);
    assert_eq!(bodies(&answer, &room), ["25", "26", "27", "28", "29"]);
    assert_eq!(keys(&joined["state"]["events"]), [("m.room.topic".to_owned(), String::new())]);
    let mut from = joined["timeline"]["prev_batch"].as_str().unwrap().to_owned();
    let mut found = Vec::new();
    loop {
        let page = format!("messages?dir=b&limit=7&from={}&to={}", encoded(&from), encoded(&since));
        let page = bob.get(&path(&room, &page)).await.ok();
        found.extend(texts(&page["chunk"]));
        match page["end"].as_str() {
            Some(end) => from = end.to_owned(),
            None => break,
        }
    }
    let expected: Vec<String> = (0..25).rev().map(|number: u32| number.to_string()).collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn state_that_changed_twice_is_told_as_it_was_before_the_timeline_or_after_it() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let room = create(&alice).await;
    let device = Device::ready(&alice).await;
    let topic = |topic: &str| json!({"topic": topic});
    let first = set_state(&alice, &room, "m.room.topic", "", topic("one")).await;
    say(&alice, &room, "x").await;
    let second = set_state(&alice, &room, "m.room.topic", "", topic("two")).await;
    say(&alice, &room, "y").await;
    let short = filter(json!({"room": {"timeline": {"limit": 2}}}));
    let answer = sync(&alice, device.since.as_deref(), &short).await;
    let joined = &answer["rooms"]["join"][&room];
    assert_eq!(ids(&joined["state"]["events"]), [first]);
    assert_eq!(ids(&joined["timeline"]["events"])[0], second);
    let answer = sync(&alice, device.since.as_deref(), &format!("{short}&use_state_after=true")).await;
    let joined = &answer["rooms"]["join"][&room];
    assert_eq!(joined["state"], json!(null));
    assert_eq!(ids(&joined["state_after"]["events"]), [second]);
    let answer = sync(&alice, device.since.as_deref(), &format!("{short}&full_state=true&use_state_after=true")).await;
    let state = keys(&answer["rooms"]["join"][&room]["state_after"]["events"]);
    for kind in ["m.room.create", "m.room.member", "m.room.topic", "m.room.join_rules"] {
        assert_eq!(state.iter().filter(|(other, _)| other == kind).count(), 1, "{kind} in {state:?}");
    }
}

#[tokio::test]
async fn full_state_is_told_of_rooms_where_nothing_happened() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let room = create(&alice).await;
    let mut device = Device::ready(&alice).await;
    let answer = device.sync("&full_state=true").await;
    let joined = &answer["rooms"]["join"][&room];
    assert!(joined["timeline"].is_null(), "it was told before");
    assert!(keys(&joined["state"]["events"]).contains(&("m.room.create".to_owned(), String::new())));
}

#[tokio::test]
async fn filters_choose_types_senders_rooms_and_how_much() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let (room, other) = (create(&alice).await, create(&alice).await);
    join(&bob, &room).await;
    let since = Device::ready(&alice).await.since;
    say(&alice, &room, "mine").await;
    say(&bob, &room, "his").await;
    send(&bob, &room, "org.example.thing", json!({"body": "thing"})).await;
    say(&alice, &other, "elsewhere").await;
    let look = async |wanted: Value| sync(&alice, since.as_deref(), &filter(wanted)).await;
    let types = look(json!({"room": {"timeline": {"types": ["org.example.*"]}}})).await;
    assert_eq!((bodies(&types, &room), bodies(&types, &other)), (vec!["thing".to_owned()], vec![]));
    let not_types = look(json!({"room": {"timeline": {"not_types": ["m.room.*"]}}})).await;
    assert_eq!(bodies(&not_types, &room), ["thing"]);
    let senders = look(json!({"room": {"timeline": {"senders": [alice.user]}}})).await;
    assert_eq!(bodies(&senders, &room), ["mine"]);
    let not_senders = look(json!({"room": {"timeline": {"not_senders": [alice.user]}}})).await;
    assert_eq!(bodies(&not_senders, &room), ["his", "thing"]);
    let rooms = look(json!({"room": {"rooms": [other]}})).await;
    assert_eq!(rooms["rooms"]["join"].as_object().unwrap().keys().collect::<Vec<_>>(), [&other]);
    let not_rooms = look(json!({"room": {"not_rooms": [other]}})).await;
    assert_eq!(not_rooms["rooms"]["join"].as_object().unwrap().keys().collect::<Vec<_>>(), [&room]);
    let one = look(json!({"room": {"timeline": {"limit": 1}}})).await;
    assert_eq!(bodies(&one, &room), ["thing"]);
    assert_eq!(one["rooms"]["join"][&room]["timeline"]["limited"], true);
    let none = look(json!({"room": {"timeline": {"limit": 0}}})).await;
    let timeline = &none["rooms"]["join"][&room]["timeline"];
    assert_eq!((&timeline["events"], &timeline["limited"]), (&json!([]), &json!(true)));
    let from = timeline["prev_batch"].as_str().unwrap();
    let page = alice.get(&path(&room, &format!("messages?dir=b&limit=3&from={}", encoded(from)))).await.ok();
    assert_eq!(texts(&page["chunk"]), ["thing", "his", "mine"]);
    // A stored filter does the same.
    let made = format!("/_matrix/client/v3/user/{}/filter", encoded(&alice.user));
    let made = alice.post(&made, json!({"room": {"timeline": {"limit": 1}}})).await.ok();
    let answer = sync(&alice, since.as_deref(), &format!("&filter={}", made["filter_id"].as_str().unwrap())).await;
    assert_eq!(bodies(&answer, &room), ["thing"]);
    alice.get(&sync_path(None, "&filter=unknown")).await.fails(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn events_are_told_as_servers_tell_them_if_the_filter_asks_for_it() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let room = create_with(&alice, json!({"preset": "public_chat", "name": "Lobby"})).await;
    say(&alice, &room, "x").await;
    let wanted = filter(json!({"event_format": "federation", "room": {"timeline": {"limit": 1}}}));
    let answer = sync(&alice, None, &wanted).await;
    let joined = &answer["rooms"]["join"][&room];
    let told =
        joined["timeline"]["events"].as_array().unwrap().iter().chain(joined["state"]["events"].as_array().unwrap());
    for event in told {
        for field in ["auth_events", "prev_events", "hashes", "signatures", "depth", "sender", "content"] {
            assert!(!event[field].is_null(), "{field} is missing: {event}");
        }
        assert!(event["event_id"].is_null() && event["unsigned"]["age"].is_null(), "{event}");
    }
    assert_eq!(bodies(&answer, &room), ["x"]);
    let usual = sync(&alice, None, &filter(json!({"event_format": "client"}))).await;
    assert!(usual["rooms"]["join"][&room]["timeline"]["events"][0]["auth_events"].is_null());
}

#[tokio::test]
async fn lazy_loading_tells_of_those_who_speak_and_of_those_who_changed() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let room = create(&alice).await;
    let mut members = Vec::new();
    for number in 0..8 {
        let member = node.register(&format!("member{number}")).await;
        join(&member, &room).await;
        members.push(member);
    }
    for _ in 0..3 {
        say(&members[6], &room, "hello").await;
    }
    let lazy = filter(json!({"room": {"state": {"lazy_load_members": true}, "timeline": {"limit": 3}}}));
    let told = |answer: &Value| -> Vec<String> {
        let state = keys(&answer["rooms"]["join"][&room]["state"]["events"]);
        state.into_iter().filter(|(kind, _)| kind == "m.room.member").map(|(_, user)| user).collect()
    };
    let mut device = Device::new(&alice);
    let first = device.sync(&lazy).await;
    let summary = &first["rooms"]["join"][&room]["summary"];
    assert_eq!(summary["m.joined_member_count"], 9);
    let heroes: Vec<String> =
        summary["m.heroes"].as_array().unwrap().iter().map(|user| user.as_str().unwrap().to_owned()).collect();
    assert_eq!(heroes.len(), 5);
    let mut expected = heroes;
    expected.extend([alice.user.clone(), members[6].user.clone()]);
    expected.sort();
    assert_eq!(told(&first), expected);
    say(&members[7], &room, "I am here too").await;
    let second = device.sync(&lazy).await;
    assert_eq!(told(&second), [members[7].user.clone()]);
    assert!(second["rooms"]["join"][&room]["summary"].is_null(), "nobody came or went");
    // Somebody leaves, and much is said then: the client must learn that.
    leave(&members[0], &room).await;
    for _ in 0..4 {
        say(&members[1], &room, "bye").await;
    }
    let third = device.sync(&lazy).await;
    assert!(told(&third).contains(&members[0].user), "a membership was left out: {:?}", told(&third));
    assert_eq!(third["rooms"]["join"][&room]["summary"]["m.joined_member_count"], 8);
}

#[tokio::test]
async fn members_to_name_a_room_by_are_told_when_it_loses_its_name() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let room = create_with(&alice, json!({"preset": "public_chat", "name": "Lobby"})).await;
    join(&bob, &room).await;
    let mut device = Device::new(&alice);
    let first = device.sync("").await;
    assert!(first["rooms"]["join"][&room]["summary"]["m.heroes"].is_null(), "it has a name");
    set_state(&alice, &room, "m.room.name", "", json!({})).await;
    let answer = device.sync("").await;
    assert_eq!(answer["rooms"]["join"][&room]["summary"]["m.heroes"], json!([bob.user]));
    say(&alice, &room, "x").await;
    assert!(device.sync("").await["rooms"]["join"][&room]["summary"].is_null());
}

#[tokio::test]
async fn a_speaker_who_changes_name_in_the_timeline_is_told_as_before_it() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let room = create(&alice).await;
    join(&bob, &room).await;
    say(&alice, &room, "x").await;
    say(&bob, &room, "old name").await;
    let renamed = json!({"membership": "join", "displayname": "Robert"});
    set_state(&bob, &room, "m.room.member", &bob.user, renamed).await;
    let lazy = filter(json!({"room": {"state": {"lazy_load_members": true}, "timeline": {"limit": 2}}}));
    let answer = sync(&alice, None, &lazy).await;
    let state = answer["rooms"]["join"][&room]["state"]["events"].as_array().unwrap().clone();
    let told = state.iter().find(|event| event["state_key"] == bob.user.as_str()).expect("bob's member event");
    assert_ne!(told["content"]["displayname"], "Robert");
}

#[tokio::test]
async fn only_the_device_that_sent_an_event_is_told_its_transaction() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let phone = node.login("alice").await;
    let room = create(&alice).await;
    let content = json!({"msgtype": "m.text", "body": "x"});
    alice.put(&path(&room, "send/m.room.message/mine"), content).await.ok();
    let transaction = |answer: &Value| {
        let events = answer["rooms"]["join"][&room]["timeline"]["events"].as_array().unwrap().clone();
        events.last().unwrap()["unsigned"]["transaction_id"].clone()
    };
    assert_eq!(transaction(&sync(&alice, None, "").await), "mine");
    assert_eq!(transaction(&sync(&phone, None, "").await), json!(null));
}

#[tokio::test]
async fn tokens_that_are_not_ours_are_refused_or_begin_anew() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let room = create(&alice).await;
    for wrong in ["nonsense", "t1_2", "s-1", "s99999999999999999999999", "s1_x"] {
        alice.get(&sync_path(Some(wrong), "")).await.fails(400, "M_INVALID_PARAM");
    }
    // A backup was restored, and the client knows more than the node.
    let answer = sync(&alice, Some("s999999_0_0"), "").await;
    assert_eq!(answer["rooms"]["join"][&room]["timeline"]["events"][0]["type"], "m.room.create");
    assert!(sync(&alice, Some(&next(&answer)), "").await["rooms"].is_null());
}

#[tokio::test]
async fn after_a_restart_a_client_is_told_what_it_missed() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let (room, quiet) = (create(&alice).await, create(&alice).await);
    join(&bob, &room).await;
    let device = Device::ready(&alice).await;
    say(&bob, &room, "while you were away").await;
    let private = create_with(&bob, json!({"invite": [alice.user]})).await;
    node.handle.stop().await;
    let node = TestNode::start_on(node.backend.clone(), |_| {}).await;
    let mut again = node.client();
    (again.token, again.user, again.device) = (alice.token.clone(), alice.user.clone(), alice.device.clone());
    let answer = sync(&again, device.since.as_deref(), "").await;
    assert_eq!(bodies(&answer, &room), ["while you were away"]);
    assert!(answer["rooms"]["join"][&quiet].is_null(), "nothing happened there");
    assert!(answer["rooms"]["invite"][&private].is_object());
    assert!(sync(&again, Some(&next(&answer)), "").await["rooms"].is_null());
}

#[tokio::test]
async fn what_is_redacted_is_told_empty() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let room = create(&alice).await;
    let mut device = Device::ready(&alice).await;
    let secret = say(&alice, &room, "secret").await;
    alice.put(&path(&room, &format!("redact/{}/r1", encoded(&secret))), json!({})).await.ok();
    let answer = device.sync("").await;
    let events = &answer["rooms"]["join"][&room]["timeline"]["events"];
    assert_eq!(events[0]["event_id"], secret.as_str());
    assert_eq!(events[0]["content"], json!({}));
    assert_eq!(events[1]["redacts"], secret.as_str());
    assert_eq!(events[0]["unsigned"]["redacted_because"]["event_id"], events[1]["event_id"]);
}
