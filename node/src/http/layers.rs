//! What stands around every client route: CORS as the specification asks for (any web page may call the API; what
//! protects the owner is that a call needs a token), and `M_UNRECOGNIZED` for what does not exist.
//!
//! CORS is for the client API alone. The page at `/` and the federation API tell the server name, and with it who the
//! owner is: that is not for every web page which knocks at the ports of this device.

use axum::{
    body::Body,
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, Method, StatusCode, header};

use super::MatrixError;

/// The paths that web pages of other origins may read.
const OPEN: [&str; 5] =
    ["/_matrix/client", "/_matrix/media/", "/_matrix/static/", "/.well-known/matrix/", "/_synapse/"];

/// Whether web pages of other origins may read what is at a path.
fn is_open(path: &str) -> bool {
    OPEN.iter().any(|start| path.starts_with(start)) || crate::oauth::API_PATHS.contains(&path)
}

/// Adds the CORS headers of the client-server specification and answers preflight requests.
pub async fn cors(request: Request, next: Next) -> Response {
    if !is_open(request.uri().path()) {
        return next.run(request).await;
    }
    let mut response = if request.method() == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE, OPTIONS"),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("X-Requested-With, Content-Type, Authorization"),
    );
    response
}

/// The answer to a path that no route serves.
pub async fn unknown_path() -> Response {
    MatrixError::unrecognized().into_response()
}

/// Turns axum's own answers (405 without a body) into the specification's.
pub async fn matrix_errors(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    // What has a type was said by an endpoint.
    if response.status() == StatusCode::METHOD_NOT_ALLOWED && !response.headers().contains_key(header::CONTENT_TYPE) {
        let mut error = MatrixError::unrecognized();
        error.status = StatusCode::METHOD_NOT_ALLOWED;
        return error.into_response();
    }
    response.map(Body::new)
}

/// A router with no route but all paths of this one: for layers. A layer is put around each route of a router by itself, and a node
/// has hundreds, which would take memory and time at its start.
pub fn as_one(router: axum::Router) -> axum::Router {
    axum::Router::new().fallback_service(router)
}

/// Puts all of the above around a router. What it does not serve goes to `others`.
pub fn around(router: axum::Router, others: axum::Router) -> axum::Router {
    as_one(router.fallback_service(others))
        .layer(axum::middleware::from_fn(matrix_errors))
        .layer(axum::middleware::from_fn(cors))
}
