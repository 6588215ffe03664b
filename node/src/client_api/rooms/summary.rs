//! `GET /room_summary/{roomIdOrAlias}` (client-server specification, "Room summaries").

use std::sync::Arc;

use kith_store::tables::rooms::membership;
use ruma::api::client::room::get_summary::v1 as get_summary;

use super::{join, remote};
use crate::{
    Node,
    http::{Answer, MatrixError, Routes, Session},
    rooms::{directory, read},
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(get_summary)
}

async fn get_summary(
    node: Arc<Node>,
    session: Option<Session>,
    request: get_summary::Request,
) -> Answer<get_summary::Response> {
    let none = || MatrixError::not_found("this room is not known here, or not open to be looked at");
    let user = session.as_ref().map(|session| &*session.user_id);
    let (room_id, via) = match user {
        Some(_) => join::resolve(&node, &request.room_id_or_alias, request.via).await?,
        // Nobody who is not signed in sends this node to ask others.
        None => match request.room_id_or_alias.as_str().try_into() {
            Ok(room_id) => (room_id, Vec::new()),
            Err(_) => {
                let alias = request.room_id_or_alias.as_str().try_into().map_err(|_| none())?;
                let us = node.identity.server_name();
                node.store.read(|read| directory::alias(read, us, alias))?.ok_or_else(none)?
            }
        },
    };
    let found = node.store.read(|read| {
        let Some(room) = read::room_number(read, room_id.as_str())? else { return Ok(None) };
        if !read::room(read, room)?.is_some_and(|room| room.joined) {
            return Ok(None);
        }
        let Some(summary) = directory::summary(read, room)? else { return Ok(None) };
        if !directory::may_learn_of(read, &summary, user)? {
            return Err(none());
        }
        let part = match user {
            Some(user) => read::user_room(read, user.as_str(), room)?,
            None => None,
        };
        let mut response = get_summary::Response::new(summary);
        response.membership =
            user.map(|_| membership::name(part.map_or(membership::LEAVE, |part| part.membership)).into());
        Ok(Some(response))
    })?;
    if let Some(response) = found {
        return Ok(response);
    }
    let Some(user) = user else { return Err(none()) };
    for server in join::candidates(&node, user, &room_id, &via)?.into_iter().take(3) {
        if let Some((parent, ..)) = remote::hierarchy(&node, &server, &room_id, false).await {
            if parent.summary.room_id != room_id
                || !node.store.read(|read| directory::may_learn_of(read, &parent.summary, Some(user)))?
            {
                continue;
            }
            let now = super::membership::membership_now(&node, &room_id, user)?;
            let mut response = get_summary::Response::new(parent.summary);
            response.membership = Some(membership::name(now.unwrap_or(membership::LEAVE)).into());
            return Ok(response);
        }
    }
    Err(none())
}
