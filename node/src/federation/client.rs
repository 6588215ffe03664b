//! Requests to other servers: typed, signed with `X-Matrix`, bounded in number, time and length.
//!
//! Server-server specification, "Request Authentication".

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use http::header;
use http_body::Frame;
use kith_transport::{Body, BoxError, Class, Transport, boxed, full, read_body};
use ruma::{
    OwnedServerName, ServerName,
    api::{
        IncomingResponseExt as _, OutgoingBody as _, OutgoingRequest, error::IntoHttpError,
        federation::authentication::XMatrixSigningInput, path_builder::PathBuilder,
    },
    signatures::Ed25519KeyPair,
};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    error::FederationError,
    large::{Large, Place},
    patterns::Blocked,
    signing,
    stats::Stats,
};
use crate::{
    platform::{Clock, timeout},
    turns::Turns,
};

/// How many requests of one class run towards one server at a time.
const CONCURRENT: [usize; 2] = [16, 8];
/// How many more may wait for their turn.
const WAITING: usize = 256;
/// The longest answer to a small request, in bytes.
pub const SMALL_ANSWER: usize = 16 << 20;
/// The longest error body that is read.
const ERROR_ANSWER: usize = 64 << 10;

/// Sends signed requests.
pub struct Client {
    server_name: OwnedServerName,
    key: Arc<Ed25519KeyPair>,
    transport: Transport,
    clock: Arc<dyn Clock>,
    blocked: Blocked,
    stats: Arc<Stats>,
    turns: [Turns<OwnedServerName>; 2],
    large: Large,
}

impl Client {
    /// A client that signs as `server_name` with `key`.
    pub fn new(
        server_name: OwnedServerName,
        key: Arc<Ed25519KeyPair>,
        transport: Transport,
        clock: Arc<dyn Clock>,
        blocked: Blocked,
        stats: Arc<Stats>,
    ) -> Self {
        Self {
            server_name,
            key,
            transport,
            clock,
            blocked,
            stats,
            turns: CONCURRENT.map(|each| Turns::new(each, WAITING)),
            large: Large::default(),
        }
    }

    /// Asks `server`. `limit` bounds the time in all, the answer's body included; the answer may have [`SMALL_ANSWER`] bytes.
    ///
    /// # Errors
    /// [`FederationError`]; [`kith_transport::TransportError::maybe_delivered`] tells whether the server may have acted.
    pub async fn request<R>(
        &self,
        server: &ServerName,
        request: R,
        class: Class,
        limit: Duration,
    ) -> Result<R::IncomingResponse, FederationError>
    where
        R: OutgoingRequest,
        for<'a> R::Authentication: ruma::api::auth_scheme::AuthScheme<Input<'a> = XMatrixSigningInput<'a>>,
        for<'a> R::PathBuilder: PathBuilder<Input<'a> = ()>,
    {
        Ok(self.ask(server, request, class, limit, Most::Bytes(SMALL_ANSWER)).await?.0)
    }

    /// As [`Client::request`], for the state of a whole room: the answer may have [`super::large::LARGE_ANSWER`] bytes. A long one waits
    /// for its place among those of all servers, which it comes with.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn request_large<R>(
        &self,
        server: &ServerName,
        request: R,
        limit: Duration,
    ) -> Result<(R::IncomingResponse, Place), FederationError>
    where
        R: OutgoingRequest,
        for<'a> R::Authentication: ruma::api::auth_scheme::AuthScheme<Input<'a> = XMatrixSigningInput<'a>>,
        for<'a> R::PathBuilder: PathBuilder<Input<'a> = ()>,
    {
        self.ask(server, request, Class::Bulk, limit, Most::Large).await
    }

    async fn ask<R>(
        &self,
        server: &ServerName,
        request: R,
        class: Class,
        limit: Duration,
        most: Most,
    ) -> Result<(R::IncomingResponse, Place), FederationError>
    where
        R: OutgoingRequest,
        for<'a> R::Authentication: ruma::api::auth_scheme::AuthScheme<Input<'a> = XMatrixSigningInput<'a>>,
        for<'a> R::PathBuilder: PathBuilder<Input<'a> = ()>,
    {
        let request = self.signed(server, request)?;
        let (response, place) = self.send(server, request, class, limit, most).await?;
        let (parts, body) = response.into_parts();
        let answer = R::IncomingResponse::try_from_http_response(http::Response::from_parts(parts, &body[..]))
            .map_err(|error| self.nonsense(server, &error))?;
        Ok((answer, place))
    }

    /// An answer that means nothing, or is too long, is counted.
    fn nonsense(&self, server: &ServerName, error: &dyn std::fmt::Display) -> FederationError {
        self.stats.answers_refused.add();
        let reason = error.to_string().chars().take(300).collect();
        FederationError::Nonsense { server: server.to_owned(), reason }
    }

    /// Asks `server` for something long, whose body is given as it comes. `limit` bounds the time in all: after it the body ends
    /// with an error. An error response is read and given as the error.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn stream<R>(
        &self,
        server: &ServerName,
        request: R,
        limit: Duration,
    ) -> Result<http::Response<Body>, FederationError>
    where
        R: OutgoingRequest,
        for<'a> R::Authentication: ruma::api::auth_scheme::AuthScheme<Input<'a> = XMatrixSigningInput<'a>>,
        for<'a> R::PathBuilder: PathBuilder<Input<'a> = ()>,
    {
        let request = self.signed(server, request)?;
        let deadline = self.clock.sleep(limit);
        let turn = self.turn(server, Class::Bulk).await?;
        let response = self.transport.send(server.as_str(), Class::Bulk, limit, request.map(full)).await?;
        if response.status().is_success() {
            return Ok(response.map(|body| boxed(Stream { body, deadline, _turn: turn })));
        }
        let (parts, body) = response.into_parts();
        let late = timeout(&*self.clock, limit, read_body(body, ERROR_ANSWER)).await;
        let body = late.ok().and_then(Result::ok).unwrap_or_default();
        let retry = parts.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        Err(FederationError::remote(server.to_owned(), parts.status, retry, &body))
    }

    /// Asks `server` on a path that no `ruma` type has, with a JSON body unless it is `Null`; gives the answer's JSON.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub async fn request_json(
        &self,
        server: &ServerName,
        method: http::Method,
        path: &str,
        body: &serde_json::Value,
        class: Class,
        limit: Duration,
    ) -> Result<serde_json::Value, FederationError> {
        self.request_short(server, method, path, body, class, limit, SMALL_ANSWER).await
    }

    /// As [`Client::request_json`], with an answer of at most `most` bytes.
    ///
    /// # Errors
    /// As [`Client::request`].
    #[allow(clippy::too_many_arguments, reason = "each is another thing")]
    pub async fn request_short(
        &self,
        server: &ServerName,
        method: http::Method,
        path: &str,
        body: &serde_json::Value,
        class: Class,
        limit: Duration,
        most: usize,
    ) -> Result<serde_json::Value, FederationError> {
        let local = |error: &dyn std::fmt::Display| FederationError::Local(error.to_string());
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("https://{server}{path}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|error| local(&error))?;
        self.sign(&mut request, server)?;
        let (response, _) = self.send(server, request, class, limit, Most::Bytes(most)).await?;
        serde_json::from_slice(response.body()).map_err(|error| self.nonsense(server, &error))
    }

    /// A request as it goes over the wire, signed for `server`.
    fn signed<R>(&self, server: &ServerName, request: R) -> Result<http::Request<Vec<u8>>, FederationError>
    where
        R: OutgoingRequest,
        for<'a> R::Authentication: ruma::api::auth_scheme::AuthScheme<Input<'a> = XMatrixSigningInput<'a>>,
        for<'a> R::PathBuilder: PathBuilder<Input<'a> = ()>,
    {
        if self.blocked.has(server) {
            return Err(FederationError::Blocked(server.to_owned()));
        }
        let local = |error: &dyn std::fmt::Display| FederationError::Local(error.to_string());
        let request =
            request.try_into_http_request_inner(&format!("https://{server}"), ()).map_err(|error| local(&error))?;
        let (mut parts, body) = request.into_parts();
        if let Some(kind) = body.content_type() {
            parts.headers.entry(header::CONTENT_TYPE).or_insert(kind);
        }
        let body = body.try_into_buf::<Vec<u8>>().map_err(Into::into).map_err(|error: IntoHttpError| local(&error))?;
        let mut request = http::Request::from_parts(parts, body);
        self.sign(&mut request, server)?;
        Ok(request)
    }

    fn sign(&self, request: &mut http::Request<Vec<u8>>, server: &ServerName) -> Result<(), FederationError> {
        if self.blocked.has(server) {
            return Err(FederationError::Blocked(server.to_owned()));
        }
        match signing::sign(request, &self.server_name, server, &self.key) {
            true => Ok(()),
            false => Err(FederationError::Local("the request's body is no JSON object".to_owned())),
        }
    }

    async fn send(
        &self,
        server: &ServerName,
        request: http::Request<Vec<u8>>,
        class: Class,
        limit: Duration,
        most: Most,
    ) -> Result<(http::Response<Bytes>, Place), FederationError> {
        let late = || {
            FederationError::Transport(kith_transport::TransportError::Timeout {
                name: server.to_string(),
                after: limit,
            })
        };
        match timeout(&*self.clock, limit, self.exchange(server, request, class, limit, most)).await {
            Ok(answer) => answer,
            Err(_) => Err(late()),
        }
    }

    async fn exchange(
        &self,
        server: &ServerName,
        request: http::Request<Vec<u8>>,
        class: Class,
        limit: Duration,
        most: Most,
    ) -> Result<(http::Response<Bytes>, Place), FederationError> {
        let _turn = self.turn(server, class).await?;
        let (parts, body) = request.into_parts();
        let request = http::Request::from_parts(parts, full(body));
        let (parts, body) = self.transport.send(server.as_str(), class, limit, request).await?.into_parts();
        if !parts.status.is_success() {
            let retry = parts.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
            let body = read_body(body, ERROR_ANSWER).await.unwrap_or_default();
            return Err(FederationError::remote(server.to_owned(), parts.status, retry, &body));
        }
        let read = match most {
            Most::Bytes(most) => read_body(body, most).await.map(|body| (body, None)),
            Most::Large => self.large.read(&*self.clock, body).await,
        };
        let (body, place) = read.map_err(|error| self.nonsense(server, &error))?;
        Ok((http::Response::from_parts(parts, body), place))
    }

    /// Waits for a free place among the requests to a server.
    async fn turn(&self, server: &ServerName, class: Class) -> Result<OwnedSemaphorePermit, FederationError> {
        let turn = self.turns[class as usize].take(&server.to_owned()).await;
        turn.ok_or_else(|| FederationError::Busy(server.to_owned()))
    }
}

/// How long an answer may be.
#[derive(Clone, Copy)]
enum Most {
    Bytes(usize),
    /// As long as [`Large`] allows.
    Large,
}

/// A body that takes one of the places towards its server, until it ends or its time is up.
struct Stream {
    body: Body,
    deadline: BoxFuture<'static, ()>,
    _turn: OwnedSemaphorePermit,
}

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        self.deadline.poll_unpin(context).map(|()| Some(Err("it took too long".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}
