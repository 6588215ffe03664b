//! What sync tells a device for end-to-end encryption: messages to it, whose keys to look at anew, and how many of its own
//! one-time keys are left (client-server specification, "Extensions to /sync").

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kith_store::{Snapshot, StoreError, tables::rooms::USER_ROOMS};
use ruma::{
    OneTimeKeyAlgorithm, OwnedUserId, UInt,
    api::client::sync::sync_events::{DeviceLists, v3::Response},
    events::AnyToDeviceEvent,
    serde::Raw,
};
use serde_json::value::RawValue;

use super::token::Token;
use crate::{
    Node,
    e2ee::{lists, one_time_keys, to_device},
    http::{Answer, Session},
    rooms::read,
};

/// A client that syncs from a token has got all messages up to it: they are deleted. If that is lost by a crash, they are
/// deleted the next time.
pub(super) fn acknowledge(node: &Arc<Node>, session: &Session, since: &Token) -> Answer<()> {
    acknowledge_up_to(node, session, given(since))
}

/// As [`acknowledge`], for messages up to a stream position.
pub(super) fn acknowledge_up_to(node: &Arc<Node>, session: &Session, upto: u64) -> Answer<()> {
    let (user, device) = (session.user_id.to_string(), session.device_id.to_string());
    if node.store.read(|read| to_device::any_up_to(read, &user, &device, upto))? {
        drop(node.store.submit(move |tx| to_device::delete_up_to(tx, &user, &device, upto)));
    }
    Ok(())
}

/// Up to where the device was given its messages.
fn given(since: &Token) -> u64 {
    if since.to_device == 0 { since.position } else { since.to_device.min(since.position) }
}

/// Fills in what is new after `since`. Gives the to-device part of the next token.
pub(super) fn tell(
    node: &Node,
    snapshot: &Snapshot,
    session: &Session,
    since: Option<&Token>,
    upto: u64,
    response: &mut Response,
) -> Answer<u64> {
    let keys = keys(snapshot, session)?;
    response.device_one_time_keys_count = keys.counts;
    response.device_unused_fallback_key_types = Some(keys.unused_fallbacks);
    if let Some(since) = since {
        response.device_lists = device_lists(node, snapshot, session, since.position)?;
    }
    let (events, next) = messages(snapshot, session, since.map_or(0, given), upto, to_device::MOST_AT_ONCE)?;
    response.to_device.events = events;
    Ok(if next == upto { 0 } else { next })
}

/// What is left of a device's keys that others use up.
pub(super) struct Keys {
    pub(super) counts: BTreeMap<OneTimeKeyAlgorithm, UInt>,
    pub(super) unused_fallbacks: Vec<OneTimeKeyAlgorithm>,
}

/// The keys that are left of the session's device.
pub(super) fn keys(snapshot: &Snapshot, session: &Session) -> Answer<Keys> {
    let (user, device) = (session.user_id.as_str(), session.device_id.as_str());
    let counts = one_time_keys::counts(snapshot, user, device)?.into_iter();
    let unused = one_time_keys::unused_fallbacks(snapshot, user, device)?.into_iter();
    Ok(Keys {
        counts: counts.map(|(name, count)| (OneTimeKeyAlgorithm::from(name), UInt::new_saturating(count))).collect(),
        unused_fallbacks: unused.map(OneTimeKeyAlgorithm::from).collect(),
    })
}

/// Whose keys to look at anew, of what changed after a position.
pub(super) fn device_lists(node: &Node, snapshot: &Snapshot, session: &Session, since: u64) -> Answer<DeviceLists> {
    let user = session.user_id.as_str();
    let rooms = rooms_since(node, snapshot, user, since)?;
    let changes = lists::device_list_changes(snapshot, user, since, &rooms)?;
    let mut lists = DeviceLists::new();
    lists.changed = users(changes.changed);
    lists.left = users(changes.left);
    Ok(lists)
}

/// Messages to the session's device after a position, and the position from which to go on.
pub(super) fn messages(
    snapshot: &Snapshot,
    session: &Session,
    from: u64,
    upto: u64,
    limit: usize,
) -> Answer<(Vec<Raw<AnyToDeviceEvent>>, u64)> {
    let (user, device) = (session.user_id.as_str(), session.device_id.as_str());
    let (events, next) = to_device::to_device_since(snapshot, user, device, from, upto, limit)?;
    let events = events.into_iter().filter_map(|event| RawValue::from_string(event).ok()).map(Raw::from_json);
    Ok((events.collect(), next))
}

/// The rooms that the user is or was in, in which something may have happened since the position.
pub(crate) fn rooms_since(
    node: &Node,
    snapshot: &Snapshot,
    user: &str,
    since: u64,
) -> Result<Vec<(u64, kith_store::tables::rooms::UserRoomRow)>, StoreError> {
    match node.activity.since(since) {
        Some(changed) => changed
            .into_iter()
            .filter_map(|room| read::user_room(snapshot, user, room).map(|part| Some((room, part?))).transpose())
            .collect(),
        None => USER_ROOMS
            .prefix(snapshot, &user.to_owned())?
            .map(|row| row.map(|((_, room), part)| (room, part.0)))
            .collect(),
    }
}

fn users(users: BTreeSet<String>) -> Vec<OwnedUserId> {
    users.into_iter().filter_map(|user| OwnedUserId::try_from(user).ok()).collect()
}
