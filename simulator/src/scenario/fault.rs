//! The part of a scenario that says what goes wrong.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What goes wrong: at given times (`at_s`), at random moments (`every_s`, the mean time between two), or both. A `node` that is
/// not given is drawn anew each time; node 0, which makes the rooms, is as likely as any other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// Power is lost, and comes back. Of what was not synced, any part is lost.
    Crash {
        /// When, in seconds.
        #[serde(default)]
        at_s: Vec<f64>,
        /// Mean seconds between two; 0: none but those.
        #[serde(default)]
        every_s: f64,
        /// Which node; a random one if not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<u32>,
        /// Seconds until it is started again.
        #[serde(default = "ten")]
        for_s: f64,
        /// The share of crashes that come in the middle of a commit, so that pages are torn.
        #[serde(default = "half")]
        torn: f64,
    },
    /// The nodes fall into groups that do not hear each other.
    Partition {
        /// When, in seconds.
        #[serde(default)]
        at_s: Vec<f64>,
        /// Mean seconds between two; 0: none but those.
        #[serde(default)]
        every_s: f64,
        /// Seconds until it heals.
        for_s: f64,
        /// How many groups.
        #[serde(default = "two")]
        groups: u32,
    },
    /// One node is cut off from all others.
    Isolate {
        /// When, in seconds.
        #[serde(default)]
        at_s: Vec<f64>,
        /// Mean seconds between two; 0: none but those.
        #[serde(default)]
        every_s: f64,
        /// Which node; a random one if not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<u32>,
        /// Seconds until it is back.
        for_s: f64,
    },
    /// A disk has no space left.
    DiskFull {
        /// When, in seconds.
        #[serde(default)]
        at_s: Vec<f64>,
        /// Mean seconds between two; 0: none but those.
        #[serde(default)]
        every_s: f64,
        /// Which node; a random one if not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<u32>,
        /// Seconds until there is space again.
        for_s: f64,
    },
    /// Commits take very long.
    DiskSlow {
        /// When, in seconds.
        #[serde(default)]
        at_s: Vec<f64>,
        /// Mean seconds between two; 0: none but those.
        #[serde(default)]
        every_s: f64,
        /// Which node; a random one if not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<u32>,
        /// Seconds until it is as before.
        for_s: f64,
        /// How long a commit takes meanwhile, in milliseconds.
        commit_ms: f64,
    },
    /// One operation of a disk fails.
    DiskError {
        /// When, in seconds.
        #[serde(default)]
        at_s: Vec<f64>,
        /// Mean seconds between two; 0: none but those.
        #[serde(default)]
        every_s: f64,
        /// Which node; a random one if not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<u32>,
    },
    /// From then on a disk calls synced what is not. For controls: no node survives it and a crash.
    DiskLies {
        /// When, in seconds.
        at_s: Vec<f64>,
        /// Which node.
        node: u32,
    },
    /// A wall clock is set.
    ClockJump {
        /// When, in seconds.
        #[serde(default)]
        at_s: Vec<f64>,
        /// Mean seconds between two; 0: none but those.
        #[serde(default)]
        every_s: f64,
        /// Which node; a random one if not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<u32>,
        /// By how many seconds at most, forward or back.
        by_s: f64,
    },
    /// A node whose owner means harm: it runs the ordinary software, and a second program with its key that does the following
    /// things now and then. Nothing is asked of it in the end.
    Byzantine {
        /// Which node; not 0.
        node: u32,
        /// The room, counted from 0.
        #[serde(default)]
        room: u32,
        /// Mean seconds between two deeds.
        every_s: f64,
        /// Sends different events to different servers, all following the same ones.
        #[serde(default)]
        forks: bool,
        /// Sends an event to one server only, and answers nobody who asks for it.
        #[serde(default)]
        withholds: bool,
        /// Sends events that its user may not send, and such as cite a state that never was.
        #[serde(default)]
        lies: bool,
        /// Sends so many events at once; 0: does not.
        #[serde(default)]
        floods: u32,
    },
    /// A node whose owner means harm in other ways: requests and events in the name of others, contents that nobody signed, events
    /// that rest on rejected ones or on what held before, redactions without the right to them. Who joins by it is given state that
    /// it made up. Nothing is asked of it in the end.
    Forger {
        /// Which node; not 0.
        node: u32,
        /// The room, counted from 0.
        #[serde(default)]
        room: u32,
        /// Mean seconds between two deeds.
        every_s: f64,
    },
}

fn two() -> u32 {
    2
}

fn ten() -> f64 {
    10.0
}

fn half() -> f64 {
    0.5
}
