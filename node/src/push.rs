//! Pushers: telling the push gateways that users set what is new (push gateway specification; client-server
//! specification, "Push Notifications").
//!
//! There is no queue on disk. A pusher keeps the stream position up to which its gateway was told (in its row), and what lies
//! after it in its user's rooms is looked through when something happens there: what the push rules notify of, what
//! the user sees and has not read. So nothing is lost over a restart, what was read meanwhile is not sent, and a gateway that was
//! away for long gets the latest 50 only. One task per pusher that has something to do, 16 at a
//! time; a gateway that fails is left alone for a second, doubling to ten minutes.
//!
//! Gateways learn what the pusher's format says: with `event_id_only` neither who wrote nor what. Neither pushkeys nor URLs are logged.

mod due;
mod message;
mod queue;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, header};
use kith_store::{
    Committed, Json, StoreError, Touched,
    tables::accounts::{PUSHERS, PusherRow},
};
use ruma::OwnedUserId;
use serde_json::Value;
use tokio::sync::Notify;

use self::{
    due::Due,
    queue::{Key, Outcome, Queue},
};
use crate::{
    Node,
    http::Answer,
    platform::timeout,
    web::{Longer, Reach},
};

/// How long a gateway may take for its answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer that is read.
const LONGEST_ANSWER: usize = 64 << 10;
/// A gateway that failed for so long is told of the latest event only.
const OLD_MS: u64 = 24 * 60 * 60 * 1000;
/// How far the position on disk may lie behind what was looked through.
const MOST_BEHIND: u64 = 200;
/// How often a badge is counted anew while nothing else is to be told.
const BADGE_EVERY: Duration = Duration::from_secs(2);

/// What is kept in memory for pushers.
#[derive(Debug, Default)]
pub struct Push {
    queue: Queue,
    bell: Notify,
}

impl Push {
    /// A commit may have brought something for those users who have pushers.
    pub fn committed(&self, committed: &Committed) {
        let mut rings = false;
        for touched in &committed.touched {
            if let Touched::User(user) = touched {
                rings |= self.queue.touch(user);
            }
        }
        if rings {
            self.bell.notify_one();
        }
    }

    /// A pusher was set: it is looked after from now on.
    pub fn watch(&self, user: &str, app_id: &str, pushkey: &str) {
        self.queue.watch((user.to_owned(), app_id.to_owned(), pushkey.to_owned()));
        self.bell.notify_one();
    }
}

/// Takes up all pushers that there are, and runs what is due.
pub async fn run(node: Arc<Node>) {
    let all: Result<Vec<Key>, StoreError> =
        node.store.read(|read| PUSHERS.range(read, ..)?.map(|row| row.map(|(key, _)| key)).collect());
    match all {
        Ok(all) => all.into_iter().for_each(|key| node.push.queue.watch(key)),
        Err(error) => tracing::warn!(%error, "pushers could not be read: nothing is pushed until they are set again"),
    }
    loop {
        let now = node.clock.monotonic();
        while let Some(key) = node.push.queue.take(now) {
            let worker = node.clone();
            node.spawner.spawn(
                "push",
                Box::pin(async move {
                    let outcome = work(&worker, &key).await.unwrap_or_else(|error| {
                        tracing::warn!(%error, "a pusher could not be worked on");
                        Outcome::Failed
                    });
                    worker.push.queue.done(key, outcome, worker.clock.monotonic(), &worker.rng);
                    worker.push.bell.notify_one();
                }),
            );
        }
        let rung = node.push.bell.notified();
        match node.push.queue.next_retry() {
            Some(at) => drop(timeout(&*node.clock, at.saturating_sub(now), rung).await),
            None => rung.await,
        }
    }
}

/// Tells a pusher's gateway all that is due.
async fn work(node: &Arc<Node>, key: &Key) -> Answer<Outcome> {
    let Some(Json(mut row)) = node.store.read(|read| PUSHERS.get(read, key))? else { return Ok(Outcome::Gone) };
    let Ok(user) = OwnedUserId::try_from(key.0.as_str()) else { return Ok(Outcome::Gone) };
    let upto = node.activity.position();
    if row.pushed == 0 {
        // From before positions were kept.
        return Ok(if note(node, key, &mut row, |row| row.pushed = upto).await? {
            Outcome::Done
        } else {
            Outcome::Gone
        });
    }
    let from = node.push.queue.looked(key).max(row.pushed);
    let mut dues = node.store.read(|read| due::collect(node, read, &user, from, upto))?;
    if row.failing_since != 0 && node.clock.now_ms().saturating_sub(row.failing_since) > OLD_MS {
        dues.drain(..dues.len().saturating_sub(1));
    }
    for due in &dues {
        let position = due.position;
        match tell(node, key, &row, &user, Some(due)).await? {
            Told::Yes(badge) => {
                let kept = note(node, key, &mut row, |row| {
                    (row.pushed, row.badge, row.failing_since) = (position, badge, 0);
                });
                if !kept.await? {
                    return Ok(Outcome::Again);
                }
            }
            Told::Rejected => return reject(node, key, row).await,
            Told::No => return failed(node, key, row).await,
        }
    }
    let mut again = Outcome::Done;
    if dues.is_empty() && row.badge > 0 {
        // The user may have read what the badge counts.
        if node.push.queue.may_count(key, node.clock.monotonic(), BADGE_EVERY) {
            if node.store.read(|read| due::badge(node, read, &user))? < row.badge {
                match tell(node, key, &row, &user, None).await? {
                    Told::Yes(badge) => {
                        note(node, key, &mut row, |row| (row.badge, row.failing_since) = (badge, 0)).await?;
                    }
                    Told::Rejected => return reject(node, key, row).await,
                    Told::No => return failed(node, key, row).await,
                }
            }
        } else {
            again = Outcome::Later(BADGE_EVERY);
        }
    }
    node.push.queue.note_looked(key, upto);
    if upto.saturating_sub(row.pushed) > MOST_BEHIND {
        note(node, key, &mut row, |row| row.pushed = upto).await?;
    }
    Ok(again)
}

/// Changes a pusher's row, unless it is gone or was set anew meanwhile; says whether it is still the same.
async fn note(
    node: &Arc<Node>,
    key: &Key,
    row: &mut PusherRow,
    change: impl FnOnce(&mut PusherRow),
) -> Result<bool, StoreError> {
    change(row);
    let (key, new) = (key.clone(), row.clone());
    node.store
        .write(move |tx| {
            let is_same = PUSHERS.get(tx, &key)?.is_some_and(|Json(now)| now.is_same(&new));
            if is_same {
                PUSHERS.put(tx, &key, &Json(new))?;
            }
            Ok(is_same)
        })
        .await
}

/// The gateway knows nothing of this pushkey: the app was removed.
async fn reject(node: &Arc<Node>, key: &Key, row: PusherRow) -> Answer<Outcome> {
    tracing::info!(app_id = key.1, "a push gateway rejected a pusher, which is removed");
    let key = key.clone();
    let gone = node
        .store
        .write(move |tx| {
            let is_same = PUSHERS.get(tx, &key)?.is_some_and(|Json(now)| now.is_same(&row));
            if is_same {
                PUSHERS.delete(tx, &key)?;
            }
            Ok::<_, StoreError>(is_same)
        })
        .await?;
    Ok(if gone { Outcome::Gone } else { Outcome::Again })
}

async fn failed(node: &Arc<Node>, key: &Key, mut row: PusherRow) -> Answer<Outcome> {
    if row.failing_since == 0 {
        let now = node.clock.now_ms();
        note(node, key, &mut row, |row| row.failing_since = now).await?;
    }
    Ok(Outcome::Failed)
}

/// What became of a request to a gateway.
enum Told {
    /// It was taken, with this badge.
    Yes(u64),
    /// The gateway will have no more of this pushkey.
    Rejected,
    /// It was not taken.
    No,
}

async fn tell(node: &Arc<Node>, key: &Key, row: &PusherRow, user: &OwnedUserId, due: Option<&Due>) -> Answer<Told> {
    let (badge, body) = node.store.read(|read| {
        let badge = due::badge(node, read, user)?;
        Ok::<_, crate::http::MatrixError>((badge, message::body(read, row, user, due, badge)?))
    })?;
    let url = row.pusher.get("data").and_then(|data| data.get("url")).and_then(Value::as_str).unwrap_or_default();
    let request =
        Request::post(url).header(header::CONTENT_TYPE, "application/json").body(Bytes::from(body.to_string()));
    let Ok(request) = request else { return Ok(Told::Rejected) };
    let private = node.config.federation.allow_private_addresses;
    let reach = Reach { private, most: LONGEST_ANSWER, longer: Longer::Refuse };
    let answer = match timeout(&*node.clock, PATIENCE, node.web.call(request, reach)).await {
        Ok(Ok(answer)) if answer.status().is_success() => answer,
        Ok(Ok(answer)) => {
            tracing::debug!(app_id = key.1, status = answer.status().as_u16(), "a push gateway refuses a notification");
            return Ok(Told::No);
        }
        Ok(Err(error)) => {
            tracing::debug!(app_id = key.1, %error, "a push gateway cannot be reached");
            return Ok(Told::No);
        }
        Err(_) => {
            tracing::debug!(app_id = key.1, "a push gateway does not answer");
            return Ok(Told::No);
        }
    };
    let answer: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    let rejected = answer.get("rejected").and_then(Value::as_array).into_iter().flatten();
    Ok(if rejected.filter_map(Value::as_str).any(|rejected| rejected == key.2) {
        Told::Rejected
    } else {
        Told::Yes(badge)
    })
}
