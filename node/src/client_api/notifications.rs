//! `GET /notifications` (client-server specification, "Listing notifications"): the events that a user was, or would have
//! been, notified of, the latest first.
//!
//! No list is kept: the user's rooms are gone through backwards, in the order of the stream, and the user's push rules
//! asked of each event. One request looks at a bounded number of events; the next one goes on from there.

use std::{collections::BTreeMap, sync::Arc};

use kith_store::{Read, tables::rooms::STREAM, tables::rooms::membership};
use ruma::{
    OwnedRoomId,
    api::client::push::get_notifications::v3::{self as get_notifications, Notification},
    push::Action,
};

use crate::{
    Node,
    ephemeral::receipts,
    http::{Answer, MatrixError, Routes, Session},
    rooms::{
        client_event::{Form, Showing, Viewer},
        read, timestamp,
        visibility::Eyes,
    },
    sync::notifications::{self, Reader},
};

/// Notifications of one answer, if the client does not say.
const PAGE: usize = 20;
/// The most a client gets.
const LONGEST_PAGE: u64 = 100;
/// How many events one request looks at.
const MOST_LOOKED_AT: usize = 2_000;

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(get_notifications)
}

async fn get_notifications(
    node: Arc<Node>,
    session: Session,
    request: get_notifications::Request,
) -> Answer<get_notifications::Response> {
    let wrong = || MatrixError::invalid_param("this is no token of this endpoint");
    let from = match &request.from {
        Some(token) => token.strip_prefix('n').and_then(|from| from.parse().ok()).ok_or_else(wrong)?,
        None => node.activity.position(),
    };
    let limit = request.limit.map_or(PAGE, |limit| usize::try_from(u64::from(limit).min(LONGEST_PAGE)).unwrap_or(PAGE));
    let loud_only = request.only.as_deref() == Some("highlight");
    node.store.read(|read| look(&node, read, &session, from, limit.max(1), loud_only))
}

/// Notifications at positions up to `from`.
fn look(
    node: &Node,
    read: &dyn Read,
    session: &Session,
    from: u64,
    limit: usize,
    loud_only: bool,
) -> Answer<get_notifications::Response> {
    let user = &session.user_id;
    let viewer =
        Viewer { user_id: user.to_string(), device_id: Some(session.device_id.to_string()), now: node.clock.now_ms() };
    let reader = Reader::new(&node.unread, read, user)?;
    // The next event of each room, going back.
    let mut waiting = BTreeMap::new();
    let mut rooms = Vec::new();
    for (room, part) in read::rooms_of(read, user.as_str())? {
        if part.membership != membership::JOIN {
            continue;
        }
        let mut rows = STREAM.range(read, (room, part.joined_at.saturating_add(1))..=(room, from))?.rev();
        if let Some(((_, position), number)) = rows.next().transpose()? {
            waiting.insert(position, (rooms.len(), number));
            rooms.push((room, rows, None));
        }
    }
    let mut found = Vec::new();
    let mut looked_at = 0;
    while let Some((position, (index, number))) = waiting.pop_last() {
        if found.len() >= limit || looked_at >= MOST_LOOKED_AT {
            let mut response = get_notifications::Response::new(found);
            response.next_token = Some(format!("n{position}"));
            return Ok(response);
        }
        looked_at += 1;
        let Some((room, rows, context)) = rooms.get_mut(index) else { continue };
        if let Some(((_, position), number)) = rows.next().transpose()? {
            waiting.insert(position, (index, number));
        }
        let Some(event) = read::event(read, number)?.filter(|event| event.sender() != user.as_str()) else { continue };
        let context = match context {
            Some(context) => context,
            None => {
                let Some(row) = read::room(read, *room)? else { continue };
                let Ok(id) = OwnedRoomId::try_from(row.room_id) else { continue };
                let told = notifications::room_context(read, user, *room, &id)?;
                context.insert((id, told, receipts::read_up_to(read, *room, user)?))
            }
        };
        let (room_id, told, marks) = context;
        let actions = reader.actions(&event, told)?;
        let is_wanted =
            actions.iter().any(Action::should_notify) && (!loud_only || actions.iter().any(Action::is_highlight));
        let eyes = Eyes::new(read, *room, user.as_str())?;
        if !is_wanted || !eyes.sees(&event)? {
            continue;
        }
        let is_read = notifications::mark(marks, notifications::thread_of(read, &event)?.as_deref()) >= position;
        let form = Form { room_id: None, relations: false };
        let shown = Showing::new(read, &eyes, &viewer, form).raw(&event)?;
        let ts = timestamp(event.timestamp());
        found.push(Notification::new(actions, shown, is_read, room_id.clone(), ts));
    }
    Ok(get_notifications::Response::new(found))
}
