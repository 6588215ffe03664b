//! End-to-end encryption, as far as a server takes part in it: it keeps and hands out public keys, carries messages from
//! device to device, tells who has to look at whose keys anew, and keeps encrypted backups of room keys (client-server
//! specification, "End-to-End Encryption" and "Send-to-Device messaging"; server-server specification, "Device
//! Management", "End-to-End Encryption" and "Send-to-device messaging").
//!
//! | module | what it does |
//! | --- | --- |
//! | [`signed`] | signatures of JSON objects |
//! | [`device_keys`] | identity keys of devices |
//! | [`one_time_keys`] | one-time and fallback keys: stored, counted, handed out exactly once |
//! | [`dehydrated`] | devices that nobody holds, kept for the day when all others are lost |
//! | [`cross_signing`] | cross-signing keys of users, and signatures added later |
//! | [`view`] | a user's keys as another one may see them |
//! | [`lists`] | whose device list changed for whom |
//! | [`to_device`] | the inboxes of devices |
//! | [`send`], [`receive`] | messages to devices and changes, from our users and from other servers |
//! | [`query`] | keys of others, wherever they are |
//! | [`remote`] | device lists of remote users, followed |
//! | `waiting` | which of these are to be fetched, when, and how many at a time |
//! | [`announce`] | telling other servers of changes here |
//! | [`backup`] | key backups |
//!
//! What is stored is in `kith_store::tables::e2ee`. Every function here that takes a `Tx` is part of its caller's change.

pub mod announce;
pub mod backup;
pub mod cross_signing;
pub mod dehydrated;
pub mod device_keys;
pub mod lists;
pub mod one_time_keys;
pub mod query;
pub mod receive;
pub mod remote;
pub mod send;
pub mod signed;
pub mod to_device;
pub mod view;
mod waiting;

use std::{sync::Arc, time::Duration};

use kith_store::{
    Key, Read, StoreError, Table, Tx, Value,
    tables::e2ee::{CROSS_SIGNING_KEYS, SIGNATURES, SIGNED_USERS, TO_DEVICE},
};
use tokio::sync::Notify;

use crate::Node;

pub use kith_store::tables::e2ee::Object;

/// The longest JSON text of one key, in bytes.
pub const MAX_KEY_BYTES: usize = 64 << 10;

/// How often what is too old, or left over by a crash, is looked for.
const UPKEEP: Duration = Duration::from_secs(24 * 60 * 60);

/// The part of it that is kept in memory: what there is to do.
#[derive(Debug, Default)]
pub struct E2ee {
    /// Rings when a change has to be queued for other servers.
    unannounced: Notify,
    /// Lists of remote users that have to be fetched.
    stale: waiting::Waiting,
}

/// Starts what runs behind: announcing changes, fetching lists, dropping messages that nobody fetched. To be called once, when
/// other servers can be reached.
pub fn start(node: &Arc<Node>) {
    let listener = Arc::downgrade(node);
    node.store.on_commit(Box::new(move |committed| {
        if announce::concerns(committed)
            && let Some(node) = listener.upgrade()
        {
            node.e2ee.unannounced.notify_one();
        }
    }));
    node.spawner.spawn("announce device changes", Box::pin(announce::run(node.clone())));
    node.spawner.spawn("fetch device lists", Box::pin(remote::run(node.clone())));
    node.spawner.spawn("encryption upkeep", Box::pin(upkeep(node.clone())));
}

async fn upkeep(node: Arc<Node>) {
    loop {
        if let Err(error) = expire(&node).await {
            tracing::warn!(%error, "messages to devices that are too old could not be dropped");
        }
        if let Err(error) = backup::sweep(&node).await {
            tracing::warn!(%error, "keys of deleted backups are left over");
        }
        node.clock.sleep(UPKEEP).await;
    }
}

/// Drops messages that waited too long, one device after the other.
async fn expire(node: &Arc<Node>) -> Result<(), StoreError> {
    let mut after: Option<(String, String, u64)> = None;
    loop {
        let next = node.store.read(|read| -> Result<_, StoreError> {
            let row = match &after {
                Some(key) => TO_DEVICE.range(read, key..)?.next(),
                None => TO_DEVICE.range(read, ..)?.next(),
            };
            row.transpose()
        })?;
        let Some(((user, device, _), oldest)) = next else { return Ok(()) };
        let now = node.clock.now_ms();
        if now.saturating_sub(oldest.since) > to_device::LONGEST_WAIT {
            let (user, device) = (user.clone(), device.clone());
            node.store.write(move |tx| to_device::expire(tx, &user, &device, now)).await?;
        }
        after = Some((user, device, u64::MAX));
    }
}

/// What goes with a device of ours that is deleted: its keys, its messages, and its place in everybody's lists.
///
/// # Errors
/// As all writes.
pub fn device_deleted(tx: &mut Tx, user: &str, device: &str) -> Result<(), StoreError> {
    one_time_keys::forget(tx, user, device)?;
    to_device::forget(tx, user, device)?;
    dehydrated::forget(tx, user, device)?;
    device_keys::forget(tx, user, device)
}

/// What goes with an account that is erased, beside what goes with its devices: cross-signing keys, signatures, key backups.
///
/// # Errors
/// As all writes.
pub fn account_erased(tx: &mut Tx, user: &str) -> Result<(), StoreError> {
    let name = user.to_owned();
    backup::delete_all(tx, user)?;
    delete_prefix(tx, &SIGNATURES, &name)?;
    delete_prefix(tx, &SIGNED_USERS, &name)?;
    if delete_prefix(tx, &CROSS_SIGNING_KEYS, &name)? > 0 {
        lists::device_changed(tx, user, lists::CROSS_SIGNING)?;
    }
    Ok(())
}

/// What follows from a new name of a device of ours: users of this node see it in its keys.
///
/// # Errors
/// As all writes.
pub fn device_renamed(tx: &mut Tx, user: &str, device: &str) -> Result<(), StoreError> {
    if device_keys::get(tx, user, device)?.is_some() {
        lists::note_change(tx, server_of(user), user)?;
    }
    Ok(())
}

/// The server part of a user ID.
pub(crate) fn server_of(user: &str) -> &str {
    user.split_once(':').map_or("", |(_, server)| server)
}

/// Deletes the rows under a prefix; says how many there were.
fn delete_prefix<K: Key, V: Value, P: Key>(tx: &mut Tx, table: &Table<K, V>, prefix: &P) -> Result<usize, StoreError> {
    let keys: Vec<K> = table.prefix(tx, prefix)?.map(|row| row.map(|(key, _)| key)).collect::<Result<_, _>>()?;
    for key in &keys {
        table.delete(tx, key)?;
    }
    Ok(keys.len())
}

/// The first number of a table's rows under a prefix, up to `most`.
fn count_up_to<K: Key, V: Value, P: Key>(
    read: &dyn Read,
    table: &Table<K, V>,
    prefix: &P,
    most: usize,
) -> Result<usize, StoreError> {
    table.prefix(read, prefix)?.take(most).try_fold(0, |count, row| row.map(|_| count + 1))
}

#[cfg(test)]
pub(crate) mod tests;
