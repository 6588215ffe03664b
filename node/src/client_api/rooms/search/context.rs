//! The events around a result of a search, and who sent them.

use std::collections::BTreeMap;

use kith_store::{Read, StoreError};
use ruma::{
    OwnedUserId,
    api::{
        Direction,
        client::search::search_events::v3::{EventContext, EventContextResult, UserProfile},
    },
};
use serde_json::Value;

use crate::{
    http::Answer,
    rooms::{
        client_event::Showing,
        read::{self, StoredEvent},
        timeline::{self, Place},
        visibility::Eyes,
    },
};

/// The most events before, and after, a result.
const MOST: usize = 50;

/// What stands around an event.
pub(super) fn around(
    read: &dyn Read,
    eyes: &Eyes<'_>,
    showing: &Showing<'_>,
    event: &StoredEvent,
    wish: &EventContext,
) -> Answer<EventContextResult> {
    let side = |direction, from, limit: ruma::UInt| {
        let limit = usize::try_from(u64::from(limit)).unwrap_or(MOST).min(MOST);
        timeline::page(read, event.row.room, direction, from, None, limit, |event| eyes.sees(event))
    };
    let before = side(Direction::Backward, Place::before(event), wish.before_limit)?;
    let after = side(Direction::Forward, Place::after(event), wish.after_limit)?;
    let mut context = EventContextResult::new();
    context.start = Some(before.end.to_string());
    context.end = Some(after.end.to_string());
    context.events_before = showing.raws(&before.events)?;
    context.events_after = showing.raws(&after.events)?;
    if wish.include_profile {
        let senders = before.events.iter().chain(&after.events).chain([event]).map(StoredEvent::sender);
        context.profile_info = profiles(read, event, senders)?;
    }
    Ok(context)
}

/// The names and pictures that these users had in the room at an event.
fn profiles<'a>(
    read: &dyn Read,
    event: &StoredEvent,
    users: impl Iterator<Item = &'a str>,
) -> Result<BTreeMap<OwnedUserId, UserProfile>, StoreError> {
    let mut profiles = BTreeMap::new();
    for user in users {
        let Ok(id) = OwnedUserId::try_from(user) else { continue };
        if profiles.contains_key(&id) {
            continue;
        }
        let Some(member) = read::state_event_at(read, event.row.state_after, "m.room.member", user)? else { continue };
        let text = |field: &str| member.content().get(field).and_then(Value::as_str).map(str::to_owned);
        let mut profile = UserProfile::new();
        profile.displayname = text("displayname");
        profile.avatar_url = text("avatar_url").map(Into::into);
        profiles.insert(id, profile);
    }
    Ok(profiles)
}
