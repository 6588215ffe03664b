//! `GET /.well-known/matrix/server`: where this server is reached. Server-server specification, "Resolving server names".

use axum::{Json, response::IntoResponse as _, routing::get};
use http::header;
use serde_json::json;

use crate::http::MatrixError;

/// How long others may keep it, in seconds: a day.
const KEPT: &str = "max-age=86400";

/// The route, for both kinds of listeners. `delegation`: what it tells; none: that there is nothing.
pub(crate) fn routes(delegation: Option<String>) -> axum::Router {
    let answer = move || {
        let answer = match &delegation {
            Some(server) => ([(header::CACHE_CONTROL, KEPT)], Json(json!({ "m.server": server }))).into_response(),
            None => MatrixError::not_found("other servers reach this one by its name alone").into_response(),
        };
        std::future::ready(answer)
    };
    axum::Router::new().route("/.well-known/matrix/server", get(answer))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::{Request, StatusCode};
    use serde_json::Value;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn others_are_told_where_the_server_is_and_nothing_where_it_delegates_to_nobody() {
        for (delegation, status, field) in [
            (Some("matrix.example.org:443"), StatusCode::OK, ("m.server", "matrix.example.org:443")),
            (None, StatusCode::NOT_FOUND, ("errcode", "M_NOT_FOUND")),
        ] {
            let request = Request::get("/.well-known/matrix/server").body(Body::empty()).unwrap();
            let response = routes(delegation.map(str::to_owned)).oneshot(request).await.unwrap();
            assert_eq!(response.status(), status);
            assert_eq!(response.headers().get(header::CONTENT_TYPE).unwrap(), "application/json");
            let body = axum::body::to_bytes(response.into_body(), 1000).await.unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body[field.0], field.1);
        }
    }
}
