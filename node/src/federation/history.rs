//! History and states that other servers have and we lack: for scrolling back, and for bridging gaps.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use kith_room::{Event, graph::sort_by_prev_events};
use kith_store::tables::rooms::GAPS;
use kith_transport::Class;
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedServerName, ServerName, UInt,
    api::{
        Direction,
        federation::{
            backfill::get_backfill::v1 as get_backfill,
            event::{get_event_by_timestamp::v1 as get_event_by_timestamp, get_room_state::v1 as get_room_state},
        },
    },
};

use super::{Federation, heads, pdus};
use crate::{
    Node,
    http::{Answer, MatrixError},
    rooms::{GivenState, Room, read},
};

/// Servers asked for a piece of history.
const MOST_SERVERS: usize = 4;
/// Gaps filled in one go.
const MOST_GAPS: usize = 5;
/// Beginnings of a fetched piece whose state is asked for.
const MOST_ROOTS: usize = 5;
/// Events fetched in one go.
const MOST_EVENTS: usize = 100;
/// Pieces fetched on the way back to one event.
const MOST_PIECES: usize = 20;
/// How long a server may take.
const TIME_LIMIT: Duration = Duration::from_secs(60);

impl Federation {
    /// Fetches up to `limit` events (at most 100) that lie before the latest gap in a room's history at or below `depth` (from
    /// the room's end if `None`), for `/messages`. Gives how many came; none when there is no gap, or nobody can fill it.
    ///
    /// # Errors
    /// The store's. That no server answers is no error: there is just nothing more to show now.
    pub async fn backfill(&self, room: &Room, depth: Option<u64>, limit: usize) -> Answer<usize> {
        let node = self.node()?;
        let gaps = node.store.read(|snapshot| {
            let mut gaps: Vec<OwnedEventId> = Vec::new();
            for row in GAPS.prefix_rev(snapshot, &room.number())? {
                let ((_, at, id), _) = row?;
                if depth.is_some_and(|depth| at > depth) {
                    continue;
                }
                gaps.extend(OwnedEventId::try_from(id).ok());
                if gaps.len() >= MOST_GAPS {
                    break;
                }
            }
            Ok::<_, MatrixError>(gaps)
        })?;
        if gaps.is_empty() {
            return Ok(0);
        }
        for server in servers(&node, room)? {
            match self.backfill_from(&node, room, &server, &gaps, limit.min(MOST_EVENTS)).await {
                Ok(0) => {}
                Ok(count) => return Ok(count),
                Err(error) => tracing::info!(room = %room.id(), %server, %error, "no history from a server"),
            }
        }
        Ok(0)
    }

    /// Where history is missing here: asks other servers of the room which event is closest to a time on one side of it, and if one is
    /// closer than `known`, the time of the closest here, fetches the history back to it, at most 2,000 events. Gives whether
    /// anything came.
    ///
    /// # Errors
    /// The store's.
    pub async fn history_at(
        &self,
        room: &Room,
        at: MilliSecondsSinceUnixEpoch,
        dir: Direction,
        known: Option<u64>,
    ) -> Answer<bool> {
        let node = self.node()?;
        let has_gaps =
            || node.store.read(|read| Ok::<_, MatrixError>(GAPS.prefix(read, &room.number())?.next().is_some()));
        if !has_gaps()? {
            return Ok(false);
        }
        for server in servers(&node, room)? {
            let request = get_event_by_timestamp::Request::new(room.id().to_owned(), at, dir);
            let Ok(told) = self.client().request(&server, request, Class::Control, TIME_LIMIT).await else { continue };
            let time = u64::from(told.origin_server_ts.get());
            let wanted = u64::from(at.get());
            let is_closer = match dir {
                Direction::Forward => time >= wanted && known.is_none_or(|known| time < known),
                Direction::Backward => time <= wanted && known.is_none_or(|known| time > known),
            };
            if !is_closer {
                continue;
            }
            let mut came = false;
            for _ in 0..MOST_PIECES {
                if room.unknown([&told.event_id])?.is_empty() || self.backfill(room, None, MOST_EVENTS).await? == 0 {
                    break;
                }
                came = true;
            }
            return Ok(came);
        }
        Ok(false)
    }

    async fn backfill_from(
        &self,
        node: &Arc<Node>,
        room: &Room,
        server: &ServerName,
        gaps: &[OwnedEventId],
        limit: usize,
    ) -> Answer<usize> {
        let limit = UInt::new_saturating(limit as u64);
        let request = get_backfill::Request::new(room.id().to_owned(), gaps.to_vec(), limit);
        let answer = self.client().request(server, request, Class::Bulk, TIME_LIMIT).await?;
        let pdus = answer.pdus.into_iter().take(2 * MOST_EVENTS).collect();
        let events = pdus::check_many(node, room.id(), room.version(), pdus).await?;
        let ids: Vec<OwnedEventId> = events.iter().map(|event| event.event_id().to_owned()).collect();
        let new: BTreeSet<OwnedEventId> = room.unknown(&ids)?.into_iter().collect();
        let events: Vec<Arc<Event>> =
            sort_by_prev_events(events.into_iter().filter(|event| new.contains(event.event_id())));
        // Where the piece begins nothing here knows the state.
        let mut roots = Vec::new();
        let mut rest = Vec::new();
        for event in events {
            let outside = event.prev_events().iter().filter(|id| !new.contains(*id));
            if roots.len() < MOST_ROOTS && !room.unknown(outside)?.is_empty() {
                roots.push(given_state(node, room, server, event).await?);
            } else {
                rest.push(event);
            }
        }
        room.add_history(roots, rest).await
    }
}

/// The state before an event as a server gives it, checked for form and signatures.
pub(super) async fn given_state(
    node: &Arc<Node>,
    room: &Room,
    server: &ServerName,
    event: Arc<Event>,
) -> Answer<GivenState> {
    if event.kind() == "m.room.create" {
        return Ok(GivenState { event, state: Vec::new(), auth_chain: Vec::new() });
    }
    let request = get_room_state::Request::new(event.event_id().to_owned(), room.id().to_owned());
    let (answer, _place) = node.federation.client().request_large(server, request, TIME_LIMIT).await?;
    let state = pdus::check_set(node, room.id(), room.version(), answer.pdus).await?;
    let auth_chain = pdus::check_set(node, room.id(), room.version(), answer.auth_chain).await?;
    Ok(GivenState { event, state, auth_chain })
}

/// Other servers of a room, reachable ones first.
fn servers(node: &Arc<Node>, room: &Room) -> Answer<Vec<OwnedServerName>> {
    let connected = heads::connected_keys(node);
    let mut servers: Vec<OwnedServerName> = node
        .store
        .read(|snapshot| read::servers(snapshot, room.number()))?
        .into_iter()
        .filter_map(|name| OwnedServerName::try_from(name).ok())
        .filter(|name| name != node.server_name())
        .collect();
    servers.sort_by_cached_key(|name| !heads::is_connected(&connected, name));
    servers.truncate(MOST_SERVERS);
    Ok(servers)
}
