//! What a run leaves on disk. Nothing in it depends on the machine or the hour: one seed gives the same files.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use crate::engine::Nanos;
use crate::record::Sample;
use crate::run::Outcome;
use crate::tables;

/// Writes all files of a run into a folder, which is made.
///
/// # Errors
/// When a file cannot be written.
pub fn write(outcome: &Outcome, folder: &Path) -> io::Result<()> {
    write_all(outcome, folder, false)
}

/// As [`write()`]; the tables as CSV, too, if that is wanted.
///
/// # Errors
/// As [`write()`].
pub fn write_all(outcome: &Outcome, folder: &Path, csv: bool) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let scenario = toml::to_string(outcome.world.scenario()).map_err(io::Error::other)?;
    fs::write(folder.join("scenario.toml"), scenario)?;
    fs::write(folder.join("summary.json"), pretty(&summary(outcome)))?;
    fs::write(folder.join("invariants.json"), pretty(&invariants(outcome)))?;
    tables::run::write(outcome, folder, csv).map_err(io::Error::other)?;
    // Last: where it is, the rest is whole.
    fs::write(folder.join("manifest.json"), pretty(&manifest(outcome)))
}

fn pretty(value: &Value) -> String {
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

/// Which program, scenario and seed gave which digest.
pub fn manifest(outcome: &Outcome) -> Value {
    json!({
        "program": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "commit": option_env!("KITH_COMMIT"),
        "scenario": outcome.world.scenario().name,
        "seed": outcome.world.seed(),
        "digest": outcome.digest,
        "passed": outcome.passed(),
    })
}

fn ms(nanos: Nanos) -> f64 {
    nanos as f64 / 1e6
}

/// The value below which the given share of sorted ones lies.
fn quantile(sorted: &[Nanos], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last as f64 * share).round() as usize).map(|value| ms(*value))
}

/// The figures of a run.
pub fn summary(outcome: &Outcome) -> Value {
    let state = outcome.record.lock();
    let mut delays: Vec<Nanos> = Vec::new();
    for delivery in &state.deliveries {
        if let Some(event) = state.events.get(delivery.event as usize)
            && event.origin.is_some_and(|origin| origin != delivery.node)
        {
            delays.push(delivery.at.saturating_sub(event.begun));
        }
    }
    delays.sort_unstable();
    let bytes: u64 = state.links.values().map(|traffic| traffic.bytes).sum();
    let requests: u64 = state.links.values().map(|traffic| traffic.requests).sum();
    let most = state.samples.iter().map(|sample| sample.extremities).max();
    let [begin, end, agreed] = outcome.phases;
    json!({
        "scenario": outcome.world.scenario().name,
        "about": outcome.world.scenario().about,
        "seed": outcome.world.seed(),
        "nodes": outcome.world.count(),
        "virtual_s": {
            "setup": ms(begin) / 1e3,
            "work": ms(end - begin) / 1e3,
            "until_agreed": ms(agreed.saturating_sub(end)) / 1e3,
        },
        "timeline_entries": outcome.happened,
        "events": state.events.len(),
        "acknowledged": state.acknowledged.len(),
        "deliveries": state.deliveries.len(),
        "delivery_ms": {
            "samples": delays.len(),
            "p50": quantile(&delays, 0.5),
            "p95": quantile(&delays, 0.95),
            "p99": quantile(&delays, 0.99),
            "max": quantile(&delays, 1.0),
        },
        "network": { "requests": requests, "bytes": bytes },
        "most_extremities": most,
        "mean_extremities": mean_extremities(&state.samples, begin + (end - begin) / 2, end),
        "most_held": {
            "queued": state.most.queued,
            "parked": state.most.parked,
            "waiting": state.most.waiting,
            "tasks": state.most.tasks,
            "requests": state.most.requests,
        },
        "counters": state.counters,
        "federation": federation(outcome),
        "broken": state.breaches.len(),
    })
}

/// The mean number of forward extremities in the second half of the work, when it has settled.
fn mean_extremities(samples: &[Sample], from: Nanos, until: Nanos) -> Option<f64> {
    let late = || samples.iter().filter(|sample| (from..=until).contains(&sample.at));
    let (count, sum) = (late().count(), late().map(|sample| sample.extremities).sum::<u64>());
    (count > 0).then(|| sum as f64 / count as f64)
}

/// The nodes' own counters of federation, added up.
fn federation(outcome: &Outcome) -> Value {
    let mut sums = std::collections::BTreeMap::<&'static str, u64>::new();
    for number in outcome.world.numbers() {
        if let Some(node) = outcome.world.node(number) {
            for (name, value) in node.federation.stats.entries() {
                *sums.entry(name).or_default() += value;
            }
        }
    }
    json!(sums)
}

/// The invariants, each with whether it holds and what was found.
pub fn invariants(outcome: &Outcome) -> Value {
    let state = outcome.record.lock();
    let all = crate::invariants::Invariant::ALL.map(|invariant| {
        let found: Vec<Value> = state
            .breaches
            .iter()
            .filter(|breach| breach.invariant == invariant.name())
            .map(|breach| json!({"at_ms": ms(breach.at), "node": breach.node, "what": breach.what}))
            .collect();
        json!({"name": invariant.name(), "holds": found.is_empty(), "breaches": found})
    });
    json!(all)
}
