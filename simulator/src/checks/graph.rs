//! Forward extremities, gaps, and what else a node derives from the events it has.

use std::collections::{BTreeMap, BTreeSet};

use kith_store::StoreError;
use kith_store::tables::rooms::{EXTREMITIES, EventRow, EventStatus, GAPS, PARTIAL, ROOM_SERVERS, ROOMS, USER_ROOMS};
use serde_json::Value;

use super::View;
use crate::invariants::Invariant;
use crate::world::World;
use crate::world::ends::{is_hidden, prev_events};

/// Looks at a room on a node.
pub(super) fn check(world: &World, view: &View) -> Result<(), StoreError> {
    extremities(world, view)?;
    gaps(world, view)?;
    derived(world, view)
}

/// They are the accepted events that no accepted event follows, directly or by hidden ones.
fn extremities(world: &World, view: &View) -> Result<(), StoreError> {
    let mut stored = BTreeSet::new();
    for row in EXTREMITIES.prefix(&view.snapshot, &view.place)? {
        stored.insert(row?.0.1);
    }
    // What came after what follows it: late, under a bridged gap, where it leaves the extremities as they are.
    let mut late = BTreeSet::<u64>::new();
    for (number, row) in &view.rows {
        late.extend(
            prev_events(row).iter().filter_map(|id| view.numbers.get(id)).filter(|before| *before > number).copied(),
        );
    }
    // Which are followed at all; which by what came after all that lies between; and which by hidden events.
    let mut followed = BTreeSet::new();
    let mut in_order = BTreeSet::new();
    let mut under_hidden = BTreeSet::<u64>::new();
    for (number, row) in view.rows.iter().filter(|(_, row)| row.status == EventStatus::Accepted) {
        let mut open: Vec<(String, Option<u64>)> = prev_events(row)
            .into_iter()
            .map(|id| (id, Some(*number).filter(|number| !late.contains(number))))
            .collect();
        let mut seen = BTreeSet::new();
        while let Some((id, after)) = open.pop() {
            let Some(before) = view.numbers.get(&id).copied().filter(|_| seen.insert(id.clone())) else { continue };
            let after = after.filter(|after| before < *after).map(|_| before);
            followed.insert(before);
            if after.is_some() {
                in_order.insert(before);
            }
            if let Some(row) = view.rows.get(&before).filter(|row| is_hidden(row)) {
                open.extend(prev_events(row).into_iter().map(|id| (id, after)));
            }
        }
    }
    for row in view.rows.values().filter(|row| is_hidden(row)) {
        under_hidden.extend(prev_events(row).iter().filter_map(|id| view.numbers.get(id)).copied());
    }
    for number in &stored {
        match view.rows.get(number) {
            Some(row) if row.status != EventStatus::Accepted => {
                let what = format!("{} is a forward extremity and {:?}", row.event_id, row.status);
                view.breach(world, Invariant::Extremities, what);
            }
            // Behind a bridged gap what lies between comes later, and leaves extremities as they are.
            Some(row) if in_order.contains(number) => {
                let what = format!("{} is a forward extremity and is followed", row.event_id);
                view.breach(world, Invariant::Extremities, what);
            }
            Some(_) => {}
            None => view.breach(world, Invariant::Extremities, format!("event {number} is an extremity and not here")),
        }
    }
    // What was said in an earlier stay is left behind by the join that began this one.
    let own = (world.user(view.number), view.place);
    let since = USER_ROOMS.get(&view.snapshot, &own)?.map_or(0, |row| row.0.joined_at).max(1);
    for (number, row) in &view.rows {
        let live = row.status == EventStatus::Accepted && row.position >= since;
        if live && !followed.contains(number) && !stored.contains(number) && !under_hidden.contains(number) {
            let what = format!("nothing follows {}, and it is no forward extremity", row.event_id);
            view.breach(world, Invariant::Extremities, what);
        }
    }
    Ok(())
}

/// What is declared missing is missing.
fn gaps(world: &World, view: &View) -> Result<(), StoreError> {
    for row in GAPS.prefix(&view.snapshot, &view.place)? {
        let ((_, _, id), _) = row?;
        let has_place = |row: &&EventRow| row.status != EventStatus::Outlier && row.state_before != 0;
        if let Some(row) = view.row(&id).filter(has_place) {
            view.breach(world, Invariant::Tables, format!("{id} is declared missing, and is {:?}", row.status));
        }
    }
    Ok(())
}

/// The current state is that of the room's row, and the servers in the room are those of its joined users.
fn derived(world: &World, view: &View) -> Result<(), StoreError> {
    let Some(room) = ROOMS.get(&view.snapshot, &view.place)? else { return Ok(()) };
    let current = view.current()?;
    if current != *view.state(room.0.state)? {
        view.breach(world, Invariant::Tables, "the current state is not the one the room says it has".to_owned());
    }
    if PARTIAL.contains(&view.snapshot, &view.place)? {
        return Ok(());
    }
    let mut joined: BTreeMap<String, u64> = BTreeMap::new();
    for ((kind, user), id) in &current {
        let json: Value = view.row(id).and_then(|row| serde_json::from_str(&row.json).ok()).unwrap_or_default();
        if &**kind == "m.room.member" && json["content"]["membership"] == "join" {
            *joined.entry(user.split_once(':').map_or("", |(_, server)| server).to_owned()).or_default() += 1;
        }
    }
    let mut counted = BTreeMap::new();
    for row in ROOM_SERVERS.prefix(&view.snapshot, &view.place)? {
        let ((_, server), count) = row?;
        counted.insert(server, count);
    }
    if counted != joined {
        let what = format!("the servers in the room are {counted:?}, and by its members {joined:?}");
        view.breach(world, Invariant::Tables, what);
    }
    Ok(())
}
