//! Bridging gaps: an event whose past is not to be had is placed by the state before it, as another server gives it.
//!
//! A bridge is the last resort. What lies under it is history: a message there is not shown as new, unless it comes by itself
//! later. So it is built only when all servers that could be asked have told what they know, or when too much is missing.

use std::{collections::BTreeSet, sync::Arc};

use kith_room::{Event, Placement};
use ruma::{OwnedEventId, OwnedServerName, ServerName};

use super::{
    fairly,
    gap::{Gap, Waiting},
};
use crate::{
    Node,
    federation::history,
    http::Answer,
    rooms::{Received, Room},
};

/// Gaps bridged in one attempt, and events tried for it.
const MOST_BRIDGED: usize = 10;
const MOST_BRIDGE_TRIES: usize = 40;

/// What came of trying to bridge one gap.
enum Bridge {
    /// The event is placed, or cannot be.
    Done,
    /// The server tells what lies before the event after all.
    NotNeeded,
}

/// Bridges what has no past here, as far as the servers help, and hands everything to the room.
pub(super) async fn bridge_all(
    node: &Arc<Node>,
    room: &Room,
    servers: &[OwnedServerName],
    gap: &mut Gap<'_>,
    waiting: &Waiting,
) -> Answer<()> {
    let (mut bridged, mut tries) = (0, 0);
    'servers: for server in servers {
        let mut tried = BTreeSet::new();
        while let Some(event) = next(gap, waiting, &tried)? {
            if bridged >= MOST_BRIDGED || tries >= MOST_BRIDGE_TRIES {
                break 'servers;
            }
            tries += 1;
            tried.insert(event.event_id().to_owned());
            match bridge(node, room, server, event, gap, waiting).await {
                Ok(Bridge::Done) => bridged += 1,
                Ok(Bridge::NotNeeded) => gap.ask(server, waiting).await?,
                Err(error) => {
                    tracing::info!(room = %room.id(), %server, %error, "a gap in a room's history is not bridged");
                    if error.status == http::StatusCode::BAD_GATEWAY {
                        continue 'servers;
                    }
                }
            }
        }
    }
    match servers.first() {
        Some(server) => gap.hand_in(server, waiting).await,
        None => Ok(()),
    }
}

/// The next event to place by a state: what the servers gave themselves comes first, of that they should know the state.
fn next(gap: &Gap<'_>, waiting: &Waiting, tried: &BTreeSet<OwnedEventId>) -> Answer<Option<Arc<Event>>> {
    let open = gap.open(waiting)?.into_iter().filter(|event| !tried.contains(event.event_id()));
    let (given, others): (Vec<_>, Vec<_>) = open.partition(|event| gap.has(event));
    Ok(given.into_iter().chain(fairly(others)).next())
}

/// Takes the state before an event from a server, and the event with it.
async fn bridge(
    node: &Arc<Node>,
    room: &Room,
    server: &ServerName,
    event: Arc<Event>,
    gap: &mut Gap<'_>,
    waiting: &Waiting,
) -> Answer<Bridge> {
    let id = event.event_id().to_owned();
    let given = history::given_state(node, room, server, event.clone()).await?;
    // A server that knows the state before the event has the event. If it had not when it was asked what lies before it, the
    // question is worth asking again: events of one moment reach servers in different orders.
    if !gap.is_full() && gap.step(server, &[], &[id], waiting).await? {
        return Ok(Bridge::NotNeeded);
    }
    let result = room.receive_with_state(given.auth_chain, given.state, event, Placement::Live).await?;
    if matches!(result, Received::Accepted | Received::Hidden(_)) {
        node.federation.stats.gaps_bridged.add();
    }
    tracing::info!(room = %room.id(), ?result, "a gap in a room's history is bridged");
    Ok(Bridge::Done)
}
