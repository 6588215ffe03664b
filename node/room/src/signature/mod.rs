//! Verifying ed25519 signatures, faster where many are by one key, and a memory of those that were good.
//!
//! Many nodes in one process, as in the simulator, verify the same signature each by itself, which is most of their work. With
//! [`remember`] the process does it once. A node by itself gains nothing by it, so it is off unless asked for. What is
//! remembered is a hash over key, signature and text together: the answer is the same with and without.

mod table;

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ruma::{SigningKeyAlgorithm, signatures::verify_canonical_json_bytes};
use sha2::{Digest as _, Sha256};

/// Hashes of good signatures, in two generations: the older goes when the younger is full.
struct Memory {
    most: usize,
    young: BTreeSet<[u8; 32]>,
    old: BTreeSet<[u8; 32]>,
}

static MEMORY: Mutex<Option<Memory>> = Mutex::new(None);

fn memory() -> MutexGuard<'static, Option<Memory>> {
    MEMORY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has this process remember up to `most` signatures that were good (about 100 bytes each); 0: none, as in the beginning.
pub fn remember(most: usize) {
    *memory() =
        (most > 0).then(|| Memory { most: most.div_ceil(2), young: BTreeSet::default(), old: BTreeSet::default() });
}

/// Whether `signature` (64 bytes) is the ed25519 signature of `text` by `key` (32 bytes).
pub fn verifies(key: &[u8], signature: &[u8], text: &[u8]) -> bool {
    let verify = || match table::of(key) {
        Some(table) => table.verifies(signature, text),
        None => verify_canonical_json_bytes(&SigningKeyAlgorithm::Ed25519, key, signature, text).is_ok(),
    };
    if memory().is_none() {
        return verify();
    }
    let hash = hash(key, signature, text);
    if memory().as_mut().is_some_and(|memory| memory.knows(&hash)) {
        return true;
    }
    let good = verify();
    if good {
        keep(hash);
    }
    good
}

/// `signature` was just made with the secret half of `key`: it need not be verified in this process.
pub fn made(key: &[u8], signature: &[u8], text: &[u8]) {
    if memory().is_some() {
        keep(hash(key, signature, text));
    }
}

fn keep(hash: [u8; 32]) {
    if let Some(memory) = memory().as_mut() {
        memory.keep(hash);
    }
}

fn hash(key: &[u8], signature: &[u8], text: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [key, signature, text] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

impl Memory {
    fn knows(&mut self, hash: &[u8; 32]) -> bool {
        self.young.contains(hash) || (self.old.contains(hash) && self.keep(*hash))
    }

    /// True, for [`Memory::knows`].
    fn keep(&mut self, hash: [u8; 32]) -> bool {
        if self.young.len() >= self.most {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash);
        true
    }
}

#[cfg(test)]
mod tests {
    use ruma::signatures::{Ed25519KeyPair, KeyPair as _};

    use super::*;

    /// One test, since the memory is the process's.
    #[test]
    fn the_answer_is_the_same_with_a_memory_and_what_is_kept_is_bounded() {
        let document = Ed25519KeyPair::generate();
        let pair = Ed25519KeyPair::from_der(&document, "1".to_owned()).unwrap();
        let key = pair.public_key().to_vec();
        let texts: Vec<Vec<u8>> = (0..10u8).map(|n| vec![n; 20]).collect();
        let signatures: Vec<Vec<u8>> = texts.iter().map(|text| pair.sign(text).as_bytes().to_vec()).collect();
        for most in [0, 4, 100] {
            remember(most);
            for _ in 0..2 {
                for (n, (text, signature)) in texts.iter().zip(&signatures).enumerate() {
                    assert!(verifies(&key, signature, text));
                    // Neither another text nor another key has it.
                    assert!(!verifies(&key, signature, &texts[(n + 1) % texts.len()]));
                    assert!(!verifies(&[7; 32], signature, text));
                    assert!(!verifies(&key, &signature[1..], text));
                }
            }
            let kept = memory().as_ref().map_or(0, |memory| memory.young.len() + memory.old.len());
            assert!(kept <= most, "{kept} of at most {most}");
        }
        // What was made counts as verified.
        remember(10);
        made(&[7; 32], &[1; 64], b"text");
        assert!(verifies(&[7; 32], &[1; 64], b"text"));
        remember(0);
        assert!(!verifies(&[7; 32], &[1; 64], b"text"));
    }
}
