//! A run: set up, the time of users and faults, the time to agree, and the judgement.

use std::cell::RefCell;
use std::io::Write;
use std::sync::{Arc, Mutex, Once, PoisonError};

use crate::engine::{Ended, Engine, Nanos, seconds};
use crate::invariants::{self, Invariant};
use crate::record::{Record, Sample};
use crate::scenario::Scenario;
use crate::world::{World, WorldError};
use crate::{bounds, checks, errands, faults, links, users};

/// The longest that setting up may take, in virtual seconds.
const SETUP_S: f64 = 7_200.0;
/// The longest that a last restart or scroll may take, in virtual seconds.
const LAST_S: f64 = 1_200.0;
/// How often all users scroll back in the end.
const SCROLLS: usize = 3;
/// How often it is looked whether the nodes have agreed, in virtual seconds.
const LOOK_S: f64 = 10.0;
/// Nodes beyond which no samples are taken of extremities.
const SAMPLED: u32 = 200;
/// Nodes whose users scroll through the whole room to get into its gaps; the others begin at the last one.
const WHOLE: u32 = 20;
/// Reasons for not having agreed that are told.
const TOLD: usize = 5;

/// The part of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nodes start, rooms are made and joined.
    Setup,
    /// Users and faults are at work.
    Work,
    /// Neither: the nodes agree.
    Settle,
}

/// Where a run is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// The part of the run.
    pub phase: Phase,
    /// Virtual time since the beginning.
    pub now: Nanos,
    /// When this part ends at the latest.
    pub until: Nanos,
    /// Entries of the timeline that have happened.
    pub happened: u64,
}

/// Told now and then where a run is; without influence on it.
pub type Watcher<'a> = &'a mut dyn FnMut(Progress);

/// A run that has ended.
#[derive(Debug)]
pub struct Outcome {
    /// What happened.
    pub record: Record,
    /// The world as it is in the end.
    pub world: World,
    /// The digest of all that happened.
    pub digest: String,
    /// Entries of the timeline that have happened.
    pub happened: u64,
    /// When users and faults began and ended, and when the nodes had agreed.
    pub phases: [Nanos; 3],
}

impl Outcome {
    /// Names of the invariants that were found broken, in order.
    pub fn broken(&self) -> Vec<&'static str> {
        let mut names: Vec<&'static str> = self.record.lock().breaches.iter().map(|breach| breach.invariant).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Whether the run is as it should be: nothing broken, or in a control one of those that must be.
    pub fn passed(&self) -> bool {
        let (broken, wanted) = (self.broken(), &self.world.scenario().checks.must_fail);
        if wanted.is_empty() { broken.is_empty() } else { wanted.iter().any(|name| broken.contains(&name.as_str())) }
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        // Nodes, their tasks and the world know each other.
        self.world.power_off();
    }
}

thread_local! {
    /// Panics of this thread, which runs one simulation at a time.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Has panics kept beside being printed: the node goes on after one, and the run must not.
fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // redb panics over damage, which the store takes for an I/O error: nothing that anybody should read about.
            if !info.location().is_some_and(|place| place.file().contains("/redb-")) {
                PANICS.with_borrow_mut(|panics| panics.push(info.to_string().replace('\n', " ")));
                before(info);
            }
        }));
    });
    PANICS.with_borrow_mut(Vec::clear);
}

/// Runs a scenario with a seed. With a trace, all that is digested is written there.
///
/// # Errors
/// When the world cannot be made, or setting up takes too long: the scenario is impossible.
pub fn run(
    scenario: &Scenario,
    seed: u64,
    trace: Option<Box<dyn Write + Send>>,
    watcher: Watcher<'_>,
) -> Result<Outcome, WorldError> {
    run_within(scenario, seed, trace, watcher, u64::MAX)
}

/// As [`run`], given up when more than `most` entries of the timeline have happened: what is found by then is the outcome.
///
/// # Errors
/// As [`run`].
pub fn run_within(
    scenario: &Scenario,
    seed: u64,
    trace: Option<Box<dyn Write + Send>>,
    watcher: Watcher<'_>,
    most: u64,
) -> Result<Outcome, WorldError> {
    keep_panics();
    let engine = Engine::new();
    let record = Record::new(engine.timeline().clone(), trace);
    let world = World::new(scenario, seed, &engine, &record)?;
    let mut course = Course { engine: &engine, world: &world, watcher, most, over: false, idle: false };

    let setting = world.clone();
    let set_up = course.finish(Phase::Setup, SETUP_S, async move { setting.set_up().await });
    match set_up {
        Some(Ok(())) => {}
        // The scenario is possible, and nothing has gone wrong yet: it is the nodes that fail.
        Some(Err(WorldError(what))) => {
            world.breach(Invariant::Setup, None, what);
            let now = engine.timeline().now();
            return Ok(ended(&engine, record, world, [now; 3]));
        }
        None => return Err(WorldError("setting up takes too long".to_owned())),
    }

    let begin = engine.timeline().now();
    let end = begin + seconds(scenario.duration_s);
    world.air().calm(false);
    links::begin(&world, end);
    faults::begin(&world, end);
    users::begin(&world, end);
    sample(&world, end);
    course.go(Phase::Work, end, || false);

    world.end();
    let healing = world.clone();
    if course.finish(Phase::Settle, LAST_S, async move { faults::heal(&healing).await }).is_none() {
        world.breach(Invariant::Restart, None, "a node does not come up again".to_owned());
    }
    let agreed = course.settle(scenario.settle_s);
    course.say_last_words(scenario.settle_s);
    course.scroll_into_gaps();
    course.collect_messages();
    invariants::check(&world);
    checks::check(&world);
    world.numbers().for_each(|node| bounds::check(&world, node));
    for panic in PANICS.with_borrow_mut(std::mem::take) {
        world.breach(Invariant::Panic, None, panic);
    }
    for number in world.numbers().filter(|_| !scenario.disk.volatile) {
        let state = world.with_disk(number, |disk| (disk.operations(), disk.syncs(), disk.used_bytes()));
        record.note(&format!("disk of {number}: {state:?}"));
    }
    Ok(ended(&engine, record, world, [begin, end, agreed]))
}

fn ended(engine: &Engine, record: Record, world: World, phases: [Nanos; 3]) -> Outcome {
    record.flush_trace();
    let (digest, happened) = (record.digest(), engine.timeline().happened());
    Outcome { record, world, digest, happened, phases }
}

struct Course<'a> {
    engine: &'a Engine,
    world: &'a World,
    watcher: Watcher<'a>,
    /// Entries of the timeline that may happen.
    most: u64,
    /// It does not go on: more would happen, or tasks wake each other for ever.
    over: bool,
    /// Nothing will ever happen any more, and so no time passes.
    idle: bool,
}

impl Course<'_> {
    fn go(&mut self, phase: Phase, until: Nanos, mut done: impl FnMut() -> bool) {
        if self.over {
            return;
        }
        let (timeline, most) = (self.engine.timeline(), self.most);
        let watcher = &mut self.watcher;
        let mut count = 0u32;
        let ended = self.engine.run_until(until, || {
            count = count.wrapping_add(1);
            if count.is_multiple_of(256) {
                watcher(Progress { phase, now: timeline.now(), until, happened: timeline.happened() });
            }
            timeline.happened() > most || done()
        });
        self.idle = ended == Ended::Idle;
        self.over = ended == Ended::Spinning || timeline.happened() > most;
        if ended == Ended::Spinning {
            self.world.breach(Invariant::Panic, None, "tasks wake each other, and no time passes".to_owned());
        }
    }

    /// Goes on until a task is done, for at most so long.
    fn finish<T: Send + 'static>(
        &mut self,
        phase: Phase,
        within_s: f64,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let slot: Arc<Mutex<Option<T>>> = Arc::default();
        let filled = slot.clone();
        self.world.spawn("phase", async move {
            let value = task.await;
            *filled.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        });
        let until = self.engine.timeline().now() + seconds(within_s);
        self.go(phase, until, || slot.lock().unwrap_or_else(PoisonError::into_inner).is_some());
        slot.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Lets the nodes agree. Gives when they had.
    fn settle(&mut self, settle_s: f64) -> Nanos {
        let begin = self.engine.timeline().now();
        let limit = begin + seconds(settle_s);
        self.idle = false;
        let mut since: Option<Nanos> = None;
        loop {
            let now = self.engine.timeline().now();
            let reasons = invariants::unsettled(self.world);
            match (reasons.is_empty(), since) {
                // Twice in a row: nothing was just on its way.
                (true, Some(first)) => return first,
                (true, None) => since = Some(now),
                (false, _) => since = None,
            }
            if now >= limit || self.over || self.idle {
                for reason in reasons.into_iter().take(TOLD) {
                    self.world.breach(Invariant::Quiescence, None, reason);
                }
                return now;
            }
            self.go(Phase::Settle, (now + seconds(LOOK_S)).min(limit.max(now + 1)), || false);
        }
    }

    /// Where nodes follow what others soft-failed, everybody says something once more: an event that follows it brings it in.
    fn say_last_words(&mut self, settle_s: f64) {
        for room in 0..self.world.scenario().rooms.len() as u32 {
            if invariants::same_heads(self.world, room) {
                continue;
            }
            self.world.record().count("last_words");
            let world = self.world.clone();
            self.finish(Phase::Settle, LAST_S, async move {
                for node in world.members(room) {
                    let _ = world.say(node, room, 20).await;
                    world.timeline().sleep(seconds(5.0)).await;
                }
            });
            self.settle(settle_s);
        }
    }

    /// Devices take what waits for them.
    fn collect_messages(&mut self) {
        let world = self.world.clone();
        let collected = self.finish(Phase::Settle, LAST_S, async move { errands::collect_all(&world).await });
        if collected.is_none() {
            self.world.breach(Invariant::Quiescence, None, "taking device messages does not end".to_owned());
        }
    }

    /// Users scroll back where nodes have gaps, so that what lies in them is fetched.
    fn scroll_into_gaps(&mut self) {
        let world = self.world.clone();
        // One after the other: where there are more than 600 nodes, 2 s for each.
        let limit = LAST_S.max(2.0 * f64::from(world.count()));
        let scrolled = self.finish(Phase::Settle, limit, async move {
            for room in 0..world.scenario().rooms.len() as u32 {
                // What one finds its neighbours find there afterwards.
                for _ in 0..SCROLLS {
                    for number in world.numbers() {
                        if let Some(above) = invariants::above_a_gap(&world, number, room) {
                            world.record().count("gaps");
                            let above = (number >= WHOLE).then_some(above);
                            users::scroll_back(&world, number, room, above.as_deref()).await;
                        }
                    }
                }
            }
        });
        if scrolled.is_none() {
            self.world.breach(Invariant::Quiescence, None, "scrolling back does not end".to_owned());
        }
    }
}

/// Looks at the rooms' ends now and then.
fn sample(world: &World, end: Nanos) {
    if world.count() > SAMPLED {
        return;
    }
    let every = seconds((world.scenario().duration_s / 100.0).max(1.0));
    let world = world.clone();
    world.clone().spawn("samples", async move {
        while world.timeline().now() < end {
            world.timeline().sleep(every).await;
            world.numbers().for_each(|node| bounds::check(&world, node));
            for room in 0..world.scenario().rooms.len() as u32 {
                for node in world.numbers() {
                    if let Some((extremities, parked)) = invariants::look(&world, node, room) {
                        let at = world.timeline().now();
                        let mut state = world.record().lock();
                        if extremities > 1 {
                            state.count("fork", 1);
                        }
                        if parked > 0 {
                            state.count("parked", 1);
                        }
                        state.samples.push(Sample { at, node, room, extremities, parked });
                    }
                }
            }
        }
    });
}
