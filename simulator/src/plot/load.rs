//! Reads what the figures need from the folder of a run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::tables::{Frame, TableError};

/// Why a folder cannot be plotted.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A JSON file that cannot be read.
    #[error("{}: {cause}", .path.display())]
    Json {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// A JSON file without a key, or with another kind of value.
    #[error("{}: {key:?} is not there, or no {kind}", .path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// Which key.
        key: &'static str,
        /// What it must be.
        kind: &'static str,
    },
}

/// What is drawn of a run. Times are in seconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Run {
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// From sending to being shown on another node, of each delivery; sorted.
    pub latencies: Vec<f64>,
    /// From a heal to being shown, of what was sent while the network was apart and shown only after; sorted.
    pub healed: Vec<f64>,
    /// Bytes that each node sent, the most first.
    pub sent: Vec<f64>,
    /// Bytes that each node received, the most first.
    pub received: Vec<f64>,
    /// The share of events in transactions that the node had received in one before, in percent; the greatest first.
    pub repeated: Vec<f64>,
    /// Time since users began, to mean and maximum of the forward extremities of a room on a node.
    pub extremities: Vec<(f64, f64, f64)>,
}

/// Reads a run.
///
/// # Errors
/// [`LoadError`] names the file, and the column or key.
pub fn load(folder: &Path) -> Result<Run, LoadError> {
    let (manifest, at_manifest) = json(folder, "manifest.json")?;
    let (summary, at_summary) = json(folder, "summary.json")?;
    let key = |path: &Path, key, kind| LoadError::Key { path: path.to_owned(), key, kind };
    let scenario = manifest["scenario"].as_str().ok_or_else(|| key(&at_manifest, "scenario", "text"))?;
    let seed = manifest["seed"].as_u64().ok_or_else(|| key(&at_manifest, "seed", "whole number"))?;
    let setup = summary["virtual_s"]["setup"].as_f64().ok_or_else(|| key(&at_summary, "virtual_s.setup", "number"))?;
    let deliveries = deliveries(folder)?;
    let mut latencies: Vec<f64> = deliveries.iter().map(|row| s(row.shown - row.begun)).collect();
    latencies.sort_by(f64::total_cmp);
    let nodes = Frame::open(&folder.join("nodes.parquet"))?;
    let ranked = |mut values: Vec<f64>| {
        values.sort_by(|one, other| other.total_cmp(one));
        values
    };
    let column = |name| -> Result<Vec<f64>, TableError> {
        Ok(nodes.all_wholes(name)?.into_iter().map(|value| value as f64).collect())
    };
    let (pdus, repeated) = (column("pdus")?, column("repeated")?);
    let shares = pdus.iter().zip(repeated).filter(|(pdus, _)| **pdus > 0.0);
    Ok(Run {
        scenario: scenario.to_owned(),
        seed,
        latencies,
        healed: healed(&deliveries, &splits(folder)?),
        sent: ranked(column("sent_bytes")?),
        received: ranked(column("received_bytes")?),
        repeated: ranked(shares.map(|(pdus, repeated)| 100.0 * repeated / pdus).collect()),
        extremities: extremities(folder, setup)?,
    })
}

fn s(nanos: i64) -> f64 {
    nanos as f64 / 1e9
}

fn json(folder: &Path, name: &str) -> Result<(Value, PathBuf), LoadError> {
    let path = folder.join(name);
    let broken = |cause: String| LoadError::Json { path: path.clone(), cause };
    let bytes = std::fs::read(&path).map_err(|error| broken(error.to_string()))?;
    let value = serde_json::from_slice(&bytes).map_err(|error| broken(error.to_string()))?;
    Ok((value, path))
}

/// An event that came to another node than the one it is from.
struct Delivery {
    origin: i64,
    node: i64,
    begun: i64,
    shown: i64,
}

fn deliveries(folder: &Path) -> Result<Vec<Delivery>, TableError> {
    let frame = Frame::open(&folder.join("deliveries.parquet"))?;
    let (origins, nodes) = (frame.wholes("origin")?, frame.all_wholes("node")?);
    let (begun, shown) = (frame.all_wholes("begun_ns")?, frame.all_wholes("shown_ns")?);
    let rows = origins.into_iter().zip(nodes).zip(begun.into_iter().zip(shown));
    let rows =
        rows.filter_map(|((origin, node), (begun, shown))| Some(Delivery { origin: origin?, node, begun, shown }));
    Ok(rows.filter(|row| row.origin != row.node && row.shown >= row.begun).collect())
}

/// A time during which the network was apart; with a node, that one from the others.
struct Split {
    node: Option<i64>,
    from: i64,
    to: i64,
}

fn splits(folder: &Path) -> Result<Vec<Split>, TableError> {
    let frame = Frame::open(&folder.join("faults.parquet"))?;
    let (at, nodes) = (frame.all_wholes("at_ns")?, frame.wholes("node")?);
    let (kinds, begins) = (frame.texts("kind")?, frame.flags("begins")?);
    let mut open: BTreeMap<(String, Option<i64>), i64> = BTreeMap::new();
    let mut splits = Vec::new();
    for ((at, node), (kind, begins)) in at.into_iter().zip(nodes).zip(kinds.into_iter().zip(begins)) {
        let Some(kind) = kind.filter(|kind| kind == "partition" || kind == "isolate") else { continue };
        if begins == Some(true) {
            open.entry((kind, node)).or_insert(at);
        } else if let Some(from) = open.remove(&(kind, node)) {
            splits.push(Split { node, from, to: at });
        }
    }
    Ok(splits)
}

/// How long after the heal what was held up by a split was shown; each delivery counts once, for the last split it met.
fn healed(deliveries: &[Delivery], splits: &[Split]) -> Vec<f64> {
    let held = |row: &Delivery, split: &&Split| {
        let concerns = split.node.is_none_or(|node| node == row.node || node == row.origin);
        concerns && (split.from..split.to).contains(&row.begun) && row.shown >= split.to
    };
    let last = |row: &Delivery| splits.iter().filter(|split| held(row, split)).map(|split| split.to).max();
    let mut delays: Vec<f64> = deliveries.iter().filter_map(|row| last(row).map(|heal| s(row.shown - heal))).collect();
    delays.sort_by(f64::total_cmp);
    delays
}

fn extremities(folder: &Path, setup: f64) -> Result<Vec<(f64, f64, f64)>, TableError> {
    let frame = Frame::open(&folder.join("samples.parquet"))?;
    let mut by_time: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for (at, many) in frame.all_wholes("at_ns")?.into_iter().zip(frame.all_wholes("extremities")?) {
        by_time.entry(at).or_default().push(many);
    }
    let rows = by_time.into_iter().map(|(at, many)| {
        let mean = many.iter().sum::<i64>() as f64 / many.len() as f64;
        (s(at) - setup, mean, many.iter().max().copied().unwrap_or(0) as f64)
    });
    Ok(rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(origin: i64, node: i64, begun: i64, shown: i64) -> Delivery {
        Delivery { origin, node, begun: begun * 1_000_000_000, shown: shown * 1_000_000_000 }
    }

    #[test]
    fn what_was_sent_while_apart_counts_from_the_heal() {
        let s = 1_000_000_000;
        let splits =
            [Split { node: None, from: 10 * s, to: 20 * s }, Split { node: Some(3), from: 30 * s, to: 40 * s }];
        let rows = [
            delivery(0, 1, 12, 23),
            delivery(0, 1, 12, 13), // on the same side
            delivery(0, 1, 5, 25),  // sent before
            delivery(0, 3, 32, 41),
            delivery(0, 1, 32, 45), // not about node 3
        ];
        assert_eq!(healed(&rows, &splits), [1.0, 3.0]);
    }

    #[test]
    fn a_folder_that_is_none_is_an_error_with_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let error = load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("manifest.json"), "{error}");
        std::fs::write(folder.path().join("manifest.json"), "{\"scenario\": 3}").unwrap();
        std::fs::write(folder.path().join("summary.json"), "{}").unwrap();
        let error = load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("manifest.json") && error.contains("\"scenario\" is not there, or no text"), "{error}");
        std::fs::write(folder.path().join("manifest.json"), "{\"scenario\"").unwrap();
        let error = load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("manifest.json") && error.contains("EOF"), "{error}");
    }
}
