//! The part of a scenario that is about links and disks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the links are like. Each request and each answer takes: its turn at the sender's and the receiver's bandwidth, then the
/// latency, then the jitter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// How long one way takes.
    pub latency: Latency,
    /// The most that is added to a way by chance, in milliseconds.
    pub jitter_ms: f64,
    /// The share of requests, and of answers, that are lost: of a lost request the other side never hears, a lost answer is one to
    /// a request that was carried out. The sender learns of either after `notice_ms`.
    pub loss: f64,
    /// How long it takes to notice that a link is gone, in milliseconds.
    pub notice_ms: f64,
    /// What a node can send, in kbit/s, shared fairly by all that it sends at a time. 0: without bound.
    pub up_kbit: u32,
    /// What a node can receive, in kbit/s, shared likewise. 0: without bound.
    pub down_kbit: u32,
    /// Nodes behind address translation. All others can be dialled by anybody.
    pub nat: Vec<Nat>,
    /// Links that come and go: how long one is up, on average, in seconds (exponential). 0: always.
    pub link_up_s: f64,
    /// How long it is down then, on average, in seconds.
    pub link_down_s: f64,
    /// Nodes that move: neighbours in the topology have a link while they are in range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mobility: Option<Mobility>,
    /// Links that come and go as it is written: neighbours in the topology have a link from "up" to "down".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contacts: Option<Contacts>,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            latency: Latency::Constant { ms: 20.0 },
            jitter_ms: 5.0,
            loss: 0.0,
            notice_ms: 5_000.0,
            up_kbit: 0,
            down_kbit: 0,
            nat: Vec::new(),
            link_up_s: 0.0,
            link_down_s: 60.0,
            mobility: None,
            contacts: None,
        }
    }
}

/// How long one way takes, in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Latency {
    /// Always as long.
    Constant {
        /// Milliseconds.
        ms: f64,
    },
    /// Each link has its own, between two bounds.
    Uniform {
        /// The least.
        min_ms: f64,
        /// The most.
        max_ms: f64,
    },
    /// Each link has its own, normally distributed, and not below 0.
    Normal {
        /// The mean.
        mean_ms: f64,
        /// The standard deviation.
        deviation_ms: f64,
    },
    /// Each link has its own, with a long tail.
    LogNormal {
        /// The median.
        median_ms: f64,
        /// The standard deviation of the logarithm: 0.5 is a usual one.
        sigma: f64,
    },
    /// By sender and receiver; nodes beyond its size begin anew with the first.
    Matrix {
        /// One row for each sender.
        ms: Vec<Vec<f64>>,
    },
}

/// Nodes behind address translation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nat {
    /// Of which kind.
    pub kind: NatKind,
    /// The share of all nodes, drawn by the seed.
    pub share: f64,
}

/// How a node's address translation lets others in. Two nodes have a link only if one of them can dial the other, or both can
/// punch through at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NatKind {
    /// Nobody gets in first; hole punching works with all but symmetric ones.
    PortRestricted,
    /// As port restricted, but open to any port of an address once dialled: hole punching works with symmetric ones, too.
    AddressRestricted,
    /// Another port for each peer: hole punching works with address restricted ones only.
    Symmetric,
    /// Only what is dialled from within: no hole punching at all.
    Closed,
}

/// Nodes that walk: to a random place at a random speed, a rest there, and on (random waypoint); or in steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mobility {
    /// Width of the plane, in metres.
    pub width_m: f64,
    /// Height of the plane, in metres.
    pub height_m: f64,
    /// How far the radios reach, in metres.
    pub range_m: f64,
    /// The slowest walk, in metres a second.
    #[serde(default = "slowest")]
    pub min_speed: f64,
    /// The fastest walk, in metres a second.
    #[serde(default = "fastest")]
    pub max_speed: f64,
    /// The longest rest, in seconds.
    #[serde(default)]
    pub pause_s: f64,
    /// How often it is looked who is in range, in seconds.
    #[serde(default = "step")]
    pub step_s: f64,
    /// If set, nodes take steps instead, and speeds and rests do not matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Steps>,
}

/// Steps in random directions; those that lead beyond the plane end at its edge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Steps {
    /// How long a step is at most, in metres; each is drawn from 0 to that.
    pub most_m: f64,
    /// Seconds between steps.
    pub every_s: f64,
}

fn slowest() -> f64 {
    0.5
}

fn fastest() -> f64 {
    2.0
}

fn step() -> f64 {
    1.0
}

/// A contact trace in the format of The ONE: lines of `<seconds> CONN <node> <node> up|down`, in order of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Contacts {
    /// A file beside the scenario. One of this and `text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The trace itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// What the disks are like. Changes that come while one commit waits for the disk are committed together by the next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Disk {
    /// How long a commit takes, in milliseconds.
    pub commit_ms: f64,
    /// The most that is added to it by chance, in milliseconds.
    pub jitter_ms: f64,
    /// Whether rows are kept in ordered maps in the place of a database file, which is faster. There is no disk then that loses
    /// power, fills up or fails, so that no fault may touch one.
    pub volatile: bool,
}

impl Default for Disk {
    fn default() -> Self {
        Self { commit_ms: 2.0, jitter_ms: 1.0, volatile: false }
    }
}
