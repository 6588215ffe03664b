//! Thread subscriptions as clients are told of their changes (MSC4308).

use std::collections::BTreeMap;

use kith_store::{
    Json, Read,
    tables::threads::{self, THREAD_SUBSCRIPTION_CHANGES},
};
use ruma::OwnedRoomId;
use serde::Serialize;

use crate::{
    http::{Answer, MatrixError},
    rooms::read,
};

/// How many changes are given at once.
const MOST_AT_ONCE: usize = 100;

/// Changes, the latest of some.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Changes {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) subscribed: BTreeMap<OwnedRoomId, BTreeMap<String, Subscribed>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) unsubscribed: BTreeMap<OwnedRoomId, BTreeMap<String, Unsubscribed>>,
    /// Where to go on to those before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prev_batch: Option<String>,
    /// The same, where the changes are a page.
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<String>,
}

impl Changes {
    /// As a page of `/thread_subscriptions`.
    pub(crate) fn paged(self) -> Self {
        Self { end: self.prev_batch, prev_batch: None, ..self }
    }
}

/// A thread that is followed.
#[derive(Debug, Serialize)]
pub(crate) struct Subscribed {
    automatic: bool,
    bump_stamp: u64,
}

/// A thread that is not followed any more.
#[derive(Debug, Serialize)]
pub(crate) struct Unsubscribed {
    bump_stamp: u64,
}

/// The latest changes of a user's subscriptions after `since` and up to `upto`; none if there are none. Who knows nothing (`since`
/// 0) need not be told what ended.
pub(crate) fn latest(read: &dyn Read, user: &str, since: u64, upto: u64, limit: u64) -> Answer<Option<Changes>> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX).clamp(1, MOST_AT_ONCE);
    let mut changes = Changes::default();
    let (mut count, mut oldest) = (0, upto);
    let bounds = (user.to_owned(), since.saturating_add(1))..=(user.to_owned(), upto);
    if since >= upto {
        return Ok(None);
    }
    for row in THREAD_SUBSCRIPTION_CHANGES.range(read, bounds)?.rev() {
        let ((_, position), Json((room, root))) = row?;
        let Some(subscription) = threads::get(read, user, room, &root)? else { continue };
        if since == 0 && subscription.automatic.is_none() {
            continue;
        }
        if count >= limit {
            changes.prev_batch = Some(format!("s{}", oldest.saturating_sub(1)));
            break;
        }
        let Some(row) = read::room(read, room)? else { continue };
        let Ok(room_id) = OwnedRoomId::try_from(row.room_id) else { continue };
        (count, oldest) = (count + 1, position);
        match subscription.automatic {
            Some(automatic) => {
                let subscribed = Subscribed { automatic, bump_stamp: position };
                changes.subscribed.entry(room_id).or_default().insert(root, subscribed);
            }
            None => {
                let unsubscribed = Unsubscribed { bump_stamp: position };
                changes.unsubscribed.entry(room_id).or_default().insert(root, unsubscribed);
            }
        }
    }
    Ok((count > 0).then_some(changes))
}

/// The stream position in a token of sync or of these changes.
///
/// # Errors
/// `M_INVALID_PARAM` when it is no token of ours.
pub(crate) fn position_of(token: &str) -> Answer<u64> {
    let wrong = || MatrixError::invalid_param("this is no token of this server");
    let digits = token.strip_prefix('s').ok_or_else(wrong)?.split('_').next().unwrap_or_default();
    digits.parse().map_err(|_| wrong())
}
