//! Identity keys of devices: checked and stored (client-server specification, "Uploading keys").

use kith_store::{
    Json, Read, StoreError, Tx,
    tables::{
        accounts::DEVICES,
        e2ee::{DEVICE_KEYS, SIGNATURES},
    },
};
use ruma::{DeviceId, UserId};
use serde_json::Value;

use super::{MAX_KEY_BYTES, Object, delete_prefix, lists, one_time_keys, signed};
use crate::http::{Answer, MatrixError};

/// Checks identity keys that a device uploads: they name their user and device, hold its ed25519 key, and are signed with it.
/// Signatures of others and `unsigned` are dropped.
///
/// # Errors
/// `M_INVALID_PARAM`, `M_INVALID_SIGNATURE` or `M_TOO_LARGE`.
pub fn check(mut keys: Object, user: &UserId, device: &DeviceId) -> Answer<Object> {
    keys.remove("unsigned");
    signed::keep_signers(&mut keys, &[user.as_str()]);
    shape(&keys, user.as_str(), device.as_str()).map_err(MatrixError::invalid_param)?;
    if Value::Object(keys.clone()).to_string().len() > MAX_KEY_BYTES {
        return Err(MatrixError::too_large(format!("the keys of a device have at most {MAX_KEY_BYTES} bytes")));
    }
    let key_id = format!("ed25519:{device}");
    let Some(public_key) = keys.get("keys").and_then(|keys| keys.get(&key_id)).and_then(Value::as_str) else {
        return Err(MatrixError::invalid_param(format!("`device_keys.keys` lacks the device's own key {key_id}")));
    };
    if !signed::is_signed_by(&keys, user.as_str(), &key_id, public_key) {
        return Err(MatrixError::new(
            http::StatusCode::BAD_REQUEST,
            "M_INVALID_SIGNATURE",
            format!("`device_keys` is not signed by {user} with {key_id}"),
        ));
    }
    Ok(keys)
}

/// Whether an object has the form of a device's keys and belongs to this user and device. Says what is wrong.
///
/// # Errors
/// What is wrong, for a person.
pub fn shape(keys: &Object, user: &str, device: &str) -> Result<(), String> {
    let text = |field: &str| keys.get(field).and_then(Value::as_str);
    if text("user_id") != Some(user) {
        return Err(format!("`device_keys.user_id` must be {user}"));
    }
    if text("device_id") != Some(device) {
        return Err(format!("`device_keys.device_id` must be {device}"));
    }
    let algorithms = keys.get("algorithms").and_then(Value::as_array);
    if !algorithms.is_some_and(|algorithms| algorithms.iter().all(Value::is_string)) {
        return Err("`device_keys.algorithms` must be a list of names".to_owned());
    }
    let public = keys.get("keys").and_then(Value::as_object);
    if !public.is_some_and(|keys| keys.iter().all(|(id, key)| id.contains(':') && key.is_string())) {
        return Err("`device_keys.keys` must map key IDs to keys".to_owned());
    }
    Ok(())
}

/// The keys of a device, as they were uploaded.
///
/// # Errors
/// As all reads.
pub fn get(read: &dyn Read, user: &str, device: &str) -> Result<Option<Object>, StoreError> {
    Ok(DEVICE_KEYS.get(read, &(user.to_owned(), device.to_owned()))?.map(|row| row.0))
}

/// Stores checked keys of a device of ours and tells everybody, unless nothing changed.
///
/// # Errors
/// `M_NOT_FOUND` when the device was signed out meanwhile.
pub fn put(tx: &mut Tx, user: &str, device: &str, keys: Object) -> Answer<()> {
    let key = (user.to_owned(), device.to_owned());
    if !DEVICES.contains(tx, &key)? {
        return Err(MatrixError::not_found("this device has been signed out"));
    }
    let old = DEVICE_KEYS.get(tx, &key)?.map(|row| row.0);
    if old.as_ref() == Some(&keys) {
        return Ok(());
    }
    if let Some(old) = old {
        if old.get("keys") != keys.get("keys") {
            // The device began anew: what the old identity signed is worth nothing.
            one_time_keys::forget(tx, user, device)?;
        }
        if !signed::same_but_for_signatures(&old, &keys) {
            delete_prefix(tx, &SIGNATURES, &(key.0.clone(), key.0.clone(), key.1.clone()))?;
        }
    }
    DEVICE_KEYS.put(tx, &key, &Json(keys))?;
    Ok(lists::device_changed(tx, user, device)?)
}

/// Forgets the keys of a device of ours, and tells everybody if it had some.
///
/// # Errors
/// As all writes.
pub fn forget(tx: &mut Tx, user: &str, device: &str) -> Result<(), StoreError> {
    let key = (user.to_owned(), device.to_owned());
    if !DEVICE_KEYS.delete(tx, &key)? {
        return Ok(());
    }
    delete_prefix(tx, &SIGNATURES, &(key.0.clone(), key.0, key.1))?;
    lists::device_changed(tx, user, device)
}
