//! Invites by something else than a user ID.

use ruma::{
    serde::{Base64, base64::Standard},
    signatures::{Ed25519KeyPair, sign_json},
};
use serde_json::{Value, json};

use super::world::{Person, World, eventually};

/// The key of an identity server.
fn identity() -> Ed25519KeyPair {
    let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend([70; 32]);
    Ed25519KeyPair::from_der(&der, "1".to_owned()).expect("a key")
}

/// Puts a third-party invite into a room.
async fn invite_by_address(sender: &Person<'_>, room: &str, token: &str) {
    let key = Base64::<Standard, _>::new(identity().public_key().to_vec()).encode();
    let content = json!({ "display_name": "b...", "public_key": key, "key_validity_url": "https://id.example/valid" });
    sender.put(&format!("/rooms/{room}/state/m.room.third_party_invite/{token}"), content).await.ok();
}

/// What the identity server gives to who has proven to own the address.
fn signed(sender: &Person<'_>, invited: &Person<'_>, token: &str) -> Value {
    let shown = json!({ "sender": sender.id(), "mxid": invited.id(), "token": token });
    let mut object = serde_json::from_value(shown).expect("canonical");
    sign_json("id.example", &identity(), &mut object).expect("signed");
    serde_json::to_value(object).expect("JSON")
}

#[tokio::test]
async fn invites_by_address_are_refused_for_want_of_a_trusted_identity_server_and_change_nothing() {
    let world = World::new().await;
    let alice = world.person("alice").await;
    let room = alice.create(json!({})).await;
    let good =
        json!({ "id_server": "id.example", "id_access_token": "x", "medium": "email", "address": "bob@example.org" });
    let now = async || {
        let ids: Vec<Value> = alice.history(&room).await.iter().map(|event| event["event_id"].clone()).collect();
        (ids, alice.get("/joined_rooms").await.ok())
    };
    let before = now().await;
    let path = format!("/rooms/{room}/invite");
    alice.post(&path, good.clone()).await.refused(400, "M_SERVER_NOT_TRUSTED");
    alice.post("/createRoom", json!({ "invite_3pid": [good] })).await.refused(400, "M_SERVER_NOT_TRUSTED");
    let without = |field: &str| {
        let mut body = good.clone();
        body.as_object_mut().expect("an object").remove(field);
        body
    };
    let mut malformed: Vec<Value> =
        ["id_server", "id_access_token", "medium", "address"].into_iter().map(without).collect();
    malformed.extend([json!({}), json!([]), json!({ "medium": 5 })]);
    for body in malformed {
        alice.post(&path, body.clone()).await.refused(400, "M_BAD_JSON");
        alice.post("/createRoom", json!({ "invite_3pid": [body] })).await.refused(400, "M_BAD_JSON");
    }
    assert_eq!(now().await, before);
}

#[tokio::test]
async fn who_shows_what_an_identity_server_signed_joins_a_room_by_invite() {
    let world = World::new().await;
    let (alice, bob, eve) = (world.person("alice").await, world.person("bob").await, world.person("eve").await);
    let room = alice.create(json!({})).await;
    invite_by_address(&alice, &room, "t").await;
    let join = format!("/rooms/{room}/join");
    let show = |signed: Value| json!({ "third_party_signed": signed });
    let before = alice.history(&room).await.len();
    // What was signed for somebody else, with another token, in another's name, and what nobody signed.
    eve.post(&join, show(signed(&alice, &bob, "t"))).await.refused(403, "M_FORBIDDEN");
    bob.post(&join, show(signed(&alice, &bob, "u"))).await.refused(403, "M_FORBIDDEN");
    bob.post(&join, show(signed(&eve, &bob, "t"))).await.refused(403, "M_FORBIDDEN");
    let mut stolen = signed(&alice, &bob, "t");
    stolen["mxid"] = json!(eve.id());
    eve.post(&join, show(stolen)).await.refused(403, "M_FORBIDDEN");
    for malformed in [json!(5), json!({}), json!({ "sender": alice.id(), "mxid": bob.id(), "token": "t" })] {
        bob.post(&join, show(malformed)).await.refused(400, "M_BAD_JSON");
    }
    bob.post(&join, json!({})).await.refused(403, "M_FORBIDDEN");
    assert_eq!(alice.history(&room).await.len(), before);

    bob.post(&join, show(signed(&alice, &bob, "t"))).await.ok();
    let last = alice.history(&room).await.split_off(before);
    let told: Vec<_> = last.iter().map(|event| (&event["sender"], &event["content"]["membership"])).collect();
    assert_eq!(told, [(&json!(alice.id()), &json!("invite")), (&json!(bob.id()), &json!("join"))]);
    let used = &last[0]["content"]["third_party_invite"];
    assert_eq!((&used["display_name"], &used["signed"]["token"]), (&json!("b..."), &json!("t")));
    // Once in, it is of no use, and does no harm.
    bob.post(&join, show(signed(&alice, &bob, "t"))).await.ok();
    alice.post(&format!("/rooms/{room}/ban"), json!({ "user_id": bob.id() })).await.ok();
    bob.post(&join, show(signed(&alice, &bob, "t"))).await.refused(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn who_shows_what_an_identity_server_signed_joins_a_room_of_another_node() {
    let (here, there) = World::two().await;
    let (alice, bob) = (here.person("alice").await, there.person("bob").await);
    let room = alice.create(json!({})).await;
    invite_by_address(&alice, &room, "t").await;
    // The inviter's server is known from what is shown.
    let join = format!("/join/{room}");
    bob.post(&join, json!({ "third_party_signed": signed(&alice, &bob, "u") })).await.refused(403, "M_FORBIDDEN");
    bob.post(&join, json!({ "third_party_signed": signed(&alice, &bob, "t"), "reason": "asked" })).await.ok();
    bob.say(&room, "here I am").await;
    let member = format!("/rooms/{room}/state/m.room.member/{}", bob.id());
    eventually("the join is seen", async || alice.get(&member).await.ok()["reason"] == "asked").await;
}
