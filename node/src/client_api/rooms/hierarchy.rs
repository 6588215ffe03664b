//! `GET /rooms/{roomId}/hierarchy` (client-server specification, "Spaces", "Discovering rooms within spaces").

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ruma::{
    OwnedRoomId, OwnedServerName, RoomId, UserId,
    api::client::space::{SpaceHierarchyRoomsChunk, get_hierarchy::v1 as get_hierarchy},
    events::space::child::HierarchySpaceChildEvent,
    room::{RoomSummary, RoomType},
    serde::Raw,
};

use super::{join, remote};
use crate::{
    Node,
    http::{Answer, MatrixError, Routes, Session},
    rooms::{
        client_event::raw,
        directory, read,
        spaces::{Child, MOST_CHILDREN, child, children, sort},
    },
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(get_hierarchy)
}

/// Rooms on a page; how deep spaces are gone through; rooms visited for one request.
const LONGEST_PAGE: usize = 50;
const DEEPEST: u64 = 10;
const MOST_VISITED: usize = 1_000;
/// Servers asked for one room, and questions to servers for one request.
const MOST_ASKED: usize = 2;
const MOST_QUESTIONS: usize = 40;

async fn get_hierarchy(
    node: Arc<Node>,
    session: Session,
    request: get_hierarchy::Request,
) -> Answer<get_hierarchy::Response> {
    let depth = request.max_depth.map_or(DEEPEST, u64::from).min(DEEPEST);
    let limit = request.limit.map_or(LONGEST_PAGE, |limit| usize::try_from(u64::from(limit)).unwrap_or(LONGEST_PAGE));
    let limit = limit.clamp(1, LONGEST_PAGE);
    let ticket = format!("h{depth}_{}_", request.suggested_only);
    let skip = match &request.from {
        None => 0,
        Some(from) => from.strip_prefix(&ticket).and_then(|rest| rest.parse::<usize>().ok()).ok_or_else(|| {
            MatrixError::invalid_param(
                "this token does not continue an answer to the same `max_depth` and `suggested_only`",
            )
        })?,
    };
    let mut walk = Walk {
        node: &node,
        user: &session.user_id,
        suggested: request.suggested_only,
        given: BTreeMap::new(),
        questions: 0,
    };
    let mut seen = BTreeSet::new();
    let via = join::candidates(&node, &session.user_id, &request.room_id, &[])?;
    let mut stack = vec![(request.room_id.clone(), via, 0u64)];
    let mut rooms = Vec::new();
    let mut index = 0;
    let mut response = get_hierarchy::Response::new();
    while let Some((room_id, via, level)) = stack.pop() {
        if seen.len() >= MOST_VISITED || !seen.insert(room_id.clone()) {
            continue;
        }
        let Some((summary, children)) = walk.look(&room_id, &via).await? else {
            if level == 0 {
                return Err(MatrixError::forbidden("this room is not known here, or not open to you"));
            }
            continue;
        };
        if index >= skip {
            if rooms.len() >= limit {
                response.next_batch = Some(format!("{ticket}{index}"));
                break;
            }
            let events: Vec<Raw<HierarchySpaceChildEvent>> = children.iter().map(|child| raw(&child.event)).collect();
            rooms.push(SpaceHierarchyRoomsChunk::new(summary, events));
        }
        index += 1;
        if level < depth {
            // The first child is to be visited first, so it goes onto the stack last.
            stack.extend(children.into_iter().rev().map(|child| (child.room_id, child.via, level + 1)));
        }
    }
    response.rooms = rooms;
    Ok(response)
}

struct Walk<'a> {
    node: &'a Arc<Node>,
    user: &'a UserId,
    suggested: bool,
    /// What other servers told of rooms along with their parents.
    given: BTreeMap<OwnedRoomId, RoomSummary>,
    /// Questions asked of other servers.
    questions: usize,
}

type Room = (RoomSummary, Vec<Child>);

impl Walk<'_> {
    /// A room and its children, from here or from another server; none when the user may not know of it.
    async fn look(&mut self, room_id: &RoomId, via: &[OwnedServerName]) -> Answer<Option<Room>> {
        let suggested = self.suggested;
        let local = self.node.store.read(|read| {
            let Some(room) = read::room_number(read, room_id.as_str())? else { return Ok(None) };
            if !read::room(read, room)?.is_some_and(|room| room.joined) {
                return Ok(None);
            }
            let Some(summary) = directory::summary(read, room)? else { return Ok(None) };
            let allowed = directory::may_learn_of(read, &summary, Some(self.user))?;
            Ok::<_, MatrixError>(Some(if allowed { Some((summary, children(read, room, suggested)?)) } else { None }))
        })?;
        if let Some(found) = local {
            return Ok(found);
        }
        // What is no space has no children to ask for.
        if self.given.get(room_id).is_some_and(|summary| summary.room_type != Some(RoomType::Space)) {
            return self.told(room_id);
        }
        for server in via.iter().filter(|server| *server != self.node.identity.server_name()).take(MOST_ASKED) {
            if self.questions >= MOST_QUESTIONS {
                break;
            }
            self.questions += 1;
            let Some((parent, summaries)) = remote::hierarchy(self.node, server, room_id, suggested).await else {
                continue;
            };
            if parent.summary.room_id != room_id {
                continue;
            }
            let mut children: Vec<Child> = parent
                .children_state
                .iter()
                .take(MOST_CHILDREN)
                .filter_map(|event| child(&serde_json::from_str(event.json().get()).ok()?))
                .collect();
            sort(&mut children);
            for summary in summaries.into_iter().take(MOST_CHILDREN) {
                self.given.insert(summary.room_id.clone(), summary);
            }
            let allowed =
                self.node.store.read(|read| directory::may_learn_of(read, &parent.summary, Some(self.user)))?;
            return Ok(allowed.then_some((parent.summary, children)));
        }
        self.told(room_id)
    }

    /// A room of which another server told along with its parent. It told what our server may know; what the user may
    /// know is for us to say.
    fn told(&self, room_id: &RoomId) -> Answer<Option<Room>> {
        let Some(summary) = self.given.get(room_id) else { return Ok(None) };
        let allowed = self.node.store.read(|read| directory::may_learn_of(read, summary, Some(self.user)))?;
        Ok(allowed.then(|| (summary.clone(), Vec::new())))
    }
}
