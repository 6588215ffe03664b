//! The problem cases that led to state resolution v2.1, of
//! <https://github.com/matrix-org/matrix-spec-proposals/blob/main/proposals/4297-state-resolution-v2_1.md>: with an outdated
//! state from another server in play, the algorithm of versions 2 to 11 falls back to older state, that of 12 does not.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use kith_room::{Decision, Event, StateMap, resolve::resolve};
use ruma::{OwnedUserId, RoomVersionId};
use serde_json::{Value, json};
use support::*;

struct Room {
    server: Server,
    at: Replica,
}

impl Room {
    /// Alice has made a room and set its levels. Version 12 does not list creators there.
    fn new(version: &RoomVersionId) -> (Self, OwnedUserId) {
        let server = Server::new(1);
        let alice = server.user("alice");
        let mut at = Replica::create_bare(&server, &alice, version, json!({}));
        at.send(&server, member(&alice, &alice, "join"));
        (Self { server, at }, alice)
    }

    fn user(&self, name: &str) -> OwnedUserId {
        self.server.user(name)
    }

    fn send(&mut self, builder: kith_room::Builder) -> Arc<Event> {
        self.at.send(&self.server, builder)
    }

    fn levels(&mut self, sender: &OwnedUserId, admin: &OwnedUserId, others: &[&OwnedUserId]) -> Arc<Event> {
        let mut users = json!({});
        if *self.at.room.version() != RoomVersionId::V12 {
            users[admin.as_str()] = json!(100);
        }
        for user in others {
            users[user.as_str()] = json!(50);
        }
        self.send(state(sender, "m.room.power_levels", "", json!({ "users": users })))
    }

    fn join_rule(&mut self, sender: &OwnedUserId, rule: &str) -> Arc<Event> {
        self.send(state(sender, "m.room.join_rules", "", json!({ "join_rule": rule })))
    }

    fn join(&mut self, user: &OwnedUserId) -> Arc<Event> {
        self.send(member(user, user, "join"))
    }

    /// A joined user's new display name, sent after `prev` with the right that the current state gives.
    fn rename(&mut self, user: &OwnedUserId, prev: &Event) -> Arc<Event> {
        let content: Value = json!({ "membership": "join", "displayname": "new" });
        let mut auth = vec![("m.room.power_levels", ""), ("m.room.join_rules", ""), ("m.room.member", user.as_str())];
        if *self.at.room.version() != RoomVersionId::V12 {
            auth.push(("m.room.create", ""));
        }
        let auth: Vec<_> =
            auth.into_iter().map(|(kind, key)| self.at.room.current_id(kind, key).unwrap().to_owned()).collect();
        let builder = state(user, "m.room.member", user.as_str(), content);
        let event = self.at.forge(&self.server, builder, &[prev.event_id().to_owned()], &auth, 5_000);
        assert_eq!(self.at.decide(&event), Decision::Accepted);
        event
    }

    fn state_of(&self, events: &[&Arc<Event>]) -> StateMap {
        let create = self.at.current("m.room.create", "").unwrap();
        events
            .iter()
            .copied()
            .chain([&create])
            .map(|event| (event.state_map_key().unwrap().clone(), event.event_id().to_owned()))
            .collect()
    }

    /// The resolution of two states, whichever comes first.
    fn resolved(&self, one: StateMap, other: StateMap) -> StateMap {
        let rules = self.at.room.rules();
        let resolved = resolve(rules, &[one.clone(), other.clone()], &self.at.store).unwrap();
        assert_eq!(resolve(rules, &[other, one], &self.at.store).unwrap(), resolved);
        resolved
    }
}

fn holds<'a>(state: &'a StateMap, kind: &str) -> Option<&'a ruma::EventId> {
    kith_room::state::get(state, kind, "")
}

fn versions_with_v2() -> impl Iterator<Item = &'static RoomVersionId> {
    VERSIONS.iter().filter(|version| number(version) >= 2)
}

#[test]
fn conflicting_events_that_the_agreed_state_does_not_allow_are_lost_before_version_12_only() {
    for version in versions_with_v2() {
        let (mut room, alice) = Room::new(version);
        let (bob, charlie) = (room.user("bob"), room.user("charlie"));
        let levels = room.levels(&alice, &alice, &[]);
        let public = room.join_rule(&alice, "public");
        let bob_joins = room.join(&bob);
        let charlie_joins = room.join(&charlie);
        let invite_only = room.join_rule(&alice, "invite");
        let alice_leaves = room.send(member(&alice, &alice, "leave"));
        let bob_renamed = room.rename(&bob, &alice_leaves);
        let charlie_renamed = room.rename(&charlie, &alice_leaves);

        let right = room.state_of(&[&levels, &invite_only, &alice_leaves, &bob_renamed, &charlie_joins]);
        // Another server gave this one, with the join rules of before.
        let outdated = room.state_of(&[&levels, &public, &alice_leaves, &bob_joins, &charlie_renamed]);
        let resolved = room.resolved(right, outdated);

        let expected = (*version == RoomVersionId::V12).then_some(invite_only.event_id());
        assert_eq!(holds(&resolved, "m.room.join_rules"), expected, "version {version}");
        assert_eq!(holds(&resolved, "m.room.power_levels"), Some(levels.event_id()));
    }
}

#[test]
fn conflicting_events_that_need_what_lies_between_them_are_lost_before_version_12_only() {
    for version in versions_with_v2() {
        let (mut room, alice) = Room::new(version);
        let [bob, charlie, eve, zara] = ["bob", "charlie", "eve", "zara"].map(|name| room.user(name));
        let first = room.levels(&alice, &alice, &[]);
        let alice_joined = room.at.current("m.room.member", alice.as_str()).unwrap();
        let public = room.join_rule(&alice, "public");
        let bob_joins = room.join(&bob);
        let charlie_joins = room.join(&charlie);
        room.levels(&alice, &alice, &[&bob]);
        let last = room.levels(&bob, &alice, &[&bob, &charlie]);
        let eve_joins = room.join(&eve);
        let eve_renamed = room.rename(&eve, &eve_joins);
        let zara_joins = room.join(&zara);

        let agreed = [&alice_joined, &public, &bob_joins, &charlie_joins];
        let right = room.state_of(&[&agreed[..], &[&last, &zara_joins]].concat());
        // Another server gave this one, with the levels of before.
        let outdated = room.state_of(&[&agreed[..], &[&first, &eve_renamed]].concat());
        let resolved = room.resolved(right, outdated);

        let expected = if *version == RoomVersionId::V12 { &last } else { &first };
        assert_eq!(holds(&resolved, "m.room.power_levels"), Some(expected.event_id()), "version {version}");
    }
}
