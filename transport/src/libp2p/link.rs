//! One substream of a connection: a greeting, then HTTP/2 (RFC 9113).
//!
//! The side that opens the substream sends one byte, the class (1 control, 2 bulk). On control follow the length of its node
//! record (two bytes, big-endian) and the record. Then it speaks HTTP/2 as the client; on bulk within the frames of [`paced`].
//! Requests and responses of one class share a substream in each direction, so a stalled body holds up at most its own class:
//! every body has its own window within the stream's, and what is unsent waits in the caller, not here.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use libp2p::Stream;
use libp2p::swarm::ConnectionId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::io::StreamIo;
use super::paced::paced;
use super::shared::Shared;
use crate::record::MAX_RECORD_LEN;
use crate::{Body, BoxError, Class, NetworkError, ServerKey, boxed};

/// How long the greeting may take.
pub(super) const GREETING: Duration = Duration::from_secs(10);
/// Most bytes of a message's headers.
pub(super) const MAX_HEADERS: u32 = 32 * 1024;
/// Requests that may wait for a free slot of a stream; more are refused at once.
const MAX_WAITING: usize = 1024;

/// Bytes under way on one stream before its reader takes them: the most that is sent ahead, in memory and on the wire.
pub(super) const STREAM_WINDOW: u32 = 256 * 1024;

/// The bounds of one class's stream.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// Requests under way at once.
    pub(super) requests: u32,
    /// Bytes of one body that may be under way before its reader takes them.
    pub(super) body_window: u32,
    /// Bytes of all bodies together.
    pub(super) window: u32,
}

/// Each body has its window, and so that some bodies whose readers dawdle do not stop the others, the stream has several times that.
pub(super) const fn bounds(class: Class) -> Bounds {
    match class {
        Class::Control => Bounds { requests: 128, body_window: 64 * 1024, window: 512 * 1024 },
        Class::Bulk => Bounds { requests: 32, body_window: 256 * 1024, window: 1024 * 1024 },
    }
}

const fn class_byte(class: Class) -> u8 {
    match class {
        Class::Control => 1,
        Class::Bulk => 2,
    }
}

/// The sending end of one of our streams. Clones are the same stream; it ends when the last is gone and all is answered.
#[derive(Clone)]
pub(super) struct Channel {
    pub(super) connection: ConnectionId,
    pub(super) class: Class,
    sender: SendRequest<Body>,
    /// One permit for each request under way, never more than the peer takes at once: so nothing queues inside.
    slots: Arc<Semaphore>,
    /// One permit for each request that waits for a slot.
    waiting: Arc<Semaphore>,
    shared: Arc<Shared>,
}

/// Why a channel gave no response.
pub(super) enum SendFailure {
    /// The request surely was not delivered: here it is again.
    Unsent(Box<http::Request<Body>>, String),
    /// There is nothing more to try.
    Final(NetworkError),
}

/// Knows how many requests a channel has under way, without keeping its stream open.
pub(super) struct Pending(Arc<Semaphore>, usize);

impl Pending {
    /// Whether all are answered.
    pub(super) fn is_none(&self) -> bool {
        self.0.available_permits() >= self.1
    }
}

impl Channel {
    /// The count of this channel's requests under way.
    pub(super) fn pending(&self) -> Pending {
        Pending(self.slots.clone(), bounds(self.class).requests as usize)
    }

    /// Sends a request on this stream.
    pub(super) async fn send(
        &self,
        peer: ServerKey,
        request: http::Request<Body>,
    ) -> Result<http::Response<Body>, SendFailure> {
        let slot = self.slot(peer).await.map_err(SendFailure::Final)?;
        let request = absolute(peer, request).map_err(SendFailure::Final)?;
        let mut sender = self.sender.clone();
        match sender.try_send_request(request).await {
            Ok(response) => Ok(response.map(|body| boxed(Received { body, _slot: slot }))),
            Err(mut error) => {
                self.shared.stats.requests_failed.add();
                match error.take_message() {
                    Some(request) => {
                        let reason = describe(error.error());
                        Err(SendFailure::Unsent(Box::new(request), reason))
                    }
                    None => Err(SendFailure::Final(NetworkError::Lost { peer, reason: describe(error.error()) })),
                }
            }
        }
    }

    async fn slot(&self, peer: ServerKey) -> Result<OwnedSemaphorePermit, NetworkError> {
        let closed = |_| NetworkError::Closed;
        if let Ok(slot) = self.slots.clone().try_acquire_owned() {
            return Ok(slot);
        }
        let _waiting = self.waiting.try_acquire().map_err(|_| NetworkError::Busy { peer })?;
        self.slots.clone().acquire_owned().await.map_err(closed)
    }
}

/// HTTP/2 wants scheme and authority; the peer is known without them.
fn absolute(peer: ServerKey, mut request: http::Request<Body>) -> Result<http::Request<Body>, NetworkError> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(http::uri::Scheme::HTTPS);
    if parts.authority.is_none() {
        parts.authority = peer.to_string().parse().ok();
    }
    parts.path_and_query.get_or_insert_with(|| http::uri::PathAndQuery::from_static("/"));
    *request.uri_mut() =
        http::Uri::from_parts(parts).map_err(|error| NetworkError::TooLarge { peer, reason: error.to_string() })?;
    Ok(request)
}

/// A response's body; its slot is free when it is dropped.
struct Received {
    body: Incoming,
    _slot: OwnedSemaphorePermit,
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body)
            .poll_frame(context)
            .map(|frame| frame.map(|frame| frame.map_err(|error| BoxError::from(describe(&error)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// An error and its causes, in one line of bounded length.
pub(super) fn describe(error: &dyn std::error::Error) -> String {
    const LONGEST: usize = 300;
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        // libp2p lists several causes in several lines.
        let part = error.to_string();
        let part = part.split_whitespace().collect::<Vec<_>>().join(" ");
        let part = part.trim_matches([':', ' ']);
        if !part.is_empty() && !text.contains(part) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(part);
        }
        next = error.source();
    }
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Runs a substream that we opened, to its end.
pub(super) async fn run_outbound(shared: Arc<Shared>, connection: ConnectionId, class: Class, stream: Stream) {
    let reason = match outbound(&shared, connection, class, stream).await {
        Ok(()) => "the stream ended".to_owned(),
        Err(reason) => reason,
    };
    shared.change(|table, now| table.channel_down(connection, &reason, now));
}

async fn outbound(shared: &Arc<Shared>, connection: ConnectionId, class: Class, stream: Stream) -> Result<(), String> {
    let mut io = StreamIo(stream);
    let mut greeting = vec![class_byte(class)];
    if class == Class::Control {
        let record = shared.own_record();
        let length = u16::try_from(record.bytes().len()).map_err(|error| error.to_string())?;
        greeting.extend_from_slice(&length.to_be_bytes());
        greeting.extend_from_slice(record.bytes());
    }
    let greet = async {
        io.write_all(&greeting).await?;
        io.flush().await
    };
    match tokio::time::timeout(GREETING, greet).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err("it took our greeting too slowly".to_owned()),
    }
    let bounds = bounds(class);
    let requests = bounds.requests as usize;
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(bounds.body_window)
        .initial_connection_window_size(bounds.window)
        .initial_max_send_streams(requests)
        .max_send_buf_size(bounds.body_window as usize)
        .max_header_list_size(MAX_HEADERS);
    if class == Class::Control {
        // A cable that was pulled tells nobody: probe, so that a dead connection is replaced within seconds.
        let keep_alive = shared.config.keep_alive;
        builder
            .keep_alive_interval(keep_alive)
            .keep_alive_timeout(shared.config.dead_after.saturating_sub(keep_alive))
            .keep_alive_while_idle(true);
    }
    let (sender, driver) =
        builder.handshake(TokioIo::new(framed(class, io))).await.map_err(|error| describe(&error))?;
    let channel = Channel {
        connection,
        class,
        sender,
        slots: Arc::new(Semaphore::new(requests)),
        waiting: Arc::new(Semaphore::new(MAX_WAITING)),
        shared: shared.clone(),
    };
    shared.change(|table, now| table.channel_up(connection, channel, now));
    driver.await.map_err(|error| {
        if error.is_timeout() {
            shared.stats.dead_connections.add();
        }
        describe(&error)
    })
}

/// What HTTP/2 runs on.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

fn framed(class: Class, io: StreamIo) -> Box<dyn Io> {
    match class {
        Class::Control => Box::new(io),
        Class::Bulk => Box::new(paced(io)),
    }
}

/// Runs a substream that the peer opened, to its end.
pub(super) async fn run_inbound(
    shared: Arc<Shared>,
    connection: ConnectionId,
    peer: ServerKey,
    verified: tokio::sync::watch::Sender<bool>,
    stream: Stream,
) {
    let mut io = StreamIo(stream);
    let refuse = |reason: String| {
        tracing::info!(%peer, %reason, "refused a peer");
        shared.change(|table, now| table.fail_connection(connection, &reason, now));
    };
    let class = match tokio::time::timeout(GREETING, greeting(&mut io)).await {
        Ok(Ok((class, record))) => {
            if !shared.table().inbound_up(connection, class) {
                shared.stats.refused_streams.add();
                return refuse("it opened a second stream of one class".to_owned());
            }
            if let Some(record) = record {
                if let Err(reason) = shared.greet(connection, peer, &record) {
                    return refuse(reason);
                }
                verified.send_replace(true);
            }
            class
        }
        Ok(Err(error)) => {
            shared.stats.refused_streams.add();
            return refuse(format!("its greeting broke off: {error}"));
        }
        Err(_) => {
            shared.stats.refused_streams.add();
            return refuse("it did not greet".to_owned());
        }
    };
    // Nothing is carried out for a peer before its record was seen.
    let mut wait = verified.subscribe();
    match tokio::time::timeout(GREETING, wait.wait_for(|verified| *verified)).await {
        Ok(Ok(_)) => {}
        _ => return refuse("it did not show its record".to_owned()),
    }
    drop(wait);
    // A peer that lets go of a stream may do so in the middle of a frame of ours: no error, and other streams go on. A
    // connection that broke shows on our own streams.
    if let Err(reason) = super::serve::serve(&shared, connection, peer, class, framed(class, io)).await {
        tracing::debug!(%peer, %reason, "a stream of a peer ended early");
    }
    shared.change(|table, now| table.inbound_down(connection, class, now));
}

/// Reads a greeting: the class, and on control the record.
async fn greeting(io: &mut StreamIo) -> std::io::Result<(Class, Option<Vec<u8>>)> {
    let invalid = |what| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
    match io.read_u8().await? {
        1 => {}
        2 => return Ok((Class::Bulk, None)),
        _ => return Err(invalid("unknown kind of stream")),
    }
    let length = usize::from(io.read_u16().await?);
    if length > MAX_RECORD_LEN {
        return Err(invalid("the node record is too large"));
    }
    let mut record = vec![0; length];
    io.read_exact(&mut record).await?;
    Ok((Class::Control, Some(record)))
}
