//! How changes travel: atomically, in order, in batches, published after the commit.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};

use common::{ROWS, TOTALS, inline, open, put, rows, thread};
use kith_store::{Committed, Counter, MemoryBackend, Store, StoreError, Touched};

#[test]
fn a_change_is_seen_after_it_is_answered_and_after_reopening() {
    let disk = MemoryBackend::new();
    let store = open(&disk);
    put(&store, 1, 1, "one").unwrap();
    assert_eq!(rows(&store), [((1, 1), "one".to_owned())]);
    store.close();
    assert!(matches!(store.snapshot(), Err(StoreError::Closed)));
    assert!(matches!(put(&store, 1, 2, "two"), Err(StoreError::Closed)));
    assert_eq!(rows(&open(&disk)), [((1, 1), "one".to_owned())]);
}

#[test]
fn an_error_or_panic_of_one_change_leaves_its_neighbours_untouched() {
    let store = Store::open(MemoryBackend::new(), thread()).unwrap();
    // Holds the writer until all four wait, so that they share a batch.
    let gate = Arc::new(Barrier::new(2));
    let held = gate.clone();
    let first = store.submit(move |_| {
        held.wait();
        Ok::<_, StoreError>(())
    });
    let good = store.submit(|tx| {
        assert_eq!(tx.next_position(), 1);
        ROWS.put(tx, &(1, 1), &"kept".to_owned())
    });
    let bad = store.submit(|tx| {
        assert_eq!(tx.next_position(), 2);
        tx.touch(Touched::Room(9));
        ROWS.put(tx, &(1, 2), &"dropped".to_owned())?;
        ROWS.delete(tx, &(1, 1))?;
        Err::<(), StoreError>(StoreError::Busy)
    });
    let worse = store.submit(|tx| -> Result<(), StoreError> {
        ROWS.put(tx, &(1, 3), &"dropped".to_owned())?;
        panic!("a bug");
    });
    let last = store.submit(|tx| {
        // It sees its neighbour's row and none of the failed ones'.
        let seen: Vec<_> = ROWS.range(tx, ..)?.map(Result::unwrap).collect();
        assert_eq!(tx.next_position(), 2, "a failed change gives its positions back");
        ROWS.put(tx, &(1, 4), &format!("saw {}", seen.len()))
    });
    let commits = store.stats().commits;
    gate.wait();
    first.wait().unwrap();
    good.wait().unwrap();
    assert!(matches!(bad.wait(), Err(StoreError::Busy)));
    assert!(matches!(worse.wait(), Err(StoreError::Panicked)));
    last.wait().unwrap();
    assert_eq!(store.position(), 2);
    assert_eq!(rows(&store), [((1, 1), "kept".to_owned()), ((1, 4), "saw 1".to_owned())]);
    assert!(store.stats().commits - commits <= 2, "they shared a commit");
}

#[test]
fn the_position_is_published_before_the_listeners_and_they_are_called_before_the_answer() {
    let store = Store::open(MemoryBackend::new(), thread()).unwrap();
    let seen: Arc<Mutex<Vec<(Committed, u64)>>> = Arc::default();
    let (log, reader) = (seen.clone(), store.clone());
    store.on_commit(Box::new(move |committed| {
        log.lock().unwrap().push((committed.clone(), reader.position()));
        // What it tells of is visible.
        assert_eq!(reader.snapshot().unwrap().position().unwrap(), committed.position);
    }));
    let position = store
        .submit(|tx| {
            tx.touch(Touched::User("@a:b".to_owned()));
            tx.touch(Touched::Room(3));
            tx.touch(Touched::Room(3));
            Ok::<_, StoreError>((tx.next_position(), tx.next_position()))
        })
        .wait()
        .unwrap();
    assert_eq!(position, (1, 2));
    let touched = [Touched::User("@a:b".to_owned()), Touched::Room(3)].into();
    assert_eq!(*seen.lock().unwrap(), [(Committed { position: 2, touched }, 2)]);
}

#[test]
fn changes_commit_in_the_order_of_submission() {
    let store = Store::open(MemoryBackend::new(), thread()).unwrap();
    let pending: Vec<_> = (0..500u64)
        .map(|i| {
            store.submit(move |tx| {
                let before = TOTALS.get(tx, &0)?.unwrap_or(0);
                TOTALS.put(tx, &0, &(before + 1))?;
                Ok::<_, StoreError>((i, before, tx.next_position()))
            })
        })
        .collect();
    for answer in pending {
        let (i, before, position) = answer.wait().unwrap();
        assert_eq!((before, position), (i, i + 1));
    }
}

#[test]
fn many_writers_share_commits() {
    let store = Store::open(MemoryBackend::new(), thread()).unwrap();
    let start = Barrier::new(32);
    std::thread::scope(|scope| {
        for group in 0..32 {
            let (store, start) = (&store, &start);
            scope.spawn(move || {
                start.wait();
                // Pipelined, as actors do.
                let pending: Vec<_> =
                    (0..50).map(|i| store.submit(move |tx| ROWS.put(tx, &(group, i), &String::new()))).collect();
                pending.into_iter().for_each(|answer| answer.wait().unwrap());
            });
        }
    });
    let stats = store.stats();
    assert_eq!(rows(&store).len(), 1600);
    assert_eq!(stats.changes, 1600);
    assert!(stats.commits < 400, "{stats:?}");
    assert!(stats.largest_batch >= 8, "{stats:?}");
}

#[test]
fn a_listener_may_submit_when_changes_run_inline() {
    let store = open(&MemoryBackend::new());
    let (again, count) = (store.clone(), Arc::new(AtomicU64::new(0)));
    let counted = count.clone();
    store.on_commit(Box::new(move |committed| {
        if counted.fetch_add(1, Ordering::SeqCst) == 0 {
            let position = committed.position;
            drop(again.submit(move |tx| TOTALS.put(tx, &7, &position)));
        }
    }));
    store.submit(|tx| Ok::<_, StoreError>(tx.next_position())).wait().unwrap();
    assert_eq!(store.read(|snapshot| TOTALS.get(snapshot, &7)).unwrap(), Some(1));
    assert_eq!(count.load(Ordering::SeqCst), 2);
}

#[test]
fn more_changes_than_the_queue_takes_are_refused() {
    let options = kith_store::Options { max_waiting: 3, ..thread() };
    let store = Store::open(MemoryBackend::new(), options).unwrap();
    let gate = Arc::new(Barrier::new(2));
    let held = gate.clone();
    let (running, started) = std::sync::mpsc::channel();
    let first = store.submit(move |_| {
        running.send(()).unwrap();
        held.wait();
        Ok::<_, StoreError>(())
    });
    started.recv().unwrap();
    let three: Vec<_> = (0..3).map(|i| store.submit(move |tx| TOTALS.put(tx, &i, &1))).collect();
    assert!(matches!(put(&store, 1, 1, ""), Err(StoreError::Overloaded)));
    gate.wait();
    first.wait().unwrap();
    three.into_iter().for_each(|answer| answer.wait().unwrap());
    put(&store, 1, 1, "").unwrap();
}

#[test]
fn numbers_are_given_once_and_without_holes_over_a_clean_restart() {
    let disk = MemoryBackend::new();
    let store = open(&disk);
    assert_eq!([store.next_event_number(), store.next_event_number()], [1, 2]);
    assert_eq!(store.next_state_id(), 1);
    assert_eq!(store.submit(|tx| Ok::<_, StoreError>(tx.allocate(Counter::Event))).wait().unwrap(), 3);
    store.close();
    let store = open(&disk);
    assert_eq!((store.next_event_number(), store.next_state_id()), (4, 2));
}

#[test]
fn a_row_too_large_is_refused_alone() {
    let store = Store::open(MemoryBackend::new(), inline()).unwrap();
    let long = "x".repeat(kith_store::MAX_VALUE_BYTES + 1);
    assert!(matches!(put(&store, 1, 1, &long), Err(StoreError::TooLarge { table: "rows", .. })));
    put(&store, 1, 1, "short").unwrap();
}

#[test]
fn dropping_the_last_store_commits_what_waits() {
    let disk = MemoryBackend::new();
    let store = Store::open(disk.clone(), thread()).unwrap();
    let pending: Vec<_> = (0..100).map(|i| store.submit(move |tx| ROWS.put(tx, &(0, i), &String::new()))).collect();
    drop(store);
    pending.into_iter().for_each(|answer| answer.wait().unwrap());
    assert_eq!(rows(&open(&disk)).len(), 100);
}

#[test]
fn with_a_driver_changes_wait_until_they_are_committed_together() {
    let disk = MemoryBackend::new();
    let told: Arc<Mutex<Vec<kith_store::Waiting>>> = Arc::default();
    let telling = told.clone();
    let driver: kith_store::Driver = Box::new(move |waiting| telling.lock().unwrap().push(waiting));
    let options = kith_store::Options { writer: kith_store::WriterMode::Driven, driver: Some(driver), ..inline() };
    let store = Store::open(disk.clone(), options).unwrap();
    let before = store.stats().commits;
    let first = store.submit(|tx| ROWS.put(tx, &(1, 1), &"one".to_owned()));
    let second = store.submit(|tx| ROWS.put(tx, &(1, 2), &"two".to_owned()));
    assert_eq!(rows(&store), []);
    let waiting = std::mem::take(&mut *told.lock().unwrap());
    assert_eq!(waiting.len(), 1, "told once for all that wait");
    waiting[0].commit();
    first.wait().unwrap();
    second.wait().unwrap();
    assert_eq!(rows(&store).len(), 2);
    assert_eq!(store.stats().commits, before + 1);
    // What waits when the store is closed is committed, as with the others.
    let last = store.submit(|tx| ROWS.put(tx, &(1, 3), &"three".to_owned()));
    store.close();
    last.wait().unwrap();
    waiting[0].commit();
    assert_eq!(rows(&open(&disk)).len(), 3);
}

/// Readers that come between two commits share one view of the database, which must end with it.
#[test]
fn a_snapshot_shows_one_moment_and_the_next_one_what_came_since() {
    let disk = MemoryBackend::new();
    let store = open(&disk);
    let texts = |snapshot: &kith_store::Snapshot| {
        ROWS.range(snapshot, ..).unwrap().map(|row| row.unwrap().1).collect::<Vec<_>>()
    };
    let empty = store.snapshot().unwrap();
    assert!(texts(&empty).is_empty());
    put(&store, 1, 1, "one").unwrap();
    let one = store.snapshot().unwrap();
    assert_eq!(texts(&one), ["one"], "a table that was not there when the last snapshot was asked for it");
    put(&store, 1, 2, "two").unwrap();
    assert_eq!(texts(&store.snapshot().unwrap()), ["one", "two"]);
    assert_eq!((texts(&one), texts(&empty).len()), (vec!["one".to_owned()], 0), "the old ones are as they were");
    let error =
        store.submit(|tx| ROWS.put(tx, &(1, 3), &"three".to_owned()).and(Err::<(), _>(StoreError::Closed))).wait();
    assert!(error.is_err());
    assert_eq!(texts(&store.snapshot().unwrap()), ["one", "two"]);
}

#[test]
fn readers_on_other_threads_never_see_less_than_was_answered() {
    let store = Store::open(MemoryBackend::new(), thread()).unwrap();
    let answered = AtomicU64::new(0);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    let least = answered.load(Ordering::Acquire);
                    let seen = store.read(|read| TOTALS.get(read, &0)).unwrap().unwrap_or_default();
                    assert!(seen >= least, "{seen} is shown after {least} was answered");
                }
            });
        }
        for number in 1..=500 {
            store.submit(move |tx| TOTALS.put(tx, &0, &number)).wait().unwrap();
            answered.store(number, Ordering::Release);
        }
        done.store(true, Ordering::Release);
    });
}
