//! Unread counts: how many events after a user's receipts its push rules tell it of (client-server specification,
//! "Receiving notifications"), and which they were ("Listing notifications").
//!
//! Counts are not stored. They are counted when a sync asks, from the latest event back to the latest receipt, and
//! remembered, so that the next sync looks only at what came since.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use futures::FutureExt as _;
use kith_store::{
    Json, Read, StoreError,
    tables::{
        account_data::ACCOUNT_DATA,
        rooms::{REDACTED_BY, STREAM},
        threads::{self, THREAD_SUBSCRIPTIONS},
    },
    without_mark,
};
use ruma::{
    OwnedUserId, RoomId, UInt, UserId,
    events::{
        StateEventType,
        room::power_levels::{RoomPowerLevels, RoomPowerLevelsEventContent},
    },
    push::{Action, PushConditionPowerLevelsCtx, PushConditionRoomCtx, Ruleset},
    serde::Raw,
};
use serde_json::{Value, value::RawValue};

use super::account_data::{IGNORED, ignored};
use crate::{
    accounts::push_rules,
    ephemeral::receipts,
    http::{Answer, MatrixError},
    rooms::{
        read::{self, StoredEvent},
        relations,
    },
};

/// How many events are looked at for one count, the latest; beyond that a count says "many" by being large. Few in tests, so
/// that they reach it.
const MOST_COUNTED: usize = if cfg!(test) { 100 } else { 2_000 };
/// How many counts are remembered.
const REMEMBERED: usize = 10_000;
/// Of how many users the rules are remembered.
const RULES_REMEMBERED: usize = 100;

/// Counts of one thread, or of the main timeline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Events that notify.
    pub notify: u64,
    /// Events that notify loudly.
    pub highlight: u64,
}

/// Counts of a room by thread root; none is the main timeline.
pub type Counts = BTreeMap<Option<String>, Count>;

#[derive(Debug, Clone)]
struct Counted {
    /// The receipts they were counted from.
    read: BTreeMap<String, u64>,
    /// When what they were counted by was set.
    rules: (u64, u64, u64),
    /// When the user's stay began.
    joined_at: u64,
    /// The position they were counted up to.
    upto: u64,
    counts: Counts,
}

/// What need not be worked out again.
#[derive(Debug, Default)]
pub struct Remembered {
    counts: Mutex<BTreeMap<(OwnedUserId, u64), Counted>>,
    rules: Mutex<BTreeMap<OwnedUserId, (u64, Arc<Ruleset>)>>,
}

/// Who reads: a user with its rules, as of one snapshot.
pub struct Reader<'a> {
    remembered: &'a Remembered,
    read: &'a dyn Read,
    user: &'a UserId,
    version: (u64, u64, u64),
    rules: OnceCell<Arc<Ruleset>>,
    ignored: OnceCell<BTreeSet<String>>,
}

impl<'a> Reader<'a> {
    /// A user with its rules as they stand in `read`.
    ///
    /// # Errors
    /// The store's.
    pub fn new(remembered: &'a Remembered, read: &'a dyn Read, user: &'a UserId) -> Answer<Self> {
        let set_at = |kind: &str| -> Answer<u64> {
            let key = (user.to_string(), String::new(), kind.to_owned());
            Ok(ACCOUNT_DATA.get(read, &key)?.map_or(0, |row| row.position))
        };
        let version = (set_at(push_rules::TYPE)?, set_at(IGNORED)?, threads::changed_at(read, user.as_str())?);
        Ok(Self { remembered, read, user, version, rules: OnceCell::new(), ignored: OnceCell::new() })
    }

    /// Whether the user ignores another.
    ///
    /// # Errors
    /// The store's.
    pub fn ignores(&self, other: &str) -> Answer<bool> {
        if self.version.1 == 0 {
            return Ok(false);
        }
        let ignored = match self.ignored.get() {
            Some(ignored) => ignored,
            None => {
                let list = ignored(self.read, self.user.as_str())?;
                self.ignored.get_or_init(|| list)
            }
        };
        Ok(ignored.contains(other))
    }

    fn rules(&self) -> Answer<&Ruleset> {
        if let Some(rules) = self.rules.get() {
            return Ok(rules);
        }
        let known = {
            let all = self.remembered.rules.lock().unwrap_or_else(PoisonError::into_inner);
            all.get(self.user).filter(|(position, _)| *position == self.version.0).map(|(_, rules)| rules.clone())
        };
        let rules = match known {
            Some(rules) => rules,
            None => {
                let rules = Arc::new(push_rules::get(self.read, self.user)?);
                let mut all = self.remembered.rules.lock().unwrap_or_else(PoisonError::into_inner);
                if all.len() >= RULES_REMEMBERED {
                    all.pop_first();
                }
                all.insert(self.user.to_owned(), (self.version.0, rules.clone()));
                rules
            }
        };
        Ok(self.rules.get_or_init(|| rules))
    }

    /// What the rules say to do about an event of another user; nothing if it is redacted or the user ignored.
    ///
    /// # Errors
    /// The store's.
    pub fn actions(&self, event: &StoredEvent, context: &PushConditionRoomCtx) -> Answer<Vec<Action>> {
        if self.ignores(event.sender())? || REDACTED_BY.contains(self.read, &event.number)? {
            return Ok(Vec::new());
        }
        self.actions_by_text(&event.row.json, context)
    }

    /// What the rules say to do about an event with this JSON.
    ///
    /// # Errors
    /// The store's.
    pub fn actions_by_text(&self, json: &str, context: &PushConditionRoomCtx) -> Answer<Vec<Action>> {
        let json = RawValue::from_string(without_mark(json).into_owned()).map_err(MatrixError::internal)?;
        let raw: Raw<Value> = Raw::from_json(json);
        // Nothing in it waits: the future is ready at once.
        Ok(self.rules()?.get_actions(&raw, context).now_or_never().unwrap_or_default().to_vec())
    }
}

/// How many relations are followed to find an event's thread (specification, "Threading": "recommended to be at least 3").
const MOST_HOPS: usize = 3;

/// The thread an event belongs to; none is the main timeline. What relates to an event of a thread in another way (an edit, a
/// reaction) is of that thread, too, a few relations deep; what relates to its root is not.
///
/// # Errors
/// The store's.
pub fn thread_of(read: &dyn Read, event: &StoredEvent) -> Result<Option<String>, StoreError> {
    let mut parent: Option<StoredEvent> = None;
    for _ in 0..MOST_HOPS {
        let Some((kind, target)) = relations::relation(parent.as_ref().unwrap_or(event)) else { return Ok(None) };
        if kind == "m.thread" {
            return Ok(Some(target.to_owned()));
        }
        parent = read::event_by_id(read, target)?.filter(|target| target.row.room == event.row.room);
        if parent.is_none() {
            return Ok(None);
        }
    }
    Ok(None)
}

/// How far a user has read an event's thread, given the user's receipts.
pub fn mark(marks: &BTreeMap<String, u64>, thread: Option<&str>) -> u64 {
    [marks.get(""), marks.get(thread.unwrap_or("main"))].into_iter().flatten().copied().max().unwrap_or(0)
}

/// Counts what is unread for a user in a room, up to a position.
///
/// # Errors
/// The store's.
pub fn count(
    remembered: &Remembered,
    read: &dyn Read,
    reader: &Reader<'_>,
    room: u64,
    room_id: &RoomId,
    upto: u64,
) -> Answer<Counts> {
    let user = reader.user;
    let marks = receipts::read_up_to(read, room, user)?;
    let joined_at = read::user_room(read, user.as_str(), room)?.map_or(0, |part| part.joined_at);
    let fresh = Counted {
        // Without a receipt for all threads, all since the user's join may be unread.
        upto: joined_at.max(marks.get("").copied().unwrap_or(0)),
        read: marks,
        rules: reader.version,
        joined_at,
        counts: Counts::new(),
    };
    let key = (user.to_owned(), room);
    let known = remembered.counts.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
    let known = known.filter(|known| {
        known.read == fresh.read
            && known.rules == fresh.rules
            && known.joined_at == fresh.joined_at
            && known.upto <= upto
    });
    let mut counted = match known {
        Some(known) => go_on(known, read, reader, room, room_id, upto)?,
        None => None,
    };
    if counted.is_none() {
        counted = go_on(Counted { upto: fresh.upto.min(upto), ..fresh.clone() }, read, reader, room, room_id, upto)?;
    }
    // Counting from the start takes redactions in its stride.
    let Some(counted) = counted else { return Ok(Counts::new()) };
    let counts = counted.counts.clone();
    let mut all = remembered.counts.lock().unwrap_or_else(PoisonError::into_inner);
    if all.len() >= REMEMBERED {
        all.pop_first();
    }
    all.insert(key, counted);
    Ok(counts)
}

/// Counts on; none if something that is counted already was redacted since.
fn go_on(
    mut counted: Counted,
    read: &dyn Read,
    reader: &Reader<'_>,
    room: u64,
    room_id: &RoomId,
    upto: u64,
) -> Answer<Option<Counted>> {
    if counted.upto >= upto {
        return Ok(Some(counted));
    }
    let mut context = None;
    let has_counts = !counted.counts.is_empty();
    let mut new = Counts::new();
    // Threads in which the reader spoke: who speaks has read what came before.
    let mut spoken: BTreeSet<Option<String>> = BTreeSet::new();
    // Back from the latest: where there are too many, it is the old ones that are left out.
    for row in STREAM.range(read, (room, counted.upto.saturating_add(1))..=(room, upto))?.rev().take(MOST_COUNTED) {
        let ((_, position), number) = row?;
        let Some(event) = read::event(read, number)? else { continue };
        if has_counts && event.kind() == "m.room.redaction" {
            return Ok(None);
        }
        let thread = thread_of(read, &event)?;
        if event.sender() == reader.user.as_str() {
            spoken.insert(thread);
            continue;
        }
        if spoken.contains(&thread) || mark(&counted.read, thread.as_deref()) >= position {
            continue;
        }
        let context = match &context {
            Some(context) => context,
            None => context.insert(room_context(read, reader.user, room, room_id)?),
        };
        let actions = reader.actions(&event, context)?;
        if actions.iter().any(Action::should_notify) {
            let count = new.entry(thread).or_default();
            count.notify += 1;
            count.highlight += u64::from(actions.iter().any(Action::is_highlight));
        }
    }
    counted.counts.retain(|thread, _| !spoken.contains(thread));
    for (thread, more) in new {
        let count = counted.counts.entry(thread).or_default();
        count.notify += more.notify;
        count.highlight += more.highlight;
    }
    counted.upto = upto;
    Ok(Some(counted))
}

/// What push rules ask about a room and its reader.
///
/// # Errors
/// The store's.
pub fn room_context(read: &dyn Read, user: &UserId, room: u64, room_id: &RoomId) -> Answer<PushConditionRoomCtx> {
    let members = read::joined_count(read, room)?;
    let member = read::state_event(read, room, "m.room.member", user.as_str())?;
    let name = member
        .as_ref()
        .and_then(|member| member.content().get("displayname"))
        .and_then(Value::as_str)
        .unwrap_or(user.localpart())
        .to_owned();
    let mut context =
        PushConditionRoomCtx::new(room_id.to_owned(), UInt::new_saturating(members), user.to_owned(), name);
    context.power_levels = power_levels(read, room)?;
    let followed = followed(read, user, room)?;
    Ok(context.with_has_thread_subscription_fn(move |root| {
        let is_followed = followed.contains(root.as_str());
        Box::pin(std::future::ready(is_followed))
    }))
}

/// The roots of the threads of a room that a user follows (MSC4306).
fn followed(read: &dyn Read, user: &UserId, room: u64) -> Result<BTreeSet<String>, StoreError> {
    let mut roots = BTreeSet::new();
    for row in THREAD_SUBSCRIPTIONS.prefix(read, &(user.to_string(), room))? {
        let ((_, _, root), Json(subscription)) = row?;
        if subscription.automatic.is_some() {
            roots.insert(root);
        }
    }
    Ok(roots)
}

fn power_levels(read: &dyn Read, room: u64) -> Answer<Option<PushConditionPowerLevelsCtx>> {
    let kind = StateEventType::RoomPowerLevels.to_string();
    let Some(event) = read::state_event(read, room, &kind, "")? else { return Ok(None) };
    let Some(create) = read::state_event(read, room, "m.room.create", "")? else { return Ok(None) };
    let Some(row) = read::room(read, room)? else { return Ok(None) };
    let Ok(version) = ruma::RoomVersionId::try_from(row.version.as_str()) else { return Ok(None) };
    let Some(rules) = version.rules() else { return Ok(None) };
    let content = Value::Object(event.content().clone());
    let Ok(content) = serde_json::from_value::<RoomPowerLevelsEventContent>(content) else { return Ok(None) };
    let creators = std::iter::once(create.sender())
        .chain(
            create
                .content()
                .get("additional_creators")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter_map(Value::as_str),
        )
        .filter_map(|user| OwnedUserId::try_from(user).ok());
    let levels = RoomPowerLevels::new(content.into(), &rules.authorization, creators);
    Ok(Some(levels.into()))
}
