//! Why a request to another server brought nothing, and what a client is told of it.

use std::time::Duration;

use http::StatusCode;
use kith_transport::TransportError;
use ruma::OwnedServerName;
use serde_json::Value;

use crate::http::MatrixError;

/// A request to another server failed.
#[derive(Debug, thiserror::Error)]
pub enum FederationError {
    /// No answer came.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The server refuses.
    #[error("{server} answers {status} {errcode}: {message}")]
    Remote {
        /// Who.
        server: OwnedServerName,
        /// The HTTP status.
        status: StatusCode,
        /// The Matrix error code; empty when the body had none.
        errcode: String,
        /// The server's words, shortened.
        message: String,
        /// How long it asks us to wait.
        retry_after: Option<Duration>,
        /// `room_version` of an `M_INCOMPATIBLE_ROOM_VERSION`.
        room_version: Option<String>,
    },
    /// The answer breaks off, is too long, or is not what the specification says.
    #[error("{server} answers nonsense: {reason}")]
    Nonsense {
        /// Who.
        server: OwnedServerName,
        /// What is wrong with it.
        reason: String,
    },
    /// Too many requests to this server wait already.
    #[error("too many requests wait for {0}")]
    Busy(OwnedServerName),
    /// The owner wants nothing to do with it.
    #[error("{0} is blocked on this server")]
    Blocked(OwnedServerName),
    /// The request could not be made: our own fault.
    #[error("the request could not be made: {0}")]
    Local(String),
}

/// The longest text of another server that is passed on.
const LONGEST_MESSAGE: usize = 300;

impl FederationError {
    /// Reads an error response.
    pub(super) fn remote(server: OwnedServerName, status: StatusCode, retry_after: Option<&str>, body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |field: &str| body.get(field).and_then(Value::as_str);
        let in_body = body.get("retry_after_ms").and_then(Value::as_u64).map(Duration::from_millis);
        let in_header = retry_after.and_then(|text| text.parse().ok()).map(Duration::from_secs);
        Self::Remote {
            server,
            status,
            errcode: text("errcode").unwrap_or_default().chars().take(100).collect(),
            message: text("error").unwrap_or_default().chars().take(LONGEST_MESSAGE).collect(),
            retry_after: in_body.or(in_header),
            room_version: text("room_version").map(|version| version.chars().take(32).collect()),
        }
    }

    /// The Matrix error code, if the server gave one.
    pub fn errcode(&self) -> Option<&str> {
        match self {
            Self::Remote { errcode, .. } if !errcode.is_empty() => Some(errcode),
            _ => None,
        }
    }

    /// The HTTP status, if the server answered.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Remote { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the server understood and refuses for good, so that asking it again, or waiting, changes nothing.
    pub fn is_refusal(&self) -> bool {
        self.status().is_some_and(|status| {
            status.is_client_error()
                && status != StatusCode::TOO_MANY_REQUESTS
                && status != StatusCode::REQUEST_TIMEOUT
                && status != StatusCode::UNAUTHORIZED
        })
    }

    /// Whether the server does not know what it was asked at all.
    pub fn is_unknown_endpoint(&self) -> bool {
        matches!(self.status().map(|status| status.as_u16()), Some(400 | 404 | 405))
            && matches!(self.errcode(), None | Some("M_UNRECOGNIZED"))
    }

    /// How long the server asks to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Remote { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// A refusal is passed on to the client with its code; everything else is a 502.
impl From<FederationError> for MatrixError {
    fn from(error: FederationError) -> Self {
        match &error {
            FederationError::Remote { status, errcode, message, room_version, .. }
                if error.is_refusal() && !errcode.is_empty() =>
            {
                let passed = Self::new(*status, errcode, message.clone());
                match room_version {
                    Some(version) => passed.with("room_version", version.clone()),
                    None => passed,
                }
            }
            FederationError::Local(_) => Self::internal(&error),
            FederationError::Blocked(_) => Self::forbidden(error.to_string()),
            _ => Self::unreachable(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, body: &str) -> FederationError {
        let server = OwnedServerName::try_from("example.org").unwrap();
        FederationError::remote(server, StatusCode::from_u16(status).unwrap(), Some("7"), body.as_bytes())
    }

    #[test]
    fn a_refusal_reaches_the_client_with_its_code_and_room_version() {
        let answer: MatrixError =
            error(400, r#"{"errcode":"M_INCOMPATIBLE_ROOM_VERSION","error":"no","room_version":"3"}"#).into();
        assert_eq!((answer.status.as_u16(), answer.errcode.as_str()), (400, "M_INCOMPATIBLE_ROOM_VERSION"));
        assert_eq!(answer.extra.get("room_version").and_then(Value::as_str), Some("3"));
    }

    #[test]
    fn an_answer_that_is_no_matrix_error_or_may_pass_with_time_is_a_bad_gateway() {
        for (status, body) in [(502, "<html>"), (429, r#"{"errcode":"M_LIMIT_EXCEEDED"}"#), (404, "not found")] {
            let error = error(status, body);
            assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
            assert_eq!(MatrixError::from(error).status, StatusCode::BAD_GATEWAY, "{status}");
        }
        assert!(!error(401, "{}").is_refusal(), "a wrong clock or name may be mended");
    }
}
