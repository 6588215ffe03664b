//! The one writer: takes what waits, makes it up, commits once, publishes, answers.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use kith_mutants::mutant;

use crate::database::{Opened, State};
use crate::error::StoreError;
use crate::medium::Writing;
use crate::meta::{self, COMMIT_KEY, META, POSITION_KEY};
use crate::overlay::Overlay;
use crate::pending::Reply;
use crate::queue::Shared;
use crate::snapshot::Snapshot;
use crate::store::Committed;
use crate::tx::Tx;
use crate::{Key, Value};

/// Most changes of one commit.
const MAX_BATCH_CHANGES: usize = 1024;
/// About the most memory the writes of one commit take.
const MAX_BATCH_BYTES: usize = 16 << 20;
/// How often a failed database is reopened before the store gives up.
const REOPEN_ATTEMPTS: usize = 3;

/// A change that waits.
pub(crate) trait Job: Send {
    /// Makes it up; says whether it is to be kept.
    fn run(&mut self, tx: &mut Tx) -> bool;
    /// It panicked in `run`.
    fn panicked(&mut self);
    /// Its batch is durable: gives what it returned.
    fn answer(self: Box<Self>);
    /// Its batch failed.
    fn fail(self: Box<Self>, error: &StoreError);
}

pub(crate) struct Change<F, T, E: From<StoreError>> {
    make: Option<F>,
    result: Option<Result<T, E>>,
    reply: Reply<T, E>,
}

impl<F, T, E: From<StoreError>> Change<F, T, E> {
    pub(crate) fn new(make: F, reply: Reply<T, E>) -> Self {
        Self { make: Some(make), result: None, reply }
    }
}

impl<F, T, E> Job for Change<F, T, E>
where
    F: FnOnce(&mut Tx) -> Result<T, E> + Send,
    T: Send,
    E: From<StoreError> + Send,
{
    fn run(&mut self, tx: &mut Tx) -> bool {
        let Some(make) = self.make.take() else {
            return false;
        };
        let result = make(tx);
        let keep = result.is_ok();
        self.result = Some(result);
        keep
    }

    fn panicked(&mut self) {
        self.result = Some(Err(StoreError::Panicked.into()));
    }

    fn answer(self: Box<Self>) {
        self.reply.answer(self.result.unwrap_or_else(|| Err(StoreError::Closed.into())));
    }

    fn fail(self: Box<Self>, error: &StoreError) {
        self.reply.answer(Err(error.clone().into()));
    }
}

impl Shared {
    /// Runs what waits until nothing does. Only one thread may be in here at a time.
    pub(crate) fn drain(&self, waiting: &mut VecDeque<Box<dyn Job>>) {
        while !waiting.is_empty() {
            let _exclusive = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
            self.run_batch(waiting);
        }
    }

    fn run_batch(&self, waiting: &mut VecDeque<Box<dyn Job>>) {
        // First the database, then the space: one that has to be reopened is, or reads would fail until there is space again.
        let (snapshot, writing) = match self.begin().and_then(|begun| self.enough_space().map(|()| begun)) {
            Ok(begun) => begun,
            Err(error) => {
                // Whatever builds on these changes waits behind them or asserts that they happened.
                self.fail_all(waiting.drain(..), &error);
                return;
            }
        };
        let position = self.position.load(Ordering::Acquire);
        let mut tx = Tx::new(snapshot, position, self.counters.clone());
        let mut batch = Vec::new();
        while batch.len() < MAX_BATCH_CHANGES && tx.bytes() < MAX_BATCH_BYTES {
            let Some(mut job) = waiting.pop_front() else {
                break;
            };
            match catch_unwind(AssertUnwindSafe(|| job.run(&mut tx))) {
                Ok(true) => tx.keep(),
                Ok(false) => tx.discard(),
                Err(_) => {
                    tracing::error!("a change was dropped because its code panicked");
                    tx.discard();
                    job.panicked();
                }
            }
            batch.push(job);
        }
        let (mut overlay, new_position, touched) = tx.finish();
        let committed = Committed { position: new_position, touched };
        if overlay.is_empty() && new_position == position {
            // Nothing to write; but what it read may be of a failed neighbour, so it is answered in turn.
            drop(writing);
            if !committed.touched.is_empty() {
                self.tell(&committed);
            }
            batch.into_iter().for_each(Job::answer);
            return;
        }
        if mutant!("publishes-before-commit") {
            self.publish(&committed);
        }
        if mutant!("answers-before-commit") {
            std::mem::take(&mut batch).into_iter().for_each(Job::answer);
        }
        match self.commit(writing, &mut overlay, new_position) {
            Ok(()) => {
                self.figures.batch(batch.len());
                self.publish(&committed);
                batch.into_iter().for_each(Job::answer);
            }
            Err(error) => {
                let error = self.named(error);
                tracing::error!(%error, "a commit failed; reopening the database");
                // What came while the batch ran waits in the queue, and was made as if the batch would succeed.
                waiting.append(&mut self.take_queued());
                let number = self.commit.load(Ordering::Acquire) + 1;
                match self.recover(Some(number)) {
                    // It had reached the disk before the error, and by now is durable.
                    Ok(landed) if landed || mutant!("takes-failure-for-success") => {
                        self.tell(&committed);
                        batch.into_iter().for_each(Job::answer);
                        self.fail_all(waiting.drain(..), &error);
                    }
                    Ok(_) => self.fail_all(batch.into_iter().chain(waiting.drain(..)), &error),
                    Err(error) => self.fail_all(batch.into_iter().chain(waiting.drain(..)), &error),
                }
            }
        }
    }

    fn fail_all(&self, jobs: impl Iterator<Item = Box<dyn Job>>, error: &StoreError) {
        jobs.for_each(|job| job.fail(error));
    }

    fn enough_space(&self) -> Result<(), StoreError> {
        if self.reserve_bytes == 0 {
            return Ok(());
        }
        match self.free_space() {
            Some(free) if free < self.reserve_bytes => {
                Err(StoreError::DiskFull { free_bytes: Some(free), reserve_bytes: self.reserve_bytes })
            }
            _ => Ok(()),
        }
    }

    /// Opens a snapshot and a write transaction. If an earlier read has hit an I/O error, redb refuses to write:
    /// then the database is reopened first.
    fn begin(&self) -> Result<(Snapshot, Writing), StoreError> {
        match self.try_begin() {
            Err(error @ (StoreError::Io(_) | StoreError::DiskFull { .. })) => {
                tracing::error!(%error, "the database refuses to be written; reopening it");
                self.recover(None)?;
                self.try_begin()
            }
            result => result,
        }
    }

    fn try_begin(&self) -> Result<(Snapshot, Writing), StoreError> {
        self.with_database(|opened| {
            let base = opened.view()?;
            opened.forget_view();
            Ok((base, opened.medium.begin()?))
        })
    }

    /// Writes the batch with its number, its position and the marks of the counters.
    pub(crate) fn commit(&self, writing: Writing, overlay: &mut Overlay, position: u64) -> Result<(), StoreError> {
        let marks = if mutant!("counters-start-again") { Vec::new() } else { self.counters.due() };
        for (_, key, mark) in &marks {
            put(overlay, key, *mark);
        }
        self.commit_rows(writing, overlay, position)?;
        self.counters.written(&marks);
        Ok(())
    }

    pub(crate) fn commit_rows(&self, writing: Writing, overlay: &mut Overlay, position: u64) -> Result<(), StoreError> {
        let number = self.commit.load(Ordering::Acquire) + 1;
        put(overlay, COMMIT_KEY, number);
        if position != self.position.load(Ordering::Acquire) {
            put(overlay, POSITION_KEY, position);
        }
        // A change may have taken one while the batch was made up.
        self.forget_view()?;
        // redb panics on some damage; that is an I/O error as any.
        catch_unwind(AssertUnwindSafe(|| writing.commit(overlay)))
            .unwrap_or_else(|_| Err(StoreError::Io("the database is damaged".into())))?;
        self.forget_view()?;
        self.commit.store(number, Ordering::Release);
        Ok(())
    }

    fn forget_view(&self) -> Result<(), StoreError> {
        self.with_database(|opened| {
            opened.forget_view();
            Ok(())
        })
    }

    /// Says what was committed: position first, then the listeners, so that whoever is woken finds it.
    fn publish(&self, committed: &Committed) {
        self.position.store(committed.position, Ordering::Release);
        self.tell(committed);
    }

    fn tell(&self, committed: &Committed) {
        for listener in self.listeners.read().unwrap_or_else(PoisonError::into_inner).iter() {
            if catch_unwind(AssertUnwindSafe(|| listener(committed))).is_err() {
                tracing::error!("a commit listener panicked");
            }
        }
    }

    /// Reopens the database after an error. Gives whether commit `number` is in it after all, durably.
    ///
    /// The commit that failed may have reached the disk, or only the system's cache: redb writes the pages, syncs, then
    /// the header, syncs. So after reopening, one small commit is made: it writes the header anew, and when it succeeds,
    /// what is seen is durable.
    ///
    /// That confirming commit can fail as the first one did, having landed or not, and then the database is looked at
    /// again. So that no look takes it for commit `number`, it is numbered above: a look that shows `number` or less tells
    /// whether the commit landed; one that shows more shows a confirming commit, which was made on what the look before found.
    fn recover(&self, number: Option<u64>) -> Result<bool, StoreError> {
        let mut cause = String::new();
        let mut landed = false;
        for _ in 0..REOPEN_ATTEMPTS {
            match self.reopen(true, number, &mut landed) {
                Ok(()) => return Ok(landed),
                // No space even for that. Reads shall go on, and the batch counts as failed.
                Err(StoreError::DiskFull { .. }) if self.reopen(false, number, &mut landed).is_ok() => {
                    return Ok(false);
                }
                Err(error) => cause = error.to_string(),
            }
        }
        tracing::error!(%cause, "the database could not be reopened");
        let cause: std::sync::Arc<str> = cause.into();
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = State::Failed(cause.clone());
        let error = StoreError::Failed(cause);
        for listener in self.failure_listeners.read().unwrap_or_else(PoisonError::into_inner).iter() {
            listener(&error);
        }
        Err(error)
    }

    /// Reopens once, notes in `landed` what is seen of commit `number`, and makes the confirming commit if told to.
    fn reopen(&self, confirm: bool, number: Option<u64>, landed: &mut bool) -> Result<(), StoreError> {
        let progress;
        {
            let mut state = self.database.write().unwrap_or_else(PoisonError::into_inner);
            // The old one must be gone before: it holds the file's lock.
            let old = std::mem::replace(&mut *state, State::Failed("being reopened".into()));
            let _ = catch_unwind(AssertUnwindSafe(|| drop(old)));
            let database = self.origin.reopen()?;
            let snapshot = database.snapshot()?;
            progress = meta::progress(&snapshot)?;
            self.counters.reload_marks(&snapshot)?;
            if number.is_some_and(|number| progress.commit <= number) {
                *landed = number == Some(progress.commit);
            }
            // Never lower than the number that failed: no later commit may be taken for it.
            self.commit.store(progress.commit.max(number.unwrap_or(0)), Ordering::Release);
            self.position.store(progress.position, Ordering::Release);
            drop(snapshot);
            *state = State::Open(Opened::new(database));
        }
        self.figures.reopened();
        if confirm {
            let writing = self.with_database(|opened| opened.medium.begin())?;
            self.commit(writing, &mut Overlay::default(), progress.position)?;
        }
        Ok(())
    }

    /// The last commit: counters without holes. Failing it costs nothing but holes.
    pub(crate) fn finish(&self) {
        let _exclusive = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let marks = self.counters.exact();
        if !marks.is_empty()
            && self.enough_space().is_ok()
            && let Ok(writing) = self.with_database(|opened| opened.medium.begin())
        {
            let mut overlay = Overlay::default();
            for (_, key, mark) in &marks {
                put(&mut overlay, key, *mark);
            }
            let position = self.position.load(Ordering::Acquire);
            if let Err(error) = self.commit_rows(writing, &mut overlay, position) {
                tracing::warn!(%error, "the last commit failed");
            }
        }
        let mut state = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if let State::Open(_) = &*state {
            // Dropping a database that had an I/O error may complain; nobody is left to hear it.
            let opened = std::mem::replace(&mut *state, State::Closed);
            let _ = catch_unwind(AssertUnwindSafe(|| drop(opened)));
        }
    }

    /// Moves all to the front of the file and cuts it.
    pub(crate) fn compact(&self) -> Result<bool, StoreError> {
        let _exclusive = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.database.write().unwrap_or_else(PoisonError::into_inner);
        let State::Open(opened) = &mut *state else {
            return Err(state.error());
        };
        opened.forget_view();
        let moved = opened.medium.compact().map_err(|error| self.named(error.into()));
        drop(state);
        // Compaction commits without quick repair: unless another commit follows, a crash now makes opening slow.
        let writing = self.with_database(|opened| opened.medium.begin())?;
        self.commit(writing, &mut Overlay::default(), self.position.load(Ordering::Acquire))?;
        moved
    }

    /// Fills in what the lower layers do not know.
    fn named(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::DiskFull { free_bytes, .. } => {
                StoreError::DiskFull { free_bytes, reserve_bytes: self.reserve_bytes }
            }
            // redb says "previous I/O error" where the one before it was the full disk.
            StoreError::Io(_) if self.origin.watch.was_full() => {
                StoreError::DiskFull { free_bytes: None, reserve_bytes: self.reserve_bytes }
            }
            error => error,
        }
    }

    pub(crate) fn with_database<T>(&self, f: impl FnOnce(&Opened) -> Result<T, StoreError>) -> Result<T, StoreError> {
        match &*self.database.read().unwrap_or_else(PoisonError::into_inner) {
            State::Open(opened) => f(opened),
            state => Err(state.error()),
        }
    }
}

fn put(overlay: &mut Overlay, key: &str, number: u64) {
    overlay.write(META.name(), key.to_owned().to_bytes(), Some(Value::encode(&number)));
}
