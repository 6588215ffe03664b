//! The content repository: files as they came, thumbnails made of them, and the files of other servers.
//!
//! Bytes stream between the wire and the blob store, so memory does not grow with a file's size. A file's blob is
//! durable before its row, and its row before the answer, so an acknowledged upload is never lost.
//!
//! Threats met (DESIGN section 8): media are answered with a policy that forbids a browser to run anything in them, and
//! only harmless types are shown in place; sizes are bounded before anything is stored, images before they are decoded.

mod elsewhere;
pub mod ingest;
pub mod multipart;
pub mod preview;
mod remote;
pub mod serve;
pub(crate) mod sweep;
pub mod thumbnail;

use std::sync::Arc;

use kith_store::{
    Json,
    blobs::{Blob, BlobName},
    tables::media::{BLOB_USES, MEDIA, MediaRow, THUMBNAILS},
};
use ruma::ServerName;
use tokio::sync::Semaphore;

use crate::{
    Node,
    http::{Answer, MatrixError},
    platform::SpawnerExt as _,
};

/// The longest media ID that is taken.
const LONGEST_ID: usize = 255;

/// How many images are decoded at a time.
const DECODERS: usize = 2;

/// What is kept in memory for media.
#[derive(Debug)]
pub struct Media {
    decoders: Semaphore,
    previewers: Semaphore,
    elsewhere: elsewhere::Places,
}

impl Default for Media {
    fn default() -> Self {
        Self {
            decoders: Semaphore::new(DECODERS),
            previewers: Semaphore::new(preview::FETCHERS),
            elsewhere: elsewhere::Places::default(),
        }
    }
}

/// Whether a text can be a media ID (specification: `[0-9a-zA-Z_-]+`).
pub fn is_id(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= LONGEST_ID
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// The row of a file, fetched from its server if it is not here and `fetch` allows it.
///
/// # Errors
/// `M_NOT_FOUND`; `M_NOT_YET_UPLOADED` for a reserved ID; 502 when the other server does not answer.
pub async fn find(node: &Arc<Node>, server: &ServerName, id: &str, fetch: bool) -> Answer<MediaRow> {
    if !is_id(id) {
        return Err(MatrixError::not_found("this is no media ID"));
    }
    let key = (server.to_string(), id.to_owned());
    if let Some(Json(row)) = node.store.read(|read| MEDIA.get(read, &key))? {
        if server != node.server_name() {
            remote::note_use(node, key, &row);
        }
        return Ok(row);
    }
    if server == node.server_name() {
        return Err(match ingest::is_reserved(node, id)? {
            true => MatrixError::new(
                http::StatusCode::GATEWAY_TIMEOUT,
                "M_NOT_YET_UPLOADED",
                "this file is announced, but not uploaded yet",
            ),
            false => MatrixError::not_found("there is no such file here"),
        });
    }
    if !fetch {
        return Err(MatrixError::not_found("this file is of another server and not here"));
    }
    remote::fetch(node, server, id).await
}

/// Opens the bytes of a row.
pub async fn open(node: &Arc<Node>, row: &MediaRow) -> Answer<Blob> {
    let name: BlobName = row.blob.parse().map_err(MatrixError::internal)?;
    let blobs = node.blobs.clone();
    node.spawner
        .blocking("open media", move || blobs.get(&name, 0..u64::MAX))
        .await
        .map_err(MatrixError::internal)?
        .map_err(MatrixError::internal)?
        .ok_or_else(|| MatrixError::not_found("the bytes of this file are gone"))
}

/// Notes a file whose blob is stored.
async fn note(node: &Arc<Node>, server: &ServerName, id: &str, form: Option<String>, row: MediaRow) -> Answer<()> {
    let (server, id) = (server.to_string(), id.to_owned());
    node.store
        .write(move |tx| {
            BLOB_USES.put(tx, &(row.blob.clone(), server.clone(), id.clone()), &())?;
            match form {
                Some(form) => THUMBNAILS.put(tx, &(server, id, form), &Json(row)),
                None => MEDIA.put(tx, &(server, id), &Json(row)),
            }
        })
        .await
        .map_err(MatrixError::from)
}

#[cfg(test)]
mod tests;
