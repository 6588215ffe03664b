//! How rooms are found: aliases, the published room directory, and what strangers are told of a room (client-server
//! specification, "Room aliases", "Published room directory", "Room summaries"; asked by clients and by servers).

use std::{cmp::Reverse, collections::BTreeSet};

use kith_store::{
    Read, StoreError,
    tables::{
        appservices::LISTED_ROOMS,
        directory::{ALIASES, PUBLISHED_ROOMS},
        rooms::{ROOM_SERVERS, membership},
    },
};
use ruma::{
    OwnedRoomId, OwnedServerName, RoomAliasId, RoomVersionId, ServerName, UInt, UserId,
    api::federation::directory::get_public_rooms::v1::Response as PublicRooms,
    directory::{Filter, PublicRoomsChunk, RoomNetwork, RoomTypeFilter},
    room::{JoinRuleSummary, RoomSummary, RoomType},
};
use serde_json::{Value, json};

use super::read;
use crate::http::{Answer, MatrixError};

/// Servers named as being in a room, at most.
const MOST_SERVERS: usize = 100;
/// Rooms on one page of the directory, at most.
const LONGEST_PAGE: usize = 500;

/// The room an alias of this server stands for, and servers that are in it, ours first.
pub fn alias(
    read: &dyn Read,
    us: &ServerName,
    alias: &RoomAliasId,
) -> Result<Option<(OwnedRoomId, Vec<OwnedServerName>)>, StoreError> {
    let Some(row) = ALIASES.get(read, &alias.to_string())? else { return Ok(None) };
    let Ok(room_id) = OwnedRoomId::try_from(row.0.room_id) else { return Ok(None) };
    Ok(Some((room_id.clone(), servers(read, us, room_id.as_str())?)))
}

/// Servers that are in a room, ours first.
pub fn servers(read: &dyn Read, us: &ServerName, room_id: &str) -> Result<Vec<OwnedServerName>, StoreError> {
    let mut servers = vec![us.to_owned()];
    if let Some(room) = read::room_number(read, room_id)? {
        for row in ROOM_SERVERS.prefix(read, &room)?.take(MOST_SERVERS) {
            let ((_, server), _) = row?;
            if let Ok(server) = OwnedServerName::try_from(server)
                && server != us
            {
                servers.push(server);
            }
        }
    }
    Ok(servers)
}

/// The number of joined users of a room.
pub fn joined_members(read: &dyn Read, room: u64) -> Result<u64, StoreError> {
    ROOM_SERVERS.prefix(read, &room)?.try_fold(0u64, |sum, row| Ok(sum.saturating_add(row?.1)))
}

/// What is told of a room to those who are not in it; none when its state is not known here.
pub fn summary(read: &dyn Read, room: u64) -> Result<Option<RoomSummary>, StoreError> {
    let Some(row) = read::room(read, room)? else { return Ok(None) };
    let Ok(room_id) = OwnedRoomId::try_from(row.room_id) else { return Ok(None) };
    let field = |kind: &str, field: &str| -> Result<Option<Value>, StoreError> {
        Ok(read::state_event(read, room, kind, "")?.and_then(|event| event.content().get(field).cloned()))
    };
    let text = |kind: &str, name: &str| -> Result<Option<String>, StoreError> {
        Ok(field(kind, name)?.and_then(|value| value.as_str().map(str::to_owned)).filter(|text| !text.is_empty()))
    };
    if read::state_event(read, room, "m.room.create", "")?.is_none() {
        return Ok(None);
    }
    let mut summary = RoomSummary::new(
        room_id,
        join_rule(text("m.room.join_rules", "join_rule")?, field("m.room.join_rules", "allow")?),
        text("m.room.guest_access", "guest_access")?.as_deref() == Some("can_join"),
        UInt::new_saturating(joined_members(read, room)?),
        text("m.room.history_visibility", "history_visibility")?.as_deref() == Some("world_readable"),
    );
    summary.canonical_alias = text("m.room.canonical_alias", "alias")?.and_then(|alias| alias.as_str().try_into().ok());
    summary.name = text("m.room.name", "name")?;
    summary.topic = text("m.room.topic", "topic")?;
    summary.avatar_url = text("m.room.avatar", "url")?.map(Into::into);
    summary.room_type = text("m.room.create", "type")?.map(RoomType::from);
    summary.encryption = text("m.room.encryption", "algorithm")?.map(Into::into);
    summary.room_version = RoomVersionId::try_from(row.version.as_str()).ok();
    Ok(Some(summary))
}

fn join_rule(rule: Option<String>, allow: Option<Value>) -> JoinRuleSummary {
    let rooms: Vec<Value> = allow
        .iter()
        .filter_map(Value::as_array)
        .flatten()
        .filter(|rule| rule.get("type").and_then(Value::as_str) == Some("m.room_membership"))
        .filter_map(|rule| rule.get("room_id").filter(|id| id.as_str().is_some_and(is_room_id)).cloned())
        .collect();
    let rule = rule.unwrap_or_else(|| "invite".to_owned());
    serde_json::from_value(json!({ "join_rule": rule, "allowed_room_ids": rooms })).unwrap_or(JoinRuleSummary::Invite)
}

fn is_room_id(text: &str) -> bool {
    <&ruma::RoomId>::try_from(text).is_ok()
}

/// Whether a user may be told of a room: it is in it or invited, anybody may read or join or knock, or it is in one of
/// the rooms whose members may join.
pub fn may_learn_of(read: &dyn Read, summary: &RoomSummary, user: Option<&UserId>) -> Answer<bool> {
    if let Some(user) = user
        && let Some(room) = read::room_number(read, summary.room_id.as_str())?
    {
        match read::user_room(read, user.as_str(), room)?.map(|part| part.membership) {
            Some(membership::JOIN | membership::INVITE) => return Ok(true),
            Some(membership::BAN) => return Ok(false),
            _ => {}
        }
    }
    is_open(read, summary, |room| match user {
        Some(user) => read::is_joined(read, user.as_str(), room),
        None => Ok(false),
    })
}

/// Whether another server may be told of a room of ours: some user of it could be, by the same measure.
pub fn server_may_learn_of(read: &dyn Read, room: u64, summary: &RoomSummary, server: &ServerName) -> Answer<bool> {
    let is_in = |room: u64| ROOM_SERVERS.contains(read, &(room, server.to_string()));
    if is_in(room)? {
        return Ok(true);
    }
    for user in read::users_with(read, room, membership::INVITE)? {
        if user.split_once(':').is_some_and(|(_, name)| name == server) {
            return Ok(true);
        }
    }
    is_open(read, summary, is_in)
}

/// Whether the room is open: to read, join or knock for anybody, or to join for those who are in an admitted room.
fn is_open(read: &dyn Read, summary: &RoomSummary, is_in: impl Fn(u64) -> Result<bool, StoreError>) -> Answer<bool> {
    if summary.world_readable {
        return Ok(true);
    }
    let restricted = match &summary.join_rule {
        JoinRuleSummary::Public | JoinRuleSummary::Knock | JoinRuleSummary::KnockRestricted(_) => return Ok(true),
        JoinRuleSummary::Restricted(restricted) => restricted,
        _ => return Ok(false),
    };
    for room_id in &restricted.allowed_room_ids {
        if let Some(room) = read::room_number(read, room_id.as_str())?
            && is_in(room)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The rooms that are listed for a network: what is published here, what application services list for it, or all of both.
fn listed_rooms(read: &dyn Read, network: &RoomNetwork) -> Result<BTreeSet<String>, StoreError> {
    let mut rooms = BTreeSet::new();
    if let RoomNetwork::Matrix | RoomNetwork::All = network {
        for row in PUBLISHED_ROOMS.range(read, ..)? {
            rooms.insert(row?.0);
        }
    }
    if let RoomNetwork::All = network {
        for row in LISTED_ROOMS.range(read, ..)? {
            rooms.insert(row?.0.1);
        }
    }
    if let RoomNetwork::ThirdParty(network) = network {
        for row in LISTED_ROOMS.prefix(read, network)? {
            rooms.insert(row?.0.1);
        }
    }
    Ok(rooms)
}

/// A page of the published room directory: the rooms with the most members first.
///
/// # Errors
/// `M_INVALID_PARAM` for a token that is not ours.
pub fn public_rooms(
    read: &dyn Read,
    network: &RoomNetwork,
    filter: &Filter,
    since: Option<&str>,
    limit: Option<UInt>,
) -> Answer<PublicRooms> {
    let mut rooms: Vec<(Reverse<u64>, String, PublicRoomsChunk)> = Vec::new();
    for room_id in listed_rooms(read, network)? {
        let Some(room) = read::room_number(read, &room_id)? else { continue };
        let Some(summary) = summary(read, room)? else { continue };
        let members = u64::from(summary.num_joined_members);
        // A room that everybody left has nobody who could let one in.
        if members > 0 && listed(filter, &summary) {
            rooms.push((Reverse(members), room_id, summary.into()));
        }
    }
    rooms.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
    let total = rooms.len();
    let limit = limit.map_or(LONGEST_PAGE, |limit| usize::try_from(u64::from(limit)).unwrap_or(LONGEST_PAGE));
    let limit = limit.clamp(1, LONGEST_PAGE);
    let token = |way: char, (members, room_id, _): &(Reverse<u64>, String, PublicRoomsChunk)| {
        format!("{way}{}_{room_id}", members.0)
    };
    let (first, end) = match since {
        None => (0, limit.min(total)),
        Some(since) => {
            let wrong = || MatrixError::invalid_param("this is no pagination token of this server");
            let mut letters = since.chars();
            let way = letters.next().ok_or_else(wrong)?;
            let (members, room_id) = letters.as_str().split_once('_').ok_or_else(wrong)?;
            let at = (Reverse(members.parse::<u64>().map_err(|_| wrong())?), room_id);
            match way {
                // After this room.
                'n' => {
                    let first = rooms.partition_point(|room| (room.0, room.1.as_str()) <= at);
                    (first, (first + limit).min(total))
                }
                // Before this room.
                'p' => {
                    let end = rooms.partition_point(|room| (room.0, room.1.as_str()) < at);
                    (end.saturating_sub(limit), end)
                }
                _ => return Err(wrong()),
            }
        }
    };
    let mut answer = PublicRooms::new();
    answer.next_batch = rooms
        .get(end..)
        .filter(|rest| !rest.is_empty())
        .and_then(|_| rooms.get(..end).and_then(<[_]>::last).map(|room| token('n', room)));
    answer.prev_batch = rooms.get(first).filter(|_| first > 0).map(|room| token('p', room));
    answer.total_room_count_estimate = Some(UInt::new_saturating(total as u64));
    answer.chunk = rooms.into_iter().skip(first).take(end - first).map(|(.., chunk)| chunk).collect();
    Ok(answer)
}

fn listed(filter: &Filter, summary: &RoomSummary) -> bool {
    let kind = RoomTypeFilter::from(summary.room_type.clone());
    if !filter.room_types.is_empty() && !filter.room_types.contains(&kind) {
        return false;
    }
    let Some(term) = filter.generic_search_term.as_deref().map(str::trim).filter(|term| !term.is_empty()) else {
        return true;
    };
    let term = term.to_lowercase();
    let alias = summary.canonical_alias.as_ref().map(|alias| alias.as_str());
    [summary.name.as_deref(), summary.topic.as_deref(), alias]
        .into_iter()
        .flatten()
        .any(|text| text.to_lowercase().contains(&term))
}
