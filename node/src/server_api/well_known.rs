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
