//! Rooms across two nodes.

use http::Method;
use kith_transport::{SecretKey, memory::MemoryHub};
use serde_json::{Value, json};

use super::world::{Person, World, bodies, encoded, eventually, text};

#[tokio::test]
async fn a_room_of_another_node_is_joined_by_its_alias_talked_in_and_left() {
    let (here, there) = World::two().await;
    let alice = here.person("alice").await;
    let bob = there.person("bob").await;
    let room = alice.create(json!({ "preset": "public_chat", "room_alias_name": "pub", "name": "Pub" })).await;
    let alias = encoded(&format!("#pub:{}", here.node().server_name()));
    let found = bob.get(&format!("/directory/room/{alias}")).await.ok();
    assert_eq!((&found["room_id"], &found["servers"]), (&json!(room), &json!([here.node().server_name()])));
    // A web page in bob's browser does not send his node to ask others, but a client may leave its token out.
    let path = format!("/directory/room/{alias}");
    let by_page = there.ask_by("Mozilla/5.0 (X11)", Method::GET, &path, None, None).await;
    by_page.refused(401, "M_MISSING_TOKEN");
    assert_eq!(there.ask(Method::GET, &path, None, None).await.ok()["room_id"], *room);
    assert_eq!(bob.post(&format!("/join/{alias}"), json!({})).await.ok()["room_id"], *room);
    assert_eq!(bob.state(&room, "m.room.name").await["name"], "Pub");
    bob.say(&room, "from there").await;
    eventually("the message arrives", async || bodies(&alice.history(&room).await) == ["from there"]).await;
    alice.say(&room, "from here").await;
    eventually("the answer arrives", async || bodies(&bob.history(&room).await) == ["from there", "from here"]).await;
    bob.post(&format!("/rooms/{room}/leave"), json!({})).await.ok();
    let member = format!("/rooms/{room}/state/m.room.member/{}", bob.id());
    eventually("the leaving is seen", async || alice.get(&member).await.ok()["membership"] == "leave").await;
    let missing = encoded(&format!("#none:{}", here.node().server_name()));
    bob.post(&format!("/join/{missing}"), json!({})).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn an_invite_to_another_node_is_taken_or_declined_there() {
    let (here, there) = World::two().await;
    let alice = here.person("alice").await;
    let bob = there.person("bob").await;
    let room = alice.create(json!({ "invite": [bob.id()], "is_direct": true })).await;
    bob.join(&room).await;
    bob.say(&room, "here I am").await;
    eventually("the message arrives", async || bodies(&alice.history(&room).await) == ["here I am"]).await;

    let other = alice.create(json!({})).await;
    bob.post(&format!("/join/{other}?via={}", here.node().server_name()), json!({})).await.refused(403, "M_FORBIDDEN");
    alice.invite(&other, bob.id()).await;
    bob.post(&format!("/rooms/{other}/leave"), json!({ "reason": "no" })).await.ok();
    let member = format!("/rooms/{other}/state/m.room.member/{}", bob.id());
    eventually("the refusal is seen", async || alice.get(&member).await.ok()["membership"] == "leave").await;
    alice
        .post(
            &format!("/rooms/{other}/invite"),
            json!({ "user_id": format!("@nobody:{}", there.node().server_name()) }),
        )
        .await
        .status
        .is_client_error()
        .then_some(())
        .expect("nobody is refused");
}

#[tokio::test]
async fn the_first_sync_after_a_join_says_that_there_is_more_and_scrolling_on_finds_it() {
    let (here, there) = World::two().await;
    let alice = here.person("alice").await;
    let bob = there.person("bob").await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    for n in 0..10 {
        alice.say(&room, &n.to_string()).await;
    }
    bob.post(&format!("/join/{room}?via={}", here.node().server_name()), json!({})).await.ok();
    bob.say(&room, "here I am").await;
    let joined = bob.get("/sync?timeout=0").await.ok()["rooms"]["join"][&room].clone();
    assert_eq!(joined["timeline"]["limited"], true);
    assert_eq!(bodies(joined["timeline"]["events"].as_array().expect("events")), ["here I am"]);
    let state = joined["state"]["events"].as_array().expect("state");
    assert!(state.iter().any(|event| event["type"] == "m.room.create"));
    assert!(state.iter().any(|event| event["state_key"] == *alice.id()));
    let from = text(&joined["timeline"]["prev_batch"]);
    let page = bob.get(&format!("/rooms/{room}/messages?dir=b&limit=10&from={from}")).await.ok();
    assert_eq!(bodies(page["chunk"].as_array().expect("a chunk")), ["9", "8", "7", "6", "5", "4", "3", "2", "1", "0"]);
}

#[tokio::test]
async fn who_takes_no_invites_is_not_invited_from_anywhere_and_told_of_none() {
    let (here, there) = World::two().await;
    let alice = here.person("alice").await;
    let carol = here.person("carol").await;
    let bob = there.person("bob").await;
    let invited = async |person: &Person<'_>| person.get("/sync?timeout=0").await.ok()["rooms"]["invite"].clone();
    let before = alice.create(json!({ "invite": [carol.id(), bob.id()] })).await;
    assert!(invited(&bob).await[&before].is_object() && invited(&carol).await[&before].is_object());
    let config = |person: &Person<'_>| format!("/user/{}/account_data/m.invite_permission_config", person.id());
    for person in [&bob, &carol] {
        person.put(&config(person), json!({ "default_action": "block" })).await.ok();
    }
    assert_eq!((invited(&bob).await, invited(&carol).await), (json!(null), json!(null)));
    let room = alice.create(json!({})).await;
    for person in [&bob, &carol] {
        let invite = format!("/rooms/{room}/invite");
        alice.post(&invite, json!({ "user_id": person.id() })).await.refused(403, "M_INVITE_BLOCKED");
        let member = format!("/rooms/{room}/state/m.room.member/{}", person.id());
        alice.put(&member, json!({ "membership": "invite" })).await.refused(403, "M_INVITE_BLOCKED");
    }
    alice.post("/createRoom", json!({ "invite": [carol.id()] })).await.refused(403, "M_INVITE_BLOCKED");
    for person in [&bob, &carol] {
        person.put(&config(person), json!({})).await.ok();
        alice.invite(&room, person.id()).await;
        assert!(invited(person).await[&room].is_object());
    }
}

#[tokio::test]
async fn invites_are_taken_of_some_ignored_of_others_and_refused_of_the_rest() {
    let (here, there) = World::two().await;
    let (alice, carol) = (here.person("alice").await, here.person("carol").await);
    let bob = there.person("bob").await;
    let invited = async |person: &Person<'_>| person.get("/sync?timeout=0").await.ok()["rooms"]["invite"].clone();
    let config =
        |person: &Person<'_>| format!("/user/{}/account_data/org.matrix.msc4155.invite_permission_config", person.id());
    let server = here.node().server_name();
    // Of the whole server nobody, but for Carol.
    let some = json!({ "allowed_users": [carol.id()], "blocked_servers": [server] });
    bob.put(&config(&bob), some).await.ok();
    let room = alice.create(json!({})).await;
    let invite = |room: &str| format!("/rooms/{room}/invite");
    alice.post(&invite(&room), json!({ "user_id": bob.id() })).await.refused(403, "M_INVITE_BLOCKED");
    let hers = carol.create(json!({})).await;
    carol.invite(&hers, bob.id()).await;
    assert!(invited(&bob).await[&hers].is_object());
    // Who is ignored does not notice.
    carol.put(&config(&carol), json!({ "ignored_users": ["@ali?e:*"] })).await.ok();
    alice.invite(&room, carol.id()).await;
    assert_eq!(invited(&carol).await, json!(null));
    let membership = alice.get(&format!("/rooms/{room}/state/m.room.member/{}", carol.id())).await.ok();
    assert_eq!(membership["membership"], "invite");
    // When she changes her mind, she finds it.
    carol.put(&config(&carol), json!({ "enabled": false, "ignored_users": ["*"] })).await.ok();
    assert!(invited(&carol).await[&room].is_object());
}

#[tokio::test]
async fn who_joins_late_scrolls_back_through_history_that_only_the_other_node_had() {
    let (here, there) = World::two().await;
    let alice = here.person("alice").await;
    let bob = there.person("bob").await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    let said: Vec<String> = (0..230).map(|n| n.to_string()).collect();
    for body in &said {
        alice.say(&room, body).await;
    }
    bob.post(&format!("/join/{room}?via={}", here.node().server_name()), json!({})).await.ok();
    let history = bob.history(&room).await;
    assert_eq!(bodies(&history), said);
    assert_eq!(history[0]["type"], "m.room.create");
}

#[tokio::test]
async fn the_event_closest_to_a_time_is_found_in_history_that_only_the_other_node_has() {
    let (here, there) = World::two().await;
    let alice = here.person("alice").await;
    let bob = there.person("bob").await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    let mut said = Vec::new();
    for n in 0..230 {
        said.push(alice.say(&room, &n.to_string()).await);
    }
    let time = alice.get(&format!("/rooms/{room}/event/{}", said[30])).await.ok()["origin_server_ts"].clone();
    bob.post(&format!("/join/{room}?via={}", here.node().server_name()), json!({})).await.ok();
    let path = format!("/_matrix/client/v1/rooms/{room}/timestamp_to_event?ts={time}&dir=");
    // Time stands still for some events: those with this time are equally close, the first and the last of them are meant.
    for dir in ["f", "b"] {
        let expected = alice.get(&format!("{path}{dir}")).await.ok();
        let found = bob.get(&format!("{path}{dir}")).await.ok();
        assert_eq!(found, expected, "{dir}");
        let id = text(&found["event_id"]);
        assert_eq!(text(&bob.get(&format!("/rooms/{room}/context/{id}?limit=3")).await.ok()["event"]["event_id"]), id);
    }
    // Nobody has anything before the room.
    bob.get(&format!("/_matrix/client/v1/rooms/{room}/timestamp_to_event?ts=1&dir=b"))
        .await
        .refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn members_at_a_sync_token_are_those_of_all_branches_that_had_come_by_then() {
    let hub = MemoryHub::new();
    let (here, there) = World::two_on(&hub).await;
    let alice = here.person("alice").await;
    let carol = here.person("carol").await;
    let bob = there.person("bob").await;
    let dave = there.person("dave").await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    bob.post(&format!("/join/{room}?via={}", here.node().server_name()), json!({})).await.ok();
    hub.isolate(SecretKey::from_seed([2; 32]).public());
    carol.join(&room).await;
    dave.join(&room).await;
    hub.rejoin(SecretKey::from_seed([2; 32]).public());
    let member = format!("/rooms/{room}/state/m.room.member/{}", dave.id());
    eventually("dave is seen", async || alice.get(&member).await.status == 200).await;
    let token = text(&alice.get("/sync?timeout=0").await.ok()["next_batch"]);
    let members = alice.get(&format!("/rooms/{room}/members?at={token}")).await.ok();
    let members: Vec<&str> =
        members["chunk"].as_array().expect("a chunk").iter().filter_map(|event| event["state_key"].as_str()).collect();
    for person in [&alice, &bob, &carol, &dave] {
        assert!(members.contains(&person.id()), "{} is not among {members:?}", person.id());
    }
}

#[tokio::test]
async fn a_node_asks_another_for_its_rooms_and_what_stands_in_its_spaces() {
    let (here, there) = World::two().await;
    let alice = here.person("alice").await;
    let bob = there.person("bob").await;
    let via = json!([here.node().server_name()]);
    let space = alice
        .create(json!({ "visibility": "public", "name": "Space", "creation_content": { "type": "m.space" } }))
        .await;
    let open = alice.create(json!({ "preset": "public_chat", "name": "Open" })).await;
    let closed = alice.create(json!({})).await;
    for child in [&open, &closed] {
        alice.put(&format!("/rooms/{space}/state/m.space.child/{child}"), json!({ "via": via })).await.ok();
    }
    let list = bob.post(&format!("/publicRooms?server={}", here.node().server_name()), json!({})).await.ok();
    assert_eq!(list["chunk"].as_array().map(Vec::len), Some(1));
    assert_eq!(list["chunk"][0]["room_id"], *space);
    let path = format!("/publicRooms?server={}", here.node().server_name());
    assert_eq!(bob.get(&path).await.ok()["chunk"], list["chunk"]);
    there.ask(Method::GET, &path, None, None).await.refused(401, "M_MISSING_TOKEN");
    bob.post(&format!("/join/{space}?via={}", here.node().server_name()), json!({})).await.ok();
    let tree = bob.get(&format!("/_matrix/client/v1/rooms/{space}/hierarchy")).await.ok();
    let ids: Vec<String> = tree["rooms"].as_array().expect("rooms").iter().map(|room| text(&room["room_id"])).collect();
    assert_eq!(ids, [space, open.clone()]);
    let summary =
        bob.get(&format!("/_matrix/client/v1/room_summary/{open}?via={}", here.node().server_name())).await.ok();
    assert_eq!((&summary["name"], &summary["membership"]), (&json!("Open"), &json!("leave")));
    bob.get(&format!("/_matrix/client/v1/room_summary/{closed}?via={}", here.node().server_name()))
        .await
        .refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn a_knock_on_another_nodes_door_is_answered_by_an_invite() {
    let (here, there) = World::two().await;
    let alice = here.person("alice").await;
    let bob = there.person("bob").await;
    let rule = json!([{ "type": "m.room.join_rules", "content": { "join_rule": "knock" } }]);
    let room = alice.create(json!({ "initial_state": rule })).await;
    let knock = format!("/knock/{room}?via={}", here.node().server_name());
    bob.post(&knock, json!({ "reason": "hello?" })).await.ok();
    let member = format!("/rooms/{room}/state/m.room.member/{}", bob.id());
    let seen: Value = alice.get(&member).await.ok();
    assert_eq!((&seen["membership"], &seen["reason"]), (&json!("knock"), &json!("hello?")));
    alice.invite(&room, bob.id()).await;
    bob.join(&room).await;
    assert_eq!(alice.get(&member).await.ok()["membership"], "join");
}
