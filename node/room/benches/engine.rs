//! How long the engine takes, without any storage: `cargo bench -p kith-room`.
//!
//! Each figure is the mean over the run. What is measured: events of one's own (build, hash, sign, judge, apply), events
//! from outside (parse, verify, judge, apply), both in a room of 10,000 members, and the resolution of forks there.

#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use kith_room::{
    Event, Outcome, StateMap, format, join::handle_send_join, local::NoEvents, receive::receive, resolve::resolve,
};
use ruma::RoomVersionId;
use serde_json::json;
use support::*;

const VERSION: RoomVersionId = RoomVersionId::V12;

fn main() {
    let server = Server::new(1);
    let alice = server.user("alice");

    let mut room = Replica::create(&server, &alice, &VERSION, json!({}));
    let took = time(|| (0..10_000).for_each(|i| drop(room.send(&server, message(&alice, &i.to_string())))));
    report("linear room: make, sign, judge and apply one message", took, 10_000);

    let mut stored: Vec<_> = room.store.events.values().collect();
    stored.sort_by_key(|stored| stored.number);
    let texts: Vec<String> = stored.iter().map(|stored| stored.event.text().to_owned()).collect();
    let rules = format::rules(&VERSION).unwrap();
    let mut events = Vec::new();
    let took = time(|| {
        events = texts.iter().map(|text| Arc::new(receive(text, &VERSION, &Default::default()).unwrap())).collect();
    });
    report("parse and verify one message (one signature)", took, texts.len());
    let took = time(|| {
        for event in &events {
            black_box(Event::from_stored(event.text(), event.event_id().to_owned(), &rules).unwrap());
        }
    });
    report("read one message back from the store", took, texts.len());
    let mut copy = Replica::empty(&VERSION, room.room.room_id());
    let took = time(|| events.iter().for_each(|event| assert!(matches!(copy.offer(event), Outcome::Verdict(_)))));
    report("linear room: judge and apply one message", took, events.len());

    let mut big = Replica::create(&server, &alice, &VERSION, json!({}));
    let took = time(|| {
        for i in 0..10_000 {
            let user = server.user(&format!("user{i}"));
            big.send(&server, member(&user, &user, "join"));
        }
    });
    report("room that grows to 10,000 members: make, sign, judge and apply one join", took, 10_000);
    let took = time(|| (0..2_000).for_each(|i| drop(big.send(&server, message(&alice, &i.to_string())))));
    report("room of 10,000 members: make, sign, judge and apply one message", took, 2_000);

    let chain: Vec<_> = big.store.events.values().map(|stored| stored.event.clone()).collect();
    let current = big.room.current().values().map(|id| big.store.events[id].event.clone()).collect::<Vec<_>>();
    let joiner = server.user("joiner");
    let builder = member(&joiner, &joiner, "join");
    let join = big.room.create_local(builder, ts(90_000), 0, server.signer(), &big.store).unwrap().event;
    let took = time(|| drop(handle_send_join(&VERSION, chain, current, join, &NoEvents).unwrap()));
    report("join of a room with 10,000 members: check auth chain and state (events verified already)", took, 1);

    // Forks of it: each a chain of joins (members change), and one with a change of power levels besides.
    let root = big.room.clone();
    for (forks, changes, levels) in [(2, 1, false), (2, 50, false), (2, 50, true), (10, 50, true), (50, 50, true)] {
        let mut ends: Vec<StateMap> = Vec::new();
        for fork in 0..forks {
            big.room = root.clone();
            if levels && fork % 2 == 1 {
                let content = json!({ "users": { server.user("user1").as_str(): fork } });
                big.send(&server, state(&alice, "m.room.power_levels", "", content));
            }
            for i in 0..changes {
                let user = server.user(&format!("user{}", (i * 7 + fork * 3) % 10_000));
                let content = json!({ "membership": "join", "displayname": format!("{fork} {i}") });
                big.send(&server, state(&user, "m.room.member", user.as_str(), content));
            }
            ends.push(big.room.current().clone());
        }
        let runs = 5;
        let took = time(|| (0..runs).for_each(|_| drop(black_box(resolve(&rules, &ends, &big.store).unwrap()))));
        let what = if levels { " and new power levels" } else { "" };
        report(
            &format!("room of 10,000 members: resolve {forks} forks, each with {changes} profile changes{what}"),
            took,
            runs,
        );
    }
}

fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn report(what: &str, took: Duration, count: usize) {
    println!("{:>12.1} us  {what}", took.as_secs_f64() * 1e6 / count as f64);
}
