//! `GET`, `PUT`, `DELETE /directory/room/{roomAlias}`, `GET /rooms/{roomId}/aliases` (client-server specification, "Room
//! aliases").

use std::sync::Arc;

use kith_store::{
    Json, Read,
    tables::directory::{ALIASES, MAX_ALIASES, add_alias, aliases_of, delete_alias as remove_alias},
};
use ruma::{
    OwnedRoomAliasId, OwnedRoomId, OwnedServerName, RoomAliasId, UserId,
    api::client::{
        alias::{create_alias::v3 as create_alias, delete_alias::v3 as delete_alias, get_alias::v3 as get_alias},
        room::aliases::v3 as room_aliases,
    },
    events::room::power_levels::UserPowerLevel,
};

use super::{entered, joined, remote};
use crate::{
    Node,
    accounts::limits::{self, Action},
    appservice::ask,
    client_api::untyped::MaySignIn,
    http::{Answer, MatrixError, Routes, Session},
    rooms::{directory, power, read},
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(get_alias).add(create_alias).add(delete_alias).add(room_aliases)
}

/// The room an alias stands for, ours or another server's, and servers that are in it.
///
/// # Errors
/// `M_NOT_FOUND`.
pub async fn resolve(node: &Arc<Node>, alias: &RoomAliasId) -> Answer<(OwnedRoomId, Vec<OwnedServerName>)> {
    let us = node.identity.server_name();
    if alias.server_name() == us {
        let look = || node.store.read(|read| directory::alias(read, us, alias));
        let mut found = look()?;
        // Bridges make rooms when somebody looks for them.
        if found.is_none() && ask::about_alias(node, alias).await {
            found = look()?;
        }
        return found.ok_or_else(|| MatrixError::not_found(format!("there is no room {alias}")));
    }
    remote::resolve_alias(node, alias).await
}

async fn get_alias(
    node: Arc<Node>,
    session: Option<Session>,
    MaySignIn { request, by_browser }: MaySignIn<get_alias::Request>,
) -> Answer<get_alias::Response> {
    // No web page sends this node to ask others. Clients that are none often show no token here, since none is asked for.
    if session.is_none() && request.room_alias.server_name() != node.identity.server_name() {
        if by_browser {
            return Err(MatrixError::missing_token());
        }
        limits::check(&node, Action::Question, "aliases of other servers")?;
    }
    let (room_id, servers) = resolve(&node, &request.room_alias).await?;
    Ok(get_alias::Response::new(room_id, servers))
}

async fn create_alias(
    node: Arc<Node>,
    session: Session,
    request: create_alias::Request,
) -> Answer<create_alias::Response> {
    let alias = request.room_alias;
    if alias.server_name() != node.identity.server_name() {
        return Err(MatrixError::invalid_param("only aliases of this server can be made here"));
    }
    node.appservices.check_alias(alias.as_str(), &session.user_id)?;
    let (user, room_id) = (session.user_id.to_string(), request.room_id);
    node.store
        .write(move |tx| {
            joined(tx, &room_id, &user)?;
            if aliases_of(tx, room_id.as_str())?.len() >= MAX_ALIASES {
                return Err(MatrixError::forbidden(format!("a room has at most {MAX_ALIASES} aliases here")));
            }
            if !add_alias(tx, alias.as_str(), room_id.as_str(), &user)? {
                return Err(MatrixError::new(
                    http::StatusCode::CONFLICT,
                    "M_UNKNOWN",
                    format!("the alias {alias} is taken"),
                ));
            }
            Ok(())
        })
        .await?;
    Ok(create_alias::Response::new())
}

async fn delete_alias(
    node: Arc<Node>,
    session: Session,
    request: delete_alias::Request,
) -> Answer<delete_alias::Response> {
    let alias = request.room_alias;
    node.store
        .write(move |tx| {
            let none = || MatrixError::not_found(format!("there is no alias {alias} here"));
            let Json(row) = ALIASES.get(tx, &alias.to_string())?.ok_or_else(none)?;
            let may = session.admin || row.creator == session.user_id || manages(tx, &row.room_id, &session.user_id)?;
            if !may {
                return Err(MatrixError::forbidden("this alias is for its maker and the room's moderators to delete"));
            }
            remove_alias(tx, alias.as_str())?;
            Ok(())
        })
        .await?;
    Ok(delete_alias::Response::new())
}

/// Whether a user is in a room and has the power to set its canonical alias, and so may manage its aliases and listing.
pub(super) fn manages(read: &dyn Read, room_id: &str, user: &UserId) -> Answer<bool> {
    let Some(room) = read::room_number(read, room_id)? else { return Ok(false) };
    if !read::is_joined(read, user.as_str(), room)? {
        return Ok(false);
    }
    Ok(power::levels(read, room)?.is_some_and(|levels| {
        levels.user(user) >= UserPowerLevel::from(levels.to_send("m.room.canonical_alias", true))
    }))
}

async fn room_aliases(
    node: Arc<Node>,
    session: Session,
    request: room_aliases::Request,
) -> Answer<room_aliases::Response> {
    node.store.read(|read| {
        entered(read, &request.room_id, session.user_id.as_str())?;
        let aliases = aliases_of(read, request.room_id.as_str())?;
        let aliases = aliases.into_iter().filter_map(|alias| OwnedRoomAliasId::try_from(alias).ok()).collect();
        Ok(room_aliases::Response::new(aliases))
    })
}
