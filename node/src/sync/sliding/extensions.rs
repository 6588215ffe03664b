//! What goes along with rooms (MSC4186, "Extensions"): messages to the device (MSC3885), whose keys to look at (MSC3884), account data
//! (MSC3959), receipts (MSC3960), typing (MSC3961) and thread subscriptions (MSC4308).

use std::collections::{BTreeMap, BTreeSet};

use kith_store::{Snapshot, tables::rooms::membership};
use ruma::{
    OneTimeKeyAlgorithm, OwnedRoomId, UInt,
    api::client::{filter::Filter, sync::sync_events::DeviceLists},
    events::{AnyGlobalAccountDataEvent, AnyToDeviceEvent},
    serde::Raw,
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    connection::{Known, Moment},
    request::{Extension, Extensions},
    rooms::Entry,
};
use crate::{
    Node,
    e2ee::to_device,
    ephemeral::{receipts, typing},
    http::{Answer, MatrixError, Session},
    sync::{account_data, e2ee, threads},
};

/// What is told.
#[derive(Debug, Default, Serialize)]
pub(super) struct Told {
    #[serde(skip_serializing_if = "Option::is_none")]
    to_device: Option<ToDevice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e2ee: Option<E2ee>,
    #[serde(skip_serializing_if = "AccountData::is_empty")]
    account_data: AccountData,
    #[serde(skip_serializing_if = "InRooms::is_empty")]
    receipts: InRooms,
    #[serde(skip_serializing_if = "InRooms::is_empty")]
    typing: InRooms,
    #[serde(rename = "io.element.msc4308.thread_subscriptions", skip_serializing_if = "Option::is_none")]
    threads: Option<threads::Changes>,
}

#[derive(Debug, Serialize)]
struct ToDevice {
    next_batch: String,
    events: Vec<Raw<AnyToDeviceEvent>>,
}

#[derive(Debug, Serialize)]
struct E2ee {
    #[serde(skip_serializing_if = "DeviceLists::is_empty")]
    device_lists: DeviceLists,
    device_one_time_keys_count: BTreeMap<OneTimeKeyAlgorithm, UInt>,
    device_unused_fallback_key_types: Vec<OneTimeKeyAlgorithm>,
}

#[derive(Debug, Default, Serialize)]
struct AccountData {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    global: Vec<Raw<AnyGlobalAccountDataEvent>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    rooms: BTreeMap<OwnedRoomId, Vec<Value>>,
}

impl AccountData {
    fn is_empty(&self) -> bool {
        self.global.is_empty() && self.rooms.is_empty()
    }
}

#[derive(Debug, Default, Serialize)]
struct InRooms {
    rooms: BTreeMap<OwnedRoomId, Value>,
}

impl InRooms {
    fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }
}

impl Told {
    /// Whether there is something that a client would not want to wait for.
    pub(super) fn is_news(&self) -> bool {
        self.to_device.as_ref().is_some_and(|told| !told.events.is_empty())
            || self.e2ee.as_ref().is_some_and(|told| !told.device_lists.is_empty())
            || !self.account_data.is_empty()
            || !self.receipts.is_empty()
            || !self.typing.is_empty()
            || self.threads.is_some()
    }
}

/// A room that some list or subscription wants.
pub(super) struct InScope<'a> {
    pub(super) number: u64,
    pub(super) entry: &'a Entry,
    pub(super) lists: Vec<&'a str>,
    pub(super) subscribed: bool,
}

impl InScope<'_> {
    fn is_wanted(&self, extension: &Extension) -> bool {
        extension.is_enabled() && extension.wants(self.entry.room_id.as_str(), &self.lists, self.subscribed)
    }
}

/// One answer's extensions while they are made.
pub(super) struct Telling<'a> {
    pub(super) node: &'a Node,
    pub(super) read: &'a Snapshot,
    pub(super) session: &'a Session,
    pub(super) wanted: &'a Extensions,
    /// Position up to which is told.
    pub(super) upto: u64,
    /// Serial of what is in memory only, taken before the snapshot.
    pub(super) serial: u64,
}

impl Telling<'_> {
    /// What belongs to no room.
    pub(super) fn at_large(&self, reached: &Moment, next: &mut Moment, told: &mut Told) -> Answer<()> {
        let (read, upto, wanted) = (self.read, self.upto, self.wanted);
        if wanted.to_device.is_enabled() {
            let since = since_of(wanted.to_device.since.as_deref())?;
            // A token that is ahead is of another store.
            let since = if since > upto { 0 } else { since };
            let limit = wanted.to_device.limit.unwrap_or(u64::MAX);
            let limit = usize::try_from(limit).unwrap_or(usize::MAX).clamp(1, to_device::MOST_AT_ONCE);
            let (events, next) = e2ee::messages(read, self.session, since, upto, limit)?;
            told.to_device = Some(ToDevice { next_batch: next.to_string(), events });
        }
        if wanted.e2ee.is_enabled() {
            let keys = e2ee::keys(read, self.session)?;
            let device_lists = match reached.e2ee {
                0 => DeviceLists::new(),
                since => e2ee::device_lists(self.node, read, self.session, since)?,
            };
            told.e2ee = Some(E2ee {
                device_lists,
                device_one_time_keys_count: keys.counts,
                device_unused_fallback_key_types: keys.unused_fallbacks,
            });
            next.e2ee = upto;
        }
        if wanted.account_data.is_enabled() {
            let since = Some(reached.account_data).filter(|since| *since > 0);
            let changed = account_data::changed(read, self.session.user_id.as_str(), since, upto)?;
            told.account_data.global = changed.global(&Filter::default());
            next.account_data = upto;
        }
        if wanted.threads.is_enabled() {
            let limit = wanted.threads.limit.unwrap_or(u64::MAX);
            told.threads = threads::latest(read, self.session.user_id.as_str(), reached.threads, upto, limit)?;
            next.threads = upto;
        }
        Ok(())
    }

    /// Whether there may be something to tell of a room beside what is in it.
    pub(super) fn may_tell(&self, room: &InScope<'_>, known: &Known) -> bool {
        self.data_is_new(room, known) || self.receipts_are_new(room, known)
    }

    fn data_is_new(&self, room: &InScope<'_>, known: &Known) -> bool {
        (known.account_data < room.entry.data || known.account_data == 0) && room.is_wanted(&self.wanted.account_data)
    }

    fn receipts_are_new(&self, room: &InScope<'_>, known: &Known) -> bool {
        known.saw_inside
            && (known.receipts < room.entry.touched || known.receipts == 0)
            && room.is_wanted(&self.wanted.receipts)
    }

    /// What belongs to a room, of which the client was given `events` (none, if it was given nothing now). It changes what is known
    /// of the room.
    pub(super) fn of_room(
        &self,
        room: &InScope<'_>,
        known: &mut Known,
        events: Option<&BTreeSet<String>>,
        told: &mut Told,
    ) -> Answer<()> {
        let user = self.session.user_id.as_str();
        if self.data_is_new(room, known) {
            let since = known.account_data;
            let is_new = |event: &kith_store::tables::account_data::AccountDataEvent| {
                // What was deleted need not be told to who knows nothing.
                event.position > since && event.position <= self.upto && (since > 0 || event.content != "{}")
            };
            let all = kith_store::tables::account_data::in_room(self.read, user, Some(room.entry.room_id.as_str()))?;
            let events: Vec<Value> = all
                .into_iter()
                .filter(is_new)
                .filter_map(|event| {
                    let content: Value = serde_json::from_str(&event.content).ok()?;
                    Some(json!({ "type": event.kind, "content": content }))
                })
                .collect();
            if !events.is_empty() {
                told.account_data.rooms.insert(room.entry.room_id.clone(), events);
            }
            known.account_data = self.upto;
        }
        if self.receipts_are_new(room, known) {
            let shown = match known.receipts {
                0 => {
                    let none = BTreeSet::new();
                    receipts::contents_at(self.read, room.number, user, events.unwrap_or(&none), self.upto)?
                }
                since => receipts::contents(self.read, room.number, user, since, self.upto)?,
            };
            if let Some(content) = merged(shown.events) {
                let event = json!({ "type": "m.receipt", "content": content });
                told.receipts.rooms.insert(room.entry.room_id.clone(), event);
            }
            known.receipts = self.upto;
        }
        Ok(())
    }

    /// Who types in rooms.
    pub(super) fn typing(&self, rooms: &[InScope<'_>], reached: &Moment, next: &mut Moment, told: &mut Told) {
        next.serial = self.serial;
        if !self.wanted.typing.is_enabled() {
            return;
        }
        let now: BTreeMap<u64, _> = typing::changed_since(self.node, 0).into_iter().collect();
        if now.is_empty() && reached.typing.is_empty() {
            return;
        }
        let changed = typing::changed_since(self.node, reached.serial);
        let changed: BTreeSet<u64> = changed.into_iter().map(|(room, _)| room).collect();
        // Rooms that the user is not in are in lists, too.
        let is_in = |room: &&InScope<'_>| room.entry.part.membership == membership::JOIN;
        for room in rooms.iter().filter(is_in).filter(|room| room.is_wanted(&self.wanted.typing)) {
            let was_told = reached.typing.contains(&room.number);
            let users = match now.get(&room.number) {
                Some(users) if !was_told || changed.contains(&room.number) => users.clone(),
                // It may have ended while the room was out of sight.
                None if was_told => Vec::new(),
                _ => continue,
            };
            match users.is_empty() {
                true => next.typing.remove(&room.number),
                false => next.typing.insert(room.number),
            };
            let event = json!({ "type": "m.typing", "content": { "user_ids": users } });
            told.typing.rooms.insert(room.entry.room_id.clone(), event);
        }
    }
}

/// The position that a token of the extension for messages to the device stands for.
pub(super) fn since_of(token: Option<&str>) -> Answer<u64> {
    let wrong = |_| MatrixError::invalid_param("this is no token of this server: leave `since` out");
    token.filter(|token| !token.is_empty()).map_or(Ok(0), |token| token.parse().map_err(wrong))
}

/// One content of several, as one event is told of a room. A receipt for all threads says more than one for a thread.
fn merged(contents: Vec<Value>) -> Option<Value> {
    let mut contents = contents.into_iter();
    let mut merged = contents.next()?;
    for content in contents {
        let Value::Object(events) = content else { continue };
        for (event, kinds) in events {
            let Value::Object(kinds) = kinds else { continue };
            for (kind, users) in kinds {
                let Value::Object(users) = users else { continue };
                let place = &mut merged[&event][&kind];
                for (user, receipt) in users {
                    if place.get(&user).is_none_or(|_| receipt.get("thread_id").is_none()) {
                        if !place.is_object() {
                            *place = Value::Object(Map::new());
                        }
                        place[&user] = receipt;
                    }
                }
            }
        }
    }
    Some(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_receipts_at_one_event_the_one_for_all_threads_is_told() {
        let threaded = json!({ "$e": { "m.read": { "@a:x": { "ts": 1, "thread_id": "main" } } } });
        let all = json!({ "$e": { "m.read": { "@a:x": { "ts": 2 } } }, "$f": { "m.read": { "@b:x": { "ts": 3 } } } });
        for contents in [vec![threaded.clone(), all.clone()], vec![all, threaded]] {
            let merged = merged(contents).unwrap();
            assert_eq!(merged["$e"]["m.read"]["@a:x"], json!({ "ts": 2 }));
            assert_eq!(merged["$f"]["m.read"]["@b:x"], json!({ "ts": 3 }));
        }
        assert_eq!(super::merged(Vec::new()), None);
    }
}
