//! Turns: so many at a time for each name, such as requests towards one server.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places for each name. A name that nobody holds or waits for has no entry.
#[derive(Debug)]
pub struct Turns<K> {
    each: usize,
    waiting: usize,
    places: Mutex<BTreeMap<K, Arc<Semaphore>>>,
}

impl<K: Ord + Clone> Turns<K> {
    /// `each` places for a name, and so many that may wait for one.
    pub fn new(each: usize, waiting: usize) -> Self {
        Self { each, waiting, places: Mutex::default() }
    }

    /// Waits for a place. None: too many wait already.
    pub async fn take(&self, name: &K) -> Option<OwnedSemaphorePermit> {
        let places = {
            let mut all = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|_, places| Arc::strong_count(places) > 1);
            all.entry(name.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.each))).clone()
        };
        // Each holder and each waiter has a clone; the map has one.
        if Arc::strong_count(&places) > 1 + self.each + self.waiting {
            return None;
        }
        places.acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn each_name_has_its_own_places_and_so_many_wait() {
        let turns = Turns::new(2, 1);
        let (first, second) = (turns.take(&"a").await.unwrap(), turns.take(&"a").await.unwrap());
        let mut third = Box::pin(turns.take(&"a"));
        assert!(third.as_mut().now_or_never().is_none(), "it waits");
        assert!(turns.take(&"a").await.is_none(), "one more does not");
        assert!(turns.take(&"b").await.is_some());
        drop(first);
        assert!(third.await.is_some());
        drop(second);
        assert_eq!(turns.places.lock().unwrap().len(), 2, "looked at when the next one comes");
        assert!(turns.take(&"c").await.is_some());
        assert_eq!(turns.places.lock().unwrap().len(), 1);
    }
}
