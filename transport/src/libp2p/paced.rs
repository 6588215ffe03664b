//! A bulk stream that leaves room for others on a slow link.
//!
//! QUIC and TCP fill whatever buffer the slowest router on the way has, and then everything waits behind it, seconds on a home
//! uplink. So on bulk streams the receiver acknowledges bytes as they arrive, and the sender keeps the time from sending to
//! acknowledgement near the least it has seen, by a window of its own: the idea of LEDBAT (RFC 6817), as in downloads that
//! yield. It works the same over TCP, where a large buffer of one stream would hold up all streams of the connection.
//!
//! Each direction is a sequence of frames: two bytes big-endian, 1 to 32767: that many bytes of data follow; 0x8000: four bytes
//! follow, how many bytes of data arrived since the last acknowledgement. Above it HTTP/2 sees an ordinary stream.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// Largest frame sent.
const FRAME: usize = 8 * 1024;
/// Least and most bytes under way: on the slowest link two small frames, and never more than the design's 256 KiB.
const MIN_WINDOW: usize = 4 * 1024;
const MAX_WINDOW: usize = 256 * 1024;
/// Queueing that we cause on the way, at most.
const TARGET: Duration = Duration::from_millis(100);
/// The least time seen is forgotten after two of these: routes change.
const EPOCH: Duration = Duration::from_secs(30);
/// Received and not yet taken by HTTP/2, whose own windows allow half of it. A peer that sends more is not read on.
const MAX_RECEIVED: usize = 2 * 1024 * 1024;
/// Between HTTP/2 and the frames.
const PIPE: usize = 64 * 1024;
const ACK: u16 = 0x8000;

/// How many bytes may be under way.
#[derive(Debug)]
pub(super) struct Window {
    size: usize,
    in_flight: usize,
    /// Frames under way: their length, and when they were sent.
    sent: VecDeque<(usize, Instant)>,
    /// The least round trip of this epoch and the last.
    least: [Option<Duration>; 2],
    epoch: Instant,
    /// The window shrinks at most once in a round trip: not for frames sent before this.
    shrunk: Instant,
}

impl Window {
    pub(super) fn new(now: Instant) -> Self {
        Self { size: 4 * FRAME, in_flight: 0, sent: VecDeque::new(), least: [None, None], epoch: now, shrunk: now }
    }

    /// How many bytes may be sent now in one frame: a whole frame or nothing, or ever smaller ones would be sent. Two or more fill
    /// the window, so that the link does not idle while an acknowledgement is on its way.
    pub(super) fn room(&self) -> usize {
        let frame = FRAME.min(self.size / 2);
        if self.in_flight + frame <= self.size { frame } else { 0 }
    }

    /// A frame is sent.
    pub(super) fn sent(&mut self, bytes: usize, now: Instant) {
        self.in_flight += bytes;
        self.sent.push_back((bytes, now));
    }

    /// The peer has received so many bytes more. `false`: more than were sent.
    pub(super) fn acknowledged(&mut self, bytes: usize, now: Instant) -> bool {
        if bytes > self.in_flight {
            return false;
        }
        // Grow only when the window was what held us up.
        let limited = self.room() == 0;
        self.in_flight -= bytes;
        let mut left = bytes;
        let mut newest = None;
        while let Some((length, at)) = self.sent.front_mut() {
            if left < *length {
                *length -= left;
                break;
            }
            left -= *length;
            newest = Some(*at);
            self.sent.pop_front();
        }
        if let Some(at) = newest {
            self.measured(at, now, bytes, limited);
        }
        true
    }

    fn measured(&mut self, at: Instant, now: Instant, bytes: usize, limited: bool) {
        let time = now.saturating_duration_since(at);
        if now.saturating_duration_since(self.epoch) >= EPOCH {
            self.epoch = now;
            self.least = [None, self.least[0]];
            // Let what we ourselves have queued drain, or it would be taken for the way's own time.
            self.size = MIN_WINDOW;
        }
        let least = |known: Option<Duration>| known.map_or(time, |known| known.min(time));
        self.least[0] = Some(least(self.least[0]));
        let base = self.least.iter().flatten().min().copied().unwrap_or(time);
        let queued = time.saturating_sub(base);
        if queued > TARGET {
            if at >= self.shrunk {
                self.shrunk = now;
                let kept = (TARGET.as_secs_f64() / queued.as_secs_f64()).max(0.5);
                self.size = (self.size as f64 * kept) as usize;
            }
        } else if limited && queued < TARGET / 2 {
            self.size += bytes;
        } else if limited {
            self.size += (bytes * FRAME / self.size.max(1)).max(1);
        }
        self.size = self.size.clamp(MIN_WINDOW, MAX_WINDOW);
    }
}

/// Puts frames around a stream; gives the plain end. The rest runs in a task of its own until either side ends.
pub(super) fn paced<S>(stream: S) -> DuplexStream
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (ours, theirs) = tokio::io::duplex(PIPE);
    let mut pump = Pump {
        stream,
        pipe: ours,
        window: Window::new(Instant::now()),
        raw: BytesMut::new(),
        received: BytesMut::new(),
        unacknowledged: 0,
        out: BytesMut::new(),
        pipe_ended: false,
        stream_ended: false,
        delivered_end: false,
    };
    tokio::spawn(async move {
        if let Err(error) = std::future::poll_fn(|context| pump.poll(context)).await {
            tracing::debug!(%error, "a bulk stream broke");
        }
    });
    theirs
}

struct Pump<S> {
    stream: S,
    pipe: DuplexStream,
    window: Window,
    /// Read from the stream, not yet a whole frame.
    raw: BytesMut,
    /// Data for HTTP/2.
    received: BytesMut,
    unacknowledged: usize,
    /// Frames to be written.
    out: BytesMut,
    pipe_ended: bool,
    stream_ended: bool,
    delivered_end: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Pump<S> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut progress = self.poll_receive(context)?;
            progress |= self.poll_deliver(context)?;
            progress |= self.poll_take(context)?;
            progress |= self.poll_send(context)?;
            if self.pipe_ended && self.out.is_empty() {
                // HTTP/2 has ended: what still comes is for nobody.
                return Pin::new(&mut self.stream).poll_shutdown(context);
            }
            if !progress {
                return Poll::Pending;
            }
        }
    }

    /// Reads frames. All that comes is taken at once: acknowledgements must not wait behind data that nobody takes.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        if self.stream_ended || self.received.len() >= MAX_RECEIVED {
            return Ok(false);
        }
        let mut space = [0; 2 * FRAME];
        let mut buffer = ReadBuf::new(&mut space);
        match Pin::new(&mut self.stream).poll_read(context, &mut buffer)? {
            Poll::Pending => return Ok(false),
            Poll::Ready(()) if buffer.filled().is_empty() => self.stream_ended = true,
            Poll::Ready(()) => self.raw.extend_from_slice(buffer.filled()),
        }
        self.parse()?;
        Ok(true)
    }

    fn parse(&mut self) -> io::Result<()> {
        let broken = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
        while let Some((head, rest)) = self.raw.split_first_chunk::<2>() {
            let head = u16::from_be_bytes(*head);
            if head == ACK {
                let Some(count) = rest.first_chunk::<4>() else {
                    break;
                };
                let count = u32::from_be_bytes(*count) as usize;
                self.raw.advance(6);
                if !self.window.acknowledged(count, Instant::now()) {
                    return broken("more was acknowledged than sent");
                }
            } else if head == 0 || head > ACK {
                return broken("unknown frame");
            } else {
                let length = usize::from(head);
                if rest.len() < length {
                    break;
                }
                self.raw.advance(2);
                let data = self.raw.split_to(length);
                self.received.extend_from_slice(&data);
                self.unacknowledged += length;
            }
        }
        Ok(())
    }

    fn poll_deliver(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        if self.received.is_empty() {
            if self.stream_ended && !self.delivered_end {
                self.delivered_end = true;
                let _ = Pin::new(&mut self.pipe).poll_shutdown(context)?;
                return Ok(true);
            }
            return Ok(false);
        }
        match Pin::new(&mut self.pipe).poll_write(context, &self.received) {
            Poll::Ready(Ok(taken)) => {
                self.received.advance(taken);
                Ok(true)
            }
            // HTTP/2 has ended; its last words may still be in the pipe.
            Poll::Ready(Err(_)) => {
                self.received.clear();
                self.stream_ended = true;
                self.delivered_end = true;
                Ok(true)
            }
            Poll::Pending => Ok(false),
        }
    }

    /// Takes data from HTTP/2 into frames, as much as the window allows; acknowledges.
    fn poll_take(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        let mut progress = false;
        if self.unacknowledged > 0 && self.out.len() < FRAME {
            self.out.put_u16(ACK);
            self.out.put_u32(u32::try_from(self.unacknowledged).unwrap_or(u32::MAX));
            self.unacknowledged = 0;
            progress = true;
        }
        let room = self.window.room();
        if self.pipe_ended || room == 0 || self.out.len() >= FRAME {
            return Ok(progress);
        }
        let mut space = [0; FRAME];
        let mut buffer = ReadBuf::new(space.get_mut(..room).unwrap_or_default());
        if Pin::new(&mut self.pipe).poll_read(context, &mut buffer)?.is_pending() {
            return Ok(progress);
        }
        let data = buffer.filled();
        if data.is_empty() {
            self.pipe_ended = true;
        } else {
            let length = u16::try_from(data.len()).map_err(io::Error::other)?;
            self.out.put_u16(length);
            self.out.extend_from_slice(data);
            self.window.sent(data.len(), Instant::now());
        }
        Ok(true)
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        let mut progress = false;
        while !self.out.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, &self.out)? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => self.out.advance(written),
                Poll::Pending => return Ok(progress),
            }
            progress = true;
        }
        let _ = Pin::new(&mut self.stream).poll_flush(context)?;
        Ok(progress)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A link of this rate (bytes per second) and time for the way, whose queue has no end: frames wait in it, and the window must
    /// keep that short. Gives bytes carried and the longest queue in the second half.
    fn simulate(rate: f64, way: Duration, seconds: u64) -> (usize, Duration) {
        let start = Instant::now();
        let end = start + Duration::from_secs(seconds);
        let mut window = Window::new(start);
        let (mut now, mut free) = (start, start);
        let mut arrivals: VecDeque<(Instant, usize)> = VecDeque::new();
        let (mut carried, mut longest) = (0, Duration::ZERO);
        while now < end {
            while window.room() > 0 {
                let bytes = window.room();
                window.sent(bytes, now);
                free = free.max(now) + Duration::from_secs_f64(bytes as f64 / rate);
                arrivals.push_back((free + way, bytes));
                if now > start + Duration::from_secs(seconds / 2) {
                    longest = longest.max(free - now);
                }
            }
            let (at, bytes) = arrivals.pop_front().expect("something is under way");
            now = at;
            carried += bytes;
            assert!(window.acknowledged(bytes, now));
        }
        (carried, longest)
    }

    #[test]
    fn the_queue_stays_short_and_the_link_busy_from_slow_to_fast() {
        for (rate, way) in [(16_000.0, 20), (125_000.0, 5), (125_000.0, 100), (1_250_000.0, 30), (100_000_000.0, 1)] {
            let (carried, longest) = simulate(rate, Duration::from_millis(way), 120);
            // The window's bound limits long fat links: that is what they can carry.
            let most = rate.min(MAX_WINDOW as f64 / Duration::from_millis(way).as_secs_f64());
            let used = carried as f64 / (most * 120.0);
            assert!(used > 0.7, "{rate} B/s, {way} ms: only {used:.2} used");
            let least = MIN_WINDOW as f64 / rate;
            let bound = Duration::from_secs_f64(0.5 + least);
            assert!(longest < bound, "{rate} B/s, {way} ms: a queue of {longest:?}");
        }
    }

    #[test]
    fn a_peer_that_acknowledges_what_was_not_sent_is_found_out() {
        let now = Instant::now();
        let mut window = Window::new(now);
        window.sent(100, now);
        assert!(window.acknowledged(60, now));
        assert!(!window.acknowledged(41, now));
    }

    #[tokio::test]
    async fn bytes_pass_unchanged_in_both_directions_and_the_end_too() {
        let (left, right) = tokio::io::duplex(1000);
        let (left, right) = (paced(left), paced(right));
        let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        let carry = |end: DuplexStream, bytes: Vec<u8>| async move {
            let (mut read, mut write) = tokio::io::split(end);
            let send = async {
                write.write_all(&bytes).await.unwrap();
                write.flush().await.unwrap();
            };
            let receive = async {
                let mut got = vec![0; bytes.len()];
                read.read_exact(&mut got).await.unwrap();
                got
            };
            let (got, ()) = futures::join!(receive, send);
            assert!(got == bytes);
            read.unsplit(write)
        };
        let (left, mut right) = futures::join!(carry(left, bytes.clone()), carry(right, bytes));
        drop(left);
        assert_eq!(right.read(&mut [0; 10]).await.unwrap(), 0, "the end arrives");
    }

    #[tokio::test]
    async fn malformed_frames_end_the_stream() {
        for bytes in [&[0, 0][..], &[0x80, 1], &[0xff, 0xff], &[0x80, 0, 0, 0, 0, 1]] {
            let (mut raw, stream) = tokio::io::duplex(1000);
            let mut end = paced(stream);
            raw.write_all(bytes).await.unwrap();
            assert_eq!(end.read(&mut [0; 10]).await.unwrap(), 0, "{bytes:?}");
        }
    }
}
