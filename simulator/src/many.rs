//! The commands that are about many runs: `sweep` and `shrink`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use kith_simulator::invariants::Invariant;
use kith_simulator::output;
use kith_simulator::run::run_within;
use kith_simulator::scenario::{self, Scenario};
use kith_simulator::shrink::{self, Shrunk};
use kith_simulator::sweep::figure::Known;
use kith_simulator::sweep::{self, Done, Figure};

use super::{Answer, once};

/// Parts of `sweep`.
#[derive(Debug, Subcommand)]
pub enum Sweep {
    /// Makes a folder with the numbered jobs of a sweep file. Prints how many there are.
    Plan {
        /// The sweep file, TOML.
        sweep: PathBuf,
        /// The folder.
        #[arg(long)]
        out: PathBuf,
    },
    /// Does one job; nothing if it is done. Exit code 0 also if the run broke an invariant: `collect` tells.
    Job {
        /// The folder of the plan.
        folder: PathBuf,
        /// The number of the job, from 0.
        number: u32,
        /// The tables as CSV, too.
        #[arg(long)]
        csv: bool,
    },
    /// Does all jobs that are not done, one after the other.
    Run {
        /// The folder of the plan.
        folder: PathBuf,
        /// The tables as CSV, too.
        #[arg(long)]
        csv: bool,
    },
    /// Draws a number of the summaries against a key of the sweep, as SVG and PNG.
    Figure {
        /// The folder of the plan.
        folder: PathBuf,
        /// The key along the axis below.
        #[arg(long)]
        x: String,
        /// The number of the summary, such as delivery_ms.p50.
        #[arg(long)]
        y: String,
        /// The key whose values have a curve each.
        #[arg(long)]
        by: Option<String>,
        /// Curves by a formula, beside those that were measured.
        #[arg(long)]
        known: Option<Known>,
        /// The axis below is divided by powers of ten.
        #[arg(long)]
        log_x: bool,
        /// The axis on the left is divided by powers of ten.
        #[arg(long)]
        log_y: bool,
        /// The files, without their endings.
        #[arg(long)]
        out: PathBuf,
    },
    /// Gathers the summaries in `results.parquet`. Exit code 1: jobs are missing or failed, or runs are not as they should be.
    Collect {
        /// The folder of the plan.
        folder: PathBuf,
        /// As `results.csv`, too.
        #[arg(long)]
        csv: bool,
    },
}

pub fn sweep(command: Sweep) -> Answer<bool> {
    match command {
        Sweep::Plan { sweep, out } => {
            let plan = sweep::plan(&sweep, &out)?;
            println!("{} jobs, 0 to {}, in {}", plan.jobs.len(), plan.jobs.len().saturating_sub(1), out.display());
            Ok(true)
        }
        Sweep::Job { folder, number, csv } => job(&folder, number, csv).map(|()| true),
        Sweep::Run { folder, csv } => {
            for number in 0..sweep::plan::read(&folder)?.jobs.len() as u32 {
                job(&folder, number, csv)?;
            }
            Ok(true)
        }
        Sweep::Figure { folder, x, y, by, known, log_x, log_y, out } => {
            for path in sweep::figure(&folder, &Figure { x, y, by, known, log: (log_x, log_y) }, &out)? {
                println!("{}", path.display());
            }
            Ok(true)
        }
        Sweep::Collect { folder, csv } => {
            let collected = sweep::collect(&folder, csv)?;
            println!("{} jobs are done", collected.done);
            if !collected.missing.is_empty() {
                println!("missing: {}", ranges(&collected.missing));
            }
            for (number, reason) in &collected.failed {
                println!("failed: {number}: {reason}");
            }
            if !collected.not_passed.is_empty() {
                println!("not passed: {}", ranges(&collected.not_passed));
            }
            Ok(collected.is_whole())
        }
    }
}

fn job(folder: &Path, number: u32, csv: bool) -> Answer<()> {
    let done = sweep::job(folder, number, &mut |scenario, seed, place| {
        let outcome = once(scenario, seed, None, true).map_err(|error| error.to_string())?;
        output::write_all(&outcome, place, csv).map_err(|error| error.to_string())
    })?;
    println!("job {number}: {}", if done == Done::Before { "was done before" } else { "done" });
    Ok(())
}

/// Rising numbers as schedulers take them: `0-3,7`.
fn ranges(numbers: &[u32]) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*number) => *last = *number,
            _ => runs.push((*number, *number)),
        }
    }
    let texts =
        runs.iter().map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") });
    texts.collect::<Vec<_>>().join(",")
}

/// A smaller run is given up when it takes so many times the work of the first one, in entries of the timeline: what is cut away may
/// leave nodes that try in vain for the rest of the time.
const MOST_WORK: u64 = 4;

/// What is made smaller, and how.
#[derive(Debug, Args)]
pub struct Shrink {
    /// The scenario, a TOML file.
    scenario: PathBuf,
    /// The seed with which it fails; by default the scenario's.
    #[arg(long)]
    seed: Option<u64>,
    /// The invariant that must stay broken; by default the one that is broken first.
    #[arg(long)]
    invariant: Option<String>,
    /// The most runs.
    #[arg(long, default_value_t = 200)]
    runs: u32,
    /// The file for the smaller scenario; by default its name with `-shrunk`, in the working folder.
    #[arg(long)]
    out: Option<PathBuf>,
}

pub fn shrink(how: &Shrink) -> Answer<bool> {
    let mut loaded = scenario::load(&how.scenario)?;
    loaded.seed = how.seed.unwrap_or(loaded.seed);
    let seed = loaded.seed;
    if let Some(name) = &how.invariant
        && Invariant::parse(name).is_none()
    {
        let known: Vec<&str> = Invariant::ALL.iter().map(|invariant| invariant.name()).collect();
        return Err(format!("there is no invariant {name:?}, but {}", known.join(", ")).into());
    }
    let outcome = once(&loaded, seed, None, false)?;
    // That something did not occur is no failure that a smaller scenario would explain.
    let first = {
        let state = outcome.record.lock();
        let broken = state.breaches.iter().map(|breach| breach.invariant);
        broken
            .filter(|name| *name != Invariant::Occurs.name())
            .find(|name| how.invariant.as_ref().is_none_or(|wanted| wanted == name))
    };
    let most = outcome.happened.saturating_mul(MOST_WORK);
    drop(outcome);
    let Some(target) = first else {
        println!("with seed {seed} it does not fail: nothing to shrink");
        return Ok(false);
    };
    println!("broken: {target}");
    let out = how.out.clone().unwrap_or_else(|| {
        let stem = how.scenario.file_stem().map_or("scenario".into(), |stem| stem.to_string_lossy());
        PathBuf::from(format!("{stem}-shrunk.toml"))
    });
    let mut fails = |scenario: &Scenario| {
        run_within(scenario, seed, None, &mut |_| (), most).is_ok_and(|outcome| outcome.broken().contains(&target))
    };
    let mut unwritten = None;
    let mut told = |scenario: &Scenario| {
        println!("still broken: {}", size(scenario));
        // At once, so that what was found is there if this is broken off.
        let written = toml::to_string(scenario).map_err(|error| error.to_string());
        unwritten = written.and_then(|text| std::fs::write(&out, text).map_err(|error| error.to_string())).err();
    };
    told(&loaded);
    let Shrunk { scenario, runs, finished } = shrink::shrink(&loaded, how.runs, &mut fails, &mut told);
    if let Some(error) = unwritten {
        return Err(format!("{}: {error}", out.display()).into());
    }
    let end = if finished { "nothing smaller fails" } else { "no more runs are allowed" };
    println!("{runs} runs, {end}: {}", size(&scenario));
    println!("again with: kith-sim run {} --seed {seed}", out.display());
    Ok(true)
}

fn size(scenario: &Scenario) -> String {
    let (nodes, rooms, faults) = (scenario.nodes.count, scenario.rooms.len(), scenario.faults.len());
    let (workload, duration) = (scenario.workload.len(), scenario.duration_s);
    format!("{nodes} nodes, {rooms} rooms, {faults} faults, {workload} workloads, {duration} s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_as_ranges() {
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
        assert_eq!(ranges(&[]), "");
    }
}
