//! A user's keys as another one may see them.
//!
//! Everybody sees the keys with the signatures of their owner; a user also sees the signatures it made itself on keys of
//! others, and nobody else does. The user-signing key is for its owner alone.

use std::collections::BTreeMap;

use kith_store::{
    Json, Read, StoreError,
    tables::{
        accounts::DEVICES,
        e2ee::{CROSS_SIGNING_KEYS, DEVICE_KEYS, SIGNATURES},
    },
};
use serde_json::json;

use super::{Object, cross_signing::Usage, signed};

/// The keys of one user.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UserKeys {
    /// Identity keys by device.
    pub devices: BTreeMap<String, Object>,
    /// The master key.
    pub master: Option<Object>,
    /// The self-signing key.
    pub self_signing: Option<Object>,
    /// The user-signing key, for the owner only.
    pub user_signing: Option<Object>,
}

/// Who looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Viewer<'a> {
    /// A user of this node.
    User(&'a str),
    /// Another server, for its users. It is not told the names of devices.
    Server,
}

/// The keys of `user`, a user of ours or a remote one whose list is tracked. `devices` names the devices that are asked for;
/// none: all.
///
/// # Errors
/// As all reads.
pub fn keys_of(
    read: &dyn Read,
    user: &str,
    devices: Option<&[String]>,
    viewer: Viewer<'_>,
) -> Result<UserKeys, StoreError> {
    let signatures = Signatures::load(read, user, viewer)?;
    let mut keys = UserKeys::default();
    for row in DEVICE_KEYS.prefix(read, &user.to_owned())? {
        let ((_, device), Json(mut object)) = row?;
        if devices.is_some_and(|wanted| !wanted.contains(&device)) {
            continue;
        }
        signatures.put_on(&mut object, user, &device, viewer);
        if let Viewer::User(_) = viewer
            && let Some(Json(row)) = DEVICES.get(read, &(user.to_owned(), device.clone()))?
            && let Some(name) = row.display_name
        {
            object.insert("unsigned".to_owned(), json!({ "device_display_name": name }));
        }
        keys.devices.insert(device, object);
    }
    let key = |usage: Usage| -> Result<Option<Object>, StoreError> {
        let row = CROSS_SIGNING_KEYS.get(read, &(user.to_owned(), usage.name().to_owned()))?;
        Ok(row.map(|Json(mut object)| {
            let public = super::cross_signing::public_key(&object).map(|(_, key)| key.to_owned()).unwrap_or_default();
            signatures.put_on(&mut object, user, &public, viewer);
            object
        }))
    };
    keys.master = key(Usage::Master)?;
    keys.self_signing = key(Usage::SelfSigning)?;
    if viewer == Viewer::User(user) {
        keys.user_signing = key(Usage::UserSigning)?;
    }
    Ok(keys)
}

/// Puts on keys that another server told what `viewer` may see of signatures: the owner's and its own.
///
/// # Errors
/// As all reads.
pub fn sign(read: &dyn Read, user: &str, viewer: Viewer<'_>, keys: &mut UserKeys) -> Result<(), StoreError> {
    let signatures = Signatures::load(read, user, viewer)?;
    for (device, object) in &mut keys.devices {
        signatures.put_on(object, user, device, viewer);
    }
    for object in [&mut keys.master, &mut keys.self_signing].into_iter().flatten() {
        let public = super::cross_signing::public_key(object).map(|(_, key)| key.to_owned()).unwrap_or_default();
        signatures.put_on(object, user, &public, viewer);
    }
    Ok(())
}

/// Signatures added after the keys were uploaded, by what they sign: `(signer, key ID, signature)`.
struct Signatures(BTreeMap<String, Vec<(String, String, String)>>);

impl Signatures {
    fn load(read: &dyn Read, user: &str, viewer: Viewer<'_>) -> Result<Self, StoreError> {
        let mut signers = vec![user];
        if let Viewer::User(viewer) = viewer
            && viewer != user
        {
            signers.push(viewer);
        }
        let mut by_target: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for signer in signers {
            for row in SIGNATURES.prefix(read, &(signer.to_owned(), user.to_owned()))? {
                let ((signer, _, target, key_id), signature) = row?;
                by_target.entry(target).or_default().push((signer, key_id, signature));
            }
        }
        Ok(Self(by_target))
    }

    fn put_on(&self, object: &mut Object, owner: &str, target: &str, viewer: Viewer<'_>) {
        match viewer {
            Viewer::User(viewer) => signed::keep_signers(object, &[owner, viewer]),
            Viewer::Server => signed::keep_signers(object, &[owner]),
        }
        for (signer, key_id, signature) in self.0.get(target).into_iter().flatten() {
            signed::add(object, signer, key_id, signature);
        }
    }
}
