//! What the fuzz targets do with the bytes they are given. `tests/fuzz.rs` does the same with bytes of its own, so that CI
//! runs it on a stable toolchain.
//!
//! None of it may panic, whatever the bytes; what holds besides is asserted.

#![allow(dead_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kith_room::{
    Event, EventNumber, KnownEvent, Outcome, Room, Signer, Source, SourceError, StateKey, StateMap, Status, Verdict,
    auth::{auth_types_for, check_auth, check_state_independent},
    build::complete_template,
    format, json,
    power::PowerLevels,
    receive::{event_id_of, receive, signing_servers},
    redact::{may_redact, redact},
    visibility::Moment,
};
use ruma::{
    EventId, MilliSecondsSinceUnixEpoch, OwnedEventId, RoomId, RoomVersionId, ServerName, UInt,
    room_version_rules::RoomVersionRules, signatures::Ed25519KeyPair,
};
use serde_json::{Value, json};

/// Parsing, verifying, signing and redacting. The first byte chooses the room version, the rest is the event.
pub fn event_parsing(data: &[u8]) {
    let Some((version, text)) = version_and_text(data) else { return };
    let keys = BTreeMap::new();
    let _ = receive(text, &version, &keys);
    let _ = event_id_of(text, &version);
    let _ = signing_servers(text, &version);
    let rules = format::rules(&version).expect("a supported version");
    let _ = Event::from_stored(text, made_up_id(0), &rules);

    // Such an event, had a server signed it, is what that server meant, and can be redacted.
    let Ok(mut object) = json::parse_object(text) else { return };
    let (name, key) = server();
    object.insert("sender".to_owned(), format!("@u:{name}").into());
    let at = MilliSecondsSinceUnixEpoch(UInt::from(1_u8));
    let Ok(built) = complete_template(object, &version, at, Signer { server_name: &name, key: &key }) else { return };
    // Others may have to sign it, too.
    if let Ok(received) = receive(built.text(), &version, &keys) {
        assert_eq!((received.event_id(), received.text()), (built.event_id(), built.text()));
        assert!(!received.redacted());
    }
    let stored = Event::from_stored(built.text(), built.event_id().to_owned(), &rules).expect("what was built");
    assert_eq!(stored.json(), built.json());
    let redacted = redact(&built, &rules).expect("an event of the right form");
    assert_eq!(event_id_of(redacted.text(), &version).as_deref(), Ok(built.event_id()));
    read_everything(&built, &rules);
}

/// Reading and writing of canonical JSON.
pub fn canonical_json(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(object) = json::parse_object(text) else { return };
    assert!(json::fits_nesting(&object));
    let canonical = json::to_text(&object);
    let again = json::parse_object(&canonical).expect("canonical text");
    assert_eq!(again, object);
    assert_eq!(json::to_text(&again), canonical);
    // Every other reader of JSON understands the same.
    let value = json::plain_object(text).expect("JSON");
    assert_eq!(json::plain_object(&canonical).expect("JSON"), value);
    if !canonical.contains("$serde_json::") {
        assert_eq!(serde_json::from_str::<Value>(text).expect("JSON"), Value::Object(value));
    }
}

/// The authorization rules. The first byte chooses the room version; each line is an event, of which the last is judged by
/// the others, as its auth events and as a state. Whether both let it in.
pub fn auth_rules(data: &[u8]) -> bool {
    let Some((version, text)) = version_and_text(data) else { return false };
    let rules = format::rules(&version).expect("a supported version");
    let mut events: Vec<Arc<Event>> = Vec::new();
    for (number, line) in text.lines().take(12).enumerate() {
        let Ok(object) = json::parse_object(line) else { continue };
        let Ok(object) = json::plain_object(&json::to_text(&object)) else { continue };
        let mut value = Value::Object(object);
        complete(&mut value, number, &rules);
        cite(&mut value, number, &events, &rules);
        events.extend(Event::from_stored(value.to_string(), made_up_id(number), &rules).ok().map(Arc::new));
    }
    let Some((judged, others)) = events.split_last() else { return false };
    let known = |id: &EventId| {
        let event = others.iter().find(|event| event.event_id() == id)?;
        Some(KnownEvent { event: event.clone(), rejected: event.depth() % 7 == 1 })
    };
    let state: BTreeMap<StateKey, Arc<Event>> =
        others.iter().filter_map(|event| Some((event.state_map_key()?.clone(), event.clone()))).collect();
    let _ = auth_types_for(judged, &rules);
    let by_its_auth_events = check_state_independent(judged, &rules, known);
    let by_the_state = check_auth(judged, &rules, |key| state.get(key).cloned());
    read_everything(judged, &rules);

    let of = |kind: &str| state.get(&StateKey::new(kind, "")).cloned();
    let user = judged.sender();
    let member = state.get(&StateKey::new("m.room.member", user.as_str()));
    let visibility = of("m.room.history_visibility");
    let _ = Moment::new(judged, user, visibility.as_deref(), member.map(|event| &**event)).user_may_see(false);
    if let Some(create) = of("m.room.create")
        && let Ok(levels) = PowerLevels::new(&create, of("m.room.power_levels").as_ref(), &rules.authorization)
    {
        let _ = (
            levels.user(user),
            levels.to_send(judged.kind(), judged.state_key().is_some()),
            levels.notification("room"),
        );
        let _ = others.iter().filter(|target| may_redact(judged, target, &levels)).count();
    }
    by_its_auth_events.is_ok() && by_the_state.is_ok()
}

/// What became of the events that came to a room.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    pub accepted: usize,
    pub soft_failed: usize,
    pub rejected: usize,
    pub missing: usize,
    pub refused: usize,
    pub duplicates: usize,
    /// Events after which the room had several ends.
    pub forked: usize,
    /// Events after which these did not agree about the state.
    pub in_conflict: usize,
}

/// Events that come to a room. The first byte chooses the room version, then come events, a few bytes each: who, what, in
/// which place, after and authorized by which earlier ones.
pub fn handle_pdu(data: &[u8]) -> Tally {
    let mut bytes = data.iter().copied();
    let mut tally = Tally::default();
    let Some(version) = bytes.next().map(version) else { return tally };
    let rules = format::rules(&version).expect("a supported version");
    let mut copy = Copy::new(&version);
    for number in 0..24 {
        let Some((event, ready)) = next_event(&mut bytes, number, &copy, &rules) else { break };
        // What is not ready now (a parent that is not there) may be judged by itself, as behind a gap.
        match copy.room.handle_pdu(event.clone(), &copy).expect("memory does not fail") {
            Outcome::Verdict(verdict) => {
                match verdict.status() {
                    Status::Accepted => tally.accepted += 1,
                    Status::SoftFailed => tally.soft_failed += 1,
                    _ => tally.rejected += 1,
                }
                copy.take(&verdict);
                tally.forked += usize::from(copy.room.extremities().count() > 1);
                tally.in_conflict += usize::from(copy.is_in_conflict());
            }
            Outcome::Missing { prev, auth } => {
                assert!(!(prev.is_empty() && auth.is_empty()));
                tally.missing += 1;
            }
            Outcome::Refused { .. } => tally.refused += 1,
            Outcome::Duplicate => {
                assert!(copy.events.contains_key(event.event_id()));
                tally.duplicates += 1;
            }
        }
        if ready {
            let again = copy.room.handle_pdu(event, &copy).expect("memory does not fail");
            assert!(!matches!(again, Outcome::Verdict(_)), "an event is judged once");
        }
    }
    tally
}

const PEOPLE: [&str; 3] = ["@a:a.example", "@b:b.example", "@c:c.example"];

/// Kinds of events with contents that matter to the rules; contents that are no object make the event invalid.
const CONTENTS: [(&str, &str); 26] = [
    ("m.room.create", r#"{"creator":"@a:a.example"}"#),
    ("m.room.create", r#"{"creator":"@a:a.example","m.federate":false}"#),
    ("m.room.create", r#"{"creator":1,"additional_creators":["@b:b.example"],"m.federate":"no"}"#),
    ("m.room.member", r#"{"membership":"join"}"#),
    ("m.room.member", r#"{"membership":"leave"}"#),
    ("m.room.member", r#"{"membership":"ban"}"#),
    ("m.room.member", r#"{"membership":"invite"}"#),
    ("m.room.member", r#"{"membership":"knock"}"#),
    ("m.room.member", r#"{"membership":"join","join_authorised_via_users_server":"@a:a.example"}"#),
    ("m.room.member", r#"{"membership":"join","join_authorised_via_users_server":7}"#),
    (
        "m.room.member",
        r#"{"membership":"invite","third_party_invite":{"signed":{"mxid":"@b:b.example","token":"","signatures":{"s":{"ed25519:1":"AA"}}}}}"#,
    ),
    ("m.room.member", r#"{"membership":3}"#),
    ("m.room.power_levels", r#"{"users":{"@a:a.example":100,"@b:b.example":50}}"#),
    ("m.room.power_levels", r#"{"users":{"@b:b.example":100},"ban":100}"#),
    ("m.room.power_levels", r#"{"users":{"@a:a.example":"100"},"ban":"x","events":[]}"#),
    ("m.room.power_levels", r#"{"users_default":9007199254740991,"state_default":-9007199254740991}"#),
    ("m.room.power_levels", r#"{"users":null,"notifications":{"room":{}}}"#),
    ("m.room.join_rules", r#"{"join_rule":"public"}"#),
    ("m.room.join_rules", r#"{"join_rule":"knock_restricted"}"#),
    ("m.room.join_rules", r#"{}"#),
    ("m.room.third_party_invite", r#"{"public_key":"AA","public_keys":[{}]}"#),
    ("m.room.aliases", r#"{"aliases":[]}"#),
    ("m.room.redaction", r#"{"redacts":"$000000000000000000000000000000000000000000000"}"#),
    ("m.room.history_visibility", r#"{"history_visibility":1}"#),
    ("m.room.topic", r#"{"topic":"t"}"#),
    ("m.room.message", r#"{}"#),
];

/// A copy of a room, in memory.
struct Copy {
    room: Room,
    events: BTreeMap<OwnedEventId, (Arc<Event>, Status, EventNumber, StateMap)>,
}

impl Copy {
    fn new(version: &RoomVersionId) -> Self {
        let create = made_up_id(0);
        let id = match format::rules(version) {
            Some(rules) if rules.authorization.room_create_event_id_as_room_id => create.as_str().replacen('$', "!", 1),
            _ => "!room:a.example".to_owned(),
        };
        let room = Room::new(version, &RoomId::parse(id).expect("a room ID")).expect("a supported version");
        Self { room, events: BTreeMap::new() }
    }

    fn take(&mut self, verdict: &Verdict) {
        let event = verdict.event.clone();
        let number = self.events.len() as u64;
        self.events.insert(event.event_id().to_owned(), (event, verdict.status(), number, verdict.state_after.clone()));
        let before = self.room.current().clone();
        let ends: BTreeSet<OwnedEventId> = self.room.extremities().map(ToOwned::to_owned).collect();
        self.room.apply(verdict).expect("nothing came between");
        let heads: BTreeSet<OwnedEventId> = self.room.extremities().map(ToOwned::to_owned).collect();
        assert_eq!(heads, verdict.new_extremities);
        assert!(heads.iter().all(|id| self.events[id].1 == Status::Accepted));
        assert!(heads.is_empty() == self.events.values().all(|stored| stored.1 != Status::Accepted));
        // Soft-failed and rejected events change nothing.
        if verdict.status() != Status::Accepted {
            assert_eq!((&before, &ends), (self.room.current(), &heads));
        }
        // The rules ask of a create event no state key; under another than the empty one nobody can join.
        assert!(heads.is_empty() || self.room.current().keys().any(|key| key.kind() == "m.room.create"));
    }

    /// Whether the states after the room's ends differ about something that both have.
    fn is_in_conflict(&self) -> bool {
        let mut states = self.room.extremities().map(|id| &self.events[id].3);
        let Some(first) = states.next() else { return false };
        states.any(|state| state.iter().any(|(key, id)| first.get(key).is_some_and(|other| other != id)))
    }
}

impl Source for Copy {
    fn event(&self, id: &EventId) -> Result<Option<Arc<Event>>, SourceError> {
        Ok(self.events.get(id).map(|stored| stored.0.clone()))
    }

    fn status(&self, id: &EventId) -> Result<Option<Status>, SourceError> {
        Ok(self.events.get(id).map(|stored| stored.1))
    }

    fn number(&self, id: &EventId) -> Result<Option<EventNumber>, SourceError> {
        Ok(self.events.get(id).map(|stored| stored.2))
    }

    fn state_after(&self, id: &EventId) -> Result<Option<StateMap>, SourceError> {
        Ok(self.events.get(id).map(|stored| stored.3.clone()))
    }
}

/// The next event, and whether all that it names is there.
fn next_event(
    bytes: &mut impl Iterator<Item = u8>,
    number: usize,
    copy: &Copy,
    rules: &RoomVersionRules,
) -> Option<(Arc<Event>, bool)> {
    let [who, what, key, place, auth] = [bytes.next()?, bytes.next()?, bytes.next()?, bytes.next()?, bytes.next()?];
    // A room begins; a few bytes would seldom hit on how.
    let opening = [(0, 0), (0, 3), (0, 12), (0, 17), (1, 3), (2, 3)].get(number).filter(|_| who < 0x80);
    let (sender, (kind, content)) = match opening {
        Some((who, what)) => (PEOPLE[*who], CONTENTS[*what]),
        None => (PEOPLE[usize::from(who) % PEOPLE.len()], CONTENTS[usize::from(what) % CONTENTS.len()]),
    };
    let heads: Vec<OwnedEventId> = copy.room.extremities().map(ToOwned::to_owned).collect();
    // Mostly what came lately.
    let among = |choice: u8| made_up_id(number.saturating_sub(usize::from(choice & 0x0f)));
    let mut prev = match place {
        _ if opening.is_some() => heads.into_iter().take(20).collect(),
        0..0x80 => heads.into_iter().take(20).collect(),
        // One of those before, or two.
        0x80..0xc0 => vec![among(place)],
        0xc0..0xf0 => vec![among(place), among(key ^ place.rotate_left(3))],
        _ => Vec::new(),
    };
    if kind == "m.room.create" && place < 0xe0 {
        prev.clear();
    }
    let mut value = json!({
        "type": kind, "sender": sender, "prev_events": prev, "auth_events": [], "origin_server_ts": u64::from(place) % 4,
        "content": serde_json::from_str::<Value>(content).ok()?, "depth": number,
    });
    if kind != "m.room.message" || key >= 0xf0 {
        value["state_key"] = json!(match (kind, key) {
            ("m.room.member", 0..0x90) => sender,
            ("m.room.member", 0x90..0xf0) => PEOPLE[usize::from(key) % PEOPLE.len()],
            ("m.room.aliases", 0..0x80) => "a.example",
            (_, 0xf8..) => "@c:c.example",
            _ => "",
        });
    }
    if kind != "m.room.create" || !rules.authorization.room_create_event_id_as_room_id {
        value["room_id"] = json!(copy.room.room_id());
    }
    // What the rules ask for, of the present state or of that after the event it follows; else anything.
    let by = match auth {
        0..0x60 => Some(copy.room.current()),
        0x60..0xe0 => value["prev_events"][0]
            .as_str()
            .and_then(|id| Some(&copy.events.get(<&EventId>::try_from(id).ok()?)?.3))
            .or(Some(copy.room.current())),
        _ => None,
    };
    if let Some(state) = by {
        let draft = Event::from_stored(value.to_string(), made_up_id(number), rules).ok()?;
        let keys = auth_types_for(&draft, rules).unwrap_or_default();
        let cited: Vec<_> = keys.iter().filter_map(|key| state.get(key)).collect();
        value["auth_events"] = json!(cited);
    } else {
        value["auth_events"] = json!([among(auth), among(auth / 3), among(key)]);
    }
    let event = Event::from_stored(value.to_string(), made_up_id(number), rules).ok()?;
    let ready = event.prev_events().iter().cloned().chain(event.all_auth_events().map(|id| id.into_owned()));
    let ready = ready.into_iter().all(|id| copy.events.contains_key(&id));
    Some((Arc::new(event), ready))
}

/// Adds what every event has, where it is lacking.
fn complete(event: &mut Value, number: usize, rules: &RoomVersionRules) {
    let Some(event) = event.as_object_mut() else { return };
    let named_by_creation = rules.authorization.room_create_event_id_as_room_id;
    let room_id = match named_by_creation {
        true => json!(made_up_id(0).as_str().replacen('$', "!", 1)),
        false => json!("!room:a.example"),
    };
    if !named_by_creation || event.get("type") != Some(&json!("m.room.create")) {
        event.entry("room_id").or_insert(room_id);
    }
    for (name, value) in [
        ("sender", json!(PEOPLE[number % PEOPLE.len()])),
        ("type", json!("m.room.member")),
        ("content", json!({})),
        ("prev_events", if number == 0 { json!([]) } else { json!([made_up_id(number - 1)]) }),
        ("depth", json!(number)),
        ("origin_server_ts", json!(1)),
    ] {
        event.entry(name).or_insert(value);
    }
}

/// Unless it names auth events itself, has the event cite those among the earlier ones that the rules ask for.
fn cite(event: &mut Value, number: usize, earlier: &[Arc<Event>], rules: &RoomVersionRules) {
    if event.get("auth_events").is_some() {
        return;
    }
    event["auth_events"] = json!([]);
    let Ok(draft) = Event::from_stored(event.to_string(), made_up_id(number), rules) else { return };
    let keys = auth_types_for(&draft, rules).unwrap_or_default();
    let cited = |key: &StateKey| earlier.iter().rfind(|event| event.state_map_key() == Some(key));
    event["auth_events"] = keys.iter().filter_map(cited).map(|event| json!(event.event_id())).collect();
}

/// Everything that an event tells about itself.
fn read_everything(event: &Event, rules: &RoomVersionRules) {
    let _ = (event.room_id(), event.membership(), event.member(), event.redacts(), event.depth(), event.json());
    let _ =
        (event.all_auth_events().count(), event.content_object(), event.content_str("membership"), event.redacted());
    let _ = redact(event, rules);
}

fn version_and_text(data: &[u8]) -> Option<(RoomVersionId, &str)> {
    let (first, rest) = data.split_first()?;
    Some((version(*first), std::str::from_utf8(rest).ok()?))
}

fn version(byte: u8) -> RoomVersionId {
    let supported: Vec<RoomVersionId> = (1..=12)
        .filter_map(|number: u8| RoomVersionId::try_from(number.to_string().as_str()).ok())
        .filter(|version| format::rules(version).is_some())
        .collect();
    supported[usize::from(byte) % supported.len()].clone()
}

fn made_up_id(number: usize) -> OwnedEventId {
    EventId::parse(format!("${number:043}")).expect("an event ID")
}

fn server() -> (ruma::OwnedServerName, Ed25519KeyPair) {
    let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend([1; 32]);
    let key = Ed25519KeyPair::from_der(&der, "0".to_owned()).expect("a key");
    let name = kith_room::keys::key_label(&key.public_key());
    (ServerName::parse(name).expect("a server name"), key)
}
