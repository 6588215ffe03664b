//! Signatures of JSON objects (specification, appendix "Signing JSON").

use ruma::{canonical_json::try_from_json_map, serde::Base64, signatures::to_canonical_json_string_for_signing};
use serde_json::Value;

use super::Object;

/// The signature that `signer` made with the key `key_id`, if the object carries one.
pub fn signature<'a>(object: &'a Object, signer: &str, key_id: &str) -> Option<&'a str> {
    object.get("signatures")?.get(signer)?.get(key_id)?.as_str()
}

/// Whether `signature` is one of the object by the ed25519 key `public_key` (unpadded base64).
pub fn verify(object: &Object, public_key: &str, signature: &str) -> bool {
    let Ok(object) = try_from_json_map(object.clone()) else { return false };
    let Ok(text) = to_canonical_json_string_for_signing(&object) else { return false };
    let (Ok(key), Ok(signature)) = (Base64::parse(public_key), Base64::parse(signature)) else { return false };
    let (key, signature): (Base64, Base64) = (key, signature);
    kith_room::signature::verifies(key.as_bytes(), signature.as_bytes(), text.as_bytes())
}

/// Whether the object carries a good signature by `signer` with the ed25519 key `key_id`.
pub fn is_signed_by(object: &Object, signer: &str, key_id: &str, public_key: &str) -> bool {
    signature(object, signer, key_id).is_some_and(|signature| verify(object, public_key, signature))
}

/// Adds a signature.
pub fn add(object: &mut Object, signer: &str, key_id: &str, signature: &str) {
    let entry = |object: &mut Object, field: &str| {
        let value = object.entry(field.to_owned()).or_insert_with(|| Object::new().into());
        if !value.is_object() {
            *value = Object::new().into();
        }
    };
    entry(object, "signatures");
    if let Some(Value::Object(signatures)) = object.get_mut("signatures") {
        entry(signatures, signer);
        if let Some(Value::Object(of_signer)) = signatures.get_mut(signer) {
            of_signer.insert(key_id.to_owned(), signature.into());
        }
    }
}

/// Leaves only signatures of these users.
pub fn keep_signers(object: &mut Object, signers: &[&str]) {
    if let Some(Value::Object(signatures)) = object.get_mut("signatures") {
        signatures.retain(|signer, _| signers.contains(&signer.as_str()));
    }
}

/// Whether two objects are the same but for their signatures and `unsigned`.
pub fn same_but_for_signatures(one: &Object, other: &Object) -> bool {
    let rest = |object: &Object| {
        let mut object = object.clone();
        object.remove("signatures");
        object.remove("unsigned");
        object
    };
    rest(one) == rest(other)
}
