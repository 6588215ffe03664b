//! The part of a scenario that says what goes wrong.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When something goes wrong: at given times, at random moments, or both; and at which node. One that is not given is drawn anew each
/// time; those that make rooms are as likely as any other.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct When {
    /// When, in seconds.
    #[serde(default)]
    pub at_s: Vec<f64>,
    /// Mean seconds between two; 0: none but those.
    #[serde(default)]
    pub every_s: f64,
    /// Which node; a random one if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<u32>,
}

/// What goes wrong, when and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Fault {
    /// When, and at which node. A partition has none, a disk that lies and nodes whose owners mean harm need theirs.
    #[serde(flatten)]
    pub when: When,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum What {
    /// Power is lost, and comes back. Of what was not synced, any part is lost.
    Crash {
        /// Seconds until it is started again.
        #[serde(default = "ten")]
        for_s: f64,
        /// The share of crashes that come in the middle of a commit, so that pages are torn.
        #[serde(default = "half")]
        torn: f64,
    },
    /// The nodes fall into groups that do not hear each other.
    Partition {
        /// Seconds until it heals.
        for_s: f64,
        /// How many groups.
        #[serde(default = "two")]
        groups: u32,
    },
    /// One node is cut off from all others.
    Isolate {
        /// Seconds until it is back.
        for_s: f64,
    },
    /// A disk has no space left.
    DiskFull {
        /// Seconds until there is space again.
        for_s: f64,
    },
    /// Commits take very long.
    DiskSlow {
        /// Seconds until it is as before.
        for_s: f64,
        /// How long a commit takes meanwhile, in milliseconds.
        commit_ms: f64,
    },
    /// One operation of a disk fails.
    DiskError {},
    /// From then on a disk calls synced what is not. For controls: no node survives it and a crash.
    DiskLies {},
    /// A wall clock is set.
    ClockJump {
        /// By how many seconds at most, forward or back.
        by_s: f64,
    },
    /// A node whose owner means harm: it runs the ordinary software, and a second program with its key that does the following
    /// things now and then. Nothing is asked of it in the end.
    Byzantine {
        /// The room, counted from 0.
        #[serde(default)]
        room: u32,
        /// Sends different events to different servers, all following the same ones.
        #[serde(default)]
        forks: bool,
        /// Sends events to some servers only, and does not answer every other one that asks for them.
        #[serde(default)]
        withholds: bool,
        /// Sends events that its user may not send, and such as cite a state that never was.
        #[serde(default)]
        lies: bool,
        /// Sends so many events at once; 0: does not.
        #[serde(default)]
        floods: u32,
        /// How it lies when it is asked for a state, a join's state, auth events, missing events or history: one of these each time.
        #[serde(default)]
        answers: Vec<Lie>,
        /// The share of such answers that are lies.
        #[serde(default = "half")]
        answers_share: f64,
    },
    /// A node whose owner means harm in other ways: requests and events in the name of others, contents that nobody signed, events
    /// that rest on rejected ones or on what held before, redactions without the right to them. Nothing is asked
    /// of it in the end.
    Forger {
        /// The room, counted from 0.
        #[serde(default)]
        room: u32,
    },
}

/// A lie in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lie {
    /// Leaves events out.
    Omit,
    /// Gives an older event for one of the state.
    Old,
    /// Adds an event that gives its user all power or the room a name, or the ID of one that nobody has.
    Forge,
    /// Adds an event of another room.
    Foreign,
    /// Spoils an event's signature or content.
    Broken,
}

impl Lie {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Omit, Self::Old, Self::Forge, Self::Foreign, Self::Broken];

    /// The counter of how often it was told.
    pub const fn counter(self) -> &'static str {
        match self {
            Self::Omit => "byzantine_answer_omit",
            Self::Old => "byzantine_answer_old",
            Self::Forge => "byzantine_answer_forge",
            Self::Foreign => "byzantine_answer_foreign",
            Self::Broken => "byzantine_answer_broken",
        }
    }

    /// Whether all that is true is still in the answer.
    pub const fn adds(self) -> bool {
        matches!(self, Self::Forge | Self::Foreign)
    }
}

impl What {
    /// Counters of all kinds of faults that a sound node must stand; a disk that lies is none of them.
    pub const OCCURS: [&str; 20] = [
        "crash",
        "crash_in_commit",
        "partition",
        "isolate",
        "disk_full",
        "disk_slow",
        "disk_error",
        "clock_jump",
        "link_down",
        "lost",
        "byzantine_fork",
        "byzantine_withhold",
        "byzantine_lie",
        "byzantine_flood",
        "forger",
        Lie::Omit.counter(),
        Lie::Old.counter(),
        Lie::Forge.counter(),
        Lie::Foreign.counter(),
        Lie::Broken.counter(),
    ];
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
