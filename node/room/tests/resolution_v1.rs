//! State resolution of room version 1 gives what an independent implementation gives: `vectors/resolutions.json` was written
//! by Synapse 1.163.2 through `vectors/make_resolutions.py`.

#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::{collections::BTreeSet, sync::Arc};

use kith_room::{Event, StateMap, Status, format, resolve::resolve};
use ruma::{OwnedEventId, RoomVersionId};
use serde::Deserialize;
use serde_json::{Value, json};
use support::*;

#[derive(Deserialize)]
struct Case {
    /// Without what is the same in all of them and plays no part.
    events: Vec<Value>,
    states: Vec<Vec<OwnedEventId>>,
    resolved: Vec<OwnedEventId>,
}

#[test]
fn states_resolve_as_in_synapse_in_whichever_order_they_come() {
    let rules = format::rules(&RoomVersionId::V1).unwrap();
    let cases: Vec<Case> = serde_json::from_str(include_str!("vectors/resolutions.json")).unwrap();
    assert_eq!(cases.len(), 80);
    for (number, case) in cases.iter().enumerate() {
        let mut store = Memory::default();
        for event in &case.events {
            let id = OwnedEventId::try_from(event["event_id"].as_str().unwrap()).unwrap();
            let mut event = event.clone();
            event["room_id"] = json!("!room:example.org");
            event["origin_server_ts"] = json!(1);
            event["prev_events"] = json!([]);
            event["auth_events"] = json!([]);
            let event = Event::from_stored(event.to_string(), id, &rules).unwrap();
            store.put_outlier(&Arc::new(event), Status::Accepted);
        }
        let mut states: Vec<StateMap> = case
            .states
            .iter()
            .map(|ids| {
                let event = |id: &OwnedEventId| store.events[id].event.state_map_key().unwrap().clone();
                ids.iter().map(|id| (event(id), id.clone())).collect()
            })
            .collect();
        for _ in 0..states.len() {
            let resolved: BTreeSet<OwnedEventId> =
                resolve(&rules, &states, &store).unwrap().values().cloned().collect();
            assert_eq!(resolved, case.resolved.iter().cloned().collect(), "case {number}");
            states.rotate_left(1);
        }
    }
}
