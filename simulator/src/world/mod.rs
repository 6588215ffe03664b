//! The world: all nodes with their machines, the air between them, and their users.
//!
//! | module | what it does |
//! | --- | --- |
//! | `machine` | one machine: its disk, its clock, and the node on it while it runs |
//! | `left` | what a crash leaves on a disk |
//! | `watch` | sees what each node commits |
//! | `ends` | sees whether forward extremities are such |
//! | `resolutions` | sees where states had to be resolved |
//! | [`client`] | calls a node as its user's client |
//! | [`setup`] | accounts, rooms and first joins |

pub mod client;
pub(crate) mod ends;
mod left;
mod machine;
mod resolutions;
pub mod setup;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kith::platform::{InlineSpawner, Spawner as _};
use kith::{Handle, Node};

use self::machine::Machine;
use crate::engine::{Engine, Nanos, Stream, Timeline};
use crate::memory::{Owner, outside};
use crate::network::{Air, Observer};
use crate::record::Record;
use crate::scenario::{Scenario, What};
use crate::topology::{self, Edges};

/// All that there is. Clones are the same.
#[derive(Clone)]
pub struct World(Arc<Inner>);

struct Inner {
    scenario: Scenario,
    seed: u64,
    engine: Engine,
    air: Air,
    record: Record,
    spawner: InlineSpawner,
    machines: Vec<Mutex<Machine>>,
    /// Room IDs, by the rooms' numbers in the scenario.
    rooms: Mutex<Vec<String>>,
    /// `(room, node)` to since when its user is a member.
    members: Mutex<BTreeMap<(u32, u32), Nanos>>,
    /// Who was not a member all the time.
    left: Mutex<BTreeSet<(u32, u32)>>,
    /// `(room ID, node)` of who was told a state that may be another one.
    misled: Mutex<BTreeSet<(String, u32)>>,
    edges: Edges,
    /// The nodes that are in each room from the beginning.
    first_members: Vec<Vec<u32>>,
    /// Set in the end: nobody begins anything any more.
    over: AtomicBool,
}

/// Why a world cannot be made or set up.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WorldError(pub String);

impl World {
    /// Makes the machines, switched off.
    ///
    /// # Errors
    /// When the nodes cannot all hear of each other.
    pub fn new(scenario: &Scenario, seed: u64, engine: &Engine, record: &Record) -> Result<Self, WorldError> {
        let count = scenario.nodes.count;
        let edges = topology::edges(&scenario.topology, count, &Stream::new(seed, "topology", 0, 0));
        let edges = Air::possible(&scenario.network, &edges, count, seed);
        if topology::parts(&edges, count).len() > 1 {
            let reason = "behind their address translation the nodes do not all hear of each other: lower the shares in \
                          network.nat, or choose a topology with more edges";
            return Err(WorldError(reason.to_owned()));
        }
        let machines: Vec<Machine> = (0..count)
            .zip(Owner::take(count))
            .map(|(number, owner)| Machine::new(number, owner, scenario, seed))
            .collect();
        let careless = scenario.checks.skips_auth.and_then(|node| Some(machines.get(node as usize)?.owner));
        kith_mutants::put_to_work(careless.map(|owner| {
            let here: Box<dyn Fn() -> bool> = Box::new(move || owner.is_acting());
            ("skips-auth", here)
        }));
        let keys: Vec<_> = machines.iter().map(Machine::key).collect();
        let seeing = record.clone();
        let observer: Observer =
            Arc::new(move |from, to, passed, bytes| outside(|| seeing.passed(from, to, passed, bytes)));
        let air = Air::new(engine.timeline().clone(), &scenario.network, &keys, &edges, seed, observer);
        Ok(Self(Arc::new(Inner {
            scenario: scenario.clone(),
            seed,
            engine: engine.clone(),
            air,
            record: record.clone(),
            spawner: engine.spawner(),
            machines: machines.into_iter().map(Mutex::new).collect(),
            rooms: Mutex::default(),
            members: Mutex::default(),
            left: Mutex::default(),
            misled: Mutex::default(),
            first_members: setup::first_members(scenario, &edges),
            edges,
            over: AtomicBool::new(false),
        })))
    }

    /// What is simulated.
    pub fn scenario(&self) -> &Scenario {
        &self.0.scenario
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.0.seed
    }

    /// The time.
    pub fn timeline(&self) -> &Timeline {
        self.0.engine.timeline()
    }

    /// What lies between the nodes.
    pub fn air(&self) -> &Air {
        &self.0.air
    }

    /// Who is whose neighbour.
    pub fn edges(&self) -> &Edges {
        &self.0.edges
    }

    /// What happened.
    pub fn record(&self) -> &Record {
        &self.0.record
    }

    /// How many nodes there are.
    pub fn count(&self) -> u32 {
        self.0.scenario.nodes.count
    }

    /// All numbers of nodes.
    pub fn numbers(&self) -> std::ops::Range<u32> {
        0..self.count()
    }

    /// Random numbers for a purpose.
    pub fn stream(&self, purpose: &str, number: u64) -> Stream {
        Stream::new(self.0.seed, purpose, number, 0)
    }

    /// Starts a task of the world itself: a user, or a fault.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawner.spawn(name, Box::pin(task));
    }

    /// Whether users and faults are done.
    pub fn is_over(&self) -> bool {
        self.0.over.load(Ordering::Relaxed)
    }

    /// Users and faults begin nothing more.
    pub fn end(&self) {
        self.0.over.store(true, Ordering::Relaxed);
    }

    /// Whether a node is one of whom everything is expected.
    pub fn is_honest(&self, node: u32) -> bool {
        !self.0.scenario.faults.iter().any(|fault| {
            fault.when.node == Some(node) && matches!(fault.what, What::Byzantine { .. } | What::Forger { .. })
        })
    }

    /// A node is told a state of a room that may be another one than it was, and that nobody can see through.
    pub fn mislead(&self, room: &str, node: u32) {
        if self.is_honest(node) && lock(&self.0.misled).insert((room.to_owned(), node)) {
            self.record().count("misled");
        }
    }

    /// Whether a node was told such a state.
    pub fn is_misled(&self, room: &str, node: u32) -> bool {
        lock(&self.0.misled).contains(&(room.to_owned(), node))
    }

    /// The number of the node with a key.
    pub fn number_of(&self, key: kith_transport::ServerKey) -> Option<u32> {
        self.0.air.number_of(key)
    }

    /// The ID of a room.
    pub fn room_id(&self, room: u32) -> Option<String> {
        lock(&self.0.rooms).get(room as usize).cloned()
    }

    /// The number of a room by its ID.
    pub fn room_number(&self, id: &str) -> Option<u32> {
        lock(&self.0.rooms).iter().zip(0..).find(|(known, _)| *known == id).map(|(_, number)| number)
    }

    /// Notes that a node's user is in a room, or is not any more.
    pub fn set_member(&self, room: u32, node: u32, member: bool) {
        let now = self.timeline().now();
        let mut members = lock(&self.0.members);
        if member {
            members.entry((room, node)).or_insert(now);
        } else {
            members.remove(&(room, node));
            lock(&self.0.left).insert((room, node));
        }
    }

    /// Whether a node's user left a room, or was removed, at any time.
    pub fn ever_left(&self, room: u32, node: u32) -> bool {
        lock(&self.0.left).contains(&(room, node))
    }

    /// Since when a node's user is in a room, as far as it was asked to be.
    pub fn member_since(&self, room: u32, node: u32) -> Option<Nanos> {
        lock(&self.0.members).get(&(room, node)).copied()
    }

    /// The nodes whose users are in a room.
    pub fn members(&self, room: u32) -> Vec<u32> {
        lock(&self.0.members).range((room, 0)..=(room, u32::MAX)).map(|((_, node), _)| *node).collect()
    }

    /// The users that may do everything in a room.
    pub fn moderators(&self, room: u32) -> Vec<u32> {
        let count = self.0.scenario.rooms.get(room as usize).map_or(1, |room| room.moderators);
        self.first_members(room).iter().take(count as usize).copied().collect()
    }

    /// The nodes that are in a room from the beginning, its maker first.
    pub fn first_members(&self, room: u32) -> &[u32] {
        self.0.first_members.get(room as usize).map_or(&[], Vec::as_slice)
    }

    fn machine(&self, node: u32) -> Option<MutexGuard<'_, Machine>> {
        self.0.machines.get(node as usize).map(lock)
    }

    /// The user of a node.
    pub fn user(&self, node: u32) -> String {
        self.machine(node).map(|machine| machine.user()).unwrap_or_default()
    }

    /// The server name of a node.
    pub fn server_name(&self, node: u32) -> String {
        self.machine(node).map(|machine| machine.key().to_string()).unwrap_or_default()
    }

    /// Who the memory of a node is counted for.
    pub fn owner(&self, node: u32) -> Option<Owner> {
        self.machine(node).map(|machine| machine.owner)
    }

    /// The node that runs on a machine.
    pub fn handle(&self, node: u32) -> Option<Handle> {
        self.machine(node)?.handle()
    }

    /// As [`World::handle`], its inside.
    pub fn node(&self, node: u32) -> Option<Arc<Node>> {
        self.handle(node).map(|handle| handle.node().clone())
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("seed", &self.0.seed).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
