//! A single-threaded executor for simulation: tasks run in the order in which they were woken, blocking jobs inline.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures::FutureExt;
use futures::future::BoxFuture;

use super::spawner::{Spawner, guarded, guarded_job};

/// Runs the tasks of any number of simulated nodes on the caller's thread, in one reproducible order.
/// Clones share the tasks.
#[derive(Clone)]
pub struct Executor {
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tasks: BTreeMap<u64, Task>,
    /// Woken since the last poll began. In which order one poll wakes several is not always its own doing: tokio's channels
    /// draw it by lot. So these become ready in the order of their numbers.
    woken: Vec<u64>,
    /// Woken tasks, first come first served; each at most once.
    ready: VecDeque<u64>,
    queued: BTreeSet<u64>,
    stopped: BTreeSet<u64>,
    next_task: u64,
    next_group: u64,
}

struct Task {
    group: u64,
    waker: Waker,
    /// Absent while it is being polled.
    future: Option<BoxFuture<'static, ()>>,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake(&mut self, number: u64) {
        if self.tasks.contains_key(&number) && self.queued.insert(number) {
            self.woken.push(number);
        }
    }

    fn next(&mut self) -> Option<u64> {
        self.woken.sort_unstable();
        self.ready.extend(self.woken.drain(..));
        let number = self.ready.pop_front()?;
        self.queued.remove(&number);
        Some(number)
    }
}

struct TaskWaker {
    number: u64,
    queue: Arc<Queue>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.queue.state().wake(self.number);
    }
}

impl Executor {
    /// An executor without tasks.
    #[must_use]
    pub fn new() -> Self {
        Self { queue: Arc::default() }
    }

    /// A spawner for one more node, whose shutdown ends that node's tasks only.
    #[must_use]
    pub fn spawner(&self) -> InlineSpawner {
        let mut state = self.queue.state();
        let group = state.next_group;
        state.next_group += 1;
        InlineSpawner { group, queue: Arc::clone(&self.queue) }
    }

    /// Polls woken tasks until none is left; gives the number of polls.
    pub fn run_until_idle(&self) -> usize {
        let mut polls = 0;
        while self.step() {
            polls += 1;
        }
        polls
    }

    /// Polls the task that was woken first. False when none is woken.
    pub fn step(&self) -> bool {
        let (number, mut future, waker) = {
            let mut state = self.queue.state();
            let Some(number) = state.next() else {
                return false;
            };
            match state.tasks.get_mut(&number).and_then(|task| Some((task.future.take()?, task.waker.clone()))) {
                Some((future, waker)) => (number, future, waker),
                None => return true,
            }
        };
        let ended = future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let mut state = self.queue.state();
        if ended {
            state.tasks.remove(&number);
        } else if let Some(task) = state.tasks.get_mut(&number) {
            task.future = Some(future);
            return true;
        }
        drop(state);
        // Dropped outside the lock: what a future owns may spawn or wake when it goes.
        drop(future);
        true
    }

    /// Runs `future` together with the tasks until it is done; `None` when everything waits and nothing can move on
    /// (advance the clock then, and poll again).
    pub fn run<F: Future + Unpin>(&self, future: &mut F) -> Option<F::Output> {
        loop {
            if let Poll::Ready(output) = future.poll_unpin(&mut Context::from_waker(Waker::noop())) {
                return Some(output);
            }
            if !self.step() {
                return None;
            }
        }
    }
}

impl Default for Executor {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor").field("tasks", &self.queue.state().tasks.len()).finish()
    }
}

/// One simulated node's tasks on an [`Executor`].
#[derive(Clone)]
pub struct InlineSpawner {
    group: u64,
    queue: Arc<Queue>,
}

impl Spawner for InlineSpawner {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        let mut state = self.queue.state();
        if state.stopped.contains(&self.group) {
            drop(state);
            drop(task);
            return;
        }
        let number = state.next_task;
        state.next_task += 1;
        let waker = Waker::from(Arc::new(TaskWaker { number, queue: Arc::clone(&self.queue) }));
        state.tasks.insert(number, Task { group: self.group, waker, future: Some(guarded(name, task).boxed()) });
        state.wake(number);
    }

    fn run_blocking(&self, name: &'static str, job: Box<dyn FnOnce() + Send>) {
        if !self.queue.state().stopped.contains(&self.group) {
            guarded_job(name, job);
        }
    }

    fn shutdown(&self) -> BoxFuture<'static, ()> {
        let ended: Vec<Task> = {
            let mut state = self.queue.state();
            state.stopped.insert(self.group);
            let numbers: Vec<u64> =
                state.tasks.iter().filter(|(_, task)| task.group == self.group).map(|(number, _)| *number).collect();
            numbers.iter().filter_map(|number| state.tasks.remove(number)).collect()
        };
        drop(ended);
        async {}.boxed()
    }
}

impl fmt::Debug for InlineSpawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InlineSpawner").field("group", &self.group).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::SpawnerExt;
    use super::*;

    #[test]
    fn tasks_run_in_the_order_in_which_they_were_started_and_blocking_runs_inline() {
        let executor = Executor::new();
        let spawner = executor.spawner();
        let log = Arc::new(Mutex::new(Vec::new()));
        for name in ["a", "b", "c"] {
            let (log, inner) = (Arc::clone(&log), spawner.clone());
            spawner.spawn(
                "task",
                async move {
                    let name = inner.blocking("job", move || name).await.unwrap();
                    log.lock().unwrap().push(name);
                }
                .boxed(),
            );
        }
        assert_eq!(executor.run_until_idle(), 3);
        assert_eq!(*log.lock().unwrap(), ["a", "b", "c"]);
    }

    #[test]
    fn tasks_woken_by_one_poll_run_in_the_order_of_their_start_whatever_the_order_of_the_waking() {
        let executor = Executor::new();
        let spawner = executor.spawner();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (gives, takes): (Vec<_>, Vec<_>) = (0..3).map(|_| futures::channel::oneshot::channel::<()>()).unzip();
        for (name, take) in ["a", "b", "c"].into_iter().zip(takes) {
            let log = Arc::clone(&log);
            let task = async move {
                let _ = take.await;
                log.lock().unwrap().push(name);
            };
            spawner.spawn("waits", task.boxed());
        }
        executor.run_until_idle();
        spawner.spawn("wakes", async move { gives.into_iter().rev().for_each(|give| give.send(()).unwrap()) }.boxed());
        executor.run_until_idle();
        assert_eq!(*log.lock().unwrap(), ["a", "b", "c"]);
    }

    #[test]
    fn shutdown_of_one_node_leaves_the_others_running() {
        let executor = Executor::new();
        let (one, other) = (executor.spawner(), executor.spawner());
        let kept = Arc::new(());
        for spawner in [&one, &other] {
            let kept = Arc::clone(&kept);
            spawner.spawn(
                "waits",
                async move {
                    let _kept = kept;
                    std::future::pending::<()>().await;
                }
                .boxed(),
            );
        }
        executor.run_until_idle();
        assert_eq!(Arc::strong_count(&kept), 3);
        assert!(one.shutdown().now_or_never().is_some());
        assert_eq!(Arc::strong_count(&kept), 2);
    }

    #[test]
    fn a_future_is_driven_to_its_end_or_told_to_be_stuck() {
        let executor = Executor::new();
        let (give, take) = futures::channel::oneshot::channel();
        executor.spawner().spawn("gives", async move { give.send(4).unwrap() }.boxed());
        assert_eq!(executor.run(&mut Box::pin(take)), Some(Ok(4)));
        assert_eq!(executor.run(&mut Box::pin(std::future::pending::<()>())), None);
    }
}
