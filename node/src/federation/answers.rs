//! Answers kept for requests that may come twice.
//!
//! The network loses answers, and then the other server asks again. What such a repetition must not do a second time
//! (claim another one-time key, ring a second time for an invite) is answered from here, from the disk: invites are known by
//! their event, `keys/claim` by an ID that kith nodes put in (their signature would not do: two claims that want
//! the same are two). Transactions are known by their ID, in memory, because everything in them is idempotent by itself:
//! events by their ID, to-device messages by [`first_time`], the other EDUs by nature.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use kith_store::{
    Counter, Json, StoreError, Tx,
    tables::federation::{ANSWERS, ANSWERS_BY_AGE, ANSWERS_OF, AnswerRow, MESSAGES_OF, MESSAGES_SEEN},
};
use ruma::{OwnedServerName, ServerName};
use serde_json::Value;

use super::stats::Stats;
use crate::{Node, http::Answer};

/// Answers kept on disk: for one origin, and in all.
const STORED_PER_ORIGIN: usize = 64;
const STORED_IN_ALL: u64 = 20_000;
/// How long an answer is kept on disk, in milliseconds.
const STORED_FOR: u64 = 24 * 3_600_000;
/// Transactions remembered: for one origin, and in all.
const REMEMBERED_PER_ORIGIN: usize = 32;
const REMEMBERED_IN_ALL: usize = 4_096;
/// IDs of to-device messages remembered for one origin.
const MESSAGES_PER_ORIGIN: usize = 2_000;

/// Held while a request is being answered.
type Running = Weak<tokio::sync::Mutex<()>>;
type Remembered = BTreeMap<OwnedServerName, VecDeque<(String, Arc<Value>)>>;

/// Answers given, and requests that are being answered.
#[derive(Debug, Default)]
pub struct Answers {
    running: Mutex<BTreeMap<(OwnedServerName, String), Running>>,
    transactions: Mutex<Remembered>,
}

impl Answers {
    /// Answers transaction `id` of `origin` once: repetitions, and copies that come while the first is being worked on, get
    /// its answer. A failure is not kept. Those of one origin are worked on one after the other, as it should send them: no server
    /// takes more than one server's share of what is done for all.
    ///
    /// # Errors
    /// Those of `make`.
    pub async fn transaction(
        &self,
        stats: &Stats,
        origin: &ServerName,
        id: &str,
        make: impl Future<Output = Answer<Value>>,
    ) -> Answer<Arc<Value>> {
        let running = self.running(origin, "txn".to_owned());
        let _alone = running.lock().await;
        if let Some(answer) = self.remembered(origin, id) {
            stats.transactions_repeated.add();
            return Ok(answer);
        }
        let answer = Arc::new(make.await?);
        self.remember(origin, id, answer.clone());
        Ok(answer)
    }

    /// Answers the request that `origin` calls `name` once, across restarts. A failure is not kept.
    ///
    /// # Errors
    /// Those of `make`, or the store's.
    pub async fn once(
        &self,
        node: &Arc<Node>,
        origin: &ServerName,
        name: &str,
        make: impl Future<Output = Answer<Value>>,
    ) -> Answer<Value> {
        let request = format!("req:{name}");
        let running = self.running(origin, request.clone());
        let _alone = running.lock().await;
        let key = (origin.to_string(), request);
        let now = node.clock.now_ms();
        if let Some(Json(row)) = node.store.read(|read| ANSWERS.get(read, &key))?
            && now.saturating_sub(row.at) < STORED_FOR
        {
            return Ok(row.body);
        }
        let body = make.await?;
        let stored = body.clone();
        node.store.write(move |tx| keep(tx, key, now, stored)).await?;
        Ok(body)
    }

    /// As [`Answers::once`], for what is done in one change: the answer is kept in the same.
    ///
    /// # Errors
    /// Those of `make`, or the store's.
    pub async fn once_in_change(
        &self,
        node: &Arc<Node>,
        origin: &ServerName,
        name: &str,
        make: impl FnOnce(&mut Tx) -> Answer<Value> + Send + 'static,
    ) -> Answer<Value> {
        let request = format!("req:{name}");
        let running = self.running(origin, request.clone());
        let _alone = running.lock().await;
        let key = (origin.to_string(), request);
        let now = node.clock.now_ms();
        node.store
            .write(move |tx| {
                if let Some(Json(row)) = ANSWERS.get(tx, &key)?
                    && now.saturating_sub(row.at) < STORED_FOR
                {
                    return Ok(row.body);
                }
                let body = make(tx)?;
                keep(tx, key, now, body.clone())?;
                Ok(body)
            })
            .await
    }

    fn running(&self, origin: &ServerName, request: String) -> Arc<tokio::sync::Mutex<()>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, lock| lock.strong_count() > 0);
        let place = running.entry((origin.to_owned(), request)).or_default();
        place.upgrade().unwrap_or_else(|| {
            let lock = Arc::default();
            *place = Arc::downgrade(&lock);
            lock
        })
    }

    fn remembered(&self, origin: &ServerName, id: &str) -> Option<Arc<Value>> {
        let transactions = self.transactions.lock().unwrap_or_else(PoisonError::into_inner);
        transactions.get(origin)?.iter().find(|(known, _)| known == id).map(|(_, answer)| answer.clone())
    }

    fn remember(&self, origin: &ServerName, id: &str, answer: Arc<Value>) {
        let mut transactions = self.transactions.lock().unwrap_or_else(PoisonError::into_inner);
        let of_origin = transactions.entry(origin.to_owned()).or_default();
        of_origin.push_back((id.to_owned(), answer));
        if of_origin.len() > REMEMBERED_PER_ORIGIN {
            of_origin.pop_front();
        }
        let mut kept: usize = transactions.values().map(VecDeque::len).sum();
        while kept > REMEMBERED_IN_ALL {
            // Origins with most to remember give first.
            let Some(longest) = transactions.values_mut().max_by_key(|answers| answers.len()) else { break };
            longest.pop_front();
            kept -= 1;
        }
        transactions.retain(|_, answers| !answers.is_empty());
    }
}

fn keep(tx: &mut Tx, key: (String, String), now: u64, body: Value) -> Result<(), StoreError> {
    let row = tx.allocate(Counter::Row);
    if let Some(Json(old)) = ANSWERS.get(tx, &key)? {
        forget(tx, old.row)?;
    }
    ANSWERS.put(tx, &key, &Json(AnswerRow { row, at: now, body }))?;
    ANSWERS_OF.put(tx, &(key.0.clone(), row), &key.1)?;
    ANSWERS_BY_AGE.put(tx, &row, &Json(key.clone()))?;
    let of_origin: Vec<u64> =
        ANSWERS_OF.prefix(tx, &key.0)?.map(|row| row.map(|((_, row), _)| row)).collect::<Result<_, _>>()?;
    for row in of_origin.iter().take(of_origin.len().saturating_sub(STORED_PER_ORIGIN)) {
        forget(tx, *row)?;
    }
    // At most two of the oldest go with each that comes, so that no change is long.
    let oldest: Vec<(u64, (String, String))> = ANSWERS_BY_AGE
        .range(tx, ..)?
        .take(2)
        .map(|row| row.map(|(row, Json(key))| (row, key)))
        .collect::<Result<_, _>>()?;
    for (old, key) in oldest {
        let at = ANSWERS.get(tx, &key)?.map_or(0, |row| row.0.at);
        // Row numbers are shared with other tables, so their distance is an upper bound of how many answers lie between.
        if now.saturating_sub(at) > STORED_FOR || row - old > 64 * STORED_IN_ALL {
            forget(tx, old)?;
        }
    }
    Ok(())
}

fn forget(tx: &mut Tx, row: u64) -> Result<(), StoreError> {
    if let Some(Json(key)) = ANSWERS_BY_AGE.get(tx, &row)? {
        ANSWERS_BY_AGE.delete(tx, &row)?;
        ANSWERS_OF.delete(tx, &(key.0.clone(), row))?;
        if ANSWERS.get(tx, &key)?.is_some_and(|answer| answer.0.row == row) {
            ANSWERS.delete(tx, &key)?;
        }
    }
    Ok(())
}

/// Notes in the change that delivers it that a to-device message of `origin` was taken; false when it was before. Call it in the
/// same change that stores the message, and store nothing when it is false.
///
/// # Errors
/// The store's.
pub fn first_time(tx: &mut Tx, origin: &ServerName, message_id: &str) -> Result<bool, StoreError> {
    let key = (origin.to_string(), message_id.chars().take(255).collect::<String>());
    if MESSAGES_SEEN.contains(tx, &key)? {
        return Ok(false);
    }
    let row = tx.allocate(Counter::Row);
    MESSAGES_SEEN.put(tx, &key, &row)?;
    MESSAGES_OF.put(tx, &(key.0.clone(), row), &key.1)?;
    // One goes for each that comes; the count is taken seldom.
    if kith_store::now_and_then(row) {
        let rows: Vec<((String, u64), String)> = MESSAGES_OF.prefix(tx, &key.0)?.collect::<Result<_, _>>()?;
        let too_many = rows.len().saturating_sub(MESSAGES_PER_ORIGIN);
        for (row, id) in rows.into_iter().take(too_many) {
            MESSAGES_SEEN.delete(tx, &(row.0.clone(), id))?;
            MESSAGES_OF.delete(tx, &row)?;
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use kith_store::Read;
    use ruma::server_name;
    use serde_json::json;

    use super::*;
    use crate::{http::MatrixError, testing::TestNode};

    #[tokio::test]
    async fn a_transaction_is_worked_on_once_also_when_its_copy_comes_meanwhile() {
        let (answers, stats) = (Answers::default(), Stats::default());
        let worked = AtomicU32::new(0);
        let origin = server_name!("example.org");
        let work = || async {
            tokio::task::yield_now().await;
            worked.fetch_add(1, Ordering::Relaxed);
            Ok(json!({"pdus": {}}))
        };
        let (one, two) = tokio::join!(
            answers.transaction(&stats, origin, "t", work()),
            answers.transaction(&stats, origin, "t", work())
        );
        assert_eq!(one.unwrap(), two.unwrap());
        answers.transaction(&stats, origin, "t", work()).await.unwrap();
        assert_eq!((worked.load(Ordering::Relaxed), stats.transactions_repeated.get()), (1, 2));
        answers.transaction(&stats, server_name!("other.org"), "t", work()).await.unwrap();
        assert_eq!(worked.load(Ordering::Relaxed), 2);
        let failed = answers.transaction(&stats, origin, "u", async { Err(MatrixError::internal("disk")) }).await;
        assert!(failed.is_err());
        answers.transaction(&stats, origin, "u", work()).await.unwrap();
        assert_eq!(worked.load(Ordering::Relaxed), 3, "a failure is tried again");
    }

    #[tokio::test]
    async fn answers_outlive_a_restart_and_are_bounded() {
        let node = TestNode::start().await;
        let origin = server_name!("example.org");
        let ask = async |node: &TestNode, name: &str, fresh: &str| {
            let made = json!(fresh);
            let federation = &node.node().federation;
            federation.answers.once(node.node(), origin, name, async { Ok(made) }).await.unwrap()
        };
        assert_eq!(ask(&node, "s", "first").await, "first");
        assert_eq!(ask(&node, "s", "second").await, "first");
        let backend = node.backend.clone();
        node.handle.stop().await;
        let node = TestNode::start_on(backend, |_| {}).await;
        assert_eq!(ask(&node, "s", "second").await, "first");
        for number in 0..STORED_PER_ORIGIN {
            ask(&node, &number.to_string(), "x").await;
        }
        assert_eq!(ask(&node, "s", "second").await, "second", "the oldest was forgotten");
        let rows = |read: &dyn Read| ANSWERS.range(read, ..).unwrap().count();
        let count = node.node().store.read(|read| Ok::<_, StoreError>(rows(read))).unwrap();
        assert_eq!(count, STORED_PER_ORIGIN);
        node.clock.advance(std::time::Duration::from_millis(STORED_FOR + 1));
        assert_eq!(ask(&node, "s", "third").await, "third", "it expired");
    }

    #[tokio::test]
    async fn a_device_message_is_taken_once() {
        let node = TestNode::start().await;
        let first = async |origin: &'static str, id: &'static str| {
            let origin = OwnedServerName::try_from(origin).unwrap();
            node.node().store.write(move |tx| first_time(tx, &origin, id)).await.unwrap()
        };
        assert!(first("a.org", "1").await);
        assert!(!first("a.org", "1").await);
        assert!(first("b.org", "1").await);
        assert!(first("a.org", "2").await);
    }
}
