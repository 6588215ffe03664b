//! Creating rooms.

use serde_json::{Value, json};

use super::world::{World, bodies, encoded, text};

async fn types_in_order(person: &super::world::Person<'_>, room: &str) -> Vec<String> {
    person.history(room).await.iter().map(|event| text(&event["type"])).collect()
}

#[tokio::test]
async fn a_room_is_made_of_events_in_the_order_of_the_specification() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    for version in (1..=12).map(|version: u32| version.to_string()) {
        let version = version.as_str();
        let room = alice
            .create(json!({
                "room_version": version,
                "room_alias_name": format!("pub{version}"),
                "name": "The Pub",
                "topic": "Hours",
                "invite": [bob.id(), bob.id()],
                "is_direct": true,
                "initial_state": [
                    { "type": "m.room.name", "content": { "name": "overridden" } },
                    { "type": "m.room.encryption", "content": { "algorithm": "m.megolm.v1.aes-sha2" } },
                    { "type": "org.example", "state_key": "key", "content": {} },
                ],
            }))
            .await;
        assert_eq!(
            types_in_order(&alice, &room).await,
            [
                "m.room.create",
                "m.room.member",
                "m.room.power_levels",
                "m.room.canonical_alias",
                "m.room.join_rules",
                "m.room.history_visibility",
                "m.room.guest_access",
                "m.room.encryption",
                "org.example",
                "m.room.name",
                "m.room.topic",
                "m.room.member",
            ],
            "version {version}"
        );
        assert_eq!(room.contains(':'), version != "12");
        let create = alice.state(&room, "m.room.create").await;
        assert_eq!(create["room_version"], *version);
        assert_eq!(create.get("creator").is_some(), version != "11" && version != "12");
        let levels = alice.state(&room, "m.room.power_levels").await;
        let listed = if version == "12" { Value::Null } else { json!(100) };
        assert_eq!(levels["users"][alice.id()], listed, "version {version}");
        assert_eq!(alice.state(&room, "m.room.name").await["name"], "The Pub");
        let invite = bob_invite(&alice, &room, bob.id()).await;
        assert_eq!((&invite["membership"], &invite["is_direct"]), (&json!("invite"), &json!(true)));
        let found = alice
            .get(&format!("/directory/room/{}", encoded(&format!("#pub{version}:{}", world.node().server_name()))))
            .await
            .ok();
        assert_eq!(found["room_id"], *room);
    }
}

async fn bob_invite(person: &super::world::Person<'_>, room: &str, user: &str) -> Value {
    person.get(&format!("/rooms/{room}/state/m.room.member/{user}")).await.ok()
}

#[tokio::test]
async fn each_preset_sets_what_the_specification_says_and_initial_state_comes_before_it() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    for (preset, join, guests) in [
        ("private_chat", "invite", "can_join"),
        ("trusted_private_chat", "invite", "can_join"),
        ("public_chat", "public", "forbidden"),
    ] {
        let room = alice.create(json!({ "preset": preset })).await;
        assert_eq!(alice.state(&room, "m.room.join_rules").await["join_rule"], join, "{preset}");
        assert_eq!(alice.state(&room, "m.room.guest_access").await["guest_access"], guests, "{preset}");
        assert_eq!(alice.state(&room, "m.room.history_visibility").await["history_visibility"], "shared");
    }
    let room = alice
        .create(json!({
            "preset": "public_chat",
            "initial_state": [{ "type": "m.room.join_rules", "content": { "join_rule": "knock" } }],
        }))
        .await;
    assert_eq!(alice.state(&room, "m.room.join_rules").await["join_rule"], "knock");

    let trusted = json!({ "preset": "trusted_private_chat", "invite": [bob.id()], "room_version": "11" });
    let room = alice.create(trusted).await;
    assert_eq!(alice.state(&room, "m.room.power_levels").await["users"][bob.id()], 100);
    let trusted = json!({
        "preset": "trusted_private_chat",
        "invite": [bob.id()],
        "creation_content": { "additional_creators": [bob.id()], "org.example": 1 },
    });
    let room = alice.create(trusted).await;
    let create = alice.state(&room, "m.room.create").await;
    assert_eq!(create["additional_creators"], json!([bob.id()]));
    assert_eq!(create["org.example"], 1);
    let levels = alice.state(&room, "m.room.power_levels").await;
    assert_eq!(levels["users"], json!({}));
    assert!(levels["events"]["m.room.tombstone"].as_i64() > levels["state_default"].as_i64());
    bob.join(&room).await;
    bob.set(&room, "m.room.tombstone", json!({ "body": "creators may do all", "replacement_room": "!x" })).await;
}

#[tokio::test]
async fn a_request_that_makes_no_sense_makes_no_room() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    alice.create(json!({ "room_alias_name": "taken" })).await;
    let nobody = format!("@nobody:{}", world.node().server_name());
    for (body, status, code) in [
        (json!({ "room_version": "13" }), 400, "M_UNSUPPORTED_ROOM_VERSION"),
        (json!({ "room_version": "potato" }), 400, "M_UNSUPPORTED_ROOM_VERSION"),
        (json!({ "room_alias_name": "taken" }), 400, "M_ROOM_IN_USE"),
        (json!({ "room_alias_name": "a:b" }), 400, "M_INVALID_PARAM"),
        (json!({ "room_alias_name": "" }), 400, "M_INVALID_PARAM"),
        (json!({ "preset": "potato" }), 400, "M_BAD_JSON"),
        (json!({ "name": 5 }), 400, "M_BAD_JSON"),
        (json!({ "invite": [nobody] }), 404, "M_NOT_FOUND"),
        (json!({ "creation_content": { "additional_creators": "x" } }), 400, "M_INVALID_PARAM"),
        (json!({ "creation_content": { "additional_creators": ["x"] } }), 400, "M_INVALID_PARAM"),
        (json!({ "power_level_content_override": { "users": { alice.id(): 100 } } }), 400, "M_INVALID_PARAM"),
        // In older versions a maker can take its own power away, and then has none to name the room.
        (
            json!({ "room_version": "11", "name": "x", "power_level_content_override": { "users": { bob.id(): 100 } } }),
            400,
            "M_INVALID_ROOM_STATE",
        ),
        (json!({ "initial_state": [{ "type": "m.room.create", "content": {} }] }), 400, "M_INVALID_PARAM"),
        (json!({ "name": "x".repeat(70_000) }), 413, "M_TOO_LARGE"),
    ] {
        alice.post("/createRoom", body).await.refused(status, code);
    }
    assert_eq!(alice.get("/joined_rooms").await.ok()["joined_rooms"].as_array().map(Vec::len), Some(1));
    world.ask(http::Method::POST, "/createRoom", None, Some(json!({}))).await.refused(401, "M_MISSING_TOKEN");
}

#[tokio::test]
async fn a_new_room_takes_messages() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = alice.create(json!({})).await;
    alice.say(&room, "hello").await;
    assert_eq!(bodies(&alice.history(&room).await), ["hello"]);
}
