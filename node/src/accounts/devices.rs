//! Devices: signed in, renamed, deleted (client-server specification, "Device Management").

use std::sync::Arc;

use kith_store::tables::accounts::{DEVICES, DeviceRow, MAX_DEVICES, OauthRow, PUSHERS};
use kith_store::tables::oauth::OAUTH_DEVICES;
use kith_store::{Json, Read, StoreError, Tx};
use ruma::{DeviceId, OwnedDeviceId, UserId};

use super::tokens::{self, Tokens};
use crate::Node;
use crate::e2ee;
use crate::http::{Answer, MatrixError};
use crate::platform::Rng;

/// The longest device ID and display name, in bytes.
pub const MAX_NAME: usize = 255;

/// What a client asks for when it signs in.
#[derive(Debug, Clone, Default)]
pub struct NewDevice {
    /// The device that signs in again; none: a new one.
    pub device_id: Option<OwnedDeviceId>,
    /// The name of a new device.
    pub display_name: Option<String>,
    /// Whether the client can refresh its access token.
    pub refreshable: bool,
    /// How it signs in by OAuth 2.0.
    pub oauth: Option<OauthRow>,
}

/// A device about to sign in: everything random is drawn, nothing is stored yet.
#[derive(Debug, Clone)]
pub(crate) struct SignIn {
    pub(crate) device_id: OwnedDeviceId,
    pub(crate) tokens: Tokens,
    display_name: Option<String>,
    oauth: Option<OauthRow>,
    now_ms: u64,
}

impl SignIn {
    /// Prepares a sign-in.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` for an ID or name that is too long.
    pub(crate) fn prepare(rng: &Rng, now_ms: u64, device: NewDevice) -> Answer<Self> {
        let device_id = match device.device_id {
            Some(id) if id.as_str().is_empty() || id.as_str().len() > MAX_NAME => {
                return Err(MatrixError::invalid_param(format!("a device ID has 1 to {MAX_NAME} bytes")));
            }
            Some(id) => id,
            None => new_id(rng),
        };
        if device.display_name.as_ref().is_some_and(|name| name.len() > MAX_NAME) {
            return Err(MatrixError::invalid_param(format!("a device name has at most {MAX_NAME} bytes")));
        }
        let tokens = Tokens::new(rng, device.refreshable);
        Ok(Self { device_id, tokens, display_name: device.display_name, oauth: device.oauth, now_ms })
    }

    /// A sign-in of a device that a client of OAuth 2.0 named, whose ID and name have been checked, with tokens drawn before.
    pub(crate) fn with(tokens: Tokens, now_ms: u64, device_id: OwnedDeviceId, name: String, oauth: OauthRow) -> Self {
        Self { device_id, tokens, display_name: Some(name), oauth: Some(oauth), now_ms }
    }

    /// Signs the device in. A device that is known already gets new tokens and keeps its name; its old tokens end.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED` when the user has too many devices.
    pub(crate) fn commit(&self, tx: &mut Tx, user: &UserId) -> Result<(), MatrixError> {
        let key = (user.to_string(), self.device_id.to_string());
        if DEVICES.contains(tx, &key)? {
            tokens::delete(tx, &key.0, &key.1, |_| true)?;
        } else {
            add(tx, user, &self.device_id, self.display_name.clone(), self.now_ms)?;
        }
        note_client(tx, key, self.oauth.clone())?;
        Ok(tokens::store(tx, user, &self.device_id, &self.tokens, self.now_ms, 0)?)
    }
}

/// Writes which client a device has signed in by.
fn note_client(tx: &mut Tx, key: (String, String), oauth: Option<OauthRow>) -> Result<(), StoreError> {
    let Some(Json(mut row)) = DEVICES.get(tx, &key)? else { return Ok(()) };
    if row.oauth == oauth {
        return Ok(());
    }
    let (user, device) = key.clone();
    if let Some(before) = row.oauth {
        OAUTH_DEVICES.delete(tx, &(before.client, user.clone(), device.clone()))?;
    }
    if let Some(now) = &oauth {
        OAUTH_DEVICES.put(tx, &(now.client.clone(), user, device), &())?;
    }
    row.oauth = oauth;
    DEVICES.put(tx, &key, &Json(row))
}

/// Adds a device that is not there yet, without tokens.
///
/// # Errors
/// `M_LIMIT_EXCEEDED` when the user has too many devices.
pub(crate) fn add(
    tx: &mut Tx,
    user: &UserId,
    device: &DeviceId,
    display_name: Option<String>,
    now_ms: u64,
) -> Result<(), MatrixError> {
    let key = (user.to_string(), device.to_string());
    if DEVICES.prefix(tx, &key.0)?.count() >= MAX_DEVICES {
        return Err(MatrixError::new(
            http::StatusCode::TOO_MANY_REQUESTS,
            "M_LIMIT_EXCEEDED",
            "this user has too many devices: sign some out",
        ));
    }
    let row = DeviceRow { display_name, created: now_ms, last_seen: Some(now_ms), ..DeviceRow::default() };
    DEVICES.put(tx, &key, &Json(row))?;
    Ok(())
}

/// A device ID as Matrix servers make them: ten capital letters.
fn new_id(rng: &Rng) -> OwnedDeviceId {
    let letters: String = (0..10).map(|_| char::from(b'A' + u8::try_from(rng.below(26)).unwrap_or_default())).collect();
    OwnedDeviceId::from(letters)
}

/// Signs a device in on a user that exists; for callers that have checked who it is.
///
/// # Errors
/// `M_USER_DEACTIVATED`, and those of preparing and storing.
pub async fn sign_in(node: &Arc<Node>, user: &UserId, device: NewDevice) -> Answer<(OwnedDeviceId, Tokens)> {
    let sign_in = SignIn::prepare(&node.rng, node.clock.now_ms(), device)?;
    let (device_id, tokens, user) = (sign_in.device_id.clone(), sign_in.tokens.clone(), user.to_owned());
    node.store
        .write(move |tx| {
            if !super::users::is_active(tx, &user)? {
                return Err(super::users::is_deactivated());
            }
            sign_in.commit(tx, &user)
        })
        .await?;
    Ok((device_id, tokens))
}

/// Makes a device that has no tokens: that of an application service, which signs in with its own.
///
/// # Errors
/// `M_INVALID_PARAM`, `M_LIMIT_EXCEEDED`.
pub(crate) async fn create(node: &Arc<Node>, user: &UserId, device: &DeviceId, name: Option<String>) -> Answer<()> {
    let new = NewDevice { device_id: Some(device.to_owned()), display_name: name, ..NewDevice::default() };
    let sign_in = SignIn::prepare(&node.rng, node.clock.now_ms(), new)?;
    let user = user.to_owned();
    node.store
        .write(move |tx| {
            sign_in.commit(tx, &user)?;
            Ok(tokens::delete(tx, user.as_str(), sign_in.device_id.as_str(), |_| true)?)
        })
        .await
}

/// A user's devices, in order of their IDs.
///
/// # Errors
/// As all reads.
pub fn list(read: &dyn Read, user: &UserId) -> Result<Vec<(String, DeviceRow)>, StoreError> {
    DEVICES.prefix(read, &user.to_string())?.map(|row| row.map(|((_, device), row)| (device, row.0))).collect()
}

/// One device.
///
/// # Errors
/// As all reads.
pub fn get(read: &dyn Read, user: &UserId, device: &DeviceId) -> Result<Option<DeviceRow>, StoreError> {
    Ok(DEVICES.get(read, &(user.to_string(), device.to_string()))?.map(|row| row.0))
}

/// Names a device.
///
/// # Errors
/// `M_NOT_FOUND`; `M_INVALID_PARAM` when the name is too long.
pub async fn rename(node: &Arc<Node>, user: &UserId, device: &DeviceId, name: Option<String>) -> Answer<()> {
    if name.as_ref().is_some_and(|name| name.len() > MAX_NAME) {
        return Err(MatrixError::invalid_param(format!("a device name has at most {MAX_NAME} bytes")));
    }
    let key = (user.to_string(), device.to_string());
    node.store
        .write(move |tx| {
            let mut row = DEVICES.get(tx, &key)?.ok_or_else(|| MatrixError::not_found("there is no such device"))?.0;
            if let Some(name) = name {
                row.display_name = Some(name).filter(|name| !name.is_empty());
                DEVICES.put(tx, &key, &Json(row))?;
                device_changed(tx, &key.0, &key.1)?;
            }
            Ok(())
        })
        .await
}

/// Signs a device out and forgets it: tokens, pushers and what other parts keep for it (`device_deleted`). Says
/// whether there was such a device.
///
/// # Errors
/// As all writes.
pub fn delete(tx: &mut Tx, user: &UserId, device: &str) -> Result<bool, StoreError> {
    let key = (user.to_string(), device.to_owned());
    let Some(Json(row)) = DEVICES.get(tx, &key)? else { return Ok(false) };
    DEVICES.delete(tx, &key)?;
    if let Some(oauth) = row.oauth {
        OAUTH_DEVICES.delete(tx, &(oauth.client, key.0.clone(), key.1.clone()))?;
    }
    tokens::delete(tx, &key.0, &key.1, |_| true)?;
    let pushers: Vec<_> = PUSHERS
        .prefix(tx, &key.0)?
        .filter_map(|row| match row {
            Ok((key, row)) => (row.0.device == device).then_some(Ok(key)),
            Err(error) => Some(Err(error)),
        })
        .collect::<Result<_, _>>()?;
    for pusher in pushers {
        PUSHERS.delete(tx, &pusher)?;
    }
    device_deleted(tx, &key.0, device)?;
    Ok(true)
}

/// Signs all devices of a user out, but for `keep`.
///
/// # Errors
/// As all writes.
pub fn delete_all(tx: &mut Tx, user: &UserId, keep: Option<&str>) -> Result<(), StoreError> {
    for (device, _) in list(tx, user)? {
        if Some(device.as_str()) != keep {
            delete(tx, user, &device)?;
        }
    }
    Ok(())
}

/// What each part of the node does, in the same change, when a device is deleted: called once per device. Add a line
/// here for what you keep by device.
fn device_deleted(tx: &mut Tx, user: &str, device: &str) -> Result<(), StoreError> {
    e2ee::device_deleted(tx, user, device)
}

/// What each part of the node does, in the same change, when a device is renamed: others see the name in device lists.
fn device_changed(tx: &mut Tx, user: &str, device: &str) -> Result<(), StoreError> {
    e2ee::device_renamed(tx, user, device)
}
