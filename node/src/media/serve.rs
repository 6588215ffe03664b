//! Giving files out: headers that keep a browser from running them, and bytes as they are read.

use std::{io::Read as _, sync::Arc};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderValue, header};
use kith_store::{blobs::Blob, tables::media::MediaRow};

use crate::{
    Node,
    http::{Answer, MatrixError, escape::escaped},
    platform::SpawnerExt as _,
};

/// How much is read at a time.
const PIECE: usize = 64 << 10;

/// Types that a browser may show in place (specification, "Serving inline content").
const HARMLESS: [&str; 19] = [
    "text/css",
    "text/plain",
    "text/csv",
    "application/json",
    "application/ld+json",
    "image/jpeg",
    "image/gif",
    "image/png",
    "image/apng",
    "image/webp",
    "image/avif",
    "video/mp4",
    "video/webm",
    "video/ogg",
    "video/quicktime",
    "audio/mp4",
    "audio/webm",
    "audio/aac",
    "audio/mpeg",
];
const HARMLESS_AUDIO: [&str; 7] =
    ["audio/ogg", "audio/wave", "audio/wav", "audio/x-wav", "audio/x-pn-wav", "audio/flac", "audio/x-flac"];

/// The `Content-Disposition` of a file.
pub fn disposition(content_type: Option<&str>, filename: Option<&str>) -> String {
    let kind = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let inline = HARMLESS.contains(&kind.as_str()) || HARMLESS_AUDIO.contains(&kind.as_str());
    let mut text = if inline { "inline" } else { "attachment" }.to_owned();
    if let Some(name) = filename.filter(|name| !name.is_empty()) {
        if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_. ".contains(&byte)) {
            text.push_str(&format!("; filename=\"{name}\""));
        } else {
            // RFC 6266 with RFC 8187's encoding.
            text.push_str(&format!("; filename*=utf-8''{}", escaped(name)));
        }
    }
    text
}

/// The bytes of a blob as a body.
pub fn stream(node: &Arc<Node>, blob: Blob) -> Body {
    let spawner = node.spawner.clone();
    let pieces = futures::stream::try_unfold((blob.content, spawner), |(mut content, spawner)| async move {
        let (read, content) = spawner
            .blocking("read media", move || {
                let mut piece = vec![0; PIECE];
                let mut filled = 0;
                while filled < PIECE {
                    match content.read(&mut piece[filled..]) {
                        Ok(0) => break,
                        Ok(more) => filled += more,
                        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                        Err(error) => return (Err(error), content),
                    }
                }
                piece.truncate(filled);
                (Ok(piece), content)
            })
            .await
            .map_err(std::io::Error::other)?;
        let piece = read?;
        Ok::<_, std::io::Error>((!piece.is_empty()).then(|| (Bytes::from(piece), (content, spawner))))
    });
    Body::from_stream(pieces)
}

/// A file as a client gets it.
///
/// # Errors
/// As [`super::open`].
pub async fn file(node: &Arc<Node>, row: &MediaRow, filename: Option<&str>) -> Answer<Response> {
    let blob = super::open(node, row).await?;
    let size = blob.size;
    let kind = row.content_type.as_deref().unwrap_or("application/octet-stream");
    let disposition = disposition(row.content_type.as_deref(), filename.or(row.filename.as_deref()));
    Response::builder()
        .header(header::CONTENT_TYPE, value(kind, "application/octet-stream"))
        .header(header::CONTENT_LENGTH, size)
        .header(header::CONTENT_DISPOSITION, value(&disposition, "attachment"))
        .header(
            header::CONTENT_SECURITY_POLICY,
            "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; \
             style-src 'unsafe-inline'; media-src 'self'; object-src 'self';",
        )
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header("Cross-Origin-Resource-Policy", "cross-origin")
        .header(header::CACHE_CONTROL, "private, max-age=86400, immutable")
        .body(stream(node, blob))
        .map_err(MatrixError::internal)
}

fn value(text: &str, otherwise: &'static str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(otherwise))
}
