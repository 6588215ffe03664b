//! Events that are no events, or not what they claim to be, on every way on which another server can bring them: each gets its
//! answer, is counted by its reason, and takes nothing from the room.

use std::collections::BTreeMap;

use http::StatusCode;
use kith::{
    admin::{Admin as _, NodeAdmin},
    federation::stats::Refusal,
    rooms::{DUMMY_EVENT, Draft, read},
};
use kith_room::{Document, Signer, receive::event_id_of};
use kith_store::tables::rooms::TIMELINE;
use kith_transport::memory::MemoryHub;
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId, RoomVersionId};
use serde_json::{Map, Value, json};

use crate::{
    hostile::{forge_as, invite, nobodys},
    requests::{Forged, Stranger, key_pair, name},
    without::Lack,
    world::{Peer, object, until},
};

/// A room of `one`, and a member of it whose server does as it likes.
struct Liar {
    one: Peer,
    mallory: Stranger,
    user: ruma::OwnedUserId,
    room: OwnedRoomId,
    version: RoomVersionId,
    /// What its events follow, and are allowed by.
    last: OwnedEventId,
    depth: u64,
    auth: Vec<OwnedEventId>,
    transactions: u64,
}

/// What came of one transaction.
struct Answer {
    pdus: Map<String, Value>,
    /// What was refused, by reason.
    refused: Vec<(&'static str, u64)>,
}

impl Liar {
    async fn new(hub: &MemoryHub, version: RoomVersionId) -> Self {
        let (one, two) =
            (Peer::with(hub, 1, |config| config.limits.rate_limits = false).await, Peer::new(hub, 2).await);
        let room = one.create_room(version.clone(), json!({"join_rule": "public"})).await.id().to_owned();
        two.join(&room, &one).await.expect("joined");
        // From here on its server speaks for itself.
        two.handle.stop().await;
        let state = one.state(&room);
        let id = |kind: &str, key: &str| {
            let event = state.iter().find(|(its_kind, its_key, _)| its_kind == kind && its_key == key).expect("there");
            OwnedEventId::try_from(event.2.as_str()).expect("an ID")
        };
        let join = id("m.room.member", two.user.as_str());
        let mut auth = vec![id("m.room.power_levels", ""), join.clone()];
        if version != RoomVersionId::V12 {
            auth.push(id("m.room.create", ""));
        }
        let mallory = Stranger::new(hub, 2);
        Self { one, mallory, user: two.user, room, version, last: join, depth: 20, auth, transactions: 0 }
    }

    /// A message that follows the last one, not signed.
    fn draft(&self, body: &str) -> Value {
        let cite = |id: &EventId| match self.version {
            RoomVersionId::V1 => json!([id, {"sha256": "AA"}]),
            _ => json!(id),
        };
        let auth: Vec<Value> = self.auth.iter().map(|id| cite(id)).collect();
        let mut event = json!({
            "type": "m.room.message", "sender": self.user, "room_id": self.room, "depth": self.depth,
            "content": {"msgtype": "m.text", "body": body}, "origin_server_ts": 1_700_000_000_000_u64,
            "prev_events": [cite(&self.last)], "auth_events": auth,
        });
        if self.version == RoomVersionId::V1 {
            event["event_id"] = json!(format!("${body}:{}", name(2)));
        }
        event
    }

    /// The event, hashed and signed by Mallory's server.
    fn signed(&self, mut event: Value) -> Value {
        let rules = self.version.rules().expect("known");
        let document = |event: &Value| Document::read(&event.to_string(), &rules).expect("an event");
        event["hashes"] = json!({});
        event["signatures"] = json!({});
        event["hashes"] = json!({"sha256": document(&event).content_hash_base64().expect("a hash")});
        let mut document = document(&event);
        document.sign(&rules, Signer { server_name: &name(2), key: &key_pair(2) }).expect("signed");
        serde_json::from_str(&document.to_text()).expect("JSON")
    }

    /// A message like any other; what is sent after it follows it.
    fn honest(&mut self, body: &str) -> Value {
        let event = self.signed(self.draft(body));
        self.last = self.id(&event.to_string()).expect("an event");
        self.depth += 1;
        event
    }

    fn id(&self, text: &str) -> Option<OwnedEventId> {
        event_id_of(text, &self.version).ok()
    }

    async fn send(&mut self, pdus: &[String]) -> Answer {
        let counts = |one: &Peer| one.node().federation.stats.refused.entries();
        let before = counts(&self.one);
        self.transactions += 1;
        let path = format!("/_matrix/federation/v1/send/bad{}", self.transactions);
        let body = format!(r#"{{"origin":"{}","origin_server_ts":1,"pdus":[{}]}}"#, name(2), pdus.join(","));
        let forged = Forged { path: &path, ..self.mallory.honest(&self.one) };
        let (status, answer) = self.mallory.send_text(&self.one, forged, body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let refused = counts(&self.one).into_iter().zip(before).map(|((name, now), (_, then))| (name, now - then));
        Answer { pdus: object(answer["pdus"].clone()), refused: refused.filter(|(_, count)| *count > 0).collect() }
    }

    /// Sends what is wrong in the midst of what is right; the room takes the latter. Gives the answer for the former.
    async fn sandwich(&mut self, what: &str, bad: &str, reason: Option<Refusal>) -> Option<Value> {
        let refused = |one: &Peer, reason| one.node().federation.stats.refused.get(reason);
        let before = reason.map(|reason| refused(&self.one, reason));
        let bodies = [format!("before {what}"), format!("after {what}")];
        let [first, last] = bodies.each_ref().map(|body| self.honest(body).to_string());
        let mut answer = self.send(&[first.clone(), bad.to_owned(), last.clone()]).await;
        let messages = self.one.messages(&self.room);
        assert!(bodies.iter().all(|body| messages.contains(body)), "{what}: {messages:?}");
        for honest in [&first, &last] {
            let id = self.id(honest).expect("an event");
            assert_eq!(answer.pdus.remove(id.as_str()), Some(json!({})), "{what}");
        }
        assert_eq!(answer.refused.len(), usize::from(reason.is_some()), "{what}: {:?}", answer.refused);
        assert_eq!(reason.map(|reason| refused(&self.one, reason)), before.map(|count| count + 1), "{what}");
        assert!(answer.pdus.len() <= 1, "{what}: {:?}", answer.pdus);
        let said = self.one.say(&self.room, &format!("one, {what}")).await;
        assert!(!said.as_str().is_empty());
        answer.pdus.into_iter().next().map(|(id, answer)| {
            assert_eq!(self.id(bad).map(|id| id.to_string()), Some(id), "{what}");
            answer
        })
    }
}

/// Text in place of the first message body `?`.
fn with_body(event: &Value, body: &str) -> String {
    let text = event.to_string();
    assert!(text.contains(r#""body":"?""#));
    text.replace(r#""body":"?""#, body)
}

fn deep(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_in_a_transaction_is_answered_and_counted_by_its_reason_and_the_room_goes_on() {
    let mut liar = Liar::new(&MemoryHub::new(), RoomVersionId::V12).await;
    let is_error = |answer: &Option<Value>| answer.as_ref().is_some_and(|answer| answer["error"].is_string());
    // What is not read as JSON has no ID that could be answered for.
    let event = liar.signed(liar.draft("?"));
    for (what, body) in [
        ("deep", format!(r#""body":{}"#, deep(119))),
        ("a key twice", r#""body":"x","body":"y""#.to_owned()),
        ("a float", r#""body":1.5"#.to_owned()),
        ("an integer out of range", r#""body":9007199254740992"#.to_owned()),
    ] {
        let answer = liar.sandwich(what, &with_body(&event, &body), Some(Refusal::Json)).await;
        assert_eq!(answer, None, "{what}");
    }
    let mut long = event.clone();
    long["padding"] = json!("x".repeat(65_536));
    let answer = liar.sandwich("too long", &long.to_string(), Some(Refusal::TooLong)).await;
    assert!(is_error(&answer), "{answer:?}");

    let mut draft = liar.draft("no depth");
    draft["depth"] = json!("7");
    let answer = liar.sandwich("no event", &liar.signed(draft).to_string(), Some(Refusal::Format)).await;
    assert!(is_error(&answer), "{answer:?}");

    let mut draft = liar.draft("as another");
    draft["sender"] = json!(liar.one.user);
    let answer = liar.sandwich("forged origin", &liar.signed(draft).to_string(), Some(Refusal::Signature)).await;
    assert!(is_error(&answer), "{answer:?}");
    let mut changed = liar.signed(liar.draft("changed"));
    changed["depth"] = json!(3);
    let answer = liar.sandwich("changed", &changed.to_string(), Some(Refusal::Signature)).await;
    assert!(is_error(&answer), "{answer:?}");

    // Of a room that is not known, neither is the version, and with it the ID.
    let mut draft = liar.draft("elsewhere");
    draft["room_id"] = json!("!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM");
    let answer = liar.sandwich("unknown room", &liar.signed(draft).to_string(), Some(Refusal::Room)).await;
    assert_eq!(answer, None);

    let status = NodeAdmin::new(&liar.one.handle).status().await.expect("a status").federation;
    let expected = [("bad_json", 4), ("too_long", 1), ("bad_format", 1), ("bad_signature", 2), ("wrong_room", 1)];
    let expected: BTreeMap<String, u64> = expected.map(|(name, count)| (name.to_owned(), count)).into();
    let mut refused = status.refused;
    refused.retain(|_, count| *count > 0);
    assert_eq!(refused, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_hash_is_kept_without_its_content_and_what_the_rules_forbid_is_stored_as_rejected() {
    let mut liar = Liar::new(&MemoryHub::new(), RoomVersionId::V12).await;
    let mut broken = liar.signed(liar.draft("true"));
    broken["content"]["body"] = json!("false");
    let id = liar.id(&broken.to_string()).expect("an event");
    assert_eq!(liar.sandwich("broken hash", &broken.to_string(), None).await, Some(json!({})));
    assert_eq!(liar.one.node().federation.stats.pdus_redacted.get(), 1);
    let content = {
        let snapshot = liar.one.node().store.snapshot().expect("a snapshot");
        read::event_by_id(&snapshot, id.as_str()).expect("readable").expect("stored").content().clone()
    };
    assert!(content.is_empty(), "{content:?}");

    let mut draft = liar.draft("nobody");
    draft["sender"] = json!(format!("@ghost:{}", name(2)));
    assert_eq!(liar.sandwich("not a member", &liar.signed(draft).to_string(), None).await, Some(json!({})));
    let status = NodeAdmin::new(&liar.one.handle).status().await.expect("a status").federation;
    assert_eq!((status.rejected, status.counters["pdus_redacted"]), (1, 1));
    assert!(!liar.one.messages(&liar.room).contains(&"nobody".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_follow_each_other_in_a_circle_are_refused_and_one_that_follows_what_is_elsewhere_waits() {
    let mut liar = Liar::new(&MemoryHub::new(), RoomVersionId::V1).await;
    let named = |liar: &Liar, name_: &str, prev: &str| {
        let mut draft = liar.draft(name_);
        draft["prev_events"] = json!([[format!("${prev}:{}", name(2)), {"sha256": "AA"}]]);
        liar.signed(draft).to_string()
    };
    let circle = [named(&liar, "a", "b"), named(&liar, "b", "c"), named(&liar, "c", "a")];
    let honest = liar.honest("honest").to_string();
    let answer = liar.send(&[&circle[..], &[honest]].concat()).await;
    assert_eq!(answer.refused, [("cycle", 3)]);
    for name_ in ["a", "b", "c"] {
        let answer = &answer.pdus[&format!("${name_}:{}", name(2))];
        assert!(answer["error"].is_string(), "{answer}");
    }
    assert_eq!(liar.one.messages(&liar.room), ["honest"]);
    let alone = named(&liar, "self", "self");
    let answer = liar.sandwich("self", &alone, Some(Refusal::Format)).await;
    assert!(answer.is_some_and(|answer| answer["error"].is_string()));
    // One by one they cannot be told from others that lack something. They wait, and hold up nobody.
    for text in &circle {
        let answer = liar.send(std::slice::from_ref(text)).await;
        assert_eq!(answer.refused, []);
        assert!(answer.pdus.values().all(|answer| *answer == json!({})), "{:?}", answer.pdus);
    }
    let elsewhere = liar.one.create_room(RoomVersionId::V1, json!({"join_rule": "public"})).await.id().to_owned();
    let there = liar.one.say(&elsewhere, "there").await;
    let mut draft = liar.draft("follows-another-room");
    draft["prev_events"] = json!([[there, {"sha256": "AA"}]]);
    let answer = liar.sandwich("prev event elsewhere", &liar.signed(draft).to_string(), None).await;
    assert_eq!(answer, Some(json!({})));
    assert!(!liar.one.messages(&liar.room).contains(&"follows-another-room".to_owned()));
    assert_eq!(liar.one.node().federation.stats.pdus_parked.get(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_the_access_list_denies_is_answered_so_and_counted() {
    let mut liar = Liar::new(&MemoryHub::new(), RoomVersionId::V12).await;
    let acl = object(json!({"allow": ["*"], "deny": [name(2)]}));
    let (one, room) = (&liar.one, liar.room.clone());
    one.room(&room).send(Draft::state(one.user.clone(), "m.room.server_acl", "", acl)).await.expect("sent");
    let event = liar.honest("denied").to_string();
    let answer = liar.send(&[event]).await;
    assert_eq!(answer.refused, [("denied_server", 1)]);
    assert!(answer.pdus.values().all(|answer| answer["error"].is_string()), "{:?}", answer.pdus);
    assert!(liar.one.messages(&room).is_empty());
    liar.one.say(&room, "on").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invites_that_are_no_events_or_not_what_they_claim_are_refused_and_counted() {
    let hub = MemoryHub::new();
    let one = Peer::with(&hub, 1, |config| config.limits.rate_limits = false).await;
    let mallory = Stranger::new(&hub, 9);
    let (path, right) = invite(&one, 1);
    let event = |change: fn(&mut Value)| {
        let mut body = right.clone();
        change(&mut body["event"]);
        body.to_string()
    };
    let plain = right.to_string();
    let mut unknown = right.clone();
    unknown["room_version"] = json!("99");
    let cases: Vec<(&str, String, &str, &str)> = vec![
        ("too long", event(|event| event["padding"] = json!("x".repeat(65_536))), "M_INVALID_PARAM", "too_long"),
        ("float", plain.replacen(r#""depth":2"#, r#""depth":2,"x":1.5"#, 1), "M_INVALID_PARAM", "bad_json"),
        ("twice", plain.replacen(r#""depth":2"#, r#""depth":2,"depth":2"#, 1), "M_INVALID_PARAM", "bad_json"),
        (
            "deep",
            plain.replacen(r#""depth":2"#, &format!(r#""depth":2,"x":{}"#, deep(121)), 1),
            "M_INVALID_PARAM",
            "bad_json",
        ),
        (
            "no event",
            event(|event| drop(event.as_object_mut().expect("an object").remove("depth"))),
            "M_INVALID_PARAM",
            "bad_format",
        ),
        ("changed", event(|event| event["depth"] = json!(3)), "M_INVALID_PARAM", "bad_signature"),
        ("unsigned", event(|event| event["signatures"] = json!({})), "M_INVALID_PARAM", "bad_signature"),
        ("version", unknown.to_string(), "M_INCOMPATIBLE_ROOM_VERSION", "unknown_version"),
    ];
    for (what, body, errcode, reason) in cases {
        let before = one.node().federation.stats.refused.entries();
        let forged = Forged { path: &path, ..mallory.honest(&one) };
        let (status, answer) = mallory.send_text(&one, forged, body).await;
        assert_eq!((status.as_u16(), answer["errcode"].as_str()), (400, Some(errcode)), "{what}: {answer}");
        let after = one.node().federation.stats.refused.entries();
        let counted: Vec<&str> =
            after.iter().zip(&before).filter(|(now, then)| now != then).map(|(now, _)| now.0).collect();
        assert_eq!(counted, [reason], "{what}");
    }
    // A broken hash is no invite either: what it invites to would be unknown.
    let broken = event(|event| event["content"]["reason"] = json!("never said"));
    let forged = Forged { path: &path, ..mallory.honest(&one) };
    assert_eq!(mallory.send_text(&one, forged, broken).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(one.node().federation.stats.pdus_redacted.get(), 1);
    // In another room's name, too.
    let elsewhere = path.replace("invite/!", "invite/!x");
    let forged = Forged { path: &elsewhere, ..mallory.honest(&one) };
    assert_eq!(mallory.send_text(&one, forged, plain.clone()).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(one.node().federation.stats.refused.get(Refusal::Room), 1);
    // The right one is taken as ever.
    let forged = Forged { path: &path, ..mallory.honest(&one) };
    let (status, answer) = mallory.send_text(&one, forged, plain).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
}

/// An answer with bad events among the good ones, wherever it has events.
fn spoil(answer: Value) -> String {
    let fields = object(answer).into_iter().map(|(key, value)| match value {
        Value::Array(events) if ["events", "pdus", "state", "auth_chain"].contains(&key.as_str()) => {
            let mut texts: Vec<String> = events.first().map(bad_copies).unwrap_or_default();
            texts.extend(events.iter().map(Value::to_string));
            texts.extend(events.last().map(bad_copies).unwrap_or_default());
            format!("{}:[{}]", json!(key), texts.join(","))
        }
        value => format!("{}:{value}", json!(key)),
    });
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

/// What is refused of a spoilt answer, for each `bad_copies`.
const REASONS: [(Refusal, u64); 4] =
    [(Refusal::TooLong, 1), (Refusal::Json, 3), (Refusal::Format, 1), (Refusal::Signature, 1)];

fn bad_copies(event: &Value) -> Vec<String> {
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut event = event.clone();
        change(&mut event);
        event.to_string()
    };
    let with = |what: &str| event.to_string().replacen('{', &format!("{{{what},"), 1);
    let elsewhere = RoomId::parse("!31hneApxJ_1o-63DmFrpeqnkFfWppnzWso1JvH3ogLM").expect("an ID");
    vec![
        changed(&|event| event["padding"] = json!("x".repeat(65_536))),
        with(&format!(r#""padding":{}"#, deep(130))),
        with(r#""padding":1.5"#),
        with(r#""depth":1"#),
        changed(&|event| drop(event.as_object_mut().expect("an object").remove("sender"))),
        changed(&|event| event["origin_server_ts"] = json!(5)),
        forge_as(9, "mallory", &elsewhere, 5, &[nobodys(1)], &[], "elsewhere").text().to_owned(),
    ]
}

/// How often `bad_copies` were refused, the same for all reasons.
#[track_caller]
fn spoilt(peer: &Peer) -> u64 {
    let refused = &peer.node().federation.stats.refused;
    let times: Vec<u64> = REASONS.iter().map(|(reason, each)| refused.get(*reason) / each).collect();
    assert!(times.iter().all(|count| *count == times[0]), "{:?}", refused.entries());
    // Others of a room that was just being joined may have come besides.
    assert!(refused.get(Refusal::Room) >= times[0], "{:?}", refused.entries());
    times[0]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_events_in_the_answer_to_a_join_are_left_out_and_counted_and_the_room_is_joined() {
    let hub = MemoryHub::new();
    let (one, two) = (Peer::new(&hub, 1).await, Peer::without(&hub, 2, Lack::Altered(&["send_join"], spoil)).await);
    let room = one.public_room().await.id().to_owned();
    two.join(&room, &one).await.expect("joined");
    assert_eq!(one.state(&room), two.state(&room));
    assert!(spoilt(&two) >= 2, "{:?}", two.node().federation.stats.refused.entries());
    one.say(&room, "hello").await;
    until("the room goes on", || two.messages(&room) == ["hello"]).await;
    // Of a version that nobody knows, or without its create event, it is no room.
    let unknown = |answer: Value| {
        let mut answer = answer;
        let state = answer["state"].as_array_mut().expect("a state");
        state.retain(|event| event["type"] != "m.room.create");
        answer.to_string()
    };
    let three = Peer::without(&hub, 3, Lack::Altered(&["send_join"], unknown)).await;
    three.join(&room, &one).await.expect_err("there is no create event");
    two.say(&room, "on").await;
    until("the room goes on", || one.messages(&room).last().is_some_and(|body| body == "on")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_events_among_missing_ones_are_left_out_and_counted_and_the_others_come() {
    let hub = MemoryHub::new();
    let lies = |answer: Value| {
        // The hash of the second message does not match any more.
        let text = answer.to_string().replace("one 1", "a lie");
        spoil(serde_json::from_str(&text).expect("JSON"))
    };
    let two = Peer::without(&hub, 2, Lack::Altered(&["get_missing_events"], lies)).await;
    let one = Peer::new(&hub, 1).await;
    let room = one.public_room().await.id().to_owned();
    two.join(&room, &one).await.expect("joined");
    hub.cut(one.key(), two.key());
    for number in 0..4 {
        one.say(&room, &format!("one {number}")).await;
    }
    crate::messages::forget_queue(&one, two.node().server_name().as_str()).await;
    hub.heal(one.key(), two.key());
    until("all come", || two.messages(&room) == ["one 0", "", "one 2", "one 3"]).await;
    assert!(spoilt(&two) >= 2);
    assert!(two.node().federation.stats.pdus_redacted.get() >= 1);
    two.say(&room, "on").await;
    until("the room goes on", || one.messages(&room).last().is_some_and(|body| body == "on")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_events_in_history_and_in_the_state_before_it_are_left_out_and_counted() {
    let hub = MemoryHub::new();
    let two = Peer::without(&hub, 2, Lack::Altered(&["/backfill/", "/state/"], spoil)).await;
    let one = Peer::new(&hub, 1).await;
    let room = one.public_room().await.id().to_owned();
    for number in 0..30 {
        one.say(&room, &format!("{number}")).await;
    }
    two.join(&room, &one).await.expect("joined");
    let mut fetched = 0;
    while let Ok(count @ 1..) = two.node().federation.backfill(&two.room(&room), None, 10).await {
        fetched += count;
        assert!(fetched < 100);
    }
    assert_eq!(fetched, 30 + 5, "all messages and the events that made the room");
    assert!(spoilt(&two) >= 8, "{:?}", two.node().federation.stats.refused.entries());
    let snapshot = two.node().store.snapshot().expect("a snapshot");
    let rows = TIMELINE.prefix(&snapshot, &two.room(&room).number()).expect("readable");
    let events = rows.map(|row| read::event(&snapshot, row.expect("readable").0.2).expect("readable").expect("stored"));
    let bodies: Vec<String> = events
        .filter(|event| event.kind() != DUMMY_EVENT)
        .filter_map(|event| Some(event.content().get("body")?.as_str()?.to_owned()))
        .collect();
    assert_eq!(bodies, (0..30).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_events_in_the_state_that_bridges_a_gap_are_left_out_and_counted() {
    let hub = MemoryHub::new();
    let only_heads = |answer: Value| match answer.get("events") {
        Some(_) => r#"{"events":[]}"#.to_owned(),
        None => spoil(answer),
    };
    let two = Peer::without(&hub, 2, Lack::Altered(&["/state/", "get_missing_events"], only_heads)).await;
    let one = Peer::new(&hub, 1).await;
    let room = one.public_room().await.id().to_owned();
    two.join(&room, &one).await.expect("joined");
    hub.cut(one.key(), two.key());
    let topic = object(json!({"topic": "changed meanwhile"}));
    one.room(&room).send(Draft::state(one.user.clone(), "m.room.topic", "", topic)).await.expect("sent");
    one.say(&room, "missed").await;
    one.say(&room, "last").await;
    crate::messages::forget_queue(&one, two.node().server_name().as_str()).await;
    hub.heal(one.key(), two.key());
    until("the latest comes", || two.messages(&room) == ["last"]).await;
    assert_eq!(one.state(&room), two.state(&room));
    until("the bridge is counted", || two.node().federation.stats.gaps_bridged.get() >= 1).await;
    assert!(spoilt(&two) >= 2);
    two.say(&room, "on").await;
    until("the room goes on", || one.messages(&room).last().is_some_and(|body| body == "on")).await;
}

/// A false copy that came before what it follows waited without the note that it is false, and the true one was not taken any more.
#[tokio::test]
async fn a_true_copy_counts_whenever_it_comes_also_when_the_false_one_had_to_wait_for_others() {
    let hub = MemoryHub::new();
    let mut liar = Liar::new(&hub, RoomVersionId::V12).await;
    // The true copy comes after the false one was judged; then while it still waits.
    for (turn, waits) in [(0, false), (1, true)] {
        let before = liar.honest(&format!("before {turn}")).to_string();
        let truth = liar.honest(&format!("the truth {turn}"));
        let mut falsehood = truth.clone();
        falsehood["content"]["body"] = json!("a lie");
        liar.send(&[falsehood.to_string()]).await;
        let parked = |liar: &Liar| {
            let (room, store) = (liar.one.room(&liar.room), &liar.one.node().store);
            room.parked(&store.snapshot().unwrap()).unwrap().len()
        };
        assert_eq!(parked(&liar), 1, "what it follows is not here yet");
        if waits {
            liar.send(&[truth.to_string()]).await;
            assert_eq!(parked(&liar), 1);
        }
        liar.send(&[before]).await;
        until("what waited is judged", || parked(&liar) == 0).await;
        if !waits {
            let told = liar.one.messages(&liar.room);
            assert!(!told.iter().any(|body| body.contains("truth 0") || body == "a lie"), "{told:?}");
            liar.send(&[truth.to_string()]).await;
        }
        let told = liar.one.messages(&liar.room);
        assert!(told.contains(&format!("the truth {turn}")) && !told.contains(&"a lie".to_owned()), "{told:?}");
    }
}
