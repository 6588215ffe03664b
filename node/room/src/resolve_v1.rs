//! State resolution of room version 1: <https://spec.matrix.org/v1.19/rooms/v1/#state-resolution>.
//!
//! It compares depths, which servers choose freely, and so it can be bent; it is here for the rooms that still have it.
//! Where the specification is silent, this does what the servers of these rooms do: each membership is resolved by itself,
//! by the power levels and join rules found before and the memberships that nobody disputes; and of other events that
//! are all not allowed, the one with the least depth is taken.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ruma::{OwnedEventId, room_version_rules::RoomVersionRules};
use sha1::{Digest as _, Sha1};

use crate::{
    auth::check_auth,
    event::Event,
    resolve::ResolveError,
    source::Memo,
    state::{self, StateKey, StateMap},
};

pub(crate) fn resolve(
    rules: &RoomVersionRules,
    forks: &[&StateMap],
    memo: &Memo<'_>,
) -> Result<StateMap, ResolveError> {
    let Some((base, others)) = forks.split_first() else {
        return Ok(StateMap::new());
    };
    let mut resolved = (*base).clone();
    let keys: BTreeSet<StateKey> =
        others.iter().flat_map(|other| state::changes(base, other)).map(|(key, _)| key).collect();
    let mut conflicts: BTreeMap<StateKey, Vec<Arc<Event>>> = BTreeMap::new();
    for key in keys {
        resolved.remove(&key);
        let ids: BTreeSet<&OwnedEventId> = forks.iter().filter_map(|fork| fork.get(&key)).collect();
        // An event that nobody has is not honoured; what only some of the states have is no conflict.
        let known: Vec<Arc<Event>> = ids.into_iter().filter_map(|id| memo.event(id)).collect();
        match known.as_slice() {
            [only] => take(&mut resolved, &key, Some(only)),
            _ => drop(conflicts.insert(key, known)),
        }
    }
    memo.finish()?;

    let is_power_levels = |key: &StateKey| key.kind() == "m.room.power_levels" && key.key().is_empty();
    let rounds: [&dyn Fn(&StateKey) -> bool; 3] =
        [&is_power_levels, &|key| key.kind() == "m.room.join_rules", &|key| key.kind() == "m.room.member"];
    for is_in_round in rounds {
        let before = resolved.clone();
        for (key, events) in conflicts.iter().filter(|(key, _)| is_in_round(key)) {
            take(&mut resolved, key, last_of_allowed_run(rules, &before, key, events, memo));
        }
    }
    let before = resolved.clone();
    for (key, events) in &conflicts {
        if !rounds.iter().any(|is_in_round| is_in_round(key)) {
            take(&mut resolved, key, deepest_allowed(rules, &before, events, memo));
        }
    }
    memo.finish()?;
    Ok(resolved)
}

fn take(resolved: &mut StateMap, key: &StateKey, event: Option<&Arc<Event>>) {
    if let Some(event) = event {
        resolved.insert(key.clone(), event.event_id().to_owned());
    }
}

/// From the least depth on, as far as each event is allowed where the one before it holds.
fn last_of_allowed_run<'a>(
    rules: &RoomVersionRules,
    before: &StateMap,
    key: &StateKey,
    events: &'a [Arc<Event>],
    memo: &Memo<'_>,
) -> Option<&'a Arc<Event>> {
    let mut sorted: Vec<&Arc<Event>> = events.iter().collect();
    sorted.sort_by_cached_key(|event| (event.claimed_depth(), Reverse(hash_of_id(event))));
    let mut sorted = sorted.into_iter();
    let mut held = sorted.next()?;
    for event in sorted {
        let state = |of: &StateKey| if of == key { Some(held.clone()) } else { memo.event(before.get(of)?) };
        if check_auth(event, rules, state).is_err() {
            break;
        }
        held = event;
    }
    Some(held)
}

/// The deepest that is allowed; if none is, the one with the least depth.
fn deepest_allowed<'a>(
    rules: &RoomVersionRules,
    before: &StateMap,
    events: &'a [Arc<Event>],
    memo: &Memo<'_>,
) -> Option<&'a Arc<Event>> {
    let mut sorted: Vec<&Arc<Event>> = events.iter().collect();
    sorted.sort_by_cached_key(|event| (Reverse(event.claimed_depth()), hash_of_id(event)));
    let allowed = |event: &&Arc<Event>| check_auth(event, rules, |key| memo.event(before.get(key)?)).is_ok();
    sorted.iter().copied().find(allowed).or(sorted.last().copied())
}

fn hash_of_id(event: &Event) -> [u8; 20] {
    Sha1::digest(event.event_id().as_bytes()).into()
}
