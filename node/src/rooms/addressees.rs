//! To which other servers a change of a room has to be sent.

use kith_mutants::mutant;
use kith_store::{StoreError, Touched, Tx, tables::rooms::OUTGOING};
use serde_json::{Map, Value};

use super::{
    change::{Change, Us, server_of},
    read,
};

/// Notes for each other server of the room (before or after the change) up to where it must be sent our events.
pub(super) fn note(
    tx: &mut Tx,
    us: &Us,
    change: &Change,
    servers_before: &[String],
    positions: &[u64],
) -> Result<(), StoreError> {
    let ours = change.events.iter().zip(positions).filter(|(event, position)| event.ours && **position != 0);
    let Some((first, last)) = ours.fold(None, |range: Option<(u64, u64)>, (_, position)| {
        Some((range.map_or(*position, |range| range.0), *position))
    }) else {
        return Ok(());
    };
    let mut servers = servers_before.to_vec();
    for server in read::servers(tx, change.room)? {
        if !servers.contains(&server) {
            servers.push(server);
        }
    }
    // Whose invite or knock ends learns of it, though its server is not in the room.
    for event in change.events.iter().filter(|event| event.ours) {
        servers.extend(server_of_ended(&event.json).filter(|server| !servers.contains(server)));
    }
    for server in servers.into_iter().filter(|server| *server != us.server) {
        let key = (server.clone(), change.room);
        // A server that was not in the room before gets nothing from the time it was away.
        let sent = match OUTGOING.get(tx, &key)? {
            Some((sent, _)) if servers_before.contains(&server) => sent,
            // One that was removed while it was away still has to learn of that, and now of this.
            Some((sent, latest)) if sent < latest => sent,
            _ => first - 1,
        };
        let waits = OUTGOING.get(tx, &key)?.map(|row| row.1).filter(|latest| *latest > sent);
        let last = waits.filter(|_| mutant!("queue-keeps-its-end")).unwrap_or(last);
        OUTGOING.put(tx, &key, &(sent, last))?;
        tx.touch(Touched::Destination(server));
    }
    Ok(())
}

/// The server of the user whose membership a member event ends.
fn server_of_ended(json: &str) -> Option<String> {
    if !json.contains("m.room.member") {
        return None;
    }
    let pdu: Map<String, Value> = serde_json::from_str(json).ok()?;
    let membership = pdu.get("content")?.get("membership")?.as_str()?;
    let is_end = pdu.get("type")?.as_str()? == "m.room.member" && matches!(membership, "leave" | "ban");
    is_end.then(|| server_of(pdu.get("state_key").and_then(Value::as_str).unwrap_or_default()).to_owned())
}
