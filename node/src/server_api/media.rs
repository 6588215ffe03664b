//! Content repository (server-server specification): `GET /_matrix/federation/v1/media/download/{mediaId}` and
//! `/thumbnail/{mediaId}`: our own files to other servers, as a stream.

use std::sync::Arc;

use axum::{
    body::Body,
    response::{IntoResponse as _, Response},
    routing::get,
};
use futures::StreamExt as _;
use http::{Request, header};
use kith_store::tables::media::MediaRow;
use serde::Deserialize;

use crate::{
    Node,
    http::{Answer, MatrixError, Routes, endpoint},
    media::{
        self, multipart, serve,
        thumbnail::{self, Form},
    },
};

pub(super) fn routes(routes: Routes) -> Routes {
    let (whole, small) = (routes.node().clone(), routes.node().clone());
    routes
        .raw(
            "/_matrix/federation/v1/media/download/{media_id}",
            get(move |request: Request<Body>| answer(download(whole.clone(), request))),
        )
        .raw(
            "/_matrix/federation/v1/media/thumbnail/{media_id}",
            get(move |request: Request<Body>| answer(thumbnail(small.clone(), request))),
        )
}

async fn answer(work: impl Future<Output = Answer<Response>>) -> Response {
    work.await.unwrap_or_else(|error| error.into_response())
}

async fn download(node: Arc<Node>, request: Request<Body>) -> Answer<Response> {
    let (_, path, _) = endpoint::admit_server(&node, request).await?;
    let id = path.first().map(String::as_str).unwrap_or_default();
    let row = media::find(&node, node.server_name(), id, false).await?;
    hand_out(&node, &row).await
}

#[derive(Deserialize)]
struct ThumbnailQuery {
    width: u64,
    height: u64,
    method: Option<String>,
}

async fn thumbnail(node: Arc<Node>, request: Request<Body>) -> Answer<Response> {
    let (_, path, request) = endpoint::admit_server(&node, request).await?;
    let query: ThumbnailQuery = endpoint::query(&request)?;
    let id = path.first().map(String::as_str).unwrap_or_default();
    let form = Form::for_request(query.width, query.height, query.method.as_deref() == Some("crop"));
    let row = thumbnail::thumbnail(&node, node.server_name(), id, form, false).await?;
    hand_out(&node, &row).await
}

async fn hand_out(node: &Arc<Node>, row: &MediaRow) -> Answer<Response> {
    let blob = media::open(node, row).await?;
    let boundary = node.rng.token(32);
    // What a client gave as a content type goes into a header here: no line may end in it.
    let kind: String =
        row.content_type.as_deref().unwrap_or("application/octet-stream").chars().filter(|c| !c.is_control()).collect();
    let disposition = serve::disposition(row.content_type.as_deref(), row.filename.as_deref());
    let head = multipart::head(&boundary, &kind, &disposition);
    let tail = multipart::tail(&boundary);
    let length = head.len() as u64 + blob.size + tail.len() as u64;
    let once = |text: String| futures::stream::once(async move { Ok::<_, axum::Error>(bytes::Bytes::from(text)) });
    let body = once(head).chain(serve::stream(node, blob).into_data_stream()).chain(once(tail));
    Response::builder()
        .header(header::CONTENT_TYPE, format!("multipart/mixed; boundary={boundary}"))
        .header(header::CONTENT_LENGTH, length)
        .body(Body::from_stream(body))
        .map_err(MatrixError::internal)
}
