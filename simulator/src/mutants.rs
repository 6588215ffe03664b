//! Whether deliberate bugs of the node ([`kith_mutants`]) are found: each is at work in scenarios and seeds, one after the other, until
//! an invariant is broken. Where one was, the same must pass without it.
//!
//! A run is a process of its own, since the bug that is at work is chosen once in a process, by its environment.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use kith_mutants::Mutant;
use serde::Deserialize;

use crate::invariants::Invariant;

/// How often it is looked whether a run has ended.
const LOOK: Duration = Duration::from_millis(20);
/// Looks after which a run counts as endless: three minutes and more. Those that end take seconds.
const MOST_LOOKS: u32 = 9_000;

/// What is run with each mutant.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Scenarios, looked for beside the plan's file.
    pub scenarios: Vec<String>,
    /// Seeds of each, from 1.
    pub seeds: u64,
    /// The scenario that comes first, where one makes the situation that a mutant needs.
    #[serde(default)]
    pub first: BTreeMap<String, String>,
    /// Controls that put a mutant to work on one node only. They are run once, and must pass.
    #[serde(default)]
    pub controls: Vec<String>,
}

/// A scenario and a seed.
type Try = (String, u64);

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ended {
    /// All invariants hold.
    Passed,
    /// These do not.
    Broken(Vec<String>),
    /// It could not be set up, or the program broke off.
    Failed(String),
    /// It did not end.
    Endless,
}

/// What became of a mutant.
#[derive(Debug, Clone)]
pub struct Fate {
    /// The mutant.
    pub mutant: Mutant,
    /// The invariants that were broken, with the scenario and seed; none: it survived.
    pub caught: Option<(Vec<String>, Try)>,
    /// Runs that passed before.
    pub passed: usize,
}

/// What became of all of them.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// By their order in the list.
    pub fates: Vec<Fate>,
    /// What is broken without any.
    pub unsound: Vec<String>,
    /// How many runs there were without any.
    pub sound_runs: usize,
}

impl Report {
    /// Whether all were caught, and nothing else.
    pub fn is_good(&self) -> bool {
        self.unsound.is_empty() && self.fates.iter().all(|fate| fate.caught.is_some())
    }
}

/// Reads a plan.
///
/// # Errors
/// What is wrong with it.
pub fn plan(path: &Path) -> Result<Plan, String> {
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let plan: Plan =
        toml::from_str(&fs::read_to_string(path).map_err(|error| told(&error))?).map_err(|error| told(&error))?;
    for scenario in plan.first.values() {
        if !plan.scenarios.contains(scenario) {
            return Err(told(&format!("{scenario:?} is not among the scenarios")));
        }
    }
    Ok(plan)
}

/// Runs mutants; all, if none are named. `tell` hears what happens.
///
/// # Errors
/// This program holds no mutants, or the plan or a name is wrong.
pub fn run(plan_path: &Path, only: &[String], jobs: usize, tell: &mut dyn FnMut(String)) -> Result<Report, String> {
    if !kith_mutants::BUILT {
        return Err("this program holds no mutants: build it with KITH_MUTANTS=1 in its environment".to_owned());
    }
    let plan = plan(plan_path)?;
    let is_unknown = |name: &&String| !kith_mutants::ALL.iter().any(|mutant| mutant.name == **name);
    if let Some(unknown) = only.iter().chain(plan.first.keys()).find(is_unknown) {
        return Err(format!("there is no mutant {unknown:?}"));
    }
    let folder = plan_path.parent().unwrap_or(Path::new(".")).to_owned();
    let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
    let pool = Pool { folder, scratch: scratch.path().to_owned(), jobs: jobs.max(1) };

    let chosen =
        kith_mutants::ALL.iter().filter(|mutant| only.is_empty() || only.iter().any(|name| name == mutant.name));
    let mut fates: Vec<Fate> = chosen.map(|mutant| Fate { mutant: *mutant, caught: None, passed: 0 }).collect();
    let mut series: Vec<Series> = fates
        .iter()
        .map(|fate| Series { mutant: Some(fate.mutant.name), tries: tries(&plan, fate.mutant.name) })
        .collect();
    let mut used: BTreeSet<Try> = BTreeSet::new();
    pool.run(&mut series, &mut |index, of, ended| {
        let Some(fate) = fates.get_mut(index) else { return true };
        let by = match ended {
            Ended::Passed => {
                fate.passed += 1;
                return false;
            }
            Ended::Broken(by) => by,
            Ended::Failed(how) => vec![how],
            Ended::Endless => vec!["does not end".to_owned()],
        };
        tell(format!(
            "{}: {} in {}, seed {}, after {} that passed",
            fate.mutant.name,
            by.join(", "),
            of.0,
            of.1,
            fate.passed
        ));
        used.insert(of.clone());
        fate.caught = Some((by, of.clone()));
        true
    })?;
    for fate in fates.iter().filter(|fate| fate.caught.is_none()) {
        tell(format!("{} SURVIVED {} runs", fate.mutant.name, fate.passed));
    }
    used.extend(plan.controls.iter().map(|control| (control.clone(), 1)));
    let mut series: Vec<Series> =
        used.iter().map(|of| Series { mutant: None, tries: VecDeque::from([of.clone()]) }).collect();
    let mut unsound = Vec::new();
    pool.run(&mut series, &mut |_, (scenario, seed), ended| {
        if ended != Ended::Passed {
            let what = format!("without any mutant, {scenario} with seed {seed}: {ended:?}");
            tell(what.clone());
            unsound.push(what);
        }
        true
    })?;
    tell(format!("{} runs without any mutant", used.len()));
    Ok(Report { fates, unsound, sound_runs: used.len() })
}

/// What is tried with a mutant, in order.
fn tries(plan: &Plan, name: &str) -> VecDeque<Try> {
    let first = plan.first.get(name);
    let others = plan.scenarios.iter().filter(|scenario| Some(*scenario) != first);
    first
        .into_iter()
        .chain(others)
        .flat_map(|scenario| (1..=plan.seeds).map(move |seed| (scenario.clone(), seed)))
        .collect()
}

/// Runs of one mutant, one after the other.
struct Series {
    mutant: Option<&'static str>,
    tries: VecDeque<Try>,
}

struct Pool {
    folder: PathBuf,
    scratch: PathBuf,
    jobs: usize,
}

struct Running {
    series: usize,
    of: Try,
    child: Child,
    looks: u32,
}

impl Pool {
    /// Runs all series, some at a time. `end` hears how each run of a series ended, and says whether it was the last one.
    fn run(&self, series: &mut [Series], end: &mut dyn FnMut(usize, &Try, Ended) -> bool) -> Result<(), String> {
        let mut waiting: VecDeque<usize> = (0..series.len()).collect();
        let mut running: Vec<Running> = Vec::new();
        loop {
            while running.len() < self.jobs
                && let Some(index) = waiting.pop_front()
            {
                let Some(series) = series.get_mut(index) else { continue };
                let Some(of) = series.tries.pop_front() else { continue };
                let child = self.start(index, series.mutant, &of)?;
                running.push(Running { series: index, of, child, looks: 0 });
            }
            if running.is_empty() {
                return Ok(());
            }
            std::thread::sleep(LOOK);
            let mut still = Vec::new();
            for mut run in running {
                match run.child.try_wait().map_err(|error| error.to_string())? {
                    None if run.looks < MOST_LOOKS => {
                        run.looks += 1;
                        still.push(run);
                        continue;
                    }
                    status => {
                        if status.is_none() {
                            run.child.kill().and_then(|()| run.child.wait()).map_err(|error| error.to_string())?;
                        }
                        let ended = status.map_or(Ended::Endless, |status| self.ended(run.series, status));
                        if !end(run.series, &run.of, ended) {
                            waiting.push_front(run.series);
                        }
                    }
                }
            }
            running = still;
        }
    }

    fn output(&self, index: usize) -> PathBuf {
        self.scratch.join(index.to_string())
    }

    fn start(&self, index: usize, mutant: Option<&str>, (scenario, seed): &Try) -> Result<Child, String> {
        let told = |error: std::io::Error| error.to_string();
        let output = File::create(self.output(index)).map_err(told)?;
        let program = std::env::current_exe().map_err(told)?;
        let mut command = Command::new(program);
        command.arg("run").arg(self.folder.join("scenarios").join(scenario).with_extension("toml"));
        command.args(["--quiet", "--seed", &seed.to_string()]).env("KITH_MUTANT", mutant.unwrap_or_default());
        command.stdin(Stdio::null()).stdout(output).stderr(Stdio::null()).spawn().map_err(told)
    }

    fn ended(&self, index: usize, status: ExitStatus) -> Ended {
        let output = fs::read_to_string(self.output(index)).unwrap_or_default();
        match status.code() {
            Some(0) => Ended::Passed,
            Some(1) => {
                let told = output.lines().rev().find_map(|line| line.strip_prefix("FAILED: "));
                let names = told.and_then(|told| told.split(';').next()).unwrap_or_default();
                // That something did not occur says nothing about the node.
                let names = names.split(", ").filter(|name| *name != Invariant::Occurs.name());
                match names.map(str::to_owned).collect::<Vec<_>>() {
                    names if names.is_empty() => Ended::Passed,
                    names => Ended::Broken(names),
                }
            }
            Some(2) => Ended::Failed("cannot be set up".to_owned()),
            _ => Ended::Failed("breaks off".to_owned()),
        }
    }
}

/// The report as `docs/mutants.md` has it.
pub fn document(report: &Report) -> String {
    let mut text = String::from(HEAD);
    for fate in &report.fates {
        let Mutant { name, file, does } = fate.mutant;
        let row = match &fate.caught {
            Some((by, (scenario, seed))) => {
                let by: Vec<String> = by.iter().map(|name| format!("`{name}`")).collect();
                format!("{} | {scenario}, {seed} | {}", by.join(", "), fate.passed)
            }
            None => format!("**nothing** | | {}", fate.passed),
        };
        text += &format!("| `{name}` | `{file}` | {does} | {row} |\n");
    }
    let caught = report.fates.iter().filter(|fate| fate.caught.is_some()).count();
    let (all, sound, unsound) = (report.fates.len(), report.sound_runs, report.unsound.len());
    text += &format!(
        "\n{caught} of {all} are caught. Without any mutant the same runs of scenarios and seeds were made, and the controls, {sound} in all; \
         {unsound} of them ended as they must not.\n"
    );
    text
}

const HEAD: &str = "\
# Mutants

Deliberate bugs of one line each in the node's own code, to see whether the simulator's checkers ([simulator.md](simulator.md#invariants))
find them. They were chosen by where the code could go wrong. Each is at work on all nodes at once, so nobody is there who would differ.

An ordinary build holds none of them: `mutant!(\"name\")` is the word `false` there ([`mutants/src/lib.rs`](../mutants/src/lib.rs)). With `KITH_MUTANTS=1` in the
environment of the build all are in, and `KITH_MUTANT` chooses one when it runs.

```
KITH_MUTANTS=1 cargo build --release -p kith-simulator --target-dir target/mutants
target/mutants/release/kith-sim mutants --out docs/mutants.md       # all; the exit code is 1 if one survives
target/mutants/release/kith-sim mutants NAME...                     # some
KITH_MUTANT=NAME target/mutants/release/kith-sim run simulator/scenarios/adversarial-5.toml --seed 1
```

[`simulator/mutants.toml`](../simulator/mutants.toml) says which scenarios and how many seeds are tried. The table below was written by that command.
*Passed before*: runs with the mutant that no checker objected to, before the one that is named.

| mutant | where | what it does | caught by | scenario, seed | passed before |
| --- | --- | --- | --- | --- | --- |
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenario_that_a_mutant_needs_comes_first() {
        let text = "scenarios = [\"a\", \"b\"]\nseeds = 2\n[first]\nx = \"b\"\n";
        let plan: Plan = toml::from_str(text).unwrap();
        let of =
            |name: &str| tries(&plan, name).into_iter().map(|(name, seed)| format!("{name}{seed}")).collect::<Vec<_>>();
        assert_eq!(of("x"), ["b1", "b2", "a1", "a2"]);
        assert_eq!(of("y"), ["a1", "a2", "b1", "b2"]);
    }
}
