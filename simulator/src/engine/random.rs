//! [`Stream`]: random numbers of one purpose, from the seed and the name of the purpose.

use kith::platform::Rng;
use sha2::{Digest as _, Sha256};

/// Random numbers that depend on the seed, on what they are for, and on nothing else: another node or fault more or less does
/// not shift them.
#[derive(Debug, Clone)]
pub struct Stream(Rng);

impl Stream {
    /// The stream of a purpose, told apart by a name and two numbers.
    pub fn new(seed: u64, purpose: &str, number: u64, turn: u64) -> Self {
        let mut hash = Sha256::new();
        for part in [seed, number, turn] {
            hash.update(part.to_le_bytes());
        }
        hash.update(purpose.as_bytes());
        let digest = hash.finalize();
        let first = digest.first_chunk::<8>().copied().unwrap_or_default();
        Self(Rng::from_seed(u64::from_le_bytes(first)))
    }

    /// The same numbers as the node takes them.
    pub fn into_rng(self) -> Rng {
        self.0
    }

    /// Any number.
    pub fn u64(&self) -> u64 {
        self.0.u64()
    }

    /// A number below `bound`; 0 when that is 0.
    pub fn below(&self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    /// An index of a list of this length.
    pub fn index(&self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// One of them.
    pub fn pick<'a, T>(&self, items: &'a [T]) -> Option<&'a T> {
        self.0.pick(items)
    }

    /// Bytes.
    pub fn fill(&self, bytes: &mut [u8]) {
        self.0.fill(bytes);
    }

    /// A number of [0, 1).
    pub fn unit(&self) -> f64 {
        (self.u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Whether something of this probability happens. Draws a number in any case.
    pub fn chance(&self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A number of [low, high).
    pub fn between(&self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// An exponentially distributed number with this mean.
    pub fn exponential(&self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    /// A normally distributed number.
    pub fn normal(&self, mean: f64, deviation: f64) -> f64 {
        // Box and Muller; 1 - u is never 0.
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        mean + deviation * radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Puts the items in a random order.
    pub fn shuffle<T>(&self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.index(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_have_streams_of_their_own_and_one_purpose_has_one() {
        let first = |seed, purpose, number, turn| Stream::new(seed, purpose, number, turn).u64();
        assert_eq!(first(1, "loss", 2, 3), first(1, "loss", 2, 3));
        let others = [first(2, "loss", 2, 3), first(1, "delay", 2, 3), first(1, "loss", 3, 3), first(1, "loss", 2, 4)];
        assert!(others.iter().all(|other| *other != first(1, "loss", 2, 3)));
    }

    #[test]
    fn distributions_have_their_means() {
        let stream = Stream::new(7, "test", 0, 0);
        let mean = |draw: &dyn Fn() -> f64| (0..20_000).map(|_| draw()).sum::<f64>() / 20_000.0;
        assert!((mean(&|| stream.exponential(5.0)) - 5.0).abs() < 0.2);
        assert!((mean(&|| stream.normal(10.0, 3.0)) - 10.0).abs() < 0.2);
        assert!((mean(&|| stream.between(2.0, 4.0)) - 3.0).abs() < 0.05);
    }
}
