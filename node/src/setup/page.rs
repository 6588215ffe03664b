//! The page at `/`: what runs here, which address to give to a client, and the form behind the one-time link.

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderName, HeaderValue, header};
use ruma::ServerName;

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("setup.js");
const STYLE: &str = include_str!("setup.css");
const ICON: &str = include_str!("icon.svg");

/// Everything from this origin, nothing inline, nothing framed, no form sent anywhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, HeaderValue); 6] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
];

/// The routes of the page. `public_base_url` is the address to give to clients.
pub fn routes<S: Clone + Send + Sync + 'static>(server_name: &ServerName, public_base_url: &str) -> Router<S> {
    let page = PAGE
        .replace("{{server_name}}", &escape(server_name.as_str()))
        .replace("{{base_url}}", &escape(public_base_url));
    Router::new()
        .route("/", get(move || async move { answer("text/html; charset=utf-8", page) }))
        .route("/setup.js", get(|| async { answer("text/javascript; charset=utf-8", SCRIPT) }))
        .route("/setup.css", get(|| async { answer("text/css; charset=utf-8", STYLE) }))
        .route("/icon.svg", get(|| async { answer("image/svg+xml", ICON) }))
}

fn answer(content_type: &'static str, body: impl IntoResponse) -> Response {
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.extend(HEADERS);
    response
}

/// Text for HTML, also within quotes.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use tower::ServiceExt as _;

    use super::*;

    async fn fetch(path: &str, base_url: &str) -> (http::HeaderMap, String) {
        let router: Router = routes(ruma::server_name!("example.org"), base_url);
        let response = router.oneshot(http::Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let headers = response.headers().clone();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (headers, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn every_file_comes_with_a_policy_that_allows_nothing_foreign_inline_or_framed() {
        for (path, content_type) in [
            ("/", "text/html"),
            ("/setup.js", "text/javascript"),
            ("/setup.css", "text/css"),
            ("/icon.svg", "image/svg+xml"),
        ] {
            let (headers, _) = fetch(path, "http://localhost:8008").await;
            let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
                assert!(policy.contains(part), "{path}: {part}");
            }
            assert!(!policy.contains("unsafe") && !policy.contains('*') && !policy.contains("http"), "{policy}");
            assert!(headers[header::CONTENT_TYPE].to_str().unwrap().starts_with(content_type));
            assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
            assert_eq!(headers[header::REFERRER_POLICY], "no-referrer");
        }
    }

    #[tokio::test]
    async fn the_page_works_under_its_own_policy() {
        let (_, page) = fetch("/", "http://localhost:8008").await;
        let lower = page.to_lowercase();
        assert!(!lower.contains("style=") && !lower.contains("<style"), "inline styles are blocked by the policy");
        assert!(!lower.contains(" onclick") && !lower.contains(" onsubmit") && !lower.contains("javascript:"));
        for script in lower.match_indices("<script") {
            assert!(lower[script.0..].starts_with("<script src=\"/setup.js\" defer></script>"));
        }
        for link in ["href=\"http", "src=\"http"] {
            assert!(!lower.contains(link), "nothing is loaded from elsewhere");
        }
    }

    #[tokio::test]
    async fn the_page_tells_the_address_for_clients_and_escapes_it() {
        let (_, page) = fetch("/", "https://chat.example.org").await;
        assert!(page.contains("https://chat.example.org") && page.contains("example.org"));
        assert!(!page.contains("{{"));
        let (_, page) = fetch("/", "http://a/\"><script>").await;
        assert!(!page.contains("\"><script>"));
    }
}
