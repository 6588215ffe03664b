//! Whatever the order in which the events of a room arrive: the same are rejected, and the state before and after each
//! is the same. Once the heads are merged, the current state is the same.
//!
//! The graphs come from a play of four servers that act on what they have seen so far (so their events fork), with a
//! fifth that keeps to no rule and cites what it likes.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kith_room::{Builder, Event, Outcome, Source, StateMap, Status, resolve::resolve};
use proptest::prelude::*;
use ruma::{
    EventId, OwnedEventId, OwnedUserId, RoomVersionId,
    state_res::{self, utils::event_id_set::EventIdSet},
};
use serde_json::{Value, json};
use support::*;

const PEOPLE: usize = 4;

#[derive(Debug, Clone)]
enum Step {
    /// Somebody does something according to their own copy of the room.
    Act { who: usize, what: What },
    /// Somebody's copy takes in an event that others have made, and what it builds on.
    Hear { who: usize, which: prop::sample::Index },
    /// Somebody makes an event that need not be allowed, after some events of the past.
    Forge { who: usize, what: What, after: Vec<prop::sample::Index>, auth_at: prop::sample::Index },
}

#[derive(Debug, Clone)]
enum What {
    Say,
    Topic(u8),
    Name(u8),
    Membership { target: usize, membership: &'static str },
    Level { target: usize, level: i64 },
    Ban { level: i64 },
    JoinRule(&'static str),
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        2 => Just(What::Say),
        3 => any::<u8>().prop_map(What::Topic),
        1 => any::<u8>().prop_map(What::Name),
        4 => (0..PEOPLE, prop::sample::select(vec!["join", "leave", "ban", "invite"]))
            .prop_map(|(target, membership)| What::Membership { target, membership }),
        4 => (0..PEOPLE, prop::sample::select(vec![0, 40, 50, 60, 100]))
            .prop_map(|(target, level)| What::Level { target, level }),
        1 => prop::sample::select(vec![40, 50, 60]).prop_map(|level| What::Ban { level }),
        2 => prop::sample::select(vec!["public", "invite", "knock"]).prop_map(What::JoinRule),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..PEOPLE, what()).prop_map(|(who, what)| Step::Act { who, what }),
        4 => (0..PEOPLE, any::<prop::sample::Index>()).prop_map(|(who, which)| Step::Hear { who, which }),
        1 => (0..PEOPLE, what(), prop::collection::vec(any::<prop::sample::Index>(), 1..4), any::<prop::sample::Index>())
            .prop_map(|(who, what, after, auth_at)| Step::Forge { who, what, after, auth_at }),
    ]
}

struct Play {
    servers: Vec<Server>,
    users: Vec<OwnedUserId>,
    copies: Vec<Replica>,
    /// In an order in which parents come first.
    events: Vec<Arc<Event>>,
    clock: u64,
}

impl Play {
    fn new(version: &RoomVersionId) -> Self {
        let servers: Vec<Server> = (0..PEOPLE).map(|i| Server::new(i as u8 + 1)).collect();
        let users: Vec<OwnedUserId> = servers.iter().map(|server| server.user("u")).collect();
        let mut levels = json!({ "users": { users[1].as_str(): 50, users[2].as_str(): 50 }, "invite": 0 });
        if *version != RoomVersionId::V12 {
            levels["users"][users[0].as_str()] = json!(100);
        }
        let mut first = Replica::create(&servers[0], &users[0], version, levels);
        for i in 1..PEOPLE {
            first.send(&servers[i], member(&users[i], &users[i], "join"));
        }
        let mut stored: Vec<_> = first.store.events.values().collect();
        stored.sort_by_key(|stored| stored.number);
        let events: Vec<_> = stored.into_iter().map(|stored| stored.event.clone()).collect();
        let mut copies = vec![first];
        for _ in 1..PEOPLE {
            let mut copy = Replica::empty(version, copies[0].room.room_id());
            events.iter().for_each(|event| drop(copy.offer(event)));
            copies.push(copy);
        }
        Self { servers, users, copies, events, clock: 2_000 }
    }

    fn builder(&self, who: usize, what: &What, copy: &Replica) -> Builder {
        let sender = &self.users[who];
        let levels = |change: &dyn Fn(&mut Value)| {
            let now = copy.current("m.room.power_levels", "");
            let mut content = now.and_then(|e| serde_json::from_str(e.content().get()).ok()).unwrap_or(json!({}));
            change(&mut content);
            state(sender, "m.room.power_levels", "", content)
        };
        match what {
            What::Say => message(sender, &self.clock.to_string()),
            What::Topic(topic) => state(sender, "m.room.topic", "", json!({ "topic": topic })),
            What::Name(name) => state(sender, "m.room.name", "", json!({ "name": name })),
            What::Membership { target, membership } => member(sender, &self.users[*target], membership),
            What::Level { target, level } => levels(&|content| {
                content["users"][self.users[*target].as_str()] = json!(level);
            }),
            What::Ban { level } => levels(&|content| content["ban"] = json!(level)),
            What::JoinRule(rule) => state(sender, "m.room.join_rules", "", json!({ "join_rule": rule })),
        }
    }

    fn run(&mut self, steps: &[Step]) {
        for step in steps {
            // Steps that share a time make the tie-breaks by event ID matter.
            self.clock += u64::from(self.events.len().is_multiple_of(2));
            match step {
                Step::Act { who, what } => {
                    let builder = self.builder(*who, what, &self.copies[*who]);
                    let copy = &mut self.copies[*who];
                    copy.clock = self.clock;
                    // The room's creator stays, so that somebody can merge the heads in the end.
                    let leaves =
                        *who == 0 && matches!(what, What::Membership { target: 0, .. } | What::Level { target: 0, .. });
                    if !leaves && let Ok(event) = copy.try_send(&self.servers[*who], builder) {
                        self.events.push(event);
                    }
                }
                Step::Hear { who, which } => {
                    let event = which.get(&self.events).clone();
                    self.hear(*who, &event);
                }
                Step::Forge { who, what, after, auth_at } => {
                    let leaves = *who == 0;
                    let builder = self.builder(*who, what, &self.copies[*who]);
                    let prev: BTreeSet<_> = after.iter().map(|i| i.get(&self.events).event_id().to_owned()).collect();
                    let prev: Vec<_> = prev.into_iter().collect();
                    prev.iter().for_each(|id| {
                        let event = self.events.iter().find(|event| event.event_id() == id).unwrap().clone();
                        self.hear(*who, &event);
                    });
                    // Its auth events are those of some other place in the graph.
                    let at = auth_at.get(&self.events).clone();
                    self.hear(*who, &at);
                    let copy = &self.copies[*who];
                    let state = copy.store.state_after(at.event_id()).unwrap().unwrap();
                    let draft = copy.forge(&self.servers[*who], builder.clone(), &prev, &[], self.clock);
                    let auth = kith_room::auth::auth_types_for(&draft, copy.room.rules()).unwrap();
                    let auth: Vec<_> = auth.iter().filter_map(|key| state.get(key).cloned()).collect();
                    let event = copy.forge(&self.servers[*who], builder, &prev, &auth, self.clock);
                    if !leaves && !self.events.iter().any(|known| known.event_id() == event.event_id()) {
                        self.copies[*who].offer(&event);
                        self.events.push(event);
                    }
                }
            }
        }
    }

    /// Takes in an event and, before it, whatever it builds on.
    fn hear(&mut self, who: usize, event: &Arc<Event>) {
        for event in past_of(event, &self.events) {
            assert!(!matches!(self.copies[who].offer(&event), Outcome::Missing { .. } | Outcome::Refused { .. }));
        }
    }
}

/// The event and its ancestors, parents first.
fn past_of(event: &Arc<Event>, events: &[Arc<Event>]) -> Vec<Arc<Event>> {
    let by_id: BTreeMap<&EventId, &Arc<Event>> = events.iter().map(|event| (event.event_id(), event)).collect();
    let mut wanted = BTreeSet::new();
    let mut open = vec![event.event_id().to_owned()];
    while let Some(id) = open.pop() {
        let Some(event) = by_id.get(&*id) else { continue };
        if wanted.insert(id) {
            open.extend(event.prev_events().iter().chain(event.auth_events()).cloned());
        }
    }
    events.iter().filter(|event| wanted.contains(event.event_id())).cloned().collect()
}

/// A copy to which the events came in this order; what cannot be judged yet waits.
fn arrive(version: &RoomVersionId, events: &[Arc<Event>], order: &[usize]) -> Replica {
    let mut copy = Replica::empty(version, events[0].room_id());
    let mut parked: Vec<Arc<Event>> = Vec::new();
    for index in order {
        parked.push(events[*index].clone());
        loop {
            let before = parked.len();
            parked.retain(|event| matches!(copy.offer(event), Outcome::Missing { .. }));
            if parked.len() == before {
                break;
            }
        }
    }
    assert!(parked.is_empty());
    copy
}

type Fate<'a> = BTreeMap<&'a EventId, (bool, Option<&'a StateMap>, Option<&'a StateMap>)>;

fn fate(copy: &Replica) -> Fate<'_> {
    copy.store
        .events
        .iter()
        .map(|(id, stored)| {
            let rejected = stored.status == Status::Rejected;
            (&**id, (rejected, stored.state_before.as_ref(), stored.state_after.as_ref()))
        })
        .collect()
}

/// State resolution as the specification words it: whole states, whole auth chains, the whole subgraph.
///
/// None for room version 1, whose algorithm is another one.
fn resolve_plainly(copy: &Replica, forks: &[StateMap]) -> Option<StateMap> {
    let rules = copy.room.rules();
    let v2 = rules.state_res.v2_rules()?;
    let known = |id: &EventId| {
        copy.store.events.get(id).map(|stored| kith_room::KnownEvent {
            event: stored.event.clone(),
            rejected: stored.status == Status::Rejected,
        })
    };
    let chain = |start: Vec<OwnedEventId>| {
        let mut seen = BTreeSet::new();
        let mut open = start;
        while let Some(id) = open.pop() {
            if let Some(known) = known(&id)
                && seen.insert(id)
            {
                open.extend(known.event.all_auth_events().map(|id| id.into_owned()));
            }
        }
        seen
    };
    let maps: Vec<state_res::StateMap<OwnedEventId>> = forks
        .iter()
        .map(|fork| fork.iter().map(|(key, id)| ((key.kind().into(), key.key().to_owned()), id.clone())).collect())
        .collect();
    let chains: Vec<EventIdSet<OwnedEventId>> =
        forks.iter().map(|fork| chain(fork.values().cloned().collect()).into_iter().collect()).collect();
    let resolved = state_res::resolve(
        &rules.authorization,
        v2,
        &maps,
        chains,
        known,
        |conflicted: &state_res::StateMap<Vec<OwnedEventId>>| {
            let conflicted: BTreeSet<OwnedEventId> = conflicted.values().flatten().cloned().collect();
            let below = chain(conflicted.iter().cloned().collect());
            let on_path = below
                .into_iter()
                .filter(|id| conflicted.contains(id) || !chain(vec![id.clone()]).is_disjoint(&conflicted));
            Some(on_path.collect())
        },
    )
    .unwrap();
    let mut map = StateMap::new();
    for ((kind, key), id) in resolved {
        map.insert(kith_room::StateKey::new(kind.to_string(), key), id);
    }
    Some(map)
}

fn cases() -> u32 {
    std::env::var("KITH_CASES").ok().and_then(|cases| cases.parse::<u32>().ok()).map_or(48, |cases| cases.div_ceil(200))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_order_of_arrival_leads_to_the_same_room(
        version in prop::sample::select(VERSIONS.to_vec()),
        steps in prop::collection::vec(step(), 1..40),
        seeds in prop::collection::vec(any::<u64>(), 3),
    ) {
        let mut play = Play::new(&version);
        play.run(&steps);
        let count = play.events.len();

        let mut copies = vec![
            arrive(&version, &play.events, &(0..count).collect::<Vec<_>>()),
            arrive(&version, &play.events, &(0..count).rev().collect::<Vec<_>>()),
        ];
        for seed in &seeds {
            let mut order: Vec<usize> = (0..count).collect();
            let mut draw = *seed;
            order.sort_by_cached_key(|_| {
                draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                draw >> 33
            });
            copies.push(arrive(&version, &play.events, &order));
        }
        for copy in &copies[1..] {
            prop_assert_eq!(fate(&copies[0]), fate(copy));
        }
        // The players' own copies, which know a part each, agree about that part.
        for copy in &play.copies {
            let all = fate(&copies[0]);
            for (id, fate) in fate(copy) {
                prop_assert_eq!(&all[id], &fate);
            }
        }

        // Resolution with all its short cuts is resolution by the book.
        let copy = &copies[0];
        let ends: Vec<StateMap> = copy.store.events.values().rev().take(5).filter_map(|s| s.state_after.clone()).collect();
        for forks in [&ends[..2.min(ends.len())], &ends[..3.min(ends.len())], &ends[..]] {
            let resolved = resolve(copy.room.rules(), forks, &copy.store).unwrap();
            prop_assert_eq!(&resolved, &resolve_plainly(copy, forks).unwrap_or_else(|| resolved.clone()));
            let reversed: Vec<_> = forks.iter().rev().cloned().collect();
            prop_assert_eq!(&resolved, &resolve(copy.room.rules(), &reversed, &copy.store).unwrap());
        }

        // The creator merges on each copy in turn until all have one head.
        let creator = &play.users[0];
        for round in 0..3 {
            for index in 0..copies.len() {
                if round > 0 && copies[index].room.extremities().count() == 1 {
                    continue;
                }
                copies[index].clock = 50_000 + round * 100 + index as u64;
                let merge = copies[index].send(&play.servers[0], message(creator, "merge"));
                for copy in &mut copies {
                    copy.offer(&merge);
                }
            }
        }
        for copy in &copies {
            prop_assert_eq!(copy.room.extremities().count(), 1);
            prop_assert_eq!(copy.room.extremities().next(), copies[0].room.extremities().next());
            prop_assert_eq!(copy.room.current(), copies[0].room.current());
        }
    }
}
