//! The power levels that hold in a room now, for questions that the rules between servers leave to each server.

use std::sync::Arc;

use kith_room::{Event, format, power::PowerLevels};
use kith_store::Read;
use ruma::{OwnedEventId, RoomVersionId};

use super::read::{self, StoredEvent};
use crate::http::{Answer, MatrixError};

/// The room's present power levels; none when its state is not known here.
pub fn levels(read: &dyn Read, room: u64) -> Answer<Option<PowerLevels>> {
    let Some(row) = read::room(read, room)? else { return Ok(None) };
    let version = RoomVersionId::try_from(row.version.as_str()).map_err(MatrixError::internal)?;
    let rules = format::rules(&version).ok_or_else(|| MatrixError::internal("a room of an unknown version"))?;
    let parsed = |event: StoredEvent| -> Answer<Arc<Event>> {
        let id = OwnedEventId::try_from(event.row.event_id).map_err(MatrixError::internal)?;
        Event::from_stored(event.row.json, id, &rules).map(Arc::new).map_err(MatrixError::internal)
    };
    let Some(create) = read::state_event(read, room, "m.room.create", "")? else { return Ok(None) };
    let create = parsed(create)?;
    let levels = read::state_event(read, room, "m.room.power_levels", "")?.map(parsed).transpose()?;
    PowerLevels::new(&create, levels.as_ref(), &rules.authorization).map(Some).map_err(MatrixError::internal)
}
