//! Random operations of several users, whose clients sync at random moments, against a simple model: a client that
//! applies all it is told, and fills gaps by scrolling, has exactly the room's timeline and state.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::*;
use crate::platform::Rng;

const OPERATIONS: usize = 1_000;

type State = BTreeMap<(String, String), String>;

/// A room as it really is.
pub(super) struct Room {
    pub(super) id: String,
    creator: usize,
    /// Event IDs with the key of state events, in order.
    pub(super) events: Vec<(String, Option<(String, String)>)>,
    pub(super) members: BTreeMap<usize, &'static str>,
    /// The index of the event that ended each user's last stay.
    pub(super) ends: BTreeMap<usize, usize>,
}

impl Room {
    pub(super) fn membership(&self, user: usize) -> &'static str {
        self.members.get(&user).copied().unwrap_or("leave")
    }

    pub(super) fn state(&self, upto: usize) -> State {
        let events = self.events.iter().take(upto);
        events.filter_map(|(id, key)| Some((key.clone()?, id.clone()))).collect()
    }

    pub(super) fn ids(&self, upto: usize) -> Vec<String> {
        self.events.iter().take(upto).map(|(id, _)| id.clone()).collect()
    }
}

/// A room as a client knows it.
#[derive(Default, Clone)]
struct Known {
    timeline: Vec<String>,
    /// What it was told of itself after it left.
    after: Vec<String>,
    state: State,
}

struct Phone {
    device: Device,
    state_after: bool,
    rooms: BTreeMap<String, Known>,
    joined: BTreeSet<String>,
    invited: BTreeSet<String>,
    missed: BTreeSet<String>,
}

impl Phone {
    /// Syncs and applies what is told.
    async fn sync(&mut self, limit: Option<u64>) {
        let mut more = String::new();
        if let Some(limit) = limit {
            more += &filter(json!({"room": {"timeline": {"limit": limit}}}));
        }
        if self.state_after {
            more += "&use_state_after=true";
        }
        let first = self.device.since.is_none();
        let answer = self.device.sync(&more).await;
        let rooms = |part: &str| answer["rooms"][part].as_object().cloned().unwrap_or_default();
        for (room, _) in rooms("invite") {
            // Invited again before it heard that it was out: what was said until then it is never told. (It may even
            // have come and gone in between.)
            if self.joined.remove(&room) || self.rooms.contains_key(&room) {
                self.missed.insert(room.clone());
            }
            self.invited.insert(room);
        }
        for (part, is_join) in [("join", true), ("leave", false)] {
            for (room, told) in rooms(part) {
                let was_joined = self.joined.contains(&room);
                self.invited.remove(&room);
                match is_join {
                    true => {
                        self.missed.remove(&room);
                        self.joined.insert(room.clone())
                    }
                    false => self.joined.remove(&room),
                };
                self.apply(&room, &told, was_joined && !first, is_join).await;
            }
        }
    }

    async fn apply(&mut self, room: &str, told: &Value, was_joined: bool, is_join: bool) {
        let mut known = self.rooms.remove(room).unwrap_or_default();
        let events = told["timeline"]["events"].as_array().cloned().unwrap_or_default();
        let mut new = ids(&told["timeline"]["events"]);
        known.after.clear();
        let mut fill = told["timeline"]["limited"] == true || !was_joined;
        if !is_join {
            // Behind the end of the stay only what happens to the user itself is told.
            let me = self.device.client.user.as_str();
            let end = events.iter().rposition(|event| {
                event["state_key"] == me
                    && event["content"]["membership"] != "join"
                    && event["unsigned"]["prev_content"]["membership"] == "join"
            });
            known.after = new.split_off(end.map_or(if was_joined { new.len() } else { 0 }, |end| end + 1));
            fill &= was_joined || end.is_some();
            if !was_joined && end.is_none() {
                self.missed.insert(room.to_owned());
            }
        }
        if fill {
            // What is told again is known by then only from an earlier stay.
            if let Some(at) = known.timeline.iter().position(|id| new.contains(id)) {
                assert!(!was_joined || told["timeline"]["limited"] == true);
                known.timeline.truncate(at);
            }
            let mut gap = Vec::new();
            if let Some(from) = told["timeline"]["prev_batch"].as_str() {
                gap = self.scroll(room, from, &known.timeline).await;
            }
            for id in &gap {
                assert!(!new.contains(id), "{id} is told and found by scrolling");
            }
            known.timeline.extend(gap.into_iter().rev());
        }
        for id in &new {
            assert!(!known.timeline.contains(id), "{id} was told twice in {room}");
        }
        known.timeline.extend(new);
        let mut apply = |event: &Value| {
            if let Some(key) = event["state_key"].as_str() {
                let key = (event["type"].as_str().unwrap().to_owned(), key.to_owned());
                known.state.insert(key, event["event_id"].as_str().unwrap().to_owned());
            }
        };
        let state = if self.state_after { &told["state_after"] } else { &told["state"] };
        if !self.state_after {
            state["events"].as_array().into_iter().flatten().for_each(&mut apply);
            events.iter().for_each(&mut apply);
        } else {
            state["events"].as_array().into_iter().flatten().for_each(&mut apply);
        }
        self.rooms.insert(room.to_owned(), known);
    }

    /// Event IDs from a place back to what is known, the latest first.
    async fn scroll(&self, room: &str, from: &str, known: &[String]) -> Vec<String> {
        let mut found = Vec::new();
        let mut from = from.to_owned();
        loop {
            let page = format!("messages?dir=b&limit=10&from={}", encoded(&from));
            let page = self.device.client.get(&path(room, &page)).await.ok();
            for id in ids(&page["chunk"]) {
                if known.contains(&id) {
                    return found;
                }
                found.push(id);
            }
            match page["end"].as_str() {
                Some(end) => from = end.to_owned(),
                None => return found,
            }
        }
    }
}

pub(super) struct World {
    users: Vec<Client>,
    pub(super) rooms: Vec<Room>,
    phones: Vec<(usize, Phone)>,
    rng: Rng,
    names: u64,
}

impl World {
    /// Without any rooms, and without clients that sync.
    pub(super) fn of(users: Vec<Client>, rng: Rng) -> Self {
        Self { users, rooms: Vec::new(), phones: Vec::new(), rng, names: 0 }
    }

    fn pick(&self, count: usize) -> usize {
        usize::try_from(self.rng.below(count as u64)).unwrap()
    }

    async fn make_room(&mut self) {
        let creator = self.pick(self.users.len());
        // Everybody may do everything, so that most operations succeed.
        let body = json!({
            "preset": "public_chat", "power_level_content_override": {"users_default": 50}, "room_version": "11",
        });
        let id = create_with(&self.users[creator], body).await;
        let page = self.users[creator].get(&path(&id, "messages?dir=f&limit=50")).await.ok();
        let mut room =
            Room { id, creator, events: Vec::new(), members: [(creator, "join")].into(), ends: BTreeMap::new() };
        for event in page["chunk"].as_array().unwrap() {
            let key =
                event["state_key"].as_str().map(|key| (event["type"].as_str().unwrap().to_owned(), key.to_owned()));
            room.events.push((event["event_id"].as_str().unwrap().to_owned(), key));
        }
        self.rooms.push(room);
    }

    async fn set_member(&mut self, room: usize, by: usize, user: usize, what: &str, now: &'static str) {
        let body = match what {
            "join" | "leave" => json!({}),
            _ => json!({"user_id": self.users[user].user}),
        };
        self.users[by].post(&path(&self.rooms[room].id, what), body).await.ok();
        let room = &mut self.rooms[room];
        let latest = self.users[room.creator].get(&path(&room.id, "messages?dir=b&limit=1")).await.ok();
        let id = latest["chunk"][0]["event_id"].as_str().unwrap().to_owned();
        assert_ne!(Some(&id), room.events.last().map(|(id, _)| id), "{what} made no event");
        room.events.push((id, Some(("m.room.member".to_owned(), self.users[user].user.clone()))));
        if room.members.insert(user, now) == Some("join") {
            room.ends.insert(user, room.events.len());
        }
    }

    pub(super) async fn step(&mut self) {
        if self.rooms.len() < 6 && self.rng.below(60) == 0 || self.rooms.is_empty() {
            return self.make_room().await;
        }
        let (room, by, user) = (self.pick(self.rooms.len()), self.pick(self.users.len()), self.pick(self.users.len()));
        let (creator, his, theirs) = {
            let room = &self.rooms[room];
            (room.creator, room.membership(by), room.membership(user))
        };
        self.names += 1;
        let name = self.names;
        let id = self.rooms[room].id.clone();
        match self.rng.below(100) {
            0..35 if his == "join" => {
                let event = say(&self.users[by], &id, &format!("message {name}")).await;
                self.rooms[room].events.push((event, None));
            }
            35..50 if his == "join" => {
                let (kind, key) = [("m.room.topic", ""), ("org.example.a", "x"), ("org.example.a", "y")][self.pick(3)];
                let event = set_state(&self.users[by], &id, kind, key, json!({"topic": name.to_string()})).await;
                self.rooms[room].events.push((event, Some((kind.to_owned(), key.to_owned()))));
            }
            50..60 if matches!(his, "leave" | "invite") => self.set_member(room, by, by, "join", "join").await,
            60..66 if matches!(his, "join" | "invite") && by != creator => {
                self.set_member(room, by, by, "leave", "leave").await;
            }
            66..71 if matches!(theirs, "join" | "invite") && user != creator => {
                self.set_member(room, creator, user, "kick", "leave").await;
            }
            71..73 if theirs != "ban" && user != creator => self.set_member(room, creator, user, "ban", "ban").await,
            73..75 if theirs == "ban" => self.set_member(room, creator, user, "unban", "leave").await,
            75..80 if theirs == "leave" => self.set_member(room, creator, user, "invite", "invite").await,
            80..84 if his == "join" => {
                let target = &self.rooms[room].events[self.pick(self.rooms[room].events.len())];
                if target.1.is_none() {
                    let path = path(&id, &format!("redact/{}/r{name}", encoded(&target.0)));
                    let answer = self.users[creator].put(&path, json!({})).await.ok();
                    self.rooms[room].events.push((answer["event_id"].as_str().unwrap().to_owned(), None));
                }
            }
            84..100 if !self.phones.is_empty() => {
                let limit = [None, Some(0), Some(1), Some(3), Some(10)][self.pick(5)];
                let phone = self.pick(self.phones.len());
                self.phones[phone].1.sync(limit).await;
                self.check(phone);
            }
            _ => {}
        }
    }

    /// Compares what a client that has just synced knows with how things are.
    fn check(&self, phone: usize) {
        let (user, phone) = &self.phones[phone];
        for room in &self.rooms {
            let now = room.membership(*user);
            assert_eq!(phone.joined.contains(&room.id), now == "join", "{user} in {}", room.id);
            assert_eq!(phone.invited.contains(&room.id), now == "invite", "{user} invited to {}", room.id);
            let Some(known) = phone.rooms.get(&room.id) else { continue };
            let own = ("m.room.member".to_owned(), self.users[*user].user.clone());
            if now == "join" {
                compare(&known.timeline, &room.ids(room.events.len()), &format!("timeline of {user} in {}", room.id));
                assert_eq!(known.state, room.state(room.events.len()), "state of {user} in {}", room.id);
            } else if let Some(end) = room.ends.get(user).filter(|_| !phone.missed.contains(&room.id)) {
                // Up to the end of the stay, and what happened to the user itself after that.
                compare(&known.timeline, &room.ids(*end), &format!("timeline of {user} who left {}", room.id));
                for id in &known.after {
                    let event = room.events.iter().find(|(other, _)| other == id).unwrap();
                    assert_eq!(event.1.as_ref(), Some(&own), "{user} was told of {} after leaving", room.id);
                }
                let strip = |mut state: State| {
                    state.remove(&own);
                    state
                };
                let (told, is) = (strip(known.state.clone()), strip(room.state(*end)));
                assert_eq!(told, is, "state of {user} who left {}", room.id);
            }
        }
    }
}

fn compare(told: &[String], is: &[String], what: &str) {
    if told != is {
        let missing: Vec<usize> = (0..is.len()).filter(|at| !told.contains(&is[*at])).collect();
        let wrong: Vec<&String> = told.iter().filter(|id| !is.contains(id)).collect();
        panic!("{what}: of {} events {missing:?} are missing, {wrong:?} are too many", is.len());
    }
}

async fn run(seed: u64) {
    let node = TestNode::start().await;
    let mut users = Vec::new();
    let mut phones = Vec::new();
    for (number, name) in ["alice", "bob", "carol", "dave"].into_iter().enumerate() {
        let client = node.register(name).await;
        let other = node.login(name).await;
        for (client, state_after) in [(client.clone(), false), (other, true)] {
            let device = Device::new(&client);
            let (rooms, joined, invited, missed) = Default::default();
            phones.push((number, Phone { device, state_after, rooms, joined, invited, missed }));
        }
        users.push(client);
    }
    let mut world = World { phones, ..World::of(users, Rng::from_seed(seed)) };
    for operation in 0..OPERATIONS {
        if operation % 100 == 0 {
            println!("operation {operation}");
        }
        world.step().await;
    }
    for phone in 0..world.phones.len() {
        world.phones[phone].1.sync(None).await;
        world.check(phone);
    }
}

#[tokio::test]
async fn a_client_that_applies_what_it_is_told_knows_exactly_what_is() {
    let seed = std::env::var("KITH_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("the seed is {seed}: run again with KITH_TEST_SEED={seed}");
    run(seed).await;
}
