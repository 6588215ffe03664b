//! Events that lack the signature of their room's policy server: it is asked, and what it will not sign is not shown.
//!
//! Server-server specification, "Validating policy server signatures".

use std::sync::Arc;

use kith_room::Event;
use kith_store::tables::rooms::ParkedRow;
use ruma::OwnedEventId;

use super::{Waiting, offer, parked};
use crate::{Node, http::Answer, rooms::Room};

/// Events for which the policy server is asked in one attempt.
const MOST_ASKED: usize = 50;
/// Rounds of an attempt: what follows an event can be judged only when that is settled.
const MOST_ROUNDS: usize = 5;
/// So many attempts a policy server may be silent; then what it did not sign is not signed.
const MOST_SILENCES: u32 = 2;

/// Offers what waits to the room, those events too that the policy server signs now. Gives what still waits.
pub(super) async fn offer_signed(node: &Arc<Node>, room: &Room) -> Answer<Waiting> {
    let mut asked = 0;
    for _ in 0..MOST_ROUNDS {
        let rows = parked(node, room)?;
        let waiting = offer(node, room, &rows).await?;
        let mut settled = false;
        for id in waiting.unsigned.iter().take(MOST_ASKED.saturating_sub(asked)) {
            let Some(event) = waiting.events.get(id) else { continue };
            asked += 1;
            if !settle(room, event, row(&rows, id)).await? {
                // It is silent; it would be for the others, too.
                return Ok(waiting);
            }
            settled = true;
        }
        if !settled {
            return Ok(waiting);
        }
    }
    offer(node, room, &parked(node, room)?).await
}

fn row<'a>(rows: &'a [(String, ParkedRow)], id: &OwnedEventId) -> Option<&'a ParkedRow> {
    rows.iter().find(|(known, _)| known == id.as_str()).map(|(_, row)| row)
}

/// Asks for the signature of one event, and has the room take it, signed or not. False if no answer came and it is to wait.
async fn settle(room: &Room, event: &Arc<Event>, row: Option<&ParkedRow>) -> Answer<bool> {
    let (origin, tries) = row.map_or(("", 0), |row| (row.origin.as_str(), row.tries));
    match room.with_policy_signature(event.clone()).await {
        Ok(signed) => {
            room.receive(origin, vec![signed]).await?;
        }
        Err(error) if error.status.is_server_error() && tries < MOST_SILENCES => {
            tracing::info!(room = %room.id(), %error, "a policy server is silent");
            return Ok(false);
        }
        Err(error) => {
            tracing::info!(room = %room.id(), event = %event.event_id(), %error, "a policy server does not sign an event");
            room.receive_unsigned(origin, event.clone()).await?;
        }
    }
    Ok(true)
}
