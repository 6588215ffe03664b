//! The part of a scenario that says what users do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When users do something: a part of the time that they are at work.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Hours {
    /// When it begins, in seconds. Other moments of the workload (`at_s`) are counted from then on.
    #[serde(default)]
    pub from_s: f64,
    /// When it ends, in seconds; with all else if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_s: Option<f64>,
}

/// What users do, from the client API of their own node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Workload {
    /// Members say something at random moments.
    Poisson {
        /// From when until when.
        #[serde(flatten)]
        hours: Hours,
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
        /// From when until when.
        #[serde(flatten)]
        hours: Hours,
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
    /// In each round some members say something in one instant, so that none has heard of the others'.
    Rounds {
        /// From when until when.
        #[serde(flatten)]
        hours: Hours,
        /// The room, counted from 0.
        #[serde(default)]
        room: u32,
        /// Seconds between rounds.
        every_s: f64,
        /// How many members, drawn anew for each round.
        writers: u32,
        /// Length of the text.
        #[serde(default = "bytes")]
        bytes: u32,
    },
    /// As Poisson, with a rate that rises and falls.
    Diurnal {
        /// From when until when.
        #[serde(flatten)]
        hours: Hours,
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
        /// From when until when.
        #[serde(flatten)]
        hours: Hours,
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
        /// From when until when.
        #[serde(flatten)]
        hours: Hours,
        /// The room, counted from 0.
        #[serde(default)]
        room: u32,
        /// Seconds between changes, on average; each by a random moderator.
        every_s: f64,
        /// How many moderators change it in the same instant: where clocks agree, nothing but the event's ID tells which comes first.
        #[serde(default = "one")]
        at_once: u32,
    },
    /// Members change their display names, which are part of their memberships: conflicts among these.
    Names {
        /// From when until when.
        #[serde(flatten)]
        hours: Hours,
        /// The room, counted from 0. The name changes in all rooms that the member is in.
        #[serde(default)]
        room: u32,
        /// Seconds between changes, on average.
        every_s: f64,
    },
    /// Two moderators change each other's power at the same moment.
    PowerDuel {
        /// From when until when.
        #[serde(flatten)]
        hours: Hours,
        /// The room, counted from 0.
        #[serde(default)]
        room: u32,
        /// Seconds between duels, on average.
        every_s: f64,
    },
    /// A moderator bans a member, who knows nothing of it and goes on talking, and takes the ban back later.
    Bans {
        /// From when until when.
        #[serde(flatten)]
        hours: Hours,
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
        /// From when until when.
        #[serde(flatten)]
        hours: Hours,
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
        /// From when until when.
        #[serde(flatten)]
        hours: Hours,
        /// The share of nodes whose user does.
        share: f64,
    },
    /// Now and then a member scrolls back to the beginning of the room.
    Scroll {
        /// From when until when.
        #[serde(flatten)]
        hours: Hours,
        /// The room, counted from 0.
        #[serde(default)]
        room: u32,
        /// Seconds between times, on average.
        every_s: f64,
    },
    /// Now and then a member sends a file, and another one looks at it.
    Media {
        /// From when until when.
        #[serde(flatten)]
        hours: Hours,
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
        /// From when until when.
        #[serde(flatten)]
        hours: Hours,
        /// The room, counted from 0.
        #[serde(default)]
        room: u32,
        /// Seconds between times, on average.
        every_s: f64,
    },
    /// Members send each other device messages, again and again until they are told that these are sent, and take what came. Not
    /// together with `readers`, who would take it first.
    Devices {
        /// From when until when.
        #[serde(flatten)]
        hours: Hours,
        /// The room whose members do, counted from 0.
        #[serde(default)]
        room: u32,
        /// Seconds between messages, on average.
        every_s: f64,
    },
    /// Members say something, and send the same request once more.
    Repeats {
        /// From when until when.
        #[serde(flatten)]
        hours: Hours,
        /// The room, counted from 0.
        #[serde(default)]
        room: u32,
        /// Seconds between times, on average.
        every_s: f64,
    },
}

impl Workload {
    /// From when until when.
    pub fn hours(&self) -> Hours {
        match self {
            Self::Poisson { hours, .. }
            | Self::Bursts { hours, .. }
            | Self::Rounds { hours, .. }
            | Self::Diurnal { hours, .. }
            | Self::JoinStorm { hours, .. }
            | Self::Topics { hours, .. }
            | Self::Names { hours, .. }
            | Self::PowerDuel { hours, .. }
            | Self::Bans { hours, .. }
            | Self::Churn { hours, .. }
            | Self::Readers { hours, .. }
            | Self::Scroll { hours, .. }
            | Self::Media { hours, .. }
            | Self::Redactions { hours, .. }
            | Self::Devices { hours, .. }
            | Self::Repeats { hours, .. } => *hours,
        }
    }
}

fn one() -> u32 {
    1
}

fn bytes() -> u32 {
    100
}

fn ban() -> f64 {
    60.0
}
