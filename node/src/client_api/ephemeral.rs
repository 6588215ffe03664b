//! Typing, receipts, read markers and presence (client-server specification, "Typing notifications", "Receipts",
//! "Fully read markers", "Presence").

use std::{sync::Arc, time::Duration};

use ruma::{
    OwnedEventId, RoomId,
    api::client::{
        presence::{get_presence, set_presence},
        read_marker::set_read_marker,
        receipt::create_receipt::{self, v3::ReceiptType},
        typing::create_typing_event,
    },
    events::receipt::ReceiptThread,
    presence::PresenceState,
};
use serde_json::{Value, json};

use super::untyped::Untyped;
use crate::{
    Node,
    accounts::account_data,
    ephemeral::{
        presence,
        receipts::{self, READ, READ_PRIVATE},
        typing,
    },
    http::{Answer, MatrixError, Routes, Session},
    rooms::read,
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(type_now).add(receipt).add(read_markers).add(presence_of).add(set_own_presence)
}

/// How long somebody types whose client does not say.
const TYPING: Duration = Duration::from_secs(30);

/// Parsed by hand: ruma's type asks for a `timeout`, which the specification does not.
async fn type_now(
    node: Arc<Node>,
    session: Session,
    request: Untyped<create_typing_event::v3::Request, create_typing_event::v3::Response>,
) -> Answer<create_typing_event::v3::Response> {
    let room_id = RoomId::parse(request.parameter(0)).map_err(|error| MatrixError::invalid_param(error.to_string()))?;
    super::own_user(&session, request.parameter(1))?;
    let typing = match request.body.get("typing") {
        Some(Value::Bool(typing)) => *typing,
        Some(_) => return Err(MatrixError::bad_json("`typing` is true or false")),
        None => return Err(MatrixError::missing_param("`typing` is missing")),
    };
    let timeout = match request.body.get("timeout") {
        None | Some(Value::Null) => TYPING,
        Some(time) => {
            Duration::from_millis(time.as_u64().ok_or_else(|| MatrixError::bad_json("`timeout` is in milliseconds"))?)
        }
    };
    typing::set(&node, &session.user_id, &room_id, typing.then_some(timeout)).await?;
    Ok(create_typing_event::v3::Response::new())
}

async fn receipt(
    node: Arc<Node>,
    session: Session,
    request: create_receipt::v3::Request,
) -> Answer<create_receipt::v3::Response> {
    match &request.receipt_type {
        ReceiptType::FullyRead if request.thread == ReceiptThread::Unthreaded => {
            fully_read(&node, &session, &request.room_id, &request.event_id).await?;
        }
        ReceiptType::FullyRead => return Err(MatrixError::invalid_param("m.fully_read has no threads")),
        ReceiptType::Read | ReceiptType::ReadPrivate => {
            check_thread(&node, &request)?;
            let kind = if request.receipt_type == ReceiptType::Read { READ } else { READ_PRIVATE };
            receipts::set(&node, &session.user_id, &request.room_id, kind, request.event_id, request.thread).await?;
        }
        _ => return Err(MatrixError::invalid_param("no such type of receipt")),
    }
    Ok(create_receipt::v3::Response::new())
}

/// A receipt for a thread is for an event of that thread ("Threaded read receipts").
fn check_thread(node: &Node, request: &create_receipt::v3::Request) -> Answer<()> {
    let wrong = || MatrixError::invalid_param("the event does not belong to the thread of the receipt");
    let thread = match &request.thread {
        ReceiptThread::Thread(root) => Some(root.as_str()),
        ReceiptThread::Main => None,
        ReceiptThread::Unthreaded => return Ok(()),
        _ => return Err(wrong()),
    };
    node.store.read(|read| {
        let Some(event) = read::event_by_id(read, request.event_id.as_str())? else { return Ok(()) };
        let own = crate::sync::notifications::thread_of(read, &event)?;
        // The root itself belongs to the main timeline and begins its thread.
        if own.as_deref() == thread || thread == Some(event.row.event_id.as_str()) { Ok(()) } else { Err(wrong()) }
    })
}

async fn read_markers(
    node: Arc<Node>,
    session: Session,
    request: set_read_marker::v3::Request,
) -> Answer<set_read_marker::v3::Response> {
    let all = ReceiptThread::Unthreaded;
    if let Some(event) = request.fully_read {
        fully_read(&node, &session, &request.room_id, &event).await?;
    }
    if let Some(event) = request.read_receipt {
        receipts::set(&node, &session.user_id, &request.room_id, READ, event, all.clone()).await?;
    }
    if let Some(event) = request.private_read_receipt {
        receipts::set(&node, &session.user_id, &request.room_id, READ_PRIVATE, event, all).await?;
    }
    Ok(set_read_marker::v3::Response::new())
}

async fn fully_read(node: &Arc<Node>, session: &Session, room: &RoomId, event: &OwnedEventId) -> Answer<()> {
    let number = node.rooms.require(room)?.number();
    node.store.read(|read| match read::user_room(read, session.user_id.as_str(), number)? {
        Some(_) => Ok(()),
        None => Err(MatrixError::forbidden("only who is in a room has markers there")),
    })?;
    let event = json!(event);
    // Clients may set it through this endpoint only, so not by what serves their account data.
    account_data::update(node, &session.user_id, Some(room.as_str()), "m.fully_read", |content| {
        content.insert("event_id".to_owned(), event);
        Ok(())
    })
    .await
}

async fn presence_of(
    node: Arc<Node>,
    session: Session,
    request: get_presence::v3::Request,
) -> Answer<get_presence::v3::Response> {
    if !node.store.read(|read| presence::may_see(read, &session.user_id, &request.user_id))? {
        return Err(MatrixError::forbidden("presence is for those who share a room"));
    }
    let now = node.clock.monotonic();
    let Some(seen) = presence::get(&node, &request.user_id) else {
        return Ok(get_presence::v3::Response::new(PresenceState::Offline));
    };
    let mut response = get_presence::v3::Response::new(seen.state.clone());
    response.last_active_ago = Some(Duration::from_millis(u64::try_from(seen.idle(now).as_millis()).unwrap_or(0)));
    response.currently_active = Some(seen.is_active(now));
    response.status_msg = seen.status;
    Ok(response)
}

async fn set_own_presence(
    node: Arc<Node>,
    session: Session,
    request: set_presence::v3::Request,
) -> Answer<set_presence::v3::Response> {
    super::own_user(&session, &request.user_id)?;
    presence::set(&node, &session, request.presence, request.status_msg)?;
    Ok(set_presence::v3::Response::new())
}
