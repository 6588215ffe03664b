//! How long a client may take to send a body: long enough for slow links, not so long that a few thousand of them that
//! trickle could keep everybody else out.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use futures::future::BoxFuture;
use http_body::{Body, Frame, SizeHint};

use crate::platform::Clock;

/// What every body has.
const AT_ONCE: Duration = Duration::from_secs(30);
/// The slowest link that is waited for, in bytes a second.
const SLOWEST: u64 = 1024;
/// The longest pause within a body.
const PAUSE: Duration = Duration::from_secs(60);

/// A body came more slowly than any link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body did not come in time")]
pub struct TooSlow;

/// A body that ends with [`TooSlow`] when it has not come at `SLOWEST` after `AT_ONCE`, or pauses for `PAUSE`.
pub struct Patient<B> {
    body: B,
    clock: Arc<dyn Clock>,
    received: u64,
    /// The first time that somebody waited for it; before, nobody asked the client to send.
    begun: Option<Duration>,
    /// When the last part came.
    latest: Duration,
    wait: Option<BoxFuture<'static, ()>>,
}

impl<B> Patient<B> {
    /// Waits for `body`, from when it is first asked for.
    pub fn new(body: B, clock: Arc<dyn Clock>) -> Self {
        Self { body, clock, received: 0, begun: None, latest: Duration::ZERO, wait: None }
    }

    fn came(&mut self, bytes: usize) {
        self.received = self.received.saturating_add(bytes as u64);
        self.latest = self.clock.monotonic();
        self.wait = None;
    }

    /// How long the next part is still waited for.
    fn left(&mut self) -> Duration {
        let now = self.clock.monotonic();
        let begun = *self.begun.get_or_insert(now);
        let whole = begun + AT_ONCE + Duration::from_secs(self.received / SLOWEST);
        whole.min(self.latest.max(begun) + PAUSE).saturating_sub(now)
    }
}

impl<B> Body for Patient<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<axum::BoxError>,
{
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            if let Some(Ok(frame)) = &frame {
                self.came(frame.data_ref().map_or(0, Bytes::remaining));
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let left = self.left();
        let this = &mut *self;
        let wait = this.wait.get_or_insert_with(|| this.clock.sleep(left));
        wait.as_mut().poll(cx).map(|()| Some(Err(TooSlow.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::channel::mpsc;
    use futures::{FutureExt as _, StreamExt as _};
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;
    use crate::platform::ManualClock;

    type Sender = mpsc::UnboundedSender<Result<Frame<Bytes>, std::io::Error>>;

    fn slow(clock: &Arc<ManualClock>) -> (Sender, impl Future<Output = Result<Bytes, axum::BoxError>>) {
        let (sender, receiver) = mpsc::unbounded();
        let body = Patient::new(StreamBody::new(receiver.boxed()), Arc::clone(clock) as _);
        (sender, async move { Ok(body.collect().await?.to_bytes()) })
    }

    fn send(sender: &Sender, bytes: usize) {
        sender.unbounded_send(Ok(Frame::data(Bytes::from(vec![b' '; bytes])))).unwrap();
    }

    #[test]
    fn a_body_that_trickles_is_cut_off_and_a_slow_one_is_waited_for() {
        let clock = Arc::new(ManualClock::new(0));
        let (trickle, cut) = slow(&clock);
        let (steady, whole) = slow(&clock);
        let (mut cut, mut whole) = (cut.boxed(), whole.boxed());
        for second in 1..=60 {
            assert!((&mut whole).now_or_never().is_none());
            if second <= 30 {
                assert!((&mut cut).now_or_never().is_none(), "{second}");
                send(&trickle, 1);
            }
            send(&steady, 2048);
            clock.advance(Duration::from_secs(1));
        }
        let error = cut.now_or_never().unwrap().unwrap_err();
        assert!(error.is::<TooSlow>());
        drop(steady);
        assert_eq!(whole.now_or_never().unwrap().unwrap().len(), 60 * 2048);
    }

    #[test]
    fn a_long_pause_ends_a_body_however_much_came_before() {
        let clock = Arc::new(ManualClock::new(0));
        let (sender, body) = slow(&clock);
        let mut body = body.boxed();
        send(&sender, 10 << 20);
        assert!((&mut body).now_or_never().is_none());
        clock.advance(PAUSE - Duration::from_millis(1));
        assert!((&mut body).now_or_never().is_none());
        clock.advance(Duration::from_millis(1));
        assert!(body.now_or_never().unwrap().unwrap_err().is::<TooSlow>());
    }
}
