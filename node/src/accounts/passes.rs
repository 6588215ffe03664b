//! Tokens that are good for some minutes, kept in memory; a restart ends them early.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use ruma::{OwnedUserId, UserId};

use super::tokens::hash;

/// Tokens at once; beyond it the one that ends first goes.
const MAX_TOKENS: usize = 2000;

/// The tokens of one kind that are good now: hash to the user and when it ends (monotonic milliseconds).
#[derive(Debug)]
pub struct Passes {
    /// How long a token is good, in milliseconds.
    lifetime: u64,
    tokens: Mutex<BTreeMap<[u8; 32], (OwnedUserId, u64)>>,
}

impl Passes {
    /// Tokens that are good for `lifetime` milliseconds.
    pub(crate) fn new(lifetime: u64) -> Self {
        Self { lifetime, tokens: Mutex::default() }
    }

    /// Takes a token in, from `now` (monotonic milliseconds).
    pub(crate) fn insert(&self, token: &str, user: &UserId, now: u64) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= MAX_TOKENS {
            tokens.retain(|_, (_, expires)| *expires > now);
        }
        if tokens.len() >= MAX_TOKENS
            && let Some(first) = tokens.iter().min_by_key(|(_, (_, expires))| *expires).map(|(hash, _)| *hash)
        {
            tokens.remove(&first);
        }
        tokens.insert(hash(token), (user.to_owned(), now.saturating_add(self.lifetime)));
    }

    /// Whose token it is, if it is good.
    pub(crate) fn user(&self, token: &str, now: u64) -> Option<OwnedUserId> {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.get(&hash(token)).filter(|(_, expires)| *expires > now).map(|(user, _)| user.clone())
    }

    /// Ends all tokens of a user.
    pub(crate) fn forget(&self, user: &UserId) {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, (whose, _)| whose != user);
    }

    /// As [`Passes::user`]; the token is spent.
    pub(crate) fn spend(&self, token: &str, now: u64) -> Option<OwnedUserId> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.remove(&hash(token)).filter(|(_, expires)| *expires > now).map(|(user, _)| user)
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    #[test]
    fn a_token_tells_its_user_until_it_ends_or_is_spent() {
        let passes = Passes::new(1000);
        passes.insert("t", user_id!("@alice:x"), 5);
        assert_eq!(passes.user("t", 1004).unwrap(), "@alice:x");
        assert_eq!(passes.user("t", 1005), None);
        assert_eq!(passes.user("u", 6), None);
        passes.insert("t", user_id!("@alice:x"), 5);
        assert_eq!(passes.spend("t", 6).unwrap(), "@alice:x");
        assert_eq!(passes.spend("t", 6), None);
        passes.insert("t", user_id!("@alice:x"), 5);
        assert_eq!(passes.spend("t", 1005), None);
        passes.insert("t", user_id!("@alice:x"), 5);
        passes.insert("u", user_id!("@bob:x"), 5);
        passes.forget(user_id!("@alice:x"));
        assert!(passes.user("t", 6).is_none() && passes.user("u", 6).is_some());
    }

    #[test]
    fn tokens_are_bounded_and_the_one_that_ends_first_goes() {
        let passes = Passes::new(10_000);
        for number in 0..=MAX_TOKENS as u64 {
            passes.insert(&number.to_string(), user_id!("@alice:x"), number);
        }
        assert_eq!(passes.user("0", 2001), None);
        assert!(passes.user("1", 2001).is_some() && passes.user("2000", 2001).is_some());
    }
}
