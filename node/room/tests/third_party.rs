//! Third-party invites: each part of the rule by which one is used.
//!
//! <https://spec.matrix.org/v1.19/rooms/v12/#authorization-rules>, rule 5.4.1, and its siblings.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use kith_room::{Builder, Decision, receive::receive};
use ruma::{
    OwnedUserId, RoomVersionId,
    serde::base64::{Standard, UrlSafe},
    signatures::{PublicKeyMap, sign_json},
};
use serde_json::{Value, json};
use support::*;

/// The identity server's key, and one that the room does not know.
const IDENTITY: u8 = 7;
const OTHER: u8 = 8;

struct World {
    servers: [Server; 2],
    alice: OwnedUserId,
    bob: OwnedUserId,
    carol: OwnedUserId,
    room: Replica,
}

fn public_key(seed: u8) -> String {
    ruma::serde::Base64::<Standard, _>::new(key_pair(seed, "0").public_key().to_vec()).encode()
}

/// What an identity server signs for a user.
fn signed(mxid: &OwnedUserId, token: &str, seed: u8) -> Value {
    let mut object = object(json!({ "mxid": mxid, "token": token }));
    sign_json("id.example", &key_pair(seed, "1"), &mut object).unwrap();
    serde_json::to_value(object).unwrap()
}

impl World {
    /// Alice made the room by invite and sent a third-party invite with the token `t`; Bob (level 50) has joined, Carol has not.
    fn new(version: &RoomVersionId) -> Self {
        Self::with(version, json!({ "display_name": "c...", "public_key": public_key(IDENTITY) }))
    }

    fn with(version: &RoomVersionId, invite: Value) -> Self {
        let servers = [Server::new(1), Server::new(2)];
        let (alice, bob, carol) = (servers[0].user("alice"), servers[1].user("bob"), servers[1].user("carol"));
        let mut users = json!({ bob.as_str(): 50 });
        if *version != RoomVersionId::V12 {
            users[alice.as_str()] = json!(100);
        }
        let levels = json!({ "users": users, "invite": 50 });
        let mut room = Replica::create(&servers[0], &alice, version, levels);
        room.send(&servers[1], member(&bob, &bob, "join"));
        room.send(&servers[0], state(&alice, "m.room.join_rules", "", json!({ "join_rule": "invite" })));
        room.send(&servers[0], state(&alice, "m.room.third_party_invite", "t", invite));
        Self { servers, alice, bob, carol, room }
    }

    fn used(&self, sender: &OwnedUserId, third_party: Value) -> Builder {
        let content = json!({ "membership": "invite", "third_party_invite": third_party });
        state(sender, "m.room.member", self.carol.as_str(), content)
    }

    /// Carol's invite in Alice's name, with what was signed.
    fn with_signed(&self, signed: Value) -> Builder {
        self.used(&self.alice, json!({ "display_name": "c...", "signed": signed }))
    }

    fn genuine(&self) -> Builder {
        self.with_signed(signed(&self.carol, "t", IDENTITY))
    }

    fn no(&mut self, builder: Builder, why: &str) {
        let before = self.room.room.current().clone();
        let reason = self.room.refusal(&self.servers[0], builder);
        assert!(reason.contains(why), "expected {why:?}: {reason}");
        assert_eq!(&before, self.room.room.current());
    }
}

fn each_version(test: impl Fn(World)) {
    for version in [RoomVersionId::V1, RoomVersionId::V6, RoomVersionId::V11, RoomVersionId::V12] {
        test(World::new(&version));
    }
}

#[test]
fn who_shows_what_was_signed_is_invited_and_may_join() {
    each_version(|mut w| {
        let join = || member(&w.carol, &w.carol, "join");
        assert!(w.room.refusal(&w.servers[1], join()).contains("not `public`"));
        let genuine = w.genuine();
        let invite = w.room.send(&w.servers[0], genuine);
        let cited = w.room.current("m.room.third_party_invite", "t").unwrap();
        assert!(invite.auth_events().iter().any(|id| *id == *cited.event_id()), "it cites what allows it");
        w.room.send(&w.servers[1], join());
    });
}

#[test]
fn any_server_of_the_room_may_make_the_invite() {
    each_version(|mut w| {
        let genuine = w.genuine();
        let mut elsewhere = Replica::empty(w.room.room.version(), w.room.room.room_id());
        let mut events: Vec<_> = w.room.store.events.values().map(|stored| stored.event.clone()).collect();
        events.sort_by_key(|event| event.depth());
        for event in events {
            elsewhere.offer(&event);
        }
        // In Alice's name, and only Bob's server has signed it.
        let invite = w.room.send(&w.servers[1], genuine);
        let received = receive(invite.text(), w.room.room.version(), &PublicKeyMap::new()).unwrap();
        assert_eq!(received.sender(), w.alice);
        assert!(matches!(elsewhere.decide(&received.into()), Decision::Accepted));
    });
}

#[test]
fn a_third_party_invite_that_was_used_by_nobody_or_taken_back_invites_nobody() {
    each_version(|mut w| {
        let (unknown, genuine) = (w.with_signed(signed(&w.carol, "u", IDENTITY)), w.genuine());
        w.no(unknown, "token");
        w.room.send(&w.servers[0], state(&w.alice, "m.room.third_party_invite", "t", json!({})));
        w.no(genuine, "public key");
    });
}

#[test]
fn it_is_used_only_in_the_name_of_who_sent_it() {
    each_version(|mut w| {
        let signed = signed(&w.carol, "t", IDENTITY);
        let by_bob = w.used(&w.bob, json!({ "display_name": "c...", "signed": signed }));
        w.no(by_bob, "sender");
    });
}

#[test]
fn it_is_used_only_by_whom_it_was_signed_for() {
    each_version(|mut w| {
        let for_bob = w.with_signed(signed(&w.bob, "t", IDENTITY));
        w.no(for_bob, "mxid");
        // Nor by changing the name in what was signed.
        let mut stolen = signed(&w.bob, "t", IDENTITY);
        stolen["mxid"] = json!(w.carol);
        let stolen = w.with_signed(stolen);
        w.no(stolen, "signature");
    });
}

#[test]
fn who_is_banned_cannot_use_it() {
    each_version(|mut w| {
        w.room.send(&w.servers[0], member(&w.alice, &w.carol, "ban"));
        let genuine = w.genuine();
        w.no(genuine, "banned");
    });
}

#[test]
fn it_invites_though_its_sender_has_left_or_lost_the_power_to() {
    each_version(|mut w| {
        let (bob, carol) = (w.bob.clone(), w.carol.clone());
        let content = json!({ "display_name": "c...", "public_key": public_key(IDENTITY) });
        w.room.send(&w.servers[1], state(&bob, "m.room.third_party_invite", "of bob", content.clone()));
        w.room.send(&w.servers[0], member(&w.alice, &bob, "leave"));
        let invite = w.used(&bob, json!({ "display_name": "c...", "signed": signed(&carol, "of bob", IDENTITY) }));
        w.room.send(&w.servers[0], invite);
        // A new one is not made without that power.
        let another = state(&bob, "m.room.third_party_invite", "another", content);
        assert!(w.room.refusal(&w.servers[1], another).contains("not `join`"));
    });
}

#[test]
fn without_the_identity_servers_signature_it_is_of_no_use() {
    each_version(|mut w| {
        let good = signed(&w.carol, "t", IDENTITY);
        let with_signatures = |signatures: Value| {
            let mut signed = good.clone();
            signed["signatures"] = signatures;
            signed
        };
        let genuine = good["signatures"]["id.example"]["ed25519:1"].clone();
        for bad in [
            signed(&w.carol, "t", OTHER),
            with_signatures(json!({})),
            with_signatures(json!({ "id.example": { "ed25519:1": "?not base64?" } })),
            with_signatures(json!({ "id.example": { "ed25519:1": "AAAA" } })),
            with_signatures(json!({ "id.example": { "ed25519:1": 5 } })),
            with_signatures(json!({ "id.example": { "rsa:1": genuine } })),
        ] {
            let invite = w.with_signed(bad);
            w.no(invite, "signature");
        }
        // Which server and which key are said to have signed does not count, nor do bad signatures beside a good one.
        let beside = json!({
            "a.example": { "ed25519:bad": "?", "ed25519:other": "AAAA" },
            "elsewhere.example": { "ed25519:any": genuine },
        });
        let invite = w.with_signed(with_signatures(beside));
        w.room.send(&w.servers[0], invite);
    });
}

#[test]
fn any_of_the_keys_of_the_third_party_invite_may_have_signed() {
    let key = |seed| json!({ "public_key": public_key(seed), "key_validity_url": "https://id.example/valid" });
    let url_safe = {
        let bytes = key_pair(IDENTITY, "0").public_key().to_vec();
        ruma::serde::Base64::<UrlSafe, _>::new(bytes).encode()
    };
    let good = [
        json!({ "display_name": "c...", "public_keys": [key(IDENTITY)] }),
        json!({ "display_name": "c...", "public_key": public_key(OTHER), "public_keys": [key(9), key(IDENTITY)] }),
        json!({ "display_name": "c...", "public_key": public_key(IDENTITY), "public_keys": [key(OTHER)] }),
        json!({ "display_name": "c...", "public_key": "?not base64?", "public_keys": [key(IDENTITY)] }),
        json!({ "display_name": "c...", "public_key": url_safe }),
    ];
    let bad = [
        json!({ "display_name": "c..." }),
        json!({ "display_name": "c...", "public_keys": [] }),
        json!({ "display_name": "c...", "public_key": public_key(OTHER), "public_keys": [key(9)] }),
        json!({ "display_name": "c...", "public_key": "?not base64?" }),
        json!({ "display_name": "c...", "public_key": "AAAA" }),
    ];
    for version in [RoomVersionId::V1, RoomVersionId::V6, RoomVersionId::V11, RoomVersionId::V12] {
        for invite in &good {
            let mut w = World::with(&version, invite.clone());
            let genuine = w.genuine();
            w.room.send(&w.servers[0], genuine);
        }
        for invite in &bad {
            let mut w = World::with(&version, invite.clone());
            let genuine = w.genuine();
            w.no(genuine, "public key");
        }
    }
}

#[test]
fn what_is_no_proof_does_not_count_as_an_ordinary_invite() {
    each_version(|mut w| {
        let carol = json!(w.carol);
        for malformed in [
            Value::Null,
            json!("t"),
            json!([]),
            json!({}),
            json!({ "signed": null }),
            json!({ "signed": "t" }),
            json!({ "signed": {} }),
            json!({ "signed": { "token": "t", "signatures": {} } }),
            json!({ "signed": { "mxid": carol, "signatures": {} } }),
            json!({ "signed": { "mxid": carol, "token": "t" } }),
            json!({ "signed": { "mxid": 5, "token": "t", "signatures": {} } }),
            json!({ "signed": { "mxid": carol, "token": 5, "signatures": {} } }),
            json!({ "signed": { "mxid": carol, "token": "t", "signatures": [] } }),
        ] {
            // Alice may invite.
            let invite = w.used(&w.alice, malformed.clone());
            assert!(w.room.try_send(&w.servers[0], invite).is_err(), "allowed: {malformed}");
        }
        w.room.send(&w.servers[0], member(&w.alice, &w.carol, "invite"));
    });
}
