//! What a node may hold: rows of its queues, what waits, tasks, memory. Looked at as often as samples are taken, and in the end.
//!
//! Two kinds: what the node itself promises (a table's bound stands in its doc in `kith_store::tables`), whatever the scenario; and
//! what a scenario allows (`checks.bounds`), for that has no bound that holds for every number of nodes.

use std::collections::BTreeMap;

use kith::Node;
use kith::rooms::MAX_PARKED;
use kith_store::tables::federation::{ANSWERS, DESTINATIONS, MESSAGES_OF, OUTGOING_EDUS};
use kith_store::tables::rooms::{OUTGOING, PARKED, ROOM_SERVERS, ROOMS};
use kith_store::{Read, StoreError};

use crate::invariants::Invariant;
use crate::world::World;

/// Device messages that wait for one server, see [`OUTGOING_EDUS`].
const MOST_MESSAGES: usize = 10_000;
/// Answers kept for one server, see [`ANSWERS`].
const MOST_ANSWERS: usize = 64;
/// Device messages remembered of one server, see [`MESSAGES_OF`].
const MOST_REMEMBERED: usize = 2_000;

/// The greatest that was seen of each figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Most {
    /// Rows of all queues to other servers, of one node.
    pub queued: u64,
    /// Events that wait for others, of one node.
    pub parked: u64,
    /// Changes that wait for the disk, of one node.
    pub waiting: u64,
    /// Tasks of one node.
    pub tasks: u64,
    /// Requests of one node that are not answered.
    pub requests: u64,
}

/// What a node holds now, without its memory.
fn figures(world: &World, number: u32, node: &Node, wrong: &mut Vec<String>) -> Result<Most, StoreError> {
    node.store.read(|read| {
        let outgoing = read.rows(&OUTGOING)? as usize;
        let rooms = read.rows(&ROOMS)? as usize;
        let parked = per(PARKED.range(read, ..)?.map(|row| row.map(|((room, _), _)| room)))?;
        let messages = per(OUTGOING_EDUS.range(read, ..)?.map(|row| row.map(|((server, _), _)| server)))?;
        let answers = per(ANSWERS.range(read, ..)?.map(|row| row.map(|((server, _), _)| server)))?;
        let remembered = per(MESSAGES_OF.range(read, ..)?.map(|row| row.map(|((server, _), _)| server)))?;
        let destinations = read.rows(&DESTINATIONS)? as usize;
        let mut servers = world.count() as usize;
        if outgoing > servers * rooms || destinations > servers {
            // Of names that somebody made up there may be more.
            servers = all_servers(world, read)?;
        }
        let mut over = |what: &str, is: usize, most: usize| {
            if is > most {
                wrong.push(format!("{is} {what}, and {most} are the most"));
            }
        };
        over("positions of what other servers were sent", outgoing, servers * rooms);
        over("servers that cannot be reached are remembered", destinations, servers);
        for (room, many) in &parked {
            over(&format!("events are parked in room {room}"), *many, MAX_PARKED);
        }
        for (what, most, by_server) in [
            ("device messages wait for one server", MOST_MESSAGES, &messages),
            ("answers are kept for one server", MOST_ANSWERS, &answers),
            ("device messages are remembered of one server", MOST_REMEMBERED, &remembered),
        ] {
            over(what, by_server.values().copied().max().unwrap_or(0), most);
        }
        Ok(Most {
            queued: (outgoing + messages.values().sum::<usize>()) as u64,
            parked: parked.values().sum::<usize>() as u64,
            waiting: node.store.stats().waiting as u64,
            tasks: world.owner(number).map_or(0, |owner| owner.tasks()),
            requests: world.air().under_way(number),
        })
    })
}

/// How many rows there are of each kind.
fn per<K: Ord>(keys: impl Iterator<Item = Result<K, StoreError>>) -> Result<BTreeMap<K, usize>, StoreError> {
    let mut counts = BTreeMap::new();
    for key in keys {
        *counts.entry(key?).or_insert(0) += 1;
    }
    Ok(counts)
}

/// Servers that a node can know: those of the simulation, and names that somebody made up and got into a room.
fn all_servers(world: &World, read: &dyn Read) -> Result<usize, StoreError> {
    let mut names: std::collections::BTreeSet<String> = world.numbers().map(|node| world.server_name(node)).collect();
    for row in ROOM_SERVERS.range(read, ..)? {
        names.insert(row?.0.1);
    }
    Ok(names.len())
}

/// Bytes of memory that a node holds: without the pages of its disk.
fn memory(world: &World, number: u32, held: u64) -> u64 {
    held.saturating_sub(world.with_disk(number, kith_store::MemoryBackend::used_bytes).unwrap_or(0))
}

/// Looks at a node. What is beyond its bound is a breach, told once for each node and kind.
pub fn check(world: &World, number: u32) {
    let Some(node) = world.node(number) else { return };
    let mut wrong = Vec::new();
    let found = figures(world, number, &node, &mut wrong);
    let bounds = &world.scenario().checks.bounds;
    if let Ok(found) = found {
        for (what, is, most) in [
            ("rows wait for other servers", found.queued, bounds.queued),
            ("events are parked", found.parked, bounds.parked),
            ("changes wait for the disk", found.waiting, bounds.waiting),
            ("tasks are there", found.tasks, bounds.tasks),
            ("requests are not answered", found.requests, bounds.requests),
        ] {
            if is > most {
                wrong.push(format!("{is} {what}, and the scenario allows {most}"));
            }
        }
        world.record().lock().held(found);
    }
    let held = world.owner(number).map_or(0, |owner| owner.held());
    // Not how much: that depends on the build.
    if memory(world, number, held) > (bounds.memory_mib * f64::from(1 << 20)) as u64 {
        wrong.push(format!("more memory is held than {} MiB", bounds.memory_mib));
    }
    for what in wrong {
        world.breach(Invariant::Bounds, Some(number), what);
    }
}

/// The most memory, in bytes, that one node held at any look; for a person, as it depends on the build.
pub fn most_memory(world: &World) -> u64 {
    let of = |number| world.owner(number).map_or(0, |owner| memory(world, number, owner.most()));
    world.numbers().map(of).max().unwrap_or(0)
}
