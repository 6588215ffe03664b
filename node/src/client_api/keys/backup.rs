//! `/room_keys/version`, `/room_keys/keys`: key backups.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    response::{IntoResponse as _, Response},
    routing::get,
};
use futures::stream;
use http::{Request, header};
use kith_store::{StoreError, tables::e2ee::Backup};
use ruma::{
    UInt,
    api::{
        Metadata,
        client::backup::{
            add_backup_keys::v3 as add_keys, add_backup_keys_for_room::v3 as add_room_keys,
            add_backup_keys_for_session::v3 as add_session_key, create_backup_version::v3 as create_version,
            delete_backup_keys::v3 as delete_keys, delete_backup_keys_for_room::v3 as delete_room_keys,
            delete_backup_keys_for_session::v3 as delete_session_key, delete_backup_version::v3 as delete_version,
            get_backup_info::v3 as get_version, get_backup_keys::v3 as get_keys,
            get_backup_keys_for_room::v3 as get_room_keys, get_backup_keys_for_session::v3 as get_session_key,
            get_latest_backup_info::v3 as get_latest, update_backup_version::v3 as update_version,
        },
        path_builder::PathBuilder as _,
    },
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{object, raw};
use crate::{
    Node,
    client_api::untyped::Untyped,
    e2ee::backup::{self, Place, RoomKey, Tally},
    http::{Answer, MatrixError, Routes, Session, endpoint},
};

/// Keys read and sent at a time.
const PAGE: usize = 500;

pub(super) fn routes(routes: Routes) -> Routes {
    let routes = routes.add(create).add(latest).add(info).add(update).add(delete);
    let routes = routes.add(put_all).add(put_room).add(put_session);
    let routes = routes.add(session).add(remove_all).add(remove_room).add(remove_session);
    // These can be long, so they are sent while they are read.
    let add = |routes: Routes, paths: Vec<&'static str>| {
        paths.into_iter().fold(routes, |routes, path| {
            let node = routes.node().clone();
            routes.raw(path, get(move |request| download(node.clone(), request)))
        })
    };
    let routes = add(routes, <get_keys::Request as Metadata>::PATH_BUILDER.all_paths().collect());
    add(routes, <get_room_keys::Request as Metadata>::PATH_BUILDER.all_paths().collect())
}

async fn create(
    node: Arc<Node>,
    session: Session,
    request: create_version::Request,
) -> Answer<create_version::Response> {
    let (algorithm, auth_data) = backup::check_algorithm(&object(&request.algorithm, "body")?)?;
    let user = session.user_id.to_string();
    let version = node.store.write(move |tx| backup::create(tx, &user, algorithm, auth_data)).await?;
    Ok(create_version::Response::new(version.to_string()))
}

async fn latest(node: Arc<Node>, session: Session, _: get_latest::Request) -> Answer<get_latest::Response> {
    let (version, backup) = node.store.read(|read| backup::latest(read, session.user_id.as_str()))?;
    let Backup { algorithm, auth_data, etag, count } = backup;
    let algorithm = json!({ "algorithm": algorithm, "auth_data": auth_data });
    Ok(get_latest::Response::new(
        raw(algorithm.as_object().cloned().unwrap_or_default())?,
        UInt::new_saturating(count),
        etag.to_string(),
        version.to_string(),
    ))
}

async fn info(node: Arc<Node>, session: Session, request: get_version::Request) -> Answer<get_version::Response> {
    let version = backup::version(&request.version)?;
    let backup = node.store.read(|read| backup::get(read, session.user_id.as_str(), version))?;
    let Backup { algorithm, auth_data, etag, count } = backup;
    let algorithm = json!({ "algorithm": algorithm, "auth_data": auth_data });
    Ok(get_version::Response::new(
        raw(algorithm.as_object().cloned().unwrap_or_default())?,
        UInt::new_saturating(count),
        etag.to_string(),
        version.to_string(),
    ))
}

async fn update(
    node: Arc<Node>,
    session: Session,
    request: Untyped<update_version::Request, update_version::Response>,
) -> Answer<update_version::Response> {
    let (algorithm, auth_data) = backup::check_algorithm(&request.body)?;
    if request.text("version").is_some_and(|version| version != request.parameter(0)) {
        return Err(MatrixError::invalid_param("`version` in the body is another one than in the path"));
    }
    let version = backup::version(request.parameter(0))?;
    let user = session.user_id.to_string();
    node.store.write(move |tx| backup::update(tx, &user, version, &algorithm, auth_data)).await?;
    Ok(update_version::Response::new())
}

async fn delete(
    node: Arc<Node>,
    session: Session,
    request: delete_version::Request,
) -> Answer<delete_version::Response> {
    backup::delete(&node, session.user_id.as_str(), backup::version(&request.version)?).await?;
    Ok(delete_version::Response::new())
}

async fn put(node: &Arc<Node>, session: &Session, version: &str, keys: Vec<RoomKey>) -> Answer<(String, UInt)> {
    let user = session.user_id.to_string();
    // A version that was never given is refused as the wrong one, as clients expect it.
    let version = version.parse().unwrap_or_default();
    shown(node.store.write(move |tx| backup::put_keys(tx, &user, version, keys)).await?)
}

fn shown(tally: Tally) -> Answer<(String, UInt)> {
    Ok((tally.etag.to_string(), UInt::new_saturating(tally.count)))
}

fn value<T>(raw: &ruma::serde::Raw<T>) -> Answer<Value> {
    serde_json::from_str(raw.json().get()).map_err(|error| MatrixError::bad_json(error.to_string()))
}

async fn put_all(node: Arc<Node>, session: Session, request: add_keys::Request) -> Answer<add_keys::Response> {
    let mut keys = Vec::new();
    for (room, backup) in &request.rooms {
        for (id, key) in &backup.sessions {
            keys.push(RoomKey::check(room.as_str(), id, value(key)?)?);
        }
    }
    let (etag, count) = put(&node, &session, &request.version, keys).await?;
    Ok(add_keys::Response::new(etag, count))
}

async fn put_room(
    node: Arc<Node>,
    session: Session,
    request: add_room_keys::Request,
) -> Answer<add_room_keys::Response> {
    let mut keys = Vec::new();
    for (id, key) in &request.sessions {
        keys.push(RoomKey::check(request.room_id.as_str(), id, value(key)?)?);
    }
    let (etag, count) = put(&node, &session, &request.version, keys).await?;
    Ok(add_room_keys::Response::new(etag, count))
}

async fn put_session(
    node: Arc<Node>,
    session: Session,
    request: add_session_key::Request,
) -> Answer<add_session_key::Response> {
    let key = RoomKey::check(request.room_id.as_str(), &request.session_id, value(&request.session_data)?)?;
    let (etag, count) = put(&node, &session, &request.version, vec![key]).await?;
    Ok(add_session_key::Response::new(etag, count))
}

async fn session(
    node: Arc<Node>,
    session: Session,
    request: get_session_key::Request,
) -> Answer<get_session_key::Response> {
    let version = backup::version(&request.version)?;
    let key = node.store.read(|read| {
        let (user, room) = (session.user_id.as_str(), request.room_id.as_str());
        backup::key(read, user, version, room, &request.session_id)
    })?;
    Ok(get_session_key::Response::new(raw(key)?))
}

async fn remove_all(node: Arc<Node>, session: Session, request: delete_keys::Request) -> Answer<delete_keys::Response> {
    let version = backup::version(&request.version)?;
    let (etag, count) = shown(backup::delete_keys(&node, session.user_id.as_str(), version, None, None).await?)?;
    Ok(delete_keys::Response::new(etag, count))
}

async fn remove_room(
    node: Arc<Node>,
    session: Session,
    request: delete_room_keys::Request,
) -> Answer<delete_room_keys::Response> {
    let version = backup::version(&request.version)?;
    let room = Some(request.room_id.to_string());
    let (etag, count) = shown(backup::delete_keys(&node, session.user_id.as_str(), version, room, None).await?)?;
    Ok(delete_room_keys::Response::new(etag, count))
}

async fn remove_session(
    node: Arc<Node>,
    session: Session,
    request: delete_session_key::Request,
) -> Answer<delete_session_key::Response> {
    let version = backup::version(&request.version)?;
    let (room, id) = (Some(request.room_id.to_string()), Some(request.session_id));
    let (etag, count) = shown(backup::delete_keys(&node, session.user_id.as_str(), version, room, id).await?)?;
    Ok(delete_session_key::Response::new(etag, count))
}

#[derive(Deserialize)]
struct VersionQuery {
    version: Option<String>,
}

async fn download(node: Arc<Node>, request: Request<Body>) -> Response {
    match open(node, request).await {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => error.into_response(),
    }
}

async fn open(node: Arc<Node>, request: Request<Body>) -> Answer<Body> {
    let (session, path, request) = endpoint::admit_streaming(&node, request).await?;
    let query: VersionQuery = endpoint::query(&request)?;
    let version = query.version.ok_or_else(|| MatrixError::missing_param("`version` must name the backup"))?;
    let version = backup::version(&version)?;
    let user = session.user_id.to_string();
    node.store.read(|read| backup::get(read, &user, version))?;
    let pages = Pages { node, user, version, room: path.into_iter().next(), after: None, ended: false };
    Ok(Body::from_stream(stream::unfold(pages, async |mut pages| {
        if pages.ended {
            return None;
        }
        let page = pages.next();
        pages.ended |= page.is_err();
        Some((page, pages))
    })))
}

/// The keys of a backup as the JSON text of the answer, page by page.
struct Pages {
    node: Arc<Node>,
    user: String,
    version: u64,
    /// Only this room.
    room: Option<String>,
    after: Option<Place>,
    ended: bool,
}

impl Pages {
    fn next(&mut self) -> Result<Bytes, StoreError> {
        let page = self.node.store.read(|read| {
            backup::page(read, &self.user, self.version, self.room.as_deref(), self.after.as_ref(), PAGE)
        })?;
        let mut text = String::new();
        if self.after.is_none() {
            text.push_str(if self.room.is_some() { r#"{"sessions":{"# } else { r#"{"rooms":{"# });
        }
        for (place, key) in &page {
            let (room, session) = (&place.2, &place.3);
            let same_room = self.after.as_ref().map(|(_, _, last, _)| last == room);
            match (self.room.is_some(), same_room) {
                (true, None) | (false, None) => {}
                (true, Some(_)) | (false, Some(true)) => text.push(','),
                (false, Some(false)) => text.push_str("}},"),
            }
            if self.room.is_none() && same_room != Some(true) {
                text.push_str(&format!(r#"{}:{{"sessions":{{"#, Value::from(room.as_str())));
            }
            text.push_str(&format!("{}:{}", Value::from(session.as_str()), Value::Object(key.clone())));
            self.after = Some(place.clone());
        }
        if page.len() < PAGE {
            self.ended = true;
            if self.room.is_none() && self.after.is_some() {
                text.push_str("}}");
            }
            text.push_str("}}");
        }
        Ok(text.into())
    }
}
