//! What a server's user said it sends to the other servers by itself, whatever they find out by comparing heads.

use std::collections::BTreeMap;

use kith::rooms::states;
use kith_store::tables::rooms::REDACTED_BY;
use serde_json::Value;

use super::View;
use crate::invariants::Invariant;
use crate::world::World;

/// Events of a node beyond which one that was away is sent only the latest.
const CATCH_UP: usize = 45;

/// Whether all that was acknowledged came to each neighbour in a transaction.
pub(super) fn check(world: &World, room: u32, views: &[View]) {
    let (acknowledged, events) = {
        let state = world.record().lock();
        (state.acknowledged.clone(), state.events.clone())
    };
    let mut of: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    for sent in &acknowledged {
        if let Some(event) = events.get(sent.event as usize).filter(|event| event.room == room) {
            of.entry(sent.node).or_default().push(&event.id);
        }
    }
    for view in views {
        let Some(sent) = of.get(&view.number).filter(|sent| sent.len() <= CATCH_UP) else { continue };
        for id in sent {
            let Some((number, row)) = view.numbers.get(*id).and_then(|number| view.rows.get_key_value(number)) else {
                continue;
            };
            // It went with another text, perhaps.
            if REDACTED_BY.contains(&view.snapshot, number).unwrap_or(true) {
                continue;
            }
            for other in views {
                let away = world.ever_left(room, other.number) || world.ever_left(room, view.number);
                if other.number == view.number || away || !world.air().linked(view.number, other.number) {
                    continue;
                }
                if was_in(world, view, other, row.state_before)
                    && !world.record().lock().was_pushed(other.number, &row.json)
                {
                    let what = format!("{id} was never sent to node {}", other.number);
                    view.breach(world, Invariant::Pushed, what);
                }
            }
        }
    }
}

/// Whether, by what a node knew, the other was in the room.
fn was_in(world: &World, view: &View, other: &View, state: u64) -> bool {
    let member = states::lookup(&view.snapshot, state, "m.room.member", &world.user(other.number)).ok().flatten();
    let row = member.and_then(|number| view.rows.get(&number));
    let json: Value = row.and_then(|row| serde_json::from_str(&row.json).ok()).unwrap_or_default();
    json["content"]["membership"] == "join"
}
