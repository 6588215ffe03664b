//! Profiles of this node's users (client-server specification, "Profiles"), and how a change reaches their rooms.

use std::sync::Arc;

use kith_store::tables::accounts::PROFILES;
use kith_store::tables::rooms::membership;
use kith_store::{Read, StoreError};
use ruma::UserId;
use serde_json::{Map, Value};

use super::{room_updates, users};
use crate::Node;
use crate::http::{Answer, MatrixError};
use crate::rooms::read as rooms;

/// The field with the name that others see.
pub const DISPLAYNAME: &str = "displayname";
/// The field with the picture.
pub const AVATAR_URL: &str = "avatar_url";
/// A profile is at most so many bytes of JSON.
pub const MAX_PROFILE: usize = 64 << 10;
/// The longest name of a field, in bytes.
pub const MAX_FIELD: usize = 255;
/// The longest display name and avatar URL, in bytes: they go into member events, which have a limit of their own.
const MAX_NAME: usize = 1000;

/// The profile of a user of this node; empty when nothing is set. None when there is no such user.
///
/// # Errors
/// As all reads.
pub fn get(read: &dyn Read, user: &UserId) -> Result<Option<Map<String, Value>>, StoreError> {
    if !users::is_active(read, user)? {
        return Ok(None);
    }
    let mut profile = Map::new();
    for row in PROFILES.prefix(read, &user.to_string())? {
        let ((_, field), value) = row?;
        // What is stored was made of a value.
        profile.insert(field, serde_json::from_str(&value).unwrap_or_default());
    }
    Ok(Some(profile))
}

/// The fields of a user's profile that member events carry: name and picture.
///
/// # Errors
/// As all reads.
pub fn for_member_event(read: &dyn Read, user: &UserId) -> Result<Map<String, Value>, StoreError> {
    let mut profile = get(read, user)?.unwrap_or_default();
    profile.retain(|field, _| field == DISPLAYNAME || field == AVATAR_URL);
    Ok(profile)
}

/// The profile of another server's user (or one field of it), as that server tells it; while the server cannot be
/// reached, the name and picture that the user has in a room shared with this node.
///
/// # Errors
/// `M_NOT_FOUND` of that server; 502 when it does not answer and no room knows the user.
pub async fn of_remote(node: &Arc<Node>, user: &UserId, field: Option<&str>) -> Answer<Map<String, Value>> {
    match node.federation.query_profile(user, field).await {
        Err(error) if error.status.is_server_error() => match node.store.read(|read| from_rooms(read, user))? {
            Some(profile) => Ok(profile),
            None => Err(error),
        },
        answer => answer,
    }
}

/// The name and picture in the user's latest member event among the rooms that this node shares with it.
fn from_rooms(read: &dyn Read, user: &UserId) -> Result<Option<Map<String, Value>>, StoreError> {
    let mut latest = None;
    for (room, part) in rooms::rooms_of(read, user.as_str())? {
        if part.membership == membership::JOIN && latest.is_none_or(|(position, _)| part.position > position) {
            latest = Some((part.position, room));
        }
    }
    let Some((_, room)) = latest else { return Ok(None) };
    let event = rooms::state_event(read, room, "m.room.member", user.as_str())?;
    Ok(event.map(|event| {
        let fields = event.content().iter().filter(|(field, _)| *field == DISPLAYNAME || *field == AVATAR_URL);
        fields.map(|(field, value)| (field.clone(), value.clone())).collect()
    }))
}

/// Sets a field of a user's profile, or deletes it (`None`). A new name or picture goes into the user's rooms.
///
/// # Errors
/// `M_INVALID_PARAM`, `M_KEY_TOO_LARGE`, `M_PROFILE_TOO_LARGE`.
pub async fn set(node: &Arc<Node>, user: &UserId, field: &str, value: Option<Value>) -> Answer<()> {
    if field.is_empty() {
        return Err(MatrixError::invalid_param("a profile field needs a name"));
    }
    if field.len() > MAX_FIELD {
        return Err(bad("M_KEY_TOO_LARGE", "the name of a profile field has at most 255 bytes"));
    }
    // To delete by an empty text is how clients did it before there was DELETE.
    let value = match (field, value) {
        (DISPLAYNAME | AVATAR_URL, Some(Value::Null)) => None,
        (DISPLAYNAME | AVATAR_URL, Some(Value::String(text))) if text.is_empty() => None,
        (DISPLAYNAME, Some(Value::String(text))) if text.len() <= MAX_NAME => Some(Value::String(text)),
        (AVATAR_URL, Some(Value::String(text))) if text.len() <= MAX_NAME && text.starts_with("mxc://") => {
            Some(Value::String(text))
        }
        (DISPLAYNAME, Some(_)) => {
            return Err(MatrixError::invalid_param("a display name is a text of at most 1000 bytes"));
        }
        (AVATAR_URL, Some(_)) => return Err(MatrixError::invalid_param("an avatar URL is an mxc:// URI")),
        (_, value) => value,
    };
    let (id, key) = (user.to_owned(), (user.to_string(), field.to_owned()));
    let shown = matches!(field, DISPLAYNAME | AVATAR_URL);
    let changed = node
        .store
        .write(move |tx| {
            let Some(mut profile) = get(tx, &id)? else {
                return Err(MatrixError::not_found("there is no such user"));
            };
            let changed = match value {
                Some(value) => {
                    let text = value.to_string();
                    let before = profile.insert(key.1.clone(), value);
                    if Value::Object(profile).to_string().len() > MAX_PROFILE {
                        return Err(bad("M_PROFILE_TOO_LARGE", "a profile has at most 64 KiB"));
                    }
                    PROFILES.put(tx, &key, &text)?;
                    before.is_none_or(|before| *before.to_string() != *text)
                }
                None => PROFILES.delete(tx, &key)?,
            };
            if changed && shown {
                room_updates::note(tx, &id, false)?;
            }
            Ok(changed)
        })
        .await?;
    if changed && shown {
        room_updates::begin(node, user);
    }
    Ok(())
}

fn bad(errcode: &str, message: &str) -> MatrixError {
    MatrixError::new(http::StatusCode::BAD_REQUEST, errcode, message)
}
