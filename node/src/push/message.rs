//! The body of `POST /_matrix/push/v1/notify` (push gateway specification, "Homeserver behaviour").

use kith_store::{Read, StoreError, tables::accounts::PusherRow};
use ruma::{
    UserId,
    push::{Action, HighlightTweakValue, Tweak},
};
use serde_json::{Map, Value, json};

use super::due::Due;
use crate::rooms::read;

/// What a pusher's gateway is told about an event; without one, about the badge alone.
pub(super) fn body(
    read: &dyn Read,
    row: &PusherRow,
    user: &UserId,
    due: Option<&Due>,
    badge: u64,
) -> Result<Value, StoreError> {
    let text = |field: &str| row.pusher.get(field).cloned().unwrap_or_default();
    let mut data = row.pusher.get("data").and_then(Value::as_object).cloned().unwrap_or_default();
    data.remove("url");
    let event_id_only = data.get("format").and_then(Value::as_str) == Some("event_id_only");
    let mut device = json!({
        "app_id": text("app_id"),
        "pushkey": text("pushkey"),
        "pushkey_ts": row.created / 1000,
        "data": data,
    });
    let mut told = Map::new();
    told.insert("counts".to_owned(), json!({ "unread": badge }));
    if let Some(due) = due {
        let (tweaks, is_urgent) = tweaks(&due.actions);
        told.insert("event_id".to_owned(), json!(due.event_id));
        told.insert("room_id".to_owned(), json!(due.room_id));
        let is_urgent = is_urgent || due.kind == "m.room.encrypted";
        told.insert("prio".to_owned(), json!(if is_urgent { "high" } else { "low" }));
        if !event_id_only {
            device["tweaks"] = Value::Object(tweaks);
            told.insert("type".to_owned(), json!(due.kind));
            told.insert("sender".to_owned(), json!(due.sender));
            told.insert("content".to_owned(), json!(due.content));
            if due.kind == "m.room.member" {
                told.insert("user_is_target".to_owned(), json!(due.state_key.as_deref() == Some(user.as_str())));
            }
            let of_state = |kind: &str, key: &str, field: &str| -> Result<Option<Value>, StoreError> {
                let event = read::state_event(read, due.room, kind, key)?;
                Ok(event.and_then(|event| event.content().get(field).filter(|value| value.is_string()).cloned()))
            };
            for (name, value) in [
                ("sender_display_name", of_state("m.room.member", &due.sender, "displayname")?),
                ("room_name", of_state("m.room.name", "", "name")?),
                ("room_alias", of_state("m.room.canonical_alias", "", "alias")?),
            ] {
                told.extend(value.map(|value| (name.to_owned(), value)));
            }
        }
    } else {
        told.insert("prio".to_owned(), json!("low"));
    }
    told.insert("devices".to_owned(), json!([device]));
    Ok(json!({ "notification": told }))
}

/// The tweaks of actions, and whether somebody should be woken.
fn tweaks(actions: &[Action]) -> (Map<String, Value>, bool) {
    let mut tweaks = Map::new();
    for action in actions {
        if let Action::SetTweak(tweak) = action {
            match tweak {
                Tweak::Sound(sound) => drop(tweaks.insert("sound".to_owned(), json!(sound.as_str()))),
                Tweak::Highlight(value) => {
                    drop(tweaks.insert("highlight".to_owned(), json!(*value == HighlightTweakValue::Yes)));
                }
                _ => {}
            }
        }
    }
    let is_urgent = tweaks.contains_key("sound") || tweaks.get("highlight") == Some(&Value::Bool(true));
    (tweaks, is_urgent)
}
