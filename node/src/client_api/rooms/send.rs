//! `PUT /rooms/{roomId}/send/{eventType}/{txnId}`, `PUT /rooms/{roomId}/redact/{eventId}/{txnId}` (client-server
//! specification, "Sending events to a room", "Redactions", "Transaction identifiers").

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use ruma::{
    EventId, OwnedEventId, RoomId,
    api::client::{message::send_message_event::v3 as send_message_event, redact::redact_event::v3 as redact_event},
    events::room::power_levels::UserPowerLevel,
};
use serde_json::{Map, Value, json};

use super::{
    content_of,
    delayed::{Delayable, scheduled},
    joined, membership, sent_at,
};
use crate::{
    Node,
    accounts::limits::{self, Action},
    client_api::untyped::Reply,
    delayed::Plan,
    http::{Answer, MatrixError, Routes, Session},
    rooms::{Draft, power, read, relations, transactions},
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(send_message_event).add(redact_event)
}

/// The longest transaction ID, in bytes.
const LONGEST_TRANSACTION: usize = 255;

/// The requests that are being carried out, so that one that is repeated meanwhile (because
/// its client lost patience) waits for the first and finds its event.
#[derive(Debug, Default)]
pub struct Sending {
    running: Mutex<BTreeMap<transactions::Key, Arc<tokio::sync::Mutex<()>>>>,
}

impl Sending {
    fn turn(&self, key: &transactions::Key) -> Arc<tokio::sync::Mutex<()>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, turn| Arc::strong_count(turn) > 1);
        running.entry(key.clone()).or_default().clone()
    }
}

async fn send_message_event(
    node: Arc<Node>,
    session: Session,
    request: Delayable<send_message_event::Request>,
) -> Answer<Reply> {
    let delay = request.delay()?;
    let request = request.request;
    let content = content_of(request.body.json().get())?;
    let (kind, transaction) = (request.event_type.to_string(), request.txn_id.to_string());
    if let Some(delay) = delay {
        let plan = Plan { kind, state_key: None, content, delay, transaction: Some(transaction) };
        return scheduled(&node, &session, &request.room_id, plan).await;
    }
    let mut draft = Draft::message(session.user_id.clone(), kind, content);
    draft.timestamp = sent_at(&session, request.timestamp);
    let event_id = send(&node, &session, &request.room_id, draft, &transaction).await?;
    Ok(Reply::ok(json!({ "event_id": event_id })))
}

/// Sends a message event of the session's user, unless the same request of the same device was carried out before: then
/// its event is given.
pub(crate) async fn send(
    node: &Arc<Node>,
    session: &Session,
    room_id: &RoomId,
    draft: Draft,
    transaction: &str,
) -> Answer<OwnedEventId> {
    if draft.kind == "m.room.redaction" {
        let target = draft.content.get("redacts").and_then(Value::as_str);
        let target = target.and_then(|id| OwnedEventId::try_from(id).ok());
        let target = target.ok_or_else(|| MatrixError::missing_param("a redaction names the event it `redacts`"))?;
        return redact(node, session, room_id, &target, draft, transaction).await;
    }
    once(node, session, room_id, draft, transaction).await
}

async fn redact_event(
    node: Arc<Node>,
    session: Session,
    request: redact_event::Request,
) -> Answer<redact_event::Response> {
    let mut content = Map::new();
    if let Some(reason) = request.reason {
        content.insert("reason".to_owned(), json!(reason));
    }
    let draft = Draft::message(session.user_id.clone(), "m.room.redaction", content);
    let transaction = request.txn_id.as_str();
    let event_id = redact(&node, &session, &request.room_id, &request.event_id, draft, transaction).await?;
    Ok(redact_event::Response::new(event_id))
}

async fn redact(
    node: &Arc<Node>,
    session: &Session,
    room_id: &RoomId,
    target: &EventId,
    mut draft: Draft,
    transaction: &str,
) -> Answer<OwnedEventId> {
    // It stands where the room's version wants it.
    draft.content.remove("redacts");
    node.store.read(|read| {
        let room = joined(read, room_id, session.user_id.as_str())?;
        let event = read::event_by_id(read, target.as_str())?.filter(|event| event.row.room == room);
        let event = event.ok_or_else(|| MatrixError::not_found("there is no such event in this room"))?;
        if event.sender() == session.user_id {
            return Ok(());
        }
        // The rules between servers let each server redact what its users sent; among the users it is a matter of power.
        let powerful = power::levels(read, room)?
            .is_some_and(|levels| levels.user(&session.user_id) >= UserPowerLevel::from(levels.redact()));
        if powerful { Ok(()) } else { Err(MatrixError::forbidden("you may not redact what others sent in this room")) }
    })?;
    draft.redacts = Some(target.to_owned());
    once(node, session, room_id, draft, transaction).await
}

/// Sends an event, unless the same request of the same device was carried out before: then its event is given.
async fn once(
    node: &Arc<Node>,
    session: &Session,
    room_id: &RoomId,
    mut draft: Draft,
    transaction: &str,
) -> Answer<OwnedEventId> {
    if transaction.is_empty() || transaction.len() > LONGEST_TRANSACTION {
        return Err(MatrixError::invalid_param(format!("a transaction ID has 1 to {LONGEST_TRANSACTION} bytes")));
    }
    let name = (session.device_id.to_string(), transaction.to_owned());
    let room = membership::room(node, room_id)?;
    let redacts = draft.redacts.as_ref().map(|id| id.as_str());
    let key = transactions::key(session.user_id.as_str(), &name, room.number(), &draft.kind, redacts);
    let turn = node.sending.turn(&key);
    let _turn = turn.lock().await;
    let known = node.store.read(|read| {
        let known = transactions::made(read, &key)?;
        if known.is_none() {
            let user = session.user_id.as_str();
            let room = joined(read, room_id, user)?;
            relations::check_new(read, room, user, &draft.kind, &draft.content)?;
        }
        Ok::<_, MatrixError>(known.and_then(|id| OwnedEventId::try_from(id).ok()))
    })?;
    if let Some(event_id) = known {
        return Ok(event_id);
    }
    limits::check(node, Action::Message, session.user_id.as_str())?;
    draft.transaction = Some(name);
    room.send(draft).await
}
