//! Requests that are forged, misdirected, oversized or malformed.

use http::{Method, Request, StatusCode};
use kith_room::{Builder, Event, Signer, build::build, document::text_with_any_numbers};
use kith_transport::{Class, Network as _, NodeRecord, Router, Sequence, full, memory::MemoryHub, read_body};
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedServerName, RoomId, RoomVersionId, ServerName, UInt, UserId,
    api::{
        auth_scheme::AuthScheme as _,
        federation::{
            authentication::{ServerSignatures, XMatrixSigningInput},
            membership::{RawStrippedState, create_invite::v2 as create_invite},
        },
    },
    serde::{Base64, base64::Standard},
    signatures::{Ed25519KeyPair, KeyPair as _},
};
use serde_json::{Value, json};

use crate::world::{Peer, key, secret};

/// Someone who can sign and send whatever it likes.
pub struct Stranger {
    pub network: std::sync::Arc<kith_transport::memory::MemoryNetwork>,
    pub seed: u8,
}

pub fn key_pair(seed: u8) -> Ed25519KeyPair {
    let mut document = hex("302e020100300506032b657004220420");
    document.extend_from_slice(secret(seed).seed());
    Ed25519KeyPair::from_der(&document, "0".to_owned()).expect("a key")
}

fn hex(text: &str) -> Vec<u8> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).expect("hex")
}

pub fn name(seed: u8) -> OwnedServerName {
    ServerName::parse(key(seed).to_string()).expect("a name")
}

pub struct Forged<'a> {
    pub origin: OwnedServerName,
    pub destination: OwnedServerName,
    pub signer: u8,
    pub method: Method,
    pub path: &'a str,
    pub body: Value,
    /// Changes the request after it was signed.
    pub tamper: fn(&mut Request<Vec<u8>>),
}

impl Stranger {
    pub fn new(hub: &MemoryHub, seed: u8) -> Self {
        let router = Router::new(|_| async { http::Response::new(kith_transport::empty()) });
        Self { network: hub.join(key(seed), router), seed }
    }

    pub fn honest(&self, to: &Peer) -> Forged<'static> {
        Forged {
            origin: name(self.seed),
            destination: to.node().server_name().to_owned(),
            signer: self.seed,
            method: Method::PUT,
            path: "/_matrix/federation/v1/send/1",
            body: json!({"origin": name(self.seed), "origin_server_ts": 1, "pdus": []}),
            tamper: |_| {},
        }
    }

    /// A transaction with an event that makes the user of `of` leave a room.
    pub fn forged_leave(&self, room: &ruma::RoomId, of: &Peer) -> Forged<'static> {
        let sender = UserId::parse(format!("@mallory:{}", name(self.seed))).expect("a user");
        let content = serde_json::from_value(json!({"membership": "leave"})).expect("canonical");
        let builder =
            Builder::new(&sender, "m.room.member", content).state_key(of.user.as_str()).room_id(room.to_owned());
        let nobodys = OwnedEventId::try_from(format!("${:0>43}", 1)).expect("an event ID");
        let (server_name, key) = (name(self.seed), key_pair(self.seed));
        let signer = Signer { server_name: &server_name, key: &key };
        let at = MilliSecondsSinceUnixEpoch(UInt::from(1_700_000_000u32));
        let event = build(builder, &RoomVersionId::V12, &[nobodys], &[], 5, at, signer).expect("an event");
        let pdu: Value = serde_json::from_str(event.text()).expect("JSON");
        let body = json!({"origin": server_name, "origin_server_ts": 1, "pdus": [pdu]});
        Forged { body, path: "/_matrix/federation/v1/send/leave", ..self.honest(of) }
    }

    /// The join of a user of ours, as a server of a version 12 room proposes it, signed.
    pub async fn proposed_join(&self, to: &Peer, room: &RoomId, user: &UserId) -> Event {
        let make = format!("/_matrix/federation/v1/make_join/{room}/{user}?ver=12");
        let ask = Forged { method: Method::GET, path: &make, body: Value::Null, ..self.honest(to) };
        let (status, proposal) = self.send(to, ask).await;
        assert_eq!(status, StatusCode::OK, "{proposal}");
        let ids = |field: &str| -> Vec<OwnedEventId> {
            serde_json::from_value(proposal["event"][field].clone()).expect("event IDs")
        };
        let content = serde_json::from_value(json!({"membership": "join"})).expect("canonical");
        let builder = Builder::new(user, "m.room.member", content).state_key(user.as_str());
        let depth = proposal["event"]["depth"].as_u64().expect("a depth");
        self.build(builder, room, &ids("prev_events"), &ids("auth_events"), depth)
    }

    /// Joins a user of ours to a version 12 room.
    pub async fn join(&self, to: &Peer, room: &RoomId, user: &UserId) {
        let join = self.proposed_join(to, room, user).await;
        let body: Value = serde_json::from_str(join.text()).expect("JSON");
        let path = format!("/_matrix/federation/v2/send_join/{room}/{}", join.event_id());
        let (status, answer) = self.send(to, Forged { path: &path, body, ..self.honest(to) }).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
    }

    /// What a user of ours says at the end of a version 12 room, as the peer knows it.
    pub async fn message(&self, of: &Peer, room: &RoomId, user: &UserId, body: &str) -> Event {
        let (prev, auth, depth) = of
            .room(room)
            .with_engine(|engine, _| {
                let cited = [("m.room.power_levels", ""), ("m.room.member", user.as_str())];
                let auth = cited.iter().filter_map(|(kind, key)| engine.current_id(kind, key));
                let prev = engine.extremities().map(ToOwned::to_owned).collect::<Vec<_>>();
                Ok((prev, auth.map(ToOwned::to_owned).collect::<Vec<_>>(), engine.depth() + 1))
            })
            .await
            .expect("the room is known");
        let content = serde_json::from_value(json!({"msgtype": "m.text", "body": body})).expect("canonical");
        self.build(Builder::new(user, "m.room.message", content), room, &prev, &auth, depth)
    }

    fn build(
        &self,
        builder: Builder,
        room: &RoomId,
        prev: &[OwnedEventId],
        auth: &[OwnedEventId],
        depth: u64,
    ) -> Event {
        let (server_name, key) = (name(self.seed), key_pair(self.seed));
        let signer = Signer { server_name: &server_name, key: &key };
        let at = MilliSecondsSinceUnixEpoch(UInt::from(1_700_000_000u32));
        build(builder.room_id(room.to_owned()), &RoomVersionId::V12, prev, auth, depth, at, signer).expect("an event")
    }

    pub async fn send(&self, to: &Peer, forged: Forged<'_>) -> (StatusCode, Value) {
        let body = if forged.body.is_null() { String::new() } else { forged.body.to_string() };
        self.send_text(to, forged, body).await
    }

    /// As [`Stranger::send`], with a body that may be what no server should write.
    pub async fn send_text(&self, to: &Peer, forged: Forged<'_>, body: String) -> (StatusCode, Value) {
        let (status, body) = self.fetch(to, forged, body).await;
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// As [`Stranger::send_text`], for answers that need not be JSON.
    pub async fn fetch(&self, to: &Peer, forged: Forged<'_>, body: String) -> (StatusCode, Vec<u8>) {
        let mut request = Request::builder()
            .method(forged.method)
            .uri(format!("https://{}{}", forged.destination, forged.path))
            .body(body.into_bytes())
            .expect("a request");
        let keys = key_pair(forged.signer);
        let input = XMatrixSigningInput::new(forged.origin.clone(), forged.destination.clone(), &keys);
        if ServerSignatures::add_authentication(&mut request, input).is_err() {
            sign_any_numbers(&mut request, &forged.origin, &forged.destination, &keys);
        }
        (forged.tamper)(&mut request);
        let response = self.network.request(to.key(), Class::Control, request.map(full)).await.expect("an answer");
        let status = response.status();
        (status, read_body(response.into_body(), 1 << 20).await.expect("a body").to_vec())
    }
}

/// Signs a request whose body holds numbers that canonical JSON does not know.
fn sign_any_numbers(
    request: &mut Request<Vec<u8>>,
    origin: &ServerName,
    destination: &ServerName,
    key: &Ed25519KeyPair,
) {
    let body = std::str::from_utf8(request.body()).expect("text");
    let content = text_with_any_numbers(body).expect("JSON");
    let text = |text: &str| json!(text).to_string();
    let uri = text(request.uri().path_and_query().expect("a path").as_str());
    let (method, from, to) = (text(request.method().as_str()), text(origin.as_str()), text(destination.as_str()));
    let signed = format!(r#"{{"content":{content},"destination":{to},"method":{method},"origin":{from},"uri":{uri}}}"#);
    let signature = Base64::<Standard, Vec<u8>>::new(key.sign(signed.as_bytes()).as_bytes().to_vec());
    let header = format!(r#"X-Matrix origin="{origin}",destination="{destination}",key="ed25519:0",sig="{signature}""#);
    request.headers_mut().insert(http::header::AUTHORIZATION, header.parse().expect("a header"));
}

/// Takes the destination out of the header that signs a request.
fn without_destination(request: &mut Request<Vec<u8>>) {
    let header = request.headers().get(http::header::AUTHORIZATION).expect("signed").to_str().expect("text").to_owned();
    let fields = header.strip_prefix("X-Matrix ").expect("the scheme").split(',');
    let kept: Vec<&str> = fields.filter(|field| !field.trim().starts_with("destination=")).collect();
    let header = format!("X-Matrix {}", kept.join(","));
    assert!(!header.contains("destination") && header.contains("sig="), "{header}");
    request.headers_mut().insert(http::header::AUTHORIZATION, header.parse().expect("a header"));
}

#[tokio::test]
async fn an_honest_request_is_answered_and_forged_ones_are_refused() {
    let hub = MemoryHub::new();
    let one = Peer::new(&hub, 1).await;
    let stranger = Stranger::new(&hub, 9);
    let (status, _) = stranger.send(&one, stranger.honest(&one)).await;
    assert_eq!(status, StatusCode::OK);

    // The same transaction again is not worked on again.
    let (status, _) = stranger.send(&one, stranger.honest(&one)).await;
    let stats = &one.node().federation.stats;
    assert_eq!((status, stats.transactions_in.get(), stats.transactions_repeated.get()), (StatusCode::OK, 1, 1));

    let refused = |forged| async { stranger.send(&one, forged).await.0.as_u16() };
    let forge = || stranger.honest(&one);
    assert_eq!(refused(Forged { signer: 8, ..forge() }).await, 401, "another key");
    assert_eq!(refused(Forged { destination: name(7), ..forge() }).await, 401, "another destination");
    let zoned = ServerName::parse(format!("{}.mesh.example.org", key(1))).expect("a name");
    assert_eq!(refused(Forged { destination: zoned, ..forge() }).await, 401, "our key in another spelling");
    assert_eq!(refused(Forged { origin: name(8), signer: 8, ..forge() }).await, 403, "another peer brings it");
    let upper = ServerName::parse(key(9).to_string().to_uppercase()).expect("a name");
    assert_eq!(refused(Forged { origin: upper, ..forge() }).await, 401, "not canonical");
    let dns = ServerName::parse("example.org").expect("a name");
    assert_eq!(refused(Forged { origin: dns, ..forge() }).await, 401, "its keys cannot be had");
    assert_eq!(refused(Forged { origin: name(1), signer: 1, ..forge() }).await, 401, "our own name");
    let other_body: fn(&mut Request<Vec<u8>>) =
        |request| *request.body_mut() = br#"{"origin":"x","origin_server_ts":2,"pdus":[]}"#.to_vec();
    assert_eq!(refused(Forged { tamper: other_body, ..forge() }).await, 401, "another body");
    let other_path: fn(&mut Request<Vec<u8>>) =
        |request| *request.uri_mut() = "https://x/_matrix/federation/v1/send/2".parse().expect("a path");
    assert_eq!(refused(Forged { tamper: other_path, ..forge() }).await, 401, "another path");
    let unsigned: fn(&mut Request<Vec<u8>>) = |request| request.headers_mut().clear();
    assert_eq!(refused(Forged { tamper: unsigned, ..forge() }).await, 401, "no signature");
    // Older servers name the destination in what they sign alone.
    assert_eq!(refused(Forged { tamper: without_destination, ..forge() }).await, 200);
    let elsewhere = Forged { destination: name(7), tamper: without_destination, ..forge() };
    assert_eq!(refused(elsewhere).await, 401, "signed for another");

    let stats = &one.node().federation.stats;
    assert_eq!(stats.wrong_peers.get(), 1);
    assert_eq!(stats.unsigned_requests.get(), 9);
}

/// With any zone behind it, one key could once act as any number of servers.
#[tokio::test]
async fn a_peer_acts_under_the_one_full_name_of_its_record() {
    let hub = MemoryHub::new();
    let one = Peer::new(&hub, 1).await;
    let stranger = Stranger::new(&hub, 9);
    let zoned = ServerName::parse(format!("{}.mesh.example.org", key(9))).expect("a name");
    let record = |server_name: &ServerName| {
        let record = NodeRecord {
            sequence: Sequence::new(1, 1),
            key: key(9),
            server_name: server_name.to_string(),
            addresses: vec![],
            mailboxes: vec![],
            gateway: None,
        };
        record.sign(&secret(9)).expect("a record")
    };
    let status = |origin: &OwnedServerName| {
        let forged = Forged {
            origin: origin.clone(),
            body: json!({"origin": origin, "origin_server_ts": 1, "pdus": []}),
            ..stranger.honest(&one)
        };
        async { stranger.send(&one, forged).await.0.as_u16() }
    };
    stranger.network.set_record(record(&name(9)));
    assert_eq!((status(&name(9)).await, status(&zoned).await), (200, 403));
    stranger.network.set_record(record(&zoned));
    assert_eq!((status(&name(9)).await, status(&zoned).await), (403, 200));
}

/// Rooms of versions 1 to 5 may hold such numbers. Were the transaction refused, its sender would try it again and again, and
/// nothing of it would come any more.
#[tokio::test]
async fn a_transaction_with_numbers_that_canonical_json_does_not_know_is_taken_when_its_signature_is_right() {
    let hub = MemoryHub::new();
    let one = Peer::new(&hub, 1).await;
    let stranger = Stranger::new(&hub, 9);
    let (origin, destination) = (name(9), one.node().server_name().to_owned());
    let send = |number: &'static str, signed: &'static str| {
        let uri = "/_matrix/federation/v1/send/1";
        let body = |number: &str| format!(r#"{{"origin":"{origin}","origin_server_ts":1,"pdus":[{{"n":{number}}}]}}"#);
        let covered = format!(
            r#"{{"content":{},"destination":"{destination}","method":"PUT","origin":"{origin}","uri":"{uri}"}}"#,
            body(signed)
        );
        let sig = key_pair(9).sign(covered.as_bytes()).base64();
        let header = format!(r#"X-Matrix origin="{origin}",destination="{destination}",key="ed25519:0",sig="{sig}""#);
        let request = Request::builder()
            .method(Method::PUT)
            .uri(format!("https://{destination}{uri}"))
            .header(http::header::AUTHORIZATION, header)
            .body(full(body(number)))
            .expect("a request");
        let answer = stranger.network.request(one.key(), Class::Control, request);
        async move { answer.await.expect("an answer").status().as_u16() }
    };
    assert_eq!(send("1.5e0", "1.6").await, 401, "another number was signed");
    assert_eq!(send("NaN", "NaN").await, 401, "no number at all");
    assert_eq!(send("1.5e0", "1.5").await, 200);
}

#[tokio::test]
async fn a_transaction_in_anothers_name_or_beyond_the_limits_is_refused() {
    let hub = MemoryHub::new();
    let one = Peer::new(&hub, 1).await;
    let stranger = Stranger::new(&hub, 9);
    let send = |body: Value| stranger.send(&one, Forged { body, ..stranger.honest(&one) });
    let (status, _) = send(json!({"origin": name(8), "origin_server_ts": 1, "pdus": []})).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let pdu = json!({"room_id": "!a:b", "type": "m.room.message"});
    for (pdus, edus) in [(51, 0), (0, 101)] {
        let edu = json!({"edu_type": "org.example", "content": {}});
        let body = json!({
            "origin": name(9), "origin_server_ts": 1,
            "pdus": vec![pdu.clone(); pdus], "edus": vec![edu; edus],
        });
        assert_eq!(send(body).await.0, StatusCode::BAD_REQUEST, "{pdus} {edus}");
    }
    let long = json!({"origin": name(9), "origin_server_ts": 1, "pdus": ["x".repeat(17 << 20)]});
    assert_eq!(send(long).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    let stats = &one.node().federation.stats;
    assert_eq!((stats.transactions_refused.get(), stats.bodies_refused.get(), stats.transactions_in.get()), (3, 1, 0));
    let (status, body) = send(json!({"origin": name(9), "origin_server_ts": 1, "pdus": [pdu, {}, 5, "x"]})).await;
    assert_eq!((status, body), (StatusCode::OK, json!({"pdus": {}})), "what is no event of a room here is dropped");
}

#[tokio::test]
async fn a_stranger_learns_nothing_of_a_room_and_cannot_write_into_it() {
    let hub = MemoryHub::new();
    let one = Peer::new(&hub, 1).await;
    let stranger = Stranger::new(&hub, 9);
    let room = one.create_room(ruma::RoomVersionId::V12, json!({"join_rule": "invite"})).await.id().to_owned();
    let event = one.say(&room, "secret").await;
    let user = format!("@x:{}", name(9));
    let get = |path: String| {
        let stranger = &stranger;
        let one = &one;
        async move {
            let forged = Forged { method: Method::GET, path: &path, body: Value::Null, ..stranger.honest(one) };
            stranger.send(one, forged).await.0.as_u16()
        }
    };
    for path in [
        format!("v1/event/{event}"),
        format!("v1/state/{room}?event_id={event}"),
        format!("v1/state_ids/{room}?event_id={event}"),
        format!("v1/event_auth/{room}/{event}"),
        format!("v1/backfill/{room}?v={event}&limit=10"),
        format!("v1/timestamp_to_event/{room}?ts=1&dir=f"),
        format!("v1/make_join/{room}/{user}?ver=12"),
        format!("v1/make_leave/{room}/{user}"),
        format!("v1/make_knock/{room}/{user}?ver=12"),
    ] {
        let status = get(format!("/_matrix/federation/{path}")).await;
        assert!(matches!(status, 403 | 404), "{path}: {status}");
    }
    let other = get(format!("/_matrix/federation/v1/make_join/{room}/{}?ver=12", one.user)).await;
    assert_eq!(other, 403, "for a user of another server");
    let heads = Forged {
        method: Method::POST,
        path: "/_matrix/federation/unstable/org.kith.heads",
        body: json!({"rooms": {room.as_str(): [event]}}),
        ..stranger.honest(&one)
    };
    assert_eq!(stranger.send(&one, heads).await, (StatusCode::OK, json!({"rooms": {}})));
    assert_eq!(get("/_matrix/federation/v1/nothing".to_owned()).await, 404);
}

#[tokio::test]
async fn the_key_document_is_signed_with_the_key_in_the_name() {
    let hub = MemoryHub::new();
    let one = Peer::new(&hub, 1).await;
    let stranger = Stranger::new(&hub, 9);
    let forged = Forged {
        method: Method::GET,
        path: "/_matrix/key/v2/server",
        body: Value::Null,
        tamper: |request| request.headers_mut().clear(),
        ..stranger.honest(&one)
    };
    let (status, body) = stranger.send(&one, forged).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["server_name"], one.node().server_name().as_str());
    let verify =
        ruma::serde::Base64::parse(body["verify_keys"]["ed25519:0"]["key"].as_str().expect("a key")).expect("base64");
    assert_eq!(verify.as_bytes(), key(1).as_bytes());
    let keys = [(one.node().server_name().to_string(), [("ed25519:0".to_owned(), verify)].into())].into();
    let document = serde_json::from_value(body).expect("canonical JSON");
    ruma::signatures::verify_json(&keys, &document).expect("signed");
}

#[tokio::test]
async fn keys_from_before_are_published_beside_the_present_one() {
    let hub = MemoryHub::new();
    let old = "ed25519:a_Xy12 Noi6WqcDj0QmPxCNQqgezwTlBKrfqehY1u2FyWP9uYw 1700000000000";
    let one = Peer::with(&hub, 1, |config| config.federation.old_verify_keys = vec![old.to_owned()]).await;
    let stranger = Stranger::new(&hub, 9);
    let ask =
        Forged { method: Method::GET, path: "/_matrix/key/v2/server", body: Value::Null, ..stranger.honest(&one) };
    let (_, body) = stranger.send(&one, ask).await;
    let expected = json!({
        "ed25519:a_Xy12": { "key": "Noi6WqcDj0QmPxCNQqgezwTlBKrfqehY1u2FyWP9uYw", "expired_ts": 1_700_000_000_000u64 },
    });
    assert_eq!(body["old_verify_keys"], expected);
    assert!(body["verify_keys"]["ed25519:0"].is_object());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_one_peer_does_not_hold_up_another() {
    let hub = MemoryHub::new();
    let one = Peer::with(&hub, 1, |config| config.limits.rate_federation = kith::config::Rate::per_minute(20)).await;
    let (flooder, other) = (Stranger::new(&hub, 9), Stranger::new(&hub, 8));
    let mut refused = 0;
    for _ in 0..200 {
        refused += u32::from(flooder.send(&one, flooder.honest(&one)).await.0 == StatusCode::TOO_MANY_REQUESTS);
    }
    assert!(refused > 50, "{refused}");
    for _ in 0..10 {
        assert_eq!(other.send(&one, other.honest(&one)).await.0, StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_joins_may_have_the_members_left_out_and_is_told_the_servers() {
    let hub = MemoryHub::new();
    let (one, two) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await);
    let room = one.public_room().await.id().to_owned();
    one.populate(&room, 100).await;
    two.join(&room, &one).await.expect("joined");
    let stranger = Stranger::new(&hub, 9);
    let user = UserId::parse(format!("@newcomer:{}", name(9))).expect("a user");
    let join = stranger.proposed_join(&one, &room, &user).await;
    let body: Value = serde_json::from_str(join.text()).expect("JSON");
    let path = format!("/_matrix/federation/v2/send_join/{room}/{}?omit_members=true", join.event_id());
    let ask = || Forged { path: &path, body: body.clone(), ..stranger.honest(&one) };
    let (status, answer) = stranger.send(&one, ask()).await;
    assert_eq!((status, &answer["members_omitted"]), (StatusCode::OK, &json!(true)), "{answer}");
    let kinds = |field: &str| -> Vec<String> {
        let events = answer[field].as_array().expect("events").iter();
        events.map(|event| event["type"].as_str().expect("a type").to_owned()).collect()
    };
    let mut servers: Vec<String> = serde_json::from_value(answer["servers_in_room"].clone()).expect("names");
    servers.sort();
    let mut expected: Vec<String> = [1, 2].map(|seed| name(seed).to_string()).into();
    expected.sort();
    assert_eq!(servers, expected);
    let state = kinds("state");
    assert!(
        state.contains(&"m.room.power_levels".to_owned()) && !state.contains(&"m.room.member".to_owned()),
        "{state:?}"
    );
    // What the state rests on is there all the same: who made the room was in it.
    assert!(kinds("auth_chain").contains(&"m.room.member".to_owned()), "{answer}");
}

/// Invites into old rooms could not be sent: the state that goes with them may hold such numbers.
#[tokio::test]
async fn a_request_with_numbers_that_only_old_rooms_allow_is_signed_and_taken() {
    let hub = MemoryHub::new();
    let (one, two) = (Peer::new(&hub, 1).await, Peer::new(&hub, 2).await);
    let room = one.create_room(RoomVersionId::V5, json!({"join_rule": "invite"})).await;
    let levels = r#"{"content":{"users_default":0.5},"sender":"@a:x","state_key":"","type":"m.room.power_levels"}"#;
    let stripped = serde_json::value::RawValue::from_string(levels.to_owned()).expect("JSON");
    let event = r#"{"type":"m.room.member","content":{"membership":"invite","weight":1.25}}"#;
    let mut request = create_invite::Request::new(
        room.id().to_owned(),
        OwnedEventId::try_from("$x").expect("an event ID"),
        RoomVersionId::V5,
        serde_json::value::RawValue::from_string(event.to_owned()).expect("JSON"),
        Vec::new(),
    );
    request.invite_room_state = vec![RawStrippedState::Pdu(stripped)];
    let client = one.node().federation.client();
    let limit = std::time::Duration::from_secs(10);
    let refused = client.request(two.node().server_name(), request, Class::Control, limit).await.expect_err("no event");
    // Its signature was right: it is looked at, and is no event.
    assert_eq!(refused.status(), Some(StatusCode::BAD_REQUEST), "{refused}");
    let body = json!({"origin": one.node().server_name(), "origin_server_ts": 1, "pdus": [{"content": {"x": 1.5}}]});
    let path = "/_matrix/federation/v1/send/floats";
    let server = two.node().server_name();
    client.request_json(server, Method::PUT, path, &body, Class::Control, limit).await.expect("taken");
    assert_eq!(two.node().federation.stats.unsigned_requests.get(), 0);
}

#[tokio::test]
async fn an_invite_into_an_old_room_may_come_the_old_way() {
    let hub = MemoryHub::new();
    let one = Peer::new(&hub, 1).await;
    let stranger = Stranger::new(&hub, 9);
    let sender = UserId::parse(format!("@old:{}", name(9))).expect("a user");
    let room = RoomId::parse(format!("!old:{}", name(9))).expect("a room ID");
    let content = serde_json::from_value(json!({"membership": "invite"})).expect("canonical");
    let builder = Builder::new(&sender, "m.room.member", content).state_key(one.user.as_str()).room_id(room.clone());
    let (server_name, key) = (name(9), key_pair(9));
    let signer = Signer { server_name: &server_name, key: &key };
    let at = MilliSecondsSinceUnixEpoch(UInt::from(1_700_000_000u32));
    let event = build(builder, &RoomVersionId::V1, &[], &[], 7, at, signer).expect("an event");
    let mut body: Value = serde_json::from_str(event.text()).expect("JSON");
    let named = json!({"type": "m.room.name", "state_key": "", "sender": sender, "content": {"name": "an old room"}});
    body["unsigned"] = json!({"invite_room_state": [named]});
    let path = format!("/_matrix/federation/v1/invite/{room}/{}", event.event_id());
    let ask = |body: Value| Forged { path: &path, body, ..stranger.honest(&one) };
    let mut tampered = body.clone();
    tampered["content"]["membership"] = json!("join");
    assert_eq!(stranger.send(&one, ask(tampered)).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(stranger.send(&one, ask(json!("no event"))).await.0, StatusCode::BAD_REQUEST);
    let (status, answer) = stranger.send(&one, ask(body)).await;
    assert_eq!((status, &answer[0]), (StatusCode::OK, &json!(200)), "{answer}");
    let signatures = answer[1]["event"]["signatures"].as_object().expect("signatures");
    assert!(signatures.contains_key(one.node().server_name().as_str()) && signatures.contains_key(name(9).as_str()));
    assert_eq!(one.membership(&room, &one.user), Some(kith_store::tables::rooms::membership::INVITE));
    let client = crate::client::Client::of(&one).await;
    let sync = client.get("/sync?timeout=0").await;
    let state = sync["rooms"]["invite"][room.as_str()]["invite_state"]["events"].as_array().expect("state").clone();
    assert!(state.iter().any(|event| event["content"]["name"] == "an old room"), "{state:?}");
}
