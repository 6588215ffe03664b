//! The rooms of a user, by latest activity (MSC4186, "Lists"): what lists are filtered from. It is kept in memory, and after a
//! commit only the rooms are looked at in which something happened.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kith_store::{
    Json, Read, StoreError,
    tables::{
        account_data::{self, ACCOUNT_DATA, ACCOUNT_DATA_CHANGES},
        rooms::{STREAM, UserRoomRow, membership},
    },
};
use ruma::OwnedRoomId;
use serde_json::Value;

use super::request::Filters;
use crate::{http::Answer, rooms::read, sync::activity::Activity};

/// Of how many users the rooms are remembered.
const REMEMBERED: usize = 200;
/// Tags that count of one room.
const MOST_TAGS: usize = 100;

const DIRECT: &str = "m.direct";
const TAG: &str = "m.tag";

/// A room in which a user has a part.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) room_id: OwnedRoomId,
    pub(super) part: Part,
    /// The stream position of the latest event that counts for the order.
    recency: u64,
    /// The stream position of the latest change of anything that is told of the room.
    pub(super) touched: u64,
    /// The stream position of the latest change of the user's account data for the room; 0: there is none.
    pub(super) data: u64,
    pub(super) is_dm: bool,
    is_encrypted: bool,
    kind: Option<String>,
    tags: BTreeSet<String>,
}

/// The user's part in a room, as far as lists ask for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) membership: u8,
    pub(super) joined_at: u64,
    /// Who made it so.
    pub(super) sender: String,
}

/// All rooms of one user, as of a stream position.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    user: String,
    upto: u64,
    filled: bool,
    pub(super) entries: BTreeMap<u64, Entry>,
    /// The rooms by activity, the latest first.
    order: BTreeSet<(Reverse<u64>, u64)>,
    /// The rooms that are direct chats, and the position of the account data that says so.
    direct: (u64, BTreeSet<String>),
}

impl Rooms {
    fn of(user: &str) -> Self {
        Self { user: user.to_owned(), ..Self::default() }
    }

    /// Takes in what happened up to the position that the snapshot `read` shows.
    pub(super) fn refresh(&mut self, read: &dyn Read, activity: &Activity, upto: u64) -> Answer<()> {
        if self.filled && upto <= self.upto {
            return Ok(());
        }
        match activity.changes_since(self.upto).filter(|_| self.filled) {
            Some(changed) => {
                for (position, room) in changed {
                    self.look(read, room, position)?;
                }
                self.account_data(read)?;
            }
            None => self.fill(read, upto)?,
        }
        self.upto = upto;
        Ok(())
    }

    fn fill(&mut self, read: &dyn Read, upto: u64) -> Answer<()> {
        *self = Self::of(&self.user);
        self.direct = direct(read, &self.user)?;
        for (room, part) in read::rooms_of(read, &self.user)? {
            self.put(read, room, part, upto)?;
        }
        let mut by_room: BTreeMap<String, (u64, BTreeSet<String>)> = BTreeMap::new();
        for row in ACCOUNT_DATA.prefix(read, &self.user)? {
            let ((_, room, kind), row) = row?;
            let of = by_room.entry(room).or_default();
            of.0 = of.0.max(row.position);
            if kind == TAG {
                of.1 = tags(&row.content);
            }
        }
        for entry in self.entries.values_mut() {
            if let Some((position, tags)) = by_room.remove(entry.room_id.as_str()) {
                (entry.data, entry.tags) = (position, tags);
            }
        }
        self.filled = true;
        Ok(())
    }

    /// Looks at a room anew that was touched at a position.
    fn look(&mut self, read: &dyn Read, room: u64, position: u64) -> Answer<()> {
        match read::user_room(read, &self.user, room)?.filter(|part| !part.forgotten) {
            Some(part) => self.put(read, room, part, position),
            None => {
                if let Some(gone) = self.entries.remove(&room) {
                    self.order.remove(&(Reverse(gone.recency), room));
                }
                Ok(())
            }
        }
    }

    fn put(&mut self, read: &dyn Read, room: u64, part: UserRoomRow, touched: u64) -> Answer<()> {
        let before = self.entries.remove(&room);
        if let Some(before) = &before {
            self.order.remove(&(Reverse(before.recency), room));
        }
        let Some(row) = read::room(read, room)? else { return Ok(()) };
        let Ok(room_id) = OwnedRoomId::try_from(row.room_id) else { return Ok(()) };
        let recency = match part.membership {
            membership::JOIN => {
                STREAM.prefix_rev(read, &room)?.next().transpose()?.map_or(part.position, |((_, at), _)| at)
            }
            _ => part.position,
        };
        let (data, tags) = before.map(|before| (before.data, before.tags)).unwrap_or_default();
        let entry = Entry {
            recency,
            touched,
            data,
            is_dm: self.direct.1.contains(room_id.as_str()),
            is_encrypted: told(read, room, &part, "m.room.encryption")?.is_some(),
            kind: told(read, room, &part, "m.room.create")?
                .and_then(|content| content.get("type").and_then(Value::as_str).map(str::to_owned)),
            tags,
            room_id,
            part: Part { membership: part.membership, joined_at: part.joined_at, sender: part.sender },
        };
        self.order.insert((Reverse(recency), room));
        self.entries.insert(room, entry);
        Ok(())
    }

    /// Takes in what the user's clients stored since.
    fn account_data(&mut self, read: &dyn Read) -> Answer<()> {
        let from = (self.user.clone(), self.upto.saturating_add(1));
        for row in ACCOUNT_DATA_CHANGES.prefix_from(read, &self.user, &from)? {
            let ((_, position), Json((room_id, kind))) = row?;
            if room_id.is_empty() {
                if kind == DIRECT {
                    self.direct = direct(read, &self.user)?;
                    for entry in self.entries.values_mut() {
                        let is_dm = self.direct.1.contains(entry.room_id.as_str());
                        if std::mem::replace(&mut entry.is_dm, is_dm) != is_dm {
                            entry.touched = entry.touched.max(position);
                        }
                    }
                }
                continue;
            }
            let Some(room) = read::room_number(read, &room_id)? else { continue };
            let Some(entry) = self.entries.get_mut(&room) else { continue };
            entry.data = entry.data.max(position);
            if kind == TAG {
                let content = account_data::get(read, &self.user, Some(&room_id), TAG)?;
                entry.tags = tags(content.as_deref().unwrap_or_default());
            }
        }
        Ok(())
    }

    /// The rooms that pass a filter, the latest first. `spaces` are the rooms that are in the spaces of the filter.
    pub(super) fn filtered<'a, 'b>(
        &'a self,
        filters: &'b Filters,
        spaces: Option<&'b BTreeSet<String>>,
    ) -> impl Iterator<Item = (u64, &'a Entry)> + use<'a, 'b> {
        self.order
            .iter()
            .filter_map(|(_, room)| self.entries.get(room).map(|entry| (*room, entry)))
            .filter(move |(_, entry)| entry.passes(filters, spaces))
    }
}

impl Entry {
    fn passes(&self, filters: &Filters, spaces: Option<&BTreeSet<String>>) -> bool {
        let is = |wanted: Option<bool>, really: bool| wanted.is_none_or(|wanted| wanted == really);
        is(filters.is_dm, self.is_dm)
            && is(filters.is_encrypted, self.is_encrypted)
            && is(filters.is_invite, self.part.membership == membership::INVITE)
            && filters.room_types.as_ref().is_none_or(|kinds| kinds.contains(&self.kind))
            && !filters.not_room_types.as_ref().is_some_and(|kinds| kinds.contains(&self.kind))
            && filters.tags.as_ref().is_none_or(|tags| tags.iter().any(|tag| self.tags.contains(tag)))
            && !filters.not_tags.as_ref().is_some_and(|tags| tags.iter().any(|tag| self.tags.contains(tag)))
            && spaces.is_none_or(|rooms| rooms.contains(self.room_id.as_str()))
    }
}

/// The content of a state event with an empty key; of a room that the user is not in, what it was told of it.
fn told(read: &dyn Read, room: u64, part: &UserRoomRow, kind: &str) -> Result<Option<Value>, StoreError> {
    if matches!(part.membership, membership::INVITE | membership::KNOCK) && !part.stripped.is_empty() {
        let event = part.stripped.iter().find(|event| event["type"] == kind && event["state_key"] == "");
        return Ok(event.map(|event| event["content"].clone()));
    }
    Ok(read::state_event(read, room, kind, "")?.map(|event| Value::Object(event.content().clone())))
}

fn tags(content: &str) -> BTreeSet<String> {
    let content: Value = serde_json::from_str(content).unwrap_or_default();
    let tags = content.get("tags").and_then(Value::as_object);
    tags.into_iter().flat_map(|tags| tags.keys().take(MOST_TAGS).cloned()).collect()
}

fn direct(read: &dyn Read, user: &str) -> Result<(u64, BTreeSet<String>), StoreError> {
    let Some(row) = ACCOUNT_DATA.get(read, &(user.to_owned(), String::new(), DIRECT.to_owned()))? else {
        return Ok(Default::default());
    };
    let content: Value = serde_json::from_str(&row.content).unwrap_or_default();
    let lists = content.as_object().into_iter().flat_map(|users| users.values());
    let rooms = lists.filter_map(Value::as_array).flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    Ok((row.position, rooms))
}

/// The rooms of the users who asked lately.
#[derive(Debug, Default)]
pub(super) struct AllRooms(Mutex<BTreeMap<String, Used>>);

/// When a user's rooms were asked for last, and the rooms.
type Used = (Duration, Arc<Mutex<Rooms>>);

impl AllRooms {
    /// The rooms of a user; empty until they are refreshed.
    pub(super) fn of(&self, user: &str, now: Duration) -> Arc<Mutex<Rooms>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((used, rooms)) = all.get_mut(user) {
            *used = now;
            return rooms.clone();
        }
        if all.len() >= REMEMBERED
            && let Some(oldest) = all.iter().min_by_key(|(_, (used, _))| *used).map(|(user, _)| user.clone())
        {
            all.remove(&oldest);
        }
        let rooms = Arc::new(Mutex::new(Rooms::of(user)));
        all.insert(user.to_owned(), (now, rooms.clone()));
        rooms
    }
}
