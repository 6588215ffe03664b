//! One figure of a whole sweep: a number of the summaries against a key that was changed, with a curve for each value of another.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{SweepError, collect, plan, results, wrong};
use crate::plot::chart::{Axis, Chart, Curve, Point, Scale};
use crate::plot::stats::{CONFIDENCE, confidence};
use crate::plot::{PlotError, write_chart};

/// What is drawn.
#[derive(Debug, Clone, Default)]
pub struct Figure {
    /// The key along the axis below. Its values are numbers.
    pub x: String,
    /// The number of the summary, with dots: `delivery_ms.p50`, `mean_extremities`.
    pub y: String,
    /// The key whose values have a curve each.
    pub by: Option<String>,
    /// A curve that is known, beside each that was measured.
    pub known: Option<Known>,
    /// Whether the axes are divided by powers of ten.
    pub log: (bool, bool),
}

/// Curves that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Known {
    /// The width of an event graph in which k writers at a time (the key of `--x`) cite d random extremities each (that of `--by`).
    GraphWidth,
}

impl Known {
    fn value(self, x: f64, by: f64) -> Option<f64> {
        match self {
            Self::GraphWidth => graph_width(x, by),
        }
    }
}

/// The width u at which an event graph settles: the number of extremities with u (1 − (1 − d/u)^k) = k, where in each round k
/// writers, none of whom has heard of the others, cite d of the extremities each, drawn at random. `None` if d is not above 1:
/// then it does not settle.
///
/// Jacob, Beer, Henze, Hartenstein: *Analysis of the Matrix Event Graph Replicated Data Type* (IEEE Access 9, 2021).
pub fn graph_width(k: f64, d: f64) -> Option<f64> {
    if k < 1.0 || d <= 1.0 {
        return None;
    }
    // All extremities are cited while there are no more than d. Above, what is cited grows with u, towards k d.
    let cited = |u: f64| u * (1.0 - (1.0 - (d / u).min(1.0)).powf(k));
    let (mut low, mut high) = (k, k);
    while cited(high) < k {
        high *= 2.0;
        if !high.is_finite() {
            return None;
        }
    }
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if cited(middle) < k { low = middle } else { high = middle }
    }
    Some(high)
}

/// Draws a figure of what is done of a sweep, as `<out>.svg` and `<out>.png`. Gives the files.
///
/// # Errors
/// The plan or a result cannot be read, has no such key or number, or a file cannot be written.
pub fn figure(folder: &Path, figure: &Figure, out: &Path) -> Result<Vec<PathBuf>, SweepError> {
    let plan = plan::read(folder)?;
    for key in [Some(&figure.x), figure.by.as_ref()].into_iter().flatten() {
        if !plan.keys.contains(key) {
            return Err(wrong(folder, format!("the sweep does not change {key:?}, but {}", plan.keys.join(", "))));
        }
    }
    let mut values: BTreeMap<String, BTreeMap<u64, Vec<f64>>> = BTreeMap::new();
    let mut known_by = BTreeMap::new();
    for job in &plan.jobs {
        let place = results(folder, job.job);
        if !place.join("manifest.json").exists() {
            continue;
        }
        let (_, _, figures) = collect::read(&place).map_err(|reason| wrong(&place, reason))?;
        let Some(y) = figures.get(&format!("summary.{}", figure.y)) else { continue };
        let x = job.keys.get(&figure.x).and_then(Value::as_f64);
        let x = x.ok_or_else(|| wrong(folder, format!("{:?} is not a number in all jobs", figure.x)))?;
        let by = figure.by.as_ref().and_then(|key| job.keys.get(key));
        let label = match (&figure.by, by) {
            (Some(key), Some(value)) => format!("{} = {value}", key.rsplit('.').next().unwrap_or(key)),
            _ => "measured".to_owned(),
        };
        known_by.insert(label.clone(), by.and_then(Value::as_f64).unwrap_or_default());
        values.entry(label).or_default().entry(x.to_bits()).or_default().push(*y);
    }
    if values.is_empty() {
        return Err(wrong(folder, format!("no job that is done has a number {:?} in its summary", figure.y)));
    }
    let seeds = values.values().flat_map(BTreeMap::values).map(Vec::len).max().unwrap_or(0);
    let mut curves = Vec::new();
    for (colour, (label, places)) in values.iter().enumerate() {
        let point = |(x, values): (&u64, &Vec<f64>)| {
            let interval = confidence(values)?;
            Some(Point { x: f64::from_bits(*x), y: interval.mean, low: interval.low, high: interval.high })
        };
        let points: Vec<Point> = places.iter().filter_map(point).collect();
        let by = known_by.get(label).copied().unwrap_or_default();
        if let Some(known) = figure.known {
            let at = |point: &Point| {
                let y = known.value(point.x, by)?;
                Some(Point { x: point.x, y, low: y, high: y })
            };
            let points: Vec<Point> = points.iter().filter_map(at).collect();
            if !points.is_empty() {
                curves.push(Curve { label: format!("{label}, by the formula"), colour, dashed: true, points });
            }
        }
        curves.push(Curve { label: label.clone(), colour, dashed: false, points });
    }
    let axis = |label: &str, log: bool, of: fn(&Point) -> f64| {
        let all = || curves.iter().flat_map(|curve| &curve.points).map(of);
        let (least, most) = (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max));
        let ends = match log {
            true => (least.max(1e-9), most.max(least.max(1e-9) * 10.0)),
            false => (0.0, if most > 0.0 { most } else { 1.0 }),
        };
        let scale = if log { Scale::Log } else { Scale::Linear };
        Axis { label: label.to_owned(), scale, ends, loose: !log, whole: false }
    };
    let chart = Chart {
        title: format!("{} by {}", figure.y, figure.x),
        subtitle: format!("mean over {seeds} runs each\nband: {CONFIDENCE} confidence interval of it (Student's t)"),
        x: axis(&figure.x, figure.log.0, |point| point.x),
        y: axis(&figure.y, figure.log.1, |point| point.y),
        curves,
        empty: String::new(),
    };
    write_chart(&chart, out).map_err(|error| match error {
        PlotError::Write { path, cause } => wrong(&path, cause),
        other => wrong(out, other),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_width_is_that_of_the_paper() {
        let width = |k: f64, d: f64| graph_width(k, d).unwrap();
        assert!((width(10.0, 2.0) - 11.88).abs() < 0.01, "{}", width(10.0, 2.0));
        assert!((width(1e6, 2.0) / 1e6 - 1.255).abs() < 0.001);
        assert!((width(1e6, 5.0) / 1e6 - 1.007).abs() < 0.001);
        assert!((width(1.0, 2.0) - 1.0).abs() < 1e-6, "one writer merges all");
        assert_eq!((graph_width(10.0, 1.0), graph_width(0.0, 2.0)), (None, None));
    }
}
