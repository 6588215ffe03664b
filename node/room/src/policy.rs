//! Policy servers: a room can name a server that signs the events it recommends; what lacks its signature is soft-failed.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#policy-servers>. Asking the server for its signature is the node's work.

use ruma::{
    CanonicalJsonValue, OwnedServerName, ServerName, UserId,
    events::room::member::MembershipState,
    room_version_rules::RoomVersionRules,
    serde::{Base64, base64::Standard},
};
use serde::Deserialize;

use crate::{
    build::BuildError,
    event::Event,
    format::check_format,
    signature,
    source::Memo,
    state::{StateKey, StateMap},
};

/// The ID of every policy server's key.
const KEY_ID: &str = "ed25519:policy_server";

#[derive(Deserialize)]
struct Policy {
    via: String,
    public_keys: Keys,
}

#[derive(Deserialize)]
struct Keys {
    ed25519: String,
}

/// The policy server that `current`, the room's current state, names, if the event lacks its signature or has a false one.
pub(crate) fn lacks_signature_of(
    event: &Event,
    rules: &RoomVersionRules,
    current: &StateMap,
    memo: &Memo<'_>,
) -> Option<OwnedServerName> {
    let policy = current.get(&StateKey::new("m.room.policy", "")).and_then(|id| memo.event(id))?;
    let policy: Policy = policy.content_as().ok()?;
    if event.is_state("m.room.policy", "") || !has_member(&policy.via, current, memo) {
        return None;
    }
    if is_signed(event, rules, &policy) { None } else { OwnedServerName::try_from(policy.via).ok() }
}

/// Why an event is soft-failed that lacks the signature of a policy server.
pub(crate) fn reason(server: &ServerName) -> String {
    format!("{server}, the room's policy server, did not sign it")
}

/// The event with the signature of a policy server, as that gave it. Whether it holds shows when the event is judged.
///
/// # Errors
///
/// The signature would make the event too long.
pub fn with_signature(
    event: &Event,
    rules: &RoomVersionRules,
    server: &ServerName,
    signature: &str,
) -> Result<Event, BuildError> {
    let mut document = event.document()?;
    document.add_signature(server, KEY_ID, signature.to_owned())?;
    let text = document.to_text();
    check_format(&document, text.len(), rules).map_err(BuildError::Format)?;
    Ok(Event::from_checked(text, event.event_id().to_owned(), rules, event.redacted())?)
}

/// Whether a user of the server is joined. One that is not in the room has no say in it.
fn has_member(server: &str, current: &StateMap, memo: &Memo<'_>) -> bool {
    let Ok(server) = <&ServerName>::try_from(server) else { return false };
    current
        .range(StateKey::new("m.room.member", "")..)
        .take_while(|(key, _)| key.kind() == "m.room.member")
        .filter(|(key, _)| <&UserId>::try_from(key.key()).is_ok_and(|user| user.server_name() == server))
        .filter_map(|(_, id)| memo.event(id))
        .any(|member| member.membership() == Some(MembershipState::Join))
}

fn is_signed(event: &Event, rules: &RoomVersionRules, policy: &Policy) -> bool {
    let signature = event
        .json()
        .get("signatures")
        .and_then(CanonicalJsonValue::as_object)
        .and_then(|signatures| signatures.get(&policy.via)?.as_object()?.get(KEY_ID)?.as_str())
        .and_then(|signature| Base64::<Standard>::parse(signature).ok());
    let key = Base64::<Standard>::parse(&policy.public_keys.ed25519).ok();
    let signed = event.document().ok().and_then(|document| document.signed_text(rules).ok());
    let (Some(signature), Some(key), Some(signed)) = (signature, key, signed) else {
        return false;
    };
    signature::verifies(key.as_bytes(), signature.as_bytes(), signed.as_bytes())
}
