//! The progress line: the only place where real time is looked at, which the run never sees.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use kith_simulator::run::{Outcome, Progress};

/// How often the line is written anew.
const EVERY: Duration = Duration::from_millis(500);

/// A line on a terminal; elsewhere one when the run is over.
pub struct Line {
    quiet: bool,
    begun: Instant,
    shown: Instant,
}

#[allow(clippy::disallowed_methods, reason = "the progress line is about real time")]
fn now() -> Instant {
    Instant::now()
}

impl Line {
    pub fn new(quiet: bool) -> Self {
        Self { quiet, begun: now(), shown: now() }
    }

    pub fn show(&mut self, progress: Progress) {
        if self.quiet || !std::io::stderr().is_terminal() || self.shown.elapsed() < EVERY {
            return;
        }
        self.shown = now();
        let seconds = self.begun.elapsed().as_secs_f64();
        let (at, until) = (progress.now as f64 / 1e9, progress.until as f64 / 1e9);
        let (phase, happened) = (progress.phase, progress.happened);
        let mut stderr = std::io::stderr().lock();
        let _ = write!(
            stderr,
            "\r{phase:?}: {at:.0} of {until:.0} virtual s, {happened} entries, {:.0} times real time   ",
            at / seconds
        );
        let _ = stderr.flush();
    }

    pub fn end(&mut self, outcome: Option<&Outcome>) {
        if self.quiet {
            return;
        }
        let seconds = self.begun.elapsed().as_secs_f64();
        if let Some(outcome) = outcome {
            let deliveries = outcome.record.lock().deliveries.len();
            eprintln!(
                "\r{seconds:.1} s: {deliveries} deliveries, {:.0} a second; {} entries, {:.0} a second       ",
                deliveries as f64 / seconds,
                outcome.happened,
                outcome.happened as f64 / seconds
            );
        }
    }
}
