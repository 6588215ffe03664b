//! The server's secret: a 32-byte ed25519 seed, from which its name, its peer id and all its signatures follow.

use std::fmt;

use ed25519_dalek::{Signer, SigningKey};
use libp2p::identity::Keypair;
use zeroize::{Zeroize, Zeroizing};

use crate::ServerKey;

/// An ed25519 secret key (RFC 8032 seed). Overwritten when dropped; `Debug` shows the public key only.
#[derive(Clone)]
pub struct SecretKey {
    seed: Zeroizing<[u8; 32]>,
    /// Expanded once: signing happens for every event and request. Zeroized by its own `Drop`.
    signing: SigningKey,
}

impl SecretKey {
    /// The key of a seed of 32 random bytes.
    pub fn from_seed(mut seed: [u8; 32]) -> Self {
        let key = Self { seed: Zeroizing::new(seed), signing: SigningKey::from_bytes(&seed) };
        seed.zeroize();
        key
    }

    /// The seed, to be written to the key file or handed to another signer of the same key. Never log it.
    pub fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// The public half, which names the server.
    pub fn public(&self) -> ServerKey {
        ServerKey::from_bytes(self.signing.verifying_key().to_bytes())
            .expect("the public key of a seed is a canonical point of full order")
    }

    /// The ed25519 signature over `message`.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing.sign(message).to_bytes()
    }

    /// The same key for libp2p.
    pub fn to_libp2p(&self) -> Keypair {
        Keypair::ed25519_from_bytes(*self.seed).expect("every 32 bytes are an ed25519 seed")
    }

    /// A secret that only we and the holder of `other`'s secret can compute (X25519 over the same two keys).
    /// Callers hash it with their own domain before use.
    pub(crate) fn shared_secret(&self, other: &ServerKey) -> Option<Zeroizing<[u8; 32]>> {
        let scalar = Zeroizing::new(self.signing.to_scalar_bytes());
        let point = other.verifying_key()?.to_montgomery();
        let shared = Zeroizing::new(point.mul_clamped(*scalar).to_bytes());
        // All zero only for points of small order, which `ServerKey` refuses already.
        (*shared != [0; 32]).then_some(shared)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {:?})", self.public())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_verifies_with_the_public_half_only() {
        let key = SecretKey::from_seed([1; 32]);
        let signature = key.sign(b"message");
        assert!(key.public().verify(b"message", &signature));
        assert!(!key.public().verify(b"massage", &signature));
        assert!(!key.public().verify(b"message", &signature[..63]));
        let other = SecretKey::from_seed([2; 32]).public();
        assert!(!other.verify(b"message", &signature));
    }

    #[test]
    fn debug_never_shows_the_seed() {
        let shown = format!("{:?}", SecretKey::from_seed([0xab; 32]));
        assert!(!shown.contains("171") && !shown.to_lowercase().contains("abab"));
    }

    #[test]
    fn both_ends_compute_the_same_shared_secret() {
        let (a, b, c) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]), SecretKey::from_seed([3; 32]));
        assert_eq!(a.shared_secret(&b.public()), b.shared_secret(&a.public()));
        assert_ne!(a.shared_secret(&b.public()), a.shared_secret(&c.public()));
    }
}
