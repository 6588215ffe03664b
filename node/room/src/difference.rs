//! Walks over the auth graph: the auth difference and the conflicted state subgraph.
//!
//! Both go down from the conflicted events in falling order of event number, which is a topological order of the auth
//! graph, and stop as soon as everything below is common ground.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{EventId, OwnedEventId};

use crate::{
    event::EventNumber,
    resolve::{Conflict, ResolveError},
    source::Memo,
    state::StateMap,
};

/// Events that are in the auth chain of some of the states but not of all. An event of a state counts as part of that
/// state's chain.
pub(crate) fn auth_difference(
    conflict: &Conflict,
    base: &StateMap,
    states: usize,
    memo: &Memo<'_>,
) -> Result<BTreeSet<OwnedEventId>, ResolveError> {
    // First from the conflict alone. What this finds besides the conflicted events (an old power levels event that one
    // fork has replaced twice, say) could still be in the chain of something that all states hold. Only when it finds
    // any does that have to be asked, and then only of what is newer.
    let mut walk = Walk::new(conflict, base, states, memo);
    walk.run()?;
    let Some(oldest) = walk.found.iter().filter(|(id, _)| !conflict.events.contains_key(*id)).map(|(_, n)| *n).min()
    else {
        return Ok(walk.found.into_keys().collect());
    };

    let mut walk = Walk::new(conflict, base, states, memo);
    for (key, id) in base {
        if !conflict.keys.contains(key)
            && let Some(number) = memo.source().number(id)?
            && number > oldest
        {
            walk.push(number, id, &walk.everyone());
        }
    }
    walk.run()?;
    Ok(walk.found.into_keys().collect())
}

/// Which of the states reach an event.
type Reach = BTreeSet<usize>;

struct Walk<'a, 'm> {
    conflict: &'a Conflict,
    base: &'a StateMap,
    states: usize,
    memo: &'a Memo<'m>,
    /// By number; the ID breaks ties that a faulty source could make.
    waiting: BTreeMap<(EventNumber, OwnedEventId), Reach>,
    /// How many of `waiting` are not reached by all states.
    partial: usize,
    seen: BTreeMap<OwnedEventId, usize>,
    found: BTreeMap<OwnedEventId, EventNumber>,
    error: Option<ResolveError>,
}

impl<'a, 'm> Walk<'a, 'm> {
    fn new(conflict: &'a Conflict, base: &'a StateMap, states: usize, memo: &'a Memo<'m>) -> Self {
        let mut walk = Self {
            conflict,
            base,
            states,
            memo,
            waiting: BTreeMap::new(),
            partial: 0,
            seen: BTreeMap::new(),
            found: BTreeMap::new(),
            error: None,
        };
        for (id, holders) in &conflict.events {
            walk.push_id(id, holders);
        }
        walk
    }

    fn everyone(&self) -> Reach {
        (0..self.states).collect()
    }

    fn push_id(&mut self, id: &EventId, reach: &Reach) {
        match self.memo.source().number(id) {
            Ok(Some(number)) => self.push(number, id, reach),
            // An event that nobody has is not honoured.
            Ok(None) => {}
            Err(error) => {
                self.error.get_or_insert(error.into());
            }
        }
    }

    fn push(&mut self, number: EventNumber, id: &EventId, reach: &Reach) {
        let states = self.states;
        let is_partial = |reach: &Reach| usize::from(reach.len() < states);
        let entry = self.waiting.entry((number, id.to_owned()));
        let entry = match entry {
            std::collections::btree_map::Entry::Occupied(entry) => {
                self.partial -= is_partial(entry.get());
                entry.into_mut()
            }
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Reach::new()),
        };
        entry.extend(reach);
        self.partial += is_partial(entry);
    }

    fn run(&mut self) -> Result<(), ResolveError> {
        while self.partial > 0 {
            if let Some(error) = self.error.take() {
                return Err(error);
            }
            let Some(((number, id), reach)) = self.waiting.pop_last() else {
                break;
            };
            if reach.len() < self.states {
                self.partial -= 1;
            }
            // Numbers fall along auth events, so each event comes once; a source that errs there must not loop us.
            if self.seen.get(&id).is_some_and(|known| *known >= reach.len()) {
                continue;
            }
            let Some(event) = self.memo.event(&id) else {
                self.memo.finish()?;
                continue;
            };
            let in_all_states = event.state_map_key().is_some_and(|key| {
                !self.conflict.keys.contains(key) && self.base.get(key).is_some_and(|held| *held == id)
            });
            let reach = if in_all_states { self.everyone() } else { reach };
            self.seen.insert(id.clone(), reach.len());
            if reach.len() < self.states {
                self.found.insert(id, number);
            } else {
                self.found.remove(&id);
            }
            for auth_event in event.all_auth_events() {
                self.push_id(&auth_event, &reach);
            }
        }
        self.error.take().map_or(Ok(()), Err)
    }
}

/// The events on the paths along auth events from one conflicted event to another, both included.
pub(crate) fn conflicted_subgraph(
    conflict: &Conflict,
    memo: &Memo<'_>,
) -> Result<BTreeSet<OwnedEventId>, ResolveError> {
    let mut waiting = BTreeSet::new();
    for id in conflict.events.keys() {
        if let Some(number) = memo.source().number(id)? {
            waiting.insert((number, id.clone()));
        }
    }
    let Some(lowest) = waiting.first().map(|(number, _)| *number) else {
        return Ok(BTreeSet::new());
    };

    let mut reachable = BTreeMap::new();
    while let Some((number, id)) = waiting.pop_last() {
        let Some(event) = memo.event(&id) else {
            memo.finish()?;
            continue;
        };
        let mut below = Vec::new();
        for auth_event in event.all_auth_events() {
            let Some(auth_number) = memo.source().number(&auth_event)? else {
                continue;
            };
            if auth_number < lowest {
                continue;
            }
            let auth_event = auth_event.into_owned();
            if !reachable.contains_key(&(auth_number, auth_event.clone())) {
                waiting.insert((auth_number, auth_event.clone()));
            }
            below.push(auth_event);
        }
        reachable.insert((number, id), below);
    }

    let mut on_path = BTreeSet::new();
    for ((_, id), below) in reachable {
        if conflict.events.contains_key(&id) || below.iter().any(|auth_event| on_path.contains(auth_event)) {
            on_path.insert(id);
        }
    }
    Ok(on_path)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use ruma::room_version_rules::RoomVersionRules;

    use super::*;
    use crate::{
        event::Event,
        source::{Source, SourceError, Status},
        state::StateKey,
    };

    /// Any auth graph: event number n cites some of the events below it.
    #[derive(Debug)]
    struct Graph(Vec<Arc<Event>>);

    fn id(number: usize) -> OwnedEventId {
        EventId::parse(format!("${number:043}")).expect("an event ID")
    }

    impl Graph {
        fn new(cited: &[BTreeSet<usize>], keys: &[u8]) -> Self {
            let event = |(number, cited): (usize, &BTreeSet<usize>)| {
                let auth_events: Vec<_> = cited.iter().map(|n| id(*n)).collect();
                let event = serde_json::json!({
                    "type": "org.example.state", "state_key": keys[number].to_string(), "room_id": "!r:example.org",
                    "sender": "@u:example.org", "content": {}, "origin_server_ts": 1, "depth": 1, "prev_events": [],
                    "auth_events": auth_events,
                });
                Arc::new(Event::from_stored(event.to_string(), id(number), &RoomVersionRules::V11).expect("an event"))
            };
            Self(cited.iter().enumerate().map(event).collect())
        }

        fn chain(&self, start: impl IntoIterator<Item = OwnedEventId>) -> BTreeSet<OwnedEventId> {
            let mut open: Vec<_> = start.into_iter().collect();
            let mut seen = BTreeSet::new();
            while let Some(id) = open.pop() {
                if seen.insert(id.clone()) {
                    let event = self.event(&id).expect("memory").expect("an event");
                    open.extend(event.auth_events().iter().cloned());
                }
            }
            seen
        }
    }

    impl Source for Graph {
        fn event(&self, id: &EventId) -> Result<Option<Arc<Event>>, SourceError> {
            Ok(self.0.iter().find(|event| event.event_id() == id).cloned())
        }

        fn status(&self, _: &EventId) -> Result<Option<Status>, SourceError> {
            Ok(Some(Status::Accepted))
        }

        fn number(&self, id: &EventId) -> Result<Option<EventNumber>, SourceError> {
            Ok(self.0.iter().position(|event| event.event_id() == id).map(|position| position as u64))
        }

        fn state_after(&self, _: &EventId) -> Result<Option<StateMap>, SourceError> {
            Ok(None)
        }
    }

    const SIZE: usize = 24;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn walks_find_what_whole_auth_chains_give(
            cited in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..3), SIZE),
            keys in prop::collection::vec(0_u8..8, SIZE),
            held in prop::collection::vec(prop::collection::btree_set(0..SIZE, 0..12), 2..4),
        ) {
            let cited: Vec<BTreeSet<usize>> = cited
                .iter()
                .enumerate()
                .map(|(number, cited)| cited.iter().filter(|_| number > 0).map(|i| i.index(number)).collect())
                .collect();
            let graph = Graph::new(&cited, &keys);
            // In each state, the newest of the events that it was given for a key. The first eight hold in all states
            // unless replaced, as most of a room does.
            let states: Vec<StateMap> = held
                .iter()
                .map(|held| {
                    (0..8).chain(held.iter().copied())
                        .map(|n| (StateKey::new("org.example.state", keys[n].to_string()), id(n)))
                        .collect()
                })
                .collect();
            let forks: Vec<&StateMap> = states.iter().collect();
            let conflict = Conflict::between(&forks);
            let memo = Memo::new(&graph);

            let chains: Vec<_> = states.iter().map(|state| graph.chain(state.values().cloned())).collect();
            let everything: BTreeSet<_> = chains.iter().flatten().cloned().collect();
            let difference: BTreeSet<_> =
                everything.into_iter().filter(|id| !chains.iter().all(|chain| chain.contains(id))).collect();
            let found = auth_difference(&conflict, &states[0], states.len(), &memo).expect("memory");
            // Conflicted events belong to the full conflicted set anyway.
            let without = |set: BTreeSet<OwnedEventId>| -> BTreeSet<OwnedEventId> {
                set.into_iter().filter(|id| !conflict.events.contains_key(id)).collect()
            };
            prop_assert_eq!(without(found), without(difference));

            let conflicted: BTreeSet<_> = conflict.events.keys().cloned().collect();
            let subgraph: BTreeSet<_> = graph
                .chain(conflicted.iter().cloned())
                .into_iter()
                .filter(|id| !graph.chain([id.clone()]).is_disjoint(&conflicted))
                .collect();
            prop_assert_eq!(conflicted_subgraph(&conflict, &memo).expect("memory"), subgraph);
        }
    }
}
