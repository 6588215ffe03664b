//! Cross-signing keys of users, and signatures that are added to keys later (client-server specification, "Cross-signing").

use kith_store::{
    Json, Read, StoreError, Tx,
    tables::e2ee::{CROSS_SIGNING_KEYS, SIGNATURES},
};
use serde_json::Value;

use super::{MAX_KEY_BYTES, Object, count_up_to, device_keys, lists, server_of, signed};
use crate::http::{Answer, MatrixError};

/// Signatures that a user may have on keys.
pub const MAX_SIGNATURES: usize = 10_000;

/// What a cross-signing key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Usage {
    /// Signs the other two.
    Master,
    /// Signs the user's own devices.
    SelfSigning,
    /// Signs the master keys of others.
    UserSigning,
}

impl Usage {
    /// As it stands in `usage`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::SelfSigning => "self_signing",
            Self::UserSigning => "user_signing",
        }
    }
}

/// The cross-signing keys of one user.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Keys {
    /// The master key.
    pub master: Option<Object>,
    /// The self-signing key.
    pub self_signing: Option<Object>,
    /// The user-signing key.
    pub user_signing: Option<Object>,
}

impl Keys {
    /// The keys that are stored for a user.
    ///
    /// # Errors
    /// As all reads.
    pub fn load(read: &dyn Read, user: &str) -> Result<Self, StoreError> {
        let key = |usage: Usage| -> Result<_, StoreError> {
            Ok(CROSS_SIGNING_KEYS.get(read, &(user.to_owned(), usage.name().to_owned()))?.map(|row| row.0))
        };
        Ok(Self {
            master: key(Usage::Master)?,
            self_signing: key(Usage::SelfSigning)?,
            user_signing: key(Usage::UserSigning)?,
        })
    }

    fn named(&self) -> [(Usage, Option<&Object>); 3] {
        [
            (Usage::Master, self.master.as_ref()),
            (Usage::SelfSigning, self.self_signing.as_ref()),
            (Usage::UserSigning, self.user_signing.as_ref()),
        ]
    }
}

/// The one key of a cross-signing key object: its ID and the public key itself.
pub fn public_key(object: &Object) -> Option<(&str, &str)> {
    let keys = object.get("keys")?.as_object()?;
    let (id, key) = keys.iter().next().filter(|_| keys.len() == 1)?;
    Some((id, key.as_str()?))
}

/// Whether an object has the form of a cross-signing key of this user. Says what is wrong.
///
/// # Errors
/// What is wrong, for a person.
pub fn shape(object: &Object, user: &str, usage: Usage) -> Result<(), String> {
    let name = usage.name();
    if object.get("user_id").and_then(Value::as_str) != Some(user) {
        return Err(format!("`user_id` of the {name} key must be {user}"));
    }
    let usages = object.get("usage").and_then(Value::as_array);
    if !usages.is_some_and(|usages| usages.iter().any(|usage| usage == name)) {
        return Err(format!("`usage` of the {name} key must be [\"{name}\"]"));
    }
    match public_key(object) {
        Some((id, key)) if id.strip_prefix("ed25519:") == Some(key) => {}
        _ => return Err(format!("the {name} key must hold one ed25519 key, named by itself")),
    }
    if Value::Object(object.clone()).to_string().len() > MAX_KEY_BYTES {
        return Err(format!("the {name} key is longer than {MAX_KEY_BYTES} bytes"));
    }
    Ok(())
}

/// Checks new keys of `user` against those that are stored: their form, and that the self-signing and user-signing keys are
/// signed by the master key.
///
/// # Errors
/// `M_INVALID_PARAM`, `M_INVALID_SIGNATURE`, `M_MISSING_PARAM` when there is no master key at all.
pub fn check(new: &Keys, stored: &Keys, user: &str) -> Answer<()> {
    for (usage, key) in new.named() {
        if let Some(key) = key {
            shape(key, user, usage).map_err(MatrixError::invalid_param)?;
        }
    }
    let Some((master_id, master)) = new.master.as_ref().or(stored.master.as_ref()).and_then(public_key) else {
        return Err(MatrixError::missing_param("a master key must be uploaded first, or with the others"));
    };
    for (usage, key) in new.named() {
        if let Some(key) = key
            && usage != Usage::Master
            && !signed::is_signed_by(key, user, master_id, master)
        {
            return Err(MatrixError::new(
                http::StatusCode::BAD_REQUEST,
                "M_INVALID_SIGNATURE",
                format!("the {} key is not signed by the master key", usage.name()),
            ));
        }
    }
    Ok(())
}

/// Whether the upload brings nothing that is not stored: then its user need not prove again who it is.
pub fn brings_nothing_new(new: &Keys, stored: &Keys) -> bool {
    new.named().iter().zip(stored.named()).all(|((_, new), (_, stored))| match (new, stored) {
        (None, _) => true,
        (Some(new), Some(stored)) => signed::same_but_for_signatures(new, stored),
        (Some(_), None) => false,
    })
}

/// Stores checked keys of a user of ours. With a new master key, those it does not sign go.
///
/// # Errors
/// As all writes.
pub fn put(tx: &mut Tx, user: &str, new: &Keys) -> Result<(), StoreError> {
    let stored = Keys::load(tx, user)?;
    let new_master = match (&new.master, &stored.master) {
        (Some(new), Some(stored)) => public_key(new) != public_key(stored),
        _ => false,
    };
    let mut changed = false;
    for ((usage, new), (_, old)) in new.named().into_iter().zip(stored.named()) {
        let row = (user.to_owned(), usage.name().to_owned());
        let replaced = match (new, old) {
            (Some(new), Some(old)) => public_key(new) != public_key(old),
            (None, Some(_)) => new_master,
            _ => false,
        };
        if replaced && let Some((id, key)) = old.and_then(public_key) {
            forget_key(tx, user, id, key)?;
        }
        match new {
            Some(new) if Some(new) != old => {
                CROSS_SIGNING_KEYS.put(tx, &row, &Json(new.clone()))?;
                changed = true;
            }
            None if replaced => {
                CROSS_SIGNING_KEYS.delete(tx, &row)?;
                changed = true;
            }
            _ => {}
        }
    }
    if changed { lists::device_changed(tx, user, lists::CROSS_SIGNING) } else { Ok(()) }
}

/// Forgets what a replaced key signed, and what its owner signed it with.
fn forget_key(tx: &mut Tx, user: &str, id: &str, key: &str) -> Result<(), StoreError> {
    let rows: Vec<(String, String, String, String)> =
        SIGNATURES.prefix(tx, &user.to_owned())?.map(|row| row.map(|(key, _)| key)).collect::<Result<_, _>>()?;
    for row in rows {
        if row.3 == id || (row.1 == user && row.2 == key) {
            SIGNATURES.delete(tx, &row)?;
        }
    }
    Ok(())
}

/// Why a signature is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The Matrix error code.
    pub errcode: &'static str,
    /// What is wrong.
    pub error: String,
}

impl Refused {
    fn new(errcode: &'static str, error: impl Into<String>) -> Self {
        Self { errcode, error: error.into() }
    }
}

/// What a user's upload signed.
enum Target {
    /// A device of the signer.
    Device,
    /// The signer's own master key.
    OwnMaster,
    /// The master key of another user.
    Other,
}

/// Takes the signatures of `signer` on a key: `target` names the device or the public key of `owner`, `object` is the key with
/// the signatures. The inner result says why they are refused.
///
/// # Errors
/// As all writes.
pub fn sign(
    tx: &mut Tx,
    signer: &str,
    owner: &str,
    target: &str,
    object: &Object,
) -> Result<Result<(), Refused>, StoreError> {
    let (kind, stored) = match find(tx, signer, owner, target)? {
        Ok(found) => found,
        Err(refused) => return Ok(Err(refused)),
    };
    if !signed::same_but_for_signatures(&stored, object) {
        return Ok(Err(Refused::new("M_INVALID_PARAM", "the signed key is not the one that is stored")));
    }
    let given = object.get("signatures").and_then(|signatures| signatures.get(signer)).and_then(Value::as_object);
    let mut taken = Vec::new();
    for (key_id, signature) in given.into_iter().flatten() {
        let Some(signature) = signature.as_str() else {
            return Ok(Err(Refused::new("M_INVALID_SIGNATURE", "a signature is not text")));
        };
        if signed::signature(&stored, signer, key_id) == Some(signature) {
            continue;
        }
        let Some(public) = signing_key(tx, signer, &kind, key_id)? else {
            return Ok(Err(Refused::new(
                "M_INVALID_SIGNATURE",
                format!("{key_id} is no key of {signer} that may sign this"),
            )));
        };
        if !signed::verify(&stored, &public, signature) {
            return Ok(Err(Refused::new("M_INVALID_SIGNATURE", format!("the signature by {key_id} does not match"))));
        }
        taken.push((key_id.clone(), signature.to_owned()));
    }
    if taken.is_empty() {
        return Ok(match given.is_some_and(|given| !given.is_empty()) {
            true => Ok(()),
            false => Err(Refused::new("M_INVALID_SIGNATURE", format!("there is no signature of {signer}"))),
        });
    }
    if count_up_to(tx, &SIGNATURES, &signer.to_owned(), MAX_SIGNATURES)? >= MAX_SIGNATURES {
        return Ok(Err(Refused::new("M_LIMIT_EXCEEDED", "this user has signed too many keys")));
    }
    let mut changed = false;
    for (key_id, signature) in taken {
        let row = (signer.to_owned(), owner.to_owned(), target.to_owned(), key_id);
        if SIGNATURES.get(tx, &row)?.as_ref() != Some(&signature) {
            SIGNATURES.put(tx, &row, &signature)?;
            changed = true;
        }
    }
    if changed {
        match kind {
            Target::Device => lists::device_changed(tx, owner, target)?,
            Target::OwnMaster => lists::device_changed(tx, owner, lists::CROSS_SIGNING)?,
            Target::Other => lists::note_signed(tx, signer, owner)?,
        }
    }
    Ok(Ok(()))
}

/// The key that is signed, as it is stored here.
fn find(
    read: &dyn Read,
    signer: &str,
    owner: &str,
    target: &str,
) -> Result<Result<(Target, Object), Refused>, StoreError> {
    let keys = Keys::load(read, owner)?;
    if let Some(master) = keys.master
        && public_key(&master).is_some_and(|(_, key)| key == target)
    {
        let kind = if signer == owner { Target::OwnMaster } else { Target::Other };
        return Ok(Ok((kind, master)));
    }
    if signer == owner {
        if let Some(device) = device_keys::get(read, owner, target)? {
            return Ok(Ok((Target::Device, device)));
        }
        return Ok(Err(Refused::new("M_NOT_FOUND", "there is no such device, and no such master key")));
    }
    Ok(Err(Refused::new(
        "M_NOT_FOUND",
        format!("the master key of {owner} is another one, or not known to {} yet: query it first", server_of(signer)),
    )))
}

/// The public key with which `signer` may sign: its own devices by the self-signing key, its master key by its devices, master
/// keys of others by the user-signing key.
fn signing_key(read: &dyn Read, signer: &str, target: &Target, key_id: &str) -> Result<Option<String>, StoreError> {
    let keys = Keys::load(read, signer)?;
    let key = match target {
        Target::Device => keys.self_signing,
        Target::Other => keys.user_signing,
        Target::OwnMaster => {
            let device = key_id.strip_prefix("ed25519:").unwrap_or_default();
            let keys = device_keys::get(read, signer, device)?;
            let public = keys.as_ref().and_then(|keys| keys.get("keys")?.get(key_id)?.as_str());
            return Ok(public.map(str::to_owned));
        }
    };
    Ok(key.as_ref().and_then(public_key).filter(|(id, _)| *id == key_id).map(|(_, key)| key.to_owned()))
}
