//! `POST /rooms/{roomId}/upgrade` (client-server specification, "Room upgrades"): a new room takes the place of an old
//! one.

use std::sync::Arc;

use kith_room::{format, power::make_levels_plain};
use kith_store::{
    Json, Read,
    tables::{
        directory::{ALIASES, AliasRow, PUBLISHED_ROOMS, ROOM_ALIASES, aliases_of},
        rooms::membership as number,
    },
};
use ruma::{
    OwnedUserId, RoomId, RoomVersionId, UserId, api::client::room::upgrade_room::v3 as upgrade_room,
    events::room::power_levels::UserPowerLevel, room_version_rules::AuthorizationRules,
};
use serde_json::{Map, Value, json};

use super::{joined, membership};
use crate::{
    Node,
    http::{Answer, MatrixError, Routes, Session},
    rooms::{
        Draft, create, power, read,
        timeline::{self, Place},
        visibility::membership_of,
    },
};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(upgrade_room)
}

/// State that goes along, in this order; power levels come last, so that they cannot stand in the way of the rest.
const TRANSFERABLE: [&str; 9] = [
    "m.room.join_rules",
    "m.room.history_visibility",
    "m.room.guest_access",
    "m.room.server_acl",
    "m.room.encryption",
    "m.room.name",
    "m.room.topic",
    "m.room.avatar",
    "m.room.canonical_alias",
];

async fn upgrade_room(
    node: Arc<Node>,
    session: Session,
    request: upgrade_room::Request,
) -> Answer<upgrade_room::Response> {
    let user = &session.user_id;
    let version = create::supported(Some(&request.new_version))?;
    let old = membership::room(&node, &request.room_id)?;
    node.federation.whole(&request.room_id).await?;
    let plan = node.store.read(|read| plan(read, user, &request.room_id, &version, &request.additional_creators))?;
    let new = create::build(&node, user, &version, plan.create, plan.drafts).await?;
    let replacement = new.id().to_owned();

    let mut content = Map::new();
    content.insert("body".to_owned(), json!("This room has been replaced"));
    content.insert("replacement_room".to_owned(), json!(replacement));
    old.send(Draft::state(user.clone(), "m.room.tombstone", "", content)).await?;

    move_listing(&node, &request.room_id, &replacement).await?;
    for (kind, content) in plan.closing {
        // What the user may not change stays as it is; the tombstone tells the clients enough.
        match old.send(Draft::state(user.clone(), kind, "", content)).await {
            Ok(_) => {}
            Err(error) if error.is("M_FORBIDDEN") => {}
            Err(error) => return Err(error),
        }
    }
    Ok(upgrade_room::Response::new(replacement))
}

struct Plan {
    create: Map<String, Value>,
    drafts: Vec<Draft>,
    /// State that closes the old room.
    closing: Vec<(String, Map<String, Value>)>,
}

fn plan(
    read: &dyn Read,
    user: &UserId,
    room_id: &RoomId,
    version: &RoomVersionId,
    additional_creators: &[OwnedUserId],
) -> Answer<Plan> {
    let room = joined(read, room_id, user.as_str())?;
    let levels = power::levels(read, room)?.ok_or_else(|| MatrixError::not_found("this room is not known here"))?;
    if levels.user(user) < UserPowerLevel::from(levels.to_send("m.room.tombstone", true)) {
        return Err(MatrixError::forbidden("you may not replace this room"));
    }
    let content = |kind: &str| -> Answer<Option<Map<String, Value>>> {
        Ok(read::state_event(read, room, kind, "")?.map(|event| event.content().clone()))
    };
    let rules = format::rules(version).ok_or_else(|| MatrixError::internal("an unknown room version"))?;
    let above_all = rules.authorization.explicitly_privilege_room_creators;

    let mut create = content("m.room.create")?.unwrap_or_default();
    for field in ["creator", "additional_creators", "predecessor"] {
        create.remove(field);
    }
    create.insert("room_version".to_owned(), json!(version));
    if !rules.authorization.use_room_create_sender {
        create.insert("creator".to_owned(), json!(user));
    }
    let mut predecessor = json!({ "room_id": room_id });
    if above_all {
        create::add_creators(&mut create, user, additional_creators)?;
    } else {
        // The last event known; the tombstone cannot be named yet, for it names the new room.
        let from = Place::latest(read, room)?;
        let last = timeline::page(read, room, ruma::api::Direction::Backward, from, None, 1, |_| Ok(true))?;
        if let (Some(last), Some(predecessor)) = (last.events.first(), predecessor.as_object_mut()) {
            predecessor.insert("event_id".to_owned(), json!(last.row.event_id));
        }
    }
    create.insert("predecessor".to_owned(), predecessor);

    let mut drafts = Vec::new();
    for kind in TRANSFERABLE {
        if let Some(mut content) = content(kind)? {
            if kind == "m.room.join_rules" {
                adapt_join_rule(&mut content, &rules.authorization);
            }
            drafts.push(Draft::state(user.to_owned(), kind, "", content));
        }
    }
    for event in read::current_state(read, room)? {
        let Some(key) = event.state_key() else { continue };
        let child = event.kind() == "m.space.child" && event.content().contains_key("via");
        let banned = event.kind() == "m.room.member" && membership_of(&event) == Some(number::BAN);
        if child || banned {
            drafts.push(Draft::state(user.to_owned(), event.kind(), key, event.content().clone()));
        }
    }
    let mut old_levels = content("m.room.power_levels")?;
    // Rooms of old versions may have levels written as strings, which newer ones refuse.
    old_levels.as_mut().map(make_levels_plain);
    let mut new_levels = old_levels.clone().unwrap_or_else(|| create::default_power_levels(Map::new(), above_all));
    adapt(&mut new_levels, user, &levels, &create, above_all);
    drafts.push(Draft::state(user.to_owned(), "m.room.power_levels", "", new_levels));

    let mut closing = Vec::new();
    if let Some(mut levels) = old_levels {
        let default = levels.get("users_default").and_then(Value::as_i64).unwrap_or(0);
        for field in ["events_default", "invite"] {
            let now = levels.get(field).and_then(Value::as_i64).unwrap_or(0);
            levels.insert(field.to_owned(), json!(now.max(50).max(default.saturating_add(1))));
        }
        closing.push(("m.room.power_levels".to_owned(), levels));
    }
    if content("m.room.canonical_alias")?.is_some_and(|content| !content.is_empty()) {
        closing.insert(0, ("m.room.canonical_alias".to_owned(), Map::new()));
    }
    Ok(Plan { create, drafts, closing })
}

/// A rule that the version of the new room does not know would let nobody in, not even who is invited.
fn adapt_join_rule(content: &mut Map<String, Value>, rules: &AuthorizationRules) {
    let known = match content.get("join_rule").and_then(Value::as_str) {
        Some("knock") => rules.knocking,
        Some("restricted") => rules.restricted_join_rule,
        Some("knock_restricted") => rules.knock_restricted_join_rule,
        _ => true,
    };
    if !known {
        content.clear();
        content.insert("join_rule".to_owned(), json!("invite"));
    }
}

/// Fits power levels to the version of the new room: where creators stand above all, they are not listed, and only they
/// may end the room; else those who stood so in the old room are listed, and no level is out of their reach.
fn adapt(
    levels: &mut Map<String, Value>,
    user: &UserId,
    old: &kith_room::power::PowerLevels,
    create: &Map<String, Value>,
    above_all: bool,
) {
    let mut users = levels.remove("users").and_then(|users| users.as_object().cloned()).unwrap_or_default();
    if above_all {
        users.remove(user.as_str());
        for creator in create.get("additional_creators").and_then(Value::as_array).into_iter().flatten() {
            users.remove(creator.as_str().unwrap_or_default());
        }
        let state_default = levels.get("state_default").and_then(Value::as_i64).unwrap_or(50);
        let events = levels.entry("events").or_insert_with(|| json!({}));
        if let Some(events) = events.as_object_mut() {
            let tombstone = events.get("m.room.tombstone").and_then(Value::as_i64).unwrap_or(state_default);
            if tombstone <= state_default {
                events.insert("m.room.tombstone".to_owned(), json!(150.max(state_default.saturating_add(1))));
            }
        }
    } else {
        let mut above_all_before = false;
        for creator in old.creators() {
            if old.user(creator) == UserPowerLevel::Infinite {
                users.insert(creator.to_string(), json!(100));
                above_all_before = true;
            }
        }
        if above_all_before {
            let highest = users.values().filter_map(Value::as_i64).max().unwrap_or(100);
            cap(levels, highest);
        }
    }
    levels.insert("users".to_owned(), Value::Object(users));
}

/// What only those could do who stood above all levels, those may do who have the highest one now: nobody could else.
fn cap(levels: &mut Map<String, Value>, highest: i64) {
    for value in levels.values_mut() {
        match value {
            Value::Object(levels) => cap(levels, highest),
            level if level.as_i64().is_some_and(|level| level > highest) => *level = json!(highest),
            _ => {}
        }
    }
}

/// The local aliases, and the place in the published room directory, go over to the new room.
async fn move_listing(node: &Arc<Node>, old: &RoomId, new: &RoomId) -> Answer<()> {
    let (old, new) = (old.to_string(), new.to_string());
    node.store
        .write(move |tx| {
            for alias in aliases_of(tx, &old)? {
                if let Some(Json(row)) = ALIASES.get(tx, &alias)? {
                    ALIASES.put(tx, &alias, &Json(AliasRow { room_id: new.clone(), ..row }))?;
                    ROOM_ALIASES.delete(tx, &(old.clone(), alias.clone()))?;
                    ROOM_ALIASES.put(tx, &(new.clone(), alias), &())?;
                }
            }
            if let Some(row) = PUBLISHED_ROOMS.get(tx, &old)? {
                PUBLISHED_ROOMS.delete(tx, &old)?;
                PUBLISHED_ROOMS.put(tx, &new, &row)?;
            }
            Ok::<_, MatrixError>(())
        })
        .await
}
