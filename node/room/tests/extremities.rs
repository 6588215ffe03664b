//! A room that has forked many times over becomes one again: servers that merge at the same time, each following at most ten
//! extremities, leave fewer and fewer of them behind, and all come to the state that the oracle finds.
//!
//! Were the ten chosen by depth alone, all servers would choose the same of those that are equally deep, each merge would
//! add an extremity for the ten that it takes away together with all others, and many servers would never get to an end.

#![allow(missing_docs, clippy::unwrap_used)]

mod oracle;
mod support;

use std::sync::Arc;

use kith_room::{Event, Outcome, local::MAX_CITED_EXTREMITIES};
use oracle::{Book, Pdu};
use proptest::prelude::*;
use ruma::{OwnedUserId, RoomVersionId};
use serde_json::json;
use support::*;

/// Some servers, each with one user and its own copy of the room, all of which know the same.
struct Mesh {
    servers: Vec<Server>,
    users: Vec<OwnedUserId>,
    copies: Vec<Replica>,
    events: Vec<Arc<Event>>,
}

impl Mesh {
    fn new(version: &RoomVersionId, size: usize) -> Self {
        let servers: Vec<Server> = (0..size).map(|i| Server::new(i as u8 + 1)).collect();
        let users: Vec<OwnedUserId> = servers.iter().map(|server| server.user("u")).collect();
        let mut levels = json!({ "state_default": 0, "events": { "m.room.power_levels": 0 } });
        if *version != RoomVersionId::V12 {
            levels["users"][users[0].as_str()] = json!(100);
        }
        let mut first = Replica::create(&servers[0], &users[0], version, levels);
        for (server, user) in servers.iter().zip(&users).skip(1) {
            first.send(server, member(user, user, "join"));
        }
        let mut stored: Vec<_> = first.store.events.values().collect();
        stored.sort_by_key(|stored| stored.number);
        let events: Vec<_> = stored.into_iter().map(|stored| stored.event.clone()).collect();
        let mut copies = vec![first];
        for _ in 1..size {
            let mut copy = Replica::empty(version, copies[0].room.room_id());
            events.iter().for_each(|event| drop(copy.offer(event)));
            copies.push(copy);
        }
        Self { servers, users, copies, events }
    }

    /// Puts one more fork behind the root. What it changes conflicts with what others change.
    fn fork(&mut self, root: &Arc<Event>, number: usize, what: u8) {
        let who = number % self.servers.len();
        let sender = &self.users[who];
        let builder = match what {
            0 => message(sender, &number.to_string()),
            1 => state(sender, "m.room.topic", "", json!({ "topic": number })),
            2 => {
                state(sender, "m.room.member", sender.as_str(), json!({ "membership": "join", "displayname": number }))
            }
            _ => {
                let levels = self.copies[0].current("m.room.power_levels", "").unwrap();
                let mut levels: serde_json::Value = serde_json::from_str(levels.content().get()).unwrap();
                levels["events"]["m.room.name"] = json!(-(number as i64));
                state(sender, "m.room.power_levels", "", levels)
            }
        };
        let copy = &self.copies[0];
        let held = copy.store.events[root.event_id()].state_after.as_ref().unwrap();
        let prev = [root.event_id().to_owned()];
        let draft = copy.forge(&self.servers[who], builder.clone(), &prev, &[], 5_000);
        let keys = kith_room::auth::auth_types_for(&draft, copy.room.rules()).unwrap();
        let auth: Vec<_> = keys.iter().filter_map(|key| held.get(key).cloned()).collect();
        let event = copy.forge(&self.servers[who], builder, &prev, &auth, 5_000);
        self.tell(0..self.copies.len(), &event);
        self.events.push(event);
    }

    fn tell(&mut self, whom: impl IntoIterator<Item = usize>, event: &Arc<Event>) {
        for copy in whom {
            assert!(matches!(self.copies[copy].offer(event), Outcome::Verdict(_) | Outcome::Duplicate));
        }
    }

    /// All of these servers send at the same time, then hear of each other.
    fn all_send(&mut self, servers: std::ops::Range<usize>) {
        let sent: Vec<_> = servers
            .map(|i| {
                // Each draws anew, as `try_send` takes the clock for randomness.
                self.copies[i].clock += 10_000 + i as u64 * 100;
                let event = self.copies[i].send(&self.servers[i], message(&self.users[i], "merge"));
                assert!(event.prev_events().len() <= MAX_CITED_EXTREMITIES);
                event
            })
            .collect();
        for event in sent {
            self.tell(0..self.copies.len(), &event);
            self.events.push(event);
        }
    }

    fn heads(&self) -> usize {
        self.copies[0].room.extremities().count()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn many_forks_are_merged_by_servers_that_send_at_the_same_time(
        version in prop::sample::select(VERSIONS.to_vec()),
        size in 1..5_usize,
        forks in prop::collection::vec(0..4_u8, 11..40),
    ) {
        let mut mesh = Mesh::new(&version, size);
        let root = mesh.events.last().unwrap().clone();
        forks.iter().enumerate().for_each(|(number, what)| mesh.fork(&root, number, *what));
        prop_assert_eq!(mesh.heads(), forks.len());

        // A lone server needs a ninth of them; several at a time must not need more.
        for _ in 0..forks.len().div_ceil(MAX_CITED_EXTREMITIES - 1) {
            let before = mesh.heads();
            mesh.all_send(0..size);
            prop_assert!(mesh.heads() < before || before <= size, "{} after {before}", mesh.heads());
        }
        prop_assert!(mesh.heads() <= size);
        mesh.all_send(0..1);
        for copy in &mesh.copies {
            prop_assert_eq!(copy.room.extremities().count(), 1);
            prop_assert_eq!(copy.room.current(), mesh.copies[0].room.current());
        }

        // The oracle knows no citations by hash.
        if number(&version) < 3 {
            return Ok(());
        }
        let mut book = Book::new(version.as_str().parse().unwrap());
        for event in &mesh.events {
            book.add(Pdu::read(event.event_id().as_str(), &serde_json::from_str(event.text()).unwrap()));
        }
        let last = mesh.events.last().unwrap();
        let expected: Vec<&str> = book.fates[last.event_id().as_str()].after.values().map(|id| &**id).collect();
        let found: Vec<&str> = mesh.copies[0].room.current().values().map(|id| id.as_str()).collect();
        prop_assert_eq!(found, expected);
    }
}
