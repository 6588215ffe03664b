//! What these endpoints ask of other servers.

use std::{sync::Arc, time::Duration};

use kith_transport::Class;
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedRoomId, OwnedServerName, RoomAliasId, RoomId, ServerName, UInt, UserId,
    api::{
        Direction,
        federation::{
            directory::{
                get_public_rooms::v1::Response as PublicRooms,
                get_public_rooms_filtered::v1::Request as PublicRoomsRequest,
            },
            space::{SpaceHierarchyParentSummary, get_hierarchy::v1 as get_hierarchy},
        },
    },
    directory::Filter,
    room::RoomSummary,
};
use serde_json::{Map, Value};

use crate::{
    Node,
    http::Answer,
    platform::timeout,
    rooms::{Room, read::StoredEvent},
};

/// How long a client that scrolls back waits for history of other servers; what comes later is there the next time.
const SCROLL: Duration = Duration::from_secs(10);
/// How long a client that jumps to a time waits for it.
const JUMP: Duration = Duration::from_secs(30);
/// How long a server may take to tell of a space.
const TELL: Duration = Duration::from_secs(10);
/// Events of history asked for at once.
const PIECE: usize = 100;

/// Joins through one of these servers.
pub(super) async fn join(
    node: &Arc<Node>,
    user: &UserId,
    room_id: &RoomId,
    servers: &[OwnedServerName],
    content: Map<String, Value>,
) -> Answer<()> {
    node.federation.join(user, room_id, servers, &content).await
}

/// Knocks through one of these servers.
pub(super) async fn knock(
    node: &Arc<Node>,
    user: &UserId,
    room_id: &RoomId,
    servers: &[OwnedServerName],
    content: Map<String, Value>,
) -> Answer<()> {
    node.federation.knock(user, room_id, servers, &content).await
}

/// Declines an invite, or withdraws a knock, of a room that this node is not in.
pub(super) async fn leave(
    node: &Arc<Node>,
    user: &UserId,
    room_id: &RoomId,
    content: Map<String, Value>,
) -> Answer<()> {
    node.federation.leave(user, room_id, &content).await
}

/// Invites a user of another server.
pub(super) async fn invite(
    node: &Arc<Node>,
    room: &Room,
    sender: &UserId,
    target: &UserId,
    content: Map<String, Value>,
) -> Answer<()> {
    node.federation.invite(room, sender, target, &content).await
}

/// Asks an alias's server for its room.
pub(super) async fn resolve_alias(
    node: &Arc<Node>,
    alias: &RoomAliasId,
) -> Answer<(OwnedRoomId, Vec<OwnedServerName>)> {
    node.federation.resolve_alias(alias).await
}

/// Asks for the history before these events; says whether any came.
pub(super) async fn backfill(node: &Arc<Node>, room_id: &RoomId, before: &[StoredEvent]) -> bool {
    let Ok(Some(room)) = node.rooms.get(room_id) else { return false };
    let depth = before.iter().map(|event| event.row.depth).max();
    match timeout(&*node.clock, SCROLL, node.federation.backfill(&room, depth, PIECE)).await {
        Ok(Ok(count)) => count > 0,
        Ok(Err(error)) => {
            tracing::info!(room = %room_id, %error, "no history could be had");
            false
        }
        Err(_) => false,
    }
}

/// Asks for the history around a time, if others have an event closer to it than `known`; says whether anything came.
pub(super) async fn history_at(
    node: &Arc<Node>,
    room_id: &RoomId,
    at: MilliSecondsSinceUnixEpoch,
    dir: Direction,
    known: Option<u64>,
) -> bool {
    let Ok(Some(room)) = node.rooms.get(room_id) else { return false };
    match timeout(&*node.clock, JUMP, node.federation.history_at(&room, at, dir, known)).await {
        Ok(Ok(came)) => came,
        Ok(Err(error)) => {
            tracing::info!(room = %room_id, %error, "no history could be had");
            false
        }
        // What came until now is of use, too.
        Err(_) => true,
    }
}

/// Asks a server for its published rooms.
pub(super) async fn public_rooms(
    node: &Arc<Node>,
    server: &ServerName,
    filter: Filter,
    since: Option<String>,
    limit: Option<UInt>,
) -> Answer<PublicRooms> {
    let mut request = PublicRoomsRequest::new();
    request.filter = filter;
    request.since = since;
    request.limit = limit;
    let found = node.federation.public_rooms(server, request).await?;
    let mut rooms = PublicRooms::new();
    rooms.chunk = found.chunk;
    rooms.next_batch = found.next_batch;
    rooms.prev_batch = found.prev_batch;
    rooms.total_room_count_estimate = found.total_room_count_estimate;
    Ok(rooms)
}

/// Asks a server what it knows of a room and its children; none when it tells nothing.
pub(super) async fn hierarchy(
    node: &Arc<Node>,
    server: &ServerName,
    room_id: &RoomId,
    suggested_only: bool,
) -> Option<(SpaceHierarchyParentSummary, Vec<RoomSummary>)> {
    let mut request = get_hierarchy::Request::new(room_id.to_owned());
    request.suggested_only = suggested_only;
    match node.federation.client().request(server, request, Class::Control, TELL).await {
        Ok(answer) => Some((answer.room, answer.children)),
        Err(error) => {
            tracing::debug!(room = %room_id, %server, %error, "a server tells nothing of a room");
            None
        }
    }
}
