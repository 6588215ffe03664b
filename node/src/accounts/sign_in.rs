//! Who somebody is who shows a password: for `/login` and for the pages of OAuth 2.0.
//!
//! Threats met: guessing passwords, by limits per address and per account and by hashes that are slow to try; learning
//! which accounts there are, by the same answer and time for a wrong name and a wrong password.

use std::sync::Arc;

use ruma::{OwnedUserId, UserId};

use super::limits::{self, Action};
use super::{localpart, password, standing, users};
use crate::Node;
use crate::http::{Anonymous, Answer, MatrixError};

/// Whose password it is; `name` is a localpart or a user ID.
///
/// # Errors
/// `M_FORBIDDEN` when it is nobody's of that name, `M_USER_DEACTIVATED`; `M_LIMIT_EXCEEDED` after too many tries.
pub(crate) async fn by_password(node: &Arc<Node>, from: &Anonymous, name: &str, password: &str) -> Answer<OwnedUserId> {
    limits::check_address(node, Action::Login, from)?;
    let wrong = || MatrixError::forbidden("the user name or the password is wrong");
    let Some(user_id) = localpart::local_user_id(name, node.identity.server_name()) else {
        return Err(wrong());
    };
    let (user_id, row) = node.store.read(|read| match users::get(read, &user_id)? {
        // Names are made in lower case; people type them as they like.
        None if user_id.localpart().bytes().any(|c| c.is_ascii_uppercase()) => {
            let lower = localpart::local_user_id(&user_id.as_str().to_ascii_lowercase(), node.identity.server_name());
            let lower = lower.unwrap_or_else(|| user_id.clone());
            let row = users::get(read, &lower)?;
            Ok::<_, MatrixError>((lower, row))
        }
        row => Ok((user_id, row)),
    })?;
    limits::check_account(node, Action::Login, &user_id, from)?;
    // An account that is deactivated has no password any more, so that nobody learns that there was one.
    let is_deactivated = row.as_ref().is_some_and(|row| row.deactivated.is_some());
    if !password::verify(node, password, row.and_then(|row| row.password)).await? {
        return Err(wrong());
    }
    if is_deactivated {
        return Err(users::is_deactivated());
    }
    Ok(user_id)
}

/// Refuses who has proven to be a user whose account is locked.
///
/// # Errors
/// `M_USER_LOCKED`.
pub(crate) fn check_not_locked(node: &Node, user: &UserId) -> Answer<()> {
    match node.store.read(|read| users::get(read, user))? {
        Some(row) if row.locked => Err(standing::is_locked()),
        _ => Ok(()),
    }
}
