//! Taking files in: from a client's upload, from another server, from the thumbnailer.

use std::{io::Write as _, sync::Arc};

use http_body::Body;
use http_body_util::BodyExt as _;
use kith_store::{
    Json, StoreError,
    blobs::{BlobName, BlobWriter},
    tables::media::{BLOB_USES, MEDIA, MediaRow, RESERVED, ReservedRow},
};
use kith_transport::BoxError;
use ruma::UserId;
use sha2::{Digest as _, Sha256};

use crate::{
    Node,
    http::{Answer, MatrixError},
    platform::SpawnerExt as _,
};

/// How much is gathered before it is handed to the disk.
const PIECE: usize = 256 << 10;
/// How long a media ID stays reserved for its upload, in milliseconds.
const RESERVED_FOR: u64 = 24 * 60 * 60 * 1000;
/// How many reserved IDs one user may hold.
const MOST_RESERVED: usize = 100;

/// A file that is being written, and the sum over it.
pub(super) struct Intake {
    node: Arc<Node>,
    state: Option<(Box<dyn BlobWriter>, Sha256)>,
    piece: Vec<u8>,
    size: u64,
    limit: u64,
}

impl Intake {
    /// Begins a file of at most `limit` bytes.
    pub(super) async fn begin(node: &Arc<Node>, limit: u64) -> Answer<Self> {
        let blobs = node.blobs.clone();
        let writer = node
            .spawner
            .blocking("begin media", move || blobs.begin())
            .await
            .map_err(MatrixError::internal)?
            .map_err(disk)?;
        Ok(Self { node: node.clone(), state: Some((writer, Sha256::new())), piece: Vec::new(), size: 0, limit })
    }

    /// Adds bytes.
    pub(super) async fn add(&mut self, bytes: &[u8]) -> Answer<()> {
        self.size += bytes.len() as u64;
        if self.size > self.limit {
            return Err(MatrixError::too_large(format!("files here may have {} bytes at most", self.limit)));
        }
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Answer<()> {
        let Some((mut writer, mut sum)) = self.state.take() else { return Err(broken()) };
        let piece = std::mem::take(&mut self.piece);
        let (written, state) = self
            .node
            .spawner
            .blocking("write media", move || {
                sum.update(&piece);
                (writer.write_all(&piece), (writer, sum))
            })
            .await
            .map_err(MatrixError::internal)?;
        written.map_err(disk)?;
        self.state = Some(state);
        Ok(())
    }

    /// Makes it durable; gives the blob's name in hex and its size.
    pub(super) async fn finish(mut self) -> Answer<(String, u64)> {
        self.flush().await?;
        let Some((writer, sum)) = self.state.take() else { return Err(broken()) };
        let name = BlobName(sum.finalize().into());
        self.node
            .spawner
            .blocking("finish media", move || writer.finish(&name))
            .await
            .map_err(MatrixError::internal)?
            .map_err(disk)?;
        Ok((name.to_string(), self.size))
    }
}

fn broken() -> MatrixError {
    MatrixError::internal("a file was written on after an error")
}

fn disk(error: std::io::Error) -> MatrixError {
    StoreError::from(error).into()
}

/// What a client says of its upload.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// Content type.
    pub content_type: Option<String>,
    /// File name.
    pub filename: Option<String>,
}

/// Takes an upload in, under a new ID or a reserved one. Gives the ID.
///
/// # Errors
/// `M_TOO_LARGE`; `M_CANNOT_OVERWRITE_MEDIA` and `M_FORBIDDEN` for reserved IDs; 507 when the disk is full.
pub async fn upload<B>(
    node: &Arc<Node>,
    user: &UserId,
    reserved: Option<String>,
    about: About,
    mut body: B,
) -> Answer<String>
where
    B: Body<Data = bytes::Bytes> + Unpin + Send,
    B::Error: Into<BoxError>,
{
    if let Some(id) = &reserved {
        check_reserved(node, user, id)?;
    }
    let limit = node.config.limits.upload_size;
    if body.size_hint().lower() > limit {
        return Err(MatrixError::too_large(format!("files here may have {limit} bytes at most")));
    }
    let mut intake = Intake::begin(node, limit).await?;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| MatrixError::bad_request("the upload broke off"))?;
        if let Ok(bytes) = frame.into_data() {
            intake.add(&bytes).await?;
        }
    }
    let (blob, size) = intake.finish().await?;
    let id = reserved.clone().unwrap_or_else(|| node.rng.token(24));
    let row = MediaRow {
        blob,
        size,
        content_type: about.content_type.map(|text| text.chars().take(255).collect()),
        filename: about.filename.map(|text| text.chars().take(255).collect()),
        uploader: Some(user.to_string()),
        created: node.clock.now_ms(),
        used: 0,
    };
    let key = (node.server_name().to_string(), id.clone());
    let is_reserved = reserved.is_some();
    // One change: a crash leaves the reservation or the file, and of two uploads to one reservation the first wins.
    node.store
        .write(move |tx| {
            if is_reserved {
                if MEDIA.contains(tx, &key)? {
                    return Err(overwrite());
                }
                if !RESERVED.delete(tx, &key.1)? {
                    return Err(MatrixError::not_found("the reservation of this media ID has expired"));
                }
            }
            BLOB_USES.put(tx, &(row.blob.clone(), key.0.clone(), key.1.clone()), &())?;
            MEDIA.put(tx, &key, &Json(row))?;
            Ok(())
        })
        .await?;
    Ok(id)
}

fn overwrite() -> MatrixError {
    MatrixError::new(http::StatusCode::CONFLICT, "M_CANNOT_OVERWRITE_MEDIA", "this file is uploaded already")
}

/// Reserves a media ID for an upload to come. Gives it and when the reservation ends.
pub async fn reserve(node: &Arc<Node>, user: &UserId) -> Answer<(String, u64)> {
    let id = node.rng.token(24);
    let now = node.clock.now_ms();
    let row = ReservedRow { user: user.to_string(), expires: now + RESERVED_FOR };
    let (key, expires) = (id.clone(), row.expires);
    node.store
        .write(move |tx| {
            let mut held = 0;
            let mut expired = Vec::new();
            for entry in RESERVED.range(tx, ..)? {
                let (id, Json(entry)) = entry?;
                if entry.expires < now {
                    expired.push(id);
                } else if entry.user == row.user {
                    held += 1;
                }
            }
            for id in expired {
                RESERVED.delete(tx, &id)?;
            }
            if held >= MOST_RESERVED {
                return Err(MatrixError::limit_exceeded(60_000));
            }
            RESERVED.put(tx, &key, &Json(row))?;
            Ok(())
        })
        .await?;
    Ok((id, expires))
}

/// Whether an ID is reserved and not expired.
pub(super) fn is_reserved(node: &Arc<Node>, id: &str) -> Answer<bool> {
    let row = node.store.read(|read| RESERVED.get(read, &id.to_owned()))?;
    Ok(row.is_some_and(|Json(row)| row.expires >= node.clock.now_ms()))
}

/// Whether an upload may begin; whether it counts is decided when it is stored.
fn check_reserved(node: &Arc<Node>, user: &UserId, id: &str) -> Answer<()> {
    let key = (node.server_name().to_string(), id.to_owned());
    if node.store.read(|read| MEDIA.contains(read, &key))? {
        return Err(overwrite());
    }
    match node.store.read(|read| RESERVED.get(read, &id.to_owned()))? {
        Some(Json(row)) if row.expires < node.clock.now_ms() => {
            Err(MatrixError::not_found("the reservation of this media ID has expired"))
        }
        Some(Json(row)) if row.user != user.as_str() => {
            Err(MatrixError::forbidden("this media ID is reserved for another user"))
        }
        Some(_) => Ok(()),
        None => Err(MatrixError::not_found("this media ID is not reserved")),
    }
}
