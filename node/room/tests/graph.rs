//! How a room takes events: missing ones, duplicates, rejection, soft failure, extremities.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use kith_room::local::{Citing, Draw};
use kith_room::{
    Decision, Event, Outcome, Placement, Room, Status, join::handle_send_join, local::NoEvents, partial::Members,
};
use ruma::{OwnedEventId, OwnedUserId, RoomVersionId};
use serde_json::json;
use support::*;

/// Alice's and Bob's servers with their copies of a public room in which both are, Bob at level 50.
struct Two {
    a: Server,
    b: Server,
    alice: OwnedUserId,
    bob: OwnedUserId,
    at_a: Replica,
    at_b: Replica,
}

fn two(version: &RoomVersionId) -> Two {
    let (a, b) = (Server::new(1), Server::new(2));
    let (alice, bob) = (a.user("alice"), b.user("bob"));
    let mut users = json!({ bob.as_str(): 50 });
    if *version != RoomVersionId::V12 {
        users[alice.as_str()] = json!(100);
    }
    let mut at_a = Replica::create(&a, &alice, version, json!({ "users": users }));
    at_a.send(&b, member(&bob, &bob, "join"));
    let mut at_b = Replica::empty(version, at_a.room.room_id());
    let mut events: Vec<_> = at_a.store.events.values().collect();
    events.sort_by_key(|stored| stored.number);
    for stored in events {
        assert_eq!(at_b.decide(&stored.event), Decision::Accepted);
    }
    assert_eq!(at_a.room.current(), at_b.room.current());
    at_b.clock = at_a.clock;
    Two { a, b, alice, bob, at_a, at_b }
}

fn ids(events: &[&Arc<Event>]) -> Vec<OwnedEventId> {
    events.iter().map(|event| event.event_id().to_owned()).collect()
}

#[test]
fn what_is_missing_is_named_and_what_is_known_is_a_duplicate() {
    for version in &VERSIONS {
        let mut t = two(version);
        let topic = t.at_a.send(&t.a, state(&t.alice, "m.room.topic", "", json!({ "topic": "1" })));
        let levels = t.at_a.current("m.room.power_levels", "").unwrap();
        let levels = serde_json::from_str(levels.content().get()).unwrap();
        let levels = t.at_a.send(&t.a, state(&t.alice, "m.room.power_levels", "", levels));
        let hello = t.at_a.send(&t.a, message(&t.alice, "hello"));
        match t.at_b.offer(&hello) {
            Outcome::Missing { prev, auth } => {
                assert_eq!(prev, ids(&[&levels]));
                assert_eq!(auth, ids(&[&levels]));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(t.at_b.decide(&topic), Decision::Accepted);
        assert_eq!(t.at_b.decide(&levels), Decision::Accepted);
        assert_eq!(t.at_b.decide(&hello), Decision::Accepted);
        assert!(matches!(t.at_b.offer(&hello), Outcome::Duplicate));
        assert_eq!(t.at_b.room.depth(), t.at_a.room.depth());

        if *version == RoomVersionId::V12 {
            let dave = t.a.user("dave");
            let mut elsewhere = Replica::create(&t.a, &dave, version, json!({}));
            let event = elsewhere.send(&t.a, message(&dave, "elsewhere"));
            assert!(matches!(t.at_b.offer(&event), Outcome::Refused { .. }));
        }
    }
}

#[test]
fn extremities_part_and_are_merged() {
    let mut t = two(&RoomVersionId::V12);
    let x = t.at_a.send(&t.a, message(&t.alice, "x"));
    let y = t.at_b.send(&t.b, message(&t.bob, "y"));
    assert_eq!(t.at_a.decide(&y), Decision::Accepted);
    assert_eq!(t.at_a.room.extremities().count(), 2);
    let merge = t.at_a.send(&t.a, message(&t.alice, "both"));
    let mut both = ids(&[&x, &y]);
    both.sort();
    assert_eq!(merge.prev_events(), both);
    assert_eq!(merge.depth(), x.depth() + 1);
    assert_eq!(t.at_a.room.extremities().collect::<Vec<_>>(), [merge.event_id()]);
}

#[test]
fn at_most_ten_of_many_extremities_are_cited_and_the_choice_is_drawn() {
    let mut t = two(&RoomVersionId::V12);
    let root = t.at_a.room.extremities().next().unwrap().to_owned();
    let auth = t.at_a.send(&t.a, message(&t.alice, "root")).auth_events().to_vec();
    for i in 0..40 {
        let event =
            t.at_a.forge(&t.a, message(&t.alice, &i.to_string()), std::slice::from_ref(&root), &auth, 5_000 + i);
        assert_eq!(t.at_a.decide(&event), Decision::Accepted);
    }
    assert_eq!(t.at_a.room.extremities().count(), 41);
    let cite = |random: u64| {
        let hello = message(&t.alice, "merge");
        t.at_a.room.create_local(hello, ts(9_000), random, t.a.signer(), &t.at_a.store).unwrap()
    };
    let (one, same, other) = (cite(1), cite(1), cite(2));
    assert_eq!(one.event.prev_events().len(), 10);
    assert_eq!(one.event.event_id(), same.event.event_id());
    assert_ne!(one.event.prev_events(), other.event.prev_events());
    // Drawn without regard to depth, for experiments: no extremity is left out or preferred.
    let mut drawn = std::collections::BTreeMap::<_, u32>::new();
    for random in 0..400 {
        let draw = Draw { random, citing: Citing::Random(3) };
        let hello = message(&t.alice, "merge");
        let made = t.at_a.room.create_local(hello, ts(9_000), draw, t.a.signer(), &t.at_a.store).unwrap();
        assert_eq!(made.event.prev_events().len(), 3);
        made.event.prev_events().iter().for_each(|id| *drawn.entry(id.clone()).or_default() += 1);
    }
    assert!(drawn.len() == 41 && drawn.values().all(|times| (10..55).contains(times)), "{drawn:?}");
    let mut clock = 0;
    while t.at_a.room.extremities().count() > 1 {
        clock += 1;
        assert!(clock < 10, "merging takes no more than five events here");
        t.at_a.send(&t.a, message(&t.alice, "merge"));
    }
}

#[test]
fn an_event_from_before_a_ban_soft_fails_after_it_and_may_still_be_followed() {
    for version in &VERSIONS {
        let mut t = two(version);
        let ban = t.at_a.send(&t.a, member(&t.alice, &t.bob, "ban"));
        // Bob has not seen the ban.
        let late = t.at_b.send(&t.b, state(&t.bob, "m.room.topic", "", json!({ "topic": "late" })));
        let later = t.at_b.send(&t.b, message(&t.bob, "later"));
        let before = t.at_a.room.current().clone();
        assert!(matches!(t.at_a.decide(&late), Decision::SoftFailed { .. }));
        assert!(matches!(t.at_a.decide(&later), Decision::SoftFailed { .. }));
        assert_eq!(t.at_a.room.current(), &before);
        assert_eq!(t.at_a.room.extremities().collect::<Vec<_>>(), [ban.event_id()]);
        let stored = &t.at_a.store.events[late.event_id()];
        assert_eq!(stored.status, Status::SoftFailed);
        assert!(stored.state_after.as_ref().unwrap().values().any(|id| id == late.event_id()));

        // The other way round both are accepted, and what follows both resolves to the ban.
        assert_eq!(t.at_b.decide(&ban), Decision::Accepted);
        let merge = t.at_b.forge(
            &t.a,
            message(&t.alice, "merge"),
            &ids(&[&ban, &later]),
            &auth_of(&t.at_b, &[("m.room.member", t.alice.as_str())]),
            9_999,
        );
        assert_eq!(t.at_b.decide(&merge), Decision::Accepted);
        assert_eq!(t.at_a.decide(&merge), Decision::Accepted, "a soft-failed event may be followed");
        assert_eq!(t.at_a.room.extremities().collect::<Vec<_>>(), [merge.event_id()]);
        assert_eq!(t.at_a.room.current(), t.at_b.room.current());
        assert_eq!(t.at_a.room.current_id("m.room.member", t.bob.as_str()), Some(ban.event_id()));
    }
}

/// The create and power levels events and some more of the current state.
fn auth_of(replica: &Replica, more: &[(&str, &str)]) -> Vec<OwnedEventId> {
    let mut wanted = vec![("m.room.power_levels", "")];
    if *replica.room.version() != RoomVersionId::V12 {
        wanted.push(("m.room.create", ""));
    }
    wanted.extend(more);
    wanted.into_iter().filter_map(|(kind, key)| replica.room.current_id(kind, key).map(ToOwned::to_owned)).collect()
}

#[test]
fn an_accepted_event_replaces_extremities_behind_soft_failed_events() {
    let mut t = two(&RoomVersionId::V12);
    let ban = t.at_a.send(&t.a, member(&t.alice, &t.bob, "ban"));
    let auth = auth_of(&t.at_a, &[("m.room.member", t.bob.as_str())]);
    // Bob's event follows the last one before the ban; Alice's follows only Bob's.
    let bob_auth: Vec<_> = auth.iter().filter(|id| *id != ban.event_id()).cloned().chain(ban_parent(&t)).collect();
    let soft = t.at_a.forge(&t.b, message(&t.bob, "soft"), ban.prev_events(), &bob_auth, 7_000);
    assert!(matches!(t.at_a.decide(&soft), Decision::SoftFailed { .. }));
    let onto_both = t.at_a.forge(
        &t.a,
        message(&t.alice, "on both"),
        &ids(&[&soft, &ban]),
        &auth_of(&t.at_a, &[("m.room.member", t.alice.as_str())]),
        7_001,
    );
    assert_eq!(t.at_a.decide(&onto_both), Decision::Accepted);
    assert_eq!(t.at_a.room.extremities().collect::<Vec<_>>(), [onto_both.event_id()]);

    let unban = t.at_a.send(&t.a, member(&t.alice, &t.bob, "leave"));
    let soft = t.at_a.forge(&t.b, message(&t.bob, "soft"), &ids(&[&unban]), &bob_auth, 7_002);
    assert!(matches!(t.at_a.decide(&soft), Decision::Rejected { .. }), "Bob is not in the state before it");
    let after = t.at_a.forge(
        &t.a,
        message(&t.alice, "after"),
        &ids(&[&soft]),
        &auth_of(&t.at_a, &[("m.room.member", t.alice.as_str())]),
        7_003,
    );
    assert_eq!(t.at_a.decide(&after), Decision::Accepted);
    assert_eq!(t.at_a.room.extremities().collect::<Vec<_>>(), [after.event_id()], "the unban lies behind it");
}

fn ban_parent(t: &Two) -> Option<OwnedEventId> {
    let member = t.at_b.room.current_id("m.room.member", t.bob.as_str())?;
    Some(member.to_owned())
}

#[test]
fn rejected_events_are_kept_and_change_nothing_and_reject_what_cites_them() {
    for version in &VERSIONS {
        let mut t = two(version);
        let head = t.at_a.room.extremities().map(ToOwned::to_owned).collect::<Vec<_>>();
        let auth = auth_of(&t.at_a, &[("m.room.member", t.bob.as_str())]);
        let content = json!({ "users": { t.bob.as_str(): 100 } });
        let usurped = t.at_a.forge(&t.b, state(&t.bob, "m.room.power_levels", "", content), &head, &auth, 6_000);
        let before = t.at_a.room.current().clone();
        let Decision::Rejected { reason } = t.at_a.decide(&usurped) else { panic!() };
        assert!(reason.contains("auth events"), "{reason}");
        assert_eq!(t.at_a.room.current(), &before);
        let stored = &t.at_a.store.events[usurped.event_id()];
        assert_eq!(stored.status, Status::Rejected);
        assert_eq!(stored.state_before, stored.state_after);

        let mut with_rejected: Vec<_> = auth
            .iter()
            .filter(|id| *id != t.at_a.room.current_id("m.room.power_levels", "").unwrap())
            .cloned()
            .collect();
        with_rejected.push(usurped.event_id().to_owned());
        let child = t.at_a.forge(
            &t.b,
            state(&t.bob, "m.room.topic", "", json!({ "topic": "mine" })),
            &ids(&[&usurped]),
            &with_rejected,
            6_001,
        );
        let Decision::Rejected { reason } = t.at_a.decide(&child) else { panic!() };
        assert!(reason.contains("rejected auth event"), "{reason}");

        // An honest event may follow it.
        let honest = t.at_a.forge(&t.b, message(&t.bob, "sorry"), &ids(&[&child]), &auth, 6_002);
        assert_eq!(t.at_a.decide(&honest), Decision::Accepted);
        assert_eq!(t.at_a.room.extremities().collect::<Vec<_>>(), [honest.event_id()]);
        assert_eq!(t.at_a.room.current(), &before);
    }
}

#[test]
fn auth_events_must_be_the_expected_ones_of_this_room() {
    for version in &VERSIONS {
        let mut t = two(version);
        let head: Vec<_> = t.at_a.room.extremities().map(ToOwned::to_owned).collect();
        let good = auth_of(&t.at_a, &[("m.room.member", t.bob.as_str())]);
        let mut reject = |auth: Vec<OwnedEventId>, why: &str| {
            let event = t.at_a.forge(&t.b, message(&t.bob, why), &head, &auth, 6_000);
            let Decision::Rejected { reason } = t.at_a.decide(&event) else { panic!("{why}") };
            assert!(reason.contains(why), "{why}: {reason}");
        };
        reject([good.clone(), vec![good[0].clone()]].concat(), "duplicate");
        reject([good.clone(), auth_of_alice(&t.alice, &good, &t.at_b)].concat(), "unexpected");
        if *version != RoomVersionId::V12 {
            reject(vec![], "m.room.create");
        }
        reject(good.iter().take(good.len() - 1).cloned().collect(), "not `join`");
    }
}

fn auth_of_alice(alice: &OwnedUserId, _: &[OwnedEventId], replica: &Replica) -> Vec<OwnedEventId> {
    vec![replica.room.current_id("m.room.member", alice.as_str()).unwrap().to_owned()]
}

#[test]
fn a_verdict_for_an_older_head_cannot_be_applied() {
    let mut t = two(&RoomVersionId::V12);
    let make =
        |t: &Two, at| t.at_a.room.create_local(message(&t.alice, "x"), ts(at), 0, t.a.signer(), &t.at_a.store).unwrap();
    let (one, two) = (make(&t, 7_000), make(&t, 7_001));
    t.at_a.take(&one);
    assert!(t.at_a.room.apply(&two).is_err());
    assert_eq!(t.at_a.room.extremities().collect::<Vec<_>>(), [one.event.event_id()]);
}

#[test]
fn a_stored_room_goes_on_after_a_restart() {
    let mut t = two(&RoomVersionId::V12);
    let y = t.at_b.send(&t.b, message(&t.bob, "y"));
    t.at_a.send(&t.a, message(&t.alice, "x"));
    assert_eq!(t.at_a.decide(&y), Decision::Accepted);
    let heads: Vec<_> = t.at_a.room.extremities().map(ToOwned::to_owned).collect();
    let current = t.at_a.room.current().clone();
    let (version, room_id) = (t.at_a.room.version().clone(), t.at_a.room.room_id().to_owned());
    t.at_a.room = Room::load(&version, &room_id, heads.clone(), current, &t.at_a.store).unwrap();
    let merge = t.at_a.send(&t.a, message(&t.alice, "both"));
    assert_eq!(merge.prev_events(), heads);
    assert!(Room::load(&version, &room_id, heads, t.at_a.room.current().clone(), &NoEvents).is_err());
}

#[test]
fn a_room_is_joined_with_the_state_that_another_server_gives() {
    for version in &VERSIONS {
        let mut t = two(version);
        let c = Server::new(3);
        let carol = c.user("carol");
        t.at_a.send(&t.a, state(&t.alice, "m.room.topic", "", json!({ "topic": "t" })));
        let template = t.at_a.room.template(member(&carol, &carol, "join"), ts(8_000), 0, &t.at_a.store).unwrap();
        assert!(!template.contains_key("signatures"));
        let join = kith_room::build::complete_template(template, version, ts(8_001), c.signer()).unwrap();
        let join = Arc::new(kith_room::receive::receive(join.text(), version, &Default::default()).unwrap());
        let event = |id: &OwnedEventId| t.at_a.store.events[id].event.clone();
        let state: Vec<_> = t.at_a.room.current().values().map(event).collect();
        let chain: Vec<_> = t.at_a.store.events.values().map(|stored| stored.event.clone()).collect();

        let given =
            handle_send_join(version, chain.clone(), state.clone(), join.clone(), Members::Whole, &NoEvents).unwrap();
        assert!(given.checked.dropped.is_empty());
        assert_eq!(&given.checked.state, t.at_a.room.current());
        let mut at_c = Replica { room: given.room, store: Memory::default(), clock: 9_000 };
        for checked in &given.checked.events {
            assert_eq!(checked.status, Status::Outlier);
            at_c.store.put_outlier(&checked.event, checked.status);
        }
        at_c.take(&given.verdict);
        assert_eq!(t.at_a.decide(&join), Decision::Accepted);
        assert_eq!(at_c.room.current(), t.at_a.room.current());
        let hello = at_c.send(&c, message(&carol, "hello"));
        assert_eq!(t.at_a.decide(&hello), Decision::Accepted);

        // Without its auth events, an event of the state is dropped; without the create event there is no room.
        let levels = t.at_b.room.current_id("m.room.power_levels", "").unwrap();
        let lacking = |id: &ruma::EventId| {
            let keep =
                |events: &[Arc<Event>]| events.iter().filter(|e| e.event_id() != id).cloned().collect::<Vec<_>>();
            handle_send_join(version, keep(&chain), keep(&state), join.clone(), Members::Whole, &NoEvents)
        };
        assert!(lacking(levels).is_err());
        assert!(lacking(t.at_b.room.current_id("m.room.create", "").unwrap()).is_err());
        // A state that names two events for one place is no state.
        let old = chain.iter().find(|event| event.is_state("m.room.topic", "")).unwrap();
        let second = t.at_a.send(&t.a, state_topic(&t.alice));
        let mut doubled = state.clone();
        doubled.extend([old.clone(), second]);
        assert!(handle_send_join(version, chain.clone(), doubled, join.clone(), Members::Whole, &NoEvents).is_err());
    }
}

fn state_topic(alice: &OwnedUserId) -> kith_room::Builder {
    state(alice, "m.room.topic", "", json!({ "topic": "another" }))
}

#[test]
fn a_forged_event_in_given_state_is_left_out() {
    let version = RoomVersionId::V12;
    let mut t = two(&version);
    let c = Server::new(3);
    let carol = c.user("carol");
    let template = t.at_a.room.template(member(&carol, &carol, "join"), ts(8_000), 0, &t.at_a.store).unwrap();
    let join = Arc::new(kith_room::build::complete_template(template, &version, ts(8_001), c.signer()).unwrap());
    let chain: Vec<_> = t.at_a.store.events.values().map(|stored| stored.event.clone()).collect();
    let mut given: Vec<_> = t.at_a.room.current().values().map(|id| t.at_a.store.events[id].event.clone()).collect();
    // Bob, at level 50, claims to have set the server ACL at a time when that needed level 100.
    let content = json!({ "users": { t.bob.as_str(): 50 }, "events": { "m.room.server_acl": 100 } });
    t.at_a.send(&t.a, state(&t.alice, "m.room.power_levels", "", content));
    let auth = auth_of(&t.at_a, &[("m.room.member", t.bob.as_str())]);
    let acl = t.at_a.forge(&t.b, state(&t.bob, "m.room.server_acl", "", json!({})), &[], &auth, 9_000);
    let levels = t.at_a.current("m.room.power_levels", "").unwrap();
    given.push(acl.clone());
    let joined =
        handle_send_join(&version, [chain, vec![levels]].concat(), given, join, Members::Whole, &NoEvents).unwrap();
    let checked = joined.checked.events.iter().find(|checked| checked.event.event_id() == acl.event_id()).unwrap();
    assert_eq!(checked.status, Status::Rejected);
    assert!(!joined.checked.state.values().any(|id| id == acl.event_id()));
}

#[test]
fn history_goes_behind_the_room_without_moving_it() {
    let mut t = two(&RoomVersionId::V12);
    let hello = t.at_a.send(&t.a, message(&t.alice, "past"));
    t.at_a.send(&t.a, member(&t.alice, &t.bob, "ban"));
    let past = t.at_a.store.events[hello.event_id()].state_after.clone().unwrap();
    let auth = auth_of(&t.at_b, &[("m.room.member", t.bob.as_str())]);
    let event = t.at_a.forge(&t.b, message(&t.bob, "also past"), &ids(&[&hello]), &auth, 4_000);
    let before: Vec<_> = t.at_a.room.extremities().map(ToOwned::to_owned).collect();
    let outcome = t.at_a.room.with_given_state(event.clone(), past, Placement::Historical, &t.at_a.store).unwrap();
    let Outcome::Verdict(verdict) = outcome else { panic!() };
    assert_eq!(verdict.decision, Decision::Accepted, "what is past does not soft-fail");
    t.at_a.take(&verdict);
    assert_eq!(t.at_a.room.extremities().map(ToOwned::to_owned).collect::<Vec<_>>(), before);
    assert!(!verdict.is_live());
}

#[test]
fn an_outlier_takes_its_place_when_it_comes_with_its_past() {
    let mut t = two(&RoomVersionId::V12);
    let topic = t.at_a.send(&t.a, state(&t.alice, "m.room.topic", "", json!({ "topic": "t" })));
    t.at_b.store.put_outlier(&topic, Status::Outlier);
    assert_eq!(t.at_b.decide(&topic), Decision::Accepted);
    assert_eq!(t.at_b.room.current(), t.at_a.room.current());
}

/// Where a room was joined, its create event is an outlier. Once it was judged as a second creation when another server
/// sent it again (as part of a walk to the room's beginning), and with it everything that came after was rejected for good.
#[test]
fn the_create_event_of_a_joined_room_may_come_again_without_harm() {
    for version in &VERSIONS {
        let mut t = two(version);
        let c = Server::new(3);
        let carol = c.user("carol");
        let template = t.at_a.room.template(member(&carol, &carol, "join"), ts(8_000), 0, &t.at_a.store).unwrap();
        let join = kith_room::build::complete_template(template, version, ts(8_001), c.signer()).unwrap();
        let join = Arc::new(kith_room::receive::receive(join.text(), version, &Default::default()).unwrap());
        let state: Vec<_> =
            t.at_a.room.current().values().map(|id: &OwnedEventId| t.at_a.store.events[id].event.clone()).collect();
        let chain: Vec<_> = t.at_a.store.events.values().map(|stored| stored.event.clone()).collect();
        let given = handle_send_join(version, chain, state, join.clone(), Members::Whole, &NoEvents).unwrap();
        let mut at_c = Replica { room: given.room, store: Memory::default(), clock: 9_000 };
        for checked in &given.checked.events {
            at_c.store.put_outlier(&checked.event, checked.status);
        }
        at_c.take(&given.verdict);
        assert_eq!(t.at_a.decide(&join), Decision::Accepted);

        let create = at_c.current("m.room.create", "").unwrap();
        assert!(matches!(at_c.room.handle_pdu(create, &at_c.store), Ok(Outcome::Duplicate)));
        assert_eq!(ids(&[&join]), at_c.room.extremities().map(ToOwned::to_owned).collect::<Vec<_>>());
        let hello = t.at_a.send(&t.a, message(&t.alice, "hello"));
        assert_eq!(at_c.decide(&hello), Decision::Accepted);
    }
}

#[test]
fn events_are_put_in_an_order_in_which_parents_come_first() {
    let mut t = two(&RoomVersionId::V12);
    let sent: Vec<_> = (0..5).map(|i| t.at_a.send(&t.a, message(&t.alice, &i.to_string()))).collect();
    let shuffled = [3, 0, 4, 2, 1, 3].map(|i: usize| sent[i].clone());
    let sorted = kith_room::graph::sort_by_prev_events(shuffled);
    assert_eq!(
        sorted.iter().map(|e| e.event_id()).collect::<Vec<_>>(),
        sent.iter().map(|e| e.event_id()).collect::<Vec<_>>()
    );
}

#[test]
fn an_event_costs_the_same_however_long_and_full_the_room_is() {
    let mut t = two(&RoomVersionId::V12);
    for i in 0..1_000 {
        let user = t.a.user(&format!("user{i}"));
        t.at_a.send(&t.a, member(&user, &user, "join"));
    }
    let before = t.at_a.store.reads.get();
    let hello = t.at_a.send(&t.a, message(&t.alice, "hello"));
    assert!(t.at_a.store.reads.get() - before <= 8, "the events that authorize it, and no more");
    let stored = &t.at_a.store.events[hello.event_id()];
    let (before, after) = (stored.state_before.as_ref().unwrap(), stored.state_after.as_ref().unwrap());
    assert!(before.ptr_eq(after) && after.ptr_eq(t.at_a.room.current()), "no copy of the state was made");
}
