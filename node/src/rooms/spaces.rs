//! Spaces: the rooms that a room names as its children (client-server specification, "Spaces").

use kith_store::{Read, StoreError, tables::rooms::CURRENT_STATE};
use ruma::{OwnedRoomId, OwnedServerName};
use serde_json::{Value, json};

use super::{
    client_event::stripped,
    read::{self, StoredEvent},
};

/// Children of one space that are told.
pub const MOST_CHILDREN: usize = 500;

/// A child as its space names it.
#[derive(Debug, Clone)]
pub struct Child {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Servers that are in it.
    pub via: Vec<OwnedServerName>,
    /// The `m.space.child` event, stripped, with `origin_server_ts`.
    pub event: Value,
    order: (bool, String, u64),
}

/// The children of a room in their order; `suggested`: only those it suggests.
pub fn children(read: &dyn Read, room: u64, suggested: bool) -> Result<Vec<Child>, StoreError> {
    let mut children = Vec::new();
    for row in CURRENT_STATE.prefix(read, &(room, "m.space.child".to_owned()))?.take(MOST_CHILDREN) {
        let (_, number) = row?;
        if let Some(event) = read::event(read, number)?
            && (!suggested || event.content().get("suggested").and_then(Value::as_bool) == Some(true))
            && let Some(child) = child(&told(&event))
        {
            children.push(child);
        }
    }
    sort(&mut children);
    Ok(children)
}

/// Puts the children of a space into their order.
pub fn sort(children: &mut [Child]) {
    children.sort_by(|one, other| (&one.order, &one.room_id).cmp(&(&other.order, &other.room_id)));
}

fn told(event: &StoredEvent) -> Value {
    let mut value = stripped(event);
    if let Value::Object(fields) = &mut value {
        fields.insert("origin_server_ts".to_owned(), json!(event.timestamp()));
    }
    value
}

/// Reads a stripped `m.space.child`; none when it names no server, which takes the child out of its space.
pub fn child(event: &Value) -> Option<Child> {
    let content = event.get("content")?;
    let via: Vec<OwnedServerName> = content
        .get("via")?
        .as_array()?
        .iter()
        .filter_map(|server| OwnedServerName::try_from(server.as_str()?).ok())
        .collect();
    if via.is_empty() {
        return None;
    }
    let order = content
        .get("order")
        .and_then(Value::as_str)
        .filter(|order| order.len() <= 50 && order.chars().all(|c| ('\u{20}'..='\u{7e}').contains(&c)));
    let time = event.get("origin_server_ts").and_then(Value::as_u64).unwrap_or_default();
    Some(Child {
        room_id: OwnedRoomId::try_from(event.get("state_key")?.as_str()?).ok()?,
        via,
        event: event.clone(),
        order: (order.is_none(), order.unwrap_or_default().to_owned(), time),
    })
}
