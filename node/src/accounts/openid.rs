//! OpenID tokens (client-server specification, "OpenID"): with one a third party asks this node
//! (`GET /_matrix/federation/v1/openid/userinfo`) who its bearer is. Kept in memory; a restart ends them early.

use ruma::{OwnedUserId, UserId};

use super::monotonic_ms;
use crate::Node;
use crate::http::Answer;

/// How long a token is good, in milliseconds.
pub const TOKEN_MS: u64 = 60 * 60 * 1000;

/// Makes a token for a user.
pub fn issue(node: &Node, user: &UserId) -> String {
    let token = node.rng.token(43);
    node.accounts.openid.insert(&token, user, monotonic_ms(node));
    token
}

/// Whose token it is, if it is good and its user has not been deactivated.
///
/// # Errors
/// As all reads.
pub fn user_of(node: &Node, token: &str) -> Answer<Option<OwnedUserId>> {
    let Some(user) = node.accounts.openid.user(token, monotonic_ms(node)) else { return Ok(None) };
    let active = node.store.read(|read| super::users::is_active(read, &user))?;
    Ok(active.then_some(user))
}
