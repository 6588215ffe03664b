//! Login tokens (client-server specification, "Token-based login"): a signed-in client gets one for another client of the same
//! user, which signs in with it, once, soon. Kept in memory; a restart ends them early.

use ruma::{OwnedUserId, UserId};

use super::{monotonic_ms, users};
use crate::Node;
use crate::http::Answer;

/// How long a token is good, in milliseconds.
pub const TOKEN_MS: u64 = 2 * 60 * 1000;

/// Makes a token for a user.
pub fn issue(node: &Node, user: &UserId) -> String {
    let token = node.rng.token(43);
    node.accounts.login_tokens.insert(&token, user, monotonic_ms(node));
    token
}

/// Whose token it is, if it is good and its user may sign in. It is spent.
///
/// # Errors
/// As all reads.
pub fn spend(node: &Node, token: &str) -> Answer<Option<OwnedUserId>> {
    let Some(user) = node.accounts.login_tokens.spend(token, monotonic_ms(node)) else { return Ok(None) };
    let active = node.store.read(|read| users::is_active(read, &user))?;
    Ok(active.then_some(user))
}
