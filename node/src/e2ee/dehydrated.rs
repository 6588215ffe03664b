//! Dehydrated devices (MSC3814): a device of a user that nobody holds. It gets room keys while all others are away or lost, and what
//! it takes to decrypt them is kept here, encrypted with a key that only the user has.

use kith_store::{
    Json, Read, StoreError, Tx,
    tables::{
        accounts::DEVICES,
        e2ee::{DEHYDRATED_DEVICES, DehydratedDevice},
    },
};
use ruma::{DeviceId, UserId};

use super::{
    Object, device_keys,
    one_time_keys::{self, NamedKey},
    signed,
};
use crate::{
    accounts::devices,
    http::{Answer, MatrixError},
};

/// The longest data of a dehydrated device, in bytes of JSON.
pub const MAX_DATA: usize = 256 << 10;

/// A dehydrated device that is uploaded, checked.
#[derive(Debug)]
pub struct Upload {
    /// What its user's clients make it of.
    pub data: Object,
    /// Its name.
    pub display_name: Option<String>,
    /// Its identity keys.
    pub keys: Object,
    /// Its one-time keys.
    pub one_time: Vec<NamedKey>,
    /// Its fallback keys.
    pub fallback: Vec<NamedKey>,
}

/// The user's dehydrated device.
///
/// # Errors
/// As all reads.
pub fn get(read: &dyn Read, user: &str) -> Result<Option<DehydratedDevice>, StoreError> {
    Ok(DEHYDRATED_DEVICES.get(read, &user.to_owned())?.map(|row| row.0))
}

/// Puts a dehydrated device in the place of the one before, which is deleted with its keys and messages. The same one may come again
/// (the answer was lost): it stays, with what it was sent meanwhile.
///
/// # Errors
/// `M_INVALID_PARAM` when a living device has this ID; those of the keys; `M_LIMIT_EXCEEDED` when the user has too many devices.
pub fn put(tx: &mut Tx, user: &UserId, device: &DeviceId, upload: Upload, now: u64) -> Answer<()> {
    let name = user.to_string();
    if let Some(old) = get(tx, &name)? {
        let is_same = old.device == device.as_str()
            && old.data == upload.data
            && device_keys::get(tx, &name, device.as_str())?
                .is_some_and(|keys| signed::same_but_for_signatures(&keys, &upload.keys));
        if is_same {
            return Ok(());
        }
        devices::delete(tx, user, &old.device)?;
    }
    if DEVICES.contains(tx, &(name.clone(), device.to_string()))? {
        return Err(MatrixError::invalid_param("a device with this ID is signed in: make keys of its own for another"));
    }
    devices::add(tx, user, device, upload.display_name, now)?;
    device_keys::put(tx, &name, device.as_str(), upload.keys)?;
    one_time_keys::add(tx, &name, device.as_str(), &upload.one_time)?;
    one_time_keys::set_fallback(tx, &name, device.as_str(), upload.fallback)?;
    let row = DehydratedDevice { device: device.to_string(), data: upload.data };
    DEHYDRATED_DEVICES.put(tx, &name, &Json(row))?;
    Ok(())
}

/// Deletes the user's dehydrated device; gives its ID.
///
/// # Errors
/// As all writes.
pub fn delete(tx: &mut Tx, user: &UserId) -> Result<Option<String>, StoreError> {
    let Some(row) = get(tx, user.as_str())? else { return Ok(None) };
    devices::delete(tx, user, &row.device)?;
    Ok(Some(row.device))
}

/// What goes with a device that is deleted.
pub(super) fn forget(tx: &mut Tx, user: &str, device: &str) -> Result<(), StoreError> {
    if get(tx, user)?.is_some_and(|row| row.device == device) {
        DEHYDRATED_DEVICES.delete(tx, &user.to_owned())?;
    }
    Ok(())
}
