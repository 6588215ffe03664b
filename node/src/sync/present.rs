//! Presence in a sync.

use std::{collections::BTreeMap, time::Duration};

use ruma::{OwnedUserId, api::client::filter::Filter, events::presence::PresenceEvent, serde::Raw};
use serde_json::{json, value::to_raw_value};

use crate::{ephemeral::presence::Seen, rooms::filter::matches};

/// The events for users whose presence changed, as the filter wants them.
pub(crate) fn events(users: BTreeMap<OwnedUserId, Seen>, now: Duration, filter: &Filter) -> Vec<Raw<PresenceEvent>> {
    let wanted = |user: &OwnedUserId| {
        filter.types.as_ref().is_none_or(|types| types.iter().any(|pattern| matches(pattern, "m.presence")))
            && !filter.not_types.iter().any(|pattern| matches(pattern, "m.presence"))
            && filter.senders.as_ref().is_none_or(|senders| senders.contains(user))
            && !filter.not_senders.contains(user)
    };
    users
        .into_iter()
        .filter(|(user, _)| wanted(user))
        .filter_map(|(user, seen)| {
            let idle = u64::try_from(seen.idle(now).as_millis()).unwrap_or(u64::MAX);
            let mut content = json!({
                "presence": seen.state,
                "last_active_ago": idle,
                "currently_active": seen.is_active(now),
            });
            if let Some(status) = &seen.status {
                content["status_msg"] = json!(status);
            }
            let event = json!({"type": "m.presence", "sender": user, "content": content});
            Some(Raw::from_json(to_raw_value(&event).ok()?))
        })
        .collect()
}
