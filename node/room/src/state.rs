//! Room state: which event holds which (type, state key).
//!
//! A [`StateMap`] is persistent: cloning it costs a pointer, changing one key copies a few small tree nodes, and two maps
//! that came from one another are compared without visiting what they share. So every event can carry the state before
//! and after it, in rooms of any size.

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use ruma::{EventId, OwnedEventId, events::StateEventType};

/// The state of a room at one place in its graph: (type, state key) to event ID.
pub type StateMap = imbl::OrdMap<StateKey, OwnedEventId>;

/// A pair of event type and state key. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateKey {
    kind: Arc<str>,
    key: Arc<str>,
}

impl StateKey {
    /// The key for an event type (such as `m.room.member`) and a state key (such as a user ID).
    pub fn new(kind: impl AsRef<str>, key: impl AsRef<str>) -> Self {
        let (kind, key) = (kind.as_ref(), key.as_ref());
        Self { kind: shared_kind(kind), key: if key.is_empty() { EMPTY.clone() } else { key.into() } }
    }

    /// The event type.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The state key.
    pub fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn of(kind: &StateEventType, key: &str) -> Self {
        Self::new(kind.to_string(), key)
    }
}

impl fmt::Debug for StateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}, {:?})", self.kind, self.key)
    }
}

static EMPTY: LazyLock<Arc<str>> = LazyLock::new(|| "".into());

static SHARED_KINDS: LazyLock<[Arc<str>; 6]> = LazyLock::new(|| {
    [
        "m.room.member",
        "m.room.power_levels",
        "m.room.create",
        "m.room.join_rules",
        "m.room.history_visibility",
        "m.room.third_party_invite",
    ]
    .map(Into::into)
});

/// A state of 10,000 members needs the word `m.room.member` once.
pub(crate) fn shared_kind(kind: &str) -> Arc<str> {
    SHARED_KINDS.iter().find(|shared| &***shared == kind).cloned().unwrap_or_else(|| kind.into())
}

/// The event that holds `(kind, key)` in `state`.
pub fn get<'a>(state: &'a StateMap, kind: &str, key: &str) -> Option<&'a EventId> {
    state.get(&StateKey::new(kind, key)).map(|id| &**id)
}

/// What has to be done to `from` to make it `to`: keys with their new event, or `None` where the key is gone.
///
/// Costs about as much as the two differ, when one map was made from the other.
pub fn changes(from: &StateMap, to: &StateMap) -> Vec<(StateKey, Option<OwnedEventId>)> {
    use imbl::ordmap::DiffItem;
    from.diff(to)
        .map(|item| match item {
            DiffItem::Add(key, id) => (key.clone(), Some(id.clone())),
            DiffItem::Update { new: (key, id), .. } => (key.clone(), Some(id.clone())),
            DiffItem::Remove(key, _) => (key.clone(), None),
        })
        .collect()
}

/// Whether two states are the same; immediate when they share their memory.
pub fn same(one: &StateMap, other: &StateMap) -> bool {
    one.ptr_eq(other) || (one.len() == other.len() && one.diff(other).next().is_none())
}
