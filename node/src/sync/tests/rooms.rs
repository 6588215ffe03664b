//! Coming into rooms and leaving them.

use serde_json::json;

use super::*;

fn membership(answer: &Value, part: &str, room: &str) -> Value {
    let events = answer["rooms"][part][room]["timeline"]["events"].as_array().cloned().unwrap_or_default();
    events.last().map_or(Value::Null, |event| event["content"]["membership"].clone())
}

#[tokio::test]
async fn a_newly_joined_room_is_told_whole_though_the_token_is_older() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let room = create_with(&alice, json!({"preset": "public_chat", "name": "Lobby"})).await;
    for number in 0..30 {
        say(&alice, &room, &number.to_string()).await;
    }
    let mut device = Device::ready(&bob).await;
    say(&alice, &room, "30").await;
    join(&bob, &room).await;
    say(&alice, &room, "31").await;
    let answer = device.sync("").await;
    let joined = &answer["rooms"]["join"][&room];
    let expected: Vec<String> = (13..32).map(|number: u32| number.to_string()).collect();
    assert_eq!(bodies(&answer, &room), expected);
    assert_eq!(joined["timeline"]["limited"], true);
    let state = keys(&joined["state"]["events"]);
    assert!(state.contains(&("m.room.name".to_owned(), String::new())), "{state:?}");
    assert!(state.contains(&("m.room.member".to_owned(), alice.user.clone())), "{state:?}");
    assert_eq!(joined["summary"]["m.joined_member_count"], 2);
    assert!(device.sync("").await["rooms"].is_null());
}

#[tokio::test]
async fn an_invite_is_told_once_and_ends_when_it_is_declined_or_taken_back() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let mut device = Device::ready(&bob).await;
    let room = create_with(&alice, json!({"name": "Secret", "invite": [bob.user]})).await;
    let answer = device.sync("").await;
    let state = &answer["rooms"]["invite"][&room]["invite_state"]["events"];
    let told = keys(state);
    for key in [("m.room.create", ""), ("m.room.name", ""), ("m.room.member", bob.user.as_str())] {
        assert!(told.contains(&(key.0.to_owned(), key.1.to_owned())), "{key:?} is not in {told:?}");
    }
    assert!(state[0].get("event_id").is_none() && state[0].get("unsigned").is_none());
    // What happens in a room one is not in is nobody's business.
    say(&alice, &room, "he has not come yet").await;
    assert!(device.sync("").await["rooms"].is_null());
    leave(&bob, &room).await;
    let answer = device.sync("").await;
    assert_eq!(membership(&answer, "leave", &room), "leave");
    assert_eq!(answer["rooms"]["leave"][&room]["timeline"]["events"].as_array().unwrap().len(), 1);
    assert!(answer["rooms"]["leave"][&room]["state"].is_null());
    act(&alice, &room, "invite", &bob).await;
    assert!(device.sync("").await["rooms"]["invite"][&room].is_object());
    act(&alice, &room, "kick", &bob).await;
    let answer = device.sync("").await;
    assert_eq!(membership(&answer, "leave", &room), "leave");
    act(&alice, &room, "invite", &bob).await;
    join(&bob, &room).await;
    let answer = device.sync("").await;
    assert!(answer["rooms"]["invite"].is_null(), "an invite that was taken up is none");
    assert!(answer["rooms"]["join"][&room].is_object());
}

#[tokio::test]
async fn a_room_that_was_left_shows_everything_up_to_the_leave_and_nothing_after() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let room = create(&alice).await;
    join(&bob, &room).await;
    let mut device = Device::ready(&bob).await;
    say(&alice, &room, "still here").await;
    leave(&bob, &room).await;
    say(&alice, &room, "gone").await;
    set_state(&alice, &room, "m.room.topic", "", json!({"topic": "about bob"})).await;
    let answer = device.sync("").await;
    let left = &answer["rooms"]["leave"][&room];
    assert_eq!(texts(&left["timeline"]["events"]), ["still here"]);
    assert_eq!(membership(&answer, "leave", &room), "leave");
    assert!(!answer.to_string().contains("about bob"));
    assert!(answer["rooms"]["join"].is_null());
    assert!(device.sync("").await["rooms"].is_null());
    // A first sync shows it only on request, and no more than before.
    assert!(sync(&bob, None, "").await["rooms"].is_null());
    let answer = sync(&bob, None, &filter(json!({"room": {"include_leave": true}}))).await;
    let left = &answer["rooms"]["leave"][&room];
    assert_eq!(texts(&left["timeline"]["events"]), ["still here"]);
    assert!(!answer.to_string().contains("about bob"));
    bob.post(&path(&room, "forget"), json!({})).await.ok();
    let answer = sync(&bob, None, &filter(json!({"room": {"include_leave": true}}))).await;
    assert!(answer["rooms"].is_null(), "it was forgotten");
}

#[tokio::test]
async fn a_declined_invite_after_a_stay_leaks_nothing_of_the_time_between() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let room = create(&alice).await;
    join(&bob, &room).await;
    let mut device = Device::ready(&bob).await;
    let early = device.since.clone();
    leave(&bob, &room).await;
    device.sync("").await;
    say(&alice, &room, "secret").await;
    set_state(&alice, &room, "m.room.topic", "", json!({"topic": "secret"})).await;
    act(&alice, &room, "invite", &bob).await;
    leave(&bob, &room).await;
    let answer = device.sync("").await;
    assert_eq!(membership(&answer, "leave", &room), "leave");
    assert_eq!(answer["rooms"]["leave"][&room]["timeline"]["events"].as_array().unwrap().len(), 1);
    assert!(!answer.to_string().contains("secret"), "{answer}");
    // The same for a client that slept through all of it.
    let answer = sync(&bob, early.as_deref(), "").await;
    assert_eq!(membership(&answer, "leave", &room), "leave");
    assert!(!answer.to_string().contains("secret"), "{answer}");
    act(&alice, &room, "ban", &bob).await;
    let answer = device.sync("").await;
    assert_eq!(membership(&answer, "leave", &room), "ban");
    assert!(!answer.to_string().contains("secret"), "{answer}");
}

#[tokio::test]
async fn who_is_kicked_or_banned_learns_it_and_who_comes_back_gets_the_room_anew() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let room = create(&alice).await;
    join(&bob, &room).await;
    let mut device = Device::ready(&bob).await;
    act(&alice, &room, "kick", &bob).await;
    let answer = device.sync("").await;
    let kick = &answer["rooms"]["leave"][&room]["timeline"]["events"][0];
    assert_eq!((&kick["sender"], &kick["content"]["membership"]), (&json!(alice.user), &json!("leave")));
    set_state(&alice, &room, "m.room.topic", "", json!({"topic": "without bob"})).await;
    join(&bob, &room).await;
    let answer = device.sync("").await;
    let joined = &answer["rooms"]["join"][&room];
    assert_eq!(joined["timeline"]["limited"], true, "it does not join on to what was before the kick");
    let all = [keys(&joined["state"]["events"]), keys(&joined["timeline"]["events"])].concat();
    assert!(all.contains(&("m.room.create".to_owned(), String::new())));
    assert!(all.contains(&("m.room.topic".to_owned(), String::new())));
    act(&alice, &room, "ban", &bob).await;
    let answer = device.sync("").await;
    assert_eq!(membership(&answer, "leave", &room), "ban");
    act(&alice, &room, "unban", &bob).await;
    assert_eq!(membership(&device.sync("").await, "leave", &room), "leave");
}

#[tokio::test]
async fn a_knock_is_told_to_who_knocks_and_to_the_room() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let rules = json!({"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}});
    let room = create_with(&alice, json!({"name": "Club", "initial_state": [rules]})).await;
    let (mut inside, mut outside) = (Device::ready(&alice).await, Device::ready(&bob).await);
    bob.post(&format!("/_matrix/client/v3/knock/{}", encoded(&room)), json!({"reason": "let me in"})).await.ok();
    let answer = outside.sync("").await;
    let state = keys(&answer["rooms"]["knock"][&room]["knock_state"]["events"]);
    assert!(state.contains(&("m.room.name".to_owned(), String::new())), "{state:?}");
    let answer = inside.sync("").await;
    assert_eq!(membership(&answer, "join", &room), "knock");
    act(&alice, &room, "kick", &bob).await;
    assert_eq!(membership(&outside.sync("").await, "leave", &room), "leave");
}

#[tokio::test]
async fn history_from_before_the_join_is_told_only_where_it_is_shared() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    for (setting, sees) in [("shared", true), ("world_readable", true), ("invited", false), ("joined", false)] {
        let visibility = json!({
            "type": "m.room.history_visibility", "state_key": "", "content": {"history_visibility": setting}
        });
        let room = create_with(&alice, json!({"preset": "public_chat", "initial_state": [visibility]})).await;
        say(&alice, &room, "before").await;
        let mut device = Device::ready(&bob).await;
        join(&bob, &room).await;
        say(&alice, &room, "after").await;
        let answer = device.sync("").await;
        let expected: &[&str] = if sees { &["before", "after"] } else { &["after"] };
        assert_eq!(bodies(&answer, &room), expected, "{setting}");
        assert_eq!(bodies(&sync(&bob, None, "").await, &room), expected, "{setting}, first sync");
    }
}

#[tokio::test]
async fn ignored_users_are_not_heard_but_their_state_is() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let room = create(&alice).await;
    join(&bob, &room).await;
    account_data(&alice, "m.ignored_user_list", json!({"ignored_users": {bob.user.as_str(): {}}})).await;
    let mut device = Device::ready(&alice).await;
    say(&bob, &room, "can you hear me?").await;
    set_state(&bob, &room, "m.room.member", &bob.user, json!({"membership": "join", "displayname": "B"})).await;
    create_with(&bob, json!({"invite": [alice.user]})).await;
    let answer = device.sync("").await;
    assert!(bodies(&answer, &room).is_empty());
    assert_eq!(membership(&answer, "join", &room), "join");
    assert!(answer["rooms"]["invite"].is_null());
    assert_eq!(answer["rooms"]["join"][&room]["unread_notifications"]["notification_count"], 0);
    assert!(sync(&alice, None, "").await["rooms"]["invite"].is_null());
    account_data(&alice, "m.ignored_user_list", json!({"ignored_users": {}})).await;
    say(&bob, &room, "and now?").await;
    assert_eq!(bodies(&device.sync("").await, &room), ["and now?"]);
}

#[tokio::test]
async fn account_data_and_tags_are_told_to_other_devices_and_again_with_a_room_that_is_joined_anew() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let room = create(&alice).await;
    join(&bob, &room).await;
    let phone = node.login("bob").await;
    let mut device = Device::ready(&phone).await;
    account_data(&bob, "org.example.setting", json!({"a": 1})).await;
    let tag = format!("/_matrix/client/v3/user/{}/rooms/{}/tags/m.favourite", encoded(&bob.user), encoded(&room));
    bob.put(&tag, json!({"order": 0.5})).await.ok();
    let answer = device.sync("").await;
    assert_eq!(answer["account_data"]["events"], json!([{"type": "org.example.setting", "content": {"a": 1}}]));
    let tags = &answer["rooms"]["join"][&room]["account_data"]["events"];
    assert_eq!(tags[0]["content"]["tags"]["m.favourite"]["order"], 0.5);
    assert!(device.sync("").await["account_data"].is_null());
    leave(&bob, &room).await;
    device.sync("").await;
    join(&bob, &room).await;
    let answer = device.sync("").await;
    assert_eq!(answer["rooms"]["join"][&room]["account_data"]["events"][0]["type"], "m.tag");
}
