//! Does one job of a sweep.

use std::fs;
use std::path::Path;

use super::{SweepError, at, failure, plan, results, wrong};
use crate::scenario::{self, Scenario};

/// When a job was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// Its results are new.
    Now,
    /// They were there already, whole.
    Before,
}

/// Runs a scenario with a seed, and writes the results into a folder.
pub type Runner<'a> = &'a mut dyn FnMut(&Scenario, u64, &Path) -> Result<(), String>;

/// Does a job, unless it is done. Its results are there as a whole or not at all. A run that breaks an invariant is done as well:
/// [`super::collect()`] tells of it.
///
/// # Errors
/// When the plan cannot be read, there is no such job, or its run fails; why is noted for [`super::collect()`].
pub fn job(folder: &Path, number: u32, run: Runner<'_>) -> Result<Done, SweepError> {
    let plan = plan::read(folder)?;
    let Some(job) = plan.jobs.get(number as usize) else {
        let last = u32::try_from(plan.jobs.len()).unwrap_or(u32::MAX).saturating_sub(1);
        return Err(SweepError::NoJob { path: folder.join("plan.json"), number, last });
    };
    let place = results(folder, number);
    if place.join("manifest.json").exists() {
        return Ok(Done::Before);
    }
    let path = plan::point(folder, job.point);
    let scenario = scenario::load(&path).map_err(|error| wrong(&path, error))?;
    let jobs = folder.join("jobs");
    fs::create_dir_all(&jobs).map_err(at(&jobs))?;
    // Beside its place, so that it only has to be renamed; removed if the run fails. What a kill leaves has a name of its own.
    let prefix = format!("{number:06}.part-");
    let part = tempfile::Builder::new().prefix(&prefix).tempdir_in(&jobs).map_err(at(&jobs))?;
    let note = failure(folder, number);
    // A folder in it: the temporary one is for its owner's eyes only.
    let made = part.path().join("run");
    fs::create_dir(&made).map_err(at(&made))?;
    if let Err(cause) = run(&scenario, job.seed, &made) {
        fs::write(&note, &cause).map_err(at(&note))?;
        return Err(SweepError::Run { number, cause });
    }
    let done = match fs::rename(&made, &place) {
        Ok(()) => Done::Now,
        // The same job, started twice, was done elsewhere meanwhile.
        Err(_) if place.join("manifest.json").exists() => Done::Before,
        Err(error) => return Err(at(&place)(error)),
    };
    match fs::remove_file(&note) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(at(&note)(error)),
        _ => Ok(done),
    }
}
