//! Opening the database file: what is ours, what is not, and what is too new.

use std::fmt;
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{BackendError, Builder, Database, DatabaseError, StorageBackend, StorageError};

use crate::backend::{Backend, restart_unfinished, unusable};
use crate::error::{OpenError, StoreError};
use crate::medium::Medium;
use crate::meta::{self, COMMIT_KEY, FORMAT, FORMAT_KEY, META, SCHEMA_KEY};
use crate::migrations::{self, Migration};
use crate::overlay::Overlay;
use crate::snapshot::Snapshot;
use crate::volatile::VolatileRows;
use crate::{Key, Value};

/// The database as the store has it.
pub(crate) enum State {
    Open(Opened),
    Failed(Arc<str>),
    Closed,
}

impl State {
    pub(crate) fn error(&self) -> StoreError {
        match self {
            State::Failed(cause) => StoreError::Failed(cause.clone()),
            State::Open(_) | State::Closed => StoreError::Closed,
        }
    }
}

/// An open database.
pub(crate) struct Opened {
    /// Before the database, as it has to be gone before that closes.
    view: Mutex<Option<Snapshot>>,
    pub(crate) medium: Medium,
}

impl Opened {
    pub(crate) fn new(medium: Medium) -> Self {
        Self { view: Mutex::default(), medium }
    }

    /// What is committed. Whoever asks before the next commit is given the same, so that each table is opened once.
    pub(crate) fn view(&self) -> Result<Snapshot, StoreError> {
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(view) = &*view {
            return Ok(view.clone());
        }
        let taken = self.medium.snapshot()?;
        *view = Some(taken.clone());
        Ok(taken)
    }

    /// Lets go of it: before a commit, which frees no page that it shows; and after one, when it is out of date.
    pub(crate) fn forget_view(&self) {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// What the store watches of its storage.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watch(Arc<Watched>);

#[derive(Debug, Default)]
struct Watched {
    failed: AtomicBool,
    full: AtomicBool,
    bytes: AtomicU64,
}

impl Watch {
    /// Whether an I/O error happened since the last call.
    pub(crate) fn take_failed(&self) -> bool {
        self.0.failed.load(Ordering::Acquire) && self.0.failed.swap(false, Ordering::AcqRel)
    }

    /// Whether the last error was a full disk.
    pub(crate) fn was_full(&self) -> bool {
        self.0.full.load(Ordering::Acquire)
    }

    /// Size of the file in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Acquire)
    }

    fn see<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            self.0.full.store(full, Ordering::Release);
            self.0.failed.store(true, Ordering::Release);
        }
        result
    }
}

/// The storage with the watch over it.
struct WatchedStorage {
    inner: Box<dyn StorageBackend>,
    watch: Watch,
}

impl fmt::Debug for WatchedStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl StorageBackend for WatchedStorage {
    fn len(&self) -> io::Result<u64> {
        let len = self.watch.see(self.inner.len())?;
        self.watch.0.bytes.store(len, Ordering::Release);
        Ok(len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.watch.see(self.inner.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.watch.see(self.inner.set_len(len))?;
        self.watch.0.bytes.store(len, Ordering::Release);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.watch.see(self.inner.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.watch.see(self.inner.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}

/// What redb said, or that it panicked: it may on a damaged file.
pub(crate) enum Trouble {
    Io(io::Error),
    Database(DatabaseError),
    Panic,
}

fn open_redb(backend: &dyn Backend, cache_bytes: usize, watch: &Watch) -> Result<Database, Trouble> {
    let inner = backend.open().map_err(Trouble::Io)?;
    restart_unfinished(&*inner).map_err(Trouble::Io)?;
    let storage = WatchedStorage { inner, watch: watch.clone() };
    let opened =
        catch_unwind(AssertUnwindSafe(|| Builder::new().set_cache_size(cache_bytes).create_with_backend(storage)));
    let database = opened.map_err(|_| Trouble::Panic)?.map_err(Trouble::Database)?;
    watch.take_failed();
    Ok(database)
}

/// From where a database is opened, again and again.
pub(crate) struct Origin {
    pub(crate) backend: Box<dyn Backend>,
    pub(crate) cache_bytes: usize,
    /// In the place of the backend.
    pub(crate) volatile: Option<VolatileRows>,
    pub(crate) watch: Watch,
}

impl Origin {
    fn medium(&self) -> Result<Medium, Trouble> {
        match &self.volatile {
            Some(rows) => Ok(Medium::Memory(rows.clone())),
            None => Ok(Medium::File(open_redb(&*self.backend, self.cache_bytes, &self.watch)?)),
        }
    }

    /// Size in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.volatile.as_ref().map_or_else(|| self.watch.bytes(), VolatileRows::bytes)
    }

    /// Opens a database that was open before.
    pub(crate) fn reopen(&self) -> Result<Medium, StoreError> {
        self.medium().map_err(|trouble| match trouble {
            Trouble::Io(error) => error.into(),
            Trouble::Database(error) => error.into(),
            Trouble::Panic => StoreError::Io("the database is damaged".into()),
        })
    }

    /// Opens the database, or makes it; refuses what is not ours or too new. Gives its schema version, too.
    pub(crate) fn open(&self, migrations: &[Migration]) -> Result<(Medium, u64), OpenError> {
        let path = self.backend.path();
        let store = |cause: StoreError| OpenError::Store { path: path.clone(), cause };
        let medium = self.medium().map_err(|trouble| refusal(&path, trouble))?;
        let supported = migrations::current(migrations);
        // redb may panic over damage here, too.
        let recognised = catch_unwind(AssertUnwindSafe(|| {
            let tables = medium.names().map_err(store)?;
            recognise(tables, medium.snapshot().map_err(store)?, &path, supported)
        }));
        let recognised = match recognised.unwrap_or_else(|_| Err(refusal(&path, Trouble::Panic))) {
            Ok(recognised) => recognised,
            Err(error) => {
                give_up(medium);
                return Err(error);
            }
        };
        let Some((_, found)) = recognised else {
            let mut overlay = Overlay::default();
            for (key, number) in [(FORMAT_KEY, FORMAT), (SCHEMA_KEY, supported), (COMMIT_KEY, 0)] {
                overlay.write(META.name(), key.to_owned().to_bytes(), Some(Value::encode(&number)));
            }
            medium.begin().and_then(|writing| writing.commit(&mut overlay)).map_err(store)?;
            return Ok((medium, supported));
        };
        Ok((medium, found))
    }
}

/// Closes a database that is refused. redb writes to it once more as it closes, and may panic over damage there, too.
pub(crate) fn give_up(database: Medium) {
    // It is refused for what was found before.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
}

/// Says of a database what it is: ours, with its schema version; `None`: nobody's yet, since it is empty.
pub(crate) fn recognise(
    tables: Vec<String>,
    snapshot: Snapshot,
    path: &Path,
    supported: u64,
) -> Result<Option<(Snapshot, u64)>, OpenError> {
    let store = |cause: StoreError| OpenError::Store { path: path.to_owned(), cause };
    if tables.is_empty() {
        return Ok(None);
    }
    // Another program's table of that name has other types, which is an error of its own.
    if !tables.iter().any(|name| name == META.name()) || meta::get(&snapshot, FORMAT_KEY).ok() != Some(FORMAT) {
        return Err(OpenError::Foreign { path: path.to_owned(), found: "it is another program's database".to_owned() });
    }
    let found = meta::get(&snapshot, SCHEMA_KEY).map_err(store)?;
    if found > supported {
        return Err(OpenError::NewerSchema { path: path.to_owned(), found, supported });
    }
    Ok(Some((snapshot, found)))
}

/// Why a database did not open, for a person.
pub(crate) fn refusal(path: &Path, trouble: Trouble) -> OpenError {
    let foreign = |found: &str| OpenError::Foreign { path: path.to_owned(), found: found.to_owned() };
    let damaged = |cause: &str| OpenError::Damaged { path: path.to_owned(), cause: cause.to_owned() };
    match trouble {
        Trouble::Io(error) => unusable(path, error),
        Trouble::Panic => damaged("its pages make no sense"),
        Trouble::Database(DatabaseError::DatabaseAlreadyOpen) => OpenError::InUse { path: path.to_owned(), pid: None },
        Trouble::Database(DatabaseError::Storage(StorageError::Io(error))) => match error.kind() {
            io::ErrorKind::InvalidData => foreign("it is not a database"),
            io::ErrorKind::UnexpectedEof => damaged("it is cut short"),
            _ => unusable(path, error),
        },
        Trouble::Database(error) => damaged(&error.to_string()),
    }
}
