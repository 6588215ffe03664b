//! Thread subscriptions (MSC4306): which threads a user follows.

use serde::{Deserialize, Serialize};

use crate::{Json, Read, StoreError, Table, Touched, Tx};

/// `(user, room, thread root)` to the user's subscription, or that it was ended. Bound: [`MOST`] per user. Read by push rules and
/// sliding sync.
pub const THREAD_SUBSCRIPTIONS: Table<(String, u64, String), Json<ThreadSubscription>> =
    Table::new("thread_subscriptions");

/// `(user, stream position)` to the room and root of the thread whose subscription changed then. Bound: one row per subscription,
/// its latest change. Read by sliding sync.
pub const THREAD_SUBSCRIPTION_CHANGES: Table<(String, u64), Json<(u64, String)>> =
    Table::new("thread_subscription_changes");

/// Subscriptions of one user, ended ones among them.
pub const MOST: usize = 20_000;

/// A user's subscription to a thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadSubscription {
    /// The stream position of its latest change.
    pub position: u64,
    /// Whether a client made it by itself; none: it was ended.
    pub automatic: Option<bool>,
}

/// A user's subscription to a thread, ended or not.
///
/// # Errors
/// As all reads.
pub fn get(read: &dyn Read, user: &str, room: u64, root: &str) -> Result<Option<ThreadSubscription>, StoreError> {
    Ok(THREAD_SUBSCRIPTIONS.get(read, &(user.to_owned(), room, root.to_owned()))?.map(|row| row.0))
}

/// Sets or ends a subscription, and wakes the user; false if the user has too many.
///
/// # Errors
/// As all writes.
pub fn set(tx: &mut Tx, user: &str, room: u64, root: &str, automatic: Option<bool>) -> Result<bool, StoreError> {
    let key = (user.to_owned(), room, root.to_owned());
    match THREAD_SUBSCRIPTIONS.get(tx, &key)? {
        Some(Json(old)) => {
            THREAD_SUBSCRIPTION_CHANGES.delete(tx, &(key.0.clone(), old.position))?;
        }
        None if THREAD_SUBSCRIPTION_CHANGES.prefix(tx, &key.0)?.count() >= MOST => return Ok(false),
        None => {}
    }
    let position = tx.next_position();
    THREAD_SUBSCRIPTION_CHANGES.put(tx, &(key.0.clone(), position), &Json((room, key.2.clone())))?;
    THREAD_SUBSCRIPTIONS.put(tx, &key, &Json(ThreadSubscription { position, automatic }))?;
    tx.touch(Touched::User(key.0));
    Ok(true)
}

/// Whether the user ever had a subscription.
///
/// # Errors
/// As all reads.
pub fn any(read: &dyn Read, user: &str) -> Result<bool, StoreError> {
    Ok(THREAD_SUBSCRIPTION_CHANGES.prefix(read, &user.to_owned())?.next().transpose()?.is_some())
}

/// The stream position of the latest change of a user's subscriptions; 0: there never was one.
///
/// # Errors
/// As all reads.
pub fn changed_at(read: &dyn Read, user: &str) -> Result<u64, StoreError> {
    let last = THREAD_SUBSCRIPTION_CHANGES.prefix_rev(read, &user.to_owned())?.next().transpose()?;
    Ok(last.map_or(0, |((_, position), _)| position))
}

/// Deletes all subscriptions of a user, for erasure.
///
/// # Errors
/// As all writes.
pub fn delete_all(tx: &mut Tx, user: &str) -> Result<(), StoreError> {
    let user = user.to_owned();
    let rows: Vec<_> = THREAD_SUBSCRIPTIONS.prefix(tx, &user)?.collect::<Result<_, _>>()?;
    for (key, Json(row)) in rows {
        THREAD_SUBSCRIPTION_CHANGES.delete(tx, &(key.0.clone(), row.position))?;
        THREAD_SUBSCRIPTIONS.delete(tx, &key)?;
    }
    Ok(())
}
