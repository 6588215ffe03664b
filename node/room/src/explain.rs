//! What a resolution of states had to do: which branches of the algorithm states lead through.
//!
//! Nothing is decided here. Whoever tests with rooms that were made at random asks it, to know that each branch was taken and not
//! only the easy ones. It goes the way of [`crate::resolve`] once more, with the same conflict, auth difference and subgraph, and
//! looks at what these ask of the algorithm.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ruma::{
    OwnedEventId,
    events::room::{member::MembershipState, power_levels::UserPowerLevel},
    room_version_rules::RoomVersionRules,
};

use crate::{
    auth::check_auth,
    difference::{auth_difference, conflicted_subgraph},
    event::Event,
    power::PowerLevels,
    resolve::{Conflict, ResolveError, resolve_with},
    source::{Memo, Source},
    state::{self, StateMap},
};

/// A branch of state resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Branch {
    /// There are several states, and all are the same.
    NoConflict,
    /// By the algorithm of room version 1.
    Version1,
    /// Of that: power levels, join rules or memberships, each as far as the one before it allows.
    Version1Run,
    /// Of that: other events, by their depth.
    Version1Depth,
    /// By the algorithm of room versions 2 to 11.
    Version2,
    /// By the algorithm of room version 12.
    Version2_1,
    /// Power events are among what has to be ordered (reverse topological power ordering).
    Power,
    /// Others are (mainline ordering).
    Mainline,
    /// Events that stand in none of the conflicting places are in the auth chains of some states only.
    AuthDifference,
    /// Events that are in neither lie between conflicting ones (version 12).
    Subgraph,
    /// Neither power nor mainline puts two events in order, and their timestamps do.
    ByTime,
    /// The timestamps do not either, and the event IDs do.
    ById,
    /// An event is refused, as what was resolved before it does not allow it.
    Refused,
}

impl Branch {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::NoConflict,
        Self::Version1,
        Self::Version1Run,
        Self::Version1Depth,
        Self::Version2,
        Self::Version2_1,
        Self::Power,
        Self::Mainline,
        Self::AuthDifference,
        Self::Subgraph,
        Self::ByTime,
        Self::ById,
        Self::Refused,
    ];

    /// Its name in counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoConflict => "no_conflict",
            Self::Version1 => "v1",
            Self::Version1Run => "v1_run",
            Self::Version1Depth => "v1_depth",
            Self::Version2 => "v2",
            Self::Version2_1 => "v2_1",
            Self::Power => "power",
            Self::Mainline => "mainline",
            Self::AuthDifference => "auth_difference",
            Self::Subgraph => "subgraph",
            Self::ByTime => "by_time",
            Self::ById => "by_id",
            Self::Refused => "refused",
        }
    }
}

/// The branches that these states lead through. None for a single state.
///
/// # Errors
///
/// As [`crate::resolve::resolve`].
pub fn explain(
    rules: &RoomVersionRules,
    forks: &[StateMap],
    source: &dyn Source,
) -> Result<BTreeSet<Branch>, ResolveError> {
    let memo = Memo::new(source);
    let mut distinct: Vec<&StateMap> = Vec::new();
    for fork in forks {
        if !distinct.iter().any(|known| state::same(known, fork)) {
            distinct.push(fork);
        }
    }
    let [base, _, ..] = *distinct.as_slice() else {
        return Ok(if forks.len() > 1 { BTreeSet::from([Branch::NoConflict]) } else { BTreeSet::new() });
    };
    let conflict = Conflict::between(&distinct);
    let resolved = resolve_with(rules, forks, &memo)?;
    let Some(v2) = rules.state_res.v2_rules() else {
        return Ok(version_1(&conflict));
    };

    let mut branches = BTreeSet::new();
    branches.insert(if v2.consider_conflicted_state_subgraph { Branch::Version2_1 } else { Branch::Version2 });
    let difference = auth_difference(&conflict, base, distinct.len(), &memo)?;
    let subgraph = match v2.consider_conflicted_state_subgraph {
        true => conflicted_subgraph(&conflict, &memo)?,
        false => BTreeSet::new(),
    };
    if difference.iter().any(|id| !conflict.events.contains_key(id)) {
        branches.insert(Branch::AuthDifference);
    }
    if subgraph.iter().any(|id| !conflict.events.contains_key(id) && !difference.contains(id)) {
        branches.insert(Branch::Subgraph);
    }

    let ids = conflict.events.keys().chain(&difference).chain(&subgraph);
    let all: BTreeMap<OwnedEventId, Arc<Event>> = ids.filter_map(|id| Some((id.clone(), memo.event(id)?))).collect();
    let look = Look { rules, all: &all, memo: &memo };
    let power = look.power_events();
    let others: Vec<&Arc<Event>> = all.values().filter(|event| !power.contains_key(event.event_id())).collect();
    let levels = resolved.get(&state::StateKey::new("m.room.power_levels", ""));
    let levels = levels.filter(|id| power.contains_key(*id) || !v2.begin_iterative_auth_checks_with_empty_state_map);
    let mainline = look.mainline(levels.and_then(|id| memo.event(id)));
    if !power.is_empty() {
        branches.insert(Branch::Power);
    }
    if !others.is_empty() {
        branches.insert(Branch::Mainline);
    }
    let power: Vec<&Arc<Event>> = power.into_values().collect();
    look.ties(&power, |event| look.power_of(event), |one, other| look.is_above(one, other), &mut branches);
    look.ties(&others, |event| Some(look.position(event, &mainline)), |_, _| false, &mut branches);
    let in_result: BTreeSet<&OwnedEventId> = resolved.values().collect();
    let refused = |event: &&Arc<Event>| {
        !in_result.contains(&event.event_id().to_owned())
            && check_auth(event, rules, |key| memo.event(resolved.get(key)?)).is_err()
    };
    if all.values().any(|event| refused(&event)) {
        branches.insert(Branch::Refused);
    }
    memo.finish()?;
    Ok(branches)
}

fn version_1(conflict: &Conflict) -> BTreeSet<Branch> {
    const RUNS: [&str; 3] = ["m.room.power_levels", "m.room.join_rules", "m.room.member"];
    let mut branches = BTreeSet::from([Branch::Version1]);
    for key in &conflict.keys {
        branches.insert(if RUNS.contains(&key.kind()) { Branch::Version1Run } else { Branch::Version1Depth });
    }
    branches
}

struct Look<'a, 'm> {
    rules: &'a RoomVersionRules,
    /// The full conflicted set.
    all: &'a BTreeMap<OwnedEventId, Arc<Event>>,
    memo: &'a Memo<'m>,
}

impl<'a> Look<'a, '_> {
    /// The power events, and what authorizes them, of the full conflicted set.
    fn power_events(&self) -> BTreeMap<OwnedEventId, &'a Arc<Event>> {
        let mut found = BTreeMap::new();
        let mut open: Vec<&Arc<Event>> = self.all.values().filter(|event| is_power_event(event)).collect();
        while let Some(event) = open.pop() {
            if found.insert(event.event_id().to_owned(), event).is_none() {
                open.extend(event.all_auth_events().filter_map(|id| self.all.get(&*id)));
            }
        }
        found
    }

    /// Whether `other` is in the auth chain of `one`, as far as both are in conflict.
    fn is_above(&self, one: &Event, other: &Event) -> bool {
        let mut seen = BTreeSet::new();
        let mut open: Vec<OwnedEventId> = one.all_auth_events().map(std::borrow::Cow::into_owned).collect();
        while let Some(id) = open.pop() {
            if id == *other.event_id() {
                return true;
            }
            if let Some(event) = self.all.get(&id)
                && seen.insert(id)
            {
                open.extend(event.all_auth_events().map(std::borrow::Cow::into_owned));
            }
        }
        false
    }

    fn cited(&self, event: &Event, kind: &str) -> Option<Arc<Event>> {
        event.all_auth_events().filter_map(|id| self.memo.event(&id)).find(|cited| cited.is_state(kind, ""))
    }

    /// The power of an event's sender, by its auth events.
    fn power_of(&self, event: &Event) -> Option<UserPowerLevel> {
        let create = self.cited(event, "m.room.create")?;
        let levels = self.cited(event, "m.room.power_levels");
        let levels = PowerLevels::new(&create, levels.as_ref(), &self.rules.authorization).ok()?;
        Some(levels.user(event.sender()))
    }

    /// The power levels event that was resolved, and those before it, each with its place.
    fn mainline(&self, levels: Option<Arc<Event>>) -> BTreeMap<OwnedEventId, usize> {
        let mut places = BTreeMap::new();
        let mut next = levels;
        while let Some(event) = next {
            let place = places.len();
            if places.insert(event.event_id().to_owned(), place).is_some() {
                break;
            }
            next = self.cited(&event, "m.room.power_levels");
        }
        places
    }

    /// The place on the mainline of the closest event of it.
    fn position(&self, event: &Arc<Event>, mainline: &BTreeMap<OwnedEventId, usize>) -> Option<usize> {
        let mut seen = BTreeSet::new();
        let mut next = Some(event.clone());
        while let Some(event) = next {
            if let Some(place) = mainline.get(event.event_id()) {
                return Some(*place);
            }
            if !seen.insert(event.event_id().to_owned()) {
                return None;
            }
            next = self.cited(&event, "m.room.power_levels");
        }
        None
    }

    /// Notes whether the first criterion leaves any two of these equal.
    fn ties<T: PartialEq>(
        &self,
        events: &[&Arc<Event>],
        first: impl Fn(&Arc<Event>) -> Option<T>,
        above: impl Fn(&Event, &Event) -> bool,
        branches: &mut BTreeSet<Branch>,
    ) {
        let ranked: Vec<(&Arc<Event>, Option<T>)> = events.iter().map(|event| (*event, first(event))).collect();
        for (number, (one, rank)) in ranked.iter().enumerate() {
            for (other, other_rank) in ranked.iter().skip(number + 1) {
                if rank.is_none() || rank != other_rank || above(one, other) || above(other, one) {
                    continue;
                }
                let same_time = one.origin_server_ts() == other.origin_server_ts();
                branches.insert(if same_time { Branch::ById } else { Branch::ByTime });
            }
        }
    }
}

/// <https://spec.matrix.org/v1.19/rooms/v2/#definitions>
fn is_power_event(event: &Event) -> bool {
    match event.kind() {
        "m.room.power_levels" | "m.room.join_rules" | "m.room.create" => event.state_key() == Some(""),
        "m.room.member" => {
            matches!(event.membership(), Some(MembershipState::Leave | MembershipState::Ban))
                && event.state_key() != Some(event.sender().as_str())
        }
        _ => false,
    }
}
