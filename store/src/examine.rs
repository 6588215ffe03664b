//! Looking into a data folder without changing anything in it: for whoever says what is wrong with it.

use std::fs::{self, File, TryLockError};
use std::io::Read as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::backends::FileBackend as RedbFile;
use redb::{Builder, DatabaseError, ReadOnlyDatabase, ReadableDatabase as _};

use crate::backend::{is_unfinished, unusable};
use crate::database::{Trouble, recognise, refusal};
use crate::error::OpenError;
use crate::folder::{DATABASE, LOCK};
use crate::medium::names;
use crate::migrations;
use crate::snapshot::Snapshot;

/// Memory for pages.
const CACHE_BYTES: usize = 4 << 20;

/// A database that nobody has open.
pub struct Examined {
    /// Size of the file in bytes.
    pub file_bytes: u64,
    /// What is in it. `None`: its last run, or its making, did not end in order. Opening it mends that, or tells that it is
    /// damaged.
    pub snapshot: Option<Snapshot>,
    // Held open, and others out, as long as somebody looks.
    _database: Option<ReadOnlyDatabase>,
    _lock: Option<File>,
}

/// Looks into the database in `dir`. Nothing is made, changed or migrated, not even the lock file. `None`: there is none.
///
/// # Errors
/// As [`Store::open_folder`](crate::Store::open_folder).
pub fn examine(dir: &Path) -> Result<Option<Examined>, OpenError> {
    let path = dir.join(DATABASE);
    let failed = |cause| unusable(&path, cause);
    let file_bytes = match fs::metadata(&path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let lock = keep_out(dir)?;
    let unordered = || Examined { file_bytes, snapshot: None, _database: None, _lock: None };
    let file =
        RedbFile::new(File::open(&path).map_err(failed)?).map_err(|error| refusal(&path, Trouble::Database(error)))?;
    if file_bytes == 0 || is_unfinished(&file).map_err(failed)? {
        return Ok(Some(unordered()));
    }
    // redb may panic on a damaged file.
    let opened =
        catch_unwind(AssertUnwindSafe(|| Builder::new().set_cache_size(CACHE_BYTES).open_read_only_with_backend(file)));
    let database = match opened {
        Err(_) => return Err(refusal(&path, Trouble::Panic)),
        Ok(Err(DatabaseError::RepairAborted)) => return Ok(Some(unordered())),
        Ok(Err(error)) => return Err(refusal(&path, Trouble::Database(error))),
        Ok(Ok(database)) => database,
    };
    let store = |cause| OpenError::Store { path: path.clone(), cause };
    let transaction = database.begin_read().map_err(|error| store(error.into()))?;
    let tables = names(&transaction).map_err(store)?;
    let recognised = recognise(tables, Snapshot::new(transaction), &path, migrations::current(migrations::ALL))?;
    let snapshot = recognised.map(|(snapshot, _)| snapshot);
    Ok(Some(Examined { file_bytes, snapshot, _database: Some(database), _lock: lock }))
}

/// Takes the folder's lock if it is there: a running node has it, and none starts meanwhile.
fn keep_out(dir: &Path) -> Result<Option<File>, OpenError> {
    let path = dir.join(LOCK);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(&path, error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Best effort: some systems do not let a locked file be read.
            let _ = (&file).take(16).read_to_string(&mut pid);
            Err(OpenError::InUse { path: dir.to_owned(), pid: pid.trim().parse().ok() })
        }
        Err(TryLockError::Error(cause)) => Err(unusable(&path, cause)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, Store, StoreError, Table};

    const ROWS: Table<u64, u64> = Table::new("examined");

    /// Names, sizes, permissions, contents and times of what is in the folder.
    fn picture(dir: &Path) -> Vec<(String, u32, Vec<u8>, std::time::SystemTime)> {
        use std::os::unix::fs::PermissionsExt as _;
        let mut all: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let found = entry.metadata().unwrap();
                let name = entry.file_name().to_string_lossy().into_owned();
                (name, found.permissions().mode(), fs::read(entry.path()).unwrap(), found.modified().unwrap())
            })
            .collect();
        all.sort();
        all
    }

    #[test]
    fn looking_at_a_database_shows_its_rows_and_changes_nothing() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        assert!(examine(dir.path()).unwrap().is_none());
        let store = Store::open_folder(dir.path(), Options::default()).unwrap();
        store.submit(|tx| ROWS.put(tx, &1, &7)).wait().unwrap();
        assert!(
            matches!(examine(dir.path()), Err(OpenError::InUse { pid: Some(pid), .. }) if pid == std::process::id())
        );
        store.close();
        // What an open folder would be mended to.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::remove_file(dir.path().join(LOCK)).unwrap();
        let before = picture(dir.path());
        let examined = examine(dir.path()).unwrap().unwrap();
        let row: Result<_, StoreError> = ROWS.get(examined.snapshot.as_ref().unwrap(), &1);
        assert_eq!(row.unwrap(), Some(7));
        drop(examined);
        assert_eq!(picture(dir.path()), before);
        assert_eq!(fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn what_is_no_database_is_told_and_what_a_crash_left_is_not_called_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(DATABASE);
        fs::write(&path, b"").unwrap();
        assert!(examine(dir.path()).unwrap().unwrap().snapshot.is_none());
        fs::write(&path, vec![0; 100_000]).unwrap();
        assert!(examine(dir.path()).unwrap().unwrap().snapshot.is_none());
        fs::write(&path, b"not a database".repeat(1000)).unwrap();
        assert!(matches!(examine(dir.path()), Err(OpenError::Foreign { .. })));
    }
}
