//! Leaving, inviting, kicking, banning, unbanning, forgetting, and the list of rooms one is in (client-server
//! specification, "Room membership").

use std::sync::Arc;

use kith_store::{
    Json, Read, StoreError, Touched,
    tables::rooms::{USER_ROOMS, membership},
};
use ruma::{
    OwnedRoomId, RoomId, UserId,
    api::client::membership::{
        ban_user::v3 as ban_user,
        forget_room::v3 as forget_room,
        invite_user::v3::{self as invite_user, InvitationRecipient},
        joined_rooms::v3 as joined_rooms,
        kick_user::v3 as kick_user,
        leave_room::v3 as leave_room,
        unban_user::v3 as unban_user,
    },
};
use serde_json::{Map, Value, json};

use super::remote;
use crate::{
    Node,
    accounts::{
        invites,
        limits::{self, Action},
        profile, users,
    },
    http::{Answer, MatrixError, Routes, Session},
    rooms::{Draft, Room, read},
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .add(joined_rooms)
        .add(leave_room)
        .add(invite_user)
        .add(kick_user)
        .add(ban_user)
        .add(unban_user)
        .add(forget_room)
}

/// The longest reason for a change of membership, in bytes.
const LONGEST_REASON: usize = 4_096;

/// The content of a member event.
pub fn member(membership: &str, reason: Option<String>) -> Answer<Map<String, Value>> {
    let mut content = Map::new();
    content.insert("membership".to_owned(), json!(membership));
    if let Some(reason) = reason {
        if reason.len() > LONGEST_REASON {
            return Err(MatrixError::invalid_param(format!("the reason is longer than {LONGEST_REASON} bytes")));
        }
        content.insert("reason".to_owned(), json!(reason));
    }
    Ok(content)
}

/// Puts name and picture of a user of this node into a member event's content.
pub fn add_profile(read: &dyn Read, user: &UserId, content: &mut Map<String, Value>) -> Result<(), StoreError> {
    content.extend(profile::for_member_event(read, user)?);
    Ok(())
}

/// A change of `target`'s membership, made by `sender`.
pub fn member_draft(sender: &UserId, target: &UserId, content: Map<String, Value>) -> Draft {
    Draft::state(sender.to_owned(), "m.room.member", target.as_str(), content)
}

/// A room that this node takes part in.
///
/// # Errors
/// `M_FORBIDDEN` when it does not, as for everybody who is not in the room.
pub fn room(node: &Node, room_id: &RoomId) -> Answer<Room> {
    node.rooms.get(room_id)?.ok_or_else(|| MatrixError::forbidden("you are not in this room"))
}

/// The present membership (as in [`membership`]) of a user, if there is one.
pub fn membership_now(node: &Node, room_id: &RoomId, user: &UserId) -> Answer<Option<u8>> {
    node.store.read(|read| {
        let Some(room) = read::room_number(read, room_id.as_str())? else { return Ok(None) };
        Ok(read::user_room(read, user.as_str(), room)?.map(|part| part.membership))
    })
}

async fn joined_rooms(node: Arc<Node>, session: Session, _: joined_rooms::Request) -> Answer<joined_rooms::Response> {
    let rooms = node.store.read(|read| {
        let mut rooms = Vec::new();
        for (number, part) in read::rooms_of(read, session.user_id.as_str())? {
            if part.membership == membership::JOIN
                && let Some(room) = read::room(read, number)?
                && let Ok(room_id) = OwnedRoomId::try_from(room.room_id)
            {
                rooms.push(room_id);
            }
        }
        Ok::<_, StoreError>(rooms)
    })?;
    Ok(joined_rooms::Response::new(rooms))
}

async fn leave_room(node: Arc<Node>, session: Session, request: leave_room::Request) -> Answer<leave_room::Response> {
    leave(&node, &session.user_id, &request.room_id, request.reason).await?;
    Ok(leave_room::Response::new())
}

/// Takes a user out of a room, or declines its invite, or withdraws its knock. Fine when the user has left already.
pub async fn leave(node: &Arc<Node>, user: &UserId, room_id: &RoomId, reason: Option<String>) -> Answer<()> {
    match membership_now(node, room_id, user)? {
        Some(membership::JOIN | membership::INVITE | membership::KNOCK) => {}
        Some(membership::LEAVE) => return Ok(()),
        Some(membership::BAN) => return Err(MatrixError::forbidden("you are banned from this room")),
        _ => return Err(MatrixError::not_found("you have no part in this room")),
    }
    let content = member("leave", reason)?;
    if takes_part(node, room_id)? {
        room(node, room_id)?.send(member_draft(user, user, content)).await?;
        return Ok(());
    }
    remote::leave(node, user, room_id, content).await
}

/// Whether a user of this node is joined, so that this node has the room's present state.
pub fn takes_part(node: &Node, room_id: &RoomId) -> Answer<bool> {
    node.store.read(|read| {
        let Some(number) = read::room_number(read, room_id.as_str())? else { return Ok(false) };
        Ok(read::room(read, number)?.is_some_and(|room| room.joined))
    })
}

async fn invite_user(
    node: Arc<Node>,
    session: Session,
    request: invite_user::Request,
) -> Answer<invite_user::Response> {
    let recipient = match request.recipient {
        InvitationRecipient::UserId(recipient) => recipient,
        _ => return Err(no_identity_server()),
    };
    limits::check(&node, Action::Invite, session.user_id.as_str())?;
    let content = member("invite", recipient.reason)?;
    invite(&node, &session.user_id, &request.room_id, &recipient.user_id, content).await?;
    Ok(invite_user::Response::new())
}

/// What is answered to an invite by e-mail address or telephone number: somebody would have to be trusted to know whose it is.
pub fn no_identity_server() -> MatrixError {
    let message = "this node trusts no identity server: invite by user ID";
    MatrixError::new(http::StatusCode::BAD_REQUEST, "M_SERVER_NOT_TRUSTED", message)
}

/// Invites a user of this node or another server; `content` is that of the member event, profile apart.
pub async fn invite(
    node: &Arc<Node>,
    sender: &UserId,
    room_id: &RoomId,
    target: &UserId,
    mut content: Map<String, Value>,
) -> Answer<()> {
    let room = room(node, room_id)?;
    node.store.read(|read| super::joined(read, room_id, sender.as_str()).map(drop))?;
    crate::appservice::ask::introduce(node, target).await?;
    node.federation.whole(room_id).await?;
    match membership_now(node, room_id, target)? {
        Some(membership::JOIN) => {
            return Err(MatrixError::forbidden("this user is in the room already"));
        }
        Some(membership::BAN) => return Err(MatrixError::forbidden("this user is banned from the room")),
        _ => {}
    }
    if node.is_local(target) {
        node.store.read(|read| {
            check_invitable(read, target, sender)?;
            Ok::<_, MatrixError>(add_profile(read, target, &mut content)?)
        })?;
        room.send(member_draft(sender, target, content)).await?;
        return Ok(());
    }
    remote::invite(node, &room, sender, target, content).await
}

/// That a user of this node is there to be invited, and takes invites of this sender.
///
/// # Errors
/// `M_NOT_FOUND`, `M_INVITE_BLOCKED`.
pub fn check_invitable(read: &dyn Read, target: &UserId, sender: &UserId) -> Answer<()> {
    if users::is_active(read, target)? {
        return invites::check(read, target, sender);
    }
    Err(MatrixError::not_found(format!("there is no user {target} on this node")))
}

async fn kick_user(node: Arc<Node>, session: Session, request: kick_user::Request) -> Answer<kick_user::Response> {
    node.store.read(|read| super::joined(read, &request.room_id, session.user_id.as_str()).map(drop))?;
    node.federation.whole(&request.room_id).await?;
    match membership_now(&node, &request.room_id, &request.user_id)? {
        Some(membership::JOIN | membership::INVITE | membership::KNOCK) => {}
        _ => return Err(MatrixError::forbidden("this user is not in the room")),
    }
    let content = member("leave", request.reason)?;
    room(&node, &request.room_id)?.send(member_draft(&session.user_id, &request.user_id, content)).await?;
    Ok(kick_user::Response::new())
}

async fn ban_user(node: Arc<Node>, session: Session, request: ban_user::Request) -> Answer<ban_user::Response> {
    node.store.read(|read| super::joined(read, &request.room_id, session.user_id.as_str()).map(drop))?;
    node.federation.whole(&request.room_id).await?;
    let content = member("ban", request.reason)?;
    room(&node, &request.room_id)?.send(member_draft(&session.user_id, &request.user_id, content)).await?;
    Ok(ban_user::Response::new())
}

async fn unban_user(node: Arc<Node>, session: Session, request: unban_user::Request) -> Answer<unban_user::Response> {
    node.store.read(|read| super::joined(read, &request.room_id, session.user_id.as_str()).map(drop))?;
    node.federation.whole(&request.room_id).await?;
    if membership_now(&node, &request.room_id, &request.user_id)? != Some(membership::BAN) {
        return Err(MatrixError::new(
            http::StatusCode::FORBIDDEN,
            "M_BAD_STATE",
            "this user is not banned from the room",
        ));
    }
    let content = member("leave", request.reason)?;
    room(&node, &request.room_id)?.send(member_draft(&session.user_id, &request.user_id, content)).await?;
    Ok(unban_user::Response::new())
}

async fn forget_room(
    node: Arc<Node>,
    session: Session,
    request: forget_room::Request,
) -> Answer<forget_room::Response> {
    let user = session.user_id.to_string();
    node.store
        .write(move |tx| {
            let Some(room) = read::room_number(tx, request.room_id.as_str())? else {
                return Err(MatrixError::not_found("this room is not known here"));
            };
            let Some(mut part) = read::user_room(tx, &user, room)? else {
                return Err(MatrixError::not_found("you have no part in this room"));
            };
            if !matches!(part.membership, membership::LEAVE | membership::BAN) {
                return Err(MatrixError::bad_request("leave the room before you forget it"));
            }
            if !part.forgotten {
                part.forgotten = true;
                USER_ROOMS.put(tx, &(user.clone(), room), &Json(part))?;
                // A place in the stream, so that whoever keeps the user's rooms in memory looks at this one again.
                tx.next_position();
                tx.touch(Touched::Room(room));
                tx.touch(Touched::User(user));
            }
            Ok(())
        })
        .await?;
    Ok(forget_room::Response::new())
}
