//! The records we know of other nodes, within bounds.

use std::collections::{BTreeMap, BTreeSet};

use super::{RecordError, SignedRecord};
use crate::ServerKey;

/// The newest record of each node, kept until it expires. Pure: the caller brings the time (`now_ms`, from any monotonic
/// start). Age counts from when *we* received a record; nothing in it tells the time.
#[derive(Debug)]
pub struct RecordBook {
    entries: BTreeMap<ServerKey, Entry>,
    pinned: BTreeSet<ServerKey>,
    capacity: usize,
    lifetime_ms: u64,
    counts: RecordCounts,
}

#[derive(Debug)]
struct Entry {
    record: SignedRecord,
    received_ms: u64,
}

/// What became of the records handed to a [`RecordBook`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordCounts {
    /// Taken, new or as a repetition.
    pub accepted: u64,
    /// Malformed, oversized or wrongly signed: dropped.
    pub bad: u64,
    /// Older than the one known: dropped.
    pub old: u64,
    /// Different content under the same sequence, or an older epoch after a newer one: two nodes may be using one key.
    pub conflicts: u64,
    /// Dropped to stay within the capacity.
    pub evicted: u64,
}

/// What became of one valid record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insert {
    /// Nothing was known of this node.
    New,
    /// It replaces an older one.
    Newer,
    /// It is the one we have; its age starts again.
    Same,
    /// A newer one of the same epoch is known.
    Older,
    /// Another record has the same sequence, or it is of an older epoch: two nodes may be using one key.
    Conflict,
}

impl RecordBook {
    /// A book of at most `capacity` records (at least one), each for `lifetime_ms` after it was last received.
    pub fn new(capacity: usize, lifetime_ms: u64) -> Self {
        Self {
            entries: BTreeMap::new(),
            pinned: BTreeSet::new(),
            capacity: capacity.max(1),
            lifetime_ms,
            counts: RecordCounts::default(),
        }
    }

    /// Checks and takes a record. The newest sequence wins; a bad one is dropped and counted.
    pub fn insert(&mut self, bytes: &[u8], now_ms: u64) -> Result<(ServerKey, Insert), RecordError> {
        match SignedRecord::verify(bytes) {
            Ok(record) => Ok((record.record().key, self.insert_verified(record, now_ms))),
            Err(error) => {
                self.counts.bad += 1;
                Err(error)
            }
        }
    }

    /// Takes a record that was verified already.
    pub fn insert_verified(&mut self, record: SignedRecord, now_ms: u64) -> Insert {
        let key = record.record().key;
        let new = record.record().sequence;
        let outcome = match self.entries.get(&key) {
            Some(known) if now_ms.saturating_sub(known.received_ms) > self.lifetime_ms => Insert::New,
            None => Insert::New,
            Some(known) => {
                let old = known.record.record().sequence;
                if new > old {
                    Insert::Newer
                } else if known.record.bytes() == record.bytes() {
                    Insert::Same
                } else if new == old || new.epoch() < old.epoch() {
                    Insert::Conflict
                } else {
                    Insert::Older
                }
            }
        };
        match outcome {
            Insert::New | Insert::Newer | Insert::Same => {
                self.counts.accepted += 1;
                let received_ms = now_ms;
                self.entries.insert(key, Entry { record, received_ms });
                self.make_room(key);
            }
            Insert::Older => self.counts.old += 1,
            Insert::Conflict => self.counts.conflicts += 1,
        }
        outcome
    }

    /// The newest record of a node that has not expired.
    pub fn get(&self, key: &ServerKey, now_ms: u64) -> Option<&SignedRecord> {
        let entry = self.entries.get(key)?;
        (now_ms.saturating_sub(entry.received_ms) <= self.lifetime_ms).then_some(&entry.record)
    }

    /// The newest record of a node, expired or not.
    pub fn latest(&self, key: &ServerKey) -> Option<&SignedRecord> {
        self.entries.get(key).map(|entry| &entry.record)
    }

    /// How long ago, in milliseconds, the node's record was last received.
    pub fn age_ms(&self, key: &ServerKey, now_ms: u64) -> Option<u64> {
        let entry = self.entries.get(key)?;
        Some(now_ms.saturating_sub(entry.received_ms))
    }

    /// Protects a node's record from making room for others (contacts, connected peers), or ends that.
    pub fn pin(&mut self, key: ServerKey, pinned: bool) {
        if pinned {
            self.pinned.insert(key);
        } else {
            self.pinned.remove(&key);
        }
    }

    /// Drops what has expired. Returns how many.
    pub fn expire(&mut self, now_ms: u64) -> usize {
        let before = self.entries.len();
        let lifetime = self.lifetime_ms;
        self.entries.retain(|_, entry| now_ms.saturating_sub(entry.received_ms) <= lifetime);
        before - self.entries.len()
    }

    /// Forgets a node.
    pub fn remove(&mut self, key: &ServerKey) {
        self.entries.remove(key);
    }

    /// All records, expired ones not yet dropped included.
    pub fn iter(&self) -> impl Iterator<Item = &SignedRecord> {
        self.entries.values().map(|entry| &entry.record)
    }

    /// How many records are held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What became of the records so far.
    pub fn counts(&self) -> RecordCounts {
        self.counts
    }

    /// The record received longest ago goes; pinned ones last, the newcomer never.
    fn make_room(&mut self, newcomer: ServerKey) {
        while self.entries.len() > self.capacity {
            let victim = self
                .entries
                .iter()
                .filter(|(key, _)| **key != newcomer)
                .min_by_key(|(key, entry)| (self.pinned.contains(*key), entry.received_ms))
                .map(|(key, _)| *key);
            let Some(victim) = victim else { return };
            self.entries.remove(&victim);
            self.counts.evicted += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretKey;
    use crate::record::{NodeRecord, Sequence};

    fn record(n: u8, sequence: Sequence, address: &str) -> SignedRecord {
        let secret = SecretKey::from_seed([n; 32]);
        NodeRecord {
            sequence,
            key: secret.public(),
            server_name: secret.public().to_string(),
            addresses: vec![address.to_owned()],
            mailboxes: vec![],
            gateway: None,
        }
        .sign(&secret)
        .unwrap()
    }

    fn key(n: u8) -> ServerKey {
        SecretKey::from_seed([n; 32]).public()
    }

    fn address(book: &RecordBook, n: u8, now: u64) -> Option<&str> {
        Some(book.get(&key(n), now)?.record().addresses[0].as_str())
    }

    #[test]
    fn the_newest_sequence_wins_in_any_order() {
        let mut book = RecordBook::new(10, 1000);
        let (old, new) = (record(1, Sequence::new(0, 1), "/old"), record(1, Sequence::new(0, 2), "/new"));
        assert_eq!(book.insert(old.bytes(), 0), Ok((key(1), Insert::New)));
        assert_eq!(book.insert(new.bytes(), 0), Ok((key(1), Insert::Newer)));
        assert_eq!(book.insert(old.bytes(), 0), Ok((key(1), Insert::Older)));
        assert_eq!(book.insert(new.bytes(), 0), Ok((key(1), Insert::Same)));
        assert_eq!(address(&book, 1, 0), Some("/new"));
    }

    #[test]
    fn two_nodes_with_one_key_are_noticed() {
        let mut book = RecordBook::new(10, 1000);
        book.insert_verified(record(1, Sequence::new(1, 1), "/restored"), 0);
        let live = record(1, Sequence::new(0, 99), "/still-running");
        assert_eq!(book.insert_verified(live, 0), Insert::Conflict);
        let twin = record(1, Sequence::new(1, 1), "/twin");
        assert_eq!(book.insert_verified(twin, 0), Insert::Conflict);
        assert_eq!(book.counts().conflicts, 2);
        assert_eq!(address(&book, 1, 0), Some("/restored"));
    }

    #[test]
    fn age_counts_from_the_last_receipt() {
        let mut book = RecordBook::new(10, 1000);
        let record = record(1, Sequence::new(0, 1), "/a");
        book.insert_verified(record.clone(), 5_000);
        assert_eq!(book.age_ms(&key(1), 5_400), Some(400));
        book.insert_verified(record, 5_900);
        assert_eq!(address(&book, 1, 6_900), Some("/a"));
        assert_eq!(address(&book, 1, 6_901), None);
        assert_eq!(book.expire(6_901), 1);
        assert!(book.is_empty());
    }

    #[test]
    fn a_flood_of_records_cannot_grow_the_book_or_displace_pinned_ones() {
        let mut book = RecordBook::new(4, 1_000_000);
        book.insert_verified(record(200, Sequence::new(0, 1), "/friend"), 0);
        book.pin(key(200), true);
        for n in 0..50 {
            book.insert_verified(record(n, Sequence::new(0, 1), "/x"), u64::from(n) + 1);
            assert!(book.len() <= 4);
        }
        assert_eq!(address(&book, 200, 60), Some("/friend"));
        assert_eq!(address(&book, 49, 60), Some("/x"));
        assert_eq!(book.counts().evicted, 47);
    }

    #[test]
    fn bad_records_are_dropped_and_counted() {
        let mut book = RecordBook::new(4, 1000);
        let mut bytes = record(1, Sequence::new(0, 1), "/a").bytes().to_vec();
        bytes[20] ^= 1;
        assert!(book.insert(&bytes, 0).is_err());
        assert_eq!((book.counts().bad, book.len()), (1, 0));
    }
}
