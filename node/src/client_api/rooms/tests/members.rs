//! Joining, inviting, knocking, leaving, kicking, banning, forgetting.

use serde_json::{Value, json};

use super::world::{Person, World, text};

async fn membership(person: &Person<'_>, room: &str, user: &str) -> Value {
    person.get(&format!("/rooms/{room}/state/m.room.member/{user}")).await.ok()["membership"].clone()
}

#[tokio::test]
async fn only_the_invited_join_a_room_by_invite() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    let room = alice.create(json!({ "preset": "private_chat" })).await;
    bob.post(&format!("/rooms/{room}/join"), json!({})).await.refused(403, "M_FORBIDDEN");
    alice.invite(&room, bob.id()).await;
    assert_eq!(membership(&alice, &room, bob.id()).await, "invite");
    let answer = bob.post(&format!("/join/{room}"), json!({ "reason": "to talk" })).await.ok();
    assert_eq!(answer["room_id"], *room);
    assert_eq!(bob.get("/joined_rooms").await.ok()["joined_rooms"], json!([room]));
    // Joining again changes nothing.
    let before = alice.history(&room).await.len();
    bob.join(&room).await;
    assert_eq!(alice.history(&room).await.len(), before);
    alice.post(&format!("/rooms/{room}/invite"), json!({ "user_id": bob.id() })).await.refused(403, "M_FORBIDDEN");
    bob.post("/rooms/!nowhere/join", json!({})).await.refused(404, "M_NOT_FOUND");
    bob.post("/join/nonsense", json!({})).await.refused(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn a_member_of_an_admitted_room_joins_a_restricted_one_vouched_for() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    let eve = world.person("eve").await;
    let space = alice.create(json!({ "preset": "public_chat", "creation_content": { "type": "m.space" } })).await;
    let rule = json!({ "join_rule": "restricted", "allow": [{ "type": "m.room_membership", "room_id": space }] });
    let room = alice.create(json!({ "initial_state": [{ "type": "m.room.join_rules", "content": rule }] })).await;
    bob.join(&space).await;
    bob.join(&room).await;
    let member = bob.get(&format!("/rooms/{room}/state/m.room.member/{}", bob.id())).await.ok();
    assert_eq!(member["join_authorised_via_users_server"], *alice.id());
    eve.post(&format!("/rooms/{room}/join"), json!({})).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn kicks_bans_and_unbans_need_power_and_do_what_they_say() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    let carol = world.person("carol").await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    bob.join(&room).await;
    carol.join(&room).await;
    let act = |what: &str| format!("/rooms/{room}/{what}");
    let target = |user: &Person<'_>| json!({ "user_id": user.id(), "reason": "rude" });
    bob.post(&act("kick"), target(&carol)).await.refused(403, "M_FORBIDDEN");
    bob.post(&act("ban"), target(&carol)).await.refused(403, "M_FORBIDDEN");
    alice.post(&act("kick"), target(&bob)).await.ok();
    assert_eq!(membership(&alice, &room, bob.id()).await, "leave");
    alice.post(&act("kick"), target(&bob)).await.refused(403, "M_FORBIDDEN");
    bob.join(&room).await;
    alice.post(&act("ban"), target(&bob)).await.ok();
    let ban = alice.get(&format!("/rooms/{room}/state/m.room.member/{}", bob.id())).await.ok();
    assert_eq!((&ban["membership"], &ban["reason"]), (&json!("ban"), &json!("rude")));
    bob.post(&act("join"), json!({})).await.refused(403, "M_FORBIDDEN");
    alice.post(&act("invite"), target(&bob)).await.refused(403, "M_FORBIDDEN");
    bob.post(&act("leave"), json!({})).await.refused(403, "M_FORBIDDEN");
    alice.post(&act("unban"), target(&carol)).await.refused(403, "M_BAD_STATE");
    alice.post(&act("unban"), target(&bob)).await.ok();
    bob.join(&room).await;
    assert_eq!(membership(&alice, &room, bob.id()).await, "join");
}

#[tokio::test]
async fn a_room_is_left_declined_and_forgotten() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    let room = alice.create(json!({ "invite": [bob.id()] })).await;
    bob.post(&format!("/rooms/{room}/forget"), json!({})).await.refused(400, "M_UNKNOWN");
    bob.post(&format!("/rooms/{room}/leave"), json!({ "reason": "no thanks" })).await.ok();
    assert_eq!(membership(&alice, &room, bob.id()).await, "leave");
    bob.post(&format!("/rooms/{room}/leave"), json!({})).await.ok();
    bob.post(&format!("/rooms/{room}/join"), json!({})).await.refused(403, "M_FORBIDDEN");
    bob.post(&format!("/rooms/{room}/forget"), json!({})).await.ok();
    alice.invite(&room, bob.id()).await;
    bob.join(&room).await;
    assert_eq!(bob.get("/joined_rooms").await.ok()["joined_rooms"], json!([room]), "a new invite is not forgotten");
    bob.post(&format!("/rooms/{room}/leave"), json!({})).await.ok();
    alice.invite(&room, bob.id()).await;
    bob.put(&format!("/rooms/{room}/state/m.room.member/{}", bob.id()), json!({ "membership": "leave" })).await.ok();
    assert_eq!(membership(&alice, &room, bob.id()).await, "leave", "declined by its state event");
    bob.post("/rooms/!nowhere/leave", json!({})).await.refused(404, "M_NOT_FOUND");
    bob.post("/rooms/!nowhere/forget", json!({})).await.refused(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn a_forgotten_room_cannot_be_read_any_more() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    let room = alice.create(json!({ "preset": "public_chat", "name": "then" })).await;
    bob.join(&room).await;
    let said = alice.say(&room, "while bob was here").await;
    bob.post(&format!("/rooms/{room}/leave"), json!({})).await.ok();
    assert_eq!(bob.state(&room, "m.room.name").await["name"], "then");
    bob.post(&format!("/rooms/{room}/forget"), json!({})).await.ok();
    for path in ["messages?dir=b", "members", "state", "state/m.room.name/", &format!("context/{said}")] {
        bob.get(&format!("/rooms/{room}/{path}")).await.refused(403, "M_FORBIDDEN");
    }
    bob.get(&format!("/rooms/{room}/event/{said}")).await.refused(404, "M_NOT_FOUND");
    bob.join(&room).await;
    assert_eq!(bob.get(&format!("/rooms/{room}/event/{said}")).await.ok()["event_id"], *said);
}

#[tokio::test]
async fn one_knocks_where_knocking_is_allowed_and_is_let_in_by_an_invite() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    let closed = alice.create(json!({})).await;
    bob.post(&format!("/knock/{closed}"), json!({})).await.refused(403, "M_FORBIDDEN");
    let rule = json!({ "join_rule": "knock" });
    let room = alice.create(json!({ "initial_state": [{ "type": "m.room.join_rules", "content": rule }] })).await;
    let knock = bob.post(&format!("/knock/{room}"), json!({ "reason": "let me in" })).await.ok();
    assert_eq!(knock["room_id"], *room);
    assert_eq!(membership(&alice, &room, bob.id()).await, "knock");
    bob.post(&format!("/knock/{room}"), json!({})).await.ok();
    alice.invite(&room, bob.id()).await;
    bob.join(&room).await;
    bob.post(&format!("/knock/{room}"), json!({})).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn members_are_listed_now_at_a_time_and_by_membership() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    let carol = world.person("carol").await;
    let room = alice.create(json!({ "preset": "public_chat", "invite": [carol.id()] })).await;
    let before = text(&alice.get(&format!("/rooms/{room}/messages?dir=b&limit=1")).await.ok()["start"]);
    bob.join(&room).await;
    let members = async |person: &Person<'_>, query: &str| -> Vec<(String, String)> {
        let answer = person.get(&format!("/rooms/{room}/members{query}")).await.ok();
        let mut members: Vec<_> = answer["chunk"]
            .as_array()
            .expect("a chunk")
            .iter()
            .map(|event| (text(&event["state_key"]), text(&event["content"]["membership"])))
            .collect();
        members.sort();
        members
    };
    let named = |person: &Person<'_>, membership: &str| (person.id().to_owned(), membership.to_owned());
    let all = [named(&alice, "join"), named(&bob, "join"), named(&carol, "invite")];
    assert_eq!(members(&alice, "").await, all);
    assert_eq!(members(&alice, "?membership=invite").await, all[2..]);
    assert_eq!(members(&alice, "?not_membership=invite").await, all[..2]);
    assert_eq!(members(&alice, "?membership=invite&not_membership=join").await, all[2..]);
    assert_eq!(members(&alice, "?membership=join&not_membership=invite").await, all[..2]);
    assert_eq!(members(&alice, "?membership=invite&not_membership=leave").await, all, "either is enough");
    assert_eq!(members(&alice, &format!("?at={before}")).await, [all[0].clone(), all[2].clone()]);
    let joined = alice.get(&format!("/rooms/{room}/joined_members")).await.ok();
    let joined = joined["joined"].as_object().expect("members");
    assert_eq!(joined.keys().collect::<Vec<_>>(), [alice.id(), bob.id()]);
    assert_eq!(joined[bob.id()]["display_name"], "bob");
    carol.get(&format!("/rooms/{room}/members")).await.refused(403, "M_FORBIDDEN");
    carol.get(&format!("/rooms/{room}/joined_members")).await.refused(403, "M_FORBIDDEN");

    // Who left is shown who was there then.
    bob.post(&format!("/rooms/{room}/leave"), json!({})).await.ok();
    carol.join(&room).await;
    assert_eq!(members(&bob, "").await, [all[0].clone(), named(&bob, "leave"), all[2].clone()]);
}
