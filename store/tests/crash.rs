//! What is promised after a power cut, over many seeds; and what happens when the disk fails and lives on.

mod common;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};

use common::{ROWS, TOTALS, inline, open, put, rows, thread};
use kith_store::{Counter, MemoryBackend, Options, Pending, Store, StoreError};

/// Change number `i`: a row named by a fresh event number, a running total, a stream position, and the row
/// of ten changes ago deleted.
fn change(store: &Store, i: u64) -> Pending<u64, StoreError> {
    let number = store.next_event_number();
    store.submit(move |tx| {
        let before = TOTALS.get(tx, &0)?.unwrap_or(0);
        // What an actor does that builds on an earlier change of its own.
        if before != i {
            return Err(StoreError::Busy);
        }
        TOTALS.put(tx, &0, &(i + 1))?;
        assert_eq!(tx.next_position(), i + 1);
        let text = format!("{i} {}", "x".repeat((i as usize * 37) % 3000));
        ROWS.put(tx, &(i, number), &text)?;
        if i >= 10 {
            let old: Vec<_> = ROWS.prefix(tx, &(i - 10))?.map(|row| row.map(|(key, _)| key)).collect();
            for key in old {
                assert!(ROWS.delete(tx, &key?)?);
            }
        }
        Ok(number)
    })
}

/// What must hold of a store whatever happened to it. Gives how many changes are in it.
fn check(store: &Store) -> u64 {
    let snapshot = store.snapshot().unwrap();
    let total = TOTALS.get(&snapshot, &0).unwrap().unwrap_or(0);
    assert_eq!(snapshot.position().unwrap(), total);
    assert_eq!(store.position(), total);
    let rows = rows(store);
    let expected: Vec<u64> = (total.saturating_sub(10)..total).collect();
    assert_eq!(rows.iter().map(|((i, _), _)| *i).collect::<Vec<_>>(), expected, "no change is there in part");
    for ((i, _), text) in &rows {
        assert!(text.starts_with(&format!("{i} ")));
    }
    let highest = rows.iter().map(|((_, number), _)| *number).max().unwrap_or(0);
    assert!(store.next_event_number() > highest, "a number of a committed row is given again");
    total
}

#[test]
fn after_a_power_cut_what_was_answered_is_there_and_nothing_is_there_in_part() {
    let (mut lost, mut kept) = (0, 0);
    for seed in 0..90u64 {
        let disk = MemoryBackend::new();
        // The power goes at any operation, creation included.
        disk.fail_after(seed * 29 % 1200);
        let mut answered = 0;
        let mut submitted = 0;
        if let Ok(store) = Store::open(disk.clone(), inline()) {
            for i in 0..60 {
                submitted += 1;
                match change(&store, i).wait() {
                    Ok(_) => answered += 1,
                    Err(_) => break,
                }
            }
        }
        let disk = disk.crash(seed);
        // Now and then the power goes again while the database is being opened.
        let disk = if seed % 3 == 0 {
            disk.fail_after(seed % 40);
            drop(Store::open(disk.clone(), inline()));
            disk.crash(seed + 1)
        } else {
            disk
        };
        let store = open(&disk);
        let found = check(&store);
        assert!((answered..=submitted).contains(&found), "seed {seed}: {answered} <= {found} <= {submitted}");
        lost += submitted - found;
        kept += found - answered;
        // And it goes on.
        change(&store, found).wait().unwrap();
        check(&store);
    }
    assert!(lost > 20, "the cuts never hit a change: {lost}");
    assert!(kept > 0, "no change got through unanswered: {kept}");
}

#[test]
fn a_batch_survives_a_power_cut_whole_or_not_at_all_and_batches_in_order() {
    for seed in 0..60u64 {
        let disk = MemoryBackend::new();
        let store = Store::open(disk.clone(), thread()).unwrap();
        let mut answered = 0;
        disk.fail_after(seed * 13 % 700);
        // Pipelined: sixteen wait at any time.
        let mut waiting = VecDeque::new();
        for i in 0..300 {
            waiting.push_back(change(&store, i));
            if waiting.len() == 16 && waiting.pop_front().is_some_and(|first| first.wait().is_err()) {
                break;
            }
            answered = i.saturating_sub(14);
        }
        let store = open(&disk.crash(seed));
        let found = check(&store);
        assert!(found >= answered, "seed {seed}: {found} >= {answered}");
    }
}

#[test]
fn numbers_are_not_given_again_after_a_crash_however_many_a_commit_takes() {
    let disk = MemoryBackend::new();
    let store = open(&disk);
    let take = |store: &Store, count: u64| {
        store
            .submit(move |tx| {
                let mut last = 0;
                for _ in 0..count {
                    last = tx.allocate(Counter::Row);
                }
                TOTALS.put(tx, &1, &last)?;
                Ok::<_, StoreError>(last)
            })
            .wait()
            .unwrap()
    };
    let mut last = 0;
    let mut disk = disk;
    let mut store = store;
    for (seed, count) in [1, 2047, 2048, 4095, 4096, 10_000, 1].into_iter().enumerate() {
        last = take(&store, count).max(last);
        // Given, but in no row.
        let unused = store.allocate(Counter::Row);
        disk = disk.crash(seed as u64);
        store = open(&disk);
        let next = store.allocate(Counter::Row);
        assert!(next > last && next >= unused, "{next} after {last}");
    }
}

#[test]
fn after_a_failed_commit_the_database_is_reopened_and_goes_on() {
    let (mut failed, mut landed) = (0, 0);
    for seed in 0..100 {
        let at = seed * 2 / 5;
        let disk = MemoryBackend::new();
        let store = open(&disk);
        for i in 0..20 {
            change(&store, i).wait().unwrap();
        }
        disk.fail_once_after(at);
        let answer = change(&store, 20).wait();
        disk.heal();
        let reopened = store.stats().reopened;
        match answer {
            // Either the fault hit nothing, or the commit got through in spite of it.
            Ok(_) => landed += u64::from(reopened > 0),
            Err(StoreError::Io(_)) => {
                failed += 1;
                assert!(reopened > 0);
            }
            Err(error) => panic!("{error}"),
        }
        // The answer was the truth.
        let total = check(&store);
        assert_eq!(total, if answer.is_ok() { 21 } else { 20 }, "fault at {at}");
        if seed % 2 == 0 {
            // Durable as it is, before anything else is written.
            assert_eq!(check(&open(&disk.crash(seed))), total, "fault at {at}");
            continue;
        }
        change(&store, total).wait().unwrap();
        // And on disk is what is seen.
        let store = open(&disk.crash(seed));
        assert_eq!(check(&store), total + 1);
    }
    assert!(failed > 0, "no fault hit a commit");
    assert!(landed > 0, "no fault came after the point of no return");
}

/// The confirming commit of a recovery once had the number of the commit that had failed. When it failed in turn after it had
/// reached the disk, the next look took it for the lost one, and a change that was nowhere was answered as durable; and a
/// change that was there as failed, when the confirming commit covered its number.
#[test]
fn an_answer_is_true_when_the_disk_fails_a_second_time_while_the_database_is_reopened() {
    // Operations of a commit, and of all that follows when it fails.
    let operations = {
        let disk = MemoryBackend::new();
        let store = open(&disk);
        change(&store, 0).wait().unwrap();
        let before = disk.operations();
        disk.fail_once_after(0);
        assert!(change(&store, 1).wait().is_err());
        let failing = disk.operations() - before;
        let before = disk.operations();
        change(&store, 1).wait().unwrap();
        (disk.operations() - before, failing)
    };
    let (mut landed, mut lost) = (0, 0);
    for first in 0..operations.0 {
        for second in first + 1..first + operations.1 + 8 {
            let disk = MemoryBackend::new();
            let store = open(&disk);
            change(&store, 0).wait().unwrap();
            disk.fail_at(&[first, second]);
            let answer = change(&store, 1).wait();
            disk.heal();
            let twice = store.stats().reopened > 1;
            let total = check(&store);
            assert_eq!(total, if answer.is_ok() { 2 } else { 1 }, "faults at {first} and {second}: {answer:?}");
            landed += u64::from(twice && answer.is_ok());
            lost += u64::from(twice && answer.is_err());
            assert_eq!(check(&open(&disk.crash(first + second))), total, "faults at {first} and {second}");
        }
    }
    assert!(landed > 0 && lost > 0, "{landed} landed and {lost} were lost, then the disk failed again");
}

#[test]
fn all_that_waits_is_answered_when_a_commit_fails() {
    let disk = MemoryBackend::new();
    let store = Store::open(disk.clone(), thread()).unwrap();
    let gate = Arc::new(Barrier::new(2));
    let held = gate.clone();
    let breaking = disk.clone();
    let first = store.submit(move |tx| {
        held.wait();
        breaking.fail_once_after(2);
        TOTALS.put(tx, &9, &9)
    });
    let others: Vec<_> = (0..5).map(|i| change(&store, i)).collect();
    gate.wait();
    assert!(matches!(first.wait(), Err(StoreError::Io(_))));
    for other in others {
        assert!(other.wait().is_err());
    }
    assert_eq!(check(&store), 0);
    change(&store, 0).wait().unwrap();
}

#[test]
fn a_read_that_hits_a_bad_sector_does_not_stop_the_store() {
    let disk = MemoryBackend::new();
    // No cache: each read goes to the disk.
    let store = Store::open(disk.clone(), Options { cache_bytes: 0, ..inline() }).unwrap();
    for i in 0..20 {
        change(&store, i).wait().unwrap();
    }
    disk.fail_once_after(0);
    let read = store.read(|snapshot| TOTALS.get(snapshot, &0));
    assert!(matches!(read, Err(StoreError::Io(_))), "{read:?}");
    // Nobody writes, and still reads work again.
    assert_eq!(store.read(|snapshot| TOTALS.get(snapshot, &0)).unwrap(), Some(20));
    assert_eq!(check(&store), 20);
    change(&store, 20).wait().unwrap();
}

#[test]
fn a_read_error_is_mended_although_the_disk_is_too_full_to_write() {
    let disk = MemoryBackend::new();
    let free = Arc::new(AtomicU64::new(u64::MAX));
    let told = free.clone();
    let options = Options {
        cache_bytes: 0,
        free_space: Some(Box::new(move || Some(told.load(Ordering::SeqCst)))),
        reserve_bytes: 64 << 20,
        ..inline()
    };
    let store = Store::open(disk.clone(), options).unwrap();
    change(&store, 0).wait().unwrap();
    free.store(1 << 20, Ordering::SeqCst);
    disk.fail_once_after(0);
    assert!(store.read(|snapshot| TOTALS.get(snapshot, &0)).is_err());
    assert_eq!(store.read(|snapshot| TOTALS.get(snapshot, &0)).unwrap(), Some(1), "reads go on");
    assert!(change(&store, 1).wait().unwrap_err().is_disk_full(), "and still nothing is written");
    assert_eq!(check(&store), 1);
    free.store(u64::MAX, Ordering::SeqCst);
    change(&store, 1).wait().unwrap();
}

#[test]
fn a_database_that_cannot_be_reopened_says_so_to_all() {
    let disk = MemoryBackend::new();
    let store = open(&disk);
    let told = Arc::new(AtomicU64::new(0));
    let counted = told.clone();
    store.on_failure(Box::new(move |error| {
        assert!(error.to_string().contains("injected"), "{error}");
        counted.fetch_add(1, Ordering::SeqCst);
    }));
    change(&store, 0).wait().unwrap();
    disk.fail_after(0);
    assert!(matches!(change(&store, 1).wait(), Err(StoreError::Failed(_))));
    assert!(matches!(change(&store, 1).wait(), Err(StoreError::Failed(_))));
    assert!(matches!(store.snapshot(), Err(StoreError::Failed(_))));
    assert_eq!(told.load(Ordering::SeqCst), 1);
}

#[test]
fn a_nearly_full_disk_refuses_changes_while_reads_go_on_and_recovers() {
    let disk = MemoryBackend::new();
    let free = Arc::new(AtomicU64::new(1 << 30));
    let told = free.clone();
    let options = Options {
        free_space: Some(Box::new(move || Some(told.load(Ordering::SeqCst)))),
        reserve_bytes: 64 << 20,
        ..inline()
    };
    let store = Store::open(disk, options).unwrap();
    change(&store, 0).wait().unwrap();
    free.store((64 << 20) - 1, Ordering::SeqCst);
    let error = change(&store, 1).wait().unwrap_err();
    assert!(error.is_disk_full());
    assert!(error.to_string().contains("67108863"), "{error}");
    assert_eq!(check(&store), 1);
    free.store(64 << 20, Ordering::SeqCst);
    change(&store, 1).wait().unwrap();
    assert_eq!(check(&store), 2);
}

#[test]
fn a_disk_that_runs_full_in_a_commit_is_told_as_full_and_recovers() {
    let disk = MemoryBackend::new();
    let store = Store::open(disk.clone(), Options { reserve_bytes: 0, ..inline() }).unwrap();
    put(&store, 0, 0, "small").unwrap();
    disk.full_after(disk.used_bytes() + 8192);
    let mut refused = 0;
    for i in 0..20 {
        match put(&store, 1, i, &"x".repeat(20_000)) {
            Ok(()) => {}
            Err(StoreError::DiskFull { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        assert_eq!(rows(&store)[0], ((0, 0), "small".to_owned()), "reads go on");
    }
    assert!(refused > 0);
    let before = rows(&store).len();
    disk.heal();
    put(&store, 2, 0, &"x".repeat(20_000)).unwrap();
    assert_eq!(rows(&open(&disk.crash(1))).len(), before + 1);
}
