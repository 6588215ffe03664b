//! Tasks: who starts them, runs their blocking work and stops them with the node.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::{AbortHandle, Abortable, BoxFuture};
use tokio::sync::Notify;

/// Starts the tasks of one node and stops them all.
pub trait Spawner: Send + Sync + 'static {
    /// Starts a task. After [`shutdown`](Self::shutdown) tasks are dropped unstarted. A panic ends the task alone and
    /// is logged with `name`.
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>);

    /// Runs a closure where it may block. Call it through [`SpawnerExt::blocking`], which gives its value back.
    fn run_blocking(&self, name: &'static str, job: Box<dyn FnOnce() + Send>);

    /// Aborts all tasks and completes when each is gone; blocking jobs that run already are waited for.
    /// Must not be awaited inside a task of this spawner, which would be aborted by it.
    fn shutdown(&self) -> BoxFuture<'static, ()>;
}

/// The generic side of [`Spawner`].
pub trait SpawnerExt {
    /// Runs `job` off the async threads (inline in simulation) and gives its value: for argon2, images, DNS and files.
    ///
    /// # Errors
    /// When the job panicked, or the node stopped before it was run.
    fn blocking<T: Send + 'static>(
        &self,
        name: &'static str,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, BlockingError>> + Send + 'static;

    /// Starts a task that can be ended alone. Dropping the handle does not end it.
    fn spawn_abortable(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) -> TaskHandle;
}

/// A blocking job gave no value: it panicked, or the node stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a blocking job did not finish: it failed, or the node is stopping")]
pub struct BlockingError;

/// Ends one task early.
#[derive(Debug, Clone)]
pub struct TaskHandle(AbortHandle);

impl TaskHandle {
    /// Ends the task at its next await.
    pub fn abort(&self) {
        self.0.abort();
    }
}

impl<S: Spawner + ?Sized> SpawnerExt for S {
    fn blocking<T: Send + 'static>(
        &self,
        name: &'static str,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, BlockingError>> + Send + 'static {
        let (give, take) = oneshot::channel();
        self.run_blocking(
            name,
            // Nobody may be waiting any more; the value is dropped then.
            Box::new(move || drop(give.send(job()))),
        );
        take.map(|value| value.map_err(|_| BlockingError))
    }

    fn spawn_abortable(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) -> TaskHandle {
        let (handle, registration) = AbortHandle::new_pair();
        self.spawn(name, Abortable::new(task, registration).map(drop).boxed());
        TaskHandle(handle)
    }
}

/// Runs `task` and logs its panic, if any.
pub(super) async fn guarded(name: &'static str, task: BoxFuture<'static, ()>) {
    if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
        tracing::error!(task = name, panic = panic_text(&*panic), "a task failed: please report this as a bug");
    }
}

/// Runs `job` and logs its panic, if any.
pub(super) fn guarded_job(name: &'static str, job: Box<dyn FnOnce() + Send>) {
    if let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(job)) {
        tracing::error!(task = name, panic = panic_text(&*panic), "a job failed: please report this as a bug");
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("?")
}

/// Tasks on a tokio runtime, tracked so that they end with the node.
#[derive(Clone)]
pub struct TokioSpawner {
    runtime: tokio::runtime::Handle,
    tasks: Arc<Tasks>,
}

struct Tasks {
    state: Mutex<TaskState>,
    /// Told each time the last task ends.
    empty: Notify,
}

struct TaskState {
    running: BTreeMap<u64, Running>,
    next: u64,
    stopped: bool,
}

struct Running {
    name: &'static str,
    /// None for a blocking job, and between registering a task and starting it.
    abort: Option<tokio::task::AbortHandle>,
}

impl Tasks {
    fn state(&self) -> MutexGuard<'_, TaskState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes its task from the list when the task ends, however it ends.
struct Registration {
    number: u64,
    tasks: Arc<Tasks>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut state = self.tasks.state();
        state.running.remove(&self.number);
        if state.running.is_empty() {
            self.tasks.empty.notify_waiters();
        }
    }
}

impl TokioSpawner {
    /// On the runtime this is called in.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn current() -> Self {
        Self::on(tokio::runtime::Handle::current())
    }

    /// On the given runtime.
    #[must_use]
    pub fn on(runtime: tokio::runtime::Handle) -> Self {
        let state = TaskState { running: BTreeMap::new(), next: 0, stopped: false };
        Self { runtime, tasks: Arc::new(Tasks { state: Mutex::new(state), empty: Notify::new() }) }
    }

    /// How many tasks and blocking jobs are alive.
    #[must_use]
    pub fn running(&self) -> usize {
        self.tasks.state().running.len()
    }

    fn register(&self, name: &'static str) -> Option<Registration> {
        let mut state = self.tasks.state();
        if state.stopped {
            return None;
        }
        let number = state.next;
        state.next += 1;
        state.running.insert(number, Running { name, abort: None });
        Some(Registration { number, tasks: Arc::clone(&self.tasks) })
    }
}

impl Spawner for TokioSpawner {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        let Some(registration) = self.register(name) else {
            return;
        };
        let number = registration.number;
        let handle = self.runtime.spawn(async move {
            // In this order the task is gone before its registration is, also when it is ended before it ran.
            let task = guarded(name, task);
            let _registration = registration;
            task.await;
        });
        let mut state = self.tasks.state();
        if state.stopped {
            handle.abort();
        } else if let Some(running) = state.running.get_mut(&number) {
            // Absent when the task has ended already.
            running.abort = Some(handle.abort_handle());
        }
    }

    fn run_blocking(&self, name: &'static str, job: Box<dyn FnOnce() + Send>) {
        let Some(registration) = self.register(name) else {
            return;
        };
        self.runtime.spawn_blocking(move || {
            guarded_job(name, job);
            drop(registration);
        });
    }

    fn shutdown(&self) -> BoxFuture<'static, ()> {
        let tasks = Arc::clone(&self.tasks);
        {
            let mut state = tasks.state();
            state.stopped = true;
            for running in state.running.values() {
                if let Some(abort) = &running.abort {
                    abort.abort();
                }
            }
        }
        Box::pin(async move {
            loop {
                let empty = tasks.empty.notified();
                let mut empty = std::pin::pin!(empty);
                // Registered before looking, so that no end is missed.
                empty.as_mut().enable();
                {
                    let state = tasks.state();
                    if state.running.is_empty() {
                        return;
                    }
                    let names: Vec<_> = state.running.values().map(|running| running.name).collect();
                    tracing::debug!(tasks = ?names, "waiting for tasks to end");
                }
                empty.await;
            }
        })
    }
}

impl fmt::Debug for TokioSpawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokioSpawner").field("running", &self.running()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn shutdown_ends_every_task_and_later_ones_never_start() {
        let spawner = TokioSpawner::current();
        let alive = Arc::new(());
        for _ in 0..20 {
            let alive = Arc::clone(&alive);
            spawner.spawn(
                "waits for ever",
                async move {
                    let _alive = alive;
                    std::future::pending::<()>().await;
                }
                .boxed(),
            );
        }
        assert_eq!(spawner.running(), 20);
        spawner.shutdown().await;
        assert_eq!(Arc::strong_count(&alive), 1);
        let late = Arc::clone(&alive);
        spawner.spawn("too late", async move { drop(late) }.boxed());
        assert_eq!(Arc::strong_count(&alive), 1);
        assert_eq!(spawner.blocking("too late", || 1).await, Err(BlockingError));
    }

    #[tokio::test]
    async fn a_panic_ends_its_task_alone() {
        let spawner = TokioSpawner::current();
        spawner.spawn("broken", async { panic!("on purpose") }.boxed());
        assert_eq!(spawner.blocking("broken job", || panic!("on purpose")).await, Err::<(), _>(BlockingError));
        assert_eq!(spawner.blocking("sound job", || 5).await, Ok(5));
        spawner.shutdown().await;
        assert_eq!(spawner.running(), 0);
    }

    #[tokio::test]
    async fn one_task_can_be_ended_alone() {
        let spawner = TokioSpawner::current();
        let (give, take) = oneshot::channel::<()>();
        let task = spawner.spawn_abortable("one", async move {
            let _give = give;
            std::future::pending::<()>().await;
        });
        task.abort();
        assert!(take.await.is_err());
    }
}
