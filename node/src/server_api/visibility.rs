//! Which events another server may see: <https://spec.matrix.org/v1.19/server-server-api/#retrieving-events>, with the rules of
//! history visibility.

use std::cell::OnceCell;

use kith_mutants::mutant;
use kith_room::{Event, redact::redact, visibility};
use kith_store::{
    Read,
    tables::rooms::{EventStatus, MEMBERS, ROOM_SERVERS},
};
use ruma::{
    OwnedEventId, ServerName,
    events::room::{history_visibility::HistoryVisibility, member::MembershipState},
};
use serde_json::value::RawValue;

use crate::{
    federation::pdus,
    http::{Answer, MatrixError},
    rooms::{Room, read, read::StoredEvent},
};

/// The event as the engine knows it.
pub(super) fn parse(room: &Room, event: &StoredEvent) -> Answer<Event> {
    let id = OwnedEventId::try_from(event.row.event_id.as_str()).map_err(MatrixError::internal)?;
    Event::from_stored(event.row.json.as_str(), id, room.rules()).map_err(MatrixError::internal)
}

/// What one server may see of one room, over one snapshot. It remembers what it looked up, so use one for many events.
pub(super) struct Eyes<'a> {
    snapshot: &'a dyn Read,
    room: &'a Room,
    server: &'a ServerName,
    /// Whether it has a joined user now.
    is_in: bool,
    /// Its users with any part in the room, once they are asked for: that takes a look at all members.
    users: OnceCell<Vec<String>>,
    /// The latest stream position at which one of them joined.
    latest_join: OnceCell<u64>,
}

impl<'a> Eyes<'a> {
    pub(super) fn new(snapshot: &'a dyn Read, room: &'a Room, server: &'a ServerName) -> Answer<Self> {
        let is_in = ROOM_SERVERS.contains(snapshot, &(room.number(), server.to_string()))?;
        Ok(Self { snapshot, room, server, is_in, users: OnceCell::new(), latest_join: OnceCell::new() })
    }

    fn users(&self) -> Answer<&[String]> {
        if let Some(users) = self.users.get() {
            return Ok(users);
        }
        let mut users = Vec::new();
        for row in MEMBERS.prefix(self.snapshot, &self.room.number())? {
            let ((_, _, user), _) = row?;
            if user.split_once(':').is_some_and(|(_, of)| of == self.server.as_str()) {
                users.push(user);
            }
        }
        Ok(self.users.get_or_init(|| users))
    }

    /// Whether one of its users is in the room now, or joined it after the event came.
    fn joined_since(&self, event: &StoredEvent) -> Answer<bool> {
        // What has no position was fetched as history: nothing says on which side of a stay that is over it lies.
        if self.is_in || event.row.position == 0 {
            return Ok(self.is_in);
        }
        if let Some(latest) = self.latest_join.get() {
            return Ok(event.row.position < *latest);
        }
        let mut latest = 0;
        for user in self.users()? {
            let part = read::user_room(self.snapshot, user, self.room.number())?;
            latest = part.map_or(0, |part| part.joined_at).max(latest);
        }
        Ok(event.row.position < *self.latest_join.get_or_init(|| latest))
    }
}

/// Whether any user of the server may see the event.
pub(super) fn may_see(eyes: &Eyes<'_>, event: &StoredEvent) -> Answer<bool> {
    let Eyes { snapshot, room, is_in, .. } = *eyes;
    if mutant!("shows-to-strangers") {
        return Ok(true);
    }
    if event.row.status == EventStatus::Outlier {
        // Of state and auth events without a place in the graph, members may see all.
        return Ok(is_in);
    }
    let parsed = parse(room, event)?;
    let at = event.row.state_before;
    let setting = read::state_event_at(snapshot, at, "m.room.history_visibility", "")?
        .map(|setting| parse(room, &setting))
        .transpose()?;
    let open = setting.as_ref().map_or(HistoryVisibility::Shared, visibility::visibility_of);
    let joined_since = eyes.joined_since(event)?;
    if open == HistoryVisibility::WorldReadable || (open == HistoryVisibility::Shared && joined_since) {
        return Ok(true);
    }
    let mut memberships = Vec::new();
    for user in eyes.users()? {
        let member = read::state_event_at(snapshot, at, "m.room.member", user)?;
        let before = member.as_ref().and_then(|member| member.content().get("membership")?.as_str());
        memberships.extend(before.map(MembershipState::from));
        if parsed.is_state("m.room.member", user) {
            memberships.extend(parsed.membership());
        }
    }
    Ok(visibility::server_may_see(&parsed, setting.as_ref(), &memberships, joined_since))
}

/// The event for the server: as it is, or without what it must not see.
pub(super) fn shown(eyes: &Eyes<'_>, event: &StoredEvent) -> Answer<Box<RawValue>> {
    if may_see(eyes, event)? {
        return pdus::raw(&event.row.json);
    }
    let redacted = redact(&parse(eyes.room, event)?, eyes.room.rules()).map_err(MatrixError::internal)?;
    pdus::raw(redacted.text())
}
