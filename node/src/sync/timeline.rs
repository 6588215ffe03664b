//! The timeline of a room in a sync: the live events after the token, the latest of them if there are many.

use kith_store::{
    Read, StoreError,
    tables::rooms::{EVENTS, STREAM},
};
use ruma::api::client::filter::RoomEventFilter;

use crate::rooms::{
    filter,
    read::{self, StoredEvent},
    timeline::Place,
    visibility::Eyes,
};

/// How many events are looked at for one timeline, wanted by the filter or not.
const MOST_LOOKED_AT: usize = 1_000;
/// How many events behind the timeline are looked at for its `prev_batch`, where events may come out of their order.
const BEHIND: usize = 20;

/// The latest live events between two positions.
#[derive(Debug)]
pub(super) struct Timeline {
    /// In the order of the stream.
    pub(super) events: Vec<StoredEvent>,
    /// Whether events between `since` and the first one were left out.
    pub(super) limited: bool,
    /// Whether all that happened since the first one is there.
    pub(super) whole: bool,
    /// Where the history before the first one begins, for scrolling; none if there is nothing to scroll from.
    pub(super) before: Option<Place>,
}

/// Which events are asked for.
pub(super) struct Query<'a> {
    pub(super) room: u64,
    pub(super) room_id: &'a str,
    pub(super) wanted: &'a RoomEventFilter,
    /// Position after which.
    pub(super) since: u64,
    /// Position up to which.
    pub(super) upto: u64,
    /// How many at most.
    pub(super) limit: usize,
    /// Whether other servers are in the room, so that events may come in another order than that of the graph.
    pub(super) shared: bool,
}

/// Reads the latest events that the query wants and the eyes may see.
pub(super) fn latest(read: &dyn Read, eyes: &Eyes<'_>, query: &Query<'_>) -> Result<Timeline, StoreError> {
    let &Query { room, room_id, wanted, since, upto, limit, shared } = query;
    let mut events: Vec<StoredEvent> = Vec::new();
    let (mut left_out, mut whole) = (None, true);
    let mut rows = STREAM.range(read, (room, since.saturating_add(1))..=(room, upto))?.rev();
    for (looked_at, row) in rows.by_ref().enumerate() {
        let (_, number) = row?;
        if events.len() >= limit || looked_at >= MOST_LOOKED_AT {
            left_out = Some(number);
            break;
        }
        let Some(event) = read::event(read, number)? else { continue };
        if filter::passes(wanted, room_id, &event) && eyes.sees(&event)? {
            events.push(event);
        } else {
            whole = false;
        }
    }
    let mut before = events.last().map(Place::before);
    if let Some(number) = left_out {
        // History is scrolled by depth, but told in the order it came. So that nothing left out lies above the place,
        // it is raised to the highest of the events behind; what was told already may then be found again.
        let mut behind = vec![number];
        for row in rows.take(if shared { BEHIND } else { 0 }) {
            behind.push(row?.1);
        }
        for number in behind {
            before = before.max(EVENTS.get(read, &number)?.map(|row| Place::at(row.depth, number)));
        }
    }
    events.reverse();
    Ok(Timeline { events, limited: left_out.is_some(), whole, before })
}

#[cfg(test)]
mod tests {
    use kith_store::{
        Json, MemoryBackend, Options, Store, WriterMode,
        tables::rooms::{EventRow, EventStatus, USER_ROOMS, UserRoomRow, membership},
    };

    use super::*;

    #[tokio::test]
    async fn history_goes_on_above_events_that_came_late_so_that_none_is_lost() {
        let options =
            Options { writer: WriterMode::Inline, reserve_bytes: 0, cache_bytes: 1 << 20, ..Options::default() };
        let store = Store::open(MemoryBackend::new(), options).unwrap();
        let written: Result<(), StoreError> = store
            .write(|tx| {
                let part = UserRoomRow {
                    membership: membership::JOIN,
                    event: 0,
                    position: 1,
                    joined_at: 1,
                    sender: String::new(),
                    stripped: Vec::new(),
                    pdu: None,
                    forgotten: false,
                };
                USER_ROOMS.put(tx, &("@a:x".to_owned(), 1), &Json(part))?;
                // By depth: 10, 11, 12; as they came: 12, 10, 11.
                for (number, depth) in [(1, 12), (2, 10), (3, 11)] {
                    let row = EventRow {
                        room: 1,
                        status: EventStatus::Accepted,
                        ours: false,
                        depth,
                        position: number,
                        state_before: 0,
                        state_after: 0,
                        auth: Vec::new(),
                        event_id: format!("${number}"),
                        json: r#"{"type":"m.x","sender":"@b:y","origin_server_ts":1,"content":{}}"#.to_owned(),
                    };
                    EVENTS.put(tx, &number, &row)?;
                    STREAM.put(tx, &(1, number), &number)?;
                }
                Ok(())
            })
            .await;
        written.unwrap();
        let read = store.snapshot().unwrap();
        let eyes = Eyes::new(&read, 1, "@a:x").unwrap();
        let look = |limit, shared| {
            let wanted = &RoomEventFilter::default();
            let query = Query { room: 1, room_id: "!r", wanted, since: 0, upto: 3, limit, shared };
            let timeline = latest(&read, &eyes, &query).unwrap();
            let numbers: Vec<u64> = timeline.events.iter().map(|event| event.number).collect();
            (numbers, timeline.limited, timeline.before)
        };
        assert_eq!(look(1, true), (vec![3], true, Some(Place::at(12, 1))));
        // With nobody else in the room events come in their order, and nothing need be looked at.
        assert_eq!(look(1, false), (vec![3], true, Some(Place::at(11, 2))));
        assert_eq!(look(0, true), (vec![], true, Some(Place::at(12, 1))));
        assert_eq!(look(3, true), (vec![1, 2, 3], false, Some(Place::at(12, 0))));
    }
}
