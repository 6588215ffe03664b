//! `GET /rooms/{roomId}/context/{eventId}` (client-server specification, "Event context").

use std::sync::Arc;

use ruma::api::{Direction, client::context::get_context::v3 as get_context, client::filter::LazyLoadOptions};

use super::{entered, messages::lazy_members, page_length, seen, viewer};
use crate::{
    Node,
    http::{Answer, Routes, Session},
    rooms::{
        client_event::{Form, Showing},
        filter::passes,
        read,
        timeline::{self, Place},
    },
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(get_context)
}

async fn get_context(
    node: Arc<Node>,
    session: Session,
    request: get_context::Request,
) -> Answer<get_context::Response> {
    let viewer = viewer(&node, &session);
    node.store.read(|read| {
        let (room, eyes) = entered(read, &request.room_id, &viewer.user_id)?;
        let event = seen(read, &eyes, request.event_id.as_str())?;
        let limit = page_length(request.limit);
        let side = |direction, from, limit| {
            timeline::page(read, room, direction, from, None, limit, |event| {
                Ok(passes(&request.filter, request.room_id.as_str(), event) && eyes.sees(event)?)
            })
        };
        let before = side(Direction::Backward, Place::before(&event), limit / 2)?;
        let after = side(Direction::Forward, Place::after(&event), limit - limit / 2)?;
        let last = after.events.last().unwrap_or(&event);
        let lazy = !matches!(request.filter.lazy_load_options, LazyLoadOptions::Disabled);
        let mut state = read::state_at(read, last.row.state_after)?;
        if lazy {
            let mut events = before.events.clone();
            events.push(event.clone());
            events.extend(after.events.iter().cloned());
            state.retain(|event| event.kind() != "m.room.member");
            state.extend(lazy_members(read, &request.filter, &events)?);
        }
        state.retain(|event| passes(&request.filter, request.room_id.as_str(), event));
        eyes.keep_known(&mut state)?;
        let form = Form { room_id: Some(request.room_id.as_str()), relations: true };
        let showing = Showing::new(read, &eyes, &viewer, form);
        let mut response = get_context::Response::new();
        response.start = Some(before.end.to_string());
        response.end = Some(after.end.to_string());
        response.events_before = showing.raws(&before.events)?;
        response.event = Some(showing.raw(&event)?);
        response.events_after = showing.raws(&after.events)?;
        let form = Form { room_id: Some(request.room_id.as_str()), relations: false };
        response.state = Showing::new(read, &eyes, &viewer, form).raws(&state)?;
        Ok(response)
    })
}
