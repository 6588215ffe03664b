//! Connections that are kept for further requests, for each server name and class: one of HTTP/2, or a few of HTTP/1.1.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body::Frame;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::client::TlsStream;

use super::connect::MOST_HEAD;
use super::{HttpsError, Spawn};
use crate::{Body, BoxError, Class, Timer, boxed};

/// Connections at a time, to all servers together, in use or kept.
const MOST_CONNECTIONS: usize = 512;
/// Connections of HTTP/1.1 kept for one server and class while nobody uses them.
const MOST_IDLE: usize = 4;
/// How long an unused connection is kept: less than common servers keep theirs.
const IDLE: Duration = Duration::from_secs(25);
/// How long a connection gets new requests: then the server is looked for anew, as it may have moved.
const OLD: Duration = Duration::from_secs(600);
/// How often unused connections are looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// Whose connections.
pub(super) type Key = (String, Class);

/// A connection that takes a request, and what it needs to be kept.
pub(super) struct Taken {
    sender: Sender,
    host: HeaderValue,
    since: Duration,
}

enum Sender {
    One(http1::SendRequest<Body>),
    Two(http2::SendRequest<Body>),
}

/// Why a request brought no response; with it, if it surely never left.
pub(super) type Failure = (hyper::Error, Option<Request<Body>>);

struct Kept {
    taken: Taken,
    used: Duration,
}

impl Kept {
    fn is_good(&self, now: Duration) -> bool {
        let open = match &self.taken.sender {
            Sender::One(sender) => !sender.is_closed(),
            Sender::Two(sender) => !sender.is_closed(),
        };
        open && now < self.used + IDLE && now < self.taken.since + OLD
    }
}

#[derive(Default)]
struct State {
    kept: BTreeMap<Key, Vec<Kept>>,
    sweeping: bool,
}

/// The connections that are kept.
pub(super) struct Pool {
    state: Mutex<State>,
    timer: Arc<dyn Timer>,
    spawn: Spawn,
    places: Arc<Semaphore>,
}

impl Pool {
    pub(super) fn new(timer: Arc<dyn Timer>, spawn: Spawn) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        Arc::new(Self { state: Mutex::default(), timer, spawn, places })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that is there.
    pub(super) fn take(&self, key: &Key) -> Option<Taken> {
        let now = self.timer.now();
        let mut state = self.state();
        let kept = state.kept.get_mut(key)?;
        kept.retain(|kept| kept.is_good(now));
        // The one used last is the likeliest to be still there.
        let latest = kept.last_mut()?;
        if let Sender::Two(sender) = &latest.taken.sender {
            latest.used = now;
            let (sender, host) = (Sender::Two(sender.clone()), latest.taken.host.clone());
            return Some(Taken { sender, host, since: latest.taken.since });
        }
        kept.pop().map(|kept| kept.taken)
    }

    /// A place for one more connection. Waits for one where there are too many, and gives up those that nobody uses.
    pub(super) async fn place(&self) -> Result<OwnedSemaphorePermit, HttpsError> {
        if self.places.available_permits() == 0 {
            self.state().kept.clear();
        }
        self.places.clone().acquire_owned().await.map_err(|_| HttpsError::Closed)
    }

    /// Forgets all connections that nobody uses: the network changed.
    pub(super) fn clear(&self) {
        self.state().kept.clear();
    }

    /// Begins to talk over a new connection.
    pub(super) async fn begin(
        self: &Arc<Self>,
        key: &Key,
        stream: TokioIo<TlsStream<TcpStream>>,
        host: HeaderValue,
        place: OwnedSemaphorePermit,
    ) -> Result<Taken, HttpsError> {
        let since = self.timer.now();
        let two = stream.inner().get_ref().1.alpn_protocol() == Some(b"h2");
        if !two {
            let mut builder = http1::Builder::new();
            builder.max_buf_size(MOST_HEAD);
            let (sender, connection) = builder.handshake(stream).await.map_err(HttpsError::Lost)?;
            (self.spawn)(driven(connection.map(|ended| ended.err()), place).boxed());
            return Ok(Taken { sender: Sender::One(sender), host, since });
        }
        let mut builder = http2::Builder::new(Tasks(self.spawn.clone()));
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(15))
            .keep_alive_timeout(Duration::from_secs(15))
            .max_header_list_size(u32::try_from(MOST_HEAD).unwrap_or(u32::MAX));
        let (sender, connection) = builder.handshake(stream).await.map_err(HttpsError::Lost)?;
        (self.spawn)(driven(connection.map(|ended| ended.err()), place).boxed());
        let taken = Taken { sender: Sender::Two(sender.clone()), host: host.clone(), since };
        self.keep(key.clone(), Taken { sender: Sender::Two(sender), host, since });
        Ok(taken)
    }

    /// Sends a request. A connection of HTTP/1.1 comes back here when its response has been read to the end.
    pub(super) async fn send(
        self: &Arc<Self>,
        key: &Key,
        taken: Taken,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Failure> {
        let Taken { sender, host, since } = taken;
        let two = matches!(sender, Sender::Two(_));
        address(&mut request, &host, two);
        match sender {
            Sender::Two(mut sender) => match sender.try_send_request(request).await {
                Ok(response) => Ok(response.map(boxed)),
                Err(mut error) => {
                    let unsent = error.take_message();
                    Err((error.into_error(), unsent))
                }
            },
            Sender::One(mut sender) => match sender.try_send_request(request).await {
                Ok(response) => {
                    let back = Back { pool: Arc::downgrade(self), key: key.clone(), sender, host, since };
                    Ok(response.map(|body| boxed(Returning::new(body, back))))
                }
                Err(mut error) => {
                    let unsent = error.take_message();
                    Err((error.into_error(), unsent))
                }
            },
        }
    }

    fn keep(self: &Arc<Self>, key: Key, taken: Taken) {
        let now = self.timer.now();
        let mut state = self.state();
        let kept = state.kept.entry(key).or_default();
        kept.push(Kept { taken, used: now });
        if kept.len() > MOST_IDLE {
            kept.remove(0);
        }
        if !std::mem::replace(&mut state.sweeping, true) {
            drop(state);
            (self.spawn)(sweep(Arc::downgrade(self), self.timer.clone()).boxed());
        }
    }

    /// Gives up what was not used for long; false when nothing is left.
    fn sweep(&self) -> bool {
        let now = self.timer.now();
        let mut state = self.state();
        state.kept.retain(|_, kept| {
            kept.retain(|kept| kept.is_good(now));
            !kept.is_empty()
        });
        state.sweeping = !state.kept.is_empty();
        state.sweeping
    }
}

async fn sweep(pool: Weak<Pool>, timer: Arc<dyn Timer>) {
    loop {
        timer.sleep(SWEEP).await;
        match pool.upgrade() {
            Some(pool) if pool.sweep() => {}
            _ => return,
        }
    }
}

async fn driven(connection: impl Future<Output = Option<hyper::Error>>, place: OwnedSemaphorePermit) {
    if let Some(error) = connection.await {
        tracing::debug!(%error, "a connection to a server ended badly");
    }
    drop(place);
}

/// Writes into a request to whom it goes, as the protocol wants it.
fn address(request: &mut Request<Body>, host: &HeaderValue, two: bool) {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let authority = host.to_str().unwrap_or_default();
    let uri = if two { format!("https://{authority}{path}") } else { path.to_owned() };
    // Both were parts of a URI, or of a server name, before.
    *request.uri_mut() = uri.parse::<Uri>().unwrap_or_default();
    if two {
        request.headers_mut().remove(header::HOST);
        *request.version_mut() = http::Version::HTTP_2;
    } else {
        request.headers_mut().insert(header::HOST, host.clone());
        *request.version_mut() = http::Version::HTTP_11;
    }
    request.headers_mut().entry(header::USER_AGENT).or_insert(HeaderValue::from_static(super::USER_AGENT));
}

/// Starts hyper's tasks with ours.
#[derive(Clone)]
struct Tasks(Spawn);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        (self.0)(Box::pin(task));
    }
}

/// How a connection comes back.
struct Back {
    pool: Weak<Pool>,
    key: Key,
    sender: http1::SendRequest<Body>,
    host: HeaderValue,
    since: Duration,
}

impl Back {
    fn give(self) {
        let Some(pool) = self.pool.upgrade() else { return };
        let (Self { pool: weak, key, mut sender, host, since }, spawn) = (self, pool.spawn.clone());
        spawn(Box::pin(async move {
            if sender.ready().await.is_ok()
                && let Some(pool) = weak.upgrade()
            {
                pool.keep(key, Taken { sender: Sender::One(sender), host, since });
            }
        }));
    }
}

/// The body of a response of HTTP/1.1: when it was read to its end, the connection can be used again. One that is dropped before
/// closes it.
struct Returning {
    body: Incoming,
    back: Option<Back>,
}

impl Returning {
    fn new(body: Incoming, back: Back) -> Self {
        let mut returning = Self { body, back: Some(back) };
        if http_body::Body::is_end_stream(&returning.body) {
            returning.give();
        }
        returning
    }

    fn give(&mut self) {
        if let Some(back) = self.back.take() {
            back.give();
        }
    }
}

impl http_body::Body for Returning {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.give();
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
