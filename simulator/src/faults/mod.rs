//! What goes wrong: each fault of a scenario is a task of the world, with random numbers of its own.

mod byzantine;
mod forger;
mod lies;

use crate::engine::{Nanos, Stream, seconds};
use crate::scenario::{Fault, What};
use crate::world::World;

pub use lies::around;

/// The most operations of a disk that pass before one fails, or its power is cut in the middle of them.
const OPERATIONS: u64 = 30;
/// How often a node is started before it counts as not starting.
const RESTARTS: u32 = 5;
/// How long a disk that is to be cut off in the middle of a commit waits for one.
const PATIENCE_S: f64 = 20.0;

/// Lets the faults of a scenario begin. None begins any more at `end`.
pub fn begin(world: &World, end: Nanos) {
    for (fault, number) in world.scenario().faults.clone().into_iter().zip(0..) {
        let faults = Faults { world: world.clone(), random: world.stream("faults", number), end };
        let once = faults.clone();
        for at in fault.when.at_s.clone() {
            let (faults, fault) = (once.clone(), fault.clone());
            world.spawn("fault", async move {
                faults.world.timeline().sleep(seconds(at)).await;
                if faults.world.timeline().now() < faults.end {
                    faults.happen(&fault).await;
                }
            });
        }
        if fault.when.every_s > 0.0 {
            world.spawn("faults", async move { faults.now_and_then(fault).await });
        }
    }
}

#[derive(Clone)]
struct Faults {
    world: World,
    random: Stream,
    end: Nanos,
}

impl Faults {
    async fn now_and_then(self, fault: Fault) {
        loop {
            self.world.timeline().sleep(seconds(self.random.exponential(fault.when.every_s)).max(1_000_000)).await;
            if self.world.timeline().now() >= self.end {
                return;
            }
            let (faults, fault) = (self.clone(), fault.clone());
            self.world.spawn("fault", async move { faults.happen(&fault).await });
        }
    }

    fn target(&self, node: Option<u32>) -> u32 {
        // Drawn in any case, so that naming one does not shift the rest.
        let drawn = u32::try_from(self.random.below(u64::from(self.world.count()))).unwrap_or(0);
        node.unwrap_or(drawn)
    }

    /// Waits as long as a fault lasts, but not longer than faults may last at all.
    async fn last(&self, for_s: f64) {
        let until = self.world.timeline().now().saturating_add(seconds(for_s)).min(self.end);
        self.world.timeline().sleep_until(until).await;
    }

    async fn happen(&self, Fault { when, what }: &Fault) {
        let world = &self.world;
        match what {
            What::Crash { for_s, torn } => self.crash(self.target(when.node), *for_s, *torn).await,
            What::Partition { for_s, groups } => {
                let drawn: Vec<u32> = world
                    .numbers()
                    .map(|_| u32::try_from(self.random.below(u64::from(*groups))).unwrap_or(0))
                    .collect();
                world.record().fault("partition", None, true);
                world.air().partition(&drawn);
                self.last(*for_s).await;
                if world.scenario().checks.never_heal {
                    return;
                }
                world.air().partition(&vec![0; drawn.len()]);
                world.record().fault("partition", None, false);
            }
            What::Isolate { for_s } => {
                let node = self.target(when.node);
                world.record().fault("isolate", Some(node), true);
                world.air().isolate(node, true);
                self.last(*for_s).await;
                if world.scenario().checks.never_heal {
                    return;
                }
                world.air().isolate(node, false);
                world.record().fault("isolate", Some(node), false);
            }
            What::DiskFull { for_s } => {
                let node = self.target(when.node);
                world.record().fault("disk_full", Some(node), true);
                let room = self.random.below(256 << 10);
                world.with_disk(node, |disk| disk.full_after(disk.used_bytes() + room));
                self.last(*for_s).await;
                world.with_disk(node, kith_store::MemoryBackend::heal);
                world.record().fault("disk_full", Some(node), false);
            }
            What::DiskSlow { for_s, commit_ms } => {
                let node = self.target(when.node);
                world.record().fault("disk_slow", Some(node), true);
                world.set_commit_ms(node, *commit_ms);
                self.last(*for_s).await;
                world.set_commit_ms(node, world.scenario().disk.commit_ms);
                world.record().fault("disk_slow", Some(node), false);
            }
            What::DiskError {} => {
                let node = self.target(when.node);
                world.record().fault("disk_error", Some(node), true);
                let after = self.random.below(OPERATIONS);
                world.with_disk(node, |disk| disk.fail_once_after(after));
            }
            What::DiskLies {} => {
                let node = self.target(when.node);
                world.record().fault("disk_lies", Some(node), true);
                world.with_disk(node, kith_store::MemoryBackend::lie_about_syncs);
            }
            What::ClockJump { by_s } => {
                let node = self.target(when.node);
                world.record().fault("clock_jump", Some(node), true);
                world.set_clock(node, (self.random.between(-by_s, *by_s) * 1e3) as i64);
            }
            What::Byzantine { room, forks, withholds, lies, floods, .. } => {
                let deeds = byzantine::Deeds { forks: *forks, withholds: *withholds, lies: *lies, floods: *floods };
                if let Some(node) = when.node {
                    byzantine::act(world, node, *room, deeds, &self.random).await;
                }
            }
            What::Forger { room } => {
                if let Some(node) = when.node {
                    forger::act(world, node, *room, &self.random).await;
                }
            }
        }
    }

    async fn crash(&self, node: u32, for_s: f64, torn: f64) {
        let world = &self.world;
        let (torn, after) = (self.random.chance(torn), self.random.below(OPERATIONS));
        if !world.runs(node) {
            return;
        }
        if torn {
            // Its disk stops somewhere in a commit; the power goes right then.
            let begun = world.timeline().now();
            let before = world.arm(node, after);
            let cut = |disk: &kith_store::MemoryBackend| Some(disk.operations()) > before.map(|before| before + after);
            while world.timeline().now() < begun + seconds(PATIENCE_S) && world.with_disk(node, cut) == Some(false) {
                world.timeline().sleep(1_000_000).await;
            }
            if !world.runs(node) {
                return;
            }
            world.record().count("crash_in_commit");
        }
        world.record().fault("crash", Some(node), true);
        world.crash(node);
        self.last(for_s).await;
        restart(world, node).await;
    }
}

/// Starts a node again after a crash; again and again, as whoever looks after it would, while its disk fails.
async fn restart(world: &World, node: u32) {
    for turn in 1.. {
        match world.start(node).await {
            Ok(()) => return world.record().fault("crash", Some(node), false),
            Err(error) if turn < RESTARTS => {
                world.record().count("restarts_failed");
                world.record().note(&error.to_string());
                world.crash(node);
                world.timeline().sleep(seconds(5.0)).await;
            }
            Err(error) => return world.breach(crate::invariants::Invariant::Restart, Some(node), error.to_string()),
        }
    }
}

/// Ends whatever is wrong, but for what the scenario says never heals.
pub async fn heal(world: &World) {
    let nodes = world.count() as usize;
    if !world.scenario().checks.never_heal {
        world.air().partition(&vec![0; nodes]);
        for node in world.numbers() {
            world.air().isolate(node, false);
        }
    }
    world.air().switch_all_on();
    world.air().calm(true);
    for node in world.numbers() {
        world.with_disk(node, kith_store::MemoryBackend::heal);
        world.set_commit_ms(node, world.scenario().disk.commit_ms);
        if !world.runs(node) {
            restart(world, node).await;
        }
    }
}
