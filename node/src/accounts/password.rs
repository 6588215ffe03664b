//! Passwords: argon2id in PHC form, with parameters that a phone survives (19 MiB, two passes, one lane: the minimum
//! that OWASP recommends), off the async threads and few at a time.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher as _, PasswordVerifier as _};
use zeroize::Zeroizing;

use crate::Node;
use crate::http::{Answer, MatrixError};
use crate::platform::SpawnerExt as _;

/// The longest password in bytes.
pub const MAX_PASSWORD: usize = 1024;

/// Hashes a password for storage.
///
/// # Errors
/// `M_WEAK_PASSWORD` for an empty one, `M_INVALID_PARAM` for one that is too long.
pub async fn hash(node: &Arc<Node>, password: &str) -> Answer<String> {
    if password.is_empty() {
        return Err(MatrixError::new(
            http::StatusCode::BAD_REQUEST,
            "M_WEAK_PASSWORD",
            "a password must have at least one character",
        ));
    }
    if password.len() > MAX_PASSWORD {
        return Err(MatrixError::invalid_param(format!("a password has at most {MAX_PASSWORD} bytes")));
    }
    let mut salt = [0; 16];
    node.rng.fill(&mut salt);
    let password = Zeroizing::new(password.to_owned());
    let _turn = turn(node).await?;
    node.spawner
        .blocking("hash a password", move || {
            // The parameters of `default` are those that the module names.
            Argon2::default().hash_password_with_salt(password.as_bytes(), &salt).map(|hash| hash.to_string())
        })
        .await
        .map_err(MatrixError::internal)?
        .map_err(MatrixError::internal)
}

/// Whether `password` is the one that `hash` was made of. Without a hash it takes as long and is wrong, so that the
/// time does not tell which accounts there are.
///
/// # Errors
/// Only the node's own, such as when it stops.
pub async fn verify(node: &Arc<Node>, password: &str, hash: Option<String>) -> Answer<bool> {
    if password.len() > MAX_PASSWORD {
        return Ok(false);
    }
    let password = Zeroizing::new(password.to_owned());
    let _turn = turn(node).await?;
    node.spawner
        .blocking("check a password", move || match hash {
            Some(hash) => PasswordHash::new(&hash)
                .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()),
            None => {
                let _ = Argon2::default().hash_password_with_salt(password.as_bytes(), &[0; 16]);
                false
            }
        })
        .await
        .map_err(MatrixError::internal)
}

async fn turn(node: &Arc<Node>) -> Answer<tokio::sync::SemaphorePermit<'_>> {
    node.accounts.hashing.acquire().await.map_err(MatrixError::internal)
}
