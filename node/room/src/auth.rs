//! Authorization: has the sender the right to do this, in this state?
//!
//! <https://spec.matrix.org/v1.19/rooms/v12/#authorization-rules> and its siblings, by ruma's implementation.

use std::sync::Arc;

use kith_mutants::mutant;
use ruma::{
    CanonicalJsonValue, EventId,
    events::{StateEventType, room::member::MembershipState},
    room_version_rules::RoomVersionRules,
    state_res::{auth_types_for_event, check_state_dependent_auth_rules, check_state_independent_auth_rules},
};

use crate::{
    event::{Event, KnownEvent},
    state::StateKey,
};

/// The event is not allowed; the text says why, for logs and for `M_FORBIDDEN`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AuthError(pub String);

/// What of the state an event's `auth_events` are chosen from.
///
/// <https://spec.matrix.org/v1.19/server-server-api/#auth-events-selection>
///
/// # Errors
///
/// The content of a membership event is malformed.
pub fn auth_types_for(event: &Event, rules: &RoomVersionRules) -> Result<Vec<StateKey>, AuthError> {
    auth_types_for_event(event.event_type(), event.sender(), event.state_key(), event.content(), &rules.authorization)
        .map(|types| types.iter().map(|(kind, key)| StateKey::of(kind, key)).collect())
        .map_err(AuthError)
}

/// The rules about the event and its list of auth events. `fetch` gives stored events with their fate.
///
/// # Errors
///
/// The event is to be rejected. An auth event that `fetch` does not know is an error too, so fetch them all beforehand.
pub fn check_state_independent(
    event: &Event,
    rules: &RoomVersionRules,
    fetch: impl Fn(&EventId) -> Option<KnownEvent>,
) -> Result<(), AuthError> {
    check_state_independent_auth_rules(&rules.authorization, event, fetch).map_err(AuthError)
}

/// The rules that look at a state: that of the event's auth events, that before the event, or the room's current one.
///
/// # Errors
///
/// That state does not allow the event.
pub fn check_auth(
    event: &Event,
    rules: &RoomVersionRules,
    state: impl Fn(&StateKey) -> Option<Arc<Event>>,
) -> Result<(), AuthError> {
    if mutant!("skips-auth") {
        return Ok(());
    }
    // ruma takes `null` for no third-party invite. The rules ask whether the property is there, and then for what it holds.
    if event.membership() == Some(MembershipState::Invite)
        && event.content_object().get("third_party_invite") == Some(&CanonicalJsonValue::Null)
    {
        return Err(AuthError("`third_party_invite` is `null`, which has no `signed`".to_owned()));
    }
    check_state_dependent_auth_rules(&rules.authorization, event, |kind: &StateEventType, key: &str| {
        state(&StateKey::of(kind, key))
    })
    .map_err(AuthError)
}
