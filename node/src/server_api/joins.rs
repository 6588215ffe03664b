//! `GET /_matrix/federation/v1/make_join`, `PUT /_matrix/federation/v2/send_join`: another server's user joins a room that
//! this node is in. Server-server specification, "Joining Rooms", "Restricted rooms".

use std::{collections::BTreeSet, sync::Arc};

use http::StatusCode;
use kith_room::{Document, power::PowerLevels, receive::receive_document};
use kith_store::Read;
use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedUserId, RoomId, UserId,
    api::federation::membership::{create_join_event::v2 as send_join, prepare_join_event::v1 as make_join},
};
use serde_json::value::RawValue;

use super::template::{check_own_member, check_user, propose, signer, whole_room};
use crate::{
    Node,
    federation::{keys, pdus, rules, stats::Refusal},
    http::{Answer, MatrixError, Routes, endpoint::Origin},
    platform::SpawnerExt as _,
    rooms::{Room, partial, read},
};

/// From so many joined members on they are left out of the answer to who can do without. Fewer are sent with the rest: fetching
/// them afterwards would take longer.
const MEMBERS_WORTH_OMITTING: u64 = 100;

/// The routes of this file.
pub fn routes(routes: Routes) -> Routes {
    routes.add(make).add(send)
}

async fn make(node: Arc<Node>, origin: Origin, request: make_join::Request) -> Answer<make_join::Response> {
    check_user(&request.user_id, &origin.server)?;
    let room = whole_room(&node, &request.room_id, &origin.server)?;
    check_version(&room, &request.ver)?;
    node.store.read(|read| rules::check_names(read, room.number(), &origin.server))?;
    node.federation.invites.arrived(&*node.clock, room.id(), &request.user_id).await;
    let mut content = CanonicalJsonObject::from([("membership".to_owned(), "join".into())]);
    if let Some(via) = authoriser(&node, &room, &request.user_id).await? {
        content.insert("join_authorised_via_users_server".to_owned(), via.to_string().into());
    }
    let event = propose(&node, &room, &request.user_id, content).await?;
    let mut response = make_join::Response::new(event);
    response.room_version = Some(room.version().clone());
    Ok(response)
}

/// 400 `M_INCOMPATIBLE_ROOM_VERSION` unless the other server knows the room's version.
pub(super) fn check_version(room: &Room, known: &[ruma::RoomVersionId]) -> Answer<()> {
    if known.contains(room.version()) {
        return Ok(());
    }
    let version = room.version();
    let message = format!("the room has version {version}, which your server does not know");
    Err(MatrixError::new(StatusCode::BAD_REQUEST, "M_INCOMPATIBLE_ROOM_VERSION", message)
        .with("room_version", version.as_str()))
}

/// In a restricted room, the user of ours in whose name a join is allowed; none if the join needs no such leave.
///
/// # Errors
/// 403 `M_FORBIDDEN` when the user is in none of the rooms that let it in; 400 `M_UNABLE_TO_AUTHORISE_JOIN` when this node does
/// not know, `M_UNABLE_TO_GRANT_JOIN` when no user of ours may invite.
async fn authoriser(node: &Arc<Node>, room: &Room, user: &UserId) -> Answer<Option<OwnedUserId>> {
    if !room.rules().authorization.restricted_join_rule {
        return Ok(None);
    }
    let needed = node.store.read(|snapshot| needs_authoriser(snapshot, node, room.number(), user))?;
    if !needed {
        return Ok(None);
    }
    let ours = node
        .store
        .read(|snapshot| read::users_with(snapshot, room.number(), kith_store::tables::rooms::membership::JOIN))?;
    let ours: Vec<OwnedUserId> = ours
        .into_iter()
        .filter_map(|user| OwnedUserId::try_from(user).ok())
        .filter(|user| node.is_local(user))
        .collect();
    let rules = room.rules().authorization.clone();
    let found = room
        .with_engine(|engine, past| {
            let event =
                |kind: &str| engine.current_id(kind, "").map(|id| past.event(id)).transpose().map(Option::flatten);
            let create = event("m.room.create").map_err(MatrixError::internal)?;
            let levels = event("m.room.power_levels").map_err(MatrixError::internal)?;
            let Some(create) = create else { return Ok(None) };
            let levels = PowerLevels::new(&create, levels.as_ref(), &rules).map_err(MatrixError::internal)?;
            Ok(ours.into_iter().find(|user| levels.user(user) >= levels.invite()))
        })
        .await?;
    found.map(Some).ok_or_else(|| {
        MatrixError::new(
            StatusCode::BAD_REQUEST,
            "M_UNABLE_TO_GRANT_JOIN",
            "no user of this server may invite into that room; ask another server",
        )
    })
}

fn needs_authoriser(snapshot: &dyn Read, node: &Node, room: u64, user: &UserId) -> Answer<bool> {
    let Some(join_rules) = read::state_event(snapshot, room, "m.room.join_rules", "")? else { return Ok(false) };
    let rule = join_rules.content().get("join_rule").and_then(|rule| rule.as_str());
    if !matches!(rule, Some("restricted" | "knock_restricted")) {
        return Ok(false);
    }
    let member = read::state_event(snapshot, room, "m.room.member", user.as_str())?;
    let membership = member.as_ref().and_then(|event| event.content().get("membership")?.as_str());
    if matches!(membership, Some("join" | "invite")) {
        return Ok(false);
    }
    let mut unknown = false;
    for allow in join_rules.content().get("allow").and_then(|allow| allow.as_array()).into_iter().flatten() {
        let text = |field: &str| allow.get(field).and_then(|value| value.as_str());
        let (Some("m.room_membership"), Some(allowed)) = (text("type"), text("room_id")) else { continue };
        let Some(number) = read::room_number(snapshot, allowed)? else {
            unknown = true;
            continue;
        };
        // Only a room we are in ourselves shows us who is in it.
        let known =
            kith_store::tables::rooms::ROOM_SERVERS.contains(snapshot, &(number, node.server_name().to_string()))?;
        if known && read::is_joined(snapshot, user.as_str(), number)? {
            return Ok(true);
        }
        unknown |= !known || partial::is_partial(snapshot, number)?;
    }
    if unknown {
        return Err(MatrixError::new(
            StatusCode::BAD_REQUEST,
            "M_UNABLE_TO_AUTHORISE_JOIN",
            "this server is not in all rooms whose members may join; ask another server",
        ));
    }
    Err(MatrixError::forbidden("only members of certain other rooms may join this one, and you are in none of them"))
}

async fn send(node: Arc<Node>, origin: Origin, request: send_join::Request) -> Answer<send_join::Response> {
    let room = whole_room(&node, &request.room_id, &origin.server)?;
    let event = countersigned(&node, &room, &request.pdu).await?;
    check_own_member(&event, "join", &origin.server)?;
    if event.room_id() != request.room_id {
        return Err(MatrixError::invalid_param("the event is of another room"));
    }
    if event.event_id() != request.event_id {
        return Err(MatrixError::invalid_param(format!("the event's ID is {}", event.event_id())));
    }
    let number = room.number();
    let servers = node.store.read(|read| {
        rules::check_names(read, number, &origin.server)?;
        let omits = request.omit_members && read::joined_count(read, number)? >= MEMBERS_WORTH_OMITTING;
        Ok::<_, MatrixError>(if omits { Some(read::servers(read, number)?) } else { None })
    })?;
    let event = room.with_policy_signature(event).await?;
    room.receive_for_others(origin.server.as_str(), event.clone())
        .await
        .inspect_err(|error| node.federation.stats.refused.note(error))?;
    let at = event.event_id().to_string();
    let (reader, omits) = (node.clone(), servers.is_some());
    let state = node
        .spawner
        .blocking("send_join", move || {
            reader.store.read(|snapshot| match omits {
                true => state_without_members(snapshot, &at),
                false => state_before(snapshot, &at),
            })
        })
        .await
        .map_err(MatrixError::internal)??;
    let mut answer = send_join::RoomState::new();
    answer.auth_chain = state.auth_chain;
    answer.state = state.state;
    answer.members_omitted = omits;
    answer.servers_in_room = servers;
    answer.event = Some(pdus::raw(event.text())?);
    Ok(send_join::Response::new(answer))
}

/// Checks the join's signatures, after adding ours where it was authorised in the name of a user of ours.
async fn countersigned(node: &Arc<Node>, room: &Room, pdu: &RawValue) -> Answer<Arc<kith_room::Event>> {
    if pdu.get().len() > kith_room::receive::MAX_TEXT_BYTES {
        node.federation.stats.refused.add(Refusal::TooLong);
        return Err(MatrixError::too_large("the event is too long"));
    }
    let mut document = Document::read(pdu.get(), room.rules())
        .inspect_err(|error| node.federation.stats.refused.add(error))
        .map_err(|error| MatrixError::bad_json(error.to_string()))?;
    let object = document.object();
    let text = |value: Option<&CanonicalJsonValue>| value.and_then(CanonicalJsonValue::as_str).map(str::to_owned);
    let via = object
        .get("content")
        .and_then(CanonicalJsonValue::as_object)
        .and_then(|content| text(content.get("join_authorised_via_users_server")))
        .and_then(|via| OwnedUserId::try_from(via).ok());
    if via.is_some_and(|via| node.is_local(&via)) && room.rules().signatures.check_join_authorised_via_users_server {
        let user = text(object.get("state_key")).and_then(|user| OwnedUserId::try_from(user).ok());
        let user = user.ok_or_else(|| MatrixError::invalid_param("the event has no user as state key"))?;
        // Signed only when it holds now, not because it did at `make_join`. Whether `via` may is judged with the event.
        authoriser(node, room, &user).await?;
        document.sign(room.rules(), signer(node)).map_err(|error| MatrixError::bad_json(error.to_string()))?;
    }
    // Signatures of the event itself: what this server added is verified by its own key.
    keys::fetch_for_event(node, &document.to_text(), room.version()).await;
    let event = receive_document(document, room.rules(), &|server, id, at| keys::at_hand(node, server, id, at))
        .inspect_err(|error| node.federation.stats.refused.add(error))
        .map_err(|error| MatrixError::forbidden(error.to_string()))?;
    if event.redacted() {
        return Err(MatrixError::invalid_param("the event's content hash does not match"));
    }
    Ok(Arc::new(event))
}

/// A state with what it rests on, as PDUs.
pub(super) struct WholeState {
    pub(super) state: Vec<Box<RawValue>>,
    /// Without the events of the state itself.
    pub(super) auth_chain: Vec<Box<RawValue>>,
}

/// The state before an event.
pub(super) fn state_before(snapshot: &dyn Read, event_id: &str) -> Answer<WholeState> {
    let (state, chain) = state_numbers(snapshot, event_id, None)?;
    as_pdus(snapshot, &state, &chain)
}

/// The state before a join without the memberships, and what it and the join rest on: for `omit_members`, so that a server can
/// use a large room before it knows everybody in it. The members after whom a room without a name is called are there.
fn state_without_members(snapshot: &dyn Read, event_id: &str) -> Answer<WholeState> {
    let join =
        read::event_by_id(snapshot, event_id)?.ok_or_else(|| MatrixError::not_found("the join is not known here"))?;
    let named = match read::has_name(snapshot, join.row.room)? {
        true => Vec::new(),
        false => read::heroes(snapshot, join.row.room, join.sender())?,
    };
    let whole = crate::rooms::states::whole(snapshot, join.row.state_before)?;
    let state: BTreeSet<u64> = whole
        .into_iter()
        .filter(|((kind, key), _)| kind != "m.room.member" || named.contains(key))
        .map(|(_, number)| number)
        .collect();
    let mut chain = auth_chain(snapshot, state.iter().copied().chain([join.number]))?;
    chain.retain(|number| !state.contains(number));
    as_pdus(snapshot, &state, &chain)
}

fn as_pdus(snapshot: &dyn Read, state: &BTreeSet<u64>, chain: &BTreeSet<u64>) -> Answer<WholeState> {
    let events = |numbers: &BTreeSet<u64>| -> Answer<Vec<Box<RawValue>>> {
        let mut pdus = Vec::with_capacity(numbers.len());
        for number in numbers {
            if let Some(row) = kith_store::tables::rooms::EVENTS.get(snapshot, number)? {
                pdus.push(pdus::raw(&row.json)?);
            }
        }
        Ok(pdus)
    };
    Ok(WholeState { state: events(state)?, auth_chain: events(chain)? })
}

/// Numbers of the events of the state before an event, and of those they rest on. With `room`, the event must be of it.
pub(super) fn state_numbers(
    snapshot: &dyn Read,
    event_id: &str,
    room: Option<&RoomId>,
) -> Answer<(BTreeSet<u64>, BTreeSet<u64>)> {
    let unknown = || MatrixError::not_found("this event, or the state before it, is not known here");
    let event = read::event_by_id(snapshot, event_id)?.ok_or_else(unknown)?;
    if event.row.status == kith_store::tables::rooms::EventStatus::Outlier {
        return Err(unknown());
    }
    if let Some(room) = room
        && read::room_number(snapshot, room.as_str())? != Some(event.row.room)
    {
        return Err(unknown());
    }
    let state: BTreeSet<u64> = crate::rooms::states::whole(snapshot, event.row.state_before)?.into_values().collect();
    let mut chain = auth_chain(snapshot, state.iter().copied())?;
    chain.retain(|number| !state.contains(number));
    Ok((state, chain))
}

/// Numbers of all events that the given ones rest on, these left out unless they are among them.
pub(super) fn auth_chain(snapshot: &dyn Read, of: impl Iterator<Item = u64>) -> Answer<BTreeSet<u64>> {
    let mut chain = BTreeSet::new();
    let mut open: Vec<u64> = of.collect();
    let mut looked_at = BTreeSet::new();
    while let Some(number) = open.pop() {
        if !looked_at.insert(number) {
            continue;
        }
        let Some(row) = kith_store::tables::rooms::EVENTS.get(snapshot, &number)? else { continue };
        for auth in row.auth {
            chain.insert(auth);
            open.push(auth);
        }
    }
    Ok(chain)
}
