//! Making a room: from what a client asks for to its first events, all in one commit (client-server specification,
//! "Creation").

use std::sync::Arc;

use kith_room::{format, keys::may_share};
use kith_store::{
    Json,
    tables::directory::{ALIASES, PUBLISHED_ROOMS, PublishedRow, add_alias},
};
use ruma::{
    OwnedRoomAliasId, OwnedRoomId, OwnedUserId, RoomAliasId, RoomVersionId, UserId,
    api::client::room::{
        Visibility,
        create_room::v3::{Request, RoomPreset},
    },
    events::AnyInitialStateEvent,
    serde::Raw,
};
use serde_json::{Map, Value, json};

use super::{Draft, Room};
use crate::{
    Node,
    client_api::rooms::membership,
    http::{Answer, MatrixError},
};

/// The version of rooms whose maker names none.
pub const DEFAULT_VERSION: RoomVersionId = RoomVersionId::V12;
/// Users that one request may invite.
const MOST_INVITES: usize = 200;
/// State events that one request may set.
const MOST_STATE: usize = 500;

/// Makes a room as a client asks for it; the invited are invited, the alias made, the room published.
///
/// # Errors
/// `M_UNSUPPORTED_ROOM_VERSION`, `M_ROOM_IN_USE`, `M_INVALID_ROOM_STATE`, `M_INVALID_PARAM`, `M_SERVER_NOT_TRUSTED`, `M_FORBIDDEN`. When inviting
/// users of other servers fails, the room is there, and the error says whom to invite again.
pub async fn create(node: &Arc<Node>, creator: &UserId, request: Request) -> Answer<OwnedRoomId> {
    let plan = Plan::new(creator, &request)?;
    let alias = match &request.room_alias_name {
        Some(name) => Some(free_alias(node, name)?),
        None => None,
    };
    let (local, remote): (Vec<_>, Vec<_>) = plan.invited.iter().cloned().partition(|user| node.is_local(user));
    check_invited(node, creator, &plan, &local, &remote)?;
    let mut drafts = plan.drafts(creator, &request, alias.as_ref())?;
    for user in local {
        let mut content = plan.invite()?;
        node.store.read(|read| membership::add_profile(read, &user, &mut content))?;
        drafts.push(membership::member_draft(creator, &user, content));
    }
    let room = build(node, creator, &plan.version, plan.create.clone(), drafts).await?;
    let room_id = room.id().to_owned();
    publish(node, creator, &room_id, alias.as_ref(), request.visibility == Visibility::Public).await?;
    for user in remote {
        membership::invite(node, creator, &room_id, &user, plan.invite()?).await.map_err(|mut error| {
            error.message = format!("the room {room_id} was made, but {user} could not be invited: {}", error.message);
            error
        })?;
    }
    Ok(room_id)
}

/// Makes a room of its create event's content and what follows: first its maker's join, then `drafts`.
///
/// # Errors
/// `M_INVALID_ROOM_STATE` when the events do not go together.
pub async fn build(
    node: &Arc<Node>,
    creator: &UserId,
    version: &RoomVersionId,
    create: Map<String, Value>,
    mut drafts: Vec<Draft>,
) -> Answer<Room> {
    let mut join = membership::member("join", None)?;
    node.store.read(|read| membership::add_profile(read, creator, &mut join))?;
    drafts.insert(0, membership::member_draft(creator, creator, join));
    let rules = format::rules(version).ok_or_else(|| unsupported(version))?;
    let room_id = (!rules.authorization.room_create_event_id_as_room_id).then(|| node.rooms.new_room_id());
    let create = Draft::state(creator.to_owned(), "m.room.create", "", create);
    node.rooms.create(version, room_id, |_| drafts, create).await.map_err(|error| {
        if error.is("M_FORBIDDEN") {
            MatrixError::new(http::StatusCode::BAD_REQUEST, "M_INVALID_ROOM_STATE", error.message)
        } else {
            error
        }
    })
}

fn unsupported(version: &RoomVersionId) -> MatrixError {
    MatrixError::new(
        http::StatusCode::BAD_REQUEST,
        "M_UNSUPPORTED_ROOM_VERSION",
        format!("room version {version} is not supported"),
    )
}

/// The version asked for, if new rooms can have it.
pub fn supported(version: Option<&RoomVersionId>) -> Answer<RoomVersionId> {
    let version = version.unwrap_or(&DEFAULT_VERSION);
    match format::rules(version) {
        Some(_) => Ok(version.clone()),
        None => Err(unsupported(version)),
    }
}

fn free_alias(node: &Node, name: &str) -> Answer<OwnedRoomAliasId> {
    let alias = format!("#{name}:{}", node.identity.server_name());
    let alias = RoomAliasId::parse(&alias)
        .ok()
        .filter(|alias| alias.alias() == name && !name.is_empty() && alias.as_str().len() <= 255)
        .ok_or_else(|| MatrixError::invalid_param("this cannot be the local part of a room alias"))?;
    if node.store.read(|read| ALIASES.contains(read, &alias.to_string()))? {
        return Err(in_use(&alias));
    }
    Ok(alias)
}

fn in_use(alias: &RoomAliasId) -> MatrixError {
    MatrixError::new(http::StatusCode::BAD_REQUEST, "M_ROOM_IN_USE", format!("the alias {alias} is taken"))
}

async fn publish(
    node: &Arc<Node>,
    creator: &UserId,
    room_id: &OwnedRoomId,
    alias: Option<&OwnedRoomAliasId>,
    public: bool,
) -> Answer<()> {
    if alias.is_none() && !public {
        return Ok(());
    }
    let (room_id, creator, alias) = (room_id.to_string(), creator.to_string(), alias.cloned());
    let since = node.clock.now_ms();
    node.store
        .write(move |tx| {
            if let Some(alias) = &alias
                && !add_alias(tx, alias.as_str(), &room_id, &creator)?
            {
                return Err(in_use(alias));
            }
            if public {
                PUBLISHED_ROOMS.put(tx, &room_id, &Json(PublishedRow { by: creator, since }))?;
            }
            Ok(())
        })
        .await
}

/// That those invited exist, and that servers of both kinds do not meet in the room.
fn check_invited(
    node: &Node,
    creator: &UserId,
    plan: &Plan,
    local: &[OwnedUserId],
    remote: &[OwnedUserId],
) -> Answer<()> {
    node.store.read(|read| local.iter().try_for_each(|user| membership::check_invitable(read, user, creator)))?;
    if !remote.is_empty() && plan.create.get("m.federate") == Some(&Value::Bool(false)) {
        return Err(MatrixError::new(
            http::StatusCode::BAD_REQUEST,
            "M_INVALID_ROOM_STATE",
            "users of other servers cannot be invited to a room that does not federate",
        ));
    }
    let mut servers = vec![node.identity.server_name()];
    for user in remote {
        may_share(servers.iter().copied(), user.server_name())
            .map_err(|error| MatrixError::forbidden(error.to_string()))?;
        servers.push(user.server_name());
    }
    Ok(())
}

/// What a request comes to.
struct Plan {
    version: RoomVersionId,
    preset: RoomPreset,
    /// Content of the create event.
    create: Map<String, Value>,
    invited: Vec<OwnedUserId>,
    is_direct: bool,
    /// Whether creators stand above all power levels.
    creators_above_all: bool,
}

impl Plan {
    fn new(creator: &UserId, request: &Request) -> Answer<Self> {
        let version = supported(request.room_version.as_ref())?;
        let rules = format::rules(&version).ok_or_else(|| unsupported(&version))?;
        if !request.invite_3pid.is_empty() {
            return Err(membership::no_identity_server());
        }
        let preset = match (&request.preset, &request.visibility) {
            (Some(preset @ (RoomPreset::PrivateChat | RoomPreset::PublicChat | RoomPreset::TrustedPrivateChat)), _) => {
                preset.clone()
            }
            (Some(_), _) => return Err(MatrixError::bad_json("this preset is not known")),
            (None, Visibility::Public) => RoomPreset::PublicChat,
            (None, _) => RoomPreset::PrivateChat,
        };
        let mut invited: Vec<OwnedUserId> = Vec::new();
        for user in &request.invite {
            if user != creator && !invited.contains(user) {
                invited.push(user.clone());
            }
        }
        if invited.len() > MOST_INVITES {
            return Err(MatrixError::invalid_param(format!("at most {MOST_INVITES} users can be invited at once")));
        }
        if request.initial_state.len() > MOST_STATE {
            return Err(MatrixError::invalid_param(format!("at most {MOST_STATE} state events can be set at once")));
        }
        let mut create = object(request.creation_content.as_ref().map(|raw| raw.json().get()), "creation_content")?;
        let creators_above_all = rules.authorization.explicitly_privilege_room_creators;
        create.insert("room_version".to_owned(), json!(version));
        if rules.authorization.use_room_create_sender {
            create.remove("creator");
        } else {
            create.insert("creator".to_owned(), json!(creator));
        }
        if creators_above_all {
            let trusted = if preset == RoomPreset::TrustedPrivateChat { invited.as_slice() } else { &[] };
            add_creators(&mut create, creator, trusted)?;
        }
        Ok(Self { version, preset, create, invited, is_direct: request.is_direct, creators_above_all })
    }

    /// The content of an invite.
    fn invite(&self) -> Answer<Map<String, Value>> {
        let mut content = membership::member("invite", None)?;
        if self.is_direct {
            content.insert("is_direct".to_owned(), json!(true));
        }
        Ok(content)
    }

    /// The events after the maker's join and before the invites, in the order of the specification.
    fn drafts(&self, creator: &UserId, request: &Request, alias: Option<&OwnedRoomAliasId>) -> Answer<Vec<Draft>> {
        let state = |kind: &str, content: Value| {
            let content = match content {
                Value::Object(content) => content,
                _ => Map::new(),
            };
            Draft::state(creator.to_owned(), kind, "", content)
        };
        let initial: Vec<Draft> =
            request.initial_state.iter().map(|raw| initial_state(creator, raw)).collect::<Answer<_>>()?;
        let given =
            |kind: &str| initial.iter().any(|draft| draft.kind == kind && draft.state_key.as_deref() == Some(""));
        let mut drafts = vec![state("m.room.power_levels", Value::Object(self.power_levels(creator, request)?))];
        if let Some(alias) = alias {
            drafts.push(state("m.room.canonical_alias", json!({ "alias": alias })));
        }
        let public = self.preset == RoomPreset::PublicChat;
        for (kind, content) in [
            ("m.room.join_rules", json!({ "join_rule": if public { "public" } else { "invite" } })),
            ("m.room.history_visibility", json!({ "history_visibility": "shared" })),
            ("m.room.guest_access", json!({ "guest_access": if public { "forbidden" } else { "can_join" } })),
        ] {
            if !given(kind) {
                drafts.push(state(kind, content));
            }
        }
        drafts.extend(initial.into_iter().filter(|draft| {
            let overridden = (draft.kind == "m.room.name" && request.name.is_some())
                || (draft.kind == "m.room.topic" && request.topic.is_some());
            !(overridden && draft.state_key.as_deref() == Some(""))
        }));
        if let Some(name) = &request.name {
            drafts.push(state("m.room.name", json!({ "name": name })));
        }
        if let Some(topic) = &request.topic {
            let rich = json!({ "m.text": [{ "mimetype": "text/plain", "body": topic }] });
            drafts.push(state("m.room.topic", json!({ "topic": topic, "m.topic": rich })));
        }
        Ok(drafts)
    }

    fn power_levels(&self, creator: &UserId, request: &Request) -> Answer<Map<String, Value>> {
        let mut users = Map::new();
        if !self.creators_above_all {
            users.insert(creator.to_string(), json!(100));
            if self.preset == RoomPreset::TrustedPrivateChat {
                users.extend(self.invited.iter().map(|user| (user.to_string(), json!(100))));
            }
        }
        let mut levels = default_power_levels(users, self.creators_above_all);
        let invite = if self.preset == RoomPreset::PublicChat { 50 } else { 0 };
        levels.insert("invite".to_owned(), json!(invite));
        let raw = request.power_level_content_override.as_ref().map(|raw| raw.json().get());
        let given = object(raw, "power_level_content_override")?;
        if self.creators_above_all
            && let Some(users) = given.get("users").and_then(Value::as_object)
            && let Some(user) = self.creators(creator).into_iter().find(|user| users.contains_key(user))
        {
            return Err(MatrixError::invalid_param(format!(
                "{user} is a creator of the room and stands above all power levels: leave them out of `users`"
            )));
        }
        levels.extend(given);
        Ok(levels)
    }

    fn creators(&self, creator: &UserId) -> Vec<String> {
        let others = self.create.get("additional_creators").and_then(Value::as_array).into_iter().flatten();
        std::iter::once(creator.as_str()).chain(others.filter_map(Value::as_str)).map(str::to_owned).collect()
    }
}

/// The power levels of a new room. From version 12 on only its creators may end it with a tombstone.
pub fn default_power_levels(users: Map<String, Value>, creators_above_all: bool) -> Map<String, Value> {
    let levels = json!({
        "users": users,
        "users_default": 0,
        "events": {
            "m.room.name": 50,
            "m.room.avatar": 50,
            "m.room.canonical_alias": 50,
            "m.room.power_levels": 100,
            "m.room.history_visibility": 100,
            "m.room.encryption": 100,
            "m.room.server_acl": 100,
            "m.room.tombstone": if creators_above_all { 150 } else { 100 },
        },
        "events_default": 0,
        "state_default": 50,
        "ban": 50,
        "kick": 50,
        "redact": 50,
        "invite": 0,
        "notifications": { "room": 50 },
    });
    match levels {
        Value::Object(levels) => levels,
        _ => Map::new(),
    }
}

/// Merges users into the `additional_creators` of a create event, each once, the creator itself left out.
pub fn add_creators(create: &mut Map<String, Value>, creator: &UserId, more: &[OwnedUserId]) -> Answer<()> {
    let wrong = || MatrixError::invalid_param("`additional_creators` is a list of user IDs");
    let mut all: Vec<OwnedUserId> = Vec::new();
    let given = match create.remove("additional_creators") {
        None => Vec::new(),
        Some(Value::Array(given)) => given,
        Some(_) => return Err(wrong()),
    };
    for user in given {
        all.push(user.as_str().and_then(|user| UserId::parse(user).ok()).ok_or_else(wrong)?);
    }
    all.extend(more.iter().cloned());
    let mut once: Vec<OwnedUserId> = Vec::new();
    for user in all {
        if user != creator && !once.contains(&user) {
            once.push(user);
        }
    }
    if !once.is_empty() {
        create.insert("additional_creators".to_owned(), json!(once));
    }
    Ok(())
}

fn object(text: Option<&str>, what: &str) -> Answer<Map<String, Value>> {
    match text {
        Some(text) => serde_json::from_str(text).map_err(|_| MatrixError::bad_json(format!("`{what}` is no object"))),
        None => Ok(Map::new()),
    }
}

fn initial_state(creator: &UserId, raw: &Raw<AnyInitialStateEvent>) -> Answer<Draft> {
    #[derive(serde::Deserialize)]
    struct Initial {
        #[serde(rename = "type")]
        kind: String,
        #[serde(default)]
        state_key: String,
        content: Map<String, Value>,
    }
    let event: Initial = serde_json::from_str(raw.json().get())
        .map_err(|error| MatrixError::bad_json(format!("an event of `initial_state` is malformed: {error}")))?;
    if event.kind == "m.room.create" {
        return Err(MatrixError::invalid_param("`initial_state` cannot hold the create event: use `creation_content`"));
    }
    Ok(Draft::state(creator.to_owned(), event.kind, event.state_key, event.content))
}
