//! Makes a failing run smaller: fewer nodes, then fewer rooms, fewer faults, less workload, as long as the same invariant is broken.
//!
//! Each attempt is a whole run with the same seed. What is left out moves the random numbers of what is not, so that a smaller
//! scenario may fail in another way or not at all; only such are kept in which the same invariant is broken. The number of runs
//! has a bound, and whatever is the smallest by then is the answer.

mod smaller;

use crate::scenario::{self, Scenario};

/// A run that is tried: whether the same invariant is broken in it.
pub type Fails<'a> = &'a mut dyn FnMut(&Scenario) -> bool;

/// What shrinking gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Shrunk {
    /// The smallest scenario that was found to fail.
    pub scenario: Scenario,
    /// Runs that it took.
    pub runs: u32,
    /// Whether nothing smaller fails, as far as it was tried; otherwise the bound on runs was reached.
    pub finished: bool,
}

/// Makes a scenario smaller that fails, in at most so many runs. `told` hears of each smaller one that fails, too.
pub fn shrink(scenario: &Scenario, most_runs: u32, fails: Fails<'_>, told: &mut dyn FnMut(&Scenario)) -> Shrunk {
    let mut search = Search { best: scenario.clone(), runs: 0, most_runs, fails, told };
    loop {
        let before = search.best.clone();
        search.nodes();
        search.rooms();
        search.faults();
        search.workload();
        if search.best == before || search.spent() {
            let finished = search.best == before && !search.spent();
            return Shrunk { scenario: search.best, runs: search.runs, finished };
        }
    }
}

struct Search<'a> {
    best: Scenario,
    runs: u32,
    most_runs: u32,
    fails: Fails<'a>,
    told: &'a mut dyn FnMut(&Scenario),
}

impl Search<'_> {
    fn spent(&self) -> bool {
        self.runs >= self.most_runs
    }

    /// Tries a scenario, and keeps it if it fails, too. One that is impossible or the same costs no run.
    fn try_one(&mut self, smaller: Scenario) -> bool {
        if self.spent() || smaller == self.best || !possible(&smaller) {
            return false;
        }
        self.runs += 1;
        let fails = (self.fails)(&smaller);
        if fails {
            self.best = smaller;
            (self.told)(&self.best);
        }
        fails
    }

    /// Makes a number as small as it goes, by ever smaller steps: first all of it, then the half, and so on.
    fn lower(&mut self, least: u32, get: impl Fn(&Scenario) -> u32, set: impl Fn(&Scenario, u32) -> Scenario) {
        let mut step = get(&self.best).saturating_sub(least);
        while step > 0 && !self.spent() {
            let value = get(&self.best);
            if value < least + step || !self.try_one(set(&self.best, value - step)) {
                step /= 2;
            }
        }
    }

    /// Leaves out parts of a list: first large ones, in the end single ones.
    fn thin(
        &mut self,
        least: usize,
        count: impl Fn(&Scenario) -> usize,
        without: impl Fn(&Scenario, usize, usize) -> Scenario,
    ) {
        let mut size = count(&self.best);
        while size > 0 && !self.spent() {
            // From the back: what comes later depends on what came before.
            let mut end = count(&self.best);
            while end > 0 {
                let begin = end.saturating_sub(size);
                if count(&self.best) - (end - begin) >= least {
                    self.try_one(without(&self.best, begin, end));
                }
                end = begin.min(count(&self.best));
            }
            size /= 2;
        }
    }

    fn nodes(&mut self) {
        self.lower(1, |scenario| scenario.nodes.count, smaller::with_nodes);
    }

    fn rooms(&mut self) {
        self.thin(1, |scenario| scenario.rooms.len(), smaller::without_rooms);
        for room in 0..self.best.rooms.len() {
            let members = move |scenario: &Scenario| {
                scenario.rooms.get(room).map_or(1, |room| room.members.unwrap_or(scenario.nodes.count))
            };
            self.lower(1, members, move |scenario, members| smaller::with_members(scenario, room, members));
            let moderators = move |scenario: &Scenario| scenario.rooms.get(room).map_or(1, |room| room.moderators);
            self.lower(1, moderators, move |scenario, moderators| smaller::with_moderators(scenario, room, moderators));
        }
    }

    fn faults(&mut self) {
        self.thin(
            0,
            |scenario| scenario.faults.len(),
            |scenario, begin, end| {
                let mut less = scenario.clone();
                less.faults.drain(begin..end);
                less
            },
        );
        for fault in 0..self.best.faults.len() {
            let moments =
                move |scenario: &Scenario| scenario.faults.get(fault).map_or(0, |fault| fault.when.at_s.len());
            self.thin(0, moments, move |scenario, begin, end| smaller::without_moments(scenario, fault, begin, end));
        }
    }

    fn workload(&mut self) {
        self.thin(
            0,
            |scenario| scenario.workload.len(),
            |scenario, begin, end| {
                let mut less = scenario.clone();
                less.workload.drain(begin..end);
                less
            },
        );
        // In whole seconds.
        self.lower(
            1,
            |scenario| scenario.duration_s.ceil() as u32,
            |scenario, duration_s| {
                let mut less = scenario.clone();
                less.duration_s = f64::from(duration_s).min(scenario.duration_s);
                less
            },
        );
    }
}

/// Whether a scenario can be run at all: what is cut away may have been needed by what is left.
fn possible(scenario: &Scenario) -> bool {
    toml::to_string(scenario).is_ok_and(|text| scenario::parse(&text).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::run;
    use crate::scenario::{Fault, What, Workload};

    fn everything() -> Scenario {
        scenario::parse(include_str!("../../scenarios/everything.toml")).unwrap()
    }

    fn shrunk(most_runs: u32, mut fails: impl FnMut(&Scenario) -> bool) -> Shrunk {
        shrink(&everything(), most_runs, &mut fails, &mut |_| ())
    }

    #[test]
    fn what_a_failure_needs_is_all_that_is_left() {
        let found = shrunk(1_000, |scenario| {
            let slow = scenario.faults.iter().any(|fault| matches!(fault.what, What::DiskSlow { .. }));
            let media = scenario.workload.iter().any(|load| matches!(load, Workload::Media { .. }));
            scenario.nodes.count >= 5 && slow && media && scenario.duration_s >= 42.0
        });
        assert!(found.finished);
        let scenario = found.scenario;
        assert_eq!((scenario.nodes.count, scenario.rooms.len(), scenario.duration_s), (5, 1, 42.0));
        assert!(matches!(scenario.faults[..], [Fault { what: What::DiskSlow { .. }, .. }]), "{:?}", scenario.faults);
        assert!(matches!(scenario.workload[..], [Workload::Media { .. }]), "{:?}", scenario.workload);
        assert_eq!(scenario.rooms[0].moderators, 1);
    }

    #[test]
    fn every_scenario_that_is_tried_can_be_run_and_the_runs_are_bounded() {
        let mut runs = 0;
        let found = shrunk(25, |scenario| {
            runs += 1;
            assert!(possible(scenario));
            runs % 3 == 0
        });
        assert_eq!((found.runs, runs), (25, 25));
        assert!(!found.finished);
    }

    #[test]
    fn what_cannot_be_smaller_stays_as_it_is() {
        let found = shrunk(1_000, |_| false);
        assert_eq!(found.scenario, everything());
        assert!(found.finished && found.runs > 20);
    }

    #[test]
    fn each_smaller_scenario_is_told_at_once() {
        let mut told = Vec::new();
        let found = shrink(&everything(), 1_000, &mut |scenario| scenario.nodes.count >= 7, &mut |scenario| {
            told.push(scenario.nodes.count);
        });
        assert!(told.windows(2).all(|pair| pair[0] >= pair[1]) && told.last() == Some(&7), "{told:?}");
        assert_eq!(found.scenario.nodes.count, 7);
    }

    /// The control: a disk that calls synced what is not, and a crash. The node does not survive it, and that does not need what
    /// else happens in this scenario.
    #[test]
    fn a_lying_disk_is_left_with_its_crash() {
        let text = "version = 1\nname = \"lies\"\nduration_s = 12\nsettle_s = 60\n[nodes]\ncount = 3\n\
                    [[workload]]\nkind = \"poisson\"\nrate_per_s = 1\n\
                    [[faults]]\nkind = \"isolate\"\nat_s = [2]\nnode = 0\nfor_s = 3\n\
                    [[faults]]\nkind = \"disk_lies\"\nat_s = [1]\nnode = 1\n\
                    [[faults]]\nkind = \"crash\"\nat_s = [8]\nnode = 1\nfor_s = 1\ntorn = 0\n\
                    [checks]\nmust_fail = [\"restart\", \"commit_order\", \"acknowledged\"]\n";
        let scenario = scenario::parse(text).unwrap();
        let broken =
            |scenario: &Scenario| run(scenario, 3, None, &mut |_| ()).map_or(Vec::new(), |outcome| outcome.broken());
        let first = broken(&scenario);
        let target = *first.first().expect("the control fails");
        // Alone a node has nobody to talk to: that is another failure.
        let mut fails = |scenario: &Scenario| scenario.nodes.count > 1 && broken(scenario).contains(&target);
        let found = shrink(&scenario, 20, &mut fails, &mut |_| ());
        assert!(found.runs <= 20);
        assert_eq!(found.scenario.nodes.count, 2);
        assert!(found.scenario.faults.iter().any(|fault| matches!(fault.what, What::DiskLies {})));
        assert!(
            !found.scenario.faults.iter().any(|fault| matches!(fault.what, What::Isolate { .. })),
            "it has no part in it"
        );
        assert!(broken(&found.scenario).contains(&target), "what is written fails again");
    }
}
