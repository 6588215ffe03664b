//! State resolution, versions 2 and 2.1.
//!
//! <https://spec.matrix.org/v1.19/rooms/v2/#state-resolution> and <https://spec.matrix.org/v1.19/rooms/v12/#state-resolution>

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use super::{Book, Id, Pdu, State, auth};

/// Resolves a set of states, in the five steps of the specification.
pub fn resolve(book: &Book, states: &[&State]) -> State {
    let (unconflicted, conflicted) = split(states);
    let mut full = auth_difference(book, states);
    full.extend(conflicted.iter().cloned());
    if book.version >= 12 {
        full.extend(conflicted_subgraph(book, &conflicted));
    }

    // 1
    let mut picked: BTreeSet<Id> = full.iter().filter(|id| is_power_event(&book.pdus[*id])).cloned().collect();
    let mut open: Vec<Id> = picked.iter().cloned().collect();
    while let Some(id) = open.pop() {
        for auth in book.auth_events_of(&book.pdus[&id]) {
            if full.contains(&auth) && picked.insert(auth.clone()) {
                open.push(auth);
            }
        }
    }
    let remaining: Vec<Id> = full.difference(&picked).cloned().collect();
    // 2
    let start = if book.version >= 12 { State::new() } else { unconflicted.clone() };
    let partial = iterative_auth_checks(book, start, &reverse_topological_power_ordering(book, picked));
    // 3
    let sorted = mainline_ordering(book, partial.get(&("m.room.power_levels".into(), "".into())), remaining);
    // 4
    let mut resolved = iterative_auth_checks(book, partial, &sorted);
    // 5
    resolved.extend(unconflicted);
    resolved
}

/// The unconflicted state map and the conflicted state set.
fn split(states: &[&State]) -> (State, BTreeSet<Id>) {
    let (mut unconflicted, mut conflicted) = (State::new(), BTreeSet::new());
    for (key, id) in states.iter().flat_map(|state| state.iter()) {
        if states.iter().all(|state| state.get(key) == Some(id)) {
            unconflicted.insert(key.clone(), id.clone());
        } else {
            conflicted.insert(id.clone());
        }
    }
    (unconflicted, conflicted)
}

/// What is in the full auth chain of some of the states and not of all.
fn auth_difference(book: &Book, states: &[&State]) -> BTreeSet<Id> {
    let chains: Vec<BTreeSet<Id>> = states
        .iter()
        .map(|state| state.values().flat_map(|id| book.fates[id].chain.iter().chain([id])).cloned().collect())
        .collect();
    let union: BTreeSet<Id> = chains.iter().flatten().cloned().collect();
    union.into_iter().filter(|id| !chains.iter().all(|chain| chain.contains(id))).collect()
}

/// What lies on a path of auth events from one conflicted event to another, ends included.
fn conflicted_subgraph(book: &Book, conflicted: &BTreeSet<Id>) -> BTreeSet<Id> {
    let is_below = |id: &Id| conflicted.iter().any(|from| from == id || book.fates[from].chain.contains(id));
    let is_above = |id: &Id| conflicted.contains(id) || conflicted.iter().any(|to| book.fates[id].chain.contains(to));
    book.pdus.keys().filter(|id| is_below(id) && is_above(id)).cloned().collect()
}

fn is_power_event(pdu: &Pdu) -> bool {
    match &*pdu.kind {
        "m.room.power_levels" | "m.room.join_rules" => pdu.state_key.is_some(),
        "m.room.member" => {
            let membership = pdu.content["membership"].as_str().unwrap_or("");
            ["leave", "ban"].contains(&membership)
                && pdu.state_key.as_ref().is_some_and(|target| **target != *pdu.sender)
        }
        _ => false,
    }
}

/// The lexicographically smallest topological ordering: again and again the smallest of those that have none of the rest
/// among their auth events.
fn reverse_topological_power_ordering(book: &Book, mut rest: BTreeSet<Id>) -> Vec<Id> {
    let rank = |id: &Id| {
        let pdu = &book.pdus[id];
        let auth = book.auth_events_of(pdu);
        let cited = |kind: &str| auth.iter().map(|id| &book.pdus[id]).find(|auth| auth.is(kind, ""));
        let create = cited("m.room.create").unwrap_or(pdu);
        let level = auth::Levels::new(book.version, create, cited("m.room.power_levels")).user(&pdu.sender);
        (Reverse(level), pdu.ts, id.clone())
    };
    let ranks: BTreeMap<Id, _> = rest.iter().map(|id| (id.clone(), rank(id))).collect();
    let mut sorted = Vec::new();
    while let Some(next) = rest
        .iter()
        .filter(|id| !book.auth_events_of(&book.pdus[*id]).iter().any(|auth| rest.contains(auth)))
        .min_by(|one, other| ranks[*one].cmp(&ranks[*other]))
        .cloned()
    {
        rest.remove(&next);
        sorted.push(next);
    }
    sorted
}

fn mainline_ordering(book: &Book, levels: Option<&Id>, mut events: Vec<Id>) -> Vec<Id> {
    let next = |id: &Id| {
        let auth = &book.pdus[id].auth;
        auth.iter().find(|auth| book.pdus[*auth].is("m.room.power_levels", "")).cloned()
    };
    let mainline: Vec<Id> = std::iter::successors(levels.cloned(), next).collect();
    let position = |id: &Id| {
        let found = std::iter::successors(next(id), next).find_map(|levels| mainline.iter().position(|p| *p == levels));
        found.unwrap_or(usize::MAX)
    };
    events.sort_by_cached_key(|id| (Reverse(position(id)), book.pdus[id].ts, id.clone()));
    events
}

fn iterative_auth_checks(book: &Book, mut state: State, events: &[Id]) -> State {
    for id in events {
        let pdu = &book.pdus[id];
        let auth = book.auth_events_of(pdu);
        let found = |kind: &str, key: &str| match state.get(&(kind.into(), key.into())) {
            Some(held) => Some(&book.pdus[held]),
            None => {
                let sound = auth.iter().filter(|auth| !book.is_rejected(auth));
                sound.map(|auth| &book.pdus[auth]).find(|auth| auth.is(kind, key))
            }
        };
        if auth::by_state(book.version, pdu, &found, &|id| &*book.pdus[id].kind).is_ok() {
            state.insert((pdu.kind.clone(), pdu.state_key.clone().unwrap()), id.clone());
        }
    }
    state
}
