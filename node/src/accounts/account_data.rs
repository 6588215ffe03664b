//! Account data and tags: what clients keep for their user, checked and stored
//! (client-server specification, "Client config" and "Room tagging").

use std::sync::Arc;

use kith_store::tables::account_data as table;
use kith_store::{Read, Tx};
use ruma::UserId;
use serde_json::{Map, Value};

use crate::Node;
use crate::http::{Answer, MatrixError};

/// The longest content, in bytes of JSON.
pub const MAX_CONTENT: usize = 256 << 10;
/// The type that holds a room's tags.
pub const TAG: &str = "m.tag";
/// Types that other endpoints set.
const CONTROLLED: &[&str] = &["m.fully_read", super::push_rules::TYPE];

/// Sets account data, globally or (`room`) in a room. `content` must be the JSON text of an object.
///
/// # Errors
/// 405 `M_BAD_JSON` for types that the server controls, `M_BAD_JSON`, `M_TOO_LARGE`, `M_FORBIDDEN` for rooms the user
/// never had a part in, `M_LIMIT_EXCEEDED` for very many types.
pub async fn set(node: &Arc<Node>, user: &UserId, room: Option<&str>, kind: &str, content: &str) -> Answer<()> {
    if CONTROLLED.contains(&kind) {
        return Err(MatrixError::new(
            http::StatusCode::METHOD_NOT_ALLOWED,
            "M_BAD_JSON",
            format!("{kind} is controlled by the server; it cannot be set through this API"),
        ));
    }
    let content: Map<String, Value> =
        serde_json::from_str(content).map_err(|_| MatrixError::bad_json("account data must be an object"))?;
    if kind.is_empty() || kind.len() > 255 {
        return Err(MatrixError::invalid_param("a type has 1 to 255 bytes"));
    }
    let (user, room, kind) = (user.to_string(), room.map(str::to_owned), kind.to_owned());
    node.store.write(move |tx| put(tx, &user, room.as_deref(), &kind, content)).await
}

/// Changes account data by reading and writing it in one change; `change` gets the content, empty when there is none.
///
/// # Errors
/// Those of `change`, and as [`set`].
pub(crate) async fn update<F>(node: &Arc<Node>, user: &UserId, room: Option<&str>, kind: &str, change: F) -> Answer<()>
where
    F: FnOnce(&mut Map<String, Value>) -> Answer<()> + Send + 'static,
{
    let (user, room, kind) = (user.to_string(), room.map(str::to_owned), kind.to_owned());
    node.store
        .write(move |tx| {
            let mut content = get(tx, &user, room.as_deref(), &kind)?.unwrap_or_default();
            change(&mut content)?;
            put(tx, &user, room.as_deref(), &kind, content)
        })
        .await
}

/// The content of one type.
///
/// # Errors
/// As all reads.
pub fn get(read: &dyn Read, user: &str, room: Option<&str>, kind: &str) -> Answer<Option<Map<String, Value>>> {
    match table::get(read, user, room, kind)? {
        Some(content) => serde_json::from_str(&content).map(Some).map_err(MatrixError::internal),
        None => Ok(None),
    }
}

fn put(tx: &mut Tx, user: &str, room: Option<&str>, kind: &str, content: Map<String, Value>) -> Answer<()> {
    let content = Value::Object(content).to_string();
    if content.len() > MAX_CONTENT {
        return Err(MatrixError::too_large(format!("account data has at most {MAX_CONTENT} bytes")));
    }
    if let Some(room) = room {
        may_keep_for(tx, user, room)?;
    }
    if table::get(tx, user, room, kind)?.is_none() && table::count(tx, user, room)? >= table::MAX_TYPES {
        return Err(MatrixError::new(
            http::StatusCode::TOO_MANY_REQUESTS,
            "M_LIMIT_EXCEEDED",
            "there are too many types of account data",
        ));
    }
    table::set(tx, user, room, kind, content)?;
    Ok(())
}

/// Only rooms that the user has or had a part in: others could be made up without end.
fn may_keep_for(read: &dyn Read, user: &str, room_id: &str) -> Answer<()> {
    use crate::rooms::read;
    let part = match read::room_number(read, room_id)? {
        Some(room) => read::user_room(read, user, room)?,
        None => None,
    };
    if part.is_none() {
        return Err(MatrixError::forbidden("you have no part in this room"));
    }
    Ok(())
}
