//! `POST /_matrix/client/unstable/org.kith/rooms/{roomId}/delivery`: how far a user's own events have got.
//!
//! An event counts for the servers that were in the room when it was sent and are in it now. What a server has acknowledged is known
//! from the queues' positions, those that are not on the disk yet among them.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use kith_store::{
    Read, StoreError,
    tables::rooms::{MEMBERS, STATE_STREAM, STREAM, membership},
};
use ruma::{
    RoomId,
    api::{auth_scheme::AccessToken, metadata},
};
use serde::{Deserialize, Serialize};

use super::body;
use crate::{
    Node,
    client_api::untyped::{Untyped, Written},
    federation::outgoing::progress::Progress,
    http::{Answer, MatrixError, Routes, Session},
    rooms::read::{self, StoredEvent},
};

/// Events in one request.
const MOST_EVENTS: usize = 100;
/// Servers that are named in each list.
const MOST_NAMES: usize = 50;
/// Changes of the room's state that are looked through for servers that came after an event, and members that are looked up for it.
const MOST_CHANGES: usize = 2_000;

/// The request.
#[derive(Debug)]
struct GetDelivery;

metadata! {
    @for GetDelivery,
    method: POST,
    rate_limited: false,
    authentication: AccessToken,
    history: {
        unstable => "/_matrix/client/unstable/org.kith/rooms/{room_id}/delivery",
    }
}

#[derive(Debug, Deserialize)]
struct Asked {
    events: Vec<String>,
}

/// The answer.
#[derive(Debug, Serialize)]
struct Answered {
    events: BTreeMap<String, Reach>,
}

/// How far one event has got.
#[derive(Debug, Default, Serialize)]
struct Reach {
    waiting: Vec<Waiting>,
    waiting_count: usize,
    delivered: Vec<String>,
    delivered_count: usize,
    total: usize,
}

/// A server that has not acknowledged an event.
#[derive(Debug, Serialize)]
struct Waiting {
    server_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    away_since_ms: Option<u64>,
}

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(get_delivery)
}

async fn get_delivery(node: Arc<Node>, session: Session, request: Untyped<GetDelivery, Written>) -> Answer<Written> {
    let room_id = <&RoomId>::try_from(request.parameter(0))
        .map_err(|_| MatrixError::invalid_param("this is not a room ID"))?
        .to_owned();
    let Asked { events } = body(request.body)?;
    if events.len() > MOST_EVENTS {
        return Err(MatrixError::invalid_param(format!("at most {MOST_EVENTS} events can be asked about at once")));
    }
    let user = session.user_id.as_str();
    let room = node.store.read(|read| {
        let room = read::room_number(read, room_id.as_str())?;
        match room {
            Some(room) if read::is_joined(read, user, room)? => Ok(room),
            _ => Err(MatrixError::forbidden("you are not joined to this room")),
        }
    })?;
    let progress = node.federation.outgoing.progress(room);
    let reached = node.store.read(|read| {
        let mut own = Vec::new();
        for id in &events {
            let event = read::event_by_id(read, id)?;
            // What others have sent is theirs to know; what has no place in the stream is sent nowhere.
            own.extend(
                event.filter(|event| event.row.room == room && event.sender() == user && event.row.position != 0),
            );
        }
        let servers = Servers::of(read, room, node.server_name().as_str(), &progress, &own)?;
        own.iter().map(|event| Ok((event.row.event_id.clone(), servers.reach(read, event, &progress)?))).collect()
    });
    let reached: Result<_, StoreError> = reached;
    Written::of(&Answered { events: reached? })
}

/// The other servers of a room.
struct Servers {
    /// With the position that each has acknowledged.
    positions: Vec<(String, u64)>,
    /// Those of which somebody joined after the oldest of the events, with their users.
    newcomers: BTreeMap<String, Vec<String>>,
}

impl Servers {
    fn of(
        read: &dyn Read,
        room: u64,
        own: &str,
        progress: &Progress<'_>,
        events: &[StoredEvent],
    ) -> Result<Self, StoreError> {
        let mut positions = Vec::new();
        for server in read::servers(read, room)? {
            if server != own
                && let Some(position) = progress.position(read, &server)?
            {
                positions.push((server, position));
            }
        }
        let newcomers = match events.iter().map(|event| event.row.position).min() {
            Some(oldest) if !positions.is_empty() => newcomers(read, room, oldest)?,
            _ => BTreeMap::new(),
        };
        Ok(Self { positions, newcomers })
    }

    fn reach(&self, read: &dyn Read, event: &StoredEvent, progress: &Progress<'_>) -> Result<Reach, StoreError> {
        let mut reach = Reach::default();
        for (server, position) in &self.positions {
            if let Some(users) = self.newcomers.get(server)
                && !was_there(read, event.row.state_before, users)?
            {
                continue;
            }
            reach.total += 1;
            if *position >= event.row.position {
                reach.delivered_count += 1;
                if reach.delivered.len() < MOST_NAMES {
                    reach.delivered.push(server.clone());
                }
            } else {
                reach.waiting_count += 1;
                if reach.waiting.len() < MOST_NAMES {
                    let away_since_ms = progress.away_since(read, server)?;
                    reach.waiting.push(Waiting { server_name: server.clone(), away_since_ms });
                }
            }
        }
        Ok(reach)
    }
}

/// Servers of which somebody joined after a position, with their users who are or were in the room.
fn newcomers(read: &dyn Read, room: u64, after: u64) -> Result<BTreeMap<String, Vec<String>>, StoreError> {
    let mut came = BTreeSet::new();
    let later = (Bound::Excluded(&(room, after)), Bound::Unbounded);
    for row in STATE_STREAM.prefix_range(read, &room, later)?.take(MOST_CHANGES) {
        let ((_, position), _) = row?;
        let Some(number) = STREAM.get(read, &(room, position))? else { continue };
        let Some(event) = read::event(read, number)? else { continue };
        let joins = event.content().get("membership").and_then(|membership| membership.as_str()) == Some("join");
        if event.kind() == "m.room.member"
            && joins
            && let Some((_, server)) = event.state_key().and_then(|user| user.split_once(':'))
        {
            came.insert(server.to_owned());
        }
    }
    let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
    if came.is_empty() {
        return Ok(users);
    }
    let mut found = 0;
    for part in [membership::JOIN, membership::LEAVE, membership::BAN, membership::INVITE, membership::KNOCK] {
        for row in MEMBERS.prefix(read, &(room, part))? {
            let ((_, _, user), _) = row?;
            let server = user.split_once(':').map(|(_, server)| server).filter(|server| came.contains(*server));
            if let Some(server) = server {
                if found >= MOST_CHANGES {
                    return Ok(users);
                }
                found += 1;
                users.entry(server.to_owned()).or_default().push(user.clone());
            }
        }
    }
    Ok(users)
}

/// Whether one of these users was joined in a state of the room.
fn was_there(read: &dyn Read, state: u64, users: &[String]) -> Result<bool, StoreError> {
    for user in users {
        let member = read::state_event_at(read, state, "m.room.member", user)?;
        let membership = member.as_ref().and_then(|member| member.content().get("membership")?.as_str());
        if membership == Some("join") {
            return Ok(true);
        }
    }
    Ok(false)
}
