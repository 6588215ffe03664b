//! Smaller scenarios, where what is left still fits together.

use crate::scenario::{Fault, Scenario, What, Workload};

/// With so many nodes. Rooms have no more members than that, and what is about a node that is gone is about the last one.
pub(super) fn with_nodes(scenario: &Scenario, count: u32) -> Scenario {
    let mut less = scenario.clone();
    less.nodes.count = count;
    let last = count.saturating_sub(1);
    for room in &mut less.rooms {
        room.members = room.members.map(|members| members.min(count));
        room.moderators = room.moderators.min(count);
        room.maker = room.maker.min(last);
    }
    for fault in &mut less.faults {
        fault.when.node = fault.when.node.map(|node| node.min(last));
    }
    less.checks.skips_auth = less.checks.skips_auth.map(|node| node.min(last));
    less
}

/// Without some rooms, and without what happens in them.
pub(super) fn without_rooms(scenario: &Scenario, begin: usize, end: usize) -> Scenario {
    let mut less = scenario.clone();
    less.rooms.drain(begin..end);
    let (begin, end) = (begin as u32, end as u32);
    let kept = |room: &mut u32| {
        if *room >= end {
            *room -= end - begin;
            return true;
        }
        *room < begin
    };
    less.workload.retain_mut(|workload| room_of(workload).is_none_or(kept));
    less.faults.retain_mut(|fault| match &mut fault.what {
        What::Byzantine { room, .. } | What::Forger { room } => kept(room),
        _ => true,
    });
    less
}

fn room_of(workload: &mut Workload) -> Option<&mut u32> {
    match workload {
        Workload::Poisson { room, .. }
        | Workload::Bursts { room, .. }
        | Workload::Rounds { room, .. }
        | Workload::Diurnal { room, .. }
        | Workload::JoinStorm { room, .. }
        | Workload::Topics { room, .. }
        | Workload::Names { room, .. }
        | Workload::PowerDuel { room, .. }
        | Workload::Bans { room, .. }
        | Workload::Churn { room, .. }
        | Workload::Scroll { room, .. }
        | Workload::Media { room, .. }
        | Workload::Redactions { room, .. }
        | Workload::Devices { room, .. }
        | Workload::Repeats { room, .. } => Some(room),
        Workload::Readers { .. } => None,
    }
}

/// With so many members in a room.
pub(super) fn with_members(scenario: &Scenario, room: usize, members: u32) -> Scenario {
    let mut less = scenario.clone();
    if let Some(room) = less.rooms.get_mut(room) {
        room.members = Some(members);
        room.moderators = room.moderators.min(members);
    }
    less
}

/// With so many moderators in a room.
pub(super) fn with_moderators(scenario: &Scenario, room: usize, moderators: u32) -> Scenario {
    let mut less = scenario.clone();
    if let Some(room) = less.rooms.get_mut(room) {
        room.moderators = moderators;
    }
    less
}

/// Without some of the moments of a fault. One that has none left, and no mean time either, is impossible.
pub(super) fn without_moments(scenario: &Scenario, fault: usize, begin: usize, end: usize) -> Scenario {
    let mut less = scenario.clone();
    if let Some(Fault { when, .. }) = less.faults.get_mut(fault)
        && end <= when.at_s.len()
    {
        when.at_s.drain(begin..end);
    }
    less
}
