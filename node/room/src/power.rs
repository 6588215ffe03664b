//! Power levels of a room, read once from its state.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#mroompower_levels>; in room version 12 its creators stand above all
//! levels.

use std::{collections::BTreeSet, sync::Arc};

use ruma::{
    Int, OwnedUserId, UserId,
    events::{TimelineEventType, room::power_levels::UserPowerLevel},
    room_version_rules::AuthorizationRules,
    state_res::events::{RoomCreateEvent, RoomPowerLevelsEvent, RoomPowerLevelsIntField},
};

use crate::event::Event;

/// The power levels that hold in one state.
#[derive(Debug, Clone)]
pub struct PowerLevels {
    rules: AuthorizationRules,
    creators: BTreeSet<OwnedUserId>,
    event: Option<RoomPowerLevelsEvent<Arc<Event>>>,
}

impl PowerLevels {
    /// Reads them from the create event and the power levels event of a state.
    ///
    /// # Errors
    ///
    /// The create event names its creators in no valid way.
    pub fn new(create: &Arc<Event>, levels: Option<&Arc<Event>>, rules: &AuthorizationRules) -> Result<Self, String> {
        Ok(Self {
            rules: rules.clone(),
            creators: RoomCreateEvent::new(create.clone()).creators(rules)?.into_iter().collect(),
            event: levels.cloned().map(RoomPowerLevelsEvent::new),
        })
    }

    /// The creators of the room.
    pub fn creators(&self) -> &BTreeSet<OwnedUserId> {
        &self.creators
    }

    /// The level of a user.
    pub fn user(&self, user: &UserId) -> UserPowerLevel {
        let is_creator = self.creators.contains(user);
        if is_creator && self.rules.explicitly_privilege_room_creators {
            return UserPowerLevel::Infinite;
        }
        match &self.event {
            Some(event) => event.user_power_level(user, &self.rules).unwrap_or_default().into(),
            None => Int::from(if is_creator { 100 } else { 0 }).into(),
        }
    }

    /// The level needed to send a state event or message event of this type.
    pub fn to_send(&self, kind: &str, is_state: bool) -> Int {
        let kind = TimelineEventType::from(kind);
        let default =
            if is_state { RoomPowerLevelsIntField::StateDefault } else { RoomPowerLevelsIntField::EventsDefault };
        match &self.event {
            Some(event) => event
                .event_power_level(&kind, is_state.then_some(""), &self.rules)
                .unwrap_or_else(|_| default.default_value()),
            None => default.default_value(),
        }
    }

    /// The level needed to invite.
    pub fn invite(&self) -> Int {
        self.field(RoomPowerLevelsIntField::Invite)
    }

    /// The level needed to kick.
    pub fn kick(&self) -> Int {
        self.field(RoomPowerLevelsIntField::Kick)
    }

    /// The level needed to ban.
    pub fn ban(&self) -> Int {
        self.field(RoomPowerLevelsIntField::Ban)
    }

    /// The level needed to redact what others sent.
    pub fn redact(&self) -> Int {
        self.field(RoomPowerLevelsIntField::Redact)
    }

    /// The level needed to trigger a notification for this key (such as `room`), 50 unless set.
    pub fn notification(&self, key: &str) -> Int {
        self.event
            .as_ref()
            .and_then(|event| event.notifications(&self.rules).ok().flatten())
            .and_then(|levels| levels.get(key).copied())
            .unwrap_or(Int::from(50))
    }

    fn field(&self, field: RoomPowerLevelsIntField) -> Int {
        self.event
            .as_ref()
            .and_then(|event| event.get_as_int_or_default(field, &self.rules).ok())
            .unwrap_or_else(|| field.default_value())
    }
}
