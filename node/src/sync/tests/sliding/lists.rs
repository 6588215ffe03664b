//! Lists: order, ranges, filters, subscriptions.

use super::*;

fn list(ranges: Value, filters: Value) -> Value {
    json!({ "ranges": ranges, "timeline_limit": 1, "required_state": [], "filters": filters })
}

/// The rooms that a list with a filter has.
async fn found(client: &Client, filters: Value) -> Vec<String> {
    let mut window = Window::new(client, json!({ "lists": { "l": list(json!([[0, 99]]), filters) } }));
    let answer = window.ask().await;
    let rooms: Vec<String> = rooms_of(&answer).into_iter().map(str::to_owned).collect();
    assert_eq!(answer["lists"]["l"]["count"], rooms.len());
    rooms
}

fn sorted(rooms: &[&String]) -> Vec<String> {
    let mut rooms: Vec<String> = rooms.iter().map(|room| (*room).clone()).collect();
    rooms.sort();
    rooms
}

#[tokio::test]
async fn a_window_shows_the_rooms_where_something_happened_last_and_grows() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let mut rooms = Vec::new();
    for _ in 0..5 {
        rooms.push(create(&alice).await);
    }
    say(&alice, &rooms[1], "up").await;
    let mut window = Window::new(&alice, json!({ "lists": { "l": list(json!([[0, 1]]), json!({})) } }));
    let answer = window.ask().await;
    assert_eq!(answer["lists"]["l"]["count"], 5);
    let told: Vec<String> = rooms_of(&answer).into_iter().map(str::to_owned).collect();
    assert_eq!(told, sorted(&[&rooms[1], &rooms[4]]));
    assert_eq!(answer["rooms"][&rooms[1]]["lists"], json!(["l"]));
    // Only the rooms that are new in it.
    window.body["lists"]["l"]["ranges"] = json!([[0, 3]]);
    let answer = window.ask().await;
    let told: Vec<String> = rooms_of(&answer).into_iter().map(str::to_owned).collect();
    assert_eq!(told, sorted(&[&rooms[3], &rooms[2]]));
    // A room comes into the window by what happens in it: as a whole, with that as news.
    say(&alice, &rooms[0], "now").await;
    let answer = window.ask().await;
    assert_eq!(rooms_of(&answer), [&rooms[0]]);
    let room = &answer["rooms"][&rooms[0]];
    assert_eq!((&room["initial"], &room["num_live"], &room["limited"]), (&json!(true), &json!(1), &json!(true)));
    // What happens outside of the window is told when it comes into it again, and once.
    window.body["lists"]["l"]["ranges"] = json!([[0, 0]]);
    window.ask().await;
    window.body["lists"]["l"]["filters"] = json!({ "is_dm": true });
    say(&alice, &rooms[2], "unseen").await;
    assert!(rooms_of(&window.ask().await).is_empty());
    window.body["lists"]["l"]["filters"] = json!({});
    let answer = window.ask().await;
    assert_eq!(rooms_of(&answer), [&rooms[2]]);
    assert_eq!(texts(&answer["rooms"][&rooms[2]]["timeline"]), ["unseen"]);
    assert!(rooms_of(&window.ask().await).is_empty());
}

#[tokio::test]
async fn filters_choose_rooms_by_what_they_are() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let plain = create(&alice).await;
    let secret = create(&alice).await;
    set_state(&alice, &secret, "m.room.encryption", "", json!({ "algorithm": "m.megolm.v1.aes-sha2" })).await;
    let space = create_with(&alice, json!({ "creation_content": { "type": "m.space" } })).await;
    let child = create(&alice).await;
    set_state(&alice, &space, "m.space.child", &child, json!({ "via": ["x"] })).await;
    set_state(&alice, &space, "m.space.child", &plain, json!({})).await;
    let invited = create_with(&bob, json!({ "preset": "private_chat", "invite": [alice.user] })).await;
    let direct = create(&alice).await;
    account_data(&alice, "m.direct", json!({ &bob.user: [&direct] })).await;
    let tags = format!("/_matrix/client/v3/user/{}/rooms/{}/tags/", encoded(&alice.user), encoded(&plain));
    alice.put(&format!("{tags}m.favourite"), json!({})).await.ok();

    let all = [&plain, &secret, &space, &child, &invited, &direct];
    let but = |one: &String| sorted(&all.iter().copied().filter(|room| *room != one).collect::<Vec<_>>());
    assert_eq!(found(&alice, json!({})).await, sorted(&all));
    assert_eq!(found(&alice, json!({ "is_encrypted": true })).await, sorted(&[&secret]));
    assert_eq!(found(&alice, json!({ "is_encrypted": false })).await, but(&secret));
    assert_eq!(found(&alice, json!({ "is_dm": true })).await, sorted(&[&direct]));
    assert_eq!(found(&alice, json!({ "is_dm": false })).await, but(&direct));
    assert_eq!(found(&alice, json!({ "is_invite": true })).await, sorted(&[&invited]));
    assert_eq!(found(&alice, json!({ "is_invite": false })).await, but(&invited));
    assert_eq!(found(&alice, json!({ "room_types": ["m.space"] })).await, sorted(&[&space]));
    assert_eq!(found(&alice, json!({ "room_types": [null] })).await, but(&space));
    assert_eq!(found(&alice, json!({ "not_room_types": ["m.space"] })).await, but(&space));
    assert!(found(&alice, json!({ "room_types": ["m.space"], "not_room_types": ["m.space"] })).await.is_empty());
    assert_eq!(found(&alice, json!({ "tags": ["m.favourite", "u.other"] })).await, sorted(&[&plain]));
    assert_eq!(found(&alice, json!({ "not_tags": ["m.favourite"] })).await, but(&plain));
    assert_eq!(found(&alice, json!({ "spaces": [space] })).await, sorted(&[&child]));
    assert!(found(&bob, json!({ "spaces": [space] })).await.is_empty(), "he is not in it");
}

#[tokio::test]
async fn a_filtered_list_follows_what_becomes_of_rooms() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let room = create(&alice).await;
    let lists = json!({
        "direct": list(json!([[0, 9]]), json!({ "is_dm": true })),
        "secret": list(json!([[0, 9]]), json!({ "is_encrypted": true })),
        "favourite": list(json!([[0, 9]]), json!({ "tags": ["m.favourite"] })),
        "all": list(json!([[0, 9]]), json!({})),
    });
    let mut window = Window::new(&alice, json!({ "lists": lists }));
    let counts = |answer: &Value| ["direct", "secret", "favourite"].map(|name| answer["lists"][name]["count"].clone());
    assert_eq!(counts(&window.ask().await), [0, 0, 0]);
    account_data(&alice, "m.direct", json!({ &bob.user: [&room] })).await;
    let answer = window.ask().await;
    assert_eq!((counts(&answer), &answer["rooms"][&room]["is_dm"]), ([json!(1), json!(0), json!(0)], &json!(true)));
    set_state(&alice, &room, "m.room.encryption", "", json!({ "algorithm": "m.megolm.v1.aes-sha2" })).await;
    assert_eq!(counts(&window.ask().await), [1, 1, 0]);
    let tag = format!("/_matrix/client/v3/user/{}/rooms/{}/tags/m.favourite", encoded(&alice.user), encoded(&room));
    let waiting = window.wait();
    alice.put(&tag, json!({})).await.ok();
    let answer = soon(waiting).await;
    assert_eq!(counts(&answer), [1, 1, 1], "a change of a list's length is worth waking for");
    alice.delete(&tag).await.ok();
    account_data(&alice, "m.direct", json!({})).await;
    let answer = window.ask().await;
    assert_eq!((counts(&answer), &answer["rooms"][&room]["is_dm"]), ([json!(0), json!(1), json!(0)], &json!(false)));
}

#[tokio::test]
async fn a_subscription_tells_of_a_room_that_no_list_shows_and_of_none_that_is_foreign() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let room = create(&alice).await;
    let his = create_with(&bob, json!({ "preset": "private_chat" })).await;
    let mut window = Window::new(&alice, json!({}));
    subscribe(&mut window, &room, 1, json!([["m.room.create", ""]]));
    subscribe(&mut window, &his, 1, json!([["*", "*"]]));
    subscribe(&mut window, "!nowhere:example.org", 1, json!([["*", "*"]]));
    let answer = window.ask().await;
    assert_eq!(rooms_of(&answer), [&room]);
    assert_eq!(keys(&answer["rooms"][&room]["required_state"]), [("m.room.create".to_owned(), String::new())]);
    assert!(answer["rooms"][&room].get("lists").is_none());
    say(&alice, &room, "hello").await;
    assert_eq!(texts(&window.ask().await["rooms"][&room]["timeline"]), ["hello"]);
    window.body["room_subscriptions"].as_object_mut().unwrap().remove(&room);
    say(&alice, &room, "unheard").await;
    assert!(rooms_of(&window.ask().await).is_empty());
}

#[tokio::test]
async fn rooms_one_left_oneself_are_not_listed_and_those_one_was_put_out_of_are() {
    let node = TestNode::start().await;
    let (alice, bob) = (node.register("alice").await, node.register("bob").await);
    let (left, kicked, banned) = (create(&alice).await, create(&alice).await, create(&alice).await);
    let barred = create(&alice).await;
    for room in [&left, &kicked, &banned] {
        join(&bob, room).await;
    }
    leave(&bob, &left).await;
    act(&alice, &kicked, "kick", &bob).await;
    act(&alice, &banned, "ban", &bob).await;
    act(&alice, &barred, "ban", &bob).await;
    say(&alice, &kicked, "without him").await;
    let mut window = Window::of_all(&bob, 5, json!([["m.room.member", "$ME"]]));
    let answer = window.ask().await;
    let told: Vec<String> = rooms_of(&answer).into_iter().map(str::to_owned).collect();
    assert_eq!(told, sorted(&[&kicked, &banned]));
    let room = &answer["rooms"][&kicked];
    assert_eq!(room["membership"], "leave");
    assert_eq!(room["timeline"].as_array().unwrap().last().unwrap()["content"]["membership"], "leave");
    assert!(texts(&room["timeline"]).is_empty());
    assert_eq!(answer["rooms"][&banned]["membership"], "ban");
    let path = path(&kicked, "forget");
    bob.post(&path, json!({})).await.ok();
    assert_eq!(window.ask().await["lists"]["all"]["count"], 1, "forgotten");
}
