//! Figures of runs, as SVG and PNG: delivery latency, what comes after a heal, bytes and repeated events by node, extremities.
//!
//! Runs of one scenario are one group, drawn in one colour: each curve is the mean over the group's seeds, with the 95 % confidence
//! interval of that mean as a pale band ([`stats::confidence`]).
//!
//! | module | what it does |
//! | --- | --- |
//! | [`load`] | reads a run's folder |
//! | [`stats`] | distributions, quantiles and confidence intervals |
//! | [`chart`], [`letters`] | lays a figure out |
//! | [`draw`] | makes SVG and PNG of it |

pub mod chart;
pub mod draw;
pub mod letters;
pub mod load;
pub mod stats;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use self::chart::{Axis, Chart, Curve, Point, Scale};
use self::load::{LoadError, Run};
use self::stats::{Interval, confidence, quantile, share_up_to};

/// Places at which distributions are drawn.
const STEPS: usize = 240;
/// The shortest time on a logarithmic axis, in seconds.
const SHORTEST: f64 = 1e-3;

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// A run cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// No run is given.
    #[error("there is nothing to plot: name the folders of some runs")]
    Nothing,
    /// A file cannot be written.
    #[error("{}: {cause}", .path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: String,
    },
}

/// Draws all figures of some runs into a folder, which is made. Gives the files that were written.
///
/// # Errors
/// When a run cannot be read, or a file not written.
pub fn plot(runs: &[PathBuf], out: &Path) -> Result<Vec<PathBuf>, PlotError> {
    let runs = runs.iter().map(|folder| load::load(folder)).collect::<Result<Vec<Run>, _>>()?;
    if runs.is_empty() {
        return Err(PlotError::Nothing);
    }
    std::fs::create_dir_all(out).map_err(|error| failed(out, error.to_string()))?;
    let mut written = Vec::new();
    for (name, chart) in charts(&runs) {
        written.extend(write_chart(&chart, &out.join(name))?);
    }
    Ok(written)
}

fn failed(path: &Path, cause: String) -> PlotError {
    PlotError::Write { path: path.to_owned(), cause }
}

/// Writes a chart as `<out>.svg` and `<out>.png`. Gives the files.
///
/// # Errors
/// When a file cannot be written.
pub fn write_chart(chart: &Chart, out: &Path) -> Result<Vec<PathBuf>, PlotError> {
    let marks = chart.marks();
    let image = draw::png(&marks).map_err(|error| failed(out, error))?;
    let mut written = Vec::new();
    for (ending, bytes) in [("svg", draw::svg(&marks, &chart.title).into_bytes()), ("png", image)] {
        let path = PathBuf::from(format!("{}.{ending}", out.display()));
        std::fs::write(&path, bytes).map_err(|error| failed(&path, error.to_string()))?;
        written.push(path);
    }
    Ok(written)
}

/// All figures of some runs, with the names of their files.
pub fn charts(runs: &[Run]) -> Vec<(&'static str, Chart)> {
    let mut by_name: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
    for run in runs {
        by_name.entry(&run.scenario).or_default().push(run);
    }
    let groups: Vec<Group<'_>> =
        by_name.into_iter().enumerate().map(|(colour, (name, runs))| Group { name, runs, colour }).collect();
    vec![
        ("latency", latency(&groups)),
        ("heal", heal(&groups)),
        ("bytes", bytes(&groups)),
        ("repeated", repeated(&groups)),
        ("extremities", extremities(&groups)),
    ]
}

/// The runs of one scenario.
struct Group<'a> {
    name: &'a str,
    runs: Vec<&'a Run>,
    colour: usize,
}

impl Group<'_> {
    fn curve(&self, what: &str, dashed: bool, points: Vec<Point>) -> Curve {
        // What tells the curves of a group apart stands first: long names are cut at their ends.
        let what = if what.is_empty() { String::new() } else { format!("{what}: ") };
        Curve { label: format!("{what}{}", self.name), colour: self.colour, dashed, points }
    }

    /// Mean and interval at each place, over the seeds that have a value there; within the bounds.
    fn points(&self, places: &[f64], bounds: (f64, f64), value: impl Fn(&Run, usize) -> Option<f64>) -> Vec<Point> {
        let at = |(index, x): (usize, &f64)| {
            let values: Vec<f64> = self.runs.iter().filter_map(|run| value(run, index)).collect();
            let Interval { mean, low, high } = confidence(&values)?;
            Some(Point { x: *x, y: mean, low: low.max(bounds.0), high: high.min(bounds.1) })
        };
        places.iter().enumerate().filter_map(at).collect()
    }
}

/// How many runs are behind the figure, and what the bands are.
fn told(groups: &[Group<'_>], what: &str) -> String {
    let fewest = groups.iter().map(|group| group.runs.len()).min().unwrap_or(0);
    let most = groups.iter().map(|group| group.runs.len()).max().unwrap_or(0);
    let runs = if fewest == most { most.to_string() } else { format!("{fewest} to {most}") };
    match most {
        0 | 1 => format!("{what}\none run"),
        _ => format!(
            "{what}\nmean over {runs} runs; band: {} confidence interval of it (Student's t)",
            stats::CONFIDENCE
        ),
    }
}

/// Distributions of times, on a logarithmic axis.
fn distribution(
    groups: &[Group<'_>],
    times: impl Fn(&Run) -> &[f64],
    title: &str,
    about: &str,
    x: &str,
    empty: &str,
) -> Chart {
    let all = || groups.iter().flat_map(|group| &group.runs).flat_map(|run| times(run));
    let low = all().copied().fold(f64::INFINITY, f64::min).max(SHORTEST);
    let high = all().copied().fold(0.0, f64::max).max(low * 10.0);
    let ends = if low.is_finite() { (low, high) } else { (SHORTEST, 1.0) };
    let places: Vec<f64> =
        (0..=STEPS).map(|step| ends.0 * (ends.1 / ends.0).powf(step as f64 / STEPS as f64)).collect();
    let share = |run: &Run, index: usize| share_up_to(times(run), *places.get(index)?);
    let curves = groups.iter().map(|group| group.curve("", false, group.points(&places, (0.0, 1.0), share))).collect();
    Chart {
        title: title.to_owned(),
        subtitle: told(groups, about),
        x: Axis { label: x.to_owned(), scale: Scale::Log, ends, loose: false, whole: false },
        y: Axis {
            label: "share of deliveries".to_owned(),
            scale: Scale::Linear,
            ends: (0.0, 1.0),
            loose: false,
            whole: false,
        },
        curves,
        empty: empty.to_owned(),
    }
}

fn latency(groups: &[Group<'_>]) -> Chart {
    let mut all: Vec<f64> = groups.iter().flat_map(|group| &group.runs).flat_map(|run| run.latencies.clone()).collect();
    all.sort_by(f64::total_cmp);
    let told =
        [0.5, 0.95, 0.99].map(|share| quantile(&all, share).map_or("-".to_owned(), |value| format!("{value:.3} s")));
    let [half, most, nearly] = told;
    distribution(
        groups,
        |run| &run.latencies,
        "How long events take to the other nodes",
        &format!("median {half}, 95 % in {most}, 99 % in {nearly}"),
        "time from sending to being shown on another node (s)",
        "No event was shown on another node than its own.",
    )
}

fn heal(groups: &[Group<'_>]) -> Chart {
    distribution(
        groups,
        |run| &run.healed,
        "How fast nodes catch up after a heal",
        "what was sent while the network was apart and is shown after",
        "time from the end of the partition or isolation to being shown (s)",
        "No partition or isolation of these runs held anything up.",
    )
}

fn linear(label: &str, ends: (f64, f64), loose: bool) -> Axis {
    let ends = if ends.1 > ends.0 { ends } else { (ends.0, ends.0 + 1.0) };
    Axis { label: label.to_owned(), scale: Scale::Linear, ends, loose, whole: false }
}

/// The greatest value of some curves, for the axis.
fn top(curves: &[Curve]) -> f64 {
    curves.iter().flat_map(|curve| &curve.points).map(|point| point.high.max(point.y)).fold(0.0, f64::max)
}

/// A curve over nodes, ordered by their values.
fn by_rank(group: &Group<'_>, what: &str, dashed: bool, factor: f64, most: f64, of: impl Fn(&Run) -> &[f64]) -> Curve {
    let count = group.runs.iter().map(|run| of(run).len()).max().unwrap_or(0);
    let ranks: Vec<f64> = (1..=count).map(|rank| rank as f64).collect();
    group.curve(
        what,
        dashed,
        group.points(&ranks, (0.0, most), |run, index| of(run).get(index).map(|value| value / factor)),
    )
}

fn ranks(curves: &[Curve]) -> Axis {
    let count = curves.iter().map(|curve| curve.points.len()).max().unwrap_or(0);
    Axis { whole: true, ..linear("node, the one with most first", (1.0, count as f64), false) }
}

fn bytes(groups: &[Group<'_>]) -> Chart {
    let all = groups.iter().flat_map(|group| &group.runs).flat_map(|run| run.sent.iter().chain(&run.received));
    let (factor, unit) = match all.copied().fold(0.0, f64::max) {
        most if most >= 2e9 => (1e9, "GB"),
        most if most >= 2e6 => (1e6, "MB"),
        most if most >= 2e3 => (1e3, "kB"),
        _ => (1.0, "B"),
    };
    let mut curves = Vec::new();
    for group in groups {
        curves.push(by_rank(group, "sent", false, factor, f64::INFINITY, |run| &run.sent));
        curves.push(by_rank(group, "received", true, factor, f64::INFINITY, |run| &run.received));
    }
    Chart {
        title: "Bytes per node".to_owned(),
        subtitle: told(
            groups,
            "requests and answers that arrived, in the whole run; sent and received ordered each by itself",
        ),
        x: ranks(&curves),
        y: linear(&format!("bytes of a node ({unit})"), (0.0, top(&curves)), true),
        curves,
        empty: "The runs have no nodes.".to_owned(),
    }
}

fn repeated(groups: &[Group<'_>]) -> Chart {
    let curves: Vec<Curve> =
        groups.iter().map(|group| by_rank(group, "", false, 1.0, 100.0, |run| &run.repeated)).collect();
    Chart {
        title: "Events that a node was sent more than once".to_owned(),
        subtitle: told(groups, "of all events that arrived at it in transactions"),
        x: ranks(&curves),
        y: linear("repeated events (%)", (0.0, top(&curves)), true),
        curves,
        empty: "No event arrived in a transaction.".to_owned(),
    }
}

fn extremities(groups: &[Group<'_>]) -> Chart {
    let mut curves = Vec::new();
    for group in groups {
        // All seeds are sampled at the same distances from the moment at which users begin.
        let longest = group.runs.iter().map(|run| &run.extremities).max_by_key(|samples| samples.len());
        let times: Vec<f64> =
            longest.map(|samples| samples.iter().map(|sample| sample.0).collect()).unwrap_or_default();
        let of = |pick: fn(&(f64, f64, f64)) -> f64| {
            group.points(&times, (0.0, f64::INFINITY), move |run, index| run.extremities.get(index).map(pick))
        };
        curves.push(group.curve("mean", false, of(|sample| sample.1)));
        curves.push(group.curve("most", true, of(|sample| sample.2)));
    }
    let last = curves.iter().filter_map(|curve| curve.points.last()).map(|point| point.x).fold(0.0, f64::max);
    Chart {
        title: "Forward extremities over time".to_owned(),
        subtitle: told(groups, "mean and greatest number of a room on a node"),
        x: linear("time since users began (s)", (0.0, last), false),
        y: linear("forward extremities", (0.0, top(&curves)), true),
        curves,
        empty: "These runs have no samples; none are taken with more than 200 nodes.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(scenario: &str, seed: u64) -> Run {
        let spread = 1.0 + (seed % 5) as f64 / 10.0;
        let falling = |of: f64| (0..8).map(|rank| of * spread / f64::from(rank + 1)).collect::<Vec<f64>>();
        Run {
            scenario: scenario.to_owned(),
            seed,
            latencies: (1..200).map(|turn| 0.002 * spread * 1.05_f64.powi(turn)).collect(),
            healed: (1..50).map(|turn| 0.1 * spread * f64::from(turn)).collect(),
            sent: falling(3e6),
            received: falling(2e6),
            repeated: falling(40.0),
            extremities: (1..100).map(|turn| (f64::from(turn), spread, 2.0 * spread)).collect(),
        }
    }

    fn runs() -> Vec<Run> {
        ["a & <b>", "c"].iter().flat_map(|name| (1..6).map(|seed| run(name, seed))).collect()
    }

    #[test]
    fn every_figure_is_good_xml_and_a_png_that_decodes() {
        for runs in [runs(), vec![Run { scenario: "nothing".to_owned(), ..Run::default() }]] {
            for (name, chart) in charts(&runs) {
                let marks = chart.marks();
                let text = draw::svg(&marks, &chart.title);
                let document = roxmltree::Document::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(document.root_element().tag_name().name(), "svg");
                assert!(!text.contains("NaN") && !text.contains("inf"), "{name}");
                let image = draw::png(&marks).unwrap();
                let mut reader = png::Decoder::new(std::io::Cursor::new(&image)).read_info().unwrap();
                let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
                let frame = reader.next_frame(&mut pixels).unwrap();
                assert_eq!((frame.width, frame.height), (1920, 1080));
                assert!(pixels.iter().any(|value| *value < 0x80), "{name}: something is drawn");
            }
        }
    }

    #[test]
    fn the_same_runs_give_the_same_bytes() {
        let all = || -> Vec<(String, Vec<u8>)> {
            let figures = charts(&runs()).into_iter().map(|(_, chart)| chart.marks());
            figures.map(|marks| (draw::svg(&marks, "x"), draw::png(&marks).unwrap())).collect()
        };
        assert!(all() == all());
    }

    #[test]
    fn curves_are_means_over_seeds_with_their_intervals() {
        let (_, chart) = charts(&runs()).into_iter().find(|(name, _)| *name == "extremities").unwrap();
        assert_eq!(chart.curves.len(), 4, "two groups, each with mean and most");
        let point = chart.curves[0].points[10];
        // Spreads of seeds 1 to 5: 1.1, 1.2, 1.3, 1.4, 1.0.
        let right = confidence(&[1.1, 1.2, 1.3, 1.4, 1.0]).unwrap();
        assert!((point.y - right.mean).abs() < 1e-9 && (point.low - right.low).abs() < 1e-9, "{point:?}");
        assert!(chart.subtitle.contains("5 runs") && chart.subtitle.contains("95 % confidence interval"));
    }

    #[test]
    fn a_distribution_rises_from_nothing_to_all() {
        let (_, chart) = charts(&runs()).into_iter().find(|(name, _)| *name == "latency").unwrap();
        for curve in &chart.curves {
            assert!(curve.points.windows(2).all(|pair| pair[0].y <= pair[1].y));
            assert!(curve.points[0].y < 0.02 && curve.points[STEPS].y > 0.999);
            assert!(curve.points.iter().all(|point| point.low >= 0.0 && point.high <= 1.0));
        }
    }

    #[test]
    fn one_run_is_drawn_without_a_band() {
        let (_, chart) = charts(&[run("alone", 1)]).into_iter().next().unwrap();
        assert!(chart.subtitle.ends_with("one run"));
        assert!(chart.curves[0].points.iter().all(|point| point.low == point.high));
    }
}
