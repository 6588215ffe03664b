//! Lies in answers: what a byzantine node tells of the graph and the state of a room when it is asked.
//!
//! The node's own router makes the true answer, and this bends it on its way out. Some lies nobody can see through: a state that lacks
//! some of its events, or holds older ones, is one that could have been. Whoever is told such a state, and whoever is told a state by
//! one that was, counts as [misled](crate::world::World::is_misled) in that room, and need not agree with the others from then on.
//! All other lies must do no harm.

use std::sync::Arc;

use http::{Request, Response};
use kith_store::tables::rooms::{EVENT_IDS, EVENTS, EventRow};
use kith_store::{Read, StoreError};
use kith_transport::{Body, RemotePeer, Router, full, read_body};
use serde_json::Value;

use super::byzantine;
use crate::engine::Stream;
use crate::scenario::{Fault, Lie, What};
use crate::world::World;

/// The largest answer that is bent.
const MOST_BYTES: usize = 64 << 20;
/// What is not answered to whom things are withheld from.
const HIDDEN: [&str; 5] = ["event/", "backfill/", "get_missing_events/", "state/", "state_ids/"];
/// Lists of events in answers, and of their IDs.
const LISTS: [&str; 6] = ["pdus", "state", "events", "auth_chain", "pdu_ids", "auth_chain_ids"];

/// What a byzantine node does to its answers.
#[derive(Debug, Clone)]
struct Manner {
    withholds: bool,
    lies: Vec<Lie>,
    share: f64,
}

/// What of a node's answers is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    /// The endpoint's name.
    what: String,
    /// The room's ID.
    room: String,
}

impl Asked {
    /// Whether the answer has a state that is taken over.
    fn is_state(&self) -> bool {
        matches!(self.what.as_str(), "state" | "state_ids" | "send_join")
    }
}

/// The router of a node as others see it.
pub fn around(world: &World, number: u32, router: Router) -> Router {
    let faults = &world.scenario().faults;
    let manner = faults.iter().find_map(|fault| match &fault.what {
        What::Byzantine { withholds, answers, answers_share, .. } if fault.when.node == Some(number) => {
            Some(Manner { withholds: *withholds, lies: answers.clone(), share: *answers_share })
        }
        _ => None,
    });
    let misleading = |fault: &Fault| matches!(&fault.what, What::Byzantine { answers, .. } if !answers.is_empty());
    if manner.is_none() && !faults.iter().any(misleading) {
        return router;
    }
    let (world, random) = (world.clone(), Arc::new(world.stream("lies", u64::from(number))));
    Router::new(move |request: Request<Body>| {
        let (world, random, manner, router) = (world.clone(), random.clone(), manner.clone(), router.clone());
        async move {
            let peer = request.extensions().get::<RemotePeer>().and_then(|peer| world.number_of(peer.0));
            let path = request.uri().path().to_owned();
            if manner.as_ref().is_some_and(|manner| manner.withholds) && hides_from(peer) && is_hidden(&path) {
                world.record().count("byzantine_silence");
                return refusal();
            }
            let response = router.call(request).await;
            let Some(asked) = asked(&path).filter(|_| response.status().is_success()) else { return response };
            let Some(peer) = peer else { return response };
            if world.is_misled(&asked.room, number) && asked.is_state() {
                world.mislead(&asked.room, peer);
            }
            let Some(manner) = manner.filter(|manner| !world.is_over() && random.chance(manner.share)) else {
                return response;
            };
            let Some(lie) = random.pick(&manner.lies).copied() else { return response };
            bend(&world, number, &asked, peer, lie, &random, response).await
        }
    })
}

/// From every other node things are withheld.
fn hides_from(peer: Option<u32>) -> bool {
    peer.is_some_and(|peer| peer % 2 == 0)
}

fn is_hidden(path: &str) -> bool {
    let path = path.strip_prefix("/_matrix/federation/v1/").unwrap_or_default();
    HIDDEN.iter().any(|hidden| path.starts_with(hidden))
}

fn refusal() -> Response<Body> {
    let mut response = Response::new(full(r#"{"errcode":"M_NOT_FOUND","error":"nothing to see here"}"#));
    *response.status_mut() = http::StatusCode::NOT_FOUND;
    response
}

/// What is asked for, if it is something that is lied about.
fn asked(path: &str) -> Option<Asked> {
    let mut parts = path.strip_prefix("/_matrix/federation/")?.split('/').skip(1);
    let (what, room) = (parts.next()?, parts.next()?);
    let known = ["state", "state_ids", "send_join", "event_auth", "get_missing_events", "backfill"];
    known.contains(&what).then(|| Asked { what: what.to_owned(), room: unescape(room) })
}

/// A part of a path without percent signs.
fn unescape(part: &str) -> String {
    let mut rest = part.as_bytes();
    let mut plain = Vec::new();
    while let [byte, behind @ ..] = rest {
        let two = behind.get(..2).filter(|_| *byte == b'%');
        let code = two.and_then(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        rest = if code.is_some() { &behind[2..] } else { behind };
        plain.push(code.unwrap_or(*byte));
    }
    String::from_utf8_lossy(&plain).into_owned()
}

async fn bend(
    world: &World,
    number: u32,
    asked: &Asked,
    peer: u32,
    lie: Lie,
    random: &Stream,
    response: Response<Body>,
) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    let Ok(body) = read_body(body, MOST_BYTES).await else { return refusal() };
    let truth: Option<Value> = serde_json::from_slice(&body).ok();
    let bent = match truth {
        Some(answer) => told(world, number, asked, lie, random, answer).await,
        None => None,
    };
    let Some(answer) = bent else { return Response::from_parts(parts, full(body)) };
    world.record().fault(lie.counter(), Some(number), true);
    world.record().count(&format!("byzantine_about_{}", asked.what));
    if asked.is_state() && !lie.adds() {
        world.mislead(&asked.room, peer);
    }
    parts.headers.remove(http::header::CONTENT_LENGTH);
    Response::from_parts(parts, full(answer.to_string()))
}

/// The answer with a lie in it. None when this lie cannot be told here.
async fn told(
    world: &World,
    number: u32,
    asked: &Asked,
    lie: Lie,
    random: &Stream,
    mut answer: Value,
) -> Option<Value> {
    let node = world.node(number)?;
    let room = world.room_number(&asked.room)?;
    let place = world.number_in(&node, room)?;
    let forged = match lie {
        Lie::Forge => byzantine::forged(world, number, room, random).await,
        _ => None,
    };
    let there = LISTS.into_iter().filter(|name| answer[*name].is_array());
    let full: Vec<&str> =
        there.filter(|name| lie.adds() || answer[*name].as_array().is_some_and(|list| !list.is_empty())).collect();
    let name = *random.pick(&full)?;
    let ids = name.ends_with("_ids");
    let list = answer[name].as_array_mut()?;
    let at = random.index(list.len());
    let changed = node.store.read(|read| {
        Ok::<_, StoreError>(match lie {
            Lie::Omit => {
                list.remove(at);
                (0..list.len() / 4).for_each(|_| drop(list.remove(random.index(list.len()))));
                true
            }
            Lie::Old => {
                let older = older(read, place, list.get(at))?;
                put(list, at, older, ids)
            }
            Lie::Forge if ids => push(list, at, Some(Value::from(made_up(random)))),
            Lie::Forge => push(list, at, forged.and_then(|event| serde_json::from_str(event.text()).ok())),
            Lie::Foreign => push(list, at, foreign(read, place)?.and_then(|row| shown(row, ids))),
            Lie::Broken if ids => put_value(list, at, Value::from(made_up(random))),
            Lie::Broken => list.get_mut(at).is_some_and(|event| spoil(event, random.chance(0.5))),
        })
    });
    changed.unwrap_or(false).then_some(answer)
}

fn push(list: &mut Vec<Value>, at: usize, event: Option<Value>) -> bool {
    event.is_some_and(|event| {
        list.insert(at.min(list.len()), event);
        true
    })
}

fn put_value(list: &mut [Value], at: usize, value: Value) -> bool {
    list.get_mut(at).is_some_and(|old| {
        *old = value;
        true
    })
}

fn put(list: &mut [Value], at: usize, row: Option<EventRow>, ids: bool) -> bool {
    row.and_then(|row| shown(row, ids)).is_some_and(|value| put_value(list, at, value))
}

fn shown(row: EventRow, ids: bool) -> Option<Value> {
    if ids { Some(row.event_id.into()) } else { serde_json::from_str(&row.json).ok() }
}

/// An event ID that nobody has.
fn made_up(random: &Stream) -> String {
    let mut bytes = [0; 32];
    random.fill(&mut bytes);
    format!("${}", data_encoding::BASE64URL_NOPAD.encode(&bytes))
}

/// Of a state event, or its ID, an older one in the same place.
fn older(read: &dyn Read, room: u64, event: Option<&Value>) -> Result<Option<EventRow>, StoreError> {
    let Some(event) = event else { return Ok(None) };
    let id = event.as_str().map(str::to_owned);
    let event: Value = match id {
        Some(id) => {
            let row = EVENT_IDS.get(read, &id)?.map(|number| EVENTS.get(read, &number)).transpose()?.flatten();
            row.and_then(|row| serde_json::from_str(&row.json).ok()).unwrap_or_default()
        }
        None => event.clone(),
    };
    let (Some(key), Some(depth)) = (event["state_key"].as_str(), event["depth"].as_u64()) else { return Ok(None) };
    let mut best = None;
    for row in EVENTS.range(read, ..)? {
        let (_, row) = row?;
        let other: Value =
            if row.room == room { serde_json::from_str(&row.json).unwrap_or_default() } else { Value::Null };
        if other["type"] == event["type"] && other["state_key"] == key && other["depth"].as_u64() < Some(depth) {
            best = Some(row);
        }
    }
    Ok(best)
}

/// Any event of another room.
fn foreign(read: &dyn Read, room: u64) -> Result<Option<EventRow>, StoreError> {
    for row in EVENTS.range(read, ..)?.rev() {
        let (_, row) = row?;
        if row.room != room {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

/// Spoils a signature of an event, or its content, which then is not what its hash is of.
fn spoil(event: &mut Value, signature: bool) -> bool {
    if !signature {
        event["content"]["spoiled"] = true.into();
        return true;
    }
    let servers = event["signatures"].as_object_mut().into_iter().flatten();
    for (_, value) in servers.flat_map(|(_, keys)| keys.as_object_mut().into_iter().flatten()) {
        let text: String = value.as_str().unwrap_or_default().chars().rev().collect();
        *value = text.into();
    }
    true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_lied_about_is_told_by_its_path() {
        let found = asked("/_matrix/federation/v2/send_join/%21room%3Aa/%24event").unwrap();
        assert_eq!(found, Asked { what: "send_join".to_owned(), room: "!room:a".to_owned() });
        assert!(found.is_state());
        assert!(!asked("/_matrix/federation/v1/backfill/!r").unwrap().is_state());
        assert_eq!(asked("/_matrix/federation/v1/send/1"), None);
        assert_eq!(unescape("%2%zz%41"), "%2%zzA");
    }

    #[test]
    fn a_spoiled_event_has_another_signature_or_another_content() {
        let event = json!({"content": {"body": "x"}, "signatures": {"a": {"ed25519:0": "abc"}}});
        let (mut one, mut other) = (event.clone(), event.clone());
        assert!(spoil(&mut one, true) && spoil(&mut other, false));
        assert_eq!(one["signatures"]["a"]["ed25519:0"], "cba");
        assert_eq!(one["content"], event["content"]);
        assert_ne!(other["content"], event["content"]);
        assert_eq!(other["signatures"], event["signatures"]);
    }
}
