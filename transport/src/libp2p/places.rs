//! Places that peers share, so that no one peer can take them all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::ServerKey;

/// The part of all places that one peer may have.
const SHARE: usize = 8;

/// A number of places, of which each peer may have an eighth (but at least one).
pub(super) struct Places {
    all: usize,
    /// How many each peer has; those with none are not in it.
    taken: Mutex<BTreeMap<ServerKey, usize>>,
}

/// One place, given back when dropped.
pub(super) struct Place {
    places: Arc<Places>,
    peer: ServerKey,
}

impl Places {
    pub(super) fn new(all: usize) -> Arc<Self> {
        Arc::new(Self { all: all.max(1), taken: Mutex::default() })
    }

    /// A place for this peer, if it may have another.
    pub(super) fn take(self: &Arc<Self>, peer: ServerKey) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        // Few peers have requests under way at one time.
        if taken.values().sum::<usize>() >= self.all {
            return None;
        }
        let own = taken.entry(peer).or_default();
        if *own >= (self.all / SHARE).max(1) {
            return None;
        }
        *own += 1;
        Some(Place { places: self.clone(), peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.peer) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretKey;

    #[test]
    fn one_peer_has_an_eighth_and_all_together_no_more_than_there_are() {
        let key = |n| SecretKey::from_seed([n; 32]).public();
        let places = Places::new(32);
        let mut held: Vec<Place> = (0..4).map(|_| places.take(key(1)).expect("its share")).collect();
        assert!(places.take(key(1)).is_none());
        for n in 2..=8 {
            held.extend((0..4).map(|_| places.take(key(n)).expect("others have theirs")));
        }
        assert!(places.take(key(9)).is_none(), "all are taken");
        held.remove(0);
        assert!(places.take(key(9)).is_some() && places.take(key(1)).is_some());
        drop(held);
        assert!(places.taken.lock().unwrap().is_empty(), "nobody is remembered");
        assert!(Places::new(0).take(key(1)).is_some(), "there is always one");
    }
}
