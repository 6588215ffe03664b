//! Who may see which event (client-server specification, "Room history visibility").
//!
//! What counts is the state at the event: the history visibility and the user's membership there. For an event that
//! changes one of the two, what held before it or what holds after it is enough.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use kith_store::{
    Read, StoreError,
    tables::{
        account_data,
        rooms::{EventStatus, UserRoomRow, membership},
    },
};
use serde_json::Value;

use super::{
    read::{self, StoredEvent},
    retention,
};

/// The type of events that only join the ends of a room's graph. They are nothing to anybody, and shown to nobody.
pub const DUMMY_EVENT: &str = "org.matrix.dummy_event";

/// How many changes of membership are looked through for the end of a stay.
const MOST_STEPS: usize = 1_000;

/// The settings of `m.room.history_visibility`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryVisibility {
    /// Everybody, member or not.
    WorldReadable,
    /// Members, and those who become members later.
    Shared,
    /// Members from their invite on.
    Invited,
    /// Members from their join on.
    Joined,
}

impl HistoryVisibility {
    /// The setting an event has; unknown words and no event mean `shared`.
    pub fn of(event: Option<&StoredEvent>) -> Self {
        match event.and_then(|event| event.content().get("history_visibility")).and_then(Value::as_str) {
            Some("world_readable") => Self::WorldReadable,
            Some("invited") => Self::Invited,
            Some("joined") => Self::Joined,
            _ => Self::Shared,
        }
    }

    /// The present setting of a room.
    pub fn current(read: &dyn Read, room: u64) -> Result<Self, StoreError> {
        Ok(Self::of(read::state_event(read, room, "m.room.history_visibility", "")?.as_ref()))
    }
}

/// One user's view of one room, over one snapshot. It remembers what it looked up, so use one for many events.
pub struct Eyes<'a> {
    read: &'a dyn Read,
    room: u64,
    user: String,
    part: Option<UserRoomRow>,
    /// Depth of the event that ended the user's last stay.
    end: RefCell<Option<u64>>,
    /// Whom the user ignores, once asked for.
    ignored: RefCell<Option<BTreeSet<String>>>,
    /// By state number: the setting and the user's membership there.
    known: RefCell<BTreeMap<u64, (HistoryVisibility, Option<u8>)>>,
}

impl<'a> Eyes<'a> {
    /// The view that `user` has of `room`. Who forgot a room sees no more of it than who never was there.
    pub fn new(read: &'a dyn Read, room: u64, user: &str) -> Result<Self, StoreError> {
        Ok(Self {
            read,
            room,
            user: user.to_owned(),
            part: read::user_room(read, user, room)?.filter(|part| !part.forgotten),
            end: RefCell::default(),
            ignored: RefCell::default(),
            known: RefCell::default(),
        })
    }

    /// Whose view it is.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The user's present part in the room; none if it was forgotten.
    pub fn part(&self) -> Option<&UserRoomRow> {
        self.part.as_ref()
    }

    /// Whether the user is joined now.
    pub fn joined(&self) -> bool {
        self.part.as_ref().is_some_and(|part| part.membership == membership::JOIN)
    }

    /// Whether there is anything in the room that the user may look for: the user was ever joined and did not forget it, or
    /// anybody may read, or those who are invited may and the user is.
    pub fn may_enter(&self) -> Result<bool, StoreError> {
        if self.was_joined() {
            return Ok(true);
        }
        let invited = self.part.as_ref().is_some_and(|part| part.membership == membership::INVITE);
        Ok(match HistoryVisibility::current(self.read, self.room)? {
            HistoryVisibility::WorldReadable => true,
            HistoryVisibility::Invited => invited,
            HistoryVisibility::Shared | HistoryVisibility::Joined => false,
        })
    }

    /// Whether the user is or was joined, and did not forget the room.
    fn was_joined(&self) -> bool {
        self.part.as_ref().is_some_and(|part| part.membership == membership::JOIN || part.joined_at != 0)
    }

    /// Of events that go along with others (the state around them), leaves those that the user may know: to members, also
    /// former ones, and where anybody may read, that is all of them; to those who are only invited, what they may see.
    pub fn keep_known(&self, events: &mut Vec<StoredEvent>) -> Result<(), StoreError> {
        if self.was_joined() || HistoryVisibility::current(self.read, self.room)? == HistoryVisibility::WorldReadable {
            return Ok(());
        }
        let mut known = Vec::new();
        for event in events.drain(..) {
            if self.sees(&event)? {
                known.push(event);
            }
        }
        *events = known;
        Ok(())
    }

    /// The event that ended the user's last stay; none for those who never were in the room, or are in it. What they did
    /// since (knocked, been banned) gives no further look into the room.
    pub fn end_of_stay(&self) -> Result<Option<StoredEvent>, StoreError> {
        let Some(part) = self.part.as_ref().filter(|part| part.membership != membership::JOIN && part.joined_at != 0)
        else {
            return Ok(None);
        };
        let mut end = read::event(self.read, part.event)?;
        for _ in 0..MOST_STEPS {
            let Some(event) = &end else { break };
            let before = read::state_event_at(self.read, event.row.state_before, "m.room.member", &self.user)?;
            match before {
                Some(before) if membership_of(&before) == Some(membership::JOIN) => return Ok(end),
                before => end = before,
            }
        }
        Ok(None)
    }

    /// Whether the user ignores another (specification, "Ignoring Users").
    fn ignores(&self, other: &str) -> Result<bool, StoreError> {
        if other == self.user {
            return Ok(false);
        }
        let mut ignored = self.ignored.borrow_mut();
        if ignored.is_none() {
            let list = account_data::get(self.read, &self.user, None, "m.ignored_user_list")?;
            let list: Option<Value> = list.and_then(|list| serde_json::from_str(&list).ok());
            let users = list.as_ref().and_then(|list| list.get("ignored_users")).and_then(Value::as_object);
            *ignored = Some(users.map(|users| users.keys().cloned().collect()).unwrap_or_default());
        }
        Ok(ignored.as_ref().is_some_and(|ignored| ignored.contains(other)))
    }

    /// Whether the user may see the event, and wants to: what ignored users say (their state events apart) is not seen.
    /// Never for rejected and soft-failed events, and those of other rooms.
    pub fn sees(&self, event: &StoredEvent) -> Result<bool, StoreError> {
        if event.row.room != self.room || !event.visible() || event.kind() == DUMMY_EVENT {
            return Ok(false);
        }
        if event.state_key().is_none() && (self.ignores(event.sender())? || retention::is_removed(self.read, event)?) {
            return Ok(false);
        }
        if event.row.status == EventStatus::Outlier {
            // Its surroundings are unknown; it is here because it is state.
            return Ok(self.joined() && event.state_key().is_some());
        }
        self.carry_over(event);
        if self.allowed(event, event.row.state_before)? {
            self.carry_over(event);
            return Ok(true);
        }
        Ok(self.changes_view(event)
            && event.row.state_after != event.row.state_before
            && self.allowed(event, event.row.state_after)?)
    }

    /// The user's membership at the event, its own change included; `leave` when there was none. None for outliers,
    /// whose surroundings are unknown.
    pub fn membership_at(&self, event: &StoredEvent) -> Result<Option<&'static str>, StoreError> {
        if event.row.status == EventStatus::Outlier {
            return Ok(None);
        }
        self.carry_over(event);
        let (_, member) = self.at(event.row.state_after)?;
        Ok(Some(membership::name(member.unwrap_or(membership::LEAVE))))
    }

    fn allowed(&self, event: &StoredEvent, state: u64) -> Result<bool, StoreError> {
        let (setting, member) = self.at(state)?;
        Ok(match (setting, member) {
            (HistoryVisibility::WorldReadable, _) | (_, Some(membership::JOIN)) => true,
            (HistoryVisibility::Shared, _) => self.joined_after(event)?,
            (HistoryVisibility::Invited, Some(membership::INVITE)) => true,
            _ => false,
        })
    }

    /// Whether the user joined at some time after the event. (Asked only where the user was not joined.)
    fn joined_after(&self, event: &StoredEvent) -> Result<bool, StoreError> {
        let Some(part) = &self.part else { return Ok(false) };
        if part.membership == membership::JOIN {
            return Ok(true);
        }
        if part.joined_at == 0 {
            return Ok(false);
        }
        if event.row.position != 0 {
            return Ok(event.row.position < part.joined_at);
        }
        // Backfilled: it has no place in the stream, only one in the graph.
        let known = *self.end.borrow();
        let end = match known {
            Some(end) => end,
            None => {
                let end = self.end_of_stay()?.map_or(0, |end| end.row.depth);
                *self.end.borrow_mut() = Some(end);
                end
            }
        };
        Ok(event.row.depth < end)
    }

    /// Whether the event changes what its reader may see.
    fn changes_view(&self, event: &StoredEvent) -> bool {
        match event.kind() {
            "m.room.history_visibility" => event.state_key() == Some(""),
            "m.room.member" => event.state_key() == Some(&self.user),
            _ => false,
        }
    }

    /// Most events leave things as they were: what is known of the state on one side of them holds on the other.
    fn carry_over(&self, event: &StoredEvent) {
        let (before, after) = (event.row.state_before, event.row.state_after);
        if before == after || self.changes_view(event) {
            return;
        }
        let mut known = self.known.borrow_mut();
        match (known.get(&before).copied(), known.get(&after).copied()) {
            (Some(view), None) => drop(known.insert(after, view)),
            (None, Some(view)) => drop(known.insert(before, view)),
            _ => {}
        }
    }

    fn at(&self, state: u64) -> Result<(HistoryVisibility, Option<u8>), StoreError> {
        if let Some(known) = self.known.borrow().get(&state) {
            return Ok(*known);
        }
        let found = (setting_at(self.read, state)?, membership_in(self.read, state, &self.user)?);
        self.known.borrow_mut().insert(state, found);
        Ok(found)
    }
}

fn setting_at(read: &dyn Read, state: u64) -> Result<HistoryVisibility, StoreError> {
    Ok(HistoryVisibility::of(read::state_event_at(read, state, "m.room.history_visibility", "")?.as_ref()))
}

fn membership_in(read: &dyn Read, state: u64, user: &str) -> Result<Option<u8>, StoreError> {
    Ok(read::state_event_at(read, state, "m.room.member", user)?.as_ref().and_then(membership_of))
}

/// The membership that an `m.room.member` event sets.
pub fn membership_of(event: &StoredEvent) -> Option<u8> {
    event.content().get("membership").and_then(Value::as_str).and_then(membership::number)
}
