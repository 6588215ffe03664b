//! Third-party invites of generated rooms, and what an identity server signs for those who use them.

use std::sync::LazyLock;

use ruma::{
    serde::{Base64, base64::Standard},
    signatures::{Ed25519KeyPair, sign_json},
};
use serde_json::{Value, json};

use crate::support::key_pair;

pub const KIND: &str = "m.room.third_party_invite";

/// The identity server's key, and another one's.
static KEYS: LazyLock<[Ed25519KeyPair; 2]> = LazyLock::new(|| [70, 71].map(|seed| key_pair(seed, "1")));

fn public(key: usize) -> String {
    Base64::<Standard, _>::new(KEYS[key].public_key().to_vec()).encode()
}

/// The content of a third-party invite.
pub fn invite(keys: u8) -> Value {
    let [ours, other] = [0, 1].map(|key| json!({ "public_key": public(key) }));
    match keys {
        0 | 1 => json!({ "display_name": "x", "public_key": public(0) }),
        2 => json!({ "display_name": "x", "public_key": public(1), "public_keys": [other, ours] }),
        3 => json!({ "display_name": "x", "public_key": public(1), "public_keys": [other] }),
        // Taken back.
        _ => json!({}),
    }
}

/// The property by which a third-party invite is used; from some number on there is no flaw.
pub fn used(target: &str, sender: &str, token: &str, flaw: u8) -> Value {
    let mxid = if flaw == 0 { sender } else { target };
    let token = if flaw == 1 { "none" } else { token };
    let mut object = serde_json::from_value(json!({ "mxid": mxid, "sender": sender, "token": token })).unwrap();
    sign_json("id.example", &KEYS[usize::from(flaw == 2)], &mut object).unwrap();
    let mut signed = serde_json::to_value(object).unwrap();
    match flaw {
        3 => return Value::Null,
        4 => return json!({ "display_name": "x" }),
        5 => drop(signed.as_object_mut().unwrap().remove("mxid")),
        6 => drop(signed.as_object_mut().unwrap().remove("token")),
        7 => signed["sender"] = json!("@nobody:id.example"),
        _ => {}
    }
    json!({ "display_name": "x", "signed": signed })
}
