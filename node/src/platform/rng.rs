//! Randomness: one seeded generator per node.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng};

/// URL-safe characters of tokens: 64 of them, so that each takes six bits without bias.
const TOKEN_ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A node's random numbers, from ChaCha20: fit for keys and tokens when seeded by the system. Clones share the stream.
#[derive(Clone)]
pub struct Rng {
    stream: Arc<Mutex<ChaCha20Rng>>,
}

impl Rng {
    /// Seeded with 256 bits from the operating system.
    ///
    /// # Errors
    /// When the operating system has none to give.
    pub fn from_os() -> std::io::Result<Self> {
        ChaCha20Rng::try_from_rng(&mut rand::rngs::SysRng)
            .map(Self::new)
            .map_err(|error| std::io::Error::other(format!("the operating system gives no randomness: {error}")))
    }

    /// The same numbers for the same seed: for tests and simulations only.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Self::new(ChaCha20Rng::seed_from_u64(seed))
    }

    fn new(stream: ChaCha20Rng) -> Self {
        Self { stream: Arc::new(Mutex::new(stream)) }
    }

    /// Lends the generator, for calls that want a `CryptoRng`. Do not await or call this `Rng` inside.
    pub fn with<T>(&self, use_it: impl FnOnce(&mut ChaCha20Rng) -> T) -> T {
        use_it(&mut self.stream.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// An independent generator whose seed is drawn from this one: its user's calls do not shift the numbers of others.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::new(self.with(ChaCha20Rng::from_rng))
    }

    /// Fills `bytes`.
    pub fn fill(&self, bytes: &mut [u8]) {
        self.with(|stream| stream.fill_bytes(bytes));
    }

    /// Any 64-bit number.
    #[must_use]
    pub fn u64(&self) -> u64 {
        self.with(|stream| stream.next_u64())
    }

    /// A number below `bound` without bias; 0 when `bound` is 0.
    #[must_use]
    pub fn below(&self, bound: u64) -> u64 {
        if bound == 0 {
            return 0;
        }
        // Numbers of the last, incomplete run of `bound` are drawn again.
        let limit = u64::MAX - u64::MAX % bound;
        loop {
            let drawn = self.u64();
            if drawn < limit {
                return drawn % bound;
            }
        }
    }

    /// `length` characters of `[A-Za-z0-9_-]`, six bits each (22 of them are more than 128 bits).
    #[must_use]
    pub fn token(&self, length: usize) -> String {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes);
        bytes.iter().filter_map(|byte| TOKEN_ALPHABET.get(usize::from(byte & 63))).map(|c| char::from(*c)).collect()
    }

    /// One of `items`, each as likely; nothing of an empty slice.
    #[must_use]
    pub fn pick<'a, T>(&self, items: &'a [T]) -> Option<&'a T> {
        items.get(usize::try_from(self.below(items.len() as u64)).ok()?)
    }
}

impl fmt::Debug for Rng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rng")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_tokens_and_another_seed_others() {
        assert_eq!(Rng::from_seed(7).token(22), Rng::from_seed(7).token(22));
        assert_ne!(Rng::from_seed(7).token(22), Rng::from_seed(8).token(22));
        assert_ne!(Rng::from_os().unwrap().token(22), Rng::from_os().unwrap().token(22));
    }

    #[test]
    fn tokens_have_the_asked_length_and_are_safe_in_urls() {
        let token = Rng::from_seed(1).token(500);
        assert_eq!(token.len(), 500);
        assert!(token.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_'));
    }

    #[test]
    fn picks_reach_every_item_and_nothing_of_nothing() {
        let rng = Rng::from_seed(3);
        let mut seen = [false; 5];
        for _ in 0..200 {
            seen[usize::from(*rng.pick(&[0_u8, 1, 2, 3, 4]).unwrap())] = true;
        }
        assert_eq!(seen, [true; 5]);
        assert_eq!(rng.pick::<u8>(&[]), None);
        assert_eq!(rng.below(0), 0);
    }

    #[test]
    fn a_fork_does_not_shift_its_parent() {
        let (one, other) = (Rng::from_seed(9), Rng::from_seed(9));
        let (fork, _) = (one.fork(), other.fork());
        let _ = fork.token(100);
        assert_eq!(one.u64(), other.u64());
    }
}
