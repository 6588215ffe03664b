//! `POST /rooms/{roomId}/join`, `POST /join/{roomIdOrAlias}` (client-server specification, "Joining rooms";
//! restricted rooms: "Restricted rooms" there and room version 8).

use std::sync::Arc;

use kith_store::{Read, tables::rooms::membership};
use ruma::{
    OwnedRoomId, OwnedServerName, OwnedUserId, RoomId, RoomOrAliasId, ServerName, UserId,
    api::client::membership::{
        ThirdPartySigned, join_room_by_id::v3 as join_room_by_id, join_room_by_id_or_alias::v3 as join_room,
    },
    events::room::power_levels::UserPowerLevel,
};
use serde_json::{Value, json};

use super::{
    aliases,
    membership::{add_profile, member, member_draft, membership_now, takes_part},
    remote,
};
use crate::{
    Node,
    accounts::limits::{self, Action},
    federation::membership::third_party::Exchange,
    http::{Answer, MatrixError, Routes, Session},
    rooms::{partial, power, read},
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(join_room_by_id).add(join_room)
}

/// Servers that are asked to make a third-party invite an invite.
const MOST_ASKED: usize = 6;

/// Servers that one request may name as being in the room.
const MOST_VIAS: usize = 20;

async fn join_room_by_id(
    node: Arc<Node>,
    session: Session,
    request: join_room_by_id::Request,
) -> Answer<join_room_by_id::Response> {
    limits::check(&node, Action::Join, session.user_id.as_str())?;
    let mut via = Vec::new();
    if let Some(signed) = request.third_party_signed {
        claim(&node, &session.user_id, &request.room_id, &mut via, signed).await?;
    }
    join(&node, &session.user_id, &request.room_id, &via, request.reason).await?;
    Ok(join_room_by_id::Response::new(request.room_id))
}

async fn join_room(node: Arc<Node>, session: Session, request: join_room::Request) -> Answer<join_room::Response> {
    limits::check(&node, Action::Join, session.user_id.as_str())?;
    let (room_id, mut via) = resolve(&node, &request.room_id_or_alias, request.via).await?;
    if let Some(signed) = request.third_party_signed {
        claim(&node, &session.user_id, &room_id, &mut via, signed).await?;
    }
    join(&node, &session.user_id, &room_id, &via, request.reason).await?;
    Ok(join_room::Response::new(room_id))
}

/// Makes a third-party invite of the room an invite of the user, who shows what the identity server signed. Who is in the room
/// needs none. The server that did it is the first to join through.
async fn claim(
    node: &Arc<Node>,
    user: &UserId,
    room_id: &RoomId,
    via: &mut Vec<OwnedServerName>,
    shown: ThirdPartySigned,
) -> Answer<()> {
    if membership_now(node, room_id, user)? == Some(membership::JOIN) {
        return Ok(());
    }
    let sender = shown.sender.clone();
    let Ok(Value::Object(signed)) = serde_json::to_value(shown) else {
        return Err(MatrixError::bad_json("`third_party_signed` is malformed"));
    };
    let exchange = Exchange::new(room_id.to_owned(), sender, user.to_owned(), signed)?;
    let through = node.federation.claim_third_party_invite(&exchange, via, MOST_ASKED).await?;
    if let Some(through) = through {
        via.insert(0, through);
    }
    Ok(())
}

/// The room that a client names by ID or alias, and the servers that are said to be in it.
pub(super) async fn resolve(
    node: &Arc<Node>,
    name: &RoomOrAliasId,
    mut via: Vec<OwnedServerName>,
) -> Answer<(OwnedRoomId, Vec<OwnedServerName>)> {
    via.truncate(MOST_VIAS);
    if let Ok(room_id) = <&RoomId>::try_from(name) {
        return Ok((room_id.to_owned(), via));
    }
    let alias = name.as_str().try_into().map_err(|_| MatrixError::invalid_param("this is no room ID and no alias"))?;
    let (room_id, servers) = aliases::resolve(node, alias).await?;
    for server in servers {
        if !via.contains(&server) && via.len() < 2 * MOST_VIAS {
            via.push(server);
        }
    }
    Ok((room_id, via))
}

/// Joins a user of this node to a room: here, if this node takes part in it and the rules let it, else through a server
/// that does.
pub async fn join(
    node: &Arc<Node>,
    user: &UserId,
    room_id: &RoomId,
    via: &[OwnedServerName],
    reason: Option<String>,
) -> Answer<()> {
    if membership_now(node, room_id, user)? == Some(membership::JOIN) {
        return Ok(());
    }
    let mut content = member("join", reason)?;
    node.store.read(|read| add_profile(read, user, &mut content))?;
    if takes_part(node, room_id)? {
        // Whether the user is banned, or invited, stands among the members.
        node.federation.whole(room_id).await?;
        match node.store.read(|read| way_in(read, node.identity.server_name(), room_id, user))? {
            WayIn::Open => {}
            WayIn::Vouched(by) => {
                content.insert("join_authorised_via_users_server".to_owned(), json!(by));
            }
            WayIn::Elsewhere => {
                let servers = candidates(node, user, room_id, via)?;
                if servers.is_empty() {
                    return Err(MatrixError::forbidden(
                        "nobody here may let you into this room, and no other server is known that could",
                    ));
                }
                return remote::join(node, user, room_id, &servers, content).await;
            }
            WayIn::Closed(reason) => return Err(MatrixError::forbidden(reason)),
        }
        node.rooms.require(room_id)?.send(member_draft(user, user, content)).await?;
        return Ok(());
    }
    let servers = candidates(node, user, room_id, via)?;
    remote::join(node, user, room_id, &servers, content).await
}

/// How a user can come into a room that this node takes part in.
#[derive(Debug, PartialEq, Eq)]
enum WayIn {
    /// As anybody, or invited: the room's rules say the rest.
    Open,
    /// As a member of a room that this one admits: this user, who may invite, vouches.
    Vouched(OwnedUserId),
    /// Only another server can tell, or vouch.
    Elsewhere,
    /// Not at all.
    Closed(&'static str),
}

fn way_in(read: &dyn Read, us: &ServerName, room_id: &RoomId, user: &UserId) -> Answer<WayIn> {
    let Some(room) = read::room_number(read, room_id.as_str())? else { return Ok(WayIn::Open) };
    match read::user_room(read, user.as_str(), room)?.map(|part| part.membership) {
        Some(membership::INVITE | membership::JOIN) => return Ok(WayIn::Open),
        Some(membership::BAN) => return Ok(WayIn::Closed("you are banned from this room")),
        _ => {}
    }
    let rules = read::state_event(read, room, "m.room.join_rules", "")?;
    let rules = rules.as_ref().map(|event| event.content());
    match rules.and_then(|rules| rules.get("join_rule")).and_then(Value::as_str) {
        Some("public") => Ok(WayIn::Open),
        Some("restricted" | "knock_restricted") => {
            match admitted(read, rules.and_then(|rules| rules.get("allow")), user)? {
                Some(true) => Ok(voucher(read, room, us)?.map_or(WayIn::Elsewhere, WayIn::Vouched)),
                Some(false) => Ok(WayIn::Closed("you are in none of the rooms whose members may join this one")),
                None => Ok(WayIn::Elsewhere),
            }
        }
        _ => Ok(WayIn::Closed("you are not invited to this room")),
    }
}

/// Whether the user is in one of the rooms whose members a restricted room admits; none when that cannot be told here,
/// since this node is not in all of them.
pub fn admitted(read: &dyn Read, allow: Option<&Value>, user: &UserId) -> Answer<Option<bool>> {
    let mut sure = true;
    for rule in allow.and_then(Value::as_array).into_iter().flatten() {
        if rule.get("type").and_then(Value::as_str) != Some("m.room_membership") {
            continue;
        }
        let Some(room_id) = rule.get("room_id").and_then(Value::as_str) else { continue };
        match read::room_number(read, room_id)? {
            Some(room) => {
                if read::is_joined(read, user.as_str(), room)? {
                    return Ok(Some(true));
                }
                sure &= read::room(read, room)?.is_some_and(|room| room.joined) && !partial::is_partial(read, room)?;
            }
            None => sure = false,
        }
    }
    Ok(sure.then_some(false))
}

/// A joined user of this server who may invite, and so may let others into a restricted room.
pub fn voucher(read: &dyn Read, room: u64, us: &ServerName) -> Answer<Option<OwnedUserId>> {
    let Some(levels) = power::levels(read, room)? else { return Ok(None) };
    let needed = UserPowerLevel::from(levels.invite());
    for user in read::users_with(read, room, membership::JOIN)? {
        let Ok(user) = OwnedUserId::try_from(user) else { continue };
        if user.server_name() == us && levels.user(&user) >= needed {
            return Ok(Some(user));
        }
    }
    Ok(None)
}

/// Servers that may be in a room: those named, the one that invited, those known to be in it, the one that made it.
pub(super) fn candidates(
    node: &Node,
    user: &UserId,
    room_id: &RoomId,
    via: &[OwnedServerName],
) -> Answer<Vec<OwnedServerName>> {
    let mut servers: Vec<OwnedServerName> = Vec::new();
    let us = node.identity.server_name();
    let mut add = |server: Option<&ServerName>| {
        if let Some(server) = server
            && server != us
            && servers.len() < 2 * MOST_VIAS
            && !servers.iter().any(|known| known == server)
        {
            servers.push(server.to_owned());
        }
    };
    node.store.read(|read| {
        let room = read::room_number(read, room_id.as_str())?;
        let part = match room {
            Some(room) => read::user_room(read, user.as_str(), room)?,
            None => None,
        };
        if let Some(part) = part.filter(|part| part.membership == membership::INVITE)
            && let Ok(sender) = <&UserId>::try_from(part.sender.as_str())
        {
            add(Some(sender.server_name()));
        }
        for server in via {
            add(Some(server));
        }
        if let Some(room) = room {
            for server in read::servers(read, room)? {
                add(<&ServerName>::try_from(server.as_str()).ok());
            }
        }
        add(room_id.server_name());
        Ok::<_, MatrixError>(())
    })?;
    Ok(servers)
}
