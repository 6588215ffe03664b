//! Content repository (client-server specification): `/_matrix/media/v3/upload`, `/create`, and the authenticated
//! downloads under `/_matrix/client/v1/media`.
//!
//! The older downloads without authentication are frozen, as the specification allows: they find nothing.

use std::sync::Arc;

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
    routing::{get, post, put},
};
use http::{Request, header};
use ruma::{
    MxcUri, ServerName, UInt,
    api::client::{
        authenticated_media::{get_media_config, get_media_preview},
        media::{create_mxc_uri, get_media_config as old_media_config, get_media_preview as old_media_preview},
    },
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    Node,
    accounts::limits::{self, Action},
    http::{Answer, MatrixError, Routes, Session, endpoint},
    media::{
        self,
        ingest::{self, About},
        serve,
        thumbnail::{self, Form},
    },
};

pub(super) fn routes(routes: Routes) -> Routes {
    let node = routes.node().clone();
    let with = |node: &Arc<Node>| node.clone();
    let (upload_node, fill_node, get_node, named_node, small_node) =
        (with(&node), with(&node), with(&node), with(&node), with(&node));
    let mut routes = routes.add(reserve).add(config).add(old_config).add(preview).add(old_preview);
    for version in ["v3", "r0"] {
        let (upload_node, fill_node) = (upload_node.clone(), fill_node.clone());
        routes = routes
            .raw(
                &format!("/_matrix/media/{version}/upload"),
                post(move |request: Request<Body>| answer(upload(upload_node.clone(), request))),
            )
            .raw(
                &format!("/_matrix/media/{version}/upload/{{server_name}}/{{media_id}}"),
                put(move |request: Request<Body>| answer(upload(fill_node.clone(), request))),
            );
        for path in ["download/{server}/{id}", "download/{server}/{id}/{name}", "thumbnail/{server}/{id}"] {
            routes = routes.raw(&format!("/_matrix/media/{version}/{path}"), get(frozen));
        }
    }
    routes
        .raw(
            "/_matrix/client/v1/media/download/{server_name}/{media_id}",
            get(move |request: Request<Body>| answer(download(get_node.clone(), request))),
        )
        .raw(
            "/_matrix/client/v1/media/download/{server_name}/{media_id}/{filename}",
            get(move |request: Request<Body>| answer(download(named_node.clone(), request))),
        )
        .raw(
            "/_matrix/client/v1/media/thumbnail/{server_name}/{media_id}",
            get(move |request: Request<Body>| answer(small(small_node.clone(), request))),
        )
}

async fn answer(work: impl Future<Output = Answer<Response>>) -> Response {
    work.await.unwrap_or_else(|error| error.into_response())
}

async fn frozen() -> Response {
    MatrixError::not_found("media are given to signed-in clients only: use /_matrix/client/v1/media").into_response()
}

async fn reserve(
    node: Arc<Node>,
    session: Session,
    _request: create_mxc_uri::v1::Request,
) -> Answer<create_mxc_uri::v1::Response> {
    let (id, expires) = ingest::reserve(&node, &session.user_id).await?;
    let mut response = create_mxc_uri::v1::Response::new(content_uri(&node, &id).into());
    response.unused_expires_at = Some(crate::rooms::timestamp(expires));
    Ok(response)
}

fn limit(node: &Node) -> UInt {
    UInt::new_saturating(node.config.limits.upload_size)
}

async fn config(
    node: Arc<Node>,
    _session: Session,
    _request: get_media_config::v1::Request,
) -> Answer<get_media_config::v1::Response> {
    Ok(get_media_config::v1::Response::new(limit(&node)))
}

#[expect(deprecated, reason = "older clients ask here")]
async fn old_config(
    node: Arc<Node>,
    _session: Session,
    _request: old_media_config::v3::Request,
) -> Answer<old_media_config::v3::Response> {
    Ok(old_media_config::v3::Response::new(limit(&node)))
}

async fn preview(
    node: Arc<Node>,
    session: Session,
    request: get_media_preview::v1::Request,
) -> Answer<get_media_preview::v1::Response> {
    let found = look(&node, &session, &request.url).await?;
    get_media_preview::v1::Response::from_serialize(&found).map_err(MatrixError::internal)
}

#[expect(deprecated, reason = "older clients ask here")]
async fn old_preview(
    node: Arc<Node>,
    session: Session,
    request: old_media_preview::v3::Request,
) -> Answer<old_media_preview::v3::Response> {
    let found = look(&node, &session, &request.url).await?;
    old_media_preview::v3::Response::from_serialize(&found).map_err(MatrixError::internal)
}

async fn look(node: &Arc<Node>, session: &Session, url: &str) -> Answer<Value> {
    limits::check(node, Action::Search, session.user_id.as_str())?;
    media::preview::preview(node, &session.user_id, url).await
}

fn content_uri(node: &Node, id: &str) -> String {
    let uri = format!("mxc://{}/{id}", node.server_name());
    debug_assert!(<&MxcUri>::from(uri.as_str()).is_valid());
    uri
}

#[derive(Deserialize)]
struct UploadQuery {
    filename: Option<String>,
}

async fn upload(node: Arc<Node>, request: Request<Body>) -> Answer<Response> {
    let (session, path, request) = endpoint::admit_streaming(&node, request).await?;
    let reserved = match path.as_slice() {
        [] => None,
        [server, id] if server == node.server_name().as_str() => Some(id.clone()),
        _ => return Err(MatrixError::forbidden("files of other servers cannot be uploaded here")),
    };
    let query: UploadQuery = endpoint::query(&request)?;
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let about = About { content_type: content_type.map(str::to_owned), filename: query.filename };
    let filled = reserved.is_some();
    let id = ingest::upload(&node, &session.user_id, reserved, about, request.into_body()).await?;
    let body = if filled { json!({}) } else { json!({"content_uri": content_uri(&node, &id)}) };
    Ok(axum::Json(body).into_response())
}

#[derive(Deserialize)]
struct DownloadQuery {
    #[serde(default = "yes")]
    allow_remote: bool,
}

fn yes() -> bool {
    true
}

async fn download(node: Arc<Node>, request: Request<Body>) -> Answer<Response> {
    let (_, path, request) = endpoint::admit_streaming(&node, request).await?;
    let query: DownloadQuery = endpoint::query(&request)?;
    let (server, id) = place(&path)?;
    let row = media::find(&node, server, id, query.allow_remote).await?;
    serve::file(&node, &row, path.get(2).map(String::as_str)).await
}

#[derive(Deserialize)]
struct ThumbnailQuery {
    width: u64,
    height: u64,
    method: Option<String>,
    #[serde(default = "yes")]
    allow_remote: bool,
}

async fn small(node: Arc<Node>, request: Request<Body>) -> Answer<Response> {
    let (_, path, request) = endpoint::admit_streaming(&node, request).await?;
    let query: ThumbnailQuery = endpoint::query(&request)?;
    let (server, id) = place(&path)?;
    let crop = match query.method.as_deref() {
        Some("crop") => true,
        None | Some("scale") => false,
        Some(_) => return Err(MatrixError::invalid_param("method is `crop` or `scale`")),
    };
    let form = Form::for_request(query.width, query.height, crop);
    let row = thumbnail::thumbnail(&node, server, id, form, query.allow_remote).await?;
    serve::file(&node, &row, None).await
}

fn place(path: &[String]) -> Answer<(&ServerName, &str)> {
    match path {
        [server, id, ..] => Ok((
            <&ServerName>::try_from(server.as_str()).map_err(|_| MatrixError::not_found("this is no server name"))?,
            id,
        )),
        _ => Err(MatrixError::not_found("a file has a server and an ID")),
    }
}
