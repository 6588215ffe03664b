//! Scenarios: what is simulated, as TOML. `docs/simulator.md` tells it for users, `simulator/scenario.schema.json` for editors.

mod fault;
mod load;
mod network;
mod topology;
mod validate;
mod workload;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use fault::{Fault, Lie, What, When};
pub use load::{LoadError, load, parse, schema};
pub use network::{Contacts, Disk, Latency, Mobility, Nat, NatKind, Network, Steps};
pub use topology::Topology;
pub use workload::{Hours, Workload};

/// The version of the format that this program reads.
pub const VERSION: u32 = 1;

/// A whole scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The version of the format: 1.
    pub version: u32,
    /// A short name.
    pub name: String,
    /// What it shows, and what to look at in the results.
    #[serde(default)]
    pub about: String,
    /// The seed, unless the command line gives another.
    #[serde(default = "one")]
    pub seed: u64,
    /// How long users and faults are at work, in virtual seconds.
    pub duration_s: f64,
    /// How long the nodes have afterwards, without users and faults, to agree: in virtual seconds.
    #[serde(default = "settle")]
    pub settle_s: f64,
    /// The nodes.
    pub nodes: Nodes,
    /// Who is whose neighbour.
    #[serde(default)]
    pub topology: Topology,
    /// What the links between them are like.
    #[serde(default)]
    pub network: Network,
    /// What their disks are like.
    #[serde(default)]
    pub disk: Disk,
    /// The rooms, each of which is there before the users begin.
    #[serde(default = "one_room")]
    pub rooms: Vec<Room>,
    /// What users do.
    #[serde(default)]
    pub workload: Vec<Workload>,
    /// What goes wrong.
    #[serde(default)]
    pub faults: Vec<Fault>,
    /// What must hold in the end.
    #[serde(default)]
    pub checks: Checks,
}

/// The nodes, each with one user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nodes {
    /// How many.
    pub count: u32,
    /// The most that a wall clock is off, in seconds; each node draws its own error.
    #[serde(default)]
    pub clock_offset_s: f64,
    /// The most that a clock runs too fast or too slow, in millionths.
    #[serde(default)]
    pub clock_drift_ppm: u32,
    /// How many forward extremities an event follows at most, chosen at random; 0: the node's own choice.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cites: u32,
    /// Memory for pages of each node's store, in KiB.
    #[serde(default = "cache")]
    pub cache_kib: u32,
}

/// A room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Room {
    /// The node that makes it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub maker: u32,
    /// How many nodes are in it from the beginning, its maker and those nearest to it; all if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<u32>,
    /// How many of its members may do everything, its maker among them.
    #[serde(default = "two")]
    pub moderators: u32,
    /// The power level of these.
    #[serde(default = "full_power")]
    pub moderator_level: i64,
    /// The room version.
    #[serde(default = "room_version")]
    pub room_version: String,
}

impl Default for Room {
    fn default() -> Self {
        Self { maker: 0, members: None, moderators: two(), moderator_level: full_power(), room_version: room_version() }
    }
}

/// What must hold in the end.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Checks {
    /// What must have occurred, or the run proves nothing: names of counters in `summary.json`, such as "crash", "soft_failed",
    /// "rejected", "fork".
    #[serde(default)]
    pub occurs: Vec<String>,
    /// This is a control: one of these invariants must be found broken, or the simulator itself is blind.
    #[serde(default)]
    pub must_fail: Vec<String>,
    /// Partitions and isolations are not ended in the end. For controls.
    #[serde(default)]
    pub never_heal: bool,
    /// What each node may hold.
    #[serde(default)]
    pub bounds: Bounds,
    /// The node that does not check authorization. For controls. In a build without mutants what it rejected is made accepted on its
    /// disk, as no code of such a build could do it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skips_auth: Option<u32>,
}

/// What each node may hold at any time, looked at a hundred times a run and in the end. What the node itself promises is looked at
/// in any case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Bounds {
    /// Memory in MiB, without the pages of its virtual disk.
    pub memory_mib: f64,
    /// Rows of all its queues to other servers.
    pub queued: u64,
    /// Events that wait for those they follow, in all rooms.
    pub parked: u64,
    /// Changes that wait for the disk.
    pub waiting: u64,
    /// Tasks that have not ended.
    pub tasks: u64,
    /// Its requests to other nodes that are not answered.
    pub requests: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { memory_mib: 64.0, queued: 10_000, parked: 1_000, waiting: 1_000, tasks: 10_000, requests: 5_000 }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // The form that serde wants.
fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn one() -> u64 {
    1
}

fn two() -> u32 {
    2
}

fn settle() -> f64 {
    3_600.0
}

fn cache() -> u32 {
    256
}

fn full_power() -> i64 {
    100
}

fn room_version() -> String {
    "12".to_owned()
}

fn one_room() -> Vec<Room> {
    vec![Room::default()]
}
