//! Verifying many signatures of one key: the state of a large room is signed by one server for the most part.
//!
//! A signature (R, s) of a text by the key A is good if R is what [s]B - [k]A is written as, where k is the hash of R, A and the text
//! (RFC 8032, section 5.1.7, without the cofactor, as ed25519-dalek and libsodium do it). What is multiplied by B and A each time
//! can be had from tables: that of B comes with the library, that of A is made here once the key was used often enough. The answer
//! is the same with and without it; it takes two thirds of the time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use curve25519_dalek::{
    constants::ED25519_BASEPOINT_TABLE,
    edwards::{CompressedEdwardsY, EdwardsBasepointTable},
    scalar::Scalar,
    traits::BasepointTable as _,
};
use sha2::{Digest as _, Sha512};

/// A table takes the time that it saves in about 70 verifications.
const WORTH_IT: u32 = 128;
/// Keys that are kept in mind, those last used: 30 KiB each, if there is a table.
const MOST: usize = 16;

/// Multiples of a key.
pub(super) struct Table {
    key: [u8; 32],
    /// Of the negated key.
    multiples: EdwardsBasepointTable,
}

struct Used {
    key: [u8; 32],
    uses: u32,
    table: Option<Arc<Table>>,
}

static USED: Mutex<Vec<Used>> = Mutex::new(Vec::new());

fn used() -> MutexGuard<'static, Vec<Used>> {
    USED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts a use of a key; gives its table if it has one.
pub(super) fn of(key: &[u8]) -> Option<Arc<Table>> {
    let key: [u8; 32] = key.try_into().ok()?;
    {
        let mut used = used();
        match used.iter().position(|used| used.key == key) {
            Some(place) => used.get_mut(..=place)?.rotate_right(1),
            None => {
                used.truncate(MOST - 1);
                used.insert(0, Used { key, uses: 0, table: None });
            }
        }
        let latest = used.first_mut()?;
        latest.uses = latest.uses.saturating_add(1);
        if latest.uses != WORTH_IT {
            return latest.table.clone();
        }
    }
    let table = Arc::new(Table::new(key)?);
    if let Some(used) = used().iter_mut().find(|used| used.key == key) {
        used.table = Some(table.clone());
    }
    Some(table)
}

impl Table {
    /// None if these bytes are no key.
    fn new(key: [u8; 32]) -> Option<Self> {
        let point = CompressedEdwardsY(key).decompress()?;
        Some(Self { key, multiples: EdwardsBasepointTable::create(&-point) })
    }

    /// Whether `signature` is the key's for `text`.
    pub(super) fn verifies(&self, signature: &[u8], text: &[u8]) -> bool {
        let Some((r, s)) = signature.split_first_chunk::<32>() else { return false };
        let Some(s) = <[u8; 32]>::try_from(s).ok().and_then(|s| Option::from(Scalar::from_canonical_bytes(s))) else {
            return false;
        };
        let k = Sha512::new().chain_update(r).chain_update(self.key).chain_update(text).finalize();
        let k = Scalar::from_bytes_mod_order_wide(&k.into());
        let expected = ED25519_BASEPOINT_TABLE.mul_base(&s) + self.multiples.mul_base(&k);
        expected.compress().as_bytes() == r
    }
}

#[cfg(test)]
mod tests {
    use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
    use proptest::prelude::*;
    use ruma::{SigningKeyAlgorithm, signatures::verify_canonical_json_bytes};

    use super::*;

    fn by_the_library(key: &[u8], signature: &[u8], text: &[u8]) -> bool {
        verify_canonical_json_bytes(&SigningKeyAlgorithm::Ed25519, key, signature, text).is_ok()
    }

    /// Signatures as a forger makes them who knows the secret: key and R may have a part of small order.
    fn sign(secret: u64, nonce: u64, of_key: usize, of_r: usize, text: &[u8]) -> ([u8; 32], [u8; 64]) {
        let (a, r) = (Scalar::from(secret), Scalar::from(nonce));
        let key = (ED25519_BASEPOINT_POINT * a + EIGHT_TORSION[of_key]).compress().to_bytes();
        let r_bytes = (ED25519_BASEPOINT_POINT * r + EIGHT_TORSION[of_r]).compress().to_bytes();
        let k = Sha512::new().chain_update(r_bytes).chain_update(key).chain_update(text).finalize();
        let s = r + Scalar::from_bytes_mod_order_wide(&k.into()) * a;
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&r_bytes);
        signature[32..].copy_from_slice(s.as_bytes());
        (key, signature)
    }

    proptest! {
        #[test]
        fn the_answer_is_the_librarys(
            secret in 0..4u64, nonce in any::<u64>(), of_key in 0..8usize, of_r in 0..8usize,
            text in prop::collection::vec(any::<u8>(), 0..80), flip in prop::option::of(0..512usize), cut in prop::bool::weighted(0.1),
        ) {
            let (key, mut signature) = sign(secret, nonce, of_key, of_r, &text);
            if let Some(flip) = flip {
                signature[flip / 8] ^= 1 << (flip % 8);
            }
            let signature = if cut { &signature[1..] } else { &signature[..] };
            let good = by_the_library(&key, signature, &text);
            prop_assert_eq!(Table::new(key).is_some_and(|table| table.verifies(signature, &text)), good);
            if (of_key, of_r, flip, cut) == (0, 0, None, false) {
                prop_assert!(good);
            }
        }
    }

    #[test]
    fn an_s_beyond_the_groups_order_and_a_key_that_is_no_point_are_refused_as_by_the_library() {
        let (key, mut signature) = sign(3, 5, 0, 0, b"text");
        let table = Table::new(key).unwrap();
        assert!(table.verifies(&signature, b"text"));
        // s + l stands for the same multiple of B.
        let order = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let mut carry = 0u16;
        for (byte, more) in signature[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + more + carry;
            (*byte, carry) = ((sum & 0xff) as u8, sum >> 8);
        }
        assert!(!by_the_library(&key, &signature, b"text"));
        assert!(!table.verifies(&signature, b"text"));
        assert!(Table::new([2; 32]).is_none() && !by_the_library(&[2; 32], &signature, b"text"));
    }

    #[test]
    fn a_key_that_is_used_often_gets_a_table_and_few_keys_are_kept_in_mind() {
        let (key, signature) = sign(71, 5, 0, 0, b"text");
        let with_table = (0..2 * WORTH_IT).filter(|_| of(&key).is_some()).count();
        assert!(with_table > 0 && with_table <= WORTH_IT as usize + 1, "{with_table}");
        assert!(of(&key).unwrap().verifies(&signature, b"text"));
        for other in 0..=u8::MAX {
            assert!(of(&[other; 32]).is_none());
        }
        assert!(used().len() <= MOST);
        assert!(of(&key).is_none(), "it was forgotten");
        assert!(of(b"short").is_none());
    }
}
