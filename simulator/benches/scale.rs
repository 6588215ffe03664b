//! How much a simulation takes: `cargo bench --profile dist -p kith-simulator`, or `-- hour`, `-- thousand`, `-- one-room`, `-- idle` for one part of it.
//!
//! - `hour`: 100 nodes in one room, one virtual hour, one event a second in total (`scenarios/bench-100.toml`).
//! - `thousand`: 1,000 nodes in 50 rooms of 20.
//! - `one-room`: 1,000 nodes in one room (`scenarios/bench-1000.toml`). Takes long: most of it is the setup, in which each node comes
//!   to hold the join of each other.
//! - `idle`: 1,000 nodes, each in one room of 10, with nothing to do: what each of them holds, pages of its disk included.
//!
//! A delivery is an event that came to be shown on a node. All is measured in CPU time of the one thread that a simulation has, so
//! that other work on the machine does little harm. Figures are in `docs/benchmarks.md`.

#![allow(missing_docs, clippy::print_stdout, clippy::cast_precision_loss)]

use std::time::Duration;

use kith_simulator::memory::Counting;
use kith_simulator::run::{self, Outcome, Phase};
use kith_simulator::scenario::{Room, Scenario, Workload, parse};

#[global_allocator]
static COUNTING: Counting = Counting;

/// Signatures that are remembered, as in `kith-sim`.
const SIGNATURES: usize = 1 << 20;

fn main() {
    kith_room::signature::remember(SIGNATURES);
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |part: &str| wanted.is_empty() || wanted.iter().any(|name| name == part);
    if is_wanted("hour") {
        let scenario = scenario(include_str!("../scenarios/bench-100.toml"));
        measure("100 nodes, one room, one virtual hour", &scenario, |took| {
            format!("{:.1} s of CPU in all (aim: 90 s)", took.all().as_secs_f64())
        });
    }
    if is_wanted("thousand") {
        measure("1,000 nodes, 50 rooms of 20", &thousand(), aim);
    }
    if is_wanted("one-room") {
        measure("1,000 nodes, one room", &scenario(include_str!("../scenarios/bench-1000.toml")), aim);
    }
    if is_wanted("idle") {
        idle();
    }
}

fn scenario(text: &str) -> Scenario {
    parse(text).unwrap_or_else(|error| panic!("the scenario cannot be read: {error}"))
}

fn aim(took: &Took) -> String {
    format!("{:.0} deliveries a second of CPU while users were at work (aim: 5,000)", took.rate(Phase::Work))
}

/// `rooms` rooms of `members` nodes, no node in two of them.
fn apart(scenario: &str, rooms: u32, members: u32) -> Scenario {
    let mut scenario = self::scenario(scenario);
    scenario.rooms =
        (0..rooms).map(|room| Room { maker: room * members, members: Some(members), ..Room::default() }).collect();
    scenario
}

fn thousand() -> Scenario {
    let mut scenario = apart(include_str!("../scenarios/bench-1000.toml"), 50, 20);
    scenario.workload = (0..50)
        .map(|room| Workload::Poisson { hours: Default::default(), room, rate_per_s: 1.0, bytes: 100 })
        .collect();
    scenario
}

/// CPU time of this process.
fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// CPU time and deliveries by the end of each part of a run.
#[derive(Default)]
struct Took {
    parts: Vec<(Phase, Duration, u64)>,
}

impl Took {
    fn all(&self) -> Duration {
        self.parts.iter().map(|(_, took, _)| *took).sum()
    }

    fn rate(&self, phase: Phase) -> f64 {
        let part = self.parts.iter().find(|part| part.0 == phase);
        part.map_or(0.0, |(_, took, deliveries)| *deliveries as f64 / took.as_secs_f64())
    }
}

fn once(scenario: &Scenario) -> (Outcome, Took) {
    let begin = cpu();
    // When users began and ended.
    let (mut work, mut settle) = (None, None);
    let outcome = run::run(scenario, scenario.seed, None, &mut |progress| {
        let mark = match progress.phase {
            Phase::Setup => return,
            Phase::Work => &mut work,
            Phase::Settle => &mut settle,
        };
        mark.get_or_insert_with(cpu);
    });
    let outcome = outcome.unwrap_or_else(|error| panic!("it cannot be run: {error}"));
    assert!(outcome.passed(), "broken: {:?}", outcome.broken());
    let end = cpu();
    let settle = settle.unwrap_or(end);
    let work = work.unwrap_or(settle);
    let [worked, ended, _] = outcome.phases;
    let count = |from: u64, until: u64| {
        outcome.record.lock().deliveries.iter().filter(|delivery| (from..until).contains(&delivery.at)).count() as u64
    };
    let parts = vec![
        (Phase::Setup, work.saturating_sub(begin), count(0, worked)),
        (Phase::Work, settle.saturating_sub(work), count(worked, ended)),
        (Phase::Settle, end.saturating_sub(settle), count(ended, u64::MAX)),
    ];
    (outcome, Took { parts })
}

fn measure(name: &str, scenario: &Scenario, verdict: impl Fn(&Took) -> String) {
    println!("{name}");
    let (outcome, took) = once(scenario);
    for (phase, took, deliveries) in &took.parts {
        let name = match phase {
            Phase::Setup => "setup",
            Phase::Work => "users at work",
            Phase::Settle => "settling, checks",
        };
        println!("  {name:<17} {:8.1} s {deliveries:9} deliveries", took.as_secs_f64());
    }
    println!("  {}", verdict(&took));
    let held = |node| outcome.world.owner(node).map_or(0, |owner| owner.most());
    let most: Vec<u64> = outcome.world.numbers().map(held).collect();
    println!(
        "  the most that a node held: {:.2} MiB in the mean\n",
        mebi(most.iter().sum::<u64>() / most.len() as u64)
    );
}

fn mebi(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn idle() {
    let mut scenario = apart(include_str!("../scenarios/bench-1000.toml"), 100, 10);
    scenario.workload.clear();
    // What a disk keeps of before the last sync is no node's, and there is nothing to be quick at.
    scenario.disk.volatile = false;
    let (outcome, _) = once(&scenario);
    let world = &outcome.world;
    let mut held: Vec<(u64, u64)> = world
        .numbers()
        .filter_map(|node| {
            Some((world.owner(node)?.held(), world.with_disk(node, kith_store::MemoryBackend::used_bytes)?))
        })
        .collect();
    held.sort_unstable();
    let median = held.get(held.len() / 2).copied().unwrap_or_default();
    let most = held.last().copied().unwrap_or_default();
    println!("1,000 idle nodes, each in a room of 10");
    for (name, (all, disk)) in [("median", median), ("most", most)] {
        println!(
            "  {name:<7} {:.2} MiB a node, of which {:.2} MiB are pages of its disk (aim: 1 MiB)",
            mebi(all),
            mebi(disk)
        );
    }
}
