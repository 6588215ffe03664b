//! What the membership endpoints have in common: finding the room, and proposing a member event.

use std::sync::Arc;

use http::StatusCode;
use kith_room::{Builder, CreateError, Signer, build::BuildError};
use kith_store::tables::rooms::ROOMS;
use ruma::{CanonicalJsonObject, RoomId, ServerName, UserId};
use serde_json::value::RawValue;

use crate::{
    Node,
    federation::{pdus, rules},
    http::{Answer, MatrixError},
    rooms::{Room, partial, read, timestamp},
};

/// A room that this node takes part in, and that lets the asking server ask.
pub(super) fn joined_room(node: &Arc<Node>, room_id: &RoomId, origin: &ServerName) -> Answer<Room> {
    let unknown = || MatrixError::not_found("this server takes no part in that room");
    let room = node.rooms.get(room_id)?.ok_or_else(unknown)?;
    node.store.read(|read| {
        if !ROOMS.get(read, &room.number())?.is_some_and(|row| row.0.joined) {
            return Err(unknown());
        }
        rules::check_acl(read, room.number(), origin)
    })?;
    Ok(room)
}

/// As [`joined_room`], for what takes the whole state: not a room whose members are not here yet.
pub(super) fn whole_room(node: &Arc<Node>, room_id: &RoomId, origin: &ServerName) -> Answer<Room> {
    let room = joined_room(node, room_id, origin)?;
    if node.store.read(|read| partial::is_partial(read, room.number()))? {
        // Not 404: it is in the room, and nobody may conclude that it is not.
        let message = "this server does not know all members of that room yet; ask another";
        return Err(MatrixError::new(StatusCode::SERVICE_UNAVAILABLE, "M_UNKNOWN", message));
    }
    Ok(room)
}

/// The user must be of the server that asks.
pub(super) fn check_user(user: &UserId, origin: &ServerName) -> Answer<()> {
    if user.server_name() == origin {
        return Ok(());
    }
    Err(MatrixError::forbidden(format!("{user} is not a user of {origin}")))
}

/// The membership that a user has in a room now, by its name.
pub(super) fn membership(node: &Arc<Node>, room: &Room, user: &UserId) -> Answer<Option<String>> {
    node.store.read(|snapshot| {
        let member = read::state_event(snapshot, room.number(), "m.room.member", user.as_str())?;
        Ok(member.and_then(|event| Some(event.content().get("membership")?.as_str()?.to_owned())))
    })
}

/// Proposes the event by which `user` changes its own membership; checked as it will be when it comes back signed.
pub(super) async fn propose(
    node: &Arc<Node>,
    room: &Room,
    user: &UserId,
    content: CanonicalJsonObject,
) -> Answer<Box<RawValue>> {
    let (now, random) = (timestamp(node.clock.now_ms()), node.rng.u64());
    let builder = Builder::new(user, "m.room.member", content).state_key(user.as_str());
    let template =
        room.with_engine(|engine, past| engine.template(builder, now, random, past).map_err(refusal)).await?;
    let text = serde_json::to_string(&template).map_err(MatrixError::internal)?;
    pdus::raw(&text)
}

/// What another server, or a client, is told when the engine will not make its event.
pub(super) fn refusal(error: CreateError) -> MatrixError {
    match error {
        CreateError::Forbidden(reason) => MatrixError::forbidden(reason),
        error @ CreateError::Unsigned { .. } => MatrixError::forbidden(error.to_string()),
        CreateError::Build(error @ BuildError::UnknownVersion(_)) => MatrixError::internal(error),
        CreateError::Build(error) => MatrixError::bad_json(error.to_string()),
        CreateError::Engine(error) => MatrixError::internal(error),
    }
}

/// A member event that a user made of itself: right type, membership, user and server.
pub(super) fn check_own_member(event: &kith_room::Event, membership: &str, origin: &ServerName) -> Answer<()> {
    let wrong = |reason: &str| Err(MatrixError::invalid_param(reason));
    check_user(event.sender(), origin)?;
    if event.kind() != "m.room.member" || event.state_key() != Some(event.sender().as_str()) {
        return wrong("the event is not the sender's own membership");
    }
    if event.content_str("membership") != Some(membership) {
        return wrong("the event sets another membership");
    }
    Ok(())
}

/// This server as a signer.
pub(crate) fn signer(node: &Node) -> Signer<'_> {
    Signer { server_name: node.server_name(), key: &node.key }
}
