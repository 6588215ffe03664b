//! How long the engine takes, without any storage: `cargo bench -p kith-room`. Figures and what they mean are in
//! `docs/room-engine.md`.
//!
//! Events go the whole way: their text is read, hash and signature are verified, they are judged and applied. State at any
//! event is had in one look-up here, as the memory holds it; what a node does for it is measured in `node`.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kith_room::{
    Event, Outcome, Source, StateMap, format, join::handle_send_join, local::NoEvents, partial::Members,
    receive::receive, resolve::resolve, state::changes,
};
use ruma::{OwnedUserId, RoomVersionId, UserId};
use serde_json::json;
use support::*;

const VERSION: RoomVersionId = RoomVersionId::V12;
const EVENTS: usize = 10_000;
const MEMBERS: usize = 10_000;

criterion_group! {
    name = engine;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_secs(1));
    targets = linear_room, room_of_10_000_members
}
criterion_main!(engine);

fn linear_room(c: &mut Criterion) {
    let (server, alice) = alice();
    let mut room = Replica::create(&server, &alice, &VERSION, json!({}));
    (0..EVENTS).for_each(|i| drop(room.send(&server, message(&alice, &i.to_string()))));
    let events = in_order(&room);
    let texts: Vec<&str> = events.iter().map(|event| event.text()).collect();
    let rules = format::rules(&VERSION).unwrap();

    let mut group = c.benchmark_group("linear room of 10,000 events");
    group.throughput(Throughput::Elements(texts.len() as u64));
    group.bench_function("ingest: read, verify, judge, apply", |b| b.iter(|| ingest(&texts, &room)));
    bench_judging(&mut group, &events, &room);
    group.bench_function("read back from the store", |b| {
        b.iter(|| {
            for event in &events {
                black_box(Event::from_stored(event.text(), event.event_id().to_owned(), &rules).unwrap());
            }
        });
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("make, sign, judge one message", |b| {
        b.iter(|| room.room.create_local(message(&alice, "hi"), ts(9_000), 0, server.signer(), &room.store).unwrap());
    });
    group.finish();
}

fn room_of_10_000_members(c: &mut Criterion) {
    let (server, alice) = alice();
    let mut room = Replica::create(&server, &alice, &VERSION, json!({}));
    for i in 0..MEMBERS {
        let user = user(&server, i);
        room.send(&server, member(&user, &user, "join"));
    }
    let events = in_order(&room);
    let texts: Vec<&str> = events.iter().map(|event| event.text()).collect();

    let mut group = c.benchmark_group("room of 10,000 members");
    group.throughput(Throughput::Elements(texts.len() as u64));
    group.bench_function("ingest: read, verify, judge, apply", |b| b.iter(|| ingest(&texts, &room)));
    bench_judging(&mut group, &events, &room);
    group.throughput(Throughput::Elements(1));
    bench_join(&mut group, &room, &server);
    bench_state_at_an_event(&mut group, &room, &events);
    for (forks, changes) in [(2, 1), (2, 50), (10, 50), (50, 50)] {
        bench_resolution(&mut group, &mut room, &server, forks, changes);
    }
    group.finish();
}

/// What another server would do to have all events of the room, given in order.
fn ingest(texts: &[&str], room: &Replica) -> Replica {
    let mut copy = Replica::empty(&VERSION, room.room.room_id());
    for text in texts {
        let event = Arc::new(receive(text, &VERSION, &Default::default()).unwrap());
        assert!(matches!(copy.offer(&event), Outcome::Verdict(_)));
    }
    copy
}

type Group<'a> = BenchmarkGroup<'a, criterion::measurement::WallTime>;

fn bench_judging(group: &mut Group<'_>, events: &[Arc<Event>], room: &Replica) {
    group.bench_function("judge, apply", |b| {
        b.iter_batched(
            || Replica::empty(&VERSION, room.room.room_id()),
            |mut copy| {
                events.iter().for_each(|event| assert!(matches!(copy.offer(event), Outcome::Verdict(_))));
                copy
            },
            BatchSize::PerIteration,
        );
    });
}

fn bench_join(group: &mut Group<'_>, room: &Replica, server: &Server) {
    let chain: Vec<_> = room.store.events.values().map(|stored| stored.event.clone()).collect();
    let state: Vec<_> = room.room.current().values().map(|id| room.store.events[id].event.clone()).collect();
    let joiner = server.user("joiner");
    let builder = member(&joiner, &joiner, "join");
    let join = room.room.create_local(builder, ts(90_000), 0, server.signer(), &room.store).unwrap().event;
    group.bench_function("join: check auth chain and state", |b| {
        b.iter_batched(
            || (chain.clone(), state.clone()),
            |(chain, state)| handle_send_join(&VERSION, chain, state, join.clone(), Members::Whole, &NoEvents).unwrap(),
            BatchSize::PerIteration,
        );
    });
}

fn bench_state_at_an_event(group: &mut Group<'_>, room: &Replica, events: &[Arc<Event>]) {
    let current = room.room.current();
    let mut draw = 1_u64;
    group.bench_function("state at a random event: one look-up", |b| {
        b.iter(|| {
            draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let event = &events[(draw >> 33) as usize % events.len()];
            let state = room.store.state_after(event.event_id()).unwrap().unwrap();
            black_box(kith_room::state::get(&state, "m.room.member", event.sender().as_str()).map(ToOwned::to_owned))
        });
    });
    let halfway = room.store.state_after(events[events.len() / 2].event_id()).unwrap().unwrap();
    group.bench_function("what 5,000 joins changed in the state", |b| b.iter(|| changes(&halfway, current).len()));
}

/// Forks behind the room's end, each with some changes of profiles; in every other one new power levels besides.
fn bench_resolution(group: &mut Group<'_>, room: &mut Replica, server: &Server, forks: usize, changes: usize) {
    let rules = format::rules(&VERSION).unwrap();
    let root = room.room.clone();
    let alice = server.user("alice");
    let mut ends: Vec<StateMap> = Vec::new();
    for fork in 0..forks {
        room.room = root.clone();
        if changes > 1 && fork % 2 == 1 {
            let content = json!({ "users": { user(server, 1).as_str(): fork } });
            room.send(server, state(&alice, "m.room.power_levels", "", content));
        }
        for i in 0..changes {
            let user: OwnedUserId = user(server, (i * 7 + fork * 3) % MEMBERS);
            let content = json!({ "membership": "join", "displayname": format!("{fork} {i}") });
            room.send(server, state(&user, "m.room.member", user.as_str(), content));
        }
        ends.push(room.room.current().clone());
    }
    room.room = root;
    let name = format!("{forks} forks of {changes} changes");
    group.bench_function(BenchmarkId::new("resolve", name), |b| {
        b.iter(|| resolve(&rules, black_box(&ends), &room.store).unwrap());
    });
}

fn alice() -> (Server, OwnedUserId) {
    let server = Server::new(1);
    let alice = server.user("alice");
    (server, alice)
}

fn user(server: &Server, number: usize) -> OwnedUserId {
    UserId::parse(format!("@user{number}:{}", server.name)).unwrap()
}

fn in_order(room: &Replica) -> Vec<Arc<Event>> {
    let mut stored: Vec<_> = room.store.events.values().collect();
    stored.sort_by_key(|stored| stored.number);
    stored.into_iter().map(|stored| stored.event.clone()).collect()
}
