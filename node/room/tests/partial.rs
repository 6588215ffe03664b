//! Joining a room before its members are known, and learning of them later, ends where knowing them from the start does.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::{collections::BTreeMap, sync::Arc};

use kith_room::{
    Event, Outcome, Placement, Room, Status,
    join::handle_send_join,
    partial::{Members, Passed, complete},
    state,
};
use proptest::prelude::*;
use ruma::{OwnedEventId, OwnedUserId, RoomVersionId};
use serde_json::json;
use support::{Memory, Replica, Server, VERSIONS, member, message};

const PEOPLE: usize = 5;

/// One thing that somebody tries.
#[derive(Debug, Clone)]
struct Step {
    actor: usize,
    target: usize,
    act: u8,
    /// Whether the servers tell each other everything first.
    exchange: bool,
}

fn steps(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Step>> {
    let step = (0..PEOPLE, 0..PEOPLE, 0u8..10, any::<bool>()).prop_map(|(actor, target, act, exchange)| Step {
        actor,
        target,
        act,
        exchange,
    });
    prop::collection::vec(step, count)
}

/// Two servers with a room, whose users do things at the same time.
struct Residents {
    servers: [Server; 2],
    replicas: [Replica; 2],
    /// In the order in which they were made.
    events: Vec<Arc<Event>>,
}

impl Residents {
    fn new(version: &RoomVersionId) -> Self {
        let servers = [Server::new(1), Server::new(2)];
        let founder = servers[0].user("p0");
        let first = Replica::create(
            &servers[0],
            &founder,
            version,
            json!({ "users_default": 0, "users": levels(version, &founder) }),
        );
        let mut events: Vec<(u64, Arc<Event>)> =
            first.store.events.values().map(|stored| (stored.number, stored.event.clone())).collect();
        events.sort_by_key(|(number, _)| *number);
        let events: Vec<Arc<Event>> = events.into_iter().map(|(_, event)| event).collect();
        let mut second = Replica::empty(version, first.room.room_id());
        second.clock = 500_000;
        for event in &events {
            second.decide(event);
        }
        Self { servers, replicas: [first, second], events }
    }

    fn user(&self, index: usize) -> OwnedUserId {
        self.servers[index % 2].user(&format!("p{index}"))
    }

    /// Does what the step says, if it is allowed there.
    fn try_step(&mut self, step: &Step) {
        if step.exchange {
            self.exchange();
        }
        // People act on their own server.
        let side = step.actor % 2;
        let (actor, target) = (self.user(step.actor), self.user(step.target));
        let builder = match step.act {
            0 | 1 => message(&actor, "hello"),
            2 => support::state(&actor, "m.room.topic", "", json!({ "topic": step.target })),
            3 => member(&actor, &target, "ban"),
            4 => member(&actor, &target, "leave"),
            5 => member(&actor, &target, "invite"),
            6 => {
                let rule = if step.target.is_multiple_of(2) { "public" } else { "invite" };
                support::state(&actor, "m.room.join_rules", "", json!({ "join_rule": rule }))
            }
            7 => support::state(
                &actor,
                "m.room.power_levels",
                "",
                json!({ "users": { target: 50 }, "users_default": 0, "ban": 50, "kick": 50, "state_default": 50 }),
            ),
            _ => member(&actor, &actor, "join"),
        };
        if let Ok(event) = self.replicas[side].try_send(&self.servers[side], builder) {
            self.events.push(event);
        }
    }

    fn exchange(&mut self) {
        for replica in &mut self.replicas {
            let mut waiting = self.events.clone();
            for _ in 0..self.events.len() {
                waiting.retain(|event| matches!(replica.offer(event), Outcome::Missing { .. }));
            }
            assert!(waiting.is_empty(), "what both servers made, both can judge");
        }
    }
}

/// Powers of the founder; none are given to creators from version 12 on, who have all.
fn levels(version: &RoomVersionId, founder: &OwnedUserId) -> serde_json::Value {
    if *version == RoomVersionId::V12 { json!({}) } else { json!({ founder: 100 }) }
}

/// What the joining server holds after the join, and what it has judged since.
struct Joiner {
    room: Room,
    store: Memory,
    passed: Vec<Passed>,
}

impl Joiner {
    fn take(&mut self, event: &Arc<Event>, residents: &Residents) {
        let mut given = None;
        let mut outcome = self.room.handle_pdu(event.clone(), &self.store).unwrap();
        if let Outcome::Missing { auth, .. } = &outcome {
            assert!(auth.is_empty(), "auth events are fetched first");
            // What it follows is not here: a server gives the state before it.
            let state = residents.replicas[0].store.events[event.event_id()].state_before.clone().unwrap();
            given = Some(state.clone());
            outcome = self.room.with_given_state(event.clone(), state, Placement::Live, &self.store).unwrap();
        }
        let Outcome::Verdict(verdict) = outcome else { return };
        self.store.put(&verdict);
        self.room.apply(&verdict).unwrap();
        self.passed.push(Passed { event: event.clone(), placement: verdict.placement, given });
    }
}

/// Has a server join, with the members or without, and hear of all that is said, in the order in which it was.
fn join(residents: &Residents, join: &Arc<Event>, later: &[Arc<Event>], members: Members) -> Joiner {
    let resident = &residents.replicas[0];
    let before = resident.store.events[join.event_id()].state_before.clone().unwrap();
    let event = |id: &OwnedEventId| resident.store.events[id].event.clone();
    let state: Vec<Arc<Event>> = before
        .iter()
        .filter(|(key, _)| members == Members::Whole || key.kind() != "m.room.member")
        .map(|(_, id)| event(id))
        .collect();
    // All that anything rests on, as a server fetches it when it lacks it.
    let chain: Vec<Arc<Event>> = resident
        .store
        .events
        .values()
        .filter(|stored| stored.event.state_key().is_some() && stored.event.event_id() != join.event_id())
        .filter(|stored| !later.iter().any(|event| event.event_id() == stored.event.event_id()))
        .map(|stored| stored.event.clone())
        .collect();
    let mut store = Memory::default();
    let joined = handle_send_join(resident.room.version(), chain, state, join.clone(), members, &store).unwrap();
    for checked in &joined.checked.events {
        store.put_outlier(&checked.event, checked.status);
    }
    store.put(&joined.verdict);
    let mut room = joined.room;
    room.apply(&joined.verdict).unwrap();
    let mut joiner = Joiner { room, store, passed: Vec::new() };
    for event in later {
        joiner.take(event, residents);
    }
    joiner
}

fn check(version: &RoomVersionId, before: &[Step], after: &[Step]) -> Result<(), TestCaseError> {
    let mut residents = Residents::new(version);
    for user in 1..PEOPLE {
        residents.try_step(&Step { actor: user, target: user, act: 9, exchange: true });
    }
    for step in before {
        residents.try_step(step);
    }
    residents.exchange();
    let server = Server::new(3);
    let user = server.user("joiner");
    residents.replicas[0].clock += 10;
    let Ok(join_event) = residents.replicas[0].try_send(&server, member(&user, &user, "join")) else {
        return Ok(()); // Not a public room any more.
    };
    let begin = residents.events.len();
    residents.events.push(join_event.clone());
    for step in after {
        residents.try_step(step);
    }
    residents.exchange();
    let later = residents.events[begin + 1..].to_vec();

    let whole = join(&residents, &join_event, &later, Members::Whole);
    let partial = join(&residents, &join_event, &later, Members::Omitted);
    prop_assert!(partial.room.is_partial() && !whole.room.is_partial());

    // The members come.
    let resident = &residents.replicas[0].store;
    let before_join = resident.events[join_event.event_id()].state_before.clone().unwrap();
    let state: Vec<_> = before_join.values().map(|id| resident.events[id].event.clone()).collect();
    let done =
        complete(version, Vec::new(), state, join_event.clone(), partial.passed.clone(), &partial.store).unwrap();
    let mut room = done.room;
    let mut judged = BTreeMap::new();
    for verdict in &done.verdicts {
        room.apply(verdict).unwrap();
        judged.insert(verdict.event.event_id().to_owned(), verdict);
    }
    prop_assert!(!room.is_partial());
    prop_assert_eq!(judged.len(), partial.passed.len() + 1);
    for (id, verdict) in &judged {
        let expected = &whole.store.events[id];
        prop_assert_eq!(verdict.status(), expected.status, "{}", expected.event.text());
        prop_assert!(state::same(&verdict.state_before, expected.state_before.as_ref().unwrap()), "before {}", id);
        prop_assert!(state::same(&verdict.state_after, expected.state_after.as_ref().unwrap()), "after {}", id);
    }
    prop_assert!(state::same(room.current(), whole.room.current()));
    prop_assert!(room.extremities().eq(whole.room.extremities()));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_room_whose_members_come_later_ends_as_if_they_had_been_known_from_the_start(
        version in prop::sample::select(VERSIONS.to_vec()),
        before in steps(0..12),
        after in steps(0..16),
    ) {
        check(&version, &before, &after)?;
    }
}

/// A room of `version` with one member who is known and one who is banned, and the first events after a join without members.
fn banned_speaker(version: &RoomVersionId) -> (Residents, Arc<Event>, Arc<Event>) {
    let mut residents = Residents::new(version);
    residents.try_step(&Step { actor: 1, target: 1, act: 9, exchange: true });
    residents.exchange();
    let (founder, banned) = (residents.user(0), residents.user(1));
    let cited = residents.replicas[0].current("m.room.member", banned.as_str()).unwrap();
    residents.replicas[0].send(&residents.servers[0], member(&founder, &banned, "ban"));
    let server = Server::new(3);
    let user = server.user("joiner");
    let join = residents.replicas[0].try_send(&server, member(&user, &user, "join")).unwrap();
    // A hostile server goes on as if its user were still there.
    let auth: Vec<OwnedEventId> = ["m.room.create", "m.room.power_levels"]
        .iter()
        .filter(|kind| **kind != "m.room.create" || *version != RoomVersionId::V12)
        .map(|kind| residents.replicas[0].current(kind, "").unwrap().event_id().to_owned())
        .chain([cited.event_id().to_owned()])
        .collect();
    let said = residents.replicas[0].forge(
        &residents.servers[1],
        message(&banned, "still here"),
        &[join.event_id().to_owned()],
        &auth,
        900_000,
    );
    (residents, join, said)
}

#[test]
fn who_spoke_though_banned_is_found_out_when_the_members_come() {
    for version in &VERSIONS {
        let (residents, join_event, said) = banned_speaker(version);
        let partial = join(&residents, &join_event, std::slice::from_ref(&said), Members::Omitted);
        assert_eq!(partial.store.events[said.event_id()].status, Status::Accepted, "the ban is not known yet");
        assert!(
            partial.room.current_id("m.room.member", said.sender().as_str()).is_some(),
            "the membership that an event cites stands in for the one that is not known"
        );
        let resident = &residents.replicas[0].store;
        let before = resident.events[join_event.event_id()].state_before.clone().unwrap();
        let state = before.values().map(|id| resident.events[id].event.clone()).collect();
        let done = complete(version, Vec::new(), state, join_event, partial.passed, &partial.store).unwrap();
        assert_eq!(done.verdicts.len(), 2);
        assert_eq!(done.verdicts[1].status(), Status::Rejected, "version {version}");
        assert!(done.verdicts[1].new_extremities.contains(done.verdicts[0].event.event_id()));
    }
}

#[test]
fn a_whole_state_that_does_not_allow_the_join_completes_nothing() {
    let version = &RoomVersionId::V11;
    let (residents, join_event, _) = banned_speaker(version);
    let partial = join(&residents, &join_event, &[], Members::Omitted);
    let resident = &residents.replicas[0].store;
    let before = resident.events[join_event.event_id()].state_before.clone().unwrap();
    let state = |kind: &'static str| {
        let resident = &residents.replicas[0].store;
        before
            .iter()
            .filter(move |(key, _)| key.kind() != kind)
            .map(|(_, id)| resident.events[id].event.clone())
            .collect::<Vec<_>>()
    };
    for missing in ["m.room.create", "m.room.join_rules"] {
        let done =
            complete(version, Vec::new(), state(missing), join_event.clone(), partial.passed.clone(), &partial.store);
        assert!(done.is_err(), "a state without {missing}");
    }
}
