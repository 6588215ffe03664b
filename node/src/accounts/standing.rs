//! Accounts that an administrator has locked or suspended (client-server specification, "Account locking", "Account suspension").
//!
//! Both are told by every request with a token of the account, in one place: with a locked account one can sign out and no
//! more; with a suspended one everything but what others would notice.

use http::{Method, StatusCode};
use kith_store::{
    Json, Read,
    tables::accounts::{USERS, UserRow},
};
use ruma::UserId;

use crate::Node;
use crate::http::{Answer, MatrixError, Session};

/// 401 `M_USER_LOCKED`: the client keeps what it has, and asks again some time.
pub(crate) fn is_locked() -> MatrixError {
    MatrixError::new(StatusCode::UNAUTHORIZED, "M_USER_LOCKED", "this account has been locked")
        .with("soft_logout", true)
}

fn is_suspended() -> MatrixError {
    MatrixError::new(
        StatusCode::FORBIDDEN,
        "M_USER_SUSPENDED",
        "this account has been suspended: you can read, and leave rooms",
    )
}

/// Whether a user with this account may make a request.
///
/// # Errors
/// `M_USER_LOCKED`, `M_USER_SUSPENDED`.
pub(crate) fn check(row: &UserRow, method: &Method, path: &str) -> Answer<()> {
    // `/_matrix/client/v3/...`, or `/_matrix/client/unstable/...` with or without the name of what is unstable.
    let segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let after_version = segments.get(3..).unwrap_or_default();
    if row.locked && !matches!(after_version, ["logout"] | ["logout", "all"]) {
        return Err(is_locked());
    }
    let after_name = match segments.get(2) {
        Some(&"unstable") => segments.get(4..).unwrap_or_default(),
        _ => &[],
    };
    if row.suspended && (is_noticed(method, after_version) || is_noticed(method, after_name)) {
        return Err(is_suspended());
    }
    Ok(())
}

/// Whether something may be sent in the name of a user with this account.
///
/// # Errors
/// `M_USER_LOCKED`, `M_USER_SUSPENDED`.
pub(crate) fn check_sending(row: &UserRow) -> Answer<()> {
    match (row.locked, row.suspended) {
        (true, _) => Err(is_locked()),
        (_, true) => Err(is_suspended()),
        _ => Ok(()),
    }
}

/// Whether others would notice a request. `segments` are those of its path after the version. Leaving rooms, declining invites,
/// redacting, signing in and out, verification and deactivation are left to a suspended user.
fn is_noticed(method: &Method, segments: &[&str]) -> bool {
    let changes = *method != Method::GET;
    match segments {
        ["rooms", _, what, ..] => {
            let acts =
                ["send", "state", "join", "invite", "kick", "ban", "unban", "upgrade", "typing", "delayed_event"];
            changes && acts.contains(what)
        }
        ["join" | "knock", _] | ["createRoom"] => true,
        ["directory", ..] | ["profile", ..] | ["presence", ..] => changes,
        // Of `/_matrix/media`, whose paths have no other segment before.
        ["upload", ..] | ["create"] => changes,
        _ => false,
    }
}

/// An account as administrators see it.
///
/// # Errors
/// `M_FORBIDDEN` unless the session is an administrator's, before anything is told; `M_INVALID_PARAM` for users of other
/// servers; `M_NOT_FOUND` when there is no such user, or no more.
pub fn look(read: &dyn Read, node: &Node, session: &Session, user: &UserId) -> Answer<UserRow> {
    if !session.admin {
        return Err(MatrixError::forbidden("only administrators may do this"));
    }
    if !node.is_local(user) {
        return Err(MatrixError::invalid_param(format!("{user} is not a user of this server")));
    }
    let row = USERS.get(read, &user.to_string())?.map(|row| row.0).filter(|row| row.deactivated.is_none());
    let row = row.ok_or_else(|| MatrixError::not_found("there is no such user here"))?;
    if row.admin {
        return Err(MatrixError::forbidden("administrators are neither locked nor suspended"));
    }
    Ok(row)
}

/// Changes an account that [`look`] shows.
///
/// # Errors
/// As [`look`].
pub async fn change(
    node: &std::sync::Arc<Node>,
    session: Session,
    user: &UserId,
    how: impl FnOnce(&mut UserRow) + Send + 'static,
) -> Answer<()> {
    let (reader, user) = (node.clone(), user.to_owned());
    node.store
        .write(move |tx| {
            let mut row = look(tx, &reader, &session, &user)?;
            how(&mut row);
            USERS.put(tx, &user.to_string(), &Json(row))?;
            Ok::<_, MatrixError>(())
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspended_user_does_no_more_by_the_paths_from_before_a_feature_was_stable() {
        let row = UserRow { suspended: true, ..UserRow::default() };
        for (method, path) in [
            (Method::PUT, "/_matrix/client/unstable/uk.tcpip.msc4133/profile/@a:x/displayname"),
            (Method::POST, "/_matrix/client/unstable/xyz.amorgan.knock/knock/!r:x"),
            (Method::POST, "/_matrix/media/unstable/fi.mau.msc2246/create"),
            (Method::PUT, "/_matrix/client/unstable/rooms/!r:x/send/m.room.message/1"),
            (Method::PUT, "/_matrix/client/r0/rooms/!r:x/send/m.room.message/1"),
        ] {
            let refused = check(&row, &method, path).expect_err(path);
            assert!(refused.is("M_USER_SUSPENDED"), "{path}: {refused}");
        }
        for path in ["/_matrix/client/unstable/uk.tcpip.msc4133/profile/@a:x", "/_matrix/client/versions", "/", ""] {
            check(&row, &Method::GET, path).expect(path);
        }
    }
}
