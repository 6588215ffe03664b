//! What must hold, and how it is found out.
//!
//! Some is looked at all the time ([`crate::world`] watches each commit), most in the end: when users and faults are done and the
//! nodes have had the time to agree.

use std::collections::{BTreeMap, BTreeSet};

use kith::Node;
use kith::rooms::read;
use kith_store::tables::rooms::{
    CURRENT_STATE, EVENT_IDS, EVENTS, EXTREMITIES, EventStatus, GAPS, LOCAL_MEMBERS, PARKED, STREAM, TIMELINE,
};
use kith_store::{Read, StoreError};

use crate::world::World;

/// Extremities above which a room counts as never being joined together.
const MOST_EXTREMITIES: usize = 40;

/// An invariant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// All honest nodes come to know each other's heads, and nothing waits between them.
    Quiescence,
    /// The current state of a room is the same on all honest nodes in it.
    State,
    /// What one honest node rejects, no other takes; whatever the order in which it came.
    Rejection,
    /// What a client was told is sent is known to all honest nodes that were in the room.
    Acknowledged,
    /// No event is shown before those it follows, unless a gap is declared.
    Parents,
    /// Only accepted events are shown: none that soft-failed, none that was rejected.
    Timeline,
    /// What a crash leaves is a beginning of the order of commits, and has all that was published.
    CommitOrder,
    /// A node starts again after a crash.
    Restart,
    /// Extremities, parked events and queues stay within their bounds.
    Bounds,
    /// No code panics, and no task spins.
    Panic,
    /// What the scenario is about occurred.
    Occurs,
    /// What is rejected, and each state, is so by the rules.
    Judgement,
    /// Nothing is shown that the room's state did not allow at that moment.
    SoftFailure,
    /// Each event is what its sender's server signed.
    Authentic,
    /// Events have their content, unless somebody with the right to it redacted them.
    Content,
    /// The forward extremities are the accepted events that no accepted event follows.
    Extremities,
    /// Tables that follow from others agree with them.
    Tables,
    /// What a server's user said is sent to each neighbour in the room.
    Pushed,
    /// A request that is repeated counts once, and a device message arrives once, if it was sent.
    Once,
    /// What another server may not ask for is refused.
    Refused,
    /// Before anything goes wrong, nodes start, and their users make and join rooms.
    Setup,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::Quiescence,
        Self::State,
        Self::Rejection,
        Self::Acknowledged,
        Self::Parents,
        Self::Timeline,
        Self::CommitOrder,
        Self::Restart,
        Self::Bounds,
        Self::Panic,
        Self::Occurs,
        Self::Judgement,
        Self::SoftFailure,
        Self::Authentic,
        Self::Content,
        Self::Extremities,
        Self::Tables,
        Self::Pushed,
        Self::Once,
        Self::Refused,
        Self::Setup,
    ];

    /// Its name in scenarios and results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quiescence => "quiescence",
            Self::State => "state",
            Self::Rejection => "rejection",
            Self::Acknowledged => "acknowledged",
            Self::Parents => "parents",
            Self::Timeline => "timeline",
            Self::CommitOrder => "commit_order",
            Self::Restart => "restart",
            Self::Bounds => "bounds",
            Self::Panic => "panic",
            Self::Occurs => "occurs",
            Self::Judgement => "judgement",
            Self::SoftFailure => "soft_failure",
            Self::Authentic => "authentic",
            Self::Content => "content",
            Self::Extremities => "extremities",
            Self::Tables => "tables",
            Self::Pushed => "pushed",
            Self::Once => "once",
            Self::Refused => "refused",
            Self::Setup => "setup",
        }
    }

    /// The invariant of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|invariant| invariant.name() == name)
    }
}

/// The honest nodes that are in a room by their own tables, with the room's number there.
pub(crate) fn inside(world: &World, room: u32) -> Vec<(u32, std::sync::Arc<Node>, u64)> {
    let honest = world.numbers().filter(|number| world.is_honest(*number));
    honest
        .filter_map(|number| {
            let node = world.node(number)?;
            let place = world.number_in(&node, room)?;
            let joined = node.store.read(|read| {
                let known = read::room(read, place)?.is_some_and(|row| row.joined);
                Ok::<_, StoreError>(known && LOCAL_MEMBERS.prefix(read, &place)?.next().is_some())
            });
            joined.unwrap_or(false).then_some((number, node, place))
        })
        .collect()
}

fn heads(node: &Node, room: u64) -> Result<BTreeSet<String>, StoreError> {
    node.store.read(|snapshot| {
        let mut heads = BTreeSet::new();
        for row in EXTREMITIES.prefix(snapshot, &room)? {
            let ((_, event), ()) = row?;
            heads.extend(EVENTS.get(snapshot, &event)?.map(|event| event.event_id));
        }
        Ok(heads)
    })
}

fn parked(node: &Node, room: u64) -> Result<usize, StoreError> {
    node.store.read(|snapshot| Ok(PARKED.prefix(snapshot, &room)?.count()))
}

/// Extremities and parked events of a room on a node, if it is known there.
pub fn look(world: &World, number: u32, room: u32) -> Option<(u64, u64)> {
    let node = world.node(number)?;
    let place = world.number_in(&node, room)?;
    Some((heads(&node, place).ok()?.len() as u64, parked(&node, place).ok()? as u64))
}

/// What still keeps the honest nodes from having agreed. Empty: nothing does.
pub fn unsettled(world: &World) -> Vec<String> {
    let mut reasons = Vec::new();
    let all_honest = world.numbers().all(|number| world.is_honest(number));
    for room in 0..world.scenario().rooms.len() as u32 {
        let inside = inside(world, room);
        let ends: BTreeMap<u32, BTreeSet<String>> =
            inside.iter().map(|(number, node, place)| (*number, heads(node, *place).unwrap_or_default())).collect();
        for (number, node, place) in inside {
            // They need not be heads everywhere: what follows one may have soft-failed here and not there. Then it may not even
            // be known to those who have no link to anybody whose head it is.
            let near = ends.iter().filter(|(other, _)| world.air().linked(number, **other));
            let told: BTreeSet<&String> = near.flat_map(|(_, heads)| heads).collect();
            let unknown = node.store.read(|snapshot| {
                let mut unknown = Vec::new();
                for id in told {
                    if !EVENT_IDS.contains(snapshot, id)? {
                        unknown.push(id);
                    }
                }
                Ok::<_, StoreError>(unknown)
            });
            match unknown {
                Ok(unknown) if unknown.is_empty() => {}
                Ok(unknown) => reasons.push(format!("room {room}: node {number} does not know the heads {unknown:?}")),
                Err(error) => reasons.push(format!("node {number} cannot be read: {error}")),
            }
            let waiting = parked(&node, place).unwrap_or(0);
            // What a byzantine node sends may cite what never was.
            if waiting > 0 && all_honest {
                reasons.push(format!("room {room}: {waiting} events are parked on node {number}"));
            }
        }
    }
    let honest: BTreeMap<String, u32> = world
        .numbers()
        .filter(|number| world.is_honest(*number))
        .map(|number| (world.server_name(number), number))
        .collect();
    for number in honest.values() {
        let Some(node) = world.node(*number) else {
            reasons.push(format!("node {number} is off"));
            continue;
        };
        for queue in node.federation.status().unwrap_or_default() {
            let Some(other) = honest.get(&queue.server) else { continue };
            if (queue.rooms > 0 || queue.messages > 0) && world.air().linked(*number, *other) {
                reasons.push(format!("node {number} still has something for node {other}: {queue:?}"));
            }
        }
    }
    reasons
}

/// Whether the honest nodes in a room have the same heads. If not, some follow what others soft-failed, and only what is said
/// next joins them together.
pub fn same_heads(world: &World, room: u32) -> bool {
    let mut all: Vec<BTreeSet<String>> =
        inside(world, room).iter().map(|(_, node, place)| heads(node, *place).unwrap_or_default()).collect();
    all.dedup();
    all.len() <= 1
}

/// What one node thinks of a room, in the end.
struct View {
    number: u32,
    state: BTreeMap<(String, String), String>,
    status: BTreeMap<String, EventStatus>,
    gaps: bool,
}

fn view(number: u32, node: &Node, room: u64, events: &BTreeSet<String>) -> Result<View, StoreError> {
    node.store.read(|snapshot| {
        let mut state = BTreeMap::new();
        for row in CURRENT_STATE.prefix(snapshot, &room)? {
            let ((_, kind, key), event) = row?;
            let id = EVENTS.get(snapshot, &event)?.map(|event| event.event_id).unwrap_or_default();
            state.insert((kind, key), id);
        }
        let mut status = BTreeMap::new();
        for id in events {
            if let Some(number) = EVENT_IDS.get(snapshot, id)?
                && let Some(event) = EVENTS.get(snapshot, &number)?
            {
                status.insert(id.clone(), event.status);
            }
        }
        let gaps = GAPS.prefix(snapshot, &room)?.next().is_some();
        Ok(View { number, state, status, gaps })
    })
}

/// IDs of all events of a room that a node has.
fn known(node: &Node, room: u64) -> Result<BTreeSet<String>, StoreError> {
    node.store.read(|snapshot| {
        let mut ids = BTreeSet::new();
        for row in EVENTS.range(snapshot, ..)? {
            let (_, event) = row?;
            if event.room == room {
                ids.insert(event.event_id);
            }
        }
        Ok(ids)
    })
}

/// The latest event of a room below which the node has a gap, into which its user would scroll from there.
pub fn above_a_gap(world: &World, number: u32, room: u32) -> Option<String> {
    let node = world.node(number)?;
    let place = world.number_in(&node, room)?;
    let found = node.store.read(|snapshot| {
        let Some(row) = GAPS.prefix_rev(snapshot, &place)?.next() else { return Ok(None) };
        let (_, citing) = row?;
        Ok::<_, StoreError>(EVENTS.get(snapshot, &citing)?.map(|event| event.event_id))
    });
    found.ok().flatten()
}

/// Checks all that is to be checked in the end. What is found is noted in the record.
pub fn check(world: &World) {
    for room in 0..world.scenario().rooms.len() as u32 {
        let inside = inside(world, room);
        let mut all = BTreeSet::new();
        for (_, node, place) in &inside {
            all.extend(known(node, *place).unwrap_or_default());
        }
        let mut views = Vec::new();
        for (number, node, place) in &inside {
            match view(*number, node, *place, &all) {
                Ok(view) => views.push(view),
                Err(error) => world.breach(Invariant::Restart, Some(*number), error.to_string()),
            }
            shown(world, *number, node, *place);
            let ends = heads(node, *place).map_or(0, |heads| heads.len());
            if ends > MOST_EXTREMITIES {
                world.breach(Invariant::Bounds, Some(*number), format!("room {room} has {ends} extremities"));
            }
        }
        let id = world.room_id(room).unwrap_or_default();
        let (misled, told): (Vec<View>, Vec<View>) =
            views.into_iter().partition(|view| world.is_misled(&id, view.number));
        same_state(world, room, &told);
        same_rejections(world, &told);
        let views: Vec<View> = told.into_iter().chain(misled).collect();
        acknowledged(world, room, &views);
        crate::rejudge::check(world, room);
        for view in &views {
            world.record().note(&format!("{} in {room}: {:?}", view.number, view.state));
        }
    }
    world.numbers().for_each(|number| world.note_own_counters(number));
    let counters = world.record().lock().counters.clone();
    for wanted in &world.scenario().checks.occurs {
        if !counters.contains_key(wanted) {
            world.breach(Invariant::Occurs, None, format!("{wanted:?} did not occur"));
        }
    }
}

fn same_state(world: &World, room: u32, views: &[View]) {
    let Some((first, others)) = views.split_first() else { return };
    for view in others {
        let keys: BTreeSet<_> = first.state.keys().chain(view.state.keys()).collect();
        for key in keys {
            let (one, other) = (first.state.get(key), view.state.get(key));
            if one != other {
                let what = format!("room {room}, {key:?}: {other:?}, and on node {} {one:?}", first.number);
                world.breach(Invariant::State, Some(view.number), what);
            }
        }
    }
}

fn same_rejections(world: &World, views: &[View]) {
    let mut judged: BTreeMap<&String, BTreeMap<bool, u32>> = BTreeMap::new();
    let mut tally: BTreeMap<&'static str, u64> = BTreeMap::new();
    for view in views {
        for (id, status) in &view.status {
            let name = match status {
                EventStatus::Accepted => "accepted",
                EventStatus::SoftFailed => "soft_failed",
                EventStatus::Rejected => "rejected",
                EventStatus::Outlier => "outlier",
            };
            *tally.entry(name).or_default() += 1;
            judged.entry(id).or_default().entry(*status == EventStatus::Rejected).or_insert(view.number);
        }
    }
    for (name, many) in tally {
        world.record().lock().count(name, many);
    }
    for (id, by) in judged {
        if let (Some(no), Some(yes)) = (by.get(&true), by.get(&false)) {
            world.breach(Invariant::Rejection, Some(*no), format!("{id} is rejected, and node {yes} takes it"));
        }
    }
}

fn acknowledged(world: &World, room: u32, views: &[View]) {
    let (acknowledged, events) = {
        let state = world.record().lock();
        (state.acknowledged.clone(), state.events.clone())
    };
    for sent in acknowledged {
        let Some(event) = events.get(sent.event as usize).filter(|event| event.room == room) else { continue };
        if !world.is_honest(sent.node) {
            continue;
        }
        for view in views {
            let own = view.number == sent.node;
            // One who was away, or came later, need not know what was said before; nor what one said who was removed.
            let there = world.member_since(room, view.number).is_some_and(|since| since < sent.at);
            if !own && (!there || world.ever_left(room, sent.node)) {
                continue;
            }
            if view.status.contains_key(&event.id) {
                continue;
            }
            // Whoever soft-fails an event tells nobody of it.
            let soft_failed = |view: &View| view.status.get(&event.id) == Some(&EventStatus::SoftFailed);
            if !own && views.iter().any(soft_failed) {
                continue;
            }
            // A gap is declared, and nobody near has what lies in it.
            let near =
                |other: &View| world.air().linked(view.number, other.number) && other.status.contains_key(&event.id);
            if !own && view.gaps && !views.iter().any(near) {
                world.record().count("unfillable");
                continue;
            }
            let gap = if view.gaps { "; it has gaps that could not be filled" } else { "" };
            let followed: Vec<String> = followers(world, sent.node, &event.id)
                .into_iter()
                .map(|(id, depth)| format!("{id} at depth {depth}: {:?} here", view.status.get(&id)))
                .collect();
            let what = format!(
                "{} of node {} was acknowledged at {:.3} s and is not here{gap}; it is followed by [{}]",
                event.id,
                sent.node,
                sent.at as f64 / 1e9,
                followed.join(", ")
            );
            world.breach(Invariant::Acknowledged, Some(view.number), what);
        }
    }
}

/// The events that follow an event, by what a node knows.
fn followers(world: &World, number: u32, id: &str) -> Vec<(String, u64)> {
    let Some(node) = world.node(number) else { return Vec::new() };
    let cited = format!("\"{id}\"");
    let found = node.store.read(|snapshot| {
        let mut found = Vec::new();
        for row in EVENTS.range(snapshot, ..)? {
            let (_, event) = row?;
            let cites = event.json.split_once("\"prev_events\":[").and_then(|(_, rest)| rest.split_once(']'));
            if cites.is_some_and(|(cites, _)| cites.contains(&cited)) {
                found.push((event.event_id, event.depth));
            }
        }
        Ok::<_, StoreError>(found)
    });
    found.unwrap_or_default()
}

/// Whatever stands in the timeline is accepted.
fn shown(world: &World, number: u32, node: &Node, room: u64) {
    let looked = node.store.read(|snapshot| {
        let listed = |read: &dyn Read| -> Result<Vec<u64>, StoreError> {
            let timeline = TIMELINE.prefix(read, &room)?.map(|row| row.map(|((_, _, event), ())| event));
            let stream = STREAM.prefix(read, &room)?.map(|row| row.map(|(_, event)| event));
            timeline.chain(stream).collect()
        };
        for event in listed(snapshot)? {
            let found = EVENTS.get(snapshot, &event)?;
            if found.as_ref().is_none_or(|event| event.status != EventStatus::Accepted) {
                let what = format!("{:?} is in the timeline", found.map(|event| (event.event_id, event.status)));
                world.breach(Invariant::Timeline, Some(number), what);
            }
        }
        Ok::<_, StoreError>(())
    });
    if let Err(error) = looked {
        world.breach(Invariant::Restart, Some(number), error.to_string());
    }
}
