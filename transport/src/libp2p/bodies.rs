//! Bodies that pass between a peer and a handler: none may wait for the peer for ever.
//!
//! A request's body must come ([`Arriving`]), a response's must be taken ([`Leaving`]): what its peer has stalled for too long ends
//! with an error, and gives back the place, the memory and the open file that it held.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Sleep;

use crate::{Body, BoxError};

/// The slowest link that a request's body is waited for, in bytes a second.
const SLOWEST: u64 = 1024;
/// What goes out at once. HTTP/2 takes a frame whole, however little the peer takes.
const PIECE: usize = 64 * 1024;
/// Longest response whose length is known that counts as no download.
const SMALL: u64 = 64 * 1024;

/// A body came, or was taken, more slowly than any link is.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the peer was too slow with the body")]
pub(super) struct TooSlow;

/// A request's body. It fails when it pauses for `patience`, or has not come at [`SLOWEST`] after that time.
pub(super) struct Arriving<B> {
    body: B,
    patience: Duration,
    received: u64,
    /// When somebody first waited for it: before, nobody asked the peer to send.
    begun: Option<Instant>,
    latest: Instant,
    wait: Option<Pin<Box<Sleep>>>,
}

impl<B> Arriving<B> {
    pub(super) fn new(body: B, patience: Duration) -> Self {
        Self { body, patience, received: 0, begun: None, latest: Instant::now(), wait: None }
    }

    /// Until when the next part is waited for.
    fn deadline(&mut self) -> Instant {
        let begun = *self.begun.get_or_insert_with(Instant::now);
        let whole = begun + self.patience + Duration::from_secs(self.received / SLOWEST);
        whole.min(self.latest.max(begun) + self.patience)
    }
}

impl<B> http_body::Body for Arriving<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            if let Some(Ok(frame)) = &frame {
                this.received += frame.data_ref().map_or(0, |data| data.len() as u64);
                this.latest = Instant::now();
                this.wait = None;
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let deadline = this.deadline();
        let wait = this.wait.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
        wait.as_mut().poll(context).map(|()| Some(Err(TooSlow.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The responses of one stream that are under way. HTTP/2 does not ask a body for more before the peer takes what there is, so
/// a body cannot notice by itself that it stalls: somebody else has to look.
#[derive(Clone, Default)]
pub(super) struct Departures(Arc<Mutex<Open>>);

#[derive(Default)]
struct Open {
    next: u64,
    bodies: BTreeMap<u64, Leaver>,
}

struct Leaver {
    progress: Instant,
    waker: Option<Waker>,
    /// Gone when it was given up.
    content: Option<Content>,
}

struct Content {
    body: Body,
    /// What was got of the body and does not fit into a piece.
    rest: Bytes,
    /// Dropped with it.
    _held: Box<dyn Send>,
}

impl Departures {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A response's body on its way out; `held` is dropped when it has left, or was given up.
    pub(super) fn add(&self, body: Body, held: impl Send + 'static) -> Leaving {
        let mut open = self.open();
        let number = open.next;
        open.next += 1;
        let content = Some(Content { body, rest: Bytes::new(), _held: Box::new(held) });
        open.bodies.insert(number, Leaver { progress: Instant::now(), waker: None, content });
        Leaving { departures: self.clone(), number }
    }

    /// Gives up what was not taken for so long. Runs for ever.
    pub(super) async fn watch(&self, patience: Duration) {
        loop {
            tokio::time::sleep((patience / 4).max(Duration::from_millis(10))).await;
            let now = Instant::now();
            let mut given_up = vec![];
            for leaver in self.open().bodies.values_mut() {
                if now.saturating_duration_since(leaver.progress) >= patience {
                    given_up.extend(leaver.content.take());
                    leaver.waker.take().into_iter().for_each(Waker::wake);
                }
            }
            if !given_up.is_empty() {
                tracing::debug!(bodies = given_up.len(), "a peer does not take what it asked for");
            }
            // Not under the lock: who knows what ends with a body.
            drop(given_up);
        }
    }
}

/// A response's body: see [`Departures`].
pub(super) struct Leaving {
    departures: Departures,
    number: u64,
}

impl http_body::Body for Leaving {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut open = self.departures.open();
        let Some(leaver) = open.bodies.get_mut(&self.number) else { return Poll::Ready(None) };
        let Some(content) = &mut leaver.content else { return Poll::Ready(Some(Err(TooSlow.into()))) };
        if content.rest.is_empty() {
            match Pin::new(&mut content.body).poll_frame(context) {
                Poll::Pending => {
                    // It waits for the node, not for the peer.
                    leaver.progress = Instant::now();
                    leaver.waker = Some(context.waker().clone());
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => content.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                Poll::Ready(end) => return Poll::Ready(end),
            }
        }
        leaver.progress = Instant::now();
        let piece = content.rest.split_to(content.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        let open = self.departures.open();
        let content = open.bodies.get(&self.number).and_then(|leaver| leaver.content.as_ref());
        content.is_some_and(|content| content.rest.is_empty() && content.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let open = self.departures.open();
        let content = open.bodies.get(&self.number).and_then(|leaver| leaver.content.as_ref());
        content.map_or_else(SizeHint::default, |content| {
            let left = content.rest.len() as u64;
            let inner = content.body.size_hint();
            let mut hint = SizeHint::new();
            hint.set_lower(inner.lower().saturating_add(left));
            if let Some(upper) = inner.upper().and_then(|upper| upper.checked_add(left)) {
                hint.set_upper(upper);
            }
            hint
        })
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let leaver = self.departures.open().bodies.remove(&self.number);
        // Not under the lock.
        drop(leaver);
    }
}

/// Whether a response's body counts as a download: it may be read from a file, and may take long.
pub(super) fn is_download(body: &Body) -> bool {
    body.size_hint().exact().is_none_or(|size| size > SMALL)
}
