//! Putting events in an order in which what they build on comes first.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use ruma::{EventId, OwnedEventId};

use crate::{
    event::Event,
    ids::{IdMap, start_of},
};

/// Sorts events (an answer to `get_missing_events` or `backfill`, a transaction) so that each comes after those of its
/// `prev_events` that are among them; otherwise by depth, then time, then ID. Duplicates are left out.
pub fn sort_by_prev_events(events: impl IntoIterator<Item = Arc<Event>>) -> Vec<Arc<Event>> {
    let events: IdMap<_> = events.into_iter().map(|event| (event.event_id().to_owned(), event)).collect();
    topological(&events, |event, below| {
        for id in event.prev_events() {
            below(id);
        }
    })
}

/// Kahn's algorithm; what is part of a cycle is left out. `builds_on` names to its second argument what an event comes after.
pub(crate) fn topological(
    events: &IdMap<Arc<Event>>,
    builds_on: impl Fn(&Event, &mut dyn FnMut(&EventId)),
) -> Vec<Arc<Event>> {
    /// An event, known by its place among all in the order of their IDs.
    struct Node<'a> {
        event: &'a Arc<Event>,
        /// How many events it waits for.
        open: usize,
        /// Which events wait for it.
        carries: Vec<usize>,
    }
    let ids: Vec<(u64, &OwnedEventId)> = events.keys().map(|id| (start_of(id), id)).collect();
    let mut nodes: Vec<Node<'_>> = events.values().map(|event| Node { event, open: 0, carries: Vec::new() }).collect();
    for (place, event) in events.values().enumerate() {
        let mut below = Vec::new();
        builds_on(event, &mut |id| {
            let start = start_of(id);
            below.extend(ids.binary_search_by(|other| other.0.cmp(&start).then_with(|| (**other.1).cmp(id))));
        });
        below.sort_unstable();
        below.dedup();
        for below in &below {
            if let Some(node) = nodes.get_mut(*below) {
                node.carries.push(place);
            }
        }
        if let Some(node) = nodes.get_mut(place) {
            node.open = below.len();
        }
    }
    let rank = |node: &Node<'_>, place| Reverse((node.event.depth(), node.event.origin_server_ts(), place));
    let mut ready: BinaryHeap<_> =
        nodes.iter().enumerate().filter(|(_, node)| node.open == 0).map(|(place, node)| rank(node, place)).collect();
    let mut sorted = Vec::with_capacity(events.len());
    while let Some(Reverse((_, _, place))) = ready.pop() {
        let Some(node) = nodes.get_mut(place) else { continue };
        sorted.push(node.event.clone());
        for above in std::mem::take(&mut node.carries) {
            let Some(node) = nodes.get_mut(above) else { continue };
            node.open = node.open.saturating_sub(1);
            if node.open == 0 {
                ready.push(rank(node, above));
            }
        }
    }
    sorted
}
