//! What rooms refuse, and what they allow. Where the versions differ, and how: `versions.rs`.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use kith_room::{Builder, CreateError, Decision, power::PowerLevels};
use ruma::{OwnedUserId, RoomVersionId, events::room::power_levels::UserPowerLevel};
use serde_json::{Value, json};
use support::*;

struct World {
    alice_server: Server,
    bob_server: Server,
    alice: OwnedUserId,
    bob: OwnedUserId,
    carol: OwnedUserId,
    room: Replica,
}

impl World {
    /// Alice made the room, Bob (level 50) has joined, Carol has not.
    fn new(version: &RoomVersionId) -> Self {
        let (alice_server, bob_server) = (Server::new(1), Server::new(2));
        let (alice, bob, carol) = (alice_server.user("alice"), bob_server.user("bob"), bob_server.user("carol"));
        let mut users = json!({ bob.as_str(): 50 });
        if *version != RoomVersionId::V12 {
            users[alice.as_str()] = json!(100);
        }
        let mut room = Replica::create(&alice_server, &alice, version, json!({ "users": users }));
        room.send(&bob_server, member(&bob, &bob, "join"));
        Self { alice_server, bob_server, alice, bob, carol, room }
    }

    fn server_of(&self, builder: &Builder) -> &Server {
        if builder.sender.server_name() == self.alice_server.name { &self.alice_server } else { &self.bob_server }
    }

    fn ok(&mut self, builder: Builder) {
        let server = Server { name: self.server_of(&builder).name.clone(), key: key_pair(self.seed(&builder), "0") };
        self.room.send(&server, builder);
    }

    fn no(&mut self, builder: Builder, why: &str) {
        let server = Server { name: self.server_of(&builder).name.clone(), key: key_pair(self.seed(&builder), "0") };
        let before = self.room.room.current().clone();
        let reason = self.room.refusal(&server, builder);
        assert!(reason.contains(why), "expected {why:?}: {reason}");
        assert_eq!(&before, self.room.room.current());
    }

    fn seed(&self, builder: &Builder) -> u8 {
        if builder.sender.server_name() == self.alice_server.name { 1 } else { 2 }
    }

    fn rule(&self, rule: &str) -> Builder {
        state(&self.alice, "m.room.join_rules", "", json!({ "join_rule": rule }))
    }

    fn levels(&self, sender: &OwnedUserId, change: impl FnOnce(&mut Value)) -> Builder {
        let event = self.room.current("m.room.power_levels", "").unwrap();
        let mut content = serde_json::from_str(event.content().get()).unwrap();
        change(&mut content);
        state(sender, "m.room.power_levels", "", content)
    }
}

fn each_version(test: impl Fn(&RoomVersionId, World)) {
    each_version_from(1, test);
}

fn each_version_from(first: u32, test: impl Fn(&RoomVersionId, World)) {
    for version in VERSIONS.iter().filter(|version| number(version) >= first) {
        test(version, World::new(version));
    }
}

#[test]
fn who_is_not_joined_sends_nothing() {
    each_version(|_, mut w| {
        w.no(message(&w.carol, "hi"), "not `join`");
        w.no(state(&w.carol, "m.room.topic", "", json!({ "topic": "t" })), "not `join`");
        w.ok(message(&w.bob, "hi"));
        w.ok(member(&w.bob, &w.bob, "leave"));
        w.no(message(&w.bob, "hi"), "not `join`");
    });
}

#[test]
fn joining_follows_the_join_rule() {
    each_version(|_, mut w| {
        w.no(member(&w.bob, &w.carol, "join"), "must match");
        w.ok(w.rule("invite"));
        w.no(member(&w.carol, &w.carol, "join"), "not `public`");
        w.ok(member(&w.bob, &w.carol, "invite"));
        w.ok(member(&w.carol, &w.carol, "join"));
        w.ok(member(&w.carol, &w.carol, "leave"));
        w.ok(w.rule("private"));
        w.no(member(&w.carol, &w.carol, "join"), "not `public`");
        w.ok(w.rule("public"));
        w.ok(member(&w.carol, &w.carol, "join"));
        w.ok(member(&w.alice, &w.carol, "ban"));
        w.no(member(&w.carol, &w.carol, "join"), "banned");
        w.no(member(&w.alice, &w.carol, "invite"), "joined or banned");
    });
}

#[test]
fn knocking_needs_a_rule_that_allows_it() {
    each_version_from(7, |version, mut w| {
        w.no(member(&w.carol, &w.carol, "knock"), "knock");
        let rules = if number(version) < 10 { &["knock"][..] } else { &["knock", "knock_restricted"] };
        for rule in rules {
            w.ok(w.rule(rule));
            w.no(member(&w.bob, &w.carol, "knock"), "another user");
            w.ok(member(&w.carol, &w.carol, "knock"));
            w.no(member(&w.carol, &w.carol, "join"), "");
            w.ok(member(&w.carol, &w.carol, "leave"));
        }
        w.no(member(&w.bob, &w.bob, "knock"), "joined");
    });
}

#[test]
fn a_restricted_join_needs_someone_who_may_invite() {
    each_version_from(8, |version, mut w| {
        w.ok(w.levels(&w.alice, |levels| levels["invite"] = json!(60)));
        let rules = if number(version) < 10 { &["restricted"][..] } else { &["restricted", "knock_restricted"] };
        for rule in rules {
            w.ok(w.rule(rule));
            let join = |via: &OwnedUserId| {
                let content = json!({ "membership": "join", "join_authorised_via_users_server": via });
                state(&w.carol, "m.room.member", w.carol.as_str(), content)
            };
            let (plain, by_carol, by_bob, by_alice) =
                (member(&w.carol, &w.carol, "join"), join(&w.carol), join(&w.bob), join(&w.alice));
            w.no(plain, "join_authorised_via_users_server");
            w.no(by_carol, "not joined");
            w.no(by_bob, "enough power");
            w.ok(by_alice);
            w.ok(member(&w.carol, &w.carol, "leave"));
        }
    });
}

#[test]
fn kicks_bans_and_unbans_need_power_over_their_target() {
    each_version(|_, mut w| {
        let dave = w.alice_server.user("dave");
        w.ok(member(&w.carol, &w.carol, "join"));
        w.no(member(&w.carol, &w.bob, "leave"), "kick");
        w.no(member(&w.carol, &w.bob, "ban"), "ban");
        w.no(member(&w.bob, &w.alice, "ban"), "ban");
        w.no(member(&dave, &w.carol, "ban"), "not joined");
        w.ok(member(&w.bob, &w.carol, "leave"));
        w.ok(member(&w.bob, &w.carol, "ban"));
        w.ok(w.levels(&w.alice, |levels| levels["ban"] = json!(80)));
        w.no(member(&w.bob, &w.carol, "leave"), "unban");
        w.ok(member(&w.alice, &w.carol, "leave"));
        w.no(member(&w.carol, &w.carol, "leave"), "cannot leave");
        w.no(state(&w.alice, "m.room.member", w.carol.as_str(), json!({ "membership": "odd" })), "");
    });
}

#[test]
fn invites_need_a_member_with_the_power_to_invite() {
    each_version(|_, mut w| {
        w.no(member(&w.carol, &w.carol, "invite"), "not joined");
        w.no(member(&w.alice, &w.bob, "invite"), "joined or banned");
        w.ok(w.levels(&w.alice, |levels| levels["invite"] = json!(51)));
        w.no(member(&w.bob, &w.carol, "invite"), "power to invite");
        w.ok(member(&w.alice, &w.carol, "invite"));
        let third_party = json!({ "membership": "invite", "third_party_invite": { "display_name": "c", "signed": {
            "mxid": w.carol, "token": "unknown", "signatures": {} } } });
        w.no(state(&w.alice, "m.room.member", w.carol.as_str(), third_party), "token");
    });
}

#[test]
fn state_needs_the_level_of_its_type_and_foreign_user_ids_are_taboo() {
    each_version(|_, mut w| {
        w.ok(member(&w.carol, &w.carol, "join"));
        w.no(state(&w.carol, "m.room.topic", "", json!({ "topic": "t" })), "enough power");
        w.ok(state(&w.bob, "m.room.topic", "", json!({ "topic": "t" })));
        w.no(state(&w.bob, "org.example.note", w.carol.as_str(), json!({})), "another user");
        w.ok(state(&w.bob, "org.example.note", w.bob.as_str(), json!({})));
        w.ok(w.levels(&w.alice, |levels| levels["events"] = json!({ "m.room.message": 51 })));
        w.no(message(&w.bob, "hi"), "enough power");
        w.ok(message(&w.alice, "hi"));
    });
}

#[test]
fn power_levels_cannot_be_raised_beyond_ones_own_nor_taken_from_equals() {
    each_version(|version, mut w| {
        let (alice, bob, carol) = (w.alice.clone(), w.bob.clone(), w.carol.clone());
        w.ok(w.levels(&alice, |levels| levels["events"] = json!({ "m.room.power_levels": 50 })));
        w.no(w.levels(&bob, |levels| levels["users"][bob.as_str()] = json!(51)), "power");
        w.no(w.levels(&bob, |levels| levels["users"][carol.as_str()] = json!(51)), "power");
        w.no(w.levels(&bob, |levels| levels["ban"] = json!(51)), "power");
        w.no(w.levels(&bob, |levels| levels["events"] = json!({ "m.room.power_levels": 51 })), "power");
        if number(version) >= 6 {
            w.no(w.levels(&bob, |levels| levels["notifications"] = json!({ "room": 51 })), "power");
        }
        w.ok(w.levels(&bob, |levels| levels["users"][carol.as_str()] = json!(50)));
        w.no(w.levels(&bob, |levels| levels["users"][carol.as_str()] = json!(0)), "power");
        for (name, value) in
            [("ban", json!("fifty")), ("users", json!({ "alice": 1 })), ("events", json!({ "x": "1.5" }))]
        {
            w.no(w.levels(&alice, |levels| levels[name] = value), "");
        }
        if *version == RoomVersionId::V12 {
            w.no(w.levels(&alice, |levels| levels["users"][alice.as_str()] = json!(100)), "creator");
        } else {
            w.no(w.levels(&alice, |levels| levels["users"][alice.as_str()] = json!(101)), "power");
        }
    });
}

#[test]
fn creators_of_version_12_stand_above_all_levels() {
    let (server, other) = (Server::new(1), Server::new(2));
    let (alice, bob) = (server.user("alice"), other.user("bob"));
    let mut room = Replica::create_bare(&server, &alice, &RoomVersionId::V12, json!({ "additional_creators": [bob] }));
    room.send(&server, member(&alice, &alice, "join"));
    room.send(&server, state(&alice, "m.room.power_levels", "", json!({ "events": { "m.room.topic": 1_000_000 } })));
    room.send(&server, state(&alice, "m.room.join_rules", "", json!({ "join_rule": "public" })));
    room.send(&other, member(&bob, &bob, "join"));
    room.send(&other, state(&bob, "m.room.topic", "", json!({ "topic": "t" })));
    assert!(room.refusal(&server, member(&alice, &bob, "ban")).contains("power"));
    let levels = PowerLevels::new(
        &room.current("m.room.create", "").unwrap(),
        room.current("m.room.power_levels", "").as_ref(),
        &room.room.rules().authorization,
    )
    .unwrap();
    assert_eq!(levels.user(&bob), UserPowerLevel::Infinite);
    assert_eq!(levels.user(&server.user("dave")), UserPowerLevel::Int(0.into()));
    assert_eq!(i64::from(levels.to_send("m.room.topic", true)), 1_000_000);
}

#[test]
fn the_room_id_of_version_12_is_its_create_event() {
    let server = Server::new(1);
    let alice = server.user("alice");
    let mut room = Replica::create(&server, &alice, &RoomVersionId::V12, json!({}));
    let create = room.current("m.room.create", "").unwrap();
    assert_eq!(create.event_id().as_str()[1..], room.room.room_id().as_str()[1..]);
    assert!(!create.json().contains_key("room_id"));
    let event = room.send(&server, message(&alice, "hi"));
    assert!(!event.auth_events().contains(&create.event_id().to_owned()));
    assert!(event.all_auth_events().any(|id| &*id == create.event_id()));
}

#[test]
fn a_room_that_is_not_federated_keeps_others_out() {
    for version in &VERSIONS {
        let (server, other) = (Server::new(1), Server::new(2));
        let (alice, bob) = (server.user("alice"), other.user("bob"));
        let mut room = Replica::create_bare(&server, &alice, version, json!({ "m.federate": false }));
        room.send(&server, member(&alice, &alice, "join"));
        room.send(&server, state(&alice, "m.room.join_rules", "", json!({ "join_rule": "public" })));
        assert!(room.refusal(&other, member(&bob, &bob, "join")).contains("not federated"));
        room.send(&server, member(&server.user("eve"), &server.user("eve"), "join"));
    }
}

#[test]
fn create_events_follow_their_own_rules() {
    let (server, other) = (Server::new(1), Server::new(2));
    let alice = server.user("alice");
    let create = |version: &RoomVersionId, room_id: Option<&str>, content: Value| {
        let mut builder = state(&alice, "m.room.create", "", content);
        if let Some(room_id) = room_id {
            builder = builder.room_id(ruma::RoomId::parse(room_id).unwrap());
        }
        kith_room::Room::create(version, builder, ts(1), server.signer()).map(|(room, _)| room)
    };
    let foreign = format!("!room:{}", other.name);
    let own = format!("!room:{}", server.name);
    let forbidden = |result: Result<_, CreateError>| matches!(result, Err(CreateError::Forbidden(_)));
    assert!(forbidden(create(&RoomVersionId::V10, Some(&own), json!({}))), "version 10 wants `creator`");
    assert!(forbidden(create(&RoomVersionId::V11, Some(&foreign), json!({}))));
    assert!(matches!(create(&RoomVersionId::V11, None, json!({})), Err(CreateError::Build(_))));
    assert!(forbidden(create(&RoomVersionId::V12, None, json!({ "additional_creators": ["alice"] }))));
    let room = create(&RoomVersionId::V11, Some(&own), json!({})).unwrap();
    assert_eq!(room.room_id(), own.as_str());
}

#[test]
fn a_second_create_event_is_rejected() {
    let server = Server::new(1);
    let alice = server.user("alice");
    let mut room = Replica::create(&server, &alice, &RoomVersionId::V11, json!({ "users": { alice.as_str(): 100 } }));
    let second = room.forge(&server, state(&alice, "m.room.create", "", json!({ "room_version": "11" })), &[], &[], 1);
    assert!(matches!(room.decide(&second), Decision::Rejected { .. }));
    assert_eq!(room.room.extremities().count(), 1);
}
