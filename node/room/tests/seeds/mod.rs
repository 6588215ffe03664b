//! What the fuzz targets begin with: events of rooms of every version.

use std::sync::Arc;

use kith_room::{Event, build::build};
use serde_json::{Value, json};

use crate::{
    entry::{self, Tally},
    support::*,
};

/// Events as servers of every version send them: those of a room here, and those that Synapse made (`vectors`).
pub fn event_parsing() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (index, version) in VERSIONS.iter().enumerate() {
        let server = Server::new(1);
        let alice = server.user("alice");
        let levels = if index == 11 { json!({}) } else { json!({ "users": { alice.as_str(): 100 } }) };
        let mut room = Replica::create(&server, &alice, version, levels);
        let mut events: Vec<Arc<Event>> = room.store.events.values().map(|stored| stored.event.clone()).collect();
        let content = json!({ "msgtype": "m.text", "body": "é\n", "n": [1, -2, true, null, {}] });
        let said = kith_room::Builder::new(&alice, "m.room.message", object(content));
        let said = room.send(&server, said);
        events.push(said.clone());
        let redaction = kith_room::Builder::new(&alice, "m.room.redaction", object(json!({})))
            .redacts(said.event_id().to_owned())
            .room_id(room.room.room_id().to_owned());
        let prev = [said.event_id().to_owned()];
        events.push(Arc::new(build(redaction, version, &prev, &[], 9, ts(5), server.signer()).unwrap()));
        seeds.extend(events.iter().map(|event| with_version(index, event.text())));
        let odd = said.text().replace("[1,-2,", "[1.5,1e3,123456789012345678901234567890,");
        seeds.push(with_version(index, &odd));
    }
    let vectors: Value = serde_json::from_str(include_str!("../vectors/events.json")).unwrap();
    for vector in vectors["events"].as_array().unwrap() {
        let version: usize = vector["version"].as_str().and_then(|version| version.parse().ok()).unwrap();
        seeds.push(with_version(version - 1, &vector["event"].to_string()));
    }
    seeds
}

/// The same events, and texts with what JSON knows besides.
pub fn canonical_json() -> Vec<Vec<u8>> {
    let odd = [
        r#"{"a":[[],{},[{}]],"b":"\u0000\ud83d\ude00\\\"","":null}"#,
        r#"{"a":9007199254740991,"b":-9007199254740991,"c":0,"d":-0}"#,
        r#"{"$serde_json::private::RawValue":"{}"}"#,
        "{\"z\" : 1 ,\t\"a\"\n: [ true , false ] }",
    ];
    let events = event_parsing().into_iter().step_by(9).map(|seed| seed[1..].to_vec());
    events.chain(odd.iter().map(|text| text.as_bytes().to_vec())).collect()
}

/// A state, and somebody who wants to change it, for what the rules of each version tell apart.
pub fn auth_rules() -> Vec<Vec<u8>> {
    let member = |sender: &str, target: &str, content: Value| json!({ "type": "m.room.member", "sender": sender, "state_key": target, "content": content });
    let state = |sender: &str, kind: &str, key: &str, content: Value| json!({ "type": kind, "sender": sender, "state_key": key, "content": content });
    let (a, b, c) = ("@a:a.example", "@b:b.example", "@c:c.example");
    let is = |membership: &str| json!({ "membership": membership });
    let levels =
        json!({ "users": { b: 50 }, "invite": 0, "events": { "m.room.topic": 10 }, "notifications": { "room": 20 } });
    let with_creator = json!({ "users": { a: 100, b: 50 }, "invite": 0, "events": { "m.room.topic": 10 } });
    let judged = [
        json!({ "type": "m.room.message", "sender": b, "content": {} }),
        json!({ "type": "m.room.message", "sender": c, "content": {} }),
        state(b, "m.room.topic", "", json!({ "topic": "t" })),
        state(b, "m.room.power_levels", "", json!({ "users": { a: 100, b: 100 } })),
        state(a, "m.room.power_levels", "", json!({ "users": { b: 75 }, "ban": 60 })),
        state(b, "x", "@b:b.example", json!({})),
        state(b, "x", a, json!({})),
        state(b, "m.room.aliases", "b.example", json!({ "aliases": [] })),
        state(b, "m.room.third_party_invite", "token", json!({ "public_key": "AA" })),
        member(b, b, is("leave")),
        member(b, c, is("ban")),
        member(b, c, is("invite")),
        member(b, c, is("leave")),
        member(b, a, is("leave")),
        member(c, c, is("join")),
        member(c, c, is("knock")),
        member(c, c, json!({ "membership": "join", "join_authorised_via_users_server": b })),
        member(
            b,
            c,
            json!({ "membership": "invite", "third_party_invite": {
            "signed": { "mxid": c, "token": "token", "signatures": { "s": { "ed25519:1": "AA" } } } } }),
        ),
        json!({ "type": "m.room.redaction", "sender": b, "redacts": "$x:b.example", "content": {} }),
    ];
    let mut seeds = Vec::new();
    for version in 0..VERSIONS.len() {
        for (number, judged) in judged.iter().enumerate() {
            let rule =
                ["public", "invite", "knock", "restricted", "knock_restricted", "private"][(number + version) % 6];
            let create = match version {
                11 => state(a, "m.room.create", "", json!({ "room_version": "12", "additional_creators": [c] })),
                _ => state(a, "m.room.create", "", json!({ "creator": a, "room_version": (version + 1).to_string() })),
            };
            let levels = if version == 11 { &levels } else { &with_creator };
            let mut lines = vec![
                create,
                member(a, a, is("join")),
                state(a, "m.room.power_levels", "", levels.clone()),
                state(a, "m.room.join_rules", "", json!({ "join_rule": rule, "allow": [] })),
                member(a, b, is("join")),
            ];
            if number % 3 == 0 {
                lines.push(member(a, c, is(["invite", "join", "ban", "knock"][(number / 3 + version) % 4])));
            }
            lines.push(judged.clone());
            let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
            seeds.push(with_version(version, &lines.join("\n")));
        }
    }
    seeds
}

/// Plays of dice.
pub fn handle_pdu(count: usize) -> Vec<Vec<u8>> {
    let mut draw = 1_u64;
    let mut random = || {
        draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (draw >> 56) as u8
    };
    (0..count)
        .map(|number| {
            // The room begins; then anything.
            let opening = std::iter::repeat_n(0, 30);
            let version = std::iter::once((number % VERSIONS.len()) as u8);
            let rest: Vec<u8> = (0..18 * 5).map(|_| random()).collect();
            version.chain(opening).chain(rest).collect()
        })
        .collect()
}

/// What all of these come to.
pub fn tally(inputs: &[Vec<u8>]) -> Tally {
    let mut sum = Tally::default();
    for tally in inputs.iter().map(|input| entry::handle_pdu(input)) {
        sum.accepted += tally.accepted;
        sum.soft_failed += tally.soft_failed;
        sum.rejected += tally.rejected;
        sum.missing += tally.missing;
        sum.refused += tally.refused;
        sum.duplicates += tally.duplicates;
        sum.forked += tally.forked;
        sum.in_conflict += tally.in_conflict;
    }
    sum
}

fn with_version(index: usize, text: &str) -> Vec<u8> {
    [&[index as u8], text.as_bytes()].concat()
}
