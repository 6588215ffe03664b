//! A bridge: what it may do, what it is told, and that nothing is lost on the way.

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::Method;
use kith_store::MemoryBackend;
use serde_json::{Value, json};

use crate::{
    e2ee::tests::{CLAIM, Pair, UPLOAD, device_keys, encrypted_room, leave, one_time_keys, with_keys},
    testing::{
        Client, TestNode, eventually,
        web::{Asked, FakeWeb, answer},
    },
    web::WebError,
};

const AS_TOKEN: &str = "token_of_the_bridge_as_it_shows_it";
const V3: &str = "/_matrix/client/v3";

struct Scene {
    node: TestNode,
    web: Arc<FakeWeb>,
    /// The file must be there when the node starts again.
    file: tempfile::NamedTempFile,
}

fn registration(receives_to_device: bool) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let text = json!({
        "id": "irc", "url": "http://localhost:9999/base", "as_token": AS_TOKEN,
        "hs_token": "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "sender_localpart": "bridge", "rate_limited": false,
        "receive_ephemeral": true, "org.matrix.msc3202": receives_to_device, "protocols": ["irc"],
        "namespaces": {
            "users": [{ "exclusive": true, "regex": "@irc_.*" }],
            "aliases": [{ "exclusive": true, "regex": "#irc_.*" }],
            "rooms": [],
        },
    });
    write!(file, "{text}").unwrap();
    file
}

impl Scene {
    async fn new() -> Self {
        Self::of(registration(true)).await
    }

    async fn of(file: tempfile::NamedTempFile) -> Self {
        let web = FakeWeb::new();
        let node = Self::start(MemoryBackend::new(), &web, &file).await;
        Self { node, web, file }
    }

    async fn start(backend: MemoryBackend, web: &Arc<FakeWeb>, file: &tempfile::NamedTempFile) -> TestNode {
        let path = file.path().to_owned();
        TestNode::start_on_web(backend, web.choice(), |config| config.appservices.registrations = vec![path]).await
    }

    fn bridge(&self) -> Client {
        let mut client = self.node.client();
        client.token = Some(AS_TOKEN.to_owned());
        client
    }

    /// The bridge, with the names of a device of one of its users.
    fn ghost(&self, localpart: &str) -> Client {
        let mut client = self.bridge();
        (client.user, client.device) = (self.id(localpart), "DEV".to_owned());
        client
    }

    fn id(&self, localpart: &str) -> String {
        format!("@{localpart}:{}", self.node.node().server_name())
    }

    async fn register(&self, name: &str) -> Value {
        let body = json!({ "type": "m.login.application_service", "username": name, "inhibit_login": true });
        self.bridge().post(&format!("{V3}/register"), body).await.ok()
    }

    /// All transactions so far.
    fn transactions(&self) -> Vec<Asked> {
        self.web.asked().into_iter().filter(|asked| asked.url.contains("/transactions/")).collect()
    }

    /// The events of all transactions that were taken, in order.
    fn events(&self, kind: &str) -> Vec<Value> {
        let all = self.transactions();
        let events = all.iter().flat_map(|asked| asked.body["events"].as_array().cloned().unwrap_or_default());
        events.filter(|event| event["type"] == kind).collect()
    }
}

async fn room(client: &Client, body: Value) -> String {
    client.post(&format!("{V3}/createRoom"), body).await.ok()["room_id"].as_str().unwrap().to_owned()
}

async fn say(client: &Client, room: &str, mask: &str, body: &str) -> String {
    let path = format!("{V3}/rooms/{room}/send/m.room.message/{}{mask}", body.replace(' ', "_"));
    let answer = client.put(&path, json!({ "msgtype": "m.text", "body": body })).await.ok();
    answer["event_id"].as_str().unwrap().to_owned()
}

fn bodies(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["content"]["body"].as_str()).collect()
}

#[tokio::test]
async fn a_bridge_acts_as_itself_and_as_users_of_its_namespace_and_as_nobody_else() {
    let scene = Scene::new().await;
    let bridge = scene.bridge();
    let who = bridge.get(&format!("{V3}/account/whoami")).await.ok();
    assert_eq!((&who["user_id"], &who["device_id"]), (&json!(scene.id("bridge")), &Value::Null));
    let alice = scene.node.register("alice").await;
    for (user, status) in [("irc_x", 403), ("alice", 403), ("bridge", 200)] {
        let path = format!("{V3}/account/whoami?user_id={}", scene.id(user));
        assert_eq!(bridge.get(&path).await.status.as_u16(), status, "{user}");
    }
    assert_eq!(scene.register("irc_x").await["user_id"], scene.id("irc_x"));
    let mask = format!("?user_id={}", scene.id("irc_x"));
    assert_eq!(bridge.get(&format!("{V3}/account/whoami{mask}")).await.ok()["user_id"], scene.id("irc_x"));

    let there = room(&alice, json!({ "preset": "public_chat" })).await;
    bridge.post(&format!("{V3}/rooms/{there}/join{mask}"), json!({})).await.ok();
    let said = say(&bridge, &there, &mask, "from irc").await;
    let event = alice.get(&format!("{V3}/rooms/{there}/event/{said}")).await.ok();
    assert_eq!(event["sender"], scene.id("irc_x"));
    // A device of a user of its own, made without a password.
    let device = format!("{V3}/devices/DEV{mask}");
    bridge.get(&format!("{device}&device_id=DEV")).await.fails(400, "M_UNKNOWN_DEVICE");
    assert_eq!(bridge.put(&device, json!({ "display_name": "Puppet" })).await.status.as_u16(), 201);
    let who = bridge.get(&format!("{V3}/account/whoami{mask}&device_id=DEV")).await.ok();
    assert_eq!(who["device_id"], "DEV");
    bridge.delete(&device).await.ok();
    // Its token opens nothing for others, and others' tokens do not open what is the bridge's.
    let ping = "/_matrix/client/v1/appservice/irc/ping";
    alice.post(ping, json!({})).await.fails(403, "M_FORBIDDEN");
    bridge.post("/_matrix/client/v1/appservice/other/ping", json!({})).await.fails(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn a_bridge_says_when_something_was_said_and_a_user_cannot() {
    let scene = Scene::new().await;
    let (bridge, alice) = (scene.bridge(), scene.node.register("alice").await);
    let there = room(&bridge, json!({ "preset": "public_chat" })).await;
    alice.post(&format!("{V3}/rooms/{there}/join"), json!({})).await.ok();
    let long_ago = 1_000_000_000_000_u64;
    let mut last = String::new();
    for (client, is_believed) in [(&alice, false), (&bridge, true)] {
        last = say(client, &there, &format!("?ts={long_ago}"), "then").await;
        let event = client.get(&format!("{V3}/rooms/{there}/event/{last}")).await.ok();
        assert_eq!(event["origin_server_ts"] == long_ago, is_believed, "{event}");
    }
    // Its place is where it came, not where it would have been.
    let page = alice.get(&format!("{V3}/rooms/{there}/messages?dir=b&limit=1")).await.ok();
    assert_eq!(page["chunk"][0]["event_id"], last);
    let topic = format!("{V3}/rooms/{there}/state/m.room.topic/");
    bridge.put(&format!("{topic}?ts={long_ago}"), json!({ "topic": "old" })).await.ok();
    let event = alice.get(&format!("{topic}?format=event")).await.ok();
    assert_eq!((&event["origin_server_ts"], &event["content"]["topic"]), (&json!(long_ago), &json!("old")));
}

#[tokio::test]
async fn names_of_its_namespaces_are_the_bridges_alone() {
    let scene = Scene::new().await;
    let (bridge, stranger) = (scene.bridge(), scene.node.client());
    let body = json!({ "username": "irc_y", "password": "secret", "auth": { "type": "m.login.dummy" } });
    stranger.post(&format!("{V3}/register"), body).await.fails(400, "M_EXCLUSIVE");
    stranger.get(&format!("{V3}/register/available?username=irc_y")).await.fails(400, "M_EXCLUSIVE");
    let body = json!({ "type": "m.login.application_service", "username": "carol" });
    bridge.post(&format!("{V3}/register"), body.clone()).await.fails(400, "M_EXCLUSIVE");
    stranger.post(&format!("{V3}/register"), body.clone()).await.fails(401, "M_MISSING_TOKEN");
    let mut wrong = stranger.clone();
    wrong.token = Some("nonsense".to_owned());
    wrong.post(&format!("{V3}/register"), body).await.fails(401, "M_UNKNOWN_TOKEN");

    let alice = scene.node.register("alice").await;
    let there = room(&alice, json!({})).await;
    let alias = |name: &str| format!("{V3}/directory/room/%23{name}:{}", scene.node.node().server_name());
    alice.put(&alias("irc_z"), json!({ "room_id": there })).await.fails(400, "M_EXCLUSIVE");
    alice.post(&format!("{V3}/createRoom"), json!({ "room_alias_name": "irc_z" })).await.fails(400, "M_EXCLUSIVE");
    room(&bridge, json!({ "room_alias_name": "irc_z" })).await;

    let flows = stranger.get(&format!("{V3}/login")).await.ok().to_string();
    assert!(flows.contains("m.login.application_service"), "{flows}");
    scene.register("irc_y").await;
    let login = |name: &str| json!({ "type": "m.login.application_service", "identifier": { "type": "m.id.user", "user": name } });
    assert_eq!(bridge.post(&format!("{V3}/login"), login("irc_y")).await.ok()["user_id"], scene.id("irc_y"));
    bridge.post(&format!("{V3}/login"), login("alice")).await.fails(400, "M_EXCLUSIVE");
    stranger.post(&format!("{V3}/login"), login("irc_y")).await.fails(401, "M_MISSING_TOKEN");
}

#[tokio::test]
async fn a_bridge_is_told_what_happens_in_the_rooms_of_its_users_and_nothing_else() {
    let scene = Scene::new().await;
    scene.register("irc_x").await;
    let (alice, bob) = (scene.node.register("alice").await, scene.node.register("bob").await);
    let private = room(&alice, json!({})).await;
    say(&alice, &private, "", "not for the bridge").await;
    let shared = room(&alice, json!({ "invite": [scene.id("irc_x")] })).await;
    eventually("the invite", async || {
        let invites = scene.events("m.room.member");
        invites
            .iter()
            .any(|event| event["state_key"] == scene.id("irc_x") && event["content"]["membership"] == "invite")
    })
    .await;
    let mask = format!("?user_id={}", scene.id("irc_x"));
    scene.bridge().post(&format!("{V3}/rooms/{shared}/join{mask}"), json!({})).await.ok();
    let said = say(&alice, &shared, "", "for the bridge").await;
    eventually("the message", async || !scene.events("m.room.message").is_empty()).await;
    let events = scene.events("m.room.message");
    assert_eq!(bodies(&events), ["for the bridge"]);
    assert_eq!((&events[0]["event_id"], &events[0]["room_id"]), (&json!(said), &json!(shared)));
    let asked = scene.transactions().remove(0);
    assert_eq!(asked.method, Method::PUT);
    assert_eq!(asked.headers["authorization"], "Bearer ABCDEFGHIJKLMNOPQRSTUVWXYZ");
    assert!(asked.url.starts_with("http://localhost:9999/base/_matrix/app/v1/transactions/"), "{}", asked.url);

    // What passes: who reads and types, and what is sent to its users' devices.
    alice.post(&format!("{V3}/rooms/{shared}/receipt/m.read/{said}"), json!({})).await.ok();
    let typing = format!("{V3}/rooms/{shared}/typing/{}", alice.user);
    alice.put(&typing, json!({ "typing": true, "timeout": 10_000 })).await.ok();
    scene.bridge().put(&format!("{V3}/devices/DEV{mask}"), json!({})).await;
    let to_device = json!({ "messages": { scene.id("irc_x"): { "DEV": { "a": 1 } } } });
    bob.put(&format!("{V3}/sendToDevice/org.example.mail/1"), to_device).await.ok();
    eventually("what passes", async || {
        let all: Vec<Value> = scene.transactions().into_iter().map(|asked| asked.body).collect();
        let text = serde_json::to_string(&all).unwrap();
        ["m.receipt", "m.typing", "org.example.mail"].iter().all(|kind| text.contains(kind))
    })
    .await;
    let mail: Vec<Value> = scene
        .transactions()
        .iter()
        .flat_map(|asked| asked.body["de.sorunome.msc2409.to_device"].as_array().cloned().unwrap_or_default())
        .collect();
    assert_eq!(mail.len(), 1, "{mail:?}");
    assert_eq!((&mail[0]["to_user_id"], &mail[0]["to_device_id"]), (&json!(scene.id("irc_x")), &json!("DEV")));
}

/// Bridges ask for ephemeral data whether their devices sync or not. A transaction that took what was sent to a device that
/// syncs left its messages in the rooms unreadable (found with mautrix in its default mode).
#[tokio::test]
async fn what_is_sent_to_a_device_of_a_bridge_waits_for_its_sync_unless_the_bridge_wants_to_be_told() {
    let scene = Scene::of(registration(false)).await;
    scene.register("irc_x").await;
    let (alice, bridge) = (scene.node.register("alice").await, scene.bridge());
    let mask = format!("?user_id={}", scene.id("irc_x"));
    bridge.put(&format!("{V3}/devices/DEV{mask}"), json!({})).await;
    let shared = room(&alice, json!({ "invite": [scene.id("irc_x")] })).await;
    bridge.post(&format!("{V3}/rooms/{shared}/join{mask}"), json!({})).await.ok();

    let to_device = json!({ "messages": { scene.id("irc_x"): { "DEV": { "a": 1 } } } });
    alice.put(&format!("{V3}/sendToDevice/org.example.mail/1"), to_device).await.ok();
    say(&alice, &shared, "", "after the mail").await;
    eventually("the message", async || !scene.events("m.room.message").is_empty()).await;

    let told: Vec<Value> = scene.transactions().into_iter().map(|asked| asked.body).collect();
    assert!(told.iter().all(|body| body.get("de.sorunome.msc2409.to_device").is_none()), "{told:?}");
    let synced = bridge.get(&format!("{V3}/sync{mask}&device_id=DEV")).await.ok();
    assert_eq!(synced["to_device"]["events"][0]["type"], "org.example.mail", "{synced}");
}

/// The newest of what transactions said of a kind.
fn told(scene: &Scene, kind: &str) -> Option<Value> {
    let all = scene.transactions();
    all.iter().rev().find_map(|asked| asked.body.get(format!("org.matrix.msc3202.{kind}")).cloned())
}

#[tokio::test]
async fn a_bridge_that_encrypts_without_syncing_is_told_of_its_keys_and_of_other_devices() {
    let scene = Scene::new().await;
    scene.register("irc_x").await;
    let (alice, x) = (scene.node.register("alice").await, scene.id("irc_x"));
    let mask = format!("?user_id={x}&device_id=DEV");
    scene.bridge().put(&format!("{V3}/devices/DEV?user_id={x}"), json!({})).await;
    let ghost = scene.ghost("irc_x");
    let pair = Pair::new(7);
    let keys =
        json!({ "device_keys": device_keys(&ghost, &pair), "one_time_keys": one_time_keys(&ghost, &pair, "A", 3) });
    ghost.post(&format!("{UPLOAD}{mask}"), keys).await.ok();
    let shared = encrypted_room(&alice).await;
    ghost.post(&format!("{V3}/rooms/{shared}/join{mask}"), json!({})).await.ok();

    let count = |many: u64| json!({ &x: { "DEV": { "signed_curve25519": many } } });
    eventually("its keys", async || told(&scene, "device_one_time_keys_count") == Some(count(3))).await;
    assert_eq!(told(&scene, "device_unused_fallback_key_types"), Some(json!({ &x: { "DEV": [] } })));
    let lists = |what: &str| {
        let all = scene.transactions();
        let users = |asked: &Asked| asked.body["org.matrix.msc3202.device_lists"][what].as_array().cloned();
        all.iter().filter_map(users).flatten().filter(|user| *user == alice.user.as_str()).count()
    };
    eventually("who is in the room", async || lists("changed") > 0).await;

    // A device that comes is told of by itself: nothing else happens.
    let before = lists("changed");
    with_keys(&alice, 8).await;
    eventually("a new device", async || lists("changed") > before).await;

    // A key that was taken, with the message that it was taken for.
    alice.post(CLAIM, json!({ "one_time_keys": { &x: { "DEV": "signed_curve25519" } } })).await.ok();
    let to_device = json!({ "messages": { &x: { "DEV": { "a": 1 } } } });
    alice.put(&format!("{V3}/sendToDevice/org.example.mail/1"), to_device).await.ok();
    eventually("one less", async || told(&scene, "device_one_time_keys_count") == Some(count(2))).await;

    assert_eq!(lists("left"), 0);
    leave(&alice, &shared).await;
    eventually("who left", async || lists("left") == 1).await;

    // A bridge that syncs is told nothing of it.
    let other = Scene::of(registration(false)).await;
    other.register("irc_x").await;
    other.bridge().put(&format!("{V3}/devices/DEV?user_id={}", other.id("irc_x")), json!({})).await;
    let ghost = other.ghost("irc_x");
    let mask = format!("?user_id={}&device_id=DEV", ghost.user);
    ghost.post(&format!("{UPLOAD}{mask}"), json!({ "device_keys": device_keys(&ghost, &pair) })).await.ok();
    let alice = other.node.register("alice").await;
    let shared = encrypted_room(&alice).await;
    ghost.post(&format!("{V3}/rooms/{shared}/join{mask}"), json!({})).await.ok();
    say(&alice, &shared, "", "hello").await;
    eventually("the message", async || !other.events("m.room.message").is_empty()).await;
    assert!(!other.transactions().iter().any(|asked| asked.body.to_string().contains("msc3202")));
}

#[tokio::test]
async fn a_bridge_that_was_away_gets_all_in_order_once_also_after_a_restart() {
    let scene = Scene::new().await;
    let is_up = Arc::new(AtomicBool::new(false));
    let up = is_up.clone();
    scene.web.answer(move |_| if up.load(Ordering::SeqCst) { Ok(answer(200, "{}")) } else { Err(WebError::Private) });
    let bridge = scene.bridge();
    let there = room(&bridge, json!({})).await;
    for number in 0..3 {
        say(&bridge, &there, "", &format!("before {number}")).await;
    }
    eventually("a first try", async || !scene.transactions().is_empty()).await;
    let first = scene.transactions().remove(0);
    scene.node.handle.stop().await;

    let again = Scene::start(scene.node.backend.clone(), &scene.web, &scene.file).await;
    let scene = Scene { node: again, ..scene };
    let bridge = scene.bridge();
    for number in 0..150 {
        say(&bridge, &there, "", &format!("after {number}")).await;
    }
    let before = scene.transactions().len();
    is_up.store(true, Ordering::SeqCst);
    eventually("all", async || {
        scene.node.clock.advance(Duration::from_secs(1));
        scene.transactions()[before..].iter().any(|asked| asked.body.to_string().contains("after 149"))
    })
    .await;
    let taken = &scene.transactions()[before..];
    assert_eq!((&taken[0].url, &taken[0].body["events"]), (&first.url, &first.body["events"]), "repeated as it was");
    let events: Vec<Value> =
        taken.iter().flat_map(|asked| asked.body["events"].as_array().cloned().unwrap_or_default()).collect();
    let mut expected: Vec<String> = (0..3).map(|number| format!("before {number}")).collect();
    expected.extend((0..150).map(|number| format!("after {number}")));
    assert_eq!(bodies(&events), expected);
    let mut urls: Vec<&String> = taken.iter().map(|asked| &asked.url).collect();
    urls.dedup();
    assert_eq!(urls.len(), taken.len(), "each transaction has an ID of its own");
}

#[tokio::test]
async fn users_and_aliases_that_are_not_here_yet_are_asked_for() {
    let scene = Scene::new().await;
    let alice = scene.node.register("alice").await;
    alice.get(&format!("{V3}/profile/{}", scene.id("irc_new"))).await.fails(404, "M_NOT_FOUND");
    let asked = |what: &str| scene.web.asked().iter().filter(|asked| asked.url.contains(what)).count();
    assert_eq!(asked("/_matrix/app/v1/users/%40irc_new%3A"), 1);
    alice.get(&format!("{V3}/profile/{}", scene.id("nobody"))).await.fails(404, "M_NOT_FOUND");
    assert_eq!(asked("nobody"), 0);
    let alias = format!("{V3}/directory/room/%23irc_new:{}", scene.node.node().server_name());
    alice.get(&alias).await.fails(404, "M_NOT_FOUND");
    assert_eq!(asked("/_matrix/app/v1/rooms/%23irc_new%3A"), 1);
}

#[tokio::test]
async fn a_ping_comes_back_and_says_what_is_wrong() {
    let scene = Scene::new().await;
    let ping =
        async || scene.bridge().post("/_matrix/client/v1/appservice/irc/ping", json!({ "transaction_id": "t" })).await;
    assert!(ping().await.ok()["duration_ms"].is_u64());
    let asked = scene.web.asked().into_iter().find(|asked| asked.url.ends_with("/_matrix/app/v1/ping")).unwrap();
    assert_eq!(asked.body, json!({ "transaction_id": "t" }));
    scene.web.answer(|_| Ok(answer(401, "no such token")));
    let wrong = ping().await.fails(502, "M_BAD_STATUS");
    assert_eq!((&wrong["status"], &wrong["body"]), (&json!(401), &json!("no such token")));
    scene.web.answer(|_| Err(WebError::Resolve(std::io::Error::other("nowhere"))));
    ping().await.fails(502, "M_CONNECTION_FAILED");
}

#[tokio::test]
async fn what_a_bridge_knows_of_its_network_is_found_and_the_rooms_that_it_lists_too() {
    let scene = Scene::new().await;
    scene.web.answer(|asked| {
        let path = asked.url.split("/thirdparty/").nth(1).unwrap_or_default();
        Ok(match path {
            "protocol/irc" => {
                answer(200, r#"{"user_fields":["nick"],"instances":[{"desc":"Net","network_id":"net"}]}"#)
            }
            "user/irc?nick=x" | "user?userid=y" => {
                answer(200, r#"[{"userid":"@irc_x:x","protocol":"irc","fields":{}}]"#)
            }
            "location/irc?channel=c" | "location?alias=%23irc_c%3Ax" => {
                answer(200, r##"[{"alias":"#irc_c:x","protocol":"irc","fields":{}}]"##)
            }
            _ => answer(404, "{}"),
        })
    });
    let alice = scene.node.register("alice").await;
    let protocols = alice.get(&format!("{V3}/thirdparty/protocols")).await.ok();
    assert_eq!(protocols["irc"]["instances"][0]["instance_id"], "irc|net");
    assert_eq!(alice.get(&format!("{V3}/thirdparty/protocol/irc")).await.ok()["user_fields"], json!(["nick"]));
    alice.get(&format!("{V3}/thirdparty/protocol/xmpp")).await.fails(404, "M_NOT_FOUND");
    for path in ["user/irc?nick=x", "user?userid=y"] {
        let found = alice.get(&format!("{V3}/thirdparty/{path}")).await.ok();
        assert_eq!(found[0]["userid"], "@irc_x:x", "{path}");
    }
    alice.get(&format!("{V3}/thirdparty/user/xmpp?nick=x")).await.fails(404, "M_NOT_FOUND");
    for path in ["location/irc?channel=c", "location?alias=%23irc_c%3Ax"] {
        let found = alice.get(&format!("{V3}/thirdparty/{path}")).await.ok();
        assert_eq!(found[0]["alias"], "#irc_c:x", "{path}");
    }
    assert_eq!(alice.get(&format!("{V3}/thirdparty/location/irc?channel=none")).await.ok(), json!([]));
    alice.get(&format!("{V3}/thirdparty/location?alias=z")).await.fails(404, "M_NOT_FOUND");

    let bridge = scene.bridge();
    let there = room(&bridge, json!({ "name": "On IRC" })).await;
    let list = format!("{V3}/directory/list/appservice/net/{there}");
    alice.put(&list, json!({ "visibility": "public" })).await.fails(403, "M_FORBIDDEN");
    bridge.put(&list, json!({ "visibility": "public" })).await.ok();
    let listed = async |body: Value| {
        alice.post(&format!("{V3}/publicRooms"), body).await.ok()["chunk"].as_array().unwrap().len()
    };
    assert_eq!(listed(json!({})).await, 0);
    assert_eq!(listed(json!({ "include_all_networks": true })).await, 1);
    assert_eq!(listed(json!({ "third_party_instance_id": "irc|net" })).await, 1);
    bridge.put(&list, json!({ "visibility": "private" })).await.ok();
    assert_eq!(listed(json!({ "third_party_instance_id": "irc|net" })).await, 0);
}

#[tokio::test]
async fn the_user_of_a_bridge_is_no_first_account() {
    let scene = Scene::new().await;
    let node = scene.node.node();
    assert!(crate::accounts::registration::setup_token(node, 1_000).await.unwrap().is_some());
    scene.register("irc_x").await;
    assert!(crate::accounts::registration::setup_token(node, 1_000).await.unwrap().is_some());
    scene.node.register("alice").await;
    assert!(crate::accounts::registration::setup_token(node, 1_000).await.unwrap().is_none());
}
