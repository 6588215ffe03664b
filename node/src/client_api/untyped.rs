//! Ways around a `ruma` request type, for endpoints whose clients send more (or less) than the type takes. They keep its
//! paths and method.

use std::marker::PhantomData;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use ruma::api::auth_scheme::AccessTokenOptional;
use ruma::api::error::{DeserializationError, Error, IntoHttpError};
use ruma::api::{IncomingRequest, Metadata, OutgoingBody, OutgoingResponse};
use ruma::exports::bytes::BufMut;
use serde_json::{Map, Value};

use crate::http::{Answer, MatrixError};

/// The paths, method and authentication of `R`, with its parameters and JSON body as they came. Answers with `A`.
#[derive(Debug)]
pub(crate) struct Untyped<R, A> {
    /// The path's parameters, decoded, in order.
    pub(crate) path: Vec<String>,
    /// The body; empty when there was none.
    pub(crate) body: Map<String, Value>,
    /// The query as it came, empty when there was none.
    pub(crate) query: String,
    of: PhantomData<fn() -> (R, A)>,
}

impl<R, A> Untyped<R, A> {
    /// A parameter of the path by its place; empty when the route has fewer.
    pub(crate) fn parameter(&self, place: usize) -> &str {
        self.path.get(place).map_or("", String::as_str)
    }

    /// A text field of the body.
    pub(crate) fn text(&self, field: &str) -> Option<&str> {
        self.body.get(field).and_then(Value::as_str)
    }
}

impl<R: Metadata, A> Metadata for Untyped<R, A> {
    const METHOD: Method = R::METHOD;
    const RATE_LIMITED: bool = R::RATE_LIMITED;
    type Authentication = R::Authentication;
    type PathBuilder = R::PathBuilder;
    const PATH_BUILDER: R::PathBuilder = R::PATH_BUILDER;
}

impl<R: Metadata, A: OutgoingResponse> IncomingRequest for Untyped<R, A> {
    type EndpointError = Error;
    type OutgoingResponse = A;

    fn try_from_http_request_inner(request: Request<&[u8]>, path: &[&str]) -> Result<Self, DeserializationError> {
        let body = match request.body().trim_ascii() {
            [] => Map::new(),
            bytes => serde_json::from_slice(bytes)?,
        };
        let query = request.uri().query().unwrap_or_default().to_owned();
        Ok(Self { path: path.iter().map(|&part| part.to_owned()).collect(), body, query, of: PhantomData })
    }
}

/// `R`, whose callers may sign in though the specification lets anybody call.
#[derive(Debug)]
pub(crate) struct MaySignIn<R> {
    /// What is asked for.
    pub(crate) request: R,
    /// Whether a browser sent it, so that it may come from any web page. Pages cannot hide that: what they send without an
    /// `Origin` has the browser's own `User-Agent`.
    pub(crate) by_browser: bool,
}

impl<R: Metadata> Metadata for MaySignIn<R> {
    const METHOD: Method = R::METHOD;
    const RATE_LIMITED: bool = R::RATE_LIMITED;
    type Authentication = AccessTokenOptional;
    type PathBuilder = R::PathBuilder;
    const PATH_BUILDER: R::PathBuilder = R::PATH_BUILDER;
}

impl<R: IncomingRequest> IncomingRequest for MaySignIn<R> {
    type EndpointError = R::EndpointError;
    type OutgoingResponse = R::OutgoingResponse;

    fn try_from_http_request_inner(request: Request<&[u8]>, path: &[&str]) -> Result<Self, DeserializationError> {
        let headers = request.headers();
        let by_browser = headers.contains_key(header::ORIGIN)
            || headers.get(header::USER_AGENT).is_some_and(|agent| agent.as_bytes().starts_with(b"Mozilla/"));
        Ok(Self { request: R::try_from_http_request_inner(request, path)?, by_browser })
    }
}

/// `R`, made of a body in which `auth.user` (the form of user-interactive password authentication before r0.4.0, which
/// clients still send) became `auth.identifier`; an absent body counts as an empty object.
#[derive(Debug)]
pub(crate) struct Lenient<R>(pub(crate) R);

impl<R: Metadata> Metadata for Lenient<R> {
    const METHOD: Method = R::METHOD;
    const RATE_LIMITED: bool = R::RATE_LIMITED;
    type Authentication = R::Authentication;
    type PathBuilder = R::PathBuilder;
    const PATH_BUILDER: R::PathBuilder = R::PATH_BUILDER;
}

impl<R: IncomingRequest> IncomingRequest for Lenient<R> {
    type EndpointError = R::EndpointError;
    type OutgoingResponse = R::OutgoingResponse;

    fn try_from_http_request_inner(request: Request<&[u8]>, path: &[&str]) -> Result<Self, DeserializationError> {
        let (parts, body) = request.into_parts();
        let mut body: Map<String, Value> = match body.trim_ascii() {
            [] => Map::new(),
            bytes => serde_json::from_slice(bytes)?,
        };
        if let Some(Value::Object(auth)) = body.get_mut("auth")
            && !auth.contains_key("identifier")
            && let Some(user) = auth.remove("user")
        {
            auth.insert("identifier".to_owned(), serde_json::json!({ "type": "m.id.user", "user": user }));
        }
        let body = Value::Object(body).to_string();
        R::try_from_http_request_inner(Request::from_parts(parts, body.as_bytes()), path).map(Self)
    }
}

/// A JSON answer without a type of its own.
#[derive(Debug, Clone)]
pub(crate) struct Reply(Value, StatusCode);

impl Reply {
    /// 200.
    pub(crate) fn ok(body: Value) -> Self {
        Self(body, StatusCode::OK)
    }

    /// 201.
    pub(crate) fn created(body: Value) -> Self {
        Self(body, StatusCode::CREATED)
    }
}

/// A JSON answer that was written once and is not looked into any more: for large ones.
#[derive(Debug)]
pub(crate) struct Written(Vec<u8>);

impl Written {
    /// Writes an answer.
    ///
    /// # Errors
    /// When it cannot be JSON.
    pub(crate) fn of(answer: &impl serde::Serialize) -> Answer<Self> {
        serde_json::to_vec(answer).map(Self).map_err(MatrixError::internal)
    }
}

impl OutgoingResponse for Written {
    type Body = WrittenBody;

    fn try_into_http_response_inner(self) -> Result<Response<WrittenBody>, IntoHttpError> {
        Ok(Response::new(WrittenBody(self.0)))
    }
}

/// The body of a [`Written`].
#[derive(Debug)]
pub(crate) struct WrittenBody(Vec<u8>);

impl OutgoingBody for WrittenBody {
    type Error = IntoHttpError;

    fn content_type(&self) -> Option<HeaderValue> {
        Some(HeaderValue::from_static("application/json"))
    }

    fn try_into_buf<T: Default + BufMut + AsRef<[u8]>>(self) -> Result<T, IntoHttpError> {
        let mut buffer = T::default();
        buffer.put_slice(&self.0);
        Ok(buffer)
    }
}

/// The body of a [`Reply`].
#[derive(Debug)]
pub(crate) struct ReplyBody(Value);

impl OutgoingResponse for Reply {
    type Body = ReplyBody;

    fn try_into_http_response_inner(self) -> Result<Response<ReplyBody>, IntoHttpError> {
        let mut response = Response::new(ReplyBody(self.0));
        *response.status_mut() = self.1;
        Ok(response)
    }
}

impl OutgoingBody for ReplyBody {
    type Error = IntoHttpError;

    fn content_type(&self) -> Option<HeaderValue> {
        Some(HeaderValue::from_static("application/json"))
    }

    fn try_into_buf<T: Default + BufMut + AsRef<[u8]>>(self) -> Result<T, IntoHttpError> {
        let mut buffer = T::default();
        buffer.put_slice(self.0.to_string().as_bytes());
        Ok(buffer)
    }
}
