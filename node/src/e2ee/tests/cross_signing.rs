//! Cross-signing keys and signatures.

use serde_json::{Value, json};

use super::{Pair, QUERY, device_keys, encrypted_room, join, next, sync, with_keys};
use crate::testing::{Client, TestNode};

pub(super) const SIGNING: &str = "/_matrix/client/v3/keys/device_signing/upload";
pub(super) const SIGNATURES: &str = "/_matrix/client/v3/keys/signatures/upload";

pub(super) struct User {
    pub(super) master: Pair,
    pub(super) self_signing: Pair,
    pub(super) user_signing: Pair,
}

impl User {
    pub(super) fn new(seed: u8) -> Self {
        Self { master: Pair::new(seed), self_signing: Pair::new(seed + 1), user_signing: Pair::new(seed + 2) }
    }

    fn key(pair: &Pair, client: &Client, usage: &str) -> Value {
        let public = pair.public();
        json!({ "user_id": client.user, "usage": [usage], "keys": { format!("ed25519:{public}"): public } })
    }

    pub(super) fn master_key(&self, client: &Client) -> Value {
        Self::key(&self.master, client, "master")
    }

    pub(super) fn upload(&self, client: &Client) -> Value {
        let by_master = |key: Value| self.master.sign(key, &client.user, &self.master.public());
        json!({
            "master_key": self.master_key(client),
            "self_signing_key": by_master(Self::key(&self.self_signing, client, "self_signing")),
            "user_signing_key": by_master(Self::key(&self.user_signing, client, "user_signing")),
        })
    }
}

async fn query(by: &Client, of: &Client) -> Value {
    by.post(QUERY, json!({ "device_keys": { &of.user: [] } })).await.ok()
}

#[tokio::test]
async fn the_first_keys_need_no_password_the_same_again_neither_and_others_do() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let user = User::new(10);
    alice.post(SIGNING, user.upload(&alice)).await.ok();
    alice.post(SIGNING, user.upload(&alice)).await.ok();
    let other = User::new(20).upload(&alice);
    let asked = alice.post(SIGNING, other.clone()).await;
    assert_eq!(asked.status.as_u16(), 401);
    let mut proven = other;
    proven["auth"] = json!({
        "type": "m.login.password", "password": "secret alice", "session": asked.body["session"],
        "identifier": { "type": "m.id.user", "user": "alice" },
    });
    alice.post(SIGNING, proven).await.ok();
    let keys = query(&alice, &alice).await;
    assert_eq!(keys["master_keys"][&alice.user], User::new(20).master_key(&alice));
}

#[tokio::test]
async fn keys_that_the_master_key_did_not_sign_are_refused() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let user = User::new(10);
    let mut upload = user.upload(&alice);
    upload["self_signing_key"] = User::new(30).upload(&alice)["self_signing_key"].clone();
    alice.post(SIGNING, upload.clone()).await.fails(400, "M_INVALID_SIGNATURE");
    upload["master_key"]["usage"] = json!(["self_signing"]);
    alice.post(SIGNING, upload.clone()).await.fails(400, "M_INVALID_PARAM");
    upload["master_key"] = Value::Null;
    alice.post(SIGNING, upload).await.fails(400, "M_MISSING_PARAM");
    assert_eq!(query(&alice, &alice).await["master_keys"], Value::Null);
}

#[tokio::test]
async fn signatures_on_own_keys_are_seen_by_all_and_those_on_others_by_the_signer_alone() {
    let node = TestNode::start().await;
    let (alice, bob, carol) = (node.register("alice").await, node.register("bob").await, node.register("carol").await);
    let room = encrypted_room(&alice).await;
    join(&bob, &room).await;
    let device = with_keys(&alice, 1).await;
    let (alices, bobs) = (User::new(10), User::new(20));
    alice.post(SIGNING, alices.upload(&alice)).await.ok();
    bob.post(SIGNING, bobs.upload(&bob)).await.ok();
    let before = sync(&bob, None).await;

    // The device by the self-signing key, the master key by the device.
    let signed_device =
        alices.self_signing.sign(device_keys(&alice, &device), &alice.user, &alices.self_signing.public());
    let signed_master = device.sign(alices.master_key(&alice), &alice.user, &alice.device);
    let body = json!({ &alice.user: { &alice.device: signed_device, alices.master.public(): signed_master } });
    assert_eq!(alice.post(SIGNATURES, body).await.ok(), json!({ "failures": {} }));
    let seen = query(&bob, &alice).await;
    assert_eq!(seen["device_keys"][&alice.user][&alice.device]["signatures"], signed_device["signatures"]);
    assert_eq!(seen["master_keys"][&alice.user]["signatures"], signed_master["signatures"]);
    assert_eq!(seen["user_signing_keys"], Value::Null, "the user-signing key is for its owner alone");
    assert_eq!(
        query(&alice, &alice).await["user_signing_keys"][&alice.user],
        alices.upload(&alice)["user_signing_key"]
    );
    let told = sync(&bob, Some(next(&before))).await;
    assert_eq!(told["device_lists"]["changed"], json!([alice.user]));

    // Bob's by Alice.
    let by_alice = alices.user_signing.sign(bobs.master_key(&bob), &alice.user, &alices.user_signing.public());
    let own = sync(&alice, None).await;
    let body = json!({ &bob.user: { bobs.master.public(): by_alice } });
    assert_eq!(alice.post(SIGNATURES, body).await.ok(), json!({ "failures": {} }));
    assert_eq!(query(&alice, &bob).await["master_keys"][&bob.user]["signatures"], by_alice["signatures"]);
    assert_eq!(query(&carol, &bob).await["master_keys"][&bob.user]["signatures"], Value::Null);
    assert_eq!(query(&bob, &bob).await["master_keys"][&bob.user]["signatures"], Value::Null);
    assert_eq!(sync(&alice, Some(next(&own))).await["device_lists"]["changed"], json!([bob.user]));
}

#[tokio::test]
async fn a_wrong_signature_is_told_by_its_key_and_the_others_are_taken() {
    let node = TestNode::start().await;
    let alice = node.register("alice").await;
    let device = with_keys(&alice, 1).await;
    let user = User::new(10);
    alice.post(SIGNING, user.upload(&alice)).await.ok();
    let good = device.sign(user.master_key(&alice), &alice.user, &alice.device);
    let wrong = user.master.sign(device_keys(&alice, &device), &alice.user, &user.self_signing.public());
    let body = json!({ &alice.user: {
        user.master.public(): good, &alice.device: wrong, "NOBODY": device_keys(&alice, &device),
    } });
    let failures = alice.post(SIGNATURES, body).await.ok()["failures"][&alice.user].clone();
    assert_eq!(failures[&alice.device]["errcode"], "M_INVALID_SIGNATURE");
    assert_eq!(failures["NOBODY"]["errcode"], "M_NOT_FOUND");
    assert_eq!(failures.as_object().expect("failures").len(), 2);
    assert_eq!(query(&alice, &alice).await["master_keys"][&alice.user], good);
}
