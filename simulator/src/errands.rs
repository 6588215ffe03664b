//! What users do beside talking and changing the room: redactions, requests that are sent twice, messages from device to device.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::engine::{Stream, seconds};
use crate::invariants::Invariant;
use crate::scenario::{What, Workload};
use crate::world::World;

/// Of so many events that were acknowledged last one is redacted.
const LATEST: usize = 20;
/// How often a device sends its message before it gives up.
const TRIES: u32 = 20;
/// Syncs by which a device takes what waits for it; each gives up to a hundred messages.
const MOST_SYNCS: usize = 100;
/// Nothing but device messages.
const FILTER: &str = "%7B%22room%22%3A%7B%22rooms%22%3A%5B%5D%7D%7D";

/// What was noted of errands.
#[derive(Debug, Default)]
pub struct Errands {
    /// Device messages by their IDs.
    sent: BTreeMap<String, Message>,
    /// `(node, ID, sender)` to how often it came.
    received: BTreeMap<(u32, String, String), u32>,
    /// From where on a node's device syncs.
    since: BTreeMap<u32, String>,
}

#[derive(Debug, Clone, Copy)]
struct Message {
    from: u32,
    to: u32,
    acknowledged: bool,
}

/// Somebody redacts one of the latest events: its author, or a moderator.
pub async fn redact(world: &World, room: u32, random: &Stream) {
    let latest: Vec<(String, u32)> = {
        let state = world.record().lock();
        let of_room = state.acknowledged.iter().rev().filter_map(|sent| {
            let event = state.events.get(sent.event as usize).filter(|event| event.room == room)?;
            Some((event.id.clone(), sent.node))
        });
        of_room.take(LATEST).collect()
    };
    let Some((event, author)) = random.pick(&latest) else { return };
    let inside = world.members(room);
    let moderators: Vec<u32> = world.moderators(room).into_iter().filter(|node| inside.contains(node)).collect();
    let by = if random.chance(0.5) { Some(author) } else { random.pick(&moderators) };
    if let Some(node) = by
        && world.redact(*node, room, event).await.is_ok()
    {
        world.record().count("redactions");
    }
}

/// Somebody says something, and its client sends the request again.
pub async fn repeat(world: &World, room: u32, random: &Stream) {
    let Some(node) = random.pick(&world.members(room)).copied() else { return };
    let transaction = format!("twice{}", random.u64());
    let content = json!({"msgtype": "m.text", "body": transaction});
    let wait = seconds(random.between(0.0, 10.0));
    let first = world.send_as(node, room, "m.room.message", content.clone(), &transaction).await;
    world.timeline().sleep(wait).await;
    let second = world.send_as(node, room, "m.room.message", content, &transaction).await;
    if let (Ok(first), Ok(second)) = (first, second) {
        world.record().count("repeats");
        if first != second {
            let what = format!("a request that came twice made {first} and {second}");
            world.breach(Invariant::Once, Some(node), what);
        }
    }
}

/// A device sends a message to another, again and again until it is told that it is sent.
pub async fn send_message(world: &World, room: u32, random: &Stream) {
    let mut inside = world.members(room);
    random.shuffle(&mut inside);
    let [from, to, ..] = inside[..] else { return };
    let id = format!("m{}", random.u64());
    world.record().lock().errands.sent.insert(id.clone(), Message { from, to, acknowledged: false });
    let path = format!("/_matrix/client/v3/sendToDevice/org.kith.sim/{id}");
    let body = json!({"messages": {world.user(to): {"*": {"id": id}}}});
    for _ in 0..TRIES {
        if world.call(from, "PUT", &path, Some(body.clone())).await.is_ok() {
            let mut state = world.record().lock();
            state.count("device_messages", 1);
            if let Some(message) = state.errands.sent.get_mut(&id) {
                message.acknowledged = true;
            }
            return;
        }
        world.timeline().sleep(seconds(3.0)).await;
    }
}

/// A device takes what waits for it, and goes on from there the next time.
pub async fn collect(world: &World, node: u32) {
    for _ in 0..MOST_SYNCS {
        let since = world.record().lock().errands.since.get(&node).cloned();
        let from = since.as_ref().map(|since| format!("&since={since}")).unwrap_or_default();
        let path = format!("/_matrix/client/v3/sync?timeout=0&filter={FILTER}{from}");
        let Ok(answer) = world.call(node, "GET", &path, None).await else { return };
        let mut state = world.record().lock();
        // Another one of its tasks was faster: what this one was given, the other was.
        if state.errands.since.get(&node) != since.as_ref() {
            return;
        }
        state.errands.since.insert(node, answer["next_batch"].as_str().unwrap_or_default().to_owned());
        let events = answer["to_device"]["events"].as_array().cloned().unwrap_or_default();
        for event in events.iter().filter(|event| event["type"] == "org.kith.sim") {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let key = (node, text(&event["content"]["id"]), text(&event["sender"]));
            *state.errands.received.entry(key).or_default() += 1;
        }
        if events.is_empty() {
            return;
        }
    }
}

/// In the end all devices take what waits for them, where somebody sends them something.
pub async fn collect_all(world: &World) {
    let scenario = world.scenario();
    let sends = scenario.workload.iter().any(|workload| matches!(workload, Workload::Devices { .. }));
    let forges = scenario.faults.iter().any(|fault| matches!(fault.what, What::Forger { .. }));
    let reads = scenario.workload.iter().any(|workload| matches!(workload, Workload::Readers { .. }));
    if (sends || forges) && !reads {
        for node in world.numbers() {
            collect(world, node).await;
        }
    }
}

/// Device messages came once, all that were acknowledged, and none that was not sent.
pub(crate) fn check(world: &World) {
    let mut found: Vec<(u32, String)> = Vec::new();
    {
        let state = world.record().lock();
        for (id, message) in &state.errands.sent {
            let came = (message.to, id.clone(), world.user(message.from));
            let times = state.errands.received.get(&came).copied().unwrap_or(0);
            let honest = world.is_honest(message.from) && world.is_honest(message.to);
            if honest && (times > 1 || (times == 0 && message.acknowledged)) {
                found.push((message.to, format!("device message {id} of node {} came {times} times", message.from)));
            }
        }
        for (node, id, sender) in state.errands.received.keys() {
            let sent = state.errands.sent.get(id);
            if world.is_honest(*node)
                && sent.is_none_or(|message| message.to != *node || world.user(message.from) != *sender)
            {
                found.push((*node, format!("device message {id} of {sender} came, who did not send it")));
            }
        }
    }
    for (node, what) in found {
        world.breach(Invariant::Once, Some(node), what);
    }
}
