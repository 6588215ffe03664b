//! Answers that may be large: rooms that are joined, their states. Each is in memory as a whole, so few are at a time; and a server that
//! answers slowly, or never, keeps none of the others waiting.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use kith_transport::{Body, BodyError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::client::SMALL_ANSWER;
use crate::platform::{Clock, timeout};

/// The longest answer to a join or state request, in bytes: about 100,000 members.
pub const LARGE_ANSWER: usize = 256 << 20;
/// Answers longer than small ones at a time, from all servers together.
const AT_A_TIME: usize = 2;
/// Such an answer comes at this pace at least, so many bytes in each such time, or is given up: others wait for its place.
const PART: usize = 1 << 20;
const PART_TIME: Duration = Duration::from_secs(10);

/// The place of an answer that is longer than small ones, to be held as long as it is in memory.
pub type Place = Option<OwnedSemaphorePermit>;

/// The places.
#[derive(Debug)]
pub struct Large(Arc<Semaphore>);

impl Default for Large {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_A_TIME)))
    }
}

impl Large {
    /// Reads a body to its end; waits for a place once it is longer than a small answer may be.
    ///
    /// # Errors
    /// It is longer than [`LARGE_ANSWER`], comes too slowly while it has a place, or breaks off.
    pub async fn read(&self, clock: &dyn Clock, mut body: Body) -> Result<(Bytes, Place), BodyError> {
        let mut text = BytesMut::new();
        let mut place = None;
        let (mut counted, mut due) = (0, Duration::ZERO);
        loop {
            let frame = match place {
                None => body.frame().await,
                Some(_) => timeout(clock, due.saturating_sub(clock.monotonic()), body.frame())
                    .await
                    .map_err(|_| BodyError::Broken("it came too slowly".into()))?,
            };
            let Some(frame) = frame else { return Ok((text.freeze(), place)) };
            let Ok(data) = frame.map_err(BodyError::Broken)?.into_data() else { continue };
            let length = text.len() + data.len();
            if length > LARGE_ANSWER {
                return Err(BodyError::TooLarge { limit: LARGE_ANSWER });
            }
            let begins = place.is_none() && length > SMALL_ANSWER;
            if begins {
                place = Some(self.0.clone().acquire_owned().await.map_err(|error| BodyError::Broken(error.into()))?);
            }
            text.extend_from_slice(&data);
            if begins || length - counted >= PART {
                (counted, due) = (length, clock.monotonic() + PART_TIME);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _, channel::mpsc};
    use http_body::Frame;
    use http_body_util::StreamBody;
    use kith_transport::boxed;

    use super::*;
    use crate::platform::ManualClock;

    type Sender = mpsc::UnboundedSender<Bytes>;

    fn body() -> (Sender, Body) {
        let (sender, receiver) = mpsc::unbounded();
        let frames = receiver.map(|part| Ok::<_, std::io::Error>(Frame::data(part)));
        (sender, boxed(StreamBody::new(frames)))
    }

    fn send(to: &Sender, length: usize) {
        to.unbounded_send(Bytes::from(vec![b' '; length])).unwrap();
    }

    #[tokio::test]
    async fn slow_answers_keep_nobody_waiting_unless_they_are_long_and_those_must_go_on() {
        let (large, clock) = (Large::default(), ManualClock::new(0));
        // Servers that say a little and then nothing any more.
        let mut silent: Vec<_> = (0..10)
            .map(|_| {
                let (sender, body) = body();
                send(&sender, 1_000);
                let mut reading = Box::pin(large.read(&clock, body));
                assert!(reading.as_mut().now_or_never().is_none());
                (sender, reading)
            })
            .collect();
        // Two that say much and then nothing any more have the places, for a while.
        let mut long: Vec<_> = (0..AT_A_TIME)
            .map(|_| {
                let (sender, body) = body();
                send(&sender, SMALL_ANSWER + 1);
                let mut reading = Box::pin(large.read(&clock, body));
                assert!(reading.as_mut().now_or_never().is_none());
                (sender, reading)
            })
            .collect();
        let (sender, honest) = body();
        send(&sender, SMALL_ANSWER);
        send(&sender, 10);
        drop(sender);
        let mut honest = Box::pin(large.read(&clock, honest));
        assert!(honest.as_mut().now_or_never().is_none(), "it waits for a place");
        let (sender, small) = body();
        send(&sender, SMALL_ANSWER);
        drop(sender);
        let (text, place) = large.read(&clock, small).await.unwrap();
        assert!(text.len() == SMALL_ANSWER && place.is_none(), "what is not long needs none");

        clock.advance(PART_TIME);
        let (_sender, slow) = long.remove(0);
        let error = slow.await.unwrap_err();
        assert!(error.to_string().contains("too slowly"), "{error}");
        let (text, place) = honest.await.unwrap();
        assert!(text.len() == SMALL_ANSWER + 10 && place.is_some());
        // One that goes on has its time anew with each part.
        drop((long, place));
        let (sender, body) = body();
        send(&sender, SMALL_ANSWER + 1);
        let mut steady = Box::pin(large.read(&clock, body));
        for _ in 0..5 {
            assert!(steady.as_mut().now_or_never().is_none());
            clock.advance(PART_TIME - Duration::from_millis(1));
            send(&sender, PART);
        }
        assert!(steady.as_mut().now_or_never().is_none());
        drop(sender);
        assert_eq!(steady.await.unwrap().0.len(), SMALL_ANSWER + 1 + 5 * PART);
        assert!(silent.iter_mut().all(|(_, reading)| reading.as_mut().now_or_never().is_none()));
    }

    #[tokio::test]
    async fn an_answer_without_end_is_given_up() {
        let (sender, body) = body();
        let clock = ManualClock::new(0);
        let large = Large::default();
        let mut reading = Box::pin(large.read(&clock, body));
        let part = Bytes::from(vec![b' '; 16 << 20]);
        for _ in 0..LARGE_ANSWER / part.len() {
            sender.unbounded_send(part.clone()).unwrap();
            assert!(reading.as_mut().now_or_never().is_none());
        }
        send(&sender, 1);
        assert!(matches!(reading.await.unwrap_err(), BodyError::TooLarge { limit: LARGE_ANSWER }));
    }
}
