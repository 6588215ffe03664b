//! Two nodes.

use std::{collections::BTreeSet, time::Duration};

use kith_store::tables::e2ee::{DEVICE_KEYS, REMOTE_LISTS};
use kith_transport::{
    SecretKey, ServerKey,
    memory::{Fault, MemoryHub},
};
use serde_json::{Value, json};

use super::{
    CLAIM, QUERY, UPLOAD, cross_signing::User, device_keys, encrypted_room, escape, leave, next, one_time_keys, sync,
    with_keys,
};
use crate::testing::{Client, TestNode};

const HERE: u8 = 1;
const THERE: u8 = 2;

struct World {
    hub: MemoryHub,
    here: TestNode,
    there: TestNode,
    alice: Client,
    bob: Client,
    room: String,
}

fn key(seed: u8) -> ServerKey {
    SecretKey::from_seed([seed; 32]).public()
}

impl World {
    /// Alice and Bob, each on a node, in an encrypted room.
    async fn new() -> Self {
        let hub = MemoryHub::new();
        let (here, there) = (TestNode::start_among(&hub, HERE).await, TestNode::start_among(&hub, THERE).await);
        let (alice, bob) = (here.register("alice").await, there.register("bob").await);
        let room = encrypted_room(&alice).await;
        let world = Self { hub, here, there, alice, bob, room };
        world.bob_joins().await;
        world
    }

    async fn bob_joins(&self) {
        let via = self.here.node().server_name();
        let path = format!("/_matrix/client/v3/join/{}?server_name={via}", escape(&self.room));
        self.bob.post(&path, json!({})).await.ok();
    }

    #[allow(clippy::disallowed_methods, reason = "what other tasks do is awaited in real time")]
    /// Waits until it is so, while the clocks of both nodes go on.
    async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let limit = std::time::Duration::from_secs(30);
        let waited = tokio::time::timeout(limit, async {
            while !is_so().await {
                self.here.clock.advance(Duration::from_millis(100));
                self.there.clock.advance(Duration::from_millis(100));
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("{what} does not happen"));
    }

    /// The IDs of Bob's devices, as a query of Alice finds them, and whether his server failed to answer.
    async fn bobs_devices(&self) -> (BTreeSet<String>, bool) {
        let answer = self.alice.post(QUERY, json!({ "device_keys": { &self.bob.user: [] } })).await.ok();
        let devices = answer["device_keys"][&self.bob.user].as_object().cloned().unwrap_or_default();
        (devices.into_iter().map(|(device, _)| device).collect(), answer["failures"].as_object().is_some())
    }

    /// Whether Bob's list is here and may be used.
    fn follows_bob(&self) -> bool {
        let read = self.here.node().store.snapshot().expect("a snapshot");
        super::super::remote::is_fresh(&read, &self.bob.user).expect("a read")
    }
}

fn devices(clients: &[&Client]) -> BTreeSet<String> {
    clients.iter().map(|client| client.device.clone()).collect()
}

fn bodies(sync: &Value) -> Vec<u64> {
    let events = sync["to_device"]["events"].as_array().cloned().unwrap_or_default();
    events.iter().filter_map(|event| event["content"]["n"].as_u64()).collect()
}

#[tokio::test]
async fn keys_of_another_node_are_found_followed_and_known_while_it_is_away() {
    let world = World::new().await;
    let World { hub, alice, bob, there, .. } = &world;
    let pair = with_keys(bob, 1).await;
    let answer = alice.post(QUERY, json!({ "device_keys": { &bob.user: [] } })).await.ok();
    assert_eq!(answer["device_keys"], json!({ &bob.user: { &bob.device: device_keys(bob, &pair) } }));
    world.until("the list is followed", async || world.follows_bob()).await;

    // A new device there is told here, and found without asking.
    let before = sync(alice, None).await;
    let tablet = there.login("bob").await;
    with_keys(&tablet, 2).await;
    world
        .until("the change is told", async || {
            sync(alice, Some(next(&before))).await["device_lists"]["changed"] == json!([bob.user])
        })
        .await;
    assert!(world.follows_bob(), "the update fits, so there is nothing to fetch");
    hub.cut(key(HERE), key(THERE));
    assert_eq!(world.bobs_devices().await, (devices(&[bob, &tablet]), false));

    // Away, a device more and one less there: the updates that wait become one, so the list has to be fetched.
    let phone = there.login("bob").await;
    with_keys(&phone, 3).await;
    tablet.post("/_matrix/client/v3/logout", json!({})).await.ok();
    hub.heal(key(HERE), key(THERE));
    world
        .until("the list is right again", async || {
            world.follows_bob() && world.bobs_devices().await == (devices(&[bob, &phone]), false)
        })
        .await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_named_and_what_was_known_is_given() {
    let world = World::new().await;
    let World { hub, alice, bob, here, .. } = &world;
    with_keys(bob, 1).await;
    world.until("the list is followed", async || !world.bobs_devices().await.0.is_empty() && world.follows_bob()).await;
    hub.cut(key(HERE), key(THERE));
    let user = bob.user.clone();
    let stale = here.node().store.write(move |tx| {
        let mut list = REMOTE_LISTS.get(tx, &user)?.expect("a list");
        list.0.stale = true;
        REMOTE_LISTS.put(tx, &user, &list)
    });
    stale.await.expect("a write");
    assert_eq!(world.bobs_devices().await, (devices(&[bob]), true));
    let stranger = format!("@carol:{}", bob.user.split_once(':').expect("a server").1);
    let answer = alice.post(QUERY, json!({ "device_keys": { &stranger: [] } })).await.ok();
    assert_eq!(answer["device_keys"][&stranger], Value::Null);
    assert!(answer["failures"][stranger.split_once(':').expect("a server").1].is_object(), "{answer}");
    let wish = json!({ "one_time_keys": { &bob.user: { &bob.device: "signed_curve25519" } } });
    assert!(alice.post(CLAIM, wish).await.ok()["failures"].is_object());
}

#[tokio::test]
async fn a_claim_whose_answer_is_lost_takes_one_key_and_two_claims_never_get_the_same() {
    let world = World::new().await;
    let World { hub, alice, bob, .. } = &world;
    let pair = with_keys(bob, 1).await;
    bob.post(UPLOAD, json!({ "one_time_keys": one_time_keys(bob, &pair, "A", 20) })).await.ok();
    // What goes between the servers by itself must not meet the fault.
    world.until("the list is followed", async || !world.bobs_devices().await.0.is_empty() && world.follows_bob()).await;
    let wish = json!({ "one_time_keys": { &bob.user: { &bob.device: "signed_curve25519" } } });
    let claim = async || {
        let answer = alice.post(CLAIM, wish.clone()).await.ok();
        let keys = answer["one_time_keys"][&bob.user][&bob.device].as_object().cloned().unwrap_or_default();
        keys.into_iter().next().map(|(name, _)| name).unwrap_or_else(|| panic!("no key: {answer}"))
    };
    hub.fail(key(HERE), key(THERE), 0, Fault::LoseResponse);
    assert_eq!(claim().await, "signed_curve25519:A0");
    hub.fail(key(HERE), key(THERE), 0, Fault::BreakBody);
    assert_eq!(claim().await, "signed_curve25519:A1");
    let claims: BTreeSet<_> = futures::future::join_all((0..8).map(|_| claim())).await.into_iter().collect();
    assert_eq!(claims.len(), 8, "{claims:?}");
    assert_eq!(sync(bob, None).await["device_one_time_keys_count"]["signed_curve25519"], 10);
}

#[tokio::test]
async fn messages_to_devices_of_another_node_come_once_in_order_whatever_is_lost() {
    let world = World::new().await;
    let World { hub, alice, bob, there, .. } = &world;
    let tablet = there.login("bob").await;
    let send = async |number: u64| {
        let messages = json!({ "messages": { &bob.user: { "*": { "n": number } } } });
        alice.put(&format!("/_matrix/client/v3/sendToDevice/m.test/{number}"), messages).await.ok();
    };
    for number in 0..30 {
        match number {
            5 | 12 => hub.fail(key(HERE), key(THERE), 0, Fault::LoseResponse),
            8 => hub.fail(key(HERE), key(THERE), 0, Fault::BreakBody),
            15 => hub.cut(key(HERE), key(THERE)),
            25 => hub.heal(key(HERE), key(THERE)),
            _ => {}
        }
        send(number).await;
    }
    world.until("all messages come", async || bodies(&sync(bob, None).await).len() >= 30).await;
    let all: Vec<u64> = (0..30).collect();
    assert_eq!(bodies(&sync(bob, None).await), all);
    assert_eq!(bodies(&sync(&tablet, None).await), all);
    assert_eq!(sync(bob, None).await["to_device"]["events"][0]["sender"], alice.user);
}

#[tokio::test]
async fn a_message_that_another_server_sends_for_a_foreign_user_is_refused() {
    let world = World::new().await;
    let World { alice, bob, there, .. } = &world;
    let content = json!({
        "sender": bob.user, "type": "m.test", "message_id": "1",
        "messages": { &bob.user: { "*": { "n": 1 } } },
    });
    let content = serde_json::from_value(content).expect("content");
    let origin = world.here.node().server_name().to_owned();
    let refused = super::super::receive::direct_to_device(there.node(), &origin, content).await.unwrap_err();
    assert!(refused.is("M_FORBIDDEN"), "{refused}");
    assert_eq!(bodies(&sync(bob, None).await), Vec::<u64>::new());
    let update = json!({ "user_id": alice.user, "device_id": "A", "stream_id": 5, "prev_id": [] });
    let update = serde_json::from_value(update).expect("content");
    let origin = there.node().server_name().to_owned();
    let refused = super::super::receive::device_list_update(there.node(), &origin, update).await.unwrap_err();
    assert!(refused.is("M_FORBIDDEN"), "{refused}");
}

#[tokio::test]
async fn cross_signing_keys_of_another_node_are_told_and_can_be_signed() {
    let world = World::new().await;
    let World { alice, bob, .. } = &world;
    with_keys(bob, 1).await;
    world.until("the list is followed", async || !world.bobs_devices().await.0.is_empty() && world.follows_bob()).await;
    let (alices, bobs) = (User::new(10), User::new(20));
    let before = sync(alice, None).await;
    bob.post(super::cross_signing::SIGNING, bobs.upload(bob)).await.ok();
    let query = async || alice.post(QUERY, json!({ "device_keys": { &bob.user: [] } })).await.ok();
    world
        .until("the keys are told", async || {
            sync(alice, Some(next(&before))).await["device_lists"]["changed"] == json!([bob.user])
        })
        .await;
    let seen = query().await;
    assert_eq!(seen["master_keys"][&bob.user], bobs.master_key(bob));
    assert_eq!(seen["self_signing_keys"][&bob.user], bobs.upload(bob)["self_signing_key"]);
    assert_eq!(seen["user_signing_keys"], Value::Null);

    alice.post(super::cross_signing::SIGNING, alices.upload(alice)).await.ok();
    let signed = alices.user_signing.sign(bobs.master_key(bob), &alice.user, &alices.user_signing.public());
    let body = json!({ &bob.user: { bobs.master.public(): signed } });
    let answer = alice.post(super::cross_signing::SIGNATURES, body).await.ok();
    assert_eq!(answer, json!({ "failures": {} }));
    assert_eq!(query().await["master_keys"][&bob.user], signed);
}

#[tokio::test]
async fn a_list_is_forgotten_with_the_last_shared_room_and_fetched_anew_later() {
    let world = World::new().await;
    let World { alice, bob, here, there, room, .. } = &world;
    with_keys(bob, 1).await;
    world.until("the list is followed", async || !world.bobs_devices().await.0.is_empty() && world.follows_bob()).await;
    let before = sync(alice, None).await;
    leave(bob, room).await;
    world
        .until("the leaving is told", async || {
            sync(alice, Some(next(&before))).await["device_lists"]["left"] == json!([bob.user])
        })
        .await;
    let read = here.node().store.snapshot().expect("a snapshot");
    assert!(!DEVICE_KEYS.contains(&read, &(bob.user.clone(), bob.device.clone())).expect("a read"));
    drop(read);
    // This change is not told: nobody here has to know.
    let tablet = there.login("bob").await;
    with_keys(&tablet, 2).await;
    assert_eq!(world.bobs_devices().await, (devices(&[bob, &tablet]), false));
    assert!(!world.follows_bob());
    world.bob_joins().await;
    world
        .until("the list is followed again", async || {
            world.bobs_devices().await == (devices(&[bob, &tablet]), false) && world.follows_bob()
        })
        .await;
}

#[tokio::test]
async fn a_list_that_changes_while_it_is_fetched_is_fetched_again() {
    let world = World::new().await;
    let World { bob, here, .. } = &world;
    with_keys(bob, 1).await;
    let node = here.node();
    let (own, user) = (node.server_name().to_string(), bob.user.clone());
    // The fetch has begun, and an update comes before its answer.
    let update = super::super::remote::Update {
        device: "NEW".to_owned(),
        stream_id: 99,
        prev_id: vec![98],
        deleted: false,
        keys: None,
    };
    let begun = kith_store::tables::e2ee::RemoteList { stale: true, ..Default::default() };
    let stale = node.store.write(move |tx| {
        REMOTE_LISTS.put(tx, &user, &kith_store::Json(begun))?;
        super::super::remote::update_device(tx, &own, &user, update)
    });
    assert!(stale.await.expect("a write"), "an update during a fetch makes it worthless");
    assert!(!world.follows_bob());
    let user = ruma::UserId::parse(&bob.user).expect("a user ID");
    node.e2ee.stale.hurry(&user, node.clock.monotonic());
    world.until("the list is followed", async || world.follows_bob()).await;
    assert_eq!(world.bobs_devices().await, (devices(&[bob]), false));
}

#[tokio::test]
async fn a_change_that_went_past_a_server_before_it_was_known_to_be_in_the_room_is_found_by_it() {
    let world = World::new().await;
    let World { hub, bob, here, room, .. } = &world;
    // Carol's node joins through Alice's while Bob's cannot hear of it.
    let third = TestNode::start_among(hub, 3).await;
    let carol = third.register("carol").await;
    hub.cut(key(HERE), key(THERE));
    let path = format!("/_matrix/client/v3/join/{}?server_name={}", escape(room), here.node().server_name());
    carol.post(&path, json!({})).await.ok();
    let query = async || {
        let answer = carol.post(QUERY, json!({ "device_keys": { &bob.user: [] } })).await.ok();
        answer["device_keys"][&bob.user].as_object().map(|devices| devices.len())
    };
    assert_eq!(query().await, Some(0));
    let follows = || {
        let read = third.node().store.snapshot().expect("a snapshot");
        super::super::remote::is_fresh(&read, &bob.user).expect("a read")
    };
    world.until("the empty list is kept", async || follows()).await;
    with_keys(bob, 1).await;
    hub.heal(key(HERE), key(THERE));
    world
        .until("the list is right", async || {
            third.clock.advance(Duration::from_millis(100));
            query().await == Some(1)
        })
        .await;
}

#[tokio::test]
async fn a_list_that_went_wrong_unnoticed_is_right_again_after_some_hours() {
    let world = World::new().await;
    let World { bob, here, .. } = &world;
    with_keys(bob, 1).await;
    world.until("the list is followed", async || !world.bobs_devices().await.0.is_empty() && world.follows_bob()).await;
    let lost = (bob.user.clone(), bob.device.clone());
    here.node().store.write(move |tx| DEVICE_KEYS.delete(tx, &lost)).await.expect("a write");
    assert_eq!(world.bobs_devices().await, (devices(&[]), false));
    here.clock.advance(Duration::from_secs(7 * 60 * 60));
    world.until("the list is right", async || world.bobs_devices().await == (devices(&[bob]), false)).await;
}
