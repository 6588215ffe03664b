//! Joining the ends of a room's graph when there are too many.
//!
//! Each event that nothing follows yet is an end (a forward extremity). Whoever says something follows up to ten of them, so in a room
//! where people talk there are few. But many servers that speak at once, or one that means no good, can leave very many, and every
//! new event then has to resolve the states at all of them. So above some number this node follows them itself, with an
//! event that no client is shown (`org.matrix.dummy_event`, as Synapse sends).

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::FutureExt as _;
use kith_store::tables::rooms::EXTREMITIES;
use ruma::UserId;
use serde_json::Map;

use crate::{
    Node,
    http::Answer,
    rooms::{DUMMY_EVENT, Draft, Room, read},
};

/// More ends than this are joined.
const MOST_ENDS: usize = 20;
/// Down to so many, or fewer.
const ENOUGH: usize = 10;
/// Events made for it in one go.
const MOST_EVENTS: usize = 10;
/// Users of ours who are tried: the first may not be allowed to speak.
const MOST_USERS: usize = 5;
/// For each server in the room, how much longer the wait before it may be, and its bound. All of them may have got the same
/// events at this moment: one should do it, and the others see that it is done.
const SPREAD: Duration = Duration::from_millis(300);
const LONGEST_SPREAD: Duration = Duration::from_secs(20);
/// Before the same room is looked at again, so that whoever makes ends does not set the pace.
const PAUSE: Duration = Duration::from_secs(2);

/// Rooms whose ends are being joined, by number.
#[derive(Debug, Default)]
pub struct Ends(Mutex<BTreeSet<u64>>);

impl Ends {
    fn begin(&self, room: u64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(room)
    }

    fn finish(&self, room: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&room);
    }
}

fn count(node: &Node, room: &Room) -> Answer<usize> {
    Ok(node.store.read(|read| Ok::<_, kith_store::StoreError>(EXTREMITIES.prefix(read, &room.number())?.count()))?)
}

/// Joins the ends of a room in the background if there are too many. Quick; called when events of others came in.
pub(crate) fn look(node: &Arc<Node>, room: &Room) {
    if !count(node, room).is_ok_and(|count| count > MOST_ENDS) || !node.federation.ends.begin(room.number()) {
        return;
    }
    let (node, room) = (node.clone(), room.clone());
    let spawner = node.spawner.clone();
    let task = async move {
        let servers = node.store.read(|read| read::servers(read, room.number())).map_or(0, |servers| servers.len());
        let spread = SPREAD.saturating_mul(u32::try_from(servers).unwrap_or(u32::MAX)).min(LONGEST_SPREAD);
        let wait = node.rng.below(u64::try_from(spread.as_millis()).unwrap_or(u64::MAX).max(1));
        node.clock.sleep(Duration::from_millis(wait)).await;
        let still = count(&node, &room).is_ok_and(|count| count > MOST_ENDS);
        if still && let Err(error) = join(&node, &room).await {
            tracing::info!(room = %room.id(), %error, "the ends of a room are not joined");
        }
        node.clock.sleep(PAUSE).await;
        node.federation.ends.finish(room.number());
    };
    spawner.spawn("join ends", task.boxed());
}

async fn join(node: &Arc<Node>, room: &Room) -> Answer<()> {
    let users = node.store.read(|read| read::local_members(read, room.number()))?;
    let mut users = users.iter().filter_map(|user| UserId::parse(user).ok()).take(MOST_USERS);
    let Some(mut user) = users.next() else { return Ok(()) };
    for _ in 0..MOST_EVENTS {
        if count(node, room)? <= ENOUGH {
            return Ok(());
        }
        let event = Draft::message(user.clone(), DUMMY_EVENT, Map::new());
        if let Err(error) = room.send(event).await {
            match users.next() {
                Some(next) if error.is("M_FORBIDDEN") => user = next,
                _ => return Err(error),
            }
        }
    }
    Ok(())
}
