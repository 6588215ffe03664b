//! Random operations of several users, whose clients look through windows that change, and lose answers: a client that applies all it
//! is told knows of each room in its window what is, and of none what it may not.

use std::collections::BTreeMap;

use super::*;
use crate::{platform::Rng, sync::tests::model::World};

const OPERATIONS: usize = 1_500;

/// A room as a client knows it.
#[derive(Default)]
struct Known {
    /// The latest events, without a gap.
    timeline: Vec<String>,
    state: BTreeMap<(String, String), String>,
    membership: String,
    joined: u64,
}

struct Phone {
    user: usize,
    window: Window,
    rooms: BTreeMap<String, Known>,
}

impl Phone {
    async fn ask(&mut self, world: &World, rng: &Rng) {
        let pick = |from: &[u64]| from[usize::try_from(rng.below(from.len() as u64)).unwrap()];
        // Sometimes a window on a few rooms, which leaves the others behind.
        let last = pick(&[0, 2, 99, 99, 99]);
        let list = &mut self.window.body["lists"]["all"];
        list["ranges"] = json!([[0, last]]);
        list["timeline_limit"] = json!(pick(&[0, 1, 3, 10, 50]));
        // What was required before is told as it changes, so that the client may keep it.
        list["required_state"] = json!([["*", "*"]]);
        if rng.below(4) == 0 {
            self.window.lose().await.ok();
            return;
        }
        if rng.below(30) == 0 {
            self.window.pos = None;
            self.rooms.clear();
        }
        let answer = self.window.ask().await;
        for (room, told) in answer["rooms"].as_object().unwrap() {
            self.apply(room, told, world);
        }
        if last == 99 {
            self.check(world);
        }
    }

    fn apply(&mut self, id: &str, told: &Value, world: &World) {
        let known = self.rooms.entry(id.to_owned()).or_default();
        let is_initial = told["initial"] == true;
        if is_initial {
            *known = Known::default();
        }
        assert!(is_initial || !known.membership.is_empty(), "{id} is told in part only");
        if let Some(membership) = told["membership"].as_str() {
            known.membership = membership.to_owned();
        }
        if let Some(joined) = told["joined_count"].as_u64() {
            known.joined = joined;
        }
        let events = ids(&told["timeline"]);
        if is_initial || told["limited"] == true || told["unstable_expanded_timeline"] == true {
            known.timeline = events.clone();
        } else {
            for event in &events {
                assert!(!known.timeline.contains(event), "{event} is told twice");
            }
            known.timeline.extend(events.clone());
        }
        for event in told["required_state"].as_array().into_iter().flatten() {
            let text = |field: &str| event[field].as_str().unwrap().to_owned();
            known.state.insert((text("type"), text("state_key")), text("event_id"));
        }
        if known.membership != "join" {
            // Behind the end of the last stay nothing but what happened to the user itself.
            let room = world.rooms.iter().find(|room| room.id == id).unwrap();
            let own = ("m.room.member".to_owned(), self.window.client.user.clone());
            let end = room.ends.get(&self.user).copied().unwrap_or_default();
            for (event, key) in room.events.iter().skip(end) {
                assert!(!events.contains(event) || key.as_ref() == Some(&own), "{event} is not for {}", own.1);
            }
        }
    }

    fn check(&self, world: &World) {
        for room in &world.rooms {
            let now = room.membership(self.user);
            let Some(known) = self.rooms.get(&room.id) else {
                assert!(!matches!(now, "join" | "invite"), "{} is not told of {}", self.user, room.id);
                continue;
            };
            assert_eq!(known.membership, now, "of {} in {}", self.user, room.id);
            if now == "join" {
                let all = room.ids(room.events.len());
                assert!(all.ends_with(&known.timeline), "timeline of {} in {}", self.user, room.id);
                assert_eq!(known.state, room.state(room.events.len()), "state of {} in {}", self.user, room.id);
                let joined = room.members.values().filter(|now| **now == "join").count();
                assert_eq!(known.joined, joined as u64, "members of {}", room.id);
            }
        }
    }
}

#[tokio::test]
async fn a_client_whose_window_changes_and_whose_answers_get_lost_knows_what_is() {
    let seed = std::env::var("KITH_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("the seed is {seed}: run again with KITH_TEST_SEED={seed}");
    let node = TestNode::start().await;
    let mut users = Vec::new();
    for name in ["alice", "bob", "carol", "dave"] {
        users.push(node.register(name).await);
    }
    let rng = Rng::from_seed(seed);
    let phone = |user: usize, client: &Client| Phone {
        user,
        window: Window::of_all(client, 1, json!([["*", "*"]])),
        rooms: BTreeMap::new(),
    };
    let mut phones: Vec<Phone> = users.iter().enumerate().map(|(user, client)| phone(user, client)).collect();
    let mut world = World::of(users, rng.fork());
    for _ in 0..OPERATIONS {
        world.step().await;
        if rng.below(4) == 0 {
            let phone = usize::try_from(rng.below(phones.len() as u64)).unwrap();
            phones[phone].ask(&world, &rng).await;
        }
    }
    for phone in &mut phones {
        phone.window.body["lists"]["all"]["ranges"] = json!([[0, 99]]);
        let answer = phone.window.ask().await;
        for (room, told) in answer["rooms"].as_object().unwrap() {
            phone.apply(room, told, &world);
        }
        phone.check(&world);
    }
}
