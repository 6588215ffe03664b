//! Rooms: creating them, who is in them, what is sent into them and read from them, and how they are found
//! (client-server specification, chapters "Events", "Rooms", "Spaces", "Event relationships", "User directory").

mod aliases;
mod context;
mod create;
mod delayed;
mod directory;
mod event;
pub mod hierarchy;
pub mod join;
mod knock;
mod members;
pub mod membership;
mod messages;
mod old;
mod relations;
mod remote;
mod report;
mod search;
pub mod send;
pub(crate) mod state;
mod summary;
#[cfg(test)]
mod tests;
mod thread_subscriptions;
mod threads;
mod upgrade;
mod users;

use kith_room::json::plain_object;
use kith_store::Read;
use ruma::{MilliSecondsSinceUnixEpoch, RoomId};
use serde_json::{Map, Value};

use crate::{
    Node,
    http::{Answer, MatrixError, Routes, Session},
    rooms::{
        client_event::Viewer,
        read::{self, StoredEvent},
        visibility::Eyes,
    },
};

/// The routes of this chapter.
pub fn routes(routes: Routes) -> Routes {
    let routes = create::routes(routes);
    let routes = upgrade::routes(routes);
    let routes = join::routes(routes);
    let routes = knock::routes(routes);
    let routes = membership::routes(routes);
    let routes = members::routes(routes);
    let routes = send::routes(routes);
    let routes = state::routes(routes);
    let routes = delayed::routes(routes);
    let routes = messages::routes(routes);
    let routes = context::routes(routes);
    let routes = event::routes(routes);
    let routes = relations::routes(routes);
    let routes = threads::routes(routes);
    let routes = thread_subscriptions::routes(routes);
    let routes = aliases::routes(routes);
    let routes = directory::routes(routes);
    let routes = users::routes(routes);
    let routes = summary::routes(routes);
    let routes = hierarchy::routes(routes);
    let routes = search::routes(routes);
    let routes = old::routes(routes);
    report::routes(routes)
}

/// The longest page of events that is given at once.
const LONGEST_PAGE: usize = 1_000;

/// A client's limit as a page length.
fn page_length(limit: ruma::UInt) -> usize {
    usize::try_from(u64::from(limit)).unwrap_or(LONGEST_PAGE).min(LONGEST_PAGE)
}

/// When an event was sent, in unix milliseconds, if its sender may say so: application services do (their specification,
/// "Timestamp massaging"), and what others say is passed over.
fn sent_at(session: &Session, said: Option<MilliSecondsSinceUnixEpoch>) -> Option<u64> {
    said.filter(|_| session.appservice.is_some()).map(|at| at.get().into())
}

/// The reader that a session is.
fn viewer(node: &Node, session: &Session) -> Viewer {
    Viewer {
        user_id: session.user_id.to_string(),
        device_id: Some(session.device_id.to_string()),
        now: node.clock.now_ms(),
    }
}

/// The number of a room, and the view of a user who is or was in it, or may read in it from outside.
///
/// # Errors
/// `M_FORBIDDEN` for everybody else, whether or not the room is known here.
fn entered<'a>(read: &'a dyn Read, room_id: &RoomId, user: &str) -> Answer<(u64, Eyes<'a>)> {
    let refused = || MatrixError::forbidden("you are not in this room");
    let room = read::room_number(read, room_id.as_str())?.ok_or_else(refused)?;
    let eyes = Eyes::new(read, room, user)?;
    if !eyes.may_enter()? {
        return Err(refused());
    }
    Ok((room, eyes))
}

/// The number of a room that the user is joined to.
///
/// # Errors
/// `M_FORBIDDEN` when the user is not, whether or not the room is known here.
fn joined(read: &dyn Read, room_id: &RoomId, user: &str) -> Answer<u64> {
    let refused = || MatrixError::forbidden("you are not joined to this room");
    let room = read::room_number(read, room_id.as_str())?.ok_or_else(refused)?;
    if read::is_joined(read, user, room)? { Ok(room) } else { Err(refused()) }
}

/// An event of a room that its reader may see.
///
/// # Errors
/// `M_NOT_FOUND` when there is none, or the reader may not see it.
fn seen(read: &dyn Read, eyes: &Eyes<'_>, event_id: &str) -> Answer<StoredEvent> {
    let none = || MatrixError::not_found("there is no such event here, or you may not see it");
    let event = read::event_by_id(read, event_id)?.ok_or_else(none)?;
    if eyes.sees(&event)? { Ok(event) } else { Err(none()) }
}

/// The object that a client sent as an event's content.
fn content_of(text: &str) -> Answer<Map<String, Value>> {
    plain_object(text).map_err(|error| MatrixError::bad_json(format!("the content is no JSON object: {error}")))
}
