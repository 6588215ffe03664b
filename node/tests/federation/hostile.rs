//! A server that lies, floods and forges: what it may cost, and what it must not.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use http::{Method, Request, StatusCode};
use kith::rooms::{Received, read};
use kith_room::{Builder, Event, Signer, build::build};
use kith_transport::{Router, full, memory::MemoryHub, read_body};
use ruma::{MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId, RoomVersionId, UInt, UserId};
use serde_json::{Value, json};

use crate::{
    operations,
    requests::{Forged, Stranger, key_pair, name},
    world::{Peer, until, until_within},
};

/// The one who means no good.
const MALLORY: u8 = 9;

/// Every federation route but the public ones: method, path, and a body of the right form.
fn routes() -> Vec<(Method, String, Value)> {
    let room = "!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM";
    let event = "$31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM";
    let user = format!("@x:{}", name(MALLORY));
    let get = |path: String| (Method::GET, path, Value::Null);
    let put = |path: String, body: Value| (Method::PUT, path, body);
    let post = |path: &str, body: Value| (Method::POST, path.to_owned(), body);
    let federation = "/_matrix/federation";
    let transaction = json!({"origin": name(MALLORY), "origin_server_ts": 1, "pdus": []});
    let invite = json!({"room_version": "12", "event": {}, "invite_room_state": []});
    vec![
        put(format!("{federation}/v1/send/1"), transaction),
        get(format!("{federation}/v1/make_join/{room}/{user}?ver=12")),
        put(format!("{federation}/v2/send_join/{room}/{event}"), json!({})),
        get(format!("{federation}/v1/make_leave/{room}/{user}")),
        put(format!("{federation}/v2/send_leave/{room}/{event}"), json!({})),
        get(format!("{federation}/v1/make_knock/{room}/{user}?ver=12")),
        put(format!("{federation}/v1/send_knock/{room}/{event}"), json!({})),
        put(format!("{federation}/v2/invite/{room}/{event}"), invite),
        put(format!("{federation}/v1/invite/{room}/{event}"), json!({})),
        put(format!("{federation}/v1/exchange_third_party_invite/{room}"), json!({"type": "m.room.member"})),
        get(format!("{federation}/v1/event/{event}")),
        get(format!("{federation}/v1/state/{room}?event_id={event}")),
        get(format!("{federation}/v1/state_ids/{room}?event_id={event}")),
        get(format!("{federation}/v1/event_auth/{room}/{event}")),
        post(
            &format!("{federation}/v1/get_missing_events/{room}"),
            json!({"earliest_events": [], "latest_events": [event], "limit": 10}),
        ),
        get(format!("{federation}/v1/backfill/{room}?v={event}&limit=10")),
        get(format!("{federation}/v1/timestamp_to_event/{room}?ts=1&dir=f")),
        post(&format!("{federation}/unstable/org.kith.heads"), json!({"rooms": {}})),
        get(format!("{federation}/unstable/org.kith/introduction")),
        get(format!("{federation}/v1/media/download/abc")),
        get(format!("{federation}/v1/media/thumbnail/abc?width=32&height=32")),
        get(format!("{federation}/v1/query/profile?user_id={user}")),
        get(format!("{federation}/v1/query/directory?room_alias=%23a:{}", name(1))),
        get(format!("{federation}/v1/publicRooms")),
        post(&format!("{federation}/v1/publicRooms"), json!({})),
        get(format!("{federation}/v1/hierarchy/{room}")),
        get(format!("{federation}/v1/user/devices/{user}")),
        post(&format!("{federation}/v1/user/keys/query"), json!({"device_keys": {}})),
        post(&format!("{federation}/v1/user/keys/claim"), json!({"one_time_keys": {}})),
    ]
}

/// Asked by anybody: without a signature, or with a token in its place.
const PUBLIC: [&str; 7] = [
    "/_matrix/key/v2/query/{serverName}",
    "/_matrix/key/v2/query",
    "/_matrix/key/v2/server",
    "/_matrix/federation/v1/openid/userinfo",
    "/_matrix/federation/v1/3pid/onbind",
    "/_matrix/federation/v1/version",
    "/.well-known/matrix/server",
];

#[test]
fn the_routes_are_all_that_there_are() {
    let routes = routes();
    let is = |template: &str, path: &str| {
        let path = path.split('?').next().unwrap_or_default();
        template.split('/').count() == path.split('/').count()
            && template.split('/').zip(path.split('/')).all(|(part, own)| part == own || part.starts_with('{'))
    };
    for (method, template) in operations::done().filter(|(_, path)| !PUBLIC.contains(path)) {
        let tried = routes.iter().any(|(tried, path, _)| *tried == method && is(template, path));
        assert!(tried, "{method} {template}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_refuses_what_is_unsigned_forged_misdirected_oversized_or_nonsense() {
    let hub = MemoryHub::new();
    let one = Peer::with(&hub, 1, |config| config.limits.rate_limits = false).await;
    let mallory = Stranger::new(&hub, MALLORY);
    for (method, path, body) in routes() {
        let forge = || Forged { method: method.clone(), path: &path, body: body.clone(), ..mallory.honest(&one) };
        let refused = |forged, status: u16, errcode: &'static str| {
            let (one, mallory, what) = (&one, &mallory, format!("{method} {path}"));
            async move {
                let (got, body) = mallory.send(one, forged).await;
                assert_eq!((got.as_u16(), body["errcode"].as_str()), (status, Some(errcode)), "{what}: {body}");
            }
        };
        let unsigned: fn(&mut Request<Vec<u8>>) = |request| {
            request.headers_mut().remove(http::header::AUTHORIZATION);
        };
        refused(Forged { tamper: unsigned, ..forge() }, 401, "M_UNAUTHORIZED").await;
        refused(Forged { signer: 8, ..forge() }, 401, "M_UNAUTHORIZED").await;
        refused(Forged { destination: name(7), ..forge() }, 401, "M_UNAUTHORIZED").await;
        refused(Forged { origin: name(8), signer: 8, ..forge() }, 403, "M_FORBIDDEN").await;
        let strange: fn(&mut Request<Vec<u8>>) = |request| {
            let header = http::HeaderValue::from_static("X-Matrix origin=,key=\"\",sig=\"=\"");
            request.headers_mut().insert(http::header::AUTHORIZATION, header);
        };
        refused(Forged { tamper: strange, ..forge() }, 401, "M_UNAUTHORIZED").await;
        // Honestly signed, and no body that means anything.
        let (status, answer) = mallory.send(&one, forge()).await;
        assert!(!status.is_server_error(), "{method} {path}: {status} {answer}");
        if method == Method::GET {
            continue;
        }
        let long: fn(&mut Request<Vec<u8>>) = |request| *request.body_mut() = vec![b' '; 17 << 20];
        refused(Forged { tamper: long, ..forge() }, 413, "M_TOO_LARGE").await;
        let junk: fn(&mut Request<Vec<u8>>) = |request| *request.body_mut() = b"{\"a\":\xff[[[".to_vec();
        // What comes after the signature is not what was signed.
        refused(Forged { tamper: junk, ..forge() }, 401, "M_UNAUTHORIZED").await;
        let bottomless: fn(&mut Request<Vec<u8>>) = |request| *request.body_mut() = b"[".repeat(100_000);
        refused(Forged { tamper: bottomless, ..forge() }, 401, "M_UNAUTHORIZED").await;
        let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
        for body in [json!([]), json!("x"), json!(5), json!({"rooms": 5, "pdus": 5, "event": 5}), deep] {
            let (status, answer) = mallory.send(&one, Forged { body: body.clone(), ..forge() }).await;
            assert!(status.is_client_error() || status.is_success(), "{method} {path} {body}: {status} {answer}");
            let said = answer["errcode"].as_str().is_some_and(|code| code.starts_with("M_"));
            assert!(status.is_success() || said, "{method} {path} {body}: {status} {answer}");
        }
    }
    assert_eq!(mallory.send(&one, mallory.honest(&one)).await.0, StatusCode::OK, "the node still answers");
}

/// An event of Mallory's in a room, at a place of its choice.
fn forge(room: &RoomId, depth: u64, prev: &[OwnedEventId], auth: &[OwnedEventId], body: &str) -> Arc<Event> {
    forge_as(MALLORY, "mallory", room, depth, prev, auth, body)
}

/// The same of a user of any server whose key is its number.
pub fn forge_as(
    seed: u8,
    user: &str,
    room: &RoomId,
    depth: u64,
    prev: &[OwnedEventId],
    auth: &[OwnedEventId],
    body: &str,
) -> Arc<Event> {
    let sender = UserId::parse(format!("@{user}:{}", name(seed))).expect("a user");
    let content = serde_json::from_value(json!({"msgtype": "m.text", "body": body})).expect("canonical");
    let builder = Builder::new(&sender, "m.room.message", content).room_id(room.to_owned());
    let at = MilliSecondsSinceUnixEpoch(UInt::from(1_700_000_000u32));
    let (server_name, key) = (name(seed), key_pair(seed));
    let signer = Signer { server_name: &server_name, key: &key };
    build(builder, &RoomVersionId::V12, prev, auth, depth, at, signer).expect("an event").into()
}

pub fn nobodys(number: usize) -> OwnedEventId {
    OwnedEventId::try_from(format!("${number:0>43}")).expect("an event ID")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_build_on_nothing_do_not_hold_up_what_others_said() {
    let hub = MemoryHub::new();
    let (one, two) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await);
    let room = one.public_room().await.id().to_owned();
    two.join(&room, &one).await.expect("joined");
    // They lack what comes before them, or what allows them, and nobody has either.
    let made_up = (0..60).map(|number| match number % 2 {
        0 => forge(&room, 1, &[nobodys(number)], &[], "no past"),
        _ => forge(&room, 1, &[nobodys(number)], &[nobodys(1_000 + number)], "no right"),
    });
    let received = two.room(&room).receive(name(MALLORY).as_str(), made_up.collect()).await.expect("received");
    assert!(received.iter().all(|(_, received)| matches!(received, Received::Parked { .. })), "{received:?}");
    hub.cut(one.key(), two.key());
    for number in 0..3 {
        one.say(&room, &format!("one {number}")).await;
    }
    // Only the last comes by itself.
    let last = {
        let snapshot = one.node().store.snapshot().expect("a snapshot");
        let number = read::room_number(&snapshot, room.as_str()).expect("readable").expect("known");
        let row = kith_store::tables::rooms::STREAM.prefix_rev(&snapshot, &number).expect("readable").next();
        read::event(&snapshot, row.expect("a row").expect("readable").1).expect("readable").expect("stored").row.json
    };
    let last = kith_room::receive::receive(&last, &RoomVersionId::V12, &Default::default()).expect("valid");
    let origin = one.node().server_name().to_string();
    two.room(&room).receive(&origin, vec![last.into()]).await.expect("received");
    crate::messages::forget_queue(&one, two.node().server_name().as_str()).await;
    hub.heal(one.key(), two.key());
    two.node().federation.fetch_missing(&room);
    let expected: Vec<String> = (0..3).map(|number| format!("one {number}")).collect();
    until("the messages come", || two.messages(&room) == expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_which_too_many_events_wait_is_still_heard_when_nothing_is_missing() {
    let hub = MemoryHub::new();
    let (one, two) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await);
    let room = one.public_room().await.id().to_owned();
    two.join(&room, &one).await.expect("joined");
    let origin = one.node().server_name().to_string();
    let made_up = (0..250).map(|number| forge(&room, 1, &[nobodys(number)], &[], "no past"));
    two.room(&room).receive(&origin, made_up.collect()).await.expect("received");
    one.say(&room, "all is here").await;
    until("it comes", || two.messages(&room) == ["all is here"]).await;
    // What lacks something now is not kept, and is found by comparing once what waits is through.
    hub.cut(one.key(), two.key());
    for body in ["one", "two", "three"] {
        one.say(&room, body).await;
    }
    crate::messages::forget_queue(&one, two.node().server_name().as_str()).await;
    let parked = |of: &Peer| {
        let snapshot = of.node().store.snapshot().expect("a snapshot");
        of.room(&room).parked(&snapshot).expect("readable").len()
    };
    assert_eq!(parked(&two), 250);
    hub.heal(one.key(), two.key());
    until("all come", || two.messages(&room) == ["all is here", "one", "two", "three"]).await;
}

/// The signature covers what redactions leave, so whoever passes an event on can change the rest: the content is dropped then. The
/// copy that came first was kept for good, and the right one taken for a repetition.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_came_with_a_changed_content_is_mended_by_a_right_copy_and_a_redacted_one_is_not() {
    let hub = MemoryHub::new();
    let (one, two) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await);
    let room = one.public_room().await.id().to_owned();
    two.join(&room, &one).await.expect("joined");
    hub.cut(one.key(), two.key());
    let id = one.say(&room, "the truth").await;
    let right = {
        let snapshot = one.node().store.snapshot().expect("a snapshot");
        read::event_by_id(&snapshot, id.as_str()).expect("readable").expect("stored").row.json
    };
    let forged = right.replace("the truth", "a lie");
    let copy = |text: &str| kith_room::receive::receive(text, &RoomVersionId::V12, &Default::default()).expect("valid");
    let take = |text: &str| {
        let (room, event) = (two.room(&room), Arc::new(copy(text)));
        async move { room.receive(name(MALLORY).as_str(), vec![event]).await.expect("received").remove(0).1 }
    };
    assert_eq!(copy(&forged).event_id(), id);
    assert_eq!(take(&forged).await, Received::Accepted);
    assert_eq!(two.messages(&room), [""], "the lie is not shown");
    assert_eq!(take(&forged).await, Received::Known);
    assert_eq!(two.messages(&room), [""]);
    assert_eq!(take(&right).await, Received::Known);
    assert_eq!(two.messages(&room), ["the truth"]);
    // What is redacted stays so, whatever copies come.
    let redaction = kith::rooms::Draft {
        redacts: Some(id.clone()),
        ..kith::rooms::Draft::message(
            one.user.clone(),
            "m.room.redaction",
            crate::world::object(json!({"redacts": id})),
        )
    };
    one.room(&room).send(redaction).await.expect("redacted");
    hub.heal(one.key(), two.key());
    until("the redaction comes", || two.messages(&room) == [""]).await;
    assert_eq!(take(&right).await, Received::Known);
    assert_eq!(two.messages(&room), [""]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_many_ends_that_a_member_leaves_are_joined_and_nobody_is_shown_how() {
    let hub = MemoryHub::new();
    let (one, two) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await);
    let room = one.public_room().await.id().to_owned();
    two.join(&room, &one).await.expect("joined");
    // From here on its server speaks for itself.
    two.handle.stop().await;
    let mallory = Stranger::new(&hub, 2);
    let id = |kind: &str, key: &str| {
        let state = one.state(&room);
        let event =
            state.into_iter().find(|(its_kind, its_key, _)| its_kind == kind && its_key == key).expect("there").2;
        OwnedEventId::try_from(event).expect("an ID")
    };
    let join = id("m.room.member", two.user.as_str());
    let auth = [id("m.room.power_levels", ""), join.clone()];
    let depth = 20;
    let pdus: Vec<Value> = (0..45)
        .map(|number| forge_as(2, "user", &room, depth, std::slice::from_ref(&join), &auth, &format!("end {number}")))
        .map(|event| serde_json::from_str(event.text()).expect("JSON"))
        .collect();
    let body = json!({"origin": name(2), "origin_server_ts": 1, "pdus": pdus});
    let (status, answer) = mallory.send(&one, Forged { body, ..mallory.honest(&one) }).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(one.messages(&room).len(), 45, "{answer}");
    let ends = || {
        let snapshot = one.node().store.snapshot().expect("a snapshot");
        let number = read::room_number(&snapshot, room.as_str()).expect("readable").expect("known");
        kith_store::tables::rooms::EXTREMITIES.prefix(&snapshot, &number).expect("readable").count()
    };
    until("they are joined", || ends() <= 10).await;
    let snapshot = one.node().store.snapshot().expect("a snapshot");
    let number = read::room_number(&snapshot, room.as_str()).expect("readable").expect("known");
    let eyes = kith::rooms::visibility::Eyes::new(&snapshot, number, one.user.as_str()).expect("readable");
    let mut joining = 0;
    for row in kith_store::tables::rooms::STREAM.prefix(&snapshot, &number).expect("readable") {
        let event = read::event(&snapshot, row.expect("readable").1).expect("readable").expect("stored");
        if event.kind() == kith::rooms::DUMMY_EVENT {
            joining += 1;
            assert!(!eyes.sees(&event).expect("readable"));
        }
    }
    assert!((1..=10).contains(&joining), "{joining}");
}

/// An invite as Mallory's server sends it, for a room of its own.
pub fn invite(to: &Peer, number: u64) -> (String, Value) {
    let creator = UserId::parse(format!("@mallory:{}", name(MALLORY))).expect("a user");
    let (server_name, key) = (name(MALLORY), key_pair(MALLORY));
    let signer = Signer { server_name: &server_name, key: &key };
    let at = MilliSecondsSinceUnixEpoch(UInt::try_from(1_700_000_000 + number).expect("a time"));
    let content = |value: Value| serde_json::from_value(value).expect("canonical");
    let create = Builder::new(&creator, "m.room.create", content(json!({"room_version": "12"}))).state_key("");
    let create = build(create, &RoomVersionId::V12, &[], &[], 1, at, signer).expect("an event");
    let member = Builder::new(&creator, "m.room.member", content(json!({"membership": "invite"})))
        .state_key(to.user.as_str())
        .room_id(create.room_id().to_owned());
    let prev = [create.event_id().to_owned()];
    let member = build(member, &RoomVersionId::V12, &prev, &[], 2, at, signer).expect("an event");
    let parse = |event: &Event| serde_json::from_str::<Value>(event.text()).expect("JSON");
    let body = json!({"room_version": "12", "event": parse(&member), "invite_room_state": [parse(&create)]});
    (format!("/_matrix/federation/v2/invite/{}/{}", create.room_id(), member.event_id()), body)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invites_of_one_server_are_bounded() {
    let hub = MemoryHub::new();
    let one = Peer::with(&hub, 1, |config| config.limits.rate_limits = false).await;
    let mallory = Stranger::new(&hub, MALLORY);
    let mut taken = 0;
    for number in 0..60 {
        let (path, body) = invite(&one, number);
        let (status, answer) = mallory.send(&one, Forged { path: &path, body, ..mallory.honest(&one) }).await;
        match status {
            StatusCode::OK => taken += 1,
            StatusCode::TOO_MANY_REQUESTS => {}
            _ => panic!("{status} {answer}"),
        }
    }
    assert_eq!(taken, 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_types_and_reads_without_end_takes_no_memory_for_it() {
    let hub = MemoryHub::new();
    let one = Peer::with(&hub, 1, |config| config.limits.rate_limits = false).await;
    let two = Peer::new(&hub, 2).await;
    let room = one.public_room().await.id().to_owned();
    two.join(&room, &one).await.expect("joined");
    let mut events = Vec::new();
    for _ in 0..520 {
        events.push(one.say(&room, "hello").await);
    }
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    // From here on somebody else speaks with its key.
    let mallory = Stranger::new(&hub, 2);
    for round in 0..20 {
        let mut edus = Vec::new();
        for number in 0..50 {
            let event = &events[(round * 50 + number) % events.len()];
            let read = json!({"event_ids": [event], "data": {"ts": 1, "thread_id": event}});
            let read = json!({room.as_str(): {"m.read": {two.user.as_str(): read}}});
            edus.push(json!({"edu_type": "m.receipt", "content": read}));
            let typing = json!({"room_id": room, "user_id": two.user, "typing": number % 2 == 0});
            edus.push(json!({"edu_type": "m.typing", "content": typing}));
        }
        let body = json!({"origin": name(2), "origin_server_ts": 1, "pdus": [], "edus": edus});
        let path = format!("/_matrix/federation/v1/send/x{round}");
        let (status, answer) = mallory.send(&one, Forged { path: &path, body, ..mallory.honest(&one) }).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }
    assert!(tasks() < before + 50, "{} tasks, {before} before", tasks());
    let snapshot = one.node().store.snapshot().expect("a snapshot");
    let number = read::room_number(&snapshot, room.as_str()).expect("readable").expect("known");
    let receipts = kith_store::tables::receipts::RECEIPTS.prefix(&snapshot, &number).expect("readable").count();
    assert!((100..=500).contains(&receipts), "{receipts}");
}

/// One who is asked for what lies before its event answers with more and more, each piece leading to another. What it may cost is bounded,
/// and the others go on meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_events_without_end_are_given_up_and_hold_up_nobody() {
    static CHAIN: OnceLock<Vec<Arc<Event>>> = OnceLock::new();
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let hub = MemoryHub::new();
    let (one, two) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await);
    let room = one.public_room().await.id().to_owned();
    two.join(&room, &one).await.expect("joined");
    let endless = Router::new(|request| async move {
        let path = request.uri().path().to_owned();
        let body = read_body(request.into_body(), 1 << 20).await.expect("a body");
        let (status, answer) = if path.contains("get_missing_events")
            && let Some(chain) = CHAIN.get()
        {
            ASKED.fetch_add(1, Ordering::Relaxed);
            let body: Value = serde_json::from_slice(&body).expect("JSON");
            let latest = body["latest_events"].as_array().expect("events");
            let end =
                chain.iter().position(|event| latest.iter().any(|id| *id == event.event_id().as_str())).unwrap_or(0);
            let events: Vec<Value> = chain[end.saturating_sub(100)..end]
                .iter()
                .map(|event| serde_json::from_str(event.text()).expect("JSON"))
                .collect();
            (200, json!({"events": events}))
        } else {
            (404, json!({"errcode": "M_NOT_FOUND", "error": "no"}))
        };
        http::Response::builder().status(status).body(full(answer.to_string())).expect("an answer")
    });
    let mallory = Stranger { network: hub.join(crate::world::key(MALLORY), endless), seed: MALLORY };
    let user = UserId::parse(format!("@mallory:{}", name(MALLORY))).expect("a user");
    mallory.join(&one, &room, &user).await;
    let last = mallory.message(&one, &room, &user, "the last").await;
    let auth = last.auth_events().to_vec();
    let nobodys = OwnedEventId::try_from(format!("${:0>43}", 1)).expect("an event ID");
    let mut chain: Vec<Arc<Event>> = Vec::new();
    for number in 0..3_000u64 {
        let prev = chain.last().map_or_else(|| nobodys.clone(), |event| event.event_id().to_owned());
        chain.push(forge(&room, 100 + number, &[prev], &auth, "more"));
    }
    let pdu: Value = serde_json::from_str(chain.last().expect("some").text()).expect("JSON");
    CHAIN.set(chain).expect("once");
    let body = json!({"origin": name(MALLORY), "origin_server_ts": 1, "pdus": [pdu]});
    let began =
        mallory.send(&one, Forged { body, path: "/_matrix/federation/v1/send/endless", ..mallory.honest(&one) });
    assert_eq!(began.await.0, StatusCode::OK, "it is answered before anything is fetched");
    until("it is asked", || ASKED.load(Ordering::Relaxed) > 0).await;
    for number in 0..3 {
        two.say(&room, &format!("meanwhile {number}")).await;
        until("others are heard", || one.messages(&room).contains(&format!("meanwhile {number}"))).await;
    }
    // 2,000 signatures, in a program that is not optimized.
    until_within(120, "the fetching ends", || one.node().federation.stats.pdus_fetched.get() >= 2_000).await;
    until("it is counted", || one.node().federation.stats.gaps_given_up.get() > 0).await;
    let asked = ASKED.load(Ordering::Relaxed);
    two.say(&room, "after it").await;
    until("others are heard", || one.messages(&room).contains(&"after it".to_owned())).await;
    // At most 40 steps for each of the servers that are asked, and it is given a rest then.
    assert!(ASKED.load(Ordering::Relaxed) <= asked + 40 && asked <= 80, "{asked}");
    assert!(!one.messages(&room).iter().any(|body| body == "more"), "what leads to nothing is not shown");
}
