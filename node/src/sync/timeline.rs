//! The timeline of a room in a sync: the live events after the token, the latest of them if there are many.

use std::collections::BTreeSet;

use kith_store::{Read, StoreError, tables::rooms::STREAM};
use ruma::api::client::filter::RoomEventFilter;

use crate::rooms::{
    filter,
    read::{self, StoredEvent},
    timeline::{self, Place},
    visibility::Eyes,
};

/// How many events are looked at for one timeline, wanted by the filter or not.
const MOST_LOOKED_AT: usize = 1_000;

/// The latest live events between two positions.
#[derive(Debug, Default)]
pub(super) struct Timeline {
    /// In the order of the stream.
    pub(super) events: Vec<StoredEvent>,
    /// Whether events between `since` and the first one were left out.
    pub(super) limited: bool,
    /// Whether all that happened since the first one is there.
    pub(super) whole: bool,
    /// Where scrolling back begins: nothing that was left out lies above; none if there is nothing to scroll from.
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
}

/// Reads the latest events that the query wants and the eyes may see. Reading ends at an event that cites others which are
/// not here: what the client knows does not join on to it, and what lies between can be asked of other servers only by
/// scrolling back from there.
pub(super) fn latest(read: &dyn Read, eyes: &Eyes<'_>, query: &Query<'_>) -> Result<Timeline, StoreError> {
    let &Query { room, room_id, wanted, since, upto, limit } = query;
    let mut events: Vec<StoredEvent> = Vec::new();
    let mut looked_at = BTreeSet::new();
    let (mut limited, mut whole) = (false, true);
    let mut gap = None;
    let highest_gap = timeline::highest_gap(read, room)?;
    for row in STREAM.range(read, (room, since.saturating_add(1))..=(room, upto))?.rev() {
        let (_, number) = row?;
        if events.len() >= limit || looked_at.len() >= MOST_LOOKED_AT {
            limited = true;
            break;
        }
        looked_at.insert(number);
        let Some(event) = read::event(read, number)? else { continue };
        // Most rooms have no gaps, or only far back.
        if highest_gap.is_some_and(|highest| event.row.depth <= highest.saturating_add(1))
            && timeline::is_after_gap(read, &event)?
        {
            gap = Some(Place::before(&event));
        }
        if filter::passes(wanted, room_id, &event) && eyes.sees(&event)? {
            events.push(event);
        } else {
            whole = false;
        }
        if gap.is_some() {
            limited = true;
            break;
        }
    }
    // History is scrolled by depth, but told in the order it came: what is left out may lie above what is told.
    let before = match limited || !events.is_empty() {
        true => gap.max(Some(Place::untold(read, room, upto, &looked_at)?)),
        false => None,
    };
    events.reverse();
    Ok(Timeline { events, limited, whole, before })
}

#[cfg(test)]
mod tests {
    use kith_store::{
        Json, MemoryBackend, Options, Store, WriterMode,
        tables::rooms::{EVENTS, EventRow, EventStatus, GAPS, TIMELINE, USER_ROOMS, UserRoomRow, membership},
    };
    use ruma::api::Direction;

    use super::*;
    use crate::rooms::timeline::{Edge, page};

    /// A store with one room of which `@a:x` is a member, whose events came in this order, each at its depth: their
    /// numbers and positions count from 1.
    async fn room_of(depths: &[u64]) -> Store {
        let options =
            Options { writer: WriterMode::Inline, reserve_bytes: 0, cache_bytes: 1 << 20, ..Options::default() };
        let store = Store::open(MemoryBackend::new(), options).unwrap();
        let depths = depths.to_vec();
        let written: Result<(), StoreError> = store
            .write(move |tx| {
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
                for (number, depth) in (1..).zip(depths) {
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
                    TIMELINE.put(tx, &(1, depth, number), &())?;
                }
                Ok(())
            })
            .await;
        written.unwrap();
        store
    }

    fn look(read: &dyn Read, since: u64, upto: u64, limit: usize) -> (Vec<u64>, bool, Option<Place>) {
        let wanted = &RoomEventFilter::default();
        let eyes = Eyes::new(read, 1, "@a:x").unwrap();
        let timeline = latest(read, &eyes, &Query { room: 1, room_id: "!r", wanted, since, upto, limit }).unwrap();
        let numbers = timeline.events.iter().map(|event| event.number).collect();
        (numbers, timeline.limited, timeline.before)
    }

    #[tokio::test]
    async fn history_goes_on_above_events_that_came_late_so_that_none_is_lost() {
        // As they came: 12, 10, 11.
        let store = room_of(&[12, 10, 11]).await;
        let read = store.snapshot().unwrap();
        assert_eq!(look(&read, 0, 3, 1), (vec![3], true, Some(Place::at(12, 1))));
        assert_eq!(look(&read, 0, 3, 0), (vec![], true, Some(Place::at(12, 1))));
        assert_eq!(look(&read, 0, 3, 3), (vec![1, 2, 3], false, Some(Place::at(10, 1))));
        assert_eq!(look(&read, 3, 3, 3), (vec![], false, None));
        // What is not told yet is not what was left out.
        assert_eq!(look(&read, 0, 2, 1), (vec![2], true, Some(Place::at(12, 1))));
    }

    #[tokio::test]
    async fn after_a_split_of_the_network_scrolling_back_finds_what_both_sides_said() {
        // Each side said a hundred things; theirs came when the network was whole again.
        let depths: Vec<u64> = (1..=100).chain(1..=100).collect();
        let store = room_of(&depths).await;
        let read = store.snapshot().unwrap();
        let (told, limited, before) = look(&read, 0, 200, 20);
        assert_eq!((told.len(), limited), (20, true));
        let mut found: BTreeSet<u64> = told.into_iter().collect();
        let mut from = before.unwrap();
        loop {
            let page = page(&read, 1, Direction::Backward, from, None, 30, |_| Ok(true)).unwrap();
            found.extend(page.events.iter().map(|event| event.number));
            from = page.end;
            if page.finished {
                break;
            }
        }
        assert_eq!(
            found.len(),
            200,
            "lost: {:?}",
            (1..=200).filter(|number| !found.contains(number)).collect::<Vec<_>>()
        );
    }

    #[tokio::test]
    async fn a_timeline_ends_at_a_gap_and_scrolling_back_begins_right_before_it() {
        let store = room_of(&[10, 11, 50, 51, 49]).await;
        // The third cites an event that nobody would tell.
        let written: Result<(), StoreError> = store.write(|tx| GAPS.put(tx, &(1, 49, "$missing".to_owned()), &3)).await;
        written.unwrap();
        let read = store.snapshot().unwrap();
        let before_it = Place::at(50, 2);
        assert_eq!(look(&read, 0, 4, 20), (vec![3, 4], true, Some(before_it)));
        assert_eq!(look(&read, 2, 4, 20), (vec![3, 4], true, Some(before_it)));
        assert_eq!(look(&read, 0, 3, 1), (vec![3], true, Some(before_it)));
        // Once it was told, what follows joins on to it.
        assert_eq!(look(&read, 3, 4, 20), (vec![4], false, Some(Place::at(50, 3))));
        // An event as deep as what is missing came since, and is no end of the gap.
        assert_eq!(look(&read, 3, 5, 20), (vec![4, 5], false, Some(Place::at(50, 3))));
        assert_eq!(look(&read, 2, 5, 20), (vec![3, 4, 5], true, Some(before_it)));
        let gaps = timeline::gaps(&read, 1, Place::START, before_it, 5).unwrap();
        assert_eq!(gaps.len(), 1, "scrolling from there finds the gap");
    }

    #[tokio::test]
    async fn a_sync_token_as_the_end_of_a_range_loses_nothing_on_either_side() {
        // The events at positions 3 and 4 came late, below what was known.
        let store = room_of(&[10, 11, 5, 6, 12]).await;
        let read = store.snapshot().unwrap();
        let between = |from: &str, to: Option<&str>, direction| {
            let from = Place::parse(&read, 1, from, Edge::first(direction)).unwrap();
            let to = to.map(|token| Place::parse(&read, 1, token, Edge::last(direction)).unwrap());
            let page = page(&read, 1, direction, from, to, 30, |_| Ok(true)).unwrap();
            page.events.iter().map(|event| event.number).collect::<Vec<_>>()
        };
        // Back from what was known after the second: the late ones are met, and both that were known.
        assert_eq!(between("s2", None, Direction::Backward), [2, 1, 4, 3]);
        // Back from now to what was known then: all that is new is there.
        assert_eq!(between("s5", Some("s2"), Direction::Backward), [5, 2, 1, 4, 3]);
        assert_eq!(between("s5", Some("s4"), Direction::Backward), [5]);
        // On from what was known then.
        assert_eq!(between("s2", None, Direction::Forward), [3, 4, 1, 2, 5]);
        assert!(between("s5", None, Direction::Forward).is_empty());
    }
}
