//! Telling other servers of changes of our users' devices and cross-signing keys (server-server specification, "Device
//! Management"): `m.device_list_update`, `m.signing_key_update`.
//!
//! A change leaves a row in `UNANNOUNCED`, in its own commit. Right after, the task here queues an update for each server that
//! shares a room with the user, and takes the row away, in one commit. An update that a server misses shows in `prev_id` of the
//! next one; the server then asks for the whole list.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use kith_store::{
    Committed, Read, Snapshot, StoreError, Touched, Tx,
    tables::{
        accounts::DEVICES,
        e2ee::{DEVICE_KEYS, DEVICE_STREAM_IDS, NEWCOMERS, UNANNOUNCED},
        rooms::membership,
    },
};
use ruma::{
    OwnedServerName, UInt, UserId,
    api::federation::transactions::edu::{DeviceListUpdateContent, Edu, SigningKeyUpdateContent},
    serde::Raw,
};

use super::{
    Object,
    lists::{self, CROSS_SIGNING, UNANNOUNCED_CHANGE},
    view::{self, Viewer},
};
use crate::{Node, federation, rooms::read};

/// Changes queued in one commit.
const AT_ONCE: usize = 100;
/// How long the task rests after the store refused.
const PAUSE: Duration = Duration::from_secs(10);

/// Whether a commit holds a change to announce.
pub(super) fn concerns(committed: &Committed) -> bool {
    committed.touched.contains(&Touched::Other(UNANNOUNCED_CHANGE))
}

/// Queues updates as changes come, beginning with those that were left from before.
pub(super) async fn run(node: Arc<Node>) {
    loop {
        match announce(&node).await {
            Ok(0) => node.e2ee.unannounced.notified().await,
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "changes of devices could not be queued for other servers");
                node.clock.sleep(PAUSE).await;
            }
        }
    }
}

async fn announce(node: &Arc<Node>) -> Result<usize, StoreError> {
    let nothing = |read: &Snapshot| -> Result<bool, StoreError> {
        Ok(UNANNOUNCED.first(read)?.is_none() && NEWCOMERS.first(read)?.is_none())
    };
    if node.store.read(nothing)? {
        return Ok(0);
    }
    let (own, now) = (node.server_name().to_owned(), node.clock.now_ms());
    node.store
        .write(move |tx| {
            let mut rows: Vec<((String, String), u64)> =
                UNANNOUNCED.range(tx, ..)?.take(AT_ONCE).collect::<Result<_, _>>()?;
            // In the order of the changes, so that each update names the one before it.
            rows.sort_unstable_by_key(|(_, id)| *id);
            for ((user, device), id) in &rows {
                UNANNOUNCED.delete(tx, &(user.clone(), device.clone()))?;
                let Ok(user) = <&UserId>::try_from(user.as_str()) else { continue };
                let last = DEVICE_STREAM_IDS.get(tx, &user.to_string())?;
                let edu = if device == CROSS_SIGNING {
                    // It carries no stream ID, so that one who misses it sees that by the next update of a device.
                    signing_keys(tx, user)?
                } else {
                    device_update(tx, user, device, *id, last)?
                };
                DEVICE_STREAM_IDS.put(tx, &user.to_string(), id)?;
                for server in servers(tx, user, own.as_str())? {
                    federation::enqueue_edu(tx, &server, &edu, now)?;
                }
            }
            let newcomers: Vec<(String, u64)> =
                NEWCOMERS.range(tx, ..)?.take(AT_ONCE).map(|row| row.map(|row| row.0)).collect::<Result<_, _>>()?;
            for newcomer in &newcomers {
                NEWCOMERS.delete(tx, newcomer)?;
                greet(tx, &newcomer.0, newcomer.1, own.as_str(), now)?;
            }
            Ok(rows.len() + newcomers.len())
        })
        .await
}

/// Repeats the latest update of each of our users in a room for a server that came there: if it knows that one, it does
/// nothing, else it fetches the list.
fn greet(tx: &mut Tx, server: &str, room: u64, own: &str, now: u64) -> Result<(), StoreError> {
    let Ok(server) = OwnedServerName::try_from(server) else { return Ok(()) };
    if server == own || !lists::is_encrypted(tx, room)? {
        return Ok(());
    }
    for user in lists::our_members(tx, own, room)? {
        let Some(id) = DEVICE_STREAM_IDS.get(tx, &user)? else { continue };
        let device = DEVICE_KEYS.prefix(tx, &user)?.next().transpose()?;
        if let (Some(((_, device), _)), Ok(user)) = (device, <&UserId>::try_from(user.as_str())) {
            let edu = device_update(tx, user, &device, id, Some(id))?;
            federation::enqueue_edu(tx, &server, &edu, now)?;
        }
    }
    Ok(())
}

fn device_update(read: &dyn Read, user: &UserId, device: &str, id: u64, last: Option<u64>) -> Result<Edu, StoreError> {
    let mut content = DeviceListUpdateContent::new(user.to_owned(), device.into(), UInt::new_saturating(id));
    content.prev_id = last.map(UInt::new_saturating).into_iter().collect();
    let only = [device.to_owned()];
    let mut keys = view::keys_of(read, user.as_str(), Some(&only), Viewer::Server)?;
    match keys.devices.remove(device) {
        Some(keys) => content.keys = raw(keys),
        None => {
            let gone = !DEVICES.contains(read, &(user.to_string(), device.to_owned()))?;
            content.deleted = gone.then_some(true);
        }
    }
    Ok(Edu::DeviceListUpdate(content))
}

fn signing_keys(read: &dyn Read, user: &UserId) -> Result<Edu, StoreError> {
    let keys = view::keys_of(read, user.as_str(), Some(&[]), Viewer::Server)?;
    let mut content = SigningKeyUpdateContent::new(user.to_owned());
    content.master_key = keys.master.and_then(raw);
    content.self_signing_key = keys.self_signing.and_then(raw);
    Ok(Edu::SigningKeyUpdate(content))
}

fn raw<T>(object: Object) -> Option<Raw<T>> {
    Raw::new(&object).ok().map(Raw::cast_unchecked)
}

/// The other servers that share a room with a user of ours.
fn servers(read: &dyn Read, user: &UserId, own: &str) -> Result<BTreeSet<OwnedServerName>, StoreError> {
    let mut servers = BTreeSet::new();
    for (room, part) in read::rooms_of(read, user.as_str())? {
        if part.membership == membership::JOIN {
            servers.extend(read::servers(read, room)?.into_iter().filter(|server| server != own));
        }
    }
    Ok(servers.into_iter().filter_map(|server| OwnedServerName::try_from(server).ok()).collect())
}
