//! `GET /rooms/{roomId}/event/{eventId}`, `GET /rooms/{roomId}/timestamp_to_event` (client-server specification, "Getting
//! events for a room").

use std::sync::Arc;

use kith_store::tables::rooms::{EVENTS, TIMELINE};
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, UInt,
    api::{
        Direction,
        client::room::{get_event_by_timestamp::v1 as get_event_by_timestamp, get_room_event::v3 as get_room_event},
    },
};
use serde::Deserialize;

use super::{entered, remote, seen, viewer};
use crate::{
    Node,
    http::{Answer, MatrixError, Routes, Session},
    rooms::{
        client_event::{Form, Showing},
        read,
    },
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(get_room_event).add(get_event_by_timestamp)
}

async fn get_room_event(
    node: Arc<Node>,
    session: Session,
    request: get_room_event::Request,
) -> Answer<get_room_event::Response> {
    let viewer = viewer(&node, &session);
    node.store.read(|read| {
        let none = |_| MatrixError::not_found("there is no such event here, or you may not see it");
        let (_, eyes) = entered(read, &request.room_id, &viewer.user_id).map_err(none)?;
        let event = seen(read, &eyes, request.event_id.as_str())?;
        let form = Form { room_id: Some(request.room_id.as_str()), relations: true };
        Ok(get_room_event::Response::new(Showing::new(read, &eyes, &viewer, form).raw(&event)?))
    })
}

/// Rows looked at under one snapshot: snapshots must be short.
const AT_ONCE: usize = 5_000;

#[derive(Deserialize)]
struct Time {
    origin_server_ts: u64,
}

async fn get_event_by_timestamp(
    node: Arc<Node>,
    session: Session,
    request: get_event_by_timestamp::Request,
) -> Answer<get_event_by_timestamp::Response> {
    let mut found = closest(&node, &session, &request)?;
    let known = found.as_ref().map(|(time, _)| *time);
    if remote::history_at(&node, &request.room_id, request.ts, request.dir, known).await {
        found = closest(&node, &session, &request)?;
    }
    let (time, event_id) =
        found.ok_or_else(|| MatrixError::not_found("there is no event on that side of this time"))?;
    Ok(get_event_by_timestamp::Response::new(
        OwnedEventId::try_from(event_id).map_err(MatrixError::internal)?,
        MilliSecondsSinceUnixEpoch(UInt::new_saturating(time)),
    ))
}

/// The event that is here, that the user may see, and that is closest to a time: its time and ID.
fn closest(
    node: &Arc<Node>,
    session: &Session,
    request: &get_event_by_timestamp::Request,
) -> Answer<Option<(u64, String)>> {
    let wanted = u64::from(request.ts.get());
    let user = session.user_id.as_str();
    let forward = request.dir == Direction::Forward;
    let mut from = None;
    // The closest so far: its time, number and ID.
    let mut best: Option<(u64, u64, String)> = None;
    loop {
        let next = node.store.read(|read| {
            let (room, eyes) = entered(read, &request.room_id, user)?;
            let start = from.unwrap_or((room, 0, 0));
            let mut rows = TIMELINE.prefix_from(read, &room, &start)?;
            for row in rows.by_ref().take(AT_ONCE) {
                let ((_, _, number), ()) = row?;
                let Some(row) = EVENTS.get(read, &number)? else { continue };
                let Ok(Time { origin_server_ts: time }) = serde_json::from_str(&row.json) else { continue };
                let closer = match &best {
                    _ if forward && time < wanted || !forward && time > wanted => false,
                    None => true,
                    Some((known, ..)) if forward => time < *known,
                    // Of equal ones the last is the closest, looking back.
                    Some((known, ..)) => time >= *known,
                };
                if closer
                    && let Some(event) = read::event(read, number)?
                    && eyes.sees(&event)?
                {
                    best = Some((time, number, row.event_id));
                }
            }
            Ok::<_, MatrixError>(rows.next().transpose()?.map(|(key, ())| key))
        })?;
        match next {
            Some(key) => from = Some(key),
            None => break,
        }
    }
    Ok(best.map(|(time, _, event_id)| (time, event_id)))
}
