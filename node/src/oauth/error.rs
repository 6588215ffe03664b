//! The errors of the endpoints that clients call (RFC 6749, section 5.2; RFC 7591, section 3.2.2).

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use kith_store::StoreError;
use serde_json::{Value, json};

use crate::http::MatrixError;

/// What an endpoint gives.
pub(super) type Answered = Result<Response, OauthError>;

/// An error as OAuth 2.0 writes it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {description}")]
pub(super) struct OauthError {
    pub(super) status: StatusCode,
    /// Such as `invalid_grant`.
    pub(super) code: &'static str,
    /// For a person. Holds no secrets.
    pub(super) description: String,
    /// Seconds to wait.
    pub(super) retry_after: Option<u64>,
}

impl OauthError {
    /// 400 with this code.
    pub(super) fn new(code: &'static str, description: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, description: description.into(), retry_after: None }
    }

    /// A request that lacks something, or has it twice.
    pub(super) fn invalid(description: impl Into<String>) -> Self {
        Self::new("invalid_request", description)
    }

    /// A code or token that is worth nothing.
    pub(super) fn grant(description: impl Into<String>) -> Self {
        Self::new("invalid_grant", description)
    }

    /// 401: no client of this ID is registered.
    pub(super) fn client() -> Self {
        let status = StatusCode::UNAUTHORIZED;
        Self { status, ..Self::new("invalid_client", "no client of this ID is registered here: register again") }
    }
}

impl From<MatrixError> for OauthError {
    fn from(error: MatrixError) -> Self {
        let code = match error.status {
            // Clients take a refusal for the end of their session, but a locked account is unlocked one day.
            _ if error.is("M_USER_LOCKED") => "temporarily_unavailable",
            StatusCode::TOO_MANY_REQUESTS => "temporarily_unavailable",
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT => "invalid_request",
            status if status.is_server_error() => "server_error",
            _ => "invalid_grant",
        };
        let status = match code {
            "temporarily_unavailable" if error.is("M_USER_LOCKED") => StatusCode::SERVICE_UNAVAILABLE,
            "invalid_grant" => StatusCode::BAD_REQUEST,
            _ => error.status,
        };
        let retry_after = error.extra.get("retry_after_ms").and_then(Value::as_u64).map(|ms| ms.div_ceil(1000));
        Self { status, code, description: error.message, retry_after }
    }
}

impl From<StoreError> for OauthError {
    fn from(error: StoreError) -> Self {
        MatrixError::from(error).into()
    }
}

impl IntoResponse for OauthError {
    fn into_response(self) -> Response {
        let mut response = json(self.status, json!({ "error": self.code, "error_description": self.description }));
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// A JSON answer that nobody keeps.
pub(super) fn json(status: StatusCode, body: Value) -> Response {
    let headers =
        [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store"), (header::PRAGMA, "no-cache")];
    (status, headers, body.to_string()).into_response()
}
