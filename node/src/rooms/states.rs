//! Past states as skip deltas (`kith_store::tables::rooms::STATES`).
//!
//! State numbers form chains. A root (height 0) holds a whole state; the node at height `h` holds what changed since
//! its ancestor at height `h & (h - 1)`, so a lookup visits at most `log2 h` rows, and each step of a room's state
//! costs a few rows' worth of bytes whatever the room's length. State number 0 is the empty state.

use std::collections::{BTreeMap, BTreeSet};

use kith_mutants::mutant;
use kith_store::{
    Corrupt, Read, StoreError, Tx,
    tables::rooms::{STATE_KEY_NAMES, STATE_KEYS, STATES, StateRow},
};

/// A state by `(type, state key)`, with the numbers of its events.
pub type NumberedState = BTreeMap<(String, String), u64>;

/// A chain this high is ended by a new root, so that heights stay small numbers.
const LONGEST_CHAIN: u64 = 1 << 20;

/// Writes state `number`, which differs from `parent` by `changes` (event number 0 removes a key).
pub fn append(tx: &mut Tx, number: u64, parent: u64, changes: &[((String, String), u64)]) -> Result<(), StoreError> {
    let mut own = BTreeMap::new();
    // The least number that no key has. Asking for it anew for each key of a large state would take most of the time.
    let mut free = None;
    for (key, event) in changes {
        own.insert(key_number(tx, key, &mut free)?, *event);
    }
    let parent_height = if parent == 0 { 0 } else { row(tx, parent)?.height };
    if parent == 0 || parent_height >= LONGEST_CHAIN {
        let mut whole = if parent == 0 { BTreeMap::new() } else { changes_down_to(tx, parent, 0)? };
        whole.extend(own);
        whole.retain(|_, event| *event != 0);
        let root = StateRow { base: 0, parent: 0, height: 0, changes: whole.into_iter().collect() };
        return STATES.put(tx, &number, &root);
    }
    let height = parent_height + 1;
    let base_height = height & (height - 1);
    let (base, mut composed) = descend(tx, parent, base_height)?;
    if mutant!("forgets-skipped-states") {
        composed.clear();
    }
    composed.extend(own);
    STATES.put(tx, &number, &StateRow { base, parent, height, changes: composed.into_iter().collect() })
}

/// The whole state `number`.
pub fn whole(read: &dyn Read, number: u64) -> Result<NumberedState, StoreError> {
    let mut state = BTreeMap::new();
    if number == 0 {
        return Ok(state);
    }
    for (key, event) in changes_down_to(read, number, 0)? {
        if event != 0 {
            state.insert(key_name(read, key)?, event);
        }
    }
    Ok(state)
}

/// The event number that state `number` has for `(kind, key)`.
pub fn lookup(read: &dyn Read, number: u64, kind: &str, key: &str) -> Result<Option<u64>, StoreError> {
    if number == 0 {
        return Ok(None);
    }
    let Some(wanted) = STATE_KEYS.get(read, &(kind.to_owned(), key.to_owned()))? else { return Ok(None) };
    let mut at = number;
    while at != 0 {
        let row = row(read, at)?;
        if let Ok(index) = row.changes.binary_search_by_key(&wanted, |(key, _)| *key) {
            let event = row.changes[index].1;
            return Ok((event != 0).then_some(event));
        }
        at = row.base;
    }
    Ok(None)
}

/// What changed from one state to another: `(type, state key)` to the event number it has in `to`, or none.
pub fn difference(read: &dyn Read, from: u64, to: u64) -> Result<BTreeMap<(String, String), Option<u64>>, StoreError> {
    if from == to {
        return Ok(BTreeMap::new());
    }
    if let Some(keys) = keys_since(read, from, to)? {
        let mut changes = BTreeMap::new();
        for key in keys {
            let (kind, state_key) = key_name(read, key)?;
            let now = lookup(read, to, &kind, &state_key)?;
            if now != lookup(read, from, &kind, &state_key)? {
                changes.insert((kind, state_key), now);
            }
        }
        return Ok(changes);
    }
    let (old, new) = (whole(read, from)?, whole(read, to)?);
    let mut changes: BTreeMap<_, _> =
        old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), None)).collect();
    for (key, event) in new {
        if old.get(&key) != Some(&event) {
            changes.insert(key, Some(event));
        }
    }
    Ok(changes)
}

/// The keys touched on the way from `from` to its descendant `to`; none if the way is long or there is none.
fn keys_since(read: &dyn Read, from: u64, to: u64) -> Result<Option<BTreeSet<u64>>, StoreError> {
    const LONGEST_WAY: usize = 256;
    let mut keys = BTreeSet::new();
    let mut at = to;
    for _ in 0..LONGEST_WAY {
        if at == from {
            return Ok(Some(keys));
        }
        // States have rising numbers along a chain, so `from` cannot lie further down.
        if at < from || at == 0 {
            return Ok(None);
        }
        let row = row(read, at)?;
        // What the node says of its base covers what it says of its parent, and a root says all there is.
        if row.parent == 0 {
            return Ok(None);
        }
        if row.base >= from {
            keys.extend(row.changes.iter().map(|(key, _)| *key));
            at = row.base;
        } else {
            keys.extend(row.changes.iter().map(|(key, _)| *key));
            at = row.parent;
        }
    }
    Ok(None)
}

fn row(read: &dyn Read, number: u64) -> Result<StateRow, StoreError> {
    STATES.get(read, &number)?.ok_or_else(|| missing("states"))
}

/// Walks from `number` towards its root until the node of the given height; gives that node and the changes since.
fn descend(read: &dyn Read, number: u64, height: u64) -> Result<(u64, BTreeMap<u64, u64>), StoreError> {
    let mut composed = BTreeMap::new();
    let mut at = number;
    loop {
        let row = row(read, at)?;
        if row.height <= height {
            return Ok((at, composed));
        }
        for (key, event) in row.changes {
            composed.entry(key).or_insert(event);
        }
        at = row.base;
    }
}

fn changes_down_to(read: &dyn Read, number: u64, end: u64) -> Result<BTreeMap<u64, u64>, StoreError> {
    let mut composed = BTreeMap::new();
    let mut at = number;
    while at != end {
        let row = row(read, at)?;
        for (key, event) in row.changes {
            composed.entry(key).or_insert(event);
        }
        at = row.base;
    }
    Ok(composed)
}

fn key_number(tx: &mut Tx, key: &(String, String), free: &mut Option<u64>) -> Result<u64, StoreError> {
    if let Some(number) = STATE_KEYS.get(tx, key)? {
        return Ok(number);
    }
    let number = match *free {
        Some(number) => number,
        None => STATE_KEY_NAMES.last(tx)?.map_or(1, |(number, _)| number + 1),
    };
    *free = Some(number + 1);
    STATE_KEYS.put(tx, key, &number)?;
    STATE_KEY_NAMES.put(tx, &number, key)?;
    Ok(number)
}

fn key_name(read: &dyn Read, number: u64) -> Result<(String, String), StoreError> {
    STATE_KEY_NAMES.get(read, &number)?.ok_or_else(|| missing("state_key_names"))
}

fn missing(table: &'static str) -> StoreError {
    StoreError::Corrupt { table, cause: Corrupt::new("a row that another one names is missing") }
}
