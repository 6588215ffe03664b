//! What another server is shown of a room: each history visibility, each way of being or not being in the room, by every
//! endpoint that reads.

use http::{Method, StatusCode};
use kith::rooms::{Draft, read};
use kith_store::tables::rooms::membership::{JOIN, LEAVE};
use kith_transport::memory::MemoryHub;
use ruma::{OwnedEventId, OwnedRoomId};
use serde_json::{Value, json};

use crate::{
    requests::{Forged, Stranger},
    world::{Peer, object, until},
};

const VISIBILITIES: [&str; 4] = ["world_readable", "shared", "invited", "joined"];

/// What is said: before the server's user is invited, while it is, while it is in, and after it went.
const SAID: [&str; 4] = ["early", "invited", "in", "late"];

/// What becomes of the server's user, and what its server may see by visibility.
const PARTS: [(&str, [&str; 4]); 6] = [
    ("member", ["early invited in late", "early invited in late", "early invited in late", "early invited in late"]),
    ("later", ["early invited in late", "early invited in late", "in late", "in late"]),
    ("guest", ["early invited in late", "", "invited in late", ""]),
    ("left", ["early invited in late", "early invited in", "invited in", "in"]),
    ("banned", ["early invited in late", "early invited in", "invited in", "in"]),
    ("stranger", ["early invited in late", "", "", ""]),
];

struct Scene {
    part: &'static str,
    visibility: &'static str,
    room: OwnedRoomId,
    said: Vec<OwnedEventId>,
    sees: Vec<&'static str>,
}

impl Scene {
    async fn new(one: &Peer, two: &Peer, part: &'static str, number: usize, sees: &'static str) -> Self {
        let visibility = VISIBILITIES[number];
        let room = one.public_room().await.id().to_owned();
        let setting = object(json!({"history_visibility": visibility}));
        let draft = Draft::state(one.user.clone(), "m.room.history_visibility", "", setting);
        one.room(&room).send(draft).await.expect("sent");
        if part == "member" {
            two.join(&room, one).await.expect("joined");
        }
        let mut said = vec![one.say(&room, SAID[0]).await];
        if matches!(part, "guest" | "left" | "banned") {
            one.set_member(&room, &two.user, "invite").await;
        }
        said.push(one.say(&room, SAID[1]).await);
        if matches!(part, "later" | "left" | "banned") {
            two.join(&room, one).await.expect("joined");
            until("the join is known", || one.membership(&room, &two.user) == Some(JOIN)).await;
        }
        said.push(one.say(&room, SAID[2]).await);
        match part {
            "left" => {
                until("the last is known", || two.messages(&room).contains(&SAID[2].to_owned())).await;
                two.set_member(&room, &two.user, "leave").await;
                until("the leave is known", || one.membership(&room, &two.user) == Some(LEAVE)).await;
            }
            "banned" => drop(one.set_member(&room, &two.user, "ban").await),
            _ => {}
        }
        said.push(one.say(&room, SAID[3]).await);
        Self { part, visibility, room, said, sees: sees.split_whitespace().collect() }
    }

    fn name(&self) -> String {
        format!("{} in {}", self.part, self.visibility)
    }

    async fn check(&self, one: &Peer, asking: &Stranger) {
        let Self { room, said, sees, part, .. } = self;
        let name = self.name();
        let ask = async |method: Method, path: String, body: Value| {
            let path = format!("/_matrix/federation/v1/{path}");
            let forged = Forged { method, path: &path, body, ..asking.honest(one) };
            asking.send(one, forged).await
        };
        let get = async |path: String| ask(Method::GET, path, Value::Null).await;
        let is_in = matches!(*part, "member" | "later");
        for (body, id) in SAID.iter().zip(said) {
            let seen = sees.contains(body);
            let (status, answer) = get(format!("event/{id}")).await;
            assert_eq!(status, if seen { StatusCode::OK } else { StatusCode::NOT_FOUND }, "{name}: {body} {answer}");
            for path in ["state", "state_ids"] {
                let (status, answer) = get(format!("{path}/{room}?event_id={id}")).await;
                assert_eq!(status.is_success(), is_in || (seen && *part != "stranger"), "{name}: {path} {answer}");
            }
            let (status, answer) = get(format!("event_auth/{room}/{id}")).await;
            assert_eq!(status.is_success(), is_in || (seen && *part != "stranger"), "{name}: event_auth {answer}");
            let (status, answer) = get(format!("timestamp_to_event/{room}?ts=1&dir=f")).await;
            assert_eq!(status.is_success(), is_in, "{name}: timestamp_to_event {answer}");
            if let Some(id) = answer["event_id"].as_str() {
                assert_eq!(get(format!("event/{id}")).await.0, StatusCode::OK, "{name}: timestamp_to_event");
            }
        }
        let last = said.last().expect("four");
        let (status, backfill) = get(format!("backfill/{room}?v={last}&limit=100")).await;
        let body = json!({"earliest_events": [], "latest_events": [last], "limit": 100});
        let (_, missing) = ask(Method::POST, format!("get_missing_events/{room}"), body).await;
        if *part == "stranger" {
            assert_eq!(status, StatusCode::FORBIDDEN, "{name}");
            return;
        }
        let mut told = bodies(&backfill["pdus"]);
        told.reverse();
        assert_eq!(told, *sees, "{name}: backfill");
        let before: Vec<&str> = sees.iter().copied().filter(|body| *body != SAID[3]).collect();
        assert_eq!(bodies(&missing["events"]), before, "{name}: get_missing_events");
        // Who is in the room gets the others without their content, so that its graph is whole; who is not gets none.
        let messages = |events: &Value| {
            let events = events.as_array().expect("events");
            events.iter().filter(|event| event["type"] == "m.room.message").count()
        };
        assert_eq!(messages(&backfill["pdus"]), if is_in { 4 } else { sees.len() }, "{name}: backfill");
    }
}

fn bodies(events: &Value) -> Vec<&str> {
    let events = events.as_array().expect("events");
    events.iter().filter_map(|event| event["content"]["body"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_server_is_shown_what_the_visibility_lets_its_users_see_by_every_endpoint() {
    let hub = MemoryHub::new();
    let one = Peer::with(&hub, 1, |config| config.limits.rate_limits = false).await;
    let two = Peer::new(&hub, 2).await;
    let mut scenes = Vec::new();
    for (part, sees) in PARTS {
        for (number, sees) in sees.into_iter().enumerate() {
            scenes.push(Scene::new(&one, &two, part, number, sees).await);
        }
    }
    two.handle.stop().await;
    let asking = Stranger::new(&hub, 2);
    for scene in &scenes {
        scene.check(&one, &asking).await;
    }
    let snapshot = one.node().store.snapshot().expect("a snapshot");
    let event = read::event_by_id(&snapshot, scenes[0].said[0].as_str()).expect("readable").expect("stored");
    assert_eq!(event.content()["body"], SAID[0]);
}
