//! Presence (client-server specification, "Presence"; EDU `m.presence`). In memory only: after a restart everybody is
//! offline until seen.
//!
//! A local user is as present as the most present of its devices: if each sync set the user's presence for itself, two
//! devices that differ would wake each other without end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use kith_store::{
    Read,
    tables::rooms::{MEMBERS, membership},
};
use ruma::{
    OwnedDeviceId, OwnedUserId, ServerName, UInt, UserId,
    api::federation::transactions::edu::{Edu, PresenceContent, PresenceUpdate},
    presence::PresenceState,
};

use super::{lock, other_servers};
use crate::{
    Node,
    http::{Answer, MatrixError, Session},
    rooms::read,
};

/// A user whose clients have not synced for so long is offline.
const GONE_AFTER: Duration = Duration::from_secs(60);
/// How often that is looked for.
const LOOK: Duration = Duration::from_secs(20);
/// How recently a user must have done something to be active now.
const ACTIVE: Duration = Duration::from_secs(300);
/// How often other servers are told again of users who stay present.
const TELL_AGAIN: Duration = Duration::from_secs(20 * 60);
/// A user of another server of whom nothing was heard for so long is offline.
const FORGET_AFTER: Duration = Duration::from_secs(45 * 60);
/// How many users are remembered; those changed longest ago are forgotten first.
const REMEMBERED: usize = 20_000;
/// How many users one EDU may tell of.
const MOST_IN_AN_EDU: usize = 100;
/// How many users a client is told of as offline after the node was started anew. Few rooms have more.
const MOST_UNSEEN: usize = 2_000;
/// The longest status message, in characters.
const LONGEST_STATUS: usize = 500;

/// Everybody's presence.
#[derive(Debug, Default)]
pub(super) struct Presence {
    users: BTreeMap<OwnedUserId, Seen>,
    /// The users by the serial of their latest change.
    changes: BTreeMap<u64, OwnedUserId>,
    /// What local devices say of their users. Gone ones are removed.
    devices: BTreeMap<(OwnedUserId, OwnedDeviceId), Device>,
}

/// What one device says of its user.
#[derive(Debug)]
struct Device {
    state: PresenceState,
    /// Monotonic time of its last sync.
    synced: Duration,
    /// How many of its syncs are being answered.
    waiting: u32,
}

/// One user's presence.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Online, unavailable, offline.
    pub state: PresenceState,
    /// What the user says of itself.
    pub status: Option<String>,
    /// Monotonic time of the last activity.
    active: Duration,
    /// Monotonic time at which it was told last, by us to other servers or by them to us.
    told: Duration,
    serial: u64,
}

impl Seen {
    /// How long ago the user did something.
    pub fn idle(&self, now: Duration) -> Duration {
        now.saturating_sub(self.active)
    }

    /// Whether the user is doing something now.
    pub fn is_active(&self, now: Duration) -> bool {
        self.state == PresenceState::Online && self.idle(now) < ACTIVE
    }
}

impl Presence {
    /// What the devices of a user say together.
    fn of_devices(&self, user: &UserId) -> PresenceState {
        let first = (user.to_owned(), OwnedDeviceId::from(""));
        self.devices
            .range(first..)
            .take_while(|((other, _), _)| other == user)
            .map(|(_, device)| device.state.clone())
            .max_by_key(rank)
            .unwrap_or(PresenceState::Offline)
    }

    fn note(&mut self, user: &UserId, seen: Seen) {
        if let Some(old) = self.users.remove(user) {
            self.changes.remove(&old.serial);
        } else if self.users.len() >= REMEMBERED
            && let Some((_, oldest)) = self.changes.pop_first()
        {
            self.users.remove(&oldest);
        }
        self.changes.insert(seen.serial, user.to_owned());
        self.users.insert(user.to_owned(), seen);
    }
}

fn rank(state: &PresenceState) -> u8 {
    match state {
        PresenceState::Online => 2,
        PresenceState::Offline => 0,
        _ => 1,
    }
}

/// Makes a device present for as long as it lives (and a little longer): for a sync that is being answered. A sync that says
/// `offline` makes nobody present, nor keeps present who was so before.
#[derive(Debug)]
pub struct Here {
    node: Arc<Node>,
    key: Option<(OwnedUserId, OwnedDeviceId)>,
}

impl Here {
    /// The device syncs, and says how its user is by that.
    ///
    /// # Errors
    /// The store's.
    pub fn new(node: &Arc<Node>, session: &Session, state: PresenceState) -> Answer<Self> {
        if state == PresenceState::Offline {
            return Ok(Self { node: node.clone(), key: None });
        }
        let key = (session.user_id.clone(), session.device_id.clone());
        let now = node.clock.monotonic();
        {
            let mut presence = lock(&node.ephemeral.presence);
            let device = presence.devices.entry(key.clone()).or_insert_with(|| Device {
                state: state.clone(),
                synced: now,
                waiting: 0,
            });
            device.synced = now;
            device.waiting += 1;
            device.state = state.clone();
            if state == PresenceState::Online
                && let Some(seen) = presence.users.get_mut(&session.user_id)
            {
                seen.active = now;
            }
        }
        let here = Self { node: node.clone(), key: Some(key) };
        refresh(node, &session.user_id, None)?;
        Ok(here)
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        let Some(key) = &self.key else { return };
        let now = self.node.clock.monotonic();
        if let Some(device) = lock(&self.node.ephemeral.presence).devices.get_mut(key) {
            device.synced = now;
            device.waiting = device.waiting.saturating_sub(1);
        }
    }
}

/// What is known of a user's presence.
pub fn get(node: &Node, user: &UserId) -> Option<Seen> {
    lock(&node.ephemeral.presence).users.get(user).cloned()
}

/// Whether one user may see another's presence: themselves, and who shares a room.
///
/// # Errors
/// The store's.
pub fn may_see(read: &dyn Read, viewer: &UserId, user: &UserId) -> Answer<bool> {
    Ok(viewer == user || read::share_a_room(read, viewer.as_str(), user.as_str())?)
}

/// A local user says how it is, through one of its devices.
///
/// # Errors
/// `M_TOO_LARGE` for a long status.
pub fn set(node: &Arc<Node>, session: &Session, state: PresenceState, status: Option<String>) -> Answer<()> {
    if status.as_ref().is_some_and(|status| status.chars().count() > LONGEST_STATUS) {
        return Err(MatrixError::too_large("the status message is too long"));
    }
    let key = (session.user_id.clone(), session.device_id.clone());
    let synced = node.clock.monotonic();
    {
        let mut presence = lock(&node.ephemeral.presence);
        let waiting = presence.devices.get(&key).map_or(0, |device| device.waiting);
        presence.devices.insert(key, Device { state, synced, waiting });
    }
    refresh(node, &session.user_id, Some(status))
}

/// Tells of a local user's presence if its devices now say something else, or if there is a new status.
fn refresh(node: &Arc<Node>, user: &UserId, status: Option<Option<String>>) -> Answer<()> {
    let (state, idle) = {
        let presence = lock(&node.ephemeral.presence);
        let state = presence.of_devices(user);
        let (known, known_status, active) = match presence.users.get(user) {
            Some(seen) => (seen.state.clone(), seen.status.clone(), Some(seen.active)),
            None => (PresenceState::Offline, None, None),
        };
        if state == known && status.as_ref().is_none_or(|status| *status == known_status) {
            return Ok(());
        }
        let now = node.clock.monotonic();
        // Who comes does something; who goes has done nothing by that.
        let is_coming = rank(&state) >= rank(&known);
        (state, active.filter(|_| !is_coming).map_or(Duration::ZERO, |active| now.saturating_sub(active)))
    };
    change(node, user, state, status, idle)?;
    tell_servers(node, user)
}

/// Another server tells of its users.
///
/// # Errors
/// The store's.
pub async fn receive(node: &Arc<Node>, origin: &ServerName, content: PresenceContent) -> Answer<()> {
    for update in content.push.into_iter().take(MOST_IN_AN_EDU) {
        if update.user_id.server_name() != origin {
            continue;
        }
        // Only who shares a room with somebody here is of interest.
        let known =
            node.store.read(|read| Ok::<_, MatrixError>(!read::rooms_of(read, update.user_id.as_str())?.is_empty()))?;
        if known {
            let idle = Duration::from_millis(update.last_active_ago.into());
            let status: Option<String> = update.status_msg.map(|status| status.chars().take(LONGEST_STATUS).collect());
            let is_told = {
                let now = node.clock.monotonic();
                let mut presence = lock(&node.ephemeral.presence);
                // Said again only so that it is not forgotten: nobody need be woken.
                presence.users.get_mut(&update.user_id).is_some_and(|seen| {
                    let is_same = seen.state == update.presence && seen.status == status;
                    if is_same {
                        seen.told = now;
                        seen.active = now.saturating_sub(idle);
                    }
                    is_same
                })
            };
            if !is_told {
                change(node, &update.user_id, update.presence, Some(status), idle)?;
            }
        }
    }
    Ok(())
}

fn change(
    node: &Arc<Node>,
    user: &UserId,
    state: PresenceState,
    status: Option<Option<String>>,
    idle: Duration,
) -> Answer<()> {
    let now = node.clock.monotonic();
    {
        let mut presence = lock(&node.ephemeral.presence);
        let status = status.unwrap_or_else(|| presence.users.get(user).and_then(|old| old.status.clone()));
        let serial = node.ephemeral.next();
        presence.note(user, Seen { state, status, active: now.saturating_sub(idle), told: now, serial });
    }
    let watchers = node.store.read(|read| watchers(read, node, user))?;
    node.notifier.wake(watchers.iter().map(String::as_str));
    Ok(())
}

/// The local users who see a user's presence.
fn watchers(read: &dyn Read, node: &Node, user: &UserId) -> Answer<BTreeSet<String>> {
    let mut watchers = BTreeSet::new();
    for (room, part) in read::rooms_of(read, user.as_str())? {
        if part.membership == membership::JOIN {
            watchers.extend(read::local_members(read, room)?);
        }
    }
    if node.is_local(user) {
        watchers.insert(user.to_string());
    }
    Ok(watchers)
}

fn tell_servers(node: &Arc<Node>, user: &UserId) -> Answer<()> {
    let now = node.clock.monotonic();
    let seen = lock(&node.ephemeral.presence).users.get_mut(user).map(|seen| {
        seen.told = now;
        seen.clone()
    });
    let Some(seen) = seen else { return Ok(()) };
    let servers = node.store.read(|read| {
        let mut servers = BTreeSet::new();
        for (room, part) in read::rooms_of(read, user.as_str())? {
            if part.membership == membership::JOIN {
                servers.extend(other_servers(read, node.server_name(), room)?);
            }
        }
        Ok::<_, MatrixError>(servers)
    })?;
    let idle = u64::try_from(seen.idle(now).as_millis()).unwrap_or(u64::MAX);
    let mut update = PresenceUpdate::new(user.to_owned(), seen.state.clone(), UInt::new_saturating(idle));
    update.currently_active = seen.is_active(now);
    update.status_msg = seen.status;
    node.federation.send_ephemeral(servers, &Edu::Presence(PresenceContent::new(vec![update])));
    Ok(())
}

/// Users whose presence changed after `serial` and whom `viewer` may see. After 0, those who are not offline.
pub(crate) fn changed_since(
    node: &Node,
    read: &dyn Read,
    viewer: &UserId,
    serial: u64,
) -> Answer<BTreeMap<OwnedUserId, Seen>> {
    let changed: Vec<(OwnedUserId, Seen)> = {
        let presence = lock(&node.ephemeral.presence);
        presence
            .changes
            .range(serial.saturating_add(1)..)
            .filter_map(|(_, user)| Some((user.clone(), presence.users.get(user)?.clone())))
            .filter(|(_, seen)| serial != 0 || seen.state != PresenceState::Offline)
            .collect()
    };
    if changed.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut rooms = read::rooms_of(read, viewer.as_str())?;
    rooms.retain(|(_, part)| part.membership == membership::JOIN);
    let mut visible = BTreeMap::new();
    for (user, seen) in changed {
        let mut shared = user == viewer;
        for (room, _) in &rooms {
            shared = shared || read::is_joined(read, user.as_str(), *room)?;
        }
        if shared {
            visible.insert(user, seen);
        }
    }
    Ok(visible)
}

/// Adds as offline those who share a room with `viewer` and are not known to be present: for a client that was told of them
/// before the node was started anew. At most [`MOST_UNSEEN`] of them.
///
/// # Errors
/// The store's.
pub(crate) fn add_unseen(
    node: &Node,
    read: &dyn Read,
    viewer: &UserId,
    present: &mut BTreeMap<OwnedUserId, Seen>,
) -> Answer<()> {
    let mut unseen = BTreeSet::new();
    for (room, part) in read::rooms_of(read, viewer.as_str())? {
        if part.membership != membership::JOIN {
            continue;
        }
        for row in MEMBERS.prefix(read, &(room, membership::JOIN))? {
            let ((_, _, user), _) = row?;
            if unseen.len() >= MOST_UNSEEN {
                break;
            }
            if let Ok(user) = OwnedUserId::try_from(user) {
                unseen.insert(user);
            }
        }
    }
    let presence = lock(&node.ephemeral.presence);
    for user in unseen {
        if presence.users.get(&user).is_none_or(|seen| seen.state == PresenceState::Offline) {
            // Not active for as long as the node runs, at least.
            let (state, active, told) = (PresenceState::Offline, Duration::ZERO, Duration::ZERO);
            present.entry(user).or_insert(Seen { state, status: None, active, told, serial: 0 });
        }
    }
    Ok(())
}

/// Adds those of these users who are not offline.
pub(crate) fn add(node: &Node, users: Vec<OwnedUserId>, present: &mut BTreeMap<OwnedUserId, Seen>) {
    for user in users {
        if let Some(seen) = get(node, &user).filter(|seen| seen.state != PresenceState::Offline) {
            present.insert(user, seen);
        }
    }
}

/// Adds the joined users of a room who are not offline.
pub(crate) fn add_members(
    node: &Node,
    read: &dyn Read,
    room: u64,
    present: &mut BTreeMap<OwnedUserId, Seen>,
) -> Answer<()> {
    let users: Vec<OwnedUserId> = lock(&node.ephemeral.presence).users.keys().cloned().collect();
    let mut members = Vec::new();
    for user in users {
        if MEMBERS.contains(read, &(room, membership::JOIN, user.to_string()))? {
            members.push(user);
        }
    }
    add(node, members, present);
    Ok(())
}

/// Finds users who are gone, for as long as the node runs.
pub(crate) async fn watch(node: Arc<Node>) {
    loop {
        node.clock.sleep(LOOK).await;
        if let Err(error) = look(&node) {
            tracing::debug!(%error, "a user's leaving could not be told");
        }
    }
}

fn look(node: &Arc<Node>) -> Answer<()> {
    let now = node.clock.monotonic();
    let mut local = BTreeSet::new();
    let (mut lost, mut again) = (Vec::new(), Vec::new());
    {
        let mut presence = lock(&node.ephemeral.presence);
        presence.devices.retain(|(user, _), device| {
            let is_here = device.waiting > 0 || now.saturating_sub(device.synced) < GONE_AFTER;
            if !is_here {
                local.insert(user.clone());
            }
            is_here
        });
        for (user, seen) in presence.users.iter().filter(|(_, seen)| seen.state != PresenceState::Offline) {
            let silent = now.saturating_sub(seen.told);
            if node.is_local(user) {
                if silent >= TELL_AGAIN {
                    again.push(user.clone());
                }
            } else if silent >= FORGET_AFTER {
                lost.push((user.clone(), seen.idle(now)));
            }
        }
    }
    for user in local {
        refresh(node, &user, None)?;
    }
    for user in again {
        tell_servers(node, &user)?;
    }
    for (user, idle) in lost {
        change(node, &user, PresenceState::Offline, None, idle)?;
    }
    Ok(())
}
