//! What the form of a scenario does not say: bounds, and values that must fit together.

use super::{Contacts, Fault, Latency, LoadError, Scenario, Topology, VERSION, What, When, Workload};
use crate::invariants::Invariant;

/// Nodes of one simulation.
const MOST_NODES: u32 = 10_000;

fn refuse<T>(reason: impl Into<String>) -> Result<T, LoadError> {
    Err(LoadError::Sense(reason.into()))
}

/// Whether the scenario makes sense.
pub(super) fn check(scenario: &Scenario) -> Result<(), LoadError> {
    if scenario.version != VERSION {
        return refuse(format!("version {} is not known here: this program reads version {VERSION}", scenario.version));
    }
    let nodes = scenario.nodes.count;
    if !(1..=MOST_NODES).contains(&nodes) {
        return refuse(format!("nodes.count is {nodes}: it must be from 1 to {MOST_NODES}"));
    }
    span("duration_s", scenario.duration_s)?;
    span("settle_s", scenario.settle_s)?;
    if !scenario.nodes.clock_offset_s.is_finite() || scenario.nodes.clock_offset_s.abs() > 1e9 {
        return refuse("nodes.clock_offset_s must be a number of seconds below 10^9");
    }
    network(scenario)?;
    topology(&scenario.topology)?;
    if scenario.rooms.is_empty() {
        return refuse("there must be a room");
    }
    for (number, room) in scenario.rooms.iter().enumerate() {
        let members = room.members.unwrap_or(nodes);
        let level = (0..=100).contains(&room.moderator_level);
        if !level {
            return refuse(format!("rooms[{number}]: moderator_level goes from 0 to 100"));
        }
        if members == 0 || members > nodes || room.moderators == 0 || room.moderators > members {
            return refuse(format!("rooms[{number}]: members go from 1 to {nodes}, moderators from 1 to the members"));
        }
        node(&format!("rooms[{number}].maker"), Some(room.maker), nodes)?;
        if ruma::RoomVersionId::try_from(room.room_version.as_str())
            .ok()
            .is_none_or(|version| kith_room::format::rules(&version).is_none())
        {
            return refuse(format!("rooms[{number}]: room version {:?} is not supported", room.room_version));
        }
    }
    scenario.workload.iter().try_for_each(|workload| workload_fits(workload, scenario.rooms.len()))?;
    let has = |kind: fn(&Workload) -> bool| scenario.workload.iter().any(kind);
    if has(|kind| matches!(kind, Workload::Devices { .. })) && has(|kind| matches!(kind, Workload::Readers { .. })) {
        return refuse("workload: readers take the messages that devices wait for; choose one of them");
    }
    scenario.faults.iter().try_for_each(|fault| fault_fits(fault, scenario))?;
    for name in &scenario.checks.must_fail {
        if Invariant::parse(name).is_none() {
            let known: Vec<&str> = Invariant::ALL.iter().map(|invariant| invariant.name()).collect();
            return refuse(format!("checks.must_fail: there is no invariant {name:?}, but {}", known.join(", ")));
        }
    }
    node("checks.skips_auth", scenario.checks.skips_auth, nodes)
}

/// A time: finite, not negative, at most some decades.
fn span(what: &str, value: f64) -> Result<(), LoadError> {
    if value.is_finite() && (0.0..=1e9).contains(&value) {
        return Ok(());
    }
    refuse(format!("{what} is {value}: it must be a number from 0 to 10^9"))
}

fn share(what: &str, value: f64) -> Result<(), LoadError> {
    if (0.0..=1.0).contains(&value) {
        return Ok(());
    }
    refuse(format!("{what} is {value}: it must be a share from 0 to 1"))
}

fn node(what: &str, node: Option<u32>, nodes: u32) -> Result<(), LoadError> {
    match node {
        Some(node) if node >= nodes => refuse(format!("{what} is {node}: nodes are counted from 0 to {}", nodes - 1)),
        _ => Ok(()),
    }
}

fn network(scenario: &Scenario) -> Result<(), LoadError> {
    let network = &scenario.network;
    let disk = &scenario.disk;
    for (what, value) in [
        ("network.jitter_ms", network.jitter_ms),
        ("network.notice_ms", network.notice_ms),
        ("network.link_up_s", network.link_up_s),
        ("network.link_down_s", network.link_down_s),
        ("disk.commit_ms", disk.commit_ms),
        ("disk.jitter_ms", disk.jitter_ms),
    ] {
        span(what, value)?;
    }
    share("network.loss", network.loss)?;
    match &network.latency {
        Latency::Constant { ms } => span("network.latency.ms", *ms)?,
        Latency::Uniform { min_ms, max_ms } => {
            span("network.latency.min_ms", *min_ms)?;
            span("network.latency.max_ms", *max_ms)?;
            if min_ms > max_ms {
                return refuse("network.latency: min_ms is above max_ms");
            }
        }
        Latency::Normal { mean_ms, deviation_ms } => {
            span("network.latency.mean_ms", *mean_ms)?;
            span("network.latency.deviation_ms", *deviation_ms)?;
        }
        Latency::LogNormal { median_ms, sigma } => {
            span("network.latency.median_ms", *median_ms)?;
            span("network.latency.sigma", *sigma)?;
        }
        Latency::Matrix { ms } => {
            if ms.is_empty() || ms.iter().any(|row| row.len() != ms.len()) {
                return refuse("network.latency.ms must be a square");
            }
            ms.iter().flatten().try_for_each(|ms| span("network.latency.ms", *ms))?;
        }
    }
    for nat in &network.nat {
        share("network.nat.share", nat.share)?;
    }
    if network.nat.iter().map(|nat| nat.share).sum::<f64>() > 1.0 {
        return refuse("network.nat: the shares are more than 1 together");
    }
    let ways = [network.link_up_s > 0.0, network.mobility.is_some(), network.contacts.is_some()];
    if ways.iter().filter(|used| **used).count() > 1 {
        return refuse("network: links come and go by link_up_s, by mobility or by contacts; choose one");
    }
    if let Some(mobility) = &network.mobility {
        if let Some(steps) = &mobility.steps {
            span("network.mobility.steps.most_m", steps.most_m)?;
            span("network.mobility.steps.every_s", steps.every_s)?;
            if steps.every_s <= 0.0 {
                return refuse("network.mobility.steps.every_s must be above 0");
            }
        }
        for (what, value) in [
            ("width_m", mobility.width_m),
            ("height_m", mobility.height_m),
            ("range_m", mobility.range_m),
            ("max_speed", mobility.max_speed),
            ("step_s", mobility.step_s),
        ] {
            span(&format!("network.mobility.{what}"), value)?;
            if value <= 0.0 {
                return refuse(format!("network.mobility.{what} must be above 0"));
            }
        }
        span("network.mobility.pause_s", mobility.pause_s)?;
        span("network.mobility.min_speed", mobility.min_speed)?;
        if mobility.min_speed <= 0.0 || mobility.min_speed > mobility.max_speed {
            return refuse("network.mobility: min_speed must be above 0, and not above max_speed");
        }
    }
    match &network.contacts {
        Some(Contacts { file: None, text: Some(text) }) => {
            crate::network::contacts::read(text, scenario.nodes.count).map(drop).map_err(LoadError::Sense)
        }
        Some(_) => refuse("network.contacts: give either `text`, or `file` in a scenario that is a file itself"),
        None => Ok(()),
    }
}

fn topology(topology: &Topology) -> Result<(), LoadError> {
    match topology {
        Topology::Grid { width: 0 } => refuse("topology.width must be above 0"),
        Topology::Tree { children: 0 } => refuse("topology.children must be above 0"),
        Topology::RandomRegular { degree: 0 } => refuse("topology.degree must be above 0"),
        Topology::BarabasiAlbert { edges: 0 } => refuse("topology.edges must be above 0"),
        Topology::WattsStrogatz { nearest: 0, .. } => refuse("topology.nearest must be above 0"),
        Topology::WattsStrogatz { rewired, .. } => share("topology.rewired", *rewired),
        Topology::ErdosRenyi { probability } => share("topology.probability", *probability),
        Topology::RandomGeometric { radius } => span("topology.radius", *radius),
        _ => Ok(()),
    }
}

fn workload_fits(workload: &Workload, rooms: usize) -> Result<(), LoadError> {
    let hours = workload.hours();
    span("workload: from_s", hours.from_s)?;
    if let Some(until_s) = hours.until_s {
        span("workload: until_s", until_s)?;
        if until_s <= hours.from_s {
            return refuse("workload: until_s must be after from_s");
        }
    }
    let rate = |what: &str, value: f64| {
        if value.is_finite() && value > 0.0 { Ok(()) } else { refuse(format!("workload: {what} must be above 0")) }
    };
    let room = match workload {
        Workload::Poisson { room, rate_per_s, .. } => rate("rate_per_s", *rate_per_s).map(|()| *room),
        Workload::Topics { at_once: 0, .. } => refuse("workload: at_once is 1 or more".to_owned()),
        Workload::Rounds { writers: 0, .. } => refuse("workload: writers is 1 or more".to_owned()),
        Workload::Bursts { room, every_s, .. }
        | Workload::Rounds { room, every_s, .. }
        | Workload::Topics { room, every_s, .. }
        | Workload::Names { room, every_s, .. }
        | Workload::PowerDuel { room, every_s, .. }
        | Workload::Scroll { room, every_s, .. }
        | Workload::Media { room, every_s, .. }
        | Workload::Redactions { room, every_s, .. }
        | Workload::Devices { room, every_s, .. }
        | Workload::Repeats { room, every_s, .. } => rate("every_s", *every_s).map(|()| *room),
        Workload::Churn { room, every_s, away_s, .. } => {
            span("workload: away_s", *away_s)?;
            rate("every_s", *every_s).map(|()| *room)
        }
        Workload::Diurnal { room, peak_per_s, period_s, .. } => {
            rate("period_s", *period_s)?;
            rate("peak_per_s", *peak_per_s).map(|()| *room)
        }
        Workload::JoinStorm { room, at_s, over_s, .. } => {
            span("workload: at_s", *at_s)?;
            span("workload: over_s", *over_s).map(|()| *room)
        }
        Workload::Bans { room, at_s, every_s, for_s, .. } => {
            moments("bans", at_s, *every_s)?;
            span("workload: for_s", *for_s).map(|()| *room)
        }
        Workload::Readers { share: of, .. } => return share("workload: share", *of),
    }?;
    if room as usize >= rooms {
        return refuse(format!("workload: there is no room {room}; they are counted from 0"));
    }
    Ok(())
}

fn moments(what: &str, at_s: &[f64], every_s: f64) -> Result<(), LoadError> {
    at_s.iter().try_for_each(|at| span(&format!("{what}: at_s"), *at))?;
    span(&format!("{what}: every_s"), every_s)?;
    if at_s.is_empty() && every_s == 0.0 {
        return refuse(format!("{what}: give at_s, or every_s, or both"));
    }
    Ok(())
}

fn fault_fits(Fault { when, what }: &Fault, scenario: &Scenario) -> Result<(), LoadError> {
    node("faults: node", when.node, scenario.nodes.count)?;
    moments("faults", &when.at_s, when.every_s)?;
    let touches_disk =
        matches!(what, What::Crash { .. } | What::DiskFull { .. } | What::DiskError {} | What::DiskLies {});
    if touches_disk && scenario.disk.volatile {
        return refuse("faults: with disk.volatile no power may be cut and no disk disturbed");
    }
    match what {
        What::Crash { for_s, torn } => {
            share("faults: torn", *torn)?;
            span("faults: for_s", *for_s)
        }
        What::Partition { for_s, groups } => {
            if *groups < 2 {
                return refuse("faults: a partition has 2 groups or more");
            }
            if when.node.is_some() {
                return refuse("faults: a partition is about no node");
            }
            span("faults: for_s", *for_s)
        }
        What::Isolate { for_s } | What::DiskFull { for_s } => span("faults: for_s", *for_s),
        What::DiskSlow { for_s, commit_ms } => {
            span("faults: for_s", *for_s)?;
            span("faults: commit_ms", *commit_ms)
        }
        What::DiskError {} => Ok(()),
        What::DiskLies {} if when.node.is_none() => refuse("faults: a disk that lies needs its node"),
        What::DiskLies {} => Ok(()),
        What::ClockJump { by_s } => span("faults: by_s", *by_s),
        What::Byzantine { room, answers_share, .. } => {
            share("faults: answers_share", *answers_share)?;
            harmful(when, *room, scenario)
        }
        What::Forger { room } => harmful(when, *room, scenario),
    }
}

/// A node whose owner means harm is always the same one.
fn harmful(when: &When, room: u32, scenario: &Scenario) -> Result<(), LoadError> {
    match when.node {
        None => refuse("faults: a node whose owner means harm must be given"),
        Some(node) if scenario.rooms.iter().any(|room| room.maker == node) => {
            refuse(format!("faults: node {node} makes a room, so its owner means no harm"))
        }
        Some(_) if room as usize >= scenario.rooms.len() => {
            refuse(format!("faults: there is no room {room}; they are counted from 0"))
        }
        Some(_) => Ok(()),
    }
}
