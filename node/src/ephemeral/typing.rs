//! Typing (client-server specification, "Typing notifications"; EDU `m.typing`).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ruma::{
    OwnedUserId, RoomId, ServerName, UserId,
    api::federation::transactions::edu::{Edu, TypingContent},
};

use super::{lock, other_servers};
use crate::{
    Node,
    federation::rules,
    http::{Answer, MatrixError},
    rooms::read,
};

/// The longest a user is shown as typing without saying so again.
const LONGEST: Duration = Duration::from_secs(120);
/// How long another server's user is shown as typing.
const REMOTE: Duration = Duration::from_secs(30);
/// How often it is looked who has to stop, at least.
const LOOK: Duration = Duration::from_secs(2);
/// How many users are shown as typing in one room.
const MOST_IN_A_ROOM: usize = 64;

/// Who types where.
#[derive(Debug, Default)]
pub(super) struct Typing(BTreeMap<u64, Room>);

#[derive(Debug, Default)]
struct Room {
    serial: u64,
    /// Whether a task waits for their time to be up.
    watched: bool,
    /// Users with the monotonic time at which they stop.
    users: BTreeMap<OwnedUserId, Duration>,
}

/// A local user begins or stops typing.
///
/// # Errors
/// `M_FORBIDDEN` for who is not in the room.
pub async fn set(node: &Arc<Node>, user: &UserId, room_id: &RoomId, typing: Option<Duration>) -> Answer<()> {
    let room = node.rooms.require(room_id)?.number();
    let servers = node.store.read(|read| {
        if !read::is_joined(read, user.as_str(), room)? {
            return Err(MatrixError::forbidden("only who is in a room types in it"));
        }
        Ok(other_servers(read, node.server_name(), room)?)
    })?;
    let changed = change(node, room, user, typing.map(|time| time.min(LONGEST)))?;
    if changed || typing.is_some() {
        let content = TypingContent::new(room_id.to_owned(), user.to_owned(), typing.is_some());
        node.federation.send_ephemeral(servers, &Edu::Typing(content));
    }
    Ok(())
}

/// Another server tells of its user.
pub async fn receive(node: &Arc<Node>, origin: &ServerName, content: TypingContent) -> Answer<()> {
    if content.user_id.server_name() != origin {
        return Err(MatrixError::forbidden("a server tells of its own users only"));
    }
    let Some(room) = node.rooms.get(&content.room_id)? else { return Ok(()) };
    let taken = node.store.read(|read| {
        // Server ACLs hold for what is ephemeral, too (MSC4163).
        rules::check_acl(read, room.number(), origin)?;
        Ok::<_, MatrixError>(read::is_joined(read, content.user_id.as_str(), room.number())?)
    })?;
    if taken {
        change(node, room.number(), &content.user_id, content.typing.then_some(REMOTE))?;
    }
    Ok(())
}

fn change(node: &Arc<Node>, number: u64, user: &UserId, typing: Option<Duration>) -> Answer<bool> {
    let now = node.clock.monotonic();
    let (changed, watch) = {
        let mut all = lock(&node.ephemeral.typing);
        let room = all.0.entry(number).or_default();
        let changed = match typing {
            Some(time) if room.users.len() < MOST_IN_A_ROOM || room.users.contains_key(user) => {
                room.users.insert(user.to_owned(), now + time).is_none()
            }
            Some(_) => false,
            None => room.users.remove(user).is_some(),
        };
        if changed {
            room.serial = node.ephemeral.next();
        }
        let watch = !room.users.is_empty() && !std::mem::replace(&mut room.watched, !room.users.is_empty());
        (changed, watch)
    };
    if watch {
        node.spawner.spawn("typing ends", Box::pin(end(node.clone(), number)));
    }
    if changed { wake(node, number) } else { Ok(()) }?;
    Ok(changed)
}

/// Ends the typing of those in a room whose time is up, until nobody types there.
async fn end(node: Arc<Node>, number: u64) {
    loop {
        let now = node.clock.monotonic();
        let (ended, next) = {
            let mut all = lock(&node.ephemeral.typing);
            let Some(room) = all.0.get_mut(&number) else { return };
            let before = room.users.len();
            room.users.retain(|_, until| *until > now);
            let ended = room.users.len() < before;
            if ended {
                room.serial = node.ephemeral.next();
            }
            let next = room.users.values().min().copied();
            room.watched = next.is_some();
            (ended, next)
        };
        if ended && let Err(error) = wake(&node, number) {
            tracing::debug!(%error, "the end of typing could not be told");
        }
        let Some(next) = next else { return };
        // Somebody whose time is up earlier may begin meanwhile.
        node.clock.sleep(next.saturating_sub(now).min(LOOK)).await;
    }
}

fn wake(node: &Arc<Node>, number: u64) -> Answer<()> {
    let users = node.store.read(|read| read::local_members(read, number))?;
    node.notifier.wake(users.iter().map(String::as_str));
    Ok(())
}

/// Rooms in which who is typing changed after `serial`, with who types there now.
pub(crate) fn changed_since(node: &Node, serial: u64) -> Vec<(u64, Vec<OwnedUserId>)> {
    let mut all = lock(&node.ephemeral.typing);
    let latest = node.ephemeral.serial();
    // Rooms where it has been quiet for long need no memory; a client that slept through it shows nobody anyway.
    all.0.retain(|_, room| !room.users.is_empty() || room.watched || room.serial + 10_000 > latest);
    all.0
        .iter()
        .filter(|(_, room)| room.serial > serial && (serial != 0 || !room.users.is_empty()))
        .map(|(number, room)| (*number, room.users.keys().cloned().collect()))
        .collect()
}
