//! Durable commits per second: alone, by waiting writers, and pipelined. Plain figures for docs/benchmarks.md.
//!
//! `cargo bench -p kith-store -- [FOLDER]` (default: a temporary folder). A "send" writes what an event send does: a
//! body of 600 bytes and five index rows.

#![allow(missing_docs)]
#![allow(clippy::disallowed_methods)] // It measures real time.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use kith_store::{Options, Store, StoreError, Table, Tx};

const BODIES: Table<u64, Vec<u8>> = Table::new("bodies");
const IDS: Table<[u8; 32], u64> = Table::new("ids");
const TIMELINE: Table<(u64, u64), u64> = Table::new("timeline");
const STREAM: Table<u64, u64> = Table::new("stream");
const TRANSACTIONS: Table<(String, String), u64> = Table::new("transactions");
const HEADS: Table<u64, u64> = Table::new("heads");

fn send(tx: &mut Tx, number: u64) -> Result<(), StoreError> {
    let room = number % 10;
    let position = tx.next_position();
    // A hash is as random as this.
    let mut id = [0; 32];
    id[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    BODIES.put(tx, &number, &vec![b'x'; 600])?;
    IDS.put(tx, &id, &number)?;
    TIMELINE.put(tx, &(room, position), &number)?;
    STREAM.put(tx, &position, &number)?;
    TRANSACTIONS.put(tx, &("@alice:example.org".to_owned(), format!("m{number}")), &number)?;
    let _head = HEADS.get(tx, &room)?;
    HEADS.put(tx, &room, &number)
}

fn small(tx: &mut Tx, number: u64) -> Result<(), StoreError> {
    STREAM.put(tx, &number, &number)
}

type Change = fn(&mut Tx, u64) -> Result<(), StoreError>;

/// So many writers at once, each waiting for its change before the next, or keeping `window` on the way.
fn run(store: &Store, name: &str, writers: u64, window: usize, change: Change) {
    let before = store.stats();
    let start = Instant::now();
    let mut latencies: Vec<Duration> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..writers)
            .map(|_| {
                scope.spawn(move || {
                    let mut latencies = Vec::new();
                    let mut waiting = std::collections::VecDeque::new();
                    while start.elapsed() < Duration::from_secs(3) {
                        let number = store.next_event_number();
                        waiting.push_back((Instant::now(), store.submit(move |tx| change(tx, number))));
                        if waiting.len() >= window
                            && let Some((sent, first)) = waiting.pop_front()
                        {
                            first.wait().expect("the disk works");
                            latencies.push(sent.elapsed());
                        }
                    }
                    for (_, rest) in waiting {
                        rest.wait().expect("the disk works");
                    }
                    latencies
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no writer panics")).collect()
    });
    let seconds = start.elapsed().as_secs_f64();
    let after = store.stats();
    latencies.sort();
    let at = |part: usize| latencies.get(latencies.len() * part / 100).copied().unwrap_or_default();
    let (changes, commits) = (after.changes - before.changes, after.commits - before.commits);
    println!(
        "{name:<44} {:>8.0} changes/s  {:>6.0} commits/s  {:>6.1} a commit  p50 {:>7.2?}  p99 {:>7.2?}",
        changes as f64 / seconds,
        commits as f64 / seconds,
        changes as f64 / commits as f64,
        at(50),
        at(99),
    );
}

fn main() {
    let folder = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).map(PathBuf::from);
    let dir = match folder {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    }
    .expect("a folder to write in");
    let store = Store::open_folder(&dir.path().join("data"), Options::default()).expect("a new store opens");
    run(&store, "sends, 1 writer", 1, 1, send);
    run(&store, "sends, 32 writers", 32, 1, send);
    run(&store, "sends, 32 writers with 8 on the way", 32, 8, send);
    run(&store, "small changes, 1 writer", 1, 1, small);
    run(&store, "small changes, 1 writer with 256 on the way", 1, 256, small);
    let stats = store.stats();
    println!("file {} MB after {} changes", stats.file_bytes >> 20, stats.changes);
    drop(store);
    let start = Instant::now();
    let store = Store::open_folder(&dir.path().join("data"), Options::default()).expect("it opens again");
    println!("opened in {:.1?}", start.elapsed());
    let start = Instant::now();
    let gained = store.compact().expect("nobody reads");
    println!("compacted ({gained}) to {} MB in {:.1?}", store.stats().file_bytes >> 20, start.elapsed());
}
