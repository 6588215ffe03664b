//! Putting events in an order in which what they build on comes first.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ruma::OwnedEventId;

use crate::event::Event;

/// Sorts events (an answer to `get_missing_events` or `backfill`, a transaction) so that each comes after those of its
/// `prev_events` that are among them; otherwise by depth, then time, then ID. Duplicates are left out.
pub fn sort_by_prev_events(events: impl IntoIterator<Item = Arc<Event>>) -> Vec<Arc<Event>> {
    let events: BTreeMap<_, _> = events.into_iter().map(|event| (event.event_id().to_owned(), event)).collect();
    topological(&events, |event| event.prev_events().to_vec())
}

/// Kahn's algorithm; what is part of a cycle is left out.
pub(crate) fn topological(
    events: &BTreeMap<OwnedEventId, Arc<Event>>,
    builds_on: impl Fn(&Event) -> Vec<OwnedEventId>,
) -> Vec<Arc<Event>> {
    let mut open: BTreeMap<&OwnedEventId, usize> = BTreeMap::new();
    let mut carries: BTreeMap<OwnedEventId, Vec<&OwnedEventId>> = BTreeMap::new();
    for (id, event) in events {
        let below: BTreeSet<OwnedEventId> =
            builds_on(event).into_iter().filter(|below| events.contains_key(below)).collect();
        open.insert(id, below.len());
        for below in below {
            carries.entry(below).or_default().push(id);
        }
    }
    let rank = |event: &Event| (event.depth(), event.origin_server_ts(), event.event_id().to_owned());
    let mut ready: BTreeMap<_, &Arc<Event>> = open
        .iter()
        .filter(|(_, below)| **below == 0)
        .filter_map(|(id, _)| events.get(*id))
        .map(|event| (rank(event), event))
        .collect();
    let mut sorted = Vec::with_capacity(events.len());
    while let Some((_, event)) = ready.pop_first() {
        sorted.push(event.clone());
        for above in carries.remove(event.event_id()).unwrap_or_default() {
            let Some(below) = open.get_mut(above) else {
                continue;
            };
            *below = below.saturating_sub(1);
            if *below == 0
                && let Some(event) = events.get(above)
            {
                ready.insert(rank(event), event);
            }
        }
    }
    sorted
}
