//! `/rooms/{roomId}/thread/{eventId}/subscription` (MSC4306) and `/thread_subscriptions` (MSC4308): which threads a user follows.

use std::sync::Arc;

use http::StatusCode;
use kith_store::{Read, tables::threads};
use ruma::{
    EventId, RoomId,
    api::client::threads::{
        get_thread_subscription::unstable as get_subscription,
        get_thread_subscriptions_changes::unstable as get_changes,
        subscribe_thread::unstable::{self as subscribe_thread},
        unsubscribe_thread::unstable as unsubscribe_thread,
    },
};

use super::{entered, seen};
use crate::{
    Node,
    accounts::push_rules,
    client_api::untyped::{Untyped, Written},
    http::{Answer, MatrixError, Routes, Session},
    rooms::{read::StoredEvent, visibility::Eyes},
    sync::{
        notifications::thread_of,
        threads::{latest, position_of},
    },
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(get_subscription).add(subscribe_thread).add(unsubscribe_thread).add(get_changes)
}

/// A thread that a user may see: its room and view, and its root.
///
/// # Errors
/// `M_NOT_FOUND` when there is none, or the user may not see it.
fn thread<'a>(
    read: &'a dyn Read,
    user: &str,
    room_id: &RoomId,
    root: &EventId,
) -> Answer<(u64, Eyes<'a>, StoredEvent)> {
    let (room, eyes) = entered(read, room_id, user).map_err(|error| {
        if error.is("M_FORBIDDEN") { MatrixError::not_found("there is no such thread") } else { error }
    })?;
    let root = seen(read, &eyes, root.as_str())?;
    Ok((room, eyes, root))
}

async fn get_subscription(
    node: Arc<Node>,
    session: Session,
    request: get_subscription::Request,
) -> Answer<get_subscription::Response> {
    let user = session.user_id.as_str();
    let automatic = node.store.read(|read| {
        let (room, ..) = thread(read, user, &request.room_id, &request.thread_root)?;
        let subscription = threads::get(read, user, room, request.thread_root.as_str())?;
        Ok::<_, MatrixError>(subscription.and_then(|subscription| subscription.automatic))
    })?;
    let automatic = automatic.ok_or_else(|| MatrixError::not_found("you do not follow this thread"))?;
    Ok(get_subscription::Response::new(automatic))
}

async fn subscribe_thread(
    node: Arc<Node>,
    session: Session,
    request: subscribe_thread::Request,
) -> Answer<subscribe_thread::Response> {
    let user = session.user_id.clone();
    let (room, cause) = node.store.read(|read| {
        let (room, eyes, root) = thread(read, user.as_str(), &request.room_id, &request.thread_root)?;
        let cause = match &request.automatic {
            Some(cause) => Some(position_in_thread(read, &eyes, &root, cause)?),
            None => None,
        };
        Ok::<_, MatrixError>((room, cause))
    })?;
    let root = request.thread_root.to_string();
    node.store
        .write(move |tx| {
            let now = threads::get(tx, user.as_str(), room, &root)?;
            match (now.as_ref().and_then(|now| now.automatic), cause) {
                // It is followed, and what a person decided stands.
                (Some(false), _) | (Some(true), Some(_)) => return Ok(()),
                // The user ended it after the event that another client would follow it for. (One without a place in the stream
                // came before all that have one.)
                (None, Some(cause)) if now.as_ref().is_some_and(|ended| cause < ended.position) => {
                    return Err(MatrixError::new(
                        StatusCode::CONFLICT,
                        "IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION",
                        "the user ended this subscription after that event",
                    ));
                }
                _ => {}
            }
            let is_first = !threads::any(tx, user.as_str())?;
            if !threads::set(tx, user.as_str(), room, &root, Some(cause.is_some()))? {
                return Err(MatrixError::too_large("you follow too many threads"));
            }
            if is_first {
                push_rules::refresh(tx, &user)?;
            }
            Ok(())
        })
        .await?;
    Ok(subscribe_thread::Response::new())
}

/// The stream position of an event for which a thread is to be followed.
///
/// # Errors
/// `M_NOT_IN_THREAD` when the event is in no such thread, or the user may not see it.
fn position_in_thread(read: &dyn Read, eyes: &Eyes<'_>, root: &StoredEvent, cause: &EventId) -> Answer<u64> {
    let not_in_thread = || {
        let (status, code) = (StatusCode::BAD_REQUEST, "IO.ELEMENT.MSC4306.M_NOT_IN_THREAD");
        MatrixError::new(status, code, "this event is not in the thread")
    };
    let cause = seen(read, eyes, cause.as_str())
        .map_err(|error| if error.is("M_NOT_FOUND") { not_in_thread() } else { error })?;
    match thread_of(read, &cause)? {
        Some(thread) if thread == root.row.event_id => Ok(cause.row.position),
        _ => Err(not_in_thread()),
    }
}

async fn unsubscribe_thread(
    node: Arc<Node>,
    session: Session,
    request: unsubscribe_thread::Request,
) -> Answer<unsubscribe_thread::Response> {
    let user = session.user_id.to_string();
    let room = node.store.read(|read| {
        let (room, ..) = thread(read, &user, &request.room_id, &request.thread_root)?;
        Ok::<_, MatrixError>(room)
    })?;
    let root = request.thread_root.to_string();
    node.store
        .write(move |tx| {
            if threads::get(tx, &user, room, &root)?.is_some_and(|now| now.automatic.is_some()) {
                threads::set(tx, &user, room, &root, None)?;
            }
            Ok::<_, MatrixError>(())
        })
        .await?;
    Ok(unsubscribe_thread::Response::new())
}

/// The latest changes of subscriptions before a token, as sliding sync tells them.
async fn get_changes(
    node: Arc<Node>,
    session: Session,
    request: Untyped<get_changes::Request, Written>,
) -> Answer<Written> {
    let (mut from, mut to, mut limit, mut direction) = (u64::MAX, 0, 100, None);
    for (name, value) in url::form_urlencoded::parse(request.query.as_bytes()) {
        match &*name {
            "from" => from = position_of(&value)?,
            "to" => to = position_of(&value)?,
            "limit" => {
                let wrong = || MatrixError::invalid_param("`limit` is a number above zero");
                limit = value.parse().ok().filter(|limit| *limit > 0).ok_or_else(wrong)?;
            }
            "dir" => direction = Some(value.into_owned()),
            _ => {}
        }
    }
    match direction.as_deref() {
        Some("b") => {}
        None => return Err(MatrixError::missing_param("`dir` is missing")),
        Some(_) => return Err(MatrixError::invalid_param("`dir` can only be `b`")),
    }
    let changes = node.store.read(|read| latest(read, session.user_id.as_str(), to, from, limit))?;
    Written::of(&changes.unwrap_or_default().paged())
}
