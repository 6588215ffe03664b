//! End-to-end encryption through the routers of whole nodes.

mod backup;
mod cross_signing;
mod dehydrated;
mod device_lists;
mod federation;
mod keys;
mod to_device;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};

use super::{Object, signed};
use crate::testing::Client;

/// A key that signs JSON objects as a device or user does.
pub(crate) struct Pair(SigningKey);

impl Pair {
    pub(crate) fn new(seed: u8) -> Self {
        Self(SigningKey::from_bytes(&[seed; 32]))
    }

    pub(super) fn public(&self) -> String {
        STANDARD_NO_PAD.encode(self.0.verifying_key().as_bytes())
    }

    /// The object, signed.
    pub(super) fn sign(&self, object: Value, user: &str, key: &str) -> Value {
        let mut object: Object = object.as_object().expect("an object").clone();
        let canonical = ruma::canonical_json::try_from_json_map(object.clone()).expect("canonical JSON");
        let text = ruma::signatures::to_canonical_json_string_for_signing(&canonical).expect("canonical JSON");
        let signature = STANDARD_NO_PAD.encode(self.0.sign(text.as_bytes()).to_bytes());
        signed::add(&mut object, user, &format!("ed25519:{key}"), &signature);
        Value::Object(object)
    }
}

/// Signed identity keys of a client's device.
pub(crate) fn device_keys(client: &Client, pair: &Pair) -> Value {
    let (user, device) = (&client.user, &client.device);
    let keys = json!({
        "user_id": user,
        "device_id": device,
        "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
        "keys": {
            format!("curve25519:{device}"): "3C5BFWi2Y8MaVvjM8M22DBmh24PmgR0nPvJOIArzgyI",
            format!("ed25519:{device}"): pair.public(),
        },
        "org.example.unknown": { "kept": true },
    });
    pair.sign(keys, user, device)
}

/// One-time keys `<prefix>0`, `<prefix>1`, ... as `keys/upload` takes them.
pub(crate) fn one_time_keys(client: &Client, pair: &Pair, prefix: &str, count: usize) -> Value {
    (0..count)
        .map(|number| {
            let key = json!({ "key": format!("{prefix}{number}") });
            let key = pair.sign(key, &client.user, &client.device);
            (format!("signed_curve25519:{prefix}{number}"), key)
        })
        .collect::<Object>()
        .into()
}

/// Uploads identity keys.
pub(crate) async fn with_keys(client: &Client, seed: u8) -> Pair {
    let pair = Pair::new(seed);
    client.post(UPLOAD, json!({ "device_keys": device_keys(client, &pair) })).await.ok();
    pair
}

pub(crate) const UPLOAD: &str = "/_matrix/client/v3/keys/upload";
pub(super) const QUERY: &str = "/_matrix/client/v3/keys/query";
pub(crate) const CLAIM: &str = "/_matrix/client/v3/keys/claim";

/// An answer of sync without waiting.
pub(super) async fn sync(client: &Client, since: Option<&str>) -> Value {
    let since = since.map(|since| format!("&since={since}")).unwrap_or_default();
    client.get(&format!("/_matrix/client/v3/sync?timeout=0{since}")).await.ok()
}

/// The token of an answer of sync.
pub(super) fn next(sync: &Value) -> &str {
    sync["next_batch"].as_str().expect("a token")
}

/// Makes an encrypted room that anybody may join.
pub(crate) async fn encrypted_room(client: &Client) -> String {
    let body = json!({ "preset": "public_chat", "initial_state": [encryption()] });
    let room = client.post("/_matrix/client/v3/createRoom", body).await.ok();
    room["room_id"].as_str().expect("a room ID").to_owned()
}

fn encryption() -> Value {
    json!({ "type": "m.room.encryption", "state_key": "", "content": { "algorithm": "m.megolm.v1.aes-sha2" } })
}

pub(super) async fn join(client: &Client, room: &str) {
    client.post(&format!("/_matrix/client/v3/join/{}", escape(room)), json!({})).await.ok();
}

pub(crate) async fn leave(client: &Client, room: &str) {
    client.post(&format!("/_matrix/client/v3/rooms/{}/leave", escape(room)), json!({})).await.ok();
}

/// An ID as it stands in a path.
pub(super) fn escape(id: &str) -> String {
    id.replace('!', "%21").replace('#', "%23").replace('$', "%24").replace(':', "%3A").replace('@', "%40")
}
