//! OpenID tokens (client-server specification, "OpenID"): with one a third party asks this node
//! (`GET /_matrix/federation/v1/openid/userinfo`) who its bearer is. Kept in memory; a restart ends them early.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use ruma::{OwnedUserId, UserId};

use super::tokens::hash;
use crate::Node;
use crate::http::Answer;

/// How long a token is good, in milliseconds.
pub const TOKEN_MS: u64 = 60 * 60 * 1000;
/// Tokens at once; beyond it the one that ends first goes.
const MAX_TOKENS: usize = 2000;

/// The tokens that are good now: hash to the user and when it ends (monotonic milliseconds).
#[derive(Debug, Default)]
pub struct Tokens(Mutex<BTreeMap<[u8; 32], (OwnedUserId, u64)>>);

impl Tokens {
    fn insert(&self, token: &str, user: &UserId, now: u64) {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MAX_TOKENS {
            tokens.retain(|_, (_, expires)| *expires > now);
        }
        if tokens.len() >= MAX_TOKENS
            && let Some(first) = tokens.iter().min_by_key(|(_, (_, expires))| *expires).map(|(hash, _)| *hash)
        {
            tokens.remove(&first);
        }
        tokens.insert(hash(token), (user.to_owned(), now.saturating_add(TOKEN_MS)));
    }

    fn user(&self, token: &str, now: u64) -> Option<OwnedUserId> {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.get(&hash(token)).filter(|(_, expires)| *expires > now).map(|(user, _)| user.clone())
    }
}

/// Makes a token for a user.
pub fn issue(node: &Node, user: &UserId) -> String {
    let token = node.rng.token(43);
    node.accounts.openid.insert(&token, user, now(node));
    token
}

/// Whose token it is, if it is good and its user has not been deactivated.
///
/// # Errors
/// As all reads.
pub fn user_of(node: &Node, token: &str) -> Answer<Option<OwnedUserId>> {
    let Some(user) = node.accounts.openid.user(token, now(node)) else { return Ok(None) };
    let active = node.store.read(|read| super::users::is_active(read, &user))?;
    Ok(active.then_some(user))
}

fn now(node: &Node) -> u64 {
    u64::try_from(node.clock.monotonic().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    #[test]
    fn a_token_tells_its_user_until_it_ends() {
        let tokens = Tokens::default();
        tokens.insert("t", user_id!("@alice:x"), 5);
        assert_eq!(tokens.user("t", TOKEN_MS + 4).unwrap(), "@alice:x");
        assert_eq!(tokens.user("t", TOKEN_MS + 5), None);
        assert_eq!(tokens.user("u", 6), None);
    }
}
