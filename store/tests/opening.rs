//! Which folders are opened, and which are refused with which words.

mod common;

use std::fs;
use std::path::Path;

use common::{ROWS, TOTALS, inline, put, rows};
use kith_store::migrations::Migration;
use kith_store::{MemoryBackend, OpenError, Options, Store, StoreError};

fn open(dir: &Path) -> Result<Store, OpenError> {
    Store::open_folder(dir, Options { reserve_bytes: 0, ..inline() })
}

#[test]
fn a_second_process_on_the_same_folder_is_refused_until_the_first_ends() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let error = open(dir.path()).err().unwrap();
    assert!(matches!(&error, OpenError::InUse { pid: Some(pid), .. } if *pid == std::process::id()));
    let message = error.to_string();
    assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
    assert!(message.contains(&*dir.path().to_string_lossy()), "{message}");
    put(&store, 1, 1, "still works").unwrap();
    store.close();
    assert_eq!(rows(&open(dir.path()).unwrap()).len(), 1);
}

#[test]
fn a_stale_lock_file_does_not_keep_anybody_out() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("kith.lock"), "4242\n").unwrap();
    drop(open(dir.path()).unwrap());
}

#[cfg(unix)]
#[test]
fn the_folder_and_its_files_are_closed_to_other_users() {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = tempfile::tempdir().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let new = dir.path().join("a").join("b");
    drop(open(&new).unwrap());
    assert_eq!((mode(&new), mode(&new.join("kith.redb")), mode(&new.join("kith.lock"))), (0o700, 0o600, 0o600));
    // One that was opened to others is closed again.
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(new.join("kith.redb"), fs::Permissions::from_mode(0o644)).unwrap();
    drop(open(&new).unwrap());
    assert_eq!((mode(&new), mode(&new.join("kith.redb"))), (0o700, 0o600));
}

#[test]
fn a_folder_that_holds_other_things_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.odt"), "x").unwrap();
    let error = open(dir.path()).err().unwrap();
    assert!(matches!(error, OpenError::Foreign { .. }));
    assert!(error.to_string().contains("thesis.odt"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    // Unless the caller knows the file.
    let options = Options { beside: vec!["thesis.odt".to_owned()], ..inline() };
    drop(Store::open_folder(dir.path(), options).unwrap());
}

#[test]
fn files_that_are_not_our_database_are_refused_and_left_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kith.redb");
    for content in [vec![b'x'; 100_000], b"#!/bin/sh\n".to_vec(), vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 1]] {
        // The last is all zeros where redb's magic number stands, but not behind it, as a single page: it counts as
        // an unfinished creation only if nothing else is in it. That one is made anew.
        fs::write(&path, &content).unwrap();
        match open(dir.path()) {
            Err(OpenError::Foreign { .. }) => assert_eq!(fs::read(&path).unwrap(), content),
            Err(error) => panic!("{error}"),
            Ok(_) => assert_eq!(content[..9], [0; 9]),
        }
    }
    // A database, but another program's.
    fs::remove_file(&path).unwrap();
    let other = redb::Database::create(&path).unwrap();
    let transaction = other.begin_write().unwrap();
    transaction.open_table(redb::TableDefinition::<u64, u64>::new("meta")).unwrap().insert(1, 1).unwrap();
    transaction.commit().unwrap();
    drop(other);
    let error = open(dir.path()).err().unwrap();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
}

#[test]
fn a_damaged_database_gives_an_error_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kith.redb");
    let store = open(dir.path()).unwrap();
    for i in 0..200 {
        put(&store, i, i, &"text".repeat(100)).unwrap();
    }
    store.close();
    let good = fs::read(&path).unwrap();
    let cut = good[..good.len() / 2].to_vec();
    let mut scribbled = good.clone();
    scribbled[4096..].iter_mut().for_each(|byte| *byte = 0x5a);
    let mut header = good.clone();
    header[9..320].iter_mut().for_each(|byte| *byte ^= 0xff);
    for bad in [cut, scribbled, header] {
        fs::write(&path, &bad).unwrap();
        let error = open(dir.path()).err().unwrap();
        assert!(matches!(error, OpenError::Damaged { .. } | OpenError::Store { .. }), "{error:?}");
    }
    fs::write(&path, &good).unwrap();
    assert_eq!(rows(&open(dir.path()).unwrap()).len(), 200);
}

#[test]
fn what_the_system_refuses_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let error = open(&file.join("data")).err().unwrap();
    assert!(matches!(error, OpenError::Unusable { .. }), "{error}");
    fs::create_dir(dir.path().join("kith.redb")).unwrap();
    let error = open(dir.path()).err().unwrap();
    assert!(matches!(error, OpenError::Unusable { .. }), "{error}");
}

const NAMED: &[Migration] = &[
    Migration {
        name: "rows in capitals",
        run: |tx| {
            let all: Vec<_> = ROWS.range(tx, ..)?.collect::<Result<_, _>>()?;
            all.into_iter().try_for_each(|(key, text)| ROWS.put(tx, &key, &text.to_uppercase()))
        },
    },
    Migration { name: "a total", run: |tx| TOTALS.put(tx, &0, &7) },
];

fn with(migrations: &'static [Migration]) -> Options {
    Options { migrations, ..inline() }
}

#[test]
fn a_newer_schema_is_refused_and_left_as_it_is() {
    let disk = MemoryBackend::new();
    Store::open(disk.clone(), with(NAMED)).unwrap().close();
    let error = Store::open(disk.clone(), with(&NAMED[..1])).err().unwrap();
    assert!(matches!(error, OpenError::NewerSchema { found: 3, supported: 2, .. }));
    assert!(error.to_string().contains("newer kith"), "{error}");
    Store::open(disk, with(NAMED)).unwrap();
}

#[test]
fn an_older_schema_is_brought_forward_once() {
    let disk = MemoryBackend::new();
    let store = Store::open(disk.clone(), with(&[])).unwrap();
    put(&store, 1, 1, "text").unwrap();
    store.close();
    Store::open(disk.clone(), with(&NAMED[..1])).unwrap().close();
    let store = Store::open(disk.clone(), with(NAMED)).unwrap();
    assert_eq!(rows(&store), [((1, 1), "TEXT".to_owned())]);
    put(&store, 1, 2, "new").unwrap();
    store.close();
    // Neither step runs again; a new database needs none.
    assert_eq!(rows(&Store::open(disk, with(NAMED)).unwrap())[1].1, "new");
    let new = Store::open(MemoryBackend::new(), with(NAMED)).unwrap();
    assert_eq!(new.read(|snapshot| TOTALS.get(snapshot, &0)).unwrap(), None);
}

/// Version 1 had no table of a server's own events.
#[test]
fn the_own_events_of_an_older_database_are_found() {
    use kith_store::tables::rooms::{EVENTS, EventRow, EventStatus, OWN_STREAM, STREAM};
    let disk = MemoryBackend::new();
    let old = Store::open(disk.clone(), with(&[])).unwrap();
    let fill = old.submit(|tx| {
        for number in 1..=6 {
            let row = EventRow {
                room: number % 2,
                status: EventStatus::Accepted,
                ours: number > 3,
                depth: number,
                position: number,
                state_before: 0,
                state_after: 0,
                auth: vec![],
                event_id: format!("${number}"),
                json: "{}".to_owned(),
            };
            EVENTS.put(tx, &number, &row)?;
            STREAM.put(tx, &(row.room, number), &number)?;
        }
        Ok::<_, StoreError>(())
    });
    fill.wait().unwrap();
    old.close();
    let own =
        Store::open(disk, inline()).unwrap().read(|read| OWN_STREAM.range(read, ..)?.collect::<Result<Vec<_>, _>>());
    let own: Result<_, StoreError> = own;
    assert_eq!(own.unwrap(), [((0, 4), 4), ((0, 6), 6), ((1, 5), 5)]);
}

#[test]
fn a_crash_between_migrations_goes_on_where_it_was() {
    for at in (0..200).step_by(7) {
        let disk = MemoryBackend::new();
        let store = Store::open(disk.clone(), with(&[])).unwrap();
        put(&store, 1, 1, "text").unwrap();
        store.close();
        disk.fail_after(at);
        drop(Store::open(disk.clone(), with(NAMED)));
        let store = Store::open(disk.crash(at), with(NAMED)).unwrap();
        assert_eq!(rows(&store), [((1, 1), "TEXT".to_owned())]);
        assert_eq!(store.read(|snapshot| TOTALS.get(snapshot, &0)).unwrap(), Some(7));
    }
}

#[test]
fn compaction_gives_space_back_and_keeps_all_rows() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    for i in 0..200 {
        put(&store, 0, i, &"x".repeat(50_000)).unwrap();
    }
    let deleted = store.submit(|tx| {
        for i in 10..200 {
            ROWS.delete(tx, &(0, i))?;
        }
        Ok::<_, StoreError>(())
    });
    deleted.wait().unwrap();
    let snapshot = store.snapshot().unwrap();
    assert!(matches!(store.compact(), Err(StoreError::Busy)));
    drop(snapshot);
    let before = fs::metadata(dir.path().join("kith.redb")).unwrap().len();
    assert!(store.compact().unwrap());
    let after = fs::metadata(dir.path().join("kith.redb")).unwrap().len();
    assert!(after * 4 < before, "{before} -> {after}");
    assert_eq!(store.stats().file_bytes, after);
    assert_eq!(rows(&store).len(), 10);
    put(&store, 0, 11, "on").unwrap();
    store.close();
    assert_eq!(rows(&open(dir.path()).unwrap()).len(), 11);
}
