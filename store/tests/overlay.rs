//! A change sees its own writes, and those before it, exactly as if they were committed.

mod common;

use std::collections::BTreeMap;
use std::ops::Bound;

use common::{ROWS, inline};
use kith_store::{MemoryBackend, Options, Read, Store, StoreError, Tx, VolatileRows};
use proptest::prelude::*;

type Bounds = (Bound<(u64, u64)>, Bound<(u64, u64)>);
type Model = BTreeMap<(u64, u64), String>;

#[derive(Debug, Clone)]
enum Write {
    Put((u64, u64), String),
    Delete((u64, u64)),
}

fn key() -> impl Strategy<Value = (u64, u64)> {
    (0..4u64, 0..6u64)
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let write = prop_oneof![
        3 => (key(), "[a-z]{0,3}").prop_map(|(key, text)| Write::Put(key, text)),
        2 => key().prop_map(Write::Delete),
    ];
    proptest::collection::vec(write, 0..20)
}

fn bound() -> impl Strategy<Value = Bound<(u64, u64)>> {
    prop_oneof![Just(Bound::Unbounded), key().prop_map(Bound::Included), key().prop_map(Bound::Excluded),]
}

fn run(tx: &mut Tx, writes: &[Write], model: &mut Model) -> Result<(), StoreError> {
    for write in writes {
        match write {
            Write::Put(key, text) => {
                ROWS.put(tx, key, text)?;
                model.insert(*key, text.clone());
            }
            Write::Delete(key) => assert_eq!(ROWS.delete(tx, key)?, model.remove(key).is_some()),
        }
    }
    Ok(())
}

/// Everything that can be asked answers as the model does. `ends` says from which end each row is taken.
fn same(read: &dyn Read, model: &Model, bounds: Bounds, ends: &[bool]) {
    let inside = |key: &(u64, u64)| std::ops::RangeBounds::contains(&bounds, key);
    let mut expected: std::collections::VecDeque<_> =
        model.iter().filter(|(key, _)| inside(key)).map(|(key, text)| (*key, text.clone())).collect();
    let mut found = ROWS.range(read, bounds).unwrap();
    for front in ends.iter().chain(std::iter::repeat(&true)).take(40) {
        let (a, b) =
            if *front { (found.next(), expected.pop_front()) } else { (found.next_back(), expected.pop_back()) };
        assert_eq!(a.transpose().unwrap(), b);
    }
    let all = |row: (&(u64, u64), &String)| (*row.0, row.1.clone());
    assert_eq!(ROWS.first(read).unwrap(), model.first_key_value().map(all));
    assert_eq!(ROWS.last(read).unwrap(), model.last_key_value().map(all));
    for group in 0..5 {
        let of_group = || model.iter().filter(move |((g, _), _)| *g == group).map(all);
        let collect =
            |rows: &mut dyn Iterator<Item = Result<_, StoreError>>| -> Vec<_> { rows.map(Result::unwrap).collect() };
        let mut rows = ROWS.prefix(read, &group).unwrap();
        assert_eq!(collect(&mut rows), of_group().collect::<Vec<_>>());
        let mut rows = ROWS.prefix_rev(read, &group).unwrap();
        assert_eq!(collect(&mut rows), of_group().rev().collect::<Vec<_>>());
        // From and until keys of any group: only rows of this one come.
        for from in [(group, 3), (group + 1, 0), (group.saturating_sub(1), 5)] {
            let mut rows = ROWS.prefix_from(read, &group, &from).unwrap();
            assert_eq!(collect(&mut rows), of_group().filter(|(k, _)| *k >= from).collect::<Vec<_>>());
            let mut rows = ROWS.prefix_until(read, &group, &from).unwrap().rev();
            assert_eq!(collect(&mut rows), of_group().filter(|(k, _)| *k <= from).rev().collect::<Vec<_>>());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn rows_read_through_a_change_are_those_that_are_read_after_its_commit(
        committed in writes(), neighbour in writes(), failed in writes(), own in writes(),
        bounds in (bound(), bound()), ends in proptest::collection::vec(any::<bool>(), 0..12), volatile in any::<bool>(),
    ) {
        let (disk, kept) = (MemoryBackend::new(), volatile.then(VolatileRows::new));
        let options = || Options { volatile: kept.clone(), ..inline() };
        let store = Store::open(disk.clone(), options()).unwrap();
        let mut start = Model::new();
        let model = store.submit(move |tx| run(tx, &committed, &mut start).map(|()| start)).wait().unwrap();
        let (before, committed) = (store.snapshot().unwrap(), model.clone());
        // Submitted from inside a change, the next three share a batch.
        let inside = store.clone();
        let third = store.submit(move |_| {
            let mut model = model;
            let mut after_first = model.clone();
            for write in &neighbour {
                match write {
                    Write::Put(key, text) => { after_first.insert(*key, text.clone()); }
                    Write::Delete(key) => { after_first.remove(key); }
                }
            }
            let first = inside.submit(move |tx| run(tx, &neighbour, &mut model));
            let mut ignored = after_first.clone();
            let second = inside.submit(move |tx| {
                run(tx, &failed, &mut ignored)?;
                Err::<(), _>(StoreError::Busy)
            });
            let third = inside.submit(move |tx| {
                let mut model = after_first;
                same(tx, &model, bounds, &ends);
                run(tx, &own, &mut model)?;
                same(tx, &model, bounds, &ends);
                Ok::<_, StoreError>((model, ends))
            });
            drop((first, second));
            Ok::<_, StoreError>(third)
        });
        let (model, ends) = third.wait().unwrap().wait().unwrap();
        same(&store.snapshot().unwrap(), &model, bounds, &ends);
        same(&before, &committed, bounds, &ends);
        drop(before);
        store.close();
        let again = Store::open(disk.clone(), options()).unwrap();
        same(&again.snapshot().unwrap(), &model, bounds, &ends);
        if let Some(kept) = kept {
            // Nothing but these and what the store keeps about itself; and nothing on the disk.
            let mut emptied = model.clone();
            let bytes = kept.bytes();
            let all: Vec<Write> = model.keys().map(|key| Write::Delete(*key)).collect();
            again.submit(move |tx| run(tx, &all, &mut emptied)).wait().unwrap();
            prop_assert_eq!(bytes - kept.bytes(), model.values().map(|text| 16 + text.len() as u64).sum::<u64>());
            prop_assert_eq!((again.snapshot().unwrap().rows(&ROWS).unwrap(), disk.used_bytes()), (0, 0));
        }
    }
}
