//! Requests of peers: HTTP/2 on the streams that they open, handed to the router.

use std::convert::Infallible;
use std::sync::Arc;

use http::StatusCode;
use hyper::body::Incoming;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use libp2p::swarm::ConnectionId;
use tokio::sync::Semaphore;

use super::bodies::{Arriving, Departures, is_download};
use super::link::{Io, MAX_HEADERS, bounds, describe};
use super::shared::Shared;
use crate::record::MAX_RECORD_LEN;
use crate::{Body, Class, RemotePeer, ServerKey, boxed, empty, full, read_body};

/// Peers send their record here when it changes; the rest of the paths is the router's.
pub(super) const RECORD_PATH: &str = "/_kith/record";

/// One inbound stream and what its requests need.
#[derive(Clone)]
struct Inbound {
    shared: Arc<Shared>,
    connection: ConnectionId,
    peer: ServerKey,
    class: Class,
    /// One permit for each request of this stream being handled or answered. HTTP/2's own limit counts streams, which a peer
    /// can reset while their handlers still run.
    slots: Arc<Semaphore>,
    /// The responses under way.
    departures: Departures,
}

/// Serves a stream to its end. `Err`: it broke.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    connection: ConnectionId,
    peer: ServerKey,
    class: Class,
    io: Box<dyn Io>,
) -> Result<(), String> {
    let bounds = bounds(class);
    let inbound = Inbound {
        shared: shared.clone(),
        connection,
        peer,
        class,
        slots: Arc::new(Semaphore::new(bounds.requests as usize)),
        departures: Departures::default(),
    };
    let departures = inbound.departures.clone();
    let service = service_fn(move |request| {
        let inbound = inbound.clone();
        async move { Ok::<_, Infallible>(inbound.answer(request).await) }
    });
    let connection = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(bounds.body_window)
        .initial_connection_window_size(bounds.window)
        .max_concurrent_streams(bounds.requests)
        .max_send_buf_size(bounds.body_window as usize)
        .max_header_list_size(MAX_HEADERS)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(io), service);
    tokio::select! {
        biased;
        ended = connection => ended.map_err(|error| describe(&error)),
        () = departures.watch(shared.config.stalled_after) => Ok(()),
    }
}

impl Inbound {
    async fn answer(self, request: http::Request<Incoming>) -> http::Response<Body> {
        let shared = self.shared.clone();
        shared.stats.requests_in.add();
        let places = (self.slots.clone().try_acquire_owned(), shared.handlers.take(self.peer));
        let (Ok(slot), Some(place)) = places else {
            return busy();
        };
        let running = Running::new(shared.clone(), self.connection);
        let (peer, departures) = (self.peer, self.departures.clone());
        let request = self.inward(request);
        // In a task of its own: what a peer asked for is carried out whole even when the peer goes away meanwhile.
        let task = tokio::spawn(async move {
            let held = (slot, place, running);
            let response = if request.uri().path() == RECORD_PATH {
                self.take_record(request).await
            } else {
                shared.router.call(request).await
            };
            if http_body::Body::is_end_stream(response.body()) {
                return response;
            }
            // What a request takes it keeps until its answer has left: an answer that nobody reads costs memory and open files.
            let download = is_download(response.body()).then(|| shared.downloads.take(peer));
            if matches!(download, Some(None)) {
                return busy();
            }
            response.map(|body| boxed(departures.add(body, (held, download))))
        });
        task.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a request handler ended early");
            refusal(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", "Internal error")
        })
    }

    /// The request as the router expects it: origin form, and whose it is.
    fn inward(&self, request: http::Request<Incoming>) -> http::Request<Body> {
        let mut request = request.map(|body| boxed(Arriving::new(body, self.shared.config.stalled_after)));
        let path =
            request.uri_mut().path_and_query().cloned().unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
        *request.uri_mut() = path.into();
        let extensions = request.extensions_mut();
        extensions.clear();
        extensions.insert(RemotePeer(self.peer));
        extensions.insert(self.class);
        request
    }

    /// The peer's record changed. Only its own is taken here.
    async fn take_record(&self, request: http::Request<Body>) -> http::Response<Body> {
        let shared = &self.shared;
        let record = match read_body(request.into_body(), MAX_RECORD_LEN).await {
            Ok(record) => record,
            Err(error) => {
                return refusal(StatusCode::BAD_REQUEST, "M_TOO_LARGE", &error.to_string());
            }
        };
        match shared.greet(self.connection, self.peer, &record) {
            Ok(()) => http::Response::new(empty()),
            Err(reason) => refusal(StatusCode::FORBIDDEN, "M_FORBIDDEN", &reason),
        }
    }
}

/// Counts a request of a peer until its answer has left.
struct Running(Arc<Shared>, ConnectionId);

impl Running {
    fn new(shared: Arc<Shared>, connection: ConnectionId) -> Self {
        shared.table().inbound_request(connection, true, std::time::Instant::now());
        Self(shared, connection)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let id = self.1;
        self.0.table().inbound_request(id, false, std::time::Instant::now());
    }
}

/// The answer to a peer that has as many requests or downloads under way as it may.
fn busy() -> http::Response<Body> {
    refusal(StatusCode::SERVICE_UNAVAILABLE, "M_LIMIT_EXCEEDED", "Too many requests are being handled: try again later")
}

/// A Matrix error response.
fn refusal(status: StatusCode, code: &str, message: &str) -> http::Response<Body> {
    let body = serde_json::json!({ "errcode": code, "error": message });
    let mut response = http::Response::new(full(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}
