//! `/pushers`, `/pushers/set` (client-server specification, "Push Notifications: Client behaviour"). A pusher belongs to
//! the device that set it and goes with it. What is sent to them: `crate::push`.

use std::sync::Arc;

use kith_store::Json;
use kith_store::tables::accounts::{MAX_PUSHERS, PUSHERS, PusherRow};
use ruma::api::client::push::{get_pushers, set_pusher};
use serde_json::{Map, Value, json};

use super::untyped::{Reply, Untyped};
use crate::Node;
use crate::http::{Answer, MatrixError, Routes, Session};

/// The path that every push gateway has.
const GATEWAY_PATH: &str = "/_matrix/push/v1/notify";

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(list).add(set)
}

async fn list(node: Arc<Node>, session: Session, _: Untyped<get_pushers::v3::Request, Reply>) -> Answer<Reply> {
    let pushers: Vec<Value> = node.store.read(|read| {
        PUSHERS
            .prefix(read, &session.user_id.to_string())?
            .map(|row| row.map(|(_, row)| row.0.pusher))
            .collect::<Result<_, kith_store::StoreError>>()
    })?;
    Ok(Reply::ok(json!({ "pushers": pushers })))
}

async fn set(
    node: Arc<Node>,
    session: Session,
    request: Untyped<set_pusher::v3::Request, set_pusher::v3::Response>,
) -> Answer<set_pusher::v3::Response> {
    let user = session.user_id.to_string();
    let app_id = required(&request.body, "app_id", 64)?;
    let pushkey = required(&request.body, "pushkey", 512)?;
    let key = (user, app_id.to_owned(), pushkey.to_owned());
    match request.body.get("kind") {
        None => return Err(MatrixError::missing_param("`kind` is missing")),
        Some(Value::Null) => {
            node.store.write(move |tx| PUSHERS.delete(tx, &key).map_err(MatrixError::from)).await?;
            return Ok(set_pusher::v3::Response::new());
        }
        Some(Value::String(kind)) if kind == "http" => {}
        Some(_) => return Err(MatrixError::invalid_param("only pushers of kind `http` are served")),
    }
    let pusher = checked(&request.body, node.config.federation.allow_private_addresses)?;
    let mut row = PusherRow {
        device: session.device_id.to_string(),
        created: node.clock.now_ms(),
        pusher,
        pushed: 0,
        badge: 0,
        failing_since: 0,
    };
    let watched = key.clone();
    let append = request.body.get("append").and_then(Value::as_bool).unwrap_or(false);
    node.store
        .write(move |tx| {
            if !append {
                // The app on this phone changed hands: its former user must not be notified any more.
                let mut others = Vec::new();
                for row in PUSHERS.range(tx, ..)? {
                    let (other, _) = row?;
                    if other.0 != key.0 && other.1 == key.1 && other.2 == key.2 {
                        others.push(other);
                    }
                }
                for other in others {
                    PUSHERS.delete(tx, &other)?;
                }
            }
            if !PUSHERS.contains(tx, &key)? && PUSHERS.prefix(tx, &key.0)?.count() >= MAX_PUSHERS {
                return Err(MatrixError::new(
                    http::StatusCode::TOO_MANY_REQUESTS,
                    "M_LIMIT_EXCEEDED",
                    "this user has too many pushers",
                ));
            }
            // What is there already is no news.
            row.pushed = tx.position();
            Ok(PUSHERS.put(tx, &key, &Json(row))?)
        })
        .await?;
    node.push.watch(&watched.0, &watched.1, &watched.2);
    Ok(set_pusher::v3::Response::new())
}

fn required<'a>(body: &'a Map<String, Value>, field: &str, longest: usize) -> Answer<&'a str> {
    match body.get(field).and_then(Value::as_str) {
        Some(text) if text.is_empty() || text.len() > longest => {
            Err(MatrixError::invalid_param(format!("`{field}` has 1 to {longest} bytes")))
        }
        Some(text) => Ok(text),
        None => Err(MatrixError::missing_param(format!("`{field}` is missing"))),
    }
}

/// The pusher as `GET /pushers` shows it.
fn checked(body: &Map<String, Value>, plain_http: bool) -> Answer<Value> {
    let mut pusher = Map::new();
    for field in ["app_id", "pushkey", "kind", "app_display_name", "device_display_name", "lang"] {
        pusher.insert(field.to_owned(), required(body, field, 512)?.into());
    }
    if let Some(tag) = body.get("profile_tag").and_then(Value::as_str).filter(|tag| tag.len() <= 32) {
        pusher.insert("profile_tag".to_owned(), tag.into());
    }
    let data = body.get("data").and_then(Value::as_object);
    let data = data.ok_or_else(|| MatrixError::missing_param("`data` is missing"))?;
    let url = data.get("url").and_then(Value::as_str);
    let url = url.ok_or_else(|| MatrixError::missing_param("`data.url` is missing: the push gateway"))?;
    let uri: http::Uri = url.parse().map_err(|_| MatrixError::invalid_param("`data.url` is not a URL"))?;
    let scheme = uri.scheme_str();
    if !(scheme == Some("https") || plain_http && scheme == Some("http")) || uri.path() != GATEWAY_PATH {
        return Err(MatrixError::invalid_param(format!("`data.url` must be https and end in {GATEWAY_PATH}")));
    }
    if Value::Object(data.clone()).to_string().len() > 4096 {
        return Err(MatrixError::invalid_param("`data` has at most 4096 bytes"));
    }
    pusher.insert("data".to_owned(), Value::Object(data.clone()));
    Ok(Value::Object(pusher))
}
