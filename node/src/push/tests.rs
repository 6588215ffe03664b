//! A push gateway that tells what it was told.

use std::{sync::Arc, time::Duration};

use kith_store::MemoryBackend;
use serde_json::{Value, json};

use crate::{
    testing::{
        Client, TestNode, eventually,
        web::{FakeWeb, answer},
    },
    web::WebError,
};

const GATEWAY: &str = "https://push.example.org/_matrix/push/v1/notify";

fn pusher(format: Option<&str>) -> Value {
    let mut data = json!({ "url": GATEWAY, "default_payload": { "aps": {} } });
    if let Some(format) = format {
        data["format"] = json!(format);
    }
    json!({
        "app_id": "org.example.app", "pushkey": "key of bob", "kind": "http", "app_display_name": "App",
        "device_display_name": "Phone", "lang": "en", "data": data,
    })
}

struct Scene {
    node: TestNode,
    web: Arc<FakeWeb>,
    alice: Client,
    bob: Client,
    room: String,
}

impl Scene {
    async fn new(format: Option<&str>) -> Self {
        let web = FakeWeb::new();
        let node = TestNode::start_on_web(MemoryBackend::new(), web.choice(), |_| {}).await;
        let (alice, bob) = (node.register("alice").await, node.register("bob").await);
        let body = json!({ "preset": "public_chat", "name": "The Room" });
        let room = alice.post("/_matrix/client/v3/createRoom", body).await.ok();
        let room = room["room_id"].as_str().unwrap().to_owned();
        bob.post(&format!("/_matrix/client/v3/rooms/{room}/join"), json!({})).await.ok();
        bob.post("/_matrix/client/v3/pushers/set", pusher(format)).await.ok();
        Self { node, web, alice, bob, room }
    }

    async fn say(&self, who: &Client, body: &str) -> String {
        let path =
            format!("/_matrix/client/v3/rooms/{}/send/m.room.message/{}", self.room, self.node.node().rng.token(8));
        let mentions = if body.contains("bob") { vec![self.bob.user.clone()] } else { Vec::new() };
        let content = json!({ "msgtype": "m.text", "body": body, "m.mentions": { "user_ids": mentions } });
        let answer = who.put(&path, content).await.ok();
        answer["event_id"].as_str().unwrap().to_owned()
    }

    /// What the gateway was told of events, once it was told of so many. (Badges alone may come between.)
    async fn told(&self, times: usize) -> Vec<Value> {
        let events = || -> Vec<Value> {
            let told = self.web.asked().into_iter().map(|asked| asked.body["notification"].clone());
            told.filter(|told| !told["event_id"].is_null()).collect()
        };
        eventually(&format!("{times} notifications"), async || events().len() >= times).await;
        assert_eq!(events().len(), times, "{:?}", events());
        events()
    }

    /// Lets time pass for those who wait for it.
    async fn wait(&self, time: Duration) {
        tokio::task::yield_now().await;
        self.node.clock.advance(time);
    }
}

#[tokio::test]
async fn a_gateway_learns_of_each_event_that_notifies_and_with_event_id_only_no_more_than_which() {
    let scene = Scene::new(Some("event_id_only")).await;
    let first = scene.say(&scene.alice, "hello").await;
    scene.say(&scene.bob, "my own").await;
    let second = scene.say(&scene.alice, "again").await;
    let told = scene.told(2).await;
    assert_eq!(told[0]["event_id"], first.as_str());
    assert_eq!(told[0]["room_id"], scene.room.as_str());
    assert_eq!(told[1]["event_id"], second.as_str());
    let device = &told[0]["devices"][0];
    assert_eq!((&device["app_id"], &device["pushkey"]), (&json!("org.example.app"), &json!("key of bob")));
    assert_eq!(device["data"], json!({ "format": "event_id_only", "default_payload": { "aps": {} } }));
    assert_eq!(told[1]["counts"]["unread"], 1, "who speaks has read what came before");
    let text = serde_json::to_string(&told).unwrap();
    assert!(!text.contains("hello") && !text.contains("alice") && !text.contains("The Room"), "{text}");
    let asked = &scene.web.asked()[0];
    assert_eq!((asked.method.as_str(), asked.url.as_str()), ("POST", GATEWAY));
}

#[tokio::test]
async fn without_a_format_a_gateway_is_told_who_wrote_what_where_and_how_loudly() {
    let scene = Scene::new(None).await;
    scene.say(&scene.alice, "hello bob").await;
    let told = scene.told(1).await.remove(0);
    assert_eq!(told["content"]["body"], "hello bob");
    assert_eq!((&told["type"], &told["room_name"]), (&json!("m.room.message"), &json!("The Room")));
    assert_eq!((&told["sender"], &told["sender_display_name"]), (&json!(scene.alice.user), &json!("alice")));
    assert_eq!((&told["prio"], &told["devices"][0]["tweaks"]["highlight"]), (&json!("high"), &json!(true)));
}

#[tokio::test]
async fn what_the_rules_silence_or_was_read_already_is_not_pushed_and_reading_lowers_the_badge() {
    let scene = Scene::new(Some("event_id_only")).await;
    let said = scene.say(&scene.alice, "hello").await;
    scene.told(1).await;
    scene.wait(Duration::from_secs(3)).await;
    let receipt = format!("/_matrix/client/v3/rooms/{}/receipt/m.read/{said}", scene.room);
    scene.bob.post(&receipt, json!({})).await.ok();
    eventually("a badge", async || scene.web.asked().len() >= 2).await;
    let told = scene.web.asked()[1].body["notification"].clone();
    assert_eq!((&told["counts"], &told["event_id"]), (&json!({ "unread": 0 }), &Value::Null));
    let rule = format!("/_matrix/client/v3/pushrules/global/room/{}", scene.room);
    scene.bob.put(&rule, json!({ "actions": [] })).await.ok();
    scene.say(&scene.alice, "quiet").await;
    // It is judged by the rules as they are when it is looked at.
    let upto = scene.node.node().activity.position();
    let key = (scene.bob.user.clone(), "org.example.app".to_owned(), "key of bob".to_owned());
    eventually("it was looked at", async || scene.node.node().push.queue.looked(&key) >= upto).await;
    scene.bob.delete(&rule).await.ok();
    let last = scene.say(&scene.alice, "loud").await;
    assert_eq!(scene.told(2).await[1]["event_id"], last.as_str());
}

#[tokio::test]
async fn an_invite_is_pushed() {
    let scene = Scene::new(Some("event_id_only")).await;
    let body = json!({ "invite": [scene.bob.user] });
    let room = scene.alice.post("/_matrix/client/v3/createRoom", body).await.ok();
    assert_eq!(scene.told(1).await[0]["room_id"], room["room_id"]);
}

#[tokio::test]
async fn a_gateway_that_fails_is_tried_again_in_order_and_after_a_restart() {
    let scene = Scene::new(Some("event_id_only")).await;
    scene.web.answer(|_| Err(WebError::Private));
    let first = scene.say(&scene.alice, "one").await;
    scene.told(1).await;
    let second = scene.say(&scene.alice, "two").await;
    scene.web.answer(|_| Ok(answer(502, "")));
    eventually("another try", async || {
        scene.wait(Duration::from_secs(1)).await;
        scene.web.asked().len() >= 2
    })
    .await;
    scene.node.handle.stop().await;

    let web = FakeWeb::new();
    let backend = scene.node.backend.clone();
    let _again = TestNode::start_on_web(backend, web.choice(), |_| {}).await;
    eventually("both", async || web.asked().len() >= 2).await;
    let told: Vec<_> = web.asked().iter().map(|asked| asked.body["notification"]["event_id"].clone()).collect();
    assert_eq!(told, [first, second]);
}

#[tokio::test]
async fn a_rejected_pushkey_is_removed_and_so_is_one_that_is_set_to_null() {
    let scene = Scene::new(Some("event_id_only")).await;
    let pushers = async || scene.bob.get("/_matrix/client/v3/pushers").await.ok()["pushers"].as_array().unwrap().len();
    scene.web.answer(|_| Ok(answer(200, r#"{"rejected":["another"]}"#)));
    scene.say(&scene.alice, "one").await;
    scene.told(1).await;
    assert_eq!(pushers().await, 1);
    scene.web.answer(|_| Ok(answer(200, r#"{"rejected":["key of bob"]}"#)));
    scene.say(&scene.alice, "two").await;
    eventually("no pusher", async || pushers().await == 0).await;

    scene.bob.post("/_matrix/client/v3/pushers/set", pusher(None)).await.ok();
    let null = json!({ "app_id": "org.example.app", "pushkey": "key of bob", "kind": null });
    scene.bob.post("/_matrix/client/v3/pushers/set", null).await.ok();
    scene.say(&scene.alice, "three").await;
    // Another user's pusher shows that the first one would have been told by now.
    let mut of_alice = pusher(None);
    of_alice["pushkey"] = json!("key of alice");
    scene.alice.post("/_matrix/client/v3/pushers/set", of_alice).await.ok();
    scene.say(&scene.bob, "four").await;
    assert_eq!(scene.told(3).await[2]["devices"][0]["pushkey"], "key of alice");
}
