//! How long rooms take that go to the disk: `cargo bench -p kith`. Figures and what they mean are in `docs/room-engine.md`.
//!
//! The store is a file in the build folder, every change is committed with fsync, and nothing of it runs on another core than the
//! one that is measured, but for the store's writer: while it writes, whoever asked for that waits.

#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../room/tests/support/mod.rs"]
mod support;

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kith::{
    platform::{Clock as _, Rng, SystemClock},
    rooms::{Received, Room, Rooms, read, states},
};
use kith_room::{Event, receive::receive};
use kith_store::{Options, Snapshot, Store, tables::rooms::STREAM};
use ruma::{OwnedUserId, RoomVersionId, UserId};
use serde_json::json;
use support::*;

const VERSION: RoomVersionId = RoomVersionId::V12;
const EVENTS: usize = 10_000;
const MEMBERS: usize = 10_000;
/// Events in a transaction of another server.
const BATCH: usize = 50;

criterion_group! {
    name = rooms;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_secs(1));
    targets = linear_room, room_of_10_000_members
}
criterion_main!(rooms);

fn linear_room(c: &mut Criterion) {
    let (origin, us) = (Server::new(1), Server::new(2));
    let alice = origin.user("alice");
    let mut there = Replica::create(&origin, &alice, &VERSION, json!({}));
    let joined = Joined::new(&mut there, &us);
    let news: Vec<Arc<Event>> =
        (0..EVENTS).map(|number| there.send(&origin, message(&alice, &number.to_string()))).collect();
    let texts: Vec<&str> = news.iter().map(|event| event.text()).collect();

    let mut group = c.benchmark_group("linear room of 10,000 events, into a store");
    group.throughput(Throughput::Elements(EVENTS as u64));
    for batch in [BATCH, 10] {
        group.bench_function(format!("batches of {batch}: read, verify, judge, store"), |b| {
            b.iter_custom(|times| {
                let run = |here: &Here| {
                    ingest(here, texts.chunks(batch).map(|batch| batch.iter().map(|it| read_event(it)).collect()))
                };
                (0..times).map(|_| timed(&Here::joined(&us, &joined), run)).sum()
            });
        });
    }
    group.bench_function(format!("batches of {BATCH}: judge, store"), |b| {
        b.iter_custom(|times| {
            let run = |here: &Here| ingest(here, news.chunks(BATCH).map(<[_]>::to_vec));
            (0..times).map(|_| timed(&Here::joined(&us, &joined), run)).sum()
        });
    });
    group.finish();
}

fn room_of_10_000_members(c: &mut Criterion) {
    let (origin, us) = (Server::new(1), Server::new(2));
    let alice = origin.user("alice");
    let mut there = Replica::create(&origin, &alice, &VERSION, json!({}));
    let before = Joined::new(&mut there, &us);
    let joins: Vec<Arc<Event>> = (0..MEMBERS)
        .map(|number| {
            let user = user(&origin, number);
            there.send(&origin, member(&user, &user, "join"))
        })
        .collect();
    let late = Joined::new(&mut there, &us);

    let mut group = c.benchmark_group("room of 10,000 members, into a store");
    group.throughput(Throughput::Elements(MEMBERS as u64));
    group.bench_function(format!("join by join, batches of {BATCH}: read, verify, judge, store"), |b| {
        b.iter_custom(|times| {
            let run = |here: &Here| {
                ingest(
                    here,
                    joins.chunks(BATCH).map(|batch| batch.iter().map(|event| read_event(event.text())).collect()),
                );
            };
            (0..times).map(|_| timed(&Here::joined(&us, &before), run)).sum()
        });
    });
    group.bench_function("send_join: check and store what was verified", |b| {
        b.iter_custom(|times| (0..times).map(|_| timed(&Here::new(&us, &late), |here| here.import(&late))).sum());
    });
    let texts: Vec<&str> = late.state.iter().chain(&late.auth_chain).map(|event| event.text()).collect();
    group.bench_function("send_join: read and verify", |b| {
        b.iter(|| texts.iter().for_each(|text| drop(black_box(read_event(text)))));
    });
    group.throughput(Throughput::Elements(1));

    let here = Here::joined(&us, &before);
    ingest(&here, joins.chunks(BATCH).map(<[_]>::to_vec));
    let snapshot = here.store.snapshot().unwrap();
    let stream: Vec<u64> = STREAM.prefix(&snapshot, &here.room.number()).unwrap().map(|row| row.unwrap().1).collect();
    let mut draw = 1_u64;
    let mut random = || {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (draw >> 33) as usize
    };
    group.bench_function("state at a random event: one member", |b| {
        b.iter_batched(
            || (stream[random() % stream.len()], user(&origin, random() % MEMBERS)),
            |(event, user)| member_at(&snapshot, event, &user),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("state at a random event: all of it, 5,000 members on average", |b| {
        b.iter_batched(
            || stream[random() % stream.len()],
            |event| {
                let row = read::event(&snapshot, event).unwrap().unwrap().row;
                states::whole(&snapshot, row.state_before).unwrap().len()
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn member_at(snapshot: &Snapshot, event: u64, user: &UserId) -> Option<u64> {
    let row = read::event(snapshot, event).unwrap().unwrap().row;
    states::lookup(snapshot, row.state_before, "m.room.member", user.as_str()).unwrap()
}

/// What another server answers to the join of our user, and the join.
struct Joined {
    state: Vec<Arc<Event>>,
    auth_chain: Vec<Arc<Event>>,
    join: Arc<Event>,
}

impl Joined {
    fn new(there: &mut Replica, us: &Server) -> Self {
        let state: Vec<Arc<Event>> =
            there.room.current().values().map(|id| there.store.events[id].event.clone()).collect();
        // In the rooms here nothing is replaced that others rest on.
        let auth_chain = Vec::new();
        let bob = us.user(&format!("bob{}", there.clock));
        let join = there.send(us, member(&bob, &bob, "join"));
        Self { state, auth_chain, join }
    }
}

/// A store on disk, with one room.
struct Here {
    store: Store,
    room: Room,
    _folder: tempfile::TempDir,
}

impl Here {
    fn new(us: &Server, joined: &Joined) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let store = Store::open_folder(folder.path(), Options::default()).unwrap();
        let key = Arc::new(key_pair(2, "0"));
        let rooms = Rooms::new(store.clone(), Arc::new(SystemClock::new()), Rng::from_seed(1), us.name.clone(), key);
        let room = rooms.get_or_new(joined.join.room_id(), &VERSION).unwrap();
        Self { store, room, _folder: folder }
    }

    fn joined(us: &Server, joined: &Joined) -> Self {
        let here = Self::new(us, joined);
        here.import(joined);
        here
    }

    fn import(&self, joined: &Joined) {
        let import = self.room.import_join(joined.auth_chain.clone(), joined.state.clone(), joined.join.clone(), None);
        assert!(futures::executor::block_on(import).unwrap());
    }
}

/// As another server's transactions come: the next when the last is answered.
fn ingest(here: &Here, batches: impl Iterator<Item = Vec<Arc<Event>>>) {
    for batch in batches {
        let results = futures::executor::block_on(here.room.receive("origin", batch)).unwrap();
        assert!(results.iter().all(|(_, received)| *received == Received::Accepted), "{results:?}");
    }
}

fn timed(here: &Here, run: impl Fn(&Here)) -> Duration {
    let clock = SystemClock::new();
    let start = clock.monotonic();
    run(here);
    clock.monotonic() - start
}

fn read_event(text: &str) -> Arc<Event> {
    Arc::new(receive(text, &VERSION, &Default::default()).unwrap())
}

fn user(server: &Server, number: usize) -> OwnedUserId {
    UserId::parse(format!("@user{number}:{}", server.name)).unwrap()
}
