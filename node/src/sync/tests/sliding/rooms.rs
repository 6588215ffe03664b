//! What is told of a room.

use super::*;

fn names(events: &Value) -> Vec<String> {
    keys(events).into_iter().map(|(kind, key)| format!("{kind} {key}").trim().to_owned()).collect()
}

#[tokio::test]
async fn a_room_is_told_as_a_whole_and_then_only_what_changes() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let room = create(&alice).await;
    let mut window = Window::of_all(&alice, 2, json!([["m.room.topic", ""], ["m.room.join_rules", ""]]));
    say(&alice, &room, "one").await;
    say(&alice, &room, "two").await;
    let told = window.ask().await["rooms"][&room].clone();
    assert_eq!(texts(&told["timeline"]), ["one", "two"]);
    assert_eq!(told["num_live"], 0, "who begins has no news");
    assert_eq!((&told["joined_count"], &told["invited_count"]), (&json!(1), &json!(0)));
    assert_eq!(told["heroes"], json!([]));
    assert_eq!(names(&told["required_state"]), ["m.room.join_rules"]);
    assert!(told.get("name").is_none() && told.get("avatar").is_none() && told.get("is_dm").is_none());
    assert!(told["prev_batch"].is_string() && told["limited"] == true && told["membership"] == "join");
    let bump = told["bump_stamp"].as_u64().unwrap();

    set_state(&alice, &room, "m.room.topic", "", json!({ "topic": "t" })).await;
    let told = window.ask().await["rooms"][&room].clone();
    assert_eq!(names(&told["required_state"]), ["m.room.topic"]);
    assert_eq!(told["timeline"].as_array().unwrap().len(), 1);
    for untold in ["initial", "joined_count", "heroes", "bump_stamp", "name", "notification_count", "limited"] {
        assert!(told.get(untold).is_none(), "{untold}: {told}");
    }
    act(&alice, &room, "invite", &bob).await;
    let told = window.ask().await["rooms"][&room].clone();
    assert_eq!(told["invited_count"], 1);
    assert_eq!(told["heroes"][0]["user_id"], bob.user);
    join(&bob, &room).await;
    let told = window.ask().await["rooms"][&room].clone();
    assert_eq!((&told["joined_count"], &told["invited_count"]), (&json!(2), &json!(0)));
    assert_eq!(told["heroes"][0]["displayname"], "bob");
    set_state(&alice, &room, "m.room.name", "", json!({ "name": "A room" })).await;
    set_state(&alice, &room, "m.room.avatar", "", json!({ "url": "mxc://x/y" })).await;
    let told = window.ask().await["rooms"][&room].clone();
    assert_eq!((&told["name"], &told["avatar"]), (&json!("A room"), &json!("mxc://x/y")));
    assert!(told.get("heroes").is_none());
    set_state(&alice, &room, "m.room.name", "", json!({})).await;
    set_state(&alice, &room, "m.room.avatar", "", json!({})).await;
    let told = window.ask().await["rooms"][&room].clone();
    assert_eq!((&told["name"], &told["avatar"]), (&Value::Null, &Value::Null));
    assert!(told.as_object().unwrap().contains_key("name") && told.as_object().unwrap().contains_key("avatar"));
    assert_eq!(told["heroes"][0]["user_id"], bob.user);
    say(&bob, &room, "hello").await;
    let told = window.ask().await["rooms"][&room].clone();
    assert!(told["bump_stamp"].as_u64().unwrap() > bump);
    assert_eq!((&told["notification_count"], &told["highlight_count"]), (&json!(1), &json!(0)));
    let event = told["timeline"][0]["event_id"].as_str().unwrap();
    alice.post(&path(&room, &format!("receipt/m.read/{}", encoded(event))), json!({})).await.ok();
    assert_eq!(window.ask().await["rooms"][&room]["notification_count"], 0);
}

#[tokio::test]
async fn a_larger_limit_brings_older_events_and_says_so() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let room = create(&alice).await;
    for number in 1..=6 {
        say(&alice, &room, &number.to_string()).await;
    }
    let mut window = Window::of_all(&alice, 1, json!([]));
    assert_eq!(texts(&window.ask().await["rooms"][&room]["timeline"]), ["6"]);
    say(&alice, &room, "7").await;
    assert_eq!(texts(&window.ask().await["rooms"][&room]["timeline"]), ["7"]);
    // It has two already.
    window.body["lists"]["all"]["timeline_limit"] = json!(2);
    assert!(rooms_of(&window.ask().await).is_empty());
    say(&alice, &room, "8").await;
    subscribe(&mut window, &room, 5, json!([]));
    let told = window.ask().await["rooms"][&room].clone();
    assert_eq!(texts(&told["timeline"]), ["4", "5", "6", "7", "8"]);
    assert_eq!((&told["unstable_expanded_timeline"], &told["num_live"]), (&json!(true), &json!(1)));
    assert!(told.get("initial").is_none() && told["limited"] == true);
    assert!(rooms_of(&window.ask().await).is_empty(), "once");
    // From where it begins, scrolling goes on without a gap.
    let from = encoded(told["prev_batch"].as_str().unwrap());
    let page = alice.get(&path(&room, &format!("messages?dir=b&limit=3&from={from}"))).await.ok();
    assert_eq!(texts(&page["chunk"]), ["3", "2", "1"]);
    // A smaller one, and again: the client has them.
    window.body["room_subscriptions"] = json!({});
    window.ask().await;
    subscribe(&mut window, &room, 5, json!([]));
    assert!(rooms_of(&window.ask().await).is_empty());
    // A gap ends what it has.
    window.body["room_subscriptions"] = json!({});
    for number in 9..=12 {
        say(&alice, &room, &number.to_string()).await;
    }
    let told = window.ask().await["rooms"][&room].clone();
    assert_eq!((texts(&told["timeline"]), &told["limited"]), (vec!["11".to_owned(), "12".to_owned()], &json!(true)));
    subscribe(&mut window, &room, 4, json!([]));
    assert_eq!(texts(&window.ask().await["rooms"][&room]["timeline"]), ["9", "10", "11", "12"]);
}

#[tokio::test]
async fn more_required_state_is_told_at_once() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let room = create(&alice).await;
    set_state(&alice, &room, "m.room.topic", "", json!({ "topic": "t" })).await;
    let mut window = Window::of_all(&alice, 1, json!([["m.room.create", ""]]));
    assert_eq!(names(&window.ask().await["rooms"][&room]["required_state"]), ["m.room.create"]);
    subscribe(&mut window, &room, 1, json!([["m.room.topic", ""], ["m.room.create", ""]]));
    assert_eq!(names(&window.ask().await["rooms"][&room]["required_state"]), ["m.room.topic"]);
    window.body["room_subscriptions"] = json!({});
    window.ask().await;
    set_state(&alice, &room, "m.room.topic", "", json!({ "topic": "u" })).await;
    assert!(window.ask().await["rooms"][&room].get("required_state").is_none(), "not required now");
    subscribe(&mut window, &room, 1, json!({ "include": [{ "type": "m.room.topic" }] }));
    let told = window.ask().await["rooms"][&room].clone();
    assert_eq!(told["required_state"][0]["content"]["topic"], "u");
    subscribe(&mut window, &room, 1, json!([["*", "*"]]));
    let told = names(&window.ask().await["rooms"][&room]["required_state"]);
    assert!(told.contains(&"m.room.power_levels".to_owned()) && !told.contains(&"m.room.topic".to_owned()), "{told:?}");
}

#[tokio::test]
async fn members_are_told_as_they_are_needed() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let room = create(&alice).await;
    let mut others = Vec::new();
    for name in ["bob", "carol", "dave"] {
        let other = node.register(name).await;
        join(&other, &room).await;
        say(&other, &room, name).await;
        others.push(other);
    }
    say(&others[0], &room, "last").await;
    let members = |told: &Value| -> Vec<String> {
        let keys = keys(&told["required_state"]).into_iter().filter(|(kind, _)| kind == "m.room.member");
        keys.map(|(_, key)| key).collect()
    };
    let required = json!([["*", "*"], ["m.room.member", "$LAZY"], ["m.room.member", "$ME"]]);
    let mut window = Window::of_all(&alice, 1, required);
    let told = window.ask().await["rooms"][&room].clone();
    assert_eq!(members(&told), [alice.user.clone(), others[0].user.clone()]);
    assert!(names(&told["required_state"]).contains(&"m.room.create".to_owned()));
    say(&others[0], &room, "known").await;
    assert!(members(&window.ask().await["rooms"][&room]).is_empty(), "told already");
    say(&others[1], &room, "new").await;
    assert_eq!(members(&window.ask().await["rooms"][&room]), [others[1].user.clone()]);
    // What changes without a gap is told of anybody.
    leave(&others[2], &room).await;
    assert_eq!(members(&window.ask().await["rooms"][&room]), [others[2].user.clone()]);
    // And with a gap only of those who are seen.
    join(&others[2], &room).await;
    say(&others[0], &room, "after").await;
    let told = window.ask().await["rooms"][&room].clone();
    assert_eq!((&told["limited"], members(&told)), (&json!(true), vec![]));
}

#[tokio::test]
async fn an_invite_shows_its_stripped_state_and_nothing_else_until_it_is_accepted() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let body = json!({ "preset": "private_chat", "name": "Secret", "invite": [bob.user] });
    let room = create_with(&alice, body).await;
    say(&alice, &room, "hidden").await;
    let mut window = Window::of_all(&bob, 10, json!([["*", "*"]]));
    let told = window.ask().await["rooms"][&room].clone();
    let state = told["invite_state"].as_array().unwrap();
    assert!(state.iter().any(|event| event["type"] == "m.room.name" && event["content"]["name"] == "Secret"));
    assert!(state.iter().any(|event| event["type"] == "m.room.member" && event["state_key"] == bob.user));
    for hidden in ["timeline", "required_state", "name", "heroes", "joined_count", "prev_batch"] {
        assert!(told.get(hidden).is_none(), "{hidden}");
    }
    say(&alice, &room, "still hidden").await;
    assert!(rooms_of(&window.ask().await).is_empty());
    join(&bob, &room).await;
    let told = window.ask().await["rooms"][&room].clone();
    assert_eq!(
        (&told["initial"], &told["membership"], &told["name"]),
        (&json!(true), &json!("join"), &json!("Secret"))
    );
    leave(&bob, &room).await;
    say(&alice, &room, "gone").await;
    let told = window.ask().await["rooms"][&room].clone();
    assert_eq!(told["membership"], "leave");
    assert!(texts(&told["timeline"]).is_empty());
    assert_eq!(told["timeline"][0]["content"]["membership"], "leave");
    assert!(rooms_of(&window.ask().await).is_empty());
    // An invite that is declined, and one that is withdrawn.
    for ending in ["leave", "kick"] {
        act(&alice, &room, "invite", &bob).await;
        let told = window.ask().await["rooms"][&room].clone();
        assert_eq!((&told["membership"], told["invite_state"].is_array()), (&json!("invite"), true));
        match ending {
            "leave" => leave(&bob, &room).await,
            _ => act(&alice, &room, "kick", &bob).await,
        }
        let told = window.ask().await["rooms"][&room].clone();
        assert_eq!((&told["membership"], texts(&told["timeline"]).len()), (&json!("leave"), 0));
    }
}

#[tokio::test]
async fn invites_of_ignored_users_and_blocked_ones_are_not_shown() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    create_with(&bob, json!({ "preset": "private_chat", "invite": [alice.user] })).await;
    let mut window = Window::of_all(&alice, 1, json!([]));
    assert_eq!(window.ask().await["lists"]["all"]["count"], 1);
    account_data(&alice, "m.ignored_user_list", json!({ "ignored_users": { &bob.user: {} } })).await;
    assert_eq!(window.ask().await["lists"]["all"]["count"], 0);
    account_data(&alice, "m.ignored_user_list", json!({ "ignored_users": {} })).await;
    assert_eq!(window.ask().await["lists"]["all"]["count"], 1);
    account_data(&alice, "m.invite_permission_config", json!({ "default_action": "block" })).await;
    assert_eq!(window.ask().await["lists"]["all"]["count"], 0);
}
