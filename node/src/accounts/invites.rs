//! Whether a user takes invites (client-server specification, "Invite permission").

use kith_store::Read;
use ruma::UserId;
use serde_json::Value;

use super::account_data;
use crate::http::{Answer, MatrixError};

/// The account data by which a user refuses all invites.
const TYPE: &str = "m.invite_permission_config";

/// Whether the user refuses all invites.
///
/// # Errors
/// As all reads.
pub fn are_blocked(read: &dyn Read, user: &UserId) -> Answer<bool> {
    let config = account_data::get(read, user.as_str(), None, TYPE)?;
    let action = config.as_ref().and_then(|config| config.get("default_action")).and_then(Value::as_str);
    Ok(action == Some("block"))
}

/// That a user of this node may be invited.
///
/// # Errors
/// 403 `M_INVITE_BLOCKED`.
pub fn check(read: &dyn Read, user: &UserId) -> Answer<()> {
    if are_blocked(read, user)? {
        let message = format!("{user} takes no invites");
        return Err(MatrixError::new(http::StatusCode::FORBIDDEN, "M_INVITE_BLOCKED", message));
    }
    Ok(())
}
