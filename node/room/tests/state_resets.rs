//! The published cases in which state resolution version 2 brings old state back although nobody revoked anything, and
//! version 2.1 does not: problems A and B of
//! [MSC4297](https://github.com/matrix-org/matrix-spec-proposals/blob/main/proposals/4297-state-resolution-v2_1.md).
//!
//! In both a server was told a state that holds one event that is older than what the rest of that state builds on.

#![allow(missing_docs, clippy::unwrap_used)]

mod oracle;
mod plays;
mod support;

use kith_room::{StateKey, StateMap, resolve::resolve};
use oracle::{Id, State};
use plays::{PEOPLE, Play, Script, Setup};
use ruma::EventId;
use serde_json::{Value, json};
use support::Replica;

const JOIN_RULES: &str = "m.room.join_rules";
const LEVELS: &str = "m.room.power_levels";

/// A room of this version, in which all are joined.
fn room(version: u8, levels: [i64; 3]) -> Play {
    let setup = Setup {
        levels: Some(levels),
        state_default: 50,
        join_rule: "public",
        two_creators: false,
        federate: true,
        joined: true,
    };
    Play::new(&Script { version, setup, steps: Vec::new(), salt: 1 })
}

fn levels(play: &Play, users: Value) -> Value {
    let mut levels = json!({ "users": users, "events": { LEVELS: 50 } });
    if play.book.version < 12 {
        levels["users"][PEOPLE[0]] = json!(100);
    }
    levels
}

fn with(state: &State, kind: &str, id: &Id) -> State {
    let mut state = state.clone();
    state.insert((kind.into(), "".into()), id.clone());
    state
}

/// What the states resolve to under this type: as the engine says, and the oracle with it.
fn resolved(play: &Play, states: &[State], kind: &str) -> Option<Id> {
    let mut server = Replica::empty(&play.version, play.room_id());
    play.events.iter().for_each(|event| drop(server.offer(event)));
    let as_engine = |state: &State| -> StateMap {
        let entry = |((kind, key), id): (&(_, _), &Id)| (StateKey::new(kind, key), EventId::parse(&**id).unwrap());
        state.iter().map(entry).collect()
    };
    let forks: Vec<StateMap> = states.iter().map(as_engine).collect();
    let engine = resolve(server.room.rules(), &forks, &server.store).unwrap();
    let oracle = oracle::resolve::resolve(&play.book, &states.iter().collect::<Vec<_>>());
    assert_eq!(engine, as_engine(&oracle));
    oracle.get(&(kind.into(), "".into())).cloned()
}

/// Bob sets the join rule, sets it again, and leaves. A state with the first rule meets the right one: version 2 replays both
/// on a state in which Bob is gone, which allows neither, and the room has no join rule any more.
#[test]
fn problem_a_who_has_left_loses_the_join_rules_in_version_2_and_keeps_them_in_2_1() {
    for (version, resets) in [(11, true), (12, false)] {
        let mut play = room(version, [100, 0, 0]);
        let old = play.add_next(1, JOIN_RULES, "", json!({ "join_rule": "knock" }));
        let new = play.add_next(1, JOIN_RULES, "", json!({ "join_rule": "public" }));
        let end = play.add_next(1, "m.room.member", PEOPLE[1], json!({ "membership": "leave" }));
        let state = (*play.book.fates[&end].after).clone();
        let outdated = with(&state, JOIN_RULES, &old);
        let expected = if resets { None } else { Some(new) };
        assert_eq!(resolved(&play, &[state, outdated], JOIN_RULES), expected, "version {version}");
    }
}

/// The creator promotes Bob, and Bob promotes Carol, who says so in her profile. A state with the first power levels meets
/// the right one. Version 2 does not replay Bob's promotion, as both have it in their auth chains, so Bob may not promote
/// Carol and the first levels come back.
#[test]
fn problem_b_a_promotion_by_the_promoted_is_lost_in_version_2_and_kept_in_2_1() {
    for (version, resets) in [(11, true), (12, false)] {
        let mut play = room(version, [0, 0, 0]);
        let content = levels(&play, json!({}));
        let first = play.add_next(0, LEVELS, "", content);
        let content = levels(&play, json!({ PEOPLE[1]: 60 }));
        play.add_next(0, LEVELS, "", content);
        let content = levels(&play, json!({ PEOPLE[1]: 60, PEOPLE[2]: 50 }));
        let last = play.add_next(1, LEVELS, "", content);
        let profile = json!({ "membership": "join", "displayname": "moderator" });
        let end = play.add_next(2, "m.room.member", PEOPLE[2], profile);
        let state = (*play.book.fates[&end].after).clone();
        let outdated = with(&state, LEVELS, &first);
        let expected = if resets { first } else { last };
        assert_eq!(resolved(&play, &[state, outdated], LEVELS), Some(expected), "version {version}");
    }
}
