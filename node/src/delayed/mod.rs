//! Delayed events (MSC4140): scheduled now, sent later, unless they are cancelled before. What they are allowed is judged when they are
//! sent, as for any event.
//!
//! They are kept on disk, and one task sends those whose time has come, in that order; after a restart, those whose time came
//! meanwhile first. An event is sent with a transaction ID made of its delay ID, so that a crash right after sending sends it once.

mod run;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use http::StatusCode;
use kith_store::{
    Json, Read, StoreError, Tx,
    tables::delayed::{DELAYED_EVENT_OWNERS, DELAYED_EVENTS, DELAYED_EVENTS_DUE, DelayedEvent, Finished},
};
use ruma::{RoomId, UserId};
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

pub use self::run::run;
use crate::{
    Node,
    accounts::limits::{self, Action},
    http::{Answer, MatrixError, Session},
};

/// Events that a user may have scheduled.
pub const MOST_SCHEDULED: usize = 100;
/// The longest delay, in milliseconds: a year.
pub const LONGEST_DELAY: u64 = 365 * 24 * 3_600_000;
/// Finished events that are kept of a user, and for how long, in milliseconds.
const MOST_FINISHED: usize = 100;
const FINISHED_MS: u64 = 7 * 24 * 3_600_000;
/// The longest content, in bytes of JSON: that of an event.
const MAX_CONTENT: usize = 64 << 10;
/// The longest type, state key and transaction ID, in bytes.
const MAX_NAME: usize = 255;
/// What the transaction IDs of delayed events begin with. A client's own have no space when they come in a path.
const TRANSACTION: &str = "org.matrix.msc4140 ";

/// What is kept in memory for them.
#[derive(Debug, Default)]
pub struct Delayed {
    /// Rings when one is due earlier than was known.
    bell: Notify,
    /// One is acted upon by one request at a time.
    turns: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Delayed {
    fn turn(&self, id: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(id.to_owned()).or_default().clone()
    }
}

/// An event to be sent later.
#[derive(Debug)]
pub struct Plan {
    /// Its type.
    pub kind: String,
    /// Makes it a state event.
    pub state_key: Option<String>,
    /// Its content.
    pub content: Map<String, Value>,
    /// After how many milliseconds.
    pub delay: u64,
    /// The request's transaction ID.
    pub transaction: Option<String>,
}

/// What a client wants to become of a scheduled event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Its time begins anew.
    Restart,
    /// It is sent now.
    Send,
    /// It is never sent.
    Cancel,
}

/// Schedules an event; gives its delay ID. The same request (by its transaction ID) may come again.
///
/// # Errors
/// `M_INVALID_PARAM` for no delay, `M_FORBIDDEN` for one that is too long, `M_LIMIT_EXCEEDED` when the user has too many, `M_TOO_LARGE`.
pub async fn schedule(node: &Arc<Node>, session: &Session, room_id: &RoomId, plan: Plan) -> Answer<String> {
    if plan.delay == 0 {
        return Err(MatrixError::invalid_param("a delay is a number of milliseconds above zero"));
    }
    if plan.delay > LONGEST_DELAY {
        return Err(MatrixError::forbidden(format!("the longest delay is {LONGEST_DELAY} ms")));
    }
    let names = [Some(&plan.kind), plan.state_key.as_ref(), plan.transaction.as_ref()];
    if plan.kind.is_empty() || names.into_iter().flatten().any(|name| name.len() > MAX_NAME) {
        return Err(MatrixError::invalid_param(format!("a name has 1 to {MAX_NAME} bytes")));
    }
    let content = Value::Object(plan.content);
    if content.to_string().len() > MAX_CONTENT {
        return Err(MatrixError::too_large("an event has at most 64 KiB"));
    }
    let Value::Object(content) = content else { return Err(MatrixError::internal("an object is one")) };
    limits::check(node, Action::Message, session.user_id.as_str())?;
    let now = node.clock.now_ms();
    let row = DelayedEvent {
        room_id: room_id.to_string(),
        kind: plan.kind,
        state_key: plan.state_key,
        content,
        delay: plan.delay,
        since: now,
        due: now.saturating_add(plan.delay),
        device: session.device_id.to_string(),
        transaction: plan.transaction,
        finished: None,
    };
    let (user, id) = (session.user_id.to_string(), node.rng.token(22));
    let id = node
        .store
        .write(move |tx| {
            let mut scheduled = Vec::new();
            for (known, other) in of_user(tx, &user)? {
                let is_same = |one: &DelayedEvent| {
                    (&one.room_id, &one.kind, &one.device) == (&row.room_id, &row.kind, &row.device)
                };
                if row.transaction.is_some() && other.transaction == row.transaction && is_same(&other) {
                    return Ok(known);
                }
                if other.finished.is_none() {
                    scheduled.push(other.due);
                }
            }
            if scheduled.len() >= MOST_SCHEDULED {
                let next = scheduled.into_iter().min().unwrap_or_default();
                return Err(MatrixError::limit_exceeded(next.saturating_sub(now).max(1)));
            }
            DELAYED_EVENT_OWNERS.put(tx, &id, &user)?;
            DELAYED_EVENTS_DUE.put(tx, &(row.due, user.clone(), id.clone()), &())?;
            DELAYED_EVENTS.put(tx, &(user, id.clone()), &Json(row))?;
            Ok::<_, MatrixError>(id)
        })
        .await?;
    node.delayed.bell.notify_one();
    Ok(id)
}

/// Does with a scheduled event what a client wants. `user` is who asks; none: whoever knows its ID, which nobody can guess, such as
/// the server of a call.
///
/// # Errors
/// `M_NOT_FOUND` for events that are not the user's; 409 `M_UNKNOWN` when something else became of it already; those of sending.
pub async fn act(node: &Arc<Node>, user: Option<&UserId>, id: &str, act: Act) -> Answer<()> {
    let turn = node.delayed.turn(id);
    let _turn = turn.lock().await;
    let (owner, row) = node.store.read(|read| {
        let owner = DELAYED_EVENT_OWNERS.get(read, &id.to_owned())?.ok_or_else(no_such_event)?;
        if user.is_some_and(|user| *user != owner) {
            return Err(no_such_event());
        }
        let row = get(read, &owner, id)?.ok_or_else(no_such_event)?;
        Ok((owner, row))
    })?;
    if let Some(finished) = &row.finished {
        return match (act, finished.event_id.is_some()) {
            (Act::Send, true) | (Act::Cancel, false) => Ok(()),
            (_, was_sent) => {
                let what = if was_sent { "sent" } else { "cancelled" };
                Err(MatrixError::new(StatusCode::CONFLICT, "M_UNKNOWN", format!("this event has been {what} already")))
            }
        };
    }
    let now = node.clock.now_ms();
    match act {
        Act::Send => {
            let event_id = run::send(node, &owner, id, &row).await?;
            finish(node, owner, id.to_owned(), Finished { at: now, event_id: Some(event_id), error: None }).await?;
        }
        Act::Cancel => finish(node, owner, id.to_owned(), Finished { at: now, event_id: None, error: None }).await?,
        Act::Restart => {
            put_off(node, owner, id.to_owned(), move |row| {
                row.since = now;
                row.due = now.saturating_add(row.delay);
            })
            .await?;
            node.delayed.bell.notify_one();
        }
    }
    Ok(())
}

/// One of the user's events as clients see it.
///
/// # Errors
/// `M_NOT_FOUND`.
pub fn shown(read: &dyn Read, user: &UserId, id: &str) -> Answer<Value> {
    Ok(show(id, &get(read, user.as_str(), id)?.ok_or_else(no_such_event)?))
}

/// The user's scheduled events as clients see them, in the order in which they are due.
///
/// # Errors
/// As all reads.
pub fn list(read: &dyn Read, user: &UserId) -> Answer<Vec<Value>> {
    let mut rows = of_user(read, user.as_str())?;
    rows.retain(|(_, row)| row.finished.is_none());
    rows.sort_by_key(|(_, row)| row.since.saturating_add(row.delay));
    Ok(rows.iter().map(|(id, row)| show(id, row)).collect())
}

/// The delay ID of the event that was sent with a transaction ID, if it was a delayed one.
pub fn id_of(transaction: &str) -> Option<&str> {
    transaction.strip_prefix(TRANSACTION)
}

/// Forgets all that a user has scheduled: nobody is there any more who could want it sent.
///
/// # Errors
/// As all writes.
pub fn forget_user(tx: &mut Tx, user: &str) -> Result<(), StoreError> {
    for (id, row) in of_user(tx, user)? {
        delete(tx, user, &id, &row)?;
    }
    Ok(())
}

/// With the names of both the newest text of the proposal and the one that clients were made for.
fn show(id: &str, row: &DelayedEvent) -> Value {
    let mut shown = json!({
        "delay_id": id,
        "room_id": row.room_id,
        "type": row.kind,
        "content": row.content,
        "delay": row.delay,
        "delay_ms": row.delay,
        "running_since": row.since,
        "scheduled_at": row.since,
    });
    if let Some(key) = &row.state_key {
        shown["state_key"] = json!(key);
    }
    if let Some(finished) = &row.finished {
        shown["finalised_ts"] = json!(finished.at);
        if let Some(event_id) = &finished.event_id {
            shown["event_id"] = json!(event_id);
        }
        if let Some(error) = &finished.error {
            shown["error"] = error.clone();
        }
    }
    shown
}

fn get(read: &dyn Read, user: &str, id: &str) -> Result<Option<DelayedEvent>, StoreError> {
    Ok(DELAYED_EVENTS.get(read, &(user.to_owned(), id.to_owned()))?.map(|row| row.0))
}

fn of_user(read: &dyn Read, user: &str) -> Result<Vec<(String, DelayedEvent)>, StoreError> {
    DELAYED_EVENTS.prefix(read, &user.to_owned())?.map(|row| row.map(|((_, id), row)| (id, row.0))).collect()
}

fn delete(tx: &mut Tx, user: &str, id: &str, row: &DelayedEvent) -> Result<(), StoreError> {
    DELAYED_EVENTS_DUE.delete(tx, &(row.due, user.to_owned(), id.to_owned()))?;
    DELAYED_EVENT_OWNERS.delete(tx, &id.to_owned())?;
    DELAYED_EVENTS.delete(tx, &(user.to_owned(), id.to_owned()))?;
    Ok(())
}

/// Changes when a scheduled event is due.
async fn put_off(
    node: &Arc<Node>,
    user: String,
    id: String,
    change: impl FnOnce(&mut DelayedEvent) + Send + 'static,
) -> Result<(), StoreError> {
    node.store
        .write(move |tx| {
            let Some(mut row) = get(tx, &user, &id)?.filter(|row| row.finished.is_none()) else { return Ok(()) };
            DELAYED_EVENTS_DUE.delete(tx, &(row.due, user.clone(), id.clone()))?;
            change(&mut row);
            DELAYED_EVENTS_DUE.put(tx, &(row.due, user.clone(), id.clone()), &())?;
            DELAYED_EVENTS.put(tx, &(user, id), &Json(row))
        })
        .await
}

/// Notes what became of an event, and forgets those of the user that were finished long ago.
async fn finish(node: &Arc<Node>, user: String, id: String, finished: Finished) -> Result<(), StoreError> {
    node.store
        .write(move |tx| {
            let Some(mut row) = get(tx, &user, &id)? else { return Ok(()) };
            DELAYED_EVENTS_DUE.delete(tx, &(row.due, user.clone(), id.clone()))?;
            let now = finished.at;
            row.finished = Some(finished);
            DELAYED_EVENTS.put(tx, &(user.clone(), id), &Json(row))?;
            let mut known: Vec<_> = of_user(tx, &user)?
                .into_iter()
                .filter_map(|(id, row)| Some((row.finished.as_ref()?.at, id, row)))
                .collect();
            known.sort_by_key(|(at, ..)| std::cmp::Reverse(*at));
            for (index, (at, id, row)) in known.iter().enumerate() {
                if index >= MOST_FINISHED || now.saturating_sub(*at) > FINISHED_MS {
                    delete(tx, &user, id, row)?;
                }
            }
            Ok(())
        })
        .await
}

fn no_such_event() -> MatrixError {
    MatrixError::not_found("there is no such delayed event")
}
