//! Who sees what of a room, by every endpoint that reads: each history visibility, each way of being or not being in the room.

use serde_json::{Value, json};

use super::world::{Person, World, bodies, encoded, text};

/// What is said: before anybody is invited, while some are, while some are in, and after they went.
const SAID: [&str; 4] = ["early", "invited", "in", "late"];

/// A reader, and what they see by visibility: `world_readable`, `shared`, `invited`, `joined`.
const READERS: [(&str, [&str; 4]); 6] = [
    ("member", ["early invited in late", "early invited in late", "early invited in late", "early invited in late"]),
    ("later", ["early invited in late", "early invited in late", "in late", "in late"]),
    ("guest", ["early invited in late", "", "invited in late", ""]),
    ("left", ["early invited in late", "early invited in", "invited in", "in"]),
    ("banned", ["early invited in late", "early invited in", "invited in", "in"]),
    ("stranger", ["early invited in late", "", "", ""]),
];

/// A room with all readers.
struct Scene<'a> {
    room: String,
    /// The IDs of [`SAID`].
    said: Vec<String>,
    readers: Vec<Person<'a>>,
    /// Whether everybody may read.
    open: bool,
}

impl<'a> Scene<'a> {
    async fn new(world: &'a World, number: usize, visibility: &str) -> Self {
        let alice = world.person(&format!("alice{number}")).await;
        let mut readers = Vec::new();
        for (name, _) in READERS {
            readers.push(world.person(&format!("{name}{number}")).await);
        }
        let [member, later, guest, left, banned, _] = &readers[..] else { panic!("six readers") };
        let state = json!([{ "type": "m.room.history_visibility", "content": { "history_visibility": visibility } }]);
        let room = alice.create(json!({ "preset": "public_chat", "topic": "before", "initial_state": state })).await;
        member.join(&room).await;
        let mut said: Vec<String> = Vec::new();
        let say = async |said: &mut Vec<String>| {
            let mut content = json!({ "msgtype": "m.text", "body": SAID[said.len()] });
            if let Some(root) = said.first() {
                content["m.relates_to"] = json!({ "rel_type": "m.thread", "event_id": root });
            }
            said.push(alice.send(&room, "m.room.message", content).await);
        };
        say(&mut said).await;
        for user in [guest, left, banned] {
            alice.invite(&room, user.id()).await;
        }
        say(&mut said).await;
        for user in [later, left, banned] {
            user.join(&room).await;
        }
        say(&mut said).await;
        left.post(&format!("/rooms/{room}/leave"), json!({})).await.ok();
        alice.post(&format!("/rooms/{room}/ban"), json!({ "user_id": banned.id() })).await.ok();
        alice.set(&room, "m.room.topic", json!({ "topic": "after" })).await;
        say(&mut said).await;
        Self { room, said, readers, open: visibility == "world_readable" }
    }

    /// Checks all that one reader is shown.
    async fn check(&self, name: &str, reader: &Person<'_>, sees: &str) {
        let Self { room, said, open, .. } = self;
        let expected: Vec<&str> = sees.split_whitespace().collect();
        let seen = |body: &str| expected.contains(&body);
        let was_in = matches!(name, "member" | "later" | "left" | "banned");
        let enters = was_in || *open || !expected.is_empty();

        for direction in ["b", "f"] {
            let page = reader.get(&format!("/rooms/{room}/messages?dir={direction}&limit=100")).await;
            if !enters {
                page.refused(403, "M_FORBIDDEN");
                continue;
            }
            let page = page.ok();
            let mut found = bodies(page["chunk"].as_array().expect("a chunk"));
            if direction == "b" {
                found.reverse();
            }
            assert_eq!(found, expected, "{name}: messages, {direction}");
        }
        for (body, id) in SAID.iter().zip(said) {
            let event = reader.get(&format!("/rooms/{room}/event/{id}")).await;
            assert_eq!(event.status.is_success(), seen(body), "{name}: event {body}: {}", event.body);
            let context = reader.get(&format!("/rooms/{room}/context/{id}?limit=100")).await;
            assert_eq!(context.status.is_success(), seen(body), "{name}: context of {body}: {}", context.body);
            if seen(body) {
                let side = |name: &str| context.body[name].as_array().map(|events| bodies(events)).unwrap_or_default();
                let mut around = side("events_before");
                around.reverse();
                around.push(body);
                around.extend(side("events_after"));
                assert_eq!(around, expected, "{name}: context of {body}");
                if name == "guest" && !open {
                    self.check_known(name, reader, &context.body["state"]).await;
                }
            }
            let ts = event.body["origin_server_ts"].as_u64().unwrap_or(1);
            for direction in ["f", "b"] {
                let path = format!("/_matrix/client/v1/rooms/{room}/timestamp_to_event?ts={ts}&dir={direction}");
                let nearest = reader.get(&path).await;
                assert_eq!(nearest.status.as_u16() == 403, !enters, "{name}: {}", nearest.body);
                if let Some(id) = nearest.body["event_id"].as_str() {
                    reader.get(&format!("/rooms/{room}/event/{id}")).await.ok();
                }
            }
        }
        self.check_relations(name, reader, &expected).await;
        self.check_state(name, reader, was_in).await;
        self.check_sync(name, reader, &expected).await;
    }

    /// That the reader may see each of these events.
    async fn check_known(&self, name: &str, reader: &Person<'_>, events: &Value) {
        for event in events.as_array().into_iter().flatten() {
            let id = text(&event["event_id"]);
            let answer = reader.get(&format!("/rooms/{}/event/{id}", self.room)).await;
            assert!(answer.status.is_success(), "{name} is told of {event}");
        }
    }

    async fn check_relations(&self, name: &str, reader: &Person<'_>, expected: &[&str]) {
        let Self { room, said, .. } = self;
        let root = &said[0];
        let replies = expected.iter().filter(|body| **body != SAID[0]).count();
        for kind in ["", "/m.thread", "/m.thread/m.room.message"] {
            let path = format!("/_matrix/client/v1/rooms/{room}/relations/{root}{kind}?limit=50");
            let answer = reader.get(&path).await;
            assert_eq!(answer.status.is_success(), expected.contains(&SAID[0]), "{name}: {}", answer.body);
            if answer.status.is_success() {
                assert_eq!(answer.body["chunk"].as_array().map(Vec::len), Some(replies), "{name}: relations");
            }
        }
        let threads = reader.get(&format!("/_matrix/client/v1/rooms/{room}/threads")).await;
        let chunk = threads.body["chunk"].as_array().cloned().unwrap_or_default();
        assert_eq!(chunk.len(), usize::from(expected.contains(&SAID[0])), "{name}: threads");
        for thread in chunk {
            let thread = &thread["unsigned"]["m.relations"]["m.thread"];
            assert_eq!(thread["count"], replies, "{name}: {thread}");
            assert_eq!(thread["latest_event"]["content"]["body"], *expected.last().expect("some"), "{name}");
        }
    }

    async fn check_state(&self, name: &str, reader: &Person<'_>, was_in: bool) {
        let Self { room, open, .. } = self;
        let topic = match name {
            "left" | "banned" if !open => "before",
            _ => "after",
        };
        let one = reader.get(&format!("/rooms/{room}/state/m.room.topic/")).await;
        let all = reader.get(&format!("/rooms/{room}/state")).await;
        let members = reader.get(&format!("/rooms/{room}/members")).await;
        let position = reader.world.node().store.position();
        let at = encoded(&format!("s{position}_0"));
        let members_at = reader.get(&format!("/rooms/{room}/members?at={at}")).await;
        if !was_in && !open {
            for answer in [one, all, members, members_at] {
                answer.refused(403, "M_FORBIDDEN");
            }
            return;
        }
        assert_eq!(one.ok()["topic"], topic, "{name}");
        let all = all.ok();
        let state = all.as_array().expect("state");
        assert!(state.iter().any(|event| event["content"]["topic"] == topic), "{name}");
        // How things stand for the one who was banned is seen by those who were there then.
        let is = |members: &Value, membership: &str| {
            let members = members["chunk"].as_array().expect("members");
            members.iter().filter(|event| event["content"]["membership"] == membership).count()
        };
        let bans = usize::from(name != "left" || *open);
        assert_eq!(is(&members.ok(), "ban"), bans, "{name}: members");
        assert_eq!(is(&members_at.ok(), "ban"), bans, "{name}: members at the end");
    }

    async fn check_sync(&self, name: &str, reader: &Person<'_>, expected: &[&str]) {
        let filter = json!({ "room": { "include_leave": true, "timeline": { "limit": 100 } } }).to_string();
        let rooms = reader.get(&format!("/sync?timeout=0&filter={}", encoded(&filter))).await.ok()["rooms"].clone();
        let told: Vec<String> = ["join", "leave"]
            .iter()
            .filter_map(|part| rooms[part][&self.room]["timeline"]["events"].as_array())
            .flat_map(|events| bodies(events).into_iter().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        let expected: Vec<&str> = match name {
            "member" | "later" => expected.to_vec(),
            // Sync tells nothing from after the stay, whoever may read it.
            "left" | "banned" => expected.iter().copied().filter(|body| *body != "late").collect(),
            _ => Vec::new(),
        };
        assert_eq!(told, expected, "{name}: sync");
    }
}

#[tokio::test]
async fn every_reader_is_shown_what_the_visibility_at_the_event_lets_them_see_by_every_endpoint() {
    let world = World::new().await;
    for (number, visibility) in ["world_readable", "shared", "invited", "joined"].into_iter().enumerate() {
        let scene = Scene::new(&world, number, visibility).await;
        for ((name, sees), reader) in READERS.iter().zip(&scene.readers) {
            scene.check(name, reader, sees[number]).await;
        }
    }
}

#[tokio::test]
async fn who_forgot_a_room_sees_no_more_than_who_never_was_there() {
    let world = World::new().await;
    for (number, visibility) in ["shared", "invited", "joined"].into_iter().enumerate() {
        let scene = Scene::new(&world, number, visibility).await;
        let left = &scene.readers[3];
        left.post(&format!("/rooms/{}/forget", scene.room), json!({})).await.ok();
        scene.check("stranger", left, "").await;
    }
}

#[tokio::test]
async fn a_change_of_the_visibility_counts_from_there_on_and_is_itself_seen_from_both_sides() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let bob = world.person("bob").await;
    let room = alice.create(json!({ "preset": "public_chat" })).await;
    let mut changes = Vec::new();
    let mut said = Vec::new();
    for visibility in ["joined", "shared", "invited", "world_readable", "joined", "world_readable"] {
        let content = json!({ "history_visibility": visibility });
        changes.push((visibility, alice.set(&room, "m.room.history_visibility", content).await));
        said.push((visibility, alice.say(&room, visibility).await));
    }
    let sees = async |id: &str| bob.get(&format!("/rooms/{room}/event/{id}")).await.status.is_success();
    for (visibility, id) in &said {
        assert_eq!(sees(id).await, *visibility == "world_readable", "{visibility}");
    }
    let seen = [false, false, false, true, true, true];
    for ((visibility, id), seen) in changes.iter().zip(seen) {
        assert_eq!(sees(id).await, seen, "the change to {visibility}");
    }
    bob.join(&room).await;
    for (visibility, id) in &said {
        assert_eq!(sees(id).await, matches!(*visibility, "world_readable" | "shared"), "{visibility}");
    }
}
