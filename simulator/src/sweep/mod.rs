//! Many runs of a scenario with some of its keys changed: a plan of numbered jobs, a job, and what all of them gave.
//!
//! There is no scheduler here: whatever starts processes with numbers will do (`simulator/templates/`). A job writes into a folder
//! that nobody looks at, and gives it its name when it is whole; one that is done is not done again. So jobs may be started twice,
//! killed, and started again, on one machine or on many that share a folder.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`mod@plan`] | reads a sweep file, and makes the folder with the numbered jobs |
//! | [`mod@job`] | does one |
//! | [`mod@collect`] | gathers the summaries, and names what is missing |
//! | [`mod@figure`] | draws a number of the summaries against a key |

pub mod collect;
pub mod figure;
pub mod job;
pub mod plan;

use std::path::{Path, PathBuf};

pub use self::collect::{Collected, collect};
pub use self::figure::{Figure, figure};
pub use self::job::{Done, job};
pub use self::plan::{Job, Plan, plan};

use crate::tables::TableError;

/// Why a sweep cannot go on. Each names the file.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// A file or folder cannot be read or written.
    #[error("{}: {cause}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// A file that does not say what it must.
    #[error("{}: {wrong}", .path.display())]
    Wrong {
        /// Which.
        path: PathBuf,
        /// What is wrong, with the key.
        wrong: String,
    },
    /// There is no such job.
    #[error("{}: there is no job {number}; they are counted from 0 to {last}", .path.display())]
    NoJob {
        /// The plan.
        path: PathBuf,
        /// The number that was asked for.
        number: u32,
        /// The last number there is.
        last: u32,
    },
    /// A job's run failed. It may be tried again.
    #[error("job {number}: {cause}")]
    Run {
        /// Its number.
        number: u32,
        /// Why.
        cause: String,
    },
    /// The table of the results cannot be written.
    #[error(transparent)]
    Table(#[from] TableError),
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> SweepError + '_ {
    move |cause| SweepError::File { path: path.to_owned(), cause }
}

fn wrong(path: &Path, wrong: impl ToString) -> SweepError {
    SweepError::Wrong { path: path.to_owned(), wrong: wrong.to_string() }
}

/// The folder of a job's results.
fn results(folder: &Path, number: u32) -> PathBuf {
    folder.join("jobs").join(format!("{number:06}"))
}

/// Where it is noted why a job failed.
fn failure(folder: &Path, number: u32) -> PathBuf {
    folder.join("jobs").join(format!("{number:06}.failed"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::scenario::Scenario;

    const SCENARIO: &str = "version = 1\nname = \"small\"\nduration_s = 10\n[nodes]\ncount = 3\n[[workload]]\nkind = \"poisson\"\n\
                            rate_per_s = 1\n";
    const SWEEP: &str = "version = 1\nscenario = \"small.toml\"\nseeds = { from = 5, count = 2 }\n[matrix]\n\
                         \"network.loss\" = [0, 0.1]\n\"workload.0.rate_per_s\" = [1, 2, 3]\n";

    fn files(sweep: &str) -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("small.toml"), SCENARIO).unwrap();
        let file = folder.path().join("sweep.toml");
        fs::write(&file, sweep).unwrap();
        let out = folder.path().join("out");
        (folder, file, out)
    }

    /// A run that leaves only what is collected.
    fn pretended(scenario: &Scenario, seed: u64, folder: &Path) -> Result<(), String> {
        let summary = format!(
            "{{\"events\": {}, \"delivery_ms\": {{\"p50\": {}}}, \"seed\": {seed}}}",
            seed * 10,
            scenario.network.loss
        );
        fs::write(folder.join("summary.json"), summary).unwrap();
        let manifest = format!("{{\"seed\": {seed}, \"digest\": \"d{seed}\", \"passed\": {}}}", seed != 6);
        fs::write(folder.join("manifest.json"), manifest).unwrap();
        Ok(())
    }

    #[test]
    fn a_plan_has_a_job_for_each_point_and_seed_in_a_fixed_order() {
        let (_folder, file, out) = files(SWEEP);
        let made = plan(&file, &out).unwrap();
        assert_eq!(made.jobs.len(), 12);
        let (first, last) = (&made.jobs[0], &made.jobs[11]);
        assert_eq!((first.job, first.point, first.seed), (0, 0, 5));
        assert_eq!((last.job, last.point, last.seed), (11, 5, 6));
        assert_eq!(last.keys["network.loss"], 0.1);
        let scenario = crate::scenario::load(&out.join("points/0005.toml")).unwrap();
        assert_eq!(scenario.network.loss, 0.1);
        assert_eq!(scenario.name, "small loss=0.1 rate_per_s=3");
        let bytes = fs::read(out.join("plan.json")).unwrap();
        assert_eq!(plan(&file, &out).unwrap(), made, "the same plan may be made again");
        assert!(fs::read(out.join("plan.json")).unwrap() == bytes);
    }

    #[test]
    fn a_folder_with_another_plan_is_left_alone() {
        let (_folder, file, out) = files(SWEEP);
        plan(&file, &out).unwrap();
        fs::write(&file, SWEEP.replace("count = 2", "count = 3")).unwrap();
        let error = plan(&file, &out).unwrap_err().to_string();
        assert!(error.contains("plan.json") && error.contains("another plan"), "{error}");
    }

    #[test]
    fn wrong_sweep_files_are_refused_with_file_and_key() {
        let refusal = |sweep: &str| {
            let (_folder, file, out) = files(sweep);
            let error = plan(&file, &out).unwrap_err().to_string();
            assert!(!out.exists(), "nothing is made");
            error
        };
        let error = refusal(&SWEEP.replace("network.loss", "network.los"));
        assert!(error.contains("sweep.toml") && error.contains("network.los") && error.contains("`loss`"), "{error}");
        let error = refusal(&SWEEP.replace("[0, 0.1]", "[0, 7]"));
        assert!(error.contains("network.loss") && error.contains("share from 0 to 1"), "{error}");
        let error = refusal(&SWEEP.replace("workload.0", "workload.9"));
        assert!(error.contains("workload.9.rate_per_s"), "{error}");
        let error = refusal(&SWEEP.replace("[1, 2, 3]", "[]"));
        assert!(error.contains("workload.0.rate_per_s") && error.contains("no values"), "{error}");
        let error = refusal(&SWEEP.replace("seeds =", "seed ="));
        assert!(error.contains("sweep.toml") && error.contains("unknown field `seed`"), "{error}");
        let error = refusal(&SWEEP.replace("count = 2", "count = 0"));
        assert!(error.contains("seeds.count"), "{error}");
        let error = refusal(&SWEEP.replace("small.toml", "nothing.toml"));
        assert!(error.contains("nothing.toml"), "{error}");
        let error = refusal(&SWEEP.replace("version = 1", "version = 2"));
        assert!(error.contains("version"), "{error}");
    }

    #[test]
    fn a_job_that_is_done_is_not_done_again() {
        let (_folder, file, out) = files(SWEEP);
        plan(&file, &out).unwrap();
        let mut runs = 0;
        for _ in 0..3 {
            let mut run = |scenario: &Scenario, seed, folder: &Path| {
                runs += 1;
                pretended(scenario, seed, folder)
            };
            job(&out, 7, &mut run).unwrap();
        }
        assert_eq!(runs, 1);
        assert!(matches!(job(&out, 7, &mut pretended).unwrap(), Done::Before));
        let error = job(&out, 12, &mut pretended).unwrap_err().to_string();
        assert!(error.contains("no job 12") && error.contains("0 to 11"), "{error}");
    }

    #[test]
    fn a_job_that_breaks_off_leaves_no_results_and_may_be_tried_again() {
        let (_folder, file, out) = files(SWEEP);
        plan(&file, &out).unwrap();
        let mut half = |_: &Scenario, _, folder: &Path| {
            fs::write(folder.join("summary.json"), "{").unwrap();
            Err("the nodes never came up".to_owned())
        };
        let error = job(&out, 3, &mut half).unwrap_err().to_string();
        assert!(error.contains("job 3") && error.contains("never came up"), "{error}");
        assert_eq!(fs::read_dir(out.join("jobs")).unwrap().count(), 1, "only the note why");
        let collected = collect(&out, false).unwrap();
        assert_eq!(collected.failed, [(3, "the nodes never came up".to_owned())]);
        assert!(matches!(job(&out, 3, &mut pretended).unwrap(), Done::Now));
        assert_eq!(collect(&out, false).unwrap().failed, []);
    }

    #[test]
    fn a_figure_has_a_curve_for_each_value_of_a_key_and_says_what_it_cannot_draw() {
        let (folder, file, out) = files(SWEEP);
        plan(&file, &out).unwrap();
        let mut wanted = Figure { x: "network.loss".into(), y: "events".into(), ..Figure::default() };
        let error = figure(&out, &wanted, &folder.path().join("nothing")).unwrap_err().to_string();
        assert!(error.contains("no job that is done") && error.contains("\"events\""), "{error}");
        (0..12).for_each(|number| assert_eq!(job(&out, number, &mut pretended).unwrap(), Done::Now));
        wanted.by = Some("workload.0.rate_per_s".into());
        let written = figure(&out, &wanted, &folder.path().join("events")).unwrap();
        let text = fs::read_to_string(&written[0]).unwrap();
        assert!(written[1].ends_with("events.png") && roxmltree::Document::parse(&text).is_ok());
        // Letters are drawn, so that curves are counted by their colours.
        let colours: std::collections::BTreeSet<&str> =
            text.split("stroke=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(["#0072b2", "#d55e00", "#009e73"].iter().all(|colour| colours.contains(colour)), "{colours:?}");
        for (x, y, told) in [("nodes.count", "events", "does not change"), ("network.loss", "evnts", "\"evnts\"")] {
            let wrong = Figure { x: x.into(), y: y.into(), ..Figure::default() };
            let error = figure(&out, &wrong, &folder.path().join("nothing")).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
        assert!(!folder.path().join("nothing.svg").exists());
    }

    #[test]
    fn results_are_gathered_and_what_is_missing_is_named() {
        let (_folder, file, out) = files(SWEEP);
        plan(&file, &out).unwrap();
        for number in (0..12).filter(|number| *number != 4) {
            job(&out, number, &mut pretended).unwrap();
        }
        let collected = collect(&out, true).unwrap();
        assert_eq!(collected.missing, [4]);
        assert_eq!(collected.not_passed, [1, 3, 5, 7, 9, 11], "seed 6 breaks an invariant");
        assert!(!collected.is_whole());
        let frame = crate::tables::Frame::open(&out.join("results.parquet")).unwrap();
        assert_eq!(frame.all_wholes("job").unwrap(), [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]);
        assert_eq!(frame.all_reals("network.loss").unwrap()[5], 0.1, "by numbers, as all of its values are numbers");
        assert_eq!(frame.all_reals("summary.delivery_ms.p50").unwrap()[10], 0.1);
        assert_eq!(frame.all_reals("summary.events").unwrap()[0], 50.0);
        let csv = fs::read_to_string(out.join("results.csv")).unwrap();
        assert!(csv.starts_with("job,seed,passed,digest,network.loss,workload.0.rate_per_s,summary."), "{csv}");
        assert_eq!(csv.lines().count(), 12);
    }

    #[test]
    fn damaged_results_are_told_with_their_file() {
        let (_folder, file, out) = files(SWEEP);
        plan(&file, &out).unwrap();
        job(&out, 0, &mut pretended).unwrap();
        fs::write(out.join("jobs/000000/summary.json"), "{\"events\":").unwrap();
        let collected = collect(&out, false).unwrap();
        assert!(collected.failed[0].1.contains("summary.json"), "{:?}", collected.failed);
        fs::write(out.join("plan.json"), "{}").unwrap();
        let error = collect(&out, false).unwrap_err().to_string();
        assert!(error.contains("plan.json") && error.contains("version"), "{error}");
    }
}
