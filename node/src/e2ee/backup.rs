//! Key backups: encrypted room keys that a user's devices keep here for each other (client-server specification,
//! "Server-side key backups"). What they hold, this node cannot read.

use std::{ops::Bound, sync::Arc};

use kith_store::{
    Json, Read, StoreError, Tx,
    tables::e2ee::{BACKUP_KEYS, BACKUP_VERSIONS, BACKUPS, Backup},
};
use serde_json::Value;

use super::{Object, count_up_to};
use crate::{
    Node,
    http::{Answer, MatrixError},
};

/// Versions a user may have.
pub const MAX_VERSIONS: usize = 100;
/// Keys in one version.
pub const MAX_KEYS: u64 = 500_000;
/// The longest key, in bytes of JSON.
pub const MAX_BYTES: usize = 32 << 10;
/// The longest algorithm, room ID or session ID, in bytes.
const MAX_NAME: usize = 255;
/// Rows deleted in one change.
const AT_ONCE: usize = 1_000;

/// Where a key is kept: `(user, version, room ID, session ID)`.
pub type Place = (String, u64, String, String);

/// `etag` and `count` of an answer, after a change of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Changes when the keys do.
    pub etag: u64,
    /// How many keys there are.
    pub count: u64,
}

fn none() -> MatrixError {
    MatrixError::not_found("there is no such key backup")
}

/// A version as it stands in requests.
///
/// # Errors
/// `M_NOT_FOUND`: no other versions are given.
pub fn version(text: &str) -> Answer<u64> {
    text.parse().map_err(|_| none())
}

/// Checks the algorithm and its data as a client sets them.
///
/// # Errors
/// `M_BAD_JSON`, `M_TOO_LARGE`.
pub fn check_algorithm(body: &Object) -> Answer<(String, Value)> {
    let algorithm = body.get("algorithm").and_then(Value::as_str).unwrap_or_default();
    if algorithm.is_empty() || algorithm.len() > MAX_NAME {
        return Err(MatrixError::bad_json("`algorithm` must name the algorithm of the backup"));
    }
    let Some(data) = body.get("auth_data").filter(|data| data.is_object()) else {
        return Err(MatrixError::bad_json("`auth_data` must be an object"));
    };
    if data.to_string().len() > MAX_BYTES {
        return Err(MatrixError::too_large(format!("`auth_data` has at most {MAX_BYTES} bytes")));
    }
    Ok((algorithm.to_owned(), data.clone()))
}

/// Begins a new version, from now on the current one.
///
/// # Errors
/// `M_LIMIT_EXCEEDED` when there are too many.
pub fn create(tx: &mut Tx, user: &str, algorithm: String, auth_data: Value) -> Answer<u64> {
    let user = user.to_owned();
    if count_up_to(tx, &BACKUPS, &user, MAX_VERSIONS)? >= MAX_VERSIONS {
        return Err(MatrixError::new(
            http::StatusCode::BAD_REQUEST,
            "M_LIMIT_EXCEEDED",
            "there are too many versions of the key backup: delete old ones",
        ));
    }
    let version = BACKUP_VERSIONS.get(tx, &user)?.unwrap_or_default() + 1;
    BACKUP_VERSIONS.put(tx, &user, &version)?;
    BACKUPS.put(tx, &(user, version), &Json(Backup { algorithm, auth_data, etag: 0, count: 0 }))?;
    Ok(version)
}

/// The current version.
///
/// # Errors
/// `M_NOT_FOUND`
pub fn latest(read: &dyn Read, user: &str) -> Answer<(u64, Backup)> {
    match BACKUPS.prefix_rev(read, &user.to_owned())?.next().transpose()? {
        Some(((_, version), Json(backup))) => Ok((version, backup)),
        None => Err(none()),
    }
}

/// A version.
///
/// # Errors
/// `M_NOT_FOUND`
pub fn get(read: &dyn Read, user: &str, version: u64) -> Answer<Backup> {
    BACKUPS.get(read, &(user.to_owned(), version))?.map(|row| row.0).ok_or_else(none)
}

/// Sets the data of a version's algorithm.
///
/// # Errors
/// `M_NOT_FOUND`; `M_INVALID_PARAM` for another algorithm.
pub fn update(tx: &mut Tx, user: &str, version: u64, algorithm: &str, auth_data: Value) -> Answer<()> {
    let mut backup = get(tx, user, version)?;
    if backup.algorithm != algorithm {
        return Err(MatrixError::invalid_param(format!("the algorithm of this backup is {}", backup.algorithm)));
    }
    backup.auth_data = auth_data;
    Ok(BACKUPS.put(tx, &(user.to_owned(), version), &Json(backup))?)
}

/// A key with the place it is for, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct RoomKey {
    /// The room ID.
    pub room: String,
    /// The session ID.
    pub session: String,
    /// The encrypted key with what is known of it.
    pub key: Object,
}

impl RoomKey {
    /// Checks a key of an upload.
    ///
    /// # Errors
    /// `M_BAD_JSON`, `M_INVALID_PARAM`, `M_TOO_LARGE`.
    pub fn check(room: &str, session: &str, key: Value) -> Answer<Self> {
        if [room, session].iter().any(|name| name.is_empty() || name.len() > MAX_NAME) {
            return Err(MatrixError::invalid_param(format!("room and session IDs have 1 to {MAX_NAME} bytes")));
        }
        let Value::Object(key) = key else { return Err(MatrixError::bad_json("a room key must be an object")) };
        let is_key =
            ["first_message_index", "forwarded_count"].iter().all(|field| key.get(*field).is_some_and(Value::is_u64))
                && key.get("is_verified").is_some_and(Value::is_boolean)
                && key.get("session_data").is_some_and(Value::is_object);
        if !is_key {
            return Err(MatrixError::bad_json(
                "a room key has first_message_index, forwarded_count, is_verified and session_data",
            ));
        }
        let key_bytes = Value::Object(key.clone()).to_string().len();
        if key_bytes > MAX_BYTES {
            return Err(MatrixError::too_large(format!("a room key has at most {MAX_BYTES} bytes")));
        }
        Ok(Self { room: room.to_owned(), session: session.to_owned(), key })
    }
}

/// Whether a key is better than the one that is kept: verified before not, then the one from earlier in the session, then the one
/// that was forwarded less often.
fn is_better(new: &Object, kept: &Object) -> bool {
    let number = |key: &Object, field: &str| key.get(field).and_then(Value::as_u64).unwrap_or(u64::MAX);
    let rank = |key: &Object| {
        let unverified = key.get("is_verified").and_then(Value::as_bool) != Some(true);
        (unverified, number(key, "first_message_index"), number(key, "forwarded_count"))
    };
    rank(new) < rank(kept)
}

/// Keeps keys in the current version; of two for one session, the better.
///
/// # Errors
/// `M_NOT_FOUND` without any backup; `M_WRONG_ROOM_KEYS_VERSION` when the version is not the current one;
/// `M_RESOURCE_LIMIT_EXCEEDED` when it is full.
pub fn put_keys(tx: &mut Tx, user: &str, version: u64, keys: Vec<RoomKey>) -> Answer<Tally> {
    let (current, mut backup) = latest(tx, user)?;
    if current != version {
        return Err(MatrixError::new(
            http::StatusCode::FORBIDDEN,
            "M_WRONG_ROOM_KEYS_VERSION",
            "keys are kept in the current version only",
        )
        .with("current_version", current.to_string()));
    }
    let mut changed = false;
    for RoomKey { room, session, key } in keys {
        let place: Place = (user.to_owned(), version, room, session);
        match BACKUP_KEYS.get(tx, &place)? {
            Some(Json(kept)) if !is_better(&key, &kept) => continue,
            Some(_) => {}
            None => backup.count += 1,
        }
        BACKUP_KEYS.put(tx, &place, &Json(key))?;
        changed = true;
    }
    if backup.count > MAX_KEYS {
        return Err(MatrixError::new(
            http::StatusCode::BAD_REQUEST,
            "M_RESOURCE_LIMIT_EXCEEDED",
            format!("a key backup holds at most {MAX_KEYS} keys"),
        ));
    }
    tally(tx, user, version, backup, changed)
}

fn tally(tx: &mut Tx, user: &str, version: u64, mut backup: Backup, changed: bool) -> Answer<Tally> {
    if changed {
        backup.etag += 1;
        BACKUPS.put(tx, &(user.to_owned(), version), &Json(backup.clone()))?;
    }
    Ok(Tally { etag: backup.etag, count: backup.count })
}

/// The key of one session.
///
/// # Errors
/// `M_NOT_FOUND`
pub fn key(read: &dyn Read, user: &str, version: u64, room: &str, session: &str) -> Answer<Object> {
    get(read, user, version)?;
    let place: Place = (user.to_owned(), version, room.to_owned(), session.to_owned());
    BACKUP_KEYS
        .get(read, &place)?
        .map(|row| row.0)
        .ok_or_else(|| MatrixError::not_found("the backup holds no key of this session"))
}

/// A page of a version's keys (of one room, if it is named) after a place, in the order of rooms and sessions.
///
/// # Errors
/// As all reads.
pub fn page(
    read: &dyn Read,
    user: &str,
    version: u64,
    room: Option<&str>,
    after: Option<&Place>,
    limit: usize,
) -> Result<Vec<(Place, Object)>, StoreError> {
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let rows = match room {
        Some(room) => {
            BACKUP_KEYS.prefix_range(read, &(user.to_owned(), version, room.to_owned()), (from, Bound::Unbounded))?
        }
        None => BACKUP_KEYS.prefix_range(read, &(user.to_owned(), version), (from, Bound::Unbounded))?,
    };
    rows.take(limit).map(|row| row.map(|(place, key)| (place, key.0))).collect()
}

/// Deletes the key of a session, or all of a room, or all; some at a time, so that no change is long. Gives the tally after.
///
/// # Errors
/// `M_NOT_FOUND` when there is no such version.
pub async fn delete_keys(
    node: &Arc<Node>,
    user: &str,
    version: u64,
    room: Option<String>,
    session: Option<String>,
) -> Answer<Tally> {
    loop {
        let (user, room, session) = (user.to_owned(), room.clone(), session.clone());
        let (tally, more) = node
            .store
            .write(move |tx| {
                let mut backup = get(tx, &user, version)?;
                let places: Vec<Place> = match (&room, &session) {
                    (Some(room), Some(session)) => vec![(user.clone(), version, room.clone(), session.clone())],
                    (room, _) => page(tx, &user, version, room.as_deref(), None, AT_ONCE)?
                        .into_iter()
                        .map(|(place, _)| place)
                        .collect(),
                };
                let mut deleted = 0;
                for place in &places {
                    deleted += u64::from(BACKUP_KEYS.delete(tx, place)?);
                }
                backup.count = backup.count.saturating_sub(deleted);
                Ok::<_, MatrixError>((tally(tx, &user, version, backup, deleted > 0)?, places.len() == AT_ONCE))
            })
            .await?;
        if !more {
            return Ok(tally);
        }
    }
}

/// Deletes a version at once; its keys go behind ([`sweep`]).
///
/// # Errors
/// `M_NOT_FOUND` when there is no such version.
pub async fn delete(node: &Arc<Node>, user: &str, version: u64) -> Answer<()> {
    let key = (user.to_owned(), version);
    node.store.write(move |tx| if BACKUPS.delete(tx, &key)? { Ok(()) } else { Err(none()) }).await?;
    let node = node.clone();
    node.clone().spawner.spawn(
        "sweep key backups",
        Box::pin(async move {
            if let Err(error) = sweep(&node).await {
                tracing::warn!(%error, "keys of a deleted backup are left over");
            }
        }),
    );
    Ok(())
}

/// Deletes all versions of a user, for erasure; their keys go with the next [`sweep`].
///
/// # Errors
/// As all writes.
pub fn delete_all(tx: &mut Tx, user: &str) -> Result<(), StoreError> {
    // The count of versions stays: keys that are still to be swept must not get into a new version.
    super::delete_prefix(tx, &BACKUPS, &user.to_owned()).map(drop)
}

/// Deletes keys whose version is gone.
///
/// # Errors
/// As all writes.
pub async fn sweep(node: &Arc<Node>) -> Result<(), StoreError> {
    let mut after: Option<(String, u64)> = None;
    loop {
        // The next version that has keys.
        let next = node.store.read(|read| -> Result<_, StoreError> {
            let from = match &after {
                Some((user, version)) => Bound::Included((user.clone(), version + 1, String::new(), String::new())),
                None => Bound::Unbounded,
            };
            let Some(row) = BACKUP_KEYS.range(read, (from, Bound::Unbounded))?.next() else { return Ok(None) };
            let ((user, version, ..), _) = row?;
            let is_gone = !BACKUPS.contains(read, &(user.clone(), version))?;
            Ok(Some((user, version, is_gone)))
        })?;
        let Some((user, version, is_gone)) = next else { return Ok(()) };
        if !is_gone {
            after = Some((user, version));
            continue;
        }
        node.store
            .write(move |tx| {
                for (place, _) in page(tx, &user, version, None, None, AT_ONCE)? {
                    BACKUP_KEYS.delete(tx, &place)?;
                }
                Ok::<_, StoreError>(())
            })
            .await?;
    }
}
