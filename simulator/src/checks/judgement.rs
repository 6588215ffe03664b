//! What was accepted and rejected, and the states, by the rules and by nothing else.

use std::collections::BTreeMap;

use kith_store::StoreError;
use kith_store::tables::rooms::{EXTREMITIES, EventStatus, STATE_STREAM, STREAM};
use serde_json::Value;

use super::View;
use super::oracle::{Book, Id, Pdu, State};
use crate::invariants::Invariant;
use crate::world::World;

/// Judges all events that any of the nodes has, as far as all that they rest on and follow is there. None for room versions that
/// the oracle does not know.
pub(super) fn book(version: &str, views: &[View]) -> Option<Book> {
    let version: u8 = version.parse().ok().filter(|version| *version >= 3)?;
    let mut waiting: BTreeMap<(u64, Id), Pdu> = BTreeMap::new();
    for row in views.iter().flat_map(|view| view.rows.values()) {
        let key = (row.depth, Id::from(row.event_id.as_str()));
        if !waiting.contains_key(&key)
            && let Ok(json) = serde_json::from_str::<Value>(&row.json)
        {
            waiting.insert(key, Pdu::read(&row.event_id, &json));
        }
    }
    let mut book = Book::new(version);
    loop {
        let mut later = BTreeMap::new();
        let before = waiting.len();
        // By depth, so that nearly all are judged the first time.
        for (key, pdu) in waiting {
            let auth = book.auth_events_of(&pdu);
            if pdu.prev.iter().chain(&auth).all(|id| book.fates.contains_key(id)) {
                book.add(pdu);
            } else {
                later.insert(key, pdu);
            }
        }
        if later.is_empty() || later.len() == before {
            return Some(book);
        }
        waiting = later;
    }
}

/// Compares what a node made of the room.
pub(super) fn check(world: &World, book: &Book, view: &View) -> Result<(), StoreError> {
    for row in view.rows.values() {
        let Some(fate) = book.fates.get(row.event_id.as_str()) else { continue };
        let rejected = row.status == EventStatus::Rejected;
        // An outlier is judged by its auth events alone.
        let has_place = row.status != EventStatus::Outlier && row.state_before != 0;
        if (has_place || rejected) && rejected != fate.rejected.is_some() {
            let what = format!("{} is {:?}, and by the rules {:?}", row.event_id, row.status, fate.rejected);
            view.breach(world, Invariant::Judgement, what);
        }
        if !has_place {
            continue;
        }
        for (number, right, when) in
            [(row.state_before, &fate.before, "before"), (row.state_after, &fate.after, "after")]
        {
            if let Some(key) = differs(&*view.state(number)?, right) {
                let what = format!("the state {when} {} is not that of the rules, in {key:?}", row.event_id);
                view.breach(world, Invariant::Judgement, what);
            }
        }
    }
    let mut heads = std::collections::BTreeSet::new();
    for row in EXTREMITIES.prefix(&view.snapshot, &view.place)? {
        heads.extend(view.ids.get(&row?.0.1).cloned());
    }
    if heads.iter().all(|id| book.fates.contains_key(id))
        && let Some(key) = differs(&view.current()?, &book.state_after_all(&heads))
    {
        view.breach(world, Invariant::Judgement, format!("the current state is not that of the rules, in {key:?}"));
    }
    shown(world, book, view)
}

fn differs<'a>(one: &'a State, other: &'a State) -> Option<(&'a str, &'a str)> {
    let keys = one.keys().chain(other.keys());
    keys.filter(|key| one.get(*key) != other.get(*key)).map(|(kind, key)| (&**kind, &**key)).next()
}

/// What came to be shown was allowed by the room's state at that moment.
fn shown(world: &World, book: &Book, view: &View) -> Result<(), StoreError> {
    let mut changes: BTreeMap<u64, u64> = BTreeMap::new();
    for row in STATE_STREAM.prefix(&view.snapshot, &view.place)? {
        let ((_, position), state) = row?;
        changes.insert(position, state);
    }
    let mut stream: BTreeMap<u64, u64> = BTreeMap::new();
    for row in STREAM.prefix(&view.snapshot, &view.place)? {
        let ((_, position), event) = row?;
        stream.insert(position, event);
    }
    let own = world.user(view.number);
    for (position, event) in &stream {
        let Some(pdu) = view.ids.get(event).and_then(|id| book.pdus.get(id)) else { continue };
        // The join that brings a room here meets no current state.
        if pdu.is("m.room.member", &own) {
            continue;
        }
        let Some((since, before)) = changes.range(..position).next_back() else { continue };
        let next = changes.range(position..).next();
        // Events of one change have the states between them nowhere.
        let between = stream.range(since + 1..=next.map_or(u64::MAX, |(at, _)| *at));
        let is_state = |number: &u64| {
            let cited = view.ids.get(number).and_then(|id| book.pdus.get(id));
            cited.is_none_or(|pdu| pdu.state_key.is_some())
        };
        if between.filter(|(_, number)| *number != event && is_state(number)).count() > 1 {
            continue;
        }
        let mut refused = true;
        for state in [Some(*before), next.map(|(_, state)| *state)].into_iter().flatten() {
            let state = view.state(state)?;
            let known = state.values().all(|id| book.pdus.contains_key(id));
            refused &= known && book.allowed_in(pdu, &state).is_err();
        }
        if refused {
            let what = format!("{} is shown at {position}, and the room's state did not allow it", pdu.id);
            view.breach(world, Invariant::SoftFailure, what);
        }
    }
    Ok(())
}
