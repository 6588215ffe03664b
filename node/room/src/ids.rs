//! Maps by event ID, for thousands of events at a time.
//!
//! The order is that of the IDs, as in a `BTreeMap` of them. Beside each ID stands its beginning as a number, which differs between
//! nearly all events, so that a look-up compares numbers in one place of the memory instead of texts all over it.

use std::{borrow::Borrow, collections::BTreeMap, fmt};

use ruma::{EventId, OwnedEventId};

/// A map by event ID.
#[derive(Clone)]
pub struct IdMap<V>(BTreeMap<Key, V>);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    /// The eight bytes after the `$` of the ID, zeros where it ends before: they never order otherwise than the text does.
    start: u64,
    id: OwnedEventId,
}

/// What a key is compared by, also where there is no key of its own.
trait AsKey {
    fn start(&self) -> u64;
    fn id(&self) -> &EventId;
}

pub(crate) fn start_of(id: &EventId) -> u64 {
    let mut start = [0; 8];
    // All IDs have the same first byte.
    for (to, from) in start.iter_mut().zip(id.as_bytes().iter().skip(1)) {
        *to = *from;
    }
    u64::from_be_bytes(start)
}

impl AsKey for Key {
    fn start(&self) -> u64 {
        self.start
    }

    fn id(&self) -> &EventId {
        &self.id
    }
}

struct Wanted<'a>(u64, &'a EventId);

impl AsKey for Wanted<'_> {
    fn start(&self) -> u64 {
        self.0
    }

    fn id(&self) -> &EventId {
        self.1
    }
}

impl<'a> Borrow<dyn AsKey + 'a> for Key {
    fn borrow(&self) -> &(dyn AsKey + 'a) {
        self
    }
}

impl PartialEq for dyn AsKey + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for dyn AsKey + '_ {}

impl PartialOrd for dyn AsKey + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn AsKey + '_ {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.start().cmp(&other.start()).then_with(|| self.id().cmp(other.id()))
    }
}

impl<V> IdMap<V> {
    /// An empty map.
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// What is under an ID.
    pub fn get(&self, id: &EventId) -> Option<&V> {
        self.0.get(&Wanted(start_of(id), id) as &dyn AsKey)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, id: &EventId) -> Option<&mut V> {
        self.0.get_mut(&Wanted(start_of(id), id) as &dyn AsKey)
    }

    /// Whether there is anything under an ID.
    pub fn contains_key(&self, id: &EventId) -> bool {
        self.get(id).is_some()
    }

    /// Puts something under an ID; gives what was there before.
    pub fn insert(&mut self, id: OwnedEventId, value: V) -> Option<V> {
        self.0.insert(Key { start: start_of(&id), id }, value)
    }

    /// Takes out what is under an ID.
    pub fn remove(&mut self, id: &EventId) -> Option<V> {
        self.0.remove(&Wanted(start_of(id), id) as &dyn AsKey)
    }

    /// How many IDs there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The IDs, in order.
    pub fn keys(&self) -> impl Iterator<Item = &OwnedEventId> {
        self.0.keys().map(|key| &key.id)
    }

    /// What is under them, in their order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.0.values()
    }

    /// All of it, in order.
    pub fn into_entries(self) -> impl Iterator<Item = (OwnedEventId, V)> {
        self.0.into_iter().map(|(key, value)| (key.id, value))
    }

    /// Keeps what this says yes to.
    pub fn retain(&mut self, mut keep: impl FnMut(&EventId, &mut V) -> bool) {
        self.0.retain(|key, value| keep(&key.id, value));
    }
}

impl<V> Default for IdMap<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: fmt::Debug> fmt::Debug for IdMap<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(key, value)| (&key.id, value))).finish()
    }
}

impl<V> Extend<(OwnedEventId, V)> for IdMap<V> {
    fn extend<I: IntoIterator<Item = (OwnedEventId, V)>>(&mut self, entries: I) {
        self.0.extend(entries.into_iter().map(|(id, value)| (Key { start: start_of(&id), id }, value)));
    }
}

impl<V> FromIterator<(OwnedEventId, V)> for IdMap<V> {
    fn from_iter<I: IntoIterator<Item = (OwnedEventId, V)>>(entries: I) -> Self {
        Self(entries.into_iter().map(|(id, value)| (Key { start: start_of(&id), id }, value)).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Of both kinds of IDs, many alike at their beginning, and some that end within it.
        #[test]
        fn it_is_a_map_in_the_order_of_the_ids(
            ids in prop::collection::vec("\\$([ab]{1,12}|[a-c]{1,3}:x|[é_]{1,5}|[ab]{40,43})", 0..60),
            absent in "\\$[ab]{1,12}",
        ) {
            let ids: Vec<OwnedEventId> = ids.into_iter().filter_map(|id| OwnedEventId::try_from(id).ok()).collect();
            let (mut map, mut model) = (IdMap::new(), BTreeMap::new());
            for (place, id) in ids.iter().enumerate() {
                prop_assert_eq!(map.insert(id.clone(), place), model.insert(id.clone(), place));
            }
            prop_assert!(map.keys().eq(model.keys()) && map.values().eq(model.values()));
            prop_assert_eq!(map.len(), model.len());
            if let Ok(absent) = OwnedEventId::try_from(absent) {
                prop_assert_eq!(map.get(&absent), model.get(&absent));
            }
            map.retain(|_, place| *place % 3 != 0);
            model.retain(|_, place| *place % 3 != 0);
            for id in ids.iter().step_by(2) {
                prop_assert_eq!(map.get(id), model.get(id));
                prop_assert_eq!(map.remove(id), model.remove(id));
                prop_assert!(!map.contains_key(id));
            }
            prop_assert_eq!(map.is_empty(), model.is_empty());
            prop_assert!(map.into_entries().eq(model));
        }
    }
}
