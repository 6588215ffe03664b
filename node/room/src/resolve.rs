//! State resolution: one state out of several.
//!
//! <https://spec.matrix.org/v1.19/rooms/v2/#state-resolution> and, for room version 12,
//! <https://spec.matrix.org/v1.19/rooms/v12/#state-resolution>, by ruma's implementation. Here is what surrounds it: the
//! algorithm is given only the part of the state that it can look at, and the auth difference and the conflicted
//! subgraph are found by walking down from the conflicted events, so the cost follows the conflict and not the room.
//! Room version 1 has an algorithm of its own, in `resolve_v1.rs`.

use std::collections::{BTreeMap, BTreeSet};

use kith_mutants::mutant;
use ruma::{
    EventId, OwnedEventId,
    events::StateEventType,
    room_version_rules::RoomVersionRules,
    state_res::{self, utils::event_id_set::EventIdSet},
};

use crate::{
    auth::auth_types_for,
    difference::{auth_difference, conflicted_subgraph},
    resolve_v1,
    source::{Memo, Source, SourceError},
    state::{self, StateKey, StateMap},
};

/// Resolves the states at the ends of several forks into one.
///
/// The result depends on the set of states only, not on their order or on that of any map. No state at all resolves to
/// the empty one; a single state (or several equal ones) to itself, at once.
///
/// # Errors
///
/// The source failed, or an event of the states has a form that should have been rejected long before.
pub fn resolve(rules: &RoomVersionRules, forks: &[StateMap], source: &dyn Source) -> Result<StateMap, ResolveError> {
    resolve_with(rules, forks, &Memo::new(source))
}

/// Why states could not be resolved.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ResolveError {
    /// The node's store failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The algorithm met an event that no state may hold.
    #[error("state resolution failed: {0}")]
    Invalid(String),
}

/// The disagreement of several states.
pub(crate) struct Conflict {
    /// Keys that do not have the same event in all the states.
    pub(crate) keys: BTreeSet<StateKey>,
    /// The events under these keys, each with the indexes of the states that hold it.
    pub(crate) events: BTreeMap<OwnedEventId, BTreeSet<usize>>,
}

impl Conflict {
    pub(crate) fn between(forks: &[&StateMap]) -> Self {
        let mut keys = BTreeSet::new();
        let Some((base, others)) = forks.split_first() else {
            return Self { keys, events: BTreeMap::new() };
        };
        for other in others {
            keys.extend(state::changes(base, other).into_iter().map(|(key, _)| key));
        }
        let mut events: BTreeMap<OwnedEventId, BTreeSet<usize>> = BTreeMap::new();
        for key in &keys {
            for (index, fork) in forks.iter().enumerate() {
                if let Some(id) = fork.get(key) {
                    events.entry(id.clone()).or_default().insert(index);
                }
            }
        }
        Self { keys, events }
    }
}

pub(crate) fn resolve_with(
    rules: &RoomVersionRules,
    forks: &[StateMap],
    memo: &Memo<'_>,
) -> Result<StateMap, ResolveError> {
    let mut distinct: Vec<&StateMap> = Vec::new();
    for fork in forks {
        if !distinct.iter().any(|known| state::same(known, fork)) {
            distinct.push(fork);
        }
    }
    let base = match distinct.as_slice() {
        [] => return Ok(StateMap::new()),
        [only] => return Ok((*only).clone()),
        [base, ..] => *base,
    };
    let Some(v2) = rules.state_res.v2_rules() else {
        return resolve_v1::resolve(rules, &distinct, memo);
    };

    let conflict = Conflict::between(&distinct);
    let mut difference = auth_difference(&conflict, base, distinct.len(), memo)?;
    if mutant!("forgets-auth-difference") {
        difference.clear();
    }
    let subgraph = match v2.consider_conflicted_state_subgraph {
        true => conflicted_subgraph(&conflict, memo)?,
        false => BTreeSet::new(),
    };

    // What the algorithm can look at beyond the conflict itself: whatever authorizes the events it orders.
    let mut relevant = BTreeSet::from([StateKey::new("m.room.power_levels", ""), StateKey::new("m.room.create", "")]);
    for id in conflict.events.keys().chain(&difference).chain(&subgraph) {
        if let Some(event) = memo.event(id) {
            relevant.extend(auth_types_for(&event, rules).unwrap_or_default());
        }
    }
    relevant.retain(|key| !conflict.keys.contains(key));

    let maps: Vec<_> = distinct
        .iter()
        .map(|fork| {
            conflict
                .keys
                .iter()
                .chain(&relevant)
                .filter_map(|key| Some((ruma_key(key), fork.get(key)?.clone())))
                .collect::<state_res::StateMap<OwnedEventId>>()
        })
        .collect();
    // ruma takes whole auth chains and subtracts what they share. Ours is subtracted already.
    let mut chains = vec![EventIdSet::new(); distinct.len()];
    if let Some(first) = chains.first_mut() {
        *first = difference.into_iter().collect();
    }
    let resolved = state_res::resolve(
        &rules.authorization,
        v2,
        &maps,
        chains,
        |id: &EventId| memo.get(id),
        |_| Some(subgraph.iter().cloned().collect()),
    );
    memo.finish()?;
    let resolved = resolved.map_err(|error| ResolveError::Invalid(error.to_string()))?;

    let mut result = base.clone();
    for key in &conflict.keys {
        if !mutant!("first-fork-wins") {
            result.remove(key);
        }
    }
    // In a fixed order, so that the map's inner form, too, is the same on every run.
    let resolved: BTreeMap<StateKey, OwnedEventId> =
        resolved.into_iter().map(|((kind, key), id)| (StateKey::of(&kind, &key), id)).collect();
    for (key, id) in resolved {
        if !result.contains_key(&key) {
            result.insert(key, id);
        }
    }
    Ok(result)
}

fn ruma_key(key: &StateKey) -> (StateEventType, String) {
    (StateEventType::from(key.kind()), key.key().to_owned())
}
