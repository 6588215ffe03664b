//! Scrolling through a room's history: places in it, the tokens that name them, and pages of events.
//!
//! The order is that of the table `TIMELINE`: by depth, then by number. A token `t<depth>_<number>` names the place just
//! after the event with that key, whether or not there is one. Sync's tokens (`s<position>`, with whatever follows) are
//! understood too. What had come by a position need not lie together: after a split of the network one side's events come
//! late and lie among the other's. So such a token names one place as the upper [`Edge`] of a range and another as the
//! lower one, each so that a reader may meet again what it knows but misses nothing.

use std::{collections::BTreeSet, fmt, ops::Bound};

use kith_store::{
    Read, StoreError,
    tables::rooms::{EVENTS, GAPS, STREAM, TIMELINE},
};
use ruma::api::Direction;

use super::read::{self, StoredEvent};
use crate::http::{Answer, MatrixError};

/// How many rows one page looks at, at most, however few of them its reader may see.
const LONGEST_SCAN: usize = 2_000;
/// How many rows are walked over, at most, to find the place of a stream position.
const LONGEST_WALK: usize = 5_000;

/// Which end of a range a token stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// The upper end: what had come by a stream position lies below it.
    Upper,
    /// The lower end: what came after a stream position lies above it.
    Lower,
}

impl Edge {
    /// Where reading in a direction begins.
    pub fn first(direction: Direction) -> Self {
        if direction == Direction::Backward { Self::Upper } else { Self::Lower }
    }

    /// Where reading in a direction ends.
    pub fn last(direction: Direction) -> Self {
        if direction == Direction::Backward { Self::Lower } else { Self::Upper }
    }
}

/// A place between two events of a room's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    depth: u64,
    number: u64,
}

impl Place {
    /// Before the first event.
    pub const START: Self = Self { depth: 0, number: 0 };
    /// After the last event that there may ever be.
    pub const END: Self = Self { depth: u64::MAX, number: u64::MAX };

    /// Just after an event.
    pub fn after(event: &StoredEvent) -> Self {
        Self::at(event.row.depth, event.number)
    }

    /// Just before an event.
    pub fn before(event: &StoredEvent) -> Self {
        // Numbers begin at 1.
        Self { depth: event.row.depth, number: event.number.saturating_sub(1) }
    }

    /// Just after the event with this depth and number.
    pub fn at(depth: u64, number: u64) -> Self {
        Self { depth, number }
    }

    /// The depth at this place.
    pub fn depth(self) -> u64 {
        self.depth
    }

    /// After the last event that is there now.
    pub fn latest(read: &dyn Read, room: u64) -> Result<Self, StoreError> {
        Ok(match TIMELINE.prefix(read, &room)?.next_back().transpose()? {
            Some(((_, depth, number), ())) => Self { depth, number },
            None => Self::START,
        })
    }

    /// After the last event that had come by a stream position and is not among those `told` (by number); before the first
    /// one that was passed over, if there is none. One walk looks at a bounded number of rows: where it ends, what lies
    /// above was passed over rightly, and what lies below may be told again.
    ///
    /// # Errors
    /// The store's.
    pub fn untold(read: &dyn Read, room: u64, position: u64, told: &BTreeSet<u64>) -> Result<Self, StoreError> {
        let mut place = Self::START;
        for row in TIMELINE.prefix_rev(read, &room)?.take(LONGEST_WALK) {
            let ((_, depth, number), ()) = row?;
            let is_passed =
                told.contains(&number) || EVENTS.get(read, &number)?.is_some_and(|row| row.position > position);
            if !is_passed {
                return Ok(Self { depth, number });
            }
            place = Self { depth, number: number.saturating_sub(1) };
        }
        Ok(place)
    }

    /// Before all events of the room that came after a stream position; the room's start when very many did.
    fn newer(read: &dyn Read, room: u64, position: u64) -> Result<Self, StoreError> {
        let mut place = Self::latest(read, room)?;
        let rows = STREAM.prefix_from(read, &room, &(room, position.saturating_add(1)))?;
        for (walked, row) in rows.enumerate() {
            if walked >= LONGEST_WALK {
                return Ok(Self::START);
            }
            let (_, number) = row?;
            if let Some(row) = EVENTS.get(read, &number)? {
                place = place.min(Self { depth: row.depth, number: number.saturating_sub(1) });
            }
        }
        Ok(place)
    }

    /// The place that a token names as an end of a range.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` when it is no token of ours.
    pub fn parse(read: &dyn Read, room: u64, token: &str, edge: Edge) -> Answer<Self> {
        let wrong = || MatrixError::invalid_param("this is no pagination token of this server");
        if let Some(rest) = token.strip_prefix('t') {
            let (depth, number) = rest.split_once('_').ok_or_else(wrong)?;
            return Ok(Self {
                depth: depth.parse().map_err(|_| wrong())?,
                number: number.parse().map_err(|_| wrong())?,
            });
        }
        let position = token.strip_prefix('s').ok_or_else(wrong)?;
        let digits = position.find(|c: char| !c.is_ascii_digit()).unwrap_or(position.len());
        let position = position.get(..digits).and_then(|digits| digits.parse().ok()).ok_or_else(wrong)?;
        Ok(match edge {
            Edge::Upper => Self::untold(read, room, position, &BTreeSet::new())?,
            Edge::Lower => Self::newer(read, room, position)?,
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}_{}", self.depth, self.number)
    }
}

/// A stretch of history.
#[derive(Debug)]
pub struct Page {
    /// The events that were wanted, in the direction of reading.
    pub events: Vec<StoredEvent>,
    /// Where reading stopped: behind the last event looked at, in the direction of reading.
    pub end: Place,
    /// Whether there is nothing more that way (up to `to`, if it was given).
    pub finished: bool,
}

/// Reads up to `limit` events that `wanted` lets pass, from `from` on, up to `to`.
pub fn page(
    read: &dyn Read,
    room: u64,
    direction: Direction,
    from: Place,
    to: Option<Place>,
    limit: usize,
    mut wanted: impl FnMut(&StoredEvent) -> Result<bool, StoreError>,
) -> Result<Page, StoreError> {
    let key = |place: Place| (room, place.depth, place.number);
    let backward = direction == Direction::Backward;
    let (low, high) = if backward { (to.unwrap_or(Place::START), from) } else { (from, to.unwrap_or(Place::END)) };
    let mut page = Page { events: Vec::new(), end: from, finished: false };
    if low >= high {
        page.finished = true;
        return Ok(page);
    }
    let (low, high) = (key(low), key(high));
    let mut rows = TIMELINE.prefix_range(read, &room, (Bound::Excluded(&low), Bound::Included(&high)))?;
    for _ in 0..LONGEST_SCAN {
        if page.events.len() >= limit {
            break;
        }
        let Some(row) = (if backward { rows.next_back() } else { rows.next() }) else {
            page.finished = true;
            return Ok(page);
        };
        let ((_, _, number), ()) = row?;
        let Some(event) = read::event(read, number)? else { continue };
        page.end = if backward { Place::before(&event) } else { Place::after(&event) };
        if wanted(&event)? {
            page.events.push(event);
        }
    }
    page.finished = (if backward { rows.next_back() } else { rows.next() }).transpose()?.is_none();
    Ok(page)
}

/// The depth of the room's latest gap, which is that of the event behind it less one; none if its history is whole.
///
/// # Errors
/// The store's.
pub fn highest_gap(read: &dyn Read, room: u64) -> Result<Option<u64>, StoreError> {
    Ok(GAPS.prefix_rev(read, &room)?.next().transpose()?.map(|((_, depth, _), _)| depth))
}

/// Whether the event cites others which are not here.
///
/// # Errors
/// The store's.
pub fn is_after_gap(read: &dyn Read, event: &StoredEvent) -> Result<bool, StoreError> {
    for row in GAPS.prefix(read, &(event.row.room, event.row.depth.saturating_sub(1)))? {
        if row?.1 == event.number {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Events that cite others which are not here, with a depth between two places; at most `limit`, the latest first.
/// From the events before them the room's history can be asked for.
pub fn gaps(read: &dyn Read, room: u64, low: Place, high: Place, limit: usize) -> Result<Vec<StoredEvent>, StoreError> {
    let mut citing = Vec::new();
    let from = (room, low.depth.saturating_sub(1), String::new());
    let mut numbers = Vec::new();
    for row in GAPS.prefix_from(read, &room, &from)?.rev() {
        let ((_, depth, _), number) = row?;
        if depth <= high.depth && !numbers.contains(&number) {
            numbers.push(number);
        }
        if numbers.len() >= limit {
            break;
        }
    }
    for number in numbers {
        citing.extend(read::event(read, number)?);
    }
    Ok(citing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back_from_its_token() {
        let place = Place { depth: 12, number: 345 };
        assert_eq!(place.to_string(), "t12_345");
    }
}
