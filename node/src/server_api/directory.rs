//! `GET /query/directory`, `GET` and `POST /publicRooms`, `GET /hierarchy/{roomId}`: how other servers find our rooms.
//! Server-server specification, "Querying for information", "Published Room Directory", "Spaces".

use std::sync::Arc;

use ruma::{
    api::federation::{
        directory::{
            get_public_rooms::v1 as get_public_rooms, get_public_rooms_filtered::v1 as get_public_rooms_filtered,
        },
        query::get_room_information::v1 as get_room_information,
        space::{SpaceHierarchyParentSummary, get_hierarchy::v1 as get_hierarchy},
    },
    directory::{Filter, RoomNetwork},
};

use crate::{
    Node,
    http::{Answer, MatrixError, Routes, endpoint::Origin},
    rooms::{client_event::raw, directory, read, spaces},
};

/// The routes of this file.
pub fn routes(routes: Routes) -> Routes {
    routes.add(query_directory).add(public_rooms).add(public_rooms_filtered).add(hierarchy)
}

async fn query_directory(
    node: Arc<Node>,
    _: Origin,
    request: get_room_information::Request,
) -> Answer<get_room_information::Response> {
    let us = node.server_name();
    let (room_id, servers) = node
        .store
        .read(|read| directory::alias(read, us, &request.room_alias))?
        .ok_or_else(|| MatrixError::not_found("there is no such alias here"))?;
    Ok(get_room_information::Response::new(room_id, servers))
}

async fn public_rooms(
    node: Arc<Node>,
    _: Origin,
    request: get_public_rooms::Request,
) -> Answer<get_public_rooms::Response> {
    node.store.read(|read| {
        directory::public_rooms(read, &RoomNetwork::Matrix, &Filter::new(), request.since.as_deref(), request.limit)
    })
}

async fn public_rooms_filtered(
    node: Arc<Node>,
    _: Origin,
    request: get_public_rooms_filtered::Request,
) -> Answer<get_public_rooms_filtered::Response> {
    let rooms = node.store.read(|read| {
        directory::public_rooms(read, &request.room_network, &request.filter, request.since.as_deref(), request.limit)
    })?;
    let mut response = get_public_rooms_filtered::Response::new();
    response.chunk = rooms.chunk;
    response.next_batch = rooms.next_batch;
    response.prev_batch = rooms.prev_batch;
    response.total_room_count_estimate = rooms.total_room_count_estimate;
    Ok(response)
}

async fn hierarchy(
    node: Arc<Node>,
    origin: Origin,
    request: get_hierarchy::Request,
) -> Answer<get_hierarchy::Response> {
    node.store.read(|read| {
        let none = || MatrixError::not_found("this room is not known here, or not open to your server");
        let known = |room_id: &str| -> Answer<Option<(u64, ruma::room::RoomSummary)>> {
            let Some(room) = read::room_number(read, room_id)? else { return Ok(None) };
            if !read::room(read, room)?.is_some_and(|room| room.joined) {
                return Ok(None);
            }
            Ok(directory::summary(read, room)?.map(|summary| (room, summary)))
        };
        let (room, summary) = known(request.room_id.as_str())?.ok_or_else(none)?;
        if !directory::server_may_learn_of(read, room, &summary, &origin.server)? {
            return Err(none());
        }
        let children = spaces::children(read, room, request.suggested_only)?;
        let events = children.iter().map(|child| raw(&child.event)).collect();
        let mut response = get_hierarchy::Response::new(SpaceHierarchyParentSummary::new(summary, events));
        for child in children {
            let Some((room, summary)) = known(child.room_id.as_str())? else { continue };
            if directory::server_may_learn_of(read, room, &summary, &origin.server)? {
                response.children.push(summary);
            } else {
                response.inaccessible_children.push(child.room_id);
            }
        }
        Ok(response)
    })
}
