//! Device lists of remote users who share a room with ours: kept here so that their keys are known at once and while their
//! server is away, and brought up to date by its updates (server-server specification, "Device Management").
//!
//! A list is fetched when one of our users first asks for it, and from then on follows the updates. When one was missed, or a
//! list is changed while it is being fetched, it is **stale**: then it is not used, clients' queries go to the other server, and
//! a task fetches the list until it is right. When the user shares no room with us any more, no updates come, and the list is
//! forgotten.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use kith_store::{
    Json, Read, StoreError, Tx,
    tables::{
        e2ee::{
            CROSS_SIGNING_KEYS, DEVICE_KEYS, DEVICE_LIST_CHANGED_AT, DEVICE_LIST_CHANGES, MEMBER_CHANGED_AT,
            MEMBER_CHANGES, REMOTE_LISTS, RemoteList,
        },
        rooms::{MEMBERS, ROOMS, USER_ROOMS, membership},
    },
};
use kith_transport::Class;
use ruma::{ServerName, UserId, api::federation::device::get_devices::v1 as get_devices, serde::Raw};
use serde_json::{Value, json};

use super::{
    MAX_KEY_BYTES, Object,
    cross_signing::{self, Usage},
    delete_prefix, device_keys, lists, server_of,
    waiting::MOST_WAITING,
};
use crate::{
    Node,
    federation::FederationError,
    http::{Answer, MatrixError},
};

/// Devices a remote user may have; longer lists are cut.
pub const MAX_DEVICES: usize = 1_000;
/// A list that is used is fetched again after this time, in milliseconds: 6 hours.
const REFRESH_MS: u64 = 6 * 60 * 60 * 1000;
/// How long a fetch may take.
const FETCH_LIMIT: Duration = Duration::from_secs(30);

/// Fetches lists as they become stale, beginning with those that were left from before.
pub(super) async fn run(node: Arc<Node>) {
    let stale = node.store.read(|read| -> Result<Vec<String>, StoreError> {
        let mut stale = Vec::new();
        for row in REMOTE_LISTS.range(read, ..)? {
            let (user, Json(list)) = row?;
            if list.stale && stale.len() < MOST_WAITING {
                stale.push(user);
            }
        }
        Ok(stale)
    });
    match stale {
        Ok(users) => {
            users.iter().filter_map(|user| UserId::parse(user).ok()).for_each(|user| node.e2ee.stale.add(&user))
        }
        Err(error) => tracing::warn!(%error, "stale device lists could not be read"),
    }
    // Each for itself: a server that hangs holds up its own lists and nobody else's.
    let mut fetches = FuturesUnordered::new();
    let mut running = BTreeSet::new();
    loop {
        let (due, next) = node.e2ee.stale.take(node.clock.monotonic(), &running);
        for user in due {
            running.insert(user.clone());
            let node = node.clone();
            fetches.push(async move {
                heal(&node, &user).await;
                user
            });
        }
        let wait = next.map(|at| node.clock.sleep(at.saturating_sub(node.clock.monotonic())));
        tokio::select! {
            biased;
            Some(user) = fetches.next() => {
                running.remove(&user);
            }
            () = node.e2ee.stale.more.notified() => {}
            () = async { match wait { Some(wait) => wait.await, None => std::future::pending().await } } => {}
        }
    }
}

/// Servers are there that may not have been before: their users' lists that could not be fetched are tried again at once.
pub(crate) fn servers_reached(node: &Node, is_there: impl Fn(&ServerName) -> bool) {
    node.e2ee.stale.reached(is_there, node.clock.monotonic());
}

async fn heal(node: &Arc<Node>, user: &UserId) {
    match fetch(node, user, FETCH_LIMIT).await {
        Ok(true) => node.e2ee.stale.done(user),
        Ok(false) => node.e2ee.stale.failed(user, node.clock.monotonic()),
        Err(error) => {
            tracing::debug!(%user, %error, "a device list could not be fetched");
            node.e2ee.stale.failed(user, node.clock.monotonic());
        }
    }
}

/// Whether a remote user is joined to a room that this node is in: then its server tells us of changes.
///
/// # Errors
/// As all reads.
pub fn shares_a_room(read: &dyn Read, user: &str) -> Result<bool, StoreError> {
    for row in USER_ROOMS.prefix(read, &user.to_owned())? {
        let ((_, room), part) = row?;
        if part.0.membership == membership::JOIN && ROOMS.get(read, &room)?.is_some_and(|room| room.0.joined) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the list of a remote user that is stored here may be used.
///
/// # Errors
/// As all reads.
pub fn is_fresh(read: &dyn Read, user: &str) -> Result<bool, StoreError> {
    Ok(REMOTE_LISTS.get(read, &user.to_owned())?.is_some_and(|row| !row.0.stale))
}

/// Whether a list that is used should be fetched again, whatever its updates said: so that anything that went wrong does not
/// last.
pub(super) fn is_old(read: &dyn Read, user: &str, now: u64) -> Result<bool, StoreError> {
    let list = REMOTE_LISTS.get(read, &user.to_owned())?;
    Ok(list.is_some_and(|row| now.saturating_sub(row.0.fetched) > REFRESH_MS))
}

/// Fetches a user's list and keeps it, if the user shares a room with us. True when there is nothing more to do.
///
/// # Errors
/// [`MatrixError`] when the server does not answer, answers nonsense, or the store fails.
pub async fn fetch(node: &Arc<Node>, user: &UserId, limit: Duration) -> Answer<bool> {
    let name = user.to_string();
    let began = node
        .store
        .write(move |tx| {
            if !shares_a_room(tx, &name)? {
                forget(tx, &name)?;
                return Ok::<_, MatrixError>(None);
            }
            let known = REMOTE_LISTS.get(tx, &name)?.map(|row| row.0);
            let list = known.unwrap_or_else(|| RemoteList { stale: true, ..RemoteList::default() });
            REMOTE_LISTS.put(tx, &name, &Json(list.clone()))?;
            Ok(Some(list.updates))
        })
        .await?;
    let Some(updates) = began else { return Ok(true) };
    let request = get_devices::Request::new(user.to_owned());
    let answer = node.federation.client().request(user.server_name(), request, Class::Control, limit).await?;
    let fetched = Fetched::check(user, answer)?;
    let (name, own, now) = (user.to_string(), node.server_name().to_string(), node.clock.now_ms());
    node.store.write(move |tx| Ok(keep(tx, &own, &name, fetched, updates, now)?)).await
}

/// A list as its server told it.
struct Fetched {
    stream_id: u64,
    devices: BTreeMap<String, Object>,
    keys: BTreeMap<Usage, Object>,
}

impl Fetched {
    fn check(user: &UserId, answer: get_devices::Response) -> Answer<Self> {
        if answer.user_id != user {
            return Err(MatrixError::from(FederationError::Nonsense {
                server: user.server_name().to_owned(),
                reason: format!("asked for devices of {user}, it tells those of {}", answer.user_id),
            }));
        }
        let mut devices = BTreeMap::new();
        for device in answer.devices.into_iter().take(MAX_DEVICES) {
            let id = device.device_id.as_str();
            if let Some(keys) = shaped(&device.keys, user.as_str(), id, device.device_display_name) {
                devices.insert(id.to_owned(), keys);
            }
        }
        let mut keys = BTreeMap::new();
        for (usage, key) in [(Usage::Master, answer.master_key), (Usage::SelfSigning, answer.self_signing_key)] {
            if let Some(key) = key.and_then(|key| object(&key)).filter(|key| is_key(key, user, usage)) {
                keys.insert(usage, key);
            }
        }
        Ok(Self { stream_id: answer.stream_id.into(), devices, keys })
    }
}

fn is_key(key: &Object, user: &UserId, usage: Usage) -> bool {
    cross_signing::shape(key, user.as_str(), usage).is_ok()
}

fn object<T>(raw: &Raw<T>) -> Option<Object> {
    serde_json::from_str(raw.json().get()).ok()
}

/// Keys of a remote device, if they are some, with the name it is shown by.
pub(super) fn shaped<T>(keys: &Raw<T>, user: &str, device: &str, name: Option<String>) -> Option<Object> {
    if keys.json().get().len() > MAX_KEY_BYTES || device.len() > 255 {
        return None;
    }
    let mut keys = object(keys)?;
    device_keys::shape(&keys, user, device).ok()?;
    let told = keys.remove("unsigned");
    let name = name.or_else(|| Some(told?.get("device_display_name")?.as_str()?.to_owned()));
    if let Some(name) = name.filter(|name| !name.is_empty()) {
        let name: String = name.chars().take(255).collect();
        keys.insert("unsigned".to_owned(), json!({ "device_display_name": name }));
    }
    Some(keys)
}

/// Keeps a fetched list, unless the user is followed no more; false when updates came meanwhile.
fn keep(tx: &mut Tx, own: &str, user: &str, fetched: Fetched, updates: u64, now: u64) -> Result<bool, StoreError> {
    let name = user.to_owned();
    let Some(Json(mut list)) = REMOTE_LISTS.get(tx, &name)? else { return Ok(true) };
    let first = list.stream_id == 0 && DEVICE_KEYS.prefix(tx, &name)?.next().is_none();
    let mut changed = false;
    let known: BTreeMap<String, Object> = DEVICE_KEYS
        .prefix(tx, &name)?
        .map(|row| row.map(|((_, device), keys)| (device, keys.0)))
        .collect::<Result<_, _>>()?;
    for device in known.keys().filter(|device| !fetched.devices.contains_key(*device)) {
        changed |= DEVICE_KEYS.delete(tx, &(name.clone(), device.clone()))?;
    }
    for (device, keys) in fetched.devices {
        if known.get(&device) != Some(&keys) {
            DEVICE_KEYS.put(tx, &(name.clone(), device), &Json(keys))?;
            changed = true;
        }
    }
    for usage in [Usage::Master, Usage::SelfSigning] {
        let row = (name.clone(), usage.name().to_owned());
        let known = CROSS_SIGNING_KEYS.get(tx, &row)?.map(|row| row.0);
        match fetched.keys.get(&usage) {
            key if key == known.as_ref() => {}
            Some(key) => {
                CROSS_SIGNING_KEYS.put(tx, &row, &Json(key.clone()))?;
                changed = true;
            }
            None => changed |= CROSS_SIGNING_KEYS.delete(tx, &row)?,
        }
    }
    list.stream_id = fetched.stream_id;
    list.fetched = now;
    list.stale = list.updates != updates;
    let fresh = !list.stale;
    REMOTE_LISTS.put(tx, &name, &Json(list))?;
    // What is fetched first, nobody was told otherwise before.
    if changed && !first {
        lists::note_change(tx, own, user)?;
    }
    Ok(fresh)
}

/// An update of a remote user's device.
#[derive(Debug, Clone)]
pub(super) struct Update {
    pub(super) device: String,
    pub(super) stream_id: u64,
    pub(super) prev_id: Vec<u64>,
    pub(super) deleted: bool,
    pub(super) keys: Option<Object>,
}

/// Takes an update of a device. True when the list has to be fetched.
pub(super) fn update_device(tx: &mut Tx, own: &str, user: &str, update: Update) -> Result<bool, StoreError> {
    if !shares_a_room(tx, user)? {
        return Ok(false);
    }
    let name = user.to_owned();
    let Some(Json(mut list)) = REMOTE_LISTS.get(tx, &name)? else {
        // Clients ask its server, and with that its list becomes known.
        lists::note_change(tx, own, user)?;
        return Ok(false);
    };
    if !list.stale && list.stream_id == update.stream_id {
        return Ok(false);
    }
    list.updates += 1;
    let fits = match update.prev_id.as_slice() {
        [] => list.stream_id == 0,
        before => before.iter().all(|id| *id == list.stream_id),
    };
    if !list.stale && fits {
        let row = (name.clone(), update.device);
        let room_for_one = DEVICE_KEYS.contains(tx, &row)? || DEVICE_KEYS.prefix(tx, &name)?.count() < MAX_DEVICES;
        match update.keys {
            _ if update.deleted => {
                DEVICE_KEYS.delete(tx, &row)?;
            }
            Some(keys) if room_for_one => DEVICE_KEYS.put(tx, &row, &Json(keys))?,
            _ => {}
        }
        list.stream_id = update.stream_id;
    } else {
        list.stale = true;
    }
    let stale = list.stale;
    REMOTE_LISTS.put(tx, &name, &Json(list))?;
    lists::note_change(tx, own, user)?;
    Ok(stale)
}

/// Takes an update of a remote user's cross-signing keys. True when the list has to be fetched.
pub(super) fn update_keys(
    tx: &mut Tx,
    own: &str,
    user: &str,
    keys: BTreeMap<Usage, Object>,
) -> Result<bool, StoreError> {
    if !shares_a_room(tx, user)? {
        return Ok(false);
    }
    let name = user.to_owned();
    let Some(Json(mut list)) = REMOTE_LISTS.get(tx, &name)? else {
        lists::note_change(tx, own, user)?;
        return Ok(false);
    };
    let mut changed = false;
    let old_master = CROSS_SIGNING_KEYS.get(tx, &(name.clone(), Usage::Master.name().to_owned()))?.map(|row| row.0);
    // A new master key alone leaves in doubt whether there still is a self-signing key.
    let in_doubt = !keys.contains_key(&Usage::SelfSigning)
        && keys.get(&Usage::Master).map(cross_signing::public_key)
            != old_master.as_ref().map(cross_signing::public_key);
    for (usage, key) in keys {
        let row = (name.clone(), usage.name().to_owned());
        if CROSS_SIGNING_KEYS.get(tx, &row)?.is_none_or(|known| known.0 != key) {
            CROSS_SIGNING_KEYS.put(tx, &row, &Json(key))?;
            changed = true;
        }
    }
    if !changed {
        return Ok(list.stale);
    }
    list.updates += 1;
    list.stale |= in_doubt;
    let stale = list.stale;
    REMOTE_LISTS.put(tx, &name, &Json(list))?;
    lists::note_change(tx, own, user)?;
    Ok(stale)
}

/// A remote user left a room: if it was the last that we share, its list is forgotten. Called in the change of the room.
///
/// # Errors
/// As all writes.
pub fn member_left(tx: &mut Tx, user: &str) -> Result<(), StoreError> {
    if (REMOTE_LISTS.contains(tx, &user.to_owned())? || DEVICE_LIST_CHANGED_AT.contains(tx, &user.to_owned())?)
        && !shares_a_room(tx, user)?
    {
        forget(tx, user)?;
    }
    Ok(())
}

/// This node left a room (server name `own`): it hears of nothing there any more. Called in the change of the room.
///
/// # Errors
/// As all writes.
pub fn room_left(tx: &mut Tx, own: &str, room: u64) -> Result<(), StoreError> {
    let members: Vec<String> = MEMBERS
        .prefix(tx, &(room, membership::JOIN))?
        .map(|row| row.map(|((_, _, user), _)| user))
        .collect::<Result<_, _>>()?;
    for user in members.iter().filter(|user| server_of(user) != own) {
        member_left(tx, user)?;
    }
    Ok(())
}

/// Whose comings and goings were noted in a room are new to anybody who joins it again.
///
/// # Errors
/// As all writes.
pub fn room_entered(tx: &mut Tx, room: u64) -> Result<(), StoreError> {
    delete_prefix(tx, &MEMBER_CHANGES, &room)?;
    delete_prefix(tx, &MEMBER_CHANGED_AT, &room)?;
    Ok(())
}

fn forget(tx: &mut Tx, user: &str) -> Result<(), StoreError> {
    let name = user.to_owned();
    REMOTE_LISTS.delete(tx, &name)?;
    delete_prefix(tx, &DEVICE_KEYS, &name)?;
    delete_prefix(tx, &CROSS_SIGNING_KEYS, &name)?;
    if let Some(position) = DEVICE_LIST_CHANGED_AT.get(tx, &name)? {
        DEVICE_LIST_CHANGES.delete(tx, &position)?;
        DEVICE_LIST_CHANGED_AT.delete(tx, &name)?;
    }
    Ok(())
}

/// The failure of a server as `keys/query` and `keys/claim` tell it.
pub(super) fn failure(error: &FederationError) -> Value {
    json!({ "errcode": error.errcode().unwrap_or("M_UNKNOWN"), "error": error.to_string() })
}
