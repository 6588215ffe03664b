//! Who may take part in a room beside the auth rules: server ACLs, and names that the others cannot verify.

use std::collections::BTreeSet;

use http::StatusCode;
use kith_room::keys::{self, ShareError};
use kith_store::{
    Read,
    tables::rooms::{MEMBERS, ROOM_SERVERS},
};
use ruma::{OwnedServerName, ServerName, events::room::server_acl::RoomServerAclEventContent};
use serde_json::Value;

use crate::{
    http::{Answer, MatrixError},
    rooms::read,
};

/// Refuses a server that the room's `m.room.server_acl` denies.
///
/// # Errors
/// 403 `M_FORBIDDEN`.
pub fn check_acl(snapshot: &dyn Read, room: u64, server: &ServerName) -> Answer<()> {
    let Some(acl) = read::state_event(snapshot, room, "m.room.server_acl", "")? else { return Ok(()) };
    let content = Value::Object(acl.content().clone());
    // An ACL that cannot be read denies everybody, as the specification says of one without `allow`.
    let allowed = serde_json::from_value::<RoomServerAclEventContent>(content).is_ok_and(|acl| acl.is_allowed(server));
    if allowed { Ok(()) } else { Err(MatrixError::forbidden("the room's access list does not let this server in")) }
}

/// Refuses to let a server into a room where somebody could not verify somebody else's events (a name without a gateway's zone
/// and a DNS name do not share a room).
///
/// # Errors
/// 403 that names the remedy.
pub fn check_names(snapshot: &dyn Read, room: u64, joining: &ServerName) -> Answer<()> {
    let servers: BTreeSet<OwnedServerName> =
        read::servers(snapshot, room)?.into_iter().filter_map(|name| OwnedServerName::try_from(name).ok()).collect();
    keys::may_share(servers.iter().map(|name| &**name), joining).map_err(cannot_share)
}

/// The same for two servers.
///
/// # Errors
/// As [`check_names`].
pub fn check_pair(one: &ServerName, other: &ServerName) -> Answer<()> {
    keys::may_share([one], other).map_err(cannot_share)
}

/// What is answered when two servers cannot share a room.
pub fn cannot_share(error: ShareError) -> MatrixError {
    MatrixError::new(StatusCode::FORBIDDEN, "M_FORBIDDEN", error.to_string())
}

/// Whether a server is in the room; false when it was and is not any more: then it may learn what was there for it to see.
///
/// # Errors
/// 403 `M_FORBIDDEN` for one that has no part in the room.
pub fn is_in_room(snapshot: &dyn Read, room: u64, server: &ServerName) -> Answer<bool> {
    if ROOM_SERVERS.contains(snapshot, &(room, server.to_string()))? {
        return Ok(true);
    }
    for row in MEMBERS.prefix(snapshot, &room)? {
        let ((_, _, user), _) = row?;
        if user.split_once(':').is_some_and(|(_, of)| of == server.as_str()) {
            return Ok(false);
        }
    }
    Err(MatrixError::forbidden("your server has no user in this room"))
}

/// Refuses a server that has no user in the room.
///
/// # Errors
/// 403 `M_FORBIDDEN`.
pub fn check_in_room(snapshot: &dyn Read, room: u64, server: &ServerName) -> Answer<()> {
    if ROOM_SERVERS.contains(snapshot, &(room, server.to_string()))? {
        return Ok(());
    }
    Err(MatrixError::forbidden("your server has no user in this room"))
}
