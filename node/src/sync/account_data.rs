//! Account data in a sync: what the user's clients stored since, for the account and per room.

use std::collections::{BTreeMap, BTreeSet};

use kith_store::{
    Read,
    tables::account_data::{AccountDataEvent, changes_since, get, in_room},
};
use ruma::{
    RoomId,
    api::client::filter::{Filter, RoomEventFilter},
    events::{AnyGlobalAccountDataEvent, AnyRoomAccountDataEvent},
    serde::Raw,
};
use serde_json::{json, value::to_raw_value};

use crate::{
    http::Answer,
    rooms::{filter::matches, read},
};

/// The type of account data that lists whom a user ignores.
pub const IGNORED: &str = "m.ignored_user_list";

/// Whom a user ignores (specification, "Ignoring Users").
///
/// # Errors
/// The store's.
pub fn ignored(read: &dyn Read, user: &str) -> Answer<BTreeSet<String>> {
    let list = get(read, user, None, IGNORED)?;
    let list: Option<serde_json::Value> = list.and_then(|list| serde_json::from_str(&list).ok());
    let users = list.as_ref().and_then(|list| list.get("ignored_users")).and_then(serde_json::Value::as_object);
    Ok(users.map(|users| users.keys().cloned().collect()).unwrap_or_default())
}

/// Account data that changed, by room; the empty name stands for the account itself.
pub(super) struct Changed(BTreeMap<String, Vec<AccountDataEvent>>);

/// What changed after `since` (all there is, without) and up to `upto`.
pub(super) fn changed(read: &dyn Read, user: &str, since: Option<u64>, upto: u64) -> Answer<Changed> {
    let mut rooms: BTreeMap<String, Vec<AccountDataEvent>> = BTreeMap::new();
    for event in changes_since(read, user, since.unwrap_or(0))? {
        // In a first sync, deleted data need no mention.
        if event.position <= upto && (since.is_some() || event.content != "{}") {
            rooms.entry(event.room.clone().unwrap_or_default()).or_default().push(event);
        }
    }
    Ok(Changed(rooms))
}

impl Changed {
    /// The account's own, as the filter wants it.
    pub(super) fn global(&self, filter: &Filter) -> Vec<Raw<AnyGlobalAccountDataEvent>> {
        self.events("", filter.types.as_deref(), &filter.not_types)
    }

    /// A room that the client knows nothing of yet: all there is is new.
    pub(super) fn add_whole_room(&mut self, read: &dyn Read, user: &str, room: &RoomId, upto: u64) -> Answer<()> {
        let mut events = in_room(read, user, Some(room.as_str()))?;
        events.retain(|event| event.position <= upto && event.content != "{}");
        self.0.insert(room.to_string(), events);
        Ok(())
    }

    /// A room's, as the filter wants it.
    pub(super) fn of_room(&self, room: &RoomId, filter: &RoomEventFilter) -> Vec<Raw<AnyRoomAccountDataEvent>> {
        let is_wanted = !filter.not_rooms.iter().any(|other| other == room)
            && filter.rooms.as_ref().is_none_or(|rooms| rooms.iter().any(|other| other == room));
        if !is_wanted {
            return Vec::new();
        }
        self.events(room.as_str(), filter.types.as_deref(), &filter.not_types)
    }

    /// The numbers of the rooms concerned.
    pub(super) fn rooms(&self, read: &dyn Read) -> Answer<Vec<u64>> {
        let names: BTreeSet<&String> = self.0.keys().filter(|room| !room.is_empty()).collect();
        let mut numbers = Vec::new();
        for name in names {
            numbers.extend(read::room_number(read, name)?);
        }
        Ok(numbers)
    }

    fn events<T>(&self, room: &str, types: Option<&[String]>, not_types: &[String]) -> Vec<Raw<T>> {
        let events = self.0.get(room).map(Vec::as_slice).unwrap_or_default();
        let wanted = |event: &&AccountDataEvent| {
            types.is_none_or(|types| types.iter().any(|pattern| matches(pattern, &event.kind)))
                && !not_types.iter().any(|pattern| matches(pattern, &event.kind))
        };
        events
            .iter()
            .filter(wanted)
            .filter_map(|event| {
                let content: serde_json::Value = serde_json::from_str(&event.content).ok()?;
                let json = to_raw_value(&json!({"type": event.kind, "content": content})).ok()?;
                Some(Raw::from_json(json))
            })
            .collect()
    }
}
