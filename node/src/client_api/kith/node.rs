//! `GET /_matrix/client/unstable/org.kith/node`: the node itself: name, addresses, peers, storage, and what waits to be sent.

use std::{
    ops::Bound,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kith_store::{
    Json, StoreError,
    tables::media::{MEDIA, MediaRow, THUMBNAILS},
};
use ruma::api::{auth_scheme::AccessToken, metadata};
use serde::Serialize;

use super::{is_in_one, joined_rooms};
use crate::{
    Node,
    client_api::untyped::{Untyped, Written},
    federation::DestinationStatus,
    http::{Answer, Routes, Session},
};

/// Queues in one answer; those of which most waits come first.
const MOST_QUEUES: usize = 500;
/// How long the size of all media is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Rows looked at in one read transaction.
const ROWS: usize = 2_000;

/// The request.
#[derive(Debug)]
struct GetNode;

metadata! {
    @for GetNode,
    method: GET,
    rate_limited: false,
    authentication: AccessToken,
    history: {
        unstable => "/_matrix/client/unstable/org.kith/node",
    }
}

/// The answer.
#[derive(Debug, Serialize)]
struct Answered {
    server_name: String,
    version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_id: Option<String>,
    addresses: Vec<String>,
    uptime_ms: u64,
    peers: Peers,
    storage: Storage,
    queues: Vec<Queue>,
}

#[derive(Debug, Serialize)]
struct Peers {
    connected: usize,
    nearby: usize,
}

#[derive(Debug, Serialize)]
struct Storage {
    database_bytes: u64,
    media_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    free_bytes: Option<u64>,
}

/// What waits for one server.
#[derive(Debug, Serialize)]
struct Queue {
    server_name: String,
    rooms: usize,
    messages: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    away_since_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_in_ms: Option<u64>,
    dropped: u64,
}

impl From<DestinationStatus> for Queue {
    fn from(status: DestinationStatus) -> Self {
        Self {
            server_name: status.server,
            rooms: status.rooms,
            messages: status.messages,
            away_since_ms: status.away_since,
            retry_in_ms: status.retry_in,
            dropped: status.dropped,
        }
    }
}

pub(super) fn routes(routes: Routes) -> Routes {
    routes.add(get_node)
}

async fn get_node(node: Arc<Node>, session: Session, _: Untyped<GetNode, Written>) -> Answer<Written> {
    let network = node.transport.network();
    let peers = network.map(|network| network.peers()).unwrap_or_default();
    let mut waiting = node.federation.status()?;
    if !session.admin {
        let user = session.user_id.as_str();
        let shared = node.store.read(|read| {
            let rooms = joined_rooms(read, user)?;
            waiting.iter().map(|status| is_in_one(read, &rooms, &status.server)).collect::<Result<Vec<_>, _>>()
        })?;
        let mut shared = shared.into_iter();
        waiting.retain(|_| shared.next() == Some(true));
    }
    waiting.sort_by_key(|status| std::cmp::Reverse((status.rooms + status.messages, status.away_since.is_some())));
    waiting.truncate(MOST_QUEUES);
    let stats = node.store.stats();
    Written::of(&Answered {
        server_name: node.server_name().to_string(),
        version: env!("CARGO_PKG_VERSION"),
        peer_id: network.map(|_| node.identity.peer_id()),
        addresses: network.map(|network| network.own_addresses()).unwrap_or_default(),
        uptime_ms: millis(node.clock.monotonic().saturating_sub(node.extension.started)),
        peers: Peers {
            connected: peers.iter().filter(|peer| peer.connected).count(),
            nearby: peers.iter().filter(|peer| peer.nearby).count(),
        },
        storage: Storage {
            database_bytes: stats.file_bytes,
            media_bytes: node.extension.media.get(&node)?,
            free_bytes: stats.free_bytes,
        },
        queues: waiting.into_iter().map(Queue::from).collect(),
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The size of all files and thumbnails, counted now and then.
#[derive(Debug, Default)]
pub(super) struct MediaBytes(Mutex<Option<(Duration, u64)>>);

impl MediaBytes {
    fn get(&self, node: &Node) -> Result<u64, StoreError> {
        let now = node.clock.monotonic();
        let known = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, bytes)) = known
            && now.saturating_sub(at) < REMEMBERED
        {
            return Ok(bytes);
        }
        let bytes = count(node)?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, bytes));
        Ok(bytes)
    }
}

fn count(node: &Node) -> Result<u64, StoreError> {
    let files = sum(|from| node.store.read(|read| page(MEDIA.range(read, (from, Bound::Unbounded))?)))?;
    let small = sum(|from| node.store.read(|read| page(THUMBNAILS.range(read, (from, Bound::Unbounded))?)))?;
    Ok(files.saturating_add(small))
}

/// The sizes in one page of rows, and the last key of a page that is full.
fn page<K>(
    rows: impl Iterator<Item = Result<(K, Json<MediaRow>), StoreError>>,
) -> Result<(u64, Option<K>), StoreError> {
    let (mut bytes, mut read, mut last) = (0u64, 0, None);
    for row in rows.take(ROWS) {
        let (key, Json(row)) = row?;
        bytes = bytes.saturating_add(row.size);
        read += 1;
        last = Some(key);
    }
    Ok((bytes, last.filter(|_| read == ROWS)))
}

/// Adds all pages up, each in a read transaction of its own.
fn sum<K>(read: impl Fn(Bound<K>) -> Result<(u64, Option<K>), StoreError>) -> Result<u64, StoreError> {
    let (mut total, mut from) = (0u64, Bound::Unbounded);
    loop {
        let (bytes, last) = read(from)?;
        total = total.saturating_add(bytes);
        match last {
            Some(last) => from = Bound::Excluded(last),
            None => return Ok(total),
        }
    }
}
