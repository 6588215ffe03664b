//! `POST /knock/{roomIdOrAlias}` (client-server specification, "Knocking").

use std::sync::Arc;

use kith_store::tables::rooms::membership;
use ruma::api::client::knock::knock_room::v3 as knock_room;

use super::{
    join,
    membership::{add_profile, member, member_draft, membership_now, room, takes_part},
    remote,
};
use crate::{
    Node,
    http::{Answer, MatrixError, Routes, Session},
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(knock_room)
}

async fn knock_room(node: Arc<Node>, session: Session, request: knock_room::Request) -> Answer<knock_room::Response> {
    let (room_id, via) = join::resolve(&node, &request.room_id_or_alias, request.via).await?;
    let user = &session.user_id;
    match membership_now(&node, &room_id, user)? {
        Some(membership::JOIN) => return Err(MatrixError::forbidden("you are in this room already")),
        Some(membership::INVITE) => return Err(MatrixError::forbidden("you are invited to this room: join it")),
        Some(membership::BAN) => return Err(MatrixError::forbidden("you are banned from this room")),
        // Of a room elsewhere it is not sure that the knock still stands: not every server tells when it was refused.
        Some(membership::KNOCK) if takes_part(&node, &room_id)? => return Ok(knock_room::Response::new(room_id)),
        _ => {}
    }
    let mut content = member("knock", request.reason)?;
    node.store.read(|read| add_profile(read, user, &mut content))?;
    if takes_part(&node, &room_id)? {
        node.federation.whole(&room_id).await?;
        room(&node, &room_id)?.send(member_draft(user, user, content)).await?;
    } else {
        let servers = join::candidates(&node, user, &room_id, &via)?;
        if servers.is_empty() {
            return Err(MatrixError::not_found("this room is not known here, and no server is known that is in it"));
        }
        remote::knock(&node, user, &room_id, &servers, content).await?;
    }
    Ok(knock_room::Response::new(room_id))
}
