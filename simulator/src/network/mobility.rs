//! Nodes that walk (random waypoint, or random steps), and who of them is in range.

use crate::engine::{Nanos, Stream, seconds};
use crate::scenario::{Mobility, Steps};

/// Where all nodes are, as time goes on.
#[derive(Debug)]
pub struct Walk {
    mobility: Mobility,
    walkers: Vec<Walker>,
}

#[derive(Debug)]
struct Walker {
    random: Stream,
    from: (f64, f64),
    to: (f64, f64),
    begin: Nanos,
    arrive: Nanos,
    /// When it goes on.
    leave: Nanos,
}

impl Walk {
    /// Nodes at random places at time `begin`.
    pub fn new(mobility: &Mobility, count: u32, seed: u64, begin: Nanos) -> Self {
        let walkers = (0..count)
            .map(|node| {
                let random = Stream::new(seed, "walk", u64::from(node), 0);
                let place = place(mobility, &random);
                Walker { random, from: place, to: place, begin, arrive: begin, leave: begin }
            })
            .collect();
        Self { mobility: mobility.clone(), walkers }
    }

    /// Where everybody is at `now`, which must not be before the last one asked for.
    pub fn places(&mut self, now: Nanos) -> Vec<(f64, f64)> {
        let mobility = &self.mobility;
        self.walkers.iter_mut().map(|walker| walker.place(mobility, now)).collect()
    }

    /// Whether two places are in range of each other.
    pub fn in_range(&self, a: (f64, f64), b: (f64, f64)) -> bool {
        (a.0 - b.0).hypot(a.1 - b.1) <= self.mobility.range_m
    }

    /// How often to look.
    pub fn step(&self) -> Nanos {
        seconds(self.mobility.step_s).max(1)
    }
}

fn place(mobility: &Mobility, random: &Stream) -> (f64, f64) {
    (random.between(0.0, mobility.width_m), random.between(0.0, mobility.height_m))
}

fn step(mobility: &Mobility, steps: &Steps, from: (f64, f64), random: &Stream) -> (f64, f64) {
    let (sin, cos) = random.between(0.0, std::f64::consts::TAU).sin_cos();
    let length = random.between(0.0, steps.most_m);
    ((from.0 + length * cos).clamp(0.0, mobility.width_m), (from.1 + length * sin).clamp(0.0, mobility.height_m))
}

impl Walker {
    fn place(&mut self, mobility: &Mobility, now: Nanos) -> (f64, f64) {
        while now >= self.leave {
            self.from = self.to;
            if let Some(steps) = &mobility.steps {
                // A step is done in no time, and a rest follows.
                self.to = step(mobility, steps, self.from, &self.random);
                self.begin = self.leave;
                self.arrive = self.begin;
                self.leave = self.begin + seconds(steps.every_s).max(1);
                continue;
            }
            self.to = place(mobility, &self.random);
            let speed = self.random.between(mobility.min_speed, mobility.max_speed);
            let distance = (self.to.0 - self.from.0).hypot(self.to.1 - self.from.1);
            self.begin = self.leave;
            self.arrive = self.begin + seconds(distance / speed).max(1);
            self.leave = self.arrive + seconds(self.random.between(0.0, mobility.pause_s));
        }
        if now >= self.arrive {
            return self.to;
        }
        let part = (now - self.begin) as f64 / (self.arrive - self.begin) as f64;
        (self.from.0 + (self.to.0 - self.from.0) * part, self.from.1 + (self.to.1 - self.from.1) * part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mobility() -> Mobility {
        Mobility {
            width_m: 1_000.0,
            height_m: 500.0,
            range_m: 100.0,
            min_speed: 1.0,
            max_speed: 2.0,
            pause_s: 10.0,
            step_s: 1.0,
            steps: None,
        }
    }

    #[test]
    fn steps_come_on_time_are_short_enough_and_stay_on_the_plane() {
        let mobility = Mobility { steps: Some(Steps { most_m: 20.0, every_s: 10.0 }), ..mobility() };
        let mut walk = Walk::new(&mobility, 30, 4, 0);
        let mut last = walk.places(0);
        let (mut lengths, mut count) = (0.0, 0.0);
        for second in 1..3_600 {
            let places = walk.places(seconds(f64::from(second)));
            for (before, now) in last.iter().zip(&places) {
                let distance = (before.0 - now.0).hypot(before.1 - now.1);
                assert!(distance <= 20.0 + 1e-6 && (second % 10 == 0 || distance == 0.0), "{distance} m at {second} s");
                assert!((0.0..=1_000.0).contains(&now.0) && (0.0..=500.0).contains(&now.1));
                if second % 10 == 0 {
                    lengths += distance;
                    count += 1.0;
                }
            }
            last = places;
        }
        assert!(
            (9.0..10.5).contains(&(lengths / count)),
            "10 m in the mean, and less at the edge: {}",
            lengths / count
        );
    }

    #[test]
    fn nobody_is_faster_than_allowed_or_leaves_the_plane() {
        let mut walk = Walk::new(&mobility(), 20, 4, 0);
        let mut last = walk.places(0);
        let mut moved = 0.0;
        for second in 1..2_000 {
            let places = walk.places(seconds(f64::from(second)));
            for (before, now) in last.iter().zip(&places) {
                let distance = (before.0 - now.0).hypot(before.1 - now.1);
                assert!(distance <= 2.0 + 1e-6, "{distance} m in a second");
                assert!((0.0..=1_000.0).contains(&now.0) && (0.0..=500.0).contains(&now.1));
                moved += distance;
            }
            last = places;
        }
        assert!(moved > 20.0 * 1_000.0, "they do walk: {moved} m");
    }

    #[test]
    fn range_is_a_circle() {
        let walk = Walk::new(&mobility(), 1, 4, 0);
        assert!(walk.in_range((0.0, 0.0), (60.0, 79.0)));
        assert!(!walk.in_range((0.0, 0.0), (60.0, 81.0)));
    }
}
