//! The part of a scenario that says what users do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What users do, from the client API of their own node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Workload {
    /// Members say something at random moments.
    Poisson {
        /// The room, counted from 0.
        #[serde(default)]
        room: u32,
        /// Messages a second, by all together.
        rate_per_s: f64,
        /// Length of the text.
        #[serde(default = "bytes")]
        bytes: u32,
    },
    /// Now and then very many messages at once.
    Bursts {
        /// The room, counted from 0.
        #[serde(default)]
        room: u32,
        /// Seconds between bursts.
        every_s: f64,
        /// Messages of a burst, each by a random member.
        messages: u32,
        /// Length of the text.
        #[serde(default = "bytes")]
        bytes: u32,
    },
    /// As Poisson, with a rate that rises and falls.
    Diurnal {
        /// The room, counted from 0.
        #[serde(default)]
        room: u32,
        /// Messages a second at noon; at midnight there are none.
        peak_per_s: f64,
        /// Length of a day, in seconds.
        period_s: f64,
        /// Length of the text.
        #[serde(default = "bytes")]
        bytes: u32,
    },
    /// Those who are not in the room join it, more or less at once.
    JoinStorm {
        /// The room, counted from 0.
        #[serde(default)]
        room: u32,
        /// When it begins, in seconds.
        at_s: f64,
        /// Within how many seconds all have begun.
        #[serde(default)]
        over_s: f64,
    },
    /// Members change the room's topic: conflicts for state resolution.
    Topics {
        /// The room, counted from 0.
        #[serde(default)]
        room: u32,
        /// Seconds between changes, on average; each by a random moderator.
        every_s: f64,
    },
    /// Two moderators change each other's power at the same moment.
    PowerDuel {
        /// The room, counted from 0.
        #[serde(default)]
        room: u32,
        /// Seconds between duels, on average.
        every_s: f64,
    },
    /// A moderator bans a member, who knows nothing of it and goes on talking, and takes the ban back later.
    Bans {
        /// The room, counted from 0.
        #[serde(default)]
        room: u32,
        /// When, in seconds; without, at random moments.
        #[serde(default)]
        at_s: Vec<f64>,
        /// Seconds between bans, on average. 0: only `at_s`.
        #[serde(default)]
        every_s: f64,
        /// How long a ban lasts, in seconds. After it the member joins again.
        #[serde(default = "ban")]
        for_s: f64,
    },
    /// Members leave and join again.
    Churn {
        /// The room, counted from 0.
        #[serde(default)]
        room: u32,
        /// Seconds between departures, on average.
        every_s: f64,
        /// How long they stay away, in seconds.
        away_s: f64,
    },
    /// Members keep a sync open, as clients do.
    Readers {
        /// The share of nodes whose user does.
        share: f64,
    },
    /// Now and then a member scrolls back to the beginning of the room.
    Scroll {
        /// The room, counted from 0.
        #[serde(default)]
        room: u32,
        /// Seconds between times, on average.
        every_s: f64,
    },
    /// Now and then a member sends a file, and another one looks at it.
    Media {
        /// The room, counted from 0.
        #[serde(default)]
        room: u32,
        /// Seconds between times, on average.
        every_s: f64,
        /// Size of the file.
        bytes: u32,
    },
    /// Now and then somebody redacts what was said lately: its own words, or as a moderator those of others.
    Redactions {
        /// The room, counted from 0.
        #[serde(default)]
        room: u32,
        /// Seconds between times, on average.
        every_s: f64,
    },
    /// Members send each other device messages, again and again until they are told that these are sent, and take what came. Not
    /// together with `readers`, who would take it first.
    Devices {
        /// The room whose members do, counted from 0.
        #[serde(default)]
        room: u32,
        /// Seconds between messages, on average.
        every_s: f64,
    },
    /// Members say something, and send the same request once more.
    Repeats {
        /// The room, counted from 0.
        #[serde(default)]
        room: u32,
        /// Seconds between times, on average.
        every_s: f64,
    },
}

fn bytes() -> u32 {
    100
}

fn ban() -> f64 {
    60.0
}
