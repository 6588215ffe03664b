//! Files of other servers: fetched on first use, then kept like our own, within the configured size.

use std::{sync::Arc, time::Duration};

use http::header;
use http_body_util::BodyExt as _;
use kith_store::{
    Json, StoreError, Tx,
    tables::media::{BLOB_USES, MEDIA, MediaRow, THUMBNAILS},
};
use ruma::{ServerName, api::federation::authenticated_media::get_content};

use super::{elsewhere, ingest::Intake, multipart::Reader};
use crate::{
    Node,
    http::{Answer, MatrixError},
};

/// How long a file may take in all.
const LONGEST: Duration = Duration::from_secs(600);
/// How long its server may keep us waiting before the first byte.
const PATIENCE: Duration = Duration::from_secs(60);

/// How exact is known when a file was last asked for, in milliseconds: not every download shall be a write.
const USE_NOTED: u64 = 60 * 60 * 1000;

/// Notes that a file is asked for, so that others are dropped before it. Nobody waits for that.
pub(super) fn note_use(node: &Arc<Node>, key: (String, String), row: &MediaRow) {
    let now = node.clock.now_ms();
    if now.saturating_sub(row.used.max(row.created)) < USE_NOTED {
        return;
    }
    drop(node.store.submit(move |tx| {
        if let Some(Json(row)) = MEDIA.get(tx, &key)? {
            MEDIA.put(tx, &key, &Json(MediaRow { used: now, ..row }))?;
        }
        Ok::<_, StoreError>(())
    }));
}

/// Drops the rows of other servers' files, those not asked for longest first, until at most `limit` bytes are left, thumbnails
/// counted. Gives how many files. Their blobs are swept when nothing else uses them.
pub(super) async fn trim(node: &Arc<Node>, limit: u64) -> Result<u64, StoreError> {
    let own = node.server_name().to_string();
    node.store
        .write(move |tx| {
            let mut files = Vec::new();
            let mut total = 0u64;
            for row in MEDIA.range(tx, ..)? {
                let (key, Json(row)) = row?;
                if key.0 != own {
                    let mut size = row.size;
                    for thumbnail in THUMBNAILS.prefix(tx, &key)? {
                        size = size.saturating_add(thumbnail?.1.0.size);
                    }
                    total = total.saturating_add(size);
                    files.push((row.used.max(row.created), key, row.blob, size));
                }
            }
            files.sort_unstable();
            let mut dropped = 0;
            for (_, key, blob, size) in files {
                if total <= limit {
                    break;
                }
                total -= size;
                dropped += 1;
                forget(tx, key, blob)?;
            }
            Ok(dropped)
        })
        .await
}

/// Deletes a file's row, those of its thumbnails, and their uses of blobs.
pub(super) fn forget(tx: &mut Tx, key: (String, String), blob: String) -> Result<(), StoreError> {
    let thumbnails: Vec<_> = THUMBNAILS.prefix(tx, &key)?.collect::<Result<_, _>>()?;
    for (thumbnail, Json(row)) in thumbnails {
        THUMBNAILS.delete(tx, &thumbnail)?;
        BLOB_USES.delete(tx, &(row.blob, key.0.clone(), key.1.clone()))?;
    }
    MEDIA.delete(tx, &key)?;
    BLOB_USES.delete(tx, &(blob, key.0, key.1))?;
    Ok(())
}

/// Fetches a file, stores it, gives its row.
pub(super) async fn fetch(node: &Arc<Node>, server: &ServerName, id: &str) -> Answer<MediaRow> {
    let unreachable = |reason: &dyn std::fmt::Display| {
        MatrixError::unreachable(format!("the file is on {server}, which did not give it: {reason}"))
    };
    let mut request = get_content::v1::Request::new(id.to_owned());
    request.timeout_ms = PATIENCE / 2;
    let response = node.federation.client().stream(server, request, LONGEST).await.map_err(|error| {
        match error.status() == Some(http::StatusCode::NOT_FOUND) {
            true => MatrixError::not_found("the file's server does not have it"),
            false => unreachable(&error),
        }
    })?;
    let (parts, mut body) = response.into_parts();
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut reader = Reader::new(kind).map_err(|error| unreachable(&error))?;
    let mut intake = Intake::begin(node, node.config.limits.remote_media_size).await?;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| unreachable(&error))?;
        if let Ok(bytes) = frame.into_data() {
            intake.add(&reader.feed(&bytes).map_err(|error| unreachable(&error))?).await?;
        }
    }
    if !reader.is_complete() {
        return Err(unreachable(&"the answer broke off"));
    }
    let mut head = reader.head().cloned().unwrap_or_default();
    if let Some(place) = head.location.take() {
        let (parts, file) = elsewhere::get(node, server, &place).await?.into_parts();
        intake = Intake::begin(node, node.config.limits.remote_media_size).await?;
        intake.add(&file).await?;
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        head.content_type = kind.or(head.content_type);
    }
    let (blob, size) = intake.finish().await?;
    let row = MediaRow {
        blob,
        size,
        content_type: head.content_type.map(|text| text.chars().take(255).collect()),
        filename: head.filename.map(|text| text.chars().take(255).collect()),
        uploader: None,
        created: node.clock.now_ms(),
        used: 0,
    };
    super::note(node, server, id, None, row.clone()).await?;
    Ok(row)
}
