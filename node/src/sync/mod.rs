//! `GET /sync`: everything that is new for a device, long-polled (client-server specification, "Syncing").
//!
//! One file per stream. A sync subscribes to its user's bell, reads one short snapshot, and if there is nothing to tell
//! waits at the bell without holding anything. What it tells is everything after the token's position up to the position
//! that was published when the snapshot was taken, so nothing is told twice and nothing is left out.

mod account_data;
pub mod activity;
mod e2ee;
pub mod notifications;
pub(crate) mod present;
mod room;
pub mod sliding;
pub(crate) mod state;
#[cfg(test)]
mod tests;
pub(crate) mod threads;
mod timeline;
pub mod token;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

pub(crate) use self::e2ee::rooms_since;
use kith_store::{Snapshot, tables::rooms::membership};
use ruma::{
    OwnedRoomId, OwnedUserId,
    api::client::{
        filter::FilterDefinition,
        sync::sync_events::v3::{Filter, Request, Response},
    },
};

use self::{notifications::Reader, room::Glance, token::Token};
use crate::{
    Node,
    accounts::invites::Permissions,
    client_api::filters,
    ephemeral::{presence, typing},
    http::{Answer, Session},
    platform::timeout,
    rooms::{client_event::Viewer, read},
};

/// The longest a sync waits, whatever the client asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// How often a snapshot is taken anew because the writer had just committed.
const MOST_TRIES: usize = 1_000;

/// Answers a sync.
pub async fn sync(node: Arc<Node>, session: Session, request: Request) -> Answer<Response> {
    let since = request.since.as_deref().map(Token::parse).transpose()?;
    let filter = match request.filter {
        Some(Filter::FilterDefinition(filter)) => filter,
        Some(Filter::FilterId(id)) => node.store.read(|read| filters::stored(read, &session.user_id, &id))?,
        _ => FilterDefinition::default(),
    };
    let wish = Wish {
        since: since.filter(|since| since.position <= node.activity.position()),
        filter,
        full_state: request.full_state,
        state_after: request.use_state_after,
    };
    let _here = presence::Here::new(&node, &session, request.set_presence)?;
    if let Some(since) = &wish.since {
        e2ee::acknowledge(&node, &session, since)?;
    }
    let wait = request.timeout.unwrap_or_default().min(LONGEST_WAIT);
    let deadline = node.clock.monotonic() + wait;
    let mut bell = node.notifier.subscribe(session.user_id.as_str());
    loop {
        // Serials before the snapshot: what comes in between is told next time.
        let serial = node.ephemeral.serial();
        let response = {
            let (snapshot, upto) = settled(&node).await?;
            glance(&node, &snapshot, (upto, serial), &session, &wish)?
        };
        let left = deadline.saturating_sub(node.clock.monotonic());
        if wish.since.is_none() || wish.full_state || tells_something(&response) || left.is_zero() {
            return Ok(response);
        }
        // Waiting holds nothing but a place at the bell.
        let _ = timeout(&*node.clock, left, bell.changed_or(node.stopping())).await;
        if *node.stopping().borrow() {
            return Ok(response);
        }
    }
}

/// What a client wants to know.
struct Wish {
    since: Option<Token>,
    filter: FilterDefinition,
    full_state: bool,
    state_after: bool,
}

/// A snapshot and the position it shows, up to which everything is noted in the node's activity.
async fn settled(node: &Node) -> Answer<(Snapshot, u64)> {
    for _ in 0..MOST_TRIES {
        let snapshot = node.store.snapshot()?;
        let position = snapshot.position()?;
        if node.activity.position() >= position {
            return Ok((snapshot, position));
        }
        drop(snapshot);
        // The writer is just between its commit and the note of it.
        tokio::task::yield_now().await;
    }
    let upto = node.activity.position();
    Ok((node.store.snapshot()?, upto))
}

fn glance(
    node: &Arc<Node>,
    snapshot: &Snapshot,
    (upto, serial): (u64, u64),
    session: &Session,
    wish: &Wish,
) -> Answer<Response> {
    let viewer = Viewer {
        user_id: session.user_id.to_string(),
        device_id: Some(session.device_id.to_string()),
        now: node.clock.now_ms(),
    };
    let next = Token { position: upto, ephemeral: serial, run: node.ephemeral.run(), ..Token::default() };
    let mut response = Response::new(next.to_string());
    let since = wish.since.map(|since| since.position);
    // Serials of an earlier run of the node mean nothing now, and what the client was told then may have ended unseen.
    let restarted = wish.since.is_some_and(|since| since.run != node.ephemeral.run());
    let passed = wish.since.filter(|_| !restarted).map_or(0, |since| since.ephemeral);
    let mut typing: BTreeMap<u64, Vec<OwnedUserId>> = typing::changed_since(node, passed).into_iter().collect();
    if restarted {
        for (room, part) in read::rooms_of(snapshot, session.user_id.as_str())? {
            if part.membership == membership::JOIN {
                typing.entry(room).or_default();
            }
        }
    }
    let user = session.user_id.as_str();
    let mut account_data = account_data::changed(snapshot, user, since, upto)?;
    response.account_data.events = account_data.global(&wish.filter.account_data);
    let reader = Reader::new(&node.unread, snapshot, &session.user_id)?;
    let invites = Permissions::of(snapshot, &session.user_id)?;
    let mut present = presence::changed_since(node, snapshot, &session.user_id, passed)?;
    if restarted {
        presence::add_unseen(node, snapshot, &session.user_id, &mut present)?;
    }
    let also = account_data.rooms(snapshot)?.into_iter().chain(typing.keys().copied()).collect();
    for (room, part) in changed_rooms(node, snapshot, user, since, wish, also)? {
        let Some(row) = read::room(snapshot, room)? else { continue };
        let Ok(room_id) = OwnedRoomId::try_from(row.room_id.as_str()) else { continue };
        if !room::wanted(&wish.filter.room, &room_id) {
            continue;
        }
        let glance = Glance {
            read: snapshot,
            viewer: &viewer,
            filter: &wish.filter,
            state_after: wish.state_after,
            full_state: wish.full_state,
            since,
            upto,
            room,
            room_id: &room_id,
            part: &part,
        };
        let is_new = since.is_none_or(|since| part.position > since);
        match part.membership {
            membership::JOIN => {
                let (mut joined, newcomers) = glance.joined()?;
                glance.passing(node, &reader, &mut joined, typing.get(&room))?;
                if since.is_some() && glance.known().is_none() {
                    account_data.add_whole_room(snapshot, user, &room_id, upto)?;
                    presence::add_members(node, snapshot, room, &mut present)?;
                }
                presence::add(node, newcomers, &mut present);
                joined.account_data.events = account_data.of_room(&room_id, &wish.filter.room.account_data);
                if since.is_none() || wish.full_state || !joined.is_empty() {
                    response.rooms.join.insert(room_id.clone(), joined);
                }
            }
            // Invites of ignored users are not told (specification, "Ignoring Users"), nor are those that the user does not take.
            membership::INVITE if is_new && invites.shows(&part.sender) && !reader.ignores(&part.sender)? => {
                response.rooms.invite.insert(room_id.clone(), glance.invited()?);
            }
            membership::KNOCK if is_new => {
                response.rooms.knock.insert(room_id.clone(), glance.knocked()?);
            }
            membership::LEAVE | membership::BAN => {
                let wanted = match since {
                    Some(_) => is_new,
                    None => wish.filter.room.include_leave,
                };
                if wanted {
                    let mut left = glance.left()?;
                    left.account_data.events = account_data.of_room(&room_id, &wish.filter.room.account_data);
                    response.rooms.leave.insert(room_id.clone(), left);
                }
            }
            _ => {}
        }
    }
    response.presence.events = present::events(present, node.clock.monotonic(), &wish.filter.presence);
    let to_device = e2ee::tell(node, snapshot, session, wish.since.as_ref(), upto, &mut response)?;
    response.next_batch = Token { to_device, ..next }.to_string();
    Ok(response)
}

/// The rooms of the user in which something may have happened since the position.
fn changed_rooms(
    node: &Node,
    snapshot: &Snapshot,
    user: &str,
    since: Option<u64>,
    wish: &Wish,
    also: BTreeSet<u64>,
) -> Answer<Vec<(u64, kith_store::tables::rooms::UserRoomRow)>> {
    let changed = match since {
        Some(since) if !wish.full_state => node.activity.since(since),
        _ => None,
    };
    let Some(changed) = changed else { return Ok(read::rooms_of(snapshot, user)?) };
    let mut rooms = Vec::new();
    for room in changed.into_iter().chain(also).collect::<BTreeSet<u64>>() {
        if let Some(part) = read::user_room(snapshot, user, room)?.filter(|part| !part.forgotten) {
            rooms.push((room, part));
        }
    }
    Ok(rooms)
}

fn tells_something(response: &Response) -> bool {
    !(response.rooms.is_empty()
        && response.presence.is_empty()
        && response.account_data.is_empty()
        && response.to_device.is_empty()
        && response.device_lists.is_empty())
}
