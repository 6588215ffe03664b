//! Power levels of a room, read once from its state.
//!
//! <https://spec.matrix.org/v1.19/client-server-api/#mroompower_levels>; in room version 12 its creators stand above all
//! levels. Before version 10 levels may be written as strings, before version 6 as floats.

use std::{collections::BTreeSet, sync::Arc};

use ruma::{
    Int, OwnedUserId, UserId,
    events::{TimelineEventType, room::power_levels::UserPowerLevel},
    room_version_rules::AuthorizationRules,
    state_res::events::{RoomCreateEvent, RoomPowerLevelsEvent, RoomPowerLevelsIntField},
};

use serde_json::{Map, Value, value::RawValue};

use crate::{
    event::Event,
    numbers::{clamped, truncated},
};

/// The fields of the content that hold a level each.
const LEVELS: [&str; 7] = ["users_default", "events_default", "state_default", "ban", "redact", "kick", "invite"];
/// The fields that hold levels by name.
const LEVEL_MAPS: [&str; 3] = ["users", "events", "notifications"];

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

/// The content of a power levels event of a version before 10 with all levels as integers, or `None` if it is so already.
/// What is no level stays as it is, and is refused by the authorization rules.
///
/// Strings: <https://spec.matrix.org/v1.19/rooms/v9/#mroompower_levels-events-accept-values-as-strings>, floats:
/// <https://spec.matrix.org/v1.19/rooms/v5/#mroompower_levels-events-accept-values-as-floats>. Levels beyond ±(2^53 − 1) count
/// as these.
pub(crate) fn plain_levels(content: &RawValue) -> Option<Box<RawValue>> {
    let mut content: Map<String, Value> = serde_json::from_str(content.get()).ok()?;
    make_levels_plain(&mut content).then(|| serde_json::value::to_raw_value(&content).ok()).flatten()
}

/// Makes integers of levels in the content of a power levels event that are strings or floats, as versions before 10 and 6
/// allow them. Whether there were any.
pub fn make_levels_plain(content: &mut Map<String, Value>) -> bool {
    let mut changed = false;
    for (name, value) in content {
        if LEVELS.contains(&name.as_str()) {
            changed |= make_plain(value);
        } else if LEVEL_MAPS.contains(&name.as_str())
            && let Value::Object(levels) = value
        {
            levels.values_mut().for_each(|level| changed |= make_plain(level));
        }
    }
    changed
}

/// Makes an integer of a level. Whether there was anything to do.
fn make_plain(level: &mut Value) -> bool {
    let plain = match &*level {
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(integer), _, _) => clamped(integer),
            (None, Some(_), _) => Int::MAX,
            (None, None, Some(float)) => truncated(float),
            (None, None, None) => return false,
        },
        Value::String(text) => match level_of(text) {
            Some(level) => level,
            None => return false,
        },
        _ => return false,
    };
    let changed = level.as_i64() != Some(plain.into());
    *level = Value::from(i64::from(plain));
    changed
}

/// A level written as a string: decimal digits, with a sign and spaces around if one likes.
fn level_of(text: &str) -> Option<Int> {
    let text = text.trim();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let beyond = if text.starts_with('-') { Int::MIN } else { Int::MAX };
    Some(text.parse::<i64>().map_or(beyond, clamped))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_as_old_versions_write_them() {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).expect("JSON");
        let plain = |text: &str| plain_levels(&raw(text)).map(|content| content.get().to_owned());
        assert_eq!(plain(r#"{"ban":50,"users":{"@a:b":100},"other":"7"}"#), None);
        assert_eq!(
            plain(r#"{"ban":" +0050 ","kick":"-1","users":{"@a:b":50.57,"@c:d":-5.114698E4},"events":{"x":1e3}}"#),
            Some(r#"{"ban":50,"events":{"x":1000},"kick":-1,"users":{"@a:b":50,"@c:d":-51146}}"#.to_owned())
        );
        let greatest = i64::from(Int::MAX);
        assert_eq!(
            plain(
                r#"{"ban":"99999999999999999999","kick":18446744073709551615,"invite":1e300,"redact":-9007199254740993}"#
            ),
            Some(format!(r#"{{"ban":{greatest},"invite":{greatest},"kick":{greatest},"redact":-{greatest}}}"#))
        );
        for unreadable in ["\"50.5\"", "\"\"", "\"+-5\"", "\"1 0\"", "\"ten\"", "null", "[]", "true"] {
            assert_eq!(plain(&format!(r#"{{"ban":{unreadable}}}"#)), None, "{unreadable}");
        }
    }
}
