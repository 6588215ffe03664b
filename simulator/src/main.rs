//! `kith-sim`: runs scenarios.

mod many;
mod progress;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kith_simulator::bounds;
use kith_simulator::cover::Cover;
use kith_simulator::run::{Outcome, run};
use kith_simulator::scenario::{self, Scenario};
use kith_simulator::{mutants, output, plot, world};

use progress::Line;

/// Counts what each node holds, see [`kith_simulator::memory`].
#[global_allocator]
static MEMORY: kith_simulator::memory::Counting = kith_simulator::memory::Counting;

/// Good signatures that the process remembers.
const SIGNATURES: usize = 200_000;

/// Simulates networks of kith nodes: many real nodes in one process, in virtual time, the same every time.
#[derive(Debug, Parser)]
#[command(name = "kith-sim", version)]
struct Cli {
    /// Every node verifies every signature itself, which takes longer. Without, the process verifies each once; the digest is the same.
    #[arg(long, global = true)]
    verify_all: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a scenario. Exit code 1: an invariant is broken (of a control: none is).
    Run {
        /// The scenario, a TOML file.
        scenario: PathBuf,
        /// The seed; by default the scenario's.
        #[arg(long)]
        seed: Option<u64>,
        /// A folder for the results; without one only the summary is printed.
        #[arg(long)]
        out: Option<PathBuf>,
        /// The tables as CSV, too.
        #[arg(long, requires = "out")]
        csv: bool,
        /// A file for everything that is digested, line by line: two of them show where two runs part.
        #[arg(long)]
        trace: Option<PathBuf>,
        /// No progress line.
        #[arg(long)]
        quiet: bool,
    },
    /// Runs a scenario with many seeds, one after the other. Exit code 1: a seed fails; its replay command is printed.
    Seeds {
        /// The scenarios, TOML files; each is run with each seed.
        #[arg(required = true)]
        scenarios: Vec<PathBuf>,
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// How many seeds.
        #[arg(long, default_value_t = 10)]
        count: u64,
        /// A file that names what must occur in all these runs together, such as simulator/sets/ci.toml.
        #[arg(long)]
        cover: Option<PathBuf>,
    },
    /// Runs what a results folder says again, and compares the digests. Exit code 1: they differ.
    Replay {
        /// The folder of an earlier run.
        folder: PathBuf,
        /// As for `run`.
        #[arg(long)]
        trace: Option<PathBuf>,
    },
    /// Makes a failing scenario smaller while the same invariant is broken. Exit code 1: it does not fail.
    Shrink(many::Shrink),
    /// Draws figures of runs, as SVG and PNG; runs of one scenario with several seeds get confidence intervals.
    Plot {
        /// The folders of the runs.
        #[arg(required = true)]
        runs: Vec<PathBuf>,
        /// The folder for the figures.
        #[arg(long, default_value = "figures")]
        out: PathBuf,
    },
    /// Many runs, as numbered jobs for any scheduler.
    Sweep {
        #[command(subcommand)]
        command: many::Sweep,
    },
    /// Lets deliberate bugs of the node be at work, one after the other, until an invariant is broken. Only of use in a build with
    /// KITH_MUTANTS=1. Exit code 1: one survives, or something is broken without any.
    Mutants {
        /// Names of mutants; all if there are none.
        names: Vec<String>,
        /// Which scenarios and seeds are tried, a TOML file.
        #[arg(long, default_value = "simulator/mutants.toml")]
        plan: PathBuf,
        /// Runs at a time.
        #[arg(long, default_value_t = 1)]
        jobs: usize,
        /// A file for the table.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Says whether a scenario can be run, and what it will be like.
    Check {
        /// The scenarios, TOML files.
        #[arg(required = true)]
        scenarios: Vec<PathBuf>,
    },
    /// Prints the JSON Schema of scenarios.
    Schema,
}

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("KITH_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
    let cli = Cli::parse();
    if !cli.verify_all {
        kith_room::signature::remember(SIGNATURES);
    }
    let chosen = kith_mutants::chosen().map(drop).map_err(Into::into);
    match chosen.and_then(|()| act(cli.command)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("kith-sim: {error}");
            ExitCode::from(2)
        }
    }
}

type Answer<T> = Result<T, Box<dyn std::error::Error>>;

fn act(command: Command) -> Answer<bool> {
    match command {
        Command::Run { scenario, seed, out, csv, trace, quiet } => {
            let loaded = scenario::load(&scenario)?;
            let seed = seed.unwrap_or(loaded.seed);
            let outcome = once(&loaded, seed, trace.as_deref(), quiet)?;
            if let Some(out) = &out {
                output::write_all(&outcome, out, csv)?;
            }
            println!("{:#}", output::summary(&outcome));
            println!("digest {}", outcome.digest);
            Ok(judge(&outcome, &format!("kith-sim run {} --seed {seed}", scenario.display())))
        }
        Command::Seeds { scenarios, from, count, cover } => seeds(&scenarios, from, count, cover.as_deref()),
        Command::Replay { folder, trace } => {
            let loaded = scenario::load(&folder.join("scenario.toml"))?;
            let manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("manifest.json"))?)?;
            let seed = manifest["seed"].as_u64().ok_or("manifest.json has no seed")?;
            let outcome = once(&loaded, seed, trace.as_deref(), false)?;
            let same = manifest["digest"] == outcome.digest.as_str();
            println!("digest {}: {}", outcome.digest, if same { "the same" } else { "another" });
            judge(&outcome, &format!("kith-sim replay {}", folder.display()));
            Ok(same)
        }
        Command::Shrink(how) => many::shrink(&how),
        Command::Plot { runs, out } => {
            for path in plot::plot(&runs, &out)? {
                println!("{}", path.display());
            }
            Ok(true)
        }
        Command::Sweep { command } => many::sweep(command),
        Command::Mutants { names, plan, jobs, out } => {
            let report = mutants::run(&plan, &names, jobs, &mut |line| println!("{line}"))?;
            if let Some(out) = &out {
                std::fs::write(out, mutants::document(&report))?;
            }
            println!("{}", if report.is_good() { "passed: all are caught" } else { "FAILED" });
            Ok(report.is_good())
        }
        Command::Check { scenarios } => check(&scenarios),
        Command::Schema => {
            print!("{}", scenario::schema());
            Ok(true)
        }
    }
}

fn once(scenario: &Scenario, seed: u64, trace: Option<&Path>, quiet: bool) -> Answer<Outcome> {
    let trace = trace.map(File::create).transpose()?;
    let trace = trace.map(|file| Box::new(BufWriter::new(file)) as Box<dyn Write + Send>);
    let mut line = Line::new(quiet);
    let outcome = run(scenario, seed, trace, &mut |progress| line.show(progress));
    line.end(outcome.as_ref().ok());
    Ok(outcome?)
}

/// Prints what is broken; says whether the run is as it should be.
fn judge(outcome: &Outcome, replay: &str) -> bool {
    for breach in outcome.record.lock().breaches.iter().take(20) {
        let node = breach.node.map(|node| format!(", node {node}")).unwrap_or_default();
        println!("broken: {}{node}, at {:.3} s: {}", breach.invariant, breach.at as f64 / 1e9, breach.what);
    }
    let wanted = &outcome.world.scenario().checks.must_fail;
    match (outcome.passed(), wanted.is_empty()) {
        (true, true) => println!("passed: all invariants hold"),
        (true, false) => println!("passed: the control was caught ({})", outcome.broken().join(", ")),
        (false, true) => println!("FAILED: {}; again with: {replay}", outcome.broken().join(", ")),
        (false, false) => println!("FAILED: none of {} was found broken; again with: {replay}", wanted.join(", ")),
    }
    outcome.passed()
}

fn seeds(scenarios: &[PathBuf], from: u64, count: u64, cover: Option<&Path>) -> Answer<bool> {
    let cover = cover.map(Cover::load).transpose()?;
    let mut good = true;
    let mut occurred = std::collections::BTreeMap::<String, u64>::new();
    let mut runs = 0;
    let mut most_memory = 0;
    for path in scenarios {
        let loaded = scenario::load(path)?;
        for seed in from..from.saturating_add(count) {
            let command = format!("kith-sim run {} --seed {seed}", path.display());
            runs += 1;
            match once(&loaded, seed, None, true) {
                Ok(outcome) => {
                    if !outcome.passed() {
                        println!("{command}");
                        good &= judge(&outcome, &command);
                    }
                    most_memory = most_memory.max(bounds::most_memory(&outcome.world));
                    for (name, many) in &outcome.record.lock().counters {
                        *occurred.entry(name.clone()).or_default() += many;
                    }
                }
                Err(error) => {
                    println!("FAILED: {error}; again with: {command}");
                    good = false;
                }
            }
        }
    }
    for (name, many) in &occurred {
        println!("{many:>10}  {name}");
    }
    for name in cover.iter().flat_map(|cover| cover.missing(&occurred)) {
        println!("FAILED: {name} did not occur in any of the runs");
        good = false;
    }
    println!("{:.1} MiB is the most memory of a node", most_memory as f64 / f64::from(1 << 20));
    println!("{}: {runs} runs", if good { "passed" } else { "FAILED" });
    Ok(good)
}

fn check(scenarios: &[PathBuf]) -> Answer<bool> {
    let mut good = true;
    for path in scenarios {
        let made = scenario::load(path).map_err(|error| error.to_string()).and_then(|scenario| {
            let engine = kith_simulator::engine::Engine::new();
            let record = kith_simulator::record::Record::new(engine.timeline().clone(), None);
            let world = world::World::new(&scenario, scenario.seed, &engine, &record);
            world.map(|world| (world.edges().len(), scenario)).map_err(|error| error.to_string())
        });
        match made {
            Ok((links, scenario)) => {
                let (nodes, rooms) = (scenario.nodes.count, scenario.rooms.len());
                println!("{}: good; {nodes} nodes, {links} links, {rooms} rooms", path.display());
            }
            Err(error) => {
                good = false;
                println!("{}: {error}", path.display());
            }
        }
    }
    Ok(good)
}
