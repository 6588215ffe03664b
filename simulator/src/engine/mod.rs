//! The engine: one thread, one virtual time, one order.
//!
//! Everything that happens is either a task that was woken (the node's [`Executor`] polls them in one reproducible order) or an
//! entry of the [`Timeline`] whose time has come. The engine polls until nothing is woken, then moves the time to the next entry:
//! entries are ordered by (time, sequence), so two of one instant come in the order in which they were made. No thread, no real
//! clock and no random number of the process takes part, and so one seed gives one course of events.

mod clock;
mod random;
mod timeline;

pub use clock::{EPOCH_MS, NodeClock};
pub use random::Stream;
pub use timeline::{Nanos, Timeline, millis, seconds};

use kith::platform::{Executor, InlineSpawner};

/// Polls within one instant of virtual time after which it is taken to be an endless loop.
const MOST_POLLS: u64 = 20_000_000;

/// Entries of the timeline in one instant before it counts as standing still.
const MOST_ENTRIES: u32 = 1_000_000;

/// Why a run of the engine ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// What was waited for is there.
    Done,
    /// The time is up.
    TimeUp,
    /// Nothing will ever happen any more.
    Idle,
    /// Tasks wake each other without end, and time stands still.
    Spinning,
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Engine {
    executor: Executor,
    timeline: Timeline,
}

impl Engine {
    /// An engine at time zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// The time and what it will bring.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// A spawner for one more group of tasks.
    pub fn spawner(&self) -> InlineSpawner {
        self.executor.spawner()
    }

    /// Goes on until `done`, asked between any two entries, or until `limit`, at which the time stands then.
    pub fn run_until(&self, limit: Nanos, mut done: impl FnMut() -> bool) -> Ended {
        let (mut instant, mut entries) = (self.timeline.now(), 0);
        loop {
            if !self.settle() {
                return Ended::Spinning;
            }
            // Who waits for the same instant, again and again, is woken by the timeline and not by another task.
            let now = self.timeline.now();
            entries = if now == instant { entries + 1 } else { 0 };
            instant = now;
            if entries > MOST_ENTRIES {
                return Ended::Spinning;
            }
            if done() {
                return Ended::Done;
            }
            match self.timeline.take_due(limit) {
                Some(due) => due.happen(),
                None if self.timeline.is_empty() => return Ended::Idle,
                None => {
                    self.timeline.move_to(limit);
                    return Ended::TimeUp;
                }
            }
        }
    }

    /// Polls what is woken until nothing is. False when that has no end.
    fn settle(&self) -> bool {
        let mut polls = 0;
        while self.executor.step() {
            polls += 1;
            if polls > MOST_POLLS {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures::FutureExt as _;
    use kith::platform::Spawner as _;

    use super::*;

    #[test]
    fn entries_of_one_instant_happen_in_the_order_in_which_they_were_made_and_tasks_between_them() {
        let engine = Engine::new();
        let log = Arc::new(Mutex::new(Vec::new()));
        let note = |text: String| {
            let log = log.clone();
            move || log.lock().unwrap().push(text)
        };
        engine.timeline().at(millis(2.0), note("two".into()));
        engine.timeline().at(millis(1.0), note("one, first".into()));
        engine.timeline().at(millis(1.0), note("one, second".into()));
        let (timeline, woken) = (engine.timeline().clone(), note("task at 1.5".into()));
        let task = async move {
            timeline.sleep_until(millis(1.5)).await;
            woken();
        };
        engine.spawner().spawn("task", task.boxed());
        assert_eq!(engine.run_until(millis(1.9), || false), Ended::TimeUp);
        assert_eq!(engine.timeline().now(), millis(1.9));
        assert_eq!(engine.run_until(millis(9.0), || false), Ended::Idle);
        assert_eq!(*log.lock().unwrap(), ["one, first", "one, second", "task at 1.5", "two"]);
    }

    #[test]
    fn a_run_ends_as_soon_as_what_it_waits_for_is_there() {
        let engine = Engine::new();
        let count = Arc::new(Mutex::new(0));
        for at in 1..=10 {
            let count = count.clone();
            engine.timeline().at(seconds(f64::from(at)), move || *count.lock().unwrap() += 1);
        }
        let until = count.clone();
        assert_eq!(engine.run_until(seconds(100.0), || *until.lock().unwrap() == 4), Ended::Done);
        assert_eq!(engine.timeline().now(), seconds(4.0));
    }

    #[test]
    fn a_task_that_waits_for_the_same_instant_again_and_again_is_found() {
        let engine = Engine::new();
        let timeline = engine.timeline().clone();
        let task = async move {
            loop {
                let (give, take) = futures::channel::oneshot::channel();
                timeline.after(0, move || give.send(()).unwrap_or_default());
                let _ = take.await;
            }
        };
        engine.spawner().spawn("idler", task.boxed());
        assert_eq!(engine.run_until(10, || false), Ended::Spinning);
    }
}
