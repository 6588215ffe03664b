//! One destination's sender: it lives as long as there is something to send and the destination takes it.

use std::{pin::pin, sync::Arc, time::Duration};

use kith_mutants::mutant;
use kith_store::{Json, StoreError, tables::federation::DESTINATIONS};
use kith_transport::Class;
use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedServerName, UInt,
    api::federation::transactions::send_transaction_message::v1 as send, serde::Raw,
};
use tokio::sync::SemaphorePermit;

use super::{
    Destination, acknowledged, backoff,
    queue::{self, How, Transaction},
};
use crate::{Node, e2ee, federation::FederationError, platform::timeout};

/// How long a destination may take to answer a transaction.
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// After this long it gives its place to others, and takes one among the slow.
pub(super) const PROMPT: Duration = Duration::from_secs(3);
/// How often a transaction is offered to a server that refuses it, before what is in it is offered piece by piece; and how often
/// a piece is, before it is given up.
const MOST_REFUSALS: u32 = 5;
/// The longest pause that a server may ask for without counting as away.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What comes after an attempt.
enum Next {
    /// There may be more to send.
    GoOn,
    /// There is nothing more to send.
    Rest,
    /// The destination waits for its time.
    Wait,
}

/// Sends what waits for `name` until nothing does, or it fails.
pub(super) async fn run(node: Arc<Node>, name: OwnedServerName) {
    loop {
        let next = {
            let outgoing = &node.federation.outgoing;
            let slow = outgoing.lock().get(&name).is_some_and(|destination| destination.slow);
            let slots = if slow { &outgoing.slow_slots } else { &outgoing.slots };
            let Ok(slot) = slots.acquire().await else { return };
            match make(&node, &name) {
                Ok(Some(transaction)) => {
                    let more = transaction.more;
                    match deliver_in(&node, &name, transaction, slot, slow).await {
                        Next::GoOn if !more => Next::Rest,
                        next => next,
                    }
                }
                Ok(None) => Next::Rest,
                Err(error) => failed(&node, &name, &error.to_string(), None),
            }
        };
        match next {
            Next::GoOn => {}
            Next::Rest if rest(&node, &name) => return,
            Next::Rest => {}
            Next::Wait => return,
        }
    }
}

/// Nothing waits: the sender ends, unless something came this moment.
fn rest(node: &Arc<Node>, name: &OwnedServerName) -> bool {
    let mut state = node.federation.outgoing.lock();
    let Some(destination) = state.get_mut(name) else { return true };
    if std::mem::take(&mut destination.woken) || !destination.ephemeral.is_empty() {
        return false;
    }
    destination.running = false;
    if destination.failures == 0 && destination.failing_since == 0 {
        state.remove(name);
    }
    true
}

fn make(node: &Arc<Node>, name: &OwnedServerName) -> Result<Option<Transaction>, StoreError> {
    let (mut ephemeral, how) = {
        let mut state = node.federation.outgoing.lock();
        let destination = state.entry(name.clone()).or_default();
        destination.woken = false;
        destination.seen = false;
        let single = destination.refusals >= MOST_REFUSALS;
        let acknowledged = node.federation.outgoing.acknowledged.of(name.as_str());
        (std::mem::take(&mut destination.ephemeral), How { acknowledged, away: destination.away, single })
    };
    let made = node.store.read(|read| {
        queue::compose(read, name.as_str(), &mut ephemeral, how, || {
            node.store.allocate(kith_store::Counter::Transaction) ^ node.clock.now_ms().rotate_left(32)
        })
    });
    let mut state = node.federation.outgoing.lock();
    let destination = state.entry(name.clone()).or_default();
    while let Some(edu) = ephemeral.pop_back() {
        destination.ephemeral.push_front(edu);
    }
    if matches!(&made, Ok(Some(transaction)) if !transaction.still_away) || matches!(&made, Ok(None)) {
        destination.away = false;
    }
    made
}

/// Delivers in a slot; from one for prompt destinations it is moved if it takes long, and is given up if too many are slow.
async fn deliver_in(
    node: &Arc<Node>,
    name: &OwnedServerName,
    transaction: Transaction,
    slot: SemaphorePermit<'_>,
    slow: bool,
) -> Next {
    let mut delivery = pin!(deliver(node, name, transaction));
    if slow {
        return delivery.await;
    }
    if let Ok(next) = timeout(&*node.clock, PROMPT, &mut delivery).await {
        return next;
    }
    drop(slot);
    match node.federation.outgoing.slow_slots.try_acquire() {
        Ok(_slot) => delivery.await,
        Err(_) => failed(node, name, "it does not answer, like many others", None),
    }
}

async fn deliver(node: &Arc<Node>, name: &OwnedServerName, transaction: Transaction) -> Next {
    if transaction.pdus.is_empty() && transaction.edus.is_empty() {
        // Events that were to be sent are gone (purged): there is only the position to move on.
        return settle(node, name, transaction, false).await;
    }
    let now = MilliSecondsSinceUnixEpoch(UInt::try_from(node.clock.now_ms()).unwrap_or(UInt::MAX));
    let mut request = send::Request::new(transaction.id.as_str().into(), node.identity.server_name().to_owned(), now);
    request.pdus.clone_from(&transaction.pdus);
    request.edus = transaction.edus.iter().cloned().map(Raw::from_json).collect();
    node.federation.stats.transactions_out.add();
    let answer = node.federation.client().request(name, request, Class::Control, TIME_LIMIT).await;
    if answer.is_err() {
        node.federation.stats.transactions_failed.add();
    }
    match answer {
        Ok(response) => {
            for (event, result) in response.pdus {
                if let Err(reason) = result {
                    tracing::info!(server = %name, %event, %reason, "a server does not take an event of ours");
                }
            }
            settle(node, name, transaction, false).await
        }
        Err(error)
            if error.is_refusal() && !matches!(error.status().map(|status| status.as_u16()), Some(404 | 405)) =>
        {
            let refusals = {
                let mut state = node.federation.outgoing.lock();
                let destination = state.entry(name.clone()).or_default();
                // What is merely too much needs no second try.
                let step = if error.status() == Some(http::StatusCode::PAYLOAD_TOO_LARGE) { MOST_REFUSALS } else { 1 };
                destination.refusals += step;
                destination.refusals
            };
            if refusals < 2 * MOST_REFUSALS {
                return failed(node, name, &error.to_string(), error.retry_after());
            }
            // What is wrong with this one event or EDU will stay wrong; the rest must not wait behind it. An event is found
            // when heads are compared.
            tracing::warn!(server = %name, %error, "what a server refuses is given up");
            settle(node, name, transaction, true).await
        }
        Err(error) if error.status() == Some(http::StatusCode::TOO_MANY_REQUESTS) => {
            match error.retry_after().filter(|pause| *pause <= LONGEST_PAUSE) {
                Some(pause) => paused(node, name, pause, transaction),
                None => failed(node, name, &error.to_string(), error.retry_after()),
            }
        }
        Err(_) if mutant!("queue-moves-too-early") => settle(node, name, transaction, false).await,
        Err(error) => {
            let retry_after = FederationError::retry_after(&error);
            failed(node, name, &error.to_string(), retry_after)
        }
    }
}

/// The destination is there and asks for a pause: nothing is lost by it, and it lacks nothing.
fn paused(node: &Arc<Node>, name: &OwnedServerName, pause: Duration, transaction: Transaction) -> Next {
    {
        let mut state = node.federation.outgoing.lock();
        let destination = state.entry(name.clone()).or_default();
        destination.running = false;
        destination.away |= transaction.still_away;
        destination.retry_at = Some(node.clock.monotonic() + pause.max(Duration::from_millis(1)));
    }
    node.federation.outgoing.timer.notify_one();
    Next::Wait
}

/// The transaction is done with: it leaves the queues.
async fn settle(node: &Arc<Node>, name: &OwnedServerName, transaction: Transaction, refused: bool) -> Next {
    {
        let mut state = node.federation.outgoing.lock();
        let destination = state.entry(name.clone()).or_default();
        let known_failure = destination.failing_since != 0;
        destination.failures = 0;
        // Piece by piece until all that waits is through.
        destination.refusals = if destination.refusals >= MOST_REFUSALS { MOST_REFUSALS } else { 0 };
        destination.failing_since = 0;
        destination.slow = false;
        destination.last_error.clear();
        if known_failure {
            tracing::info!(server = %name, "a server is reached again");
            e2ee::remote::servers_reached(node, |server| server == name);
        } else if transaction.droppable {
            return Next::GoOn;
        } else if !refused && transaction.is_positions_only() {
            acknowledged::note(node, name.as_str(), &transaction.rooms);
            return Next::GoOn;
        }
    }
    let to = name.to_string();
    match node.store.write(move |tx| queue::complete(tx, &to, &transaction, refused)).await {
        Ok(()) => Next::GoOn,
        Err(error) => failed(node, name, &error.to_string(), None),
    }
}

/// The attempt failed: the destination is left alone for a while.
fn failed(node: &Arc<Node>, name: &OwnedServerName, reason: &str, asks: Option<Duration>) -> Next {
    let now = node.clock.now_ms();
    let (first, wait) = {
        let mut state = node.federation.outgoing.lock();
        let destination: &mut Destination = state.entry(name.clone()).or_default();
        destination.failures = destination.failures.saturating_add(1);
        destination.away = true;
        destination.slow = true;
        destination.running = false;
        // What may be lost is not kept for later: it would be wrong by then.
        destination.ephemeral.clear();
        let first = destination.failing_since == 0;
        if first {
            destination.failing_since = now;
        }
        reason.clone_into(&mut destination.last_error);
        let wait = match std::mem::take(&mut destination.seen) {
            // It came while we failed to reach it: soon again.
            true => Duration::from_millis(20 + node.rng.below(80)),
            false => backoff::delay(destination.failures, asks, &node.rng),
        };
        destination.retry_at = Some(node.clock.monotonic() + wait);
        (first, wait)
    };
    if first {
        tracing::info!(server = %name, reason, "a server cannot be reached; what is for it waits");
        let (to, reason) = (name.to_string(), reason.to_owned());
        // Only for `kith status`; it need not be durable before we go on.
        drop(node.store.submit(move |tx| {
            let mut row = DESTINATIONS.get(tx, &to)?.unwrap_or_default().0;
            row.failing_since = now;
            row.last_error = reason;
            DESTINATIONS.put(tx, &to, &Json(row))?;
            queue::expire(tx, &to, now).map(drop)
        }));
    } else {
        tracing::debug!(server = %name, reason, ?wait, "a server still cannot be reached");
    }
    node.federation.outgoing.timer.notify_one();
    Next::Wait
}
