//! Users: made, listed, given a new password, deactivated. Used by the endpoints and by `kith user`.

use std::sync::Arc;

use kith_store::tables::account_data;
use kith_store::tables::accounts::{FILTERS, PROFILES, USERS, UserRow};
use kith_store::tables::threads;
use kith_store::{Json, Read, StoreError, Tx};
use ruma::{OwnedUserId, UserId};

use super::{devices, localpart, password, push_rules, registration, room_updates};
use crate::Node;
use crate::delayed;
use crate::e2ee;
use crate::http::{Answer, MatrixError};

/// A user with its account.
#[derive(Debug, Clone)]
pub struct User {
    /// The user ID.
    pub user_id: OwnedUserId,
    /// The account.
    pub row: UserRow,
}

/// Makes an account. `name` is a localpart (or a whole user ID of this node). Without a password nobody can sign in to
/// it until one is set.
///
/// # Errors
/// `M_INVALID_USERNAME`, `M_USER_IN_USE`, and those of [`password::hash`].
pub async fn create(node: &Arc<Node>, name: &str, password: Option<&str>, admin: bool) -> Answer<OwnedUserId> {
    let user_id = localpart::new_user_id(name, node.identity.server_name())?;
    let password = match password {
        Some(password) => Some(password::hash(node, password).await?),
        None => None,
    };
    let row = UserRow { password, admin, created: node.clock.now_ms(), ..UserRow::default() };
    let id = user_id.clone();
    node.store.write(move |tx| insert(tx, &id, row)).await?;
    Ok(user_id)
}

/// Writes a new account with the push rules every account starts with. The setup link ends.
///
/// # Errors
/// `M_USER_IN_USE`, also for names of deactivated accounts.
pub(crate) fn insert(tx: &mut Tx, user_id: &UserId, row: UserRow) -> Result<(), MatrixError> {
    if exists(tx, user_id)? {
        return Err(in_use());
    }
    // Whoever finds the setup link after the first account was made, in whatever way, must not become an administrator. What
    // bridges make is no account of somebody's.
    if !row.service {
        registration::end_setup(tx)?;
    }
    USERS.put(tx, &user_id.to_string(), &Json(row))?;
    push_rules::reset(tx, user_id)?;
    profile_default(tx, user_id)?;
    Ok(())
}

/// A new user is shown by its localpart until it chooses a name.
fn profile_default(tx: &mut Tx, user_id: &UserId) -> Result<(), StoreError> {
    let name = serde_json::Value::from(user_id.localpart()).to_string();
    PROFILES.put(tx, &(user_id.to_string(), "displayname".to_owned()), &name)
}

/// 400 `M_USER_IN_USE`.
pub(crate) fn in_use() -> MatrixError {
    MatrixError::new(http::StatusCode::BAD_REQUEST, "M_USER_IN_USE", "this user name is taken")
}

/// 403 `M_USER_DEACTIVATED`.
pub(crate) fn is_deactivated() -> MatrixError {
    MatrixError::new(http::StatusCode::FORBIDDEN, "M_USER_DEACTIVATED", "this account has been deactivated")
}

/// The account of a user of this node; deactivated ones too.
///
/// # Errors
/// As all reads.
pub fn get(read: &dyn Read, user_id: &UserId) -> Result<Option<UserRow>, StoreError> {
    Ok(USERS.get(read, &user_id.to_string())?.map(|row| row.0))
}

/// Whether the name was ever given.
///
/// # Errors
/// As all reads.
pub fn exists(read: &dyn Read, user_id: &UserId) -> Result<bool, StoreError> {
    USERS.contains(read, &user_id.to_string())
}

/// Whether there is such an account and it is in use.
///
/// # Errors
/// As all reads.
pub fn is_active(read: &dyn Read, user_id: &UserId) -> Result<bool, StoreError> {
    Ok(get(read, user_id)?.is_some_and(|row| row.deactivated.is_none()))
}

/// All accounts, in order of their IDs.
///
/// # Errors
/// As all reads.
pub fn list(read: &dyn Read) -> Answer<Vec<User>> {
    USERS
        .range(read, ..)?
        .map(|row| {
            let (user_id, row) = row?;
            let user_id = UserId::parse(&user_id).map_err(MatrixError::internal)?;
            Ok(User { user_id, row: row.0 })
        })
        .collect()
}

/// Whether any account was ever made, other than those of application services.
///
/// # Errors
/// As all reads.
pub fn any(read: &dyn Read) -> Result<bool, StoreError> {
    for row in USERS.range(read, ..)? {
        if !row?.1.0.service {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Sets a user's password. `keep` names the one device that stays signed in when the others are signed out
/// (`sign_out`); none: all are. A deactivated account becomes usable again only through `kith user passwd`, with `revive`.
///
/// # Errors
/// `M_NOT_FOUND`, `M_USER_DEACTIVATED`, and those of [`password::hash`].
pub async fn set_password(
    node: &Arc<Node>,
    user_id: &UserId,
    password: &str,
    sign_out: bool,
    keep: Option<String>,
    revive: bool,
) -> Answer<()> {
    let hash = password::hash(node, password).await?;
    let id = user_id.to_owned();
    node.store
        .write(move |tx| {
            let mut row = get(tx, &id)?.ok_or_else(|| MatrixError::not_found("there is no such user"))?;
            if row.deactivated.is_some() && !revive {
                return Err(is_deactivated());
            }
            row.deactivated = None;
            row.erased = false;
            row.password = Some(hash);
            USERS.put(tx, &id.to_string(), &Json(row))?;
            if sign_out {
                devices::delete_all(tx, &id, keep.as_deref())?;
            }
            Ok::<_, MatrixError>(())
        })
        .await?;
    node.oauth.forget(user_id);
    Ok(())
}

/// Makes a user an administrator of the node, or no longer one.
///
/// # Errors
/// `M_NOT_FOUND`.
pub async fn set_admin(node: &Arc<Node>, user_id: &UserId, admin: bool) -> Answer<()> {
    let id = user_id.to_owned();
    node.store
        .write(move |tx| {
            let mut row = get(tx, &id)?.ok_or_else(|| MatrixError::not_found("there is no such user"))?;
            row.admin = admin;
            Ok(USERS.put(tx, &id.to_string(), &Json(row))?)
        })
        .await
}

/// Deactivates an account: its devices are signed out, its password forgotten, its rooms left; the name stays taken.
/// With `erase` its profile, filters and account data are deleted too.
///
/// # Errors
/// `M_NOT_FOUND`.
pub async fn deactivate(node: &Arc<Node>, user_id: &UserId, erase: bool) -> Answer<()> {
    let (id, now) = (user_id.to_owned(), node.clock.now_ms());
    node.store
        .write(move |tx| {
            let mut row = get(tx, &id)?.ok_or_else(|| MatrixError::not_found("there is no such user"))?;
            row.deactivated = row.deactivated.or(Some(now));
            row.erased |= erase;
            row.password = None;
            row.admin = false;
            USERS.put(tx, &id.to_string(), &Json(row))?;
            devices::delete_all(tx, &id, None)?;
            delete_rows(tx, &PROFILES, &id)?;
            delayed::forget_user(tx, id.as_str())?;
            room_updates::note(tx, &id, true)?;
            if erase {
                delete_rows(tx, &FILTERS, &id)?;
                account_data::delete_all(tx, id.as_str())?;
                e2ee::account_erased(tx, id.as_str())?;
                threads::delete_all(tx, id.as_str())?;
            }
            Ok::<_, MatrixError>(())
        })
        .await?;
    node.oauth.forget(user_id);
    room_updates::begin(node, user_id);
    Ok(())
}

fn delete_rows<V: kith_store::Value>(
    tx: &mut Tx,
    table: &kith_store::Table<(String, String), V>,
    user_id: &UserId,
) -> Result<(), StoreError> {
    let keys: Vec<_> =
        table.prefix(tx, &user_id.to_string())?.map(|row| row.map(|(key, _)| key)).collect::<Result<_, _>>()?;
    for key in keys {
        table.delete(tx, &key)?;
    }
    Ok(())
}
