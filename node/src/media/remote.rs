//! Files of other servers: fetched on first use, then kept like our own.

use std::{sync::Arc, time::Duration};

use http::header;
use http_body_util::BodyExt as _;
use kith_store::tables::media::MediaRow;
use ruma::{ServerName, api::federation::authenticated_media::get_content};

use super::{ingest::Intake, multipart::Reader};
use crate::{
    Node,
    http::{Answer, MatrixError},
};

/// How long a file may take in all.
const LONGEST: Duration = Duration::from_secs(600);
/// How long its server may keep us waiting before the first byte.
const PATIENCE: Duration = Duration::from_secs(60);

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
    let head = reader.head().cloned().unwrap_or_default();
    if head.location.is_some() {
        return Err(unreachable(&"it names another place for it, which is not followed"));
    }
    let (blob, size) = intake.finish().await?;
    let row = MediaRow {
        blob,
        size,
        content_type: head.content_type.map(|text| text.chars().take(255).collect()),
        filename: head.filename.map(|text| text.chars().take(255).collect()),
        uploader: None,
        created: node.clock.now_ms(),
    };
    super::note(node, server, id, None, row.clone()).await?;
    Ok(row)
}
