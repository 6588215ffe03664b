//! `GET` and `PUT /directory/list/room/{roomId}`, `GET` and `POST /publicRooms` (client-server specification, "Published
//! room directory").

use std::sync::Arc;

use kith_store::{
    Json,
    tables::directory::{PUBLISHED_ROOMS, PublishedRow},
};
use ruma::{
    OwnedServerName, UInt,
    api::{
        client::{
            directory::{
                get_public_rooms::v3 as get_public_rooms, get_public_rooms_filtered::v3 as get_public_rooms_filtered,
                get_room_visibility::v3 as get_room_visibility, set_room_visibility::v3 as set_room_visibility,
            },
            room::Visibility,
        },
        federation::directory::get_public_rooms::v1::Response as PublicRooms,
    },
    directory::{Filter, RoomNetwork},
};

use super::{aliases::manages, remote};
use crate::{
    Node,
    client_api::untyped::MaySignIn,
    http::{Anonymous, Answer, MatrixError, Routes, Session},
    rooms::{directory, read},
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(get_room_visibility).add(set_room_visibility).add(get_public_rooms).add(get_public_rooms_filtered)
}

async fn get_room_visibility(
    node: Arc<Node>,
    _: Anonymous,
    request: get_room_visibility::Request,
) -> Answer<get_room_visibility::Response> {
    node.store.read(|read| {
        if read::room_number(read, request.room_id.as_str())?.is_none() {
            return Err(MatrixError::not_found("this room is not known here"));
        }
        let published = PUBLISHED_ROOMS.contains(read, &request.room_id.to_string())?;
        Ok(get_room_visibility::Response::new(if published { Visibility::Public } else { Visibility::Private }))
    })
}

async fn set_room_visibility(
    node: Arc<Node>,
    session: Session,
    request: set_room_visibility::Request,
) -> Answer<set_room_visibility::Response> {
    let since = node.clock.now_ms();
    node.store
        .write(move |tx| {
            let room_id = request.room_id.to_string();
            if read::room_number(tx, &room_id)?.is_none() {
                return Err(MatrixError::not_found("this room is not known here"));
            }
            if !session.admin && !manages(tx, &room_id, &session.user_id)? {
                return Err(MatrixError::forbidden("publishing a room is for its moderators"));
            }
            if request.visibility == Visibility::Public {
                PUBLISHED_ROOMS.put(tx, &room_id, &Json(PublishedRow { by: session.user_id.to_string(), since }))?;
            } else {
                PUBLISHED_ROOMS.delete(tx, &room_id)?;
            }
            Ok(())
        })
        .await?;
    Ok(set_room_visibility::Response::new())
}

async fn list(
    node: &Arc<Node>,
    server: Option<OwnedServerName>,
    network: &RoomNetwork,
    filter: Filter,
    since: Option<String>,
    limit: Option<UInt>,
) -> Answer<PublicRooms> {
    match server {
        Some(server) if server != node.identity.server_name() => {
            remote::public_rooms(node, &server, filter, since, limit).await
        }
        _ => node.store.read(|read| directory::public_rooms(read, network, &filter, since.as_deref(), limit)),
    }
}

async fn get_public_rooms(
    node: Arc<Node>,
    session: Option<Session>,
    MaySignIn { request, .. }: MaySignIn<get_public_rooms::Request>,
) -> Answer<get_public_rooms::Response> {
    // Nobody who is not signed in sends this node to ask others.
    let server = request.server.filter(|server| server != node.identity.server_name());
    if server.is_some() && session.is_none() {
        return Err(MatrixError::missing_token());
    }
    let rooms = list(&node, server, &RoomNetwork::Matrix, Filter::new(), request.since, request.limit).await?;
    let mut response = get_public_rooms::Response::new(rooms.chunk);
    response.next_batch = rooms.next_batch;
    response.prev_batch = rooms.prev_batch;
    response.total_room_count_estimate = rooms.total_room_count_estimate;
    Ok(response)
}

async fn get_public_rooms_filtered(
    node: Arc<Node>,
    _: Session,
    request: get_public_rooms_filtered::Request,
) -> Answer<get_public_rooms_filtered::Response> {
    let rooms =
        list(&node, request.server, &request.room_network, request.filter, request.since, request.limit).await?;
    let mut response = get_public_rooms_filtered::Response::new();
    response.chunk = rooms.chunk;
    response.next_batch = rooms.next_batch;
    response.prev_batch = rooms.prev_batch;
    response.total_room_count_estimate = rooms.total_room_count_estimate;
    Ok(response)
}
