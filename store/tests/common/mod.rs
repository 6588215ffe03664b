//! What the store's tests share.
#![allow(dead_code)]

use kith_store::{MemoryBackend, Options, Store, StoreError, Table, WriterMode};

/// Written by all tests: (group, number) -> text.
pub const ROWS: Table<(u64, u64), String> = Table::new("rows");
/// A second table.
pub const TOTALS: Table<u64, u64> = Table::new("totals");

/// Options for a small store without a thread.
pub fn inline() -> Options {
    Options { writer: WriterMode::Inline, cache_bytes: 1 << 20, ..Options::default() }
}

/// Options for a small store with its thread.
pub fn thread() -> Options {
    Options { writer: WriterMode::Thread, ..inline() }
}

pub fn open(disk: &MemoryBackend) -> Store {
    Store::open(disk.clone(), inline()).unwrap()
}

/// Puts one row and waits.
pub fn put(store: &Store, group: u64, number: u64, text: &str) -> Result<(), StoreError> {
    let text = text.to_owned();
    store.submit(move |tx| ROWS.put(tx, &(group, number), &text)).wait()
}

/// All rows.
pub fn rows(store: &Store) -> Vec<((u64, u64), String)> {
    store.read(|snapshot| ROWS.range(snapshot, ..)?.collect::<Result<Vec<_>, StoreError>>()).unwrap()
}
