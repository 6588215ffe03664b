//! What a crash leaves on a disk: it must be a beginning of the order of commits, and have all that was acknowledged.
//!
//! When the power of a node is cut, its disk is copied as it was after the last commit that was published, and so is what is found
//! after the cut. Both copies are opened as the node would, and compared row by row. Found must be either the same commit, to the
//! byte, or the next one, whole: the one that was under way. What makes up the next one nobody was told, so it is looked at whether
//! all that only grows is still there, and whether the tables fit together: every change touches several of them.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher as _};
use std::ops::Bound;
use std::sync::{Mutex, PoisonError};

use kith::rooms::states;
use kith_store::tables::rooms::{CURRENT_STATE, EVENT_IDS, EVENTS, EXTREMITIES, EventStatus, ROOMS, STREAM, TIMELINE};
use kith_store::{MemoryBackend, Options, Read, Store, StoreError, Table, WriterMode};

use super::World;
use crate::invariants::Invariant;

/// What the store keeps about itself.
const META: Table<String, u64> = Table::new("meta");
/// Tables of which no commit takes a row away.
const GROWING: [&str; 2] = ["event_ids", "stream"];

/// Rows of a table by the hashes of their keys.
type Rows = BTreeMap<u64, u64>;

/// All that is on a disk.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    commit: u64,
    position: u64,
    tables: BTreeMap<String, Rows>,
}

/// Names of tables live as long as the program; there are some dozens.
fn kept(name: String) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name.as_str()) {
        return known;
    }
    let name: &'static str = name.leak();
    names.insert(name);
    name
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

fn open(disk: MemoryBackend) -> Option<Store> {
    let options = Options { writer: WriterMode::Inline, reserve_bytes: 0, ..Options::default() };
    Store::open(disk, options).ok()
}

fn look(store: &Store) -> Result<Found, StoreError> {
    let names = store.table_rows()?;
    store.read(|read| {
        let mut tables = BTreeMap::new();
        for (name, _) in names {
            let mut rows = Rows::new();
            for row in read.range_raw(kept(name.clone()), Bound::Unbounded, Bound::Unbounded)? {
                let (key, value) = row?;
                rows.insert(hash(&key), hash(&value));
            }
            tables.insert(name, rows);
        }
        let number = |key: &str| META.get(read, &key.to_owned()).map(Option::unwrap_or_default);
        Ok(Found { commit: number("commit")?, position: number("position")?, tables })
    })
}

/// What does not fit together in the tables of rooms.
fn torn(read: &dyn Read) -> Result<Vec<String>, StoreError> {
    let mut wrong = Vec::new();
    let mut events = BTreeMap::new();
    for row in EVENTS.range(read, ..)? {
        let (number, event) = row?;
        if EVENT_IDS.get(read, &event.event_id)? != Some(number) {
            wrong.push(format!("event {number} is not found by its ID"));
        }
        events.insert(number, event.status);
    }
    for row in EVENT_IDS.range(read, ..)? {
        let (id, number) = row?;
        if !events.contains_key(&number) {
            wrong.push(format!("{id} has a number and no event"));
        }
    }
    let accepted = |number: &u64| events.get(number) == Some(&EventStatus::Accepted);
    for row in STREAM.range(read, ..)? {
        let (key, number) = row?;
        if !accepted(&number) {
            wrong.push(format!("{key:?} of the stream shows no accepted event"));
        }
    }
    for row in TIMELINE.range(read, ..)? {
        let ((room, _, number), ()) = row?;
        if !accepted(&number) {
            wrong.push(format!("event {number} in the timeline of room {room} is not accepted"));
        }
    }
    for row in EXTREMITIES.range(read, ..)? {
        let ((room, number), ()) = row?;
        if !accepted(&number) {
            wrong.push(format!("extremity {number} of room {room} is not accepted"));
        }
    }
    for row in ROOMS.range(read, ..)? {
        let (room, row) = row?;
        let stored = states::whole(read, row.0.state)?;
        let mut current = BTreeMap::new();
        for row in CURRENT_STATE.prefix(read, &room)? {
            let ((_, kind, key), event) = row?;
            current.insert((kind, key), event);
        }
        if current != stored {
            wrong.push(format!("the current state of room {room} is not the one that it names"));
        }
    }
    Ok(wrong)
}

/// What of `before` is missing or another in `after`, of what only grows.
fn lost(before: &Found, after: &Found) -> Vec<String> {
    let none = Rows::new();
    let mut lost = Vec::new();
    for name in GROWING {
        let (old, new) = (before.tables.get(name).unwrap_or(&none), after.tables.get(name).unwrap_or(&none));
        let missing = old.iter().filter(|(key, value)| new.get(key) != Some(value)).count();
        if missing > 0 {
            lost.push(format!("{missing} rows of {name} are lost"));
        }
    }
    lost
}

/// Tables that are not the same.
fn different(before: &Found, after: &Found) -> Vec<String> {
    let names: BTreeSet<&String> = before.tables.keys().chain(after.tables.keys()).collect();
    names.into_iter().filter(|name| before.tables.get(*name) != after.tables.get(*name)).cloned().collect()
}

/// What is wrong with what is found on a disk, by what was there. `troubled`: operations failed since the last commit, so that the
/// copy may be of a commit that was never told, and what is found may be one that confirms how the one that failed ended.
fn judge(before: &Found, after: &Found, troubled: bool) -> Vec<String> {
    match (before.commit, after.commit) {
        (was, is) if was == is => {
            let tables = different(before, after);
            if tables.is_empty() {
                return Vec::new();
            }
            vec![format!("commit {was} was published, and is found with other rows in {tables:?}")]
        }
        (was, is) if is == was + 1 || (is > was && troubled) => lost(before, after),
        (was, is) if was == is + 1 && troubled => Vec::new(),
        (was, is) => vec![format!("commit {was} was published, and commit {is} is found")],
    }
}

impl World {
    /// Compares what was on a node's disk when it was cut off with what is found there.
    pub(super) fn check_left(&self, number: u32, before: MemoryBackend, after: MemoryBackend, troubled: bool) {
        let (Some(before), Some(after)) = (open(before), open(after)) else {
            // Whether the node starts on it is seen when it does.
            self.record().note(&format!("what {number} left cannot be opened"));
            return;
        };
        match compare(&before, &after, troubled, &self.acknowledged_by(number)) {
            Ok((commits, wrong)) => {
                self.record().count(if commits.0 == commits.1 { "left_same" } else { "left_next" });
                for what in wrong {
                    self.breach(Invariant::CommitOrder, Some(number), what);
                }
            }
            Err(error) => self.record().note(&format!("what {number} left cannot be read: {error}")),
        }
    }

    /// IDs of the events that clients of a node were told are sent.
    fn acknowledged_by(&self, number: u32) -> Vec<String> {
        let state = self.record().lock();
        let own = state.acknowledged.iter().filter(|sent| sent.node == number);
        own.filter_map(|sent| state.events.get(sent.event as usize)).map(|event| event.id.clone()).collect()
    }
}

/// The commits that were and are, and what is wrong.
fn compare(
    before: &Store,
    after: &Store,
    troubled: bool,
    acknowledged: &[String],
) -> Result<((u64, u64), Vec<String>), StoreError> {
    let (was, is) = (look(before)?, look(after)?);
    let mut wrong = judge(&was, &is, troubled);
    after.read(|read| {
        for id in acknowledged {
            if !EVENT_IDS.contains(read, id)? {
                wrong.push(format!("{id} was acknowledged and is lost"));
            }
        }
        wrong.extend(torn(read)?);
        Ok::<_, StoreError>(())
    })?;
    Ok(((was.commit, is.commit), wrong))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: Table<u64, u64> = Table::new("stream");

    fn disk_with(changes: &[(u64, u64)]) -> MemoryBackend {
        let disk = MemoryBackend::new();
        let store = open(disk.clone()).unwrap();
        for row in changes {
            let (key, value) = *row;
            store.submit(move |tx| NUMBERS.put(tx, &key, &value)).wait().unwrap();
        }
        store.close();
        disk
    }

    fn judged(before: &[(u64, u64)], after: &[(u64, u64)], troubled: bool) -> Vec<String> {
        let found = |changes| look(&open(disk_with(changes)).unwrap()).unwrap();
        judge(&found(before), &found(after), troubled)
    }

    #[test]
    fn the_same_commit_and_the_next_are_what_may_be_found() {
        assert_eq!(judged(&[(1, 1), (2, 2)], &[(1, 1), (2, 2)], false), [""; 0]);
        assert_eq!(judged(&[(1, 1), (2, 2)], &[(1, 1), (2, 2), (3, 3)], false), [""; 0]);
        assert_eq!(judged(&[(1, 1), (2, 2)], &[(1, 1)], true), [""; 0], "it was never told");
        assert_eq!(judged(&[(1, 1)], &[(1, 1), (2, 2), (3, 3)], true), [""; 0], "the third confirms the second");
    }

    #[test]
    fn a_lost_commit_another_one_and_one_too_many_are_told() {
        for (before, after) in [
            (&[(1, 1), (2, 2)][..], &[(1, 1)][..]),
            (&[(1, 1), (2, 2)], &[(1, 1), (2, 3)]),
            (&[(1, 1), (2, 2)], &[(1, 1), (3, 3), (4, 4)]),
            (&[(1, 1)], &[(1, 1), (2, 2), (3, 3)]),
        ] {
            assert_eq!(judged(before, after, false).len(), 1, "{before:?} {after:?}");
        }
    }

    #[test]
    fn half_a_change_of_a_room_is_told() {
        let store = open(MemoryBackend::new()).unwrap();
        store.submit(|tx| EVENT_IDS.put(tx, &"$lonely".to_owned(), &7)).wait().unwrap();
        store.submit(|tx| EXTREMITIES.put(tx, &(1, 8), &())).wait().unwrap();
        assert_eq!(store.read(|read| torn(read)).unwrap().len(), 2);
        let acknowledged = compare(&store, &store, false, &["$other".to_owned()]).unwrap().1;
        assert!(acknowledged.iter().any(|what| what.contains("$other was acknowledged")), "{acknowledged:?}");
    }
}
