//! Media: what is known of each file beside its bytes, which lie in the [`crate::blobs::BlobStore`] under their SHA-256.

use crate::{Json, Table};

/// `(server name, media ID)` to a file: uploaded here, or fetched from another server. Uploads stay until they are
/// purged; fetched ones can be fetched again, so beyond the configured size those not asked for longest are dropped.
pub const MEDIA: Table<(String, String), Json<MediaRow>> = Table::new("media");
/// `(server name, media ID, thumbnail form)` to a thumbnail that was made once.
pub const THUMBNAILS: Table<(String, String, String), Json<MediaRow>> = Table::new("thumbnails");
/// `(media ID)` given out before its upload (`POST /create`), to who may upload it until when. Expires after a day.
pub const RESERVED: Table<String, Json<ReservedRow>> = Table::new("reserved_media");
/// `(blob name in hex, server name, media ID)` of each use of a blob, so that a blob goes when its last use does.
pub const BLOB_USES: Table<(String, String, String), ()> = Table::new("blob_uses");

/// URL of a web page to its preview. Bound: [`MAX_PREVIEWS`], the oldest go; the picture of each is a file of [`MEDIA`] that goes with it.
pub const PREVIEWS: Table<String, Json<PreviewRow>> = Table::new("previews");

/// Previews of web pages that are kept.
pub const MAX_PREVIEWS: usize = 1_000;

/// The preview of a web page.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PreviewRow {
    /// Until when it counts, unix milliseconds.
    pub until: u64,
    /// The preview; none if the page could not be had.
    pub data: Option<serde_json::Value>,
    /// The media ID of its picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<String>,
}

/// A stored file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MediaRow {
    /// SHA-256 of the bytes, in hex.
    pub blob: String,
    /// Size in bytes.
    pub size: u64,
    /// Content type as its sender gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// File name as its sender gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filename: Option<String>,
    /// The local user who uploaded it; none for what came from elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uploader: Option<String>,
    /// When it came, unix milliseconds.
    pub created: u64,
    /// When a file of another server was last asked for, unix milliseconds, about an hour exact; 0: not since it came.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub used: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A media ID whose upload is still to come.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ReservedRow {
    /// Who may upload.
    pub user: String,
    /// Until when, unix milliseconds.
    pub expires: u64,
}
