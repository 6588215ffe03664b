//! Rooms with a policy server: what it does not sign is not sent, and not shown.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use http::{Method, Response, StatusCode};
use kith::rooms::{Draft, read};
use kith_room::{Document, Signer};
use kith_store::tables::rooms::{EventStatus, membership};
use kith_transport::{Router, full, memory::MemoryHub, read_body};
use ruma::{
    OwnedRoomId, RoomVersionId,
    serde::{Base64, base64::Standard},
    signatures::Ed25519KeyPair,
};
use serde_json::{Value, json};

use crate::{
    client::Client,
    requests::{Forged, Stranger, name},
    without::Lack,
    world::{Peer, object, until},
};

/// The seed of the node that is a policy server.
const SEED: u8 = 8;

/// What a policy server does with the events that it is to sign.
#[derive(Debug)]
pub struct Guard {
    does: AtomicU8,
    asked: AtomicU64,
}

const SIGNS: u8 = 0;
const REFUSES: u8 = 1;
const SIGNS_FALSELY: u8 = 2;
const IS_BROKEN: u8 = 3;
const IS_NONE: u8 = 4;
const REFUSES_MESSAGES: u8 = 5;

fn policy_key(seed: u8) -> Ed25519KeyPair {
    let mut document = data_encoding::HEXLOWER.decode(b"302e020100300506032b657004220420").expect("hex");
    document.extend_from_slice(&[seed; 32]);
    Ed25519KeyPair::from_der(&document, "policy_server".to_owned()).expect("a key")
}

impl Guard {
    const fn new() -> Self {
        Self { does: AtomicU8::new(SIGNS), asked: AtomicU64::new(0) }
    }

    fn does(&self, what: u8) {
        self.does.store(what, Ordering::SeqCst);
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// The node's own endpoints, and the one of a policy server.
    pub fn before(&'static self, router: Router) -> Router {
        Router::new(move |request| {
            let router = router.clone();
            async move {
                if request.uri().path() != "/_matrix/policy/v1/sign" {
                    return router.call(request).await;
                }
                self.asked.fetch_add(1, Ordering::SeqCst);
                let body = read_body(request.into_body(), 1 << 20).await.expect("a body");
                let (status, answer) = self.answer(std::str::from_utf8(&body).expect("text"));
                let mut response = Response::new(full(answer.to_string()));
                *response.status_mut() = status;
                response
            }
        })
    }

    fn answer(&self, pdu: &str) -> (StatusCode, Value) {
        let refusal = (StatusCode::BAD_REQUEST, json!({"errcode": "M_FORBIDDEN", "error": "this looks like spam"}));
        let key = match self.does.load(Ordering::SeqCst) {
            REFUSES => return refusal,
            REFUSES_MESSAGES if pdu.contains("m.room.message") => return refusal,
            IS_BROKEN => return (StatusCode::INTERNAL_SERVER_ERROR, json!({})),
            IS_NONE => return (StatusCode::NOT_FOUND, json!({"errcode": "M_UNRECOGNIZED", "error": "no"})),
            SIGNS_FALSELY => policy_key(SEED + 2),
            _ => policy_key(SEED + 1),
        };
        let rules = RoomVersionId::V12.rules().expect("rules");
        let mut document = Document::read(pdu, &rules).expect("an event");
        let server_name = name(SEED);
        document.sign(&rules, Signer { server_name: &server_name, key: &key }).expect("signed");
        let signed: Value = serde_json::from_str(&document.to_text()).expect("JSON");
        let signature = &signed["signatures"][server_name.as_str()]["ed25519:policy_server"];
        (StatusCode::OK, json!({server_name.as_str(): {"ed25519:policy_server": signature}}))
    }
}

/// A room of `one` that `guard` watches over, and that `two` is in.
async fn guarded(one: &Peer, guard: &Peer, two: &Peer) -> OwnedRoomId {
    let room = one.public_room().await.id().to_owned();
    guard.join(&room, one).await.expect("joined");
    two.join(&room, one).await.expect("joined");
    until("one sees both", || {
        [guard, two].iter().all(|peer| one.membership(&room, &peer.user) == Some(membership::JOIN))
    })
    .await;
    name_policy_server(one, &room).await;
    let knows = |peer: &Peer| peer.state(&room).iter().any(|(kind, ..)| kind == "m.room.policy");
    until("all know the policy server", || knows(two) && knows(guard)).await;
    room
}

async fn name_policy_server(one: &Peer, room: &OwnedRoomId) {
    let key = Base64::<Standard, _>::new(policy_key(SEED + 1).public_key().to_vec());
    let content = object(json!({"via": name(SEED), "public_keys": {"ed25519": key}}));
    one.room(room).send(Draft::state(one.user.clone(), "m.room.policy", "", content)).await.expect("it is named");
}

async fn three(hub: &MemoryHub, guard: &'static Guard) -> (Peer, Peer, Peer) {
    (Peer::new(hub, 1).await, Peer::without(hub, SEED, Lack::Guards(guard)).await, Peer::new(hub, 2).await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_policy_server_signs_is_sent_and_shown_everywhere() {
    static GUARD: Guard = Guard::new();
    let hub = MemoryHub::new();
    let (one, guard, two) = three(&hub, &GUARD).await;
    let room = guarded(&one, &guard, &two).await;
    assert_eq!(GUARD.asked(), 0, "it is not asked about its own naming");
    let id = one.say(&room, "hello").await;
    until("two hears it", || two.messages(&room) == ["hello"]).await;
    assert_eq!(GUARD.asked(), 1, "who receives it finds the signature in it");
    let snapshot = two.node().store.snapshot().expect("a snapshot");
    let event = read::event_by_id(&snapshot, id.as_str()).expect("readable").expect("stored");
    assert!(event.pdu()["signatures"][name(SEED).as_str()]["ed25519:policy_server"].is_string());
    two.say(&room, "hello too").await;
    until("one hears it", || one.messages(&room) == ["hello", "hello too"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_policy_server_does_not_sign_is_refused_with_its_words_and_leaves_no_trace() {
    static GUARD: Guard = Guard::new();
    let hub = MemoryHub::new();
    let (one, guard, two) = three(&hub, &GUARD).await;
    let room = guarded(&one, &guard, &two).await;
    let client = Client::of(&one).await;
    let send = async |transaction: &str| {
        let path = format!("/rooms/{room}/send/m.room.message/{transaction}");
        client.call(Method::PUT, &path, json!({"msgtype": "m.text", "body": transaction})).await
    };
    let before = one.state(&room);
    for (does, status, code) in [
        (REFUSES, StatusCode::BAD_REQUEST, "M_FORBIDDEN"),
        (SIGNS_FALSELY, StatusCode::BAD_GATEWAY, "M_UNKNOWN"),
        (IS_BROKEN, StatusCode::BAD_GATEWAY, "M_UNKNOWN"),
        (IS_NONE, StatusCode::NOT_FOUND, "M_UNRECOGNIZED"),
    ] {
        GUARD.does(does);
        let (got, answer) = send(&format!("t{does}")).await;
        assert_eq!((got, &answer["errcode"]), (status, &json!(code)), "{answer}");
        if does == REFUSES {
            assert_eq!(answer["error"], "this looks like spam");
        }
    }
    assert!(one.messages(&room).is_empty());
    GUARD.does(SIGNS);
    // The same request, tried again, goes through, once.
    let (status, first) = send("t1").await;
    assert_eq!(status, StatusCode::OK, "{first}");
    let (_, second) = send("t1").await;
    assert_eq!(first["event_id"], second["event_id"]);
    assert_eq!((one.messages(&room), one.state(&room)), (vec!["t1".to_owned()], before));
    until("two hears it", || two.messages(&room) == ["t1"]).await;
    // A room gets rid of it without asking it.
    GUARD.does(REFUSES);
    let (status, answer) = client.call(Method::PUT, &format!("/rooms/{room}/state/m.room.policy"), json!({})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    one.say(&room, "free").await;
    until("two hears it", || two.messages(&room) == ["t1", "free"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_server_that_is_away_keeps_what_needs_it_from_being_sent() {
    static GUARD: Guard = Guard::new();
    let hub = MemoryHub::new();
    let (one, guard, two) = three(&hub, &GUARD).await;
    let room = guarded(&one, &guard, &two).await;
    hub.leave(guard.key());
    let draft = Draft::message(one.user.clone(), "m.room.message", object(json!({"body": "x", "msgtype": "m.text"})));
    let refused = one.room(&room).send(draft).await.expect_err("not signed");
    assert_eq!(refused.status, StatusCode::BAD_GATEWAY, "{refused:?}");
    assert!(one.messages(&room).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn joins_leaves_and_invites_are_signed_by_the_server_that_lets_them_in() {
    static GUARD: Guard = Guard::new();
    let hub = MemoryHub::new();
    let (one, guard, two) = three(&hub, &GUARD).await;
    let room = guarded(&one, &guard, &two).await;
    let four = Peer::new(&hub, 4).await;
    GUARD.does(REFUSES);
    let refused = four.join(&room, &one).await.expect_err("not let in");
    assert!(refused.is("M_FORBIDDEN"), "{refused:?}");
    GUARD.does(REFUSES_MESSAGES);
    four.join(&room, &one).await.expect("joined");
    for peer in [&one, &two, &guard] {
        until("all see the newcomer", || peer.membership(&room, &four.user) == Some(membership::JOIN)).await;
    }
    four.set_member(&room, &four.user, "leave").await;
    for peer in [&one, &two] {
        until("all see it leave", || peer.membership(&room, &four.user) == Some(membership::LEAVE)).await;
    }
    one.node().federation.invite(&one.room(&room), &one.user, &four.user, &object(json!({}))).await.expect("invited");
    until("two sees the invite", || two.membership(&room, &four.user) == Some(membership::INVITE)).await;
    assert_eq!(four.membership(&room, &four.user), Some(membership::INVITE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_without_the_signature_waits_for_it_and_is_shown_or_hidden_as_the_policy_server_says() {
    static GUARD: Guard = Guard::new();
    let hub = MemoryHub::new();
    let (one, guard, two) = three(&hub, &GUARD).await;
    let room = guarded(&one, &guard, &two).await;
    let stranger = Stranger::new(&hub, 9);
    let mallory = ruma::UserId::parse(format!("@mallory:{}", name(9))).expect("a user");
    stranger.join(&one, &room, &mallory).await;
    until("two sees the stranger", || two.membership(&room, &mallory) == Some(membership::JOIN)).await;
    // A server that does not care for policy servers.
    let say = async |body: &str| {
        let event = stranger.message(&one, &room, &mallory, body).await;
        let pdu: Value = serde_json::from_str(event.text()).expect("JSON");
        let path = format!("/_matrix/federation/v1/send/{body}");
        let transaction = json!({"origin": name(9), "origin_server_ts": 1, "pdus": [pdu]});
        let forged = Forged { body: transaction, path: &path, ..stranger.honest(&one) };
        let (status, answer) = stranger.send(&one, forged).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        event.event_id().to_owned()
    };
    let status = |id: &ruma::EventId| {
        let snapshot = one.node().store.snapshot().expect("a snapshot");
        read::event_by_id(&snapshot, id.as_str()).expect("readable").map(|event| event.row.status)
    };
    let good = say("good").await;
    until("it is shown once it is signed", || one.messages(&room) == ["good"]).await;
    assert_eq!(status(&good), Some(EventStatus::Accepted));
    GUARD.does(REFUSES_MESSAGES);
    let spam = say("spam").await;
    until("it is settled", || status(&spam).is_some()).await;
    assert_eq!(status(&spam), Some(EventStatus::SoftFailed));
    GUARD.does(SIGNS);
    let more = say("more").await;
    until("the room goes on", || one.messages(&room) == ["good", "more"]).await;
    assert_eq!(status(&more), Some(EventStatus::Accepted));
    // What is known to be unsigned is not asked for again.
    let asked = GUARD.asked();
    one.node().rooms.drop_idle();
    two.say(&room, "bye").await;
    until("it is heard", || one.messages(&room).last().is_some_and(|last| last == "bye")).await;
    assert_eq!(GUARD.asked(), asked + 1);
}
