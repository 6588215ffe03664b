//! Clearing away: blobs that no row names (a crash came between file and row, or the row was deleted), unfinished files,
//! reservations nobody used, files of other servers beyond what is kept of them.

use std::{sync::Arc, time::Duration};

use kith_store::{
    Json, StoreError,
    blobs::{BlobName, Swept},
    tables::media::{BLOB_USES, RESERVED},
};

use super::remote;
use crate::{
    Node,
    http::{Answer, MatrixError},
    platform::SpawnerExt as _,
};

/// How long after the start the first sweep waits, so that it does not slow the start down.
const FIRST: Duration = Duration::from_secs(120);
/// How often is swept.
const EVERY: Duration = Duration::from_secs(60 * 60);

/// Sweeps once in a while, for as long as the node runs.
pub(crate) async fn run(node: Arc<Node>) {
    node.clock.sleep(FIRST).await;
    loop {
        match once(&node).await {
            Ok(swept) if swept.orphans + swept.temporary > 0 => {
                tracing::info!(
                    files = swept.orphans + swept.temporary,
                    bytes = swept.bytes,
                    "unused media were cleared away"
                );
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "unused media could not be cleared away"),
        }
        node.clock.sleep(EVERY).await;
    }
}

/// Sweeps now.
pub(super) async fn once(node: &Arc<Node>) -> Answer<Swept> {
    let now = node.clock.now_ms();
    node.store
        .write(move |tx| {
            let mut expired = Vec::new();
            for row in RESERVED.range(tx, ..)? {
                let (id, Json(row)) = row?;
                if row.expires < now {
                    expired.push(id);
                }
            }
            for id in expired {
                RESERVED.delete(tx, &id)?;
            }
            Ok::<_, StoreError>(())
        })
        .await?;
    let dropped = remote::trim(node, node.config.limits.remote_media_cache).await?;
    if dropped > 0 {
        tracing::info!(files = dropped, "files of other servers that were not asked for lately were dropped");
    }
    let (blobs, store) = (node.blobs.clone(), node.store.clone());
    node.spawner
        .blocking("sweep media", move || {
            let mut is_used = |name: &BlobName| {
                let used = store.read(|read| BLOB_USES.prefix(read, &name.to_string())?.next().transpose());
                used.map(|used| used.is_some()).map_err(std::io::Error::other)
            };
            blobs.sweep(&mut is_used)
        })
        .await
        .map_err(MatrixError::internal)?
        .map_err(MatrixError::internal)
}
