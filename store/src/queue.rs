//! What the store's handles and its writer share: the queue, the state, the figures; and who runs the writer.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use crate::counters::Counters;
use crate::database::{Origin, State};
use crate::error::StoreError;
use crate::folder::FolderLock;
use crate::store::{Committed, Driver, FreeSpace, WriterMode};
use crate::writer::Job;

#[derive(Default)]
pub(crate) struct Figures {
    pub(crate) commits: AtomicU64,
    pub(crate) changes: AtomicU64,
    pub(crate) last_batch: AtomicUsize,
    pub(crate) largest_batch: AtomicUsize,
    pub(crate) reopened: AtomicU64,
}

impl Figures {
    pub(crate) fn batch(&self, changes: usize) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.changes.fetch_add(changes as u64, Ordering::Relaxed);
        self.last_batch.store(changes, Ordering::Relaxed);
        self.largest_batch.fetch_max(changes, Ordering::Relaxed);
    }

    pub(crate) fn reopened(&self) {
        self.reopened.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) waiting: VecDeque<Box<dyn Job>>,
    /// Inline: the thread that is running the changes.
    pub(crate) running: Option<ThreadId>,
    /// Thread: how many must wait for the writer to be woken.
    pub(crate) wanted: usize,
    pub(crate) closed: bool,
}

pub(crate) type CommitListener = Box<dyn Fn(&Committed) + Send + Sync>;
pub(crate) type FailureListener = Box<dyn Fn(&StoreError) + Send + Sync>;

pub(crate) struct Shared {
    pub(crate) origin: Origin,
    pub(crate) reserve_bytes: u64,
    pub(crate) free_space: Option<FreeSpace>,
    pub(crate) driver: Option<Driver>,
    pub(crate) max_waiting: usize,
    pub(crate) mode: WriterMode,
    pub(crate) database: RwLock<State>,
    /// Held by whoever writes.
    pub(crate) writing: Mutex<()>,
    pub(crate) queue: Mutex<Queue>,
    pub(crate) wake: Condvar,
    /// Published.
    pub(crate) position: AtomicU64,
    /// Number of the last commit.
    pub(crate) commit: AtomicU64,
    pub(crate) counters: Arc<Counters>,
    pub(crate) listeners: RwLock<Vec<CommitListener>>,
    pub(crate) failure_listeners: RwLock<Vec<FailureListener>>,
    pub(crate) figures: Figures,
    pub(crate) lock: Mutex<Option<FolderLock>>,
}

impl Shared {
    pub(crate) fn free_space(&self) -> Option<u64> {
        match &self.free_space {
            Some(free_space) => free_space(),
            None => self.origin.backend.free_space(),
        }
    }

    /// Takes all that waits out of the queue.
    pub(crate) fn take_queued(&self) -> VecDeque<Box<dyn Job>> {
        std::mem::take(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner).waiting)
    }

    /// Enqueues a change. Says whether the driver is to be told that something waits now.
    pub(crate) fn submit(&self, job: Box<dyn Job>) -> bool {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.closed || queue.waiting.len() >= self.max_waiting {
            let error = if queue.closed { StoreError::Closed } else { StoreError::Overloaded };
            drop(queue);
            job.fail(&error);
            return false;
        }
        queue.waiting.push_back(job);
        match self.mode {
            WriterMode::Thread => {
                let enough = queue.waiting.len() >= queue.wanted;
                drop(queue);
                if enough {
                    self.wake.notify_one();
                }
            }
            WriterMode::Inline => {
                drop(queue);
                while self.drain_inline() {}
            }
            WriterMode::Driven => return queue.waiting.len() == 1,
        }
        false
    }

    /// Runs what waits by now on this thread, unless somebody does already; says whether it did, and something waits again.
    pub(crate) fn drain_inline(&self) -> bool {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.running.is_some() || queue.waiting.is_empty() {
            return false;
        }
        queue.running = Some(std::thread::current().id());
        let mut waiting = std::mem::take(&mut queue.waiting);
        drop(queue);
        self.drain(&mut waiting);
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.running = None;
        let more = !queue.waiting.is_empty();
        drop(queue);
        self.wake.notify_all();
        more
    }

    /// The writer thread: ends when the store is closed and nothing waits any more.
    // Real time, and only here: with a thread nothing is simulated.
    #[allow(clippy::disallowed_methods)]
    pub(crate) fn run(&self) {
        let mut expected = 0;
        let mut commit_took = Duration::ZERO;
        loop {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            while queue.waiting.is_empty() {
                if queue.closed {
                    return;
                }
                queue.wanted = 1;
                queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            queue = self.gather(queue, expected, commit_took);
            let mut waiting = std::mem::take(&mut queue.waiting);
            drop(queue);
            let changes = waiting.len();
            let start = Instant::now();
            self.drain(&mut waiting);
            commit_took = start.elapsed();
            expected = changes + self.waiting();
        }
    }

    /// Those who were just answered are about to submit again. Without this pause, the commit would go off with the first
    /// of them, and all the others would wait for it and then for their own: with many writers on a slow disk, half as
    /// many changes a second at nearly twice the latency. It lasts until as many wait as lately did, at most half a
    /// commit, and ends as soon as nobody comes for an eighth of one. A lone writer never waits.
    fn gather<'a>(
        &'a self,
        mut queue: MutexGuard<'a, Queue>,
        expected: usize,
        commit_took: Duration,
    ) -> MutexGuard<'a, Queue> {
        let slice = (commit_took / 8).min(MAX_PAUSE / 4);
        for _ in 0..4 {
            let waiting = queue.waiting.len();
            if queue.closed || waiting >= expected || slice.is_zero() {
                break;
            }
            queue.wanted = expected;
            queue = self.wake.wait_timeout(queue, slice).unwrap_or_else(PoisonError::into_inner).0;
            if queue.waiting.len() == waiting {
                break;
            }
        }
        queue
    }

    pub(crate) fn waiting(&self) -> usize {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).waiting.len()
    }
}

/// The longest pause of [`Shared::gather`].
const MAX_PAUSE: Duration = Duration::from_millis(8);
