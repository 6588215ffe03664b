//! The error every endpoint answers with: a status, a Matrix error code and a sentence for a person
//! (client-server specification, "Standard error response").

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use kith_store::StoreError;
use serde_json::{Map, Value, json};

/// What a handler gives.
pub type Answer<T> = Result<T, MatrixError>;

/// A Matrix error response.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{errcode}: {message}")]
pub struct MatrixError {
    /// The HTTP status.
    pub status: StatusCode,
    /// The code of the specification, such as `M_FORBIDDEN`.
    pub errcode: String,
    /// What is wrong and what to do, for a person. Holds no secrets.
    pub message: String,
    /// Further fields of the body. With `errcode` empty they are the whole body (user-interactive authentication).
    pub extra: Map<String, Value>,
}

impl MatrixError {
    /// An error with any status and code.
    pub fn new(status: StatusCode, errcode: &str, message: impl Into<String>) -> Self {
        Self { status, errcode: errcode.to_owned(), message: message.into(), extra: Map::new() }
    }

    /// Adds a field to the body.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(key.to_owned(), value.into());
        self
    }

    /// A 401 whose body is the state of a user-interactive authentication (flows, session, params).
    pub fn interactive(body: Map<String, Value>) -> Self {
        Self { status: StatusCode::UNAUTHORIZED, errcode: String::new(), message: String::new(), extra: body }
    }

    /// 403 `M_FORBIDDEN`.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "M_FORBIDDEN", message)
    }

    /// 404 `M_NOT_FOUND`.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "M_NOT_FOUND", message)
    }

    /// 400 `M_BAD_JSON`: JSON, but not of the form asked for.
    pub fn bad_json(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_BAD_JSON", message)
    }

    /// 400 `M_INVALID_PARAM`.
    pub fn invalid_param(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_INVALID_PARAM", message)
    }

    /// 400 `M_MISSING_PARAM`.
    pub fn missing_param(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_MISSING_PARAM", message)
    }

    /// 400 `M_UNKNOWN`.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", message)
    }

    /// 401 `M_MISSING_TOKEN`.
    pub fn missing_token() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "M_MISSING_TOKEN", "this request needs an access token")
    }

    /// 401 `M_UNKNOWN_TOKEN`; `soft_logout` tells the client to keep its keys and sign in again.
    pub fn unknown_token(soft_logout: bool) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "M_UNKNOWN_TOKEN", "the access token is not known here, or has expired")
            .with("soft_logout", soft_logout)
    }

    /// 429 `M_LIMIT_EXCEEDED`.
    pub fn limit_exceeded(retry_after_ms: u64) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "M_LIMIT_EXCEEDED", "too many requests, wait a moment")
            .with("retry_after_ms", retry_after_ms)
    }

    /// 413 `M_TOO_LARGE`.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", message)
    }

    /// 404 `M_UNRECOGNIZED`: no such endpoint.
    pub fn unrecognized() -> Self {
        Self::new(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", "no such endpoint")
    }

    /// 500 `M_UNKNOWN`: our fault. The cause goes to the log, not to the caller.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        tracing::error!(%cause, "a request failed inside the node");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "M_UNKNOWN", "the node could not do this; its log says why")
    }

    /// 502 `M_UNKNOWN`: another server could not be reached or answered nonsense.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "M_UNKNOWN", message)
    }

    /// Whether the code is this one.
    pub fn is(&self, errcode: &str) -> bool {
        self.errcode == errcode
    }
}

impl From<StoreError> for MatrixError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::DiskFull { .. } => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "M_RESOURCE_LIMIT_EXCEEDED",
                "the disk of this node is full: free some space, then try again",
            )
            .with("admin_contact", "the owner of this node"),
            other => Self::internal(other),
        }
    }
}

impl IntoResponse for MatrixError {
    fn into_response(self) -> Response {
        let retry = self.extra.get("retry_after_ms").and_then(Value::as_u64);
        let mut body = self.extra;
        if !self.errcode.is_empty() {
            body.insert("errcode".to_owned(), json!(self.errcode));
            body.insert("error".to_owned(), json!(self.message));
        }
        let mut response = (self.status, [(header::CONTENT_TYPE, "application/json")], Value::Object(body).to_string())
            .into_response();
        if let Some(ms) = retry {
            response.headers_mut().insert(header::RETRY_AFTER, ms.div_ceil(1000).into());
        }
        response
    }
}
