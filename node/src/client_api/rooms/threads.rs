//! `GET /rooms/{roomId}/threads` (client-server specification, "Querying threads in a room").

use std::{collections::BTreeMap, sync::Arc};

use kith_store::tables::rooms::RELATIONS;
use ruma::{
    UInt,
    api::client::threads::get_threads::v1::{self as get_threads, IncludeThreads},
};

use super::{entered, page_length, viewer};
use crate::{
    Node,
    http::{Answer, Routes, Session},
    rooms::{
        client_event::{Form, Showing},
        read,
        relations::relation,
        timeline::{Edge, Place},
    },
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(get_threads)
}

/// A thread while the room's relations are gone through.
struct Thread {
    latest: Place,
    participated: bool,
}

async fn get_threads(
    node: Arc<Node>,
    session: Session,
    request: get_threads::Request,
) -> Answer<get_threads::Response> {
    let viewer = viewer(&node, &session);
    let limit = page_length(request.limit.unwrap_or(UInt::from(20u8))).max(1);
    node.store.read(|read| {
        let (room, eyes) = entered(read, &request.room_id, &viewer.user_id)?;
        let place = |token| Place::parse(read, room, token, Edge::Upper);
        let from = request.from.as_deref().map(place).transpose()?;
        let mut threads: BTreeMap<String, Thread> = BTreeMap::new();
        for row in RELATIONS.prefix(read, &room)? {
            let ((_, root, kind, number), _) = row?;
            if kind != "m.thread" {
                continue;
            }
            let Some(reply) = read::event(read, number)? else { continue };
            if relation(&reply).is_none() || !eyes.sees(&reply)? {
                continue;
            }
            let place = Place::after(&reply);
            let mine = reply.sender() == viewer.user_id;
            let thread = threads.entry(root).or_insert(Thread { latest: place, participated: false });
            thread.latest = thread.latest.max(place);
            thread.participated |= mine;
        }
        let mut threads: Vec<_> = threads.into_iter().collect();
        threads.sort_by_key(|(_, thread)| std::cmp::Reverse(thread.latest));
        let form = Form { room_id: Some(request.room_id.as_str()), relations: true };
        let showing = Showing::new(read, &eyes, &viewer, form);
        let mut response = get_threads::Response::new(Vec::new());
        let mut last = None;
        for (root, thread) in threads {
            if from.is_some_and(|from| thread.latest >= from) {
                continue;
            }
            let Some(root) = read::event_by_id(read, &root)? else { continue };
            if root.row.room != room || !eyes.sees(&root)? {
                continue;
            }
            let participated = thread.participated || root.sender() == viewer.user_id;
            if request.include == IncludeThreads::Participated && !participated {
                continue;
            }
            if response.chunk.len() >= limit {
                response.next_batch = last.map(|place: Place| place.to_string());
                break;
            }
            last = Some(thread.latest);
            response.chunk.push(showing.raw(&root)?);
        }
        Ok(response)
    })
}
