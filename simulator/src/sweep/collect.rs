//! Gathers what the jobs of a sweep gave, as one table, and names what is missing.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{SweepError, failure, plan, results};
use crate::tables::{Cell, Column, Kind, Sheet};

/// What there is of a sweep.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Collected {
    /// How many jobs are in the table.
    pub done: usize,
    /// Jobs that have neither results nor a note why.
    pub missing: Vec<u32>,
    /// Jobs that failed, or whose results cannot be read, with the reason.
    pub failed: Vec<(u32, String)>,
    /// Jobs that are done, and in which the run was not as it should be: an invariant was broken, or a control was not caught.
    pub not_passed: Vec<u32>,
}

impl Collected {
    /// Whether all is there and as it should be.
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty() && self.failed.is_empty() && self.not_passed.is_empty()
    }
}

/// The results of a job.
struct Row {
    job: u32,
    seed: u64,
    passed: bool,
    digest: String,
    keys: BTreeMap<String, Value>,
    figures: BTreeMap<String, f64>,
}

/// Writes `results.parquet`, and `results.csv` if that is wanted: a row for each job that is done, with its changed keys and all
/// numbers of its summary.
///
/// # Errors
/// When the plan cannot be read, or the table not written. Jobs that are missing or failed are no error here: they are named.
pub fn collect(folder: &Path, csv: bool) -> Result<Collected, SweepError> {
    let plan = plan::read(folder)?;
    let mut collected = Collected::default();
    let mut rows = Vec::new();
    for job in &plan.jobs {
        let place = results(folder, job.job);
        if !place.join("manifest.json").exists() {
            match fs::read_to_string(failure(folder, job.job)) {
                Ok(reason) => collected.failed.push((job.job, reason)),
                Err(_) => collected.missing.push(job.job),
            }
            continue;
        }
        match read(&place) {
            Ok((passed, digest, figures)) => {
                if !passed {
                    collected.not_passed.push(job.job);
                }
                rows.push(Row { job: job.job, seed: job.seed, passed, digest, keys: job.keys.clone(), figures });
            }
            Err(reason) => collected.failed.push((job.job, reason)),
        }
    }
    collected.done = rows.len();
    write(folder, &plan.keys, &rows, csv)?;
    Ok(collected)
}

fn json(path: &Path) -> Result<Value, String> {
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))
}

/// Whether the run of a job passed, its digest, and all numbers of its summary by their keys joined with dots.
pub(super) fn read(place: &Path) -> Result<(bool, String, BTreeMap<String, f64>), String> {
    let path = place.join("manifest.json");
    let manifest = json(&path)?;
    let passed = manifest["passed"].as_bool().ok_or_else(|| format!("{}: \"passed\" is not there", path.display()))?;
    let digest = manifest["digest"].as_str().ok_or_else(|| format!("{}: \"digest\" is not there", path.display()))?;
    let mut figures = BTreeMap::new();
    flatten("summary", &json(&place.join("summary.json"))?, &mut figures);
    figures.remove("summary.seed");
    Ok((passed, digest.to_owned(), figures))
}

/// All numbers in a JSON value, by their keys joined with dots.
fn flatten(name: &str, value: &Value, figures: &mut BTreeMap<String, f64>) {
    if let Some(number) = value.as_f64() {
        figures.insert(name.to_owned(), number);
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        flatten(&format!("{name}.{key}"), value, figures);
    }
}

fn write(folder: &Path, keys: &[String], rows: &[Row], csv: bool) -> Result<(), SweepError> {
    let named =
        |name: &String, kind, about| Column { name: Cow::Owned(name.clone()), kind, optional: true, unit: "", about };
    let mut columns = vec![
        Column::new("job", Kind::Whole, "", "the number of the job"),
        Column::new("seed", Kind::Whole, "", "the seed"),
        Column::new("passed", Kind::Flag, "", "whether the run was as it should be"),
        Column::new("digest", Kind::Text, "", "the digest of all that happened"),
    ];
    let numbers = |key: &&String| rows.iter().all(|row| row.keys.get(*key).is_none_or(Value::is_number));
    let numeric: BTreeSet<&String> = keys.iter().filter(numbers).collect();
    for key in keys {
        let kind = if numeric.contains(key) { Kind::Real } else { Kind::Text };
        columns.push(named(key, kind, "the scenario's key of this name"));
    }
    // What occurred in some runs only has no value in the others.
    let figures: BTreeSet<&String> = rows.iter().flat_map(|row| row.figures.keys()).collect();
    columns.extend(figures.iter().map(|name| named(name, Kind::Real, "the number of this name in summary.json")));
    let mut sheet = Sheet::create(folder, "results", columns, csv)?;
    for row in rows {
        let texts: Vec<Option<String>> = keys
            .iter()
            .map(|key| row.keys.get(key).map(|value| value.as_str().map_or(value.to_string(), str::to_owned)))
            .collect();
        let mut cells = vec![row.job.into(), row.seed.into(), row.passed.into(), row.digest.as_str().into()];
        for (key, text) in keys.iter().zip(&texts) {
            let number = row.keys.get(key).and_then(Value::as_f64).map(Cell::Real);
            let text = text.as_deref().map(Cell::Text);
            cells.push(if numeric.contains(key) { number } else { text }.unwrap_or(Cell::None));
        }
        cells.extend(figures.iter().map(|name| row.figures.get(*name).map_or(Cell::None, |value| Cell::Real(*value))));
        sheet.row(&cells)?;
    }
    sheet.close()?;
    Ok(())
}
