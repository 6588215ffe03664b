//! Reads a sweep file, and makes the folder with the numbered jobs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::Value;

use super::{SweepError, at, wrong};
use crate::scenario::{self, Scenario};

/// The version of sweep files and plans that this program reads.
const VERSION: u32 = 1;
/// Jobs of a plan.
const MOST_JOBS: usize = 1_000_000;

/// A sweep file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sweep {
    version: u32,
    /// Looked for beside the sweep file.
    scenario: PathBuf,
    seeds: Seeds,
    /// Keys of the scenario, with dots and with numbers for places in lists, to the values that each has in turn.
    #[serde(default)]
    matrix: BTreeMap<String, Vec<Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seeds {
    #[serde(default = "one")]
    from: u64,
    count: u64,
}

fn one() -> u64 {
    1
}

/// All jobs of a sweep, as in `plan.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The version of the format: 1.
    pub version: u32,
    /// The keys that are changed, in order.
    pub keys: Vec<String>,
    /// The jobs; each is at the place of its number.
    pub jobs: Vec<Job>,
}

/// A job: one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Its number, from 0.
    pub job: u32,
    /// The number of the scenario in `points/`.
    pub point: u32,
    /// The seed.
    pub seed: u64,
    /// What is changed.
    pub keys: BTreeMap<String, serde_json::Value>,
}

/// Makes the plan of a sweep file, and a folder with it: `plan.json`, and a scenario for each point of the matrix. Jobs are ordered
/// by the keys of the matrix in alphabetical order, the last of which changes fastest, and then by seed.
///
/// # Errors
/// When the file is wrong, one of the scenarios is impossible, or the folder has another plan. Nothing is written then.
pub fn plan(file: &Path, out: &Path) -> Result<Plan, SweepError> {
    let text = fs::read_to_string(file).map_err(at(file))?;
    let sweep: Sweep = toml::from_str(&text).map_err(|error| wrong(file, error.to_string().trim_end()))?;
    if sweep.version != VERSION {
        return Err(wrong(
            file,
            format!("version {} is not known here: this program reads version {VERSION}", sweep.version),
        ));
    }
    if sweep.seeds.count == 0 || sweep.seeds.from.checked_add(sweep.seeds.count).is_none() {
        return Err(wrong(file, "seeds.count must be above 0, and the last seed below 2^64"));
    }
    if let Some((key, _)) = sweep.matrix.iter().find(|(_, values)| values.is_empty()) {
        return Err(wrong(file, format!("matrix.{key:?} has no values")));
    }
    let points = sweep.matrix.values().try_fold(1_usize, |count, values| count.checked_mul(values.len()));
    let jobs = points.and_then(|points| points.checked_mul(usize::try_from(sweep.seeds.count).ok()?));
    if jobs.is_none_or(|jobs| jobs > MOST_JOBS) {
        return Err(wrong(file, format!("matrix and seeds give more than {MOST_JOBS} jobs")));
    }
    let path = file.parent().unwrap_or(Path::new(".")).join(&sweep.scenario);
    let base = scenario::load(&path).map_err(|error| wrong(&path, error))?;
    let mut scenarios = Vec::new();
    let mut jobs = Vec::new();
    for (point, values) in (0..).zip(product(&sweep.matrix)) {
        scenarios.push(changed(&base, &values).map_err(|error| wrong(file, error))?);
        let keys: BTreeMap<_, _> = values.iter().map(|(key, value)| ((*key).clone(), plain(value))).collect();
        for seed in sweep.seeds.from..sweep.seeds.from + sweep.seeds.count {
            jobs.push(Job { job: u32::try_from(jobs.len()).unwrap_or(u32::MAX), point, seed, keys: keys.clone() });
        }
    }
    let plan = Plan { version: VERSION, keys: sweep.matrix.into_keys().collect(), jobs };
    write(&plan, &scenarios, out)?;
    Ok(plan)
}

/// Each combination of the values.
fn product(matrix: &BTreeMap<String, Vec<Value>>) -> Vec<Vec<(&String, &Value)>> {
    matrix.iter().fold(vec![Vec::new()], |points, (key, values)| {
        let longer = |point: Vec<_>| values.iter().map(move |value| [point.clone(), vec![(key, value)]].concat());
        points.into_iter().flat_map(longer).collect()
    })
}

/// The scenario with some keys changed, under a name that says so.
fn changed(base: &Scenario, values: &[(&String, &Value)]) -> Result<Scenario, String> {
    let mut all = Value::try_from(base).map_err(|error| error.to_string())?;
    let mut name = base.name.clone();
    for (key, value) in values {
        let place = find(&mut all, key).map_err(|reason| format!("matrix.{key:?}: {reason}"))?;
        *place = (*value).clone();
        let short = key.rsplit('.').next().unwrap_or(key);
        let alone = values.iter().filter(|(other, _)| other.rsplit('.').next() == Some(short)).count() == 1;
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        name = format!("{name} {}={value}", if alone { short } else { key });
    }
    if !values.iter().any(|(key, _)| *key == "name") {
        *find(&mut all, "name")? = Value::String(name);
    }
    let told: Vec<String> = values.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    let refused = |error: String| format!("matrix: with {}: {error}", told.join(", "));
    let text = toml::to_string(&all).map_err(|error| refused(error.to_string()))?;
    scenario::parse(&text).map_err(|error| refused(error.to_string()))
}

/// The place of a key in a scenario. The last part need not be there yet; whether it may be, the scenario's reader says.
fn find<'a>(all: &'a mut Value, key: &str) -> Result<&'a mut Value, String> {
    let mut place = all;
    let mut parts = key.split('.').peekable();
    while let Some(part) = parts.next() {
        place = match place {
            Value::Table(table) => match parts.peek() {
                None => table.entry(part).or_insert(Value::Boolean(false)),
                Some(_) => table.get_mut(part).ok_or_else(|| format!("there is no {part:?} in the scenario"))?,
            },
            Value::Array(list) => {
                let count = list.len();
                let index = part.parse::<usize>().map_err(|_| format!("{part:?} must be a place in a list, from 0"))?;
                list.get_mut(index).ok_or_else(|| format!("there is no place {part} in a list of {count}"))?
            }
            _ => return Err(format!("{part:?} is in something that has no keys")),
        };
    }
    Ok(place)
}

fn plain(value: &Value) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_else(|_| serde_json::Value::String(value.to_string()))
}

fn write(plan: &Plan, scenarios: &[Scenario], out: &Path) -> Result<(), SweepError> {
    let path = out.join("plan.json");
    let mut text = serde_json::to_string_pretty(plan).map_err(|error| wrong(&path, error))?;
    text.push('\n');
    match fs::read_to_string(&path) {
        Ok(before) if before == text => {}
        Ok(_) => return Err(wrong(&path, "this folder has another plan; choose another folder, or remove it")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(at(&path)(error)),
    }
    let points = out.join("points");
    fs::create_dir_all(&points).map_err(at(&points))?;
    let jobs = out.join("jobs");
    fs::create_dir_all(&jobs).map_err(at(&jobs))?;
    for (number, scenario) in (0..).zip(scenarios) {
        let path = point(out, number);
        let text = toml::to_string(scenario).map_err(|error| wrong(&path, error))?;
        fs::write(&path, text).map_err(at(&path))?;
    }
    fs::write(&path, text).map_err(at(&path))
}

/// The scenario of a point.
pub(super) fn point(folder: &Path, number: u32) -> PathBuf {
    folder.join("points").join(format!("{number:04}.toml"))
}

/// Reads the plan of a folder.
pub fn read(folder: &Path) -> Result<Plan, SweepError> {
    let path = folder.join("plan.json");
    let bytes = fs::read(&path).map_err(at(&path))?;
    let plan: Plan = serde_json::from_slice(&bytes).map_err(|error| wrong(&path, error))?;
    if plan.version != VERSION {
        return Err(wrong(&path, format!("version {} is not known here", plan.version)));
    }
    Ok(plan)
}
