//! [`Store`]: the face of this crate.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock, Weak};
use std::thread::JoinHandle;

use crate::backend::{Backend, FileBackend};
use crate::counters::{Counter, Counters};
use crate::database::{self, Opened, Origin, State, Trouble, Watch};
use crate::error::{OpenError, StoreError};
use crate::folder::{self, FolderLock};
use crate::meta::{self, SCHEMA_KEY};
use crate::migrations::{self, Migration};
use crate::pending::{Pending, pending};
use crate::queue::{CommitListener, FailureListener, Figures, Shared};
use crate::snapshot::Snapshot;
use crate::tx::{Touched, Tx};
use crate::volatile::VolatileRows;
use crate::writer::Change;

/// Who runs the changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WriterMode {
    /// A thread of the store's own. What waits while a commit runs goes into the next one.
    #[default]
    Thread,
    /// The caller of [`Store::submit`], at once: where nothing may depend on threads.
    Inline,
    /// Whoever holds the [`Waiting`] that [`Options::driver`] is given: a simulation, in which a commit takes time.
    Driven,
}

/// Told when changes begin to wait, with [`WriterMode::Driven`].
pub type Driver = Box<dyn Fn(Waiting) + Send + Sync>;

/// Changes that wait to be committed, with [`WriterMode::Driven`].
#[derive(Clone)]
pub struct Waiting(Weak<Shared>);

impl Waiting {
    /// Commits all that waits by now, as one batch if it fits. Does nothing when the store is gone.
    pub fn commit(&self) {
        if let Some(shared) = self.0.upgrade() {
            shared.drain_inline();
        }
    }
}

/// Tells how many bytes are free on the disk; `None` if that cannot be told.
pub type FreeSpace = Box<dyn Fn() -> Option<u64> + Send + Sync>;

/// How to open a store. Start from [`Options::default`].
pub struct Options {
    /// Memory for the page cache. 16 MiB by default; it takes no more than it needs.
    pub cache_bytes: usize,
    /// Who runs the changes.
    pub writer: WriterMode,
    /// Changes are refused when less than this is free on the disk: 64 MiB by default; 0 to never look.
    pub reserve_bytes: u64,
    /// Who commits, with [`WriterMode::Driven`]. Without one, changes wait until the store is closed.
    pub driver: Option<Driver>,
    /// Replaces the look at the disk.
    pub free_space: Option<FreeSpace>,
    /// Has the rows kept there, and not on the backend: for simulations in which no power is cut and no disk fails.
    pub volatile: Option<VolatileRows>,
    /// Changes that may wait; more are refused as [`StoreError::Overloaded`].
    pub max_waiting: usize,
    /// Steps to the current schema.
    pub migrations: &'static [Migration],
    /// For [`Store::open_folder`]: names beside the store's own that may already stand in a folder without a
    /// database, without making it somebody else's.
    pub beside: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 16 << 20,
            writer: WriterMode::Thread,
            reserve_bytes: 64 << 20,
            driver: None,
            free_space: None,
            volatile: None,
            max_waiting: 65_536,
            migrations: migrations::ALL,
            beside: Vec::new(),
        }
    }
}

/// What a commit brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The stream position after it.
    pub position: u64,
    /// Whom its changes concern, all together.
    pub touched: BTreeSet<Touched>,
}

/// Figures for `kith status`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Size of the database file in bytes.
    pub file_bytes: u64,
    /// Free on its disk, if that can be told.
    pub free_bytes: Option<u64>,
    /// Commits since it was opened.
    pub commits: u64,
    /// Changes in them.
    pub changes: u64,
    /// Changes in the last commit.
    pub last_batch: usize,
    /// Most changes in one commit since it was opened.
    pub largest_batch: usize,
    /// Changes that wait now.
    pub waiting: usize,
    /// How often the database had to be reopened after an error.
    pub reopened: u64,
    /// Last published stream position.
    pub position: u64,
}

/// The store. Clones are the same store; when the last is dropped, it is closed.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    /// Opens the database of `backend`, or makes it.
    ///
    /// # Errors
    /// [`OpenError`] says what stands in the way.
    pub fn open(backend: impl Backend, options: Options) -> Result<Self, OpenError> {
        Self::open_with(Box::new(backend), options, None)
    }

    /// Opens `dir/kith.redb`, or makes it and the folder, readable by their owner alone. As long as the store is
    /// open, `dir/kith.lock` keeps other processes out.
    ///
    /// # Errors
    /// [`OpenError`]: the folder is in use, not ours, written by a newer kith, damaged, or cannot be used.
    pub fn open_folder(dir: &Path, options: Options) -> Result<Self, OpenError> {
        let lock = folder::prepare(dir, &options.beside)?;
        Self::open_with(Box::new(FileBackend::new(dir.join(folder::DATABASE))), options, Some(lock))
    }

    fn open_with(backend: Box<dyn Backend>, options: Options, lock: Option<FolderLock>) -> Result<Self, OpenError> {
        let origin =
            Origin { backend, cache_bytes: options.cache_bytes, volatile: options.volatile, watch: Watch::default() };
        let (database, schema) = origin.open(options.migrations)?;
        let path = origin.backend.path();
        let failed = |cause: StoreError| OpenError::Store { path: path.clone(), cause };

        let first_reads = || {
            let snapshot = database.snapshot()?;
            Ok((meta::progress(&snapshot)?, Counters::load(&snapshot)?))
        };
        let first_reads = catch_unwind(AssertUnwindSafe(first_reads));
        let first_reads = first_reads.map_err(|_| database::refusal(&path, Trouble::Panic));
        let (progress, counters) = match first_reads.and_then(|reads| reads.map_err(failed)) {
            Ok(reads) => reads,
            Err(error) => {
                database::give_up(database);
                return Err(error);
            }
        };

        let shared = Arc::new(Shared {
            origin,
            reserve_bytes: options.reserve_bytes,
            free_space: options.free_space,
            driver: options.driver,
            max_waiting: options.max_waiting.max(1),
            mode: options.writer,
            database: RwLock::new(State::Open(Opened::new(database))),
            writing: Mutex::default(),
            queue: Mutex::default(),
            wake: Condvar::new(),
            position: AtomicU64::new(progress.position),
            commit: AtomicU64::new(progress.commit),
            counters: Arc::new(counters),
            listeners: RwLock::default(),
            failure_listeners: RwLock::default(),
            figures: Figures::default(),
            lock: Mutex::new(lock),
        });
        let thread = match options.writer {
            WriterMode::Inline | WriterMode::Driven => None,
            WriterMode::Thread => {
                let shared = shared.clone();
                let spawned = std::thread::Builder::new().name("kith-store".to_owned()).spawn(move || shared.run());
                Some(spawned.map_err(|cause| OpenError::Unusable { path: path.clone(), cause })?)
            }
        };
        let handle = Handle { shared: shared.clone(), thread: Mutex::new(thread) };
        let store = Self { shared, handle: Arc::new(handle) };
        store.migrate(schema, options.migrations).map_err(failed)?;
        Ok(store)
    }

    fn migrate(&self, from: u64, migrations: &'static [Migration]) -> Result<(), StoreError> {
        for (migration, version) in migrations.iter().zip(migrations::FIRST..) {
            if version >= from {
                tracing::info!(name = migration.name, to = version + 1, "migrating the database");
                let migrated = self.submit(move |tx| {
                    (migration.run)(tx)?;
                    meta::META.put(tx, &SCHEMA_KEY.to_owned(), &(version + 1))
                });
                if self.shared.mode == WriterMode::Driven {
                    // Nobody else can commit it: the store is not there yet.
                    self.shared.drain_inline();
                }
                migrated.wait()?;
            }
        }
        Ok(())
    }

    /// A view of what is committed. Short-lived: see [`Snapshot`].
    ///
    /// # Errors
    /// If the store is closed or failed.
    pub fn snapshot(&self) -> Result<Snapshot, StoreError> {
        if self.shared.origin.watch.take_failed() {
            // A read failed, and redb refuses all since: have the writer reopen the database.
            drop(self.submit(|_| Ok::<_, StoreError>(())));
        }
        self.shared.with_database(Opened::view)
    }

    /// Reads with a snapshot that lives as long as the closure runs.
    ///
    /// # Errors
    /// The closure's, or as [`Store::snapshot`].
    pub fn read<T, E: From<StoreError>>(&self, f: impl FnOnce(&Snapshot) -> Result<T, E>) -> Result<T, E> {
        f(&self.snapshot()?)
    }

    /// Makes a change; resolves when it is durable, after it was published.
    ///
    /// # Errors
    /// The closure's, in which case nothing of the change is kept, or the store's: as a rule nothing of it is kept
    /// then either.
    pub async fn write<T, E, F>(&self, f: F) -> Result<T, E>
    where
        F: FnOnce(&mut Tx) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        self.submit(f).await
    }

    /// Enqueues a change. Changes are made up and committed in the order of submission, so one may build on
    /// another that is not answered yet; but each fails alone, so it must check in its closure what it builds on.
    pub fn submit<T, E, F>(&self, f: F) -> Pending<T, E>
    where
        F: FnOnce(&mut Tx) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (reply, pending) = pending();
        if self.shared.submit(Box::new(Change::new(f, reply)))
            && let Some(driver) = &self.shared.driver
        {
            driver(Waiting(Arc::downgrade(&self.shared)));
        }
        pending
    }

    /// The last published stream position. All up to it is committed and shows in snapshots taken from now on.
    pub fn position(&self) -> u64 {
        self.shared.position.load(Ordering::Acquire)
    }

    /// Gives the next event number. See [`Store::allocate`].
    pub fn next_event_number(&self) -> u64 {
        self.allocate(Counter::Event)
    }

    /// Gives the next id of a room state. See [`Store::allocate`].
    pub fn next_state_id(&self) -> u64 {
        self.allocate(Counter::State)
    }

    /// Gives a number that no committed row ever had or will have from another call, from 1 on. Unused ones leave
    /// holes. A number becomes public with a commit: one that was shown to others without may be given again after
    /// a crash.
    pub fn allocate(&self, counter: Counter) -> u64 {
        self.shared.counters.allocate(counter)
    }

    /// Has `f` called after each commit, in order, on the writer: after the position is published, before the
    /// changes are answered. It must be quick. It may submit changes, but not wait for them.
    pub fn on_commit(&self, f: CommitListener) {
        self.shared.listeners.write().unwrap_or_else(PoisonError::into_inner).push(f);
    }

    /// Has `f` called with the cause when the database fails for good: the node must stop and say why.
    pub fn on_failure(&self, f: FailureListener) {
        self.shared.failure_listeners.write().unwrap_or_else(PoisonError::into_inner).push(f);
    }

    /// Commits what waits, then closes the database. Blocks until that is done. All later calls answer
    /// [`StoreError::Closed`]. Nothing happens if it is closed already.
    pub fn close(&self) {
        self.handle.close();
    }

    /// Figures; cheap.
    pub fn stats(&self) -> Stats {
        let figures = &self.shared.figures;
        Stats {
            file_bytes: self.shared.origin.bytes(),
            free_bytes: self.shared.free_space(),
            commits: figures.commits.load(Ordering::Relaxed),
            changes: figures.changes.load(Ordering::Relaxed),
            last_batch: figures.last_batch.load(Ordering::Relaxed),
            largest_batch: figures.largest_batch.load(Ordering::Relaxed),
            waiting: self.shared.waiting(),
            reopened: figures.reopened.load(Ordering::Relaxed),
            position: self.position(),
        }
    }

    /// Names of all tables and their numbers of rows; cheap.
    ///
    /// # Errors
    /// As any read.
    pub fn table_rows(&self) -> Result<Vec<(String, u64)>, StoreError> {
        self.shared.with_database(|opened| opened.medium.table_rows())
    }

    /// Moves all rows to the front of the file and cuts it. Worth it when much was deleted; a file without much free
    /// space may even grow. Blocks all reads and writes meanwhile (about a second per 100 MB), so: when
    /// idle, or before the node starts. Says whether anything was gained.
    ///
    /// # Errors
    /// [`StoreError::Busy`] while a [`Snapshot`] is alive.
    pub fn compact(&self) -> Result<bool, StoreError> {
        self.shared.compact()
    }
}

impl Handle {
    fn close(&self) {
        let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.closed = true;
        drop(queue);
        self.shared.wake.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        match thread {
            // The last store was dropped by a change or listener: the thread ends by itself after it.
            Some(thread) if thread.thread().id() == std::thread::current().id() => return,
            Some(thread) => {
                if thread.join().is_err() {
                    tracing::error!("the writer thread panicked");
                }
            }
            None => {
                if self.shared.mode == WriterMode::Driven {
                    self.shared.drain_inline();
                }
                // Inline: let another thread's batch end.
                let mut queue = self.shared.queue.lock().unwrap_or_else(PoisonError::into_inner);
                while let Some(thread) = queue.running {
                    if thread == std::thread::current().id() {
                        // Called by a change or listener: what waits goes on after it.
                        return;
                    }
                    queue = self.shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
        self.shared.finish();
        drop(self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}
