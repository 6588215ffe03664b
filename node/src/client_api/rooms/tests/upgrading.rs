//! Replacing a room by one of another version.

use serde_json::json;

use super::world::{World, encoded, text};

#[tokio::test]
async fn a_new_room_takes_over_state_alias_and_listing_and_the_old_one_points_to_it() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    let eve = world.person("eve").await;
    let pairs =
        [("10", "12"), ("11", "12"), ("12", "12"), ("12", "11"), ("1", "12"), ("2", "6"), ("12", "1"), ("9", "3")];
    for (from, to) in pairs {
        let alias = format!("#home{from}{to}:{}", world.node().server_name());
        let old = alice
            .create(json!({
                "room_version": from,
                "visibility": "public",
                "room_alias_name": format!("home{from}{to}"),
                "name": "Home",
                "topic": "All of it",
                "creation_content": { "org.example": "kept" },
            }))
            .await;
        bob.join(&old).await;
        alice.post(&format!("/rooms/{old}/ban"), json!({ "user_id": eve.id() })).await.ok();
        let last = alice.say(&old, "the last word").await;
        let upgrade = format!("/rooms/{old}/upgrade");
        bob.post(&upgrade, json!({ "new_version": to })).await.refused(403, "M_FORBIDDEN");
        alice.post(&upgrade, json!({ "new_version": "potato" })).await.refused(400, "M_UNSUPPORTED_ROOM_VERSION");
        let new = text(&alice.post(&upgrade, json!({ "new_version": to })).await.ok()["replacement_room"]);

        let create = alice.state(&new, "m.room.create").await;
        assert_eq!((&create["room_version"], &create["org.example"]), (&json!(to), &json!("kept")));
        assert_eq!(create["predecessor"]["room_id"], *old);
        if to != "12" {
            assert_eq!(create["predecessor"]["event_id"], *last);
        }
        for kind in ["m.room.name", "m.room.topic", "m.room.join_rules", "m.room.history_visibility"] {
            assert_eq!(alice.state(&new, kind).await, alice.state(&old, kind).await, "{kind} from {from} to {to}");
        }
        let ban = alice.get(&format!("/rooms/{new}/state/m.room.member/{}", eve.id())).await.ok();
        assert_eq!(ban["membership"], "ban");
        let levels = alice.state(&new, "m.room.power_levels").await;
        if to == "12" {
            assert_eq!(levels["users"].get(alice.id()), None);
            assert!(levels["events"]["m.room.tombstone"].as_i64() > levels["state_default"].as_i64());
        } else {
            assert_eq!(levels["users"][alice.id()], 100);
        }
        assert_eq!(alice.state(&old, "m.room.tombstone").await["replacement_room"], *new);
        assert_eq!(alice.state(&old, "m.room.canonical_alias").await, json!({}));
        assert_eq!(alice.state(&new, "m.room.canonical_alias").await["alias"], *alias);
        let found = alice.get(&format!("/directory/room/{}", encoded(&alias))).await.ok();
        assert_eq!(found["room_id"], *new);
        let listed = |room: &str| format!("/directory/list/room/{room}");
        assert_eq!(alice.get(&listed(&old)).await.ok()["visibility"], "private");
        assert_eq!(alice.get(&listed(&new)).await.ok()["visibility"], "public");
        bob.put(&format!("/rooms/{old}/send/m.room.message/{from}{to}"), json!({ "body": "x" }))
            .await
            .refused(403, "M_FORBIDDEN");
        bob.join(&new).await;
    }
}

#[tokio::test]
async fn a_room_can_be_replaced_by_one_of_any_version() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    let mut room = alice.create(json!({ "room_version": "12" })).await;
    alice.set(&room, "m.room.join_rules", json!({ "join_rule": "knock_restricted", "allow": [] })).await;
    for to in (1..=12).rev() {
        let upgrade = json!({ "new_version": to.to_string() });
        room = text(&alice.post(&format!("/rooms/{room}/upgrade"), upgrade).await.ok()["replacement_room"]);
        assert_eq!(alice.state(&room, "m.room.create").await["room_version"], to.to_string());
        // A rule that the version does not know would let nobody in.
        let rule = if to >= 10 { "knock_restricted" } else { "invite" };
        assert_eq!(alice.state(&room, "m.room.join_rules").await["join_rule"], rule, "version {to}");
        alice.post(&format!("/rooms/{room}/invite"), json!({ "user_id": bob.id() })).await.ok();
        bob.join(&room).await;
        bob.say(&room, "here").await;
    }
}
