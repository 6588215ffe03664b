//! The extension `org.kith.node` of the client-server API, under `/_matrix/client/unstable/org.kith/`: what a node tells its users about
//! itself, about who is near, and about how far their messages have got. For readers: `docs/extension.md`.

mod contact;
mod delivery;
mod node;
mod people;
#[cfg(test)]
mod tests;

use std::time::Duration;

use kith_store::{
    Read, StoreError,
    tables::rooms::{ROOM_SERVERS, membership},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{
    http::{Answer, MatrixError, Routes},
    rooms::read,
};

/// What is kept in memory for the extension.
#[derive(Debug)]
pub struct Extension {
    /// When the node was started, on the monotonic clock.
    started: Duration,
    media: node::MediaBytes,
}

impl Extension {
    /// Of a node that starts now.
    pub(crate) fn new(started: Duration) -> Self {
        Self { started, media: node::MediaBytes::default() }
    }
}

/// The routes of the extension.
pub fn routes(routes: Routes) -> Routes {
    let routes = node::routes(routes);
    let routes = people::routes(routes);
    let routes = delivery::routes(routes);
    contact::routes(routes)
}

/// A request's body as its type.
fn body<T: DeserializeOwned>(body: Map<String, Value>) -> Answer<T> {
    serde_json::from_value(Value::Object(body)).map_err(|error| MatrixError::bad_json(error.to_string()))
}

/// The numbers of the rooms that a user is joined to.
fn joined_rooms(read: &dyn Read, user: &str) -> Result<Vec<u64>, StoreError> {
    let rooms = read::rooms_of(read, user)?;
    Ok(rooms.into_iter().filter(|(_, part)| part.membership == membership::JOIN).map(|(room, _)| room).collect())
}

/// Whether a server is in one of these rooms.
fn is_in_one(read: &dyn Read, rooms: &[u64], server: &str) -> Result<bool, StoreError> {
    for room in rooms {
        if ROOM_SERVERS.contains(read, &(*room, server.to_owned()))? {
            return Ok(true);
        }
    }
    Ok(false)
}
