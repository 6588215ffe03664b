//! Policy servers: a room can name a server that signs the events it recommends; what lacks its signature is soft-failed.
//!
//! <https://spec.matrix.org/v1.19/server-server-api/#policy-servers>. Asking the server for its signature is the node's work.

use ruma::{
    CanonicalJsonValue, ServerName, SigningKeyAlgorithm, UserId,
    events::room::member::MembershipState,
    room_version_rules::RoomVersionRules,
    serde::{Base64, base64::Standard},
    signatures::verify_canonical_json_bytes,
};
use serde::Deserialize;

use crate::{
    event::Event,
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

/// Whether the event has the signature of the policy server that `current`, the room's current state, names, if it names one.
///
/// # Errors
///
/// It has none, or a false one.
pub(crate) fn check(
    event: &Event,
    rules: &RoomVersionRules,
    current: &StateMap,
    memo: &Memo<'_>,
) -> Result<(), String> {
    let Some(policy) = current.get(&StateKey::new("m.room.policy", "")).and_then(|id| memo.event(id)) else {
        return Ok(());
    };
    let Ok(policy) = policy.content_as::<Policy>() else {
        return Ok(());
    };
    if event.is_state("m.room.policy", "") || !has_member(&policy.via, current, memo) {
        return Ok(());
    }
    match is_signed(event, rules, &policy) {
        true => Ok(()),
        false => Err(format!("{}, the room's policy server, did not sign it", policy.via)),
    }
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
    verify_canonical_json_bytes(&SigningKeyAlgorithm::Ed25519, key.as_bytes(), signature.as_bytes(), signed.as_bytes())
        .is_ok()
}
