//! The commands for scripts: send, read, rooms, join, profile. They run by themselves, or in the kith-chat that is open on the same data
//! (see [`crate::bridge`]).

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use matrix_sdk::{
    Client, Room, RoomState,
    ruma::{RoomAliasId, api::error::ErrorKind, events::room::message::RoomMessageEventContent},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    connect,
    failure::Failure,
    model::{Body, Message},
    text,
    worker::{self, convert},
};

/// What a script wants.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    Send { room: String, text: Option<String>, file: Option<PathBuf>, plain: bool },
    Read { room: String, limit: u16 },
    Rooms,
    Join { room: String },
    Profile { name: Option<String>, picture: Option<PathBuf>, no_picture: bool },
}

/// How long messages without their keys are waited for.
const PATIENCE: Duration = Duration::from_secs(4);
/// Bytes of a message: an event holds 64 KiB, its wrapping and encryption included.
pub const LONGEST: usize = 40_000;

/// Does it. The client is signed in and has synced.
pub async fn perform(client: &Client, request: Request) -> Result<Value> {
    match request {
        Request::Send { room, text, file, plain } => send(client, &room, text, file, plain).await,
        Request::Read { room, limit } => read(client, &room, limit).await,
        Request::Rooms => {
            let mut rooms = worker::rooms::list(client).await;
            rooms.sort_by(|one, other| one.name.cmp(&other.name).then_with(|| one.id.cmp(&other.id)));
            Ok(serde_json::to_value(rooms)?)
        }
        Request::Join { room } => {
            let room = worker::rooms::join(client, &room).await?;
            Ok(json!({ "room_id": room.room_id() }))
        }
        Request::Profile { name, picture, no_picture } => {
            if let Some(name) = name {
                worker::account::set_name(client, &name).await?;
            }
            if no_picture {
                worker::account::set_picture(client, None).await?;
            } else if let Some(path) = picture {
                worker::account::set_picture(client, Some(&path)).await?;
            }
            profile(client).await
        }
    }
}

async fn send(client: &Client, room: &str, text: Option<String>, file: Option<PathBuf>, plain: bool) -> Result<Value> {
    if text.as_ref().is_some_and(|text| text.len() > LONGEST) {
        bail!("the message is too long: {LONGEST} bytes at most; --file sends more");
    }
    let room = match find_room(client, room).await {
        Ok(room) => room,
        Err(_) if room.starts_with('@') => worker::rooms::conversation(client, room).await?,
        Err(error) => return Err(error),
    };
    if room.state() != RoomState::Joined {
        bail!("you are only invited to this room: `kith-chat join` accepts");
    }
    let event_id = match (file, text) {
        (Some(path), text) => {
            let file = worker::files::read(client, &path).await?;
            worker::files::send_now(&room, file, text).await?
        }
        (None, Some(text)) if !text.trim().is_empty() => {
            let content = if plain {
                RoomMessageEventContent::text_plain(text)
            } else {
                RoomMessageEventContent::text_markdown(text)
            };
            let sent = room.send(content).await.map_err(connect::judge)?;
            sent.response.event_id.to_string()
        }
        _ => bail!("there is nothing to send"),
    };
    let encrypted = room.latest_encryption_state().await.is_ok_and(|state| state.is_encrypted());
    Ok(json!({ "event_id": event_id, "room_id": room.room_id(), "encrypted": encrypted }))
}

async fn read(client: &Client, room: &str, limit: u16) -> Result<Value> {
    let room = find_room(client, room).await?;
    if room.state() != RoomState::Joined {
        bail!("you are only invited to this room: `kith-chat join` accepts");
    }
    let me = client.user_id().context("nobody is signed in")?;
    let timeline = worker::timeline::timeline(&room).await?;
    let limit = usize::from(limit);
    let shown = |message: &Message| message.is_said() || message.body == Body::Deleted;
    let messages = || async {
        let items = timeline.items().await;
        let messages = items.iter().map(|item| convert::message(item, me)).filter(shown);
        messages.collect::<Vec<_>>()
    };
    let mut beginning = false;
    while !beginning && messages().await.len() < limit {
        beginning = timeline.paginate_backwards(50).await.context("the server cannot be reached")?;
    }
    let end = tokio::time::Instant::now() + PATIENCE;
    let mut read = messages().await;
    while read.iter().any(|message| matches!(message.body, Body::Undecryptable(_))) && tokio::time::Instant::now() < end
    {
        tokio::time::sleep(Duration::from_millis(100)).await;
        read = messages().await;
    }
    let skip = read.len().saturating_sub(limit);
    Ok(read[skip..].iter().map(|message| told(&room, message)).collect())
}

async fn profile(client: &Client) -> Result<Value> {
    // A server answers that it is not found where there is none.
    fn or_none<T>(told: matrix_sdk::Result<Option<T>>) -> Result<Option<T>> {
        match told {
            Err(error) if error.client_api_error_kind() == Some(&ErrorKind::NotFound) => Ok(None),
            told => told.map_err(connect::judge),
        }
    }
    let account = client.account();
    let name = or_none(account.get_display_name().await)?;
    let picture = or_none(account.get_avatar_url().await)?;
    Ok(json!({ "user_id": client.user_id(), "name": name, "picture": picture }))
}

/// A message for scripts: its text is as it was written.
fn told(room: &Room, message: &Message) -> Value {
    let (kind, body) = match &message.body {
        Body::Text(_) => ("text", json!(message.source)),
        Body::Emote(_) => ("emote", json!(message.source)),
        Body::Notice(_) => ("notice", json!(message.source)),
        Body::File(_) => ("file", json!(message.summary())),
        Body::Deleted => ("deleted", Value::Null),
        Body::Undecryptable(why) => ("undecryptable", json!(why)),
        _ => ("other", json!(message.summary())),
    };
    let reactions: Value =
        message.reactions.iter().map(|(key, count, _)| json!({ "key": key, "count": count })).collect();
    json!({
        "event_id": message.event,
        "room_id": room.room_id(),
        "sender": message.sender,
        "name": message.name,
        "at_ms": message.at_ms,
        "kind": kind,
        "body": body,
        "edited": message.edited,
        "encrypted": message.encrypted,
        "reactions": reactions,
        "warning": message.warning.map(|warning| warning.words),
    })
}

/// A room by its id, alias or name, or the conversation with a user.
pub async fn find_room(client: &Client, wanted: &str) -> Result<Room> {
    if let Some(room) = worker::rooms::by_id(client, wanted) {
        return Ok(room);
    }
    let shown = text::line(wanted);
    if wanted.starts_with('@') {
        let user = worker::user_id(wanted)?;
        let none = || Failure::NoSuchRoom(format!("there is no conversation with {shown}"));
        return client.get_dm_room(&user).with_context(none);
    }
    let rooms =
        || client.rooms().into_iter().filter(|room| matches!(room.state(), RoomState::Joined | RoomState::Invited));
    if let Ok(alias) = RoomAliasId::parse(wanted) {
        let known =
            rooms().find(|room| room.canonical_alias().as_ref() == Some(&alias) || room.alt_aliases().contains(&alias));
        if let Some(room) = known {
            return Ok(room);
        }
        let found = client.resolve_room_alias(&alias).await.ok().and_then(|found| client.get_room(&found.room_id));
        return found.with_context(|| Failure::NoSuchRoom(format!("you are in no room {shown}")));
    }
    let mut named = Vec::new();
    for room in rooms() {
        let name = worker::rooms::name(&room).await;
        if name.to_lowercase() == wanted.to_lowercase() {
            named.push((name == wanted, room));
        }
    }
    let exact: BTreeSet<usize> = (0..named.len()).filter(|at| named[*at].0).collect();
    if exact.len() == 1 {
        named.retain(|(exact, _)| *exact);
    }
    match named.len() {
        1 => named.pop().map(|(_, room)| room).context("no room"),
        0 => bail!(Failure::NoSuchRoom(format!("there is no room “{shown}”; `kith-chat rooms` lists them"))),
        _ => bail!(Failure::NoSuchRoom(format!(
            "several rooms are called “{shown}”: give the id, from `kith-chat rooms`"
        ))),
    }
}

/// Prints an answer: JSON, one value a line, or words.
pub fn print(request: &Request, answer: &Value, as_json: bool) {
    let lines: Vec<&Value> = answer.as_array().map_or_else(|| vec![answer], |several| several.iter().collect());
    for value in lines {
        let string = |name: &str| value[name].as_str().unwrap_or_default();
        if as_json {
            println!("{}", text::json(value));
            continue;
        }
        match request {
            Request::Send { .. } => println!("{}", text::line(string("event_id"))),
            Request::Join { .. } => println!("{}", text::line(string("room_id"))),
            Request::Profile { .. } => {
                let or_none = |name| Some(string(name)).filter(|value| !value.is_empty()).unwrap_or("none");
                println!(
                    "{}  {}  picture: {}",
                    string("user_id"),
                    text::line(or_none("name")),
                    text::line(or_none("picture"))
                );
            }
            Request::Rooms => {
                let unread =
                    value["unread"].as_u64().filter(|unread| *unread > 0).map(|unread| format!(" ({unread} new)"));
                let invited = if value["standing"] == "invited" { " (invited)" } else { "" };
                println!("{}  {}{invited}{}", string("room_id"), string("name"), unread.unwrap_or_default());
            }
            Request::Read { .. } => {
                let at = crate::when::full(value["at_ms"].as_u64().unwrap_or(0));
                let body = match string("kind") {
                    "deleted" => "[deleted]".to_owned(),
                    "undecryptable" => format!("[cannot be read yet: {}]", string("body")),
                    "emote" => format!("* {}", text::block(string("body"))),
                    _ => text::block(string("body")),
                };
                println!("{at} {}: {}", text::line(string("name")), body.replace('\n', "\n    "));
            }
        }
    }
}
