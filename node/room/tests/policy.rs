//! Policy servers: what they did not sign is soft-failed.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use kith_room::{CreateError, Decision, Document, Event, Signer, policy::with_signature, receive::receive};
use ruma::{
    OwnedUserId, RoomVersionId,
    serde::{Base64, base64::Standard},
};
use serde_json::json;
use support::*;

struct World {
    a: Server,
    policy: Server,
    alice: OwnedUserId,
    /// Of the policy server.
    guard: OwnedUserId,
    room: Replica,
}

fn world(version: &RoomVersionId) -> World {
    let (a, policy) = (Server::new(1), Server::new(2));
    let (alice, guard) = (a.user("alice"), policy.user("guard"));
    let levels = if *version == RoomVersionId::V12 { json!({}) } else { json!({ "users": { alice.as_str(): 100 } }) };
    let mut room = Replica::create(&a, &alice, version, levels);
    room.send(&policy, member(&guard, &guard, "join"));
    World { a, policy, alice, guard, room }
}

impl World {
    fn name_policy_server(&mut self) {
        let key = Base64::<Standard, _>::new(key_pair(9, "policy_server").public_key().to_vec());
        let content = json!({ "via": self.policy.name, "public_keys": { "ed25519": key } });
        self.room.send(&self.a, state(&self.alice, "m.room.policy", "", content));
    }

    /// A message of Alice's at the room's end, as it comes from elsewhere.
    fn said(&self, at: u64) -> Event {
        let head: Vec<_> = self.room.room.extremities().map(ToOwned::to_owned).collect();
        let mut auth = vec![("m.room.power_levels", ""), ("m.room.member", self.alice.as_str())];
        if *self.room.room.version() != RoomVersionId::V12 {
            auth.push(("m.room.create", ""));
        }
        let auth: Vec<_> =
            auth.into_iter().map(|(kind, key)| self.room.room.current_id(kind, key).unwrap().to_owned()).collect();
        let event = self.room.forge(&self.a, message(&self.alice, "hi"), &head, &auth, at);
        Arc::into_inner(event).unwrap()
    }

    fn signed_with(&self, event: &Event, seed: u8, key_name: &str) -> Arc<Event> {
        let rules = self.room.room.rules();
        let mut document = Document::read(event.text(), rules).unwrap();
        let signer = Signer { server_name: &self.policy.name, key: &key_pair(seed, key_name) };
        document.sign(rules, signer).unwrap();
        Arc::new(receive(&document.to_text(), self.room.room.version(), &Default::default()).unwrap())
    }
}

#[test]
fn what_the_policy_server_did_not_sign_is_soft_failed() {
    for version in &VERSIONS {
        let mut w = world(version);
        let plain = Arc::new(w.said(5_000));
        assert_eq!(w.room.decide(&plain), Decision::Accepted, "no policy server is named");
        w.name_policy_server();
        let unsigned = Arc::new(w.said(5_001));
        assert!(
            matches!(w.room.decide(&unsigned), Decision::SoftFailed { reason } if reason.contains("policy server"))
        );
        let signed = w.signed_with(&w.said(5_002), 9, "policy_server");
        assert_eq!(w.room.decide(&signed), Decision::Accepted, "{version}");
        let falsely = w.signed_with(&w.said(5_003), 8, "policy_server");
        assert!(matches!(w.room.decide(&falsely), Decision::SoftFailed { .. }));
        let with_another_key = w.signed_with(&w.said(5_004), 9, "other");
        assert!(matches!(w.room.decide(&with_another_key), Decision::SoftFailed { .. }));

        // An event of ours is made, and goes nowhere before it is signed.
        let Err(CreateError::Unsigned { event, server }) = w.room.try_send(&w.a, message(&w.alice, "mine")) else {
            panic!("nobody has signed it");
        };
        assert_eq!(server, w.policy.name);
        let before: Vec<_> = w.room.room.extremities().map(ToOwned::to_owned).collect();
        let signature = {
            let signed = w.signed_with(&event, 9, "policy_server");
            let signature = &signed.json()["signatures"].as_object().unwrap()[server.as_str()];
            signature.as_object().unwrap()["ed25519:policy_server"].as_str().unwrap().to_owned()
        };
        let own = with_signature(&event, w.room.room.rules(), &server, &signature).unwrap();
        assert_eq!(own.event_id(), event.event_id());
        assert_eq!(w.room.room.lacks_signature_of(&event, &w.room.store).unwrap(), Some(server));
        assert_eq!(w.room.room.lacks_signature_of(&own, &w.room.store).unwrap(), None);
        assert_eq!(w.room.room.extremities().map(ToOwned::to_owned).collect::<Vec<_>>(), before);
        assert_eq!(w.room.decide(&Arc::new(own)), Decision::Accepted);
        // A join is offered to be signed by those who can.
        let dave = w.a.user("dave");
        w.room.room.template(member(&dave, &dave, "join"), ts(6_000), 0, &w.room.store).unwrap();
        // The policy itself can be changed without it.
        w.room.send(&w.a, state(&w.alice, "m.room.policy", "", json!({})));
        w.room.send(&w.a, message(&w.alice, "free"));
    }
}

#[test]
fn a_policy_server_that_is_not_in_the_room_has_no_say() {
    for version in &VERSIONS {
        let mut w = world(version);
        w.room.send(&w.policy, member(&w.guard, &w.guard, "leave"));
        w.name_policy_server();
        w.room.send(&w.a, message(&w.alice, "hi"));
    }
}
