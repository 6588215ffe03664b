//! Joins, leaves, knocks and invites that cross servers: the asking side. The answering side is in
//! [`crate::server_api::joins`] and its siblings.
//!
//! Joining, leaving and knocking have one shape: another server of the room proposes the member event (`make_*`), this node
//! checks that it is what was asked for, completes and signs it, and hands it back (`send_*`). Several servers are
//! asked in turn until one can.

mod invite;
mod join;
mod knock;
mod leave;
pub mod on_the_way;
pub mod third_party;

use std::{collections::BTreeSet, time::Duration};

use kith_room::{Event, build::complete_template, format, json::parse_object};
use kith_store::{Read, StoreError, tables::rooms::MEMBERS};
use kith_transport::KithName;
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedServerName, RoomId, RoomVersionId, ServerName, UserId,
    canonical_json::to_canonical_value,
};
use serde_json::{Map, Value, value::RawValue};

use super::{Federation, FederationError, heads};
use crate::{
    Node,
    http::{Answer, MatrixError},
    rooms::{read, timestamp},
    server_api::signer,
};

/// How long another server may take for a small step.
const STEP: Duration = Duration::from_secs(30);
/// How long it may take to give a room's state.
pub(super) const WHOLE_ROOM: Duration = Duration::from_secs(300);
/// Servers that are asked at most.
const MOST_CANDIDATES: usize = 12;
/// Members that are looked at for their servers, of a room that nobody is in.
const MOST_MEMBERS: usize = 1_000;

/// Room versions that this node knows, as `make_join` and `make_knock` want them.
pub fn known_versions() -> Vec<RoomVersionId> {
    (1..=12)
        .filter_map(|number: u32| RoomVersionId::try_from(number.to_string()).ok())
        .filter(|version| format::rules(version).is_some())
        .collect()
}

/// The servers to ask, best first: those given, the one that invited, those that made the room what an invite shows, those
/// known to be in it, the one that its ID names; of all these the ones that are connected first. Without
/// ourselves and without those that can never be reached from here.
fn candidates(node: &Node, user: &UserId, room_id: &RoomId, via: &[OwnedServerName]) -> Answer<Vec<OwnedServerName>> {
    let mut servers: Vec<OwnedServerName> = via.to_vec();
    node.store.read(|snapshot| {
        let Some(number) = read::room_number(snapshot, room_id.as_str())? else { return Ok::<_, MatrixError>(()) };
        if let Some(part) = read::user_room(snapshot, user.as_str(), number)? {
            let sender_of = |event: &Value| event.get("sender").and_then(Value::as_str).map(str::to_owned);
            let senders = std::iter::once(part.sender).chain(part.stripped.iter().filter_map(sender_of));
            let users = senders.filter_map(|sender| UserId::parse(sender).ok());
            servers.extend(users.map(|user| user.server_name().to_owned()));
        }
        let mut there = read::servers(snapshot, number)?;
        if there.is_empty() {
            // Who was in the room may have come back to it since.
            there = former_servers(snapshot, number)?;
        }
        servers.extend(there.into_iter().filter_map(|name| OwnedServerName::try_from(name).ok()));
        Ok(())
    })?;
    servers.extend(room_id.server_name().map(ToOwned::to_owned));
    let mut seen = BTreeSet::new();
    servers.retain(|name| {
        name != node.server_name() && KithName::parse(name.as_str()).is_ok() && seen.insert(name.clone())
    });
    // Who can be reached is asked first: others may cost a long wait each.
    let connected = heads::connected_keys(node);
    servers.sort_by_cached_key(|name| !heads::is_connected(&connected, name));
    servers.truncate(MOST_CANDIDATES);
    Ok(servers)
}

/// Servers of users that a room knows, whatever their membership; not of all when they are very many.
fn former_servers(snapshot: &dyn Read, room: u64) -> Result<Vec<String>, StoreError> {
    let mut servers = BTreeSet::new();
    for row in MEMBERS.prefix(snapshot, &room)?.take(MOST_MEMBERS) {
        let ((_, _, user), _) = row?;
        servers.extend(user.split_once(':').map(|(_, server)| server.to_owned()));
    }
    Ok(servers.into_iter().collect())
}

/// What several servers said, boiled down to one answer for the client: a refusal counts more than silence.
#[derive(Default)]
struct Failures {
    refusal: Option<MatrixError>,
    silence: Option<MatrixError>,
    /// Whether any of them may be in the room, or know who is.
    somebody: bool,
}

impl Failures {
    fn add(&mut self, server: &ServerName, error: FederationError) {
        tracing::info!(%server, %error, "a server could not help with a membership");
        let refusal = error.is_refusal();
        self.somebody |= error.errcode() != Some("M_NOT_FOUND");
        let place = if refusal { &mut self.refusal } else { &mut self.silence };
        place.get_or_insert(error.into());
    }

    fn add_nonsense(&mut self, server: &ServerName, error: MatrixError) {
        tracing::info!(%server, %error, "a server's answer to a membership request cannot be used");
        self.somebody = true;
        self.silence.get_or_insert(error);
    }

    fn answer(self, what: &str) -> MatrixError {
        self.refusal.or(self.silence).unwrap_or_else(|| {
            MatrixError::not_found(format!("no server is known that could be asked to {what}; name one with `via`"))
        })
    }
}

/// Completes and signs the event another server proposes, after checking that it is what was asked for. `ours` are fields that
/// this node adds to the content; what says how the join was authorised stays.
fn complete(
    node: &Node,
    template: &RawValue,
    version: &RoomVersionId,
    room_id: &RoomId,
    user: &UserId,
    membership: &str,
    ours: &Map<String, Value>,
) -> Answer<Event> {
    let nonsense = |reason: &str| MatrixError::unreachable(format!("the server proposes nonsense: {reason}"));
    if template.get().len() > kith_room::receive::MAX_TEXT_BYTES {
        return Err(nonsense("the event is too long"));
    }
    let mut object = parse_object(template.get()).map_err(|error| nonsense(&error.to_string()))?;
    let text = |object: &CanonicalJsonObject, name: &str| {
        object.get(name).and_then(CanonicalJsonValue::as_str).map(str::to_owned)
    };
    let expected = [
        ("type", "m.room.member"),
        ("room_id", room_id.as_str()),
        ("sender", user.as_str()),
        ("state_key", user.as_str()),
    ];
    for (field, value) in expected {
        if text(&object, field).as_deref() != Some(value) {
            return Err(nonsense(&format!("`{field}` is not {value}")));
        }
    }
    let proposed = object.get("content").and_then(CanonicalJsonValue::as_object).cloned().unwrap_or_default();
    if text(&proposed, "membership").as_deref() != Some(membership) {
        return Err(nonsense(&format!("it does not set `membership` to {membership}")));
    }
    let mut content = CanonicalJsonObject::new();
    for (field, value) in ours {
        let value = to_canonical_value(value).map_err(|error| MatrixError::bad_json(error.to_string()))?;
        content.insert(field.clone(), value);
    }
    content.insert("membership".to_owned(), membership.into());
    content.remove("join_authorised_via_users_server");
    if let Some(via) = proposed.get("join_authorised_via_users_server") {
        content.insert("join_authorised_via_users_server".to_owned(), via.clone());
    }
    object.insert("content".to_owned(), content.into());
    complete_template(object, version, timestamp(node.clock.now_ms()), signer(node))
        .map_err(|error| nonsense(&error.to_string()))
}

/// The version of a room as `make_join` and its siblings tell it; one this node knows.
fn version_of(told: Option<RoomVersionId>) -> Answer<RoomVersionId> {
    let version = told.unwrap_or(RoomVersionId::V1);
    if format::rules(&version).is_some() {
        return Ok(version);
    }
    Err(MatrixError::new(
        http::StatusCode::BAD_REQUEST,
        "M_UNSUPPORTED_ROOM_VERSION",
        format!("the room has version {version}, which this server does not know"),
    ))
}

impl Federation {
    /// The servers that could be asked about a room, best first.
    fn servers_to_ask(
        &self,
        node: &Node,
        user: &UserId,
        room_id: &RoomId,
        via: &[OwnedServerName],
    ) -> Answer<Vec<OwnedServerName>> {
        candidates(node, user, room_id, via)
    }
}
