//! Which branches a resolution takes is told as it is: each test makes two forks that need some of them and not others.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::{collections::BTreeSet, sync::Arc};

use kith_room::{
    Event, StateKey, StateMap,
    explain::{Branch, explain},
};
use ruma::{EventId, OwnedUserId, RoomVersionId};
use serde_json::json;
use support::*;

struct Fork {
    server: Server,
    at: Replica,
    alice: OwnedUserId,
    bob: OwnedUserId,
    carol: OwnedUserId,
    base: Arc<Event>,
}

impl Fork {
    /// A public room in which Bob and Carol have the same power.
    fn new(version: &RoomVersionId) -> Self {
        let server = Server::new(1);
        let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| server.user(name));
        let mut users = json!({ bob.as_str(): 60, carol.as_str(): 60 });
        if *version != RoomVersionId::V12 {
            users[alice.as_str()] = json!(100);
        }
        let mut at = Replica::create(&server, &alice, version, json!({ "users": users, "state_default": 50 }));
        at.send(&server, member(&bob, &bob, "join"));
        let base = at.send(&server, member(&carol, &carol, "join"));
        Self { server, at, alice, bob, carol, base }
    }

    /// An event that follows another one, authorized by the state after that, at a time.
    fn put(&mut self, builder: kith_room::Builder, prev: &Event, sender: &OwnedUserId, ms: u64) -> Arc<Event> {
        // Version 12 implies the create event.
        let hidden = *self.at.room.version() == RoomVersionId::V12;
        let state = self.after(prev.event_id());
        let auth: Vec<_> = [("m.room.create", ""), ("m.room.power_levels", ""), ("m.room.member", sender.as_str())]
            .into_iter()
            .skip(usize::from(hidden))
            .map(|(kind, key)| state[&StateKey::new(kind, key)].clone())
            .collect();
        let event = self.at.forge(&self.server, builder, &[prev.event_id().to_owned()], &auth, ms);
        self.at.decide(&event);
        event
    }

    fn after(&self, event: &EventId) -> StateMap {
        self.at.store.events[event].state_after.clone().unwrap()
    }

    fn branches(&self, forks: &[&Arc<Event>]) -> BTreeSet<Branch> {
        let states: Vec<StateMap> = forks.iter().map(|event| self.after(event.event_id())).collect();
        explain(self.at.room.rules(), &states, &self.at.store).unwrap()
    }
}

fn topic(sender: &OwnedUserId, text: &str) -> kith_room::Builder {
    state(sender, "m.room.topic", "", json!({ "topic": text }))
}

#[test]
fn states_that_are_the_same_need_no_algorithm_and_a_single_one_is_no_resolution() {
    let mut fork = Fork::new(&RoomVersionId::V12);
    let (bob, base) = (fork.bob.clone(), fork.base.clone());
    let one = fork.put(message(&bob, "one"), &base, &bob, 5_000);
    let other = fork.put(message(&bob, "other"), &base, &bob, 5_000);
    assert_eq!(fork.branches(&[&one, &other]), BTreeSet::from([Branch::NoConflict]));
    assert_eq!(fork.branches(&[&one]), BTreeSet::new());
}

#[test]
fn two_topics_are_put_in_order_by_time_or_if_that_is_the_same_by_id() {
    for (version, algorithm) in [(RoomVersionId::V10, Branch::Version2), (RoomVersionId::V12, Branch::Version2_1)] {
        let mut fork = Fork::new(&version);
        let (bob, carol, base) = (fork.bob.clone(), fork.carol.clone(), fork.base.clone());
        let early = fork.put(topic(&bob, "early"), &base, &bob, 5_000);
        let late = fork.put(topic(&carol, "late"), &base, &carol, 5_001);
        let same = fork.put(topic(&carol, "same"), &base, &carol, 5_000);
        assert_eq!(fork.branches(&[&early, &late]), BTreeSet::from([algorithm, Branch::Mainline, Branch::ByTime]));
        assert_eq!(fork.branches(&[&early, &same]), BTreeSet::from([algorithm, Branch::Mainline, Branch::ById]));
    }
}

#[test]
fn a_ban_takes_what_the_banned_did_meanwhile() {
    let mut fork = Fork::new(&RoomVersionId::V12);
    let (alice, bob, base) = (fork.alice.clone(), fork.bob.clone(), fork.base.clone());
    let said = fork.put(topic(&bob, "still here"), &base, &bob, 5_000);
    let content = json!({ "users": { fork.carol.as_str(): 60 }, "state_default": 50 });
    let levels = fork.put(state(&alice, "m.room.power_levels", "", content), &base, &alice, 5_000);
    let found = fork.branches(&[&said, &levels]);
    for branch in [Branch::Power, Branch::Mainline, Branch::Refused] {
        assert!(found.contains(&branch), "{branch:?} of {found:?}");
    }
    assert!(!found.contains(&Branch::ById) && !found.contains(&Branch::AuthDifference), "{found:?}");
}

#[test]
fn power_events_of_equals_are_put_in_order_by_time_and_those_of_others_by_power() {
    let mut fork = Fork::new(&RoomVersionId::V10);
    let (alice, bob, carol, base) = (fork.alice.clone(), fork.bob.clone(), fork.carol.clone(), fork.base.clone());
    let levels = |sender: &OwnedUserId, level: u32| {
        let users = json!({ alice.as_str(): 100, bob.as_str(): 60, carol.as_str(): 60 });
        state(sender, "m.room.power_levels", "", json!({ "users": users, "state_default": level }))
    };
    let by_bob = fork.put(levels(&bob, 51), &base, &bob, 5_000);
    let by_carol = fork.put(levels(&carol, 52), &base, &carol, 6_000);
    let by_alice = fork.put(levels(&alice, 53), &base, &alice, 5_000);
    assert_eq!(fork.branches(&[&by_bob, &by_carol]), BTreeSet::from([Branch::Version2, Branch::Power, Branch::ByTime]));
    assert_eq!(fork.branches(&[&by_bob, &by_alice]), BTreeSet::from([Branch::Version2, Branch::Power]));
}

#[test]
fn what_one_fork_replaced_twice_is_in_the_auth_difference() {
    let mut fork = Fork::new(&RoomVersionId::V10);
    let (alice, bob, carol, base) = (fork.alice.clone(), fork.bob.clone(), fork.carol.clone(), fork.base.clone());
    let other = fork.put(topic(&bob, "fork"), &base, &bob, 5_000);
    let users = json!({ alice.as_str(): 100, bob.as_str(): 60, carol.as_str(): 60 });
    let levels = |level: u32| {
        state(&alice, "m.room.power_levels", "", json!({ "users": users.clone(), "state_default": level }))
    };
    let first = fork.at.send(&fork.server, levels(51));
    let second = fork.at.send(&fork.server, levels(52));
    let found = fork.branches(&[&other, &second]);
    assert!(found.contains(&Branch::AuthDifference), "{found:?}");
    assert!(!fork.branches(&[&other, &first]).contains(&Branch::AuthDifference));
}

#[test]
fn version_1_has_two_ways_of_its_own() {
    let mut fork = Fork::new(&RoomVersionId::V1);
    let (alice, bob, carol, base) = (fork.alice.clone(), fork.bob.clone(), fork.carol.clone(), fork.base.clone());
    let one = fork.put(topic(&bob, "one"), &base, &bob, 5_000);
    let other = fork.put(topic(&carol, "other"), &base, &carol, 5_000);
    assert_eq!(fork.branches(&[&one, &other]), BTreeSet::from([Branch::Version1, Branch::Version1Depth]));
    let rules =
        fork.put(state(&alice, "m.room.join_rules", "", json!({ "join_rule": "invite" })), &base, &alice, 5_000);
    assert_eq!(fork.branches(&[&base, &rules]), BTreeSet::from([Branch::Version1, Branch::Version1Run]));
}

#[test]
fn every_branch_has_a_name_of_its_own() {
    let names: BTreeSet<&str> = Branch::ALL.iter().map(|branch| branch.name()).collect();
    assert_eq!(names.len(), Branch::ALL.len());
}
